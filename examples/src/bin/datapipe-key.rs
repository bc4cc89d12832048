//! Makes the key pairs of recipients, for whom archives are encrypted.

use std::error::Error;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use datapipe::crypto::{Identity, Recipient, others_can_read, prevent_core_dumps};
use datapipe::standard_streams::StandardStream;

/// Make and show the key pairs of recipients.
///
/// A pair has a secret key, the identity, and a public key, the recipient. A machine that has the
/// public key alone can write archives (disk_to_tape --recipient FILE), and cannot read them. The
/// identity opens them (tape_to_disk --identity FILE): keep it on another machine, and a copy of it
/// where the loss of that machine does not reach it. Without it the archives are lost.
///
/// An identity opens an archive, but does not prove who has written it: every program that has the
/// public key can make one. If that matters, give a key file to disk_to_tape as well, and open the
/// archive with that.
#[derive(Debug, Parser)]
#[command(name = "datapipe-key", version, after_help = HELP)]
struct Args {
    #[command(subcommand)]
    job: Job,
}

const HELP: &str = "\
Examples:
  datapipe-key new restore.identity > backup.recipient
  disk_to_tape --recipient backup.recipient /srv/data /backup/data.tap
  tape_to_disk --identity restore.identity --verify /backup/data.tap

Exit codes:
  0  success; a new identity is on stable storage
  1  the job failed; the message names the file
  2  usage error";

#[derive(Debug, Subcommand)]
enum Job {
    /// Make a key pair: the identity to FILE, the public key to standard output
    ///
    /// FILE must not exist; only its owner can read it. Nothing else has the secret key.
    New {
        /// The file of the identity, which is created
        file: PathBuf,
    },
    /// Print the public key that belongs to the identity in FILE
    Public {
        /// The file of an identity
        file: PathBuf,
    },
}

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let done = run(&Args::parse().job);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the message has no other destination.
            let _ = writeln!(io::stderr(), "datapipe-key: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(job: &Job) -> Result<(), Failure> {
    prevent_core_dumps()?;
    StandardStream::Output
        .check_open()
        .map_err(|error| format!("{error}, and is to have the public key"))?;
    match job {
        Job::New { file } => make(file),
        Job::Public { file } => show(file),
    }
}

/// Makes a pair. The public key is printed after the identity is on stable storage, so that nothing
/// is encrypted for a key that a crash has taken.
fn make(path: &Path) -> Result<(), Failure> {
    let identity = Identity::random()?;
    let file = create(path)?;
    if let Err(error) = store(&identity, file, path) {
        // It was not there before, and what it has now is of no use.
        let _ = fs::remove_file(path);
        return Err(format!("cannot write {}: {error}", path.display()).into());
    }
    print(&identity.recipient()).map_err(|error| {
        let path = path.display();
        format!("{error}; the identity is in {path}: datapipe-key public {path} prints the other")
    })?;
    Ok(())
}

fn create(path: &Path) -> Result<File, String> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!(
            "{} exists, and is not replaced: archives may need it; name another file",
            path.display()
        ),
        _ => format!("cannot create {}: {error}", path.display()),
    })
}

/// Writes an identity to stable storage, with its name.
fn store(identity: &Identity, mut file: File, path: &Path) -> io::Result<()> {
    // The user's mask may have taken more from the mode than others' rights.
    file.set_permissions(Permissions::from_mode(0o600))?;
    identity.write_to(&mut file)?;
    file.sync_all()?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    File::open(dir)?.sync_all()
}

fn show(path: &Path) -> Result<(), Failure> {
    let identity = Identity::from_file(path)?;
    if others_can_read(path)? {
        let path = path.display();
        let _ = writeln!(
            io::stderr(),
            "datapipe-key: other users can read or change {path}: chmod 600 {path}"
        );
    }
    Ok(print(&identity.recipient())?)
}

fn print(recipient: &Recipient) -> Result<(), String> {
    let mut output = io::stdout();
    let printed = writeln!(output, "{recipient}").and_then(|()| output.flush());
    printed.map_err(|error| format!("cannot write the public key to standard output: {error}"))
}
