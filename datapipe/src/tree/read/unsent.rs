//! Entries that are committed and not sent: too few for a block, they begin a later one.
//!
//! ```text
//!   block of an instance   [ entries that fill the block sent ][ rest ]
//!                                                                |  copied after the turn
//!   unsent                                                     [ part ][ part ]
//! ```
//!
//! In its turn an instance decides only which bytes are sent and which become a part. It copies
//! them after the turn has passed. An instance that sends a part waits for those bytes.

use std::iter;
use std::mem;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::error::StageError;
use crate::pool::Block;
use crate::shared_bytes::{NoMemory, SharedBytes, reserve};
use crate::wire::ENTRY_HEADER_LEN;

/// Entries that are committed and not sent, which fit into one block.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    parts: Vec<Arc<Part>>,
    len: usize,
}

/// Consecutive entries of one instance.
#[derive(Debug, Default)]
struct Part {
    state: Mutex<PartState>,
    /// Notified when the state changes, which it does once.
    changed: Condvar,
}

#[derive(Debug, Default)]
enum PartState {
    /// The instance has not copied the entries yet.
    #[default]
    Pending,
    Copied(Vec<u8>),
    /// The instance was dropped before it copied them.
    Lost,
}

/// Duty of an instance to copy the end of its block to a part. Dropping it releases an instance
/// that waits for the part.
#[derive(Debug)]
struct Copying {
    part: Arc<Part>,
    /// Offset in the block of the first byte that belongs to the part.
    from: usize,
}

/// Changes of an instance's block that were decided in its turn and are made after it.
#[derive(Debug, Default)]
pub(super) struct BlockChange {
    /// The end of the block that becomes a part.
    copying: Option<Copying>,
    /// The parts that precede the other entries of the block, and their length.
    front: Unsent,
}

impl Unsent {
    /// Length of the entries in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves all entries to the front of a block.
    pub(super) fn take(&mut self) -> BlockChange {
        BlockChange {
            copying: None,
            front: mem::take(self),
        }
    }

    /// Adds what an instance has in its block from `from` to `len`; `change` is that of the block.
    pub(super) fn add(&mut self, from: usize, len: usize, change: &mut BlockChange) {
        if from < len {
            let part = Arc::new(Part::default());
            self.parts.push(Arc::clone(&part));
            self.len += len - from;
            change.copying = Some(Copying { part, from });
        }
    }
}

impl BlockChange {
    /// Changes the block, and waits for the parts that other instances copy. Returns false if one
    /// of them was dropped before it had copied its part.
    pub(super) fn apply(self, block: &mut Block) -> Result<bool, StageError> {
        if let Some(copying) = self.copying {
            let from = copying.from;
            copying.copy(block)?;
            block.truncate(from);
        }
        if self.front.is_empty() {
            return Ok(true);
        }
        let (kept, front) = (block.len(), self.front.len);
        block.grow(front)?;
        let bytes = block.bytes_mut();
        bytes.copy_within(..kept, front);
        let mut at = 0;
        for part in self.front.parts {
            let Some(entries) = part.wait() else {
                return Ok(false);
            };
            bytes[at..][..entries.len()].copy_from_slice(&entries);
            at += entries.len();
        }
        Ok(true)
    }
}

impl Copying {
    fn copy(self, block: &Block) -> Result<(), NoMemory> {
        let entries = &block.bytes()[self.from..];
        let mut copy = Vec::new();
        reserve(&mut copy, entries.len())?;
        copy.extend_from_slice(entries);
        self.part.set(PartState::Copied(copy));
        Ok(())
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.part.set(PartState::Lost);
    }
}

impl Part {
    /// Sets the state, if it is the first one set.
    fn set(&self, new: PartState) {
        let mut state = self.state.lock();
        if matches!(*state, PartState::Pending) {
            *state = new;
            self.changed.notify_all();
        }
    }

    /// Waits for the entries and returns them, or `None` if they are lost.
    fn wait(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        while matches!(*state, PartState::Pending) {
            self.changed.wait(&mut state);
        }
        match mem::replace(&mut *state, PartState::Lost) {
            PartState::Copied(entries) => Some(entries),
            PartState::Pending | PartState::Lost => None,
        }
    }
}

/// Returns the offsets in `bytes` at which its whole entries end.
pub(super) fn entry_ends(bytes: SharedBytes<'_>) -> impl Iterator<Item = usize> {
    let next = move |&end: &usize| {
        let length = u32::from_le_bytes(bytes.array(end + 4)?) as usize;
        let next = end.checked_add(ENTRY_HEADER_LEN + length)?;
        (next <= bytes.len()).then_some(next)
    };
    iter::successors(next(&0), next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::thread;

    use super::*;
    use crate::wire::{Entry, EntryBody};

    fn part() -> (Unsent, BlockChange) {
        let (mut unsent, mut change) = (Unsent::default(), BlockChange::default());
        unsent.add(1, 4, &mut change);
        (unsent, change)
    }

    #[test]
    fn ends_are_those_of_whole_entries() {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for data in [b"first".as_slice(), b"2", b"third"] {
            let body = EntryBody::Extent(0, data);
            Entry { object: 7, body }.append_to(&mut bytes).unwrap();
            expected.push(bytes.len());
        }
        let ends = |len| entry_ends(SharedBytes::from(&bytes[..len])).collect::<Vec<_>>();
        assert_eq!(ends(bytes.len()), expected);
        assert_eq!(ends(bytes.len() - 1), expected[..2]);
        assert_eq!(ends(3), []);
        assert_eq!(ends(0), []);
    }

    #[test]
    fn part_is_waited_for_until_it_is_copied() {
        let (mut unsent, change) = part();
        assert_eq!(unsent.len(), 3);
        let front = unsent.take().front;
        assert!(unsent.is_empty());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| front.parts[0].wait());
            let copying = change.copying.unwrap();
            copying.part.set(PartState::Copied(b"abc".to_vec()));
            drop(copying);
            assert_eq!(waiting.join().unwrap(), Some(b"abc".to_vec()));
        });
    }

    #[test]
    fn instance_that_is_dropped_before_it_copies_releases_the_one_that_waits() {
        let (mut unsent, change) = part();
        let front = unsent.take().front;
        thread::scope(|scope| {
            let waiting = scope.spawn(|| front.parts[0].wait());
            drop(change);
            assert_eq!(waiting.join().unwrap(), None);
        });
    }
}
