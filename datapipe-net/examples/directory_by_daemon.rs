//! Backs a directory up to a virtual tape through the daemon, and restores it.
//!
//! ```text
//!   this program --- request ---> datapiped
//!        ^                            | starts, watches
//!        +---------- events ----------+ tree-head -> zstd x2 -> archive-tail
//! ```
//!
//! ```text
//! directory_by_daemon backup /srv/data /backup/data.tap
//! directory_by_daemon restore /backup/data.tap /srv/restored
//! ```
//!
//! The exit code is 0 if all is well, 3 if the pipe ended well but is incomplete, because files
//! could not be read or restored, and 1 if it failed or was stopped.
//!
//! The program itself reads and writes no data. The modules do, as the user of this program if the
//! daemon runs as root, and otherwise as the daemon's user, confined to the paths that this program
//! names and that the daemon's configuration allows. The configuration in this crate's README has
//! the modules. They are the library's; `docs/host-protocol.md` describes their arguments.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use datapipe::Direction;
use datapipe::stage::Arguments;
use datapipe_net::protocol::{EventKind, PipeState};
use datapipe_net::{Client, Initiate, StageRequest, show};

#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Socket of the daemon
    #[arg(long, default_value = "/run/datapiped/socket")]
    socket: PathBuf,
    #[command(subcommand)]
    job: Job,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Back DIRECTORY up to the file TAPE
    Backup {
        /// Overwrite TAPE. A backup that fails leaves an incomplete tape
        #[arg(long)]
        overwrite: bool,
        directory: PathBuf,
        tape: PathBuf,
    },
    /// Restore the backup on TAPE into DIRECTORY, which must exist
    Restore { tape: PathBuf, directory: PathBuf },
}

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(PipeState::ENDED) => ExitCode::SUCCESS,
        Ok(PipeState::INCOMPLETE) => ExitCode::from(3),
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}", show::escaped(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<PipeState, Box<dyn Error>> {
    let pipe = match &args.job {
        // The daemon has another working directory, so the paths are made absolute. The tape does
        // not exist yet and cannot be resolved.
        Job::Backup {
            overwrite,
            directory,
            tape,
        } => backup(
            &resolved(directory)?,
            &std::path::absolute(tape)?,
            *overwrite,
        ),
        Job::Restore { tape, directory } => restore(&resolved(tape)?, &resolved(directory)?),
    };
    let mut client = Client::connect(&args.socket)?;
    // The subscription precedes the pipe, so that it includes all events.
    client.subscribe(None)?;
    let name = client.initiate(&pipe)?.pipe;
    println!(
        "{name}: started; it continues without this program, and `datapiped stop {name}` stops it"
    );
    watch(&mut client, &name)
}

/// Absolute path of a file or directory that must exist.
fn resolved(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize()
        .map_err(|error| format!("cannot find {}: {error}", path.display()))
}

/// Describes a backup: a tree is read, compressed, and written as an archive. Each module may open
/// only the paths that are named for it.
fn backup(directory: &Path, tape: &Path, overwrite: bool) -> Initiate {
    let source = Arguments::new().with("source", bytes(directory));
    let name = directory
        .file_name()
        .unwrap_or_else(|| "root".as_ref())
        .to_string_lossy();
    let medium = Arguments::new()
        .with("medium", "tape")
        .with("path", bytes(tape));
    // The tail creates the tape in this directory, and syncs the directory.
    let folder = tape.parent().unwrap_or(tape);
    let archive = medium
        .with("name", &*name)
        .with("content", "tree")
        .with_flag("overwrite", overwrite);
    Initiate::new("backup")
        .stage(
            StageRequest::module("tree-head")
                .arguments(source)
                .read(directory),
        )
        .stage(
            StageRequest::module("zstd")
                .arguments(Arguments::new().with("level", "3"))
                .instances(2),
        )
        .stage(
            StageRequest::module("archive-tail")
                .arguments(archive)
                .write(folder),
        )
}

/// Describes the restore, which is the reverse.
fn restore(tape: &Path, directory: &Path) -> Initiate {
    let medium = Arguments::new()
        .with("medium", "tape")
        .with("path", bytes(tape));
    let destination = Arguments::new().with("path", bytes(directory));
    Initiate::new("restore")
        .direction(Direction::Restore)
        .stage(
            StageRequest::module("archive-head")
                .arguments(medium)
                .read(tape),
        )
        .stage(StageRequest::module("decompress").instances(2))
        .stage(
            StageRequest::module("tree-restore")
                .arguments(destination)
                .write(directory),
        )
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// Prints the events of the pipe until it has ended.
fn watch(client: &mut Client, name: &str) -> Result<PipeState, Box<dyn Error>> {
    loop {
        let Some(event) = client.next_event(Duration::from_secs(3600))? else {
            continue;
        };
        let lost = event.kind == EventKind::LOST;
        if event.pipe != name && !lost {
            continue;
        }
        // Messages without text are for programs.
        if event.kind == EventKind::NOTE && event.text.is_none() {
            continue;
        }
        let (stage, text) = (
            event.stage.unwrap_or_default(),
            event.text.unwrap_or_default(),
        );
        println!(
            "{}",
            show::escaped_line(&format!("{name}: {} {stage} {text}", event.kind))
        );
        // The event of the end may be among the lost ones.
        let state = if lost {
            Some(client.status(name)?.entry.state)
        } else {
            event.state
        };
        if let Some(state) = state.filter(|state| state.is_final()) {
            println!("{name}: {state}");
            if state == PipeState::INCOMPLETE {
                let count = client.problems(name)?.count;
                let noun = if count == 1 { "problem" } else { "problems" };
                println!("{name}: {count} {noun}; `datapiped problems {name}` shows the last");
            }
            return Ok(state);
        }
    }
}
