//! Pipes of the program's own stages.

use std::time::Duration;

use datapipe::Status;

use crate::boundary::{Handle, In, Out, OutHandle, Text, User, call, check_reserved, versioned};
use crate::failure::Failure;
use crate::pipe::{PIPES, PipeEntry, PipeSettings, check_not_in_stage};
use crate::status::{DP_ERR_NULL, DP_OK, DP_TIMED_OUT, dp_status};

use super::backup::status_of;
use super::cancel::{dp_cancel, token_of};
use super::event::{dp_event_function, event_sink};
use super::hooks::nanoseconds;
use super::stage::dp_stage;
use super::stage_spec::StageSpec;

/// A pipe: described, running or ended. A handle, and not an address.
#[derive(Debug)]
pub struct dp_pipe {
    _private: [u8; 0],
}

/// Time of a wait without an end.
pub const DP_FOREVER: u64 = u64::MAX;

/// Options of a pipe. Fields that are 0 have their default.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_pipe_options {
    /// `sizeof(dp_pipe_options)`.
    pub size: usize,
    /// Name of the pipe in messages, in UTF-8, at most 64 bytes. NULL for none.
    pub label: Text,
    /// Token that cancels the pipe while a thread waits for it, or NULL.
    pub cancel: Handle<dp_cancel>,
    /// Buffers in the pool; 0 for enough to keep every instance busy.
    pub buffers: u32,
    /// Size of a buffer in bytes, 512 to 64 MiB; 0 for 4 MiB.
    pub buffer_size: u32,
    /// Set to 0.
    pub reserved: u32,
    /// Set to 0.
    pub reserved_2: u32,
    /// Receives the events of the pipe, or NULL.
    pub event: dp_event_function,
    /// Pointer that is passed to `event`.
    pub event_user: User,
}

versioned!(dp_pipe_options, first: 56, {
    size, label, cancel, buffers, buffer_size, reserved, reserved_2, event, event_user
});

/// Result of a pipe that has ended well.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_pipe_result {
    /// `sizeof(dp_pipe_result)`: set it before the call.
    pub size: usize,
    /// Bytes that the head has sent.
    pub bytes_in: u64,
    /// Bytes that the tail has received.
    pub bytes_out: u64,
    /// Problems that the stages have counted, rejected blocks among them. The status is
    /// `DP_INCOMPLETE` if there are any.
    pub problems: u64,
    /// Blocks that `inspect` has marked.
    pub marked: u64,
    /// Blocks that `inspect` has rejected.
    pub rejected: u64,
    /// Time of the pipe in nanoseconds.
    pub elapsed_ns: u64,
}

versioned!(dp_pipe_result, first: 56, {
    size, bytes_in, bytes_out, problems, marked, rejected, elapsed_ns
});

/// State of a pipe at one moment.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_pipe_status {
    /// `sizeof(dp_pipe_status)`: set it before the call.
    pub size: usize,
    /// Bytes that the head has sent.
    pub bytes_in: u64,
    /// Bytes that the tail has received.
    pub bytes_out: u64,
    /// Time since the pipe has started, until it has ended, in nanoseconds.
    pub elapsed_ns: u64,
    /// 1 while the pipe runs, 0 when it has ended.
    pub running: u32,
    /// Stages, with those that the library has added.
    pub stages: u32,
    /// Buffers in the pool.
    pub buffers: u32,
    /// Buffers that are free.
    pub free_buffers: u32,
}

versioned!(dp_pipe_status, first: 48, {
    size, bytes_in, bytes_out, elapsed_ns, running, stages, buffers, free_buffers
});

/// Makes a pipe without stages.
///
/// `options` may be NULL. What it refers to is copied. Ownership: free the pipe with
/// `dp_pipe_free`.
///
/// Threads: any. Errors: `DP_ERR_NULL`, `DP_ERR_ARGUMENT`, `DP_ERR_LIMIT`, and those of a token.
#[unsafe(no_mangle)]
pub extern "C" fn dp_pipe_new(options: In<dp_pipe_options>, pipe: OutHandle<dp_pipe>) -> dp_status {
    call(|| {
        pipe.check("pipe")?;
        let (mut settings, mut event) = (PipeSettings::default(), None);
        if let Some(options) = options.read()? {
            check_reserved("dp_pipe_options", options.reserved | options.reserved_2)?;
            settings = PipeSettings {
                label: options.label.utf8("label")?,
                buffers: Some(options.buffers).filter(|buffers| *buffers > 0),
                buffer_size: Some(options.buffer_size).filter(|size| *size > 0),
                token: token_of(options.cancel)?,
            };
            event = event_sink(options.event, options.event_user);
        }
        pipe.write(PIPES.insert(PipeEntry::new(settings, event))?);
        Ok(DP_OK)
    })
}

/// Adds a stage to a pipe that was not started: the head first, the tail last.
///
/// `stage` is copied. Its functions and its user pointer are used until the pipe is freed.
///
/// Threads: any, one call at a time takes effect. Errors: those of a handle, `DP_ERR_ARGUMENT`,
/// `DP_ERR_NULL` if a function is missing, `DP_ERR_STATE` if the stage cannot come here.
#[unsafe(no_mangle)]
pub extern "C" fn dp_pipe_add(pipe: Handle<dp_pipe>, stage: In<dp_stage>) -> dp_status {
    call(|| {
        let entry = PIPES.find(pipe.bits())?;
        entry.add(StageSpec::of(&stage.read_needed()?)?.placed()?)?;
        Ok(DP_OK)
    })
}

/// Starts a pipe, and returns while it runs. Wait for it with `dp_pipe_wait`.
///
/// Threads: any. Errors: those of a handle, `DP_ERR_STATE` without a tail or for a pipe that was
/// started before, `DP_ERR_REFUSED` if it cannot work, `DP_ERR_MEMORY`, `DP_ERR_SYSTEM`. After one
/// of the latter three, the pipe can only be freed.
#[unsafe(no_mangle)]
pub extern "C" fn dp_pipe_start(pipe: Handle<dp_pipe>) -> dp_status {
    call(|| {
        PIPES.find(pipe.bits())?.start()?;
        Ok(DP_OK)
    })
}

/// Waits for the end of a pipe, for at most `timeout_ms` milliseconds, or `DP_FOREVER`. When it has
/// ended, each call returns its outcome.
///
/// `result` may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
///
/// Threads: any, several at once; not in a function of a stage, which returns `DP_ERR_REENTRANT`.
/// Errors: `DP_TIMED_OUT` is not an error. Those of a handle, `DP_ERR_STATE`, `DP_ERR_CANCELLED`,
/// `DP_ERR_STAGE` or the status of its cause.
#[unsafe(no_mangle)]
pub extern "C" fn dp_pipe_wait(
    pipe: Handle<dp_pipe>,
    timeout_ms: u64,
    result: Out<dp_pipe_result>,
) -> dp_status {
    call(|| {
        let result = result.check()?;
        let entry = PIPES.find(pipe.bits())?;
        check_not_in_stage()?;
        let Some(outcome) = entry.wait(wait_of(timeout_ms))? else {
            return Ok(DP_TIMED_OUT);
        };
        if let Some(result) = result {
            result.write(&dp_pipe_result {
                size: size_of::<dp_pipe_result>(),
                bytes_in: outcome.bytes_in,
                bytes_out: outcome.bytes_out,
                problems: outcome.problems,
                marked: outcome.marked,
                rejected: outcome.rejected,
                elapsed_ns: nanoseconds(outcome.elapsed),
            });
        }
        Ok(status_of(outcome.problems))
    })
}

/// Stops a pipe that runs: a wait then returns `DP_ERR_CANCELLED`, unless it had ended before. A
/// function of a stage that does not return keeps the pipe from ending.
///
/// Threads: any, also in functions of stages; not in a signal handler, for which there are tokens.
/// Errors: those of a handle, `DP_ERR_STATE` if the pipe was not started.
#[unsafe(no_mangle)]
pub extern "C" fn dp_pipe_cancel(pipe: Handle<dp_pipe>) -> dp_status {
    call(|| {
        PIPES.find(pipe.bits())?.cancel()?;
        Ok(DP_OK)
    })
}

/// Reads the state of a pipe that was started.
///
/// Threads: any. Errors: those of a handle, `DP_ERR_NULL`, `DP_ERR_STATE`, and the error with which
/// the pipe could not be started.
#[unsafe(no_mangle)]
pub extern "C" fn dp_pipe_get_status(
    pipe: Handle<dp_pipe>,
    status: Out<dp_pipe_status>,
) -> dp_status {
    call(|| {
        let slot = status.check()?;
        let slot = slot.ok_or_else(|| Failure::new(DP_ERR_NULL, "status is NULL"))?;
        let (status, is_running) = PIPES.find(pipe.bits())?.status()?;
        slot.write(&pipe_status_of(&status, is_running));
        Ok(DP_OK)
    })
}

/// Frees a pipe. One that runs, or that another thread is starting, is stopped first, and the call
/// waits for its end; a thread that waits for the pipe gets its outcome. Afterwards no function of
/// its stages runs.
///
/// Threads: any; not in a function of a stage, which returns `DP_ERR_REENTRANT`. Errors: those of a
/// handle.
#[unsafe(no_mangle)]
pub extern "C" fn dp_pipe_free(pipe: Handle<dp_pipe>) -> dp_status {
    call(|| {
        check_not_in_stage()?;
        PIPES.remove(pipe.bits())?.stop();
        Ok(DP_OK)
    })
}

/// The longest time of a wait; `None` for one without an end.
pub(super) fn wait_of(timeout_ms: u64) -> Option<Duration> {
    let timeout = Some(timeout_ms).filter(|timeout| *timeout != DP_FOREVER);
    timeout.map(Duration::from_millis)
}

fn pipe_status_of(status: &Status, is_running: bool) -> dp_pipe_status {
    dp_pipe_status {
        size: size_of::<dp_pipe_status>(),
        bytes_in: status.bytes_in(),
        bytes_out: status.bytes_out(),
        elapsed_ns: nanoseconds(status.elapsed),
        running: is_running.into(),
        stages: status.stages.len() as u32,
        buffers: status.buffers,
        free_buffers: status.free,
    }
}
