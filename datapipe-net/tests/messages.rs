//! Messages as bytes: decoding reverses encoding, the bytes are those of the page, and bytes of a
//! hostile peer are decoded or rejected.

use datapipe::Direction;
use datapipe_net::protocol::{
    AttachRole, ClientHello, EventKind, HEAD_LEN, HELLO_LEN, Initiate, MessageHead, Participation,
    PathAccess, PipeEvent, PipeState, Refusal, RefusalCode, Reply, Request, ServerHello,
    ServerMessage, StageRequest,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Archive), Just(Direction::Restore)]
}

fn participation() -> impl Strategy<Value = Participation> {
    prop_oneof![
        Just(Participation::None),
        Just(Participation::Head),
        Just(Participation::Tail)
    ]
}

fn role() -> impl Strategy<Value = AttachRole> {
    prop_oneof![
        Just(AttachRole::Head),
        Just(AttachRole::Tail),
        Just(AttachRole::NetworkAgent)
    ]
}

fn stage() -> impl Strategy<Value = StageRequest> {
    let path = ("/[^\0]{0,40}", any::<bool>());
    let numbers = (
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
    );
    let texts = (
        option::of("\\PC{0,40}"),
        option::of("\\PC{0,40}"),
        option::of("\\PC{0,40}"),
    );
    (
        texts,
        vec(any::<u8>(), 0..100),
        numbers,
        vec(path, 0..4),
        any::<bool>(),
    )
        .prop_map(
            |(
                (module, name, machine),
                arguments,
                (instances, holds_in, holds_out),
                paths,
                stateful,
            )| {
                let mut stage = StageRequest::default().arguments(arguments);
                for (path, write) in paths {
                    stage = if write {
                        stage.write(path)
                    } else {
                        stage.read(path)
                    };
                }
                (stage.module, stage.name, stage.machine) = (module, name, machine);
                (stage.instances, stage.holds_in, stage.holds_out) =
                    (instances, holds_in, holds_out);
                stage.stateful = stateful;
                stage
            },
        )
}

fn request() -> impl Strategy<Value = Request> {
    let initiate = (
        "\\PC{0,16}",
        direction(),
        participation(),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        vec(stage(), 0..5),
    );
    let initiate = initiate.prop_map(|(label, direction, part, buffers, buffer_size, stages)| {
        let mut initiate = Initiate::new(label)
            .direction(direction)
            .participation(part);
        (initiate.buffers, initiate.buffer_size) = (buffers, buffer_size);
        Request::Initiate(stages.into_iter().fold(initiate, Initiate::stage))
    });
    let pipe = "\\PC{0,40}";
    prop_oneof![
        initiate,
        Just(Request::Extend),
        (pipe, role()).prop_map(|(pipe, role)| Request::Identify { pipe, role }),
        pipe.prop_map(|pipe| Request::Stop { pipe }),
        pipe.prop_map(|pipe| Request::Status { pipe }),
        Just(Request::List),
        option::of(pipe).prop_map(|pipe| Request::Subscribe { pipe }),
        pipe.prop_map(|pipe| Request::Problems { pipe }),
        option::of(any::<u32>()).prop_map(|limit| Request::History { limit }),
        Just(Request::Metrics),
    ]
}

fn event() -> impl Strategy<Value = PipeEvent> {
    let texts = (
        "\\PC{0,40}",
        option::of("\\PC{0,40}"),
        option::of("\\PC{0,40}"),
        option::of(vec(any::<u8>(), 0..9)),
    );
    let numbers = (
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        option::of(any::<u64>()),
        option::of(any::<u64>()),
    );
    (
        any::<u16>(),
        texts,
        numbers,
        option::of(any::<bool>()),
        option::of(any::<u8>()),
    )
        .prop_map(
            |(
                kind,
                (pipe, stage, text, note),
                (instance, process, lost, problems),
                replaced,
                state,
            )| {
                let mut event = PipeEvent::new(EventKind(kind), pipe);
                (event.stage, event.text, event.note) = (stage, text, note);
                (event.instance, event.process) = (instance, process);
                (event.lost, event.problems) = (lost, problems);
                (event.replaced, event.state) = (replaced, state.map(PipeState));
                event
            },
        )
}

fn message() -> impl Strategy<Value = ServerMessage> {
    let refusal = (any::<u16>(), "\\PC{0,40}");
    prop_oneof![
        event().prop_map(ServerMessage::Event),
        ("\\PC{0,40}", any::<bool>())
            .prop_map(|(pipe, control)| ServerMessage::Reply(Reply::Initiated { pipe, control })),
        Just(ServerMessage::Reply(Reply::Identified)),
        Just(ServerMessage::Reply(Reply::Stopping)),
        Just(ServerMessage::Reply(Reply::Subscribed)),
        "\\PC{0,40}".prop_map(|text| ServerMessage::Reply(Reply::Metrics(text))),
        refusal.prop_map(
            |(code, text)| ServerMessage::Reply(Reply::Refused(Refusal::new(
                RefusalCode(code),
                text
            )))
        ),
    ]
}

/// Bytes of fields, each given by its tag and its value.
fn fields(body: &[(u16, &[u8])]) -> Vec<u8> {
    let field = |(tag, value): &(u16, &[u8])| {
        [
            &tag.to_le_bytes()[..],
            &u32::try_from(value.len()).unwrap().to_le_bytes(),
            value,
        ]
        .concat()
    };
    body.iter().flat_map(field).collect()
}

proptest! {
    #[test]
    fn requests_survive_encoding(request in request()) {
        prop_assert_eq!(Request::decode(request.kind(), &request.encode()).unwrap(), request);
    }

    #[test]
    fn server_messages_survive_encoding(message in message()) {
        let decoded = ServerMessage::decode(message.kind(), &message.encode()).unwrap();
        prop_assert_eq!(decoded, message);
    }

    #[test]
    fn heads_survive_encoding(len in 0usize..=1 << 20, kind: u16, request: u32) {
        let head = MessageHead { len, kind, request };
        prop_assert_eq!(MessageHead::decode(&head.encode()), Ok(head));
    }

    /// Bytes that can be decoded survive another encoding.
    #[test]
    fn any_bytes_are_decoded_or_rejected(
        kind in 0u16..12,
        reply: bool,
        bytes in vec(any::<u8>(), 0..200),
    ) {
        let kind = if reply { kind | 0x8000 } else { kind };
        if let Ok(request) = Request::decode(kind, &bytes) {
            prop_assert_eq!(Request::decode(kind, &request.encode()).unwrap(), request);
        }
        for kind in [kind, 0x4001] {
            if let Ok(message) = ServerMessage::decode(kind, &bytes) {
                prop_assert_eq!(ServerMessage::decode(kind, &message.encode()).unwrap(), message);
            }
        }
    }

    /// Bytes that are nearly valid get further in the decoder than noise.
    #[test]
    fn altered_messages_are_decoded_or_rejected(
        request in request(),
        message in message(),
        at: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
    ) {
        let bodies = [
            (request.kind(), request.encode()),
            (message.kind(), message.encode()),
        ];
        for (kind, mut body) in bodies {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
                body.truncate(cut.index(body.len() + 1));
            }
            let _ = Request::decode(kind, &body);
            let _ = ServerMessage::decode(kind, &body);
        }
    }

    #[test]
    fn hellos_and_heads_are_decoded_or_rejected(bytes: [u8; HELLO_LEN], head: [u8; HEAD_LEN]) {
        let mut nearly = bytes;
        nearly[..8].copy_from_slice(b"DATAPIPE");
        for bytes in [bytes, nearly] {
            if let Ok(hello) = ClientHello::decode(&bytes) {
                prop_assert_eq!(ClientHello::decode(&hello.encode()), Ok(hello));
                let _ = ServerHello::answer(&hello);
            }
            if let Ok(hello) = ServerHello::decode(&bytes) {
                prop_assert_eq!(hello.encode(), bytes);
            }
        }
        if let Ok(known) = MessageHead::decode(&head) {
            prop_assert_eq!(known.encode(), head);
        }
    }
}

#[test]
fn examples_of_the_page_are_the_bytes_that_are_sent() {
    let page = include_str!("../../docs/net-protocol.md");
    let example = page.split("## An example").nth(1).unwrap();
    let hex: String = example.split("```").skip(1).step_by(2).collect();
    let bytes: Vec<u8> = hex
        .split_whitespace()
        .filter(|word| word.len() == 2)
        .map(|word| u8::from_str_radix(word, 16).unwrap())
        .collect();
    let hello = ClientHello::decode(bytes[..24].try_into().unwrap()).unwrap();
    assert_eq!(hello.encode(), bytes[..24]);
    assert_eq!(ServerHello::answer(&hello).encode(), bytes[24..48]);
    let message = |kind, request, body: Vec<u8>| {
        [
            &MessageHead {
                len: body.len(),
                kind,
                request,
            }
            .encode()[..],
            &body,
        ]
        .concat()
    };
    let list = ServerMessage::Reply(Reply::List(Vec::new()));
    let status = Request::Status {
        pipe: "a.1.2".to_owned(),
    };
    let refusal = Refusal::new(RefusalCode::NO_SUCH_PIPE, "there is no pipe \"a.1.2\" here");
    let refusal = ServerMessage::Reply(Reply::Refused(refusal));
    let sent = [
        message(Request::List.kind(), 1, Request::List.encode()),
        message(list.kind(), 1, list.encode()),
        message(status.kind(), 2, status.encode()),
        message(refusal.kind(), 2, refusal.encode()),
    ]
    .concat();
    // The page ends within the text of the refusal.
    let shown = &bytes[48..];
    assert_eq!(shown, &sent[..shown.len()]);
    assert!(
        sent.len() - shown.len() < 29,
        "{} bytes are not shown",
        sent.len() - shown.len()
    );
}

#[test]
fn unknown_fields_and_kinds_are_skipped_or_rejected() {
    let known = fields(&[(0x8001, b"a.1.2")]);
    let stop = Request::Stop {
        pipe: "a.1.2".to_owned(),
    };
    assert_eq!(Request::decode(4, &known), Ok(stop.clone()));
    // The bit concerns only receivers that do not know the number.
    assert_eq!(
        Request::decode(4, &fields(&[(1, b"a.1.2")])),
        Ok(stop.clone())
    );
    assert_eq!(
        Request::decode(4, &[known.clone(), fields(&[(99, b"new")])].concat()),
        Ok(stop)
    );
    let refused = Request::decode(4, &[known, fields(&[(0x8063, b"new")])].concat()).unwrap_err();
    assert!(refused.unknown, "{refused}");
    assert_eq!(
        refused.to_string(),
        "stop: field 99 is unknown here, and must not be skipped"
    );
    assert!(Request::decode(11, &[]).unwrap_err().unknown);
    // The same holds for fields within fields.
    let stage = fields(&[(0x8001, b"zstd"), (0x8063, b"new")]);
    let initiate = fields(&[(1, b"x"), (6, &stage)]);
    assert!(Request::decode(1, &initiate).unwrap_err().unknown);
}

#[test]
fn bodies_over_a_limit_are_rejected() {
    let error = |kind, body: &[u8]| Request::decode(kind, body).unwrap_err().to_string();
    assert!(error(4, &fields(&[(1, &[b'x'; 256])])).contains("256 bytes, more than 255"));
    assert!(error(4, &[]).contains("field 1 is missing"));
    assert!(error(4, &fields(&[(1, b"a"), (1, b"a")])).contains("occurs twice"));
    assert!(error(3, &fields(&[(1, b"a"), (2, &[9])])).contains("is 9, which is not a role"));
    let stage = fields(&[(3, &vec![0; (64 << 10) + 1])]);
    assert!(error(1, &fields(&[(1, b"x"), (6, &stage)])).contains("65537 bytes, more than 65536"));
    let many: Vec<_> = [(1, &b"x"[..])]
        .into_iter()
        .chain([(6, &b""[..]); 33])
        .collect();
    assert!(error(1, &fields(&many)).contains("more than 32 times"));
}

#[test]
fn paths_of_a_stage_are_absolute_bytes_within_the_limits() {
    let error = |body: &[u8]| Request::decode(1, body).unwrap_err().to_string();
    for (path, why) in [
        (&b"relative"[..], "not an absolute path"),
        (b"/a\0b", "not an absolute path"),
        (&[b'/'; 4097], "4097"),
    ] {
        let stage = fields(&[(6, &fields(&[(1, &[0]), (2, path)]))]);
        assert!(error(&fields(&[(1, b"x"), (6, &stage)])).contains(why));
    }
    let path = fields(&[(1, &[0]), (2, b"/a")]);
    let stage = fields(&[(6, &path[..]); 65]);
    assert!(error(&fields(&[(1, b"x"), (6, &stage)])).contains("more than 64 times"));
    // A path need not be UTF-8.
    let stage = fields(&[(6, &fields(&[(1, &[1]), (2, b"/\xff")]))]);
    let Ok(Request::Initiate(initiate)) = Request::decode(1, &fields(&[(1, b"x"), (6, &stage)]))
    else {
        panic!()
    };
    assert_eq!(initiate.stages[0].paths[0].0, PathAccess::Write);
}

/// Bytes of an entry of a list.
fn entry(explanation: &str) -> Vec<u8> {
    fields(&[
        (1, b"host.1.2"),
        (2, b"nightly"),
        (3, &7u32.to_le_bytes()),
        (4, &[1]),
        (5, &[5]),
        (6, &1_500_000_000u64.to_le_bytes()),
        (7, explanation.as_bytes()),
        (8, &12u64.to_le_bytes()),
    ])
}

#[test]
fn lists_have_the_documented_fields() {
    let long = "why ".repeat(64);
    let list = fields(&[(1, &entry(&long)), (1, &entry("x"))]);
    let message = ServerMessage::decode(0x8006, &list).unwrap();
    assert_eq!(message.encode(), list);
    let ServerMessage::Reply(Reply::List(entries)) = message else {
        panic!("{message:?}")
    };
    assert_eq!(
        (&*entries[1].name, &*entries[1].label, entries[1].owner),
        ("host.1.2", "nightly", 7)
    );
    assert_eq!(
        (entries[1].direction, entries[1].state),
        (Direction::Restore, PipeState::FAILED)
    );
    assert_eq!(
        (entries[1].elapsed.as_millis(), &*entries[0].explanation),
        (1500, &*long)
    );
    let longer = fields(&[(1, &entry(&format!("{long}!")))]);
    let error = ServerMessage::decode(0x8006, &longer).unwrap_err();
    assert!(error.to_string().contains("257 bytes, more than 256"));
}

#[test]
fn problems_have_the_documented_fields() {
    let problem = fields(&[(1, b"head"), (2, &7u32.to_le_bytes()), (3, b"a: is gone")]);
    let body = fields(&[(1, &9u64.to_le_bytes()), (2, &problem), (2, &problem)]);
    let message = ServerMessage::decode(0x8008, &body).unwrap();
    assert_eq!(message.encode(), body);
    let ServerMessage::Reply(Reply::Problems(problems)) = message else {
        panic!("{message:?}")
    };
    assert_eq!((problems.count, problems.last.len()), (9, 2));
    let last = &problems.last[1];
    assert_eq!(
        (&*last.stage, last.instance, &*last.text),
        ("head", 7, "a: is gone")
    );
    let count = 9u64.to_le_bytes();
    let many: Vec<_> = [(1, &count[..])]
        .into_iter()
        .chain([(2, &problem[..]); 101])
        .collect();
    let error = |body: &[u8]| ServerMessage::decode(0x8008, body).unwrap_err().to_string();
    assert!(error(&fields(&many)).contains("more than 100 times"));
    let long = fields(&[(1, b"head"), (3, &[b'x'; 1025])]);
    assert!(error(&fields(&[(1, &count), (2, &long)])).contains("1025 bytes, more than 1024"));
    assert!(error(&[]).contains("field 1 is missing"));
}

#[test]
fn histories_have_the_documented_fields() {
    let wide = |number: u64| number.to_le_bytes();
    let past = fields(&[
        (1, b"host.1.2"),
        (2, b"nightly"),
        (3, &7u32.to_le_bytes()),
        (4, &[1]),
        (5, &[7]),
        (6, &wide(6)),
        (7, &wide(7)),
        (8, &wide(8)),
        (9, &wide(9)),
        (10, b"9 problems"),
    ]);
    let body = fields(&[(1, &past), (1, &past)]);
    let message = ServerMessage::decode(0x8009, &body).unwrap();
    assert_eq!(message.encode(), body);
    let ServerMessage::Reply(Reply::History(pipes)) = message else {
        panic!("{message:?}")
    };
    let pipe = &pipes[1];
    assert_eq!(
        (pipe.state, pipe.direction),
        (PipeState::INCOMPLETE, Direction::Restore)
    );
    assert_eq!(
        [pipe.started, pipe.duration, pipe.bytes, pipe.problems],
        [6, 7, 8, 9]
    );
    assert_eq!((pipe.ended(), &*pipe.cause), (13, "9 problems"));
    let error = |body: &[u8]| ServerMessage::decode(0x8009, body).unwrap_err().to_string();
    let many = vec![(1, &past[..]); 1001];
    assert!(error(&fields(&many)).contains("more than 1000 times"));
    assert!(error(&fields(&[(1, b"")])).contains("field 1 is missing"));
    assert_eq!(
        Request::decode(9, &fields(&[(0x8001, &20u32.to_le_bytes())])),
        Ok(Request::History { limit: Some(20) })
    );
    assert_eq!(
        Request::decode(9, &[]),
        Ok(Request::History { limit: None })
    );
}

#[test]
fn statuses_have_the_documented_fields() {
    let wide = |number: u64| number.to_le_bytes();
    let narrow = |number: u32| number.to_le_bytes();
    let instance = fields(&[
        (1, &[3]),
        (2, &wide(2)),
        (3, &wide(3)),
        (4, &wide(4)),
        (5, &wide(5)),
        (6, &narrow(6)),
        (7, &narrow(7)),
        (8, &wide(8)),
        (9, &wide(9)),
        (10, &wide(10)),
        (11, &narrow(11)),
        (12, &narrow(12)),
    ]);
    let stage = fields(&[
        (1, b"zstd"),
        (2, &narrow(9)),
        (3, &instance),
        (3, &instance),
    ]);
    // The explanation in a status may be longer than in a list.
    let entry = entry(&"why ".repeat(65));
    let status = fields(&[(1, &entry), (2, &narrow(16)), (3, &narrow(5)), (4, &stage)]);
    let message = ServerMessage::decode(0x8005, &status).unwrap();
    assert_eq!(message.encode(), status);
    let ServerMessage::Reply(Reply::Status(status)) = message else {
        panic!("{message:?}")
    };
    assert_eq!(
        (status.buffers, status.free, status.stages[0].queued),
        (16, 5, 9)
    );
    let instance = &status.stages[0].instances[1];
    assert_eq!(
        (instance.activity.name(), instance.bytes_out),
        (Some("waiting for input"), 5)
    );
    assert_eq!(
        (
            instance.working.as_nanos(),
            instance.process,
            instance.processes
        ),
        (10, 11, 12)
    );
}

#[test]
fn statuses_without_optional_fields_have_zeros() {
    let owner = 0u32.to_le_bytes();
    let bare = fields(&[
        (1, &fields(&[(1, b"x"), (3, &owner), (5, &[1])])),
        (4, &fields(&[(1, b"y"), (3, &fields(&[(1, &[0])]))])),
    ]);
    let Ok(ServerMessage::Reply(Reply::Status(bare))) = ServerMessage::decode(0x8005, &bare) else {
        panic!()
    };
    assert_eq!(
        (
            bare.buffers,
            bare.stages[0].bytes_in(),
            bare.rate(),
            bare.bottleneck()
        ),
        (0, 0, 0.0, None)
    );
}
