//! The part of the stream that is in memory.
//!
//! ```text
//!   stream   ... used |<------------- window ------------->|
//!                     ^position                            ^end()
//!   records     ...  ][       ][       ][       ][         ]
//! ```

use std::collections::VecDeque;

use crate::media::{MediumError, Position};

/// Bytes of the stream that were read and not used yet, without gaps.
///
/// Bytes that were inserted in a record, or are missing in it, make the positions after them wrong
/// until a unit states its own.
#[derive(Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    /// Number of bytes at the front of `bytes` that were used.
    used: usize,
    /// Position in the stream of the first byte after those.
    position: u64,
    /// Bytes that were in the window before the first unused one, in all.
    before: u64,
    /// The records that the window's bytes are from: the number of bytes before those of each, in
    /// all, and its position on the medium.
    records: VecDeque<(u64, Position)>,
}

impl Window {
    /// Makes an empty window at a position which no record can continue.
    pub(super) fn detached() -> Self {
        Self {
            position: u64::MAX,
            ..Self::default()
        }
    }

    /// The bytes that were not used yet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// Position in the stream of the first byte.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Position in the stream after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.position.saturating_add(self.bytes().len() as u64)
    }

    /// Position on the medium of the record that the first byte is from.
    pub(super) fn record(&self) -> Option<Position> {
        self.records.front().map(|&(_, record)| record)
    }

    /// Number of bytes that were in the window, in all.
    fn total(&self) -> u64 {
        self.before + self.bytes().len() as u64
    }

    /// Moves the start of the window on by `len` bytes.
    ///
    /// Records that end before the new start are forgotten at once, so that the list is never
    /// longer than the window is: a long unit in tiny records has millions of them.
    pub(super) fn consume(&mut self, len: usize) {
        self.used += len;
        self.position = self.position.saturating_add(len as u64);
        self.before += len as u64;
        while self
            .records
            .get(1)
            .is_some_and(|(begins, _)| *begins <= self.before)
        {
            self.records.pop_front();
        }
        // Moving the rest pays off once it is shorter than the used bytes.
        if self.used > self.bytes.len() / 2 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
    }

    /// Moves the start of the window on by `len` bytes, to what is known to be at `position`.
    pub(super) fn consume_to(&mut self, len: usize, position: u64) {
        self.consume(len);
        self.position = position;
    }

    /// Appends the content of the record that continues the window.
    ///
    /// # Errors
    ///
    /// [`MediumError::NoMemory`]: a block needs as much memory as it has bytes.
    pub(super) fn append(&mut self, content: &[u8], record: Position) -> Result<(), MediumError> {
        let reserved = self.bytes.try_reserve(content.len());
        reserved.map_err(|_| MediumError::NoMemory {
            len: self.bytes.len() + content.len(),
        })?;
        self.records.push_back((self.total(), record));
        self.bytes.extend_from_slice(content);
        Ok(())
    }

    /// Discards the bytes from `position` on, where the next record begins: if there are any, then
    /// others were inserted before them. Returns true if that record now continues the window.
    pub(super) fn cut_to(&mut self, position: u64) -> bool {
        let kept = position.checked_sub(self.position);
        let Some(kept) = kept.filter(|kept| *kept <= self.bytes().len() as u64) else {
            return false;
        };
        self.bytes.truncate(self.used + kept as usize);
        let total = self.total();
        while self.records.len() > 1
            && self
                .records
                .back()
                .is_some_and(|(begins, _)| *begins >= total)
        {
            self.records.pop_back();
        }
        true
    }

    /// Starts anew with the content of a record, which begins at `position`, from its byte `first`
    /// on; with none of it if that is `None`.
    pub(super) fn begin(
        &mut self,
        position: u64,
        content: &[u8],
        first: Option<usize>,
        record: Position,
    ) -> Result<(), MediumError> {
        self.clear();
        let first = first.unwrap_or(content.len());
        self.position = position + first as u64;
        self.append(&content[first..], record)
    }

    /// Discards the unused bytes.
    pub(super) fn clear(&mut self) {
        self.position = self.end();
        self.before = self.total();
        self.bytes.clear();
        self.used = 0;
        self.records.clear();
    }
}
