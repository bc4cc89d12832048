//! The end of an archive of a session, by the units of what follows it.

use crate::wire::{UnitHeader, UnitKind};

/// Judges if the units of later archives, or of the end of the session, end the archive that is
/// read.
///
/// Nothing proves a unit's header, and one that is forged or out of place must not cost all blocks
/// after it. So such units count only where none of the archive comes between them, over many bytes
/// of the stream.
#[derive(Debug)]
pub(super) struct Ending {
    archive: u32,
    /// Bytes of the stream after which the archive has ended.
    reach: u64,
    /// Position of the first unit of what follows, after the last one of the archive.
    since: Option<u64>,
}

/// Bytes of the stream that are read on after an archive: more than its longest unit.
const REACH: u64 = 128 << 20;

/// As [`REACH`], for each of the runs of an archive of which only some blocks are read: a hostile
/// index may name many places after it.
const REACH_OF_RUN: u64 = 1 << 20;

impl Ending {
    /// Starts in an archive, of which only runs of blocks may be read.
    pub(super) fn new(archive: u32, is_partial: bool) -> Self {
        Self {
            archive,
            reach: if is_partial { REACH_OF_RUN } else { REACH },
            since: None,
        }
    }

    /// True if a unit belongs to what follows the archive, as it says.
    fn is_after(&self, header: &UnitHeader) -> bool {
        header.archive > self.archive || header.kind == UnitKind::SessionFooter
    }

    /// Notes the next unit. Returns true if the archive has ended before it.
    pub(super) fn has_come(&mut self, header: &UnitHeader) -> bool {
        if header.archive == self.archive {
            self.since = None;
        }
        if !self.is_after(header) {
            return false;
        }
        let since = *self.since.get_or_insert(header.position);
        header.position.saturating_sub(since) >= self.reach
    }

    /// Goes on at another position.
    pub(super) fn moved(&mut self) {
        self.since = None;
    }
}
