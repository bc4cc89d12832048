//! State of a pipe at one moment, as the daemon reports it.
//!
//! The counters are those of [`datapipe::Status`]: sums since the instances started. Rates are
//! computed from the difference of two statuses.

use std::time::Duration;

use datapipe::Direction;
use datapipe::limits::{MAX_INSTANCES, MAX_STAGES};

use super::fields::{Body, DecodeError, Fields, required, truncated};
use super::numbers::{Activity, PipeState, decode_direction, direction_number};
use crate::limits::{MAX_BRIEF, MAX_EXPLANATION, MAX_LABEL, MAX_NAME};

/// Entry of a list of pipes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeEntry {
    /// Name of the pipe.
    pub name: String,
    /// Label that its initiator gave it.
    pub label: String,
    /// User id of its initiator.
    pub owner: u32,
    /// Direction of flow.
    pub direction: Direction,
    /// State of the pipe.
    pub state: PipeState,
    /// Time from its initiation until now or until its end.
    pub elapsed: Duration,
    /// Cause of its failure or stop, or the process that it waits for; otherwise empty.
    pub explanation: String,
    /// Number of problems that its modules have counted.
    pub problems: u64,
}

/// Status of a pipe at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeStatus {
    /// Entry of the pipe, as in a list.
    pub entry: PipeEntry,
    /// Number of buffers in the pool.
    pub buffers: u32,
    /// Number of free buffers.
    pub free: u32,
    /// Stages of the pipe, head first.
    pub stages: Vec<StageStatus>,
}

/// Status of a stage at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageStatus {
    /// Name of the stage.
    pub name: String,
    /// Number of blocks in its queue; for the head, the number of free buffers.
    pub queued: u32,
    /// Instances of the stage.
    pub instances: Vec<InstanceStatus>,
}

/// Status of an instance at one moment. Times and counters begin at the start of the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstanceStatus {
    /// Activity of the instance.
    pub activity: Activity,
    /// Number of blocks received.
    pub blocks_in: u64,
    /// Number of bytes received.
    pub bytes_in: u64,
    /// Number of blocks sent.
    pub blocks_out: u64,
    /// Number of bytes sent.
    pub bytes_out: u64,
    /// Number of buffers that the instance holds.
    pub held: u32,
    /// Number of buffers that count against its quota, including those that others hold.
    pub outstanding: u32,
    /// Time asleep while it waited for a buffer.
    pub waited_for_buffer: Duration,
    /// Time asleep while it waited for input.
    pub waited_for_input: Duration,
    /// All other time.
    pub working: Duration,
    /// Id of its process; 0 if it has no process.
    pub process: u32,
    /// Number of processes that it has had.
    pub processes: u32,
}

/// Stage that limits a pipe: the others wait for it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Bottleneck {
    /// Name of the stage.
    pub stage: String,
    /// Share of its time that the stage worked, 0 to 1.
    pub busy: f64,
}

impl Default for InstanceStatus {
    fn default() -> Self {
        let zero = Duration::ZERO;
        Self {
            activity: Activity::IDLE,
            blocks_in: 0,
            bytes_in: 0,
            blocks_out: 0,
            bytes_out: 0,
            held: 0,
            outstanding: 0,
            waited_for_buffer: zero,
            waited_for_input: zero,
            working: zero,
            process: 0,
            processes: 0,
        }
    }
}

impl PipeEntry {
    /// An entry of a pipe that has just begun.
    pub(crate) fn new(name: impl Into<String>, owner: u32) -> Self {
        Self {
            name: name.into(),
            label: String::new(),
            owner,
            direction: Direction::default(),
            state: PipeState::RUNNING,
            elapsed: Duration::ZERO,
            explanation: String::new(),
            problems: 0,
        }
    }

    pub(super) fn body(&self) -> Body {
        self.body_with_explanation(MAX_BRIEF)
    }

    pub(super) fn decode(fields: Fields<'_>) -> Result<Self, DecodeError> {
        Self::decode_with_explanation(fields, MAX_BRIEF)
    }

    fn body_with_explanation(&self, max: usize) -> Body {
        let mut body = Body::new();
        body.put_text(1, &self.name);
        body.put_text(2, truncated(&self.label, MAX_LABEL));
        body.put_u32(3, self.owner);
        body.put_u8(4, direction_number(self.direction));
        body.put_u8(5, self.state.0);
        body.put_u64(6, nanoseconds(self.elapsed));
        if !self.explanation.is_empty() {
            body.put_text(7, truncated(&self.explanation, max));
        }
        if self.problems > 0 {
            body.put_u64(8, self.problems);
        }
        body
    }

    /// Decodes an entry whose explanation has at most `max` bytes.
    fn decode_with_explanation(mut fields: Fields<'_>, max: usize) -> Result<Self, DecodeError> {
        let what = "an entry of a list";
        let (mut name, mut label, mut owner, mut direction) = (None, None, None, None);
        let (mut state, mut elapsed, mut explanation, mut problems) = (None, None, None, None);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.set(&mut name, field.text(MAX_NAME)?)?,
                2 => field.set(&mut label, field.text(MAX_LABEL)?)?,
                3 => field.set(&mut owner, field.u32()?)?,
                4 => field.set(&mut direction, decode_direction(field)?)?,
                5 => field.set(&mut state, PipeState(field.u8()?))?,
                6 => field.set(&mut elapsed, field.u64()?)?,
                7 => field.set(&mut explanation, field.text(max)?)?,
                8 => field.set(&mut problems, field.u64()?)?,
                _ => field.skip()?,
            }
        }
        Ok(Self {
            name: required(what, 1, name)?,
            label: label.unwrap_or_default(),
            owner: required(what, 3, owner)?,
            direction: direction.unwrap_or_default(),
            state: required(what, 5, state)?,
            elapsed: Duration::from_nanos(elapsed.unwrap_or_default()),
            explanation: explanation.unwrap_or_default(),
            problems: problems.unwrap_or_default(),
        })
    }
}

impl PipeStatus {
    /// A status without stages: the pipe has no segment yet, or only its outcome is known.
    pub(crate) fn without_stages(entry: PipeEntry) -> Self {
        Self {
            entry,
            buffers: 0,
            free: 0,
            stages: Vec::new(),
        }
    }

    /// Difference to `earlier`, a status of the same pipe: counters and times cover the period
    /// between the two, all else is of the later one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        difference.entry.elapsed = self.entry.elapsed.saturating_sub(earlier.entry.elapsed);
        let stages = difference.stages.iter_mut().zip(&earlier.stages);
        for (now, then) in
            stages.flat_map(|(now, then)| now.instances.iter_mut().zip(&then.instances))
        {
            now.blocks_in = now.blocks_in.saturating_sub(then.blocks_in);
            now.bytes_in = now.bytes_in.saturating_sub(then.bytes_in);
            now.blocks_out = now.blocks_out.saturating_sub(then.blocks_out);
            now.bytes_out = now.bytes_out.saturating_sub(then.bytes_out);
            now.waited_for_buffer = now.waited_for_buffer.saturating_sub(then.waited_for_buffer);
            now.waited_for_input = now.waited_for_input.saturating_sub(then.waited_for_input);
            now.working = now.working.saturating_sub(then.working);
        }
        difference
    }

    /// Number of bytes of the pipe's data: in an archive those that the head sent, in a restore
    /// those that the tail received.
    pub fn bytes(&self) -> u64 {
        match self.entry.direction {
            Direction::Archive => self.stages.first().map_or(0, StageStatus::bytes_out),
            Direction::Restore => self.stages.last().map_or(0, StageStatus::bytes_in),
        }
    }

    /// Average rate of [`bytes`](Self::bytes) over the elapsed time, in bytes per second.
    pub fn rate(&self) -> f64 {
        self.bytes() as f64 / self.entry.elapsed.as_secs_f64().max(1e-9)
    }

    /// Stage that worked for the largest share of its time. A stage that has neither moved a block
    /// nor works on one does not count: the time of an instance that starts or ends is counted as
    /// work. `None` if no stage has worked.
    pub fn bottleneck(&self) -> Option<Bottleneck> {
        let is_over = self.entry.state.is_final();
        let worked = self.stages.iter().filter(|stage| stage.has_worked(is_over));
        let busy = worked.map(|stage| (stage, stage.busy()));
        let (stage, busy) = busy
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .filter(|&(_, busy)| busy > 0.0)?;
        Some(Bottleneck {
            stage: stage.name.clone(),
            busy,
        })
    }

    pub(super) fn body(&self) -> Body {
        let mut body = Body::new();
        body.put_fields(1, &self.entry.body_with_explanation(MAX_EXPLANATION));
        body.put_u32(2, self.buffers);
        body.put_u32(3, self.free);
        self.stages
            .iter()
            .for_each(|stage| body.put_fields(4, &stage.body()));
        body
    }

    pub(super) fn decode(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        let (mut entry, mut buffers, mut free, mut stages) = (None, None, None, Vec::new());
        while let Some(field) = fields.next()? {
            match field.number {
                1 => {
                    let fields = field.fields("the entry of a status");
                    field.set(
                        &mut entry,
                        PipeEntry::decode_with_explanation(fields, MAX_EXPLANATION)?,
                    )?;
                }
                2 => field.set(&mut buffers, field.u32()?)?,
                3 => field.set(&mut free, field.u32()?)?,
                4 if stages.len() >= MAX_STAGES as usize => {
                    return Err(field.error(&format!("occurs more than {MAX_STAGES} times")));
                }
                4 => stages.push(StageStatus::decode(field.fields("a stage of a status"))?),
                _ => field.skip()?,
            }
        }
        Ok(Self {
            entry: required("a status", 1, entry)?,
            buffers: buffers.unwrap_or_default(),
            free: free.unwrap_or_default(),
            stages,
        })
    }
}

impl StageStatus {
    /// Number of bytes that its instances received.
    pub fn bytes_in(&self) -> u64 {
        self.sum(|instance| instance.bytes_in)
    }

    /// Number of bytes that its instances sent.
    pub fn bytes_out(&self) -> u64 {
        self.sum(|instance| instance.bytes_out)
    }

    /// Number of buffers that its instances hold.
    pub fn held(&self) -> u64 {
        self.sum(|instance| instance.held.into())
    }

    /// Share of their time that its instances worked, 0 to 1.
    pub fn busy(&self) -> f64 {
        let sum = |of: fn(&InstanceStatus) -> Duration| {
            self.instances
                .iter()
                .map(of)
                .fold(Duration::ZERO, Duration::saturating_add)
        };
        let working = sum(|instance| instance.working);
        let waiting = sum(|instance| {
            instance
                .waited_for_buffer
                .saturating_add(instance.waited_for_input)
        });
        let whole = working.saturating_add(waiting);
        if whole.is_zero() {
            0.0
        } else {
            working.as_secs_f64() / whole.as_secs_f64()
        }
    }

    /// True if an instance has moved a block, or works on one now. In a pipe that `is_over` none
    /// does, in spite of the activity that it had last.
    fn has_worked(&self, is_over: bool) -> bool {
        let is_at_work = |instance: &InstanceStatus| match instance.activity {
            Activity::WORKING => instance.held > 0,
            Activity::WAITING_OUTSIDE => true,
            _ => false,
        };
        self.sum(|instance| instance.blocks_in.saturating_add(instance.blocks_out)) > 0
            || (!is_over && self.instances.iter().any(is_at_work))
    }

    /// Sum over the instances. It saturates, because a participant may have written any value to
    /// the counters.
    fn sum(&self, of: fn(&InstanceStatus) -> u64) -> u64 {
        self.instances.iter().map(of).fold(0, u64::saturating_add)
    }

    fn body(&self) -> Body {
        let mut body = Body::new();
        body.put_text(1, truncated(&self.name, MAX_NAME));
        body.put_u32(2, self.queued);
        self.instances
            .iter()
            .for_each(|instance| body.put_fields(3, &instance.body()));
        body
    }

    fn decode(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        let (mut name, mut queued, mut instances) = (None, None, Vec::new());
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.set(&mut name, field.text(MAX_NAME)?)?,
                2 => field.set(&mut queued, field.u32()?)?,
                3 if instances.len() >= MAX_INSTANCES as usize => {
                    return Err(field.error(&format!("occurs more than {MAX_INSTANCES} times")));
                }
                3 => instances.push(InstanceStatus::decode(
                    field.fields("an instance of a status"),
                )?),
                _ => field.skip()?,
            }
        }
        let name = required("a stage of a status", 1, name)?;
        Ok(Self {
            name,
            queued: queued.unwrap_or_default(),
            instances,
        })
    }
}

impl InstanceStatus {
    fn body(&self) -> Body {
        let mut body = Body::new();
        body.put_u8(1, self.activity.0);
        body.put_u64(2, self.blocks_in);
        body.put_u64(3, self.bytes_in);
        body.put_u64(4, self.blocks_out);
        body.put_u64(5, self.bytes_out);
        body.put_u32(6, self.held);
        body.put_u32(7, self.outstanding);
        body.put_u64(8, nanoseconds(self.waited_for_buffer));
        body.put_u64(9, nanoseconds(self.waited_for_input));
        body.put_u64(10, nanoseconds(self.working));
        body.put_u32(11, self.process);
        body.put_u32(12, self.processes);
        body
    }

    /// Decodes an instance. A missing number is 0.
    ///
    /// `wide` and `narrow` collect the 8-byte and the 4-byte numbers; each loop borrows their
    /// elements under the names of the fields.
    fn decode(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        let mut activity = None;
        let (mut wide, mut narrow) = ([None; 7], [None; 4]);
        while let Some(field) = fields.next()? {
            let [
                blocks_in,
                bytes_in,
                blocks_out,
                bytes_out,
                for_buffer,
                for_input,
                working,
            ] = &mut wide;
            let [held, outstanding, process, processes] = &mut narrow;
            match field.number {
                1 => field.set(&mut activity, Activity(field.u8()?))?,
                2 => field.set(blocks_in, field.u64()?)?,
                3 => field.set(bytes_in, field.u64()?)?,
                4 => field.set(blocks_out, field.u64()?)?,
                5 => field.set(bytes_out, field.u64()?)?,
                6 => field.set(held, field.u32()?)?,
                7 => field.set(outstanding, field.u32()?)?,
                8 => field.set(for_buffer, field.u64()?)?,
                9 => field.set(for_input, field.u64()?)?,
                10 => field.set(working, field.u64()?)?,
                11 => field.set(process, field.u32()?)?,
                12 => field.set(processes, field.u32()?)?,
                _ => field.skip()?,
            }
        }
        let [
            blocks_in,
            bytes_in,
            blocks_out,
            bytes_out,
            for_buffer,
            for_input,
            working,
        ] = wide.map(Option::unwrap_or_default);
        let [held, outstanding, process, processes] = narrow.map(Option::unwrap_or_default);
        Ok(Self {
            activity: required("an instance of a status", 1, activity)?,
            blocks_in,
            bytes_in,
            blocks_out,
            bytes_out,
            held,
            outstanding,
            waited_for_buffer: Duration::from_nanos(for_buffer),
            waited_for_input: Duration::from_nanos(for_input),
            working: Duration::from_nanos(working),
            process,
            processes,
        })
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
