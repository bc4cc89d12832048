//! Arbitrary bytes as a volume that is continued: nothing but a torn end is removed, and what is
//! appended is read.
#![no_main]

use datapipe::limits::MAX_RECORD;
use datapipe::media::{Item, MediumError, MediumReader, MediumWriter, VirtualTape, VolumeOptions};
use datapipe::testkit::FaultyStorage;
use datapipe::wire::{VOLUME_RECORD_LEN, VolumeRecord};
use libfuzzer_sys::fuzz_target;

/// Beginning of the records that the probe knows.
const MAGIC: &[u8] = b"\xd1\x9e\x04appended";

fn is_appended(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

fuzz_target!(|input: (bool, &[u8])| {
    let (has_record, bytes) = input;
    // The volume record itself, from arbitrary bytes: what is accepted is encoded in the same way.
    if let Ok(record) = VolumeRecord::parse(bytes) {
        assert_eq!(VolumeRecord::parse(&record.to_bytes()), Ok(record));
    }
    let storage = FaultyStorage::new(1);
    let mut before = Vec::new();
    if has_record {
        let length = (VOLUME_RECORD_LEN as u32).to_le_bytes();
        let record = VolumeRecord::new([1; 16], [0; 16], 1, Default::default()).to_bytes();
        before.extend([&length[..], &record, &length].concat());
    }
    before.extend_from_slice(bytes);
    storage.set_bytes("/t", &before);
    let options = VolumeOptions::default();
    let mut tape = match VirtualTape::append_on(storage.clone(), "/t", options, is_appended) {
        Ok(tape) => tape,
        Err(MediumError::CannotAppend { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let position = tape.write(MAGIC).unwrap();
    tape.write_mark().unwrap();
    tape.finish().unwrap();
    drop(tape);
    let after = storage.bytes("/t").unwrap();
    let common = before
        .iter()
        .zip(&after)
        .take_while(|(one, other)| one == other)
        .count();
    // What was cut off is the beginning of one frame.
    assert!(before.len() - common < MAX_RECORD + 8);
    let mut tape = VirtualTape::open_on(storage, "/t", is_appended).unwrap();
    let mut record = Vec::new();
    tape.seek(position).unwrap();
    assert_eq!(tape.read(&mut record).unwrap(), Item::Record(position));
    assert_eq!(record, MAGIC);
});
