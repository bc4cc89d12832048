//! Arbitrary bytes as a block of entries: an entry that parses is encoded to the same bytes again.
#![no_main]

use datapipe::wire::{Entry, EntryBody};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Ok((entry, after)) = Entry::parse(rest) else {
            break;
        };
        assert!(after.len() < rest.len(), "each entry takes some bytes");
        let mut again = Vec::new();
        match (entry.append_to(&mut again), &entry.body) {
            (Err(_), EntryBody::Later(_)) => assert!(again.is_empty()),
            // A time that is the same as another may be encoded in two ways.
            (written, EntryBody::Catalogue(_)) => {
                written.unwrap();
                assert_eq!(Entry::parse(&again).unwrap(), (entry.clone(), &b""[..]));
            }
            (written, _) => {
                written.unwrap();
                assert_eq!(again, rest[..rest.len() - after.len()]);
            }
        }
        rest = after;
    }
});
