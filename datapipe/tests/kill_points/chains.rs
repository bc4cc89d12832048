//! The pipes whose processes die.

use std::sync::Arc;

use datapipe::NotReplaced;
use datapipe::prelude::*;

use crate::stages::{Seen, checking, copy, every_fifth, in_place, mixed, numbering, port_loop};

/// A pipe, and those of its stages that run in processes.
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    /// Names and instances.
    pub(crate) stages: &'static [(&'static str, u32)],
    /// Why one of their processes is not replaced; if there is nothing, it is.
    pub(crate) irreplaceable: Option<NotReplaced>,
    /// Which blocks do not reach the tail.
    pub(crate) dropped: fn(u64) -> bool,
    middle: fn() -> Vec<MiddleStage<'static>>,
}

pub(crate) const CHAINS: &[Chain] = &[
    Chain {
        name: "codecs",
        stages: &[("zstd", 2), ("decompress", 2)],
        irreplaceable: None,
        dropped: |_| false,
        middle: || vec![Zstd::level(1).instances(2), decompress().instances(2)],
    },
    Chain {
        name: "mixed",
        stages: &[("mixed", 2), ("copy", 1)],
        irreplaceable: None,
        dropped: every_fifth,
        middle: || vec![mixed().instances(2), copy()],
    },
    Chain {
        name: "in-place",
        stages: &[("in-place", 2)],
        irreplaceable: Some(NotReplaced::WorkedInPlace),
        dropped: |_| false,
        middle: || vec![in_place().instances(2)],
    },
    Chain {
        name: "loop",
        stages: &[("loop", 1)],
        irreplaceable: Some(NotReplaced::Stateful),
        dropped: |_| false,
        middle: || vec![port_loop()],
    },
];

impl Chain {
    /// Few buffers, so that everybody waits for everybody.
    pub(crate) fn pipe(&self, seen: &Arc<Seen>) -> PipeBuilder<'static> {
        let mut pipe = Pipe::builder().buffers(12).buffer_size(1024).head(numbering());
        for stage in (self.middle)() {
            pipe = pipe.stage(stage.in_processes());
        }
        pipe.tail(checking(seen, self.dropped))
    }
}
