//! Stages of an adopter in processes, in front of an archive and around its last block.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Path, PathBuf};

use datapipe::host::Modules;
use datapipe::prelude::*;
use datapipe::stage::{Arguments, StageKind};
use datapipe::testkit::Sink;
use rustix::process::{Signal, getpid, kill_process};

use crate::archive::killed;
use crate::data::{blocks, key};
use crate::medium::{create_tape, open};

const BLOCK: u32 = 4096;

/// Adds one to three bytes to each block, or removes them.
struct Tag(bool);

impl InPlace for Tag {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        if self.0 {
            let more = 1 + block.len() % 3;
            block.grow(more)?.fill(more as u8);
        } else {
            let more = usize::from(*block.bytes().last().expect("a tag"));
            block.truncate(block.len() - more);
        }
        Ok(Verdict::Send)
    }
}

fn tag(adds: bool) -> MiddleStage<'static> {
    let stage = Stage::in_place("tag", move |_| Tag(adds));
    stage.module("test.tag", if adds { "add" } else { "remove" })
}

/// Passes all blocks on. At the last block of the archive it creates its file; if the file was not
/// there, it dies, or waits until the second file exists.
struct AtLast {
    file: PathBuf,
    waits: bool,
}

impl InPlace for AtLast {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let is_last = block.info().marks.contains(Marks::LAST);
        if is_last && File::create_new(&self.file).is_ok() {
            while self.waits && !self.file.with_extension("go").exists() {
                block.stop().sleep(std::time::Duration::from_millis(1))?;
            }
            if !self.waits {
                kill_process(getpid(), Signal::KILL)?;
            }
        }
        Ok(Verdict::Send)
    }

    fn takes_control_blocks(&self) -> bool {
        true
    }
}

fn at_last(file: &Path, waits: bool) -> MiddleStage<'static> {
    let owned = file.to_owned();
    let stage = Stage::in_place("at-last", move |_| AtLast {
        file: owned.clone(),
        waits,
    });
    let arguments = Arguments::new().with("file", file.to_str().unwrap());
    stage.module("test.at-last", arguments.with_flag("waits", waits))
}

/// Sends its data, and dies instead of ending.
struct DiesAtEnd(Cursor<Vec<u8>>);

impl Head for DiesAtEnd {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let len = std::io::Read::read(&mut self.0, block.spare())?;
        block.grow(len)?;
        if len == 0 {
            kill_process(getpid(), Signal::KILL)?;
        }
        Ok(Fill::Block)
    }
}

fn data() -> Vec<u8> {
    blocks(200_000, BLOCK as usize, 3)
}

pub(crate) fn add(modules: Modules) -> Modules {
    modules
        .with("test.tag", |call| Ok(tag(call.arguments() == b"add")))
        .with("test.at-last", |call| {
            let mut fields = call.fields()?;
            let file = PathBuf::from(fields.text("file")?);
            let waits = fields.flag("waits")?;
            fields.end()?;
            Ok(at_last(&file, waits))
        })
        .with("test.dies-at-end", |_| {
            Ok(Stage::head("dies", |_| DiesAtEnd(Cursor::new(data()))))
        })
}

fn planned(options: ArchiveOptions) -> Archive {
    let options = options.block_len(2 * BLOCK).encrypt(key(9));
    let archive = options.record_len(4096).plan().unwrap();
    archive.map_seal(|seal| seal.instances(2).in_processes())
}

/// Reads the stream of an archive. Returns it, and true if it is complete.
fn read(path: &Path) -> (Vec<u8>, bool) {
    let reader = ArchiveReader::open(open(path), Some(&key(9))).unwrap();
    let (log, sink) = (DamageLog::new(), Sink::default());
    let reading = reader.salvage(&log).read();
    let pipe = reading.pipe;
    pipe.tail(StreamRestore::new(sink.clone())).run().unwrap();
    (sink.bytes(), reading.report.snapshot().complete)
}

pub(crate) fn stream_whose_blocks_change_length_in_processes_is_archived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(Cursor::new(data())))
        .stage(tag(true).instances(3).in_processes());
    let archive = planned(ArchiveOptions::stream("s"));
    pipe.archive(archive, create_tape(&path)).run().unwrap();
    let reader = ArchiveReader::open(open(&path), Some(&key(9))).unwrap();
    let (reading, sink) = (reader.read(), Sink::default());
    let untag = tag(false).instances(3).in_processes();
    let pipe = reading.pipe.stage(untag);
    pipe.tail(StreamTail::new(sink.clone())).run().unwrap();
    assert!(reading.report.snapshot().complete);
    assert!(sink.bytes() == data());
}

pub(crate) fn tree_whose_blocks_change_length_in_processes_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (source, path) = (dir.path().join("source"), dir.path().join("a.tap"));
    fs::create_dir(&source).unwrap();
    for n in 0..30_usize {
        fs::write(source.join(format!("file {n}")), vec![n as u8; n * 700]).unwrap();
    }
    let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(head.instances(2))
        .stage(tag(true).instances(3).in_processes());
    let archive = planned(ArchiveOptions::tree("t"));
    pipe.archive(archive, create_tape(&path)).run().unwrap();
    let dest = dir.path().join("restored");
    fs::create_dir(&dest).unwrap();
    let reader = ArchiveReader::open(open(&path), Some(&key(9))).unwrap();
    let reading = reader.read();
    let restore = TreeRestore::new(&dest, RestoreOptions::default()).unwrap();
    let found = restore.report();
    let untag = tag(false).instances(3).in_processes();
    reading.pipe.stage(untag).tail(restore).run().unwrap();
    assert!(reading.report.snapshot().complete);
    assert_eq!(found.snapshot().problems, []);
    for n in 0..30_usize {
        let restored = fs::read(dest.join("source").join(format!("file {n}"))).unwrap();
        assert!(restored == vec![n as u8; n * 700], "file {n}");
    }
}

/// A process dies with the last block of the archive in its hands, after all data.
pub(crate) fn process_killed_at_the_last_block_is_replaced() {
    for instances in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tap");
        let archive = planned(ArchiveOptions::stream("s"));
        let report = archive.report();
        let killed = at_last(&dir.path().join("killed"), false);
        let pipe = Pipe::builder()
            .buffer_size(BLOCK)
            .head(StreamHead::new(Cursor::new(data())))
            .stage(killed.instances(instances).in_processes());
        let ended = pipe.archive(archive, create_tape(&path)).run().unwrap();
        let stage = &ended.status.stages[1];
        let processes: u64 = stage.instances.iter().map(|one| one.processes).sum();
        assert_eq!(processes, u64::from(instances) + 1, "one was replaced");
        assert!(report.snapshot().complete);
        let (read, complete) = read(&path);
        assert!(complete && read == data());
    }
}

/// Neither a head nor a tail is replaced. The archive has all its data, and is not complete.
pub(crate) fn archive_whose_last_block_was_lost_is_incomplete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("head.tap");
    let archive = planned(ArchiveOptions::stream("s"));
    let report = archive.report();
    let head = Stage::head_of_module("head", StageKind::Fill).unwrap();
    let head = head.module("test.dies-at-end", "").in_processes();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    let error = pipe.archive(archive, create_tape(&path)).run().unwrap_err();
    assert!(matches!(error, Error::Stage(_)), "{error}");
    assert!(!report.snapshot().complete);
    let (found, complete) = read(&path);
    assert!(!complete && data().starts_with(&found));

    // The tail dies while the last block waits in front of it.
    let path = dir.path().join("tail.tap");
    let file = dir.path().join("last");
    let archive = planned(ArchiveOptions::stream("s")).map_tail(|tail| tail.in_processes());
    let report = archive.report();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(Cursor::new(data())))
        .stage(at_last(&file, true).in_processes());
    let pipe = pipe.archive(archive, create_tape(&path)).start().unwrap();
    let stages = pipe.status().stages;
    let tail = stages.len() - 1;
    let written = data().len() as u64;
    let has_all = || file.exists() && report.snapshot().plain == written;
    let (text, _) = killed(pipe, tail, has_all);
    assert!(text.contains("archive-tail"), "{text}");
    assert!(!report.snapshot().complete);
    let (found, complete) = read(&path);
    assert!(!complete && data().starts_with(&found));
}

/// A head that reads some blocks only: the pipe failed at the first gap, as if blocks were lost.
pub(crate) fn reading_of_some_blocks_by_modules_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let archive = ArchiveOptions::stream("s").block_len(BLOCK).plan().unwrap();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(Cursor::new(data())));
    pipe.archive(archive, create_tape(&path)).run().unwrap();
    // Blocks 3 to 5, which begin anywhere after the start of the medium.
    let runs: [u64; 3] = [3, 5, 0];
    let list = dir.path().join("runs");
    let run: Vec<u8> = runs
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    fs::write(
        &list,
        [&run[..], &[0; 8], &1_u32.to_le_bytes(), &[0; 16]].concat(),
    )
    .unwrap();
    let arguments = Arguments::new()
        .with("medium", "tape")
        .with("path", path.to_str().unwrap())
        .with_flag("runs", true);
    let head = Stage::head_of_module("head", StageKind::Fill).unwrap();
    let head = head
        .module_with_descriptors(
            "datapipe.archive-head",
            arguments,
            [File::open(&list).unwrap().into()],
        )
        .in_processes();
    let sink = Sink::default();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    let pipe = pipe.tail(StreamTail::new(sink.clone())).check_archive();
    let error = pipe.run().unwrap_err().to_string();
    assert!(error.contains("the head has the field `runs`"), "{error}");
    assert!(sink.bytes().is_empty());
}
