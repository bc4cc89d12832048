//! Ends every wait of a daemon or a client, from any thread and for good.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Once it is given, its descriptor is readable for ever.
#[derive(Clone, Debug)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// Not given yet.
    ///
    /// # Errors
    ///
    /// If there is no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?)))
    }

    /// Gives it.
    pub fn stop(&self) {
        // Any number but 0, the same in every byte order. It fails once the sum is full: then it
        // was given before.
        let _ = rustix::io::write(&*self.0, &[1; 8]);
    }
}

impl AsFd for Stop {
    /// Readable means given.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
