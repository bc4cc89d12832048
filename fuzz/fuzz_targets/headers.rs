//! Arbitrary bytes as the body of a session or archive header: a body that parses is encoded to the
//! same bytes again. Changed bytes of a header that has everything are tried, too: arbitrary ones
//! seldom have lengths that fit.
#![no_main]

use datapipe::wire::{
    ArchiveHeader, CipherKind, Content, Extension, Framing, SLOT_LEN, SessionHeader,
    SessionsBefore, Time,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, Vec<(u16, u8)>)| {
    let (bytes, edits) = input;
    check(&bytes);
    for mut header in [session().to_bytes(), archive().to_bytes()] {
        for &(at, value) in &edits {
            let at = usize::from(at) % header.len();
            header[at] = value;
        }
        check(&header);
    }
});

fn check(bytes: &[u8]) {
    if let Ok(header) = SessionHeader::parse(bytes) {
        assert_eq!(header.to_bytes(), bytes);
    }
    match ArchiveHeader::parse(bytes) {
        Ok(header) => {
            assert_eq!(header.to_bytes(), bytes);
            assert!(bytes.starts_with(&header.identity()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn extensions() -> Vec<Extension> {
    vec![Extension {
        id: 7,
        data: vec![1, 2, 3],
    }]
}

fn session() -> SessionHeader {
    SessionHeader {
        id: [1; 16],
        created: Time::default(),
        record_len: 1024,
        framing: Framing::Once,
        host: "host".into(),
        program: "program".into(),
        label: "label".into(),
        before: SessionsBefore::default(),
        extensions: extensions(),
    }
}

fn archive() -> ArchiveHeader {
    ArchiveHeader {
        id: [1; 16],
        salt: [2; 32],
        created: Time::default(),
        block_len: 4096,
        content: Content::Tree,
        cipher: CipherKind::Aes256Gcm,
        part: 0,
        set: [1; 16],
        first: 0,
        previous: [0; 32],
        key_id: [3; 16],
        bases: Vec::new(),
        extensions: extensions(),
        slots: vec![[4; SLOT_LEN]; 2],
    }
}
