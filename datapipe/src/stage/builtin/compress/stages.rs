//! The stages that compress and decompress, as a pipe's builder takes them.

#[cfg(feature = "deflate")]
use crate::limits::DEFLATE_LEVELS;
#[cfg(feature = "zstd")]
use crate::limits::ZSTD_LEVELS;
use crate::stage::damage_log::{DamageLog, SALVAGE};
use crate::stage::{Arguments, MiddleStage, Stage};

use super::decode::Decompress;
#[cfg(any(feature = "deflate", feature = "zstd"))]
use super::encode::{Compress, Method};

/// Names of the modules that make these stages in other processes.
pub(crate) const ZSTD_MODULE: &str = "datapipe.zstd";
pub(crate) const DEFLATE_MODULE: &str = "datapipe.deflate";
pub(crate) const DECOMPRESS_MODULE: &str = "datapipe.decompress";

/// Compresses each block with zstd, to one frame (RFC 8878), at `level`, 1 (fast) to 22 (small).
/// Other values are clamped to this range.
///
/// These blocks travel on unchanged: a block that would not become smaller; one in which content
/// analysis found compressed or encrypted data; from level 10 on, one of 64 KiB or more that level
/// 3 cannot shrink; one that is already sealed or compressed.
#[cfg(feature = "zstd")]
pub fn zstd<'a>(level: i32) -> MiddleStage<'a> {
    let level = level.clamp(*ZSTD_LEVELS.start(), *ZSTD_LEVELS.end());
    let arguments = Arguments::new().with("level", level.to_string());
    Stage::transform("zstd", move |_| Compress::new(Method::Zstd(level)))
        .keep_blocks()
        .module(ZSTD_MODULE, arguments)
}

/// Compresses each block with deflate, to one raw stream (RFC 1951), at `level`, 1 (fast) to 9
/// (small). Other values are clamped to this range.
///
/// The same blocks travel on unchanged as with a high level of `zstd()`: zstd decides which blocks
/// are dense. Without the feature `zstd` every block is tried. Zstd is also faster and compresses
/// better; use deflate only if the readers support nothing else.
#[cfg(feature = "deflate")]
pub fn deflate<'a>(level: u32) -> MiddleStage<'a> {
    let level = level.clamp(*DEFLATE_LEVELS.start(), *DEFLATE_LEVELS.end());
    let arguments = Arguments::new().with("level", level.to_string());
    Stage::transform("deflate", move |_| Compress::new(Method::Deflate(level)))
        .keep_blocks()
        .module(DEFLATE_MODULE, arguments)
}

/// Decompresses each block by the algorithm that it names, and passes on blocks that name none.
///
/// At most `plain_len` bytes are written for a block. A block that has more, or fewer, or bytes
/// after its end, is damaged. The first block that does not decompress stops the pipe with an error
/// that has its number; [`decompress_salvaging`] continues instead. Blocks marked as damaged or
/// rejected pass unchanged.
///
/// ```
/// use datapipe::prelude::*;
///
/// let text = b"the only copy of the data".repeat(1000);
/// let mut back = Vec::new();
/// Pipe::builder()
///     .head(StreamHead::new(&text[..]))
///     .stage(deflate(6).instances(2))
///     .stage(decompress().instances(2))
///     .tail(StreamTail::new(&mut back))
///     .run()?;
/// assert_eq!(back, text);
/// # Ok::<(), datapipe::Error>(())
/// ```
pub fn decompress<'a>() -> MiddleStage<'a> {
    Stage::transform("decompress", |_| Decompress::new(None))
        .keep_blocks()
        .module(DECOMPRESS_MODULE, "")
}

/// As [`decompress`], but a block that does not decompress is reported to `log` and travels on
/// without content, marked [`Marks::DAMAGED`](crate::pool::Marks::DAMAGED). It keeps the
/// `plain_len` that it claimed, which is no more trustworthy than the block.
///
/// A block that is still encrypted stops the pipe all the same: that is an error in the pipe's
/// construction, not in the block.
pub fn decompress_salvaging<'a>(log: &DamageLog) -> MiddleStage<'a> {
    let instances = log.clone();
    Stage::transform("decompress", move |_| {
        Decompress::new(Some(instances.clone()))
    })
    .keep_blocks()
    .module(DECOMPRESS_MODULE, Arguments::new().with_flag(SALVAGE, true))
    .mirrored(log)
}
