//! The file of the metrics for a collector. A thread of its own replaces it, so that no client ever
//! waits for a disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;

use datapipe::interrupt::retry;

use super::metrics::{metrics, record_start};
use super::metrics_text::Form;
use crate::config::is_written_by_others;
use crate::daemon::state::DaemonState;
use crate::limits::FLUSH_PATIENCE;

/// The thread that replaces the file.
#[derive(Debug)]
pub(in crate::daemon) struct MetricsFile {
    stop: Sender<()>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl MetricsFile {
    /// Starts the thread. The configuration at each moment has the path and the interval.
    pub(in crate::daemon) fn start(state: &Arc<DaemonState>) -> Self {
        record_start();
        let ((stop, stopped), (end, ended)) = (channel(), channel::<()>());
        let shared = Arc::clone(state);
        let run = move || {
            let _end = end;
            replace_until(&shared, &stopped);
        };
        if let Err(error) = Builder::new().name("metrics".to_owned()).spawn(run) {
            state.log(&format!("cannot start the thread for metrics: {error}"));
        }
        Self { stop, ended }
    }

    /// Replaces the file a last time, and ends the thread. Waits for a bounded time.
    pub(in crate::daemon) fn close(self) {
        let Self { stop, ended } = self;
        drop(stop);
        let _ = ended.recv_timeout(FLUSH_PATIENCE);
    }
}

fn replace_until(state: &DaemonState, stopped: &Receiver<()>) {
    let mut has_failed = false;
    loop {
        let config = state.config();
        if let Some(path) = &config.metrics.file {
            let replaced = replace(path, &metrics(state, Form::Textfile));
            if replaced.is_err() {
                state.metrics.count_metrics_failure();
            }
            let had_failed = std::mem::replace(&mut has_failed, replaced.is_err());
            match replaced {
                Err(error) if !had_failed => state.log(&format!(
                    "{}: cannot write the metrics: {error}",
                    path.display()
                )),
                Ok(()) if had_failed => state.log(&format!(
                    "{}: the metrics can be written again",
                    path.display()
                )),
                _ => {}
            }
        }
        match stopped.recv_timeout(config.metrics.interval) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
    }
    if let Some(path) = &state.config().metrics.file {
        let _ = replace(path, &metrics(state, Form::Textfile));
    }
}

/// Replaces the file at once: a reader finds the old text or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    if is_written_by_others(&retry(|| fs::metadata(directory))?) {
        return Err(io::Error::other("other users may write to its directory"));
    }
    // The collector reads names that end with .prom only.
    let new = path.with_extension("prom.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    // The collector runs as another user. A mode given at the open is less the bits of the umask,
    // which the daemon's unit sets to 0077.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    drop(file);
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("d.prom"), dir.path().join("other"));
        fs::write(&other, "mine").unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("d.prom.new")).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        replace(&path, "one").unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read(&other).unwrap(), b"mine");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
