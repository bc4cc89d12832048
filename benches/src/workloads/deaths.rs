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

use super::{Delay, Prints, Side, Task, Workload};

const KILLS: usize = 101;
const BLOCK_LEN: u32 = 65_536;

/// Blocks that the stage takes up between two kills, so that each meets another one.
const BETWEEN: u64 = 200;

/// How often the count of blocks is looked at: a hundredth of what is measured.
const LOOK: Duration = Duration::from_micros(100);

/// How long anything may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);

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
            Ok(Side::this(
                "datapipe",
                "deaths-datapipe",
                Vec::new(),
                Prints::Anything,
            )?)
        },
    },
};

/// What this program's processes run.
pub(crate) fn modules() -> Modules {
    Modules::new().with(MODULE, |_| Ok(copying()))
}

/// Prints a line for each kill: milliseconds until the controller knew of it, and until a
/// replacement had a block.
pub(super) fn datapipe(_: &[OsString]) -> Result<(), Box<dyn Error>> {
    let (tell, events) = mpsc::channel();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK_LEN)
        .head(Endless)
        .stage(copying().in_processes())
        .tail(Nowhere)
        .on_event(move |event| drop(tell.send((Instant::now(), event.clone()))))
        .start()?;
    let taken_up = || pipe.status().stages[1].instances[0].blocks_in;
    let mut victim = started(&events)?;
    for _ in 0..KILLS {
        let before = taken_up();
        wait_until(|| taken_up() >= before + BETWEEN)?;
        let process = Process::watch(victim)?;
        let killed = Instant::now();
        process.kill()?;
        let noticed = died(&events)?;
        let before = taken_up(); // the dead one counts no more
        wait_until(|| taken_up() > before)?;
        let replaced = Instant::now();
        victim = started(&events)?;
        let since_kill = |at: Instant| at.duration_since(killed).as_secs_f64() * 1000.0;
        println!("{:.3} {:.3}", since_kill(noticed), since_kill(replaced));
    }
    pipe.cancel();
    match pipe.wait() {
        Err(datapipe::Error::Cancelled) => Ok(()),
        Ok(_) => Err("a pipe without an end has ended".into()),
        Err(error) => Err(error.into()),
    }
}

type Events = Receiver<(Instant, Event)>;

/// Waits for the next process. Returns its id.
fn started(events: &Events) -> Result<u32, Box<dyn Error>> {
    match events.recv_timeout(PATIENCE)? {
        (_, Event::Started { process, .. }) => Ok(process),
        (_, event) => Err(format!("a process was to start, but {event}").into()),
    }
}

/// Waits for the next death. Returns when the controller told it.
fn died(events: &Events) -> Result<Instant, Box<dyn Error>> {
    match events.recv_timeout(PATIENCE)? {
        (at, Event::Died { replaced: true, .. }) => Ok(at),
        (_, event) => Err(format!("a process was to die, but {event}").into()),
    }
}

fn wait_until(is_so: impl Fn() -> bool) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() >= PATIENCE {
            return Err(format!("the pipe did not get on for {} s", PATIENCE.as_secs()).into());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

fn copying() -> MiddleStage<'static> {
    Stage::transform("copy", |_| Copying).module(MODULE, "")
}

struct Copying;

impl Transform for Copying {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        output.put(input.bytes())?;
        Ok(Verdict::Send)
    }
}

struct Endless;

impl Head for Endless {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        block.put(&[0; BLOCK_LEN as usize])?;
        Ok(Fill::Block)
    }
}

struct Nowhere;

impl Tail for Nowhere {
    fn write(&mut self, _: &Block) -> Result<(), StageError> {
        Ok(())
    }
}
