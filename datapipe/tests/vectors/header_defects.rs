//! Defects of headers, and of what is encrypted.

use datapipe::wire::UnitKind;

use super::defects::{BODY, Defect, OPEN, RAW, defect, get, put};
use super::make::{Lock, Packing, Recipe};

pub(super) const SEALED: Recipe = Recipe {
    lock: Lock::KeyFile,
    packing: Packing::Raw,
    ..OPEN
};
const RECIPIENT: Recipe = Recipe {
    lock: Lock::Recipient,
    packing: Packing::Raw,
    ..OPEN
};
const PHRASE: Recipe = Recipe {
    lock: Lock::Passphrase,
    packing: Packing::Raw,
    ..OPEN
};

/// Offset of the first slot after the number of slots.
const SLOT: usize = 8;

/// Returns the number of key slots and the slots, which follow the identity of an archive header.
fn slot(unit: &mut [u8]) -> &mut [u8] {
    &mut unit[BODY + 152..]
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
            tape.unit(UnitKind::SessionHeader, 0, |unit| unit[BODY + 96] = 255);
        },
    ),
    defect(
        "too-many-slots",
        "9 key slots, but at most 8",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| slot(unit)[0] = 9);
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
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| slot(unit)[1] = 1);
        },
    ),
    defect(
        "archive-continuation",
        "is a continuation from block 7, which this version does not read",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY + 88] = 7);
        },
    ),
    defect(
        "archive-part",
        "is part 2 of the set of archive",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY + 66] = 2);
        },
    ),
    defect(
        "archive-of-another-set",
        "belongs to the set of archive",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY + 72] ^= 1);
        },
    ),
    defect(
        "archive-previous-without-first",
        "begins with block 0, but names a header that it continues",
        OPEN,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY + 96] = 1);
        },
    ),
    defect(
        "archive-extension-required",
        "archive header: extension 32769 is required",
        OPEN,
        |tape, _| {
            // The number of slots becomes an empty extension.
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| {
                unit[BODY + 68] = 8;
                slot(unit)[..2].copy_from_slice(&[1, 0x80]);
            });
        },
    ),
];

pub(crate) const KEYS: &[Defect] = &[
    defect(
        "wrong-key-slot",
        "is not the right one: use the one that the archive was encrypted with",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| {
                slot(unit)[SLOT + 48] ^= 1
            });
        },
    ),
    defect(
        "key-slot-damaged",
        "the secret is right, but the key slot",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| {
                slot(unit)[SLOT + 80] ^= 1
            });
        },
    ),
    defect("key-slot-kind-unknown", "the kind 4", SEALED, |tape, _| {
        tape.unit(UnitKind::ArchiveHeader, 0, |unit| slot(unit)[SLOT] = 4);
    }),
    defect(
        "key-derivation-unknown",
        "key derivation 2",
        PHRASE,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| slot(unit)[SLOT + 1] = 2);
        },
    ),
    defect(
        "key-slot-reserved-not-zero",
        "reserved field 1",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| slot(unit)[SLOT + 2] = 1);
        },
    ),
    defect(
        "key-file-with-cost",
        "cost for a key file 1",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| slot(unit)[SLOT + 8] = 1);
        },
    ),
    defect(
        "argon2-too-costly",
        "17 passes is refused",
        PHRASE,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| slot(unit)[SLOT + 8] = 17);
        },
    ),
    defect(
        "argon2-too-much-memory",
        "1048577 KiB of memory is refused",
        PHRASE,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| {
                put(slot(unit), SLOT + 4, (1 << 20) + 1)
            });
        },
    ),
    defect(
        "argon2-too-cheap",
        "7 KiB of memory is refused",
        PHRASE,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| {
                put(slot(unit), SLOT + 4, 7)
            });
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
            "give its key, its passphrase",
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
        "key-id-changed",
        "the key id in the archive's header is damaged",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY + 128] ^= 1);
        },
    ),
    defect(
        "slots-of-an-archive-that-is-not-encrypted",
        "is not encrypted, but has a key id or key slots",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY + 65] = 0);
        },
    ),
    defect(
        "recipient-other-identity",
        "the identity is not the right one",
        RECIPIENT,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| {
                slot(unit)[SLOT + 16] ^= 1
            });
        },
    ),
    defect(
        "recipient-slot-damaged",
        "the secret is right, but the key slot",
        RECIPIENT,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| {
                slot(unit)[SLOT + 80] ^= 1
            });
        },
    ),
    defect(
        "recipient-without-shared-secret",
        "its ephemeral key gives no secret",
        RECIPIENT,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| {
                slot(unit)[SLOT + 16..SLOT + 48].fill(0)
            });
        },
    ),
    defect(
        "recipient-with-cost",
        "cost for a recipient 1",
        RECIPIENT,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| slot(unit)[SLOT + 4] = 1);
        },
    ),
    Defect {
        read: Lock::Recipient,
        ..defect(
            "key-file-with-identity",
            "opens with a key file",
            SEALED,
            |_, _| {},
        )
    },
    Defect {
        read: Lock::KeyFile,
        ..defect(
            "recipient-with-key-file",
            "opens with an identity",
            RECIPIENT,
            |_, _| {},
        )
    },
    defect(
        "block-not-encrypted",
        "is not encrypted, although the archive is",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| {
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
            tape.unit(UnitKind::Block, 2, |unit| {
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
            tape.unit(UnitKind::Block, 2, |unit| unit[BODY] ^= 1);
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
                .nth(2)
                .unwrap();
            let body = stream[at + BODY..at + one.unit_len()].to_vec();
            tape.unit(UnitKind::Block, 3, |unit| {
                unit[BODY..].copy_from_slice(&body)
            });
        },
    ),
    defect(
        "block-header-changed",
        "does not authenticate",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::Block, 2, |unit| unit[42] ^= 1);
        },
    ),
    defect(
        "last-block-mark-removed",
        "does not authenticate",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::Block, 5, |unit| unit[6] = 0);
        },
    ),
    defect(
        "archive-header-changed",
        "does not authenticate",
        SEALED,
        |tape, _| {
            tape.unit(UnitKind::ArchiveHeader, 0, |unit| unit[BODY + 16] ^= 1);
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
            tape.unit(UnitKind::ArchiveFooter, 0, |unit| unit[BODY] -= 1);
        },
    ),
];
