//! Compression, and its way back: each block by itself, so that blocks are compressed in parallel
//! and read one at a time.
//!
//! ```text
//!   Zstd::level(n)     \                       codec, plain_len
//!                       one Transform -> block ----------------> decompress(), whichever it was
//!   Deflate::level(n)  /
//! ```
//!
//! The algorithm stands in each block's [`Codec`](crate::pool::Codec): one stage undoes all. A
//! block that would not become smaller travels as it is. Blocks carry no checksum here: whoever
//! stores or seals them adds one.

mod decode; // the way back, for every algorithm
mod encode; // the algorithms behind one trait, and the stage that uses them
mod probe; // is a block worth the attempt

use crate::stage::damage::{DamageLog, SALVAGE};
use crate::stage::{Arguments, MiddleStage, Stage};

use decode::Decompress;
use encode::{Compress, Method};

/// Names of the modules that make these stages in other processes.
pub(crate) const ZSTD_MODULE: &str = "datapipe.zstd";
pub(crate) const DEFLATE_MODULE: &str = "datapipe.deflate";
pub(crate) const DECOMPRESS_MODULE: &str = "datapipe.decompress";

/// Compression with zstd: one frame (RFC 8878) for each block.
#[derive(Debug)]
pub struct Zstd;

impl Zstd {
    /// Compresses each block at `level`, 1 (fast) to 22 (small); others are moved to the nearest of
    /// them.
    ///
    /// These travel on as they are: a block that would not become smaller; one in which content
    /// analysis found compressed or encrypted data; from level 10 on, one of 64 KiB or more that
    /// level 3 cannot shrink; one that is sealed or compressed already.
    pub fn level<'a>(level: i32) -> MiddleStage<'a> {
        let level = level.clamp(1, *zstd::compression_level_range().end());
        Stage::transform("zstd", move |_| Compress::new(Method::Zstd(level))).module(
            ZSTD_MODULE,
            Arguments::new().with("level", level.to_string()),
        )
    }
}

/// Compression with deflate: one raw stream (RFC 1951) for each block.
#[derive(Debug)]
pub struct Deflate;

impl Deflate {
    /// Compresses each block at `level`, 1 (fast) to 9 (small); others are moved to the nearest of
    /// them.
    ///
    /// What travels on as it is, is the same as for a high [`Zstd::level`]: zstd decides which
    /// blocks are dense. It is faster and smaller too: take this one where the readers know nothing
    /// else.
    pub fn level<'a>(level: u32) -> MiddleStage<'a> {
        let level = level.clamp(1, 9);
        Stage::transform("deflate", move |_| Compress::new(Method::Deflate(level))).module(
            DEFLATE_MODULE,
            Arguments::new().with("level", level.to_string()),
        )
    }
}

/// Decompresses each block by the algorithm that it names, and passes on those that name none.
///
/// No more than `plain_len` bytes are ever written for a block. One that has more, or less, or
/// bytes behind its end, is damaged. The first block that does not decompress stops the pipe, with
/// its number; [`decompress_salvaging`] goes on instead. Blocks marked as damaged or rejected pass
/// as they are.
///
/// ```
/// use datapipe::prelude::*;
///
/// let text = b"the only copy of somebody's data".repeat(1000);
/// let mut back = Vec::new();
/// Pipe::builder()
///     .head(StreamHead::new(&text[..]))
///     .stage(Deflate::level(6).instances(2))
///     .stage(decompress().instances(2))
///     .tail(StreamTail::new(&mut back))
///     .run()?;
/// assert_eq!(back, text);
/// # Ok::<(), datapipe::Error>(())
/// ```
pub fn decompress<'a>() -> MiddleStage<'a> {
    Stage::transform("decompress", |_| Decompress::new(None)).module(DECOMPRESS_MODULE, "")
}

/// As [`decompress`], but a block that does not decompress is reported to `log` and travels on
/// without content, marked [`Marks::DAMAGED`](crate::pool::Marks::DAMAGED). Its `plain_len` stays,
/// as the block claimed it: it is as little to be believed as the block.
///
/// A block that is still encrypted stops the pipe all the same: then the pipe is wrong, and not the
/// block.
pub fn decompress_salvaging<'a>(log: &DamageLog) -> MiddleStage<'a> {
    let log = log.clone();
    let heard = log.clone();
    Stage::transform("decompress", move |_| Decompress::new(Some(log.clone())))
        .module(DECOMPRESS_MODULE, Arguments::new().with_flag(SALVAGE, true))
        .notes(move |data| heard.hear(data))
}
