//! Writes the blocks of an archive: units into records, records onto volumes.

use std::fmt;

use crate::crypto::{NonceKind, nonce};
use crate::error::StageError;
use crate::limits::MAX_CHUNK_BLOCKS;
use crate::media::{Medium, Position};
use crate::pool::{Block, Marks};
use crate::stage::{Tail, TailStage};
use crate::wire::{
    ArchiveEntry, ArchiveFooter, BlockKind, CipherKind, Framing, RECORD_HEADER_LEN, SessionFooter,
    UNIT_HEADER_LEN, UnitHeader, UnitKind, padding_of,
};

use super::block::{TAG_LEN, header_of};
use super::course::Course;
use super::modules;
use super::places::Places;
use super::plan::Archive;
use super::report::WriteReport;
use super::volumes::{Volumes, empty_record};

/// The tail of a pipe that writes an archive, which [`Archive::stages`] gives.
///
/// It writes a session with this one archive. What reaches it has to come in the order of the
/// stream, and, if the archive is encrypted, from the stage that comes with it. When the stream has
/// ended well everything is on stable storage before the pipe says so; before that, everything up
/// to the last chunk.
pub struct ArchiveTail<M> {
    archive: Archive,
    stream: Stream<M>,
    places: Places,
    report: WriteReport,
    /// Number of the next block, and the plain bytes and rejected blocks so far.
    next: u64,
    plain: u64,
    rejected: u64,
    /// First block of the catalogue's closing run.
    catalogue: Option<u64>,
    course: Course,
    /// Where the open chunk began in the stream; `None` if none is open.
    chunk_start: Option<u64>,
    chunk: u32,
}

/// The stream on its way into records.
struct Stream<M> {
    volumes: Volumes<M>,
    /// The record that is being filled, room for its header included.
    record: Vec<u8>,
    record_len: usize,
    /// Where in its content its first unit begins.
    first: Option<u32>,
    /// Where in the stream its content begins.
    position: u64,
    /// What a volume's label says: the session header, and the archive's once it stands in the
    /// stream.
    label: Vec<u8>,
    session: [u8; 4],
}

impl<M: Medium> ArchiveTail<M> {
    pub(super) fn new(archive: Archive, medium: M) -> Self {
        let session = &archive.session;
        let [a, b, c, d, ..] = session.id;
        let mut record = Vec::new();
        empty_record(&mut record);
        let stream = Stream {
            volumes: Volumes::new(medium, session.id),
            record,
            record_len: session.record_len as usize,
            first: None,
            position: 0,
            label: Vec::new(),
            session: [a, b, c, d],
        };
        let (places, report) = (Places::default(), WriteReport::default());
        let course = Course::new(archive.header.block_len);
        Self {
            archive,
            stream,
            places,
            report,
            next: 0,
            plain: 0,
            rejected: 0,
            catalogue: None,
            course,
            chunk_start: None,
            chunk: 0,
        }
    }

    /// How far the writing has come: final when the pipe has ended.
    pub fn report(&self) -> WriteReport {
        self.report.clone()
    }

    /// Writes both headers, once.
    fn begin(&mut self) -> Result<(), StageError> {
        if self.stream.volumes.is_begun() {
            return Ok(());
        }
        let session = self.archive.session.to_bytes();
        let header = UnitHeader::new(UnitKind::SessionHeader);
        self.stream.add_to_label(header, &session)?;
        self.stream.begin_volume()?;
        self.stream.unit(header, &session, &mut self.places)?;
        let archive = self.archive.header.to_bytes();
        let header = UnitHeader {
            archive: ARCHIVE,
            ..UnitHeader::new(UnitKind::ArchiveHeader)
        };
        self.stream.add_to_label(header, &archive)?;
        self.stream.unit(header, &archive, &mut self.places)
    }

    fn begin_chunk(&mut self) -> Result<(), StageError> {
        self.chunk_start = Some(self.stream.end());
        let wanted = match self.archive.session.framing {
            Framing::Header | Framing::HeaderFooter => true,
            Framing::Once => self.chunk == 0,
        };
        if wanted {
            let header = UnitHeader {
                number: self.next,
                ..self.header(UnitKind::ChunkHeader)
            };
            self.stream.unit(header, &[], &mut self.places)?;
        }
        Ok(())
    }

    /// Closes the open chunk, if one is open: with its footer, if it has one, a mark, and a sync.
    fn end_chunk(&mut self, last: bool) -> Result<(), StageError> {
        let open = self.chunk_start.take().is_some();
        let wanted = match self.archive.session.framing {
            Framing::Header => false,
            Framing::HeaderFooter => open,
            // A chunk that was full has been closed before anybody knew that it is the last.
            Framing::Once => last && self.next > 0,
        };
        if wanted {
            // The footer says where the blocks stand, so they have to stand there.
            self.stream.flush(&mut self.places)?;
            self.places.footer_begins(self.stream.end());
            let number = self.places.first_of_last_chunk();
            let chunk = self.chunk.wrapping_sub(u32::from(!open));
            let (session, archive) = (
                self.archive.session.to_bytes(),
                self.archive.header.to_bytes(),
            );
            let footer = self.places.chunk_footer(session, archive).to_bytes();
            let header = UnitHeader {
                number,
                chunk,
                ..self.header(UnitKind::ChunkFooter)
            };
            self.stream.unit(header, &footer, &mut self.places)?;
        }
        let written = self.stream.flush(&mut self.places)?;
        self.places.close_chunk();
        self.chunk = self.chunk.wrapping_add(u32::from(open));
        if written.is_none() {
            // A mark stands here already, and two in a row are the end of a tape.
            return Ok(());
        }
        self.stream.volumes.checkpoint(1)?;
        let (blocks, plain) = (self.next, self.plain);
        self.report
            .update(|outcome| (outcome.safe_blocks, outcome.safe_plain) = (blocks, plain));
        Ok(())
    }

    /// Writes what stands behind the last chunk.
    fn end(&mut self) -> Result<(), StageError> {
        let locator = self.stream.end();
        let body = self.places.locator().to_bytes();
        self.stream
            .unit(self.header(UnitKind::Locator), &body, &mut self.places)?;
        self.stream.flush(&mut self.places)?;

        let (position, blocks) = (self.stream.end(), self.next);
        let (plain, rejected) = (self.plain, self.rejected);
        let catalogue = self.catalogue.unwrap_or(blocks);
        let footer = ArchiveFooter {
            blocks,
            plain,
            rejected,
            catalogue,
        };
        let (header, body) = self.sealed_footer(footer)?;
        self.stream.unit(header, &body, &mut self.places)?;
        let place = self
            .stream
            .flush(&mut self.places)?
            .unwrap_or(Position::start_of(0));

        let id = self.archive.header.id;
        let footer = SessionFooter {
            archives: vec![ArchiveEntry {
                id,
                blocks,
                place,
                position,
                locator,
            }],
        };
        self.stream.unit(
            UnitHeader::new(UnitKind::SessionFooter),
            &footer.to_bytes(),
            &mut self.places,
        )?;
        self.stream.flush(&mut self.places)?;
        self.stream.volumes.checkpoint(2)
    }

    /// The footer proves, if it can, how many blocks there are.
    fn sealed_footer(&self, footer: ArchiveFooter) -> Result<(UnitHeader, Vec<u8>), StageError> {
        let mut body = footer.to_bytes();
        let plain = body.len() as u32;
        let mut header = UnitHeader {
            number: footer.blocks,
            plain,
            ..self.header(UnitKind::ArchiveFooter)
        };
        header.stored = plain;
        if let Some(key) = &self.archive.key {
            header.cipher = CipherKind::Aes256Gcm;
            header.stored += TAG_LEN as u32;
            let nonce = nonce(footer.blocks, NonceKind::ArchiveFooter);
            let tag = key
                .cipher()
                .seal(&nonce, &header.associated_data(), &mut body)?;
            body.extend_from_slice(&tag);
        }
        Ok((header, body))
    }

    fn header(&self, kind: UnitKind) -> UnitHeader {
        UnitHeader {
            archive: ARCHIVE,
            chunk: self.chunk,
            ..UnitHeader::new(kind)
        }
    }

    fn add_block(&mut self, block: &Block) -> Result<(), StageError> {
        let (info, number) = (block.info(), self.next);
        if info.marks.contains(Marks::DAMAGED) {
            return Err(StageError::new(format!(
                "block {number} is damaged, which an archive cannot say of it: restore what can be read, and archive that"
            )));
        }
        let encrypted = self.archive.key.is_some();
        if info.sealed != encrypted || (encrypted && info.sequence != Some(number)) {
            let what = match (info.sealed, encrypted) {
                (true, false) => "is encrypted, but the archive is not",
                (false, true) => {
                    "is not encrypted, but the archive is: put the archive's seal stage before its tail"
                }
                _ => {
                    "was encrypted as another number: let no stage drop or add blocks between seal and tail"
                }
            };
            return Err(StageError::new(format!("block {number} {what}")));
        }
        let tag = if encrypted { TAG_LEN } else { 0 };
        let Some(data) = block.len().checked_sub(tag) else {
            return Err(StageError::new(format!(
                "block {number} is shorter than its tag"
            )));
        };
        if info.kind == BlockKind::ClosingCatalogue.code() && self.catalogue.is_none() {
            self.catalogue = Some(number);
            if self.chunk_start.is_some() {
                // It begins a chunk: the locator says where those stand.
                self.end_chunk(false)?;
            }
        }
        if self.chunk_start.is_none() {
            self.begin_chunk()?;
        }
        let (archive, chunk) = (ARCHIVE, self.chunk);
        let header = UnitHeader {
            archive,
            chunk,
            ..header_of(number, &info, data)?
        };
        if header.plain > self.archive.header.block_len {
            let (is, may) = (header.plain, self.archive.header.block_len);
            let what = format!(
                "block {number} has {is} bytes, but the archive was planned for blocks of {may}"
            );
            return Err(StageError::new(what));
        }
        self.course.follow(&header).map_err(|why| {
            StageError::new(format!(
                "block {number} {why}: let the head set BlockInfo::offset"
            ))
        })?;
        self.stream.unit(header, block.bytes(), &mut self.places)?;
        self.next += 1;
        self.plain += u64::from(header.plain);
        self.rejected += u64::from(header.marks.contains(Marks::REJECTED));
        let (blocks, plain) = (self.next, self.plain);
        self.report
            .update(|outcome| (outcome.blocks, outcome.plain) = (blocks, plain));
        let written = self.stream.end() - self.chunk_start.unwrap_or_default();
        if written >= self.archive.chunk_len
            || self.places.open_blocks() as usize >= MAX_CHUNK_BLOCKS
        {
            self.end_chunk(false)?;
        }
        Ok(())
    }
}

/// Number of the archive in its session.
const ARCHIVE: u32 = 1;

impl<M: Medium> Tail for ArchiveTail<M> {
    fn name(&self) -> &str {
        "archive-tail"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.begin()?;
        self.add_block(block)
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.begin()?;
        self.end_chunk(true)?;
        self.end()?;
        self.report.update(|outcome| outcome.complete = true);
        Ok(())
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        match self.stream.volumes.handle() {
            Ok(passage) => modules::describe_tail(stage, &self.archive, passage, &self.report),
            Err(why) => stage.local(why.to_string()),
        }
    }
}

impl<M: Medium> Stream<M> {
    /// Where in the stream the next byte goes.
    fn end(&self) -> u64 {
        self.position + (self.record.len() - RECORD_HEADER_LEN) as u64
    }

    /// Completes a header that is about to be written at `position`.
    fn complete(
        &self,
        header: UnitHeader,
        body: &[u8],
        position: u64,
    ) -> Result<UnitHeader, StageError> {
        let stored = u32::try_from(body.len())?;
        let plain = if header.kind == UnitKind::Block || header.plain > 0 {
            header.plain
        } else {
            stored
        };
        let body_crc = crc32fast::hash(body);
        Ok(UnitHeader {
            plain,
            stored,
            body_crc,
            position,
            session: self.session,
            ..header
        })
    }

    /// Puts a unit into the stream.
    fn unit(
        &mut self,
        header: UnitHeader,
        body: &[u8],
        places: &mut Places,
    ) -> Result<(), StageError> {
        if self.record.len() == self.record_len {
            self.flush(places)?;
        }
        let position = self.end();
        let header = self.complete(header, body, position)?;
        if self.first.is_none() {
            self.first = Some((self.record.len() - RECORD_HEADER_LEN) as u32);
        }
        if header.kind == UnitKind::Block {
            places.block(header.number, header.block_kind, position, header.plain);
        }
        self.bytes(&header.to_bytes(), places)?;
        self.bytes(body, places)?;
        self.bytes(&[0; UNIT_HEADER_LEN][..padding_of(body.len())], places)
    }

    fn bytes(&mut self, mut bytes: &[u8], places: &mut Places) -> Result<(), StageError> {
        while !bytes.is_empty() {
            if self.record.len() == self.record_len {
                self.flush(places)?;
            }
            let room = (self.record_len - self.record.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.record.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes the record that is being filled, if there is anything in it, and says where it
    /// stands.
    fn flush(&mut self, places: &mut Places) -> Result<Option<Position>, StageError> {
        let content = (self.record.len() - RECORD_HEADER_LEN) as u64;
        if content == 0 {
            return Ok(None);
        }
        let place = match self
            .volumes
            .write(&mut self.record, self.position, self.first)?
        {
            Some(place) => place,
            None => {
                self.begin_volume()?;
                let again = self
                    .volumes
                    .write(&mut self.record, self.position, self.first)?;
                again.ok_or_else(|| {
                    StageError::new(
                        "a record does not fit an empty volume: the storage is full, or the volumes are too small; \
                         make room, or use larger volumes",
                    )
                })?
            }
        };
        places.written(self.position, place);
        self.position += content;
        self.first = None;
        empty_record(&mut self.record);
        Ok(Some(place))
    }

    fn begin_volume(&mut self) -> Result<(), StageError> {
        let mut label = self.label.clone();
        self.volumes.label(&mut label, self.position)
    }

    /// Adds a copy of a unit, as it stands, or will stand, at the end of the stream.
    fn add_to_label(&mut self, header: UnitHeader, body: &[u8]) -> Result<(), StageError> {
        if self.label.is_empty() {
            empty_record(&mut self.label);
        }
        let header = self.complete(header, body, self.end())?;
        self.label.extend_from_slice(&header.to_bytes());
        self.label.extend_from_slice(body);
        self.label
            .resize(self.label.len() + padding_of(body.len()), 0);
        Ok(())
    }
}

impl<M> fmt::Debug for ArchiveTail<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveTail")
            .field("blocks", &self.next)
            .finish_non_exhaustive()
    }
}
