//! Frames in the bytes of a part: a record between two lengths, or a mark.

/// Bytes of a length.
const WORD: usize = 4;

/// A frame, by its place in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Bytes of the record; 0 for a mark.
    pub(crate) record: usize,
    /// Bytes of the frame.
    pub(crate) len: usize,
}

impl Frame {
    fn of(record: usize) -> Self {
        let len = if record == 0 {
            WORD
        } else {
            record.next_multiple_of(2) + 2 * WORD
        };
        Self { record, len }
    }

    /// Bytes of the frame of a record.
    pub(crate) fn len_of(record: usize) -> u64 {
        Self::of(record).len as u64
    }

    /// The frame that begins at `at`; `None` if there is no whole one.
    pub(crate) fn after(part: &[u8], at: usize) -> Option<Self> {
        let frame = Self::of(word(part, at)?);
        let end = at.checked_add(frame.len)?;
        (frame.record == 0 || word(part, end.checked_sub(WORD)?)? == frame.record).then_some(frame)
    }

    /// The frame that ends at `at`; `None` if there is no whole one.
    pub(crate) fn before(part: &[u8], at: usize) -> Option<Self> {
        let frame = Self::of(word(part, at.checked_sub(WORD)?)?);
        let start = at.checked_sub(frame.len)?;
        (frame.record == 0 || word(part, start)? == frame.record).then_some(frame)
    }
}

/// Adds the frame of a record, or a mark if it has no bytes.
pub(crate) fn put(part: &mut Vec<u8>, record: &[u8]) {
    let word = (record.len() as u32).to_le_bytes();
    part.extend_from_slice(&word);
    if !record.is_empty() {
        part.extend_from_slice(record);
        part.extend_from_slice(&[0][..record.len() % 2]);
        part.extend_from_slice(&word);
    }
}

/// First byte of the record in a frame that begins at `at`.
pub(crate) const fn record_at(at: usize) -> usize {
    at + WORD
}

fn word(part: &[u8], at: usize) -> Option<usize> {
    let bytes = part.get(at..)?.first_chunk::<WORD>()?;
    Some(u32::from_le_bytes(*bytes) as usize)
}
