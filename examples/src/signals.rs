//! Reaction of the programs to signals, and to a broken pipe as standard output.
//!
//! ```text
//!   before the pipe     first signal: the program ends
//!   medium created      first signal: the pipe is cancelled when it starts
//!   while it runs       first signal: the pipe is cancelled, and reports how far it came
//!   after the first     second signal: the program ends
//! ```

use std::io;
use std::mem;
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use datapipe::prelude::*;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{emulate_default_handler, signal_name};

/// State of the signal handling. Signals are sent to the process, so the state is global.
static STATE: Mutex<State> = Mutex::new(State {
    received: false,
    is_preparing: false,
    canceller: None,
});

/// 1 after the first signal. Not a part of the state, which is locked while a signal is handled.
static RECEIVED: AtomicU8 = AtomicU8::new(0);

/// True if a signal was received that stops the program.
pub(crate) fn was_signal_received() -> bool {
    RECEIVED.load(Ordering::Relaxed) != 0
}

struct State {
    /// True after the first signal.
    received: bool,
    /// True while a job has begun to change files, and its pipe does not run yet.
    is_preparing: bool,
    /// Stops the pipe, once there is one.
    canceller: Option<Canceller>,
}

/// Starts a thread that handles SIGHUP, SIGINT and SIGTERM, except those that are ignored, as
/// `nohup` ignores SIGHUP. `on_first` is called at the first signal, with its name, and with `true`
/// if a pipe is being cancelled. If it returns an exit code, the program ends.
///
/// Also ignores SIGXFSZ, here and in the processes of stages, so that a limit on the size of files
/// (`ulimit -f`) is reported by the write that reaches it.
///
/// # Errors
///
/// Returns an error if the system refuses the signal handlers or the thread.
pub fn handle(
    on_first: impl Fn(&'static str, bool) -> Option<u8> + Send + 'static,
) -> io::Result<()> {
    disposition::ignore(SIGXFSZ)?;
    let mut handled = Vec::new();
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        if !disposition::is_ignored(signal)? {
            handled.push(signal);
        }
    }
    let mut signals = Signals::new(handled)?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                RECEIVED.store(1, Ordering::Relaxed);
                let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
                if mem::replace(&mut state.received, true) {
                    process::exit(1);
                }
                if let Some(canceller) = &state.canceller {
                    canceller.cancel();
                }
                if let Some(code) = on_first(
                    signal_name(signal).unwrap_or("a signal"),
                    state.is_preparing || state.canceller.is_some(),
                ) {
                    process::exit(code.into());
                }
            }
        })
        .map_err(|error| {
            let what = format!(
                "cannot start the thread for signals; the user may have reached the limit of \
                 threads (ulimit -u): {error}"
            );
            io::Error::new(error.kind(), what)
        })?;
    Ok(())
}

/// Makes a signal wait for the pipe that is being prepared, which it then cancels, so that the job
/// removes what it has created.
pub fn wait_for_pipe() {
    STATE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_preparing = true;
}

/// Makes signals cancel this pipe from now on. If one has been received, the pipe is cancelled.
pub(crate) fn cancel_on_signals(canceller: Canceller) {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if state.received {
        canceller.cancel();
    }
    state.canceller = Some(canceller);
}

/// Ends the program if the reader of its output has closed the pipe: without a message, and with
/// the signal that ends other programs in this case.
pub fn exit_on_broken_pipe(error: &io::Error) {
    if error.kind() == io::ErrorKind::BrokenPipe {
        let _ = emulate_default_handler(SIGPIPE);
    }
}

/// The kernel's disposition of a signal, which no safe library reads.
#[allow(unsafe_code, reason = "sigaction takes and returns pointers")]
mod disposition {
    use std::io;
    use std::mem::MaybeUninit;
    use std::ptr;

    /// True if the process ignores the signal.
    pub(super) fn is_ignored(signal: i32) -> io::Result<bool> {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: a null pointer for the new action changes nothing, and `action` has room for the
        // present one.
        let done = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: every bit pattern is a valid `sigaction` of integers, and the call has filled it.
        let action = unsafe { action.assume_init() };
        Ok(action.sa_sigaction == libc::SIG_IGN)
    }

    /// Ignores the signal, in programs that this one starts, too.
    pub(super) fn ignore(signal: i32) -> io::Result<()> {
        // SAFETY: SIG_IGN is not a function, so no code of this program runs in a handler.
        let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
        if before == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
