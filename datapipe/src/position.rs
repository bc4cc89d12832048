//! A position on a medium.
//!
//! Defined below the media and the format, because both use it: a medium seeks to a position, the
//! format's footers and the log of damage name one.

use std::fmt;

/// The start of a record or a mark on a medium.
///
/// Exhaustive: a medium has volumes, and a volume has records in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_structs, reason = "declared above")]
pub struct Position {
    /// Number of the volume, from 1.
    pub volume: u32,
    /// Number of records, marks and damaged stretches before it in the volume. After damage it is
    /// smaller than it was at the time of writing, if more than one record was damaged. From
    /// [`UNCOUNTED`](Self::UNCOUNTED) / 2 on the number is unknown: the medium was positioned from
    /// its end.
    pub record: u64,
    /// Number of bytes before it in the volume's file. A seek uses only this.
    pub byte: u64,
}

impl Position {
    /// Number of items in a volume that was not read from its start, so that they were not counted.
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
