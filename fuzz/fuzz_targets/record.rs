//! Arbitrary bytes as a record: a header that parses is encoded to the same bytes again, and only
//! zeros follow the content.
#![no_main]

use datapipe::wire::{RECORD_HEADER_LEN, RecordHeader, looks_like_record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut record = bytes.to_vec();
    // The checksum is corrected, so that the target reaches the code after its test.
    if let Some(header) = record.get_mut(..RECORD_HEADER_LEN) {
        let crc = crc32fast::hash(&header[..RECORD_HEADER_LEN - 4]);
        header[RECORD_HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    }
    for bytes in [bytes, &record] {
        if let Ok((header, content)) = RecordHeader::parse(bytes) {
            assert!(looks_like_record(bytes));
            let record = [&header.to_bytes()[..], content].concat();
            let rest = bytes
                .strip_prefix(&record[..])
                .expect("the record begins the bytes");
            assert!(rest.iter().all(|byte| *byte == 0));
        }
        let _ = RecordHeader::parse_header(bytes);
    }
});
