//! Signals that end a command.

use std::io;
use std::thread;

use datapipe_net::socket::Stop;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Gives `stop` when a signal arrives.
pub(crate) fn stop_on_signals(stop: Stop) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            signals.forever().for_each(|_| stop.stop());
        })?;
    Ok(())
}
