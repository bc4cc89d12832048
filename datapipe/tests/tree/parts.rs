//! Some paths out of an archived tree: found in its catalogue, and read from where it says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use datapipe::archive::ReadOutcome;
use datapipe::prelude::*;
use datapipe::tree::{CatalogueQuery, RestoreReport, TreeList};
use datapipe::wire::{ObjectKind, looks_like_record};

use placed::placed;

mod placed;

const BLOCK: u32 = 64 << 10;

fn make_tree(root: &Path) {
    for dir in ["a/first", "m/middle", "z/last"] {
        fs::create_dir_all(root.join(dir)).unwrap();
        for i in 0..150u32 {
            let line = format!("{dir} {i}\n").into_bytes();
            fs::write(
                root.join(dir).join(i.to_string()),
                line.repeat(i as usize * 3),
            )
            .unwrap();
        }
    }
    let noise: Vec<u8> = (0..500_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::write(root.join("a/large"), noise).unwrap();
    fs::hard_link(root.join("a/large"), root.join("z/also large")).unwrap();
    fs::hard_link(root.join("a/large"), root.join("z/last/large again")).unwrap();
    symlink("nowhere", root.join("m/dangling")).unwrap();
    fs::set_permissions(root.join("z/last"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(root.join("z"), fs::Permissions::from_mode(0o711)).unwrap();
}

struct Archived {
    dir: tempfile::TempDir,
    key: Secret,
}

impl Archived {
    fn new() -> Self {
        let archived = Self {
            dir: tempfile::tempdir().unwrap(),
            key: Secret::Key(Key::from_bytes([5; 32])),
        };
        let source = archived.dir.path().join("data");
        make_tree(&source);
        let options = ArchiveOptions::new("tree")
            .content(Content::Tree)
            .encrypt(archived.key.clone());
        let archive = options
            .block_len(BLOCK)
            .chunk_len(200_000)
            .record_len(16 << 10)
            .plan()
            .unwrap();
        let tape = VirtualTape::create(archived.dir.path().join("tape"), VolumeOptions::default())
            .unwrap();
        let (seal, tail) = archive.stages(tape);
        let head = TreeHead::new(&[source], TreeOptions::default()).unwrap();
        let pipe = Pipe::builder()
            .buffer_size(BLOCK)
            .head(head)
            .stage(Zstd::level(3));
        pipe.stage(seal.unwrap()).tail(tail).run().unwrap();
        archived
    }

    fn reader(&self) -> ArchiveReader<VirtualTape> {
        let tape = VirtualTape::open(self.dir.path().join("tape"), looks_like_record).unwrap();
        ArchiveReader::open(tape, Some(&self.key)).unwrap()
    }

    /// Restores `paths` to a new directory, and says what became of it and how much was read.
    fn restore(
        &self,
        dest: &str,
        paths: &[&str],
        log: Option<&DamageLog>,
    ) -> (RestoreReport, ReadOutcome) {
        let dest = self.dir.path().join(dest);
        fs::create_dir(&dest).unwrap();
        let mut reader = self.reader();
        if let Some(log) = log {
            reader = reader.salvage(log);
        }
        let index = reader.index().unwrap();
        let paths: Vec<_> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let wanted = CatalogueQuery::new(&paths);
        while let Some(search) = wanted.search() {
            reader
                .read_blocks(&index, &index.catalogue(), 1)
                .unwrap()
                .pipe
                .tail(search)
                .run()
                .unwrap();
        }
        let restore = TreeRestore::part(&dest, RestoreOptions::default(), &wanted).unwrap();
        let report = restore.report();
        let reading = reader
            .read_blocks(&index, &wanted.blocks(&index), 2)
            .unwrap();
        reading.pipe.tail(placed(restore)).run().unwrap();
        (report, reading.report.outcome())
    }
}

fn same(left: &Path, right: &Path) {
    let output = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([left, right])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn selected_path_reads_only_its_blocks_and_the_catalogue() {
    let archived = Archived::new();
    let data = archived.dir.path().join("data");
    let blocks = archived.reader().index().unwrap().blocks();
    assert!(blocks > 20, "{blocks}");

    let (report, read) = archived.restore("one", &["data/m/middle/77"], None);
    assert!(
        report.is_whole() && report.files() == 1,
        "{:?}",
        report.problems()
    );
    // data, data/m, data/m/middle, the file, and the catalogue's end.
    assert!(
        read.blocks <= 6 && read.missing == 0,
        "{read:?} of {blocks}"
    );
    let one = archived.dir.path().join("one/data");
    assert_eq!(
        fs::read(one.join("m/middle/77")).unwrap(),
        fs::read(data.join("m/middle/77")).unwrap()
    );
    assert_eq!(fs::read_dir(one.join("m")).unwrap().count(), 1);
    assert_eq!(report.notes(), Vec::<String>::new());

    let (report, read) = archived.restore("some", &["data/m/", "./data/a/large"], None);
    assert!(
        report.is_whole() && report.files() == 151,
        "{:?}",
        report.problems()
    );
    assert!(read.blocks < blocks - 5, "{read:?} of {blocks}");
    same(&archived.dir.path().join("some/data/m"), &data.join("m"));
    same(
        &archived.dir.path().join("some/data/a/large"),
        &data.join("a/large"),
    );

    let (report, read) = archived.restore("none", &["data/b"], None);
    assert!(
        !report.is_whole() && read.blocks <= 3,
        "{:?}",
        report.problems()
    );
    let (report, _) = archived.restore("all", &[""], None);
    assert!(report.is_whole(), "{:?}", report.problems());
    same(&archived.dir.path().join("all/data"), &data);
}

/// A further name of a file whose first name is not wanted is that file.
#[test]
fn selected_hard_link_restores_the_file() {
    let archived = Archived::new();
    let data = archived.dir.path().join("data");
    let (report, _) = archived.restore("links", &["data/z"], None);
    assert!(report.is_whole(), "{:?}", report.problems());
    assert_eq!(report.notes(), Vec::<String>::new());
    let z = archived.dir.path().join("links/data/z");
    same(&z, &data.join("z"));
    let (one, other) = (
        fs::metadata(z.join("also large")).unwrap(),
        fs::metadata(z.join("last/large again")).unwrap(),
    );
    assert_eq!((one.ino(), one.nlink()), (other.ino(), 2));
    for path in ["", "last"] {
        let (is, was) = (
            fs::metadata(z.join(path)).unwrap(),
            fs::metadata(data.join("z").join(path)).unwrap(),
        );
        assert_eq!(
            (is.mode(), is.mtime_nsec()),
            (was.mode(), was.mtime_nsec()),
            "{path}"
        );
    }
    assert!(!archived.dir.path().join("links/data/a").exists());
}

/// What of a part is damaged is named, and nothing that is not wanted.
#[test]
fn damage_in_a_selection_is_reported() {
    let archived = Archived::new();
    let tape = archived.dir.path().join("tape");
    let good = fs::read(&tape).unwrap();
    let (mut hit, mut spared) = (0, 0);
    for (round, at) in (good.len() / 20..good.len() * 3 / 4)
        .step_by(good.len() / 12)
        .enumerate()
    {
        let mut bad = good.clone();
        bad[at..at + 200].fill(0x77);
        fs::write(&tape, bad).unwrap();
        let log = DamageLog::new();
        let (report, read) = archived.restore(&round.to_string(), &["data/m"], Some(&log));
        let restored = archived.dir.path().join(round.to_string()).join("data/m");
        if report.is_whole() {
            spared += 1;
            assert_eq!((log.count(), read.missing), (0, 0), "{:?}", log.entries());
            same(&restored, &archived.dir.path().join("data/m"));
        } else {
            hit += 1;
            assert!(log.count() > 0);
            assert!(
                report
                    .damaged()
                    .iter()
                    .all(|path| path.starts_with(b"data/m") || path == b"data")
            );
            let whole = (0..150)
                .filter(|i| restored.join(format!("middle/{i}")).exists())
                .count();
            assert!(
                report.damaged_count() as usize >= 150 - whole,
                "{:?}",
                report.problems()
            );
        }
    }
    assert!(hit > 0 && spared > 0, "{hit} {spared}");
}

#[test]
fn list_from_the_catalogue_matches_a_full_read() {
    let archived = Archived::new();
    let reader = archived.reader();
    let index = reader.index().unwrap();
    let lists = [
        reader.read_blocks(&index, &index.catalogue(), 1).unwrap(),
        reader.read(1),
    ]
    .map(|reading| {
        let list = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&list);
        let tail = TreeList::new(move |object| {
            let line = format!("{:?} {}", object, object.path.escape_ascii());
            told.lock().unwrap().push((line, object.kind, object.link));
            Ok(())
        });
        reading.pipe.tail(tail).run().unwrap();
        list.lock().unwrap().clone()
    });
    assert_eq!(lists[0], lists[1]);
    assert_eq!(lists[0].len(), 7 + 3 * 150 + 1 + 3);
    let links: Vec<_> = lists[0]
        .iter()
        .filter(|(_, kind, _)| *kind == ObjectKind::HardLink)
        .collect();
    assert!(links.len() == 2 && links[0].2 == links[1].2 && links[0].2 > 0);
}

/// A catalogue that names objects that are not where it says, as an enemy writes it, or says that
/// they have other names.
mod forged {
    use std::collections::VecDeque;

    use datapipe::wire::{BlockKind, CatalogueEntry, End, Entry, EntryBody, Object, State, Time};

    use super::*;

    /// Blocks as they reach a tail: what they are, and their entries.
    #[derive(Clone, Default)]
    struct Forged {
        blocks: VecDeque<(BlockKind, Marks, Vec<u8>)>,
        next: u64,
    }

    impl Head for Forged {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            let Some((what, marks, bytes)) = self.blocks.pop_front() else {
                return Ok(Fill::End);
            };
            block.put(&bytes)?;
            let mut info = block.info();
            (info.kind, info.marks, info.sequence) = (what.code(), marks, Some(self.next));
            block.set_info(info);
            self.next += 1;
            Ok(Fill::Block)
        }
    }

    impl Forged {
        fn block(mut self, what: BlockKind, entries: &[Entry<'_>]) -> Self {
            let mut bytes = Vec::new();
            entries
                .iter()
                .for_each(|entry| entry.append_to(&mut bytes).unwrap());
            self.blocks.push_back((what, Marks::default(), bytes));
            self
        }

        fn run<'a>(&self, tail: impl Into<TailStage<'a>>) -> Result<Report, Error> {
            Pipe::builder()
                .buffer_size(2 << 20)
                .head(self.clone())
                .tail(tail)
                .run()
        }

        /// Looks for a path, and restores it from `data`.
        fn restore(&self, path: &str, data: &Self) -> (RestoreReport, Vec<String>) {
            let wanted = CatalogueQuery::new(&[path.as_bytes().to_vec()]);
            while let Some(search) = wanted.search() {
                self.run(search).unwrap();
            }
            let dest = tempfile::tempdir().unwrap();
            let restore =
                TreeRestore::part(dest.path(), RestoreOptions::default(), &wanted).unwrap();
            let report = restore.report();
            data.run(placed(restore)).unwrap();
            let names = fs::read_dir(dest.path()).unwrap();
            (
                report,
                names
                    .map(|name| name.unwrap().file_name().into_string().unwrap())
                    .collect(),
            )
        }
    }

    fn named(object: u64, kind: ObjectKind, link: u64, path: &[u8]) -> Entry<'_> {
        named_in(0, object, kind, link, path)
    }

    /// Says that an object stands in a block.
    fn named_in(block: u64, object: u64, kind: ObjectKind, link: u64, path: &[u8]) -> Entry<'_> {
        let (state, modified, target) = (State::Whole, Time::default(), &b""[..]);
        let (mode, size, blocks, offset) = (0o600, 0, (block, block), 0);
        let entry = CatalogueEntry {
            kind,
            state,
            mode,
            size,
            link,
            modified,
            blocks,
            offset,
            path,
            target,
        };
        Entry {
            object,
            body: EntryBody::Catalogue(entry),
        }
    }

    fn object(number: u64, kind: ObjectKind, path: &[u8]) -> [Entry<'_>; 2] {
        let object = Object {
            kind,
            mode: 0o700,
            uid: 0,
            gid: 0,
            modified: Time::default(),
            size: 0,
            device: (0, 0),
            link: 0,
            linked: false,
            path,
            target: b"",
        };
        let end = End {
            state: State::Whole,
            size: 0,
            digest: None,
        };
        [EntryBody::Object(object), EntryBody::End(end)].map(|body| Entry {
            object: number,
            body,
        })
    }

    #[test]
    fn object_not_where_the_catalogue_says_is_not_restored() {
        let catalogue = Forged::default().block(
            BlockKind::ClosingCatalogue,
            &[named(0, ObjectKind::File, 0, b"x")],
        );
        let data = Forged::default().block(BlockKind::Data, &object(1, ObjectKind::File, b"y"));
        let (report, names) = catalogue.restore("x", &data);
        assert_eq!(names, Vec::<String>::new());
        let problems: Vec<_> = report.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["\"x\": nothing of this path is in the archive"]);
    }

    /// Also if no block comes behind those that are missing.
    #[test]
    fn missing_last_block_is_reported() {
        let entries = [b"x/a", b"x/b"]
            .map(|path| named_in(u64::from(path[2] - b'a'), 0, ObjectKind::File, 0, path));
        let catalogue = Forged::default().block(BlockKind::ClosingCatalogue, &entries);
        let data = Forged::default().block(BlockKind::Data, &object(1, ObjectKind::File, b"x/a"));
        let (report, names) = catalogue.restore("x", &data);
        assert_eq!((report.files(), names), (1, vec!["x".to_owned()]));
        let problems: Vec<_> = report.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["blocks 1 to 1 are missing"]);
    }

    #[test]
    fn hard_link_to_an_unlinked_object_is_not_restored() {
        let entries = [
            named(7, ObjectKind::File, 0, b"y"),
            named(0, ObjectKind::HardLink, 7, b"x"),
        ];
        let catalogue = Forged::default().block(BlockKind::ClosingCatalogue, &entries);
        for kind in [ObjectKind::Directory, ObjectKind::File] {
            let data = Forged::default().block(BlockKind::Data, &object(7, kind, b"y"));
            let (report, names) = catalogue.restore("x", &data);
            assert!(!report.is_whole() && names.is_empty(), "{names:?}");
        }
    }

    #[test]
    fn catalogue_block_without_content_is_an_error() {
        let mut catalogue = Forged::default().block(
            BlockKind::ClosingCatalogue,
            &[named(0, ObjectKind::File, 0, b"x")],
        );
        catalogue
            .blocks
            .push_back((BlockKind::ClosingCatalogue, Marks::REJECTED, Vec::new()));
        let search = CatalogueQuery::new(&[b"x".to_vec()]).search().unwrap();
        let error = catalogue.run(search).unwrap_err();
        assert!(error.to_string().contains("no content"), "{error}");
    }

    /// A few kilobytes of an archive can name very many of them.
    #[test]
    fn long_names_do_not_exhaust_memory() {
        let long = vec![b'n'; (1 << 20) - 10];
        let paths: Vec<_> = (0..40)
            .map(|i| [format!("x/{i}/").as_bytes(), &long].concat())
            .collect();
        let mut catalogue = Forged::default();
        for (path, link) in paths.iter().zip(1..) {
            catalogue = catalogue.block(
                BlockKind::ClosingCatalogue,
                &[named(0, ObjectKind::HardLink, link, path)],
            );
        }
        let wanted = CatalogueQuery::new(&[b"x".to_vec()]);
        catalogue.run(wanted.search().unwrap()).unwrap();
        let error = catalogue.run(wanted.search().unwrap()).unwrap_err();
        assert!(error.to_string().contains("too many"), "{error}");
    }
}
