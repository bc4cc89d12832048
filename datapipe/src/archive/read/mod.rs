//! Reading archives.

pub(super) mod block_set;
pub(super) mod head;
pub(super) mod index;
pub(super) mod reader;
pub(super) mod shared_medium;
pub(super) mod stream_restore;
pub(super) mod unit_reader;

pub use block_set::BlockSet;
pub use head::ArchiveHead;
pub use index::Index;
pub use reader::{ArchiveReader, OpenError, Reading};
pub use stream_restore::StreamRestore;
