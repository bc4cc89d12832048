//! The supervisor: one thread that starts processes, receives their messages, and deals with their
//! deaths.

use std::collections::HashSet;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::admission::Arrival;
use super::super::awake_clock::AwakeClock;
use super::super::event::Event;
use super::super::instance::InstanceExit;
use super::super::supervisor_context::SupervisorContext;
use super::super::work_watch::block_of;
use super::error_output::ErrorOutput;
use super::running_process::RunningProcess;
use super::slot::{InstanceWork, ReportedEnd, Slot};
use super::spec::{ProcessSource, ProcessSpec};
use super::start::start;
use crate::error::{Death, NotReplaced, StageError};
use crate::host::StageMessage;
use crate::host::message::About;
use crate::host::message::{self, Message, Received};
use crate::memory::{Dead, Number, StageId};
use crate::pool::{Activity, Inputs, PortError};
use crate::stage::mirror::Receipt;
use crate::stage::runner::thread::catch_panic;
use crate::words::limit_advice;

/// Longest time between two checks for a stop of the pipe.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};
/// Time between two checks for stopped processes.
const STOPPED_TICK: Duration = Duration::from_millis(250);
/// Time that a process has to end once the pipe stops. Its work is of no use any more.
const GRACE: Duration = Duration::from_secs(2);
/// Packets of one process that are received before the other processes have their turn.
const PACKETS_AT_ONCE: usize = 64;

/// Runs the instances to their ends, each of which is sent to `exits`.
pub(in super::super) fn run(
    specs: Vec<ProcessSpec>,
    context: &SupervisorContext<'_>,
    exits: Sender<InstanceExit>,
) {
    let _stop_on_panic = StopOnPanic(context);
    let mut supervisor = Supervisor {
        context,
        exits,
        slots: Vec::new(),
        fatal_blocks: HashSet::new(),
        stopping_since: None,
        clock: AwakeClock::new(),
        checked_stopped_at: Duration::ZERO,
        packet: Vec::new(),
    };
    for spec in specs {
        let mut slot = Slot::new(spec, supervisor.clock.look());
        if context.segment.is_stopped() {
            supervisor.finish(slot, PortError::Stopped.into(), None);
            continue;
        }
        match supervisor.start(&mut slot) {
            Ok(()) => {
                supervisor.announce(&slot);
                supervisor.slots.push(slot);
            }
            Err(error) => supervisor.finish(slot, error, None),
        }
    }
    while !supervisor.slots.is_empty() {
        supervisor.run_once();
    }
}

/// Closes the attach point when dropped, and stops the pipe if the thread panics, so that no thread
/// and no process waits for a supervisor that has ended. The caller's listener may panic.
struct StopOnPanic<'s>(&'s SupervisorContext<'s>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.segment.stop();
        }
        self.0.attach_point.close();
    }
}

/// Supervises the processes of a pipe until the last has ended.
///
/// Each round waits for something to happen, takes every slot out of `slots`, and puts back those
/// that go on. A slot leaves by [`finish`](Self::finish), which sends the exits of its instances.
struct Supervisor<'s> {
    context: &'s SupervisorContext<'s>,
    exits: Sender<InstanceExit>,
    slots: Vec<Slot>,
    /// Stages and numbers of the blocks at which an instance died.
    fatal_blocks: HashSet<(StageId, Number)>,
    /// The clock of all limits: a time for which the controller was stopped itself does not count.
    clock: AwakeClock,
    /// Time awake at which the pipe was first seen to stop.
    stopping_since: Option<Duration>,
    /// Time awake of the last check for stopped processes.
    checked_stopped_at: Duration,
    /// Buffer for messages of processes.
    packet: Vec<u8>,
}

impl Supervisor<'_> {
    /// Starts the process of a slot, or lets the slot wait for one to attach.
    fn start(&self, slot: &mut Slot) -> Result<(), StageError> {
        let segment = self.context.segment;
        let started = start(&slot.spec, segment);
        slot.running = started.map_err(|error| {
            let what = format!("cannot start its process{}", limit_advice(&error));
            StageError::with_source(what, error)
        })?;
        match &slot.running {
            None => segment.note_activity(slot.spec.id, Activity::Unattached),
            Some(_) => self.count_process(slot),
        }
        Ok(())
    }

    /// Reports the start of a slot's process, if it was started.
    fn announce(&self, slot: &Slot) {
        let Some(running) = &slot.running else { return };
        let (instance, process) = (slot.spec.id, running.process.id());
        let stage = slot.spec.stage_name.clone();
        self.context.listener.notify(|| Event::Started {
            stage,
            instance,
            process,
        });
    }

    /// Counts one more process of a slot, in shared memory, where the status reads it.
    fn count_process(&self, slot: &mut Slot) {
        slot.processes += 1;
        for id in slot.spec.ids() {
            let segment = self.context.segment;
            segment.note_processes(id, slot.processes);
        }
    }

    /// Waits for something to happen, a tick at most, and deals with what has happened.
    fn run_once(&mut self) {
        if self.wait().is_err() {
            std::thread::sleep(Duration::from_millis(50)); // the kernel has no memory for it now
        }
        let now = self.clock.look();
        for arrival in self.context.attach_point.arrivals() {
            self.attach(arrival);
        }
        self.kill_after_stop();
        if now.saturating_sub(self.checked_stopped_at) >= STOPPED_TICK {
            self.checked_stopped_at = now;
            self.end_stopped();
            self.end_overdue();
        }
        for mut slot in std::mem::take(&mut self.slots) {
            self.receive_messages(&mut slot, PACKETS_AT_ONCE, usize::MAX);
            self.read_errors(&mut slot, false);
            if slot.is_bound() && slot.has_finished() {
                // The process has nothing left to do but to exit.
                let since = *slot.finished_at.get_or_insert(now);
                if now.saturating_sub(since) >= GRACE {
                    slot.running.iter().for_each(|running| running.kill(now));
                }
            }
            let dead = slot
                .running
                .as_ref()
                .and_then(|running| running.process.wait(Duration::ZERO).ok().flatten());
            match dead {
                Some(dead) => self.on_exit(slot, &dead),
                None if slot.is_bound() => self.give_up_if_held(slot),
                None => self.check_unbound(slot),
            }
        }
    }

    /// Waits for deaths, for messages and for arrivals, and no longer than a tick.
    fn wait(&self) -> io::Result<()> {
        let mut polled = vec![PollFd::new(self.context.attach_point, PollFlags::IN)];
        for running in self.slots.iter().filter_map(|slot| slot.running.as_ref()) {
            polled.push(PollFd::new(&running.process, PollFlags::IN));
            if !running.hung_up {
                polled.push(PollFd::new(&running.control, PollFlags::IN));
            }
            if let Some(errors) = running.errors.as_ref().and_then(ErrorOutput::polled) {
                polled.push(PollFd::from_borrowed_fd(errors, PollFlags::IN));
            }
        }
        match poll(&mut polled, Some(&TICK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Puts a process that was admitted into its slot.
    fn attach(&mut self, arrival: Arrival) {
        let Arrival {
            id,
            process,
            control,
        } = arrival;
        let Some(position) = self.slots.iter().position(|slot| slot.spec.id == id) else {
            return;
        };
        let mut slot = self.slots.swap_remove(position);
        let (stage, number) = (slot.spec.stage_name.clone(), process.id());
        slot.running = Some(RunningProcess::new(None, process, control));
        self.context.listener.notify(|| Event::Attached {
            stage,
            process: number,
        });
        self.count_process(&mut slot);
        self.slots.push(slot);
    }

    /// Kills the controller's own children that are still running some time after the pipe stopped.
    fn kill_after_stop(&mut self) {
        if !self.context.segment.is_stopped() {
            return;
        }
        let now = self.clock.now();
        let since = *self.stopping_since.get_or_insert(now);
        if now.saturating_sub(since) >= GRACE {
            let children = self.slots.iter().filter(|slot| slot.is_bound());
            children
                .flat_map(|slot| &slot.running)
                .for_each(|running| running.kill(now));
        }
    }

    /// Ends processes that have been stopped for too long. A child is killed, and its death dealt
    /// with as any other. A process that attached may have more to do than this pipe, so it is left
    /// alone, and the pipe stops.
    fn end_stopped(&mut self) {
        let now = self.clock.now();
        for slot in &mut self.slots {
            let Some(running) = slot.running.as_ref().filter(|p| p.is_stopped()) else {
                slot.stopped_for = Duration::ZERO;
                continue;
            };
            // Counted in checks and not by the clock: this process may have been stopped itself.
            slot.stopped_for += STOPPED_TICK;
            if slot.stopped_for <= self.context.stopped_limit {
                continue;
            }
            if slot.is_bound() {
                running.kill(now);
            } else if !self.context.segment.is_stopped() {
                slot.left_at.get_or_insert_with(|| self.clock.now());
                self.context.segment.stop();
            }
        }
    }

    /// Kills the processes that have worked on one block for longer than their limit.
    fn end_overdue(&mut self) {
        let now = self.clock.now();
        for slot in self.slots.iter_mut().filter(|slot| slot.is_bound()) {
            // Counted in checks and not by the clock, as above.
            let Some(id) = slot.check_work(STOPPED_TICK, self.context.segment) else {
                continue;
            };
            let (Some(running), Some(limit)) = (&slot.running, slot.spec.work_limit) else {
                continue;
            };
            if slot.over_limit.replace(limit).is_none() {
                self.context.listener.notify(|| Event::OverLimit {
                    stage: slot.spec.stage_name.clone(),
                    instance: id,
                    process: running.process.id(),
                    block: block_of(id, self.context.segment),
                    limit,
                });
            }
            running.kill(now);
        }
    }

    /// Gives up a process that was killed and does not end, because another process traces it. Its
    /// user may do that: it must hold neither the pipe nor the controller.
    fn give_up_if_held(&mut self, mut slot: Slot) {
        let held = slot.running.as_ref().and_then(|running| {
            let killed = self.clock.now().saturating_sub(running.killed_at.get()?);
            let tracer = running.tracer().filter(|_| killed >= GRACE)?;
            Some((running.process.id(), tracer))
        });
        let Some((process, tracer)) = held else {
            return self.slots.push(slot);
        };
        let text = format!(
            "process {process} was killed and does not end, because process {tracer} traces it: \
             the pipe goes on without it"
        );
        self.notify_text(&slot, text.clone(), false);
        slot.running = None;
        let error = match self.context.segment.is_stopped() {
            true => PortError::Stopped.into(),
            false => StageError::new(text),
        };
        self.finish(slot, error, None);
    }

    /// Receives the messages of a slot's process: `packets` of them at most, and about `bytes`. A
    /// failure that one reports stops the pipe at once.
    fn receive_messages(&mut self, slot: &mut Slot, packets: usize, mut bytes: usize) {
        for _ in 0..packets {
            let running = slot.running.as_mut();
            let Some(running) = running.filter(|running| !running.hung_up && bytes > 0) else {
                return;
            };
            match message::recv(&running.control, &mut self.packet) {
                Received::Nothing => return,
                Received::LeftRequest => running.left_request = true,
                Received::HungUp => {
                    running.hung_up = true;
                    return;
                }
                Received::Message(message, len) => {
                    bytes = bytes.saturating_sub(len);
                    self.handle_message(slot, message);
                }
            }
        }
    }

    /// Reports what a slot's process has written to its standard error. After its death no more is
    /// read: another process may have its end of the pipe, and go on writing.
    fn read_errors(&self, slot: &mut Slot, is_dead: bool) {
        let Some(running) = &mut slot.running else {
            return;
        };
        let Some(mut errors) = running.errors.take() else {
            return;
        };
        let (stage, instance) = (&slot.spec.stage_name, slot.spec.id);
        let (now, process) = (self.clock.now(), running.process.id());
        let mut report = |text| {
            self.context.listener.notify(|| Event::ErrorOutput {
                stage: stage.clone(),
                instance,
                process,
                text,
            });
        };
        if is_dead {
            errors.read_last(now, &mut report);
        } else if errors.read(now, &mut report) {
            running.errors = Some(errors);
        }
    }

    fn handle_message(&self, slot: &mut Slot, message: Message) {
        match message {
            Message::Ended(instance, result) => {
                slot.record_end(instance as usize, result, self.context.segment);
            }
            Message::StageMessage(message) => {
                let is_report = message.about != About::Work;
                let receipt = self.pass_on_data(slot, &message);
                let StageMessage { text, .. } = message;
                if !text.is_empty() {
                    self.notify_text(slot, text, receipt.is_problem);
                }
                if let Some(fault) = receipt.fault.filter(|_| is_report) {
                    self.notify_text(slot, fault, true);
                }
            }
        }
    }

    /// Reports a text of a slot's process.
    fn notify_text(&self, slot: &Slot, text: String, is_problem: bool) {
        let (stage, instance) = (slot.spec.stage_name.clone(), slot.spec.id);
        self.context.listener.notify(|| match is_problem {
            true => Event::Problem {
                stage,
                instance,
                text,
            },
            false => Event::StageMessage {
                stage,
                instance,
                text,
            },
        });
    }

    /// Passes a message to the stage's reports or to its handler. If that panics, the stage has
    /// failed.
    fn pass_on_data(&self, slot: &mut Slot, message: &StageMessage) -> Receipt {
        let (handler, instance) = (&slot.spec.message_handler, slot.spec.id.index());
        let mut receipt = Receipt::default();
        let handled = catch_panic(|| {
            match message.about {
                About::Work if message.data.is_empty() => {}
                About::Work => handler.call(&message.data),
                About::Report => receipt = handler.reports.receive(instance, &message.data),
                About::Problems(report, increase) => {
                    receipt = handler.reports.receive_problems(instance, report, increase);
                }
            }
            Ok(())
        });
        if handled.is_err() {
            slot.record_end(0, handled, self.context.segment);
        }
        receipt
    }

    /// Decides how an unbound slot goes on whose process has not died, or has not attached yet.
    fn check_unbound(&mut self, slot: Slot) {
        if slot.running.is_some() {
            self.check_attached(slot);
        } else {
            self.check_unattached(slot);
        }
    }

    /// Lets a slot wait for a process to attach, unless the pipe stops or the time for that is up.
    fn check_unattached(&mut self, slot: Slot) {
        let ProcessSource::Unbound(patience) = slot.spec.source else {
            return;
        };
        let is_stopped = self.context.segment.is_stopped();
        if !is_stopped && self.clock.now().saturating_sub(slot.created_at) < patience {
            return self.slots.push(slot);
        }
        // A process may have been admitted since the last look. Later ones are refused.
        let arrived = self.context.attach_point.withdraw(slot.spec.id);
        if !arrived.is_empty() {
            self.slots.push(slot);
            return arrived.into_iter().for_each(|arrival| self.attach(arrival));
        }
        let error = if is_stopped {
            PortError::Stopped.into()
        } else {
            StageError::new(format!(
                "no process attached to it within {} s",
                patience.as_secs_f64()
            ))
        };
        self.finish(slot, error, None);
    }

    /// Lets a process that attached go on, until its instances have ended or it has left the pipe.
    fn check_attached(&mut self, mut slot: Slot) {
        if slot.has_finished() {
            return self.finish(slot, PortError::Stopped.into(), None);
        }
        let Some(running) = &slot.running else { return };
        let is_stopped = self.context.segment.is_stopped();
        if running.hung_up && !is_stopped {
            // It may be about to die, or go on without the pipe. Once the pipe stops, that it hangs
            // up is only a consequence.
            slot.left_at.get_or_insert_with(|| self.clock.now());
            self.context.segment.stop();
        }
        let process = running.process.id();
        let waiting_since = slot
            .left_at
            .or_else(|| self.stopping_since.filter(|_| is_stopped));
        if waiting_since.is_some_and(|since| self.clock.now().saturating_sub(since) >= GRACE) {
            let error = match slot.left_at {
                Some(_) if running.hung_up => {
                    StageError::new(format!("process {process} left the pipe before its end"))
                }
                Some(_) => StageError::new(format!("process {process} was stopped for too long")),
                None => PortError::Stopped.into(),
            };
            return self.finish(slot, error, None);
        }
        self.slots.push(slot);
    }

    /// Deals with the death of a slot's process: replaces it, or finishes the slot.
    ///
    /// First the messages that it sent before it died are received: if they report the ends of all
    /// its instances, the death is of no interest. Otherwise it is a failure, unless the pipe stops
    /// anyway, or a replacement can take over. [`Event::Died`] is reported when it is known whether
    /// the replacement has started.
    fn on_exit(&mut self, mut slot: Slot, dead: &Dead) {
        // No more than the process had sent: another process may have its end of the connection,
        // and go on sending.
        let running = slot.running.as_mut();
        let unread = running.map_or(0, |running| {
            running.left_request |= message::left_request(&running.control);
            message::unread(&running.control)
        });
        self.receive_messages(&mut slot, usize::MAX, unread);
        self.read_errors(&mut slot, true);
        let status = slot.running.as_mut().map(RunningProcess::exit_status);
        let status = status.transpose().map(Option::flatten);
        if slot.has_finished() {
            return self.finish(slot, PortError::Stopped.into(), Some(dead));
        }
        let has_left = slot.left_at.is_some();
        let outcome = match &status {
            Err(error) => Err(StageError::new(format!(
                "its process died, and its exit status cannot be read: {error}"
            ))),
            Ok(_) if self.context.segment.is_stopped() && !has_left => {
                Err(PortError::Stopped.into())
            }
            Ok(status) => self.prepare_replacement(&mut slot, dead, *status),
        };
        let outcome = outcome.and_then(|()| self.start(&mut slot));
        let (id, replaced) = (slot.spec.id, outcome.is_ok());
        self.context.listener.notify(|| Event::Died {
            stage: slot.spec.stage_name.clone(),
            instance: id,
            process: dead.process(),
            status: status.ok().flatten(),
            replaced,
        });
        match outcome {
            Ok(()) => {
                self.announce(&slot);
                self.slots.push(slot);
            }
            Err(error) => self.finish(slot, error, Some(dead)),
        }
    }

    /// Reclaims what a dead process held, so that a replacement can take over and inherit its
    /// inputs. Fails with the death if it is not to be replaced.
    fn prepare_replacement(
        &mut self,
        slot: &mut Slot,
        dead: &Dead,
        status: Option<ExitStatus>,
    ) -> Result<(), StageError> {
        let over_limit = slot.over_limit;
        let death = |reason| {
            StageError::died(Death {
                process: dead.process(),
                status,
                reason,
                over_limit,
            })
        };
        if status.is_some_and(|status| status.signal().is_none()) {
            let left_request = slot.running.as_ref().is_some_and(|p| p.left_request);
            return Err(death(match left_request {
                true => NotReplaced::NotServed,
                false => NotReplaced::Exited,
            }));
        }
        if let Some(reason) = slot.spec.irreplaceable {
            return Err(death(reason));
        }
        let (id, segment) = (slot.spec.id, self.context.segment);
        let has_begun = segment.has_seat(id, dead);
        segment
            .reclaim(id, dead, Inputs::Inherit)
            .map_err(PortError::from)?;
        let counted = if slot.spec.is_replaceable_end {
            let place = segment.place_of_end(id).map_err(PortError::from)?;
            slot.count_death_at_end(has_begun, place)
        } else {
            let first_input = segment.first_input(id);
            slot.count_death(segment.taken_up(id), first_input, &mut self.fatal_blocks)
        };
        counted.map_err(death)?;
        (slot.stopped_for, slot.running, slot.over_limit) = (Duration::ZERO, None, None);
        slot.work.fill(InstanceWork::default());
        Ok(())
    }

    /// Sends the exits of a slot's instances to the controller: as they were reported, or, for the
    /// first that was not, with `error`. A failure stops the pipe, and the buffers that the
    /// instance held are released.
    fn finish(&self, slot: Slot, error: StageError, dead: Option<&Dead>) {
        let segment = self.context.segment;
        let mut error = Some(error);
        for (id, end) in slot.spec.ids().zip(slot.ends) {
            // A process that died did not mark its instance as ended, and one that never took its
            // seat did not have to: the others must not wait for it.
            segment.note_activity(id, Activity::Ended);
            let ReportedEnd { result, after_stop } = end.unwrap_or_else(|| {
                let error = error.take().unwrap_or_else(|| PortError::Stopped.into());
                ReportedEnd {
                    result: Err(error),
                    // For a process that left, the stop of the pipe is the consequence.
                    after_stop: segment.is_stopped() && slot.left_at.is_none(),
                }
            });
            if result.is_err() {
                segment.stop();
                if let Some(dead) = dead {
                    // The reason of its end comes first: if the segment is corrupt, that may be
                    // only a consequence.
                    let _ = segment.reclaim(id, dead, Inputs::Release);
                }
            }
            // The controller receives until the last instance has ended.
            let _ = self.exits.send(InstanceExit {
                id,
                result,
                after_stop,
            });
        }
    }
}
