//! Defects of a tape, one at a time, and the message of a reader for each.

use datapipe::wire::{Framing, RECORD_HEADER_LEN, UNIT_HEADER_LEN, UnitKind};

use super::edit::Tape;
use super::header_defects;
use super::make::{Lock, PLAIN, Packing, Recipe};
use super::origin_defects;

/// A defect of a tape.
pub(crate) struct Defect {
    /// Name of the defect and of its file.
    pub(crate) name: &'static str,
    /// Part of the message of a reader.
    pub(crate) says: &'static str,
    /// Recipe of the archive before the defect.
    pub(crate) of: Recipe,
    /// Lock with which it is read.
    pub(crate) read: Lock,
    /// Makes the defect. The second tape is of another session.
    pub(crate) make: fn(&mut Tape, &Tape),
}

/// An archive without chunk footers, which have copies of the headers.
pub(super) const OPEN: Recipe = Recipe {
    framing: Framing::Header,
    ..PLAIN
};
pub(super) const fn defect(
    name: &'static str,
    says: &'static str,
    of: Recipe,
    make: fn(&mut Tape, &Tape),
) -> Defect {
    Defect {
        name,
        says,
        of,
        read: of.lock,
        make,
    }
}

/// Offset of a unit's body.
pub(super) const BODY: usize = UNIT_HEADER_LEN;

/// Replaces 32 bits.
pub(super) fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn get(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) const RECORDS: &[Defect] = &[
    defect(
        "record-header-crc",
        "record header: damaged (checksum)",
        OPEN,
        |tape, _| tape.0[2][60] ^= 1,
    ),
    defect(
        "record-not-one",
        "record header: does not begin with \"DPrc\"",
        OPEN,
        |tape, _| {
            tape.record(2, |record| record[0] = b'd');
        },
    ),
    defect(
        "wrong-version-record",
        "record header: version 2, but this reader knows 1",
        OPEN,
        |tape, _| {
            tape.record(2, |record| record[5] = 2);
        },
    ),
    defect(
        "record-unknown-kind",
        "record header: unknown kind 4",
        OPEN,
        |tape, _| {
            tape.record(2, |record| record[4] = 4);
        },
    ),
    defect(
        "record-reserved-not-zero",
        "record header: a reserved field is not zero",
        OPEN,
        |tape, _| {
            tape.record(2, |record| record[6] = 1);
        },
    ),
    defect(
        "record-length",
        "says 16384 bytes of content, but has",
        OPEN,
        |tape, _| {
            tape.record(2, |record| put(record, 36, 16384));
        },
    ),
    defect(
        "record-filler-not-zero",
        "the bytes after its 8 bytes of content are not zero",
        OPEN,
        |tape, _| {
            tape.record(2, |record| {
                put(record, 36, 8);
                put(record, 48, u32::MAX);
            });
        },
    ),
    defect(
        "record-first-outside",
        "its first unit begins outside of it",
        OPEN,
        |tape, _| {
            tape.record(2, |record| put(record, 48, 4096));
        },
    ),
    defect(
        "record-volume-0",
        "volumes are counted from 1",
        OPEN,
        |tape, _| {
            tape.record(2, |record| put(record, 32, 0));
        },
    ),
    defect(
        "record-position-out-of-range",
        "its position is out of range",
        OPEN,
        |tape, _| {
            tape.record(2, |record| record[40..48].fill(255));
        },
    ),
    defect(
        "missing-record",
        "1 record of the session is missing",
        OPEN,
        |tape, _| {
            tape.0.remove(2);
        },
    ),
    defect(
        "repeated-record",
        "record 2 of the session follows a later one",
        OPEN,
        |tape, _| {
            tape.0.insert(2, tape.0[2].clone());
        },
    ),
    defect(
        "record-out-of-order",
        "follows a later one",
        PLAIN,
        |tape, _| tape.0.swap(1, 2),
    ),
    defect("foreign-record", "a foreign record", OPEN, |tape, other| {
        tape.0[2].clone_from(&other.0[2])
    }),
    defect("no-label", "the volume has no label", OPEN, |tape, _| {
        tape.0.remove(0);
    }),
    defect(
        "wrong-volume",
        "the wrong volume: it belongs to another session",
        OPEN,
        |tape, other| {
            tape.0[0].clone_from(&other.0[0]);
        },
    ),
    defect(
        "volume-out-of-order",
        "this is volume 2 of the session, out of order",
        OPEN,
        |tape, _| {
            tape.record(0, |record| put(record, 32, 2));
        },
    ),
    // The record after it would have a position out of range.
    defect(
        "record-at-the-end-of-the-range",
        "record header: damaged (checksum)",
        RAW,
        |tape, _| {
            tape.record(2, |record| {
                record[40..48].copy_from_slice(&(u64::MAX - 1023).to_le_bytes())
            });
            tape.0[3][60] ^= 1;
        },
    ),
    defect(
        "label-damaged",
        "the volume's label is damaged",
        OPEN,
        |tape, _| {
            tape.0[0][RECORD_HEADER_LEN + BODY] ^= 1;
        },
    ),
];

pub(crate) const UNITS: &[Defect] = &[
    defect(
        "unit-header-crc",
        "unit header: damaged (checksum)",
        OPEN,
        |tape, _| {
            tape.unit_as_is(UnitKind::Block, 2, |unit| unit[60] ^= 1);
        },
    ),
    defect(
        "unit-not-one",
        "unit header: does not begin with \"DPun\"",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[0] = b'd');
        },
    ),
    defect(
        "wrong-version-unit",
        "unit header: version 2, but this reader knows 1",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[5] = 2);
        },
    ),
    defect(
        "unknown-kind",
        "unit header: unknown kind 12",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[4] = 12);
        },
    ),
    defect("unknown-flag", "unknown flag", OPEN, |tape, _| {
        tape.unit(UnitKind::Block, 2, |unit| unit[6] = 4)
    }),
    defect(
        "rejected-with-content",
        "cannot be stored in",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[6] = 2);
        },
    ),
    defect("unknown-compression", "algorithm 3", OPEN, |tape, _| {
        tape.unit(UnitKind::Block, 2, |unit| unit[40] = 3);
    }),
    defect(
        "unknown-encryption",
        "encrypted with unknown algorithm 2",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[41] = 2);
        },
    ),
    defect(
        "unknown-meaning",
        "a block of unknown kind 5",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[43] = 5);
        },
    ),
    defect(
        "unit-elsewhere",
        "a unit header that belongs elsewhere",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[48] ^= 8);
        },
    ),
    defect(
        "unit-of-another-session",
        "a unit header that belongs elsewhere",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[56] ^= 8);
        },
    ),
    defect("plain-too-long", "or is too long", OPEN, |tape, _| {
        tape.unit(UnitKind::Block, 2, |unit| put(unit, 32, (64 << 20) + 1));
    }),
    defect(
        "plain-longer-than-the-archive-says",
        "more than the archive's blocks",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| put(unit, 32, 513));
        },
    ),
    defect(
        "stored-longer-than-plain",
        "cannot be stored in",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| put(unit, 32, 1));
        },
    ),
    defect(
        "body-crc",
        "the block is damaged (checksum)",
        OPEN,
        |tape, _| {
            tape.unit_as_is(UnitKind::Block, 2, |unit| unit[BODY] ^= 1);
        },
    ),
    defect(
        "padding-not-zero",
        "followed by bytes that are not zero",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 4, |unit| *unit.last_mut().unwrap() = 1);
        },
    ),
    defect(
        "does-not-decompress",
        "does not decompress",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[BODY] ^= 1);
        },
    ),
    defect(
        "plain-is-another",
        "does not decompress",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| put(unit, 32, 511));
        },
    ),
    defect(
        "deflate-does-not-decompress",
        "does not decompress",
        DEFLATED,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[BODY] |= 6);
        },
    ),
    defect("missing-block", "block 2", OPEN, |tape, _| {
        tape.unit(UnitKind::Block, 2, |unit| unit[4] = 200)
    }),
    defect(
        "repeated-block",
        "appears again, or out of order",
        RAW,
        |tape, _| repeat(tape),
    ),
    defect(
        "kind-of-options",
        "unit header: unknown kind 5",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Locator, 0, |unit| unit[4] = 5);
        },
    ),
];

pub(super) const RAW: Recipe = Recipe {
    packing: Packing::Raw,
    ..OPEN
};
const DEFLATED: Recipe = Recipe {
    packing: Packing::Deflate,
    ..OPEN
};

/// Replaces block 3 by block 2, which has the same length, and removes the blocks after it.
fn repeat(tape: &mut Tape) {
    let (stream, units) = (tape.stream(), tape.units());
    let (one, at) = units
        .iter()
        .filter(|(header, _)| header.kind == UnitKind::Block)
        .nth(2)
        .unwrap();
    let one = stream[*at..at + one.unit_len()].to_vec();
    tape.unit(UnitKind::Block, 3, |unit| {
        let position = unit[48..56].to_vec();
        unit.copy_from_slice(&one);
        unit[48..56].copy_from_slice(&position);
    });
    tape.unit(UnitKind::Block, 4, |unit| unit[4] = 200);
    tape.unit(UnitKind::ArchiveFooter, 0, |unit| {
        put(unit, 16, 3);
        put(unit, BODY, 3);
        put(unit, BODY + 8, 1024);
        put(unit, BODY + 24, 3);
    });
}

pub(crate) const ENDS: &[Defect] = &[
    defect(
        "footer-count-wrong",
        "missing at the end",
        OPEN,
        |tape, _| count(tape, 7),
    ),
    defect(
        "footer-count-too-small",
        "says 3 blocks, but there are more",
        OPEN,
        |tape, _| count(tape, 3),
    ),
    defect(
        "footer-contradicts-itself",
        "the archive footer contradicts itself",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::ArchiveFooter, 0, |unit| put(unit, 16, 7));
        },
    ),
    defect(
        "footer-more-of-a-kind",
        "more blocks of a kind than there are",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::ArchiveFooter, 0, |unit| put(unit, BODY + 16, 7));
        },
    ),
    defect(
        "no-footer",
        "the archive's footer is missing",
        OPEN,
        |tape, _| {
            tape.0.truncate(tape.frame_of(UnitKind::ArchiveFooter));
        },
    ),
    defect(
        "no-last-block",
        "no block before it is the last one",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 5, |unit| unit[6] = 0);
        },
    ),
    defect(
        "last-block-of-another-kind",
        "a last block of kind 1",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 5, |unit| unit[43] = 1);
        },
    ),
    defect(
        "last-block-too-early",
        "no block before it is the last one",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[6] = 8);
            tape.unit(UnitKind::Block, 5, |unit| unit[6] = 0);
        },
    ),
    defect(
        "no-session-footer",
        "the session's footer is missing",
        OPEN,
        |tape, _| {
            tape.0.truncate(tape.frame_of(UnitKind::SessionFooter));
        },
    ),
];

/// Makes the archive footer claim `blocks` blocks.
fn count(tape: &mut Tape, blocks: u32) {
    tape.unit(UnitKind::ArchiveFooter, 0, |unit| {
        put(unit, 16, blocks);
        put(unit, BODY, blocks);
        put(unit, BODY + 24, blocks);
    });
}

pub(crate) fn all() -> impl Iterator<Item = &'static Defect> {
    [
        RECORDS,
        UNITS,
        ENDS,
        header_defects::HEADERS,
        header_defects::KEYS,
        origin_defects::ORIGINS,
    ]
    .into_iter()
    .flatten()
}
