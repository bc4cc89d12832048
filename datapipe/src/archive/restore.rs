//! Writes a stream back. What is gone becomes zeros, so that everything else is where it was.

use std::io::Write;

use crate::error::StageError;
use crate::pool::{Block, Codec, Marks};
use crate::stage::Tail;
use crate::wire::What;

use super::block::number_of;

/// Writes the blocks of an archived stream to a writer.
///
/// Where blocks are missing or damaged, zeros are written in their place: the reader's log says which. Without a log
/// the reader stops before that.
#[derive(Debug)]
pub struct StreamRestore<W> {
    writer: W,
    written: u64,
}

impl<W: Write + Send> StreamRestore<W> {
    /// A tail that writes to `writer`, and flushes it when the stream has ended well.
    pub fn new(writer: W) -> Self {
        Self { writer, written: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        let at = self.written;
        self.writer.write_all(bytes).map_err(|error| {
            StageError::new(format!("cannot write to the destination at byte {at}: {error}"))
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
        if info.kind != What::Data.code() || info.marks.contains(Marks::DAMAGED) {
            return Ok(());
        }
        if info.sealed || info.codec != Codec::NONE {
            let number = number_of(block, &info);
            let (is, what) =
                if info.sealed { ("encrypted", "open_blocks()") } else { ("compressed", "decompress()") };
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
        self.writer.flush().map_err(|error| StageError::new(format!("cannot flush the destination: {error}")))
    }
}

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
