//! A process that runs instances of a stage, from its order to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::{self, Builder};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, getpid, getppid, kill_process};

use super::confine::confine;
use super::modules::{Modules, Notes};
use super::order::{self, Job, LaunchRequest};
use super::report;
use super::watch::{OnControllerDeath, Watch};
use crate::error::StageError;
use crate::memory::Process;
use crate::pool::Seat;
use crate::stage::runner::{Worker, thread as runner};

/// Runs the instances that are ordered on standard input. Returns the process's exit code.
#[allow(
    clippy::needless_pass_by_value,
    reason = "the modules end with the instance, before the process exits"
)]
pub(super) fn run(modules: Modules) -> i32 {
    let (control, controller) = match take_control() {
        Ok(taken) => taken,
        Err(error) => {
            eprintln!("this process was not started by a pipe's controller: {error}");
            return 2;
        }
    };
    let result = work(&control, controller, &modules);
    if let Err(error) = &result {
        // No instance had begun.
        report::tell(&control, 0, &Err(StageError::new(error.to_string())));
    }
    i32::from(!matches!(result, Ok(true)))
}

/// Takes the control socket from standard input, and binds this process's life to the controller's.
fn take_control() -> io::Result<(OwnedFd, Process)> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let controller = rustix::net::sockopt::socket_peercred(&control)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let watched = Process::watch(controller.pid.as_raw_nonzero().get().unsigned_abs())?;
    // It may have died before that. And nobody else gives orders.
    if getppid() != Some(controller.pid) {
        return Err(io::Error::other(
            "its parent is not the one who has its control socket",
        ));
    }
    let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&nothing)?;
    Ok((control, watched))
}

/// Everything between the order and the reports. Returns whether all instances ended well.
fn work(control: &OwnedFd, controller: Process, modules: &Modules) -> Result<bool, StageError> {
    let (order, segment) = order::take(control)?;
    let LaunchRequest {
        stage,
        instance: first,
        instances,
        terminate_at_limit,
        job,
    } = order;
    let Some(Job {
        work,
        module,
        confinement,
    }) = job
    else {
        return Err(StageError::new("the order names no module"));
    };
    let stages = segment.shape().stage_count();
    let there = segment
        .shape()
        .stages()
        .get(stage as usize)
        .map_or(0, |stage| stage.instances);
    if first.checked_add(instances).is_none_or(|end| end > there) {
        return Err(StageError::new(format!(
            "the pipe has no instances {first} to {} of a stage {stage}",
            u64::from(first) + u64::from(instances) - 1
        )));
    }
    if let Some(allowed) = &confinement {
        confine(allowed)?; // before any thread is started, for it is a thread that is confined
    }
    let (notes, parent) = (Notes::new(control.try_clone()?), getppid());
    let watch = Watch::start(controller, &segment, &notes, OnControllerDeath::End)?;
    // The watch sees to the rest now, in order; a process that is stopped has to go on for that.
    rustix::process::set_parent_process_death_signal(Some(Signal::CONT))?;
    let mut made = runner::caught(|| modules.make(&module, &notes))?;
    if made.work() != work || !made.fits(stage, stages) {
        return Err(StageError::new(format!(
            "the host's module \"{}\" makes another kind of stage than the pipe was described with",
            module.name.escape_debug()
        )));
    }
    let workers: Result<Vec<_>, _> = (first..first + instances)
        .map(|instance| runner::caught(|| Ok(made.worker(instance))))
        .collect();
    let seats = (first..).map(|instance| Seat::new(&segment, stage, instance));
    let seats: Vec<_> = seats.zip(workers?).collect();
    drop((made, module)); // and with it the arguments, which may have a key
    let seats = seats
        .into_iter()
        .map(|(seat, worker)| (seat.terminate_at_limit(terminate_at_limit), worker));
    let all_well = run_all(seats, control, &notes);
    // All that is left is to exit. Should that hang, nobody in here would see the controller die,
    // as it may have already.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != parent {
        kill_process(getpid(), Signal::KILL)?;
    }
    watch.end();
    Ok(all_well)
}

/// Runs each instance on its seat, the last on this thread, and reports how each ended.
fn run_all(
    seats: impl ExactSizeIterator<Item = (Seat, Worker<'static>)>,
    control: &OwnedFd,
    notes: &Notes,
) -> bool {
    let last = seats.len().saturating_sub(1);
    let run = |instance: usize, seat: Seat, worker: Worker<'static>| {
        let result = runner::run(worker, &seat);
        drop(seat);
        // Before it is said that all is well: this process may be killed at any moment.
        let passed_on = notes.pass_on();
        let result = result.and(passed_on);
        report::tell(control, instance as u32, &result);
        result.is_ok()
    };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut all_well = true;
        for (instance, (seat, worker)) in seats.enumerate() {
            if instance == last {
                all_well &= run(instance, seat, worker);
            } else {
                match Builder::new().spawn_scoped(scope, move || run(instance, seat, worker)) {
                    Ok(thread) => threads.push(thread),
                    // The controller stops the others for that.
                    Err(error) => {
                        let error =
                            StageError::new(format!("cannot start a thread for it: {error}"));
                        report::tell(control, instance as u32, &Err(error));
                        all_well = false;
                    }
                }
            }
        }
        threads.into_iter().fold(all_well, |all_well, thread| {
            all_well & thread.join().unwrap_or(false)
        })
    })
}
