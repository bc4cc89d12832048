//! Defects of block 0, which has the origin of an archive.

use datapipe::wire::UnitKind;

use super::defects::{BODY, Defect, OPEN, RAW, defect, put};
use super::header_defects::SEALED;

/// Offsets in the unit of a special header: its identifier, and the bytes after it.
const IDENTIFIER: usize = BODY + 16;
const BYTES: usize = BODY + 24;

const NO_ORIGIN: &str = "is not the origin, with which each archive begins";

pub(crate) const ORIGINS: &[Defect] = &[
    defect("origin-missing", "block 0", OPEN, |tape, _| {
        tape.unit(UnitKind::Block, 0, |unit| unit[4] = 200);
    }),
    defect(
        "origin-later",
        "block 4: is an origin, and only block 0 of an archive is one",
        RAW,
        |tape, _| {
            tape.unit(UnitKind::Block, 4, |unit| {
                unit[43] = 3;
                unit[BODY..BODY + 100].fill(0);
                unit[BODY] = 32;
                put(unit, BODY + 4, 100 - 16);
                put(unit, IDENTIFIER, 3);
            });
        },
    ),
    defect("origin-unknown-identifier", NO_ORIGIN, OPEN, |tape, _| {
        tape.unit(UnitKind::Block, 0, |unit| put(unit, IDENTIFIER, 7));
    }),
    defect("origin-of-another-kind", NO_ORIGIN, OPEN, |tape, _| {
        tape.unit(UnitKind::Block, 0, |unit| unit[43] = 4);
    }),
    defect(
        "origin-text-too-long",
        "of 65535 bytes, more than 255",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 0, |unit| unit[BYTES..BYTES + 2].fill(255));
        },
    ),
    defect(
        "origin-text-not-utf-8",
        "origin: holds a text that is not UTF-8",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 0, |unit| unit[BYTES + 8] = 255);
        },
    ),
    defect(
        "origin-cut-off",
        "origin: ends 1 byte too early",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 0, |unit| unit[BYTES] += 1);
        },
    ),
    defect(
        "origin-longer-than-its-texts",
        "origin: 1 byte too many",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 0, |unit| unit[BYTES] -= 1);
        },
    ),
    defect(
        "origin-reserved-not-zero",
        "origin: a reserved field is not zero",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 0, |unit| unit[BYTES + 6] = 1);
        },
    ),
    defect(
        "origin-changed",
        "does not authenticate",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::Block, 0, |unit| unit[BYTES + 8] ^= 1);
        },
    ),
];
