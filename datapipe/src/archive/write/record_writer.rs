//! Writes records onto volumes: a label at the start of each, and a new volume when one is full.

use std::collections::VecDeque;

use crate::error::StageError;
use crate::limits::MAX_LISTED_VOLUMES;
use crate::media::{HandleError, MediumError, MediumHandle, MediumWriter, Position};
use crate::wire::{LabelPlace, RECORD_HEADER_LEN, RecordHeader, RecordKind, VolumeList};

/// Writes the records of one session.
pub(super) struct RecordWriter<M> {
    medium: M,
    session: [u8; 16],
    /// Number of records written so far.
    sequence: u64,
    /// Number of the current volume in the session, from 1; 0 before the first label.
    volume: u32,
    /// Position of the first label.
    label: LabelPlace,
    /// Id and ordinal of the last volumes, the current one included.
    volumes: VecDeque<([u8; 16], u32)>,
    /// Records of data were written after the last mark.
    has_unmarked: bool,
    /// Something was written after the last sync.
    has_unsynced: bool,
    /// The medium has failed, so that the end of the stream on it is not known.
    has_failed: bool,
}

impl<M: MediumWriter> RecordWriter<M> {
    pub(super) fn new(medium: M, session: [u8; 16]) -> Self {
        Self {
            medium,
            session,
            sequence: 0,
            volume: 0,
            label: LabelPlace::default(),
            volumes: VecDeque::new(),
            has_unmarked: false,
            has_unsynced: false,
            has_failed: false,
        }
    }

    /// Returns a handle from which another process makes the medium.
    pub(super) fn medium_handle(&self) -> Result<MediumHandle, HandleError> {
        self.medium.handle()
    }

    /// True if the label of the first volume was written.
    pub(super) fn is_begun(&self) -> bool {
        self.volume > 0
    }

    /// Number of the current volume in the session, from 1; 0 before the first label.
    pub(super) fn volume(&self) -> u32 {
        self.volume
    }

    /// Position of the first label.
    pub(super) fn label(&self) -> LabelPlace {
        self.label
    }

    /// The last volumes of the session, at most `most` of them, the current one included.
    pub(super) fn last_volumes(&self, most: usize) -> VolumeList {
        let from = self.volumes.len().saturating_sub(most);
        VolumeList {
            volumes: self.volumes.range(from..).copied().collect(),
        }
    }

    /// Notes a failure of the medium.
    fn check<T>(&mut self, result: Result<T, MediumError>) -> Result<T, StageError> {
        self.has_failed |= result.is_err();
        Ok(result?)
    }

    /// Writes the label of a volume: of the first one, and of each next one when
    /// [`write`](Self::write) has returned `None`.
    pub(super) fn write_label(
        &mut self,
        label: &mut [u8],
        position: u64,
    ) -> Result<(), StageError> {
        self.volume += 1;
        let mut written = self.append(RecordKind::Label, label, &[], position, Some(0))?;
        if written.is_none() && self.volume == 1 {
            // The session begins where another one has ended, at the end of a volume.
            let next = self.medium.next_volume();
            self.check(next)?;
            written = self.append(RecordKind::Label, label, &[], position, Some(0))?;
        }
        let Some(at) = written else {
            self.has_failed = true;
            return Err(StageError::new(format!(
                "volume {} is too small for its label of {} bytes: use larger volumes",
                self.volume,
                label.len()
            )));
        };
        let volume = self.medium.volume();
        if self.volume == 1 {
            self.label = LabelPlace {
                volume: volume.id,
                record: at.record,
                byte: at.byte,
            };
        }
        if self.volumes.len() == MAX_LISTED_VOLUMES {
            self.volumes.pop_front();
        }
        self.volumes.push_back((volume.id, volume.ordinal));
        Ok(())
    }

    /// Writes a record that consists of `begin` and `rest`, and returns its position, whose volume
    /// is counted in the session. The first bytes of `begin` are room for its header.
    ///
    /// Returns `None` if the volume is full. The next volume has then begun, and needs its label
    /// before the record is written again.
    pub(super) fn write(
        &mut self,
        begin: &mut [u8],
        rest: &[u8],
        position: u64,
        first: Option<u32>,
    ) -> Result<Option<Position>, StageError> {
        if let Some(at) = self.append(RecordKind::Data, begin, rest, position, first)? {
            return Ok(Some(at));
        }
        let next = self.medium.next_volume();
        self.check(next)?;
        Ok(None)
    }

    /// Writes `count` marks. What is before them may not be on stable storage yet.
    pub(super) fn write_marks(&mut self, count: u32) -> Result<(), StageError> {
        for _ in 0..count {
            match self.medium.write_mark() {
                // The end of a volume ends a chunk as a mark does.
                Ok(()) | Err(MediumError::EndOfVolume { .. }) => {}
                failed => self.check(failed)?,
            }
        }
        (self.has_unmarked, self.has_unsynced) = (false, true);
        Ok(())
    }

    /// Returns when everything is on stable storage.
    pub(super) fn sync(&mut self) -> Result<(), StageError> {
        if self.has_unsynced {
            let synced = self.medium.sync();
            self.check(synced)?;
            self.has_unsynced = false;
        }
        Ok(())
    }

    /// True if no mark follows the last record of data.
    pub(super) fn has_unmarked(&self) -> bool {
        self.has_unmarked
    }

    /// Completes the medium, which then has everything on stable storage under its name.
    pub(super) fn finish(&mut self) -> Result<(), StageError> {
        let finished = self.medium.finish();
        self.check(finished)
    }

    /// True if the medium may get an archive without any data.
    pub(super) fn accepts_empty(&self) -> bool {
        self.medium.accepts_empty()
    }

    /// Writes a record with its header. Returns `None` if it does not fit the volume.
    fn append(
        &mut self,
        kind: RecordKind,
        begin: &mut [u8],
        rest: &[u8],
        position: u64,
        first: Option<u32>,
    ) -> Result<Option<Position>, StageError> {
        let header = RecordHeader {
            kind,
            session: self.session,
            sequence: self.sequence,
            volume: self.volume,
            length: u32::try_from(begin.len() - RECORD_HEADER_LEN + rest.len())?,
            position,
            first,
        };
        begin[..RECORD_HEADER_LEN].copy_from_slice(&header.to_bytes());
        match self.medium.write_parts(&[begin, rest]) {
            Ok(at) => {
                self.sequence += 1;
                self.has_unmarked |= kind == RecordKind::Data;
                self.has_unsynced = true;
                Ok(Some(Position {
                    volume: self.volume,
                    ..at
                }))
            }
            Err(MediumError::EndOfVolume { .. }) => Ok(None),
            failed => self.check(failed).map(Some),
        }
    }
}

impl<M> RecordWriter<M> {
    /// True if the medium has failed: nothing can be written to the session any more.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Notes that the end of the stream on the medium is not known any more.
    pub(super) fn set_failed(&mut self) {
        self.has_failed = true;
    }
}

/// Empties a record, and leaves room for its header.
pub(super) fn clear_record(record: &mut Vec<u8>) {
    record.clear();
    record.resize(RECORD_HEADER_LEN, 0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// A medium whose first volume takes nothing more. It keeps the volume of each record.
    struct NearlyFull {
        volume: u32,
        written: Vec<u32>,
    }

    impl MediumWriter for NearlyFull {
        fn write(&mut self, _: &[u8]) -> Result<Position, MediumError> {
            let volume = self.volume;
            if volume == 1 {
                return Err(MediumError::EndOfVolume { volume });
            }
            self.written.push(volume);
            Ok(Position::start_of(volume))
        }

        fn write_mark(&mut self) -> Result<(), MediumError> {
            Ok(())
        }

        fn sync(&mut self) -> Result<(), MediumError> {
            Ok(())
        }

        fn next_volume(&mut self) -> Result<(), MediumError> {
            self.volume += 1;
            Ok(())
        }

        fn finish(&mut self) -> Result<(), MediumError> {
            Ok(())
        }
    }

    /// The volume with the earlier sessions was called too small, in each attempt to append.
    #[test]
    fn first_label_goes_onto_the_next_volume_if_the_last_one_is_full() {
        let (volume, written) = (1, Vec::new());
        let mut records = RecordWriter::new(NearlyFull { volume, written }, [1; 16]);
        let mut label = vec![0; RECORD_HEADER_LEN + 8];
        records.write_label(&mut label, 0).unwrap();
        assert_eq!(
            (records.volume(), &records.medium.written[..]),
            (1, &[2][..])
        );
    }
}
