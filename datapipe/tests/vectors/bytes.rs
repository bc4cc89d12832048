//! The encoding of everything that is stored, from fixed values.

use datapipe::media::Position;
use datapipe::pool::{Codec, ContentClass, Marks};
use datapipe::wire::{
    ArchiveEntry, ArchiveFooter, ArchiveHeader, Base, BlockEntry, BlockKind, CatalogueEntry,
    CatalogueStart, ChunkEntry, ChunkFooter, CipherKind, Content, Entry, EntryBody, EntryPiece,
    Extension, Framing, InodeFacts, LabelPlace, Locator, ObjectEnd, ObjectKind, ObjectMeta,
    ObjectState, OwnerKind, OwnerName, RecordHeader, RecordKind, SLOT_LEN, SessionFooter,
    SessionHeader, SessionsBefore, Time, UnitHeader, UnitKind, VERSION, VolumeRecord,
};

/// Returns bytes in the notation of the table.
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
        before: SessionsBefore {
            count: 0x0102_0304,
            id: *b"before 789abcdef",
            volume: *b"volume 789abcdef",
            record: 0x1122_3344_5566,
            byte: 0x7788_99aa_bbcc,
        },
        extensions: extensions(),
    }
}

fn extensions() -> Vec<Extension> {
    let extension = |id, data: &[u8]| Extension {
        id,
        data: data.to_vec(),
    };
    vec![extension(7, b"later"), extension(0x7fff, b"")]
}

fn archive(content: Content, cipher: CipherKind) -> ArchiveHeader {
    let (id, salt) = (*b"archive 89abcdef", [0x51; 32]);
    ArchiveHeader {
        id,
        salt,
        created: TIME,
        block_len: 4096,
        content,
        cipher,
        part: 0,
        set: id,
        first: 0,
        previous: [0; 32],
        key_id: [0; 16],
        bases: Vec::new(),
        extensions: Vec::new(),
        slots: Vec::new(),
    }
}

/// A header that has everything, such as this version does not write.
fn full_archive() -> ArchiveHeader {
    let base = |byte| Base {
        archive: [byte; 16],
        header: [byte + 1; 32],
    };
    ArchiveHeader {
        part: 0x0203,
        set: *b"the set 9abcdef.",
        first: 0x0102_0304_0506_0708,
        previous: [0x61; 32],
        key_id: *b"key id 789abcdef",
        bases: vec![base(0x71), base(0x73)],
        extensions: extensions(),
        slots: vec![[0xaa; SLOT_LEN], [0xbb; SLOT_LEN]],
        ..archive(Content::Stream, CipherKind::Aes256Gcm)
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
        marks: Marks::MARKED | Marks::REJECTED,
        offset: 0x00aa_bbcc_ddee_ff00,
        plain: 4096,
        stored: 1040,
        codec: Codec::ZSTD,
        cipher: CipherKind::Aes256Gcm,
        class: ContentClass::TEXT,
        block_kind: BlockKind::Catalogue,
        body_crc: 0xdead_beef,
        ..unit(UnitKind::Block)
    }
}

fn footers() -> [Vec<u8>; 4] {
    let entry = |what, position| BlockEntry {
        place: PLACE,
        block_kind: what,
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
        before: Some(PLACE),
        checkpoint: Some(7),
        blocks: 18,
        offset: 70_000,
        rejected: 2,
        chunks: vec![place(0, None), place(9, Some((4, 17)))],
        session: vec![1, 2],
        archive: vec![3],
    };
    let footer = ArchiveFooter {
        blocks: 18,
        plain: 70_000,
        rejected: 2,
        catalogue: 17,
        copy_of: None,
    };
    let id = *b"archive 89abcdef";
    let archive = ArchiveEntry {
        id,
        blocks: 18,
        place: PLACE,
        position: 90_000,
        locator: 89_000,
        header: PLACE,
    };
    let session = SessionFooter {
        label: LabelPlace {
            volume: *b"volume 012345678",
            record: 3,
            byte: 4_000,
        },
        archives: vec![archive],
        extensions: Vec::new(),
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

/// Returns an entry that belongs to no object.
fn general(body: EntryBody<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Entry { object: 0, body }.append_to(&mut bytes).unwrap();
    bytes
}

fn object(kind: ObjectKind, target: &'static [u8]) -> ObjectMeta<'static> {
    let (mode, path) = (0o6755, &b"a/b"[..]);
    let (uid, gid, size, device, link) = (1000, 100, 77, (8, 1), 5);
    ObjectMeta {
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
        state: ObjectState::Changed,
        mode: 0o644,
        size: 77,
        link: 0,
        modified: TIME,
        blocks: (3, 4),
        offset: 99,
        changed: Time {
            seconds: TIME.seconds + 1,
            ..TIME
        },
        inode: 123_456_789,
        path: b"a/b",
        target: b"",
    }
}

/// Returns the encodings of everything that is stored, by name.
fn all() -> Vec<(String, Vec<u8>)> {
    [
        records_and_headers(),
        units(),
        bodies(),
        entries(),
        volume_records(),
    ]
    .concat()
}

fn named<const N: usize>(items: [(&str, Vec<u8>); N]) -> Vec<(String, Vec<u8>)> {
    items.map(|(name, bytes)| (name.to_owned(), bytes)).to_vec()
}

fn volume_records() -> Vec<(String, Vec<u8>)> {
    let mut record = VolumeRecord::new(*b"volume- 89abcdef", *b"medium- 89abcdef", 3, TIME);
    let plain = record.to_bytes().to_vec();
    record.write_once = true;
    (record.pool, record.label) = ("pool".into(), "etikett \u{e9}".into());
    named([
        ("volume record", plain),
        ("volume record write once", record.to_bytes().to_vec()),
    ])
}

fn records_and_headers() -> Vec<(String, Vec<u8>)> {
    named([
        ("record label", record(RecordKind::Label, Some(0))),
        ("record data", record(RecordKind::Data, None)),
        ("unit block", block().to_bytes().to_vec()),
        (
            "unit block authenticated",
            block().associated_data().to_vec(),
        ),
        ("session header", session().to_bytes()),
        (
            "archive header stream",
            archive(Content::Stream, CipherKind::None).to_bytes(),
        ),
        (
            "archive header tree",
            archive(Content::Tree, CipherKind::Aes256Gcm).to_bytes(),
        ),
        ("archive header full", full_archive().to_bytes()),
        ("archive identity", full_archive().identity()),
    ])
}

fn units() -> Vec<(String, Vec<u8>)> {
    let kinds = [
        UnitKind::SessionHeader,
        UnitKind::ArchiveHeader,
        UnitKind::ChunkHeader,
        UnitKind::ChunkFooter,
        UnitKind::ArchiveFooter,
        UnitKind::SessionFooter,
        UnitKind::Locator,
        UnitKind::Volumes,
    ];
    let encoded = |kind: UnitKind| {
        (
            format!("unit {}", kind.name()),
            unit(kind).to_bytes().to_vec(),
        )
    };
    kinds.map(encoded).to_vec()
}

fn bodies() -> Vec<(String, Vec<u8>)> {
    let [chunk, locator, archive, session] = footers();
    named([
        ("chunk footer", chunk),
        ("locator", locator),
        ("archive footer", archive),
        ("session footer", session),
    ])
}

fn entries() -> Vec<(String, Vec<u8>)> {
    let kinds = [
        ObjectKind::File,
        ObjectKind::Directory,
        ObjectKind::HardLink,
        ObjectKind::Fifo,
        ObjectKind::CharacterDevice,
        ObjectKind::BlockDevice,
    ];
    let encoded = |kind: ObjectKind| {
        (
            format!("entry {kind:?}"),
            entry(EntryBody::Object(object(kind, b""))),
        )
    };
    let ends = [
        (ObjectState::Whole, Some([0xd1; 16])),
        (ObjectState::Changed, None),
        (ObjectState::Unread, None),
    ];
    let encoded_end = |(state, digest)| {
        let end = ObjectEnd {
            state,
            size: 77,
            digest,
        };
        (format!("entry end {state:?}"), entry(EntryBody::End(end)))
    };
    let symlink = object(ObjectKind::Symlink, b"../c");
    [
        kinds.map(encoded).to_vec(),
        named([
            ("entry Symlink", entry(EntryBody::Object(symlink))),
            (
                "entry attribute",
                entry(EntryBody::Attribute(b"user.a", b"value")),
            ),
            (
                "entry extent",
                entry(EntryBody::Extent(0x0102_0304_0506, b"data")),
            ),
        ]),
        ends.map(encoded_end).to_vec(),
        named([("entry catalogue", entry(EntryBody::Catalogue(catalogue())))]),
        facts_and_names(),
    ]
    .concat()
}

/// Entries of inodes, owners and the catalogue's start, and a piece of one.
fn facts_and_names() -> Vec<(String, Vec<u8>)> {
    named([
        (
            "entry inode",
            entry(EntryBody::Inode(InodeFacts {
                flags: 0x50,
                born: Some(TIME),
            })),
        ),
        (
            "entry inode without birth",
            entry(EntryBody::Inode(InodeFacts {
                flags: 0x50,
                born: None,
            })),
        ),
        (
            "entry piece",
            entry(EntryBody::Piece(EntryPiece {
                kind: 1,
                continues: true,
                goes_on: true,
                body: b"body",
            })),
        ),
        (
            "entry user",
            general(EntryBody::OwnerName(OwnerName {
                kind: OwnerKind::User,
                id: 1000,
                name: b"ada",
            })),
        ),
        (
            "entry group",
            general(EntryBody::OwnerName(OwnerName {
                kind: OwnerKind::Group,
                id: 1001,
                name: b"staff",
            })),
        ),
        (
            "entry start",
            general(EntryBody::CatalogueStart(CatalogueStart {
                objects: 3,
                bytes: 77,
            })),
        ),
    ])
}

/// The version and the encodings. They never change.
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
