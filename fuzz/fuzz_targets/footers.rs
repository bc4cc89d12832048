//! Arbitrary bytes as the body of any footer, or of a locator: a body that parses is encoded to the
//! same bytes again.
#![no_main]

use datapipe::wire::{ArchiveFooter, ChunkFooter, Locator, SessionFooter, VolumeList};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(footer) = ChunkFooter::parse(bytes) {
        assert_eq!(footer.to_bytes(), bytes);
    }
    if let Ok(locator) = Locator::parse(bytes) {
        assert_eq!(locator.to_bytes(), bytes);
    }
    if let Ok(footer) = ArchiveFooter::parse(bytes) {
        // Extensions that this version does not know may be anywhere after the fixed fields.
        assert!(bytes.starts_with(&footer.to_bytes()[..32]));
        assert_eq!(ArchiveFooter::parse(&footer.to_bytes()), Ok(footer));
    }
    if let Ok(footer) = SessionFooter::parse(bytes) {
        assert_eq!(footer.to_bytes(), bytes);
    }
    if let Ok(list) = VolumeList::parse(bytes) {
        assert_eq!(list.to_bytes(), bytes);
    }
});
