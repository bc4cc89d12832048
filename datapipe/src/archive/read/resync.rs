//! Finds records and units in bytes that are damaged.

use crate::wire::{RECORD_HEADER_LEN, RecordHeader, RecordKind, UNIT_HEADER_LEN, UnitHeader};

/// Searches `bytes` for the header of a record of the session, and returns its offset.
///
/// A drive or a tape file gives up on a record when the word with its length is damaged, and the
/// record itself may be whole. Bytes may have been inserted or may be missing, so each offset is
/// tried. The cost is proportional to the number of bytes: a header is short.
pub(super) fn find_record(
    bytes: &[u8],
    session: Option<[u8; 16]>,
) -> Option<(usize, RecordHeader)> {
    find(bytes, *b"DPrc", RECORD_HEADER_LEN, |bytes| {
        let header = RecordHeader::parse_header(&bytes[..RECORD_HEADER_LEN]).ok()?;
        let is_ours = session.is_none_or(|session| session == header.session);
        is_ours.then_some(header)
    })
}

/// Searches `bytes` for the header of a unit of the session that is at `floor` in the stream, or
/// after it, and returns its offset. The body is not looked at.
pub(super) fn find_unit(
    bytes: &[u8],
    session: [u8; 16],
    floor: u64,
) -> Option<(usize, UnitHeader)> {
    find(bytes, *b"DPun", UNIT_HEADER_LEN, |bytes| {
        let header = UnitHeader::parse(bytes).ok()?;
        let is_ours = session.starts_with(&header.session);
        let fits = header.position.checked_add(bytes.len() as u64).is_some();
        (is_ours && fits && header.position >= floor).then_some(header)
    })
}

/// Returns the first offset with `magic` from which `parse` makes a header of `len` bytes.
fn find<H>(
    bytes: &[u8],
    magic: [u8; 4],
    len: usize,
    parse: impl Fn(&[u8]) -> Option<H>,
) -> Option<(usize, H)> {
    let last = bytes.len().checked_sub(len)?;
    let mut at = 0;
    while at <= last {
        at += bytes[at..=last].iter().position(|byte| *byte == magic[0])?;
        if bytes[at..].starts_with(&magic)
            && let Some(header) = parse(&bytes[at..])
        {
            return Some((at, header));
        }
        at += 1;
    }
    None
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
