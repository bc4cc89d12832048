//! The controller dies while it takes back what a dead process held: nothing outlives it.

use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use datapipe::memory::Backing;
use datapipe::memory::points::LABELS;
use rustix::process::{WaitOptions, getpid, set_child_subreaper};

use crate::chains::CHAINS;
use crate::orders::{Orders, temporary_files};
use crate::stages::Seen;
use crate::watch::{belongings, wait_until};

/// What a process is called with that is to be a controller, and to be killed.
pub(crate) const CONTROLLER: &str = "--be-a-controller";

/// Runs a pipe to its end.
pub(crate) fn be_one() -> ExitCode {
    let seen = Arc::new(Seen::default());
    match CHAINS[0].pipe(&seen, Backing::Anonymous).run() {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

pub(crate) fn killed_while_they_reclaim() {
    let mut killed = 0;
    // Whoever's parent dies becomes our child: so that we see that it is gone, too.
    set_child_subreaper(Some(getpid())).unwrap();
    for label in LABELS.iter().filter(|label| label.starts_with("reclaim.")) {
        for at in ["take.moved", "send.sent", "receive.counted", "free.sent"] {
            let before = belongings();
            let orders = Orders::lay_down("zstd.0".to_owned(), 1, &format!("{at} 3 kill"));
            let ours = Orders::lay_down("controller".to_owned(), 1, &format!("{label} 1 kill"));
            let mut controller =
                Command::new("/proc/self/exe").arg(CONTROLLER).stderr(Stdio::null()).spawn().unwrap();
            let id = controller.id();
            let status = controller.wait().unwrap();
            let reached = ours.carried_out();
            assert_eq!(status.success(), reached == 0, "{label}, {at}: {status}");
            killed += reached;
            wait_until("its processes are dead", || {
                let left = rustix::process::wait(WaitOptions::NOHANG);
                matches!(left, Err(rustix::io::Errno::CHILD))
            });
            let names = std::fs::read_dir("/dev/shm").unwrap().flatten();
            let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
            assert!(!names.any(|name| name.contains(&format!(".{id}."))), "{label}, {at}: a name is left");
            drop((orders, ours));
            wait_until("nothing is left", || belongings() == before);
            assert_eq!(temporary_files(), 0, "{label}, {at}: a temporary file is left");
        }
    }
    set_child_subreaper(None).unwrap();
    println!("  {killed} controllers killed while they reclaimed");
    assert!(killed >= 20, "{killed}");
}
