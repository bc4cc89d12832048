//! The bytes of everything that travels, from fixed values.

use datapipe::media::Position;
use datapipe::pool::{Codec, ContentClass, Marks};
use datapipe::wire::{
    ArchiveEntry, ArchiveFooter, ArchiveHeader, BlockEntry, BlockKind, CatalogueEntry, ChunkEntry,
    ChunkFooter, Cipher, Content, End, Entry, EntryBody, Framing, Locator, Object, ObjectKind,
    RecordHeader, RecordKind, SLOT_LEN, SessionFooter, SessionHeader, State, Time, UnitHeader,
    UnitKind, VERSION,
};

/// Bytes as the table below has them.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TIME: Time = Time {
    seconds: -2,
    nanoseconds: 999_999_999,
};
const PLACE: Position = Position {
    volume: 2,
    record: 0x0102_0304_0506,
    byte: 0x0708_090a_0b0c,
};

fn session() -> SessionHeader {
    SessionHeader {
        id: *b"session 89abcdef",
        created: TIME,
        record_len: 0x0001_0408,
        framing: Framing::Once,
        host: "host".into(),
        program: "program".into(),
        label: "etikett \u{e9}".into(),
        slots: vec![[0xaa; SLOT_LEN], [0xbb; SLOT_LEN]],
    }
}

fn archive(content: Content, cipher: Cipher) -> ArchiveHeader {
    let (id, salt) = (*b"archive 89abcdef", [0x51; 32]);
    ArchiveHeader {
        id,
        salt,
        created: TIME,
        block_len: 4096,
        content,
        cipher,
        name: "name".into(),
    }
}

fn record(kind: RecordKind, first: Option<u32>) -> Vec<u8> {
    let (session, sequence, position) = (
        *b"session 89abcdef",
        0x1122_3344_5566_7788,
        0x0102_0304_0506_0708,
    );
    RecordHeader {
        kind,
        session,
        sequence,
        volume: 3,
        length: 960,
        position,
        first,
    }
    .to_bytes()
    .to_vec()
}

fn unit(kind: UnitKind) -> UnitHeader {
    UnitHeader {
        archive: 1,
        chunk: 0x0a0b,
        number: 0x1122_3344_5566_7788,
        position: 0x0102_0304_0506_0708,
        session: *b"sess",
        ..UnitHeader::new(kind)
    }
}

fn block() -> UnitHeader {
    UnitHeader {
        marks: Marks::MARKED.with(Marks::REJECTED),
        offset: 0x00aa_bbcc_ddee_ff00,
        plain: 4096,
        stored: 1040,
        codec: Codec::ZSTD,
        cipher: Cipher::Aes256Gcm,
        class: ContentClass::TEXT,
        what: BlockKind::Catalogue,
        body_crc: 0xdead_beef,
        ..unit(UnitKind::Block)
    }
}

fn footers() -> [Vec<u8>; 4] {
    let entry = |what, position| BlockEntry {
        place: PLACE,
        what,
        position,
    };
    let entries = vec![
        entry(BlockKind::Data, 640),
        entry(BlockKind::Catalogue, 1280),
    ];
    let chunk = ChunkFooter {
        blocks: 5,
        plain: 20_480,
        entries,
        session: vec![1, 2],
        archive: vec![3],
    };
    let place = |first, footer| ChunkEntry {
        first,
        blocks: 9,
        place: PLACE,
        position: 640,
        footer,
    };
    let locator = Locator {
        chunks: vec![place(0, None), place(9, Some((4, 17)))],
    };
    let footer = ArchiveFooter {
        blocks: 18,
        plain: 70_000,
        rejected: 2,
        catalogue: 17,
    };
    let id = *b"archive 89abcdef";
    let archive = ArchiveEntry {
        id,
        blocks: 18,
        place: PLACE,
        position: 90_000,
        locator: 89_000,
    };
    let session = SessionFooter {
        archives: vec![archive],
    };
    [
        chunk.to_bytes(),
        locator.to_bytes(),
        footer.to_bytes().to_vec(),
        session.to_bytes(),
    ]
}

fn entry(body: EntryBody<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Entry {
        object: 0x0102_0304,
        body,
    }
    .append_to(&mut bytes)
    .unwrap();
    bytes
}

fn object(kind: ObjectKind, target: &'static [u8]) -> Object<'static> {
    let (mode, path) = (0o6755, &b"a/b"[..]);
    let (uid, gid, size, device, link) = (1000, 100, 77, (8, 1), 5);
    Object {
        kind,
        mode,
        uid,
        gid,
        modified: TIME,
        size,
        device,
        link,
        linked: false,
        path,
        target,
    }
}

fn catalogue() -> CatalogueEntry<'static> {
    CatalogueEntry {
        kind: ObjectKind::File,
        state: State::Changed,
        mode: 0o644,
        size: 77,
        link: 0,
        modified: TIME,
        blocks: (3, 4),
        offset: 99,
        path: b"a/b",
        target: b"",
    }
}

/// What travels, by its name.
fn all() -> Vec<(String, Vec<u8>)> {
    let mut all = vec![
        (
            "record label".to_owned(),
            record(RecordKind::Label, Some(0)),
        ),
        ("record data".to_owned(), record(RecordKind::Data, None)),
        ("unit block".to_owned(), block().to_bytes().to_vec()),
        (
            "unit block authenticated".to_owned(),
            block().associated_data().to_vec(),
        ),
        ("session header".to_owned(), session().to_bytes()),
        ("session identity".to_owned(), session().identity()),
        (
            "archive header stream".to_owned(),
            archive(Content::Stream, Cipher::None).to_bytes(),
        ),
        (
            "archive header tree".to_owned(),
            archive(Content::Tree, Cipher::Aes256Gcm).to_bytes(),
        ),
    ];
    let kinds = [
        UnitKind::SessionHeader,
        UnitKind::ArchiveHeader,
        UnitKind::ChunkHeader,
        UnitKind::Options,
        UnitKind::ChunkFooter,
    ];
    let more = [
        UnitKind::ArchiveFooter,
        UnitKind::SessionFooter,
        UnitKind::Locator,
        UnitKind::Special,
    ];
    for kind in [&kinds[..], &more].concat() {
        all.push((
            format!("unit {}", kind.name()),
            unit(kind).to_bytes().to_vec(),
        ));
    }
    let names = [
        "chunk footer",
        "locator",
        "archive footer",
        "session footer",
    ];
    all.extend(names.map(str::to_owned).into_iter().zip(footers()));
    let types = [
        ObjectKind::File,
        ObjectKind::Directory,
        ObjectKind::HardLink,
        ObjectKind::Fifo,
    ];
    for kind in [
        &types[..],
        &[ObjectKind::CharacterDevice, ObjectKind::BlockDevice],
    ]
    .concat()
    {
        all.push((
            format!("entry {kind:?}"),
            entry(EntryBody::Object(object(kind, b""))),
        ));
    }
    all.push((
        "entry Symlink".to_owned(),
        entry(EntryBody::Object(object(ObjectKind::Symlink, b"../c"))),
    ));
    all.push((
        "entry attribute".to_owned(),
        entry(EntryBody::Attribute(b"user.a", b"value")),
    ));
    all.push((
        "entry extent".to_owned(),
        entry(EntryBody::Extent(0x0102_0304_0506, b"data")),
    ));
    for (state, digest) in [
        (State::Whole, Some([0xd1; 16])),
        (State::Changed, None),
        (State::Unread, None),
    ] {
        let end = End {
            state,
            size: 77,
            digest,
        };
        all.push((format!("entry end {state:?}"), entry(EntryBody::End(end))));
    }
    all.push((
        "entry catalogue".to_owned(),
        entry(EntryBody::Catalogue(catalogue())),
    ));
    all
}

/// The version, and the bytes of everything: what these are, they are for ever.
const BYTES: &str = include_str!("bytes.txt");

#[test]
fn encoded_bytes_match_the_golden_table() {
    let mut lines = BYTES.lines();
    assert_eq!(lines.next(), Some(format!("version: {VERSION}").as_str()));
    let all = all();
    for (name, bytes) in &all {
        let now = format!("{name}: {}", hex(bytes));
        let line = lines.next().unwrap_or_default();
        assert_eq!(
            now, line,
            "the format has changed: that is another version, with a reader for both"
        );
    }
    assert_eq!(lines.next(), None);
}
