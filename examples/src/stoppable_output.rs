//! Output to a reader that may never read: a full pipe, a terminal stopped by Ctrl-S, a fifo.
//!
//! ```text
//!   write --bytes--> thread --write(2)--> pipe, terminal
//!         <-result--
//! ```
//!
//! A thread of its own makes the system calls, because not every kind of stream has a write that
//! does not wait. The writer waits for the thread; after a signal only for a moment, so that the
//! program ends even if the stream takes nothing any more.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::signals::was_signal_received;

/// Interval at which a waiting writer looks for a signal.
const LOOK: Duration = Duration::from_millis(20);

/// Time after a signal for which a writer waits.
const GRACE: Duration = Duration::from_millis(200);

/// Size of the thread's stack in bytes.
const STACK: usize = 64 << 10;

/// An output whose waits end soon after a signal.
#[derive(Debug)]
pub struct StoppableOutput(Mutex<State>);

#[derive(Debug)]
enum State {
    /// Nothing was written. The function returns the output.
    Unused(fn() -> Stream),
    /// The output with its thread, or without one if none could be started.
    Open(Stream, Option<Worker>),
    /// The output took nothing after a signal.
    Stuck,
}

/// The descriptor of an output, which its thread shares. A copy of it could not be made when this
/// process has no descriptor left, which standard error must report.
#[derive(Clone, Debug)]
enum Stream {
    Standard(BorrowedFd<'static>),
    Owned(Arc<OwnedFd>),
}

/// The thread of an output.
#[derive(Debug)]
struct Worker {
    requests: Sender<Vec<u8>>,
    results: Receiver<io::Result<()>>,
}

static STDOUT: StoppableOutput = StoppableOutput(Mutex::new(State::Unused(|| {
    Stream::Standard(rustix::stdio::stdout())
})));
static STDERR: StoppableOutput = StoppableOutput(Mutex::new(State::Unused(|| {
    Stream::Standard(rustix::stdio::stderr())
})));

impl StoppableOutput {
    /// An output to an open descriptor.
    pub fn new(descriptor: impl Into<OwnedFd>) -> Self {
        let stream = Stream::Owned(Arc::new(descriptor.into()));
        let worker = Worker::start(&stream);
        Self(Mutex::new(State::Open(stream, worker)))
    }

    /// Standard output, without a buffer.
    pub fn stdout() -> &'static Self {
        &STDOUT
    }

    /// Standard error.
    pub fn stderr() -> &'static Self {
        &STDERR
    }

    /// Writes all of `bytes`.
    fn put(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Unused(stream) = *state {
            let stream = stream();
            let worker = Worker::start(&stream);
            *state = State::Open(stream, worker);
        }
        match &*state {
            State::Open(_, Some(worker)) => match worker.write(bytes) {
                Some(result) => result,
                None => {
                    *state = State::Stuck;
                    Err(stuck())
                }
            },
            State::Open(stream, None) => write_to(stream, bytes),
            _ => Err(stuck()),
        }
    }
}

/// The error of an output that takes nothing.
fn stuck() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its reader does not read")
}

impl Worker {
    /// Starts the thread. Returns `None` if the system has none.
    fn start(stream: &Stream) -> Option<Self> {
        let stream = stream.clone();
        let (requests, received) = channel::<Vec<u8>>();
        let (sender, results) = channel();
        thread::Builder::new()
            .name("output".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                for bytes in received {
                    if sender.send(write_to(&stream, &bytes)).is_err() {
                        break;
                    }
                }
            })
            .ok()?;
        Some(Self { requests, results })
    }

    /// Writes `bytes`. Returns `None` if that is not done soon after a signal.
    fn write(&self, bytes: &[u8]) -> Option<io::Result<()>> {
        self.requests.send(bytes.to_vec()).ok()?;
        let mut deadline = None;
        loop {
            match self.results.recv_timeout(LOOK) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if was_signal_received() => {
                    let now = Instant::now();
                    if now >= *deadline.get_or_insert(now + GRACE) {
                        return None;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Standard(stream) => *stream,
            Self::Owned(stream) => stream.as_fd(),
        }
    }
}

fn write_to(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(stream, bytes))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

impl Write for &StoppableOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes).map(|()| bytes.len())
    }

    /// Returns at once: nothing is kept back.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
