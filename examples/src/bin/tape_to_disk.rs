//! Brings back what `disk_to_tape` has written.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use datapipe::limits::MAX_INSTANCES;
use datapipe::prelude::*;
use datapipe_examples::console::{Console, Failure, default_instances};
use datapipe_examples::container::Reader;
use datapipe_examples::tree::Destination;

/// Restore a directory from a file that disk_to_tape has written.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Decrypt with the key in FILE, which has exactly 32 bytes
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Threads that decompress, and as many that decrypt [default: one per processor, up to 16]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_INSTANCES.into()))]
    instances: Option<u32>,
    /// Replace what stands in DEST under the directory's name
    #[arg(long)]
    overwrite: bool,
    /// Show warnings and errors only
    #[arg(long)]
    quiet: bool,
    /// The file
    medium: PathBuf,
    /// Where the directory is to stand
    #[arg(default_value = ".")]
    dest: PathBuf,
}

/// What the stage is called that fails if the key is another.
const DECRYPT: &str = "decrypt";

fn main() -> ExitCode {
    let args = Args::parse();
    let console = Console::new("tape_to_disk", args.quiet);
    console.end(restore(&args, console))
}

fn restore(args: &Args, console: Console) -> Result<(), Failure> {
    let instances = args.instances.unwrap_or_else(default_instances);
    let key = args.key_file.as_ref().map(Key::from_file).transpose()?;
    let reader = Reader::open(&args.medium).map_err(|error| Failure::new(error.to_string()))?;
    let header = reader.header();
    let cipher = match (&key, header.salt) {
        (Some(key), Some(salt)) => Some(Aes256Gcm::with_salt(key, salt)),
        (None, None) => None,
        (None, Some(_)) => {
            return Err(Failure::new(format!("{:?} is encrypted: give --key-file", args.medium)));
        }
        // Whoever gives a key relies on it. An archive without encryption may be anybody's.
        (Some(_), None) => {
            return Err(Failure::new(format!("{:?} is not encrypted: give no key", args.medium)));
        }
    };
    let destination = Arc::new(Destination::open(&args.dest, args.overwrite)?);

    let mut pipe = Pipe::builder().label("restore").direction(Direction::Restore);
    pipe = pipe.buffer_size(header.buffer_size).head(reader);
    if let Some(cipher) = &cipher {
        pipe = pipe.stage(cipher.open().named(DECRYPT).instances(instances));
    }
    pipe = pipe.stage(decompress().instances(instances));
    let (place, tree) = (Shared::default(), Shared::default());
    let (told, made, to) = (place.clone(), tree.clone(), Arc::clone(&destination));
    pipe = pipe.tail(Stage::tail_port("tree-tail", move |port| {
        made.put(to.unpack(BlockReader::new(port), &|path| told.put(path.to_owned()))?);
        Ok(())
    }));
    let report = console.run(pipe).map_err(|error| explain(error, place.take()))?;

    let tree = tree.take().ok_or_else(|| Failure::new("nothing was restored"))?;
    destination.put_in_place(tree, &|text| console.warn(text))?;
    console.say(&report.to_string());
    Ok(())
}

/// Says what is known about why it failed, and what it left.
fn explain(error: Error, place: Option<PathBuf>) -> Failure {
    // The head has compared the checksums before. What does not authenticate all the same is hardly damaged.
    let wrong_key = matches!(&error, Error::Stage(failure) if failure.stage == DECRYPT);
    let mut failure = Failure::from(error);
    if wrong_key {
        failure =
            failure.and("its checksum is right, so this is most likely not the key that it was written with");
    }
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
