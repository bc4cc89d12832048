//! Decompression, for every algorithm. Its input is untrusted.

use flate2::{FlushDecompress, Status};
use zstd::bulk::Decompressor;
use zstd::zstd_safe::find_frame_compressed_size;

use crate::error::StageError;
use crate::pool::{Block, Codec, Marks};
use crate::stage::damage_log::DamageLog;
use crate::stage::{Transform, Verdict};

/// The stage, for every algorithm.
pub(super) struct Decompress {
    /// Each context is made for the first block that needs it, and reused.
    zstd: Option<Decompressor<'static>>,
    deflate: Option<flate2::Decompress>,
    /// Log of damage, if the stage is to continue after damage.
    log: Option<DamageLog>,
}

impl Decompress {
    pub(super) fn new(log: Option<DamageLog>) -> Self {
        Self {
            zstd: None,
            deflate: None,
            log,
        }
    }

    /// Decompresses `from` into `to`, which it must fill exactly. The inner error describes damage
    /// to the block, the outer one a failure of the stage.
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
            Codec::ZSTD => {
                let context = match &mut self.zstd {
                    Some(context) => context,
                    None => self.zstd.insert(Decompressor::new()?),
                };
                Ok(decode_zstd(context, from, to))
            }
            Codec::DEFLATE => {
                let context = self
                    .deflate
                    .get_or_insert_with(|| flate2::Decompress::new(false));
                Ok(decode_deflate(context, from, to))
            }
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
            Some(to) => self.decode(info.codec, input.bytes(), to)?,
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

fn decode_zstd(
    context: &mut Decompressor<'static>,
    from: &[u8],
    to: &mut [u8],
) -> Result<(), String> {
    // The library would continue with a second frame.
    match find_frame_compressed_size(from) {
        Ok(len) if len == from.len() => {}
        Ok(len) => {
            return Err(format!(
                "its zstd frame has {len} bytes, but {} are there",
                from.len()
            ));
        }
        Err(_) => {
            return Err(format!(
                "its {} bytes are not a whole zstd frame",
                from.len()
            ));
        }
    }
    let len = context
        .decompress_to_buffer(from, to)
        .map_err(|error| format!("zstd reports: {error}"))?;
    if len == to.len() {
        Ok(())
    } else {
        Err(format!("it has {len} bytes instead of {}", to.len()))
    }
}

fn decode_deflate(
    context: &mut flate2::Decompress,
    from: &[u8],
    to: &mut [u8],
) -> Result<(), String> {
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
