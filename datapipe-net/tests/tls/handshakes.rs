//! Handshakes of the library's two ends: the names, the keys, and what follows on the socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use datapipe_net::socket::{Deadline, Stop};
use datapipe_net::tls::{
    Handshake, HandshakeError, HandshakeProgress, MAX_RECORD_LEN, Opened, Secured, TlsReader,
    TlsWriter,
};

use super::authority::{Authority, Kind};
use super::peers::{send, sockets};

/// Longer than any handshake.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two identities of one authority, a client's and a server's, as handshakes.
fn ends() -> (Handshake, Handshake) {
    let authority = Authority::new("handshakes");
    let client = authority.identity(&authority.issue(Kind::Client, &["DB1.example"]));
    let server = authority.issue(Kind::Server, &["server.example", "127.0.0.1"]);
    let server = authority.identity(&server);
    (
        Handshake::client(&client, "server.example").unwrap(),
        Handshake::server(&server).unwrap(),
    )
}

fn seal(writer: &mut TlsWriter, data: &[u8]) -> Vec<u8> {
    let mut out = [0; MAX_RECORD_LEN];
    let sealed = writer.seal(data, &mut out).unwrap();
    assert_eq!(sealed.taken, data.len());
    out[..sealed.written].to_vec()
}

/// Receives and opens one record.
fn receive(reader: &mut TlsReader, socket: &mut UnixStream) -> Vec<u8> {
    let (mut received, mut out) = (Vec::new(), [0; MAX_RECORD_LEN]);
    loop {
        match reader.open(&received, &mut out).unwrap() {
            Opened::Incomplete { needed } => {
                let done = received.len();
                received.resize(needed, 0);
                socket.read_exact(&mut received[done..]).unwrap();
            }
            Opened::Data { len, .. } => return out[..len].to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

fn shake_on_threads() -> ((Secured, UnixStream), (Secured, UnixStream)) {
    let (client, server) = ends();
    let (near, far) = UnixStream::pair().unwrap();
    let deadline = Deadline::after(PATIENCE);
    let server = thread::spawn(move || (server.run(&far, deadline, None).unwrap(), far));
    let client = client.run(&near, deadline, None).unwrap();
    ((client, near), server.join().unwrap())
}

#[test]
fn both_ends_know_each_other_and_exchange_data() {
    let ((client, mut near), (server, mut far)) = shake_on_threads();
    assert_eq!(client.peer.name(), "server.example");
    assert_eq!(server.peer.name(), "db1.example");
    assert_eq!(server.peer.certificates().len(), 1);
    let (mut from_server, mut to_server) = client.into_records();
    let (mut from_client, mut to_client) = server.into_records();
    for data in [&b"there"[..], &[7; 16_384], b"."] {
        send(&mut near, &seal(&mut to_server, data));
        assert_eq!(receive(&mut from_client, &mut far), data);
        send(&mut far, &seal(&mut to_client, data));
        assert_eq!(receive(&mut from_server, &mut near), data);
    }
}

#[test]
fn nothing_is_read_beyond_the_handshake() {
    let (mut client, mut server) = ends();
    let (mut near, mut far) = sockets();
    assert_eq!(client.advance(&near).unwrap(), HandshakeProgress::Reads);
    assert_eq!(server.advance(&far).unwrap(), HandshakeProgress::Reads);
    assert_eq!(client.advance(&near).unwrap(), HandshakeProgress::Done);
    // The client's data are in the socket before the server has seen the client's certificate.
    let (mut from_server, mut to_server) = client.finish().unwrap().into_records();
    send(&mut near, &seal(&mut to_server, b"early"));
    assert_eq!(server.advance(&far).unwrap(), HandshakeProgress::Done);
    let (mut from_client, mut to_client) = server.finish().unwrap().into_records();
    assert_eq!(receive(&mut from_client, &mut far), b"early");
    // The server has sent nothing after the handshake, such as tickets.
    let error = near.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    send(&mut far, &seal(&mut to_client, b"late"));
    assert_eq!(receive(&mut from_server, &mut near), b"late");
}

#[test]
fn address_of_a_server_is_a_name() {
    let authority = Authority::new("addresses");
    let client = authority.identity(&authority.issue(Kind::Client, &["db1.example"]));
    for (host, is_fine) in [
        ("127.0.0.1", true),
        ("::1", true),
        ("", false),
        ("a b", false),
    ] {
        match Handshake::client(&client, host) {
            Ok(_) => assert!(is_fine, "{host}"),
            Err(error) => assert!(
                !is_fine && matches!(error, HandshakeError::Host { .. }),
                "{host}: {error}"
            ),
        }
    }
}

#[test]
fn handshake_that_is_not_over_has_no_keys() {
    let (client, server) = ends();
    for handshake in [client, server] {
        let error = handshake.finish().unwrap_err();
        assert!(matches!(
            error,
            HandshakeError::Tls(rustls::Error::HandshakeNotComplete)
        ));
    }
}

#[test]
fn deadline_and_stop_end_a_handshake() {
    let (client, server) = ends();
    let (near, far) = sockets();
    let error = server
        .run(&far, Deadline::after(Duration::ZERO), None)
        .unwrap_err();
    assert!(matches!(error, HandshakeError::TooSlow), "{error}");
    let stop = Stop::new().unwrap();
    stop.stop();
    let error = client.run(&near, Deadline::NEVER, Some(&stop)).unwrap_err();
    assert!(matches!(error, HandshakeError::Stopped), "{error}");
}

#[test]
fn one_byte_at_a_time_does_not_outlast_the_deadline() {
    let (_, server) = ends();
    let (mut near, far) = UnixStream::pair().unwrap();
    // A record of the greatest length, whose bytes take more than 16 seconds.
    send(&mut near, &[22, 3, 1, 64, 0]);
    let writer = thread::spawn(move || {
        while near.write(&[0]).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let deadline = Deadline::after(Duration::from_millis(50));
    let error = server.run(&far, deadline, None).unwrap_err();
    drop(far);
    writer.join().unwrap();
    assert!(matches!(error, HandshakeError::TooSlow), "{error}");
}

/// Bytes that a client sends first.
fn hello() -> Vec<u8> {
    let (mut client, _) = ends();
    let (near, mut far) = sockets();
    client.advance(&near).unwrap();
    let mut bytes = vec![0; 16 << 10];
    let count = far.read(&mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

#[test]
fn every_cut_of_a_handshake_is_an_error() {
    let hello = hello();
    for len in (0..hello.len()).step_by(31).chain([1, 4, 5, 6]) {
        let (_, server) = ends();
        let (mut near, far) = sockets();
        send(&mut near, &hello[..len]);
        drop(near);
        let error = server
            .run(&far, Deadline::after(PATIENCE), None)
            .unwrap_err();
        assert!(matches!(error, HandshakeError::Closed), "{len}: {error}");
    }
}

#[test]
fn peers_without_tls_are_named() {
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "does not speak TLS"),
        (
            b"DATAPIPE\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0",
            "does not speak TLS",
        ),
        (&[22, 3, 1, 255, 255], "more than 16645 bytes"),
        (&[22, 3, 1, 0, 0], "handshake failed"),
        (&[23, 3, 3, 0, 1, 0], "handshake failed"),
        (&[21, 3, 3, 0, 2, 2, 40], "refused: alert handshake_failure"),
    ] {
        let (_, mut server) = ends();
        let (mut near, far) = sockets();
        send(&mut near, bytes);
        let error = server.advance(&far).unwrap_err();
        assert!(error.to_string().contains(expected), "{bytes:?}: {error}");
    }
}

#[test]
fn a_flood_ends_the_handshake() {
    let (_, mut server) = ends();
    let (mut near, far) = sockets();
    // A ClientHello of 65,535 bytes, in records of one byte.
    let mut bytes = vec![22, 3, 1, 0, 4, 1, 0, 255, 255];
    bytes.extend([22, 3, 1, 0, 1, 0].repeat(15_000));
    send(&mut near, &bytes);
    let error = server.advance(&far).unwrap_err();
    assert!(
        matches!(error, HandshakeError::TooLong { most: 65_536 }),
        "{error}"
    );
}
