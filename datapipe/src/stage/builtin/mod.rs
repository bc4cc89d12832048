//! The stages that come with the library.
//!
//! ```text
//!   StreamHead -> analyze -> inspect -> zstd / deflate -> ... -> decompress -> StreamTail
//! ```
//!
//! Each is built from the public traits and carries the name and arguments of a
//! [module](super::Stage::module), so that a host makes the same stage in a process. Only what an
//! open descriptor and bytes cannot describe, such as a caller's own reader or inspector, stays in
//! the caller's process. This module does not know the archive format: sealing, the stages of
//! archives and those of trees are in folders above.

mod analyze; // content analysis
#[cfg(feature = "archive")]
mod block_sums; // digest and checksum of what a stream's head reads
mod compress; // zstd and deflate, and decompression
mod inspect; // the application's inspection, such as a virus scanner
mod open_file; // descriptors of streams, whose waits a stop ends
mod ordering; // sequencer and resequencer as stages
mod stream; // any `Read` as head, any `Write` as tail
#[cfg(feature = "archive")]
mod stream_checkpoints; // checkpoints of a stream

pub(crate) use analyze::ANALYZE_MODULE;
pub use analyze::{analyze, classify};
#[cfg(feature = "deflate")]
pub use compress::deflate;
#[cfg(feature = "zstd")]
pub use compress::zstd;
pub(crate) use compress::{DECOMPRESS_MODULE, DEFLATE_MODULE, ZSTD_MODULE};
pub use compress::{decompress, decompress_salvaging};
pub use inspect::{Finding, Inspect};
pub use open_file::OpenFile;
pub(crate) use ordering::{RESEQUENCE_MODULE, SEQUENCE_MODULE};
pub use ordering::{resequence, sequence};
pub use stream::{BlockReader, BlockWriter, StreamHead, StreamTail};
pub(crate) use stream::{STREAM_HEAD_MODULE, STREAM_TAIL_MODULE, write_error};
