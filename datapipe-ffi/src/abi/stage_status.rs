//! The state of each stage of a pipe.

use std::ffi::c_char;
use std::time::Duration;

use datapipe::controller::{InstanceStatus, StageStatus};
use datapipe::limits::MAX_NAME;
use datapipe::pool::Activity;

use crate::boundary::{Handle, OutArray, OutCount, call, versioned};
use crate::pipe::PIPES;
use crate::status::{DP_OK, dp_status};

use super::hooks::nanoseconds;
use super::pipe::dp_pipe;

/// Bytes of the name in a status: the longest name, a zero byte, and padding.
const NAME_LEN: usize = 72;

const _: () = assert!(MAX_NAME < NAME_LEN, "a name has a zero byte after it");

/// State of a stage at one moment. Numbers and times are sums over its instances.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_stage_status {
    /// `sizeof(dp_stage_status)`: set it in the first one of an array before the call.
    pub size: usize,
    /// Name of the stage, in UTF-8, and a zero byte.
    pub name: [c_char; 72],
    /// Blocks that the stage has received.
    pub blocks_in: u64,
    /// Bytes that it has received.
    pub bytes_in: u64,
    /// Blocks that it has sent.
    pub blocks_out: u64,
    /// Bytes that it has sent.
    pub bytes_out: u64,
    /// Time that it worked, in nanoseconds.
    pub working_ns: u64,
    /// Time that it waited for a buffer, in nanoseconds.
    pub waited_for_buffer_ns: u64,
    /// Time that it waited for input, in nanoseconds.
    pub waited_for_input_ns: u64,
    /// Blocks that wait in its input queue; for the head, free buffers.
    pub queued: u32,
    /// Buffers that it holds.
    pub held: u32,
    /// Instances.
    pub instances: u32,
    /// Instances that work.
    pub working: u32,
    /// Instances that wait for a buffer.
    pub waiting_for_buffer: u32,
    /// Instances that wait for input.
    pub waiting_for_input: u32,
    /// Instances that have ended, well or not.
    pub ended: u32,
    /// Instances that wait for a process to attach.
    pub unattached: u32,
}

versioned!(dp_stage_status, first: 168, {
    size, name, blocks_in, bytes_in, blocks_out, bytes_out, working_ns, waited_for_buffer_ns,
    waited_for_input_ns, queued, held, instances, working, waiting_for_buffer, waiting_for_input,
    ended, unattached
});

/// Reads the state of each stage of a pipe that was started, head first, at one moment. The stages
/// that the library has added are among them.
///
/// `stages` is an array of `capacity` structs, the first of which has its size; as many are written
/// as there are stages and room, each with its size. `count` receives the number of stages of the
/// pipe. With a `capacity` of 0, `stages` may be NULL.
///
/// Threads: any. Errors: those of a handle, `DP_ERR_NULL`, `DP_ERR_STRUCT_SIZE`, `DP_ERR_STATE`,
/// and the error with which the pipe could not be started.
#[unsafe(no_mangle)]
pub extern "C" fn dp_pipe_get_stages(
    pipe: Handle<dp_pipe>,
    stages: OutArray<dp_stage_status>,
    capacity: usize,
    count: OutCount,
) -> dp_status {
    call(|| {
        count.check("count")?;
        let slots = stages.check(capacity)?;
        let (status, _) = PIPES.find(pipe.bits())?.status()?;
        let stages: Vec<_> = status.stages.iter().map(dp_stage_status::of).collect();
        slots.write(&stages);
        count.write(stages.len());
        Ok(DP_OK)
    })
}

impl dp_stage_status {
    fn of(stage: &StageStatus) -> Self {
        let all = &stage.instances;
        let sum = |of: fn(&InstanceStatus) -> u64| all.iter().map(of).sum::<u64>();
        let time = |of: fn(&InstanceStatus) -> Duration| nanoseconds(all.iter().map(of).sum());
        let count = |activity: Activity| {
            let such = all.iter().filter(|instance| instance.activity == activity);
            such.count() as u32
        };
        Self {
            size: size_of::<Self>(),
            name: name_of(&stage.name),
            blocks_in: sum(|instance| instance.blocks_in),
            bytes_in: sum(|instance| instance.bytes_in),
            blocks_out: sum(|instance| instance.blocks_out),
            bytes_out: sum(|instance| instance.bytes_out),
            working_ns: time(|instance| instance.working),
            waited_for_buffer_ns: time(|instance| instance.waited_for_buffer),
            waited_for_input_ns: time(|instance| instance.waited_for_input),
            queued: stage.queued,
            held: all.iter().map(|instance| instance.held).sum(),
            instances: all.len() as u32,
            working: count(Activity::Working),
            waiting_for_buffer: count(Activity::WaitingForBuffer),
            waiting_for_input: count(Activity::WaitingForInput),
            ended: count(Activity::Ended),
            unattached: count(Activity::Unattached),
        }
    }
}

/// A name with a zero byte after it. The names of stages have at most [`MAX_NAME`] bytes.
fn name_of(name: &str) -> [c_char; NAME_LEN] {
    let mut bytes = [0; NAME_LEN];
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(MAX_NAME)) {
        *to = from as c_char;
    }
    bytes
}
