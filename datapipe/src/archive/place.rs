//! The place of an archive on a medium that may have others.

use crate::media::Position;
use crate::wire::codec::{Bytes, DecodeError, Put};

/// The place of an archive on a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the archive in its session, from 1.
    pub(super) archive: u32,
    /// The archive was selected: nothing is missing if the medium has others.
    pub(super) is_selected: bool,
    /// Number of the medium's volumes before the first one of the session.
    pub(super) volumes_before: u32,
    /// The record at which reading begins; the start of the medium if there is none.
    pub(super) start: Option<Position>,
    /// The record of the session's footer, if it is known.
    pub(super) footer: Option<Position>,
    /// The label of the next session, at which this one has ended.
    pub(super) until: Option<Position>,
}

impl Place {
    /// The place of the only archive on a medium.
    pub(super) const ONLY: Self = Self {
        archive: 1,
        is_selected: false,
        volumes_before: 0,
        start: None,
        footer: None,
        until: None,
    };

    /// True if `at` is at the next session, or after it.
    pub(super) fn is_past(&self, at: Position) -> bool {
        self.until
            .is_some_and(|until| is_before(until, at) || is_same(until, at))
    }

    /// The place, for another process.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32(self.archive);
        bytes.put_u32(self.volumes_before);
        bytes.put_u8(self.is_selected.into());
        for position in [self.start, self.footer, self.until] {
            let at = position.unwrap_or(Position::start_of(0));
            bytes.put_u32(at.volume);
            bytes.put_u64s(&[at.record, at.byte]);
        }
        bytes
    }

    /// Decodes what [`to_bytes`](Self::to_bytes) returned.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("a module's place of an archive", bytes);
        let (archive, volumes_before) = (bytes.u32()?, bytes.u32()?);
        let is_selected = bytes.u8()? == 1;
        let mut position = || {
            let (volume, [record, byte]) = (bytes.u32()?, bytes.u64s()?);
            let at = Position {
                volume,
                record,
                byte,
            };
            Ok((volume > 0).then_some(at))
        };
        let (start, footer, until) = (position()?, position()?, position()?);
        bytes.end()?;
        Ok(Self {
            archive,
            is_selected,
            volumes_before,
            start,
            footer,
            until,
        })
    }
}

/// Returns a position on the medium of one whose volumes are counted in a session that begins after
/// `volumes_before` volumes.
pub(super) fn on_medium(position: Position, volumes_before: u32) -> Position {
    Position {
        volume: position.volume.saturating_add(volumes_before),
        ..position
    }
}

/// True if `one` is before `other` on the medium. Some media have no bytes, and records are not
/// counted everywhere.
pub(super) fn is_before(one: Position, other: Position) -> bool {
    (one.volume, one.byte) < (other.volume, other.byte)
        || one.byte == 0 && is_counted(one, other) && one < other
}

/// True if both are the same position on the medium, as [`is_before`] compares them.
pub(super) fn is_same(one: Position, other: Position) -> bool {
    (one.volume, one.byte) == (other.volume, other.byte)
        && (one.byte > 0 || !is_counted(one, other) || one.record == other.record)
}

fn is_counted(one: Position, other: Position) -> bool {
    one.record.max(other.record) < Position::UNCOUNTED / 2
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn place_survives_encoding() {
        let at = |volume, byte| Position {
            volume,
            record: 7,
            byte,
        };
        let place = Place {
            archive: 3,
            is_selected: true,
            volumes_before: 2,
            start: Some(at(3, 520)),
            footer: None,
            until: Some(at(4, 0)),
        };
        let bytes = place.to_bytes();
        assert_eq!(Place::parse(&bytes).unwrap(), place);
        assert!((0..bytes.len()).all(|len| Place::parse(&bytes[..len]).is_err()));
    }

    #[test]
    fn positions_are_compared_by_bytes_and_without_them_by_records() {
        let at = |volume, record, byte| Position {
            volume,
            record,
            byte,
        };
        assert!(is_before(at(1, u64::MAX - 3, 520), at(1, 9, 700)));
        assert!(is_before(at(1, 9, 700), at(2, 0, 0)));
        assert!(is_before(at(1, 3, 0), at(1, 4, 0)));
        assert!(!is_before(at(1, 4, 0), at(1, 4, 0)));
        let place = Place {
            until: Some(at(1, 4, 0)),
            ..Place::ONLY
        };
        assert!(!place.is_past(at(1, 3, 0)) && place.is_past(at(1, 4, 0)));
    }
}
