//! The record layer against rustls, with each suite, in both directions and both roles.

use std::io::Write;

use datapipe_net::tls::{
    Alert, MAX_RECORD_LEN, Opened, TlsCipher, TlsReader, TlsRecordError, TlsWriter, TrafficKeys,
};
use rustls::{CipherSuite, ConnectionCommon, ConnectionTrafficSecrets, ExtractedSecrets};

use super::peers::{connected, feed};

const SUITES: [(CipherSuite, TlsCipher); 3] = [
    (CipherSuite::TLS13_AES_128_GCM_SHA256, TlsCipher::Aes128Gcm),
    (CipherSuite::TLS13_AES_256_GCM_SHA384, TlsCipher::Aes256Gcm),
    (
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        TlsCipher::ChaCha20Poly1305,
    ),
];

fn keys(expected: TlsCipher, (sequence, secrets): (u64, ConnectionTrafficSecrets)) -> TrafficKeys {
    let (cipher, key, iv) = match &secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (TlsCipher::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (TlsCipher::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            (TlsCipher::ChaCha20Poly1305, key, iv)
        }
        _ => panic!("a suite of TLS 1.3"),
    };
    assert_eq!(cipher, expected);
    TrafficKeys::new(
        cipher,
        key.as_ref(),
        iv.as_ref().try_into().unwrap(),
        sequence,
    )
    .unwrap()
}

/// Bytes that differ at each position.
fn data(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Lengths around those of records.
const LENGTHS: [usize; 8] = [1, 2, 100, 16_383, 16_384, 16_385, 32_768, 100_000];

/// Everything that rustls sends, opened.
fn open_all(reader: &mut TlsReader, mut bytes: &[u8]) -> Vec<u8> {
    let (mut opened, mut out) = (Vec::new(), [0; MAX_RECORD_LEN]);
    while !bytes.is_empty() {
        let Opened::Data { consumed, len } = reader.open(bytes, &mut out).unwrap() else {
            panic!("data");
        };
        opened.extend(&out[..len]);
        bytes = &bytes[consumed..];
    }
    opened
}

/// Data from the library to rustls and back, then the end in both directions.
fn exchange<Data>(
    cipher: TlsCipher,
    secrets: ExtractedSecrets,
    rustls: &mut ConnectionCommon<Data>,
) {
    let mut writer = TlsWriter::new(keys(cipher, secrets.tx));
    let mut reader = TlsReader::new(keys(cipher, secrets.rx));
    let mut scratch = vec![0; 3 * MAX_RECORD_LEN];
    for len in LENGTHS {
        let data = data(len);
        let mut rest = &data[..];
        while !rest.is_empty() {
            let sealed = writer.seal(rest, &mut scratch).unwrap();
            let (read, _) = feed(rustls, &scratch[..sealed.written]).unwrap();
            assert!(read == rest[..sealed.taken]);
            rest = &rest[sealed.taken..];
        }

        let mut sent = Vec::new();
        let mut rest = &data[..];
        while !rest.is_empty() {
            let count = rustls.writer().write(rest).unwrap();
            while rustls.wants_write() {
                rustls.write_tls(&mut sent).unwrap();
            }
            rest = &rest[count..];
        }
        assert_eq!(open_all(&mut reader, &sent), data);
    }

    let len = writer.alert(Alert::CLOSE_NOTIFY, &mut scratch).unwrap();
    assert_eq!(feed(rustls, &scratch[..len]), Ok((vec![], true)));
    rustls.send_close_notify();
    let mut sent = Vec::new();
    rustls.write_tls(&mut sent).unwrap();
    let consumed = sent.len();
    let mut out = [0; 64];
    assert_eq!(
        reader.open(&sent, &mut out),
        Ok(Opened::Closed { consumed })
    );
    assert_eq!(reader.open(&sent, &mut out), Err(TlsRecordError::Ended));
}

#[test]
fn records_are_those_of_rustls_as_server() {
    for (suite, cipher) in SUITES {
        let (mut client, server) = connected(suite);
        exchange(
            cipher,
            server.dangerous_extract_secrets().unwrap(),
            &mut client,
        );
    }
}

#[test]
fn records_are_those_of_rustls_as_client() {
    for (suite, cipher) in SUITES {
        let (client, mut server) = connected(suite);
        exchange(
            cipher,
            client.dangerous_extract_secrets().unwrap(),
            &mut server,
        );
    }
}

#[test]
fn alert_of_the_writer_is_understood_by_rustls() {
    let (suite, cipher) = SUITES[1];
    let (mut client, server) = connected(suite);
    let secrets = server.dangerous_extract_secrets().unwrap();
    let writer = TlsWriter::new(keys(cipher, secrets.tx));
    let mut scratch = [0; MAX_RECORD_LEN];
    let len = writer.alert(Alert::BAD_RECORD_MAC, &mut scratch).unwrap();
    assert_eq!(
        feed(&mut client, &scratch[..len]).unwrap_err(),
        rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)
    );
}

#[test]
fn key_update_of_rustls_ends_the_connection() {
    for (suite, cipher) in SUITES {
        let (mut client, server) = connected(suite);
        let secrets = server.dangerous_extract_secrets().unwrap();
        let mut reader = TlsReader::new(keys(cipher, secrets.rx));
        client.refresh_traffic_keys().unwrap();
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        let error = reader.open(&sent, &mut [0; 64]).unwrap_err();
        assert_eq!(
            error,
            TlsRecordError::Handshake {
                record: 0,
                message: 24
            }
        );
        assert!(error.to_string().contains("KeyUpdate"), "{error}");
    }
}
