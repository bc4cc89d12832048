//! Checkpoints of a stream: its offset, and a digest of all data before it.

use crate::cells::Digest;
use crate::error::StageError;
use crate::pool::{Block, BlockInfo};
use crate::stage::checkpoint::{CheckpointClock, put_checkpoint};
use crate::wire::{Checkpoint, StreamCheckpoint};

/// The checkpoints of a [`StreamHead`](super::StreamHead).
#[derive(Debug)]
pub(super) struct StreamCheckpoints {
    clock: CheckpointClock,
    /// Digest of all data so far, in a pipe that has checkpoints.
    digest: Digest,
}

impl Default for StreamCheckpoints {
    fn default() -> Self {
        Self {
            clock: CheckpointClock::default(),
            digest: Digest::new(),
        }
    }
}

impl StreamCheckpoints {
    /// Fills an empty block with a checkpoint, if one is due. Returns false if none is. `offset` is
    /// that of the next byte to be read.
    pub(super) fn fill(&mut self, block: &mut Block, offset: u64) -> Result<bool, StageError> {
        if !self.clock.is_due(block.checkpoint_every()) {
            return Ok(false);
        }
        let checkpoint = Checkpoint::Stream(StreamCheckpoint {
            offset,
            cells: self.digest.chain_at(offset),
            begun: self.digest.begun(),
        });
        let info = BlockInfo {
            offset,
            ..BlockInfo::default()
        };
        for bytes in checkpoint.to_blocks(block.capacity())? {
            put_checkpoint(block, &bytes, true, info)?;
        }
        self.clock.restart();
        Ok(true)
    }

    /// Adds data that begin at `offset`, in a pipe that has checkpoints.
    pub(super) fn add(&mut self, offset: u64, data: &[u8]) {
        self.digest.add(offset, data);
        self.clock.add(data.len());
    }
}
