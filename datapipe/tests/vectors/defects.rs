//! Defects of a tape, one at a time, and the message of a reader for each.

use datapipe::wire::{Framing, RECORD_HEADER_LEN, UNIT_HEADER_LEN, UnitKind};

use super::edit::Tape;
use super::make::{Lock, PLAIN, Packing, Recipe};

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
const OPEN: Recipe = Recipe {
    framing: Framing::Header,
    ..PLAIN
};
const SEALED: Recipe = Recipe {
    lock: Lock::KeyFile,
    packing: Packing::Raw,
    ..OPEN
};
const PHRASE: Recipe = Recipe {
    lock: Lock::Passphrase,
    packing: Packing::Raw,
    ..OPEN
};

const fn defect(
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
const BODY: usize = UNIT_HEADER_LEN;

/// Returns the number of key slots and the slots, which follow the texts.
fn slot(unit: &mut [u8]) -> &mut [u8] {
    let text = |at: usize| usize::from(u16::from_le_bytes([unit[BODY + at], unit[BODY + at + 1]]));
    let texts = text(36) + text(38) + text(40);
    &mut unit[BODY + 42 + texts..]
}

/// Replaces 32 bits.
fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn get(bytes: &[u8], at: usize) -> u32 {
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
        "record header: unknown kind 3",
        OPEN,
        |tape, _| {
            tape.record(2, |record| record[4] = 3);
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
        "says 8 bytes of content, but has",
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
            tape.unit_as_is(UnitKind::Block, 1, |unit| unit[60] ^= 1);
        },
    ),
    defect(
        "unit-not-one",
        "unit header: does not begin with \"DPun\"",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[0] = b'd');
        },
    ),
    defect(
        "wrong-version-unit",
        "unit header: version 2, but this reader knows 1",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[5] = 2);
        },
    ),
    defect(
        "unknown-kind",
        "unit header: unknown kind 11",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[4] = 11);
        },
    ),
    defect("unknown-flag", "unknown flag", OPEN, |tape, _| {
        tape.unit(UnitKind::Block, 1, |unit| unit[6] = 4)
    }),
    defect(
        "rejected-with-content",
        "cannot be stored in",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[6] = 2);
        },
    ),
    defect("unknown-compression", "algorithm 3", OPEN, |tape, _| {
        tape.unit(UnitKind::Block, 1, |unit| unit[40] = 3);
    }),
    defect(
        "unknown-encryption",
        "encrypted with unknown algorithm 2",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[41] = 2);
        },
    ),
    defect(
        "unknown-meaning",
        "a block of unknown kind 5",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[43] = 5);
        },
    ),
    defect(
        "unit-elsewhere",
        "a unit header that belongs elsewhere",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[48] ^= 8);
        },
    ),
    defect(
        "unit-of-another-session",
        "a unit header that belongs elsewhere",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[56] ^= 8);
        },
    ),
    defect("plain-too-long", "or is too long", OPEN, |tape, _| {
        tape.unit(UnitKind::Block, 1, |unit| put(unit, 32, (64 << 20) + 1));
    }),
    defect(
        "plain-longer-than-the-archive-says",
        "more than the archive's blocks",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| put(unit, 32, 513));
        },
    ),
    defect(
        "stored-longer-than-plain",
        "cannot be stored in",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| put(unit, 32, 1));
        },
    ),
    defect(
        "body-crc",
        "the block is damaged (checksum)",
        OPEN,
        |tape, _| {
            tape.unit_as_is(UnitKind::Block, 1, |unit| unit[BODY] ^= 1);
        },
    ),
    defect(
        "padding-not-zero",
        "followed by bytes that are not zero",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 3, |unit| *unit.last_mut().unwrap() = 1);
        },
    ),
    defect(
        "does-not-decompress",
        "does not decompress",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[BODY] ^= 1);
        },
    ),
    defect(
        "plain-is-another",
        "does not decompress",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| put(unit, 32, 511));
        },
    ),
    defect(
        "deflate-does-not-decompress",
        "does not decompress",
        DEFLATED,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[BODY] |= 6);
        },
    ),
    defect("missing-block", "block 1", OPEN, |tape, _| {
        tape.unit(UnitKind::Block, 1, |unit| unit[4] = 200)
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

const RAW: Recipe = Recipe {
    packing: Packing::Raw,
    ..OPEN
};
const DEFLATED: Recipe = Recipe {
    packing: Packing::Deflate,
    ..OPEN
};

/// Replaces block 2 by block 1, which has the same length, and removes the blocks after it.
fn repeat(tape: &mut Tape) {
    let (stream, units) = (tape.stream(), tape.units());
    let (one, at) = units
        .iter()
        .filter(|(header, _)| header.kind == UnitKind::Block)
        .nth(1)
        .unwrap();
    let one = stream[*at..at + one.unit_len()].to_vec();
    tape.unit(UnitKind::Block, 2, |unit| {
        let position = unit[48..56].to_vec();
        unit.copy_from_slice(&one);
        unit[48..56].copy_from_slice(&position);
    });
    tape.unit(UnitKind::Block, 3, |unit| unit[4] = 200);
    tape.unit(UnitKind::ArchiveFooter, 0, |unit| {
        put(unit, 16, 2);
        put(unit, BODY, 2);
        put(unit, BODY + 8, 1024);
        put(unit, BODY + 24, 2);
    });
}

pub(crate) const ENDS: &[Defect] = &[
    defect(
        "footer-count-wrong",
        "missing at the end",
        OPEN,
        |tape, _| count(tape, 6),
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
            tape.unit(UnitKind::ArchiveFooter, 0, |unit| put(unit, 16, 6));
        },
    ),
    defect(
        "footer-more-of-a-kind",
        "more blocks of a kind than there are",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::ArchiveFooter, 0, |unit| put(unit, BODY + 16, 6));
        },
    ),
    defect(
        "no-footer",
        "the archive's footer is missing",
        OPEN,
        |tape, _| {
            tape.0.truncate(tape.frame_of(UnitKind::Locator));
        },
    ),
    defect(
        "no-last-block",
        "no block before it is the last one",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 4, |unit| unit[6] = 0);
        },
    ),
    defect(
        "last-block-of-another-kind",
        "a last block of kind 1",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 4, |unit| unit[43] = 1);
        },
    ),
    defect(
        "last-block-too-early",
        "no block before it is the last one",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[6] = 8);
            tape.unit(UnitKind::Block, 4, |unit| unit[6] = 0);
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

pub(crate) const HEADERS: &[Defect] = &[
    defect(
        "reserved-not-zero",
        "session header: a reserved field is not zero",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| unit[BODY + 33] = 1);
        },
    ),
    defect(
        "framing-unknown",
        "session header: unknown framing 4",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| unit[BODY + 32] = 4);
        },
    ),
    defect(
        "record-length-unknown",
        "records of 71 bytes",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| put(unit, BODY + 28, 71));
        },
    ),
    defect(
        "time-out-of-range",
        "a time has 1000000000 nanoseconds",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| {
                put(unit, BODY + 24, 1_000_000_000)
            });
        },
    ),
    defect(
        "text-too-long",
        "a text is longer than 255 bytes",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| unit[BODY + 37] = 1);
        },
    ),
    defect(
        "text-not-utf-8",
        "a text that is not UTF-8",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| unit[BODY + 42] = 255);
        },
    ),
    defect(
        "too-many-slots",
        "9 key slots, but at most 8",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| slot(unit)[0] = 9);
        },
    ),
    defect(
        "archive-content-unknown",
        "unknown content 3",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY + 64] = 3);
        },
    ),
    defect(
        "archive-encryption-unknown",
        "archive header: encrypted with unknown algorithm 2",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY + 65] = 2);
        },
    ),
    defect(
        "archive-block-too-long",
        "blocks of 67108865 bytes",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| {
                put(unit, BODY + 60, (64 << 20) + 1)
            });
        },
    ),
    defect(
        "archive-reserved-not-zero",
        "archive header: a reserved field is not zero",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY + 68] = 1);
        },
    ),
];

pub(crate) const KEYS: &[Defect] = &[
    defect(
        "wrong-key-slot",
        "is not the right one: use the one that the archive was encrypted with",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| slot(unit)[1 + 48] ^= 1);
        },
    ),
    defect(
        "key-slot-damaged",
        "the secret is right, but the key slot is damaged",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| slot(unit)[1 + 80] ^= 1);
        },
    ),
    defect("key-slot-kind-unknown", "the kind 3", SEALED, |tape, _| {
        tape.unit(UnitKind::SessionHeader, 0, |unit| slot(unit)[1] = 3);
    }),
    defect(
        "key-derivation-unknown",
        "key derivation 2",
        PHRASE,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| slot(unit)[2] = 2);
        },
    ),
    defect(
        "key-slot-reserved-not-zero",
        "reserved field 1",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| slot(unit)[3] = 1);
        },
    ),
    defect(
        "key-file-with-cost",
        "cost for a key file 1",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| slot(unit)[1 + 8] = 1);
        },
    ),
    defect(
        "argon2-too-costly",
        "17 passes is refused",
        PHRASE,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| slot(unit)[1 + 8] = 17);
        },
    ),
    defect(
        "argon2-too-much-memory",
        "1048577 KiB of memory is refused",
        PHRASE,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| {
                put(slot(unit), 1 + 4, (1 << 20) + 1)
            });
        },
    ),
    defect(
        "argon2-too-cheap",
        "7 KiB of memory is refused",
        PHRASE,
        |tape, _| {
            tape.unit(UnitKind::SessionHeader, 0, |unit| put(slot(unit), 1 + 4, 7));
        },
    ),
    Defect {
        read: Lock::Passphrase,
        ..defect(
            "other-kind-of-secret",
            "opens with a key file",
            SEALED,
            |_, _| {},
        )
    },
    Defect {
        read: Lock::None,
        ..defect(
            "key-needed",
            "give its key or its passphrase",
            SEALED,
            |_, _| {},
        )
    },
    Defect {
        read: Lock::KeyFile,
        ..defect(
            "archive-not-encrypted",
            "not encrypted, although a key was given",
            OPEN,
            |_, _| {},
        )
    },
    Defect {
        read: Lock::KeyFile,
        ..defect("no-key-slots", "has 0 key slots", OPEN, |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY + 65] = 1);
        })
    },
    defect(
        "block-not-encrypted",
        "is not encrypted, although the archive is",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| {
                unit[41] = 0;
                put(unit, 32, get(unit, 36));
            });
        },
    ),
    defect(
        "block-encrypted",
        "is encrypted, although the archive is not",
        RAW,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| {
                unit[41] = 1;
                put(unit, 32, get(unit, 36) - 16);
            });
        },
    ),
    defect(
        "block-changed",
        "does not authenticate",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[BODY] ^= 1);
        },
    ),
    defect(
        "block-of-another-place",
        "does not authenticate",
        SEALED,
        |tape, _| {
            let (stream, units) = (tape.stream(), tape.units());
            let (one, at) = units
                .iter()
                .filter(|(header, _)| header.kind == UnitKind::Block)
                .nth(1)
                .unwrap();
            let body = stream[at + BODY..at + one.unit_len()].to_vec();
            tape.unit(UnitKind::Block, 2, |unit| {
                unit[BODY..].copy_from_slice(&body)
            });
        },
    ),
    defect(
        "block-header-changed",
        "does not authenticate",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::Block, 1, |unit| unit[42] ^= 1);
        },
    ),
    defect(
        "last-block-mark-removed",
        "does not authenticate",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::Block, 4, |unit| unit[6] = 0);
        },
    ),
    defect(
        "archive-header-changed",
        "does not authenticate",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY] ^= 1);
        },
    ),
    defect(
        "footer-encrypted",
        "archive footer with a value in a field that only other kinds have",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::ArchiveFooter, 0, |unit| {
                unit[41] = 1;
                put(unit, 32, get(unit, 36) - 16);
            });
        },
    ),
    defect(
        "footer-changed",
        "more blocks of a kind than there are",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::ArchiveFooter, 0, |unit| unit[BODY] ^= 1);
        },
    ),
];

pub(crate) fn all() -> impl Iterator<Item = &'static Defect> {
    [RECORDS, UNITS, ENDS, HEADERS, KEYS].into_iter().flatten()
}
