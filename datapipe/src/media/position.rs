//! A place on a medium, and what stands there.

use std::fmt;

/// Where a record or a mark begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the volume, from 1.
    pub volume: u32,
    /// Records, marks and damaged stretches before it in the volume. Behind damage it is smaller
    /// than it was when it was written, if more than one record was damaged. From
    /// [`UNCOUNTED`](Self::UNCOUNTED) / 2 on nobody knows how many: the medium was sought from its
    /// end.
    pub record: u64,
    /// Bytes before it in the volume's file. This is what a seek goes by.
    pub byte: u64,
}

impl Position {
    /// Stands for the number of items in a volume that was not read from its start.
    pub const UNCOUNTED: u64 = u64::MAX;

    /// Where volume number `volume` begins.
    pub const fn start_of(volume: u32) -> Self {
        Self {
            volume,
            record: 0,
            byte: 0,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume {}, ", self.volume)?;
        let counted = self.record < Self::UNCOUNTED / 2;
        if counted {
            write!(f, "record {} (", self.record)?;
        }
        f.write_str("byte ")?;
        let digits = self.byte.to_string();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        f.write_str(if counted { ")" } else { "" })
    }
}
