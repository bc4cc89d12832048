//! The word of one slot of a ring.

use crate::limits::GENERATION_BITS;

/// A slot's content. See `docs/shared-memory.md`, "Ring slot".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Nothing was put here yet on this lap.
    Empty {
        /// The lap on which the slot can be filled.
        lap: u64,
    },
    /// A buffer was put here, and may have been taken since: its ledger word knows.
    Full {
        /// Index of the buffer, not yet checked against the size of the pool.
        buffer: u32,
        /// Generation at which it was sent.
        generation: u64,
    },
}

const FULL: u64 = 1 << 63;
const BUFFER_SHIFT: u32 = GENERATION_BITS;
const BUFFER_MASK: u64 = (1 << 13) - 1;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;

impl Slot {
    #[inline]
    pub(crate) fn decode(word: u64) -> Self {
        if word & FULL == 0 {
            Self::Empty { lap: word }
        } else {
            let buffer = (word >> BUFFER_SHIFT & BUFFER_MASK) as u32;
            Self::Full {
                buffer,
                generation: word & GENERATION_MASK,
            }
        }
    }

    #[inline]
    pub(crate) fn encode(self) -> u64 {
        match self {
            Self::Empty { lap } => lap & !FULL,
            Self::Full { buffer, generation } => {
                FULL | (u64::from(buffer) & BUFFER_MASK) << BUFFER_SHIFT
                    | generation & GENERATION_MASK
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
            Slot::Empty { lap: 0 },
            Slot::Empty { lap: u64::MAX >> 1 },
            Slot::Full {
                buffer: 0,
                generation: 0,
            },
            Slot::Full {
                buffer: 4095,
                generation: GENERATION_MASK,
            },
        ] {
            assert_eq!(Slot::decode(slot.encode()), slot);
        }
    }
}
