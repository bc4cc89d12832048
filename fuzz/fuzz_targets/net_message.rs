//! Arbitrary bytes as messages and hellos of the daemon's protocol: a message that decodes is
//! encoded to bytes that decode to the same message.
#![no_main]

use datapipe_net::protocol::{
    ClientHello, HEAD_LEN, HELLO_LEN, MessageHead, Request, ServerHello, ServerMessage,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (kind, bytes) = input;
    if let Ok(request) = Request::decode(kind % 16, bytes) {
        assert_eq!(
            Request::decode(request.kind(), &request.encode()),
            Ok(request)
        );
    }
    for kind in [kind % 16 | 0x8000, 0x4001] {
        if let Ok(answer) = ServerMessage::decode(kind, bytes) {
            assert_eq!(
                ServerMessage::decode(answer.kind(), &answer.encode()),
                Ok(answer)
            );
        }
    }
    if let Some(head) = bytes.first_chunk::<HEAD_LEN>() {
        let _ = MessageHead::decode(head);
    }
    if let Some(hello) = bytes.first_chunk::<HELLO_LEN>() {
        let _ = ServerHello::decode(hello);
        if let Ok(hello) = ClientHello::decode(hello) {
            let _ = ServerHello::answer(&hello);
        }
    }
});
