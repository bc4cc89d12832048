//! Archives that an attacker wrote: nothing outside of the destination changes, and the terminal
//! gets no commands.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use datapipe::prelude::*;
use datapipe::wire::{
    BlockKind, CatalogueEntry, CatalogueStart, Entry, EntryBody, ObjectEnd, ObjectKind, ObjectMeta,
    ObjectState, Time,
};

use crate::fixture::{Fixture, failed};
use crate::walk::walk;

const BLOCK: u32 = 64 << 10;

/// Writer of entries that a correct program would not write.
#[derive(Default)]
struct Forger {
    entries: Vec<u8>,
    catalogue: Vec<u8>,
    objects: u64,
}

fn object(kind: ObjectKind, path: &str) -> ObjectMeta<'_> {
    ObjectMeta {
        kind,
        mode: 0o777,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        modified: Time {
            seconds: 1,
            nanoseconds: 0,
        },
        size: 0,
        device: (0, 0),
        link: 0,
        linked: false,
        path: path.as_bytes(),
        target: b"",
    }
}

/// Digest of an intact file.
fn digest(data: &[u8]) -> [u8; 16] {
    datapipe::tree::digest_of(data).unwrap()
}

impl Forger {
    fn entry(&mut self, object: u64, body: EntryBody<'_>) {
        Entry { object, body }.append_to(&mut self.entries).unwrap();
    }

    /// Adds an object and its entry in the catalogue. Its path is replaced by `wrong`, which has
    /// the same length.
    fn put(&mut self, object: ObjectMeta<'_>, wrong: &str, data: &[u8]) -> u64 {
        self.objects += 1;
        let (number, size) = (self.objects, data.len() as u64);
        let (begin, path) = (self.entries.len(), object.path);
        self.entry(number, EntryBody::Object(ObjectMeta { size, ..object }));
        swap(&mut self.entries[begin..], path, wrong.as_bytes());
        let digest = (object.kind == ObjectKind::File).then(|| digest(data));
        if !data.is_empty() {
            self.entry(number, EntryBody::Extent(0, data));
        }
        self.entry(
            number,
            EntryBody::End(ObjectEnd {
                state: ObjectState::Whole,
                size,
                digest,
            }),
        );
        let (kind, state, mode, link) = (object.kind, ObjectState::Whole, object.mode, object.link);
        // The origin is block 0.
        let (modified, blocks, target) = (object.modified, (1, 1), object.target);
        let offset = begin as u32;
        let entry = CatalogueEntry {
            kind,
            state,
            mode,
            size,
            link,
            modified,
            blocks,
            offset,
            changed: modified,
            inode: 0,
            path,
            target,
        };
        if self.catalogue.is_empty() {
            // Its number of objects is filled in when it is written.
            let body = EntryBody::CatalogueStart(CatalogueStart::default());
            Entry { object: 0, body }
                .append_to(&mut self.catalogue)
                .unwrap();
        }
        let from = self.catalogue.len();
        Entry {
            object: number,
            body: EntryBody::Catalogue(entry),
        }
        .append_to(&mut self.catalogue)
        .unwrap();
        swap(&mut self.catalogue[from..], path, wrong.as_bytes());
        number
    }

    fn file(&mut self, path: &str) -> u64 {
        self.put(object(ObjectKind::File, path), path, b"evil")
    }

    /// Adds a file with the path `wrong`, which a writer would reject. It must be as long as
    /// `path`.
    fn forged(&mut self, path: &str, wrong: &str) {
        self.put(object(ObjectKind::File, path), wrong, b"evil");
    }

    fn symlink(&mut self, path: &str, target: &str) {
        self.put(
            ObjectMeta {
                target: target.as_bytes(),
                ..object(ObjectKind::Symlink, path)
            },
            path,
            b"",
        );
    }

    fn link(&mut self, path: &str, link: u64) {
        self.put(
            ObjectMeta {
                link,
                ..object(ObjectKind::HardLink, path)
            },
            path,
            b"",
        );
    }

    /// Writes an archive whose format is correct.
    fn write(mut self, tape: &Path, with_catalogue: bool) {
        self.catalogue[16..24].copy_from_slice(&self.objects.to_le_bytes());
        let mut blocks = vec![(0, BlockKind::Data, self.entries)];
        if with_catalogue {
            blocks.push((
                blocks[0].2.len() as u64,
                BlockKind::ClosingCatalogue,
                self.catalogue,
            ));
        }
        let options = ArchiveOptions::tree("a\u{1b}[31mname").block_len(BLOCK);
        let medium = VirtualTape::create(tape, VolumeOptions::default()).unwrap();
        Pipe::builder()
            .buffer_size(BLOCK)
            .head(Blocks(blocks.into_iter().enumerate()))
            .archive(options.plan().unwrap(), medium)
            .run()
            .unwrap();
    }
}

fn swap(entry: &mut [u8], path: &[u8], wrong: &[u8]) {
    assert_eq!(path.len(), wrong.len());
    let at = entry
        .windows(path.len())
        .position(|part| part == path)
        .unwrap();
    entry[at..at + wrong.len()].copy_from_slice(wrong);
}

/// Head that sends blocks, given by offset, kind and bytes.
struct Blocks(std::iter::Enumerate<std::vec::IntoIter<(u64, BlockKind, Vec<u8>)>>);

impl Head for Blocks {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let Some((index, (offset, kind, bytes))) = self.0.next() else {
            return Ok(Fill::End);
        };
        block.put(&bytes)?;
        let mut info = block.info();
        (info.offset, info.kind, info.entries) = (offset, kind.code(), true);
        // The origin is block 0.
        info.sequence = Some(index as u64 + 1);
        block.set_info(info);
        Ok(Fill::Block)
    }
}

/// A fixture with a directory next to the destination that must not change, and the archive on
/// `tape`.
fn with_forgeries(with_catalogue: bool) -> Fixture {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("outside/folder")).unwrap();
    fs::write(fixture.path("outside/canary"), b"sings").unwrap();
    let mut forger = Forger::default();
    forger.put(object(ObjectKind::Directory, "data"), "data", b"");
    forger.file("data/good");
    forger.file("data/\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\n");
    forger.symlink("data/colours", "\u{1b}[2J");
    forger.symlink("data/folder", "../../outside");
    forger.symlink("data/file", "../../outside/canary");
    forger.symlink("data/new", "../../outside/new");
    forger.symlink("data/rooted", fixture.path("outside").to_str().unwrap());
    for path in [
        "data/folder/new",
        "data/folder/canary",
        "data/folder/folder/new",
        "data/rooted/canary",
    ] {
        forger.file(path);
    }
    let through = forger.file("data/file/x");
    forger.file("data/new/x");
    forger.link("data/hard", through);
    forger.link("data/folder/hard", 2);
    forger.link("data/nothing", 4711);
    forger.symlink("data/folder/link", "evil");
    forger.put(
        object(ObjectKind::Directory, "data/folder/dir"),
        "data/folder/dir",
        b"",
    );
    forger.put(
        object(ObjectKind::Fifo, "data/folder/fifo"),
        "data/folder/fifo",
        b"",
    );
    forger.forged("a-path-as-long", "../outside/new");
    forger.forged("data/path-as-long", "data/../../outsid");
    let outside = fixture.path("outside/absolute");
    let outside = outside.to_str().unwrap();
    forger.forged(&"x".repeat(outside.len()), outside);
    forger.write(&fixture.path("tape"), with_catalogue);
    fixture
}

fn assert_harmless(output: &Output) {
    for bytes in [&output.stdout, &output.stderr] {
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(
            !text
                .chars()
                .any(|c| c.is_control() && c != '\n' || c == '\u{202e}'),
            "{text:?}"
        );
    }
}

#[test]
fn hostile_archive_changes_nothing_outside_the_destination() {
    for (with_catalogue, how) in [
        (true, &[][..]),
        (true, &["--overwrite"]),
        (false, &["--overwrite"]),
        (true, &["--path", "data"]),
        (true, &["--path", "data/folder", "--overwrite"]),
        (
            true,
            &[
                "--path",
                "../outside/new",
                "--path",
                "data/../../outsid",
                "--path",
                "data/rooted/canary",
            ],
        ),
    ] {
        let fixture = with_forgeries(with_catalogue);
        let before = walk(&fixture.path("outside"));
        for round in 0..2 {
            let output = fixture.restore(&[how, &["tape", "out"]].concat());
            let text = failed(&output, 3);
            assert!(text.lines().count() > 3, "{text}");
            assert_harmless(&output);
            assert_eq!(
                walk(&fixture.path("outside")),
                before,
                "round {round} of {how:?}"
            );
            fixture.assert_holds(&["outside", "tape"]);
            if round == 0 && !how.contains(&"--path") {
                assert_eq!(fs::read(fixture.path("out/data/good")).unwrap(), b"evil");
            }
            // In the second round the link that an archive could plant exists already.
            if round == 0 {
                fixture.clear("out");
                symlink("../outside", fixture.path("out/data")).unwrap();
            }
        }
    }
}

#[test]
fn hostile_archive_sends_no_commands_to_the_terminal() {
    for with_catalogue in [true, false] {
        let fixture = with_forgeries(with_catalogue);
        for how in [
            &["--list", "tape"][..],
            &["--verify", "tape"],
            &["tape", "out"],
        ] {
            let output = fixture.restore(how);
            assert_harmless(&output);
            failed(&output, 3);
        }
        let list = String::from_utf8(fixture.restore(&["--list", "tape"]).stdout).unwrap();
        assert!(
            list.contains(" data/\\u{1b}]0;owned\\u{7}\\u{9b}2J\\u{202e}\\n\n"),
            "{list}"
        );
        assert!(list.contains(" data/colours -> \\u{1b}[2J\n"), "{list}");
    }
}
