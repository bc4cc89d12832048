//! The tail that writes a stream back. Zeros replace blocks that are lost, so that all others keep
//! their offsets.

use std::io::Write;
use std::os::fd::OwnedFd;

use crate::error::StageError;
use crate::pool::{Block, Codec, Marks, Stop};
use crate::stage::{OpenFile, Tail, TailStage, write_error};
use crate::wire::BlockKind;

use super::super::arguments;

/// Writes the blocks of an archived stream to a writer.
///
/// Zeros are written in place of blocks that are missing or damaged, which the reader's log lists.
/// A reader without a log fails at the first of them.
///
/// Zeros are also written in place of blocks that an inspection rejected when the archive was
/// written. They are not damaged, so the pipe ends well. Check
/// [`ReadOutcome::complete`](crate::archive::ReadOutcome::complete), which is false then:
/// [`first_rejected`](crate::archive::ReadOutcome::first_rejected) has the first of them, and the
/// reader's log each.
#[derive(Debug)]
pub struct StreamRestore<W> {
    writer: W,
    /// Number of bytes written so far.
    written: u64,
    /// The writer, if it can be passed to another process.
    file: Option<OpenFile>,
}

impl StreamRestore<OpenFile> {
    /// Makes a tail that writes to an open file, pipe, socket or device, from its current offset.
    /// The tail can run in another process, which gets the descriptor. A stop of the pipe ends a
    /// wait for a reader that does not read. A file or a block device is on stable storage when the
    /// pipe has ended successfully.
    pub fn file(file: impl Into<OwnedFd>) -> Self {
        let file = OpenFile::new(file);
        Self {
            file: Some(file.clone()),
            ..Self::new(file)
        }
    }
}

impl<W: Write + Send> StreamRestore<W> {
    /// Makes a tail that writes to `writer`, in this process, and flushes it at the end of the
    /// stream. For an open file, [`file`](StreamRestore::file) is better.
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            written: 0,
            file: None,
        }
    }

    fn put(&mut self, bytes: &[u8], stop: &Stop) -> Result<(), StageError> {
        let written = match &self.file {
            Some(file) => file.write_all_until_stop(bytes, stop),
            None => self.writer.write_all(bytes),
        };
        written.map_err(|error| write_error(self.written, error))?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

impl<W: Write + Send> Tail for StreamRestore<W> {
    fn name(&self) -> &str {
        "stream-restore"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let info = block.info();
        if info.kind != BlockKind::Data.code() || info.marks.contains(Marks::DAMAGED) {
            return Ok(());
        }
        if info.sealed || info.codec != Codec::NONE {
            let (state, stage) = if info.sealed {
                ("encrypted", "open_blocks()")
            } else {
                ("compressed", "decompress()")
            };
            return Err(StageError::new(format!(
                "block {} is still {state}; put {stage} before this tail",
                block.archive_number()
            )));
        }
        if info.offset < self.written {
            return Err(StageError::new(format!(
                "block {} begins at byte {} of the stream, but {} bytes are already written",
                block.archive_number(),
                info.offset,
                self.written
            )));
        }
        let stop = block.stop();
        while self.written < info.offset {
            let len = (info.offset - self.written).min(ZEROS.len() as u64);
            self.put(&ZEROS[..len as usize], &stop)?;
        }
        self.put(block.bytes(), &stop)
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.writer
            .flush()
            .map_err(|error| StageError::with_source("cannot flush the destination", error))?;
        let synced = self.file.as_ref().map_or(Ok(()), OpenFile::sync);
        synced.map_err(|error| {
            let what = format!(
                "the {} bytes that were written may not be on stable storage",
                self.written
            );
            StageError::with_source(what, error)
        })
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        arguments::describe_restore(stage, self.file.as_ref())
    }
}

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
