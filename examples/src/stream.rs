//! Blocks as the stream that they were, and what of it is missing.

use std::cell::Cell;
use std::io::{self, Read};

use datapipe::prelude::*;
use datapipe::wire::What;

/// Follows the blocks of an archive through the stream that they make up.
#[derive(Debug)]
struct Thread {
    /// Longest block.
    block_len: u32,
    /// Where the next byte belongs.
    at: u64,
    /// Number of the block behind the last whole one.
    next: u64,
}

impl Thread {
    fn new(block_len: u32) -> Self {
        Self { block_len, at: 0, next: 0 }
    }

    /// How much is missing before this block; `None` if it is none of the stream's.
    ///
    /// More than the blocks that are missing can have had is a forgery, which would be zeros without end.
    fn gap(&mut self, block: &Block) -> Result<Option<u64>, String> {
        let info = block.info();
        if info.marks.contains(Marks::DAMAGED) {
            return Ok(None);
        }
        let number = number_of(block);
        let missing = number.saturating_sub(self.next);
        self.next = number.saturating_add(1);
        if info.kind != What::Data.code() {
            return Ok(None);
        }
        let gap = info.offset.checked_sub(self.at);
        let most = missing.saturating_mul(self.block_len.into());
        let Some(gap) = gap.filter(|&gap| gap <= most) else {
            return Err(format!("belongs to byte {} of the stream, but stands at {}", info.offset, self.at));
        };
        self.at = info.offset.saturating_add(block.len() as u64);
        Ok(Some(gap))
    }
}

/// The number that the archive's writer gave a block.
fn number_of(block: &Block) -> u64 {
    block.info().sequence.unwrap_or_else(|| block.number())
}

/// Reads the stream from a tail's port, with zeros in the place of what is missing.
#[derive(Debug)]
pub struct Salvaged<'p> {
    port: &'p TailPort,
    thread: Thread,
    block: Option<Block>,
    used: usize,
    /// Zeros that come before the block.
    zeros: u64,
    lost: &'p Cell<u64>,
}

impl<'p> Salvaged<'p> {
    /// The stream of blocks of at most `block_len` bytes. Zeros that were read are added to `lost`.
    pub fn new(port: &'p TailPort, block_len: u32, lost: &'p Cell<u64>) -> Self {
        Self { port, thread: Thread::new(block_len), block: None, used: 0, zeros: 0, lost }
    }

    /// Receives all that is left, so that all damage is found.
    ///
    /// # Errors
    ///
    /// If the pipe was stopped.
    pub fn drain(mut self) -> Result<(), StageError> {
        self.block = None;
        while self.port.receive()?.is_some() {}
        Ok(())
    }

    fn copy(&mut self, out: &mut [u8]) -> usize {
        if self.zeros > 0 {
            let n = out.len().min(usize::try_from(self.zeros).unwrap_or(usize::MAX));
            out[..n].fill(0);
            self.zeros -= n as u64;
            self.lost.set(self.lost.get() + n as u64);
            return n;
        }
        let rest = self.block.as_ref().map_or(&[][..], |block| &block.bytes()[self.used..]);
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        self.used += n;
        n
    }
}

impl Read for Salvaged<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.copy(out);
            if n > 0 || out.is_empty() {
                return Ok(n);
            }
            // The old block goes back before the next one is waited for.
            self.block = None;
            let Some(block) = self.port.receive().map_err(io::Error::other)? else { return Ok(0) };
            let gap = self.thread.gap(&block);
            let gap = gap.map_err(|what| io::Error::other(format!("block {} {what}", number_of(&block))))?;
            if let Some(gap) = gap {
                (self.block, self.used, self.zeros) = (Some(block), 0, gap);
            }
        }
    }
}

/// Looks at every block, and keeps nothing.
#[derive(Debug)]
pub struct Check<F> {
    thread: Thread,
    log: DamageLog,
    /// Is told the length of each block that is whole.
    whole: F,
}

impl<F: FnMut(u64) + Send> Check<F> {
    /// A tail that reports to `log` what does not fit, and to `whole` the length of each block that does.
    pub fn new(block_len: u32, log: &DamageLog, whole: F) -> Self {
        Self { thread: Thread::new(block_len), log: log.clone(), whole }
    }
}

impl<F: FnMut(u64) + Send> Tail for Check<F> {
    fn name(&self) -> &str {
        "check"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let damaged = block.info().marks.contains(Marks::DAMAGED);
        match self.thread.gap(block) {
            Ok(_) if damaged => {}
            Ok(_) => (self.whole)(block.len() as u64),
            Err(what) => self.log.report(number_of(block), what),
        }
        Ok(())
    }
}
