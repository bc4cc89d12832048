//! Writes a stream back. What is gone becomes zeros, so that everything else is where it was.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::error::StageError;
use crate::pool::{Block, Codec, Marks};
use crate::stage::{OpenFile, Tail, TailStage};
use crate::wire::BlockKind;

use super::super::block_header::number_of;
use super::super::modules;

/// Writes the blocks of an archived stream to a writer.
///
/// Where blocks are missing or damaged, zeros are written in their place: the reader's log says
/// which. Without a log the reader stops before that.
#[derive(Debug)]
pub struct StreamRestore<W> {
    writer: W,
    written: u64,
    /// The writer, if it can be passed to another process.
    file: Option<OpenFile>,
}

impl StreamRestore<OpenFile> {
    /// A tail that writes to an open file, pipe, socket or device, from where it stands. It can run
    /// in a process: that gets the descriptor.
    pub fn file(file: impl Into<OwnedFd>) -> Self {
        let file = OpenFile(Arc::new(file.into()));
        Self {
            file: Some(file.clone()),
            ..Self::new(file)
        }
    }
}

impl<W: Write + Send> StreamRestore<W> {
    /// A tail that writes to `writer`, in this process, and flushes it when the stream has ended
    /// well. What is an open file is better given to [`file`](StreamRestore::file).
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            written: 0,
            file: None,
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        let at = self.written;
        self.writer.write_all(bytes).map_err(|error| {
            StageError::new(format!(
                "cannot write to the destination at byte {at}: {error}"
            ))
        })?;
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
            let number = number_of(block, &info);
            let (is, what) = if info.sealed {
                ("encrypted", "open_blocks()")
            } else {
                ("compressed", "decompress()")
            };
            return Err(StageError::new(format!(
                "block {number} is still {is}; put {what} before this tail"
            )));
        }
        if info.offset < self.written {
            let (at, have) = (info.offset, self.written);
            return Err(StageError::new(format!(
                "a block of byte {at} of the stream comes behind byte {have}"
            )));
        }
        while self.written < info.offset {
            let len = (info.offset - self.written).min(ZEROS.len() as u64);
            self.put(&ZEROS[..len as usize])?;
        }
        self.put(block.bytes())
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.writer
            .flush()
            .map_err(|error| StageError::new(format!("cannot flush the destination: {error}")))
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        modules::describe_restore(stage, self.file.as_ref())
    }
}

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
