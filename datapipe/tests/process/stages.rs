//! The modules of this host, a head of numbered blocks, and a tail that checks them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use datapipe::host::Modules;
use datapipe::prelude::*;
use rustix::process::{Signal, getpid, kill_process};

/// Action of a stage at the block with a certain number. It passes on all others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Deed {
    Pass,
    Die,
    /// Dies if its file does not exist yet, and creates it.
    DieOnce,
    /// Dies as `DieOnce`, after its last block and before the controller knows of its end.
    DieAtEnd,
    Abort,
    Fail,
    Panic,
    Exit,
    Hang,
    /// Hangs if its file does not exist yet, and creates it.
    HangOnce,
}

const DEEDS: [Deed; 10] = [
    Deed::Pass,
    Deed::Die,
    Deed::DieOnce,
    Deed::DieAtEnd,
    Deed::Abort,
    Deed::Fail,
    Deed::Panic,
    Deed::Exit,
    Deed::Hang,
    Deed::HangOnce,
];

#[derive(Clone, Debug)]
struct Doer {
    deed: Deed,
    at: u64,
    file: String,
}

impl Doer {
    fn at(&self, number: u64) -> Result<(), StageError> {
        if number != self.at {
            return Ok(());
        }
        match self.deed {
            Deed::Pass | Deed::DieAtEnd => {}
            Deed::DieOnce if File::create_new(&self.file).is_err() => {}
            Deed::Die | Deed::DieOnce => kill_process(getpid(), Signal::KILL)?,
            Deed::Abort => std::process::abort(),
            Deed::Fail => return Err(StageError::new(format!("no more after {number}"))),
            Deed::Panic => {
                std::panic::set_hook(Box::new(|_| {})); // a deliberate panic
                panic!("lost my mind at {number}")
            }
            Deed::Exit => std::process::exit(3),
            Deed::HangOnce if File::create_new(&self.file).is_err() => {}
            Deed::Hang | Deed::HangOnce => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
        }
        Ok(())
    }
}

/// A running [`Doer`]. Only it acts when it is dropped, the copy in a description does not.
struct Doing(Doer);

impl Drop for Doing {
    fn drop(&mut self) {
        if self.0.deed == Deed::DieAtEnd && File::create_new(&self.0.file).is_ok() {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    }
}

impl Transform for Doing {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        self.0.at(input.number().get())?;
        output.put(input.bytes())?;
        Ok(Verdict::Send)
    }
}

impl InPlace for Doing {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        // A death here leaves the block half changed.
        block.bytes_mut().reverse();
        self.0.at(block.number().get())?;
        block.bytes_mut().reverse();
        Ok(Verdict::Send)
    }
}

/// Number of outputs of [`several`] for an input, at most.
const MOST: u32 = 3;

/// Returns the outputs of [`several`] for the block with this number.
pub(crate) fn outputs_of(number: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..number % u64::from(MOST + 1)).map(move |part| {
        let part = format!("part {part} of ");
        [part.as_bytes(), &content(number)].concat()
    })
}

/// The point at which [`several`] acts: at a block, when it has begun this many outputs.
pub(crate) fn point(number: u64, begun: u64) -> u64 {
    number * u64::from(MOST + 1) + begun
}

impl FlatMap for Doing {
    fn flat_map(&mut self, input: &Block, outputs: &mut Outputs<'_>) -> Result<(), StageError> {
        let number = input.number().get();
        self.0.at(point(number, 0))?;
        for output in outputs_of(number) {
            outputs.next_block()?.put(&output)?;
            // The outputs before this one were sent.
            self.0.at(point(number, outputs.count().into()))?;
        }
        Ok(())
    }
}

/// Returns a stage of processes that make several blocks from one.
pub(crate) fn several(deed: Deed, at: u64, file: &str) -> MiddleStage<'static> {
    described(
        "test.flat-map",
        Doer {
            deed,
            at,
            file: file.to_owned(),
        },
    )
}

/// Returns a stage of processes that work out of place.
pub(crate) fn out_of_place(deed: Deed, at: u64, file: &str) -> MiddleStage<'static> {
    described(
        "test.out-of-place",
        Doer {
            deed,
            at,
            file: file.to_owned(),
        },
    )
}

/// Returns the stage of [`out_of_place`], with slow replacements.
pub(crate) fn slow_to_replace(deed: Deed, at: u64, file: &str) -> MiddleStage<'static> {
    described(
        "test.slow-to-replace",
        Doer {
            deed,
            at,
            file: file.to_owned(),
        },
    )
}

/// Returns a stage of processes that work in place.
pub(crate) fn in_place(deed: Deed, at: u64) -> MiddleStage<'static> {
    described(
        "test.in-place",
        Doer {
            deed,
            at,
            file: String::new(),
        },
    )
}

/// Returns the stage of [`in_place`], which dies only once and after it has changed the block.
pub(crate) fn in_place_once(deed: Deed, at: u64, file: &str) -> MiddleStage<'static> {
    described(
        "test.in-place",
        Doer {
            deed,
            at,
            file: file.to_owned(),
        },
    )
}

/// Describes a stage with this action in processes.
fn described(module: &str, doer: Doer) -> MiddleStage<'static> {
    let arguments = format!("{} {} {}", doer.deed as u8, doer.at, doer.file);
    let stage = match module {
        "test.out-of-place" | "test.slow-to-replace" => {
            Stage::transform("doer", move |_| Doing(doer.clone()))
        }
        "test.flat-map" => Stage::flat_map("doer", MOST, move |_| Doing(doer.clone())),
        _ => Stage::in_place("doer", move |_| Doing(doer.clone())),
    };
    stage.module(module, arguments).in_processes()
}

fn doer(arguments: &[u8]) -> Result<Doer, StageError> {
    let mut words = str::from_utf8(arguments)?.splitn(3, ' ');
    let mut word = || {
        words
            .next()
            .ok_or_else(|| StageError::new("an argument is missing"))
    };
    let deed = DEEDS[word()?.parse::<usize>()?];
    Ok(Doer {
        deed,
        at: word()?.parse()?,
        file: word()?.to_owned(),
    })
}

pub(crate) fn modules() -> Modules {
    let modules = crate::unruly::add(crate::ends::add(datapipe::modules()));
    let modules = crate::archive_stages::add(crate::logs::add(crate::causes::add(modules)));
    let modules = crate::links::add(modules);
    crate::suites::add(crate::own_medium::add(modules))
        .with("test.out-of-place", |call| {
            Ok(described("test.out-of-place", doer(call.arguments())?))
        })
        .with("test.in-place", |call| {
            Ok(described("test.in-place", doer(call.arguments())?))
        })
        .with("test.flat-map", |call| {
            Ok(described("test.flat-map", doer(call.arguments())?))
        })
        .with("test.slow-to-replace", |call| {
            let doer = doer(call.arguments())?;
            if Path::new(&doer.file).exists() {
                std::thread::sleep(Duration::from_millis(1200));
            }
            Ok(described("test.out-of-place", doer))
        })
        .with("test.scribble", |call| {
            Ok(crate::scribbles::scribbling(call.text()?.parse()?))
        })
        .with(
            "test.stillborn",
            |_| -> Result<MiddleStage<'static>, StageError> { std::process::abort() },
        )
}

/// Returns a head that fills distinct blocks: at most `most`, and none after `enough` is set.
pub(crate) fn counting(most: u64, enough: &Arc<AtomicBool>) -> HeadStage<'static> {
    let enough = Arc::clone(enough);
    Stage::head("count", move |_| Counting {
        next: 0,
        most,
        enough: Arc::clone(&enough),
    })
}

struct Counting {
    next: u64,
    most: u64,
    enough: Arc<AtomicBool>,
}

impl Head for Counting {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.next == self.most || self.enough.load(Ordering::SeqCst) {
            return Ok(Fill::End);
        }
        block.put(&content(self.next))?;
        self.next += 1;
        Ok(Fill::Block)
    }
}

/// Returns the content of the block with this number.
pub(crate) fn content(number: u64) -> Vec<u8> {
    format!("block {number}; ")
        .into_bytes()
        .repeat(1 + number as usize % 50)
}

/// Returns a tail that checks that the blocks of [`counting`] arrive in order, whole, each once,
/// and counts them.
pub(crate) fn checking(count: &Arc<AtomicU64>) -> TailStage<'static> {
    let count = Arc::clone(count);
    Stage::tail("check", move |_| Checking(Arc::clone(&count)))
}

struct Checking(Arc<AtomicU64>);

impl Tail for Checking {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        if block.bytes() != content(number) {
            return Err(StageError::new(format!("this is not block {number}")));
        }
        Ok(())
    }
}
