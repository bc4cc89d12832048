//! The four workloads, each with its peer and its bound.

use std::error::Error;
use std::ffi::OsString;

use super::super::scratch::Scratch;
use super::super::{Bound, Comparison, ExpectedOutput, Measure, PAIRS, RunSpec, Task, Workload};
use super::program;

/// Cycles of the workloads that pass buffers on.
const CYCLES: u64 = 5_000_000;
/// Cycles of the workload that copies bytes.
const COPY_CYCLES: u64 = 200_000;

/// Bound of our time, as a part of iceoryx2's.
const ICEORYX2: &[Bound] = &[Bound {
    measure: Measure::Wall,
    at_most: 0.7,
}];

pub(in super::super) const CHANNEL: Workload = Workload {
    name: "hand-over",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: &[Bound {
            measure: Measure::Wall,
            at_most: 2.5,
        }],
        prepare: channel,
    },
};

pub(in super::super) const THREADS: Workload = Workload {
    name: "hand-over-threads",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: ICEORYX2,
        prepare: threads,
    },
};

pub(in super::super) const PROCESSES: Workload = Workload {
    name: "hand-over-processes",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: ICEORYX2,
        prepare: processes,
    },
};

pub(in super::super) const KERNEL_PIPE: Workload = Workload {
    name: "hand-over-pipe",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: &[],
        prepare: kernel_pipe,
    },
};

fn channel() -> Result<Comparison, Box<dyn Error>> {
    Ok(Comparison {
        ours: spec("datapipe, threads", "threads-datapipe", CYCLES, None)?,
        peer: spec("crossbeam-channel", "threads-crossbeam", CYCLES, None)?,
        _resources: None,
    })
}

fn threads() -> Result<Comparison, Box<dyn Error>> {
    beside_iceoryx2("datapipe, threads", "threads-datapipe", "threads-iceoryx2")
}

fn processes() -> Result<Comparison, Box<dyn Error>> {
    beside_iceoryx2(
        "datapipe, processes",
        "processes-datapipe",
        "processes-iceoryx2",
    )
}

/// Compares one of our programs with a program that uses iceoryx2, if this executable has it.
fn beside_iceoryx2(
    name: &'static str,
    program: &str,
    peer: &str,
) -> Result<Comparison, Box<dyn Error>> {
    if program::program(peer).is_none() {
        return Err(
            "built without the peer: cargo run --release -p datapipe-benches --features iceoryx2"
                .into(),
        );
    }
    // iceoryx2 keeps files in this directory, and memory whose names begin with the directory's.
    let scratch = Scratch::new(1 << 30, 100)?;
    let root = scratch.join("");
    Ok(Comparison {
        ours: spec(name, program, CYCLES, None)?,
        peer: spec("iceoryx2", peer, CYCLES, Some(root.into()))?,
        _resources: Some(Box::new(scratch)),
    })
}

fn kernel_pipe() -> Result<Comparison, Box<dyn Error>> {
    Ok(Comparison {
        ours: spec(
            "datapipe, processes",
            "processes-datapipe",
            COPY_CYCLES,
            None,
        )?,
        peer: spec("pipe", "processes-pipe", COPY_CYCLES, None)?,
        _resources: None,
    })
}

/// Returns a run with the given number of cycles, which must print the number of buffers that
/// arrived. `more` is a second argument.
fn spec(
    name: &'static str,
    program: &str,
    cycles: u64,
    more: Option<OsString>,
) -> Result<RunSpec, Box<dyn Error>> {
    let cycles = cycles.to_string();
    let arguments = [Some(cycles.clone().into()), more]
        .into_iter()
        .flatten()
        .collect();
    Ok(RunSpec::own_program(
        name,
        program,
        arguments,
        ExpectedOutput::Exactly(cycles),
    )?)
}
