//! A writer that keeps what it gets.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;

/// Keeps what is written to it. A clone is another handle of the same bytes.
///
/// It takes 600 MiB at most, so that a reader gone wild ends a test, and not the machine.
#[derive(Clone, Debug, Default)]
pub struct Sink(Arc<Mutex<Vec<u8>>>);

const MOST: usize = 600 << 20;

impl Sink {
    /// The bytes that were written so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().clone()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock();
        if kept.len() + bytes.len() > MOST {
            return Err(io::Error::other(format!(
                "more than {MOST} bytes were written to a test's sink"
            )));
        }
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
