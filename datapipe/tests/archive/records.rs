//! Records: zeros after their content, kinds of later versions, and volume records between them.

use datapipe::archive::ReadOutcome;
use datapipe::media::{MediumWriter as _, VirtualTape, VolumeOptions};
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, frames};
use datapipe::wire::{RecordHeader, RecordKind};

use crate::data::{key, noise};
use crate::fixture::{Run, TAPE, encrypted, open_tape, options, read, salvage, tape, volume};

const BLOCK: u32 = 512;

fn small() -> ArchiveOptions {
    options("records", 1024, 1 << 20, BLOCK)
}

/// The frames of a volume with an archive of `data`, without the volume record.
fn good(data: &[u8], secret: Option<&Secret>) -> Vec<Vec<u8>> {
    frames(&volume(encrypted(small(), secret), data, BLOCK))
}

/// The record in a frame; nothing if it is a mark.
fn record(frame: &[u8]) -> &[u8] {
    if frame.len() > 8 {
        &frame[4..frame.len() - 4]
    } else {
        &[]
    }
}

fn framed(record: &[u8]) -> Vec<u8> {
    let length = (record.len() as u32).to_le_bytes();
    match record.is_empty() {
        true => length.to_vec(),
        false => [&length[..], record, &[0][..record.len() % 2], &length].concat(),
    }
}

/// Reads what must be the whole archive, strictly and salvaging.
fn check_whole(bytes: &[u8], secret: Option<&Secret>, data: &[u8]) -> ReadOutcome {
    let (restored, outcome) = read(tape(bytes), secret, BLOCK).unwrap();
    assert!(restored == data && outcome.complete, "{outcome:?}");
    let log = DamageLog::new();
    let salvaged = salvage(tape(bytes), secret, &log, BLOCK, Run::Inline);
    assert!(salvaged.bytes == data && log.count() == 0);
    outcome
}

#[test]
fn zeros_after_the_content_of_records_are_not_part_of_the_stream() {
    let data = noise(20 * BLOCK as usize + 9, 3);
    for secret in [None, Some(key(1))] {
        let frames = good(&data, secret.as_ref());
        let padded = |len: usize| -> Vec<u8> {
            let all = frames.iter().map(|frame| {
                let mut bytes = record(frame).to_vec();
                if !bytes.is_empty() {
                    bytes.resize(bytes.len().max(len), 0);
                }
                framed(&bytes)
            });
            all.collect::<Vec<_>>().concat()
        };
        for len in [1024, 1025, 4096] {
            let outcome = check_whole(&padded(len), secret.as_ref(), &data);
            assert_eq!(outcome.later_records, 0);
        }
        // Any other byte is damage.
        let mut bytes = padded(4096);
        let at = bytes.len() - 12 - 4;
        bytes[at] = 1;
        let error = read(tape(&bytes), secret.as_ref(), BLOCK).unwrap_err();
        assert!(error.contains("are not zero"), "{error}");
    }
}

#[test]
fn records_of_later_versions_are_passed_over_and_counted() {
    let data = noise(20 * BLOCK as usize + 9, 3);
    for secret in [None, Some(key(1))] {
        let mut sequence = 0;
        let mut bytes = Vec::new();
        let mut later = 0;
        for (number, frame) in good(&data, secret.as_ref()).iter().enumerate() {
            let Ok((header, content)) = RecordHeader::parse(record(frame)) else {
                bytes.extend_from_slice(frame);
                continue;
            };
            if number > 0 && number % 2 == 0 {
                let inserted = RecordHeader {
                    kind: RecordKind::Later(128 + number as u8 % 128),
                    sequence,
                    length: 16,
                    first: None,
                    ..header
                };
                bytes.extend(framed(
                    &[&inserted.to_bytes()[..], b"of a later one. "].concat(),
                ));
                (sequence, later) = (sequence + 1, later + 1);
            }
            let moved = RecordHeader { sequence, ..header };
            bytes.extend(framed(&[&moved.to_bytes()[..], content].concat()));
            sequence += 1;
        }
        let outcome = check_whole(&bytes, secret.as_ref(), &data);
        assert!(later > 5 && outcome.later_records == later, "{outcome:?}");
    }
}

#[test]
fn record_of_an_unknown_kind_is_damage() {
    let mut frames = good(&noise(2000, 1), None);
    let (header, content) = RecordHeader::parse(record(&frames[2])).unwrap();
    let mut bytes = header.to_bytes();
    bytes[4] = 127;
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    frames[2] = framed(&[&bytes[..], content].concat());
    let error = read(tape(&frames.concat()), None, BLOCK).unwrap_err();
    assert!(error.contains("unknown kind 127"), "{error}");
}

/// Volumes that were put together have volume records between their records. One that is lost, or
/// that was never there, costs nothing.
#[test]
fn volume_record_is_not_part_of_the_archive() {
    let data = noise(20 * BLOCK as usize + 9, 3);
    let storage = FaultyStorage::new(1);
    let mut other =
        VirtualTape::create_on(storage.clone(), TAPE, VolumeOptions::default()).unwrap();
    other.write(b"a record").unwrap();
    other.sync().unwrap();
    let volume_record = frames(&storage.bytes(TAPE).unwrap()).remove(0);
    let frames = good(&data, None);
    check_whole(&frames.concat(), None, &data);
    let record = std::slice::from_ref(&volume_record);
    let with = [record, &frames[..]].concat();
    check_whole(&with.concat(), None, &data);
    let between = [&with[..3], record, &with[3..]].concat();
    check_whole(&between.concat(), None, &data);
    for fill in [0, 0xee, 0xff] {
        let mut lost = with.concat();
        lost[..volume_record.len()].fill(fill);
        check_whole(&lost, None, &data);
        // The index, too, finds all.
        storage.set_bytes(TAPE, &lost);
        let reader = ArchiveReader::open(open_tape(&storage).unwrap(), None).unwrap();
        // The last block has no data.
        assert_eq!(reader.index().unwrap().blocks(), 23);
    }
}
