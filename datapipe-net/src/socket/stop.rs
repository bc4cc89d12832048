//! A signal that ends every wait of a daemon or a client, from any thread and for good.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Stop signal. Its clones share one state; once it is given, its descriptor stays readable.
#[derive(Clone, Debug)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// A signal that is not given yet.
    ///
    /// # Errors
    ///
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?)))
    }

    /// Gives the signal.
    pub fn stop(&self) {
        // Adds a number that is not 0 in either byte order. The write fails if the sum is full;
        // then the signal was given before.
        let _ = rustix::io::write(&*self.0, &[1; 8]);
    }
}

impl AsFd for Stop {
    /// Returns a descriptor that is readable once the signal is given.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
