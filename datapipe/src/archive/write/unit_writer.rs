//! Writes the stream of a session: units, cut into records of one length.
//!
//! ```text
//!   stream    | unit | unit          | unit |              position counts its bytes
//!   records   [header][unit | unit   ] [header][  | unit |
//!                                      first --^^^
//! ```

use crate::error::StageError;
use crate::limits::{MAX_LABEL_VOLUMES, MAX_LISTED_VOLUMES, MIN_RECORD};
use crate::media::{Abilities, HandleError, MediumHandle, MediumWriter, Position};
use crate::shared_bytes::reserve;
use crate::wire::{
    LabelPlace, RECORD_HEADER_LEN, SessionHeader, UNIT_HEADER_LEN, UnitHeader, UnitKind,
    VolumeList, padding_of,
};

use super::positions::BlockIndexBuilder;
use super::record_writer::{RecordWriter, clear_record};

/// Writes units into records, and records the positions of blocks on the way.
pub(super) struct UnitWriter<M> {
    records: RecordWriter<M>,
    /// Positions of the blocks and chunks that were written.
    pub(super) index: BlockIndexBuilder,
    /// The beginning of the next record, room for its header included: what cannot be written yet.
    record: Vec<u8>,
    /// Length of a full record in bytes, header included.
    record_len: usize,
    /// Offset of the first unit that begins in the record, counted from the start of its content.
    first: Option<u32>,
    /// Position in the stream at which the record's content begins.
    position: u64,
    /// The label of each volume: room for a header, a copy of the session header, and one of the
    /// archive header while that archive is open.
    label: Vec<u8>,
    /// Bytes of the label without the copy of the archive header.
    session_label: usize,
    /// First bytes of the session's id, which each unit repeats.
    session: [u8; 4],
}

impl<M: MediumWriter> UnitWriter<M> {
    pub(super) fn new(medium: M, session: &SessionHeader) -> Self {
        let [a, b, c, d, ..] = session.id;
        let record_len = record_len(session.record_len as usize, medium.abilities());
        let mut record = Vec::new();
        clear_record(&mut record);
        Self {
            records: RecordWriter::new(medium, session.id),
            index: BlockIndexBuilder::default(),
            record,
            record_len,
            first: None,
            position: 0,
            label: Vec::new(),
            session_label: 0,
            session: [a, b, c, d],
        }
    }

    /// Returns a handle from which another process makes the medium.
    pub(super) fn medium_handle(&self) -> Result<MediumHandle, HandleError> {
        self.records.medium_handle()
    }

    /// Number of the current volume, from 1; 0 before the first label.
    pub(super) fn volume(&self) -> u32 {
        self.records.volume()
    }

    /// True if the first volume was begun.
    pub(super) fn is_begun(&self) -> bool {
        self.records.is_begun()
    }

    /// Position of the session's first label.
    pub(super) fn first_label(&self) -> LabelPlace {
        self.records.label()
    }

    /// The last volumes of the session.
    pub(super) fn volumes(&self) -> VolumeList {
        self.records.last_volumes(MAX_LISTED_VOLUMES)
    }

    /// Position in the stream of the next byte to be written.
    pub(super) fn end(&self) -> u64 {
        self.position + (self.record.len() - RECORD_HEADER_LEN) as u64
    }

    /// Appends a unit to the stream. The fields of the header that depend on the stream and on the
    /// body are filled in.
    pub(super) fn write_unit(&mut self, header: UnitHeader, body: &[u8]) -> Result<(), StageError> {
        self.write_checked(header, body, crc32fast::hash(body))
    }

    /// As [`write_unit`](Self::write_unit), with the CRC-32 of the body.
    pub(super) fn write_checked(
        &mut self,
        header: UnitHeader,
        body: &[u8],
        crc: u32,
    ) -> Result<(), StageError> {
        if self.record.len() == self.record_len {
            self.flush()?;
        }
        let position = self.end();
        let header = self.complete(header, (body, crc), position)?;
        if self.first.is_none() {
            self.first = Some((self.record.len() - RECORD_HEADER_LEN) as u32);
        }
        if header.kind == UnitKind::Block {
            let counted = header.block_kind.counts_in_offsets();
            let plain = if counted { header.plain } else { 0 };
            self.index
                .begin_block(header.number, header.block_kind, position, plain);
        }
        self.write_bytes(&header.to_bytes())?;
        self.write_bytes(body)?;
        self.write_bytes(&[0; UNIT_HEADER_LEN][..padding_of(body.len())])
    }

    /// Completes a header that is about to be written at `position`, before this body with this
    /// CRC-32.
    fn complete(
        &self,
        header: UnitHeader,
        (body, body_crc): (&[u8], u32),
        position: u64,
    ) -> Result<UnitHeader, StageError> {
        let stored = u32::try_from(body.len())?;
        let plain = if header.kind == UnitKind::Block || header.plain > 0 {
            header.plain
        } else {
            stored
        };
        Ok(UnitHeader {
            plain,
            stored,
            body_crc,
            position,
            session: self.session,
            ..header
        })
    }

    /// Appends bytes to the stream. Writes each record that is full and that more bytes follow; its
    /// bytes are not copied. What remains is kept for the next record.
    fn write_bytes(&mut self, mut bytes: &[u8]) -> Result<(), StageError> {
        while let Some((now, later)) = bytes.split_at_checked(self.record_len - self.record.len())
            && !later.is_empty()
        {
            self.write_record(now)?;
            bytes = later;
        }
        reserve(&mut self.record, bytes.len())?;
        self.record.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what was kept as a record and returns its position, or `None` if nothing was.
    pub(super) fn flush(&mut self) -> Result<Option<Position>, StageError> {
        if self.record.len() == RECORD_HEADER_LEN {
            return Ok(None);
        }
        self.write_record(&[]).map(Some)
    }

    /// Writes a record: what was kept, and then `rest`. A record that does not fit the volume goes
    /// onto the next one, after its label.
    fn write_record(&mut self, rest: &[u8]) -> Result<Position, StageError> {
        let content = (self.record.len() - RECORD_HEADER_LEN + rest.len()) as u64;
        let at = match self.put_record(rest)? {
            Some(at) => at,
            None => {
                self.begin_volume()?;
                let Some(at) = self.put_record(rest)? else {
                    self.records.set_failed();
                    return Err(StageError::new(
                        "a record does not fit an empty volume: the storage is full, or the \
                         volumes are too small; make room, or use larger volumes",
                    ));
                };
                at
            }
        };
        self.index.record_written(self.position, at);
        self.position += content;
        self.first = None;
        clear_record(&mut self.record);
        Ok(at)
    }

    fn put_record(&mut self, rest: &[u8]) -> Result<Option<Position>, StageError> {
        self.records
            .write(&mut self.record, rest, self.position, self.first)
    }

    /// Writes the label of the volume that begins now. From the second volume on it lists the
    /// volumes before.
    pub(super) fn begin_volume(&mut self) -> Result<(), StageError> {
        let mut label = self.label.clone();
        let before = self.records.last_volumes(MAX_LABEL_VOLUMES);
        if !before.volumes.is_empty() {
            let (header, body) = (UnitHeader::new(UnitKind::Volumes), before.to_bytes());
            let checked = (&body[..], crc32fast::hash(&body));
            let header = self.complete(header, checked, self.position)?;
            append_unit(&mut label, &header, &body);
        }
        self.records.write_label(&mut label, self.position)
    }

    /// Adds a copy of a unit to the label: as it will be written at the end of the stream.
    pub(super) fn add_to_label(
        &mut self,
        header: UnitHeader,
        body: &[u8],
    ) -> Result<(), StageError> {
        if self.label.is_empty() {
            clear_record(&mut self.label);
        }
        let header = self.complete(header, (body, crc32fast::hash(body)), self.end())?;
        append_unit(&mut self.label, &header, body);
        if header.kind == UnitKind::SessionHeader {
            self.session_label = self.label.len();
        }
        Ok(())
    }

    /// Removes the copy of the archive header from the label: the archive has ended.
    pub(super) fn end_archive(&mut self) {
        self.label.truncate(self.session_label);
    }

    /// True if no mark follows the last record.
    pub(super) fn has_unmarked(&self) -> bool {
        self.records.has_unmarked()
    }

    /// Writes `count` marks, which end a chunk. What is before them may not be on stable storage
    /// yet.
    pub(super) fn write_marks(&mut self, count: u32) -> Result<(), StageError> {
        self.records.write_marks(count)
    }

    /// Returns when everything is on stable storage.
    pub(super) fn sync(&mut self) -> Result<(), StageError> {
        self.records.sync()
    }

    /// Completes the medium.
    pub(super) fn finish(&mut self) -> Result<(), StageError> {
        self.records.finish()
    }

    /// True if the medium may get an archive without any data.
    pub(super) fn accepts_empty(&self) -> bool {
        self.records.accepts_empty()
    }
}

impl<M> UnitWriter<M> {
    /// True if the medium has failed: nothing can be written to the session any more.
    pub(super) fn has_failed(&self) -> bool {
        self.records.has_failed()
    }

    /// Notes that the end of the stream on the medium is not known any more.
    pub(super) fn set_failed(&mut self) {
        self.records.set_failed();
    }
}

/// Appends a whole unit, with its padding.
fn append_unit(to: &mut Vec<u8>, header: &UnitHeader, body: &[u8]) {
    to.extend_from_slice(&header.to_bytes());
    to.extend_from_slice(body);
    to.resize(to.len() + padding_of(body.len()), 0);
}

/// Most bytes that a label and its lengths are assumed to take.
const LABEL_ROOM: usize = 4096 + 8;

/// Length of the records on a medium: the planned one, or, if the medium does not take it, one that
/// fits in its volumes together with a label.
fn record_len(planned: usize, abilities: Abilities) -> usize {
    if planned <= abilities.longest_record {
        return planned;
    }
    let fits = abilities.longest_record.saturating_sub(LABEL_ROOM);
    (fits / 8 * 8).max(MIN_RECORD)
}
