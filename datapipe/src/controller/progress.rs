//! The caller's view of a running pipe.

use super::status::Status;

/// Receiver of the progress of a pipe: [`Pipe::watch`](super::Pipe::watch) calls it from time to
/// time. Closures with the arguments of [`update`](Self::update) are receivers.
///
/// ```
/// use datapipe::controller::Progress;
/// use datapipe::prelude::*;
/// use std::time::Duration;
///
/// struct Bar; // of a library for progress bars
///
/// impl Progress for Bar {
///     fn update(&mut self, now: &Status, lately: &Status) {
///         let (bytes, rate) = (now.bytes(), lately.throughput());
///         println!("{bytes} bytes, {rate:.0} bytes/s");
///     }
/// }
///
/// let pipe = Pipe::builder()
///     .head(StreamHead::new(&b"some data"[..]))
///     .tail(StreamTail::new(std::io::sink()))
///     .start()?;
/// let report = pipe.watch(Duration::from_millis(500), &mut Bar)?;
/// assert_eq!(report.bytes_in(), 9);
/// # Ok::<(), datapipe::Error>(())
/// ```
pub trait Progress {
    /// Receives the status of the pipe now, and the changes since the update before this one: its
    /// [`throughput`](Status::throughput) is the present rate in bytes per second, and its
    /// [`limit`](Status::limit) the stage that limits the pipe at present.
    fn update(&mut self, now: &Status, lately: &Status);
}

impl<F: FnMut(&Status, &Status)> Progress for F {
    fn update(&mut self, now: &Status, lately: &Status) {
        self(now, lately);
    }
}
