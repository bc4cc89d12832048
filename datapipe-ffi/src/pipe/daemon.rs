//! Seats in pipes that a daemon runs.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use datapipe::host::Attachment;
use datapipe_net::socket::Stop;
use datapipe_net::{AttachRole, Client, ClientError};

use crate::cancel_slots::{CANCEL_CHECKS, CancelToken};
use crate::failure::Failure;
use crate::handle_bits::HandleBits;
use crate::status::DP_ERR_CANCELLED;

use super::attachment::keep_seat;

/// A seat to ask a daemon for.
#[derive(Debug)]
pub(crate) struct DaemonSeat {
    /// Socket of the daemon.
    pub(crate) socket: PathBuf,
    /// Name of the pipe.
    pub(crate) pipe: String,
    pub(crate) role: AttachRole,
    pub(crate) token: Option<CancelToken>,
    /// Longest time to wait for the daemon.
    pub(crate) timeout: Duration,
}

/// Reason that a wait was ended.
enum Ended {
    Cancelled,
    TimedOut,
}

impl DaemonSeat {
    /// Takes the seat, which belongs to this thread. Returns nothing if the time is over before.
    pub(crate) fn attach(&self) -> Result<Option<HandleBits>, Failure> {
        let stop = Stop::new()?;
        let (done, is_done) = mpsc::channel();
        let (asked, ended) = thread::scope(|scope| {
            let stop_of_watch = stop.clone();
            let watch = move || self.watch(&is_done, &stop_of_watch);
            let watch = thread::Builder::new().spawn_scoped(scope, watch)?;
            let asked = self.ask(stop);
            // The watch ends, also if it has ended before.
            drop(done);
            Ok::<_, io::Error>((asked, watch.join().unwrap_or(None)))
        })?;
        match (asked, ended) {
            (Ok(attachment), _) => Ok(Some(keep_seat(attachment)?)),
            (Err(_), Some(Ended::TimedOut)) => Ok(None),
            (Err(_), Some(Ended::Cancelled)) => {
                Err(Failure::new(DP_ERR_CANCELLED, "the call was cancelled"))
            }
            (Err(error), None) => Err(error.into()),
        }
    }

    fn ask(&self, stop: Stop) -> Result<Attachment, ClientError> {
        Client::connect_until(&self.socket, stop)?.identify(&self.pipe, self.role)
    }

    /// Ends the wait for the daemon when the token is cancelled or the time is over.
    fn watch(&self, is_done: &Receiver<()>, stop: &Stop) -> Option<Ended> {
        let begun = Instant::now();
        loop {
            let left = self.timeout.saturating_sub(begun.elapsed());
            let ended = match (self.token.is_some_and(CancelToken::is_cancelled), left) {
                (true, _) => Ended::Cancelled,
                (false, Duration::ZERO) => Ended::TimedOut,
                _ => match is_done.recv_timeout(left.min(CANCEL_CHECKS)) {
                    Err(RecvTimeoutError::Timeout) => continue,
                    _ => return None,
                },
            };
            stop.stop();
            return Some(ended);
        }
    }
}
