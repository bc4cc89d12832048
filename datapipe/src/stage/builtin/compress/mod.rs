//! Compression and decompression. Each block is compressed by itself, so that blocks can be
//! compressed in parallel and read one at a time.
//!
//! ```text
//!   zstd(level)     \                       codec, plain_len
//!                    one Transform -> block ----------------> decompress(), for either codec
//!   deflate(level)  /
//! ```
//!
//! Each block records its algorithm in its [`Codec`](crate::pool::Codec), so one stage decompresses
//! all of them. A block that would not become smaller travels unchanged.
//!
//! This module does not add checksums: the stage that stores or seals blocks does.

mod decode; // decompression, for every algorithm
#[cfg(feature = "deflate")]
mod deflate_codec; // deflate
#[cfg(any(feature = "deflate", feature = "zstd"))]
mod encode; // one trait for the algorithms, and the stage that uses them
#[cfg(any(feature = "deflate", feature = "zstd"))]
mod probe; // decision to attempt compression
mod stages; // the public constructors and their module names
#[cfg(feature = "zstd")]
mod zstd_codec; // zstd

#[cfg(feature = "deflate")]
pub use stages::deflate;
#[cfg(feature = "zstd")]
pub use stages::zstd;
pub(crate) use stages::{DECOMPRESS_MODULE, DEFLATE_MODULE, ZSTD_MODULE};
pub use stages::{decompress, decompress_salvaging};
