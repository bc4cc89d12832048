//! The blocks that a stage makes from one.

use crate::error::StageError;
use crate::pool::{Block, Codec, MiddlePort};
use crate::words::count_of;

/// The blocks that a [`FlatMap`](super::FlatMap) makes from its input.
///
/// One block is filled at a time. It is sent when the next one is begun, and the last one when the
/// stage returns; a block that is still empty then, too. The blocks of all inputs arrive in the
/// order of the inputs and, for one input, in the order in which they were begun.
#[derive(Debug)]
pub struct Outputs<'a> {
    port: &'a MiddlePort,
    input: &'a Block,
    /// The block that is being filled, the last of those begun.
    current: Option<Block>,
    /// Number of blocks begun.
    count: u32,
    limit: u32,
    /// Text of the first error that a method returned: the stage must not ignore it.
    failure: Option<String>,
}

impl<'a> Outputs<'a> {
    pub(in crate::stage) fn new(port: &'a MiddlePort, input: &'a Block) -> Self {
        Self {
            port,
            input,
            current: None,
            count: 0,
            limit: port.core().parts(),
            failure: None,
        }
    }

    /// Number of blocks begun so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Number of blocks that the stage may make from one input, as it was described.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Sends the block that was begun last, if any, and begins another one. It is empty; the
    /// information that earlier stages attached to the input has been copied to it, except for the
    /// offset, a sequence number, and a length before compression. Waits until this instance may
    /// have a buffer.
    ///
    /// # Errors
    ///
    /// The input has had all [`limit`](Self::limit) outputs, or the pipe stops. Return the error:
    /// a stage that ignores it fails nevertheless.
    pub fn next_block(&mut self) -> Result<&mut Block, StageError> {
        let begun = self.begin();
        self.noted(begun)?;
        let number = self.input.number();
        let missing = || StageError::new(format!("no output of block {number} was begun"));
        self.current.as_mut().ok_or_else(missing)
    }

    /// The block that was begun last, if any. A stage that cannot keep what
    /// [`next_block`](Self::next_block) has returned finds it here: one that other code fills, in
    /// another language for example.
    pub fn current_block(&mut self) -> Option<&mut Block> {
        self.current.as_mut()
    }

    /// Appends `bytes`, a record that is not to be cut, to the block that was begun last; begins
    /// another one first if there is none, or if the record does not fit any more.
    ///
    /// # Errors
    ///
    /// As [`next_block`](Self::next_block); or the record is longer than a block. Return the error:
    /// a stage that ignores it fails nevertheless.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        let put = self.put_record(bytes);
        self.noted(put)
    }

    /// Refuses an input whose bytes cannot be divided: the marks of a compressed or encrypted block
    /// would be on blocks that are neither.
    pub(in crate::stage) fn check_input(&self) -> Result<(), StageError> {
        let info = self.input.info();
        let is = match (info.codec, info.sealed) {
            (_, true) => "encrypted",
            (Codec::NONE, false) => return Ok(()),
            _ => "compressed",
        };
        Err(StageError::new(format!(
            "block {} is {is}, and cannot be made into several: put this stage before the one that \
             compresses or encrypts",
            self.input.number()
        )))
    }

    /// Answers an input that has lost its content, or is a control block, with one block that is
    /// the same.
    pub(in crate::stage) fn pass_on(&mut self) -> Result<(), StageError> {
        self.begin()?;
        if let Some(block) = &mut self.current {
            block.put(self.input.bytes())?;
            let mut info = self.input.info();
            if !info.is_control() {
                info.sequence = None;
            }
            block.set_info(info);
        }
        Ok(())
    }

    fn put_record(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        let (len, capacity) = (bytes.len(), self.input.capacity());
        if len > capacity {
            return Err(StageError::new(format!(
                "block {} gave a record of {len} bytes, but a block has {capacity}; set a larger \
                 buffer_size",
                self.input.number()
            )));
        }
        let current = self.current.as_mut();
        if current.is_none_or(|block| block.spare().len() < len) {
            self.begin()?;
        }
        if let Some(block) = &mut self.current {
            block.put(bytes)?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), StageError> {
        if self.count == self.limit {
            return Err(StageError::new(format!(
                "block {} gave more than {}, the limit of this stage; describe it with a higher \
                 one",
                self.input.number(),
                count_of(self.limit, "output")
            )));
        }
        self.send_current()?;
        let mut block = self.port.alloc()?;
        let mut info = self.input.info();
        // Several blocks cannot have one place. The stage after this one sets their offsets.
        (info.offset, info.sequence, info.plain_len) = (0, None, 0);
        block.set_info(info);
        self.current = Some(block);
        self.count += 1;
        Ok(())
    }

    fn send_current(&mut self) -> Result<(), StageError> {
        if let Some(block) = self.current.take() {
            let core = self.port.core();
            core.send_part(block, self.input, self.count - 1)?;
        }
        Ok(())
    }

    /// Sends the last block, or a vacant one if there is none, and completes the answer.
    pub(in crate::stage) fn end(mut self) -> Result<(), StageError> {
        if let Some(failure) = self.failure.take() {
            return Err(StageError::new(failure));
        }
        if self.count == 0 {
            self.begin()?;
            self.current.iter_mut().for_each(Block::make_vacant);
        }
        self.send_current()?;
        Ok(self.port.core().end_parts(self.input, self.count)?)
    }

    /// Notes the first error.
    fn noted<T>(&mut self, result: Result<T, StageError>) -> Result<T, StageError> {
        if let (Err(error), None) = (&result, &self.failure) {
            self.failure = Some(error.to_string());
        }
        result
    }
}
