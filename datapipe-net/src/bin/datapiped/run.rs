//! The command `run`: the daemon.

use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;

use datapipe_net::Config;
use datapipe_net::daemon::{Daemon, Handle};
use datapipe_net::limits::LOG_PATIENCE;
use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{FAILED, Failure};
use crate::output::log;
use crate::service_manager::{READY, STOPPING, notify};

/// Runs the daemon until a signal stops it.
pub(crate) fn run(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let socket = config.socket.clone();
    check_directory(&socket)?;
    raise_descriptor_limit();
    let daemon = Daemon::bind(config, log)?;
    let handle = daemon.handle();
    log_panics(handle.clone());
    obey_signals(handle.clone(), path.to_owned())?;
    handle.log(&format!("listening at {}", socket.display()));
    notify(READY);
    let served = daemon.run();
    // Through the daemon's log, which does not wait for a standard error that is not read.
    match &served {
        Ok(()) => handle.log("stopped"),
        Err(error) => handle.log(&error.to_string()),
    }
    handle.flush_log(LOG_PATIENCE);
    if served.is_err() {
        process::exit(FAILED.into());
    }
    Ok(())
}

/// Checks that the directory of the socket exists. `/run` is empty after each start of the machine.
fn check_directory(socket: &Path) -> Result<(), Failure> {
    match socket.parent() {
        Some(directory) if !directory.exists() => {
            let (directory, socket) = (directory.display(), socket.display());
            Err(Failure {
                message: format!(
                    "the directory of the socket {socket} does not exist: make it with `mkdir -m \
                     755 {directory}`, or let systemd make it (RuntimeDirectory= in the unit)"
                ),
                exit: FAILED,
            })
        }
        _ => Ok(()),
    }
}

/// Raises the limit of descriptors to the most that this process may have.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it the daemon serves fewer pipes and connections at a time.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Reports panics in the daemon's log. The standard library would write to standard error itself,
/// and wait if it is not read.
fn log_panics(daemon: Handle) {
    std::panic::set_hook(Box::new(move |panic| {
        daemon.log(&format!("a fault: {panic}"))
    }));
}

/// Starts a thread that serves signals. SIGHUP reloads the configuration. The first SIGTERM or
/// SIGINT stops the daemon in good order; the second exits at once, and the processes of the pipes
/// end by themselves.
fn obey_signals(daemon: Handle, path: PathBuf) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut stopping = false;
            for signal in signals.forever() {
                match signal {
                    SIGHUP => reload(&daemon, &path),
                    _ if stopping => process::exit(FAILED.into()),
                    _ => {
                        stopping = true;
                        notify(STOPPING);
                        daemon.stop();
                        daemon.log("stopping; a second signal exits without waiting for the pipes");
                    }
                }
            }
        })?;
    Ok(())
}

fn reload(daemon: &Handle, path: &Path) {
    match Config::load(path) {
        Ok(config) => {
            daemon.reconfigure(config);
            daemon.log("configuration reloaded");
        }
        Err(error) => daemon.log(&format!(
            "configuration not reloaded, because the new one is invalid: {error}"
        )),
    }
}
