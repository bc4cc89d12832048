//! Single objects of an archive, listed and read without a destination.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use datapipe::media::TapeReader;
use datapipe::prelude::*;
use datapipe::tree::{TreeReadError, TreeReader};
use datapipe::wire::{ObjectKind, ObjectMeta, ObjectState};
use tempfile::TempDir;

const BLOCK: u32 = 64 << 10;

/// Bytes that do not compress and differ from file to file.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(step).collect()
}

/// Rejects one file.
struct RejectByName;

impl ObjectInspector for RejectByName {
    fn begin(&mut self, file: &ObjectMeta<'_>) -> Result<ObjectVerdict, StageError> {
        Ok(match file.path.ends_with(b"rejected") {
            true => ObjectVerdict::Reject("by its name".to_owned()),
            false => ObjectVerdict::Pass,
        })
    }

    fn data(&mut self, _: u64, _: &[u8]) -> Result<ObjectVerdict, StageError> {
        Ok(ObjectVerdict::Pass)
    }
}

/// An archived tree, and the content of its files.
struct Fixture {
    dir: TempDir,
    files: BTreeMap<String, Vec<u8>>,
    key: Option<Secret>,
}

impl Fixture {
    fn new(key: Option<Secret>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        fs::create_dir_all(root.join("logs/old")).unwrap();
        let mut files = BTreeMap::new();
        let contents = [
            ("data/a first", noise(1, 3 * BLOCK as usize)),
            ("data/b large", noise(2, 10 * BLOCK as usize + 77)),
            ("data/c empty", Vec::new()),
            ("data/d small", b"some text".to_vec()),
            ("data/logs/1.log", b"one".to_vec()),
            ("data/logs/old/2.log", b"two".to_vec()),
            ("data/z last", noise(3, 3 * BLOCK as usize)),
        ];
        for (path, content) in contents {
            fs::write(dir.path().join(path), &content).unwrap();
            files.insert(path.to_owned(), content);
        }
        let sparse = File::create(root.join("e sparse")).unwrap();
        sparse.write_all_at(b"island", 1 << 20).unwrap();
        sparse.set_len(3 << 20).unwrap();
        let sparse = fs::read(root.join("e sparse")).unwrap();
        files.insert("data/e sparse".to_owned(), sparse);
        fs::write(root.join("rejected"), "not kept").unwrap();
        fs::hard_link(root.join("d small"), root.join("y other name")).unwrap();
        symlink("d small", root.join("x link")).unwrap();
        files.insert("data/y other name".to_owned(), b"some text".to_vec());
        let fixture = Self { dir, files, key };
        fixture.archive(&root);
        fixture
    }

    fn archive(&self, root: &Path) {
        let mut archive = ArchiveOptions::tree("data").block_len(BLOCK);
        if let Some(key) = &self.key {
            archive = archive.encrypt(key.clone());
        }
        let tape = VirtualTape::create(self.tape(), VolumeOptions::default()).unwrap();
        let options = TreeOptions::default().inspect(|_| RejectByName);
        let head = TreeHead::new(&[root], options).unwrap();
        let pipe = Pipe::builder().buffer_size(BLOCK).head(head).stage(zstd(3));
        pipe.archive(archive.plan().unwrap(), tape).run().unwrap();
    }

    fn tape(&self) -> PathBuf {
        self.dir.path().join("tape")
    }

    fn open(&self) -> ArchiveReader<TapeReader> {
        ArchiveReader::open(VirtualTape::open(self.tape()).unwrap(), self.key.as_ref()).unwrap()
    }

    /// Inverts a byte of each kibibyte of a part of the tape, given in percent of its length.
    fn damage(&self, percent: std::ops::Range<usize>) {
        let mut bytes = fs::read(self.tape()).unwrap();
        let (from, to) = (
            bytes.len() * percent.start / 100,
            bytes.len() * percent.end / 100,
        );
        bytes[from..to]
            .iter_mut()
            .step_by(1024)
            .for_each(|byte| *byte ^= 0xff);
        fs::write(self.tape(), bytes).unwrap();
    }
}

fn paths(tree: &TreeReader<'_, TapeReader>, patterns: &[&str]) -> Vec<String> {
    let mut paths = Vec::new();
    let visit = |object: &datapipe::wire::CatalogueEntry<'_>| {
        paths.push(String::from_utf8(object.path.to_vec())?);
        Ok(())
    };
    tree.list(patterns.iter().copied(), visit).unwrap();
    paths
}

fn read(tree: &TreeReader<'_, TapeReader>, path: &str) -> Result<Vec<u8>, TreeReadError> {
    let mut content = Vec::new();
    let file = tree.read_file(path, &mut content)?;
    assert_eq!(file.size, content.len() as u64, "{path}");
    assert_eq!(file.state, ObjectState::Whole);
    Ok(content)
}

#[test]
fn objects_are_listed_by_pattern() {
    for key in [None, Some(Secret::from(Key::from_bytes([7; 32])))] {
        let fixture = Fixture::new(key);
        let reader = fixture.open();
        let tree = reader.tree().unwrap();
        assert!(tree.has_catalogue());
        assert_eq!(
            paths(&tree, &["*.log"]),
            ["data/logs/1.log", "data/logs/old/2.log"]
        );
        assert_eq!(
            paths(&tree, &["data/logs/*"]),
            ["data/logs/1.log", "data/logs/old"]
        );
        assert_eq!(
            paths(&tree, &["data/?", "z*", "d*"]),
            ["data", "data/d small", "data/z last"]
        );
        assert!(paths(&tree, &["nothing"]).is_empty());
        assert_eq!(paths(&tree, &[]), paths(&tree, &["**"]));
        assert_eq!(paths(&tree, &[]).len(), 14);
        let error = tree.list(["/data/a"], |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("leave the slash out"), "{error}");
        let error = tree.list(["[a"], |_| Ok(())).unwrap_err();
        assert!(matches!(error, TreeReadError::Pattern(_)), "{error}");
        let stop = tree.list(["**"], |_| Err(StageError::new("enough")));
        assert!(stop.unwrap_err().to_string().contains("enough"));
    }
}

#[test]
fn single_files_are_read_into_a_writer() {
    for key in [None, Some(Secret::from(Key::from_bytes([7; 32])))] {
        let fixture = Fixture::new(key);
        let reader = fixture.open();
        let tree = reader.tree().unwrap().instances(2);
        for (path, content) in &fixture.files {
            assert!(&read(&tree, path).unwrap() == content, "{path}");
        }
        let mut extents = Vec::new();
        let visit = |offset, data: &[u8]| {
            extents.push((offset, data.len()));
            Ok(())
        };
        let file = tree.read_extents("data/e sparse", visit).unwrap();
        assert_eq!(file.size, 3 << 20);
        let island = extents
            .iter()
            .any(|&(at, len)| (at..at + len as u64).contains(&(1 << 20)));
        assert!(island, "{extents:?}");
    }
}

#[test]
fn only_the_blocks_of_the_file_are_read() {
    let fixture = Fixture::new(None);
    fixture.damage(45..60); // in the middle of the large file
    let reader = fixture.open();
    let tree = reader.tree().unwrap();
    for path in ["data/a first", "data/z last", "data/logs/1.log"] {
        assert!(read(&tree, path).unwrap() == fixture.files[path], "{path}");
    }
    let error = read(&tree, "data/b large").unwrap_err();
    assert!(
        matches!(error, TreeReadError::Pipe(Error::Stage(_))),
        "{error}"
    );

    let log = DamageLog::new();
    let reader = fixture.open().salvage(&log);
    let error = read(&reader.tree().unwrap(), "data/b large").unwrap_err();
    assert!(matches!(error, TreeReadError::Damaged { .. }), "{error}");
    assert!(
        error.to_string().starts_with("\"data/b large\": "),
        "{error}"
    );
    assert!(log.snapshot().count > 0);
}

#[test]
fn archive_without_its_end_is_read_from_the_start() {
    let fixture = Fixture::new(None);
    let bytes = fs::read(fixture.tape()).unwrap();
    // The end: marks, footers, and the catalogue's closing run.
    fs::write(fixture.tape(), &bytes[..bytes.len() - 6000]).unwrap();
    let log = DamageLog::new();
    let reader = fixture.open().salvage(&log);
    let tree = reader.tree().unwrap();
    assert!(!tree.has_catalogue());
    assert_eq!(
        paths(&tree, &["*.log"]),
        ["data/logs/1.log", "data/logs/old/2.log"]
    );
    for path in ["data/a first", "data/b large", "data/y other name"] {
        assert!(read(&tree, path).unwrap() == fixture.files[path], "{path}");
    }
    assert!(log.snapshot().count > 0);
    let strict = fixture.open();
    let error = strict.tree().unwrap().list(["*"], |_| Ok(())).unwrap_err();
    assert!(
        matches!(error, TreeReadError::Pipe(Error::Stage(_))),
        "{error}"
    );
}

/// A writer that takes a few bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn object_that_cannot_be_read_is_an_error_before_anything_is_written() {
    let fixture = Fixture::new(None);
    let reader = fixture.open();
    let tree = reader.tree().unwrap();
    let mut written = Vec::new();
    let mut error = |path: &str| tree.read_file(path, &mut written).unwrap_err();
    let text = |error: &TreeReadError| error.to_string();

    let missing = error("data/missing");
    assert!(
        matches!(missing, TreeReadError::NotFound { .. }),
        "{missing}"
    );
    let directory = error("data/logs");
    assert!(
        matches!(
            directory,
            TreeReadError::NotAFile {
                kind: ObjectKind::Directory,
                ..
            }
        ),
        "{directory}"
    );
    assert!(text(&error("data/x link")).ends_with("it is a symbolic link"));
    let rejected = error("data/rejected");
    assert!(
        matches!(rejected, TreeReadError::Unread { .. }),
        "{rejected}"
    );
    assert!(written.is_empty());

    for room in [0, 100, 1 << 20] {
        let error = tree.read_file("data/e sparse", Full(room)).unwrap_err();
        match error {
            TreeReadError::Write(error) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn stream_is_not_a_tree() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tape");
    let archive = ArchiveOptions::stream("stream").plan().unwrap();
    let tape = VirtualTape::create(&path, VolumeOptions::default()).unwrap();
    let pipe = Pipe::builder().head(StreamHead::new(&b"data"[..]));
    pipe.archive(archive, tape).run().unwrap();
    let reader = ArchiveReader::open(VirtualTape::open(&path).unwrap(), None).unwrap();
    let error = reader.tree().unwrap_err();
    assert!(matches!(error, TreeReadError::NotATree), "{error}");
}
