//! Media of an adopter in processes: the host opens them from the arguments of their handle.

use std::fs::File;
use std::io::{Cursor, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use datapipe::archive::{BlockSet, MediumArgs};
use datapipe::host::Modules;
use datapipe::media::{
    HandleError, Item, MediumError, MediumHandle, Position, TapeReader, TapeWriter,
};
use datapipe::prelude::*;
use datapipe::stage::Arguments;
use datapipe::testkit::{Sink, Suite};

use crate::data::{blocks, key};

const BLOCK: u32 = 4096;
/// Text that a descriptor of the handle must lead to.
const NOTE: &str = "handed over";

/// A tape that the adopter opens in a way of its own: by a path without its last letters, and with
/// a note that arrives in a descriptor.
pub(crate) struct Branded<M> {
    inner: M,
    path: PathBuf,
    /// Name of the module that its handle gives.
    module: &'static str,
}

impl Branded<TapeWriter> {
    fn create(path: &Path) -> Self {
        let options = VolumeOptions::default().overwrite(true);
        let inner = VirtualTape::create(branded(path), options).unwrap();
        Self::with(inner, path)
    }
}

impl Branded<TapeReader> {
    fn open(path: &Path) -> Self {
        // For the records of the suite, too.
        let inner = VirtualTape::open_with_probe(branded(path), |_| true).unwrap();
        Self::with(inner, path)
    }
}

fn branded(path: &Path) -> PathBuf {
    path.with_extension("branded")
}

/// Returns the path in the arguments of a handle, and checks the descriptor.
fn path_of(args: &MediumArgs<'_>) -> Result<PathBuf, StageError> {
    let mut fields = args.fields()?;
    let path = fields.path("path")?;
    let path = path.ok_or_else(|| StageError::new("the medium has no path"))?;
    fields.end()?;
    let mut note = String::new();
    File::from(args.descriptor(0)?).read_to_string(&mut note)?;
    if note != NOTE {
        return Err(StageError::new("a descriptor leads elsewhere"));
    }
    if args.descriptor(1).is_ok() {
        return Err(StageError::new("a descriptor that is not the medium's"));
    }
    Ok(path)
}

impl<M> Branded<M> {
    fn with(inner: M, path: &Path) -> Self {
        Self {
            inner,
            path: path.to_owned(),
            module: "test.branded",
        }
    }

    fn own_handle(&self) -> Result<MediumHandle, HandleError> {
        let arguments = Arguments::new().with("path", self.path.as_os_str().as_encoded_bytes());
        Ok(MediumHandle::of_module(self.module, arguments).with_descriptor(note()?))
    }
}

/// Returns a pipe that contains the note.
fn note() -> std::io::Result<OwnedFd> {
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(NOTE.as_bytes())?;
    Ok(reader.into())
}

impl MediumWriter for Branded<TapeWriter> {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        self.inner.write(record)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.inner.write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        self.inner.sync()
    }

    fn next_volume(&mut self) -> Result<(), MediumError> {
        self.inner.next_volume()
    }

    fn finish(&mut self) -> Result<(), MediumError> {
        self.inner.finish()
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        self.own_handle()
    }
}

impl MediumReader for Branded<TapeReader> {
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.inner.read(record)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.inner.read_back(record)
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        self.inner.next_volume()
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        self.inner.seek(to)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        self.inner.seek_end(volume)
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        self.own_handle()
    }
}

/// Adds the modules of this file.
pub(crate) fn add(modules: Modules) -> Modules {
    modules.with_medium(
        "test.branded",
        |args| Ok(Branded::create(&path_of(args)?)),
        |args| Ok(Branded::open(&path_of(args)?)),
    )
}

fn data() -> Vec<u8> {
    blocks(300_000, BLOCK as usize, 5)
}

/// Writes the data as an encrypted archive, with its tail in a process.
fn write(medium: Branded<TapeWriter>) -> Result<(), Error> {
    let options = ArchiveOptions::stream("own")
        .block_len(BLOCK)
        .record_len(4096);
    let plan = options.chunk_len(50_000).encrypt(key(9)).plan().unwrap();
    let report = plan.report();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(Cursor::new(data())))
        .stage(zstd(1))
        .archive(plan.map_tail(|tail| tail.in_processes()), medium);
    pipe.run()?;
    let outcome = report.snapshot();
    assert!(outcome.complete && outcome.safe_blocks == 74, "{outcome:?}");
    Ok(())
}

pub(crate) fn archive_on_an_own_medium_is_written_and_read_in_processes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("medium");
    write(Branded::create(&path)).unwrap();
    assert!(dir.path().join("medium.branded").exists());

    let reader = ArchiveReader::open(Branded::open(&path), Some(&key(9))).unwrap();
    let sink = Sink::default();
    let reading = reader.read();
    let tail = StreamRestore::new(Cursor::new(Vec::new()));
    reading.pipe.in_processes().tail(tail).run().unwrap();
    let read = reading.report.snapshot();
    assert!(
        read.complete && read.plain == data().len() as u64,
        "{read:?}"
    );

    // The list of blocks is a descriptor beside those of the medium.
    let mut some = BlockSet::new();
    some.insert(3..=5);
    let reading = reader.read_blocks(&reader.index().unwrap(), &some).unwrap();
    let tail = StreamTail::new(sink.clone());
    reading.pipe.in_processes().tail(tail).run().unwrap();
    let from = 2 * BLOCK as usize;
    assert!(sink.bytes() == data()[from..from + 3 * BLOCK as usize]);
}

/// The module is missing in the host, or fails: the pipe ends with that reason.
pub(crate) fn unknown_and_failing_own_media_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut medium = Branded::create(&dir.path().join("medium"));
    medium.module = "test.unknown";
    let error = write(medium).unwrap_err().to_string();
    assert!(
        error.contains("no module \"datapipe.archive-tail:test.unknown\""),
        "{error}"
    );

    let reads = |arguments: Arguments| {
        let head = HeadStage::head_of_module("reader", datapipe::stage::StageKind::Fill);
        let head = head
            .unwrap()
            .module("datapipe.archive-head:test.branded", arguments)
            .in_processes();
        let pipe = Pipe::builder()
            .head(head)
            .tail(StreamTail::new(std::io::sink()));
        pipe.run().unwrap_err().to_string()
    };
    let error = reads(Arguments::new());
    assert!(
        error.contains("missing field `medium-arguments`"),
        "{error}"
    );
    let error = reads(Arguments::new().with("medium-arguments", ""));
    assert!(error.contains("the medium has no path"), "{error}");
    let with_path = || Vec::from(Arguments::new().with("path", "/nowhere"));
    let error = reads(Arguments::new().with("medium-arguments", with_path()));
    assert!(
        error.contains("missing descriptor 0: the medium's handle has 0"),
        "{error}"
    );
    let error = reads(
        Arguments::new()
            .with("medium-arguments", with_path())
            .with("path", "/nowhere"),
    );
    assert!(error.contains("unknown field `path`"), "{error}");
}

pub(crate) fn medium_suite_runs_in_processes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("medium");
    let suite = Suite::with_processes();
    suite.medium(|| Branded::create(&path), || Branded::open(&path));
    let tape = dir.path().join("tape");
    let options = VolumeOptions::default().overwrite(true);
    let create = || VirtualTape::create(&tape, options.clone()).unwrap();
    let open = || VirtualTape::open_with_probe(&tape, |_| true).unwrap();
    suite.medium(create, open);

    // The host does not know the module of the handle.
    let unknown = || {
        let mut medium = Branded::create(&path);
        medium.module = "test.unknown";
        medium
    };
    let text = crate::suites::failure(|| suite.medium(unknown, || Branded::open(&path)));
    assert!(text.contains("handle names a module"), "{text}");
    assert!(text.contains("an archive written in processes"), "{text}");
}
