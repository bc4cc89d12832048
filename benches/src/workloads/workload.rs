//! Description of a workload: its kind, its bounds, and the runs that it consists of.

use std::any::Any;
use std::error::Error;
use std::ffi::OsString;

use super::run_spec::RunSpec;

/// Default number of pairs that count, for workloads that do not take too long.
pub(super) const PAIRS: usize = 9;

/// A workload that can be measured.
pub(crate) struct Workload {
    /// Heading of its definition in `README.md`.
    pub(crate) name: &'static str,
    pub(crate) task: Task,
}

/// Kind of measurement of a workload.
pub(crate) enum Task {
    /// Work that datapipe and a peer can both do.
    Pairs {
        /// Number of pairs that count. It is odd, so that one pair is the middle one.
        pairs: usize,
        /// Largest ratios of our figures to the peer's.
        bounds: &'static [Bound],
        /// Makes everything that both sides need. An error is a reason to skip the workload.
        prepare: Prepare<Comparison>,
    },
    /// Steps of our programs alone. These take more than five minutes, so they run only if the
    /// user names the workload.
    Series {
        /// Largest time per object of a step, as a multiple of that of the first step with the
        /// same name.
        growth: Option<f64>,
        /// Name and preparation of each case. An error is a reason to skip the case.
        cases: &'static [(&'static str, Prepare<Case>)],
    },
    /// Delays of datapipe alone. One run prints a line for each event, with one figure in
    /// milliseconds for each delay.
    Delays {
        delays: &'static [Delay],
        prepare: Prepare<RunSpec>,
    },
}

/// Makes the runs and the data that they work on.
pub(crate) type Prepare<T> = fn() -> Result<T, Box<dyn Error>>;

/// The two sides of a pair. They can be run any number of times.
pub(crate) struct Comparison {
    pub(crate) ours: RunSpec,
    pub(crate) peer: RunSpec,
    /// Resources of the sides, dropped after the last run.
    pub(crate) _resources: Option<Box<dyn Any>>,
}

/// Steps that run in their order: a step may use the files that earlier steps have left.
pub(crate) struct Case {
    pub(crate) steps: Vec<Step>,
    /// Resources of the steps, dropped after the last run.
    pub(crate) _resources: Box<dyn Any>,
}

/// One step of a case, with its memory limit.
pub(crate) struct Step {
    pub(crate) spec: RunSpec,
    /// Number of runs that count. It is odd.
    pub(crate) runs: usize,
    /// Number of files, or of other objects, by which the time is divided.
    pub(crate) objects: u64,
    /// Largest resident set beyond the pool, in bytes.
    pub(crate) beyond_pool: u64,
}

/// A quantity that is measured in each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Seconds from before the start of the process until its exit status has been collected.
    Wall,
    /// Processor time in seconds, user and system, of the process and of the children that it
    /// waited for.
    Cpu,
    /// Largest resident set of the process, or of a child that it waited for, in MiB.
    Peak,
    /// Size of our shared memory, in MiB.
    Pool,
    /// Size of the files that the run has left, in MiB.
    Size,
}

/// Upper bound of the median of the ratios of `measure`.
pub(crate) struct Bound {
    pub(crate) measure: Measure,
    pub(crate) at_most: f64,
}

/// A delay that is measured repeatedly.
pub(crate) struct Delay {
    pub(crate) name: &'static str,
    /// Upper bound of the median, in milliseconds.
    pub(crate) median: Option<f64>,
    /// Upper bound of the longest delay, in milliseconds.
    pub(crate) worst: Option<f64>,
}

/// Work that this executable does when it is started as a child process. It gets the arguments
/// that follow the program's name.
pub(crate) type Program = fn(&[OsString]) -> Result<(), Box<dyn Error>>;

impl Workload {
    /// Returns true if the workload runs when the user names no workloads.
    pub(crate) fn by_default(&self) -> bool {
        !matches!(self.task, Task::Series { .. })
    }
}
