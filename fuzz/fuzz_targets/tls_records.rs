//! Arbitrary bytes as TLS records, and records with arbitrary content under the right key: the
//! reader never returns data that were not sealed as data, and ends for good with the first error.
#![no_main]

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use datapipe_net::tls::{
    MAX_RECORD_LEN, Opened, TlsCipher, TlsReader, TlsRecordError, TrafficKeys,
};
use libfuzzer_sys::fuzz_target;

const KEY: [u8; 32] = [7; 32];
/// Most bytes of content, its type and its padding: more than the 16,385 that are allowed.
const MOST_INNER: usize = 16_500;

/// Seals any inner content as the first record of a connection.
fn seal(mut inner: Vec<u8>) -> Vec<u8> {
    let len = (inner.len() + 16) as u16;
    let header = [23, 3, 3, (len >> 8) as u8, len as u8];
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).expect("a key"));
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner)
        .expect("a short record");
    [&header[..], &inner].concat()
}

fn reader() -> TlsReader {
    TlsReader::new(TrafficKeys::new(TlsCipher::Aes256Gcm, &KEY, [0; 12], 0).expect("a key"))
}

/// Arbitrary content after `before` other bytes and before `after` bytes of padding, so that short
/// inputs make records near and above the greatest length, too.
fn long(inner: &[u8], before: u16, after: u16) -> Vec<u8> {
    let mut long = vec![1; usize::from(before).min(MOST_INNER)];
    long.extend_from_slice(inner);
    long.resize(long.len() + usize::from(after), 0);
    long.truncate(MOST_INNER);
    long
}

fuzz_target!(|input: (&[u8], u16, u16, &[u8], u16)| {
    let (inner, before, after, bytes, room) = input;
    let inner = &long(inner, before, after)[..];
    let mut out = vec![0; MAX_RECORD_LEN];
    let record = seal(inner.to_vec());
    let mut right = reader();
    let opened = right.open(&record, &mut out);
    let typed = inner.iter().rposition(|byte| *byte != 0);
    let data = typed.filter(|at| inner[*at] == 23 && inner.len() <= 16_385);
    match opened {
        Ok(Opened::Data { consumed, len }) => {
            assert_eq!((consumed, Some(len)), (record.len(), data));
            assert_eq!(out[..len], inner[..len]);
        }
        Ok(Opened::Closed { .. }) => assert!(data.is_none()),
        Ok(other) => panic!("a whole record with room: {other:?}"),
        Err(error) => {
            assert!(data.is_none() && !error.to_string().is_empty());
            assert_eq!(right.open(&record, &mut out), Err(TlsRecordError::Ended));
        }
    }

    // Without the key no bytes are data.
    match reader().open(bytes, &mut out[..usize::from(room).min(MAX_RECORD_LEN)]) {
        Ok(Opened::Incomplete { needed }) => {
            assert!(needed > bytes.len() && needed <= MAX_RECORD_LEN);
        }
        Ok(Opened::NeedsRoom { room: needed }) => assert!(needed > usize::from(room)),
        Ok(other) => panic!("forged: {other:?}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
