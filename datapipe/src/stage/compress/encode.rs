//! The algorithms behind one trait, and the stage that uses them.

use flate2::{Compression, FlushCompress, Status};
use zstd::bulk::Compressor;

use crate::error::StageError;
use crate::pool::{Block, Codec};
use crate::stage::{Transform, Verdict};

use super::sample::{self, Outlook, Sampler};

/// An algorithm and its level.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Zstd(i32),
    Deflate(u32),
}

impl Method {
    fn codec(self) -> Codec {
        match self {
            Self::Zstd(_) => Codec::ZSTD,
            Self::Deflate(_) => Codec::DEFLATE,
        }
    }

    /// The same algorithm where it is fastest.
    pub(super) fn cheapest(self) -> Self {
        match self {
            Self::Zstd(_) => Self::Zstd(1),
            Self::Deflate(_) => Self::Deflate(1),
        }
    }

    pub(super) fn encoder(self) -> Result<Box<dyn Encoder>, StageError> {
        Ok(match self {
            Self::Zstd(level) => Box::new(ZstdEncoder(Compressor::new(level)?)),
            Self::Deflate(level) => {
                Box::new(DeflateEncoder(flate2::Compress::new(Compression::new(level), false)))
            }
        })
    }
}

/// One algorithm at one level, used for one block after the other.
pub(super) trait Encoder: Send {
    /// Compresses `from` into `to`, and returns how much that was; nothing if it does not fit.
    fn encode(&mut self, from: &[u8], to: &mut [u8]) -> Result<Option<usize>, StageError>;
}

struct ZstdEncoder(Compressor<'static>);

/// What zstd calls an output that does not fit. The library offers no number that we could compare with.
const ZSTD_NO_ROOM: &str = "Destination buffer is too small";

impl Encoder for ZstdEncoder {
    fn encode(&mut self, from: &[u8], to: &mut [u8]) -> Result<Option<usize>, StageError> {
        match self.0.compress_to_buffer(from, to) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.to_string() == ZSTD_NO_ROOM => Ok(None),
            Err(error) => Err(StageError::new(format!("zstd cannot compress: {error}"))),
        }
    }
}

struct DeflateEncoder(flate2::Compress);

impl Encoder for DeflateEncoder {
    fn encode(&mut self, from: &[u8], to: &mut [u8]) -> Result<Option<usize>, StageError> {
        self.0.reset();
        let status = self.0.compress(from, to, FlushCompress::Finish);
        let status = status.map_err(|error| StageError::new(format!("deflate cannot compress: {error}")))?;
        Ok(if status == Status::StreamEnd { Some(usize::try_from(self.0.total_out())?) } else { None })
    }
}

/// The stage, for every algorithm.
pub(super) struct Compress {
    method: Method,
    /// Made for the first block and reused: a context costs more than a small block.
    encoder: Option<Box<dyn Encoder>>,
    sampler: Sampler,
}

impl Compress {
    pub(super) fn new(method: Method) -> Self {
        Self { method, encoder: None, sampler: Sampler::new(method) }
    }
}

impl Transform for Compress {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        let mut info = input.info();
        if info.sealed || info.codec != Codec::NONE || input.len() < 2 {
            return Ok(Verdict::SendInput);
        }
        let worth_it = match sample::outlook(info.class, input.len()) {
            Outlook::Hopeless => false,
            Outlook::Good => true,
            Outlook::Unknown => self.sampler.shrinks(input.bytes(), output.spare())?,
        };
        if !worth_it {
            return Ok(Verdict::SendInput);
        }
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => self.encoder.insert(self.method.encoder()?),
        };
        // One byte less than it was, or it is not worth keeping.
        let room = (input.len() - 1).min(output.spare().len());
        let Some(len) = encoder.encode(input.bytes(), &mut output.spare()[..room])? else {
            return Ok(Verdict::SendInput);
        };
        output.grow(len)?;
        info.codec = self.method.codec();
        info.plain_len = u32::try_from(input.len())?;
        output.set_info(info);
        Ok(Verdict::Send)
    }
}
