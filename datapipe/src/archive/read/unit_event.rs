//! Results of reading units.

use crate::media::Position;
use crate::wire::UnitHeader;

use super::super::report::StreamDamage;

/// The next thing that a [`UnitReader`](super::UnitReader) found.
#[derive(Debug)]
pub(super) enum UnitEvent {
    /// A unit, and the position of the record in which it begins, if that is known. The reader has
    /// the body.
    Unit(UnitHeader, Option<Position>),
    /// A copy of a unit from a volume's label, with its body.
    Label(UnitHeader, Vec<u8>),
    /// Damage, or a record that does not belong here.
    Damage(StreamDamage),
    /// A file mark: everything before it was on stable storage when it was written.
    Mark,
    /// The end of the last volume.
    End,
}
