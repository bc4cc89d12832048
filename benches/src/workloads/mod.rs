//! What is run. `README.md` of this crate defines each workload, once; the code here does what it
//! says.
//!
//! ```text
//!   Workload -- prepare --> Contest { ours: Side, peer: Side, material }          in pairs, one ratio a pair
//!            \- prepare --> Case { steps: [Side, Side, ...], material }, ...      ours alone, one after the other
//!                                         |
//!                                     a command, what it must print, and what it must leave
//! ```
//!
//! To add a workload: a section in `README.md`, a file here with a [`Workload`] and its programs, a
//! line in [`ALL`] and one for each program in [`program`]. Nothing here measures anything.

mod deaths; // how long it takes until a process that was killed is missed, and replaced
mod hand_over; // one buffer to another thread or process and back, without its content
mod kernel; // the kernel's source to an archive, and back
mod many; // trees of up to a million files, and a long stream, by our programs alone
mod material; // data in memory that leaves nothing behind
mod programs; // our programs, other people's, and shell commands
mod raw_stream; // a stream from memory to nowhere
mod scratch; // a directory in memory that leaves nothing behind

use std::any::Any;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use deaths::modules;

/// Every workload, in the order in which they run.
pub(crate) const ALL: &[Workload] = &[
    hand_over::CHANNEL,
    hand_over::THREADS,
    hand_over::PROCESSES,
    hand_over::MOVED,
    raw_stream::WORKLOAD,
    kernel::TREE,
    kernel::RESTORE,
    kernel::ONE_FILE,
    kernel::RESTIC,
    kernel::BORG,
    kernel::PROCESSES,
    deaths::WORKLOAD,
    many::FILES,
    many::MEMORY,
];

/// Pairs that count, if they do not take too long.
const PAIRS: usize = 9;

/// Something to be measured.
pub(crate) struct Workload {
    /// Heading of its definition in `README.md`.
    pub(crate) name: &'static str,
    pub(crate) task: Task,
}

/// How a workload is measured.
pub(crate) enum Task {
    /// Something that datapipe and a peer can both do.
    Pairs {
        /// Pairs that count. An odd number, so that one of them is the middle one.
        pairs: usize,
        /// What the ratio of ours to the peer's may be at most.
        bounds: &'static [Bound],
        /// Makes what both sides need. An error is a reason to skip the workload.
        prepare: Prepare<Contest>,
    },
    /// Steps of ours alone. This takes more than five minutes, so it is run only if it is named.
    Series {
        /// What the time per object of a step may be at most, as a multiple of that of the first
        /// step of its name.
        growth: Option<f64>,
        /// An error is a reason to skip the case.
        cases: &'static [(&'static str, Prepare<Case>)],
    },
    /// Delays of ours alone: one run prints a line each time, with as many figures in milliseconds
    /// as there are delays.
    Delays {
        delays: &'static [Delay],
        prepare: Prepare<Side>,
    },
}

/// Makes what is run, and what it works on.
pub(crate) type Prepare<T> = fn() -> Result<T, Box<dyn Error>>;

/// Two sides that are ready to be run, again and again.
pub(crate) struct Contest {
    pub(crate) ours: Side,
    pub(crate) peer: Side,
    /// What the sides use, to be dropped when they have all ended.
    pub(crate) _material: Option<Box<dyn Any>>,
}

/// Steps that are run in their order: one may need what those before it have left.
pub(crate) struct Case {
    pub(crate) steps: Vec<Step>,
    /// What the steps use, to be dropped when they have all ended.
    pub(crate) _material: Box<dyn Any>,
}

/// Work of ours, and what it may use.
pub(crate) struct Step {
    pub(crate) side: Side,
    /// Runs that count: an odd number.
    pub(crate) runs: usize,
    /// Files, or other things, by which the time is divided.
    pub(crate) objects: u64,
    /// Largest resident set beyond the pool, in bytes.
    pub(crate) beyond_pool: u64,
}

/// One side: a command, and how to see that it did its work.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) prints: Prints,
    pub(crate) leaves: Leaves,
}

/// What a side that did its work has written to standard output.
pub(crate) enum Prints {
    /// Whatever it likes, also nothing.
    Anything,
    /// This, and a line's end.
    Exactly(String),
}

/// What a side that did its work has left in the file system. It is removed before each run, so
/// that each makes it anew.
pub(crate) enum Leaves {
    Nothing,
    /// A file, or a directory, whose size is one of the figures.
    Some(PathBuf),
    /// A directory with so much in it.
    Exactly(PathBuf, Extent),
}

/// How much a directory holds, at any depth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Names of whatever is not a directory.
    pub(crate) files: u64,
    /// Lengths of all regular files, by each of their names.
    pub(crate) bytes: u64,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Seconds from before the process is started until it has been waited for.
    Wall,
    /// Seconds of processor time, user and system, of the process and of those that it waited for.
    Cpu,
    /// Largest resident set of the process, or of one that it waited for, in MiB.
    Peak,
    /// Shared memory that is ours, in MiB.
    Pool,
    /// What the run has left, in MiB.
    Size,
}

/// The median of the ratios of `measure` must be `at_most` this.
pub(crate) struct Bound {
    pub(crate) measure: Measure,
    pub(crate) at_most: f64,
}

/// How long something took each time.
pub(crate) struct Delay {
    pub(crate) name: &'static str,
    /// What the median of all times may be at most, in milliseconds.
    pub(crate) median: Option<f64>,
    /// What the longest may be.
    pub(crate) worst: Option<f64>,
}

/// Work that this executable does when it is started as a child, given the arguments behind its
/// name.
pub(crate) type Program = fn(&[OsString]) -> Result<(), Box<dyn Error>>;

/// The workload of that name.
pub(crate) fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

/// The program of that name.
pub(crate) fn program(name: &str) -> Option<Program> {
    match name {
        "deaths-datapipe" => Some(deaths::datapipe),
        "raw-stream-datapipe" => Some(raw_stream::datapipe),
        _ => hand_over::program(name),
    }
}

impl Workload {
    /// Whether it is run although nobody named it.
    pub(crate) fn by_default(&self) -> bool {
        !matches!(self.task, Task::Series { .. })
    }
}

impl Extent {
    /// Of what is at `path`, which may be a single file. No symbolic link is followed.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        if !found.is_dir() {
            return Ok(Self {
                files: 1,
                bytes: if found.is_file() { found.len() } else { 0 },
            });
        }
        let mut all = Self::default();
        for entry in fs::read_dir(path)? {
            let Self { files, bytes } = Self::of(&entry?.path())?;
            all = Self {
                files: all.files + files,
                bytes: all.bytes + bytes,
            };
        }
        Ok(all)
    }
}

impl Side {
    /// A side that is one of this executable's own programs.
    pub(crate) fn this(
        name: &'static str,
        program: &str,
        arguments: Vec<OsString>,
        prints: Prints,
    ) -> io::Result<Self> {
        let mut all = vec![crate::DO.into(), program.into()];
        all.extend(arguments);
        Ok(Self {
            name,
            program: env::current_exe()?.into(),
            arguments: all,
            prints,
            leaves: Leaves::Nothing,
        })
    }

    /// A side that is a program by its name or path.
    pub(crate) fn other(
        name: &'static str,
        program: impl Into<OsString>,
        arguments: Vec<OsString>,
    ) -> Self {
        let program = program.into();
        Self {
            name,
            program,
            arguments,
            prints: Prints::Anything,
            leaves: Leaves::Nothing,
        }
    }

    /// The same side, which must print this.
    pub(crate) fn printing(self, prints: Prints) -> Self {
        Self { prints, ..self }
    }

    /// The same side, which must leave this.
    pub(crate) fn leaving(self, leaves: Leaves) -> Self {
        Self { leaves, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_is_defined_in_the_readme() {
        let readme = include_str!("../../README.md");
        for workload in ALL {
            let heading = format!("\n## `{}`\n", workload.name);
            assert_eq!(readme.matches(&heading).count(), 1, "{}", workload.name);
        }
    }

    #[test]
    fn the_middle_one_exists() {
        for workload in ALL {
            if let Task::Pairs { pairs, .. } = workload.task {
                assert_eq!(pairs % 2, 1, "{}", workload.name);
            }
        }
    }
}
