//! The tail of a pipe that writes an archive.

use std::fmt;

use crate::crypto::TAG_LEN;
use crate::error::StageError;
use crate::limits::{MAX_CHUNK_BLOCKS, MAX_SPECIALS};
use crate::media::{HandleError, MediumWriter, Position};
use crate::pool::{Block, BlockInfo, Marks};
use crate::stage::{Tail, TailStage};
use crate::wire::{
    ArchiveEntry, ArchiveFooter, BlockKind, CipherKind, Framing, SessionFooter, UnitHeader,
    UnitKind,
};

use super::super::arguments;
use super::super::block_header::{check_info, unit_header};
use super::super::plan_data::PlanData;
use super::super::report::WriteReport;
use super::content::check_content;
use super::unit_writer::UnitWriter;

/// The tail of a pipe that writes an archive.
///
/// It writes a session with this one archive. Blocks must reach it in the order of the stream and,
/// if the archive is encrypted, from its own seal: the tail does not have the key. The stream ends
/// with a last block, without which the archive is not complete. When the pipe reports success
/// everything is on stable storage; if the pipe fails, everything up to the last chunk is.
pub(in crate::archive) struct ArchiveTail<M> {
    plan: PlanData,
    stream: UnitWriter<M>,
    report: WriteReport,
    /// Number of the next block, which is the number of blocks so far.
    next: u64,
    /// The last block was among them.
    has_last: bool,
    /// Offset of the next block in the plain stream: the plain bytes of those blocks, control
    /// blocks not counted.
    offset: u64,
    /// Plain bytes of those blocks, rejected ones not counted either.
    plain: u64,
    /// Number of those blocks that inspection rejected.
    rejected: u64,
    /// Number of those blocks that are special headers.
    specials: usize,
    /// First block of the catalogue's closing run.
    catalogue: Option<u64>,
    /// Position in the stream at which the open chunk began; `None` if no chunk is open.
    chunk_start: Option<u64>,
    /// Number of the chunk that is open, or that will be opened next.
    chunk: u32,
}

impl<M: MediumWriter> ArchiveTail<M> {
    pub(in crate::archive) fn new(plan: PlanData, medium: M, report: WriteReport) -> Self {
        let stream = UnitWriter::new(medium, &plan.session);
        Self {
            plan,
            stream,
            report,
            next: 0,
            has_last: false,
            offset: 0,
            plain: 0,
            rejected: 0,
            specials: 0,
            catalogue: None,
            chunk_start: None,
            chunk: 0,
        }
    }

    /// Begins the first volume and writes both headers, once.
    fn begin(&mut self) -> Result<(), StageError> {
        if self.stream.is_begun() {
            return Ok(());
        }
        let session = self.plan.session.to_bytes();
        let header = UnitHeader::new(UnitKind::SessionHeader);
        self.stream.add_to_label(header, &session)?;
        self.stream.begin_volume()?;
        self.stream.write_unit(header, &session)?;
        let archive = self.plan.header.to_bytes();
        let header = UnitHeader {
            archive: ARCHIVE,
            ..UnitHeader::new(UnitKind::ArchiveHeader)
        };
        self.stream.add_to_label(header, &archive)?;
        self.stream.write_unit(header, &archive)
    }

    /// Opens a chunk, with its header if the framing asks for one.
    fn begin_chunk(&mut self) -> Result<(), StageError> {
        self.chunk_start = Some(self.stream.end());
        let has_header = match self.plan.session.framing {
            Framing::Header | Framing::HeaderFooter => true,
            Framing::Once => self.chunk == 0,
        };
        if has_header {
            let header = UnitHeader {
                number: self.next,
                ..self.header(UnitKind::ChunkHeader)
            };
            self.stream.write_unit(header, &[])?;
        }
        Ok(())
    }

    /// Closes the open chunk, if one is open: writes its footer, if the framing asks for one, and
    /// a mark, and waits for stable storage.
    ///
    /// With [`Framing::Once`] only the last chunk has a footer. It is open at the end of the stream
    /// (`is_last`), because the last block is in it.
    fn end_chunk(&mut self, is_last: bool) -> Result<(), StageError> {
        let was_open = self.chunk_start.take().is_some();
        let has_footer = match self.plan.session.framing {
            Framing::Header => false,
            Framing::HeaderFooter => was_open,
            Framing::Once => was_open && is_last,
        };
        if has_footer {
            // The footer lists the records of the blocks, so these must be written first.
            self.stream.flush()?;
            self.stream.index.begin_footer(self.stream.end());
            let header = UnitHeader {
                number: self.stream.index.first_of_last_chunk(),
                ..self.header(UnitKind::ChunkFooter)
            };
            let (session, archive) = (self.plan.session.to_bytes(), self.plan.header.to_bytes());
            let footer = self.stream.index.take_chunk_footer(session, archive);
            self.stream.write_unit(header, &footer.to_bytes())?;
        }
        let written = self.stream.flush()?;
        self.stream.index.close_chunk();
        self.chunk = self.chunk.wrapping_add(u32::from(was_open));
        if written.is_none() {
            // There is a mark here already, and two in a row mean the end of a tape.
            return Ok(());
        }
        self.stream.checkpoint(1)?;
        let (blocks, plain) = (self.blocks(), self.plain);
        self.report
            .update(|outcome| (outcome.safe_blocks, outcome.safe_plain) = (blocks, plain));
        Ok(())
    }

    /// Writes everything that follows the last chunk: locator, archive footer and session footer,
    /// each beginning in a record of its own, and two marks.
    fn end(&mut self) -> Result<(), StageError> {
        let locator = self.stream.end();
        let body = self.stream.index.take_locator().to_bytes();
        self.stream
            .write_unit(self.header(UnitKind::Locator), &body)?;
        self.stream.flush()?;

        let (position, blocks) = (self.stream.end(), self.next);
        let footer = ArchiveFooter {
            blocks,
            plain: self.offset,
            rejected: self.rejected,
            catalogue: self.catalogue.unwrap_or(blocks),
        };
        let header = UnitHeader {
            number: blocks,
            ..self.header(UnitKind::ArchiveFooter)
        };
        self.stream.write_unit(header, &footer.to_bytes())?;
        let place = self.stream.flush()?.unwrap_or(Position::start_of(0));

        let footer = SessionFooter {
            archives: vec![ArchiveEntry {
                id: self.plan.header.id,
                blocks,
                place,
                position,
                locator,
            }],
        };
        let header = UnitHeader::new(UnitKind::SessionFooter);
        self.stream.write_unit(header, &footer.to_bytes())?;
        self.stream.flush()?;
        self.stream.checkpoint(2)
    }

    /// Returns a header of this archive and the current chunk.
    fn header(&self, kind: UnitKind) -> UnitHeader {
        UnitHeader {
            archive: ARCHIVE,
            chunk: self.chunk,
            ..UnitHeader::new(kind)
        }
    }

    /// Returns the length of a block's data without its tag.
    ///
    /// # Errors
    ///
    /// If the block is damaged, or its encryption is not that of this archive.
    fn data_len(&self, block: &Block, info: &BlockInfo) -> Result<usize, StageError> {
        let number = self.next;
        if info.marks.contains(Marks::DAMAGED) {
            return Err(StageError::new(format!(
                "block {number} is damaged, which an archive cannot record: restore what can be \
                 read, and archive the result"
            )));
        }
        let is_encrypted = self.plan.header.cipher != CipherKind::None;
        let defect = match (info.sealed, is_encrypted) {
            (true, false) => Some("is encrypted, but the archive is not"),
            (false, true) => Some(
                "is not encrypted, but the archive is: add the archive with PipeBuilder::archive, \
                 which adds its seal",
            ),
            (true, true) if info.sequence != Some(number) => Some(
                "was encrypted as another number: let no stage drop or add blocks between seal and \
                 tail",
            ),
            _ => None,
        };
        if let Some(defect) = defect {
            return Err(StageError::new(format!("block {number} {defect}")));
        }
        let tag = if info.sealed { TAG_LEN } else { 0 };
        block.len().checked_sub(tag).ok_or_else(|| {
            StageError::new(format!(
                "block {number} has {} bytes, fewer than its tag, which has {tag}",
                block.len()
            ))
        })
    }

    /// Writes a block, and closes the chunk before or after it where that is due.
    fn add_block(&mut self, block: &Block) -> Result<(), StageError> {
        let (info, number) = (block.info(), self.next);
        if self.has_last {
            return Err(StageError::new(format!(
                "block {number} comes after the last block of the archive: no stage sends after \
                 it, or sets the mark LAST"
            )));
        }
        check_info(number, &info)?;
        self.check_special(&info)?;
        check_content(self.plan.header.content, &info, number)?;
        let len = self.data_len(block, &info)?;
        if info.kind == BlockKind::ClosingCatalogue.code() && self.catalogue.is_none() {
            self.catalogue = Some(number);
            if self.chunk_start.is_some() {
                // The closing run begins with a chunk, because the locator lists the starts of
                // chunks.
                self.end_chunk(false)?;
            }
        }
        if self.chunk_start.is_none() {
            self.begin_chunk()?;
        }
        let header = UnitHeader {
            archive: ARCHIVE,
            chunk: self.chunk,
            offset: self.offset,
            ..unit_header(number, &info, len)?
        };
        if header.plain > self.plan.header.block_len {
            return Err(StageError::new(format!(
                "block {number} has {} bytes, but the archive was planned for blocks of {}: give \
                 ArchiveOptions::block_len the pipe's buffer size, and more if stages use headroom \
                 or tailroom",
                header.plain, self.plan.header.block_len
            )));
        }
        self.stream.write_unit(header, block.bytes())?;
        self.count(&header)?;
        let (blocks, plain, rejected) = (self.blocks(), self.plain, self.rejected);
        let volumes = self.stream.volume();
        self.report.update(|outcome| {
            (outcome.blocks, outcome.plain, outcome.rejected) = (blocks, plain, rejected);
            outcome.volumes = volumes;
        });
        let written = self.stream.end() - self.chunk_start.unwrap_or_default();
        let is_full = written >= self.plan.chunk_len
            || self.stream.index.open_blocks() as usize >= MAX_CHUNK_BLOCKS;
        // The end of the stream closes the last chunk, and its footer.
        if !self.has_last && (is_full || info.marks.contains(Marks::CHUNK)) {
            self.end_chunk(false)?;
        }
        Ok(())
    }

    /// Counts a special header, and refuses one that no reader would take.
    fn check_special(&mut self, info: &BlockInfo) -> Result<(), StageError> {
        self.specials += usize::from(info.kind == BlockKind::Special.code());
        if self.specials <= MAX_SPECIALS {
            return Ok(());
        }
        Err(StageError::new(format!(
            "block {} is a special header, and the archive has {MAX_SPECIALS}, the limit: send \
             fewer, those of an archive that is copied included",
            self.next
        )))
    }

    /// Counts a block that was written.
    fn count(&mut self, header: &UnitHeader) -> Result<(), StageError> {
        let is_rejected = header.marks.contains(Marks::REJECTED);
        if header.block_kind.counts_in_offsets() {
            let end = self.offset.checked_add(header.plain.into());
            self.offset = end.ok_or_else(|| {
                StageError::new(format!(
                    "block {} ends past the largest offset of a stream, {}",
                    self.next,
                    u64::MAX
                ))
            })?;
            self.plain += if is_rejected { 0 } else { header.plain.into() };
        }
        self.next += 1;
        self.has_last = header.marks.contains(Marks::LAST);
        self.rejected += u64::from(is_rejected);
        Ok(())
    }

    /// Number of the blocks so far, the last one of the stream not counted.
    fn blocks(&self) -> u64 {
        self.next - u64::from(self.has_last)
    }

    /// Refuses an archive without any data, if the medium has content.
    fn check_not_empty(&self) -> Result<(), StageError> {
        if self.next > self.specials as u64 || self.stream.accepts_empty() {
            return Ok(());
        }
        Err(StageError::new(
            "there is no data to archive, and the medium has content, which is kept: see why the \
             source is empty, or set VolumeOptions::allow_empty to replace the content all the \
             same",
        ))
    }
}

/// Number of the archive in its session.
const ARCHIVE: u32 = 1;

impl<M: MediumWriter> Tail for ArchiveTail<M> {
    fn name(&self) -> &str {
        "archive-tail"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        if block.info().marks.contains(Marks::LAST) {
            self.check_not_empty()?;
        }
        self.begin()?;
        self.add_block(block)
    }

    fn takes_control_blocks(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), StageError> {
        if !self.has_last {
            return Err(StageError::new(format!(
                "the last block of the archive has not come after block {}: a tail of an archive \
                 runs in a pipe that was built with PipeBuilder::archive",
                self.next
            )));
        }
        self.end_chunk(true)?;
        self.end()?;
        self.stream.finish()?;
        let volumes = self.stream.volume();
        self.report
            .update(|outcome| (outcome.complete, outcome.volumes) = (true, volumes));
        Ok(())
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        let stage = stage.writes_archive().notices(self.report.notices());
        match self.stream.medium_handle() {
            Ok(medium) => arguments::describe_tail(stage, &self.plan, medium, &self.report),
            Err(why @ HandleError::Io { .. }) => stage.local_at_limit(why.to_string()),
            Err(why) => stage.local(why.to_string()),
        }
    }
}

impl<M> fmt::Debug for ArchiveTail<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveTail")
            .field("blocks", &self.next)
            .finish_non_exhaustive()
    }
}
