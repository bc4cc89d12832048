//! The algorithms behind one trait, and the stage that uses them.

use flate2::{Compression, FlushCompress, Status};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, ResetDirective, get_error_name};

use crate::error::StageError;
use crate::pool::{Block, Codec};
use crate::stage::{Transform, Verdict};

use super::probe::{self, Outlook, Probe};

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

    /// Whether an attempt at noise costs so much that a probe should decide. zstd's fast levels
    /// skip it by themselves.
    fn needs_probe(self) -> bool {
        !matches!(self, Self::Zstd(..10))
    }

    pub(super) fn encoder(self) -> Result<Box<dyn Encoder>, StageError> {
        Ok(match self {
            Self::Zstd(level) => Box::new(ZstdEncoder(Compressor::new(level)?)),
            Self::Deflate(level) => Box::new(DeflateEncoder {
                level: Compression::new(level),
                context: None,
            }),
        })
    }
}

/// One algorithm at one level, used for one block after the other.
pub(super) trait Encoder: Send {
    /// Compresses `from` into `to`, and returns how much that was; nothing if it does not fit.
    fn encode(&mut self, from: &[u8], to: &mut [u8]) -> Result<Option<usize>, StageError>;
}

struct ZstdEncoder(Compressor<'static>);

fn failed(code: usize) -> StageError {
    StageError::new(format!("zstd cannot compress: {}", get_error_name(code)))
}

/// Base 2 logarithms of the smallest window that zstd knows, and of the largest block.
const SMALLEST_WINDOW: u32 = 10;
const LARGEST_WINDOW: u32 = 26;

/// What zstd calls an output that does not fit. The library offers no number that we could compare
/// with.
const ZSTD_NO_ROOM: &str = "Destination buffer is too small";

impl Encoder for ZstdEncoder {
    fn encode(&mut self, from: &[u8], to: &mut [u8]) -> Result<Option<usize>, StageError> {
        // Matches may reach back to the start of the block. A level's own window is smaller, for
        // streams, of which it has to be kept; a block is in memory anyway.
        let window = from
            .len()
            .next_power_of_two()
            .ilog2()
            .clamp(SMALLEST_WINDOW, LARGEST_WINDOW);
        let context = self.0.context_mut();
        // What was left of a block that did not fit forbids to set it.
        context.reset(ResetDirective::SessionOnly).map_err(failed)?;
        context
            .set_parameter(CParameter::WindowLog(window))
            .map_err(failed)?;
        match self.0.compress_to_buffer(from, to) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.to_string() == ZSTD_NO_ROOM => Ok(None),
            Err(error) => Err(StageError::new(format!("zstd cannot compress: {error}"))),
        }
    }
}

struct DeflateEncoder {
    level: Compression,
    /// Kept as long as each block has found its end. After one that has not, the library's reset
    /// leaves what it had pending in its own buffer, and the next block would run over the end of
    /// that.
    context: Option<flate2::Compress>,
}

impl Encoder for DeflateEncoder {
    fn encode(&mut self, from: &[u8], to: &mut [u8]) -> Result<Option<usize>, StageError> {
        let mut context = self
            .context
            .take()
            .unwrap_or_else(|| flate2::Compress::new(self.level, false));
        context.reset();
        let status = context.compress(from, to, FlushCompress::Finish);
        let status =
            status.map_err(|error| StageError::new(format!("deflate cannot compress: {error}")))?;
        if status != Status::StreamEnd {
            return Ok(None);
        }
        let len = usize::try_from(context.total_out())?;
        self.context = Some(context);
        Ok(Some(len))
    }
}

/// The stage, for every algorithm.
pub(super) struct Compress {
    method: Method,
    /// Made for the first block and reused: a context costs more than a small block.
    encoder: Option<Box<dyn Encoder>>,
    probe: Probe,
}

impl Compress {
    pub(super) fn new(method: Method) -> Self {
        Self {
            method,
            encoder: None,
            probe: Probe::default(),
        }
    }
}

impl Transform for Compress {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        let mut info = input.info();
        if info.sealed || info.codec != Codec::NONE || input.len() < 2 {
            return Ok(Verdict::SendInput);
        }
        let worth_it = match probe::outlook(info.class, input.len()) {
            Outlook::Hopeless => false,
            Outlook::Good => true,
            Outlook::Unknown if !self.method.needs_probe() => true,
            Outlook::Unknown => self.probe.shrinks(input.bytes(), output.spare())?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Random;

    /// What `bytes` of compressed data were.
    fn decoded(method: Method, bytes: &[u8], plain_len: usize) -> Vec<u8> {
        match method {
            Method::Zstd(_) => zstd::bulk::decompress(bytes, plain_len).unwrap(),
            Method::Deflate(_) => {
                let mut plain = Vec::new();
                std::io::Read::read_to_end(
                    &mut flate2::read::DeflateDecoder::new(bytes),
                    &mut plain,
                )
                .unwrap();
                plain
            }
        }
    }

    /// A library that says "done" when the room was a byte too small would lose data without a
    /// word.
    #[test]
    fn whatever_the_room_it_is_whole_or_nothing() {
        let mut random = Random::new(8);
        for level in 1..10 {
            for method in [Method::Zstd(level), Method::Deflate(level as u32)] {
                let mut encoder = method.encoder().unwrap();
                for len in [1, 24, 300, 900] {
                    let mut data = vec![b'a'; len];
                    random.fill(&mut data[len / 3..]);
                    let mut out = vec![0; 2 * len + 100];
                    let full = encoder
                        .encode(&data, &mut out)
                        .unwrap()
                        .expect("room enough");
                    for room in full.saturating_sub(20)..full + 20 {
                        let got = encoder.encode(&data, &mut out[..room]).unwrap();
                        assert!(
                            got.is_some() || room < full + 9,
                            "{method:?}: {full} bytes into {room}"
                        );
                        if let Some(len) = got {
                            assert!(
                                decoded(method, &out[..len], data.len()) == data,
                                "{method:?} into {room}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// deflate once ran over the end of a buffer of its own, when it was used again after a block
    /// that did not fit.
    #[test]
    fn a_block_that_does_not_fit_leaves_nothing_behind() {
        let mut noise = vec![0; 300 << 10];
        Random::new(9).fill(&mut noise);
        for level in 1..10 {
            for method in [Method::Zstd(level), Method::Deflate(level as u32)] {
                let mut encoder = method.encoder().unwrap();
                let mut out = vec![0; 400 << 10];
                for len in [16 << 10, 64 << 10, 300 << 10, 100 << 10] {
                    for room in [len * 97 / 100, len - 1, len / 2, 1] {
                        assert_eq!(
                            encoder.encode(&noise[..len], &mut out[..room]).unwrap(),
                            None,
                            "{method:?}"
                        );
                    }
                    let len_out = encoder
                        .encode(&noise[..len], &mut out)
                        .unwrap()
                        .expect("room enough");
                    assert!(
                        decoded(method, &out[..len_out], len) == noise[..len],
                        "{method:?}"
                    );
                }
            }
        }
    }
}
