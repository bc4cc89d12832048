//! A process that runs one instance of a stage, from its order to its end.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;

use super::control::{self, Order};
use super::modules::Modules;
use crate::error::StageError;
use crate::memory::Segment;
use crate::pool::Seat;
use crate::stage::runner::thread;

/// Runs the instance that is ordered on standard input. Returns the process's exit code.
#[allow(
    clippy::needless_pass_by_value,
    reason = "the modules end with the instance, before the process exits"
)]
pub(super) fn run(modules: Modules) -> i32 {
    let control = match take_control() {
        Ok(control) => control,
        Err(error) => {
            eprintln!("this process was not started by a pipe's controller: {error}");
            return 2;
        }
    };
    let result = work(&control, &modules);
    control::tell(&control, &result);
    i32::from(result.is_err())
}

/// Takes the control socket from standard input, and binds this process's life to the controller's.
fn take_control() -> io::Result<OwnedFd> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let controller = rustix::net::sockopt::socket_peercred(&control)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before that. And nobody else gives orders.
    if rustix::process::getppid() != Some(controller.pid) {
        return Err(io::Error::other("its parent is not the one who has its control socket"));
    }
    let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&nothing)?;
    Ok(control)
}

/// Everything between the order and the report.
fn work(control: &OwnedFd, modules: &Modules) -> Result<(), StageError> {
    let (order, descriptor) = control::take(control)?;
    let Order { stage, instance, terminate_at_limit, kind, module } = order;
    let segment = Segment::attach(descriptor)?;
    let stages = segment.shape().stages();
    let is_middle = stage > 0 && (stage as usize) < stages.len().saturating_sub(1);
    if !is_middle || instance >= stages[stage as usize].instances {
        return Err(StageError::new(format!(
            "the pipe has no instance {instance} of a middle stage {stage}"
        )));
    }
    let seat = Seat::new(&segment, stage, instance).terminate_at_limit(terminate_at_limit);
    let mut made = thread::caught(|| modules.make(&module))?;
    if made.kind() != kind {
        return Err(StageError::new(format!(
            "the host's module \"{}\" makes another kind of stage than the pipe was described with",
            module.name.escape_debug()
        )));
    }
    let worker = thread::caught(|| Ok(made.worker(instance)))?;
    thread::run(worker, &seat)
}
