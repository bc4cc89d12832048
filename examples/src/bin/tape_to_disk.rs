//! Restores, verifies or lists an archive that `disk_to_tape` has written.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, stdout};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use datapipe::archive::{AfterEnd, ArchiveOrigin, ReadReport, Reading};
use datapipe::crypto::SecretKind;
use datapipe::host;
use datapipe::interrupt::retry;
use datapipe::prelude::*;
use datapipe::tree::{RestoreReport, Selection, TreeList};
use datapipe::wire::{CatalogueEntry, ObjectKind, ObjectState, SessionHeader, Time};
use datapipe_examples::arguments::{InstancesArgs, OutputArgs, PlacementArgs};
use datapipe_examples::console::{Console, EXIT_CODES, Failure};
use datapipe_examples::descriptors;
use datapipe_examples::errors_file::ErrorsArgs;
use datapipe_examples::format::{count_of, escape, format_minute};
use datapipe_examples::listing::Listing;
use datapipe_examples::medium::{Location, describe_name, describe_origin};
use datapipe_examples::new_file::NewFile;
use datapipe_examples::progress::JobProgress;
use datapipe_examples::read_scope::ReadScope;
use datapipe_examples::secret::DecryptArgs;
use datapipe_examples::select::{SelectArgs, Stored};
use datapipe_examples::sessions::list_sessions;
use datapipe_examples::summary::Summary;

/// Restore, verify or list an archive that disk_to_tape has written.
///
/// Reading continues after damage. Damaged files are reported, and never keep their name: the
/// recovered part is named NAME.damaged. In lists and messages a name is one line: control
/// characters and backslashes are escaped as in Rust and C (\n, \\, \u{1b}), and bytes that are not
/// UTF-8 as \xff.
///
/// One archive of a medium is read: of several the last whole one, unless --session or --archive
/// selects another. Other bytes after the only archive, such as the padding of a copy, are a note:
/// all of the archive is there.
#[derive(Debug, Parser)]
#[command(name = "tape_to_disk", version, after_help = EXIT_CODES)]
struct Args {
    #[command(flatten)]
    secret: DecryptArgs,
    /// List the sessions and archives of MEDIUM, a line for each archive, and read nothing else. A
    /// session is the output of one backup or more; --append adds one
    #[arg(
        long,
        conflicts_with_all =
            ["list", "verify", "overwrite", "path", "dest", "session", "archive", "expect"]
    )]
    sessions: bool,
    #[command(flatten)]
    select: SelectArgs,
    /// List the archive, a line for each object, with a remark if the object is not whole
    #[arg(long, conflicts_with_all = ["verify", "overwrite", "dest"])]
    list: bool,
    /// Read and check the entire archive, and write nothing. Without the key of an encrypted
    /// archive checksums, headers and numbers are checked, and nothing is authenticated
    #[arg(long, conflicts_with_all = ["overwrite", "path", "dest"])]
    verify: bool,
    /// Restore or list only PATH and everything below it: a path as --list prints it, but not
    /// escaped
    #[arg(long, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(parse_path))]
    path: Vec<OsString>,
    /// Replace existing files, but not MEDIUM and the file with the key or passphrase, and set
    /// mode, owner and times of existing directories
    #[arg(long)]
    overwrite: bool,
    /// Give objects the numbers of their users and groups that the archive has. Otherwise root
    /// gives them to the user and group of this machine that have the archived names, and to the
    /// numbers only if there are none
    #[arg(long, conflicts_with_all = ["list", "verify"])]
    numeric_owner: bool,
    #[command(flatten)]
    instances: InstancesArgs,
    #[command(flatten)]
    placement: PlacementArgs,
    #[command(flatten)]
    errors: ErrorsArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// A directory of volumes, or a file that is a virtual tape
    medium: PathBuf,
    /// The directory to restore to, which is created if necessary; or - to write a stream to
    /// standard output [default: the current directory]
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

/// Refuses an empty path, which would select everything: a script has left a variable unset.
fn parse_path(path: OsString) -> Result<OsString, &'static str> {
    match path.is_empty() {
        true => Err("a path cannot be empty; use . for everything"),
        false => Ok(path),
    }
}

fn main() -> ExitCode {
    host::serve(datapipe::modules());
    descriptors::raise_limit();
    let args = Args::parse();
    if args.to_stdout() && args.output.json {
        let message = "standard output cannot take both a stream and a JSON object";
        Args::command()
            .error(ErrorKind::ArgumentConflict, message)
            .exit();
    }
    let mut console = Console::new("tape_to_disk", args.output);
    if args.to_stdout() {
        console = console.with_data_on_stdout();
    }
    let listing = args.list.then(|| Listing::new(args.output.json));
    if listing.is_some() || args.sessions {
        console = console.with_list_on_stdout();
    }
    let job = match (args.list, args.verify, args.sessions) {
        (true, ..) => "list",
        (_, true, _) => "verify",
        (.., true) => "sessions",
        _ => "restore",
    };
    let mut summary = Summary::new(job);
    let outcome = run(&args, console, listing.as_ref(), &mut summary);
    console.finish(summary, outcome, listing.as_ref())
}

fn run(
    args: &Args,
    console: Console,
    listing: Option<&Listing>,
    summary: &mut Summary,
) -> Result<(), Failure> {
    console.handle_signals(summary.job)?;
    let written = match args.output.json {
        true => Some("the JSON object"),
        false if args.list || args.sessions => Some("the list"),
        false => args.to_stdout().then_some("the stream"),
    };
    written.map_or(Ok(()), |what| console.check_output(what))?;
    let secret = args.secret.read(console)?;
    let location = Location::new(args.medium.clone());
    location.check_is_path()?;
    summary.errors_to = args.errors.create(&location, &[])?;
    summary.notes.extend(args.instances.note());
    summary.notes.extend(location.writer_note());
    let volumes = location.volumes();
    location.note_volumes(&volumes, summary);
    if let Some(label) = Location::label_of(&volumes) {
        console.info(&format!("{location} has the volume label {label}"));
    }
    if args.sessions {
        return list_sessions(&location, secret.as_ref(), args.output.json, summary);
    }
    let reader = if args.verify && secret.is_none() {
        match args.select.open_stored(&location, summary)?.into_reader() {
            Ok(reader) => reader,
            Err(stored) => return verify_stored(args, console, location, &stored, summary),
        }
    } else {
        args.select.open(&location, secret.as_ref(), summary)?
    };
    summary.authenticated = Some(reader.opened_by().is_some());
    // It is not needed any more, and a dump of this process must not have it.
    drop(secret);
    let created = reader.header().created;
    let (session, origin) = (reader.session(), reader.origin());
    note_origin(console, (session, created), origin, false, summary);
    if reader.opened_by() == Some(SecretKind::Identity) {
        summary.notes.push(UNPROVEN_WRITER.to_owned());
    }
    let log = DamageLog::new();
    summary.errors_to.watch_damage(&log);
    let scope = read_scope(args, &reader).map_err(|error| location.failure(error))?;
    let reader = reader.salvage(&log);
    let mut job = Job {
        args,
        console,
        location,
        scope,
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

/// Note on an archive that an identity has opened.
const UNPROVEN_WRITER: &str = "an identity has opened the archive, which does not prove who has \
                               written it: every program that has the recipient's public key can \
                               make such an archive";

/// Note on an encrypted archive that is verified without its key.
const NOT_AUTHENTICATED: &str = "nothing was authenticated: without the key, checksums, headers \
                                 and numbers were checked, which any party can forge; to check \
                                 the content, give the key";

/// Checks an encrypted archive without its key.
fn verify_stored(
    args: &Args,
    console: Console,
    location: Location,
    stored: &Stored,
    summary: &mut Summary,
) -> Result<(), Failure> {
    note_origin(
        console,
        (stored.session(), stored.header().created),
        stored.origin(),
        true,
        summary,
    );
    summary.authenticated = Some(false);
    summary.notes.push(NOT_AUTHENTICATED.to_owned());
    let log = DamageLog::new();
    summary.errors_to.watch_damage(&log);
    let Reading { pipe, report } = stored.clone().salvage(&log).read();
    let pipe = args.placement.pipe(pipe.label(summary.job));
    let tail = StreamTail::file(dev_null()?).into();
    let mut job = Job {
        args,
        console,
        location,
        scope: ReadScope::Everything,
        report: report.clone(),
        log,
        summary,
    };
    job.run(pipe.tail(args.placement.stage(tail)), None)?;
    let read = report.snapshot();
    let completeness = match read.complete {
        true => "complete",
        false => "incomplete",
    };
    console.info(&format!(
        "checked {} without the key; the archive is {completeness}, on {}",
        count_of(read.blocks, "block", "blocks"),
        count_of(read.volumes.into(), "volume", "volumes")
    ));
    Ok(())
}

/// Shows where an archive comes from, and records its name and the time at which it was begun.
/// Nothing proves the time of its session, which is shown only of a copy. `is_sealed`: name and
/// host are encrypted.
fn note_origin(
    console: Console,
    (session, created): (&SessionHeader, Time),
    origin: Option<&ArchiveOrigin>,
    is_sealed: bool,
    summary: &mut Summary,
) {
    let name = describe_name(origin, is_sealed);
    let written = describe_origin(created, origin);
    let source = summary.copy_of.as_ref();
    let copied = format_minute(session.created);
    let source = source.map_or_else(String::new, |from| format!(", copied on {copied}, {from}"));
    summary.created = Some(created.seconds);
    console.info(&format!("{name}, {written}{source}"));
    summary.archive = origin.map(|origin| origin.name.clone());
}

/// Returns the name of a stream, or another one if that is damaged, which is reported when the
/// archive is read.
fn stream_name(reader: &Reader) -> String {
    let origin = reader.origin();
    origin.map_or_else(|| "stream".to_owned(), |origin| origin.name.clone())
}

/// Returns the part of the archive that the job reads.
fn read_scope(args: &Args, reader: &Reader) -> Result<ReadScope, Box<dyn Error>> {
    let is_tree = reader.header().content == Content::Tree;
    match is_tree && !args.verify {
        true if args.list => ReadScope::for_list(reader, args.placement),
        true if !args.path.is_empty() => {
            ReadScope::for_paths(reader, &args.paths(), args.placement)
        }
        _ => Ok(ReadScope::Everything),
    }
}

/// A job on one archive.
struct Job<'a> {
    args: &'a Args,
    console: Console,
    location: Location,
    scope: ReadScope,
    report: ReadReport,
    log: DamageLog,
    summary: &'a mut Summary,
}

type Reader = ArchiveReader<Box<dyn MediumReader>>;

impl Job<'_> {
    /// Returns the pipe without its tail. Damage is logged, and reading continues after it.
    fn pipe(&mut self, reader: &Reader) -> Result<PipeBuilder<'static>, Failure> {
        let reading = self.scope.read(reader, self.args.instances.count());
        let Reading { pipe, report } = reading.map_err(|error| self.location.failure(error))?;
        self.report = report;
        Ok(self.args.placement.pipe(pipe.label(self.summary.job)))
    }

    /// Runs a pipe, and adds the damage on the medium and the report of a tree to the summary.
    fn run(
        &mut self,
        pipe: PipeBuilder<'static>,
        tree: Option<&RestoreReport>,
    ) -> Result<(), Failure> {
        let all = self.location.bytes();
        let everything = self.scope.is_everything();
        let done = || {
            let done_of_total = everything.then(|| (self.report.snapshot().read, all));
            JobProgress {
                files: tree.map(|tree| tree.counts().files),
                done_of_total,
            }
        };
        if let Some(tree) = tree {
            self.summary.errors_to.watch_restore(tree);
        }
        let result = self.console.run(pipe, &done, self.summary);
        if let Some(tree) = tree {
            self.summary.add_restored(tree);
        }
        self.summary.add_damage(&self.log);
        let report = result.map_err(|error| self.location.failure(error))?;
        let read = self.report.snapshot();
        if read.after_end == AfterEnd::Bytes {
            let note = "the medium has bytes after the end of the archive, which are not a part of \
                        it and were not used";
            self.summary.notes.push(note.to_owned());
        }
        if self.scope.is_everything() && !read.complete && read.blocks == 0 {
            return Err(self
                .location
                .failure("no part of the archive could be read"));
        }
        self.console.info(&report.to_string());
        Ok(())
    }

    fn list_tree(&mut self, reader: &Reader, listing: &Listing) -> Result<(), Failure> {
        let selection = Arc::new(Mutex::new(self.selection()));
        let (paths, lines) = (Arc::clone(&selection), listing.clone());
        let tail = TreeList::new(move |object: &CatalogueEntry<'_>| {
            if lock(&paths).wants(object.path, ObjectKind::File) {
                lines
                    .add(object)
                    .map_err(|error| StageError::new(output_error(&error)))?;
            }
            Ok(())
        });
        let tail = match &self.scope {
            ReadScope::Cut(cut) => tail.of_cut(cut),
            _ => tail,
        };
        let pipe = self.pipe(reader)?.tail(tail.salvage(&self.log));
        let result = self.run(pipe, None);
        listing.set_counts(self.summary);
        result?;
        for path in lock(&selection).not_found() {
            self.summary
                .add_error(path, "not-found", "not found in the archive");
        }
        Ok(())
    }

    /// Lists a stream as one object: a file with the archive's name. Its length is recorded at the
    /// end of the archive; if the end cannot be read, the blocks are counted.
    fn list_stream(&mut self, reader: &Reader, listing: &Listing) -> Result<(), Failure> {
        let (name, created) = (stream_name(reader), reader.header().created);
        self.check_selected(&name)?;
        let size = match reader.index() {
            Ok(index) => {
                if let blocks @ 1.. = index.rejected() {
                    let blocks = count_of(blocks, "block was", "blocks were");
                    let what = "rejected by inspection when the archive was written";
                    let what = format!("{blocks} {what}, and the size does not count them");
                    self.summary.add_error(name.clone(), "rejected", what);
                }
                index.plain()
            }
            Err(_) => {
                self.run_stream(reader, dev_null()?)?;
                self.report.snapshot().plain
            }
        };
        let object = stream_entry(&name, size, created);
        listing
            .add(&object)
            .map_err(|error| Failure::new(output_error(&error)))?;
        listing.set_counts(self.summary);
        Ok(())
    }

    fn verify_tree(&mut self, reader: &Reader) -> Result<(), Failure> {
        let tail = TreeVerify::new();
        let report = tail.report();
        let pipe = self
            .pipe(reader)?
            .tail(self.args.placement.stage(tail.into()));
        self.run(pipe, Some(&report))?;
        self.report_counts("checked", &report);
        Ok(())
    }

    fn verify_stream(&mut self, reader: &Reader) -> Result<(), Failure> {
        self.run_stream(reader, dev_null()?)?;
        self.summary.files = u64::from(self.summary.errors_total == 0);
        Ok(())
    }

    fn restore_tree(&mut self, reader: &Reader) -> Result<(), Failure> {
        if self.args.to_stdout() {
            return Err(self
                .location
                .failure("holds a file tree and not a stream; restore it to a directory"));
        }
        let dest = self.destination()?;
        let options = RestoreOptions::default()
            .overwrite(self.args.overwrite)
            .numeric_owner(self.args.numeric_owner)
            .keep(self.location.files())
            .keep(self.args.secret.file_identity());
        let tail = match &self.scope {
            ReadScope::Paths(_, _, query)
            | ReadScope::AllForPaths(query)
            | ReadScope::CutPaths(_, query, _) => TreeRestore::part(dest, options, query),
            _ => TreeRestore::new(dest, options),
        };
        let tail = tail.map_err(|error| {
            Failure::new(format!("cannot restore to {}: {error}", dest.display()))
        })?;
        let report = tail.report();
        if let ReadScope::CutPaths(_, _, found) = &self.scope {
            // The restore reads the blocks of the paths only.
            for damage in found.snapshot().entries {
                let what = damage.to_string();
                self.summary.add_error(Vec::new(), "medium", what);
            }
        }
        let pipe = self
            .pipe(reader)?
            .tail(self.args.placement.stage(tail.into()));
        self.run(pipe, Some(&report))?;
        self.report_counts("restored", &report);
        Ok(())
    }

    fn stream_to_stdout(&mut self, reader: &Reader) -> Result<(), Failure> {
        self.check_selected(&stream_name(reader))?;
        // The buffer of the standard library would only add a copy.
        let output = File::from(stdout().as_fd().try_clone_to_owned()?);
        self.run_stream(reader, output)
    }

    fn stream_to_file(&mut self, reader: &Reader) -> Result<(), Failure> {
        let name = stream_name(reader);
        self.check_selected(&name)?;
        let dest = self.destination()?;
        let found = retry(|| fs::metadata(dest.join(&name)));
        let mut kept = self.location.files();
        kept.extend(self.args.secret.file_identity());
        if found.is_ok_and(|found| kept.contains(&(found.dev(), found.ino()))) {
            return Err(self.location.failure(format!(
                "the restored stream, {}, would replace the medium that is read, or its key: \
                 restore to another directory",
                escape(name.as_bytes())
            )));
        }
        let file = NewFile::create(dest, &name, self.args.overwrite)?;
        self.run_stream(reader, file.writer()?)?;
        if self.summary.errors_total == 0 {
            self.summary.files = 1;
            return file.keep();
        }
        let path = file.keep_damaged()?;
        self.summary.add_error(
            name,
            "damaged",
            format!("is damaged; its recovered part is {}", path.display()),
        );
        Ok(())
    }

    /// Runs a pipe that writes a stream, with zeros in place of lost data.
    fn run_stream(&mut self, reader: &Reader, to: File) -> Result<(), Failure> {
        let tail = self.args.placement.stage(StreamRestore::file(to).into());
        let pipe = self.pipe(reader)?.tail(tail);
        self.run(pipe, None)
    }

    /// Reports the number of intact objects, and whether the archive is complete.
    fn report_counts(&self, done: &str, report: &RestoreReport) {
        let counts = report.counts();
        let mut text = format!(
            "{done} {}, {}, {}",
            count_of(counts.files, "file", "files"),
            count_of(counts.directories, "directory", "directories"),
            count_of(counts.others, "other", "others")
        );
        if let damaged @ 1.. = counts.damaged_count {
            text += &format!("; {damaged} damaged");
        }
        if self.scope.is_everything() {
            let read = self.report.snapshot();
            let volumes = count_of(read.volumes.into(), "volume", "volumes");
            let completeness = if read.complete {
                "complete"
            } else {
                "incomplete"
            };
            text += &format!("; the archive is {completeness}, on {volumes}");
        } else {
            text += "; the rest of the archive was not looked at";
        }
        self.console.info(&text);
    }

    /// Returns the directory to restore to. Creates it if its parent exists.
    fn destination(&self) -> Result<&Path, Failure> {
        let dest = self.args.dest.as_deref().unwrap_or_else(|| Path::new("."));
        match fs::create_dir(dest) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Failure::new(
                format!("cannot create {}: {error}", dest.display()),
            )),
            Err(_) => Ok(dest),
            Ok(()) => sync_parent(dest).map(|()| dest),
        }
    }

    /// Checks that the stream is selected: `--path` names it, or is not given.
    fn check_selected(&self, name: &str) -> Result<(), Failure> {
        if self.selection().wants(name.as_bytes(), ObjectKind::File) {
            return Ok(());
        }
        let name = escape(name.as_bytes());
        Err(self.location.failure(format!(
            "holds one stream, \"{name}\", which no --path names"
        )))
    }

    fn selection(&self) -> Selection {
        Selection::new(&self.args.paths())
    }
}

/// Brings the name of a new directory to stable storage.
fn sync_parent(dir: &Path) -> Result<(), Failure> {
    let parent = match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    let synced = match File::open(parent) {
        // A directory that we may only search.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened.and_then(|parent| parent.sync_all()),
    };
    match synced {
        // A file system that cannot sync directories.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other.map_err(|error| {
            let (dir, parent) = (dir.display(), parent.display());
            Failure::new(format!(
                "{dir} was created, but cannot bring {parent} to stable storage: {error}"
            ))
        }),
    }
}

/// Opens the destination of a stream that is only checked.
fn dev_null() -> io::Result<File> {
    File::options().write(true).open("/dev/null")
}

/// Returns the list entry of a stream.
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
        changed: modified,
        inode: 0,
        path: name.as_bytes(),
        target: b"",
    }
}

fn output_error(error: &io::Error) -> String {
    format!("cannot write to standard output: {error}")
}

fn lock(selection: &Mutex<Selection>) -> MutexGuard<'_, Selection> {
    selection.lock().unwrap_or_else(PoisonError::into_inner)
}
