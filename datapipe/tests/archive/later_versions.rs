//! Archives as later versions may write them: today's reader passes over what it may ignore, and
//! refuses everything else by name.

use std::fs;

use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, frames};
use datapipe::wire::{
    ArchiveFooter, ArchiveHeader, Base, BlockKind, Content, Extension, Framing, RecordHeader,
    RecordKind, SessionHeader, UNIT_HEADER_LEN, UnitHeader, UnitKind, padding_of,
};
use tempfile::TempDir;

use crate::fixture::{TAPE, create_tape, stream, tape};

const BLOCK: u32 = 1 << 12;
/// Bytes of content in a record.
const CONTENT: usize = 960;

/// The units of an archive that is not encrypted, from which a tape is made.
#[derive(Clone)]
struct Units(Vec<(UnitHeader, Vec<u8>)>);

impl Units {
    /// Those of an archive that this version has written.
    fn of(archive: Archive, pipe: PipeBuilder<'_>) -> Self {
        let storage = FaultyStorage::new(1);
        let pipe = pipe
            .buffer_size(BLOCK)
            .archive(archive, create_tape(&storage));
        pipe.run().unwrap();
        let stream = stream(&frames(&storage.bytes(TAPE).unwrap()));
        let (mut at, mut units) = (0, Vec::new());
        while at < stream.len() {
            let header = UnitHeader::parse(&stream[at..]).unwrap();
            let body = &stream[at + UNIT_HEADER_LEN..][..header.stored as usize];
            units.push((header, body.to_vec()));
            at += header.unit_len();
        }
        Self(units)
    }

    fn of_stream() -> Self {
        let options = ArchiveOptions::stream("s").framing(Framing::Header);
        let archive = options.block_len(BLOCK).plan().unwrap();
        let data = b"the data ".repeat(1000);
        Self::of(archive, Pipe::builder().head(StreamHead::new(&data[..])))
    }

    fn of_tree() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        for n in 0..5_u8 {
            fs::write(dir.path().join(format!("source/{n}")), vec![n; 1500]).unwrap();
        }
        let options = ArchiveOptions::tree("t").framing(Framing::Header);
        let archive = options.block_len(BLOCK).plan().unwrap();
        let source = dir.path().join("source");
        let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
        Self::of(archive, Pipe::builder().head(head))
    }

    /// Position of the first unit of a kind.
    fn find(&self, kind: UnitKind) -> usize {
        self.0
            .iter()
            .position(|(header, _)| header.kind == kind)
            .unwrap()
    }

    /// Changes the body of the first unit of a kind.
    fn body(mut self, kind: UnitKind, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        let at = self.find(kind);
        self.0[at].1 = change(&self.0[at].1);
        self
    }

    fn session(self, change: impl FnOnce(&mut SessionHeader)) -> Self {
        self.body(UnitKind::SessionHeader, |body| {
            let mut header = SessionHeader::parse(body).unwrap();
            change(&mut header);
            header.to_bytes()
        })
    }

    fn archive(self, change: impl FnOnce(&mut ArchiveHeader)) -> Self {
        self.body(UnitKind::ArchiveHeader, |body| {
            let mut header = ArchiveHeader::parse(body).unwrap();
            change(&mut header);
            header.to_bytes()
        })
    }

    /// Adds a unit before the first block after the origin.
    fn add_unit(mut self, header: UnitHeader, body: &[u8]) -> Self {
        let at = self.find(UnitKind::Block) + 1;
        let archive = self.0[at].0.archive;
        self.0
            .insert(at, (UnitHeader { archive, ..header }, body.to_vec()));
        self
    }

    fn add_block(self, block_kind: BlockKind, body: &[u8]) -> Self {
        let header = UnitHeader {
            block_kind,
            ..UnitHeader::new(UnitKind::Block)
        };
        self.add_unit(header, body)
    }

    /// Changes the first block of a kind.
    fn block(
        mut self,
        kind: BlockKind,
        change: impl FnOnce(&mut UnitHeader, &mut Vec<u8>),
    ) -> Self {
        let is_it = |(header, _): &&mut (UnitHeader, Vec<u8>)| {
            header.kind == UnitKind::Block && header.block_kind == kind
        };
        let (header, body) = self.0.iter_mut().find(is_it).unwrap();
        change(header, body);
        self
    }

    /// The bytes of a tape, with all numbers, lengths, offsets, positions and checksums as they
    /// must be. `last` changes the bytes of each header in the end, before its checksum.
    fn tape_with(mut self, last: impl Fn(&UnitHeader, &mut [u8])) -> Vec<u8> {
        let of_block = |header: &UnitHeader| header.kind == UnitKind::Block;
        let blocks = self.0.iter().filter(|(header, _)| of_block(header)).count() as u64;
        let counts =
            |header: &UnitHeader| of_block(header) && header.block_kind.counts_in_offsets();
        let counted = self.0.iter().filter(|(header, _)| counts(header));
        let plain = counted.map(|(_, body)| body.len() as u64).sum();
        self = self.body(UnitKind::ArchiveFooter, |body| {
            let mut footer = ArchiveFooter::parse(&body[..32]).unwrap();
            footer.catalogue += blocks - footer.blocks;
            (footer.blocks, footer.plain) = (blocks, plain);
            [&footer.to_bytes()[..32], &body[32..]].concat()
        });
        let session = self.0[self.find(UnitKind::SessionHeader)].1[..16].to_vec();
        let (mut stream, mut starts) = (Vec::new(), Vec::new());
        let (mut number, mut offset) = (0, 0);
        for (header, body) in &self.0 {
            let mut header = UnitHeader {
                position: stream.len() as u64,
                stored: body.len() as u32,
                plain: body.len() as u32,
                body_crc: crc32fast::hash(body),
                session: *session.first_chunk().unwrap(),
                ..*header
            };
            match header.kind {
                UnitKind::Block => {
                    (header.number, header.offset) = (number, offset);
                    number += 1;
                    let is_counted = counts(&header);
                    offset += if is_counted {
                        u64::from(header.plain)
                    } else {
                        0
                    };
                }
                UnitKind::ArchiveFooter => header.number = blocks,
                _ => {}
            }
            starts.push(stream.len());
            let mut bytes = header.to_bytes();
            last(&header, &mut bytes);
            let crc = crc32fast::hash(&bytes[..UNIT_HEADER_LEN - 4]);
            bytes[UNIT_HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
            stream.extend(bytes);
            stream.extend(body);
            stream.extend(vec![0; padding_of(body.len())]);
        }
        let label = starts[self.find(UnitKind::ChunkHeader)];
        records(session.try_into().unwrap(), &stream, &starts, label)
    }

    fn tape(self) -> Vec<u8> {
        self.tape_with(|_, _| {})
    }
}

/// The bytes of a tape with this stream, whose units begin at `starts`. Its first `label` bytes are
/// those of both headers.
fn records(session: [u8; 16], stream: &[u8], starts: &[usize], label: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |kind, sequence, position: usize, first, content: &[u8]| {
        let header = RecordHeader {
            kind,
            session,
            sequence,
            volume: 1,
            length: content.len() as u32,
            position: position as u64,
            first,
        };
        let record = [&header.to_bytes()[..], content].concat();
        let length = (record.len() as u32).to_le_bytes();
        out.extend([&length[..], &record, &length].concat());
    };
    put(RecordKind::Label, 0, 0, Some(0), &stream[..label]);
    for (n, content) in stream.chunks(CONTENT).enumerate() {
        let position = n * CONTENT;
        let first = starts.iter().find(|start| **start >= position);
        let first = first.map(|start| (start - position) as u32);
        let first = first.filter(|first| (*first as usize) < content.len());
        put(RecordKind::Data, n as u64 + 1, position, first, content);
    }
    out.extend([0; 8]);
    out
}

/// Result of a reading: all that this version says, the destination, and if all is well.
struct Read {
    messages: String,
    restored: TempDir,
    is_well: bool,
}

fn read(bytes: &[u8]) -> Read {
    let restored = tempfile::tempdir().unwrap();
    let log = DamageLog::new();
    let reader = match ArchiveReader::open(tape(bytes), None) {
        Ok(reader) => reader.salvage(&log),
        Err(error) => {
            return Read {
                messages: error.to_string(),
                restored,
                is_well: false,
            };
        }
    };
    let is_tree = reader.header().content == Content::Tree;
    let reading = reader.read();
    let mut messages = Vec::new();
    let ended = if is_tree {
        let restore = TreeRestore::new(restored.path(), RestoreOptions::default()).unwrap();
        let report = restore.report();
        let ended = reading.pipe.tail(restore).run();
        let problems = report.snapshot().problems;
        messages.extend(problems.iter().map(|problem| format!("{problem:?}")));
        ended
    } else {
        let file = fs::File::create(restored.path().join("stream")).unwrap();
        reading.pipe.tail(StreamRestore::file(file)).run()
    };
    messages.extend(log.snapshot().entries.iter().map(ToString::to_string));
    let complete = reading.report.snapshot().complete;
    let is_well = match ended {
        Ok(report) => report.is_complete() && complete,
        Err(error) => {
            messages.push(error.to_string());
            false
        }
    };
    let messages = messages.join("\n");
    Read {
        messages,
        restored,
        is_well,
    }
}

/// Asserts that the archive comes back whole.
fn passes_over(what: &str, bytes: &[u8]) {
    let found = read(bytes);
    assert!(
        found.is_well && found.messages.is_empty(),
        "{what}: {}",
        found.messages
    );
    let stream = fs::read(found.restored.path().join("stream"));
    if let Ok(stream) = stream {
        assert!(stream == b"the data ".repeat(1000), "{what}");
        return;
    }
    for n in 0..5_u8 {
        let file = fs::read(found.restored.path().join(format!("source/{n}")));
        assert!(file.unwrap() == vec![n; 1500], "{what}: file {n}");
    }
}

/// Asserts that the reader says `why`, and that the result is not complete.
fn refuses(what: &str, bytes: &[u8], why: &str) {
    let found = read(bytes);
    assert!(!found.is_well, "{what}: nothing was noticed");
    assert!(found.messages.contains(why), "{what}: {}", found.messages);
}

fn extension(id: u16) -> Extension {
    let data = b"later".to_vec();
    Extension { id, data }
}

/// A run with one extension, as bytes.
fn run(id: u16) -> Vec<u8> {
    [
        &id.to_le_bytes()[..],
        &5_u16.to_le_bytes(),
        b"later",
        &[0; 7],
    ]
    .concat()
}

#[test]
fn unchanged_units_are_read() {
    passes_over("a stream", &Units::of_stream().tape());
    passes_over("a tree", &Units::of_tree().tape());
}

#[test]
fn extensions_are_passed_over_or_refused_by_their_identifiers() {
    for units in [Units::of_stream(), Units::of_tree()] {
        for id in [2, 7, 32_767] {
            let what = format!("extension {id}");
            let session = units
                .clone()
                .session(|header| header.extensions.push(extension(id)));
            passes_over(&what, &session.tape());
            let archive = units
                .clone()
                .archive(|header| header.extensions.push(extension(id)));
            passes_over(&what, &archive.tape());
            let footer = |body: &[u8]| [body, &run(id)].concat();
            let footer = units.clone().body(UnitKind::ArchiveFooter, footer);
            passes_over(&what, &footer.tape());
        }
        for id in [32_768, 65_535] {
            let (what, why) = (
                format!("extension {id}"),
                format!("extension {id} is required"),
            );
            // An optional one before it does not hide it.
            let add = |extensions: &mut Vec<Extension>| {
                extensions.extend([extension(7), extension(id)]);
            };
            let session = units.clone().session(|header| add(&mut header.extensions));
            refuses(&what, &session.tape(), &why);
            let archive = units.clone().archive(|header| add(&mut header.extensions));
            refuses(&what, &archive.tape(), &why);
            let footer = |body: &[u8]| [body, &run(7), &run(id)].concat();
            let footer = units.clone().body(UnitKind::ArchiveFooter, footer);
            refuses(&what, &footer.tape(), &why);
        }
    }
}

#[test]
fn continuations_parts_and_archives_with_bases_are_refused_by_name() {
    let with = |change: fn(&mut ArchiveHeader)| Units::of_tree().archive(change).tape();
    let continued = with(|header| (header.first, header.previous) = (7, [1; 32]));
    refuses("first", &continued, "is a continuation from block 7");
    let part = with(|header| (header.part, header.set) = (2, [1; 16]));
    refuses("part", &part, "is part 2 of the set of archive");
    let set = with(|header| header.set = [1; 16]);
    refuses("set", &set, "belongs to the set of archive");
    let (archive, header) = ([1; 16], [2; 32]);
    let base = Units::of_tree().archive(|it| it.bases.push(Base { archive, header }));
    refuses("base", &base.tape(), "refers to another archive");
}

#[test]
fn units_and_blocks_of_later_versions_are_passed_over_and_others_refused() {
    for units in [Units::of_stream(), Units::of_tree()] {
        for code in [128, 255] {
            let header = UnitHeader::new(UnitKind::Later(code));
            let later = units.clone().add_unit(header, b"of a later version");
            passes_over(&format!("unit {code}"), &later.tape());
        }
    }
    for kind in [
        BlockKind::Checkpoint,
        BlockKind::Later(128),
        BlockKind::Later(255),
    ] {
        let later = Units::of_stream().add_block(kind, b"of a later version");
        passes_over(&format!("{kind:?}"), &later.tape());
    }
    for code in [5, 12, 127] {
        let header = UnitHeader::new(UnitKind::Later(code));
        let unknown = Units::of_stream().add_unit(header, b"unknown");
        refuses("unit", &unknown.tape(), &format!("unknown kind {code}"));
    }
    let changed = |at: usize, value: u8| {
        Units::of_stream().tape_with(move |header, bytes| {
            if header.kind == UnitKind::Block && header.number == 1 {
                bytes[at] = value;
            }
        })
    };
    refuses("what", &changed(43, 5), "unknown kind 5");
    refuses("what", &changed(43, 127), "unknown kind 127");
    refuses("flag", &changed(6, 4), "unknown flag");
    refuses("flag", &changed(7, 1), "unknown flag");
    refuses("compression", &changed(40, 3), "compress");
    refuses("encryption", &changed(41, 2), "unknown algorithm 2");
    refuses("version", &changed(5, 2), "version 2");
}

/// A special header with this identifier.
fn special(id: u32) -> Vec<u8> {
    let length = 8_u32 + 5;
    let header = [&[32, 0, 0, 0][..], &length.to_le_bytes(), &[0; 8]].concat();
    [&header[..], &id.to_le_bytes(), &[0; 4], b"later"].concat()
}

#[test]
fn special_headers_of_later_versions_are_passed_over_or_refused() {
    let with = |id| {
        Units::of_stream()
            .add_block(BlockKind::Special, &special(id))
            .tape()
    };
    for id in [1, 2, 4, 1 << 31 | 9] {
        passes_over(&format!("special header {id:x}"), &with(id));
    }
    let why = "block 1: is an origin, and only block 0 of an archive is one";
    refuses("a second origin", &with(3), why);
    for id in [1 << 30 | 1, 1 << 30 | 99, 3 << 30 | 9] {
        refuses(
            "a special header",
            &with(id),
            &format!("special header {id:08x}"),
        );
    }
}

/// A required special header after data was shown as one before them, and the archive complete.
#[test]
fn required_special_header_after_data_is_damage() {
    let (optional, required) = (special(2 << 30 | 9), special(3 << 30 | 9));
    for (special, is_first, is_late) in [
        (&optional, false, false),
        (&required, true, false),
        (&required, false, true),
    ] {
        let mut units = Units::of_stream().add_block(BlockKind::Special, special);
        if !is_first {
            units = units.add_block(BlockKind::Data, b"data");
        }
        let bytes = units.tape();
        for salvages in [false, true] {
            let log = DamageLog::new();
            let reader = ArchiveReader::open(tape(&bytes), None).unwrap();
            let reader = reader.on_special(|_| true);
            let reading = match salvages {
                true => reader.salvage(&log).read(),
                false => reader.read(),
            };
            let ended = reading.pipe.tail(StreamTail::new(std::io::sink())).run();
            let text = match &ended {
                Ok(_) => format!("{:?}", log.snapshot().entries),
                Err(error) => error.to_string(),
            };
            assert_eq!(reading.report.snapshot().complete, !is_late, "{text}");
            assert_eq!(text.contains("required special header c0000009"), is_late);
            assert_eq!(ended.is_err(), is_late && !salvages, "{text}");
        }
    }
}

/// An entry of a block: its kind, object and body.
fn entry(kind: u8, object: u64, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_le_bytes();
    [&[kind, 0, 0, 0][..], &length, &object.to_le_bytes(), body].concat()
}

#[test]
fn entries_of_later_versions_are_passed_over_and_references_refused_by_name() {
    let with = |entry: Vec<u8>| {
        let units = Units::of_tree();
        let units = units.block(BlockKind::Data, |_, body| body.extend(entry));
        units.tape()
    };
    for kind in [128, 200, 255] {
        passes_over(&format!("entry {kind}"), &with(entry(kind, 1, b"later")));
    }
    for (kind, why) in [
        (5, "(kind 5)"),
        (6, "(kind 6)"),
        (9, "kind 9"),
        (127, "kind 127"),
    ] {
        let what = format!("entry {kind}");
        refuses(&what, &with(entry(kind, 1, b"later")), why);
    }
}

/// States of an object, and references in a catalogue entry, at their offsets in the first entry of
/// their kind.
#[test]
fn reserved_states_and_references_of_objects_are_refused_by_name() {
    let change = |blocks: BlockKind, kind: u8, at: usize, value: u8| {
        let units = Units::of_tree().block(blocks, |_, body| {
            let mut start = 0;
            while body[start] != kind {
                let length = body[start + 4..start + 8].try_into().unwrap();
                start += 16 + u32::from_le_bytes(length) as usize;
            }
            body[start + 16 + at] = value;
        });
        units.tape()
    };
    for (state, why) in [(3, "superseded"), (4, "part"), (5, "reject")] {
        refuses("a state", &change(BlockKind::Data, 4, 0, state), why);
    }
    for (references, why) in [(1, "references (1)"), (2, "(2)"), (3, "unknown kind 3")] {
        let bytes = change(BlockKind::ClosingCatalogue, 16, 68, references);
        let what = format!("references {references}");
        refuses(&what, &bytes, why);
    }
}
