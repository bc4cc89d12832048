//! What is run. `README.md` of this crate defines each workload, once; the code here does what it says.
//!
//! ```text
//!   Workload -- prepare --> Contest { ours: Side, peer: Side, material }
//!                                      |
//!                                  a command, and what it must print
//! ```
//!
//! To add a workload: a section in `README.md`, a file here with a [`Workload`] and its programs, a line in [`ALL`]
//! and one for each program in [`program`]. Nothing here measures anything.

mod hand_over; // one buffer from thread to thread and back, without its content
mod material; // data in memory that leaves nothing behind
mod raw_stream; // a stream from memory to nowhere

use std::any::Any;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io;

/// Every workload, in the order in which they run.
pub(crate) const ALL: &[Workload] = &[hand_over::WORKLOAD, raw_stream::WORKLOAD];

/// Something that datapipe and a peer can both do.
pub(crate) struct Workload {
    /// Heading of its definition in `README.md`.
    pub(crate) name: &'static str,
    /// What the ratio of ours to the peer's may be at most.
    pub(crate) bounds: &'static [Bound],
    /// Makes what both sides need. An error is a reason to skip the workload.
    pub(crate) prepare: fn() -> Result<Contest, Box<dyn Error>>,
}

/// Two sides that are ready to be run, again and again.
pub(crate) struct Contest {
    pub(crate) ours: Side,
    pub(crate) peer: Side,
    /// What the sides use, to be dropped when they have all ended.
    pub(crate) _material: Option<Box<dyn Any>>,
}

/// One side: a command, and how to see that it did its work.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) prints: Prints,
}

/// What a side that did its work has written to standard output.
pub(crate) enum Prints {
    /// Whatever it likes, also nothing.
    Anything,
    /// This, and a line's end.
    Exactly(String),
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
}

/// The median of the ratios of `measure` must be `at_most` this.
pub(crate) struct Bound {
    pub(crate) measure: Measure,
    pub(crate) at_most: f64,
}

/// Work that this executable does when it is started as a child, given the arguments behind its name.
pub(crate) type Program = fn(&[OsString]) -> Result<(), Box<dyn Error>>;

/// The workload of that name.
pub(crate) fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

/// The program of that name.
pub(crate) fn program(name: &str) -> Option<Program> {
    match name {
        "hand-over-datapipe" => Some(hand_over::datapipe),
        "hand-over-crossbeam" => Some(hand_over::crossbeam),
        "raw-stream-datapipe" => Some(raw_stream::datapipe),
        _ => None,
    }
}

impl Workload {
    /// The most that the ratio of `measure` may be, if there is a bound for it.
    pub(crate) fn bound(&self, measure: Measure) -> Option<f64> {
        self.bounds.iter().find(|bound| bound.measure == measure).map(|bound| bound.at_most)
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
        Ok(Self { name, program: env::current_exe()?.into(), arguments: all, prints })
    }

    /// A side that is a program of somebody else's.
    pub(crate) fn other(name: &'static str, arguments: Vec<OsString>, prints: Prints) -> Self {
        Self { name, program: name.into(), arguments, prints }
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
}
