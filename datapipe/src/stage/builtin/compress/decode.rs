//! Decompression, for every algorithm. Its input is untrusted.

use std::mem;

use crate::error::StageError;
use crate::pool::{Block, Codec, Marks};
use crate::stage::damage_log::DamageLog;
use crate::stage::{Transform, Verdict};

#[cfg(feature = "deflate")]
use super::deflate_codec::DeflateDecoder;
#[cfg(feature = "zstd")]
use super::zstd_codec::ZstdDecoder;

/// The stage, for every algorithm.
pub(super) struct Decompress {
    /// Each context is made for the first block that needs it, and reused.
    #[cfg(feature = "zstd")]
    zstd: Option<ZstdDecoder>,
    #[cfg(feature = "deflate")]
    deflate: Option<DeflateDecoder>,
    /// Private copy of the compressed data: another process may change the block while a library
    /// that does not expect that reads lengths and distances from it.
    input: Vec<u8>,
    /// Log of damage, if the stage is to continue after damage.
    log: Option<DamageLog>,
}

impl Decompress {
    pub(super) fn new(log: Option<DamageLog>) -> Self {
        Self {
            #[cfg(feature = "zstd")]
            zstd: None,
            #[cfg(feature = "deflate")]
            deflate: None,
            input: Vec::new(),
            log,
        }
    }

    /// Decompresses `from` into `to`, which it must fill exactly. The inner error describes damage
    /// to the block, the outer one a failure of the stage.
    #[cfg_attr(
        not(any(feature = "deflate", feature = "zstd")),
        allow(unused_variables, reason = "such a build decompresses nothing")
    )]
    fn decode(
        &mut self,
        codec: Codec,
        from: &[u8],
        to: &mut [u8],
    ) -> Result<Result<(), String>, StageError> {
        if to.is_empty() {
            return Ok(Err(
                "it is compressed, but its length before compression is 0".to_owned(),
            ));
        }
        match codec {
            #[cfg(feature = "zstd")]
            Codec::ZSTD => {
                let decoder = match &mut self.zstd {
                    Some(decoder) => decoder,
                    None => self.zstd.insert(ZstdDecoder::new()?),
                };
                Ok(decoder.decode(from, to))
            }
            #[cfg(feature = "deflate")]
            Codec::DEFLATE => {
                let decoder = self.deflate.get_or_insert_with(DeflateDecoder::new);
                Ok(decoder.decode(from, to))
            }
            #[cfg(not(feature = "zstd"))]
            Codec::ZSTD => Err(omitted("zstd")),
            #[cfg(not(feature = "deflate"))]
            Codec::DEFLATE => Err(omitted("deflate")),
            Codec(other) => Ok(Err(format!(
                "it is compressed with algorithm {other}, which this version does not know; \
                 use a newer one"
            ))),
        }
    }
}

impl Transform for Decompress {
    /// Passes on what is not compressed, and decompresses the rest into exactly `plain_len` bytes
    /// of the output. With a log, a damaged block is reported and travels on without content,
    /// marked as damaged. Without one, it stops the pipe.
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        let mut info = input.info();
        let number = input.archive_number();
        let lost = info.marks.intersects(Marks::DAMAGED | Marks::REJECTED);
        if lost {
            return Ok(Verdict::SendInput);
        }
        if info.sealed {
            return Err(StageError::new(format!(
                "block {number} is still encrypted; decrypt before you decompress"
            )));
        }
        if info.codec == Codec::NONE {
            return Ok(Verdict::SendInput);
        }
        let (plain_len, room) = (info.plain_len as usize, output.spare().len());
        // Before anything is decompressed: the block's claimed length limits what is written, and
        // must fit into the buffer.
        let decoded = match output.spare().get_mut(..plain_len) {
            Some(to) => {
                let mut from = mem::take(&mut self.input);
                let decoded = self.decode(info.codec, input.shared().copy_into(&mut from)?, to);
                self.input = from;
                decoded?
            }
            None => Err(format!(
                "its length before compression is {plain_len} bytes, but the pipe's buffers hold \
                 {room}; use larger ones if that length is right"
            )),
        };
        info.codec = Codec::NONE;
        match (decoded, &self.log) {
            (Ok(()), _) => {
                output.grow(plain_len)?;
            }
            (Err(what), Some(log)) => {
                log.report(number, format!("does not decompress: {what}"));
                info.marks |= Marks::DAMAGED;
            }
            (Err(what), None) => {
                return Err(StageError::new(format!(
                    "block {number} does not decompress: {what}"
                )));
            }
        }
        output.set_info(info);
        Ok(Verdict::Send)
    }
}

/// The error for a block that only a build with the feature `codec` can decompress. The block is
/// intact, so the stage fails instead of reporting damage.
#[cfg(not(all(feature = "deflate", feature = "zstd")))]
fn omitted(codec: &str) -> StageError {
    StageError::new(format!(
        "a block is compressed with {codec}, which this program was built without; \
         enable the feature \"{codec}\" of the package datapipe-sdk"
    ))
}
