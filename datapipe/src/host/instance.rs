//! A process that runs instances of a stage, from its launch request to its end.

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread::{self, Builder};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, getpid, getppid, kill_process};

use super::confine::confine;
use super::launch_request::{Job, LaunchRequest};
use super::message;
use super::message_sources::MessageSources;
use super::modules::Modules;
use super::stop_signals;
use super::watch::{OnControllerDeath, Watch};
use crate::error::StageError;
use crate::memory::{InstanceId, Process, Segment};
use crate::pool::Seat;
use crate::stage::runner::{Worker, thread as runner};

/// Runs the instances that the controller requests on standard input. Returns the process's exit
/// code.
#[allow(
    clippy::needless_pass_by_value,
    reason = "the modules end with the instance, before the process exits"
)]
pub(super) fn run(modules: Modules) -> i32 {
    let (control, controller) = match take_control() {
        Ok(taken) => taken,
        Err(error) => {
            // A controller that has died meanwhile is not this program's error.
            if !has_hung_up(rustix::stdio::stdin()) {
                eprintln!("this process was not started by a pipe's controller: {error}");
            }
            return 2;
        }
    };
    match run_request(&control, controller, &modules) {
        Ok(all_well) => i32::from(!all_well),
        Err(error) => {
            // No instance has started, so this is the first result.
            message::send_result(&control, 0, &Err(error));
            1
        }
    }
}

/// True if the other end of a socket is closed.
fn has_hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    let found = rustix::event::poll(&mut polled, Some(&Timespec::default()));
    found.is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// Takes the control socket from standard input, and binds this process's life to the controller's.
fn take_control() -> io::Result<(OwnedFd, Process)> {
    stop_signals::drop_pending()?;
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let controller = rustix::net::sockopt::socket_peercred(&control)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let watched = Process::watch(controller.pid.as_raw_nonzero().get().unsigned_abs())?;
    // The controller may have died before the death signal was set. Besides, only the parent may
    // send a launch request.
    if getppid() != Some(controller.pid) {
        return Err(io::Error::other(
            "its parent is not the process that made its control socket",
        ));
    }
    name_process();
    let nothing = rustix::io::retry_on_intr(|| {
        rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    })?;
    rustix::stdio::dup2_stdin(&nothing)?;
    Ok((control, watched))
}

/// Names this process by its program, for people who list processes: one that was started from an
/// open file has the number of a descriptor as its name.
fn name_process() {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    if let Ok(name) = CString::new(name.as_bytes()) {
        // The name is for people only.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Receives the launch request, and runs its instances. Returns true if all of them ended well.
///
/// The controller's death must end this process at any time, in one of three ways: by SIGKILL
/// before the watch runs, by the watch in an orderly way while the instances run, and by SIGKILL
/// again when only the exit is left.
fn run_request(
    control: &OwnedFd,
    controller: Process,
    modules: &Modules,
) -> Result<bool, StageError> {
    let (mut request, segment) = LaunchRequest::recv(control)?;
    let Some(job) = request.job.take() else {
        return Err(StageError::new("the launch request names no module"));
    };
    let ids = requested_instances(&request, &segment)?;
    if let Some(allowed) = &job.confinement {
        confine(allowed)?; // before any thread is started, because only this thread is confined
    }
    let (messages, parent) = (MessageSources::new(control.try_clone()?), getppid());
    let watch = Watch::start(controller, &segment, &messages, OnControllerDeath::End)?;
    // From here on the watch ends the process in order. SIGCONT wakes a process that is stopped.
    rustix::process::set_parent_process_death_signal(Some(Signal::CONT))?;
    let workers = make_workers(&ids, job, &segment, modules, &messages)?;
    let seat = |id| Seat::new(&segment, id).at_limit(request.at_limit);
    let seats: Vec<_> = ids.into_iter().map(seat).zip(workers).collect();
    let all_well = run_all(seats, control, &messages);
    // Only the exit is left. Should that hang, nothing in this process would notice the
    // controller's death, which may already have happened.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != parent {
        kill_process(getpid(), Signal::KILL)?;
    }
    watch.end();
    Ok(all_well)
}

/// Returns the instances of the request, which names at least one. Fails if the pipe does not have
/// them all.
fn requested_instances(
    request: &LaunchRequest,
    segment: &Segment,
) -> Result<Vec<InstanceId>, StageError> {
    let (stage, first) = (request.first.stage(), request.first.index());
    let last = first.checked_add(request.instances - 1);
    match last.filter(|&last| segment.shape().has_instance(stage.instance(last))) {
        Some(last) => Ok((first..=last).map(|index| stage.instance(index)).collect()),
        None => Err(StageError::new(format!(
            "the pipe has no instances {first} to {} of a stage {stage}",
            u64::from(first) + u64::from(request.instances) - 1
        ))),
    }
}

/// Makes the stage, and from it a worker for each instance. Drops the job, whose arguments may
/// contain a key, before any instance runs.
fn make_workers(
    instances: &[InstanceId],
    job: Job,
    segment: &Segment,
    modules: &Modules,
    messages: &MessageSources,
) -> Result<Vec<Worker<'static>>, StageError> {
    let mut stage = runner::catch_panic(|| modules.make(&job, messages))?;
    messages.add_reports(stage.reports());
    let fits = |id: &InstanceId| stage.fits(id.stage(), segment.shape());
    if stage.kind() != job.kind || !instances.iter().all(fits) {
        return Err(StageError::new(format!(
            "the host's module \"{}\" makes another kind of stage than the pipe was described with",
            job.module.name.escape_debug()
        )));
    }
    drop(job);
    instances
        .iter()
        .map(|id| runner::catch_panic(|| Ok(stage.worker(*id))))
        .collect()
}

/// Message for an instance without a thread.
const NO_THREAD: &str = "cannot start a thread for it; the user may have reached the limit of \
                         threads (ulimit -u), which fewer instances do not";

/// Runs each instance on its seat, the last on this thread and the others on threads of their own,
/// and reports the result of each.
fn run_all(
    seats: Vec<(Seat, Worker<'static>)>,
    control: &OwnedFd,
    messages: &MessageSources,
) -> bool {
    let last = seats.len().saturating_sub(1);
    let run = |instance: usize, seat: Seat, worker: Worker<'static>| {
        let result = runner::run(worker, &seat);
        drop(seat);
        // The result comes last: from then on this process may be killed without harm.
        let sent = messages.send_pending();
        let result = result.and(sent);
        message::send_result(control, instance as u32, &result);
        result.is_ok()
    };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut all_well = true;
        for (instance, (seat, worker)) in seats.into_iter().enumerate() {
            if instance == last {
                all_well &= run(instance, seat, worker);
            } else {
                match Builder::new().spawn_scoped(scope, move || run(instance, seat, worker)) {
                    Ok(thread) => threads.push(thread),
                    // The controller stops the other instances when it receives this.
                    Err(error) => {
                        let error = StageError::with_source(NO_THREAD, error);
                        message::send_result(control, instance as u32, &Err(error));
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
