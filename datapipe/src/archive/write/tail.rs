//! The tail of a pipe that writes an archive.

use std::fmt;

use crate::crypto::TAG_LEN;
use crate::error::StageError;
use crate::limits::{FIRST_BLOCK, MAX_CHUNK_BLOCKS, MAX_SPECIALS};
use crate::media::{HandleError, MediumWriter, Position};
use crate::pool::{Block, BlockInfo, Marks};
use crate::stage::{Tail, TailStage};
use crate::wire::{
    ArchiveFooter, BlockKind, CipherKind, Framing, Locator, LostBlocks, UnitHeader, UnitKind,
};

use super::super::arguments;
use super::super::block_header::{check_info, unit_header};
use super::super::plan_data::PlanData;
use super::super::report::WriteReport;
use super::super::seal::origin_info;
use super::content::check_content;
use super::copy::{copied_number, is_own_last};
use super::session::SessionPlace;
use super::session_writer::{ArchiveEnd, SessionWriter};
use super::unit_writer::UnitWriter;

/// The tail of a pipe that writes an archive.
///
/// It writes a session with this one archive, or an archive of a session that others follow. Blocks
/// must reach it in the order of the stream and, if the archive is encrypted, from its own seal:
/// the tail does not have the key. The stream ends with a last block, without which the archive is
/// not complete. When the pipe reports success everything is on stable storage; if the pipe fails,
/// everything up to the last sync is: one follows each chunk but those that end early.
pub(in crate::archive) struct ArchiveTail<M> {
    plan: PlanData,
    /// The session, from the first block on; before it, if the session is this archive's own.
    session: Option<SessionWriter<M>>,
    /// The place to which the session is returned, if it is not this archive's own.
    shared: Option<SessionPlace<M>>,
    /// Number of the archive in the session, from 1; 0 before it is begun.
    archive: u32,
    /// The archive's header is in a record that is not written yet.
    header_is_open: bool,
    report: WriteReport,
    /// Number of the next block: of the blocks so far, and, in a copy, of those that were lost.
    next: u64,
    /// Number of blocks that the source of a copy had lost.
    lost: u64,
    /// The last block was among them.
    has_last: bool,
    /// Offset of the next block in the plain stream: the plain bytes of those blocks, control
    /// blocks not counted.
    offset: u64,
    /// Plain bytes of those blocks, rejected ones not counted either.
    plain: u64,
    /// Number of those blocks that inspection rejected.
    rejected: u64,
    /// Block 0 is written, which has the origin.
    has_origin: bool,
    /// Number of the blocks that are special headers, the origin not counted.
    specials: usize,
    /// First block of the catalogue's closing run.
    catalogue: Option<u64>,
    /// Position in the stream at which the open chunk began; `None` if no chunk is open.
    chunk_start: Option<u64>,
    /// Number of the chunk that is open, or that will be opened next.
    chunk: u32,
    /// Position in the stream of the last locator.
    locator: u64,
    /// Position in the stream up to which it is on stable storage.
    synced: u64,
    /// First blocks of the last checkpoint and of the one that is not whole yet.
    checkpoint: Option<u64>,
    begun_checkpoint: Option<u64>,
    /// A call has not returned: if the tail is dropped then, the call has panicked.
    is_busy: bool,
}

impl<M: MediumWriter> ArchiveTail<M> {
    pub(in crate::archive) fn new(plan: PlanData, medium: M, report: WriteReport) -> Self {
        let session = SessionWriter::new(medium, plan.session.clone());
        Self::with(plan, Some(session), None, report)
    }

    /// The tail of an archive in a session that has others.
    pub(super) fn in_session(plan: PlanData, place: SessionPlace<M>, report: WriteReport) -> Self {
        Self::with(plan, None, Some(place), report)
    }

    fn with(
        plan: PlanData,
        session: Option<SessionWriter<M>>,
        shared: Option<SessionPlace<M>>,
        report: WriteReport,
    ) -> Self {
        Self {
            plan,
            session,
            shared,
            archive: 0,
            header_is_open: false,
            report,
            next: 0,
            lost: 0,
            has_last: false,
            offset: 0,
            plain: 0,
            rejected: 0,
            has_origin: false,
            specials: 0,
            catalogue: None,
            chunk_start: None,
            chunk: 0,
            locator: 0,
            synced: 0,
            checkpoint: None,
            begun_checkpoint: None,
            is_busy: false,
        }
    }

    /// The stream, once the archive was begun.
    fn stream(&mut self) -> &mut UnitWriter<M> {
        let session = self.session.as_mut();
        &mut session.expect("the archive was begun").units
    }

    /// Takes the session, if it is not this archive's own.
    fn take_session(&mut self) -> Result<(), StageError> {
        if let (None, Some(shared)) = (&self.session, &self.shared) {
            self.session = Some(shared.take()?);
        }
        Ok(())
    }

    /// Begins the archive in its session, once, with its origin. A copy gets that of its source.
    fn begin(&mut self) -> Result<(), StageError> {
        if self.archive > 0 {
            return Ok(());
        }
        let session = self.session.as_mut().expect("it was taken");
        self.archive = session.begin_archive(&self.plan.header)?;
        self.synced = session.units.end();
        self.header_is_open = true;
        if self.plan.copy_of.is_some() {
            return Ok(());
        }
        self.write_origin()
    }

    /// Writes block 0, as the plan has it.
    fn write_origin(&mut self) -> Result<(), StageError> {
        self.begin_chunk()?;
        let body = std::mem::take(&mut self.plan.origin);
        let is_sealed = self.plan.header.cipher != CipherKind::None;
        let tag = if is_sealed { TAG_LEN } else { 0 };
        let len = body.len().saturating_sub(tag);
        let header = UnitHeader {
            archive: self.archive,
            chunk: self.chunk,
            ..unit_header(0, &origin_info(is_sealed), len)?
        };
        self.stream().write_unit(header, &body)?;
        self.close_header()?;
        (self.next, self.has_origin) = (FIRST_BLOCK, true);
        Ok(())
    }

    /// Ends the record with the archive's header, so that a list of archives reads little.
    fn close_header(&mut self) -> Result<(), StageError> {
        if std::mem::take(&mut self.header_is_open) {
            self.stream().flush()?;
        }
        Ok(())
    }

    /// Opens a chunk, with its header if the framing asks for one.
    fn begin_chunk(&mut self) -> Result<(), StageError> {
        self.chunk_start = Some(self.stream().end());
        let has_header = match self.plan.session.framing {
            Framing::Header | Framing::HeaderFooter => true,
            Framing::Once => self.chunk == 0,
        };
        if has_header {
            let header = UnitHeader {
                number: self.next,
                ..self.header(UnitKind::ChunkHeader)
            };
            self.stream().write_unit(header, &[])?;
        }
        Ok(())
    }

    /// Ends the open chunk, and waits for stable storage.
    fn end_full_chunk(&mut self) -> Result<(), StageError> {
        self.end_chunk(false)?;
        self.sync()
    }

    /// Ends the open chunk before it is full. A source with many gaps has many such chunks, and a
    /// sync for each would take most of the time of its copy: only the length of a chunk is synced.
    fn end_chunk_early(&mut self) -> Result<(), StageError> {
        self.end_chunk(false)?;
        let unsynced = self.stream().end() - self.synced;
        match unsynced >= self.plan.chunk_len {
            true => self.sync(),
            false => Ok(()),
        }
    }

    /// Waits until everything is on stable storage. A chunk was ended.
    fn sync(&mut self) -> Result<(), StageError> {
        self.stream().sync()?;
        self.synced = self.stream().end();
        let (blocks, plain) = (self.blocks(), self.plain);
        self.report
            .update(|outcome| (outcome.safe_blocks, outcome.safe_plain) = (blocks, plain));
        Ok(())
    }

    /// Closes the open chunk, if one is open: writes its footer, if the framing asks for one, a
    /// locator and a mark. They may not be on stable storage yet.
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
            self.stream().flush()?;
            let begins = self.stream().end();
            self.stream().index.begin_footer(begins);
            let header = UnitHeader {
                number: self.stream().index.first_of_last_chunk(),
                ..self.header(UnitKind::ChunkFooter)
            };
            let (session, archive) = (self.plan.session.to_bytes(), self.plan.header.to_bytes());
            let footer = self.stream().index.take_chunk_footer(session, archive);
            self.stream().write_unit(header, &footer.to_bytes())?;
        }
        self.stream().flush()?;
        self.stream().index.close_chunk();
        self.chunk = self.chunk.wrapping_add(u32::from(was_open));
        if was_open {
            self.write_locator(is_last)?;
        } else if !self.stream().has_unmarked() {
            // There is a mark here already, and two in a row mean the end of a tape.
            return Ok(());
        }
        self.stream().write_marks(1)
    }

    /// Writes the locator before the mark after a chunk, in a record of its own. The chunk, its
    /// footer included, is written.
    fn write_locator(&mut self, is_last: bool) -> Result<(), StageError> {
        let begins = self.stream().end();
        let (chunks, before) = self.stream().index.last_chunks(is_last);
        let locator = Locator {
            before,
            checkpoint: self.checkpoint,
            blocks: self.next,
            offset: self.offset,
            rejected: self.rejected,
            chunks,
            session: self.plan.session.to_bytes(),
            archive: self.plan.header.to_bytes(),
        };
        let header = self.header(UnitKind::Locator);
        self.locator = begins;
        let stream = self.stream();
        stream.index.begin_locator(begins);
        stream.write_unit(header, &locator.to_bytes())?;
        stream.flush()?;
        stream.index.end_locator();
        Ok(())
    }

    /// Writes the archive footer, which follows the last chunk in a record of its own, and a mark.
    fn end(&mut self) -> Result<(), StageError> {
        let (position, blocks) = (self.stream().end(), self.next);
        let footer = ArchiveFooter {
            blocks,
            plain: self.offset,
            rejected: self.rejected,
            catalogue: self.catalogue.unwrap_or(blocks),
            copy_of: self.plan.copy_of,
        };
        let header = UnitHeader {
            number: blocks,
            ..self.header(UnitKind::ArchiveFooter)
        };
        self.stream().write_unit(header, &footer.to_bytes())?;
        let place = self.stream().flush()?.unwrap_or(Position::start_of(0));
        let locator = self.locator;
        let session = self.session.as_mut().expect("the archive was begun");
        session.end_archive(ArchiveEnd {
            blocks,
            place,
            position,
            locator,
        })?;
        self.finish_session()
    }

    /// Ends the session, or what the archive has in the session of others, which its owner ends.
    fn finish_session(&mut self) -> Result<(), StageError> {
        if self.shared.is_none() {
            let session = self.session.as_mut().expect("the archive was begun");
            session.finish()?;
        }
        // After the end of the session there is nothing to sync.
        self.sync()
    }

    /// Returns a header of this archive and the current chunk.
    fn header(&self, kind: UnitKind) -> UnitHeader {
        UnitHeader {
            archive: self.archive,
            chunk: self.chunk,
            ..UnitHeader::new(kind)
        }
    }

    /// Returns the length of a block's data without its tag.
    ///
    /// # Errors
    ///
    /// If the block is damaged, or its encryption is not that of this archive.
    fn data_len(&self, number: u64, block: &Block, info: &BlockInfo) -> Result<usize, StageError> {
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
        let info = block.info();
        let number = match self.plan.copy_of {
            Some(_) => copied_number(&info, self.next)?,
            None => self.next,
        };
        if self.has_last {
            return Err(StageError::new(format!(
                "block {number} comes after the last block of the archive: no stage sends after \
                 it, or sets the mark LAST"
            )));
        }
        if self.plan.copy_of.is_none() {
            check_info(number, &info)?;
            check_content(self.plan.header.content, &info, number)?;
        }
        self.check_special(number, &info)?;
        let len = self.data_len(number, block, &info)?;
        let lost = self.pass_lost(number, info.offset)?;
        if info.kind == BlockKind::ClosingCatalogue.code() && self.catalogue.is_none() {
            self.catalogue = Some(number);
            if self.chunk_start.is_some() {
                // The closing run begins with a chunk, because the locator lists the starts of
                // chunks.
                self.end_chunk_early()?;
            }
        }
        let is_special = info.kind == BlockKind::Special.code();
        if !is_special {
            self.close_header()?;
        }
        if self.chunk_start.is_none() {
            self.begin_chunk()?;
        }
        self.write_lost(lost)?;
        let header = UnitHeader {
            archive: self.archive,
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
        let body = block.bytes();
        let crc = block.checksum().unwrap_or_else(|| crc32fast::hash(body));
        self.stream().write_checked(header, body, crc)?;
        self.close_header()?;
        self.note_checkpoint(&info);
        self.count(&header)?;
        let (blocks, plain, rejected) = (self.blocks(), self.plain, self.rejected);
        let volumes = self.stream().volume();
        self.report.update(|outcome| {
            (outcome.blocks, outcome.plain, outcome.rejected) = (blocks, plain, rejected);
            outcome.volumes = volumes;
        });
        let written = self.stream().end() - self.chunk_start.unwrap_or_default();
        let is_full = written >= self.chunk_limit(block.checkpoint_every())
            || self.stream().index.open_blocks() as usize >= MAX_CHUNK_BLOCKS;
        // The end of the stream closes the last chunk, and its footer.
        if !self.has_last && (is_full || info.marks.contains(Marks::CHUNK)) {
            self.end_full_chunk()?;
        }
        Ok(())
    }

    /// Follows the blocks of checkpoints: one is whole with the block that ends its chunk. An
    /// archive does not say where that was, so a copy names no checkpoint.
    fn note_checkpoint(&mut self, info: &BlockInfo) {
        let number = self.next;
        let begun = self.begun_checkpoint.take();
        if info.kind != BlockKind::Checkpoint.code() {
            return;
        }
        let first = begun.unwrap_or(number);
        match info.marks.contains(Marks::CHUNK) {
            true => self.checkpoint = Some(first),
            false => self.begun_checkpoint = Some(first),
        }
    }

    /// Bytes after which a chunk ends if no checkpoint ends it before. A head that makes one after
    /// each `every` bytes ends the chunks, except in the catalogue's closing run.
    fn chunk_limit(&self, every: u64) -> u64 {
        let len = self.plan.chunk_len;
        let has_checkpoints = self.catalogue.is_none() && (1..=len).contains(&every);
        len.saturating_mul(if has_checkpoints { 2 } else { 1 })
    }

    /// Counts a special header, and refuses one that no reader would take.
    fn check_special(&mut self, number: u64, info: &BlockInfo) -> Result<(), StageError> {
        let is_special = info.kind == BlockKind::Special.code();
        if is_special && number == 0 {
            self.has_origin = true;
            return Ok(());
        }
        self.specials += usize::from(is_special);
        if self.specials <= MAX_SPECIALS {
            return Ok(());
        }
        Err(StageError::new(format!(
            "block {number} is a special header, and the archive has {MAX_SPECIALS} besides its \
             origin, the limit: send fewer, those of an archive that is copied included"
        )))
    }

    /// Ends the chunk before blocks that the source of a copy has lost, up to block `number`, and
    /// passes over their numbers: footers list consecutive blocks. Returns the number of the lost
    /// blocks. `offset` is that of block `number`.
    fn pass_lost(&mut self, number: u64, offset: u64) -> Result<u64, StageError> {
        let lost = number.saturating_sub(self.next);
        if lost == 0 {
            return Ok(0);
        }
        if self.chunk_start.is_some() {
            self.end_chunk_early()?;
        }
        self.stream().index.drop_entries();
        (self.next, self.offset) = (number, offset);
        self.lost = self.lost.saturating_add(lost);
        Ok(lost)
    }

    /// Writes the unit that announces the gap before the next block, if there is one. Without it a
    /// reader would not believe the number of that block.
    fn write_lost(&mut self, count: u64) -> Result<(), StageError> {
        if count == 0 {
            return Ok(());
        }
        let header = UnitHeader {
            number: self.next.saturating_sub(count),
            ..self.header(UnitKind::LostBlocks)
        };
        let body = LostBlocks { count }.to_bytes();
        self.stream().write_unit(header, &body)
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

    /// Number of the blocks so far, the origin and the last one of the stream not counted.
    fn blocks(&self) -> u64 {
        let own = self.next - u64::from(self.has_origin) - u64::from(self.has_last);
        own.saturating_sub(self.lost)
    }

    /// Ends a copy whose source has no last block: it stays incomplete, as its source is.
    fn end_cut_copy(&mut self) -> Result<(), StageError> {
        if self.archive == 0 && self.shared.is_some() {
            // The session goes on with the next archive.
            return Ok(());
        }
        if self.archive == 0 {
            return Err(StageError::new(
                "no block of the archive that is copied could be read, so nothing was written",
            ));
        }
        self.end_chunk(true)?;
        self.finish_session()
    }

    /// Writes a block of the pipe.
    fn write_block(&mut self, block: &Block) -> Result<(), StageError> {
        if self.plan.copy_of.is_some() && is_own_last(&block.info()) {
            return Ok(());
        }
        self.take_session()?;
        if block.info().marks.contains(Marks::LAST) {
            self.check_not_empty()?;
        }
        self.begin()?;
        self.add_block(block)
    }

    /// Ends the archive after the last block of the pipe.
    fn finish_archive(&mut self) -> Result<(), StageError> {
        if !self.has_last && self.plan.copy_of.is_some() {
            return self.end_cut_copy();
        }
        if !self.has_last {
            return Err(StageError::new(format!(
                "the last block of the archive has not come after block {}: a tail of an archive \
                 runs in a pipe that was built with PipeBuilder::archive",
                self.next
            )));
        }
        self.end_chunk(true)?;
        self.end()?;
        let (volumes, is_complete) = (self.stream().volume(), self.lost == 0);
        self.report
            .update(|outcome| (outcome.complete, outcome.volumes) = (is_complete, volumes));
        Ok(())
    }

    /// Refuses an archive without any data, if the medium has content.
    fn check_not_empty(&self) -> Result<(), StageError> {
        let session = self.session.as_ref();
        let is_empty = self.next == self.specials as u64 + u64::from(self.has_origin);
        if !is_empty || session.is_none_or(SessionWriter::accepts_empty) {
            return Ok(());
        }
        Err(StageError::new(
            "there is no data to archive, and the medium has content, which is kept: see why the \
             source is empty, or set VolumeOptions::allow_empty to replace the content all the \
             same",
        ))
    }
}

impl<M: MediumWriter> Tail for ArchiveTail<M> {
    fn name(&self) -> &str {
        "archive-tail"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.is_busy = true;
        let written = self.write_block(block);
        self.is_busy = false;
        written
    }

    fn takes_control_blocks(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.is_busy = true;
        let finished = self.finish_archive();
        self.is_busy = false;
        finished
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        let stage = stage.writes_archive().notices(self.report.notices());
        let Some(session) = &self.session else {
            return stage.local(IN_SESSION);
        };
        match session.units.medium_handle() {
            Ok(medium) => arguments::describe_tail(stage, &self.plan, medium, &self.report),
            Err(why @ HandleError::Io { .. }) => stage.local_at_limit(why.to_string()),
            Err(why) => stage.local(why.to_string()),
        }
    }
}

/// Reason why the tail of an archive in a session has no module.
const IN_SESSION: &str = "it writes to a session of this program, which goes on after the archive: \
                          run it on a thread";

impl<M> Drop for ArchiveTail<M> {
    /// Returns the session. An archive that was not ended stays incomplete, and the next one may
    /// follow it: a tail is dropped between two units, unless it panics or its medium has failed.
    fn drop(&mut self) {
        if let (Some(mut session), Some(shared)) = (self.session.take(), &self.shared) {
            if self.is_busy {
                session.units.set_failed();
            }
            shared.put_back(session);
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
