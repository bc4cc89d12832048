//! The description of a pipe: its stages, in order, and its options.

use std::collections::HashSet;
use std::time::Duration;

use crate::limits::{
    DEFAULT_BUFFER_SIZE, DEFAULT_HEADROOM, DEFAULT_STALL, DEFAULT_STOPPED_LIMIT, DEFAULT_TAILROOM,
    MAX_NAME,
};
use crate::memory::{Backing, Direction, HugePages};
use crate::pool::AtLimit;
use crate::stage::{HeadStage, MiddleStage, TailStage};
use crate::wire::codec::truncate;

use super::cancel::Canceller;
use super::event::Listener;

/// Everything that [`PipeBuilder`](super::PipeBuilder) collects. Unchecked: the plan does that.
#[derive(Debug)]
pub(super) struct Description<'a> {
    pub(super) label: String,
    pub(super) head: Option<HeadStage<'a>>,
    pub(super) middles: Vec<MiddleStage<'a>>,
    pub(super) tail: Option<TailStage<'a>>,
    /// Buffers in the pool; `None` for as many as the stages work well with.
    pub(super) buffers: Option<u32>,
    pub(super) buffer_size: u32,
    pub(super) headroom: u32,
    pub(super) tailroom: u32,
    pub(super) at_limit: AtLimit,
    pub(super) backing: Backing,
    pub(super) huge_pages: HugePages,
    pub(super) direction: Direction,
    pub(super) canceller: Canceller,
    pub(super) listener: Listener,
    /// Longest time for which a process may be stopped.
    pub(super) stopped_limit: Duration,
    /// Time on one block after which a stall is reported.
    pub(super) stall_after: Duration,
}

impl Description<'_> {
    /// A pipe without stages, with the default options.
    pub(super) fn new() -> Self {
        Self {
            label: "pipe".to_owned(),
            head: None,
            middles: Vec::new(),
            tail: None,
            buffers: None,
            buffer_size: DEFAULT_BUFFER_SIZE,
            headroom: DEFAULT_HEADROOM,
            tailroom: DEFAULT_TAILROOM,
            at_limit: AtLimit::default(),
            backing: Backing::default(),
            huge_pages: HugePages::default(),
            direction: Direction::default(),
            canceller: Canceller::new(),
            listener: Listener::default(),
            stopped_limit: DEFAULT_STOPPED_LIMIT,
            stall_after: DEFAULT_STALL,
        }
    }

    /// Returns `name`, or `name` with the first number from 2 up that no stage's name has yet.
    pub(super) fn unique_name(&self, name: String) -> String {
        let head = self.head.iter().map(|stage| &stage.settings.name);
        let middles = self.middles.iter().map(|stage| &stage.settings.name);
        let tail = self.tail.iter().map(|stage| &stage.settings.name);
        let taken: HashSet<&String> = head.chain(middles).chain(tail).collect();
        let numbered = (2..).map(|number| {
            let number = format!(" {number}");
            // A name of the maximum length keeps that length: its end gives way to the number.
            truncate(&name, MAX_NAME - number.len()).to_owned() + &number
        });
        // There are more numbers than stages.
        std::iter::once(name.clone())
            .chain(numbered)
            .find(|name| !taken.contains(name))
            .unwrap_or(name)
    }
}
