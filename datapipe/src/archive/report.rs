//! What became of an archive that was written or read.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::StageError;
use crate::media::Place;
use crate::stage::{Damage, DamageLog};

use super::units;

/// What a reader found, for whoever runs the pipe. Clones share one content.
#[derive(Clone, Debug, Default)]
pub struct ReadReport(Arc<Mutex<ReadOutcome>>);

/// How far an archive was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOutcome {
    /// The archive's footer was found, and says that these were all blocks.
    pub complete: bool,
    /// Blocks that were read; damaged ones are not.
    pub blocks: u64,
    /// Blocks that should be there and are not, as far as is known.
    pub missing: u64,
    /// Those of the blocks that inspection had rejected when the archive was written: they have no content.
    pub rejected: u64,
    /// Bytes before compression of the blocks that were read.
    pub plain: u64,
    /// Number of the first block behind the last file mark: what lies before it was on stable storage.
    pub checkpoint: u64,
}

impl ReadReport {
    /// The state of the matter.
    pub fn outcome(&self) -> ReadOutcome {
        *self.0.lock()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut ReadOutcome)) {
        change(&mut self.0.lock());
    }
}

/// How far the writing of an archive has come, for whoever runs the pipe. Clones share one content.
#[derive(Clone, Debug, Default)]
pub struct WriteReport(Arc<Mutex<WriteOutcome>>);

/// How far an archive was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOutcome {
    /// Blocks that were written, and their bytes before compression.
    pub blocks: u64,
    /// See [`blocks`](Self::blocks).
    pub plain: u64,
    /// Blocks up to the last checkpoint: they are on stable storage, whatever happens.
    pub safe_blocks: u64,
    /// The bytes of those before compression.
    pub safe_plain: u64,
    /// The archive is whole, and all of it is on stable storage.
    pub complete: bool,
}

impl WriteReport {
    /// The state of the matter.
    pub fn outcome(&self) -> WriteOutcome {
        *self.0.lock()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut WriteOutcome)) {
        change(&mut self.0.lock());
    }
}

/// Where damage goes: to a log, and the reader goes on; or to the caller, and it stops.
#[derive(Clone, Debug, Default)]
pub(super) struct Reporter {
    pub(super) log: Option<DamageLog>,
}

impl Reporter {
    pub(super) fn say(&self, found: units::Damage) -> Result<(), StageError> {
        let damage = Damage {
            block: found.block,
            place: found.place.map(|place| place.to_string()),
            what: found.what,
        };
        match &self.log {
            Some(log) => {
                log.add(damage);
                Ok(())
            }
            None => Err(StageError::new(damage.to_string())),
        }
    }

    pub(super) fn note_place(&self, block: u64, place: Option<Place>) {
        if let (Some(log), Some(place)) = (&self.log, place) {
            log.note_place(block, place);
        }
    }
}
