//! A pipe whose stages are all processes. One process is killed in the middle of the work, and the
//! job completes.
//!
//! ```text
//!   count ---> double x2 ---> check        four processes, started by the user's process
//!                 ^
//!              SIGKILL
//! ```
//!
//!     cargo run --release -p datapipe-examples --bin process_stages
//!
//! The program is its own host: each process runs this program again, whose `main` never returns
//! from [`host::serve`] there. The data is in shared memory that all processes map, so nothing is
//! copied between them. The block that the killed process was working on is still there, and the
//! replacement starts with it: no block is lost or duplicated, and the order is kept.

use std::error::Error;
use std::fmt;
use std::io::{Write, stdout};
use std::thread;
use std::time::Duration;

use datapipe::host;
use datapipe::prelude::*;
use datapipe::standard_streams::StandardStream;
use datapipe_examples::signals::exit_on_broken_pipe;
use rustix::process::{Pid, Signal, kill_process};

/// Numbers in a block of 64 KiB, and in all blocks.
const NUMBERS_PER_BLOCK: u64 = 8192;
const NUMBERS: u64 = 1000 * NUMBERS_PER_BLOCK;
const BUFFER_SIZE: u32 = 65_536;

fn main() -> Result<(), Box<dyn Error>> {
    // This must come first: in a process that was started for a stage, it runs the stage and exits.
    host::serve(
        datapipe::modules()
            .with("count", |call| Ok(count(call.text()?.parse()?)))
            .with("double", |_| Ok(double()))
            .with("check", |call| Ok(check(call.text()?.parse()?))),
    );

    StandardStream::Output.check_open()?;
    let pipe = Pipe::builder()
        .label("process_stages")
        .buffer_size(BUFFER_SIZE)
        .head(count(NUMBERS).in_processes())
        .stage(double().instances(2).in_processes())
        .tail(check(NUMBERS).in_processes())
        .on_event(|event| print_line(format_args!("{event}")))
        .start()?;

    // Half-way through, kill a process. The loop ends early if the pipe does.
    while let Some(status) = pipe.status_every(Duration::from_millis(1)) {
        if status.bytes_out() < NUMBERS * 8 / 2 {
            continue;
        }
        let process = i32::try_from(status.stages[1].instances[0].process)?;
        if let Some(victim) = Pid::from_raw(process) {
            print_line(format_args!(
                "half of the data has arrived: killing process {victim}"
            ));
            kill_process(victim, Signal::KILL)?;
            break;
        }
    }

    let report = pipe.wait()?;
    let doubles = &report.status.stages[1].instances;
    print_line(format_args!(
        "double/0 had {} processes, double/1 had {}",
        doubles[0].processes, doubles[1].processes
    ));
    print_line(format_args!("{report}"));
    Ok(())
}

/// Prints a line. If its reader has gone (`process_stages | head -1`), ends the program.
fn print_line(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(stdout(), "{line}") {
        exit_on_broken_pipe(&error);
    }
}

/// The first stage: counts from 0 to `end`, the argument of its module.
fn count(end: u64) -> HeadStage<'static> {
    Stage::head("count", move |_| Count { next: 0, end }).module("count", end.to_string())
}

struct Count {
    next: u64,
    end: u64,
}

impl Head for Count {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        thread::sleep(Duration::from_millis(1)); // a disk takes time as well
        let until = self.end.min(self.next + NUMBERS_PER_BLOCK);
        for number in self.next..until {
            block.put(&number.to_le_bytes())?;
        }
        self.next = until;
        Ok(if block.is_empty() {
            Fill::End
        } else {
            Fill::Block
        })
    }
}

/// The middle stage: doubles each number. It writes to a new block, so a process that dies has not
/// changed its input.
fn double() -> MiddleStage<'static> {
    Stage::transform("double", |_| Double).module("double", "")
}

struct Double;

impl Transform for Double {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        for number in numbers(input) {
            output.put(&(2 * number).to_le_bytes())?;
        }
        Ok(Verdict::Send)
    }
}

/// The last stage: checks that each number is the expected one.
fn check(end: u64) -> TailStage<'static> {
    Stage::tail("check", move |_| Check { next: 0, end }).module("check", end.to_string())
}

struct Check {
    next: u64,
    end: u64,
}

impl Tail for Check {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        for number in numbers(block) {
            if number != 2 * self.next {
                return Err(StageError::new(format!(
                    "received {number} instead of {}",
                    2 * self.next
                )));
            }
            self.next += 1;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StageError> {
        if self.next != self.end {
            return Err(StageError::new(format!(
                "received {} numbers instead of {}",
                self.next, self.end
            )));
        }
        print_line(format_args!(
            "check: {} bytes arrived, all correct and in order",
            8 * self.next
        ));
        Ok(())
    }
}

fn numbers(block: &Block) -> impl Iterator<Item = u64> {
    let (numbers, _) = block.bytes().as_chunks();
    numbers.iter().map(|&bytes| u64::from_le_bytes(bytes))
}
