//! The word of one slot of a ring.

use crate::limits::GENERATION_BITS;
use crate::memory::{BufferId, Generation, Lap};

/// A slot's content. See `docs/shared-memory.md`, "Ring slot".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Nothing was put here yet on this lap.
    Empty {
        /// The lap on which the slot can be filled.
        lap: Lap,
    },
    /// A buffer was put here, and may have been taken since: its ledger word knows.
    Full {
        /// The buffer, not yet checked against the size of the pool.
        buffer: BufferId,
        /// Generation at which it was sent.
        generation: Generation,
    },
}

const FULL: u64 = 1 << 63;
const BUFFER_SHIFT: u32 = GENERATION_BITS;
const BUFFER_MASK: u64 = (1 << 13) - 1;

impl Slot {
    #[inline]
    pub(crate) fn decode(word: u64) -> Self {
        if word & FULL == 0 {
            Self::Empty {
                lap: Lap::new(word),
            }
        } else {
            Self::Full {
                buffer: BufferId::new((word >> BUFFER_SHIFT & BUFFER_MASK) as u32),
                generation: Generation::new(word & Generation::MASK),
            }
        }
    }

    #[inline]
    pub(crate) fn encode(self) -> u64 {
        match self {
            Self::Empty { lap } => lap.get() & !FULL,
            Self::Full { buffer, generation } => {
                FULL | (u64::from(buffer.get()) & BUFFER_MASK) << BUFFER_SHIFT
                    | generation.get() & Generation::MASK
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for slot in [
            Slot::Empty { lap: Lap::FIRST },
            Slot::Empty {
                lap: Lap::new(u64::MAX >> 1),
            },
            Slot::Full {
                buffer: BufferId::new(0),
                generation: Generation::FIRST,
            },
            Slot::Full {
                buffer: BufferId::new(4095),
                generation: Generation::new(Generation::MASK),
            },
        ] {
            assert_eq!(Slot::decode(slot.encode()), slot);
        }
    }
}
