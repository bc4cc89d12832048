//! A participant that changes what was copied.

use crate::shared_bytes::changes;

/// Calls `work`, and changes each byte of a buffer in shared memory right after the library has
/// copied it on this thread, as another process of the pipe could. Returns the result with the
/// number of bytes that were changed.
///
/// A stage that copies what it checks, and uses only the copy, has the same result as without the
/// changes. Stages run on this thread if all stages of the pipe are
/// [inline](crate::stage::Stage::inline).
///
/// ```
/// use datapipe::prelude::*;
/// use datapipe::testkit::{Sink, with_copies_changed};
/// use std::io::Cursor;
///
/// let (text, sink) = (b"some text ".repeat(100), Sink::default());
/// let pipe = Pipe::builder()
///     .head(HeadStage::from(StreamHead::new(Cursor::new(text.clone()))).inline())
///     .stage(zstd(3).inline())
///     .stage(decompress().inline())
///     .tail(TailStage::from(StreamTail::new(sink.clone())).inline());
/// let (result, changed) = with_copies_changed(|| pipe.run());
/// result?;
/// assert!(sink.bytes() == text && changed > 1000);
/// # Ok::<(), Error>(())
/// ```
pub fn with_copies_changed<T>(work: impl FnOnce() -> T) -> (T, u64) {
    changes::run(work)
}
