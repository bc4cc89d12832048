//! Check of a catalogue's closing run, before it is used instead of the objects.

use std::fmt;

use crate::error::StageError;
use crate::pool::{Block, Marks};
use crate::stage::{Tail, TailStage};
use crate::wire::{BlockKind, EntryBody, EntryCopy};

use super::closing_run::ClosingRun;

/// Tail that checks the closing run of a catalogue: an [`Index`](crate::archive::Index), which says
/// where it is, is not authenticated.
///
/// It takes the blocks of [`Index::catalogue`](crate::archive::Index::catalogue). Its pipe fails if
/// a block or an entry is damaged, if the run does not begin with its start, has another number of
/// objects than the start says, or none, or if there are other blocks than the run's. A catalogue
/// can be used if the pipe ends well and the reading has
/// [reached the end](crate::archive::ReadOutcome::reached_end). Otherwise read all blocks: what
/// [`TreeList`](crate::tree::TreeList) gets from other blocks can lack objects.
/// [`TreeReader`](crate::tree::TreeReader) does all of this itself.
///
/// ```no_run
/// use datapipe::prelude::*;
/// use datapipe::tree::{CatalogueCheck, TreeList};
///
/// let reader = ArchiveReader::open(VirtualTape::open("nightly.tap")?, None)?;
/// let index = reader.index()?;
/// let reading = reader.read_blocks(&index, &index.catalogue())?;
/// let is_intact = reading.pipe.tail(CatalogueCheck::new()).run().is_ok();
/// let reading = match is_intact && reading.report.snapshot().reached_end() {
///     true => reader.read_blocks(&index, &index.catalogue())?,
///     false => reader.read(),
/// };
/// let list = TreeList::new(|object| {
///     println!("{}", object.path.escape_ascii());
///     Ok(())
/// });
/// reading.pipe.tail(list).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct CatalogueCheck {
    copy: EntryCopy,
    closing: ClosingRun,
}

impl CatalogueCheck {
    /// Creates a check.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Tail for CatalogueCheck {
    fn name(&self) -> &str {
        "catalogue-check"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let (info, number) = (block.info(), block.archive_number());
        if info.is_control() {
            self.copy.pass(number);
            return Ok(());
        }
        let has_content = !info.marks.intersects(Marks::DAMAGED | Marks::REJECTED);
        if !has_content || info.kind != BlockKind::ClosingCatalogue.code() {
            return Err(StageError::new(format!(
                "block {number} is not a valid one of the catalogue, which is not used"
            )));
        }
        let entries = self.copy.fetch(block.shared(), number, info.kind);
        for fetched in entries.iter() {
            let body = fetched.map_err(|damaged| damaged.error)?.entry.body;
            if matches!(body, EntryBody::Piece(_)) {
                return Err(StageError::new(format!(
                    "block {number}: an entry of the catalogue is in parts, and some are missing"
                )));
            }
            self.closing.add(&body);
        }
        Ok(())
    }

    /// They have numbers, and a gap between the pieces of an entry is a loss.
    fn takes_control_blocks(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.closing.check_found().map_err(StageError::new)
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        stage.local("its result belongs to this program: run it on a thread")
    }
}

impl fmt::Debug for CatalogueCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogueCheck").finish_non_exhaustive()
    }
}
