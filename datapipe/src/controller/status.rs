//! Activity and counters of every instance, read from shared memory without stopping anything.
//!
//! Every number is a counter that one instance writes for itself, or follows from the ledger and
//! the rings. Any process that maps the segment can read them, without the instances' help.

use std::fmt;
use std::time::Duration;

use crate::memory::atomic::{AtomicU64, Ordering};
use crate::memory::tables::Tables;
use crate::memory::{Direction, ParticipantId, QueueId, Segment, StageId, TableIndex};
use crate::pool::{Activity, Tally, queue_depth, tally};

use super::byte_count::ByteCount;
use super::event::BlockName;
use super::work_watch::{BlockWork, WorkWatch};

/// Time on one block from which a status prints it.
const SHOWN_WORK: Duration = Duration::from_secs(2);

/// State of a pipe at one moment. Prints as a table, a line for each stage.
///
/// With the feature `serde` it can be serialized, and so can [`Report`](super::Report) and
/// [`Event`](super::Event). Durations become numbers of seconds.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status {
    /// The pipe's name.
    pub pipe: String,
    /// The pipe's label; empty if the status was read from a segment, which does not have it.
    pub label: String,
    /// Direction of its data.
    pub direction: Direction,
    /// Time since the first instance started, until the last has ended.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::seconds"))]
    pub elapsed: Duration,
    /// Its stages, head first.
    pub stages: Vec<StageStatus>,
    /// Buffers on the free list.
    pub free: u32,
    /// Buffers in the pool.
    pub buffers: u32,
}

/// State of a stage at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StageStatus {
    /// Its name, as [`Stage::named`](crate::stage::Stage::named) has set it.
    pub name: String,
    /// Blocks that wait in its input queue; for the head, free buffers.
    pub queued: u32,
    /// Its instances.
    pub instances: Vec<InstanceStatus>,
}

/// State of an instance at one moment. Times are since it started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InstanceStatus {
    /// Its current activity.
    pub activity: Activity,
    /// Its work on its present block, if it works: for how long already. To within a quarter of a
    /// second. `None` if the status was read from a segment, and not by
    /// [`Pipe::status`](super::Pipe::status): only the controller observes it.
    pub on_block: Option<BlockWork>,
    /// Id of the process that has its seat now; 0 if none has it.
    pub process: u32,
    /// Number of processes it has had: more than 1 if some were replaced, 0 if it is a thread.
    pub processes: u64,
    /// Blocks received.
    pub blocks_in: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Blocks sent.
    pub blocks_out: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Buffers it holds.
    pub held: u32,
    /// Buffers that count against its quota, wherever in the pipe they are.
    pub outstanding: u32,
    /// Time it slept because it could not get a buffer.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::seconds"))]
    pub waited_for_buffer: Duration,
    /// Time it slept because there was no input.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::seconds"))]
    pub waited_for_input: Duration,
    /// All other time: its own work, its own system calls, and waiting for a processor.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::seconds"))]
    pub working: Duration,
}

/// The stage that limits a pipe. Prints as `zstd (97 % busy)`, and with `{:#}` also how long the
/// other stages wait for it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limit {
    /// The stage's name.
    pub stage: String,
    /// Fraction of its time for which it worked, 0 to 1, on average over its instances.
    pub busy: f64,
    /// Fraction of their time for which the stages before it waited for buffers, 0 to 1.
    pub waiting_before: f64,
    /// Fraction of their time for which the stages after it waited for input, 0 to 1.
    pub waiting_after: f64,
}

impl Status {
    /// Reads the status of the pipe that a segment belongs to.
    #[doc(hidden)]
    pub fn of(segment: &Segment) -> Self {
        let shape = segment.shape();
        let reader = StatusReader::new(segment);
        let mut lifetime = PipeLifetime::new(reader.now);
        let stages = shape
            .stage_ids()
            .map(|stage| reader.stage(stage, &mut lifetime))
            .collect();
        Self {
            pipe: segment.name().to_owned(),
            label: String::new(),
            direction: shape.direction(),
            elapsed: Duration::from_nanos(lifetime.elapsed(reader.now)),
            stages,
            free: segment.free_buffers(),
            buffers: shape.buffers(),
        }
    }

    /// Adds what the controller knows, and the segment does not.
    pub(super) fn with(mut self, label: &str, segment: &Segment, watch: &WorkWatch) -> Self {
        label.clone_into(&mut self.label);
        for (id, stage) in segment.shape().stage_ids().zip(&mut self.stages) {
            for (index, instance) in (0..).zip(&mut stage.instances) {
                instance.on_block = watch.of(id.instance(index), segment);
            }
        }
        self
    }

    /// Returns the changes since `earlier`, a status of the same pipe: counters and times are the
    /// differences.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        difference.elapsed = self.elapsed.saturating_sub(earlier.elapsed);
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

    /// Bytes that the head has sent.
    pub fn bytes_in(&self) -> u64 {
        self.stages
            .first()
            .map_or(0, |head| head.sum(|instance| instance.bytes_out))
    }

    /// Bytes that the tail has received.
    pub fn bytes_out(&self) -> u64 {
        self.stages
            .last()
            .map_or(0, |tail| tail.sum(|instance| instance.bytes_in))
    }

    /// Bytes, counted where the data is plain: those that the head has sent when archiving, those
    /// that the tail has received when restoring.
    pub fn bytes(&self) -> u64 {
        match self.direction {
            Direction::Archive => self.bytes_in(),
            Direction::Restore => self.bytes_out(),
        }
    }

    /// [`bytes`](Self::bytes) per second.
    pub fn throughput(&self) -> f64 {
        self.bytes() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Returns the stage that worked for the largest fraction of its time. The others wait for it.
    /// `None` if no stage has worked yet. A stage that has neither moved a block nor works on one
    /// does not count: the start and the end of an instance are counted as work.
    pub fn limit(&self) -> Option<Limit> {
        let (position, busy) = self
            .stages
            .iter()
            .enumerate()
            .filter(|(_, stage)| stage.has_worked())
            .map(|(position, stage)| (position, stage.busy()))
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .filter(|&(_, busy)| busy > 0.0)?;
        let average = |stages: &[StageStatus], fraction: fn(&StageStatus) -> f64| {
            stages.iter().map(fraction).sum::<f64>() / stages.len().max(1) as f64
        };
        Some(Limit {
            stage: self.stages[position].name.clone(),
            busy,
            waiting_before: average(&self.stages[..position], StageStatus::waiting_for_buffers),
            waiting_after: average(&self.stages[position + 1..], StageStatus::waiting_for_input),
        })
    }
}

impl StageStatus {
    /// Fraction of their time for which its instances worked, 0 to 1.
    pub fn busy(&self) -> f64 {
        self.fraction(|instance| instance.working)
    }

    /// True if an instance has moved a block, or works on one.
    fn has_worked(&self) -> bool {
        self.instances.iter().any(|instance| {
            let works = match instance.activity {
                Activity::Working => instance.held > 0,
                Activity::WaitingOutside => true,
                _ => false,
            };
            works || instance.blocks_in > 0 || instance.blocks_out > 0
        })
    }

    /// Adds a number up over the instances. Saturates, because the counters may hold anything that
    /// a participant wrote there.
    fn sum(&self, of: fn(&InstanceStatus) -> u64) -> u64 {
        self.instances.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Writes the stage's line of the status.
    fn write_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.sum(|instance| instance.held.into());
        let replaced = self.sum(|instance| instance.processes.saturating_sub(1));
        let mut instances = self.instances.iter();
        let is_awaited = instances.any(|i| i.activity == Activity::Unattached);
        let mut instances = self.instances.iter();
        let waits_outside = instances.any(|i| i.activity == Activity::WaitingOutside);
        let works = self.instances.iter().filter_map(|i| i.on_block);
        let longest = works.max_by_key(|work| work.time);
        write!(
            f,
            "  {:<16} x{:<3} {:>5.1} % busy  {:>10} in  {:>10} out  {held} held  {} queued",
            self.name,
            self.instances.len(),
            self.busy() * 100.0,
            ByteCount(self.sum(|instance| instance.bytes_in)).to_string(),
            ByteCount(self.sum(|instance| instance.bytes_out)).to_string(),
            self.queued,
        )?;
        if replaced > 0 {
            write!(f, "  {replaced} replaced")?;
        }
        if is_awaited {
            f.write_str("  waits for a process to attach")?;
        }
        if waits_outside {
            f.write_str("  waits outside of the pipe")?;
        }
        if let Some(work) = longest.filter(|work| work.time >= SHOWN_WORK) {
            let (block, seconds) = (BlockName(work.block), work.time.as_secs());
            write!(f, "  on {block} for {seconds} s")?;
        }
        writeln!(f)
    }

    fn waiting_for_buffers(&self) -> f64 {
        self.fraction(|instance| instance.waited_for_buffer)
    }

    fn waiting_for_input(&self) -> f64 {
        self.fraction(|instance| instance.waited_for_input)
    }

    /// Fraction that one kind of time has in all time of the instances, 0 to 1.
    fn fraction(&self, of: fn(&InstanceStatus) -> Duration) -> f64 {
        let all = |i: &InstanceStatus| i.working + i.waited_for_buffer + i.waited_for_input;
        let whole: Duration = self.instances.iter().map(all).sum();
        let part: Duration = self.instances.iter().map(of).sum();
        if whole.is_zero() {
            0.0
        } else {
            part.as_secs_f64() / whole.as_secs_f64()
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.0} % busy", self.stage, self.busy * 100.0)?;
        if f.alternate() && self.waiting_before >= 0.1 {
            write!(
                f,
                "; those before it wait for buffers {:.0} %",
                self.waiting_before * 100.0
            )?;
        }
        if f.alternate() && self.waiting_after >= 0.1 {
            write!(
                f,
                "; those after it wait for input {:.0} %",
                self.waiting_after * 100.0
            )?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = ByteCount(self.throughput() as u64);
        write!(
            f,
            "{}  {} in {:.1} s, {rate}/s",
            self.pipe,
            ByteCount(self.bytes_in()),
            self.elapsed.as_secs_f64()
        )?;
        writeln!(f, ", {} of {} buffers free", self.free, self.buffers)?;
        for stage in &self.stages {
            stage.write_line(f)?;
        }
        match self.limit() {
            Some(limit) => write!(f, "  limited by {limit:#}"),
            None => write!(f, "  nothing has moved yet"),
        }
    }
}

/// Reads the status of one instance after the other, all as of the same time.
///
/// The clock and the ledger are read once, before any counter. The pipe runs on meanwhile, so the
/// numbers of a status need not fit each other exactly; every difference saturates.
struct StatusReader<'s> {
    segment: &'s Segment,
    tables: &'s Tables,
    /// Buffers of each instance, counted in the ledger.
    tally: Tally,
    /// Time of the reading, on the clock of the counters.
    now: u64,
}

impl<'s> StatusReader<'s> {
    fn new(segment: &'s Segment) -> Self {
        let tables = segment.tables();
        let now = crate::memory::now();
        Self {
            segment,
            tables,
            tally: tally(tables),
            now,
        }
    }

    fn stage(&self, stage: StageId, lifetime: &mut PipeLifetime) -> StageStatus {
        let participants = self.segment.shape().participants_of(stage);
        let instances = participants
            .map(|participant| self.instance(participant, lifetime))
            .collect();
        StageStatus {
            name: self.segment.stage_name(stage),
            queued: queue_depth(self.tables, QueueId::input_of(stage)),
            instances,
        }
    }

    /// Reads one instance, and adds its start and end to the pipe's.
    fn instance(&self, participant: ParticipantId, lifetime: &mut PipeLifetime) -> InstanceStatus {
        let entry = &self.tables.participants[participant];
        let counters = &entry.counters;
        let times = InstanceTimes {
            started: load(&entry.started),
            ended: load(&entry.ended),
            activity: Activity::of(self.tables, participant),
        };
        lifetime.add(times);
        // A wait that has not ended yet is not in the counters.
        let current_wait = self.now.saturating_sub(load(&entry.since));
        let waited = |counter, activity| {
            let unfinished = if times.activity == activity {
                current_wait
            } else {
                0
            };
            load(counter).saturating_add(unfinished)
        };
        let for_buffer = waited(&counters.alloc_wait, Activity::WaitingForBuffer);
        let for_input = waited(&counters.receive_wait, Activity::WaitingForInput);
        let asleep = for_buffer.saturating_add(for_input);
        let working = times.elapsed(self.now).saturating_sub(asleep);
        InstanceStatus {
            activity: times.activity,
            on_block: None,
            process: entry.owner.load(Ordering::Relaxed),
            processes: load(&entry.processes),
            blocks_in: load(&counters.blocks_in),
            bytes_in: load(&counters.bytes_in),
            blocks_out: load(&counters.blocks_out),
            bytes_out: load(&counters.bytes_out),
            held: self.tally.held[participant.as_index()],
            outstanding: self.tally.outstanding[participant.as_index()],
            waited_for_buffer: Duration::from_nanos(for_buffer),
            waited_for_input: Duration::from_nanos(for_input),
            working: Duration::from_nanos(working),
        }
    }
}

/// Start and end of one instance; 0 for what has not happened yet.
#[derive(Clone, Copy)]
struct InstanceTimes {
    started: u64,
    ended: u64,
    activity: Activity,
}

impl InstanceTimes {
    /// Returns the time from the start of the instance to its end, or to now if it has not ended.
    fn elapsed(self, now: u64) -> u64 {
        let until = if self.activity == Activity::Ended {
            self.ended
        } else {
            now
        };
        if self.started > 0 {
            until.saturating_sub(self.started)
        } else {
            0
        }
    }
}

/// Start and end of a pipe, from those of its instances: the pipe starts with the first that
/// starts, and ends with the last that ends.
struct PipeLifetime {
    first_start: u64,
    last_end: u64,
    all_ended: bool,
}

impl PipeLifetime {
    /// Begins before any instance is added: a pipe none of whose instances has started has run for
    /// no time.
    fn new(now: u64) -> Self {
        Self {
            first_start: now,
            last_end: 0,
            all_ended: true,
        }
    }

    fn add(&mut self, times: InstanceTimes) {
        if times.started > 0 {
            self.first_start = self.first_start.min(times.started);
        }
        self.all_ended &= times.activity == Activity::Ended;
        self.last_end = self.last_end.max(times.ended);
    }

    /// Returns the time from the start of the pipe to its end, or to now if it has not ended.
    fn elapsed(&self, now: u64) -> u64 {
        let until = if self.all_ended { self.last_end } else { now };
        until.saturating_sub(self.first_start)
    }
}

/// Reads a counter. Only its own instance writes it, and nothing else is read in consequence.
fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}
