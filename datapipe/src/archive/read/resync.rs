//! Finds records in bytes that are damaged.

use crate::wire::{RECORD_HEADER_LEN, RecordHeader, RecordKind, looks_like_record};

/// Searches damaged bytes for a record of the session, and reduces `record` to what is left of it.
/// Returns false if there is none; `record` is then unchanged.
///
/// A drive or a tape file gives up on a record when the word with its length is damaged, and the
/// record itself may be whole. Each byte is tried as the start of a header. The record that is made
/// of it has the intact header with a length, and a first unit, that fit the bytes that are left.
pub(super) fn find_record(record: &mut Vec<u8>, session: Option<[u8; 16]>) -> bool {
    let starts = 0..record.len().saturating_sub(RECORD_HEADER_LEN);
    for at in starts {
        let (header, content) = record[at..].split_at(RECORD_HEADER_LEN);
        if !looks_like_record(header) {
            continue;
        }
        let Ok(header) = RecordHeader::parse_header(header) else {
            continue;
        };
        let left = content.len().min(header.length as usize) / 8 * 8;
        if left == 0 || session.is_some_and(|session| session != header.session) {
            continue;
        }
        let header = RecordHeader {
            length: left as u32,
            first: header.first.filter(|&first| (first as usize) < left),
            ..header
        };
        record.drain(..at);
        record.truncate(RECORD_HEADER_LEN + left);
        record[..RECORD_HEADER_LEN].copy_from_slice(&header.to_bytes());
        return true;
    }
    false
}

/// Returns the length of the content of a record of `len` bytes whose header is damaged, if a
/// record can have it.
pub(super) fn content_len(len: usize) -> Option<usize> {
    len.checked_sub(RECORD_HEADER_LEN)
        .filter(|len| len.is_multiple_of(8))
}

/// Returns the header that a record with `len` bytes of content must have if it is the next one of
/// its session and goes on at `position`. `None` if no record can.
///
/// A wrong guess does no harm: units carry their positions, so those of another record are not
/// accepted.
pub(super) fn guess_header(
    len: usize,
    session: [u8; 16],
    sequence: u64,
    volume: u32,
    position: u64,
) -> Option<RecordHeader> {
    if len == 0 {
        return None;
    }
    // A damaged header may have moved the position close to the largest one.
    position.checked_add(len as u64)?;
    Some(RecordHeader {
        kind: RecordKind::Data,
        session,
        sequence,
        volume,
        length: len as u32,
        position,
        first: None,
    })
}
