//! The traits that a stage implements, and the outcomes of their methods.

use crate::error::StageError;
use crate::memory::Number;
use crate::pool::{Block, BlockInfo};

use super::description::{HeadStage, TailStage};
use super::following::Following;
use super::outputs::Outputs;

/// Fills blocks: the first stage of a pipe.
///
/// In a pipe that ends with an archive, the runner sends the archive's last block when the head has
/// ended ([`Fill::End`]); a head does not send it itself.
///
/// # Examples
///
/// ```
/// use datapipe::prelude::*;
///
/// /// The numbers from 0 to `end`, eight bytes each.
/// struct Count { next: u64, end: u64 }
///
/// impl Head for Count {
///     fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
///         while self.next < self.end && block.spare().len() >= 8 {
///             block.put(&self.next.to_le_bytes())?;
///             self.next += 1;
///         }
///         Ok(if block.is_empty() { Fill::End } else { Fill::Block })
///     }
/// }
///
/// let report = Pipe::builder()
///     .head(Count { next: 0, end: 100_000 })
///     .tail(StreamTail::new(std::io::sink()))
///     .run()?;
/// assert_eq!(report.bytes_out(), 800_000);
/// # Ok::<(), datapipe::Error>(())
/// ```
pub trait Head: Send {
    /// Name of the stage in status, reports and errors.
    fn name(&self) -> &str {
        "head"
    }

    /// Puts data into an empty block.
    ///
    /// # Errors
    ///
    /// An error stops the pipe; the block is not sent.
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError>;

    /// Adds to the stage's description what a process needs to make this head there: a
    /// [module](super::Stage::module), descriptors, a message handler. Without a module the stage
    /// runs in this process only.
    fn describe<'a>(&self, stage: HeadStage<'a>) -> HeadStage<'a> {
        stage
    }
}

/// Outcome of [`Head::fill`].
///
/// Exhaustive: a head that wraps another one can handle every outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum Fill {
    /// The block is to be sent, and there may be more data.
    Block,
    /// The stream has ended; the block, which must be empty, is not sent. In a pipe that ends with
    /// an archive, the last instance to end sends it as the archive's last block, which has no data
    /// and the mark [`Marks::LAST`](crate::pool::Marks::LAST).
    End,
}

/// Makes one block from one block, out of place.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `Transform`",
    label = "does not work out of place",
    note = "a stage that implements `InPlace` is made with `Stage::in_place`, one that \
            implements `Analyze` with `Stage::analyze`, and one that implements `Inspect` with \
            `Stage::inspect`"
)]
pub trait Transform: Send {
    /// Reads `input` and writes the result to `output`, which is empty. The information that
    /// earlier stages attached to the input ([`Block::info`]) has already been copied to `output`.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError>;

    /// Receives the number of a vacant block: an earlier stage has dropped the block, and only its
    /// number travels on. For stages to which numbers have a meaning; by default it does nothing.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn on_vacant(&mut self, number: Number) -> Result<(), StageError> {
        let _ = number;
        Ok(())
    }

    /// True if the stage wants to see control blocks too: [`BlockInfo::is_control`]. By default
    /// they pass it, in their place in the order. It cannot drop the last block of an archive.
    fn takes_control_blocks(&self) -> bool {
        false
    }

    /// Called once for each instance, after the stage's last block, if the stream ended well up to
    /// here. By default it does nothing.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn finish(&mut self) -> Result<(), StageError> {
        Ok(())
    }
}

/// Makes several blocks from one, or none: records in another form, say, that are longer than they
/// were. [`Stage::flat_map`](super::Stage::flat_map) describes a stage that does this.
pub trait FlatMap: Send {
    /// Reads `input` and writes the results to blocks of `outputs`, up to the number with which the
    /// stage was described. An input without any output ends here.
    ///
    /// In a process, the same input must always give the same outputs: if the process is killed
    /// between two of them, its replacement makes them all again, and those that were sent before
    /// are not sent twice.
    ///
    /// # Errors
    ///
    /// An error stops the pipe. Outputs that were sent before have gone on.
    fn flat_map(&mut self, input: &Block, outputs: &mut Outputs<'_>) -> Result<(), StageError>;
}

/// Changes a block in place. In a process it changes a copy, so that a process that is killed
/// leaves the block as it was.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `InPlace`",
    label = "does not work in place",
    note = "a stage that implements `Transform` is made with `Stage::transform`, one that \
            implements `Analyze` with `Stage::analyze`, and one that implements `Inspect` with \
            `Stage::inspect`"
)]
pub trait InPlace: Send {
    /// Changes the block's data, its length or its information. It may use headroom and tailroom.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError>;

    /// Receives the number of a vacant block: an earlier stage has dropped the block, and only its
    /// number travels on. For stages to which numbers have a meaning; by default it does nothing.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn on_vacant(&mut self, number: Number) -> Result<(), StageError> {
        let _ = number;
        Ok(())
    }

    /// True if the stage wants to see control blocks too: [`BlockInfo::is_control`]. By default
    /// they pass it, in their place in the order. It cannot drop the last block of an archive.
    fn takes_control_blocks(&self) -> bool {
        false
    }

    /// Called once for each instance, after the stage's last block, if the stream ended well up to
    /// here. By default it does nothing.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn finish(&mut self) -> Result<(), StageError> {
        Ok(())
    }
}

/// Reads a block without changing its data.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `Analyze`",
    label = "does not analyze",
    note = "a stage that implements `Transform` is made with `Stage::transform`, one that \
            implements `InPlace` with `Stage::in_place`, and one that implements `Inspect` with \
            `Stage::inspect`"
)]
pub trait Analyze: Send {
    /// Reads the data and records its findings in `info`.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn analyze(&mut self, data: &[u8], info: &mut BlockInfo) -> Result<(), StageError>;
}

/// Decision of a stage about what it sends on.
///
/// Exhaustive: a stage that wraps another one can handle every decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum Verdict {
    /// Sends the output; for a stage that works in place, the block.
    Send,
    /// Sends the input unchanged. The same as `Send` for a stage that works in place.
    SendInput,
    /// Sends nothing: the block ends here.
    Drop,
}

/// Writes blocks: the last stage of a pipe.
pub trait Tail: Send {
    /// Name of the stage in status, reports and errors.
    fn name(&self) -> &str {
        "tail"
    }

    /// Writes one block.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn write(&mut self, block: &Block) -> Result<(), StageError>;

    /// Writes one block, and blocks that come after it: those that are there before the last one is
    /// written. Only tails of the library do that.
    #[doc(hidden)]
    fn write_ahead(&mut self, block: Block, following: &Following<'_>) -> Result<(), StageError> {
        let _ = following;
        self.write(&block)
    }

    /// Flushes, syncs and closes the destination. Called once for each instance, after all of them
    /// have written every block of a stream that ended well. It is not called if the pipe was
    /// cancelled or has failed, so anything that only this call writes marks a complete stream.
    ///
    /// # Errors
    ///
    /// An error means that the job did not end well.
    fn finish(&mut self) -> Result<(), StageError> {
        Ok(())
    }

    /// True if the tail wants to see control blocks too: [`BlockInfo::is_control`]. By default they
    /// are freed.
    fn takes_control_blocks(&self) -> bool {
        false
    }

    /// Adds to the stage's description what a process needs to make this tail there, as
    /// [`Head::describe`] does.
    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        stage
    }
}
