//! The position of a record or a mark on a medium.

use std::fmt;

/// Position at which a record or a mark begins.
///
/// Exhaustive: a medium has volumes, and a volume has records in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the volume, from 1.
    pub volume: u32,
    /// Records, marks and damaged stretches before it in the volume. After damage the number is
    /// smaller than at writing, if more than one record was damaged. From
    /// [`UNCOUNTED`](Self::UNCOUNTED) / 2 on it is not a count: the reader came from the volume's
    /// end.
    pub record: u64,
    /// Bytes before it in the volume's file. A seek uses this number.
    pub byte: u64,
}

impl Position {
    /// The value of `record` at the end of a volume that was not read from its start.
    pub const UNCOUNTED: u64 = u64::MAX;

    /// The start of volume number `volume`.
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
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        f.write_str(if counted { ")" } else { "" })
    }
}
