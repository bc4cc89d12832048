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
    /// Stages that belong to the tail: they come after all others, also those added later.
    pub(super) before_tail: Vec<MiddleStage<'a>>,
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

impl<'b> Description<'b> {
    /// Returns the same description, for stages that borrow what lives shorter than the present
    /// ones.
    pub(super) fn shorten<'a>(self) -> Description<'a>
    where
        'b: 'a,
    {
        Description {
            head: self.head.map(HeadStage::shorten),
            middles: self.middles.into_iter().map(MiddleStage::shorten).collect(),
            before_tail: self
                .before_tail
                .into_iter()
                .map(MiddleStage::shorten)
                .collect(),
            tail: self.tail.map(TailStage::shorten),
            label: self.label,
            buffers: self.buffers,
            buffer_size: self.buffer_size,
            headroom: self.headroom,
            tailroom: self.tailroom,
            at_limit: self.at_limit,
            backing: self.backing,
            huge_pages: self.huge_pages,
            direction: self.direction,
            canceller: self.canceller,
            listener: self.listener,
            stopped_limit: self.stopped_limit,
            stall_after: self.stall_after,
        }
    }
}

impl<'a> Description<'a> {
    /// A pipe without stages, with the default options.
    pub(super) fn new() -> Self {
        Self {
            label: "pipe".to_owned(),
            head: None,
            middles: Vec::new(),
            before_tail: Vec::new(),
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

    /// Returns the stages between head and tail, in order.
    pub(super) fn middles(&self) -> impl Iterator<Item = &MiddleStage<'a>> {
        let is_needed = self.needed_stages();
        let all = self.middles.iter().chain(&self.before_tail);
        all.filter(move |stage| is_needed(stage))
    }

    /// Takes the stages that [`middles`](Self::middles) returns.
    pub(super) fn take_middles(&mut self) -> Vec<MiddleStage<'a>> {
        let is_needed = self.needed_stages();
        let all = self.middles.drain(..).chain(self.before_tail.drain(..));
        all.filter(|stage| is_needed(stage)).collect()
    }

    /// Returns the test if a stage is part of the pipe. One that closes the gaps of dropped blocks
    /// is needed only if a stage before it may drop any, or the head passes on dropped ones.
    fn needed_stages(&self) -> impl Fn(&MiddleStage<'a>) -> bool + use<'a> {
        let mut middles = self.middles.iter();
        let head = self.head.as_ref();
        let sends_vacant = head.is_some_and(|head| head.settings.is_replaceable);
        let are_kept = middles.all(|stage| stage.settings.keeps_blocks) && !sends_vacant;
        move |stage| !are_kept || !stage.settings.is_for_drops
    }

    /// Returns `name`, or `name` with the first number from 2 up that no stage's name has yet.
    pub(super) fn unique_name(&self, name: String) -> String {
        let head = self.head.iter().map(|stage| &stage.settings.name);
        let middles = self.middles.iter().chain(&self.before_tail);
        let middles = middles.map(|stage| &stage.settings.name);
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
