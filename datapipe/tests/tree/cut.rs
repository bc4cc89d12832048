//! Archives of trees without an end. What their checkpoints say is compared with a reading of all
//! blocks, and the bytes that both read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use datapipe::archive::ReadOutcome;
use datapipe::prelude::*;
use datapipe::testkit::Random;
use datapipe::tree::{CatalogueQuery, CutTree, TreeList};
use datapipe::wire::{CatalogueEntry, ObjectState};

use crate::data::{key, setting};
use crate::fixture::{archive_options, head};
use crate::medium::{create_tape, open};

const BLOCK: u32 = 8 << 10;

/// Makes small files in directories, with links, and large files between them.
fn make_tree(root: &Path, random: &mut Random) {
    for dir in 0..6 {
        let path = root.join(format!("{dir}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..6 {
            let len = match random.below(6) {
                0 => 0,
                1 => 60_000 + random.below(60_000),
                _ => random.below(9_000),
            };
            let mut data = vec![0; len as usize];
            random.fill(&mut data);
            let name = format!("{file} {}", "long ".repeat(random.below(30) as usize));
            fs::write(path.join(&name), data).unwrap();
            if random.below(4) == 0 {
                let later = root.join(format!("{}", random.below(6)));
                fs::create_dir_all(&later).unwrap();
                fs::hard_link(path.join(&name), later.join(format!("z{dir}{file}"))).unwrap();
            }
        }
        symlink("nowhere", path.join("link")).unwrap();
    }
}

/// An archive with checkpoints, on a tape.
struct Archived {
    dir: tempfile::TempDir,
    tape: Vec<u8>,
    secret: Option<Secret>,
}

impl Archived {
    fn new(seed: u64, secret: Option<Secret>) -> Self {
        let (dir, mut random) = (tempfile::tempdir().unwrap(), Random::new(seed));
        let source = dir.path().join("data");
        make_tree(&source, &mut random);
        let options = archive_options(BLOCK, 1 << 20).record_len(4 << 10);
        let options = match &secret {
            Some(secret) => options.encrypt(secret.clone()),
            None => options,
        };
        let every = 40_000 + random.below(100_000);
        // Several readers make checkpoints between their turns.
        let readers = 1 + random.below(4) as u32;
        let head = head(&source).instances(readers).checkpoint_every(every);
        let path = dir.path().join("whole");
        let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
        let pipe = pipe.archive(options.plan().unwrap(), create_tape(&path));
        pipe.run().unwrap();
        let tape = fs::read(&path).unwrap();
        Self { dir, tape, secret }
    }

    /// Leaves the first `len` bytes of the tape.
    fn cut(&self, len: usize) {
        fs::write(self.dir.path().join("cut"), &self.tape[..len]).unwrap();
    }

    fn reader(&self) -> ArchiveReader<Box<dyn MediumReader>> {
        let medium = open(&self.dir.path().join("cut"));
        ArchiveReader::open(medium, self.secret.as_ref()).unwrap()
    }
}

/// Properties of an object that its entries and the catalogue have.
type Listed = (String, Vec<u8>, ObjectState, u64, u32, u64, (u64, u32), u64);

/// Lists an archive: by its checkpoints, or all of it.
fn list(
    reader: &ArchiveReader<Box<dyn MediumReader>>,
    cut: Option<&CutTree>,
) -> (Vec<Listed>, ReadOutcome, Vec<String>) {
    let (log, listed) = (DamageLog::new(), Arc::new(Mutex::new(Vec::new())));
    let to = Arc::clone(&listed);
    let tail = TreeList::new(move |object: &CatalogueEntry<'_>| {
        let path = object.path.escape_ascii().to_string();
        // The block with the end of an object that has none is not known.
        let last = match object.state {
            ObjectState::Unread => 0,
            _ => object.blocks.1,
        };
        to.lock().unwrap().push((
            format!("{:?} {path}", object.kind),
            object.target.to_vec(),
            object.state,
            object.size,
            object.mode,
            object.link,
            (object.blocks.0, object.offset),
            last,
        ));
        Ok(())
    });
    let (reader, tail) = (reader.clone().salvage(&log), tail.salvage(&log));
    let (reading, tail) = match cut {
        Some(cut) => (cut.reading(&reader).unwrap(), tail.of_cut(cut)),
        None => (reader.read(), tail),
    };
    let ended = reading.pipe.tail(tail).run().unwrap();
    let damage: Vec<_> = log
        .snapshot()
        .entries
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ended.is_complete(), damage.is_empty());
    let listed = listed.lock().unwrap().clone();
    (listed, reading.report.snapshot(), damage)
}

/// Restores some paths. Returns the files with their contents, and the problems.
fn restore(
    archived: &Archived,
    paths: &[Vec<u8>],
    cut: Option<&CutTree>,
) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let dest = tempfile::tempdir_in(archived.dir.path()).unwrap();
    let (log, query) = (DamageLog::new(), CatalogueQuery::new(paths));
    let reader = archived.reader().salvage(&log);
    match cut {
        Some(cut) => {
            while let Some(search) = query.search_cut(cut, &log) {
                let reading = cut.reading(&reader).unwrap();
                reading.pipe.tail(search).run().unwrap();
            }
        }
        None => {
            let search = query.search_objects();
            reader.read().pipe.tail(search).run().unwrap();
        }
    }
    let tail = TreeRestore::part(dest.path(), RestoreOptions::default(), &query).unwrap();
    let report = tail.report();
    let reading = match cut {
        Some(cut) => {
            let positions = cut.index().positions();
            let blocks = query.blocks(positions);
            reader.read_blocks(positions, &blocks).unwrap()
        }
        None => reader.read(),
    };
    reading.pipe.tail(tail).run().unwrap();
    let mut problems: Vec<_> = report
        .snapshot()
        .problems
        .iter()
        .map(ToString::to_string)
        .filter(|problem| !problem.starts_with("the catalogue"))
        .collect();
    problems.sort();
    let mut files = BTreeMap::new();
    let mut open = vec![dest.path().to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dest.path()).unwrap();
            let name = name.display().to_string();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                files.insert(name, Vec::new());
                open.push(path);
            } else if meta.is_file() {
                files.insert(name, fs::read(&path).unwrap());
            } else {
                files.insert(name, b"other".to_vec());
            }
        }
    }
    (files, problems)
}

/// An archive that was cut off had to be read from its start to its end, for a list, and twice for
/// some of its paths.
#[test]
fn checkpoints_of_a_cut_archive_say_what_a_reading_of_all_blocks_says() {
    let seed = setting("DATAPIPE_SEED", 20_261_130);
    println!("DATAPIPE_SEED={seed}");
    let (mut by_checkpoints, mut read) = (0, (0, 0));
    for number in 0..4 {
        let secret = (number % 2 == 1).then(|| key(5));
        let archived = Archived::new(seed + number, secret);
        let mut random = Random::new(seed + number);
        for round in 0..setting("DATAPIPE_CUTS", 3) {
            let len =
                archived.tape.len() / 8 + random.below(archived.tape.len() as u64 / 8 * 7) as usize;
            archived.cut(len);
            let reader = archived.reader();
            let context = format!("seed {seed}, archive {number}, round {round}: {len} bytes");
            let cut = match CutTree::read(&reader) {
                Ok(cut) => cut,
                Err(error) => {
                    println!("{context}: {error}");
                    continue;
                }
            };
            by_checkpoints += 1;
            let (objects, all, damage) = list(&reader, None);
            let (found, part, its_damage) = list(&reader, Some(&cut));
            assert_eq!(found, objects, "{context}");
            let says = |damage: &[String]| damage.iter().any(|text| text.contains("incomplete"));
            assert!(
                says(&damage) == says(&its_damage),
                "{context}: {damage:?} {its_damage:?}"
            );
            assert!(!part.complete && part.read <= all.read, "{context}");
            read = (read.0 + part.read, read.1 + all.read);
            // A file with its links, and a directory.
            let dir = format!("data/{}", random.below(6)).into_bytes();
            let file = objects[random.below(objects.len() as u64) as usize]
                .0
                .clone();
            let file = file.split_once(' ').unwrap().1.as_bytes().to_vec();
            for paths in [vec![dir], vec![file]] {
                let all = restore(&archived, &paths, None);
                let part = restore(&archived, &paths, Some(&cut));
                let names = |files: &BTreeMap<String, Vec<u8>>| -> Vec<_> {
                    files.keys().cloned().collect()
                };
                assert_eq!(names(&part.0), names(&all.0), "{context} {paths:?}");
                assert!(part.0 == all.0, "{context} {paths:?}");
                assert_eq!(part.1, all.1, "{context}");
            }
        }
    }
    println!("{} of {} bytes were read", read.0, read.1);
    assert!(
        by_checkpoints > 0 && read.0 * 2 < read.1,
        "{by_checkpoints} {read:?}"
    );
}
