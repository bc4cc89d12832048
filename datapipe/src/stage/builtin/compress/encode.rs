//! One trait for the compression algorithms, and the stage that uses them.

use flate2::{Compression, FlushCompress, Status};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, ResetDirective, get_error_name};

use crate::error::StageError;
use crate::pool::{Block, Codec};
use crate::stage::{Transform, Verdict};

use super::probe::{self, Attempt, Probe};

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

    /// True if an attempt to compress noise costs so much that a probe should decide first. zstd's
    /// fast levels skip noise by themselves.
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

/// One algorithm at one level, reused for block after block.
pub(super) trait Encoder: Send {
    /// Compresses `from` into `to`, and returns the compressed length, or `None` if it does not
    /// fit.
    fn encode(&mut self, from: &[u8], to: &mut [u8]) -> Result<Option<usize>, StageError>;
}

struct ZstdEncoder(Compressor<'static>);

fn failed(code: usize) -> StageError {
    StageError::new(format!("zstd cannot compress: {}", get_error_name(code)))
}

/// Base 2 logarithms of the smallest window that zstd knows, and of the largest block.
const SMALLEST_WINDOW: u32 = 10;
const LARGEST_WINDOW: u32 = 26;

/// Text of zstd's error for an output that does not fit. The library exports no error code to
/// compare with.
const ZSTD_NO_ROOM: &str = "Destination buffer is too small";

impl Encoder for ZstdEncoder {
    fn encode(&mut self, from: &[u8], to: &mut [u8]) -> Result<Option<usize>, StageError> {
        // Matches may reach back to the start of the block. A level's own window is smaller: it is
        // made for streams, where the window has to be kept, whereas a block is in memory anyway.
        let window = from
            .len()
            .next_power_of_two()
            .ilog2()
            .clamp(SMALLEST_WINDOW, LARGEST_WINDOW);
        let context = self.0.context_mut();
        // zstd does not accept a parameter while a session is open, as it is after a block that did
        // not fit.
        context.reset(ResetDirective::SessionOnly).map_err(failed)?;
        context
            .set_parameter(CParameter::WindowLog(window))
            .map_err(failed)?;
        match self.0.compress_to_buffer(from, to) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.to_string() == ZSTD_NO_ROOM => Ok(None),
            Err(error) => Err(StageError::with_source("zstd cannot compress", error)),
        }
    }
}

struct DeflateEncoder {
    level: Compression,
    /// Kept as long as each block reaches its end. After one that has not, the library's reset
    /// leaves pending output in its own buffer, and the next block would overrun that buffer.
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
            status.map_err(|error| StageError::with_source("deflate cannot compress", error))?;
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
    /// Made for the first block and reused, because a context costs more than a small block.
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
        let worth_it = match probe::attempt(info.class, input.len()) {
            Attempt::Never => false,
            Attempt::Always => true,
            Attempt::IfProbeShrinks if !self.method.needs_probe() => true,
            Attempt::IfProbeShrinks => self.probe.shrinks(input.bytes(), output.spare())?,
        };
        if !worth_it {
            return Ok(Verdict::SendInput);
        }
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => self.encoder.insert(self.method.encoder()?),
        };
        // The result must save at least one byte to be worth keeping.
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

    /// Decompresses `bytes`.
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

    /// A library that reports success with an output buffer that is a byte too small would lose
    /// data silently.
    #[test]
    fn encoder_output_is_complete_or_none_for_every_buffer_size() {
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

    /// deflate once overran one of its own buffers when it was reused after a block that did not
    /// fit.
    #[test]
    fn encoder_can_be_reused_after_a_block_that_does_not_fit() {
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
