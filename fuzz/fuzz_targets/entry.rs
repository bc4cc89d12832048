//! Bytes as a block of entries: what parses is written as the same bytes again.
#![no_main]

use datapipe::wire::{Entry, EntryBody};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Ok((entry, behind)) = Entry::parse(rest) else {
            break;
        };
        assert!(behind.len() < rest.len(), "each entry takes some");
        let mut again = Vec::new();
        match (entry.append_to(&mut again), &entry.body) {
            (Err(_), EntryBody::Later(_)) => assert!(again.is_empty()),
            (written, _) => {
                written.unwrap();
                assert_eq!(again, rest[..rest.len() - behind.len()]);
            }
        }
        rest = behind;
    }
});
