//! The ledger word: one 64-bit atomic per buffer, and the only truth about who has it.

use crate::limits::{GENERATION_BITS, MAX_PARTICIPANTS};
use crate::memory::{Generation, ParticipantId};

/// A decoded ledger word. See `docs/shared-memory.md`, "Ledger word".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) state: State,
    /// The participant that has charge of the buffer, or [`CONTROLLER`].
    pub(crate) who: ParticipantId,
    /// The participant whose quota the buffer counts against, or [`NO_ONE`] if it was never
    /// allocated.
    pub(crate) allocator: ParticipantId,
    /// Grows by one each time the buffer changes hands.
    pub(crate) generation: Generation,
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
pub(crate) const CONTROLLER: ParticipantId = ParticipantId::new((1 << WHO_BITS) - 2);
/// No participant: the allocator of a buffer that was never allocated.
pub(crate) const NO_ONE: ParticipantId = ParticipantId::new((1 << WHO_BITS) - 1);

const WHO_BITS: u32 = 11;
const WHO_MASK: u64 = (1 << WHO_BITS) - 1;
const ALLOCATOR_SHIFT: u32 = GENERATION_BITS;
const WHO_SHIFT: u32 = ALLOCATOR_SHIFT + WHO_BITS;
const STATE_SHIFT: u32 = WHO_SHIFT + WHO_BITS;

const _: () = assert!(STATE_SHIFT == 62 && MAX_PARTICIPANTS <= CONTROLLER.get());

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
            who: ParticipantId::new((word >> WHO_SHIFT & WHO_MASK) as u32),
            allocator: ParticipantId::new((word >> ALLOCATOR_SHIFT & WHO_MASK) as u32),
            generation: Generation::new(word & Generation::MASK),
        })
    }

    #[inline]
    pub(crate) fn encode(self) -> u64 {
        let state = match self.state {
            State::Held => 1,
            State::Sent => 2,
        };
        state << STATE_SHIFT
            | (u64::from(self.who.get()) & WHO_MASK) << WHO_SHIFT
            | (u64::from(self.allocator.get()) & WHO_MASK) << ALLOCATOR_SHIFT
            | self.generation.get() & Generation::MASK
    }

    /// The word after `who` has taken the buffer.
    #[inline]
    pub(crate) fn taken_by(self, who: ParticipantId, allocator: ParticipantId) -> Self {
        Self {
            state: State::Held,
            who,
            allocator,
            generation: self.generation.next(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for state in [State::Held, State::Sent] {
            for (who, allocator) in [
                (ParticipantId::new(0), ParticipantId::new(0)),
                (ParticipantId::new(1023), NO_ONE),
                (CONTROLLER, ParticipantId::new(5)),
            ] {
                for generation in [0, 1, Generation::MASK].map(Generation::new) {
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
            who: ParticipantId::new(1),
            allocator: ParticipantId::new(1),
            generation: Generation::new(Generation::MASK),
        };
        let next = last.taken_by(ParticipantId::new(2), last.allocator);
        assert_eq!(next.generation, Generation::FIRST);
    }
}
