//! deflate: an encoder and a decoder, each reused for block after block.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::error::StageError;

use super::encode::Encoder;

/// Compresses at one level.
pub(super) struct DeflateEncoder {
    level: Compression,
    /// Kept as long as each block reaches its end. After one that has not, the library's reset
    /// leaves pending output in its own buffer, and the next block would overrun that buffer.
    context: Option<Compress>,
}

impl DeflateEncoder {
    pub(super) fn new(level: u32) -> Self {
        Self {
            level: Compression::new(level),
            context: None,
        }
    }
}

impl Encoder for DeflateEncoder {
    fn encode(&mut self, from: &[u8], to: &mut [u8]) -> Result<Option<usize>, StageError> {
        let mut context = self
            .context
            .take()
            .unwrap_or_else(|| Compress::new(self.level, false));
        context.reset();
        let status = context.compress(from, to, FlushCompress::Finish);
        let status =
            status.map_err(|error| StageError::with_source("deflate cannot compress", error))?;
        if status != Status::StreamEnd {
            return Ok(None);
        }
        let len = usize::try_from(context.total_out())?;
        self.context = Some(context);
        Ok(Some(len))
    }
}

/// Decompresses streams.
pub(super) struct DeflateDecoder(Decompress);

impl DeflateDecoder {
    pub(super) fn new() -> Self {
        Self(Decompress::new(false))
    }

    /// Decompresses `from` into `to`, which it must fill exactly. The error describes damage.
    pub(super) fn decode(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), String> {
        let context = &mut self.0;
        context.reset(false);
        let decoded = context.decompress(from, to, FlushDecompress::Finish);
        let status = decoded.map_err(|error| format!("deflate reports: {error}"))?;
        let (read, written) = (context.total_in(), context.total_out());
        if status != Status::StreamEnd && written == to.len() as u64 {
            Err(format!(
                "it has more than {written} bytes, or its end is missing"
            ))
        } else if status != Status::StreamEnd {
            Err(format!(
                "its deflate stream has no end after {} bytes",
                from.len()
            ))
        } else if read != from.len() as u64 {
            Err(format!(
                "its deflate stream has {read} bytes, but {} are there",
                from.len()
            ))
        } else if written != to.len() as u64 {
            Err(format!("it has {written} bytes instead of {}", to.len()))
        } else {
            Ok(())
        }
    }
}
