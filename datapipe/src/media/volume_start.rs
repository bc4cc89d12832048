//! The start of a volume's file: its volume record, or the traces of one that was lost.

use std::io;

use crate::interrupt::retry;
use crate::wire::{
    RECORD_HEADER_LEN, RecordHeader, RecordKind, VOLUME_RECORD_LEN, VolumeRecord, looks_like_record,
};

use super::StorageFile;
use super::layout::{Length, WORD, word};

/// Bytes of the frame of a volume record.
pub(super) const RECORD_FRAME: u64 = VOLUME_RECORD_LEN as u64 + 2 * WORD;

/// Size of the smallest sectors.
const SECTOR: usize = 512;
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
const FRAME: usize = RECORD_FRAME as usize;
const WORD_LEN: usize = WORD as usize;
/// Bytes that are looked at: the volume record and the header of the record after it.
const LOOKED_AT: usize = FRAME + WORD_LEN + RECORD_HEADER_LEN;

/// State of a volume's record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum VolumeStart {
    /// The volume has its record.
    Known(Box<VolumeRecord>),
    /// It had one, which is damaged.
    Lost,
    /// It has none: a file of another program, or one that is empty or destroyed at its start.
    Absent,
}

impl VolumeStart {
    /// Reads the start of a file. A record that is whole counts also if the lengths of its frame
    /// are damaged. One that is damaged is known by the half of it that is right, its header or its
    /// content, or by the record of an archive that follows it at its place. Sectors that cannot be
    /// read count as zeros.
    pub(super) fn read(file: &impl StorageFile) -> io::Result<Self> {
        let (mut start, mut len, mut tried) = ([0; LOOKED_AT], 0, false);
        while len < LOOKED_AT {
            // After an error of the drive, the next attempt reads only the rest of the sector.
            let sector = (len / SECTOR + 1) * SECTOR;
            let end = if tried {
                sector.min(LOOKED_AT)
            } else {
                LOOKED_AT
            };
            match retry(|| file.read_at(&mut start[len..end], len as u64)) {
                Ok(0) => break,
                Ok(read) => (len, tried) = (len + read, false),
                Err(error) if error.raw_os_error() == Some(EIO) => {
                    if tried {
                        start[len..end].fill(0);
                        len = end;
                    }
                    tried = !tried;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self::of_bytes(&start[..len]))
    }

    fn of_bytes(start: &[u8]) -> Self {
        let Some((frame, next)) = start.split_at_checked(FRAME) else {
            return Self::Absent;
        };
        let record = &frame[WORD_LEN..][..VOLUME_RECORD_LEN];
        if let Ok(record) = VolumeRecord::parse(record) {
            return Self::Known(Box::new(record));
        }
        let (header, content) = record.split_at(RECORD_HEADER_LEN);
        let is_header = RecordHeader::parse_header(header)
            .is_ok_and(|header| header.kind == RecordKind::Volume);
        let is_followed = !looks_like_record(header) && begins_a_record(next);
        if is_header || VolumeRecord::is_content(content) || is_followed {
            return Self::Lost;
        }
        Self::Absent
    }

    /// Offset of the first item after the volume record.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Known(_) | Self::Lost => RECORD_FRAME,
            Self::Absent => 0,
        }
    }

    /// Number of records up to there.
    pub(super) fn items(&self) -> u64 {
        u64::from(*self != Self::Absent)
    }

    pub(super) fn record(&self) -> Option<&VolumeRecord> {
        match self {
            Self::Known(record) => Some(record),
            _ => None,
        }
    }
}

/// True if the bytes begin with the length and the header of a record.
fn begins_a_record(bytes: &[u8]) -> bool {
    let Some((_, record)) = bytes.split_at_checked(WORD_LEN) else {
        return false;
    };
    Length::parse(word(bytes)).is_some() && looks_like_record(record)
}
