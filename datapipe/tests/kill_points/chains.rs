//! The pipes with the processes that die.

use std::sync::Arc;
use std::time::Duration;

use datapipe::NotReplaced;
use datapipe::memory::Backing;
use datapipe::prelude::*;

use crate::stages::{
    Seen, checking, copy, every_fifth, far_checking, far_numbering, flat_map, in_place, mixed,
    numbering, port_loop,
};

/// Limit for stopped processes: only the test ends a stop.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A pipe and its stages in processes.
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) stages: &'static [Victim],
    /// True for the numbers of blocks that do not reach the tail.
    pub(crate) dropped: fn(u64) -> bool,
    ends: Ends,
    middle: fn() -> Vec<MiddleStage<'static>>,
}

/// Placement of head and tail.
#[derive(PartialEq, Eq)]
enum Ends {
    Threads,
    Processes,
}

/// A stage of processes that die.
pub(crate) struct Victim {
    pub(crate) name: &'static str,
    /// Number of its processes.
    pub(crate) processes: u32,
    /// Reason why a process is not replaced, or `None` if it is.
    pub(crate) irreplaceable: Option<NotReplaced>,
    /// Number of buffers of a working instance: an input and an output, or one of them.
    pub(crate) works_with: u32,
}

const fn replaced(name: &'static str, processes: u32) -> Victim {
    Victim {
        name,
        processes,
        irreplaceable: None,
        works_with: 2,
    }
}

const fn not_replaced(
    name: &'static str,
    processes: u32,
    works_with: u32,
    why: NotReplaced,
) -> Victim {
    Victim {
        name,
        processes,
        irreplaceable: Some(why),
        works_with,
    }
}

pub(crate) const CHAINS: &[Chain] = &[
    Chain {
        name: "codecs",
        stages: &[replaced("zstd", 2), replaced("decompress", 2)],
        dropped: |_| false,
        ends: Ends::Threads,
        middle: || vec![zstd(1).instances(2), decompress().instances(2)],
    },
    Chain {
        name: "mixed",
        stages: &[replaced("mixed", 2), replaced("copy", 1)],
        dropped: every_fifth,
        ends: Ends::Threads,
        middle: || vec![mixed().instances(2), copy()],
    },
    Chain {
        name: "flat-map",
        stages: &[replaced("flat-map", 2)],
        dropped: every_fifth,
        ends: Ends::Threads,
        middle: || vec![flat_map().instances(2)],
    },
    Chain {
        name: "ends",
        stages: &[
            not_replaced("number", 1, 1, NotReplaced::Head),
            replaced("copy", 2),
            not_replaced("check", 1, 1, NotReplaced::Tail),
        ],
        dropped: |_| false,
        ends: Ends::Processes,
        middle: || vec![copy().instances(2)],
    },
    Chain {
        name: "in-place",
        stages: &[replaced("in-place", 2)],
        dropped: |_| false,
        ends: Ends::Threads,
        middle: || vec![in_place().instances(2)],
    },
    Chain {
        name: "loop",
        stages: &[not_replaced("loop", 1, 2, NotReplaced::Stateful)],
        dropped: |_| false,
        ends: Ends::Threads,
        middle: || vec![port_loop()],
    },
    Chain {
        name: "together",
        stages: &[not_replaced("copy", 1, 2, NotReplaced::Together)],
        dropped: |_| false,
        ends: Ends::Threads,
        middle: || vec![copy().instances(3).together()],
    },
];

impl Chain {
    /// Builds the pipe, with so few buffers that all stages wait for each other.
    pub(crate) fn pipe(&self, seen: &Arc<Seen>, backing: Backing) -> PipeBuilder<'static> {
        let far = self.ends == Ends::Processes;
        let pipe = Pipe::builder()
            .backing(backing)
            .stopped_limit(FOR_EVER)
            .buffers(12)
            .buffer_size(1024);
        let pipe = pipe.head(if far { far_numbering() } else { numbering() });
        let pipe = (self.middle)()
            .into_iter()
            .fold(pipe, |pipe, stage| pipe.stage(stage.in_processes()));
        pipe.tail(if far {
            far_checking(seen)
        } else {
            checking(seen, self.dropped)
        })
    }

    /// Returns the stage with this name.
    pub(crate) fn victim(&self, name: &str) -> Option<&'static Victim> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// True if it survives the death of any of its processes.
    pub(crate) fn survives(&self) -> bool {
        self.stages
            .iter()
            .all(|stage| stage.irreplaceable.is_none())
    }
}
