//! Inspection: the application's judgement of the data, such as a virus scanner's.
//!
//! A rejected block travels on without its content, so that numbers stay dense and a reader can see
//! that a block was removed. This module does not know what a finding means: the application
//! decides what to scan for, and what to do about it.

use crate::error::StageError;
use crate::memory::InstanceId;
use crate::pool::{Block, BlockInfo, Codec, Marks};

use crate::stage::{InPlace, InspectionLog, InspectionMirror, MiddleWork, Stage, Verdict};

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

impl<'a> Stage<MiddleWork<'a>> {
    /// A stage that inspects each block and records marked and rejected blocks in `log`. `factory`
    /// makes each instance from its id.
    ///
    /// The stage reads plain data only: a block that is encrypted or compressed is an error. Blocks
    /// that have already lost their content, damaged or rejected, pass without inspection.
    ///
    /// It inspects streams. A block of a tree has many files, so a rejected block would cost files
    /// that are innocent: a pipe with a [`TreeHead`](crate::tree::TreeHead) and this stage is
    /// refused, and [`TreeOptions::inspect`](crate::tree::TreeOptions::inspect) inspects file by
    /// file.
    ///
    /// In an archive of a stream a rejected block leaves a gap. The writer counts it
    /// ([`WriteOutcome::rejected`](crate::archive::WriteOutcome::rejected)), each reader reports it
    /// ([`ReadOutcome::first_rejected`](crate::archive::ReadOutcome::first_rejected), and its log),
    /// and a restore has zeros there.
    pub fn inspect<I: Inspect + 'a>(
        name: impl Into<String>,
        log: &InspectionLog,
        mut factory: impl FnMut(InstanceId) -> I + Send + 'a,
    ) -> Self {
        let instances = log.clone();
        let make = move |id| Inspection {
            inspector: factory(id),
            log: instances.clone(),
        };
        Self::in_place(name, make)
            .mirrored(&InspectionMirror::new(log))
            .keep_blocks()
            .rejects_blocks()
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
                // The place that the block keeps in the stream, as zeros.
                info.plain_len = block.len() as u32;
                block.clear();
            }
        }
        block.set_info(info);
        Ok(Verdict::Send)
    }
}
