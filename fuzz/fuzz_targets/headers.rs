//! Arbitrary bytes as the body of a session or archive header: a body that parses is encoded to the
//! same bytes again.
#![no_main]

use datapipe::wire::{ArchiveHeader, SessionHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = SessionHeader::parse(bytes) {
        assert_eq!(header.to_bytes(), bytes);
        assert!(bytes.starts_with(&header.identity()));
    }
    if let Ok(header) = ArchiveHeader::parse(bytes) {
        assert_eq!(header.to_bytes(), bytes);
    }
});
