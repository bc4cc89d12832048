//! Arbitrary bytes as a unit's header: a header that parses is encoded to the same bytes again,
//! unless a later version of the format wrote it.
#![no_main]

use datapipe::wire::{UNIT_HEADER_LEN, UnitHeader, UnitKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut unit = bytes.to_vec();
    // The checksum is corrected, so that the target reaches the code after its test.
    if let Some(header) = unit.get_mut(..UNIT_HEADER_LEN) {
        let crc = crc32fast::hash(&header[..UNIT_HEADER_LEN - 4]);
        header[UNIT_HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    }
    for bytes in [bytes, &unit] {
        let Ok(header) = UnitHeader::parse(bytes) else {
            continue;
        };
        assert!(header.unit_len() >= UNIT_HEADER_LEN + header.stored as usize);
        assert!(header.unit_len() <= UNIT_HEADER_LEN + (64 << 20) + 24);
        let _ = header.associated_data();
        if !matches!(header.kind, UnitKind::Later(_)) {
            assert_eq!(header.to_bytes(), bytes[..UNIT_HEADER_LEN]);
        }
    }
});
