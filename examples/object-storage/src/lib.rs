//! Archives in object storage: a medium of one's own, on the crate `object_store`.
//!
//! ```text
//!   pipe's thread     write: a frame is added to the part ----- part is full ---+
//!                     sync: waits for all uploads                               v
//!   runtime's thread                          uploads, up to four at a time: put(part)
//!   storage           PREFIX/000001/0000000000000000   first part of volume 1
//!                     PREFIX/000001/0000000000800000   the part that begins at that byte
//! ```
//!
//! The parts of a volume, one after the other, are a volume in the layout of the library's tapes
//! (SIMH, `.tap`): each record between two lengths of 32 bits, a mark is a length of zero. So
//! `cat` makes a tape of them, which other tools read.
//!
//! An object appears as a whole or not at all, and after `put` it is durable. Parts are uploaded
//! concurrently, so after a crash a part may be missing before one that is there. The reader
//! reports the gap as damage; everything up to the last sync is complete.
//!
//! Each medium has a runtime of its own with one thread, because the pipe's threads wait: do not
//! use it from a thread of another runtime.

mod medium; // the medium: writing, reading, positions
mod part; // frames in the bytes of a part
mod site; // a place in a storage: parts by volume, URLs
mod uploads; // parts on their way

pub use medium::{ObjectMedium, ObjectOptions, ObjectReader, ObjectWriter};
pub use site::Site;
