//! Checkpoints, as heads send them: blocks that say how far the head has come, and end a chunk of
//! the archive. [`Checkpoint`] has their content.

use std::time::Instant;

use crate::limits::{CHECKPOINT_TIME, MAX_CHECKPOINT_STATE};
use crate::pool::{Block, BlockInfo, HeadPort, Marks, NoRoom, PortError};
use crate::wire::{BlockKind, Checkpoint};

/// Decides when a head makes its next checkpoint.
#[derive(Debug, Default)]
pub(crate) struct CheckpointClock {
    /// Bytes of data since the last one.
    bytes: u64,
    /// Time of the last one, or of the first question.
    since: Option<Instant>,
}

/// True if a head whose [`Block::checkpoint_every`] is this makes checkpoints after so many bytes.
pub(crate) fn has_checkpoints(every: u64) -> bool {
    !matches!(every, 0 | u64::MAX)
}

impl CheckpointClock {
    /// Counts data that were sent.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// True if there are new data, and enough of them, or some time has passed. `every` is
    /// [`Block::checkpoint_every`].
    pub(crate) fn is_due(&mut self, every: u64) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        has_checkpoints(every)
            && self.bytes > 0
            && (self.bytes >= every || since.elapsed() >= CHECKPOINT_TIME)
    }

    /// Begins anew after a checkpoint.
    pub(crate) fn restart(&mut self) {
        (self.bytes, self.since) = (0, Some(Instant::now()));
    }
}

/// Puts a block of a checkpoint into an empty block; after the last one the chunk ends.
pub(crate) fn put_checkpoint(
    block: &mut Block,
    bytes: &[u8],
    is_last: bool,
    info: BlockInfo,
) -> Result<(), NoRoom> {
    block.put(bytes)?;
    block.set_info(BlockInfo {
        kind: BlockKind::Checkpoint.code(),
        marks: if is_last {
            Marks::CHUNK
        } else {
            Marks::default()
        },
        ..info
    });
    Ok(())
}

impl HeadPort {
    /// Makes a checkpoint in the archive that the pipe writes: `state`, at most
    /// [`MAX_CHECKPOINT_STATE`] bytes, says how far the application has come. It comes after all
    /// that was sent before, and is encrypted as data are. With it a chunk of the archive ends: all
    /// of it is on stable storage before the next block is written.
    ///
    /// Returns false, and does nothing, in a pipe that has no checkpoints: it does not end with an
    /// archive, or a stage may keep data back, as a loop over a port may.
    ///
    /// Readers pass over checkpoints.
    ///
    /// ```
    /// use datapipe::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("database.tap");
    ///
    /// let head = Stage::head_port("database", |port| {
    ///     for page in 0..100_u64 {
    ///         let mut block = port.alloc()?;
    ///         block.put(&[page as u8; 8192])?;
    ///         port.send(block)?;
    ///         if page % 50 == 49 {
    ///             port.checkpoint(&page.to_le_bytes())?;
    ///         }
    ///     }
    ///     Ok(())
    /// });
    /// let archive = ArchiveOptions::stream("database").plan()?;
    /// let tape = VirtualTape::create(&path, VolumeOptions::default())?;
    /// Pipe::builder().head(head).archive(archive, tape).run()?;
    ///
    /// let reader = ArchiveReader::open(VirtualTape::open(&path)?, None)?;
    /// let mut restored = Vec::new();
    /// reader.read().pipe.tail(StreamRestore::new(&mut restored)).run()?;
    /// assert_eq!(restored.len(), 100 * 8192);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PortError::Misuse`] if `state` is longer; errors of [`alloc`](Self::alloc) and
    /// [`send`](Self::send).
    pub fn checkpoint(&self, state: &[u8]) -> Result<bool, PortError> {
        if state.len() > MAX_CHECKPOINT_STATE {
            return Err(PortError::Misuse("a checkpoint has more than 4,096 bytes"));
        }
        if self.core().checkpoint_every() == 0 {
            return Ok(false);
        }
        let mut first = Some(self.alloc()?);
        let capacity = first.as_ref().map_or(0, Block::capacity);
        let no_room = "a checkpoint does not fit into a block";
        let blocks = Checkpoint::Application(state.to_vec()).to_blocks(capacity);
        let blocks = blocks.map_err(|_| PortError::Misuse(no_room))?;
        for (n, bytes) in blocks.iter().enumerate() {
            let mut block = match first.take() {
                Some(block) => block,
                None => self.alloc()?,
            };
            let is_last = n + 1 == blocks.len();
            put_checkpoint(&mut block, bytes, is_last, BlockInfo::default())
                .map_err(|_| PortError::Misuse(no_room))?;
            self.send(block)?;
        }
        Ok(true)
    }
}
