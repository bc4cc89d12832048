//! Clients that do not keep to the protocol. Others do not notice.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use datapipe_net::Client;
use datapipe_net::client::ClientError;
use datapipe_net::protocol::{
    ClientHello, CloseReason, HEAD_LEN, HELLO_LEN, MessageHead, RefusalCode, Reply, ServerHello,
    ServerMessage, VERSIONS, Versions,
};

use crate::site::{HANGS, Site, wait_until};

const HELLO_BYTES: fn() -> [u8; HELLO_LEN] = || {
    ClientHello {
        versions: VERSIONS,
        features: 0,
    }
    .encode()
};

/// The daemon's hello.
fn greeted(stream: &mut UnixStream) -> ServerHello {
    let mut hello = [0; HELLO_LEN];
    stream.read_exact(&mut hello).unwrap();
    ServerHello::decode(&hello).unwrap()
}

/// The next answer: the number of its request, and what it is.
fn answered(stream: &mut UnixStream) -> (u32, ServerMessage) {
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

fn refused(stream: &mut UnixStream) -> (u32, RefusalCode) {
    match answered(stream) {
        (request, ServerMessage::Reply(Reply::Refused(refusal))) => (request, refusal.code),
        other => panic!("{other:?}"),
    }
}

/// The daemon says no more, and has closed.
fn closed(stream: &mut UnixStream) {
    let mut rest = Vec::new();
    // A connection that is closed with something unread is reset.
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, [0; 0]);
}

pub(crate) fn garbage() {
    let site = Site::new("client_patience_s = 2");
    let mut bystander = site.client();
    let hello = HELLO_BYTES();
    for (said, why) in [
        (
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            CloseReason::NO_HELLO,
        ),
        (&[0; HELLO_LEN], CloseReason::NO_HELLO),
        (
            &ClientHello {
                versions: Versions {
                    lowest: 7,
                    highest: 9,
                },
                features: 0,
            }
            .encode(),
            CloseReason::VERSION,
        ),
        (&hello[..HELLO_LEN - 1], CloseReason::TOO_SLOW),
        (&[], CloseReason::TOO_SLOW),
    ] {
        let mut stranger = site.stranger();
        stranger.write_all(said).unwrap();
        let answer = greeted(&mut stranger);
        assert_eq!(
            (answer.answer, answer.versions),
            (Err(why), VERSIONS),
            "{said:?}"
        );
        closed(&mut stranger);
    }
    let welcome = |more: &[u8]| {
        let mut stranger = site.stranger();
        stranger.write_all(&[&hello[..], more].concat()).unwrap();
        assert_eq!(greeted(&mut stranger).answer, Ok(1));
        stranger
    };
    // Where the next message begins is not known any more.
    let long = MessageHead {
        len: (1 << 20) + 1,
        kind: 6,
        request: 3,
    }
    .encode();
    let mut reserved = MessageHead {
        len: 0,
        kind: 6,
        request: 3,
    }
    .encode();
    reserved[6] = 1;
    for head in [long, reserved, [0xff; HEAD_LEN]] {
        let mut stranger = welcome(&head);
        assert_eq!(refused(&mut stranger), (0, RefusalCode::MALFORMED));
        closed(&mut stranger);
    }
    // It is known: the connection goes on.
    let message = |kind, request, body: &[u8]| {
        [
            &MessageHead {
                len: body.len(),
                kind,
                request,
            }
            .encode()[..],
            body,
        ]
        .concat()
    };
    let stop = [1, 0, 1, 0, 0, 0, 0xff];
    let said = [
        message(99, 1, b""),
        message(4, 2, b""),
        message(4, 3, &stop),
        message(2, 4, b"any"),
        message(6, 5, b""),
    ];
    let mut stranger = welcome(&said.concat());
    assert_eq!(refused(&mut stranger), (1, RefusalCode::UNSUPPORTED));
    assert_eq!(refused(&mut stranger), (2, RefusalCode::MALFORMED));
    assert_eq!(refused(&mut stranger), (3, RefusalCode::MALFORMED));
    assert_eq!(refused(&mut stranger), (4, RefusalCode::RESERVED));
    assert_eq!(
        answered(&mut stranger),
        (5, ServerMessage::Reply(Reply::List(Vec::new())))
    );
    assert_eq!(bystander.list().unwrap(), []);
}

pub(crate) fn half_a_message_and_silence() {
    let site = Site::new("client_patience_s = 1");
    let mut silent = site.client();
    for half in [
        &MessageHead {
            len: 100,
            kind: 6,
            request: 9,
        }
        .encode()[..],
        &[0; 5],
    ] {
        let mut stranger = site.stranger();
        stranger
            .write_all(&[&HELLO_BYTES()[..], half].concat())
            .unwrap();
        assert_eq!(greeted(&mut stranger).answer, Ok(1));
        assert_eq!(refused(&mut stranger), (0, RefusalCode::MALFORMED));
        closed(&mut stranger);
    }
    // Between messages there is no hurry: this one has been silent for longer than that.
    assert_eq!(silent.list().unwrap(), []);
    // One that asks and asks, and reads nothing, is given up.
    let mut stranger = site.stranger();
    stranger.write_all(&HELLO_BYTES()).unwrap();
    stranger.set_write_timeout(Some(HANGS)).unwrap();
    let list = MessageHead {
        len: 0,
        kind: 6,
        request: 1,
    }
    .encode();
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

pub(crate) fn more_connections_than_there_may_be() {
    let site = Site::new("connections = 16");
    // The daemon's own user, which this is, has some more.
    let mut clients: Vec<_> = (0..24).map(|_| site.client()).collect();
    for _ in 0..200 {
        match Client::connect(&site.socket()) {
            Err(ClientError::Closed {
                why: CloseReason::BUSY,
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
    }
    // Those that are in notice nothing, and who leaves makes room.
    assert!(
        clients
            .iter_mut()
            .all(|client| client.list().unwrap().is_empty())
    );
    clients.truncate(4);
    wait_until("there is room", || Client::connect(&site.socket()).is_ok());
    // Many that come and go.
    wait_until("there is more room", || {
        (0..12)
            .map(|_| Client::connect(&site.socket()))
            .all(|client| client.is_ok())
    });
    for _ in 0..2000 {
        drop(UnixStream::connect(site.socket()));
    }
    wait_until("there is room again", || {
        Client::connect(&site.socket()).is_ok_and(|mut client| client.list().is_ok())
    });
}
