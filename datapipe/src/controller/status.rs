//! What everybody is doing, read from shared memory without stopping anything.
//!
//! Every number is a counter that one instance writes for itself, or follows from the ledger and
//! the rings. Anybody who maps the segment can read them; nobody is asked.

use std::fmt;
use std::time::Duration;

use crate::memory::atomic::Ordering;
use crate::memory::{Direction, Segment};
use crate::pool::{Activity, queue_depth, tally};

use super::plan::Plan;

/// A pipe at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// The pipe's name.
    pub pipe: String,
    /// Which way its data flows.
    pub direction: Direction,
    /// Since the first instance started.
    pub elapsed: Duration,
    /// The stages, head first.
    pub stages: Vec<StageStatus>,
    /// Buffers on the free list.
    pub free: u32,
    /// Buffers in the pool.
    pub buffers: u32,
}

/// One stage at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StageStatus {
    /// Its name.
    pub name: String,
    /// Blocks that wait in its input queue; for the head, free buffers.
    pub queued: u32,
    /// Its instances.
    pub instances: Vec<InstanceStatus>,
}

/// One instance at one moment. Times are since it started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstanceStatus {
    /// What it is doing.
    pub activity: Activity,
    /// The process that has its seat; 0 if none has, or none any more.
    pub process: u32,
    /// How many processes it has had: more than 1 if some were replaced, 0 if it is a thread.
    pub processes: u64,
    /// Blocks received.
    pub blocks_in: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Blocks sent.
    pub blocks_out: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Buffers in its hands.
    pub held: u32,
    /// Buffers that count against its quota, wherever they are.
    pub outstanding: u32,
    /// Time asleep until it might have a buffer.
    pub waited_for_buffer: Duration,
    /// Time asleep until there was input.
    pub waited_for_input: Duration,
    /// All other time: its own work, system calls of its own, and waiting for a processor.
    pub working: Duration,
}

/// The stage that limits a pipe, and why. Prints as `zstd (97 % busy)`, and with `{:#}` also who
/// waits for it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limit {
    /// The stage's name.
    pub stage: String,
    /// The part of its time that it worked, 0 to 1, on average over its instances.
    pub busy: f64,
    /// The part of their time for which the stages before it waited for buffers, and those behind
    /// it for input.
    pub waiting_before: f64,
    /// See `waiting_before`.
    pub waiting_behind: f64,
}

impl Status {
    /// Reads the status of the pipe that a segment belongs to.
    pub fn of(segment: &Segment) -> Self {
        let tables = segment.tables();
        let shape = segment.shape();
        let now = crate::memory::now();
        let tally = tally(tables);
        let mut first_start = now;
        let mut last_end = 0;
        let mut all_ended = true;
        let stages = (0..shape.stage_count())
            .map(|stage| {
                let instances = shape.instances_of(stage).map(|participant| {
                    let entry = &tables.participants[participant];
                    let load =
                        |word: &crate::memory::atomic::AtomicU64| word.load(Ordering::Relaxed);
                    let (started, ended) = (load(&entry.started), load(&entry.ended));
                    let activity = Activity::of(tables, participant);
                    if started > 0 {
                        first_start = first_start.min(started);
                    }
                    all_ended &= activity == Activity::Ended;
                    last_end = last_end.max(ended);
                    let until = if activity == Activity::Ended {
                        ended
                    } else {
                        now
                    };
                    let lifetime = if started > 0 {
                        until.saturating_sub(started)
                    } else {
                        0
                    };
                    // A wait that is still going on is not in the counters yet.
                    let current = now.saturating_sub(load(&entry.since));
                    let going_on = |kind| if activity == kind { current } else { 0 };
                    let counters = &entry.counters;
                    let for_buffer = load(&counters.alloc_wait)
                        .saturating_add(going_on(Activity::WaitingForBuffer));
                    let for_input = load(&counters.receive_wait)
                        .saturating_add(going_on(Activity::WaitingForInput));
                    InstanceStatus {
                        activity,
                        process: entry.owner.load(Ordering::Relaxed),
                        processes: load(&entry.processes),
                        blocks_in: load(&counters.blocks_in),
                        bytes_in: load(&counters.bytes_in),
                        blocks_out: load(&counters.blocks_out),
                        bytes_out: load(&counters.bytes_out),
                        held: tally.held[participant as usize],
                        outstanding: tally.outstanding[participant as usize],
                        waited_for_buffer: Duration::from_nanos(for_buffer),
                        waited_for_input: Duration::from_nanos(for_input),
                        working: Duration::from_nanos(
                            lifetime.saturating_sub(for_buffer.saturating_add(for_input)),
                        ),
                    }
                });
                let instances = instances.collect();
                StageStatus {
                    name: segment.stage_name(stage),
                    queued: queue_depth(tables, stage),
                    instances,
                }
            })
            .collect();
        let until = if all_ended { last_end } else { now };
        Self {
            pipe: segment.name().to_owned(),
            direction: shape.direction(),
            elapsed: Duration::from_nanos(until.saturating_sub(first_start)),
            stages,
            free: segment.free_buffers(),
            buffers: shape.buffers(),
        }
    }

    /// What happened since `earlier`, a status of the same pipe: counters and times are the
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

    /// Bytes a second, counted where the data is as its user knows it: what the head has sent of an
    /// archive, what the tail has received of a restore.
    pub fn throughput(&self) -> f64 {
        let bytes = match self.direction {
            Direction::Archive => self.bytes_in(),
            Direction::Restore => self.bytes_out(),
        };
        bytes as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The stage that worked for the largest part of its time. The others wait for it.
    pub fn limit(&self) -> Option<Limit> {
        let (position, busy) = self
            .stages
            .iter()
            .map(StageStatus::busy)
            .enumerate()
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .filter(|&(_, busy)| busy > 0.0)?;
        let average = |stages: &[StageStatus], part: fn(&StageStatus) -> f64| {
            stages.iter().map(part).sum::<f64>() / stages.len().max(1) as f64
        };
        Some(Limit {
            stage: self.stages[position].name.clone(),
            busy,
            waiting_before: average(&self.stages[..position], StageStatus::waiting_for_buffers),
            waiting_behind: average(&self.stages[position + 1..], StageStatus::waiting_for_input),
        })
    }
}

impl StageStatus {
    /// The part of their time that its instances worked, 0 to 1.
    pub fn busy(&self) -> f64 {
        self.part(|instance| instance.working)
    }

    /// Adds up over the instances. Saturates, for the counters may hold anything that a participant
    /// wrote there.
    fn sum(&self, of: fn(&InstanceStatus) -> u64) -> u64 {
        self.instances.iter().map(of).fold(0, u64::saturating_add)
    }

    fn waiting_for_buffers(&self) -> f64 {
        self.part(|instance| instance.waited_for_buffer)
    }

    fn waiting_for_input(&self) -> f64 {
        self.part(|instance| instance.waited_for_input)
    }

    fn part(&self, of: fn(&InstanceStatus) -> Duration) -> f64 {
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
        if f.alternate() && self.waiting_behind >= 0.1 {
            write!(
                f,
                "; those behind it wait for input {:.0} %",
                self.waiting_behind * 100.0
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
            let held = stage.sum(|instance| instance.held.into());
            let replaced: u64 = stage
                .instances
                .iter()
                .map(|i| i.processes.saturating_sub(1))
                .fold(0, u64::saturating_add);
            let is_awaited = stage
                .instances
                .iter()
                .any(|i| i.activity == Activity::Unattached);
            write!(
                f,
                "  {:<16} x{:<3} {:>5.1} % busy  {:>10} in  {:>10} out  {held} held  {} queued",
                stage.name,
                stage.instances.len(),
                stage.busy() * 100.0,
                ByteCount(stage.sum(|instance| instance.bytes_in)).to_string(),
                ByteCount(stage.sum(|instance| instance.bytes_out)).to_string(),
                stage.queued,
            )?;
            if replaced > 0 {
                write!(f, "  {replaced} replaced")?;
            }
            writeln!(
                f,
                "{}",
                if is_awaited {
                    "  waits for a process to attach"
                } else {
                    ""
                }
            )?;
        }
        match self.limit() {
            Some(limit) => write!(f, "  limited by {limit:#}"),
            None => write!(f, "  nothing has moved yet"),
        }
    }
}

/// What a pipe did that has ended well.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The pipe's label.
    pub label: String,
    /// The chain, as the plan prints it.
    pub chain: String,
    /// The last status.
    pub status: Status,
}

impl Report {
    pub(super) fn new(plan: &Plan, status: Status) -> Self {
        Self {
            label: plan.label.clone(),
            chain: plan.to_string(),
            status,
        }
    }

    /// Bytes that the head sent.
    pub fn bytes_in(&self) -> u64 {
        self.status.bytes_in()
    }

    /// Bytes that the tail received.
    pub fn bytes_out(&self) -> u64 {
        self.status.bytes_out()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.status.elapsed.as_secs_f64();
        let (bytes_in, bytes_out) = (ByteCount(self.bytes_in()), ByteCount(self.bytes_out()));
        write!(
            f,
            "{}: {bytes_in} in, {bytes_out} out, {seconds:.1} s, {}/s",
            self.label,
            ByteCount(self.status.throughput() as u64)
        )?;
        match self.status.limit() {
            Some(limit) => write!(f, ", limited by {limit}"),
            None => Ok(()),
        }
    }
}

/// A number of bytes. Prints as people read it: `1.5 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.1} {}", UNITS[unit])
    }
}
