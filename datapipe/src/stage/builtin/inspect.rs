//! Inspection: somebody else's judgement of the data, such as a virus scanner's.
//!
//! A rejected block travels on without its content, so that numbers stay dense and a reader can
//! tell that something was there. Does not know what a finding means: the application decides what
//! to scan for, and what to do about it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::StageError;
use crate::limits::MAX_LOG_ENTRIES;
use crate::pool::{Block, BlockInfo, Codec, Marks};

use super::damage::number_of;
use super::{InPlace, MiddleWork, Stage, Verdict};

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
/// assert_eq!(log.rejected(), [0]);
/// assert!(written.is_empty());
/// # Ok::<(), datapipe::Error>(())
/// ```
pub trait Inspect: Send {
    /// Looks at a block's data: plain data, as the head read it. A block sees nothing of the one
    /// before, so what lies across the end of a block is in two pieces.
    ///
    /// # Errors
    ///
    /// An error stops the pipe. Whether a scanner that cannot be asked is an error or a
    /// [`Finding::Mark`] is the implementer's decision.
    fn inspect(&mut self, data: &[u8], info: &BlockInfo) -> Result<Finding, StageError>;
}

/// What inspection has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing.
    Pass,
    /// Something worth a note: the block travels on, with [`Marks::MARKED`].
    Mark,
    /// Something that must not be kept: the block travels on without its content, with
    /// [`Marks::REJECTED`].
    Reject,
}

/// Which blocks an inspection has marked or rejected. Clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct InspectionLog(Arc<Mutex<Findings>>);

#[derive(Debug, Default)]
struct Findings {
    marked: Numbers,
    rejected: Numbers,
}

#[derive(Debug, Default)]
struct Numbers {
    first: Vec<u64>,
    count: u64,
}

impl Numbers {
    fn push(&mut self, number: u64) {
        self.count += 1;
        if self.first.len() < MAX_LOG_ENTRIES {
            self.first.push(number);
        }
    }

    fn sorted(&self) -> Vec<u64> {
        let mut numbers = self.first.clone();
        numbers.sort_unstable();
        numbers
    }
}

impl InspectionLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Numbers of the first [`MAX_LOG_ENTRIES`] blocks that were marked, sorted.
    pub fn marked(&self) -> Vec<u64> {
        self.0.lock().marked.sorted()
    }

    /// Numbers of the first [`MAX_LOG_ENTRIES`] blocks that were rejected, sorted.
    pub fn rejected(&self) -> Vec<u64> {
        self.0.lock().rejected.sorted()
    }

    /// How many blocks were marked, kept or not.
    pub fn marked_count(&self) -> u64 {
        self.0.lock().marked.count
    }

    /// How many blocks were rejected, kept or not.
    pub fn rejected_count(&self) -> u64 {
        self.0.lock().rejected.count
    }
}

impl<'a> Stage<MiddleWork<'a>> {
    /// A stage that inspects each block, each instance of which is made by `factory` from its
    /// number. What it marks and rejects is noted in `log`.
    ///
    /// It sees plain data only: a block that is encrypted or compressed is an error. Blocks that
    /// have lost their content before, damaged or rejected, pass unseen.
    pub fn inspect<I: Inspect + 'a>(
        name: impl Into<String>,
        log: &InspectionLog,
        mut factory: impl FnMut(u32) -> I + Send + 'a,
    ) -> Self {
        let log = log.clone();
        Self::in_place(name, move |n| Inspection {
            inspector: factory(n),
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
        if info.marks.contains(Marks::DAMAGED) || info.marks.contains(Marks::REJECTED) {
            return Ok(Verdict::Send);
        }
        let number = number_of(block);
        if info.sealed || info.codec != Codec::NONE {
            let how = if info.sealed {
                "encrypted"
            } else {
                "compressed"
            };
            return Err(StageError::new(format!(
                "block {number} is {how} already, so that its content cannot be inspected; put inspection before \
                 compression and encryption"
            )));
        }
        match self.inspector.inspect(block.bytes(), &info)? {
            Finding::Pass => return Ok(Verdict::Send),
            Finding::Mark => {
                self.log.0.lock().marked.push(number);
                info.marks = info.marks.with(Marks::MARKED);
            }
            Finding::Reject => {
                self.log.0.lock().rejected.push(number);
                info.marks = info.marks.with(Marks::REJECTED);
                info.plain_len = 0;
                block.clear();
            }
        }
        block.set_info(info);
        Ok(Verdict::Send)
    }
}
