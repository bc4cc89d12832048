//! Archives written and read by processes: the same bytes and the same reports as with threads.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datapipe::NotReplaced;
use datapipe::archive::{
    BlockSet, ReadOutcome, Reading, Session, SessionOptions, Sessions, WriteOutcome,
};
use datapipe::media::find_writer;
use datapipe::prelude::*;
use datapipe::stage::{Arguments, Confinement, DamageEntry, StageKind};
use datapipe::testkit::{Sink, archive_stages};
use rustix::process::{Pid, Signal, kill_process};

use crate::data::{blocks, key};
use crate::medium::{OwnMedium, create_tape, create_volumes, open};
use crate::watch::{children, wait_until};

const BLOCK: u32 = 4096;

/// Returns the stream of the archives.
fn data() -> Vec<u8> {
    blocks(500_000, BLOCK as usize, 3)
}

fn secret(encrypted: bool) -> Option<Secret> {
    encrypted.then(|| key(9))
}

fn plan(encrypted: bool) -> Archive {
    let options = ArchiveOptions::stream("small")
        .record_len(4096)
        .chunk_len(50_000)
        .block_len(BLOCK);
    let options = secret(encrypted)
        .into_iter()
        .fold(options, ArchiveOptions::encrypt);
    options.plan().unwrap()
}

/// Creates a tape at a path with an extension, and a directory of volumes at another path.
fn create(path: &Path) -> Box<dyn MediumWriter> {
    match path.extension() {
        Some(_) => Box::new(create_tape(path)),
        None => Box::new(create_volumes(path, Some(80 << 10), true)),
    }
}

/// Placement of the stages of a pipe.
#[derive(Clone, Copy, Debug)]
enum Where {
    Threads,
    Processes,
    Confined,
}

impl Where {
    /// Returns the stage in this placement. If confined, it may write only below `write`.
    fn run<W>(self, stage: Stage<W>, write: &[&Path]) -> Stage<W> {
        let paths = write.iter().map(|path| path.to_path_buf());
        match self {
            Self::Threads => stage,
            Self::Processes => stage.in_processes(),
            Self::Confined => stage
                .in_processes()
                .confined(Confinement::new().write(paths)),
        }
    }
}

/// Overwrites half of every ninth block.
struct Spoil;

impl InPlace for Spoil {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        if block.number().get() % 9 == 4 {
            let middle = block.len() / 2;
            block.bytes_mut()[..middle].fill(0);
        }
        Ok(Verdict::Send)
    }
}

/// Writes the data as an archive.
fn write(path: &Path, encrypted: bool, spoilt: bool, place: Where) -> WriteOutcome {
    let archive = plan(encrypted);
    let report = archive.report();
    let (seal, tail) = archive_stages(archive, create(path));
    let mut pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(Cursor::new(data())));
    pipe = pipe.stage(place.run(zstd(1).instances(2), &[]));
    if let Some(seal) = seal {
        pipe = pipe.stage(place.run(seal.instances(2), &[]));
    }
    if spoilt {
        pipe = pipe.stage(Stage::in_place("spoil", |_| Spoil));
    }
    let paths: &[&Path] = if path.extension().is_some() {
        &[]
    } else {
        &[path]
    };
    pipe.tail(place.run(tail, paths)).run().unwrap();
    report.snapshot()
}

/// Result of reading an archive.
#[derive(Debug, PartialEq)]
struct ReadBack {
    data: Vec<u8>,
    outcome: ReadOutcome,
    damage: Vec<DamageEntry>,
}

/// Salvages an archive, or some of its blocks. Lost blocks are zeros.
fn read(path: &Path, encrypted: bool, blocks: Option<&BlockSet>, place: Where) -> ReadBack {
    let log = DamageLog::new();
    let reader = ArchiveReader::open(open(path), secret(encrypted).as_ref()).unwrap();
    let index = blocks.map(|_| reader.index().unwrap());
    let reader = reader.salvage(&log);
    let Reading { pipe, report } = match (&index, blocks) {
        (Some(index), Some(blocks)) => reader.read_blocks(index, blocks).unwrap().instances(2),
        _ => reader.read().instances(2),
    };
    let pipe = if matches!(place, Where::Threads) {
        pipe
    } else {
        pipe.in_processes()
    };
    let out = tempfile::NamedTempFile::new().unwrap();
    let tail = StreamRestore::file(out.reopen().unwrap());
    pipe.tail(place.run(tail.into(), &[])).run().unwrap();
    let mut damage = log.snapshot().entries;
    assert_eq!(log.count(), damage.len() as u64);
    damage.sort_by_key(|damage| (damage.block, damage.what.clone()));
    ReadBack {
        data: fs::read(out.path()).unwrap(),
        outcome: report.snapshot(),
        damage,
    }
}

/// Returns the lengths of the files of a medium.
fn lengths(path: &Path) -> Vec<u64> {
    let mut files: Vec<_> = match path.extension() {
        Some(_) => vec![path.to_owned()],
        None => fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect(),
    };
    files.sort();
    files
        .iter()
        .map(|file| fs::metadata(file).unwrap().len())
        .collect()
}

pub(crate) fn archive_written_in_processes_matches_threads() {
    let dir = tempfile::tempdir().unwrap();
    for (name, encrypted) in [("a.tap", false), ("b.tap", true), ("c", false), ("d", true)] {
        let path = dir.path().join(name);
        let written = write(&path, encrypted, false, Where::Threads);
        assert!(written.complete && written.safe_plain == 500_000);
        let (by_threads, files) = (read(&path, encrypted, None, Where::Threads), lengths(&path));
        assert!(
            by_threads.data == data()
                && by_threads.outcome.complete
                && by_threads.damage.is_empty()
        );
        assert_eq!(by_threads.outcome.volumes as usize, files.len());
        for place in [Where::Processes, Where::Confined] {
            let again = dir.path().join(format!("again-{name}"));
            match place {
                Where::Confined if again.extension().is_some() => fs::remove_file(&again).unwrap(),
                _ => {}
            }
            assert_eq!(
                write(&again, encrypted, false, place),
                written,
                "{name} {place:?}"
            );
            assert_eq!(lengths(&again), files, "{name} {place:?}");
            assert_eq!(
                read(&again, encrypted, None, Where::Threads),
                by_threads,
                "{name} {place:?}"
            );
            assert_eq!(
                read(&again, encrypted, None, Where::Processes),
                by_threads,
                "{name} {place:?}"
            );
        }
    }
}

pub(crate) fn damage_is_reported_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    for (name, encrypted) in [("a.tap", false), ("b.tap", true), ("c", true)] {
        let path = dir.path().join(name);
        write(&path, encrypted, true, Where::Threads);
        let threads = read(&path, encrypted, None, Where::Threads);
        assert!(threads.damage.len() >= 6, "{:?}", threads.damage);
        assert!(
            threads
                .damage
                .iter()
                .all(|damage| damage.position.is_some()),
            "{:?}",
            threads.damage
        );
        assert_eq!(read(&path, encrypted, None, Where::Processes), threads);
        // Also damage that the reader finds itself.
        let file = if path.is_dir() {
            path.join("000002.tap")
        } else {
            path.clone()
        };
        let mut bytes = fs::read(&file).unwrap();
        bytes[30_000..40_000].fill(7);
        fs::write(&file, bytes).unwrap();
        let threads = read(&path, encrypted, None, Where::Threads);
        assert!(
            threads.outcome.missing > 0
                && threads.damage.iter().any(|damage| damage.block.is_none())
        );
        assert_eq!(read(&path, encrypted, None, Where::Processes), threads);
    }
}

pub(crate) fn selected_blocks_are_read_in_processes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volumes");
    write(&path, true, false, Where::Threads);
    let mut blocks = BlockSet::new();
    [1..=1, 7..=30, 100..=101]
        .into_iter()
        .for_each(|run| blocks.insert(run));
    let threads = read(&path, true, Some(&blocks), Where::Threads);
    assert_eq!(threads.outcome.blocks, 27);
    assert_eq!(read(&path, true, Some(&blocks), Where::Processes), threads);
}

pub(crate) fn media_that_cannot_cross_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let (own, begun) = (dir.path().join("own.tap"), dir.path().join("begun.tap"));
    write(&own, false, false, Where::Threads);
    let refused = |pipe: PipeBuilder<'static>, why: &str| {
        let error = pipe.plan().unwrap_err().to_string();
        assert!(
            error.contains(" cannot run in processes: ") && error.contains(why),
            "{error}"
        );
    };
    let head = || Pipe::builder().head(StreamHead::new(&b"data"[..]));
    let far = |medium: Box<dyn MediumWriter>| archive_stages(plan(false), medium).1.in_processes();
    refused(
        head().tail(far(Box::new(OwnMedium::new(create(&begun), None)))),
        "take a VirtualTape or a VolumeDirectory",
    );
    let mut medium = create(&begun);
    medium.write(b"something").unwrap();
    refused(head().tail(far(medium)), "create the medium anew");
    let reading = ArchiveReader::open(OwnMedium::new(open(&own), None), None)
        .unwrap()
        .read();
    let tail = || StreamRestore::new(std::io::sink());
    refused(
        reading.pipe.in_processes().tail(tail()),
        "stage \"archive-head\" cannot run",
    );
    let reading = ArchiveReader::open(open(&own), None).unwrap().read();
    refused(
        reading.pipe.tail(tail()).in_processes(),
        "give StreamRestore::file an open file",
    );
}

/// Places a stage of which this program knows only the module and its arguments.
fn described<W>(stage: Option<Stage<W>>, module: &str, arguments: impl Into<Vec<u8>>) -> Stage<W> {
    stage
        .unwrap()
        .module(module, arguments)
        .in_processes_of(env!("CARGO_BIN_EXE_datapipe-host"))
}

/// Returns the arguments of the directory of volumes at `path`.
fn directory(path: &Path) -> Arguments {
    Arguments::new()
        .with("medium", "directory")
        .with("path", path.to_str().unwrap())
}

/// Returns the arguments of an archive in a new directory at `path`.
fn new_archive(path: &Path) -> Arguments {
    directory(path)
        .with("name", "far")
        .with("block-len", BLOCK.to_string())
        .with("record-len", "8000")
}

/// Writes the data with the archive tail that the arguments describe.
fn write_by_module(arguments: Arguments) -> Result<Report, Error> {
    let tail = Stage::tail_of_module("tail", StageKind::Write);
    Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(Cursor::new(data())))
        .tail(described(tail, "datapipe.archive-tail", arguments))
        .run()
}

/// Reads the stream of an archive with the archive head that the arguments describe.
fn read_by_module(arguments: Arguments) -> Result<Vec<u8>, Error> {
    let head = Stage::head_of_module("head", StageKind::Fill);
    let out = tempfile::NamedTempFile::new().unwrap();
    Pipe::builder()
        .buffer_size(BLOCK)
        .head(described(head, "datapipe.archive-head", arguments))
        .tail(StreamRestore::new(out.reopen().unwrap()))
        .run()?;
    Ok(fs::read(out.path()).unwrap())
}

pub(crate) fn media_are_opened_by_path_in_modules() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volumes");
    write_by_module(new_archive(&path).with("volume-size", "100000")).unwrap();
    let back = read(&path, false, None, Where::Threads);
    assert!(back.data == data() && back.outcome.volumes > 4);
    let error = write_by_module(new_archive(&path)).unwrap_err().to_string();
    assert!(error.contains("000001.tap is not empty"), "{error}");
    write_by_module(new_archive(&path).with("overwrite", "")).unwrap();
    assert_eq!(lengths(&path).len(), 1);
    assert!(read_by_module(directory(&path)).unwrap() == data());
}

pub(crate) fn invalid_archive_module_arguments_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volumes");
    write_by_module(new_archive(&path)).unwrap();
    check_invalid_tail_arguments(&path);
    check_invalid_head_arguments(&path);
    for module in ["datapipe.seal", "datapipe.open"] {
        let middle = Stage::middle_of_module("key", StageKind::InPlace);
        let error = Pipe::builder()
            .buffer_size(BLOCK)
            .head(StreamHead::new(Cursor::new(data())))
            .stage(described(middle, module, ""))
            .tail(StreamTail::new(std::io::sink()))
            .run()
            .unwrap_err();
        assert!(
            error.to_string().contains("the module got no key"),
            "{error}"
        );
    }
}

fn check_invalid_tail_arguments(path: &Path) {
    let rejected = |arguments: Arguments, why: &str| {
        let error = write_by_module(arguments).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    for (field, value, why) in [
        ("colour", "red", "unknown field `colour`"),
        (
            "opened",
            "",
            "missing descriptor 0: the module has 0 descriptors",
        ),
        ("content", "soup", "the content \"soup\""),
        ("path", "/nowhere", "repeated field `path`"),
        ("volume-size", "1", "volumes of 1 bytes are too small"),
        (
            "volume-size",
            "many",
            "invalid value \"many\" for field `volume-size`",
        ),
        ("session", "x", "session header"),
        ("continued", "x", "the field `continued` without `opened`"),
    ] {
        rejected(new_archive(path).with(field, value), why);
    }
    // The tail does not get the key.
    rejected(
        new_archive(path).with("key", [7; 32]),
        "unknown field `key`",
    );
    let named = || Arguments::new().with("name", "x");
    rejected(named(), "missing field `medium`");
    rejected(
        named().with("medium", "wax"),
        "knows tape and directory only",
    );
    rejected(directory(path), "missing field `name`");
}

fn check_invalid_head_arguments(path: &Path) {
    let fields = || directory(path);
    for (arguments, why) in [
        (
            fields().with("session", "x"),
            "not all of session, block-len and encrypted",
        ),
        (
            fields().with("session", "x").with("block-len", "512"),
            "a session of 1 bytes",
        ),
        (fields().with("encrypted", ""), "not all of session"),
        (
            fields().with("place", [0; 69]),
            "the field `place` without `session`",
        ),
        (
            fields().with("tree", ""),
            "the field `tree` without `session`",
        ),
        (
            fields().with("to-end", ""),
            "the field `to-end` without `runs`",
        ),
        (fields().with("key", [7; 32]), "unknown field `key`"),
        (directory(Path::new("/nowhere")), "/nowhere"),
        (fields().with("runs", ""), "0 descriptors"),
        (fields().with("x", ""), "unknown field `x`"),
    ] {
        let error = read_by_module(arguments).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// Kills the process of a stage once `happened` returns true. Returns the error of the pipe and why
/// the process was not replaced.
pub(crate) fn killed(
    pipe: Pipe,
    stage: usize,
    happened: impl FnMut() -> bool,
) -> (String, NotReplaced) {
    wait_until("something has happened", happened);
    let victim = pipe.status().stages[stage].instances[0].process;
    assert!(children().contains(&victim));
    kill_process(Pid::from_raw(victim as i32).unwrap(), Signal::KILL).unwrap();
    match pipe.wait() {
        Err(Error::Stage(failure)) => (failure.to_string(), failure.error.death().unwrap().reason),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn killed_archive_writer_leaves_a_salvageable_archive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let archive = plan(true);
    let report = archive.report();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(std::io::repeat(7)));
    let pipe = pipe.archive(
        archive
            .map_seal(|seal| seal.in_processes())
            .map_tail(|tail| tail.in_processes()),
        create(&path),
    );
    let (text, died) = killed(pipe.start().unwrap(), 2, || {
        report.snapshot().safe_blocks > 0
    });
    assert!(
        died == NotReplaced::Tail && text.contains("\"archive-tail\""),
        "{text}"
    );
    let written = report.snapshot();
    assert!(!written.complete);
    let back = read(&path, true, None, Where::Processes);
    assert!(!back.outcome.complete && back.outcome.blocks >= written.safe_blocks);
    assert!(
        back.damage
            .iter()
            .any(|damage| damage.what.contains("the archive is incomplete"))
    );
    assert!(back.data.iter().all(|&byte| byte == 7));
}

/// A tail that lets no block pass before it is opened.
struct Gate(Arc<AtomicBool>);

impl Tail for Gate {
    fn write(&mut self, _: &Block) -> Result<(), StageError> {
        wait_until("the gate is open", || self.0.load(Ordering::SeqCst));
        Ok(())
    }
}

pub(crate) fn killed_archive_reader_fails_or_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    write(&path, true, false, Where::Threads);
    let log = DamageLog::new();
    let reader = ArchiveReader::open(open(&path), secret(true).as_ref())
        .unwrap()
        .salvage(&log);
    // Stage 2 checks the order, on a thread of this process.
    for stage in [0, 1, 3] {
        let gate = Arc::new(AtomicBool::new(false));
        let Reading { pipe, report } = reader.read();
        let pipe = pipe
            .buffers(12)
            .in_processes()
            .tail(Gate(Arc::clone(&gate)))
            .start()
            .unwrap();
        wait_until("it reads", || report.snapshot().blocks > 4);
        let victim = || pipe.status().stages[stage].instances[0].process;
        wait_until("it has begun", || victim() != 0);
        let victim = victim();
        let opener = std::thread::spawn(move || {
            wait_until("it is reaped", || {
                !Path::new(&format!("/proc/{victim}")).exists()
            });
            gate.store(true, Ordering::SeqCst);
        });
        if stage == 0 {
            let (text, died) = killed(pipe, stage, || true);
            assert_eq!(died, NotReplaced::Head, "{text}");
        } else {
            kill_process(Pid::from_raw(victim as i32).unwrap(), Signal::KILL).unwrap();
            assert_eq!(
                pipe.wait().unwrap().status.stages[stage].instances[0].processes,
                2
            );
        }
        opener.join().unwrap();
        assert_eq!((report.snapshot().complete, log.count()), (stage > 0, 0));
    }
}

/// Sends blocks without offsets.
struct Plain(Cursor<Vec<u8>>);

impl Head for Plain {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let len = std::io::Read::read(&mut self.0, block.spare())?;
        block.grow(len)?;
        Ok(if len == 0 { Fill::End } else { Fill::Block })
    }
}

pub(crate) fn archive_of_an_own_head_runs_in_processes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let archive = plan(true).map_seal(|seal| seal.instances(2));
    let report = archive.report();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .archive(archive, create(&path))
        .in_processes()
        .head(Plain(Cursor::new(data())));
    let plan = pipe.plan().unwrap().to_string();
    assert!(plan.contains("head > aes-256-gcm x2 >"), "{plan}");
    let report_of_pipe = pipe.run().unwrap();
    let stages = &report_of_pipe.status.stages[1..];
    assert!(stages.iter().all(|stage| stage.instances[0].processes == 1));
    assert!(report.snapshot().complete);
    let back = read(&path, true, None, Where::Processes);
    assert!(back.data == data() && back.damage.is_empty());
}

/// A source that continues until its flag is set.
struct UntilEnough(Arc<AtomicBool>, u8);

impl std::io::Read for UntilEnough {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.load(Ordering::SeqCst) {
            return Ok(0);
        }
        self.1 = self.1.wrapping_add(1);
        buffer.fill(self.1);
        Ok(buffer.len())
    }
}

pub(crate) fn killed_sealing_process_is_replaced() {
    let (dir, enough) = (
        tempfile::tempdir().unwrap(),
        Arc::new(AtomicBool::new(false)),
    );
    let path = dir.path().join("a.tap");
    let archive = plan(true);
    let report = archive.report();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(UntilEnough(Arc::clone(&enough), 0)));
    let pipe = pipe
        .archive(
            archive.map_seal(|seal| seal.instances(2).in_processes()),
            create(&path),
        )
        .start()
        .unwrap();
    for kill in 1..=4 {
        let before = report.snapshot().blocks;
        wait_until("the pipe has continued", || {
            report.snapshot().blocks > before + 100
        });
        let process = || pipe.status().stages[1].instances[kill % 2].process;
        wait_until("it works", || process() != 0);
        let victim = process();
        kill_process(Pid::from_raw(victim as i32).unwrap(), Signal::KILL).unwrap();
        wait_until("it is replaced", || ![0, victim].contains(&process()));
    }
    enough.store(true, Ordering::SeqCst);
    let written = pipe.wait().unwrap().bytes_in();
    let back = read(&path, true, None, Where::Threads);
    assert!(back.outcome.complete && back.damage.is_empty());
    assert_eq!(back.data.len() as u64, written);
    assert!(
        back.data
            .chunk_by(|a, b| a == b)
            .all(|run| run.len() % 4096 == 0)
    );
}

pub(crate) fn medium_opened_to_append_is_written_by_a_process_after_its_content() {
    for (name, confined) in [("a.tap", false), ("a.tap", true), ("volumes", false)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let options = VolumeOptions::default();
        let mut before = Vec::new();
        for round in 0..3 {
            let medium: Box<dyn MediumWriter> = match path.extension() {
                Some(_) => Box::new(VirtualTape::append(&path, options.clone()).unwrap()),
                None => Box::new(
                    VolumeDirectory::append(&path, options.clone().volume_size(80 << 10)).unwrap(),
                ),
            };
            let archive = match round {
                0 => plan(true),
                _ => plan(true).after(Sessions::before_next(open(&path)).unwrap()),
            };
            let place = match confined {
                true => Where::Confined,
                false => Where::Processes,
            };
            let report = archive.report();
            let (seal, tail) = archive_stages(archive, medium);
            let allowed: &[&Path] = if path.extension().is_some() {
                &[]
            } else {
                &[&path]
            };
            Pipe::builder()
                .buffer_size(BLOCK)
                .head(StreamHead::new(Cursor::new(data())))
                .stages(seal)
                .tail(place.run(tail, allowed))
                .run()
                .unwrap();
            assert!(report.snapshot().complete);
            assert_eq!(find_writer(&path).unwrap(), None);
            let after = all_bytes(&path);
            assert!(after.starts_with(&before), "an earlier byte has changed");
            before = after;
        }
        let sessions = Sessions::read(open(&path)).unwrap();
        assert_eq!(sessions.sessions().len(), 3, "{name}");
        for archive in sessions.archives() {
            let secret = secret(true);
            let reader = ArchiveReader::open_listed(open(&path), archive, secret.as_ref());
            let (reading, sink) = (reader.unwrap().read(), Sink::default());
            let tail = StreamRestore::new(sink.clone());
            reading.pipe.tail(tail).run().unwrap();
            assert!(reading.report.snapshot().complete && sink.bytes() == data());
        }
    }
}

/// Bytes of a tape, or of all volumes in their order.
fn all_bytes(path: &Path) -> Vec<u8> {
    if path.is_file() {
        return fs::read(path).unwrap();
    }
    let files = fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| fs::read(file).unwrap())
        .collect()
}

pub(crate) fn tail_of_a_session_of_this_program_does_not_run_in_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let tape = create_tape(&dir.path().join("a.tap"));
    let session = Session::new(tape, SessionOptions::new("")).unwrap();
    let archive = plan(false).map_tail(|tail| tail.in_processes());
    let data = data();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(&data[..]));
    let error = pipe.archive_in(archive, &session).run().unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("it writes to a session of this program"),
        "{error}"
    );
}
