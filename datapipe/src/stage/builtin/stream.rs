//! Plain streams: any reader as a head, any writer as a tail.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::StageError;
use crate::planted::{check_name_not_planted, check_not_planted};
use crate::pool::{Block, HeadPort, TailPort};

use crate::stage::{Arguments, Fields, Fill, Head, HeadStage, Tail, TailStage};
use crate::words::name_full;

#[cfg(feature = "archive")]
use super::block_sums::BlockSums;
use super::open_file::OpenFile;
#[cfg(feature = "archive")]
use super::stream_checkpoints::StreamCheckpoints;

/// Names of the modules that make these stages in other processes.
pub(crate) const STREAM_HEAD_MODULE: &str = "datapipe.stream-head";
pub(crate) const STREAM_TAIL_MODULE: &str = "datapipe.stream-tail";

/// Reads a stream into blocks: a file, standard input, a socket, anything that can be read.
///
/// Every block but the last is full, so block boundaries do not depend on the sizes of the reader's
/// reads.
///
/// In an archive it makes a checkpoint after each GiB, or each 30 s:
/// [`HeadStage::checkpoint_every`](crate::stage::Stage::checkpoint_every).
///
/// ```
/// use datapipe::prelude::*;
///
/// let report = Pipe::builder()
///     .head(StreamHead::new(&b"some data"[..]))
///     .tail(StreamTail::new(std::io::sink()))
///     .run()?;
/// assert_eq!(report.bytes_in(), 9);
/// # Ok::<(), datapipe::Error>(())
/// ```
#[derive(Debug)]
pub struct StreamHead<R> {
    reader: R,
    offset: u64,
    /// The reader, if it can be passed to another process.
    file: Option<OpenFile>,
    #[cfg(feature = "archive")]
    checkpoints: StreamCheckpoints,
}

impl<R: Read + Send> StreamHead<R> {
    /// A head that reads `reader` to its end, in this process. A read that waits for data delays a
    /// stop of the pipe until it returns: for an open file, a pipe or a socket,
    /// [`file`](StreamHead::file) is the better choice.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            offset: 0,
            file: None,
            #[cfg(feature = "archive")]
            checkpoints: StreamCheckpoints::default(),
        }
    }
}

impl StreamHead<OpenFile> {
    /// A head that reads an open file, pipe, socket or device from its current position to its end.
    /// As a [`HeadStage`] it can run in a process, which receives the descriptor, unless the
    /// descriptor is a terminal.
    ///
    /// A stop of the pipe ends a wait for data that a pipe, a socket or a device does not have yet.
    ///
    /// ```no_run
    /// use datapipe::prelude::*;
    /// use std::fs::File;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// datapipe::host::serve(datapipe::modules());
    /// let head = HeadStage::from(StreamHead::file(File::open("/dev/sda")?)).in_processes();
    /// let tail = TailStage::from(StreamTail::file(File::create("disk.img")?)).in_processes();
    /// Pipe::builder().head(head).tail(tail).run()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn file(file: impl Into<OwnedFd>) -> Self {
        let file = OpenFile::new(file);
        Self {
            reader: file.clone(),
            offset: 0,
            file: Some(file),
            #[cfg(feature = "archive")]
            checkpoints: StreamCheckpoints::default(),
        }
    }

    /// Makes the module's stage: from the file at the field `path`, or else from the descriptor
    /// that `given` returns. `allow` judges the path, and resolves it.
    pub(crate) fn from_fields(
        mut fields: Fields<'_>,
        allow: impl FnOnce(&Path) -> Result<PathBuf, StageError>,
        given: impl FnOnce() -> Result<OwnedFd, StageError>,
    ) -> Result<HeadStage<'static>, StageError> {
        let path = fields.path("path")?;
        fields.end()?;
        let opened = |path: &Path| {
            File::open(path)
                .map(OwnedFd::from)
                .map_err(|error| cannot_open(path, error))
        };
        let file = path.map_or_else(given, |path| opened(&allow(&path)?))?;
        Ok(Self::file(file).into())
    }
}

/// Makes the error of a tail that cannot write at byte `at` of its stream. If the pipe was stopped,
/// that is the error.
pub(crate) fn write_error(at: u64, error: io::Error) -> StageError {
    let what = format!("cannot write to the destination at byte {at}");
    StageError::with_source(what, name_full(error))
}

fn cannot_open(path: &Path, error: io::Error) -> StageError {
    StageError::with_source(format!("cannot open {}", path.display()), error)
}

impl<R: Read + Send> Head for StreamHead<R> {
    fn name(&self) -> &str {
        "stream-head"
    }

    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        #[cfg(feature = "archive")]
        if self.checkpoints.fill(block, self.offset)? {
            return Ok(Fill::Block);
        }
        let mut info = block.info();
        info.offset = self.offset;
        let waits = self.file.as_ref().filter(|file| file.may_wait());
        let waits = waits.map(|file| (file, block.stop()));
        #[cfg(feature = "archive")]
        let mut sums = BlockSums::of(block, &mut self.checkpoints, self.offset);
        while !block.spare().is_empty() {
            if let Some((file, stop)) = &waits {
                stop.wait_readable(file)?;
            }
            let room = block.spare();
            #[cfg(feature = "archive")]
            let room = sums.piece_of(room);
            let n = match self.reader.read(room) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Another reader of the same pipe was faster.
                Err(error) if error.kind() == ErrorKind::WouldBlock && waits.is_some() => {
                    continue;
                }
                Err(error) => {
                    let at = self.offset + block.len() as u64;
                    let what = format!("cannot read the source at byte {at}");
                    return Err(StageError::with_source(what, error));
                }
            };
            block.grow(n)?;
            #[cfg(feature = "archive")]
            sums.add(block);
        }
        #[cfg(feature = "archive")]
        sums.end(block);
        self.offset += block.len() as u64;
        block.set_info(info);
        Ok(if block.is_empty() {
            Fill::End
        } else {
            Fill::Block
        })
    }

    fn describe<'a>(&self, stage: HeadStage<'a>) -> HeadStage<'a> {
        let stage = stage.makes_checkpoints();
        match &self.file {
            None => stage.local(
                "its reader cannot move to another process: give StreamHead::file an open file",
            ),
            // The kernel stops a process that is not in the foreground when it reads from one.
            Some(file) if file.as_fd().is_terminal() => stage.local(
                "it reads from a terminal, as only this process can: let it run on a thread",
            ),
            Some(file) => stage.module_with_shared_descriptors(
                STREAM_HEAD_MODULE,
                Arguments::new(),
                [file.shared()],
            ),
        }
    }
}

/// Writes the data of every block to a stream.
///
/// ```
/// use datapipe::prelude::*;
///
/// let mut written = Vec::new();
/// Pipe::builder()
///     .head(StreamHead::new(&b"some data"[..]))
///     .tail(StreamTail::new(&mut written))
///     .run()?;
/// assert_eq!(written, b"some data");
/// # Ok::<(), datapipe::Error>(())
/// ```
#[derive(Debug)]
pub struct StreamTail<W> {
    writer: W,
    written: u64,
    /// The writer, if it can be passed to another process.
    file: Option<OpenFile>,
}

impl<W: Write + Send> StreamTail<W> {
    /// A tail that writes to `writer`, in this process, and flushes it when the stream has ended
    /// well. For an open file, [`file`](StreamTail::file) is the better choice.
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            written: 0,
            file: None,
        }
    }
}

impl StreamTail<OpenFile> {
    /// A tail that writes to an open file, pipe, socket or device from its current position on. As
    /// a [`TailStage`] it can run in a process, which receives the descriptor: [`StreamHead::file`]
    /// has an example. A stop of the pipe ends a wait for a reader that does not read.
    pub fn file(file: impl Into<OwnedFd>) -> Self {
        let file = OpenFile::new(file);
        Self {
            writer: file.clone(),
            written: 0,
            file: Some(file),
        }
    }

    /// Makes the module's stage: from the file at the field `path`, which must not exist unless the
    /// field `overwrite` is present, or else from the descriptor that `given` returns.
    ///
    /// A new file is its owner's alone: the data may come from a file that others may not read.
    pub(crate) fn from_fields(
        mut fields: Fields<'_>,
        allow: impl FnOnce(&Path) -> Result<PathBuf, StageError>,
        given: impl FnOnce() -> Result<OwnedFd, StageError>,
    ) -> Result<TailStage<'static>, StageError> {
        let (path, overwrite) = (fields.path("path")?, fields.flag("overwrite")?);
        fields.end()?;
        let open = |path: &Path| {
            // Before it is opened: a pipe of another user would keep this process.
            match check_name_not_planted(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(cannot_open(path, error));
                }
                _ => {}
            }
            let mut options = OpenOptions::new();
            options
                .write(true)
                .mode(0o600)
                .create_new(!overwrite)
                .create(overwrite);
            options
                .open(path)
                .and_then(|file| {
                    check_not_planted(path, &file)?;
                    if file.metadata()?.is_file() {
                        file.set_len(0)?;
                    }
                    Ok(file)
                })
                .map(OwnedFd::from)
                .map_err(|error| cannot_open(path, error))
        };
        let file = path.map_or_else(given, |path| open(&allow(&path)?))?;
        Ok(Self::file(file).into())
    }
}

impl<W: Write + Send> Tail for StreamTail<W> {
    fn name(&self) -> &str {
        "stream-tail"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let at = self.written;
        let written = match &self.file {
            Some(file) => file.write_all_until_stop(block.bytes(), &block.stop()),
            None => self.writer.write_all(block.bytes()),
        };
        written.map_err(|error| write_error(at, error))?;
        self.written += block.len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.writer
            .flush()
            .map_err(|error| StageError::with_source("cannot flush the destination", error))
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        match &self.file {
            None => stage.local(
                "its writer cannot move to another process: give StreamTail::file an open file",
            ),
            Some(file) => stage.module_with_shared_descriptors(
                STREAM_TAIL_MODULE,
                Arguments::new(),
                [file.shared()],
            ),
        }
    }
}

/// A [`Write`] over a head's port, for sources that push.
///
/// Blocks are sent as they fill up. Call [`finish`](Self::finish) to send the last one: a head that
/// drops its writer with data in it fails.
#[derive(Debug)]
pub struct BlockWriter<'p> {
    port: &'p HeadPort,
    block: Option<Block>,
    offset: u64,
}

impl<'p> BlockWriter<'p> {
    /// A writer that sends its data on `port`.
    pub fn new(port: &'p HeadPort) -> Self {
        Self {
            port,
            block: None,
            offset: 0,
        }
    }

    /// Sends the last block, if it has data.
    ///
    /// # Errors
    ///
    /// If the pipe was stopped.
    pub fn finish(mut self) -> Result<(), StageError> {
        Ok(self.send()?)
    }

    fn send(&mut self) -> io::Result<()> {
        if let Some(mut block) = self.block.take() {
            let mut info = block.info();
            info.offset = self.offset;
            self.offset += block.len() as u64;
            block.set_info(info);
            self.port.send(block).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Drop for BlockWriter<'_> {
    fn drop(&mut self) {
        if self.block.is_some() {
            self.port.core().note_unsent();
        }
    }
}

impl Write for BlockWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let block = match &mut self.block {
            Some(block) => block,
            None => self
                .block
                .insert(self.port.alloc().map_err(io::Error::other)?),
        };
        let n = bytes.len().min(block.spare().len());
        block.put(&bytes[..n]).map_err(io::Error::other)?;
        if block.spare().is_empty() {
            self.send()?;
        }
        Ok(n)
    }

    /// Returns at once: blocks are sent when they are full, and [`finish`](BlockWriter::finish)
    /// sends the last one.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A [`Read`] over a tail's port, for destinations that pull.
#[derive(Debug)]
pub struct BlockReader<'p> {
    port: &'p TailPort,
    block: Option<Block>,
    position: usize,
}

impl<'p> BlockReader<'p> {
    /// A reader of the data of all blocks that arrive on `port`. It ends when the stream ends.
    pub fn new(port: &'p TailPort) -> Self {
        Self {
            port,
            block: None,
            position: 0,
        }
    }
}

impl Read for BlockReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(block) = &self.block {
                let rest = &block.bytes()[self.position..];
                if !rest.is_empty() {
                    let n = rest.len().min(out.len());
                    out[..n].copy_from_slice(&rest[..n]);
                    self.position += n;
                    return Ok(n);
                }
            }
            self.position = 0;
            // Free the old block before waiting for the next one.
            self.block = None;
            self.block = self.port.receive().map_err(io::Error::other)?;
            if self.block.is_none() {
                return Ok(0);
            }
        }
    }
}
