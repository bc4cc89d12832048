//! Secrets and recipients that open an archive, and what its key depends on.

use std::path::Path;

use datapipe::crypto::{Argon2Cost, Identity, SecretKind};
use datapipe::limits::{MAX_KEY_SLOTS, MIN_VOLUME_SIZE};
use datapipe::prelude::*;
use datapipe::wire::{
    ArchiveHeader, RecordHeader, UNIT_HEADER_LEN, UnitHeader, UnitKind, VOLUME_RECORD_LEN,
};

use crate::data::{blocks, key};
use crate::fixture::{options, read, tape, volume, write};
use crate::medium::{create_volumes, open};

const BLOCK: u32 = 4096;
const CHEAP: Argon2Cost = Argon2Cost {
    memory_kib: 64,
    passes: 1,
    lanes: 1,
};

fn data(len: usize) -> Vec<u8> {
    blocks(len, BLOCK as usize, 7)
}

fn small(name: &str) -> ArchiveOptions {
    options(name, 2048, 40_000, BLOCK)
}

fn identity(byte: u8) -> Identity {
    Identity::from_bytes([byte; 32])
}

fn opened_by(bytes: &[u8], secret: &Secret) -> Option<SecretKind> {
    let reader = ArchiveReader::open(tape(bytes), Some(secret)).unwrap();
    reader.opened_by()
}

#[test]
fn archive_opens_with_each_of_its_secrets_and_identities() {
    let data = data(50_000);
    let passphrase = || Secret::Passphrase(Passphrase::from_bytes("correct horse").unwrap());
    let archive = small("several")
        .recipient(identity(1).recipient())
        .encrypt_at(passphrase(), CHEAP)
        .encrypt(key(2))
        .recipient(identity(3).recipient());
    let bytes = volume(archive, &data, BLOCK);
    for right in [identity(1).into(), passphrase(), key(2), identity(3).into()] {
        assert!(read(tape(&bytes), Some(&right), BLOCK).unwrap().0 == data);
        assert_eq!(opened_by(&bytes, &right), Some(right.kind()));
    }
    for (wrong, says) in [
        (identity(4).into(), "the identity is not the right one"),
        (key(1), "the key file is not the right one"),
    ] {
        let error = read(tape(&bytes), Some(&wrong), BLOCK).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn archive_for_recipients_only_opens_with_an_identity_only() {
    let data = data(50_000);
    let bytes = volume(
        small("one").recipient(identity(1).recipient()),
        &data,
        BLOCK,
    );
    let secret = Secret::from(identity(1));
    let (restored, outcome) = read(tape(&bytes), Some(&secret), BLOCK).unwrap();
    assert!(restored == data && outcome.complete);
    // The bytes of an identity are not a key file, nor is a recipient's public key.
    for byte in [[1; 32], *identity(1).recipient().bytes()] {
        let key = Secret::from(Key::from_bytes(byte));
        let error = read(tape(&bytes), Some(&key), BLOCK).unwrap_err();
        assert!(
            error.contains("opens with an identity: use that"),
            "{error}"
        );
    }
    let error = read(tape(&bytes), None, BLOCK).unwrap_err();
    assert!(
        error.contains("the identity of one of its recipients"),
        "{error}"
    );
    let plain = volume(small("plain"), &data, BLOCK);
    let reader = ArchiveReader::open(tape(&plain), None).unwrap();
    assert_eq!(reader.opened_by(), None);
    let error = read(tape(&plain), Some(&secret), BLOCK).unwrap_err();
    assert!(
        error.contains("is not encrypted, although a key was given"),
        "{error}"
    );
}

/// An identity that encrypts is the owner's own: the archive is for its recipient.
#[test]
fn archive_encrypted_with_an_identity_is_for_its_recipient() {
    let data = data(5000);
    let bytes = volume(small("own").encrypt(identity(1).into()), &data, BLOCK);
    let restored = read(tape(&bytes), Some(&identity(1).into()), BLOCK).unwrap();
    assert!(restored.0 == data);
}

#[test]
fn archive_with_more_openers_than_slots_is_not_planned() {
    let openers = |count: usize| {
        (0..count).fold(small("many").encrypt(key(1)), |options, _| {
            options.recipient(identity(1).recipient())
        })
    };
    assert!(openers(MAX_KEY_SLOTS - 1).plan().is_ok());
    let error = openers(MAX_KEY_SLOTS).plan().unwrap_err().to_string();
    assert!(
        error.contains("9 secrets and recipients, but an archive has slots for 8"),
        "{error}"
    );
}

/// Writes an archive for eight recipients to volumes of the smallest size, in the smallest records.
fn write_volumes(path: &Path, data: &[u8]) -> ArchiveHeader {
    let mut archive = options(&"n".repeat(255), 1024, 30_000, BLOCK).program("p".repeat(255));
    for byte in 0..MAX_KEY_SLOTS {
        archive = archive.recipient(identity(byte as u8).recipient());
    }
    let archive = archive.plan().unwrap();
    let header = archive.header().clone();
    let medium = create_volumes(path, Some(MIN_VOLUME_SIZE), false);
    write(archive, medium, StreamHead::new(data), BLOCK);
    header
}

/// The label of each volume has both headers, which are longer than a record then.
#[test]
fn archive_with_all_slots_spans_the_smallest_volumes() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(300_000);
    let header = write_volumes(dir.path(), &data);
    assert!(header.to_bytes().len() > 1024);
    assert!(dir.path().join("000003.tap").exists(), "it spans volumes");
    for byte in [0, 7] {
        let secret = Secret::from(identity(byte));
        let (bytes, outcome) = read(open(dir.path()), Some(&secret), BLOCK).unwrap();
        assert!(bytes == data && outcome.complete);
    }
    let second = std::fs::read(dir.path().join("000002.tap")).unwrap();
    // The label follows the frame of the volume record.
    let second = &second[VOLUME_RECORD_LEN + 8..];
    let label = u32::from_le_bytes(second[..4].try_into().unwrap()) as usize;
    let units = units_of(&second[4..][..label]);
    let kinds: Vec<_> = units.iter().map(|(unit, _)| unit.kind).collect();
    let (session, archive) = (UnitKind::SessionHeader, UnitKind::ArchiveHeader);
    assert_eq!(kinds, [session, archive, UnitKind::Volumes]);
    assert_eq!(ArchiveHeader::parse(&units[1].1), Ok(header));
}

/// Returns the units of a record, with their bodies.
fn units_of(record: &[u8]) -> Vec<(UnitHeader, Vec<u8>)> {
    let (_, mut rest) = RecordHeader::parse(record).unwrap();
    let mut units = Vec::new();
    while !rest.is_empty() {
        let unit = UnitHeader::parse(rest).unwrap();
        let body = rest[UNIT_HEADER_LEN..][..unit.stored as usize].to_vec();
        rest = &rest[unit.unit_len()..];
        units.push((unit, body));
    }
    units
}
