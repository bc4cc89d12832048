//! Backs a directory up into an archive: packed, compressed and encrypted in parallel.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, ValueEnum};
use datapipe::limits::{DEFAULT_RECORD, MAX_INSTANCES, MAX_TEXT};
use datapipe::prelude::*;
use datapipe::wire;
use datapipe_examples::console::{Console, Failure, default_instances, parse_buffer_size, parse_size};
use datapipe_examples::medium::Location;
use datapipe_examples::secret::SecretArgs;
use datapipe_examples::tree::Source;

/// Back a directory up into an archive.
///
/// Exits with 0 if all of it is on stable storage, 1 if that failed, 2 if it was asked for in a wrong way.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    secret: SecretArgs,
    /// How to compress: zstd:LEVEL with a level of 1 to 22, deflate:LEVEL with one of 1 to 9, or none
    #[arg(long, value_name = "HOW", default_value = "zstd:3")]
    compress: Compress,
    /// Threads that compress, and as many that encrypt [default: one per processor, up to 16]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_INSTANCES.into()))]
    instances: Option<u32>,
    /// Buffers in the pool [default: as many as keep every thread busy]
    #[arg(long, value_name = "N")]
    buffers: Option<u32>,
    /// Bytes in a buffer, and so in a block before compression: 64KiB, 4MiB
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_buffer_size)]
    buffer_size: u32,
    /// Which chunks have headers and footers
    #[arg(long, value_name = "WHICH", default_value = "header-footer")]
    framing: Framing,
    /// Bytes of a volume at most; in a directory the next one follows [default: what the file system has]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    volume_size: Option<u64>,
    /// Replace what MEDIUM holds
    #[arg(long)]
    overwrite: bool,
    /// Show warnings and errors only
    #[arg(long)]
    quiet: bool,
    /// The directory
    source: PathBuf,
    /// A directory of volumes, if it is one or ends with a slash; otherwise a file, a virtual tape
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
        match (method, text.contains(':')) {
            ("none", false) => Ok(Self::None),
            ("zstd", _) => Ok(Self::Zstd(level(22, 3)? as i32)),
            ("deflate", _) => Ok(Self::Deflate(level(9, 6)?)),
            _ => Err("give zstd, zstd:LEVEL, deflate, deflate:LEVEL or none".to_owned()),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Framing {
    /// A header before every chunk
    Header,
    /// One header before all chunks, one footer behind them
    Once,
    /// Header and footer around every chunk
    HeaderFooter,
}

impl From<Framing> for wire::Framing {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Header => Self::Header,
            Framing::Once => Self::Once,
            Framing::HeaderFooter => Self::HeaderFooter,
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let console = Console::new("disk_to_tape", args.quiet);
    console.end(back_up(&args, console))
}

fn back_up(args: &Args, console: Console) -> Result<(), Failure> {
    let source = Source::open(&args.source)?;
    let secret = args.secret.read(console)?;
    let location = Location::new(args.medium.clone());
    if !args.overwrite {
        location.check_free()?;
    }
    let archive = plan(args, &source, secret)?;
    // What cannot work is refused before anything is replaced.
    let nothing = Stage::head_port("tree-head", |_| Ok(()));
    // What opens a block needs what sealing it does.
    pipe(args, archive.open_blocks(), nothing).tail(StreamTail::new(io::sink())).plan()?;

    let options = VolumeOptions { volume_size: args.volume_size, overwrite: args.overwrite };
    let medium = location.create(options)?;
    let own = location.identity()?;
    let head = Stage::head_port("tree-head", move |port| {
        let mut out = BlockWriter::new(port);
        source.pack(&mut out, &|path, file| own.has(path, file), &|text| console.warn(text))?;
        out.finish()
    });
    let (seal, tail) = archive.stages(medium);
    let ran = console.run(pipe(args, seal, head).tail(tail));
    let report = ran.map_err(|error| {
        let medium = args.medium.display();
        Failure::from(error)
            .and(&format!("{medium} is incomplete, and valid up to the last checkpoint, if it has one"))
    })?;
    console.say(&report.to_string());
    Ok(())
}

/// Decides everything about the archive that does not depend on its data.
fn plan(args: &Args, source: &Source, secret: Option<Secret>) -> Result<Archive, Error> {
    let name = source.name().to_string_lossy();
    let name = &name[..name.floor_char_boundary(MAX_TEXT)];
    let mut options = ArchiveOptions::new(name)
        .program(concat!("disk_to_tape ", env!("CARGO_PKG_VERSION")))
        .framing(args.framing.into())
        .block_len(args.buffer_size);
    if let Some(size) = args.volume_size {
        // A small volume needs small records, or most of it stays empty.
        let record = usize::try_from(size / 8).unwrap_or(usize::MAX);
        options = options.record_len(record.min(DEFAULT_RECORD));
    }
    if let Some(secret) = secret {
        options = options.encrypt(secret);
    }
    options.plan()
}

/// Everything but the tail.
fn pipe(args: &Args, seal: Option<MiddleStage<'static>>, head: HeadStage<'static>) -> PipeBuilder<'static> {
    let instances = args.instances.unwrap_or_else(default_instances);
    let mut pipe = Pipe::builder().label("backup").buffer_size(args.buffer_size);
    if let Some(buffers) = args.buffers {
        pipe = pipe.buffers(buffers);
    }
    pipe = pipe.head(head).stage(analyze());
    pipe = match args.compress {
        Compress::None => pipe,
        Compress::Zstd(level) => pipe.stage(Zstd::level(level).instances(instances)),
        Compress::Deflate(level) => pipe.stage(Deflate::level(level).instances(instances)),
    };
    match seal {
        Some(seal) => pipe.stage(seal.instances(instances)),
        None => pipe,
    }
}
