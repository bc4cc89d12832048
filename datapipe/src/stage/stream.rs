//! Any reader as head, any writer as tail.

use std::io::{self, Read, Write};

use crate::error::StageError;
use crate::pool::{Block, HeadPort, TailPort};

use super::{Fill, Head, Tail};

/// Reads a stream into blocks: a file, standard input, a socket, anything that can be read.
///
/// Every block but the last is full, so the cut does not depend on how the reader delivers its bytes.
#[derive(Debug)]
pub struct StreamHead<R> {
    reader: R,
    offset: u64,
}

impl<R: Read + Send> StreamHead<R> {
    /// A head that reads `reader` to its end.
    pub fn new(reader: R) -> Self {
        Self { reader, offset: 0 }
    }
}

impl<R: Read + Send> Head for StreamHead<R> {
    fn name(&self) -> &str {
        "stream-head"
    }

    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let mut info = block.info();
        info.offset = self.offset;
        while !block.spare().is_empty() {
            let n = match self.reader.read(block.spare()) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let at = self.offset + block.len() as u64;
                    return Err(StageError::new(format!("cannot read the source at byte {at}: {error}")));
                }
            };
            block.grow(n)?;
        }
        self.offset += block.len() as u64;
        block.set_info(info);
        Ok(if block.is_empty() { Fill::End } else { Fill::Block })
    }
}

/// Writes the data of every block to a stream.
#[derive(Debug)]
pub struct StreamTail<W> {
    writer: W,
    written: u64,
}

impl<W: Write + Send> StreamTail<W> {
    /// A tail that writes to `writer`, and flushes it when the stream has ended well.
    pub fn new(writer: W) -> Self {
        Self { writer, written: 0 }
    }
}

impl<W: Write + Send> Tail for StreamTail<W> {
    fn name(&self) -> &str {
        "stream-tail"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.writer.write_all(block.bytes()).map_err(|error| {
            StageError::new(format!("cannot write to the destination at byte {}: {error}", self.written))
        })?;
        self.written += block.len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.writer.flush().map_err(|error| StageError::new(format!("cannot flush the destination: {error}")))
    }
}

/// Writes into a head's port as if it were a stream: for sources that push.
///
/// Blocks are sent as they fill up. Call [`finish`](Self::finish) for the last one: a head that drops its writer
/// with data in it does not end well.
#[derive(Debug)]
pub struct BlockWriter<'p> {
    port: &'p HeadPort,
    block: Option<Block>,
    offset: u64,
}

impl<'p> BlockWriter<'p> {
    /// A writer that sends what it is given on `port`.
    pub fn new(port: &'p HeadPort) -> Self {
        Self { port, block: None, offset: 0 }
    }

    /// Sends what is left.
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
            None => self.block.insert(self.port.alloc().map_err(io::Error::other)?),
        };
        let n = bytes.len().min(block.spare().len());
        block.put(&bytes[..n]).map_err(io::Error::other)?;
        if block.spare().is_empty() {
            self.send()?;
        }
        Ok(n)
    }

    /// Does nothing: blocks are sent when they are full, and the last one by [`finish`](BlockWriter::finish).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads from a tail's port as if it were a stream: for destinations that pull.
#[derive(Debug)]
pub struct BlockReader<'p> {
    port: &'p TailPort,
    block: Option<Block>,
    position: usize,
}

impl<'p> BlockReader<'p> {
    /// A reader of the data of all blocks that arrive on `port`. It ends where the stream ends.
    pub fn new(port: &'p TailPort) -> Self {
        Self { port, block: None, position: 0 }
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
            // The old block goes back before the next one is waited for.
            self.block = None;
            self.block = self.port.receive().map_err(io::Error::other)?;
            if self.block.is_none() {
                return Ok(0);
            }
        }
    }
}
