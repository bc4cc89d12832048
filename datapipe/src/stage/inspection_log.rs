//! The log of the blocks that an inspection has marked or rejected.
//!
//! In its own process an inspection keeps a local log, which the caller's log
//! [mirrors](super::mirror).

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::{MAX_BUFFERS, MAX_LOG_ENTRIES};
use crate::wire::codec::{Bytes, DecodeError, Put};
use crate::words::count_of;

use super::mirror::{ChangeHook, MAX_PIECE, Mirror, ReportKind, Update};

/// Log of the blocks that an inspection has marked or rejected. Clones share one log.
#[derive(Clone, Debug, Default)]
pub struct InspectionLog(Arc<Mutex<InspectionLogInner>>);

#[derive(Debug, Default)]
struct InspectionLogInner {
    outcome: InspectionOutcome,
    hook: Option<ChangeHook>,
}

/// Contents of an [`InspectionLog`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectionOutcome {
    /// Number of marked blocks, including those that the log did not keep.
    pub marked_count: u64,
    /// Number of rejected blocks, including those that the log did not keep.
    pub rejected_count: u64,
    /// Numbers of the first [`MAX_LOG_ENTRIES`] blocks that were marked, sorted.
    pub marked: Vec<u64>,
    /// Numbers of the first [`MAX_LOG_ENTRIES`] blocks that were rejected, sorted.
    pub rejected: Vec<u64>,
    /// Fault in what a process of the stage sent about its log: blocks are missing in this one.
    pub fault: Option<String>,
}

/// The part of a log that another log has received.
#[derive(Debug, Default)]
pub(crate) struct InspectionCursor {
    marked: Sent,
    rejected: Sent,
}

/// The part of one list that another log has received.
#[derive(Debug, Default)]
struct Sent {
    kept: usize,
    unkept: u64,
}

/// Kinds of messages: the first byte.
const MARKED: u8 = 0;
const REJECTED: u8 = 1;
const MARKED_UNKEPT: u8 = 2;
const REJECTED_UNKEPT: u8 = 3;

/// Number of the last findings among which one that is sent again is found: a stage cannot overtake
/// a replacement by more blocks than there are buffers.
const MAX_REPEATED: usize = MAX_BUFFERS as usize;

impl InspectionLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of the contents so far. They are final when the pipe has ended.
    pub fn snapshot(&self) -> InspectionOutcome {
        let mut outcome = self.0.lock().outcome.clone();
        outcome.marked.sort_unstable();
        outcome.rejected.sort_unstable();
        outcome
    }

    pub(crate) fn mark(&self, number: u64) {
        self.change(|outcome| count(&mut outcome.marked_count, &mut outcome.marked, number));
    }

    pub(crate) fn reject(&self, number: u64) {
        self.change(|outcome| count(&mut outcome.rejected_count, &mut outcome.rejected, number));
    }

    fn change(&self, change: impl FnOnce(&mut InspectionOutcome)) {
        let hook = {
            let mut inner = self.0.lock();
            change(&mut inner.outcome);
            inner.hook.clone()
        };
        // Called without the lock, because the hook calls `delta`.
        if let Some(hook) = hook {
            hook.call();
        }
    }
}

/// Counts a block, and keeps its number if there is space.
fn count(count: &mut u64, kept: &mut Vec<u64>, number: u64) {
    *count = count.saturating_add(1);
    if kept.len() < MAX_LOG_ENTRIES {
        kept.push(number);
    }
}

/// A log as the report of one stage.
#[derive(Clone, Debug)]
pub(crate) struct InspectionMirror {
    log: InspectionLog,
    /// The last findings of the stage's processes: kind and number. A log that serves two pipes may
    /// receive the same number from both.
    recent: Arc<Mutex<VecDeque<(u8, u64)>>>,
}

impl InspectionMirror {
    pub(crate) fn new(log: &InspectionLog) -> Self {
        Self {
            log: log.clone(),
            recent: Arc::default(),
        }
    }

    /// True if a finding has not been received yet. A process that is killed after it has sent a
    /// finding leaves the block to its replacement, which finds the same.
    fn is_new(&self, finding: (u8, u64)) -> bool {
        let mut recent = self.recent.lock();
        if recent.contains(&finding) {
            return false;
        }
        if recent.len() == MAX_REPEATED {
            recent.pop_front();
        }
        recent.push_back(finding);
        true
    }
}

impl Mirror for InspectionMirror {
    const KIND: ReportKind = ReportKind::Inspection;
    type Cursor = InspectionCursor;

    fn delta(&self, cursor: &mut InspectionCursor) -> Vec<Update> {
        let inner = self.log.0.lock();
        let outcome = &inner.outcome;
        let mut updates = Vec::new();
        for (kind, unkept_kind, count, kept, sent) in [
            (
                MARKED,
                MARKED_UNKEPT,
                outcome.marked_count,
                &outcome.marked,
                &mut cursor.marked,
            ),
            (
                REJECTED,
                REJECTED_UNKEPT,
                outcome.rejected_count,
                &outcome.rejected,
                &mut cursor.rejected,
            ),
        ] {
            for numbers in kept[sent.kept..].chunks((MAX_PIECE - 1) / 8) {
                let mut data = vec![kind];
                data.put_u64s(numbers);
                updates.push(Update::silent(data));
            }
            sent.kept = kept.len();
            let unkept = count - kept.len() as u64;
            let new = unkept - std::mem::replace(&mut sent.unkept, unkept);
            if new > 0 {
                let mut data = vec![unkept_kind];
                data.put_u64(new);
                updates.push(Update::silent(data));
            }
        }
        updates
    }

    fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
        let mut message = Bytes::new("a process's inspection message", message);
        let mut inner = self.log.0.lock();
        let outcome = &mut inner.outcome;
        let kind = message.u8()?;
        let (counted, kept) = match kind {
            MARKED | MARKED_UNKEPT => (&mut outcome.marked_count, &mut outcome.marked),
            REJECTED | REJECTED_UNKEPT => (&mut outcome.rejected_count, &mut outcome.rejected),
            other => return Err(message.error(format!("is of an unknown kind, {other}"))),
        };
        if matches!(kind, MARKED_UNKEPT | REJECTED_UNKEPT) {
            *counted = counted.saturating_add(message.u64()?);
            return message.end();
        }
        while !message.rest().is_empty() {
            let number = message.u64()?;
            if self.is_new((kind, number)) {
                count(counted, kept, number);
            }
        }
        Ok(())
    }

    fn reject(&self, error: &DecodeError) {
        let fault = format!("malformed report from a process: {error}");
        self.log.0.lock().outcome.fault.get_or_insert(fault);
    }

    /// The content of a rejected block goes no further.
    fn problem_count(&self) -> u64 {
        self.log.0.lock().outcome.rejected_count
    }

    fn describe_problems(&self) -> String {
        let rejected = self.log.0.lock().outcome.rejected_count;
        match rejected {
            0 => String::new(),
            count => format!("{} rejected so far", count_of(count, "block")),
        }
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.log.0).addr()
    }

    /// A block moves on only after its finding has been sent: a process that is killed then loses
    /// none.
    fn on_urgent_change(&self, hook: ChangeHook) {
        self.log.0.lock().hook = Some(hook);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::stage::mirror;

    /// Returns a log, and its report.
    fn log() -> (InspectionLog, InspectionMirror) {
        let log = InspectionLog::new();
        (log.clone(), InspectionMirror::new(&log))
    }

    #[test]
    fn copy_of_a_log_is_equal_after_each_change() {
        let ((log, from), (copy, to)) = (log(), log());
        let mut cursor = InspectionCursor::default();
        for number in 0..MAX_LOG_ENTRIES as u64 + 10 {
            log.mark(number);
            if number % 3 == 0 {
                log.reject(number);
            }
            if number % 1000 == 0 {
                mirror::copy(&from, &mut cursor, &to);
            }
        }
        mirror::copy(&from, &mut cursor, &to);
        assert_eq!(copy.snapshot(), log.snapshot());
        assert_eq!(copy.snapshot().marked_count, MAX_LOG_ENTRIES as u64 + 10);
        mirror::copy(&from, &mut cursor, &to);
        assert_eq!(copy.snapshot(), log.snapshot(), "nothing is sent twice");
    }

    #[test]
    fn block_reported_again_by_a_replacement_counts_once() {
        let ((log, from), (copy, to)) = (log(), log());
        log.reject(7);
        for _ in 0..2 {
            mirror::copy(&from, &mut InspectionCursor::default(), &to);
        }
        assert_eq!(copy.snapshot(), log.snapshot());
        // The same number in another pipe is another block.
        let other = InspectionMirror::new(&copy);
        mirror::copy(&from, &mut InspectionCursor::default(), &other);
        assert_eq!(copy.snapshot().rejected, [7, 7]);
    }

    #[test]
    fn malformed_messages_are_rejected() {
        let (log, report) = log();
        for (message, why) in [
            (&[][..], "too early"),
            (&[4], "unknown kind, 4"),
            (&[MARKED, 1, 2], "too early"),
            (
                &[REJECTED_UNKEPT, 1, 0, 0, 0, 0, 0, 0, 0, 9],
                "1 byte too many",
            ),
        ] {
            let error = report.apply(message).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            report.reject(&error);
        }
        let fault = log.snapshot().fault.unwrap();
        assert!(fault.contains("too early"), "{fault}");
    }
}
