//! Copies archives to another medium, without their keys.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use datapipe::archive::{
    ListedArchive, ReadReport, Reading, Session, SessionOptions, StoredArchive, WriteReport,
};
use datapipe::host;
use datapipe::limits::{DEFAULT_RECORD, MAX_ARCHIVES, MAX_RECORD, MIN_RECORD};
use datapipe::prelude::*;
use datapipe::wire::Framing;
use datapipe_examples::arguments::{OutputArgs, PlacementArgs, parse_size};
use datapipe_examples::console::{Console, EXIT_CODES, Failure};
use datapipe_examples::descriptors;
use datapipe_examples::errors_file::ErrorsArgs;
use datapipe_examples::format::count_of;
use datapipe_examples::medium::{KeyRule, Location, WriteSettings, describe_name, describe_origin};
use datapipe_examples::progress::JobProgress;
use datapipe_examples::select::{SelectArgs, Stored};
use datapipe_examples::sessions::hex;
use datapipe_examples::summary::{CopyEntry, Summary};

/// Copy an archive to another medium, without its key.
///
/// The blocks, their numbers, and the header of the archive with its key slots are copied as they
/// are; they are neither decrypted nor decompressed. So the copy opens with the keys that open its
/// source, and verifies and restores as the source does. Sessions, checkpoints and records are new.
/// The copy records the session from which it was made, and tape_to_disk --sessions shows it.
///
/// Checksums and numbers are checked. What the source has lost is lost in the copy, too, which is
/// then incomplete, and is reported. Of several archives the last whole one is copied, unless
/// --session, --archive or --all selects others.
#[derive(Debug, Parser)]
#[command(name = "archive_copy", version, after_help = EXIT_CODES)]
struct Args {
    #[command(flatten)]
    select: SelectArgs,
    /// Copy all archives of SOURCE, or of the session of --session, into one session, in their
    /// order
    #[arg(long, conflicts_with_all = ["archive", "expect"])]
    all: bool,
    #[command(flatten)]
    placement: PlacementArgs,
    /// Headers and footers of the chunks: header (a header before every chunk), once (one header
    /// before all chunks, one footer after them) or header-footer (both for every chunk) [default:
    /// as in SOURCE; header-footer with --all]
    #[arg(long, value_name = "FRAMING")]
    framing: Option<Framing>,
    /// Size of records [default: as in SOURCE; 1MiB with --all; less on small volumes]
    #[arg(long, value_name = "SIZE", value_parser = parse_record_size)]
    record_size: Option<usize>,
    /// Largest size of a volume; in a directory, more volumes follow [default: the free space of
    /// the file system]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    volume_size: Option<u64>,
    /// Replace the content of DEST. It stays until the copy is complete, which is written beside it
    #[arg(long)]
    overwrite: bool,
    /// Add a session after everything that DEST has, none of which is changed. A medium that does
    /// not exist is created
    #[arg(long, conflicts_with = "overwrite")]
    append: bool,
    #[command(flatten)]
    errors: ErrorsArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The medium with the archive: a directory of volumes, or a file that is a virtual tape
    source: PathBuf,
    /// The medium of the copy: a directory of volumes if it is a directory or ends with a slash;
    /// otherwise a file, a virtual tape
    dest: PathBuf,
}

fn parse_record_size(text: &str) -> Result<usize, String> {
    let size = usize::try_from(parse_size(text)?).unwrap_or(usize::MAX);
    match (MIN_RECORD..=MAX_RECORD).contains(&size) {
        true => Ok(size),
        false => Err(format!(
            "a record has {MIN_RECORD} to {MAX_RECORD} bytes, and not {size}"
        )),
    }
}

fn main() -> ExitCode {
    host::serve(datapipe::modules());
    descriptors::raise_limit();
    let args = Args::parse();
    let console = Console::new("archive_copy", args.output);
    let mut summary = Summary::new("copy");
    let dest = Location::new(args.dest.clone());
    let before = args.overwrite.then(|| dest.content());
    let mut outcome = run(&args, &dest, console, &mut summary);
    if let Some(detail) = before.and_then(|before| dest.describe_kept(&before)) {
        outcome = outcome.map_err(|failure| failure.with_detail(&detail));
    }
    console.finish(summary, outcome, None)
}

fn run(
    args: &Args,
    dest: &Location,
    console: Console,
    summary: &mut Summary,
) -> Result<(), Failure> {
    console.handle_signals(summary.job)?;
    if args.output.json {
        console.check_output("the JSON object")?;
    }
    let source = Location::new(args.source.clone());
    source.check_is_path()?;
    dest.check_is_not_a_stream()?;
    if source.overlaps(dest) {
        return Err(Failure::usage(format!(
            "{dest} is the source of the copy, or a part of it: name another medium"
        )));
    }
    let sources = [args.source.clone()];
    summary.errors_to = args.errors.create(dest, &sources)?;
    match (args.append, args.overwrite) {
        (true, _) => drop(dest.check_append(None, KeyRule::Any, summary)?),
        (_, false) => dest.check_empty(None)?,
        _ => {}
    }
    summary.notes.extend(source.writer_note());
    source.note_volumes(&source.volumes(), summary);
    let job = Job {
        args,
        console,
        source,
        dest,
        log: DamageLog::new(),
    };
    summary.errors_to.watch_damage(&job.log);
    let result = match args.all {
        true => job.copy_all(summary),
        false => job.copy_one(summary),
    };
    summary.add_damage(&job.log);
    result
}

/// A job that copies archives.
struct Job<'a> {
    args: &'a Args,
    console: Console,
    source: Location,
    dest: &'a Location,
    log: DamageLog,
}

impl Job<'_> {
    /// Copies one archive, in a session of its own.
    fn copy_one(&self, summary: &mut Summary) -> Result<(), Failure> {
        let stored = self.args.select.open_stored(&self.source, summary)?;
        self.show(&stored);
        summary.archive = stored.origin().map(|origin| origin.name.clone());
        let stored = stored.salvage(&self.log);
        let copy = self.plan(&stored)?;
        // A pipe that cannot run is refused before the medium is created.
        stored
            .read()
            .pipe
            .tail(StreamTail::new(io::sink()))
            .plan()?;
        let (medium, _) = self.dest.open_to_write(&self.settings())?;
        let copy = match self.args.append {
            true => copy.after(self.dest.sessions_before()?),
            false => copy,
        };
        let placement = self.args.placement;
        let copy = copy.map_tail(move |tail| placement.stage(tail));
        let (written, reading) = (copy.report(), stored.read());
        let pipe = placement.pipe(reading.pipe).archive(copy, medium);
        let result = self.run(pipe, &reading.report, 0, summary);
        let report = result.map_err(|error| self.failure(error, &written, false))?;
        self.console.info(&report.to_string());
        self.add_copy(&stored, &written, summary);
        Ok(())
    }

    /// Copies several archives into one session.
    fn copy_all(&self, summary: &mut Summary) -> Result<(), Failure> {
        let archives = self.args.select.all(&self.source, summary)?;
        if archives.len() > MAX_ARCHIVES {
            return Err(self.source.failure(format_args!(
                "has {} archives, but a session has at most {MAX_ARCHIVES}: copy one session after \
                 the other, with --session and --append",
                archives.len()
            )));
        }
        let (medium, _) = self.dest.open_to_write(&self.settings())?;
        let mut options = SessionOptions::new("");
        options = options.framing(self.args.framing.unwrap_or_default());
        if let Some(size) = self.record_size(DEFAULT_RECORD) {
            options = options.record_len(size);
        }
        if self.args.append {
            options = options.after(self.dest.sessions_before()?);
        }
        let session = Session::new(medium, options)?;
        let (mut bytes, mut copied) = ((0, 0), 0);
        for archive in &archives {
            match self.copy_listed(archive, &session, copied, summary)? {
                Some(read) => copied += read,
                None => continue,
            }
            bytes = (bytes.0 + summary.bytes_in, bytes.1 + summary.bytes_out);
        }
        (summary.bytes_in, summary.bytes_out) = bytes;
        session.finish().map_err(|error| {
            self.dest
                .failure(format_args!("cannot end the session: {error}"))
        })?;
        match &summary.copies {
            None => Err(self.source.failure("no archive of it could be read")),
            Some(copies) => {
                let count = count_of(copies.len() as u64, "archive", "archives");
                self.console.info(&format!("copied {count}"));
                Ok(())
            }
        }
    }

    /// Copies an archive of the list. Returns the bytes that were read, or nothing if it cannot be
    /// opened, which is an error of the archive and not of the job.
    fn copy_listed(
        &self,
        archive: &ListedArchive,
        session: &Session<Box<dyn MediumWriter>>,
        read_before: u64,
        summary: &mut Summary,
    ) -> Result<Option<u64>, Failure> {
        let stored = match StoredArchive::open_listed(self.source.open()?, archive) {
            Ok(stored) => stored,
            Err(error) => {
                let (session, number) = (archive.session_number(), archive.number());
                let what = format!("archive {number} of session {session} is not copied: {error}");
                summary.add_error("", "archive", what);
                return Ok(None);
            }
        };
        self.show(&stored);
        let stored = stored.salvage(&self.log);
        let copy = self.plan(&stored)?;
        let written = copy.report();
        let Reading { pipe, report } = stored.read();
        let pipe = self.args.placement.pipe(pipe).archive_in(copy, session);
        let result = self.run(pipe, &report, read_before, summary);
        let ended = result.map_err(|error| self.failure(error, &written, true))?;
        self.console.info(&ended.to_string());
        self.add_copy(&stored, &written, summary);
        Ok(Some(report.snapshot().read))
    }

    fn run(
        &self,
        pipe: PipeBuilder<'static>,
        report: &ReadReport,
        read_before: u64,
        summary: &mut Summary,
    ) -> Result<Report, Error> {
        let all = self.source.bytes();
        let done = || JobProgress {
            files: None,
            done_of_total: Some((read_before + report.snapshot().read, all)),
        };
        self.console.run(pipe.label(summary.job), &done, summary)
    }

    fn settings(&self) -> WriteSettings {
        let options = VolumeOptions::default()
            .volume_size(self.args.volume_size)
            .overwrite(self.args.overwrite);
        WriteSettings {
            options,
            append: self.args.append,
            in_processes: self.args.placement.is_in_processes(),
        }
    }

    fn plan(&self, stored: &Stored) -> Result<Archive, Failure> {
        let copy = stored.copy();
        let copy = match self.args.framing {
            Some(framing) => copy.framing(framing),
            None => copy,
        };
        let planned = stored.session().record_len as usize;
        let copy = match self.record_size(planned) {
            Some(size) => copy.record_len(size),
            None => copy,
        };
        Ok(copy.plan()?)
    }

    /// The size of records, if it is not to be `planned`: a small volume needs small ones;
    /// otherwise most of it would stay empty.
    fn record_size(&self, planned: usize) -> Option<usize> {
        let of_volume = self.args.volume_size.map(|size| size / 8);
        let most = of_volume.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        self.args
            .record_size
            .or_else(|| most.filter(|most| *most < planned))
    }

    /// Shows the archive that is copied now.
    fn show(&self, stored: &Stored) {
        let origin = stored.origin();
        let written = describe_origin(stored.header().created, origin);
        let name = describe_name(origin, stored.is_encrypted());
        self.console.info(&format!("{name}, {written}"));
    }

    fn add_copy(&self, stored: &Stored, written: &WriteReport, summary: &mut Summary) {
        let written = written.snapshot();
        let entry = CopyEntry {
            name: stored.origin().map(|origin| origin.name.clone()),
            header_hash: hex(&stored.header_hash()),
            created: stored.header().created.seconds,
            blocks: written.blocks,
            state: match written.complete {
                true => "complete",
                false => "incomplete",
            },
        };
        let (state, volumes) = (entry.state, written.volumes);
        self.console.info(&format!(
            "copied {}; the copy is {state}, on {}",
            count_of(written.blocks, "block", "blocks"),
            count_of(volumes.into(), "volume", "volumes")
        ));
        summary.copies.get_or_insert_default().push(entry);
    }

    /// Describes the failure of a pipe, and what it leaves.
    fn failure(&self, error: Error, written: &WriteReport, is_shared: bool) -> Failure {
        let (failure, written) = (Failure::from(error), written.snapshot());
        self.dest
            .explain_failure(failure, &self.settings(), &written, is_shared)
    }
}
