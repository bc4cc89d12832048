//! Arbitrary bytes as a volume: it is read to its end, and yields no more bytes than it has.
#![no_main]

use datapipe::media::{Item, MediumReader, Position, VirtualTape};
use datapipe::testkit::FaultyStorage;
use libfuzzer_sys::fuzz_target;

/// Probe that accepts more than that of a record, so that the target reaches more code.
fn is_even(start: &[u8]) -> bool {
    start.first().is_some_and(|byte| byte % 2 == 0)
}

fuzz_target!(|bytes: &[u8]| {
    let storage = FaultyStorage::new(1);
    storage.set_bytes("/t", bytes);
    let mut tape = VirtualTape::open_on(storage, "/t", is_even).unwrap();
    let (mut record, mut items, mut yielded) = (Vec::new(), Vec::new(), 0);
    loop {
        let item = tape.read(&mut record).unwrap();
        items.push((item.clone(), record.clone()));
        match item {
            Item::Record(_) => yielded += record.len() + 8,
            Item::Mark(_) => yielded += 4,
            Item::Damaged { skipped, .. } => yielded += skipped as usize,
            Item::End => break,
        }
        assert!(items.len() <= bytes.len() + 1, "each item takes some bytes");
    }
    assert!(yielded <= bytes.len(), "{yielded} bytes of {}", bytes.len());
    // Reading again from the start yields the same items.
    tape.seek(Position::start_of(1)).unwrap();
    for expected in items {
        let item = tape.read(&mut record).unwrap();
        assert_eq!((item, record.clone()), expected);
    }
});
