//! Clients that violate the protocol. Other clients do not notice them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use datapipe_net::Client;
use datapipe_net::client::ClientError;
use datapipe_net::protocol::{
    ClientHello, CloseReason, HEAD_LEN, HELLO_LEN, MessageHead, RefusalCode, Reply, ServerHello,
    ServerMessage, VERSIONS, Versions,
};

use crate::site::{HANGS, Site, wait_until};

/// A valid hello of a client.
fn hello() -> [u8; HELLO_LEN] {
    ClientHello {
        versions: VERSIONS,
        features: 0,
    }
    .encode()
}

/// Reads the daemon's hello.
fn read_hello(stream: &mut UnixStream) -> ServerHello {
    let mut hello = [0; HELLO_LEN];
    stream.read_exact(&mut hello).unwrap();
    ServerHello::decode(&hello).unwrap()
}

/// Reads the next message, with the number of its request.
fn read_message(stream: &mut UnixStream) -> (u32, ServerMessage) {
    let mut head = [0; HEAD_LEN];
    stream.read_exact(&mut head).unwrap();
    let head = MessageHead::decode(&head).unwrap();
    let mut body = vec![0; head.len];
    stream.read_exact(&mut body).unwrap();
    (
        head.request,
        ServerMessage::decode(head.kind, &body).unwrap(),
    )
}

/// Reads a refusal: the number of its request, and its code.
fn read_refusal(stream: &mut UnixStream) -> (u32, RefusalCode) {
    match read_message(stream) {
        (request, ServerMessage::Reply(Reply::Refused(refusal))) => (request, refusal.code),
        other => panic!("{other:?}"),
    }
}

/// Checks that the daemon sends nothing more and has closed the connection.
fn assert_closed(stream: &mut UnixStream) {
    let mut rest = Vec::new();
    // The kernel resets a connection that is closed with unread bytes.
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, [0; 0]);
}

/// A connection whose hello is accepted, and to which `more` was sent after that.
fn welcome(site: &Site, more: &[u8]) -> UnixStream {
    let mut stranger = site.stranger();
    stranger.write_all(&[&hello()[..], more].concat()).unwrap();
    assert_eq!(read_hello(&mut stranger).version, Ok(1));
    stranger
}

fn head(len: usize, kind: u16, request: u32) -> [u8; HEAD_LEN] {
    MessageHead { len, kind, request }.encode()
}

pub(crate) fn hellos_that_are_invalid_are_refused() {
    let site = Site::new("client_patience_s = 2");
    let hello = hello();
    let future = ClientHello {
        versions: Versions {
            lowest: 7,
            highest: 9,
        },
        features: 0,
    };
    for (bytes, reason) in [
        (
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            CloseReason::NO_HELLO,
        ),
        (&[0; HELLO_LEN], CloseReason::NO_HELLO),
        (&future.encode(), CloseReason::VERSION),
        (&hello[..HELLO_LEN - 1], CloseReason::TOO_SLOW),
        (&[], CloseReason::TOO_SLOW),
    ] {
        let mut stranger = site.stranger();
        stranger.write_all(bytes).unwrap();
        let answer = read_hello(&mut stranger);
        assert_eq!(
            (answer.version, answer.versions),
            (Err(reason), VERSIONS),
            "{bytes:?}"
        );
        assert_closed(&mut stranger);
    }
}

/// After an invalid head, the beginning of the next message is unknown.
pub(crate) fn heads_that_are_invalid_end_the_connection() {
    let site = Site::new("");
    let too_long = head((1 << 20) + 1, 6, 3);
    let mut reserved = head(0, 6, 3);
    reserved[6] = 1;
    for head in [too_long, reserved, [0xff; HEAD_LEN]] {
        let mut stranger = welcome(&site, &head);
        assert_eq!(read_refusal(&mut stranger), (0, RefusalCode::MALFORMED));
        assert_closed(&mut stranger);
    }
}

/// After an invalid body, the beginning of the next message is known: the connection continues.
pub(crate) fn requests_that_are_invalid_are_refused() {
    let site = Site::new("");
    let mut bystander = site.client();
    let message =
        |kind, request, body: &[u8]| [&head(body.len(), kind, request)[..], body].concat();
    let stop = [1, 0, 1, 0, 0, 0, 0xff];
    let requests = [
        message(99, 1, b""),
        message(4, 2, b""),
        message(4, 3, &stop),
        message(2, 4, b"any"),
        message(6, 5, b""),
    ];
    let mut stranger = welcome(&site, &requests.concat());
    assert_eq!(read_refusal(&mut stranger), (1, RefusalCode::UNSUPPORTED));
    assert_eq!(read_refusal(&mut stranger), (2, RefusalCode::MALFORMED));
    assert_eq!(read_refusal(&mut stranger), (3, RefusalCode::MALFORMED));
    assert_eq!(read_refusal(&mut stranger), (4, RefusalCode::RESERVED));
    assert_eq!(
        read_message(&mut stranger),
        (5, ServerMessage::Reply(Reply::List(Vec::new())))
    );
    assert_eq!(bystander.list().unwrap(), []);
}

pub(crate) fn clients_that_stall_are_disconnected() {
    let site = Site::new("client_patience_s = 1");
    let mut silent = site.client();
    for part in [&head(100, 6, 9)[..], &[0; 5]] {
        let mut stranger = welcome(&site, part);
        assert_eq!(read_refusal(&mut stranger), (0, RefusalCode::MALFORMED));
        assert_closed(&mut stranger);
    }
    // Between messages there is no deadline: this client has been silent for longer.
    assert_eq!(silent.list().unwrap(), []);
    // The daemon disconnects a client that sends requests and does not read the replies.
    let mut stranger = site.stranger();
    stranger.write_all(&hello()).unwrap();
    stranger.set_write_timeout(Some(HANGS)).unwrap();
    let list = head(0, 6, 1);
    let ended = (0..10_000_000).find_map(|_| stranger.write_all(&list).err());
    let kind = ended.expect("an end").kind();
    assert!(
        matches!(
            kind,
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset
        ),
        "{kind}"
    );
}

pub(crate) fn connections_over_the_limit_are_refused() {
    let site = Site::new("connections = 16");
    // This process has the daemon's own user, which may have some connections more.
    let mut clients: Vec<_> = (0..24).map(|_| site.client()).collect();
    for _ in 0..200 {
        match Client::connect(site.socket()) {
            Err(ClientError::Closed {
                reason: CloseReason::BUSY,
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
    }
    // The accepted clients do not notice, and a client that leaves makes room.
    assert!(
        clients
            .iter_mut()
            .all(|client| client.list().unwrap().is_empty())
    );
    clients.truncate(4);
    wait_until("there is room", || Client::connect(site.socket()).is_ok());
    // Many clients come and go.
    wait_until("there is more room", || {
        (0..12)
            .map(|_| Client::connect(site.socket()))
            .all(|client| client.is_ok())
    });
    for _ in 0..2000 {
        drop(UnixStream::connect(site.socket()));
    }
    wait_until("there is room again", || {
        Client::connect(site.socket()).is_ok_and(|mut client| client.list().is_ok())
    });
}
