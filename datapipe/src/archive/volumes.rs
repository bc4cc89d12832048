//! Records onto volumes: the label at each one's start, and the next when one is full.

use crate::error::StageError;
use crate::media::{HandleError, Medium, MediumError, MediumHandle, Position};
use crate::wire::{RECORD_HEADER_LEN, RecordHeader, RecordKind};

/// Writes the records of one session.
pub(super) struct Volumes<M> {
    medium: M,
    session: [u8; 16],
    /// Records written so far.
    sequence: u64,
    volume: u32,
}

impl<M: Medium> Volumes<M> {
    pub(super) fn new(medium: M, session: [u8; 16]) -> Self {
        Self {
            medium,
            session,
            sequence: 0,
            volume: 0,
        }
    }

    /// What another process makes the medium from.
    pub(super) fn handle(&self) -> Result<MediumHandle, HandleError> {
        self.medium.handle()
    }

    /// Whether the first volume has been begun.
    pub(super) fn is_begun(&self) -> bool {
        self.volume > 0
    }

    /// Writes the label of a volume: of the first, and then whenever [`write`](Self::write) says
    /// so.
    pub(super) fn label(&mut self, label: &mut [u8], position: u64) -> Result<(), StageError> {
        self.volume += 1;
        let (kind, first) = (RecordKind::Label, Some(0));
        match self.append(kind, label, position, first)? {
            Some(_) => Ok(()),
            None => Err(StageError::new(format!(
                "volume {} is too small for its label",
                self.volume
            ))),
        }
    }

    /// Writes a record whose content begins behind room for its header, and says where it stands.
    /// `None`: the volume has ended, the next one is there, and needs its label first.
    pub(super) fn write(
        &mut self,
        record: &mut [u8],
        position: u64,
        first: Option<u32>,
    ) -> Result<Option<Position>, StageError> {
        if let Some(place) = self.append(RecordKind::Data, record, position, first)? {
            return Ok(Some(place));
        }
        self.medium.next_volume()?;
        Ok(None)
    }

    /// Everything before this is a chunk, and is on stable storage when this returns.
    pub(super) fn checkpoint(&mut self, marks: u32) -> Result<(), StageError> {
        for _ in 0..marks {
            match self.medium.write_mark() {
                // What a mark says, the end of the volume says as well.
                Ok(()) | Err(MediumError::EndOfVolume { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.medium.sync()?)
    }

    fn append(
        &mut self,
        kind: RecordKind,
        record: &mut [u8],
        position: u64,
        first: Option<u32>,
    ) -> Result<Option<Position>, StageError> {
        let length = u32::try_from(record.len() - RECORD_HEADER_LEN)?;
        let (session, sequence, volume) = (self.session, self.sequence, self.volume);
        let header = RecordHeader {
            kind,
            session,
            sequence,
            volume,
            length,
            position,
            first,
        };
        record[..RECORD_HEADER_LEN].copy_from_slice(&header.to_bytes());
        match self.medium.write(record) {
            Ok(place) => {
                self.sequence += 1;
                Ok(Some(place))
            }
            Err(MediumError::EndOfVolume { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// An empty record: room for its header.
pub(super) fn empty_record(record: &mut Vec<u8>) {
    record.clear();
    record.resize(RECORD_HEADER_LEN, 0);
}
