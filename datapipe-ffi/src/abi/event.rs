//! Events of a pipe.

use std::ffi::c_char;

use datapipe::Event;

use crate::boundary::{User, show, versioned};
use crate::last_error::{line_of, text_of};
use crate::pipe::{EventSink, in_stage};

use super::hooks::nanoseconds;

/// Event: an instance was started on a thread.
pub const DP_EVENT_THREAD_STARTED: i32 = 1;
/// Event: an instance was not started, because the system gave it no thread. Others do its work.
pub const DP_EVENT_NOT_STARTED: i32 = 2;
/// Event: an instance ended well.
pub const DP_EVENT_ENDED: i32 = 3;
/// Event: an instance failed, and the pipe stops.
pub const DP_EVENT_FAILED: i32 = 4;
/// Event: an instance ended because the pipe was stopped.
pub const DP_EVENT_STOPPED: i32 = 5;
/// Event: a stage that writes or reads an archive has begun the volume `number`.
pub const DP_EVENT_VOLUME: i32 = 6;
/// Event: the first `number` blocks with `bytes` bytes are on stable storage.
pub const DP_EVENT_CHECKPOINT: i32 = 7;
/// Event: an instance has worked on block `number` for a long time, and goes on.
pub const DP_EVENT_STALLED: i32 = 8;
/// Event: the pipe was stopped some time ago, and an instance has not ended.
pub const DP_EVENT_STILL_WAITING: i32 = 9;
/// Event: a process has worked on block `number` for longer than its limit, and is killed.
pub const DP_EVENT_OVER_LIMIT: i32 = 10;
/// Event: a process of a stage was started.
pub const DP_EVENT_PROCESS_STARTED: i32 = 11;
/// Event: a process attached to an unbound stage.
pub const DP_EVENT_ATTACHED: i32 = 12;
/// Event: a process died.
pub const DP_EVENT_DIED: i32 = 13;
/// Event: a process reported a problem, and goes on.
pub const DP_EVENT_PROBLEM: i32 = 14;
/// Event that has no number of its own: its text describes it.
pub const DP_EVENT_OTHER: i32 = 99;

/// An event in the life of a pipe.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_event {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// The event as a sentence, in one line of UTF-8. Control characters are escaped.
    pub text: *const c_char,
    /// Name of the stage, in UTF-8, as the program has given it. Empty for `DP_EVENT_OTHER`.
    pub stage: *const c_char,
    /// Number of a block from 0, of blocks, or of a volume from 1; 2^64 - 1 if the event has none,
    /// or it is not known.
    pub number: u64,
    /// Bytes of a checkpoint before compression; otherwise 0.
    pub bytes: u64,
    /// Time that the event names, in nanoseconds; 0 if it names none.
    pub time_ns: u64,
    /// `DP_EVENT_...`. Later versions have more.
    pub kind: i32,
    /// The instance of the stage, from 0.
    pub instance: u32,
    /// Id of the process, or 0.
    pub process: u32,
    /// 0.
    pub reserved: u32,
}

versioned!(dp_event, first: 64, {
    size, text, stage, number, bytes, time_ns, kind, instance, process, reserved
});

/// Receives an event. The number that is returned is ignored: return 0.
///
/// Threads: any thread of the library, or that of `dp_pipe_start`; several at once. The pipe waits
/// for the function, which may cancel the pipe, and cannot wait for it or free it
/// (`DP_ERR_REENTRANT`). Pointers are valid until the function returns.
pub type dp_event_function =
    Option<unsafe extern "C" fn(user: User, event: *const dp_event) -> i32>;

/// Makes the receiver of events.
pub(super) fn event_sink(function: dp_event_function, user: User) -> Option<EventSink> {
    let function = function?;
    Some(Box::new(move |event: &Event| {
        let (event_text, stage) = (line_of(&event.to_string()), text_of(stage_of(event)));
        let mut shown = facts_of(event);
        (shown.text, shown.stage) = (event_text.as_ptr(), stage.as_ptr());
        in_stage(|| show(function, user, &shown));
    }))
}

/// An event with this kind, instance and number, without its texts.
fn with(kind: i32, instance: u32, number: Option<u64>) -> dp_event {
    dp_event {
        size: size_of::<dp_event>(),
        text: std::ptr::null(),
        stage: std::ptr::null(),
        number: number.unwrap_or(u64::MAX),
        bytes: 0,
        time_ns: 0,
        kind,
        instance,
        process: 0,
        reserved: 0,
    }
}

/// The facts of an event, without its texts.
fn facts_of(event: &Event) -> dp_event {
    match event {
        Event::ThreadStarted { instance, .. } => {
            with(DP_EVENT_THREAD_STARTED, instance.index(), None)
        }
        Event::NotStarted { instance, .. } => with(DP_EVENT_NOT_STARTED, instance.index(), None),
        Event::Ended { instance, .. } => with(DP_EVENT_ENDED, instance.index(), None),
        Event::Failed { instance, .. } => with(DP_EVENT_FAILED, instance.index(), None),
        Event::Stopped { instance, .. } => with(DP_EVENT_STOPPED, instance.index(), None),
        Event::Volume { volume, .. } => with(DP_EVENT_VOLUME, 0, Some((*volume).into())),
        Event::Checkpoint { blocks, bytes, .. } => dp_event {
            bytes: *bytes,
            ..with(DP_EVENT_CHECKPOINT, 0, Some(*blocks))
        },
        Event::Stalled {
            instance,
            block,
            time,
            ..
        } => dp_event {
            time_ns: nanoseconds(*time),
            ..with(DP_EVENT_STALLED, instance.index(), *block)
        },
        Event::StillWaiting {
            instance,
            block,
            time,
            ..
        } => dp_event {
            time_ns: nanoseconds(*time),
            ..with(DP_EVENT_STILL_WAITING, instance.index(), *block)
        },
        event => facts_of_process(event),
    }
}

/// The facts of an event of a process.
fn facts_of_process(event: &Event) -> dp_event {
    let of = |kind, instance, process| dp_event {
        process,
        ..with(kind, instance, None)
    };
    match event {
        Event::OverLimit {
            instance,
            process,
            block,
            limit,
            ..
        } => dp_event {
            process: *process,
            time_ns: nanoseconds(*limit),
            ..with(DP_EVENT_OVER_LIMIT, instance.index(), *block)
        },
        Event::Started {
            instance, process, ..
        } => of(DP_EVENT_PROCESS_STARTED, instance.index(), *process),
        Event::Attached { process, .. } => of(DP_EVENT_ATTACHED, 0, *process),
        Event::Died {
            instance, process, ..
        } => of(DP_EVENT_DIED, instance.index(), *process),
        Event::Problem { instance, .. } => of(DP_EVENT_PROBLEM, instance.index(), 0),
        Event::ErrorOutput {
            instance, process, ..
        } => of(DP_EVENT_OTHER, instance.index(), *process),
        Event::StageMessage { instance, .. } => of(DP_EVENT_OTHER, instance.index(), 0),
        _ => of(DP_EVENT_OTHER, 0, 0),
    }
}

/// Name of the stage of an event; empty if a later version of the events has none.
fn stage_of(event: &Event) -> &str {
    match event {
        Event::ThreadStarted { stage, .. }
        | Event::NotStarted { stage, .. }
        | Event::Ended { stage, .. }
        | Event::Failed { stage, .. }
        | Event::Stopped { stage, .. }
        | Event::Volume { stage, .. }
        | Event::Checkpoint { stage, .. }
        | Event::Stalled { stage, .. }
        | Event::StillWaiting { stage, .. }
        | Event::OverLimit { stage, .. }
        | Event::Started { stage, .. }
        | Event::Attached { stage, .. }
        | Event::Died { stage, .. }
        | Event::Problem { stage, .. }
        | Event::ErrorOutput { stage, .. }
        | Event::StageMessage { stage, .. } => stage,
        _ => "",
    }
}
