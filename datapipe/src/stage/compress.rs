//! zstd, both ways: one frame per block, so that blocks are compressed in parallel and read one at a time.

use zstd::bulk::{Compressor, Decompressor};

use crate::error::StageError;
use crate::pool::{Block, Codec, ContentClass};

use super::{MiddleStage, Stage, Transform, Verdict};

/// The zstd stages.
#[derive(Debug)]
pub struct Zstd;

impl Zstd {
    /// Compresses each block at `level`, 1 (fast) to 22 (small); others are moved to the nearest of them.
    ///
    /// A block that would not become smaller travels on as it is, and so does one in which content analysis found
    /// compressed data, one that is encrypted, and one that is compressed already.
    pub fn level<'a>(level: i32) -> MiddleStage<'a> {
        let level = level.clamp(1, *zstd::compression_level_range().end());
        Stage::transform("zstd", move |_| Compress { level, context: None })
    }

    /// Decompresses each block that [`level`](Self::level) has compressed, and passes the others on.
    pub fn decompress<'a>() -> MiddleStage<'a> {
        Stage::transform("unzstd", |_| Decompress { context: None })
    }
}

struct Compress {
    level: i32,
    /// Made for the first block and reused: a context costs more than a small block.
    context: Option<Compressor<'static>>,
}

impl Transform for Compress {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        let mut info = input.info();
        let hopeless = info.class == ContentClass::COMPRESSED;
        if hopeless || info.sealed || info.codec != Codec::NONE || input.len() < 2 {
            return Ok(Verdict::SendInput);
        }
        let context = match &mut self.context {
            Some(context) => context,
            None => self.context.insert(Compressor::new(self.level)?),
        };
        // One byte less than it was, or it is not worth keeping: then zstd says that the room is too small.
        let room = (input.len() - 1).min(output.spare().len());
        let Ok(len) = context.compress_to_buffer(input.bytes(), &mut output.spare()[..room]) else {
            return Ok(Verdict::SendInput);
        };
        output.grow(len)?;
        info.codec = Codec::ZSTD;
        info.plain_len = u32::try_from(input.len())?;
        output.set_info(info);
        Ok(Verdict::Send)
    }
}

struct Decompress {
    context: Option<Decompressor<'static>>,
}

impl Transform for Decompress {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        let mut info = input.info();
        let number = input.number();
        if info.sealed {
            return Err(StageError::new(format!(
                "block {number} is still encrypted; decrypt before you decompress"
            )));
        }
        match info.codec {
            Codec::NONE => return Ok(Verdict::SendInput),
            Codec::ZSTD => {}
            Codec(other) => {
                return Err(StageError::new(format!(
                    "block {number} is compressed with unknown algorithm {other}"
                )));
            }
        }
        let plain_len = info.plain_len as usize;
        let room = output.spare().len();
        if plain_len > room {
            return Err(StageError::new(format!(
                "block {number} has {plain_len} bytes uncompressed, but the pipe's buffers hold {room}; use larger ones"
            )));
        }
        let context = match &mut self.context {
            Some(context) => context,
            None => self.context.insert(Decompressor::new()?),
        };
        let len = context
            .decompress_to_buffer(input.bytes(), &mut output.spare()[..plain_len])
            .map_err(|error| StageError::new(format!("block {number} is damaged: {error}")))?;
        if len != plain_len {
            let what = format!("block {number} is damaged: {len} bytes uncompressed instead of {plain_len}");
            return Err(StageError::new(what));
        }
        output.grow(len)?;
        info.codec = Codec::NONE;
        output.set_info(info);
        Ok(Verdict::Send)
    }
}
