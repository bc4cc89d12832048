//! Scanners: of the files of a tree, one by one, and of the blocks of a stream.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use datapipe::archive::{ReadOutcome, WriteOutcome};
use datapipe::prelude::*;
use datapipe::tree::{ProblemKind, RestoreOutcome, TreeList, TreeOutcome};
use datapipe::wire::{CatalogueEntry, ObjectMeta, ObjectState};

const BLOCK: u32 = 64 << 10;
const SIGNATURE: &[u8] = b"EVIL-SIGNATURE";

/// Finds a signature, also across two pieces, and refuses files by name.
#[derive(Default)]
struct Scanner {
    /// The last bytes of the piece before.
    tail: Vec<u8>,
}

impl ObjectInspector for Scanner {
    fn begin(&mut self, file: &ObjectMeta<'_>) -> Result<ObjectVerdict, StageError> {
        self.tail.clear();
        Ok(match file.path.ends_with(b".exe") {
            true => ObjectVerdict::Reject("programs are not kept".to_owned()),
            false => ObjectVerdict::Pass,
        })
    }

    fn data(&mut self, offset: u64, data: &[u8]) -> Result<ObjectVerdict, StageError> {
        let seen = [&self.tail, data].concat();
        let keep = seen.len().saturating_sub(SIGNATURE.len() - 1);
        self.tail = seen[keep..].to_vec();
        Ok(
            match seen
                .windows(SIGNATURE.len())
                .any(|bytes| bytes == SIGNATURE)
            {
                true => ObjectVerdict::Reject(format!("signature found after byte {offset}")),
                false => ObjectVerdict::Pass,
            },
        )
    }
}

/// A directory `data` with files of many sizes. Those whose names contain `bad` are infected.
fn source(dir: &Path) -> std::path::PathBuf {
    let source = dir.join("data");
    fs::create_dir(&source).unwrap();
    for n in 0..50_usize {
        let good = vec![b'a' + (n % 26) as u8; n * n * 40];
        fs::write(source.join(format!("{n:02} good")), good).unwrap();
    }
    let small = [b"some ", SIGNATURE, b" bytes"].concat();
    fs::write(source.join("07 bad small"), &small).unwrap();
    // Blocks of this file are sent before the signature is found.
    let mut large = vec![b'x'; 10 * BLOCK as usize];
    large.extend_from_slice(SIGNATURE);
    large.resize(20 * BLOCK as usize, b'y');
    fs::write(source.join("30 bad large"), large).unwrap();
    fs::write(source.join("31 bad.exe"), b"MZ").unwrap();
    fs::write(source.join("40 bad twice"), &small).unwrap();
    fs::hard_link(source.join("40 bad twice"), source.join("41 bad again")).unwrap();
    source
}

const BAD: [&str; 5] = [
    "07 bad small",
    "30 bad large",
    "31 bad.exe",
    "40 bad twice",
    "41 bad again",
];

fn back_up(source: &Path, tape: &Path, instances: u32) -> TreeOutcome {
    let archive = ArchiveOptions::tree("data").block_len(BLOCK);
    let tape = VirtualTape::create(tape, VolumeOptions::default()).unwrap();
    let options = TreeOptions::default().inspect(|_| Scanner::default());
    let head = TreeHead::new(&[source], options).unwrap();
    let report = head.report();
    let pipe = Pipe::builder().buffer_size(BLOCK);
    pipe.head(head.instances(instances))
        .stage(zstd(3).instances(2))
        .archive(archive.plan().unwrap(), tape)
        .run()
        .unwrap();
    report.snapshot()
}

fn list(tape: &Path) -> BTreeMap<String, ObjectState> {
    let reader = ArchiveReader::open(VirtualTape::open(tape).unwrap(), None).unwrap();
    let index = reader.index().unwrap();
    let states = Arc::new(Mutex::new(BTreeMap::new()));
    let seen = Arc::clone(&states);
    let list = TreeList::new(move |object: &CatalogueEntry<'_>| {
        let path = String::from_utf8(object.path.to_vec())?;
        seen.lock().unwrap().insert(path, object.state);
        Ok(())
    });
    let reading = reader.read_blocks(&index, &index.catalogue()).unwrap();
    reading.pipe.tail(list).run().unwrap();
    let states = states.lock().unwrap();
    states.clone()
}

fn restore(tape: &Path, to: &Path) -> RestoreOutcome {
    let reader = ArchiveReader::open(VirtualTape::open(tape).unwrap(), None).unwrap();
    let restore = TreeRestore::new(to, RestoreOptions::default()).unwrap();
    let report = restore.report();
    reader.read().pipe.tail(restore).run().unwrap();
    report.snapshot()
}

/// A scanner could only reject blocks: one cost all files in it, in silence.
#[test]
fn rejected_files_are_named_and_their_neighbours_stay_whole() {
    for instances in [1, 4] {
        let dir = tempfile::tempdir().unwrap();
        let (source, tape) = (source(dir.path()), dir.path().join("tape"));
        let outcome = back_up(&source, &tape, instances);

        assert!(!outcome.is_whole());
        assert_eq!((outcome.rejected, outcome.problem_count), (5, 5));
        let mut named: Vec<_> = outcome
            .problems
            .iter()
            .map(|problem| {
                assert!(matches!(problem.kind, ProblemKind::Rejected(_)));
                problem.to_string()
            })
            .collect();
        named.sort();
        assert!(named[0].starts_with("data/07 bad small: rejected by inspection: signature"));
        assert_eq!(
            named[2],
            "data/31 bad.exe: rejected by inspection: programs are not kept"
        );
        for (text, name) in named.iter().zip(BAD) {
            assert!(text.contains(name), "{text}");
        }

        for (path, state) in list(&tape) {
            let rejected = BAD.iter().any(|name| path.ends_with(name));
            let expected = [ObjectState::Whole, ObjectState::Unread][usize::from(rejected)];
            assert_eq!(state, expected, "{path}");
        }

        let out = dir.path().join("out");
        fs::create_dir(&out).unwrap();
        let restored = restore(&tape, &out);
        assert_eq!((restored.files, restored.damaged_count), (50, 5));
        for entry in fs::read_dir(&source).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let copy = out.join("data").join(&name);
            if BAD.contains(&name.as_str()) {
                assert!(!copy.exists(), "{name}");
            } else {
                assert_eq!(
                    fs::read(source.join(&name)).unwrap(),
                    fs::read(copy).unwrap()
                );
            }
        }
        // Of a file that fits into a block, nothing is kept.
        let kept = fs::read_dir(out.join("data")).unwrap();
        for entry in kept {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(SIGNATURE.len()).any(|part| part == SIGNATURE));
        }
    }
}

/// Records all pieces of all files.
struct Recorder {
    seen: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
    path: Vec<u8>,
    content: Vec<u8>,
}

impl ObjectInspector for Recorder {
    fn begin(&mut self, file: &ObjectMeta<'_>) -> Result<ObjectVerdict, StageError> {
        self.path = file.path.to_vec();
        Ok(ObjectVerdict::Pass)
    }

    fn data(&mut self, offset: u64, data: &[u8]) -> Result<ObjectVerdict, StageError> {
        self.content.resize(usize::try_from(offset)?, 0);
        self.content.extend_from_slice(data);
        Ok(ObjectVerdict::Pass)
    }

    fn end(&mut self) -> Result<ObjectVerdict, StageError> {
        let (path, content) = (
            std::mem::take(&mut self.path),
            std::mem::take(&mut self.content),
        );
        let again = self.seen.lock().unwrap().insert(path, content);
        assert!(again.is_none());
        Ok(ObjectVerdict::Pass)
    }
}

#[test]
fn inspector_sees_all_data_of_every_file_once() {
    for instances in [1, 4] {
        let dir = tempfile::tempdir().unwrap();
        let source = source(dir.path());
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let (shared, made) = (Arc::clone(&seen), Arc::new(Mutex::new(Vec::new())));
        let numbers = Arc::clone(&made);
        let options = TreeOptions::default().inspect(move |n| {
            numbers.lock().unwrap().push(n);
            Recorder {
                seen: Arc::clone(&shared),
                path: Vec::new(),
                content: Vec::new(),
            }
        });
        let head = TreeHead::new(&[&source], options).unwrap();
        let report = head.report();
        Pipe::builder()
            .buffer_size(BLOCK)
            .head(head.instances(instances))
            .tail(StreamTail::new(std::io::sink()))
            .run()
            .unwrap();
        assert!(report.snapshot().is_whole());
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 54, "a further name is not read again");
        for (path, content) in seen.iter() {
            let path = dir.path().join(std::str::from_utf8(path).unwrap());
            assert!(&fs::read(&path).unwrap() == content, "{path:?}");
        }
        let mut made = made.lock().unwrap();
        made.sort_unstable();
        assert_eq!(*made, (0..instances).collect::<Vec<_>>());
    }
}

struct Unavailable;

impl ObjectInspector for Unavailable {
    fn data(&mut self, _: u64, _: &[u8]) -> Result<ObjectVerdict, StageError> {
        Err(StageError::new("the scanner does not answer"))
    }
}

#[test]
fn error_of_an_inspector_stops_the_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let options = TreeOptions::default().inspect(|_| Unavailable);
    let head = TreeHead::new(&[&source], options).unwrap();
    let tail = StreamTail::new(std::io::sink());
    let pipe = Pipe::builder().head(head.instances(3)).tail(tail);
    let error = pipe.run().unwrap_err().to_string();
    assert!(
        error.contains("tree-head") && error.contains("the scanner does not answer"),
        "{error}"
    );
}

#[test]
fn inspector_in_processes_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let options = TreeOptions::default().inspect(|_| Scanner::default());
    let head = TreeHead::new(&[&source], options).unwrap().instances(2);
    let tail = StreamTail::new(std::io::sink());
    let pipe = Pipe::builder().head(head.in_processes()).tail(tail);
    let error = pipe.run().unwrap_err().to_string();
    assert!(
        error.contains("\"tree-head\" cannot run in processes: its inspector"),
        "{error}"
    );
}

/// Rejects blocks with the signature.
struct BlockScanner;

impl Inspect for BlockScanner {
    fn inspect(&mut self, data: &[u8], _: &BlockInfo) -> Result<Finding, StageError> {
        let found = data.windows(SIGNATURE.len()).any(|part| part == SIGNATURE);
        Ok([Finding::Pass, Finding::Reject][usize::from(found)])
    }
}

/// One rejected block lost 54 of 101 innocent files, and the pipe ended well.
#[test]
fn block_inspection_of_a_tree_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    for instances in [1, 2] {
        let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
        let inspect = Stage::inspect("virus-scan", &InspectionLog::new(), |_| BlockScanner);
        let pipe = Pipe::builder()
            .head(head.instances(instances))
            .stage(inspect);
        let error = pipe
            .tail(StreamTail::new(std::io::sink()))
            .run()
            .unwrap_err();
        let text = error.to_string();
        for part in ["virus-scan", "tree-head", "TreeOptions::inspect"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

/// Archives a stream of five blocks, the third of which is rejected.
fn archive_stream(tape: &Path, data: &[u8]) -> WriteOutcome {
    let archive = ArchiveOptions::stream("stream").block_len(BLOCK);
    let tape = VirtualTape::create(tape, VolumeOptions::default()).unwrap();
    let archive = archive.plan().unwrap();
    let report = archive.report();
    let log = InspectionLog::new();
    Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(data))
        .stage(Stage::inspect("scan", &log, |_| BlockScanner))
        .stage(zstd(3))
        .archive(archive, tape)
        .run()
        .unwrap();
    assert_eq!(log.snapshot().rejected, [2]);
    report.snapshot()
}

fn read_stream(tape: &Path, log: Option<&DamageLog>) -> (ReadOutcome, u64) {
    let reader = ArchiveReader::open(VirtualTape::open(tape).unwrap(), None).unwrap();
    let reader = match log {
        Some(log) => reader.salvage(log),
        None => reader,
    };
    let out = tempfile::tempfile().unwrap();
    let reading = reader.read();
    let tail = StreamRestore::file(out.try_clone().unwrap());
    reading.pipe.tail(tail).run().unwrap();
    (reading.report.snapshot(), out.metadata().unwrap().len())
}

/// A restore wrote zeros in silence, and called the archive complete.
#[test]
fn rejected_block_of_a_stream_is_reported_by_writer_and_readers() {
    let dir = tempfile::tempdir().unwrap();
    let tape = dir.path().join("tape");
    let mut data = vec![7; 5 * BLOCK as usize];
    let at = 2 * BLOCK as usize;
    data[at + 100..][..SIGNATURE.len()].copy_from_slice(SIGNATURE);
    let written = archive_stream(&tape, &data);
    assert_eq!((written.blocks, written.rejected), (5, 1));

    let reader = ArchiveReader::open(VirtualTape::open(&tape).unwrap(), None).unwrap();
    assert_eq!(reader.index().unwrap().rejected(), 1);
    drop(reader);

    let log = DamageLog::new();
    for log in [None, Some(&log)] {
        let (read, len) = read_stream(&tape, log);
        assert_eq!(
            (read.complete, read.rejected, len),
            (false, 1, data.len() as u64)
        );
        let rejected = read.first_rejected.unwrap();
        assert_eq!((rejected.block, rejected.offset), (3, at as u64));
        let text = rejected.to_string();
        assert!(
            text.starts_with("block 3 at volume 1, record ") && text.contains("from byte 131072"),
            "{text}"
        );
    }
    let found = log.snapshot();
    assert_eq!(found.count, 1);
    assert!(
        found.entries[0]
            .to_string()
            .starts_with("block 3 at volume 1, record ")
    );

    let clean = dir.path().join("clean");
    data.fill(7);
    let archive = ArchiveOptions::stream("stream")
        .block_len(BLOCK)
        .plan()
        .unwrap();
    let to = VirtualTape::create(&clean, VolumeOptions::default()).unwrap();
    let pipe = Pipe::builder().buffer_size(BLOCK);
    pipe.head(StreamHead::new(&data[..]))
        .archive(archive, to)
        .run()
        .unwrap();
    let (read, _) = read_stream(&clean, None);
    assert!(read.complete && read.first_rejected.is_none());
}
