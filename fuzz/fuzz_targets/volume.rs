//! Bytes as a volume: it is read to its end, and what comes out is no more than went in.
#![no_main]

use datapipe::media::{Item, Medium, Position, VirtualTape};
use datapipe::testkit::FaultyStorage;
use libfuzzer_sys::fuzz_target;

/// A probe that takes more than a record's would, so that more is reached.
fn takes_even(start: &[u8]) -> bool {
    start.first().is_some_and(|byte| byte % 2 == 0)
}

fuzz_target!(|bytes: &[u8]| {
    let storage = FaultyStorage::new(1);
    storage.set_bytes("/t", bytes);
    let mut tape = VirtualTape::open_on(storage, "/t", takes_even).unwrap();
    let (mut record, mut items, mut given) = (Vec::new(), Vec::new(), 0);
    loop {
        let item = tape.read(&mut record).unwrap();
        items.push((item.clone(), record.clone()));
        match item {
            Item::Record(_) => given += record.len() + 8,
            Item::Mark(_) => given += 4,
            Item::Damaged { skipped, .. } => given += skipped as usize,
            Item::End => break,
        }
        assert!(items.len() <= bytes.len() + 1, "each item takes some bytes");
    }
    assert!(given <= bytes.len(), "{given} bytes out of {}", bytes.len());
    // The same again, and from the start.
    tape.seek(Position::start_of(1)).unwrap();
    for expected in items {
        let item = tape.read(&mut record).unwrap();
        assert_eq!((item, record.clone()), expected);
    }
});
