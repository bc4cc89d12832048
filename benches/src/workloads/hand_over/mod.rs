//! `README.md`, from "hand-over" to "hand-over-pipe": buffers that nobody looks into.

mod channel; // crossbeam-channel, between threads
#[cfg(feature = "iceoryx2")]
#[allow(
    unsafe_code,
    reason = "says of a loan whose bytes do not matter that they are there"
)]
mod loans; // iceoryx2, between threads and between processes
mod moved; // a pipe of the kernel's, which moves the bytes
mod ours; // datapipe, between threads and between processes
mod second; // the process at the other end

use std::error::Error;
use std::ffi::OsString;

use super::scratch::Scratch;
use super::{Bound, Contest, Measure, PAIRS, Prints, Program, Side, Task, Workload};

const BUFFERS: u32 = 64;
const BUFFER_SIZE: usize = 65_536;

/// Of what moves no bytes, and of what does.
const CYCLES: u64 = 5_000_000;
const CYCLES_MOVED: u64 = 200_000;

/// What our cycle may take at most, as a part of iceoryx2's.
const ICEORYX2: &[Bound] = &[Bound {
    measure: Measure::Wall,
    at_most: 0.7,
}];

pub(super) const CHANNEL: Workload = Workload {
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

pub(super) const THREADS: Workload = Workload {
    name: "hand-over-threads",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: ICEORYX2,
        prepare: threads,
    },
};

pub(super) const PROCESSES: Workload = Workload {
    name: "hand-over-processes",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: ICEORYX2,
        prepare: processes,
    },
};

pub(super) const MOVED: Workload = Workload {
    name: "hand-over-pipe",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: &[],
        prepare: moved,
    },
};

/// The program of that name, if it is one of these.
pub(super) fn program(name: &str) -> Option<Program> {
    Some(match name {
        "threads-datapipe" => ours::threads,
        "processes-datapipe" => ours::processes,
        ours::RECEIVER => ours::receiver,
        "threads-crossbeam" => channel::threads,
        #[cfg(feature = "iceoryx2")]
        "threads-iceoryx2" => loans::threads,
        #[cfg(feature = "iceoryx2")]
        "processes-iceoryx2" => loans::processes,
        #[cfg(feature = "iceoryx2")]
        loans::RECEIVER => loans::receiver,
        "processes-pipe" => moved::processes,
        moved::RECEIVER => moved::receiver,
        _ => return None,
    })
}

fn channel() -> Result<Contest, Box<dyn Error>> {
    Ok(Contest {
        ours: side("datapipe, threads", "threads-datapipe", CYCLES, None)?,
        peer: side("crossbeam-channel", "threads-crossbeam", CYCLES, None)?,
        _material: None,
    })
}

fn threads() -> Result<Contest, Box<dyn Error>> {
    beside_iceoryx2("datapipe, threads", "threads-datapipe", "threads-iceoryx2")
}

fn processes() -> Result<Contest, Box<dyn Error>> {
    beside_iceoryx2(
        "datapipe, processes",
        "processes-datapipe",
        "processes-iceoryx2",
    )
}

fn beside_iceoryx2(
    name: &'static str,
    program: &str,
    peer: &str,
) -> Result<Contest, Box<dyn Error>> {
    if self::program(peer).is_none() {
        return Err(
            "built without the peer: cargo run --release -p datapipe-benches --features iceoryx2"
                .into(),
        );
    }
    // It keeps files, and memory with names that begin as the directory's.
    let scratch = Scratch::new(1 << 30, 100)?;
    let root = scratch.join("");
    Ok(Contest {
        ours: side(name, program, CYCLES, None)?,
        peer: side("iceoryx2", peer, CYCLES, Some(root.into()))?,
        _material: Some(Box::new(scratch)),
    })
}

fn moved() -> Result<Contest, Box<dyn Error>> {
    Ok(Contest {
        ours: side(
            "datapipe, processes",
            "processes-datapipe",
            CYCLES_MOVED,
            None,
        )?,
        peer: side("pipe", "processes-pipe", CYCLES_MOVED, None)?,
        _material: None,
    })
}

/// A side that does so many cycles, and prints how many buffers arrived.
fn side(
    name: &'static str,
    program: &str,
    cycles: u64,
    more: Option<OsString>,
) -> Result<Side, Box<dyn Error>> {
    let cycles = cycles.to_string();
    let arguments = [Some(cycles.clone().into()), more]
        .into_iter()
        .flatten()
        .collect();
    Ok(Side::this(
        name,
        program,
        arguments,
        Prints::Exactly(cycles),
    )?)
}

/// The number of cycles among the arguments of a program.
fn cycles(arguments: &[OsString]) -> Result<u64, Box<dyn Error>> {
    let first = arguments
        .first()
        .ok_or("an argument is needed: the number of cycles")?;
    Ok(first.to_string_lossy().parse()?)
}
