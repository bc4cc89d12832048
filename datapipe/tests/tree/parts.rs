//! Selected paths of an archived tree: found in its catalogue, and read from the positions there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};

use datapipe::archive::ReadOutcome;
use datapipe::prelude::*;
use datapipe::tree::{CatalogueQuery, RestoreOutcome, TreeList};
use datapipe::wire::{CatalogueEntry, ObjectKind};

use crate::data::key;
use crate::fixture::{archive_options, assert_same_tree, head};
use crate::medium::{create_tape, open};
use crate::placement::Placement;

in_both_placements! {
    selected_path_reads_only_its_blocks_and_the_catalogue
    selected_hard_link_restores_the_file
    search_of_the_objects_finds_the_file_of_a_hard_link
    damage_in_a_selection_is_reported
}

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

/// An archived tree.
struct Archived {
    dir: tempfile::TempDir,
    /// Placement of the tails that restore it.
    placement: Placement,
}

impl Archived {
    fn new(placement: Placement) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("data");
        make_tree(&source);
        let archive = archive_options(BLOCK, 200_000)
            .encrypt(key(5))
            .record_len(16 << 10)
            .plan()
            .unwrap();
        let pipe = Pipe::builder()
            .buffer_size(BLOCK)
            .head(head(&source))
            .stage(zstd(3));
        let tape = create_tape(&dir.path().join("tape"));
        pipe.archive(archive, tape).run().unwrap();
        Self { dir, placement }
    }

    fn reader(&self) -> ArchiveReader<Box<dyn MediumReader>> {
        ArchiveReader::open(open(&self.dir.path().join("tape")), Some(&key(5))).unwrap()
    }

    /// Restores `paths` to a new directory. Returns the reports of the restore and of the reader.
    fn restore(
        &self,
        dest: &str,
        paths: &[&str],
        log: Option<&DamageLog>,
    ) -> (RestoreOutcome, ReadOutcome) {
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
                .read_blocks(&index, &index.catalogue())
                .unwrap()
                .pipe
                .tail(search)
                .run()
                .unwrap();
        }
        let restore = TreeRestore::part(&dest, RestoreOptions::default(), &wanted).unwrap();
        let report = restore.report();
        let reading = reader
            .read_blocks(&index, &wanted.blocks(&index))
            .unwrap()
            .instances(2);
        reading
            .pipe
            .tail(self.placement.place(restore))
            .run()
            .unwrap();
        (report.snapshot(), reading.report.snapshot())
    }
}

fn selected_path_reads_only_its_blocks_and_the_catalogue(placement: Placement) {
    let archived = Archived::new(placement);
    let data = archived.dir.path().join("data");
    let blocks = archived.reader().index().unwrap().blocks();
    assert!(blocks > 20, "{blocks}");

    let (report, read) = archived.restore("one", &["data/m/middle/77"], None);
    assert!(
        report.is_whole() && report.files == 1,
        "{:?}",
        report.problems
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
    assert_eq!(report.notes, Vec::<String>::new());

    let (report, read) = archived.restore("some", &["data/m/", "./data/a/large"], None);
    assert!(
        report.is_whole() && report.files == 151,
        "{:?}",
        report.problems
    );
    assert!(read.blocks < blocks - 5, "{read:?} of {blocks}");
    assert_same_tree(&archived.dir.path().join("some/data/m"), &data.join("m"));
    assert_same_tree(
        &archived.dir.path().join("some/data/a/large"),
        &data.join("a/large"),
    );

    let (report, read) = archived.restore("none", &["data/b"], None);
    assert!(
        !report.is_whole() && read.blocks <= 3,
        "{:?}",
        report.problems
    );
    let (report, _) = archived.restore("all", &[""], None);
    assert!(report.is_whole(), "{:?}", report.problems);
    assert_same_tree(&archived.dir.path().join("all/data"), &data);
}

/// A further name of a file restores the file if its first name is not selected.
fn selected_hard_link_restores_the_file(placement: Placement) {
    let archived = Archived::new(placement);
    let (report, _) = archived.restore("links", &["data/z"], None);
    archived.assert_links_are_whole("links", &report);
}

/// Without a catalogue the objects are searched. Damage is passed, and costs no more than itself.
fn search_of_the_objects_finds_the_file_of_a_hard_link(placement: Placement) {
    let archived = Archived::new(placement);
    let report = archived.restore_searched("links", &["data/z"]);
    archived.assert_links_are_whole("links", &report);
    // The first name is selected, too, and is kept.
    let report = archived.restore_searched("both", &["data/a/large", "data/z/also large"]);
    assert!(report.is_whole() && report.files == 1, "{report:?}");
    let both = archived.dir.path().join("both/data");
    assert_eq!(fs::metadata(both.join("a/large")).unwrap().nlink(), 2);
    let report = archived.restore_searched("none", &["data/z/none"]);
    assert_eq!(report.problem_count, 1, "{report:?}");
    // A search passes what is damaged.
    let tape = archived.dir.path().join("tape");
    let (good, mut whole) = (fs::read(&tape).unwrap(), 0);
    let was = fs::read(archived.dir.path().join("data/a/large")).unwrap();
    for round in 1..6 {
        let (mut bad, at) = (good.clone(), good.len() * round / 6);
        bad[at..at + 200].fill(0x77);
        fs::write(&tape, bad).unwrap();
        let dest = format!("damaged {round}");
        let report = archived.restore_searched(&dest, &["data/z/also large"]);
        let link = archived.dir.path().join(dest).join("data/z/also large");
        match fs::read(link) {
            Ok(is) => whole += usize::from(is == was),
            Err(_) => assert!(report.damaged_count > 0, "{round}: {report:?}"),
        }
    }
    assert!(whole > 0, "no position was outside of the file");
}

impl Archived {
    /// Restores `paths` from all blocks, after a search of the objects.
    fn restore_searched(&self, dest: &str, paths: &[&str]) -> RestoreOutcome {
        let dest = self.dir.path().join(dest);
        fs::create_dir(&dest).unwrap();
        let reader = self.reader().salvage(&DamageLog::new());
        let paths: Vec<_> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let query = CatalogueQuery::new(&paths);
        let search = query.search_objects();
        assert!(query.search().is_none(), "the catalogue is not searched");
        reader.clone().read().pipe.tail(search).run().unwrap();
        let restore = TreeRestore::part(&dest, RestoreOptions::default(), &query).unwrap();
        let report = restore.report();
        let pipe = reader.read().pipe;
        pipe.tail(self.placement.place(restore)).run().unwrap();
        report.snapshot()
    }

    /// Asserts that `data/z` was restored whole, with its two names of a file in `data/a`.
    fn assert_links_are_whole(&self, dest: &str, report: &RestoreOutcome) {
        let archived = self;
        let data = archived.dir.path().join("data");
        assert!(report.is_whole(), "{:?}", report.problems);
        assert_eq!(report.notes, Vec::<String>::new());
        let z = archived.dir.path().join(dest).join("data/z");
        assert_same_tree(&z, &data.join("z"));
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
        assert!(!archived.dir.path().join(dest).join("data/a").exists());
    }
}

/// Damage is reported for selected objects only.
fn damage_in_a_selection_is_reported(placement: Placement) {
    let archived = Archived::new(placement);
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
            assert_eq!(
                (log.count(), read.missing),
                (0, 0),
                "{:?}",
                log.snapshot().entries
            );
            assert_same_tree(&restored, &archived.dir.path().join("data/m"));
        } else {
            hit += 1;
            assert!(log.count() > 0);
            assert!(
                report
                    .damaged
                    .iter()
                    .all(|path| path.starts_with(b"data/m") || path == b"data")
            );
            let whole = (0..150)
                .filter(|i| restored.join(format!("middle/{i}")).exists())
                .count();
            assert!(
                report.damaged_count as usize >= 150 - whole,
                "{:?}",
                report.problems
            );
        }
    }
    assert!(hit > 0 && spared > 0, "{hit} {spared}");
}

#[test]
fn list_from_the_catalogue_matches_a_full_read() {
    let archived = Archived::new(Placement::Threads);
    let reader = archived.reader();
    let index = reader.index().unwrap();
    let lists = [
        reader.read_blocks(&index, &index.catalogue()).unwrap(),
        reader.read(),
    ]
    .map(|reading| {
        let list = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&list);
        let tail = TreeList::new(move |object| {
            // Only the catalogue has these.
            let object = &CatalogueEntry {
                changed: object.modified,
                inode: 0,
                ..*object
            };
            let line = format!("{:?} {}", object, object.path.escape_ascii());
            sink.lock().unwrap().push((line, object.kind, object.link));
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
