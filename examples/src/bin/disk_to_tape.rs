//! Backs up file trees or a stream to an archive, compressed and encrypted in parallel.

use std::ffi::OsString;
use std::fs;
use std::io::{self, stdin};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use datapipe::archive::SharedKey;
use datapipe::crypto::Recipient;
use datapipe::host;
use datapipe::interrupt::retry;
use datapipe::limits::{DEFAULT_RECORD, MAX_INSTANCES, MAX_TEXT, MAX_VOLUME_TEXT};
use datapipe::prelude::*;
use datapipe::standard_streams::StandardStream;
use datapipe::tree::{Excluded, ProblemKind, TreeError, TreeReport};
use datapipe::wire::Framing;
use datapipe_examples::arguments::{
    InstancesArgs, OutputArgs, PlacementArgs, instances_parser, parse_buffer_size, parse_size,
};
use datapipe_examples::console::{Console, EXIT_CODES, Failure};
use datapipe_examples::descriptors;
use datapipe_examples::errors_file::ErrorsArgs;
use datapipe_examples::estimate::{Estimate, Exclusions};
use datapipe_examples::format::count_of;
use datapipe_examples::medium::{KeyRule, Location, WriteSettings};
use datapipe_examples::new_file::validate_file_name;
use datapipe_examples::progress::JobProgress;
use datapipe_examples::secret::EncryptArgs;
use datapipe_examples::sessions::hex;
use datapipe_examples::summary::Summary;

/// Back up file trees or a stream to an archive.
///
/// The last name of a source is its name in the archive: /srv/data becomes data, . and .. get the
/// name of their directory, and / becomes root. Files that change, vanish or cannot be read are
/// reported, and the rest is backed up. An archive is on one virtual tape or in one directory of
/// volumes, which may have others: see --append. If the medium is inside a source, it is left out,
/// and so is all else that a directory of volumes has, which is reported.
#[derive(Debug, Parser)]
#[command(name = "disk_to_tape", version, after_help = EXIT_CODES)]
struct Args {
    #[command(flatten)]
    secret: EncryptArgs,
    /// Compression method: zstd or zstd:LEVEL with a level of 1 to 22, deflate or deflate:LEVEL
    /// with a level of 1 to 9, or none
    #[arg(long, value_name = "METHOD", default_value = "zstd:3")]
    compress: Compression,
    #[command(flatten)]
    instances: InstancesArgs,
    #[command(flatten)]
    placement: PlacementArgs,
    /// Most threads that read files at once: one per processor reads, and more while reads wait for
    /// the disk. Few are better for a hard disk, which has to move its heads [default: one per
    /// processor, from 8 to 16, but at most one per 4 buffers]
    #[arg(long, value_name = "N", value_parser = instances_parser())]
    readers: Option<u32>,
    /// Buffers in the pool [default: enough to keep every thread busy]
    #[arg(long, value_name = "N")]
    buffers: Option<u32>,
    /// Size of a buffer, and so of a block before compression: 64KiB, 4MiB
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_buffer_size)]
    buffer_size: u32,
    /// Headers and footers of the chunks: header (a header before every chunk), once (one header
    /// before all chunks, one footer after them) or header-footer (both for every chunk)
    #[arg(long, value_name = "FRAMING", default_value_t)]
    framing: Framing,
    /// Largest size of a volume; in a directory, more volumes follow [default: the free space of
    /// the file system]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    volume_size: Option<u64>,
    /// Label in the record at the start of each volume, for people: at most 64 bytes. tape_to_disk
    /// shows it
    #[arg(long, value_name = "LABEL", value_parser = parse_label, default_value = "")]
    label: String,
    /// Leave out objects that match GLOB, and everything below them. GLOB matches a name, a path in
    /// the archive, or, if it begins with a slash, an absolute path; ** matches any number of
    /// directories. With a slash at its end it matches directories only. A GLOB that leaves nothing
    /// out is reported
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Leave out other file systems that are mounted inside a source: other mounts, so that the
    /// layers of overlayfs and the subvolumes of btrfs stay
    #[arg(long)]
    one_file_system: bool,
    /// Look up no names of users and groups: the archive has their numbers only
    #[arg(long)]
    numeric_owner: bool,
    /// Store the time at which each object was made, where the file system has it. No list shows
    /// it, and no system can restore it
    #[arg(long)]
    birth_time: bool,
    /// Name of standard input in the archive [default: stdin]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    stdin_name: Option<String>,
    /// Replace the content of MEDIUM. It stays until the new archive is complete, which is written
    /// beside it: a file needs room for both, named .MEDIUM.datapipe-new, and a directory for both
    /// sets of volumes
    #[arg(long)]
    overwrite: bool,
    /// Add a session with the archive after everything that MEDIUM has, none of which is changed. A
    /// medium that does not exist is created. The last archive must open with the same key or
    /// passphrase, whose data key the new one then has, too; and only an archive without a key
    /// follows one without a key
    #[arg(long, conflicts_with = "overwrite")]
    append: bool,
    /// With --append: the key or passphrase need not open the last archive on MEDIUM
    #[arg(long, requires = "append")]
    other_key: bool,
    /// With --overwrite: remove the old content as soon as the first block of the new archive has
    /// arrived, if there is no room for both
    #[arg(long, requires = "overwrite")]
    in_place: bool,
    /// With --overwrite: replace the old content even if there is nothing to back up. Otherwise an
    /// empty stream, or sources without any file, are an error, and the old content stays
    #[arg(long, requires = "overwrite")]
    allow_empty: bool,
    #[command(flatten)]
    errors: ErrorsArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Files and directories, or - for standard input. Of a symbolic link the archive has the link;
    /// with a slash at its end, the directory that it refers to
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// A directory of volumes if it is a directory or ends with a slash; otherwise a file, a
    /// virtual tape. One job at a time can write it. Standard output cannot be a medium
    #[arg(required = true)]
    medium: PathBuf,
}

/// Compression method with its level.
#[derive(Clone, Copy, Debug)]
enum Compression {
    None,
    Zstd(i32),
    Deflate(u32),
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (method, level) = match text.split_once(':') {
            None => (text, None),
            Some((method, level)) => (method, Some(level)),
        };
        let level = |most, default| match level.map(str::parse::<u32>) {
            None => Ok(default),
            Some(Ok(level)) if (1..=most).contains(&level) => Ok(level),
            Some(_) => Err(format!("{method} has levels from 1 to {most}")),
        };
        match (method.parse(), text.contains(':')) {
            (Ok(Codec::NONE), false) => Ok(Self::None),
            (Ok(Codec::ZSTD), _) => Ok(Self::Zstd(level(22, 3)? as i32)),
            (Ok(Codec::DEFLATE), _) => Ok(Self::Deflate(level(9, 6)?)),
            _ => Err(
                "unknown method; use zstd, zstd:LEVEL, deflate, deflate:LEVEL or none".to_owned(),
            ),
        }
    }
}

fn parse_name(name: &str) -> Result<String, String> {
    validate_file_name(name).map(|()| name.to_owned())
}

fn parse_label(label: &str) -> Result<String, String> {
    if label.len() > MAX_VOLUME_TEXT {
        let len = label.len();
        return Err(format!(
            "a label has at most {MAX_VOLUME_TEXT} bytes, and not {len}"
        ));
    }
    Ok(label.to_owned())
}

fn main() -> ExitCode {
    host::serve(datapipe::modules());
    descriptors::raise_limit();
    let args = Args::parse();
    if let Some(message) = args.find_conflict() {
        Args::command()
            .error(ErrorKind::ArgumentConflict, message)
            .exit();
    }
    let console = Console::new("disk_to_tape", args.output);
    let mut summary = Summary::new("backup");
    summary.notes.extend(args.instances.note());
    let location = Location::new(args.medium.clone());
    let before = args.overwrite.then(|| location.content());
    let mut outcome = back_up(&args, &location, console, &mut summary);
    if let Some(detail) = before.and_then(|before| location.describe_kept(&before)) {
        outcome = outcome.map_err(|failure| failure.with_detail(&detail));
    }
    console.finish(summary, outcome, None)
}

fn back_up(
    args: &Args,
    location: &Location,
    console: Console,
    summary: &mut Summary,
) -> Result<(), Failure> {
    console.handle_signals(summary.job)?;
    args.check_streams(console)?;
    location.check_is_not_a_stream()?;
    let secret = args.secret.read(console)?;
    let recipients = args.secret.read_recipients(console)?;
    args.check_medium_is_not_a_source(location)?;
    summary.errors_to = args.errors.create(location, &args.sources)?;
    let shared_key = args.check_medium(location, secret.as_ref(), &recipients, summary)?;
    // Invalid sources and options are refused before the medium is created.
    let (head, _) = args.head(Vec::new(), false)?;
    let archive = args.plan(secret, recipients, shared_key)?;
    summary.archive = archive.origin().map(|origin| origin.name.clone());
    summary.header_hash = Some(hex(&archive.header_hash()));
    // The medium does not exist yet.
    let instances = args.instances.count();
    args.pipe(head)
        .stages(archive.planned_stages(instances))
        .tail(StreamTail::new(io::sink()))
        .plan()?;

    let settings = args.write_settings();
    let (medium, files) = location.open_to_write(&settings)?;
    let archive = match args.append {
        true => archive.after(location.sessions_before()?),
        false => archive,
    };
    let (head, tree) = args.head(files, !medium.accepts_empty())?;
    let found = MediumPaths::watch(tree.as_ref(), summary);
    let (written, placement) = (archive.report(), args.placement);
    let archive = archive
        .map_seal(move |seal| placement.stage(seal.instances(instances)))
        .map_tail(move |tail| placement.stage(tail));
    let estimate = console.is_live().then(|| args.estimate()).flatten();
    let done = || {
        let read = tree.as_ref().map(TreeReport::counts);
        let all = estimate.as_ref().and_then(Estimate::total);
        JobProgress {
            files: read.as_ref().map(|read| read.files),
            done_of_total: read.map(|read| read.bytes).zip(all),
        }
    };
    let pipe = args.pipe(head).archive(archive, medium);
    let result = console.run(pipe, &done, summary);
    if let Some(tree) = &tree {
        summary.add_tree(tree);
        found.add_left_out(location, summary);
    }
    let report = result.map_err(|error| {
        location.explain_failure(error.into(), &settings, &written.snapshot(), false)
    })?;
    console.info(&report.to_string());
    if let Some(hash) = &summary.header_hash {
        console.info(&format!("hash of the archive's header: {hash}"));
    }
    match &tree {
        Some(tree) => console.info(&describe_counts(tree)),
        None => summary.add_stream(),
    }
    Ok(())
}

/// Paths in the archive at which the medium is, and was left out. The list of problems in a report
/// is bounded, and may not have them.
#[derive(Clone, Default)]
struct MediumPaths(Arc<Mutex<Vec<Vec<u8>>>>);

impl MediumPaths {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the problems of a tree, from now on, and writes them to the list of errors.
    fn watch(tree: Option<&TreeReport>, summary: &Summary) -> Self {
        let found = Self::default();
        if let Some(tree) = tree {
            let paths = found.clone();
            summary.errors_to.watch_tree(tree, move |problem| {
                if problem.kind == ProblemKind::Medium {
                    paths.lock().push(problem.path.clone());
                }
            });
        }
        found
    }

    /// Adds what the directory of volumes has besides, if it is in a source: it is left out with
    /// it.
    fn add_left_out(&self, location: &Location, summary: &mut Summary) {
        for medium in self.lock().iter() {
            let names = match location.other_names() {
                Ok(names) => names,
                Err(error) => {
                    let what = format!(
                        "is the archive's own medium, and what else it has is left out with it, \
                         but cannot be listed: {error}"
                    );
                    summary.add_error(medium.clone(), "medium", what);
                    continue;
                }
            };
            for name in names {
                let path = [&medium[..], b"/", name.as_bytes()].concat();
                let what = "is in the directory of the archive's own medium, and left out with \
                            it: use a directory for the medium alone";
                summary.add_error(path, "medium", what);
            }
        }
    }
}

/// Describes the number of objects that were read of a tree.
fn describe_counts(tree: &TreeReport) -> String {
    let read = tree.counts();
    let mut text = format!(
        "{}, {}, {}",
        count_of(read.files, "file", "files"),
        count_of(read.directories, "directory", "directories"),
        count_of(read.others, "other", "others")
    );
    if read.excluded > 0 {
        text += &format!(
            "; {} left out by --exclude",
            count_of(read.excluded, "name", "names")
        );
    }
    text
}

impl Args {
    fn write_settings(&self) -> WriteSettings {
        let options = VolumeOptions::default()
            .volume_size(self.volume_size)
            .label(&*self.label)
            .overwrite(self.overwrite)
            .in_place(self.in_place)
            .allow_empty(self.allow_empty);
        WriteSettings {
            options,
            append: self.append,
            in_processes: self.placement.is_in_processes(),
        }
    }

    /// Checks that the medium can take the archive. Returns the data key of the archive after which
    /// it is appended, if `secret` opens that.
    fn check_medium(
        &self,
        location: &Location,
        secret: Option<&Secret>,
        recipients: &[Recipient],
        summary: &mut Summary,
    ) -> Result<Option<SharedKey>, Failure> {
        match (self.append, self.overwrite) {
            (true, _) => location.check_append(secret, self.key_rule(recipients), summary),
            (false, false) => location.check_empty(secret).map(|()| None),
            (false, true) => Ok(None),
        }
    }

    /// Returns a message if some arguments exclude each other.
    fn find_conflict(&self) -> Option<&'static str> {
        let names_stdin = self.sources.iter().any(|source| source.as_os_str() == "-");
        let leaves_out = self.one_file_system || !self.exclude.is_empty();
        match (self.is_stream(), names_stdin) {
            (true, _) if leaves_out => Some("nothing can be left out of standard input"),
            (false, true) => {
                Some("standard input (-) must be the only source; use ./- for a file of that name")
            }
            (false, false) if self.stdin_name.is_some() => {
                Some("--stdin-name needs standard input (-) as the source")
            }
            _ => None,
        }
    }

    /// Checks that the standard streams that the job needs are open.
    fn check_streams(&self, console: Console) -> Result<(), Failure> {
        if self.is_stream() {
            StandardStream::Input.check_open()?;
        }
        match self.output.json {
            true => console.check_output("the JSON object"),
            false => Ok(()),
        }
    }

    fn is_stream(&self) -> bool {
        matches!(&self.sources[..], [source] if source.as_os_str() == "-")
    }

    /// Checks that the archive does not overwrite one of its sources, or its key.
    fn check_medium_is_not_a_source(&self, location: &Location) -> Result<(), Failure> {
        self.secret.check_is_not_on(location)?;
        let Ok(medium) = location.identity() else {
            return Ok(());
        };
        let is_medium = |path: &&PathBuf| {
            retry(|| fs::symlink_metadata(path))
                .is_ok_and(|found| (found.dev(), found.ino()) == medium)
        };
        match self.sources.iter().find(is_medium) {
            None if self.overwrite && !self.is_stream() => {
                location.check_is_no_data_of(&self.sources)
            }
            None => Ok(()),
            Some(_) => Err(Failure::usage(format!(
                "{location} is one of the sources; the archive must be elsewhere"
            ))),
        }
    }

    /// Returns the stage that reads the sources, and the report of a tree. Objects with one of the
    /// devices and inodes in `skip` are left out. A tree without content is an error if
    /// `refuse_empty`; the tail refuses an empty stream.
    fn head(
        &self,
        skip: Vec<(u64, u64)>,
        refuse_empty: bool,
    ) -> Result<(HeadStage<'static>, Option<TreeReport>), Failure> {
        if self.is_stream() {
            // The buffer of the standard library would only add a copy.
            return Ok((
                StreamHead::file(stdin().as_fd().try_clone_to_owned()?).into(),
                None,
            ));
        }
        let options = TreeOptions::default()
            .numeric_owner(self.numeric_owner)
            .birth_time(self.birth_time)
            .one_file_system(self.one_file_system)
            .exclude(&self.exclude)
            .skip(skip)
            .refuse_empty(refuse_empty);
        let head = TreeHead::new(&self.sources, options).map_err(|error| match error {
            // The library can give a source another name, this program cannot.
            TreeError::SameName {
                first,
                second,
                name,
            } => Failure::usage(format!(
                "{} and {} would both be named \"{}\" in the archive: name a directory that \
                 contains both, or back them up to two media",
                first.display(),
                second.display(),
                name.display()
            )),
            error => error.into(),
        })?;
        let report = head.report();
        Ok((head.instances(self.readers()), Some(report)))
    }

    /// Returns the given limit of readers, or a number for which the buffers suffice.
    fn readers(&self) -> u32 {
        let most = self
            .buffers
            .map_or(MAX_INSTANCES, |buffers| (buffers / 4).max(1));
        self.readers
            .unwrap_or_else(|| TreeHead::default_instances().min(most))
    }

    /// Starts to estimate the number of bytes to read; `None` for a stream, or without a valid
    /// source.
    fn estimate(&self) -> Option<Estimate> {
        let named = self
            .sources
            .iter()
            .map(|source| Some((source_name(source).ok()?, source.clone())));
        let sources: Option<Vec<_>> = named.collect();
        let sources = sources.filter(|_| !self.is_stream())?;
        let exclusions = Exclusions {
            other_file_systems: self.one_file_system,
            patterns: Excluded::new(&self.exclude, sources.clone()).ok()?,
        };
        Some(Estimate::start(sources, exclusions))
    }

    /// The rule for the key of an archive that is appended.
    fn key_rule(&self, recipients: &[Recipient]) -> KeyRule {
        match (self.other_key, recipients.is_empty()) {
            (true, _) => KeyRule::Any,
            (false, true) => KeyRule::Same,
            (false, false) => KeyRule::SameOrRecipients,
        }
    }

    /// Plans the archive: everything that does not depend on its data.
    fn plan(
        &self,
        secret: Option<Secret>,
        recipients: Vec<Recipient>,
        shared_key: Option<SharedKey>,
    ) -> Result<Archive, Failure> {
        let is_stream = self.is_stream();
        let options_of = if is_stream {
            ArchiveOptions::stream
        } else {
            ArchiveOptions::tree
        };
        let name = match is_stream {
            true => self
                .stdin_name
                .clone()
                .unwrap_or_else(|| "stdin".to_owned()),
            false => source_name(&self.sources[0])?
                .to_string_lossy()
                .into_owned(),
        };
        let mut options = options_of(&name[..name.floor_char_boundary(MAX_TEXT)])
            .program(concat!("disk_to_tape ", env!("CARGO_PKG_VERSION")))
            .framing(self.framing)
            .block_len(self.buffer_size);
        if let Some(size) = self.volume_size {
            // A small volume needs small records; otherwise most of it would stay empty.
            let record = usize::try_from(size / 8).unwrap_or(usize::MAX);
            options = options.record_len(record.min(DEFAULT_RECORD));
        }
        match (shared_key, secret) {
            (Some(key), _) => options = options.share_key(key),
            (None, Some(secret)) => options = options.encrypt(secret),
            (None, None) => {}
        }
        for recipient in recipients {
            options = options.recipient(recipient);
        }
        Ok(options.plan()?)
    }

    /// Returns the pipe without its tail.
    fn pipe(&self, head: HeadStage<'static>) -> PipeBuilder<'static> {
        let instances = self.instances.count();
        let mut pipe = Pipe::builder()
            .label("backup")
            .buffer_size(self.buffer_size);
        if let Some(buffers) = self.buffers {
            pipe = pipe.buffers(buffers);
        }
        pipe = pipe.head(head).stage(analyze());
        pipe = match self.compress {
            Compression::None => pipe,
            Compression::Zstd(level) => pipe.stage(zstd(level).instances(instances)),
            Compression::Deflate(level) => pipe.stage(deflate(level).instances(instances)),
        };
        self.placement.pipe(pipe)
    }
}

/// Returns the name of a source in the archive. The archive has the name of its first source.
fn source_name(source: &Path) -> Result<OsString, Failure> {
    Ok(match source.file_name() {
        Some(name) => name.to_owned(),
        None => retry(|| fs::canonicalize(source))?
            .file_name()
            .map_or_else(|| "root".into(), ToOwned::to_owned),
    })
}
