//! Brings back what `disk_to_tape` has written, or checks it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use datapipe::archive::ReadReport;
use datapipe::controller::ByteCount;
use datapipe::limits::{MAX_INSTANCES, MIN_BUFFER_SIZE};
use datapipe::prelude::*;
use datapipe::wire::Content;
use datapipe_examples::console::{Console, Failure, default_instances};
use datapipe_examples::medium::{Counted, Location, Met, origin};
use datapipe_examples::secret::SecretArgs;
use datapipe_examples::stream::{Check, Salvaged};
use datapipe_examples::tree::{Destination, Restored};

/// Restore a directory from an archive that disk_to_tape has written.
///
/// Exits with 0 if all is well, 1 if it failed or the archive is incomplete, 2 if it was asked for in a wrong way, 3 if
/// it was done but some of the archive is damaged.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    secret: SecretArgs,
    /// Read and check everything, and write nothing
    #[arg(long, conflicts_with_all = ["salvage", "overwrite", "dest"])]
    verify: bool,
    /// Go on behind damage, and restore what can be restored
    #[arg(long)]
    salvage: bool,
    /// Threads that decompress, and as many that decrypt [default: one per processor, up to 16]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_INSTANCES.into()))]
    instances: Option<u32>,
    /// Replace what stands in DEST under the directory's name
    #[arg(long)]
    overwrite: bool,
    /// Show warnings and errors only
    #[arg(long)]
    quiet: bool,
    /// A directory of volumes, or a file that is a virtual tape
    medium: PathBuf,
    /// Where the directory is to stand [default: here]
    dest: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let console = Console::new("tape_to_disk", args.quiet);
    console.end(run(&args, console))
}

fn run(args: &Args, console: Console) -> Result<(), Failure> {
    let secret = args.secret.read(console)?;
    let location = Location::new(args.medium.clone());
    let medium = Counted::new(location.open()?);
    let met = medium.met();
    let reader = ArchiveReader::open(medium, secret.as_ref()).map_err(|error| location.failure(error))?;
    if reader.header().content != Content::Stream {
        return Err(location.failure("holds a file tree: this program restores packed directories only"));
    }
    console.say(&format!("\"{}\", {}", reader.header().name.escape_debug(), origin(reader.session())));
    let job = Job { args, console, location, report: ReadReport::default(), log: DamageLog::new() };
    if args.verify {
        job.verify(reader, met)
    } else if args.salvage {
        job.salvage(reader)
    } else {
        job.restore(reader)
    }
}

/// What is done with one archive.
struct Job<'a> {
    args: &'a Args,
    console: Console,
    location: Location,
    report: ReadReport,
    log: DamageLog,
}

impl Job<'_> {
    /// Everything but the tail. `salvaging`: damage goes to the log.
    fn pipe(&self, reader: ArchiveReader<Counted>, salvaging: bool) -> PipeBuilder<'static> {
        let instances = self.args.instances.unwrap_or_else(default_instances);
        let (reader, decompress) = if salvaging {
            (reader.salvage(&self.log), decompress_salvaging(&self.log))
        } else {
            (reader, decompress())
        };
        let buffer_size = reader.header().block_len.max(MIN_BUFFER_SIZE);
        let open = reader.open_blocks();
        let mut pipe = Pipe::builder().label("restore").direction(Direction::Restore);
        pipe = pipe.buffer_size(buffer_size).head(reader.into_head());
        if let Some(open) = open {
            pipe = pipe.stage(open.instances(instances));
        }
        pipe.stage(decompress.instances(instances))
    }

    fn verify(&self, reader: ArchiveReader<Counted>, met: impl Fn() -> Met) -> Result<(), Failure> {
        let whole = Arc::new(Mutex::new((0, 0)));
        let count = Arc::clone(&whole);
        let tail = Check::new(reader.header().block_len, &self.log, move |len| {
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            *count = (count.0 + 1, count.1 + len);
        });
        let ran = self.console.run(self.pipe(reader, true).tail(tail));
        self.console.list(&self.log);
        ran?;
        let (blocks, bytes) = *whole.lock().unwrap_or_else(PoisonError::into_inner);
        let (Met { volumes, runs, .. }, outcome) = (met(), self.report.outcome());
        // Behind the last chunk there is one more run: the footers of archive and session.
        let chunks = runs.saturating_sub(outcome.complete.into());
        let (chunks, volumes) = (counted(chunks, "chunk"), counted(volumes, "volume"));
        let (all, bytes) = (counted(outcome.blocks + outcome.missing, "block"), ByteCount(bytes));
        self.judge(&format!("checked {chunks} on {volumes}: {blocks} of {all} whole, with {bytes}"))
    }

    fn restore(&self, reader: ArchiveReader<Counted>) -> Result<(), Failure> {
        let destination = self.destination()?;
        let (place, tree) = (Shared::default(), Shared::default());
        let (told, made, to) = (place.clone(), tree.clone(), Arc::clone(&destination));
        let tail = Stage::tail_port("tree-tail", move |port| {
            made.put(to.unpack(BlockReader::new(port), &|path| told.put(path.to_owned()))?);
            Ok(())
        });
        let ran = self.console.run(self.pipe(reader, false).tail(tail));
        let report = ran.map_err(|error| {
            let reading = matches!(&error, Error::Stage(failure) if failure.stage != "tree-tail");
            let failure = left(self.location.failure(error), place.take());
            let why = "the archive is damaged there, or incomplete: --verify says which, --salvage restores what it can";
            if reading { failure.and(why) } else { failure }
        })?;
        self.put_in_place(&destination, tree.take())?;
        self.console.say(&report.to_string());
        Ok(())
    }

    fn salvage(&self, reader: ArchiveReader<Counted>) -> Result<(), Failure> {
        let destination = self.destination()?;
        let (place, tree) = (Shared::default(), Shared::default());
        let (told, made, to) = (place.clone(), tree.clone(), Arc::clone(&destination));
        let (console, block_len) = (self.console, reader.header().block_len);
        let gaps = Shared::default();
        let gap = gaps.clone();
        let tail = Stage::tail_port("tree-tail", move |port| {
            let lost = Cell::new(0);
            let mut stream = Salvaged::new(port, block_len, &lost);
            let began = |path: &Path| told.put(path.to_owned());
            let mention = |text: &str| {
                gap.put(());
                console.warn(text);
            };
            made.put(to.salvage(&mut stream, &lost, &began, &mention)?);
            stream.drain()
        });
        let ran = self.console.run(self.pipe(reader, true).tail(tail));
        self.console.list(&self.log);
        ran.map_err(|error| left(self.location.failure(error), place.take()))?;
        self.put_in_place(&destination, tree.take())?;
        let gaps = gaps.take().is_some();
        self.judge(if gaps { "restored a part of it" } else { "restored all files" })?;
        // Nothing is wrong with the archive, but what was archived is no whole tree.
        if gaps { Err(self.location.failure("holds a tree that is not whole")) } else { Ok(()) }
    }

    fn destination(&self) -> Result<Arc<Destination>, Failure> {
        let dest = self.args.dest.as_deref().unwrap_or_else(|| Path::new("."));
        Ok(Arc::new(Destination::open(dest, self.args.overwrite)?))
    }

    fn put_in_place(&self, destination: &Destination, tree: Option<Restored>) -> Result<(), Failure> {
        let tree = tree.ok_or_else(|| Failure::new("nothing was restored"))?;
        Ok(destination.put_in_place(tree, &|text| self.console.warn(text))?)
    }

    /// How it ended, after all of the archive was read.
    fn judge(&self, done: &str) -> Result<(), Failure> {
        let (outcome, found) = (self.report.outcome(), self.log.count());
        let whole = if outcome.complete { "complete" } else { "incomplete" };
        let text = format!("{done}; the archive is {whole}");
        let damaged = format!("{text}; damage was found {}", counted(found, "time"));
        match (outcome.complete, found) {
            (true, 0) => self.console.say(&text),
            (true, _) => return Err(Failure::damaged(damaged)),
            (false, _) => return Err(self.location.failure(damaged)),
        }
        Ok(())
    }
}

fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Says what a restore that failed has left.
fn left(failure: Failure, place: Option<PathBuf>) -> Failure {
    match place {
        Some(place) => failure.and(&format!("what was restored is incomplete and left in {place:?}")),
        None => failure.and("nothing was restored"),
    }
}

/// What a stage leaves behind for those who started the pipe.
struct Shared<T>(Arc<Mutex<Option<T>>>);

impl<T> Shared<T> {
    fn put(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}
