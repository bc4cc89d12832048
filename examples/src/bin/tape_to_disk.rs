//! Brings back what `disk_to_tape` has written, checks it, or lists it.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, stdout};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use datapipe::archive::{ReadReport, Reading};
use datapipe::host;
use datapipe::prelude::*;
use datapipe::tree::{RestoreReport, Selection, TreeList};
use datapipe::wire::{CatalogueEntry, ObjectKind, ObjectState, Time};
use datapipe_examples::arguments::{InstancesArgs, OutputArgs, PlacementArgs};
use datapipe_examples::console::{Console, EXIT_CODES, Failure};
use datapipe_examples::listing::Listing;
use datapipe_examples::medium::{Location, origin};
use datapipe_examples::names::{counted, escaped};
use datapipe_examples::newfile::NewFile;
use datapipe_examples::part::Part;
use datapipe_examples::progress::Done;
use datapipe_examples::secret::SecretArgs;
use datapipe_examples::summary::Summary;

/// Restore what disk_to_tape has written, check it, or list it.
///
/// Reading goes on behind damage. A file that is damaged is named, and is never left under its
/// name: what there is of it is called NAME.damaged. In lists and messages a name is one line:
/// control characters and backslashes are escaped as in Rust and C (\n, \\, \u{1b}), and bytes that
/// are no UTF-8 as \xff.
#[derive(Debug, Parser)]
#[command(name = "tape_to_disk", version, after_help = EXIT_CODES)]
struct Args {
    #[command(flatten)]
    secret: SecretArgs,
    /// Print what is in the archive, a line for each object
    #[arg(long, conflicts_with_all = ["verify", "overwrite", "dest"])]
    list: bool,
    /// Read and check everything, and write nothing
    #[arg(long, conflicts_with_all = ["overwrite", "path", "dest"])]
    verify: bool,
    /// Restore or list only PATH, and what is below it: a path as --list prints it, but not escaped
    #[arg(long, value_name = "PATH")]
    path: Vec<OsString>,
    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    instances: InstancesArgs,
    #[command(flatten)]
    placement: PlacementArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// A directory of volumes, or a file that is a virtual tape
    medium: PathBuf,
    /// The directory to restore to, which is made if need be; or - to write a stream to standard
    /// output [default: here]
    dest: Option<PathBuf>,
}

impl Args {
    fn paths(&self) -> Vec<Vec<u8>> {
        self.path
            .iter()
            .map(|path| path.clone().into_vec())
            .collect()
    }

    fn to_stdout(&self) -> bool {
        self.dest
            .as_ref()
            .is_some_and(|dest| dest.as_os_str() == "-")
    }
}

fn main() -> ExitCode {
    host::serve(datapipe::modules());
    let args = Args::parse();
    if args.to_stdout() && args.output.json {
        let what = "standard output cannot take both a stream and a JSON object";
        Args::command()
            .error(ErrorKind::ArgumentConflict, what)
            .exit();
    }
    let mut console = Console::new("tape_to_disk", args.output);
    if args.to_stdout() {
        console = console.beside_data();
    }
    let listing = args.list.then(|| Listing::new(args.output.json));
    if listing.is_some() {
        console = console.beside_list();
    }
    let job = match (args.list, args.verify) {
        (true, _) => "list",
        (_, true) => "verify",
        _ => "restore",
    };
    let mut summary = Summary::new(job);
    let outcome = run(&args, console, listing.as_ref(), &mut summary);
    console.end(summary, outcome, listing.as_ref())
}

fn run(
    args: &Args,
    console: Console,
    listing: Option<&Listing>,
    summary: &mut Summary,
) -> Result<(), Failure> {
    console.listen_to_signals()?;
    let secret = args.secret.read(console)?;
    let location = Location::new(args.medium.clone());
    let reader = ArchiveReader::open(location.open()?, secret.as_ref())
        .map_err(|error| location.failure(error))?;
    let name = &reader.header().name;
    console.say(&format!(
        "\"{}\", {}",
        escaped(name.as_bytes()),
        origin(reader.session())
    ));
    summary.archive = Some(name.clone());
    let log = DamageLog::new();
    let part = part(args, &reader).map_err(|error| location.failure(error))?;
    let reader = reader.salvage(&log);
    let mut job = Job {
        args,
        console,
        location,
        part,
        report: ReadReport::default(),
        log,
        summary,
    };
    let is_tree = reader.header().content == Content::Tree;
    match (listing, args.verify, is_tree) {
        (Some(listing), _, true) => job.list_tree(&reader, listing),
        (Some(listing), _, false) => job.list_stream(&reader, listing),
        (None, true, true) => job.verify_tree(&reader),
        (None, true, false) => job.verify_stream(&reader),
        (None, false, true) => job.restore_tree(&reader),
        (None, false, false) if args.to_stdout() => job.stream_to_stdout(&reader),
        (None, false, false) => job.stream_to_file(&reader),
    }
}

/// What has to be read.
fn part(args: &Args, reader: &Reader) -> Result<Part, Box<dyn Error>> {
    let is_tree = reader.header().content == Content::Tree;
    match is_tree && !args.verify {
        true if args.list => Part::of_list(reader, args.placement),
        true if !args.path.is_empty() => Part::of_paths(reader, &args.paths(), args.placement),
        _ => Ok(Part::Everything),
    }
}

/// What is done with one archive.
struct Job<'a> {
    args: &'a Args,
    console: Console,
    location: Location,
    part: Part,
    report: ReadReport,
    log: DamageLog,
    summary: &'a mut Summary,
}

type Reader = ArchiveReader<Box<dyn Medium>>;

impl Job<'_> {
    /// Everything but the tail. Damage goes to the log, and reading goes on behind it.
    fn pipe(&mut self, reader: &Reader) -> Result<PipeBuilder<'static>, Failure> {
        let reading = self.part.read(reader, self.args.instances.count());
        let Reading { pipe, report } = reading.map_err(|error| self.location.failure(error))?;
        self.report = report;
        Ok(self.args.placement.pipe(pipe.label(self.summary.job)))
    }

    /// Runs a pipe, and takes what was found on the medium. `tree`: what becomes of a tree.
    fn run(
        &mut self,
        pipe: PipeBuilder<'static>,
        tree: Option<&RestoreReport>,
    ) -> Result<(), Failure> {
        let all = self.location.bytes();
        let everything = self.part.is_everything();
        let done = || {
            let part = everything.then(|| (self.report.snapshot().read, all));
            Done {
                files: tree.map(|tree| tree.counts().files),
                part,
            }
        };
        let ran = self.console.run(pipe, &done, self.summary);
        if let Some(tree) = tree {
            self.summary.add_restored(tree);
        }
        self.summary.add_damage(&self.log);
        let report = ran.map_err(|error| self.location.failure(error))?;
        let read = self.report.snapshot();
        if self.part.is_everything() && !read.complete && read.blocks == 0 {
            return Err(self
                .location
                .failure("nothing could be read of the archive"));
        }
        self.console.say(&report.to_string());
        Ok(())
    }

    fn list_tree(&mut self, reader: &Reader, listing: &Listing) -> Result<(), Failure> {
        let selection = Arc::new(Mutex::new(self.selection()));
        let (wanted, lines) = (Arc::clone(&selection), listing.clone());
        let tail = TreeList::new(move |object: &CatalogueEntry<'_>| {
            if locked(&wanted).wants(object.path, ObjectKind::File) {
                lines
                    .add(object)
                    .map_err(|error| StageError::new(cannot_print(&error)))?;
            }
            Ok(())
        });
        let pipe = self.pipe(reader)?.tail(tail.salvage(&self.log));
        let ran = self.run(pipe, None);
        listing.count(self.summary);
        ran?;
        self.add_rejected("what they named is not listed");
        for path in locked(&selection).not_found() {
            self.summary.add_error(path, "not found in the archive");
        }
        Ok(())
    }

    /// A stream is one object: a file of the archive's name. How long it is, the end of the archive
    /// says, or else its blocks.
    fn list_stream(&mut self, reader: &Reader, listing: &Listing) -> Result<(), Failure> {
        let (name, created) = (reader.header().name.clone(), reader.header().created);
        self.check_wanted(&name)?;
        let size = match reader.index() {
            Ok(index) => index.plain(),
            Err(_) => {
                self.run_stream(reader, nowhere()?)?;
                self.report.snapshot().plain
            }
        };
        let object = stream_entry(&name, size, created);
        listing
            .add(&object)
            .map_err(|error| Failure::new(cannot_print(&error)))?;
        listing.count(self.summary);
        Ok(())
    }

    fn verify_tree(&mut self, reader: &Reader) -> Result<(), Failure> {
        let tail = TreeVerify::new();
        let report = tail.report();
        let pipe = self
            .pipe(reader)?
            .tail(self.args.placement.stage(tail.into()));
        self.run(pipe, Some(&report))?;
        self.say_whole("checked", &report);
        Ok(())
    }

    fn verify_stream(&mut self, reader: &Reader) -> Result<(), Failure> {
        self.run_stream(reader, nowhere()?)?;
        self.summary.files = u64::from(self.summary.errors_total == 0);
        Ok(())
    }

    fn restore_tree(&mut self, reader: &Reader) -> Result<(), Failure> {
        if self.args.to_stdout() {
            return Err(self
                .location
                .failure("holds a file tree, and no stream: restore it to a directory"));
        }
        let dest = self.destination()?;
        let options = RestoreOptions::default().overwrite(self.args.overwrite);
        let tail = match &self.part {
            Part::CatalogueQuery(_, _, wanted) => TreeRestore::part(dest, options, wanted),
            _ => TreeRestore::paths(dest, options, &self.args.paths()),
        };
        let tail = tail.map_err(|error| {
            Failure::new(format!("cannot restore to {}: {error}", dest.display()))
        })?;
        let report = tail.report();
        let pipe = self
            .pipe(reader)?
            .tail(self.args.placement.stage(tail.into()));
        self.run(pipe, Some(&report))?;
        self.say_whole("restored", &report);
        Ok(())
    }

    fn stream_to_stdout(&mut self, reader: &Reader) -> Result<(), Failure> {
        self.check_wanted(&reader.header().name)?;
        // Without the buffer of std, which would only copy.
        let output = File::from(stdout().as_fd().try_clone_to_owned()?);
        self.run_stream(reader, output)
    }

    fn stream_to_file(&mut self, reader: &Reader) -> Result<(), Failure> {
        let name = reader.header().name.clone();
        self.check_wanted(&name)?;
        let file = NewFile::create(self.destination()?, &name, self.args.overwrite)?;
        self.run_stream(reader, file.writer()?)?;
        if self.summary.errors_total == 0 {
            self.summary.files = 1;
            return file.keep();
        }
        let path = file.keep_damaged()?;
        self.summary.add_error(
            name,
            format!("is damaged; what there is of it is {}", path.display()),
        );
        Ok(())
    }

    /// Runs a pipe that writes a stream, with zeros where something is lost.
    fn run_stream(&mut self, reader: &Reader, to: File) -> Result<(), Failure> {
        let tail = self.args.placement.stage(StreamRestore::file(to).into());
        let pipe = self.pipe(reader)?.tail(tail);
        self.run(pipe, None)?;
        self.add_rejected("zeros are there");
        Ok(())
    }

    /// Blocks that inspection refused have no content.
    fn add_rejected(&mut self, so: &str) {
        if let blocks @ 1.. = self.report.snapshot().rejected {
            let blocks = counted(blocks, "block was", "blocks were");
            self.summary.add_error(
                "",
                format!("{blocks} rejected when the archive was written: {so}"),
            );
        }
    }

    /// Says how much is whole, and how much of the archive there is.
    fn say_whole(&self, done: &str, report: &RestoreReport) {
        let counts = report.counts();
        let mut text = format!(
            "{done} {}, {}, {}",
            counted(counts.files, "file", "files"),
            counted(counts.directories, "directory", "directories"),
            counted(counts.others, "other", "others")
        );
        if let damaged @ 1.. = counts.damaged_count {
            text += &format!("; {damaged} damaged");
        }
        if self.part.is_everything() {
            let read = self.report.snapshot();
            let volumes = counted(read.volumes.into(), "volume", "volumes");
            let whole = if read.complete {
                "complete"
            } else {
                "incomplete"
            };
            text += &format!("; the archive is {whole}, on {volumes}");
        }
        self.console.say(&text);
    }

    /// The directory to restore to. It is made if only its own name is missing.
    fn destination(&self) -> Result<&Path, Failure> {
        let dest = self.args.dest.as_deref().unwrap_or_else(|| Path::new("."));
        match fs::create_dir(dest) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Failure::new(
                format!("cannot make {}: {error}", dest.display()),
            )),
            _ => Ok(dest),
        }
    }

    /// A stream is wanted if `--path` names it, or there is no `--path`.
    fn check_wanted(&self, name: &str) -> Result<(), Failure> {
        if self.selection().wants(name.as_bytes(), ObjectKind::File) {
            return Ok(());
        }
        let name = escaped(name.as_bytes());
        Err(self.location.failure(format!(
            "holds one stream, \"{name}\", which is none of --path"
        )))
    }

    fn selection(&self) -> Selection {
        Selection::new(&self.args.paths())
    }
}

/// Where a stream goes that is only checked.
fn nowhere() -> io::Result<File> {
    File::options().write(true).open("/dev/null")
}

/// A stream as an object of a list.
fn stream_entry(name: &str, size: u64, modified: Time) -> CatalogueEntry<'_> {
    CatalogueEntry {
        kind: ObjectKind::File,
        state: ObjectState::Whole,
        mode: 0,
        size,
        link: 0,
        modified,
        blocks: (0, 0),
        offset: 0,
        path: name.as_bytes(),
        target: b"",
    }
}

fn cannot_print(error: &io::Error) -> String {
    format!("cannot write to standard output: {error}")
}

fn locked(selection: &Mutex<Selection>) -> MutexGuard<'_, Selection> {
    selection.lock().unwrap_or_else(PoisonError::into_inner)
}
