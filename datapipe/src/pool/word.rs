//! The ledger word: one 64-bit atomic per buffer, and the only truth about who has it.

use crate::limits::{GENERATION_BITS, MAX_PARTICIPANTS};

/// A decoded ledger word. See `docs/shared-memory.md`, "Ledger word".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) state: State,
    /// The participant that has charge of the buffer, or [`CONTROLLER`].
    pub(crate) who: u32,
    /// The participant whose quota the buffer counts against, or [`NO_ONE`] if it was never
    /// allocated.
    pub(crate) allocator: u32,
    /// Grows by one each time the buffer changes hands.
    pub(crate) generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// `who` may read and write it.
    Held,
    /// `who` has sent it. It is in the queue that its descriptor names, or `who` is about to put
    /// it there.
    Sent,
}

/// Id of the controller in the ledger.
pub(crate) const CONTROLLER: u32 = (1 << WHO_BITS) - 2;
/// No participant: the allocator of a buffer that was never allocated.
pub(crate) const NO_ONE: u32 = (1 << WHO_BITS) - 1;

const WHO_BITS: u32 = 11;
const WHO_MASK: u64 = (1 << WHO_BITS) - 1;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;
const ALLOCATOR_SHIFT: u32 = GENERATION_BITS;
const WHO_SHIFT: u32 = ALLOCATOR_SHIFT + WHO_BITS;
const STATE_SHIFT: u32 = WHO_SHIFT + WHO_BITS;

const _: () = assert!(STATE_SHIFT == 62 && MAX_PARTICIPANTS <= CONTROLLER);

impl Word {
    /// Decodes a word; `None` for one that no participant writes. Zero, what fresh memory holds, is
    /// one of them.
    #[inline]
    pub(crate) fn decode(word: u64) -> Option<Self> {
        let state = match word >> STATE_SHIFT {
            1 => State::Held,
            2 => State::Sent,
            _ => return None,
        };
        Some(Self {
            state,
            who: (word >> WHO_SHIFT & WHO_MASK) as u32,
            allocator: (word >> ALLOCATOR_SHIFT & WHO_MASK) as u32,
            generation: word & GENERATION_MASK,
        })
    }

    #[inline]
    pub(crate) fn encode(self) -> u64 {
        let state = match self.state {
            State::Held => 1,
            State::Sent => 2,
        };
        state << STATE_SHIFT
            | (u64::from(self.who) & WHO_MASK) << WHO_SHIFT
            | (u64::from(self.allocator) & WHO_MASK) << ALLOCATOR_SHIFT
            | self.generation & GENERATION_MASK
    }

    /// The word after `who` has taken the buffer.
    #[inline]
    pub(crate) fn taken_by(self, who: u32, allocator: u32) -> Self {
        let generation = self.generation.wrapping_add(1) & GENERATION_MASK;
        Self {
            state: State::Held,
            who,
            allocator,
            generation,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for state in [State::Held, State::Sent] {
            for (who, allocator) in [(0, 0), (1023, NO_ONE), (CONTROLLER, 5)] {
                for generation in [0, 1, GENERATION_MASK] {
                    let word = Word {
                        state,
                        who,
                        allocator,
                        generation,
                    };
                    assert_eq!(Word::decode(word.encode()), Some(word));
                }
            }
        }
        assert_eq!(Word::decode(0), None);
        assert_eq!(Word::decode(u64::MAX), None);
    }

    #[test]
    fn generations_wrap() {
        let last = Word {
            state: State::Sent,
            who: 1,
            allocator: 1,
            generation: GENERATION_MASK,
        };
        assert_eq!(last.taken_by(2, 1).generation, 0);
    }
}
