//! The controller dies while it takes back what a dead process held, or while one is stopped:
//! nothing outlives it.

use std::fs;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use datapipe::memory::points::LABELS;
use datapipe::memory::{Backing, sweep};
use rustix::process::{WaitOptions, getpid, set_child_subreaper};

use crate::chains::CHAINS;
use crate::orders::{Orders, temporary_files};
use crate::round::state;
use crate::stages::Seen;
use crate::watch::{belongings, wait_until};

/// What a process is called with that is to be a controller, and to be killed.
pub(crate) const CONTROLLER: &str = "--be-a-controller";

/// Runs a pipe to its end.
pub(crate) fn be_one() -> ExitCode {
    match CHAINS[0]
        .pipe(&Arc::new(Seen::default()), Backing::Named)
        .run()
    {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Runs a controller; it has an order, or nothing, and one process of its pipe has one. Then looks
/// what is left.
fn with_controller(its: Option<String>, order: &str, with: impl FnOnce(&mut Child, [&Orders; 2])) {
    let before = belongings();
    let orders = Orders::lay_down("zstd.0".to_owned(), [order.to_owned()]);
    let its = Orders::lay_down("controller".to_owned(), its);
    // Those whose parent dies become our children: so we see when they are gone, too.
    set_child_subreaper(Some(getpid())).unwrap();
    // What processes say of a controller that died before they had begun is of no interest.
    let command = Command::new("/proc/self/exe")
        .arg(CONTROLLER)
        .stderr(Stdio::null())
        .spawn();
    let mut controller = command.unwrap();
    with(&mut controller, [&its, &orders]);
    wait_until("its processes are dead", || {
        let left = rustix::process::wait(WaitOptions::NOHANG);
        matches!(left, Err(rustix::io::Errno::CHILD))
    });
    set_child_subreaper(None).unwrap();
    sweep().unwrap(); // what somebody does who makes the next named segment
    let its_name = format!(".{}.", controller.id());
    let names = fs::read_dir("/dev/shm").unwrap().flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert!(
        !names.any(|name| name.contains(&its_name)),
        "a name is left"
    );
    drop((its, orders));
    wait_until("nothing is left", || belongings() == before);
    assert_eq!(temporary_files(), 0, "a temporary file is left");
}

pub(crate) fn controllers_killed_while_reclaiming_leave_nothing() {
    let mut killed = 0;
    for label in LABELS.iter().filter(|label| label.starts_with("reclaim.")) {
        for at in ["take.moved", "send.sent", "receive.counted", "free.sent"] {
            let its = Some(format!("{label} 1 kill"));
            with_controller(its, &format!("{at} 3 kill"), |controller, [its, _]| {
                let status = controller.wait().unwrap();
                assert_eq!(
                    status.success(),
                    its.carried_out() == 0,
                    "{label}, {at}: {status}"
                );
                killed += its.carried_out();
            });
        }
    }
    println!("controllers: {killed} killed while they reclaimed");
    assert!(killed >= 20, "{killed}");
}

/// A process that is stopped cannot end by itself: the kernel lets it go on when its parent dies.
pub(crate) fn controllers_killed_with_a_stopped_process_leave_nothing() {
    let mut killed = 0;
    for at in [
        "seat.taken",
        "take.claimed",
        "send.sent",
        "wait.noted",
        "free.sent",
        "leave.left",
    ] {
        with_controller(None, &format!("{at} 1 stop"), |controller, [_, orders]| {
            let mut stopped = false;
            // It may have to wait for nothing, and its pipe come to its end.
            wait_until("it has stopped", || {
                stopped = orders.reached(1).and_then(state) == Some('T');
                stopped || controller.try_wait().unwrap().is_some()
            });
            killed += u32::from(stopped);
            controller.kill().unwrap();
            controller.wait().unwrap();
        });
    }
    println!("controllers: {killed} killed while one of their processes was stopped");
    assert!(killed >= 5, "{killed}");
}
