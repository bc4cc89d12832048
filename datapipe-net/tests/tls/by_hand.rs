//! Records of every content, made by hand, and records that were changed.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use datapipe_net::limits::{MAX_TLS_RECORDS, TLS_RECORDS_BEFORE_REPLACING};
use datapipe_net::tls::{
    Alert, MAX_RECORD_DATA, MAX_RECORD_LEN, Opened, RECORD_OVERHEAD, TlsCipher, TlsReader,
    TlsRecordError, TlsWriter, TrafficKeys,
};
use proptest::prelude::*;

const CIPHERS: [(TlsCipher, &Algorithm); 3] = [
    (TlsCipher::Aes128Gcm, &AES_128_GCM),
    (TlsCipher::Aes256Gcm, &AES_256_GCM),
    (TlsCipher::ChaCha20Poly1305, &CHACHA20_POLY1305),
];
const KEY: [u8; 32] = [0x5a; 32];
const IV: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

fn keys(cipher: TlsCipher, sequence: u64) -> TrafficKeys {
    TrafficKeys::new(cipher, &KEY[..cipher.key_len()], IV, sequence).unwrap()
}

fn reader() -> TlsReader {
    TlsReader::new(keys(TlsCipher::Aes256Gcm, 0))
}

fn writer() -> TlsWriter {
    TlsWriter::new(keys(TlsCipher::Aes256Gcm, 0))
}

/// Seals any inner content as RFC 8446, section 5.2 and 5.3, describes it: by another function of
/// the cipher, and with arithmetic on one large number.
fn seal(algorithm: &'static Algorithm, record: u64, mut inner: Vec<u8>) -> Vec<u8> {
    let key = UnboundKey::new(algorithm, &KEY[..algorithm.key_len()]).unwrap();
    let iv = IV
        .iter()
        .fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let mut nonce = (iv ^ u128::from(record)).to_le_bytes();
    nonce[..12].reverse();
    let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).unwrap();
    let len = inner.len() + 16;
    let header = [23, 3, 3, (len / 256) as u8, (len % 256) as u8];
    LessSafeKey::new(key)
        .seal_in_place_append_tag(nonce, Aad::from(header), &mut inner)
        .unwrap();
    [&header[..], &inner].concat()
}

fn inner(data: &[u8], kind: u8, padding: usize) -> Vec<u8> {
    [data, &[kind], &vec![0; padding]].concat()
}

/// Opens one record with room for any.
fn open(record: &[u8]) -> Result<(Opened, Vec<u8>), TlsRecordError> {
    let mut out = vec![0; MAX_RECORD_LEN];
    reader().open(record, &mut out).map(|opened| (opened, out))
}

#[test]
fn records_are_those_of_the_standard() {
    for (cipher, algorithm) in CIPHERS {
        for record in [0, 1, 255, 256, 0x01_0203] {
            let mut out = [0; MAX_RECORD_LEN];
            let sealed = TlsWriter::new(keys(cipher, record))
                .seal(b"data", &mut out)
                .unwrap();
            let by_hand = seal(algorithm, record, inner(b"data", 23, 0));
            assert_eq!(
                &out[..sealed.written],
                by_hand,
                "{cipher:?}, record {record}"
            );
        }
    }
}

#[test]
fn padding_and_empty_records_are_opened() {
    for (len, padding) in [
        (0, 0),
        (0, 1),
        (0, 16_384),
        (1, 0),
        (5, 300),
        (16_384, 0),
        (84, 16_300),
    ] {
        let data = vec![0xee; len];
        let record = seal(&AES_256_GCM, 0, inner(&data, 23, padding));
        let consumed = record.len();
        let (opened, out) = open(&record).unwrap();
        assert_eq!(opened, Opened::Data { consumed, len });
        assert_eq!(out[..len], data);
    }
    // Zeros at the end of the data are data.
    let record = seal(&AES_256_GCM, 0, inner(&[0; 9], 23, 4));
    assert!(matches!(
        open(&record),
        Ok((Opened::Data { len: 9, .. }, _))
    ));
}

#[test]
fn contents_that_are_not_allowed_are_refused() {
    let record = 0;
    let unexpected = |kind| TlsRecordError::UnexpectedType { record, kind };
    let malformed = TlsRecordError::Malformed { record };
    let cases = [
        (vec![0; 1], malformed),
        (vec![0; 16_385], malformed),
        (inner(b"", 21, 0), malformed),
        (inner(&[1], 21, 3), malformed),
        (inner(&[1, 0, 0], 21, 0), malformed),
        (inner(b"", 22, 5), malformed),
        (
            inner(&[4, 0, 0, 0], 22, 0),
            TlsRecordError::Handshake { record, message: 4 },
        ),
        (
            inner(&[24, 0, 0, 1, 0], 22, 0),
            TlsRecordError::Handshake {
                record,
                message: 24,
            },
        ),
        (inner(&[1], 20, 0), unexpected(20)),
        (inner(b"data", 24, 0), unexpected(24)),
        (inner(b"data", 255, 9), unexpected(255)),
        (inner(&[2, 44], 21, 0), TlsRecordError::Alert(Alert(44))),
        (inner(&[1, 90], 21, 7), TlsRecordError::Alert(Alert(90))),
    ];
    for (inner, expected) in cases {
        let error = open(&seal(&AES_256_GCM, 0, inner)).unwrap_err();
        assert_eq!(error, expected);
        assert!(!error.to_string().is_empty());
        let answer =
            (!matches!(error, TlsRecordError::Alert(_))).then_some(Alert::UNEXPECTED_MESSAGE);
        assert_eq!(error.alert(), answer);
    }
    let closed = seal(&AES_256_GCM, 0, inner(&[1, 0], 21, 0));
    assert!(matches!(open(&closed), Ok((Opened::Closed { .. }, _))));
}

#[test]
fn lengths_that_no_record_has_are_refused() {
    for (len, alert) in [
        (0, Alert::DECODE_ERROR),
        (16, Alert::DECODE_ERROR),
        (16_402, Alert::RECORD_OVERFLOW),
        (65_535, Alert::RECORD_OVERFLOW),
    ] {
        let header = [23, 3, 3, (len / 256) as u8, (len % 256) as u8];
        let error = open(&header).unwrap_err();
        assert_eq!(error, TlsRecordError::Length { record: 0, len });
        assert_eq!(error.alert(), Some(alert));
    }
    // A record whose tag is right, but with too many bytes.
    let long = seal(&AES_256_GCM, 0, inner(&[7; 16_385], 23, 0));
    assert!(matches!(
        open(&long),
        Err(TlsRecordError::Length { len: 16_402, .. })
    ));
    for kind in [0, 20, 21, 22, 24, 255] {
        let error = open(&[kind, 3, 3, 0, 2, 1, 0]).unwrap_err();
        assert_eq!(error, TlsRecordError::UnexpectedType { record: 0, kind });
    }
}

#[test]
fn every_flipped_bit_is_detected() {
    for (cipher, algorithm) in CIPHERS {
        let record = seal(algorithm, 0, inner(b"a block of data", 23, 3));
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut reader = TlsReader::new(keys(cipher, 0));
            let mut out = [0; MAX_RECORD_LEN];
            let opened = reader.open(&flipped, &mut out);
            match bit / 8 {
                0 => assert!(matches!(opened, Err(TlsRecordError::UnexpectedType { .. }))),
                1 | 2 | 5.. => assert_eq!(opened, Err(TlsRecordError::Forged { record: 0 })),
                // A longer record does not arrive; what follows is not its rest.
                _ => match opened {
                    Ok(Opened::Incomplete { needed }) => {
                        flipped.resize(needed, 0);
                        let opened = reader.open(&flipped, &mut out);
                        assert_eq!(opened, Err(TlsRecordError::Forged { record: 0 }));
                    }
                    Err(TlsRecordError::Forged { .. } | TlsRecordError::Length { .. }) => continue,
                    opened => panic!("bit {bit}: {opened:?}"),
                },
            }
            assert_eq!(reader.open(&record, &mut out), Err(TlsRecordError::Ended));
        }
    }
}

#[test]
fn every_cut_waits_for_the_rest() {
    let record = seal(&AES_256_GCM, 0, inner(b"a block of data", 23, 3));
    let (mut reader, mut out) = (reader(), [0; 64]);
    for len in 0..record.len() {
        let needed = if len < 5 { 5 } else { record.len() };
        let opened = reader.open(&record[..len], &mut out);
        assert_eq!(opened, Ok(Opened::Incomplete { needed }));
    }
    let consumed = record.len();
    let opened = reader.open(&record, &mut out);
    assert_eq!(opened, Ok(Opened::Data { consumed, len: 15 }));
}

#[test]
fn records_out_of_their_order_are_refused() {
    let mut writer = writer();
    let records: Vec<Vec<u8>> = (0..3_u8)
        .map(|byte| {
            let mut out = [0; MAX_RECORD_LEN];
            let sealed = writer.seal(&[byte; 20], &mut out).unwrap();
            out[..sealed.written].to_vec()
        })
        .collect();
    // Repeated, left out, and swapped.
    for order in [[0, 0], [0, 2], [1, 0]] {
        let (mut reader, mut out) = (reader(), [0; 64]);
        let opened = order.map(|index| reader.open(&records[index], &mut out));
        let first_wrong = order
            .iter()
            .enumerate()
            .find(|(at, index)| at != *index)
            .unwrap()
            .0;
        let record = first_wrong as u64;
        assert_eq!(
            opened[first_wrong],
            Err(TlsRecordError::Forged { record }),
            "{order:?}"
        );
    }
    // Of another key.
    let other = TrafficKeys::new(TlsCipher::Aes256Gcm, &[9; 32], IV, 0).unwrap();
    let opened = TlsReader::new(other).open(&records[0], &mut [0; 64]);
    assert_eq!(opened, Err(TlsRecordError::Forged { record: 0 }));
}

#[test]
fn short_output_changes_nothing() {
    let record = seal(&AES_256_GCM, 0, inner(b"0123456789", 23, 2));
    let (mut reader, mut out) = (reader(), [0; 64]);
    for room in 0..13 {
        let opened = reader.open(&record, &mut out[..room]);
        assert_eq!(opened, Ok(Opened::NeedsRoom { room: 13 }));
    }
    let opened = reader.open(&record, &mut out[..13]);
    assert!(matches!(opened, Ok(Opened::Data { len: 10, .. })));
    assert_eq!(&out[..10], b"0123456789");
    assert_eq!(out[13..], [0; 51], "nothing is written after the record");
}

#[test]
fn a_key_is_replaced_and_ends() {
    let empty = |record| seal(&AES_256_GCM, record, inner(b"", 23, 0));
    let (mut scratch, mut out) = ([0; MAX_RECORD_LEN], [0; 64]);
    let before = TLS_RECORDS_BEFORE_REPLACING - 1;
    let mut writer = TlsWriter::new(keys(TlsCipher::Aes256Gcm, before));
    let mut reader = TlsReader::new(keys(TlsCipher::Aes256Gcm, before));
    assert!(!writer.needs_replacing() && !reader.needs_replacing());
    writer.seal(b"x", &mut scratch).unwrap();
    // An empty record counts.
    reader.open(&empty(before), &mut out).unwrap();
    assert!(writer.needs_replacing() && reader.needs_replacing());

    let last = MAX_TLS_RECORDS - 1;
    let mut writer = TlsWriter::new(keys(TlsCipher::Aes256Gcm, last));
    writer.seal(b"x", &mut scratch).unwrap();
    assert_eq!(
        writer.seal(b"x", &mut scratch),
        Err(TlsRecordError::Exhausted)
    );
    assert_eq!(
        writer.seal(b"x", &mut scratch),
        Err(TlsRecordError::Exhausted)
    );
    assert_eq!(
        writer.alert(Alert::CLOSE_NOTIFY, &mut scratch),
        Err(TlsRecordError::Exhausted)
    );
    let mut reader = TlsReader::new(keys(TlsCipher::Aes256Gcm, last));
    reader.open(&empty(last), &mut out).unwrap();
    let opened = reader.open(&empty(last + 1), &mut out);
    assert_eq!(opened, Err(TlsRecordError::Exhausted));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any data, sealed into scratches of any size and received in any pieces, come out again.
    #[test]
    fn data_come_out_of_any_pieces(
        len in 0_usize..80_000,
        scratch in MAX_RECORD_LEN..5 * MAX_RECORD_LEN,
        piece in 1_usize..40_000,
        cipher in 0_usize..3,
    ) {
        let cipher = CIPHERS[cipher].0;
        let data: Vec<u8> = (0..len).map(|at| (at % 253) as u8).collect();
        let mut writer = TlsWriter::new(keys(cipher, 0));
        let (mut scratch, mut sent, mut rest) = (vec![0; scratch], Vec::new(), &data[..]);
        while !rest.is_empty() {
            let sealed = writer.seal(rest, &mut scratch).unwrap();
            prop_assert!(sealed.taken > 0);
            sent.extend(&scratch[..sealed.written]);
            rest = &rest[sealed.taken..];
        }
        let records = len.div_ceil(MAX_RECORD_DATA);
        prop_assert_eq!(sent.len(), len + records * RECORD_OVERHEAD, "records are full");

        let mut reader = TlsReader::new(keys(cipher, 0));
        let (mut waiting, mut opened) = (Vec::new(), Vec::<u8>::new());
        let mut out = [0; MAX_RECORD_LEN];
        for piece in sent.chunks(piece) {
            waiting.extend(piece);
            loop {
                match reader.open(&waiting, &mut out).unwrap() {
                    Opened::Data { consumed, len } => {
                        opened.extend(&out[..len]);
                        waiting.drain(..consumed);
                    }
                    Opened::Incomplete { needed } => {
                        prop_assert!(needed > waiting.len() && needed <= MAX_RECORD_LEN);
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        prop_assert!(opened == data && waiting.is_empty());
    }
}
