//! Backs a directory up into one file: packed, compressed and encrypted in parallel.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use datapipe::limits::{DEFAULT_BUFFER_SIZE, MAX_INSTANCES};
use datapipe::prelude::*;
use datapipe_examples::console::{Console, Failure, default_instances, parse_size};
use datapipe_examples::container::{Header, Writer};
use datapipe_examples::tree::Source;

/// Back a directory up into a file.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Encrypt with the key in FILE, which has exactly 32 bytes
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// How to compress: zstd, zstd:LEVEL with a level of 1 to 22, or none
    #[arg(long, value_name = "HOW", default_value = "zstd")]
    compress: Compress,
    /// Threads that compress, and as many that encrypt [default: one per processor, up to 16]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_INSTANCES.into()))]
    instances: Option<u32>,
    /// Buffers in the pool [default: as many as keep every thread busy]
    #[arg(long, value_name = "N")]
    buffers: Option<u32>,
    /// Bytes in a buffer, with K or M behind it if you like
    #[arg(long, value_name = "SIZE", default_value_t = DEFAULT_BUFFER_SIZE, value_parser = parse_size)]
    buffer_size: u32,
    /// Replace MEDIUM if it exists
    #[arg(long)]
    overwrite: bool,
    /// Show warnings and errors only
    #[arg(long)]
    quiet: bool,
    /// The directory
    source: PathBuf,
    /// The file
    medium: PathBuf,
}

#[derive(Clone, Copy, Debug)]
enum Compress {
    None,
    Zstd(i32),
}

impl FromStr for Compress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "zstd" => Ok(Self::Zstd(3)),
            Some(("zstd", level)) => {
                let level = level.parse().ok().filter(|level| (1..=22).contains(level));
                level.map(Self::Zstd).ok_or_else(|| "zstd has levels 1 to 22".to_owned())
            }
            _ => Err("give zstd, zstd:LEVEL or none".to_owned()),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let console = Console::new("disk_to_tape", args.quiet);
    console.end(back_up(args, console))
}

fn back_up(args: Args, console: Console) -> Result<(), Failure> {
    let Args { buffer_size, medium, overwrite, .. } = args;
    let instances = args.instances.unwrap_or_else(default_instances);
    let key = args.key_file.map(Key::from_file).transpose()?;
    let cipher =
        key.as_ref().map(Aes256Gcm::new).transpose().map_err(|error| Failure::new(error.to_string()))?;
    let source = Source::open(&args.source)?;

    check_free(&medium, overwrite)?;
    // Under a name of its own until it is whole. Removed when it is dropped, so unless all goes well.
    let partial = partial_file(&medium)?;
    let own = partial.as_file().metadata()?;
    let header = Header { buffer_size, salt: cipher.as_ref().map(Aes256Gcm::salt) };
    let writer = Writer::new(partial.reopen()?, header).map_err(|error| Failure::new(error.to_string()))?;

    let mut pipe = Pipe::builder().label("backup").buffer_size(buffer_size);
    if let Some(buffers) = args.buffers {
        pipe = pipe.buffers(buffers);
    }
    pipe = pipe.head(Stage::head_port("tree-head", move |port| {
        let mut out = BlockWriter::new(port);
        source.pack(&mut out, &own, &|text| console.warn(text))?;
        out.finish()
    }));
    pipe = pipe.stage(analyze());
    if let Compress::Zstd(level) = args.compress {
        pipe = pipe.stage(Zstd::level(level).instances(instances));
    }
    if let Some(cipher) = &cipher {
        pipe = pipe.stage(cipher.seal().instances(instances));
    }
    let report = console.run(pipe.tail(writer));
    let report = report.map_err(|error| Failure::from(error).and(&format!("{medium:?} was not written")))?;

    let kept = if overwrite { partial.persist(&medium) } else { partial.persist_noclobber(&medium) };
    kept.map_err(|error| about(&medium, &error.error))?;
    File::open(directory_of(&medium))
        .and_then(|dir| dir.sync_all())
        .map_err(|error| about(&medium, &error))?;
    console.say(&report.to_string());
    Ok(())
}

/// Refuses to replace what was not to be replaced, before any work is done. The final rename makes sure.
fn check_free(medium: &Path, overwrite: bool) -> Result<(), Failure> {
    match fs::symlink_metadata(medium) {
        Ok(found) if !found.is_file() => {
            Err(Failure::new(format!("{medium:?} exists and is not a regular file")))
        }
        Ok(_) if !overwrite => {
            Err(Failure::new(format!("{medium:?} exists already; give --overwrite to replace it")))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(about(medium, &error)),
        _ => Ok(()),
    }
}

fn partial_file(medium: &Path) -> Result<tempfile::NamedTempFile, Failure> {
    let Some(name) = medium.file_name() else {
        return Err(Failure::new(format!("{medium:?} is not the name of a file")));
    };
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".partial-");
    let file = tempfile::Builder::new().prefix(&prefix).tempfile_in(directory_of(medium));
    file.map_err(|error| about(medium, &error))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn about(medium: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot write {medium:?}: {error}"))
}
