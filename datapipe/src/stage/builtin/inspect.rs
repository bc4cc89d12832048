//! Inspection: the application's judgement of the data, such as a virus scanner's.
//!
//! A rejected block travels on without its content, so that numbers stay dense and a reader can see
//! that a block was removed. This module does not know what a finding means: the application
//! decides what to scan for, and what to do about it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::StageError;
use crate::limits::MAX_LOG_ENTRIES;
use crate::memory::InstanceId;
use crate::pool::{Block, BlockInfo, Codec, Marks};

use crate::stage::{InPlace, MiddleWork, Stage, Verdict};

/// Judges blocks.
///
/// ```
/// use datapipe::prelude::*;
///
/// struct NoSecrets;
///
/// impl Inspect for NoSecrets {
///     fn inspect(&mut self, data: &[u8], _: &BlockInfo) -> Result<Finding, StageError> {
///         Ok(if data.starts_with(b"secret") { Finding::Reject } else { Finding::Pass })
///     }
/// }
///
/// let (log, mut written) = (InspectionLog::new(), Vec::new());
/// Pipe::builder()
///     .head(StreamHead::new(&b"secret plans"[..]))
///     .stage(Stage::inspect("no-secrets", &log, |_| NoSecrets).instances(2))
///     .tail(StreamTail::new(&mut written))
///     .run()?;
/// assert_eq!(log.snapshot().rejected, [0]);
/// assert!(written.is_empty());
/// # Ok::<(), datapipe::Error>(())
/// ```
pub trait Inspect: Send {
    /// Inspects a block's data: plain data, as the head read it. Each call sees one block only, so
    /// a pattern across the boundary of two blocks is in two pieces.
    ///
    /// # Errors
    ///
    /// An error stops the pipe. The implementer decides if an unavailable scanner is an error or a
    /// [`Finding::Mark`].
    fn inspect(&mut self, data: &[u8], info: &BlockInfo) -> Result<Finding, StageError>;
}

/// Result of an inspection.
///
/// Exhaustive: an inspector that wraps another one can handle every result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum Finding {
    /// Nothing was found.
    Pass,
    /// A finding to record: the block travels on, with [`Marks::MARKED`].
    Mark,
    /// Content that must not be kept: the block travels on without its content, with
    /// [`Marks::REJECTED`].
    Reject,
}

/// Log of the blocks that an inspection has marked or rejected. Clones share one log.
#[derive(Clone, Debug, Default)]
pub struct InspectionLog(Arc<Mutex<InspectionOutcome>>);

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
}

impl InspectionLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of the contents so far. They are final when the pipe has ended.
    pub fn snapshot(&self) -> InspectionOutcome {
        let mut outcome = self.0.lock().clone();
        outcome.marked.sort_unstable();
        outcome.rejected.sort_unstable();
        outcome
    }

    fn mark(&self, number: u64) {
        let outcome = &mut *self.0.lock();
        count(&mut outcome.marked_count, &mut outcome.marked, number);
    }

    fn reject(&self, number: u64) {
        let outcome = &mut *self.0.lock();
        count(&mut outcome.rejected_count, &mut outcome.rejected, number);
    }
}

/// Counts a block, and keeps its number if there is space.
fn count(count: &mut u64, kept: &mut Vec<u64>, number: u64) {
    *count += 1;
    if kept.len() < MAX_LOG_ENTRIES {
        kept.push(number);
    }
}

impl<'a> Stage<MiddleWork<'a>> {
    /// A stage that inspects each block and records marked and rejected blocks in `log`. `factory`
    /// makes each instance from its id.
    ///
    /// The stage reads plain data only: a block that is encrypted or compressed is an error. Blocks
    /// that have already lost their content, damaged or rejected, pass without inspection.
    pub fn inspect<I: Inspect + 'a>(
        name: impl Into<String>,
        log: &InspectionLog,
        mut factory: impl FnMut(InstanceId) -> I + Send + 'a,
    ) -> Self {
        let log = log.clone();
        Self::in_place(name, move |id| Inspection {
            inspector: factory(id),
            log: log.clone(),
        })
    }
}

struct Inspection<I> {
    inspector: I,
    log: InspectionLog,
}

impl<I: Inspect> InPlace for Inspection<I> {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        if info.marks.intersects(Marks::DAMAGED | Marks::REJECTED) {
            return Ok(Verdict::Send);
        }
        let number = block.archive_number();
        if info.sealed || info.codec != Codec::NONE {
            let how = if info.sealed {
                "encrypted"
            } else {
                "compressed"
            };
            return Err(StageError::new(format!(
                "cannot inspect block {number}: it is already {how}; \
                 put inspection before compression and encryption"
            )));
        }
        match self.inspector.inspect(block.bytes(), &info)? {
            Finding::Pass => return Ok(Verdict::Send),
            Finding::Mark => {
                self.log.mark(number);
                info.marks |= Marks::MARKED;
            }
            Finding::Reject => {
                self.log.reject(number);
                info.marks |= Marks::REJECTED;
                info.plain_len = 0;
                block.clear();
            }
        }
        block.set_info(info);
        Ok(Verdict::Send)
    }
}
