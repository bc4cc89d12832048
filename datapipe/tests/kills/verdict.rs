//! Checks after a round that nothing was lost.

use std::sync::atomic::Ordering;

use datapipe::memory::StageId;
use datapipe::pool::{Blocked, Seat, TryError};
use rustix::process::WaitOptions;

use crate::books::{FIRST_ID, Progress, UNSEEN};
use crate::chain::of_id;
use crate::round::{Chair, Round};
use crate::{Outcome, ensure};

impl Round {
    /// Compares the sent blocks with the received ones. `whole`: the stream has ended.
    pub(crate) fn check_books(&mut self, whole: bool) -> Outcome {
        let heads: Vec<_> = self.books.heads.iter().map(Progress::sent).collect();
        let sent: u64 = heads.iter().sum();
        let mut next = vec![0; heads.len()];
        let in_reach = (sent + 4096).min(self.books.seen.len() as u64);
        let mut gap = None;
        for (number, seen) in (0..in_reach).zip(&self.books.seen) {
            let tag = seen.load(Ordering::Acquire);
            if tag == UNSEEN {
                gap = gap.or(Some(number));
                continue;
            }
            ensure!(
                number < sent,
                "number {number} arrived, but only {sent} were sent"
            );
            // With several tails one may be ahead of another when the pipe stops.
            let excused = !whole && self.plan.tails() > 1;
            ensure!(
                gap.is_none() || excused,
                "LOST: number {number} arrived, but not {gap:?}"
            );
            let (head, index) = of_id(tag - FIRST_ID);
            let next = next.get_mut(head).ok_or("there is no such head")?;
            let in_order = index == *next || gap.is_some() && index > *next;
            ensure!(
                in_order,
                "number {number} is block {index} of head {head}, not {next}"
            );
            *next = index + 1;
        }
        if whole {
            ensure!(
                gap.unwrap_or(sent) == sent,
                "LOST: {sent} were sent, number {gap:?} did not arrive"
            );
        }
        let again: u64 = self
            .books
            .tails
            .iter()
            .map(|tail| tail.again.load(Ordering::Acquire))
            .sum();
        ensure!(
            again <= self.may_repeat,
            "{again} blocks came twice, {} were inherited",
            self.may_repeat
        );
        self.tally.blocks += sent;
        self.tally.again += again;
        Ok(())
    }

    /// Asserts after the end of the stream that every buffer is free and every credit is back.
    pub(crate) fn check_segment(&mut self) -> Outcome {
        self.check_nothing_held()?;
        self.take_every_credit()?;
        self.segment
            .audit()
            .map_err(|finding| finding.to_string())?;
        let (free, buffers) = (self.segment.free_buffers(), self.plan.shape.buffers());
        ensure!(
            free == buffers,
            "LOST: {free} of {buffers} buffers are free"
        );
        Ok(())
    }

    /// Asserts after the end of all processes that every buffer is free, or waits in a queue.
    pub(crate) fn check_nothing_held(&mut self) -> Outcome {
        let none = rustix::process::wait(WaitOptions::NOHANG);
        ensure!(
            matches!(none, Err(rustix::io::Errno::CHILD)),
            "there is a child left: {none:?}"
        );
        for seat in 0..self.seats.len() {
            let left = self.reclaim(seat)?;
            ensure!(
                left.held() == 0,
                "LOST: still held after all was reclaimed: {left:?}"
            );
        }
        // A process that was killed at work counts as working, which the audit excuses. Taking and
        // leaving the seat ends it: no participant is excused.
        for &Chair {
            stage, instance, ..
        } in &self.seats
        {
            let seat = Seat::new(&self.segment, StageId::new(stage).instance(instance));
            match stage {
                0 => drop(seat.head()?),
                _ if stage == self.plan.tail() => drop(seat.tail()?),
                _ => drop(seat.middle()?),
            }
        }
        self.segment
            .audit()
            .map_err(|finding| finding.to_string().into())
    }

    /// Takes every seat, allocates exactly its quota, and gives it back.
    fn take_every_credit(&self) -> Outcome {
        let mut blocks = Vec::new();
        for &Chair {
            stage, instance, ..
        } in self
            .seats
            .iter()
            .filter(|chair| chair.stage != self.plan.tail())
        {
            let id = StageId::new(stage).instance(instance);
            let seat = Seat::new(&self.segment, id);
            let try_alloc: Box<dyn Fn() -> _> = if stage == 0 {
                let port = seat.head()?;
                Box::new(move || port.try_alloc())
            } else {
                let port = seat.middle()?;
                Box::new(move || port.try_alloc())
            };
            let shape = &self.plan.shape;
            let quota = shape.quota(shape.participant_of(id));
            for loan in 0..quota {
                let lost = |why| {
                    format!(
                        "LOST: {why:?} at loan {loan} of {quota}, stage {stage} instance {instance}"
                    )
                };
                blocks.push(try_alloc().map_err(lost)?);
            }
            let more = try_alloc().err();
            ensure!(
                more == Some(TryError::Blocked(Blocked::AtLimit)),
                "stage {stage} instance {instance} has no limit: {more:?}"
            );
        }
        let (free, buffers) = (self.segment.free_buffers(), self.plan.shape.buffers());
        let loans = blocks.len() as u32;
        ensure!(
            free + loans == buffers,
            "LOST: {free} buffers free and {loans} on loan of {buffers}"
        );
        Ok(())
    }
}
