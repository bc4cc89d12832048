//! Deaths of the controller, while it reclaims the buffers of a dead process or while a process is
//! stopped: nothing outlives it.

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

/// First argument of a process that becomes a controller and is then killed.
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

/// Runs a controller, which may have an order, with a process in its pipe that has one. Then
/// asserts that nothing is left.
fn with_controller(its: Option<String>, order: &str, with: impl FnOnce(&mut Child, [&Orders; 2])) {
    let before = belongings();
    let orders = Orders::give("zstd.0".to_owned(), [order.to_owned()]);
    let its = Orders::give("controller".to_owned(), its);
    // Processes whose parent dies become children of this one, which can then wait for their end.
    set_child_subreaper(Some(getpid())).unwrap();
    // The messages of processes whose controller died before they began are not needed.
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
    sweep().unwrap(); // as the creator of the next named segment does
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

/// A stopped process cannot end by itself: the kernel continues it when its parent dies.
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
            // A process that never waits does not pass the point, and its pipe ends.
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
