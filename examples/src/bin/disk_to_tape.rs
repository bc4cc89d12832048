//! Backs file trees, or a stream, up into an archive: compressed and encrypted in parallel.

use std::ffi::OsString;
use std::fs;
use std::io::{self, stdin};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use datapipe::controller::ByteCount;
use datapipe::host;
use datapipe::limits::{DEFAULT_RECORD, MAX_INSTANCES, MAX_TEXT};
use datapipe::prelude::*;
use datapipe::tree::{Excluded, TreeReport};
use datapipe::wire::Framing;
use datapipe_examples::arguments::{
    InstancesArgs, OutputArgs, PlacementArgs, parse_buffer_size, parse_size,
};
use datapipe_examples::console::{Console, EXIT_CODES, Failure};
use datapipe_examples::estimate::{Estimate, LeftOut};
use datapipe_examples::medium::Location;
use datapipe_examples::names::counted;
use datapipe_examples::newfile::check_name;
use datapipe_examples::progress::Done;
use datapipe_examples::secret::SecretArgs;
use datapipe_examples::summary::Summary;

/// Back file trees up into an archive, or a stream.
///
/// /srv/data is called data in the archive; . and .. go by the name of the directory that they
/// mean, and / by root. What changes, vanishes or cannot be read is named, and the rest is backed
/// up. An archive lies on one tape, or in one directory of volumes. If that lies in what is backed
/// up, it is left out.
#[derive(Debug, Parser)]
#[command(name = "disk_to_tape", version, after_help = EXIT_CODES)]
struct Args {
    #[command(flatten)]
    secret: SecretArgs,
    /// How to compress: zstd:LEVEL with a level of 1 to 22, deflate:LEVEL with one of 1 to 9, or
    /// none
    #[arg(long, value_name = "HOW", default_value = "zstd:3")]
    compress: Compress,
    #[command(flatten)]
    instances: InstancesArgs,
    #[command(flatten)]
    placement: PlacementArgs,
    /// Threads that read files: several wait for the disk at once, which one that has to move its
    /// heads does not like [default: one per processor, 8 to 16, and one for 4 buffers at most]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_INSTANCES.into()))]
    readers: Option<u32>,
    /// Buffers in the pool [default: as many as keep every thread busy]
    #[arg(long, value_name = "N")]
    buffers: Option<u32>,
    /// Bytes in a buffer, and so in a block before compression: 64KiB, 4MiB
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_buffer_size)]
    buffer_size: u32,
    /// Which chunks have headers and footers: header (a header before every chunk), once (one
    /// header before all chunks, one footer after them) or header-footer (both for every chunk)
    #[arg(long, value_name = "WHICH", default_value_t)]
    framing: Framing,
    /// Bytes of a volume at most; in a directory the next one follows [default: what the file
    /// system has]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    volume_size: Option<u64>,
    /// Leave out what GLOB matches, and what is below it: a name, or a path in the archive; ** is
    /// any number of directories
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Leave out other file systems that are mounted in a source
    #[arg(long)]
    one_file_system: bool,
    /// What standard input is called in the archive [default: stdin]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    stdin_name: Option<String>,
    /// Replace what MEDIUM holds
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    output: OutputArgs,
    /// Files and directories, or - for standard input
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// A directory of volumes, if it is one or ends with a slash; otherwise a file, a virtual tape
    #[arg(required = true)]
    medium: PathBuf,
}

#[derive(Clone, Copy, Debug)]
enum Compress {
    None,
    Zstd(i32),
    Deflate(u32),
}

impl FromStr for Compress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (method, level) = match text.split_once(':') {
            None => (text, None),
            Some((method, level)) => (method, Some(level)),
        };
        let level = |most, default| match level.map(str::parse::<u32>) {
            None => Ok(default),
            Some(Ok(level)) if (1..=most).contains(&level) => Ok(level),
            Some(_) => Err(format!("{method} has levels 1 to {most}")),
        };
        match (method.parse(), text.contains(':')) {
            (Ok(Codec::NONE), false) => Ok(Self::None),
            (Ok(Codec::ZSTD), _) => Ok(Self::Zstd(level(22, 3)? as i32)),
            (Ok(Codec::DEFLATE), _) => Ok(Self::Deflate(level(9, 6)?)),
            _ => Err("give zstd, zstd:LEVEL, deflate, deflate:LEVEL or none".to_owned()),
        }
    }
}

fn parse_name(name: &str) -> Result<String, String> {
    check_name(name).map(|()| name.to_owned())
}

fn main() -> ExitCode {
    host::serve(datapipe::modules());
    let args = Args::parse();
    if let Some(what) = args.contradiction() {
        Args::command()
            .error(ErrorKind::ArgumentConflict, what)
            .exit();
    }
    let console = Console::new("disk_to_tape", args.output);
    let mut summary = Summary::new("backup");
    let outcome = back_up(&args, console, &mut summary);
    console.end(summary, outcome, None)
}

fn back_up(args: &Args, console: Console, summary: &mut Summary) -> Result<(), Failure> {
    console.listen_to_signals()?;
    let secret = args.secret.read(console)?;
    let location = Location::new(args.medium.clone());
    args.check_apart(&location)?;
    if !args.overwrite {
        location.check_free()?;
    }
    // What cannot work is refused before anything is replaced.
    let (head, _) = args.head(Vec::new())?;
    let archive = args.plan(secret)?;
    summary.archive = Some(archive.header().name.clone());
    // What opens a block needs what sealing it does.
    args.pipe(archive.open_blocks(), head)
        .tail(StreamTail::new(io::sink()))
        .plan()?;

    let options = VolumeOptions::default()
        .volume_size(args.volume_size)
        .overwrite(args.overwrite);
    let medium = location.create(options)?;
    let (head, tree) = args.head(vec![location.identity()?])?;
    let (seal, tail) = archive.stages(medium);
    let written = tail.report();
    let estimate = console.is_live().then(|| args.estimate()).flatten();
    let done = || {
        let read = tree.as_ref().map(TreeReport::counts);
        let all = estimate.as_ref().and_then(Estimate::total);
        Done {
            files: read.as_ref().map(|read| read.files),
            part: read.map(|read| read.bytes).zip(all),
        }
    };
    let tail = args.placement.stage(tail.into());
    let ran = console.run(args.pipe(seal, head).tail(tail), &done, summary);
    if let Some(tree) = &tree {
        summary.add_tree(tree);
    }
    let report = ran.map_err(|error| {
        let written = written.snapshot();
        let valid = match written.safe_blocks {
            0 => "it has no checkpoint yet".to_owned(),
            _ => format!(
                "it is valid up to the last checkpoint, at {}",
                ByteCount(written.safe_plain)
            ),
        };
        Failure::from(error).and(&format!("{location} is incomplete: {valid}"))
    })?;
    console.say(&report.to_string());
    match &tree {
        Some(tree) => console.say(&counts(tree)),
        None => summary.files = 1,
    }
    Ok(())
}

/// What was read of a tree, in words.
fn counts(tree: &TreeReport) -> String {
    let read = tree.counts();
    let mut text = format!(
        "{}, {}, {}",
        counted(read.files, "file", "files"),
        counted(read.directories, "directory", "directories"),
        counted(read.others, "other", "others")
    );
    if read.excluded > 0 {
        text += &format!(
            "; {} left out by --exclude",
            counted(read.excluded, "name", "names")
        );
    }
    text
}

impl Args {
    /// What of the arguments does not go together.
    fn contradiction(&self) -> Option<&'static str> {
        let named = self.sources.iter().any(|source| source.as_os_str() == "-");
        let leaves_out = self.one_file_system || !self.exclude.is_empty();
        match (self.is_stream(), named) {
            (true, _) if leaves_out => Some("nothing can be left out of standard input"),
            (false, true) => {
                Some("standard input (-) is a source by itself; give ./- for a file of that name")
            }
            (false, false) if self.stdin_name.is_some() => Some("standard input (-) is no source"),
            _ => None,
        }
    }

    fn is_stream(&self) -> bool {
        matches!(&self.sources[..], [source] if source.as_os_str() == "-")
    }

    /// Refuses to write the archive over what it is made of.
    fn check_apart(&self, location: &Location) -> Result<(), Failure> {
        let Ok(medium) = location.identity() else {
            return Ok(());
        };
        let is_medium = |path: &&PathBuf| {
            fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == medium)
        };
        match self.sources.iter().find(is_medium) {
            None => Ok(()),
            Some(_) => Err(Failure::usage(format!(
                "{location} is what is to be backed up: the archive must go elsewhere"
            ))),
        }
    }

    /// What reads the sources, but for what has one of these devices and inodes, and what becomes
    /// of a tree.
    fn head(
        &self,
        skip: Vec<(u64, u64)>,
    ) -> Result<(HeadStage<'static>, Option<TreeReport>), Failure> {
        if self.is_stream() {
            // Without the buffer of std, which would only copy.
            return Ok((
                StreamHead::file(stdin().as_fd().try_clone_to_owned()?).into(),
                None,
            ));
        }
        let options = TreeOptions::default()
            .one_file_system(self.one_file_system)
            .exclude(&self.exclude)
            .skip(skip);
        let head = TreeHead::new(&self.sources, options)?;
        let report = head.report();
        Ok((head.instances(self.readers()), Some(report)))
    }

    /// As many as were asked for, or as are fast and have buffers enough.
    fn readers(&self) -> u32 {
        let most = self
            .buffers
            .map_or(MAX_INSTANCES, |buffers| (buffers / 4).max(1));
        self.readers
            .unwrap_or_else(|| TreeHead::default_instances().min(most))
    }

    /// How much there is to read, if somebody can know that.
    fn estimate(&self) -> Option<Estimate> {
        let named = self
            .sources
            .iter()
            .map(|source| Some((name_of(source).ok()?, source.clone())));
        let left_out = LeftOut {
            mounted: self.one_file_system,
            excluded: Excluded::new(&self.exclude).ok()?,
        };
        let sources: Option<_> = named.collect();
        sources
            .filter(|_| !self.is_stream())
            .map(|sources| Estimate::start(sources, left_out))
    }

    /// Decides everything about the archive that does not depend on its data.
    fn plan(&self, secret: Option<Secret>) -> Result<Archive, Failure> {
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
            false => name_of(&self.sources[0])?.to_string_lossy().into_owned(),
        };
        let mut options = options_of(&name[..name.floor_char_boundary(MAX_TEXT)])
            .program(concat!("disk_to_tape ", env!("CARGO_PKG_VERSION")))
            .framing(self.framing)
            .block_len(self.buffer_size);
        if let Some(size) = self.volume_size {
            // A small volume needs small records, or most of it stays empty.
            let record = usize::try_from(size / 8).unwrap_or(usize::MAX);
            options = options.record_len(record.min(DEFAULT_RECORD));
        }
        if let Some(secret) = secret {
            options = options.encrypt(secret);
        }
        Ok(options.plan()?)
    }

    /// Everything but the tail.
    fn pipe(
        &self,
        seal: Option<MiddleStage<'static>>,
        head: HeadStage<'static>,
    ) -> PipeBuilder<'static> {
        let instances = self.instances.count();
        let mut pipe = Pipe::builder()
            .label("backup")
            .buffer_size(self.buffer_size);
        if let Some(buffers) = self.buffers {
            pipe = pipe.buffers(buffers);
        }
        pipe = pipe.head(head).stage(analyze());
        pipe = match self.compress {
            Compress::None => pipe,
            Compress::Zstd(level) => pipe.stage(zstd(level).instances(instances)),
            Compress::Deflate(level) => pipe.stage(deflate(level).instances(instances)),
        };
        if let Some(seal) = seal {
            pipe = pipe.stage(seal.instances(instances));
        }
        self.placement.pipe(pipe)
    }
}

/// What a source is called in the archive; and the archive by its first.
fn name_of(source: &Path) -> Result<OsString, Failure> {
    Ok(match source.file_name() {
        Some(name) => name.to_owned(),
        None => fs::canonicalize(source)?
            .file_name()
            .map_or_else(|| "root".into(), ToOwned::to_owned),
    })
}
