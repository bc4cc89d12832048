//! One trait for the compression algorithms, and the stage that uses them.

use crate::error::StageError;
use crate::pool::{Block, Codec};
use crate::stage::{Transform, Verdict};

#[cfg(feature = "deflate")]
use super::deflate_codec::DeflateEncoder;
use super::probe::{self, Attempt, Probe};
#[cfg(feature = "zstd")]
use super::zstd_codec::ZstdEncoder;

/// An algorithm and its level.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    #[cfg(feature = "zstd")]
    Zstd(i32),
    #[cfg(feature = "deflate")]
    Deflate(u32),
}

impl Method {
    fn codec(self) -> Codec {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd(_) => Codec::ZSTD,
            #[cfg(feature = "deflate")]
            Self::Deflate(_) => Codec::DEFLATE,
        }
    }

    /// True if an attempt to compress noise costs so much that a probe should decide first. zstd's
    /// fast levels skip noise by themselves, and nothing else skips it faster.
    fn needs_probe(self) -> bool {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd(level) => level >= 10,
            #[cfg(feature = "deflate")]
            Self::Deflate(_) => true,
        }
    }

    pub(super) fn encoder(self) -> Result<Box<dyn Encoder>, StageError> {
        Ok(match self {
            #[cfg(feature = "zstd")]
            Self::Zstd(level) => Box::new(ZstdEncoder::new(level)?),
            #[cfg(feature = "deflate")]
            Self::Deflate(level) => Box::new(DeflateEncoder::new(level)),
        })
    }
}

/// One algorithm at one level, reused for block after block.
pub(super) trait Encoder: Send {
    /// Compresses `from` into `to`, and returns the compressed length, or `None` if it does not
    /// fit.
    fn encode(&mut self, from: &[u8], to: &mut [u8]) -> Result<Option<usize>, StageError>;
}

/// The stage, for every algorithm.
pub(super) struct Compress {
    method: Method,
    /// Made for the first block and reused, because a context costs more than a small block.
    encoder: Option<Box<dyn Encoder>>,
    probe: Probe,
    /// Private copy of the data: another process may change the block while a library that does
    /// not expect that compares and counts its bytes.
    input: Vec<u8>,
}

impl Compress {
    pub(super) fn new(method: Method) -> Self {
        Self {
            method,
            encoder: None,
            probe: Probe::default(),
            input: Vec::new(),
        }
    }
}

impl Transform for Compress {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        let mut info = input.info();
        if info.sealed || info.codec != Codec::NONE || input.len() < 2 {
            return Ok(Verdict::SendInput);
        }
        let attempt = probe::attempt(info.class, input.len());
        if attempt == Attempt::Never {
            return Ok(Verdict::SendInput);
        }
        let from = input.shared().copy_into(&mut self.input)?;
        if attempt == Attempt::IfProbeShrinks
            && self.method.needs_probe()
            && !self.probe.shrinks(from, output.spare())?
        {
            return Ok(Verdict::SendInput);
        }
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => self.encoder.insert(self.method.encoder()?),
        };
        // The result must save at least one byte to be worth keeping.
        let room = (input.len() - 1).min(output.spare().len());
        let Some(len) = encoder.encode(from, &mut output.spare()[..room])? else {
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

    /// zstd has other tables for large blocks, and keeps what it was set to.
    #[test]
    fn frame_does_not_depend_on_the_blocks_before() {
        let mut random = Random::new(10);
        let mut words = vec![0; 500 * 6];
        random.fill(&mut words);
        let text: Vec<u8> = (0..100_000)
            .flat_map(|_| &words[random.below(500) as usize * 6..][..6])
            .copied()
            .collect();
        for level in [1, 3, 9] {
            let method = Method::Zstd(level);
            let mut used = method.encoder().unwrap();
            let frame = |encoder: &mut Box<dyn Encoder>, len| {
                let mut out = vec![0; text.len()];
                let len = encoder.encode(&text[..len], &mut out).unwrap().unwrap();
                out.truncate(len);
                out
            };
            for len in [text.len(), 10_000, 256 << 10, (256 << 10) + 1, 1000] {
                let found = frame(&mut used, len);
                assert!(decoded(method, &found, len) == text[..len]);
                let fresh = frame(&mut method.encoder().unwrap(), len);
                assert!(found == fresh, "level {level}, {len} bytes");
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
