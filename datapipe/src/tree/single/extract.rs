//! The tail that passes on the data of one file, and checks them.

use std::mem;

use crate::cells::Digest;
use crate::error::StageError;
use crate::pool::{Block, Marks};
use crate::stage::{Tail, TailStage};
use crate::wire::{
    BlockKind, DIGEST_LEN, DamagedEntry, Entry, EntryBody, EntryCopy, ObjectEnd, ObjectKind,
    ObjectState,
};

use super::find::FoundObject;

/// Reads the extents of one file from the blocks that it receives.
///
/// Extents that do not follow each other, a wrong digest and a missing end are the
/// [defect](Extraction::defect) of the file, and nothing is passed on after one is found.
#[derive(Debug)]
pub(super) struct ExtractTail<'a, F> {
    wanted: &'a FoundObject,
    visit: F,
    /// Number of the object, once its first entry has come.
    number: Option<u64>,
    digest: Digest,
    /// Copy of the entries of the block that is read.
    copy: EntryCopy,
    extraction: &'a mut Extraction,
}

/// Progress and result of an extraction.
#[derive(Debug, Default)]
pub(super) struct Extraction {
    /// Size of the file, when its end has come.
    pub(super) size: Option<u64>,
    pub(super) state: ObjectState,
    /// The digest that the archive has of the file.
    pub(super) digest: Option<[u8; DIGEST_LEN]>,
    /// Bytes of data that were passed on, and the end of the last of them in the file.
    pub(super) bytes: u64,
    pub(super) end: u64,
    /// Reason why the data are not those of the file.
    pub(super) defect: Option<String>,
}

impl<'a, F: FnMut(u64, &[u8]) -> Result<(), StageError> + Send> ExtractTail<'a, F> {
    /// Creates a tail that calls `visit` with offset and data of each extent. An error from it ends
    /// the pipe.
    pub(super) fn new(wanted: &'a FoundObject, visit: F, extraction: &'a mut Extraction) -> Self {
        Self {
            wanted,
            visit,
            number: None,
            digest: Digest::new(),
            copy: EntryCopy::default(),
            extraction,
        }
    }

    fn is_done(&self) -> bool {
        self.extraction.size.is_some() || self.extraction.defect.is_some()
    }

    fn fail(&mut self, why: impl Into<String>) {
        self.extraction.defect.get_or_insert_with(|| why.into());
    }

    /// Processes an entry that begins at `start`.
    fn entry(&mut self, entry: &Entry<'_>, start: (u64, usize)) -> Result<(), StageError> {
        let Some(number) = self.number else {
            let (first, _) = self.wanted.blocks;
            if start == (first, self.wanted.offset as usize)
                && let EntryBody::Object(object) = entry.body
                && object.kind == ObjectKind::File
                && object.path == self.wanted.path
            {
                self.number = Some(entry.object);
            }
            return Ok(());
        };
        if entry.object != number {
            return Ok(());
        }
        match entry.body {
            EntryBody::Object(_) => self.fail("its object entry is repeated"),
            EntryBody::Extent(at, _) if at < self.extraction.end => self.fail(format!(
                "overlapping extents: one begins at byte {at}, the one before ends at byte {}",
                self.extraction.end
            )),
            // The format rejects an extent whose end has more than 63 bits.
            EntryBody::Extent(at, data) if at + data.len() as u64 > self.wanted.size => {
                self.fail("has data beyond its recorded size");
            }
            EntryBody::Extent(at, data) => {
                self.digest.add(at, data);
                self.extraction.end = at + data.len() as u64;
                self.extraction.bytes += data.len() as u64;
                (self.visit)(at, data)?;
            }
            EntryBody::End(end) => self.end(&end),
            EntryBody::Piece(_) => self.fail("a part of one of its entries is missing"),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, end: &ObjectEnd) {
        (self.extraction.state, self.extraction.digest) = (end.state, end.digest);
        let digest = self.digest.finish(end.size);
        if end.size != self.wanted.size {
            self.fail(format!(
                "its size is {} bytes, and the catalogue has {}",
                end.size, self.wanted.size
            ));
        } else if end.digest.is_some_and(|recorded| recorded != digest) {
            self.fail("its digest is wrong");
        } else {
            self.extraction.size = Some(end.size);
        }
    }
}

impl<F: FnMut(u64, &[u8]) -> Result<(), StageError> + Send> Tail for ExtractTail<'_, F> {
    fn name(&self) -> &str {
        "read-file"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let info = block.info();
        let number = block.archive_number();
        let (first, last) = self.wanted.blocks;
        if self.is_done() || !(first..=last).contains(&number) {
            return Ok(());
        }
        if info.marks.intersects(Marks::DAMAGED | Marks::REJECTED) {
            self.fail(format!("block {number} of it has no content"));
            return Ok(());
        }
        if info.kind != BlockKind::Data.code() || info.is_control() {
            self.copy.pass(number);
            return Ok(());
        }
        let mut copy = mem::take(&mut self.copy);
        for fetched in copy.fetch(block.shared(), number, info.kind).iter() {
            match fetched {
                Ok(fetched) => self.entry(&fetched.entry, fetched.start)?,
                Err(DamagedEntry { offset, error, .. }) => {
                    self.fail(format!("block {number}, byte {offset}: {error}"));
                }
            }
            if self.is_done() {
                break;
            }
        }
        self.copy = copy;
        Ok(())
    }

    /// They have numbers, and a gap between the pieces of an entry is a loss.
    fn takes_control_blocks(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), StageError> {
        if self.number.is_none() {
            let (block, byte) = (self.wanted.blocks.0, self.wanted.offset);
            self.fail(format!(
                "is not in block {block}, byte {byte}, where the catalogue has it"
            ));
        } else if self.extraction.size.is_none() {
            self.fail("its end is missing");
        }
        Ok(())
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        stage.local("its function belongs to this program: run it on a thread")
    }
}
