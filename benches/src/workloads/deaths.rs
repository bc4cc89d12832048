//! `README.md`, "deaths".

use std::error::Error;
use std::ffi::OsString;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use datapipe::controller::Event;
use datapipe::host::Modules;
use datapipe::memory::Process;
use datapipe::prelude::*;

use super::{Delay, ExpectedOutput, RunSpec, Task, Workload};

const KILLS: usize = 101;
const BLOCK_LEN: u32 = 65_536;

/// Blocks that the stage receives between two kills, so that each kill hits another block.
const BETWEEN: u64 = 200;

/// Interval at which the number of blocks is polled: a hundredth of the measured delays.
const POLL_INTERVAL: Duration = Duration::from_micros(100);

/// Time after which the pipe counts as hung.
const TIMEOUT: Duration = Duration::from_secs(30);

const MODULE: &str = "benches.copy";

pub(super) const WORKLOAD: Workload = Workload {
    name: "deaths",
    task: Task::Delays {
        delays: &[
            Delay {
                name: "noticed",
                median: Some(10.0),
                worst: None,
            },
            Delay {
                name: "replaced",
                median: None,
                worst: Some(50.0),
            },
        ],
        prepare: || {
            Ok(RunSpec::own_program(
                "datapipe",
                "deaths-datapipe",
                Vec::new(),
                ExpectedOutput::Anything,
            )?)
        },
    },
};

/// Returns the modules that this program's processes can run.
pub(crate) fn modules() -> Modules {
    datapipe::modules().with(MODULE, |_| Ok(copy_stage()))
}

/// Prints a line for each kill: milliseconds until the controller reported the death, and until the
/// replacement had received a block.
pub(super) fn datapipe(_: &[OsString]) -> Result<(), Box<dyn Error>> {
    let (sender, events) = mpsc::channel();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK_LEN)
        .head(Zeros)
        .stage(copy_stage().in_processes())
        .tail(Discard)
        .on_event(move |event| drop(sender.send((Instant::now(), event.clone()))))
        .start()?;
    let received = || pipe.status().stages[1].instances[0].blocks_in;
    let mut victim = wait_for_start(&events)?;
    for _ in 0..KILLS {
        let before = received();
        wait_until(|| received() >= before + BETWEEN)?;
        let process = Process::watch(victim)?;
        let killed = Instant::now();
        process.kill()?;
        let noticed = wait_for_death(&events)?;
        let before = received(); // the killed process receives no more blocks
        wait_until(|| received() > before)?;
        let replaced = Instant::now();
        victim = wait_for_start(&events)?;
        let since_kill = |at: Instant| at.duration_since(killed).as_secs_f64() * 1000.0;
        println!("{:.3} {:.3}", since_kill(noticed), since_kill(replaced));
    }
    pipe.cancel();
    match pipe.wait() {
        Err(datapipe::Error::Cancelled) => Ok(()),
        Ok(_) => Err("the endless pipe has ended".into()),
        Err(error) => Err(error.into()),
    }
}

/// Events of the controller, each with the time of its report.
type Events = Receiver<(Instant, Event)>;

/// Waits for the next start of a process. Returns its id.
fn wait_for_start(events: &Events) -> Result<u32, Box<dyn Error>> {
    match events.recv_timeout(TIMEOUT)? {
        (_, Event::Started { process, .. }) => Ok(process),
        (_, event) => Err(format!("expected the start of a process, but {event}").into()),
    }
}

/// Waits for the next death. Returns the time at which the controller reported it.
fn wait_for_death(events: &Events) -> Result<Instant, Box<dyn Error>> {
    match events.recv_timeout(TIMEOUT)? {
        (at, Event::Died { replaced: true, .. }) => Ok(at),
        (_, event) => Err(format!("expected the death of a process, but {event}").into()),
    }
}

fn wait_until(is_reached: impl Fn() -> bool) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    while !is_reached() {
        if start.elapsed() >= TIMEOUT {
            return Err(format!("the pipe made no progress for {} s", TIMEOUT.as_secs()).into());
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn copy_stage() -> MiddleStage<'static> {
    Stage::transform("copy", |_| CopyBlocks).module(MODULE, "")
}

/// Middle stage that copies its input.
struct CopyBlocks;

impl Transform for CopyBlocks {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        output.put(input.bytes())?;
        Ok(Verdict::Send)
    }
}

/// Head that never ends.
struct Zeros;

impl Head for Zeros {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        block.put(&[0; BLOCK_LEN as usize])?;
        Ok(Fill::Block)
    }
}

/// Tail that discards its input.
struct Discard;

impl Tail for Discard {
    fn write(&mut self, _: &Block) -> Result<(), StageError> {
        Ok(())
    }
}
