//! The file of `--errors-to`: every object that is not whole, a JSON object in a line for each.

use std::borrow::Cow;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read, Write, stdout};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datapipe::interrupt::retry;
use datapipe::prelude::*;
use datapipe::tree::{ProblemKind, RestoreReport, TreeProblem, TreeReport};
use serde::Serialize;

use crate::console::Failure;
use crate::format::count_of;
use crate::medium::Location;
use crate::stoppable_output::StoppableOutput;
use crate::summary::to_json_text;

/// Option for the file of errors.
#[derive(Clone, Debug, clap::Args)]
pub struct ErrorsArgs {
    /// Write every error to FILE, also those beyond the limits of the messages and of --json: in
    /// each line a JSON object with list (errors or left_out), path, kind and what. FILE is
    /// created, or replaced if an earlier job wrote it. For a named pipe, the job begins when a
    /// program has opened it to read
    #[arg(long, value_name = "FILE")]
    errors_to: Option<PathBuf>,
}

impl ErrorsArgs {
    /// Creates the file, if there is to be one. It is neither the medium nor one of `sources`.
    ///
    /// # Errors
    ///
    /// Returns a usage error for a file that must not be replaced, and a failure if it cannot be
    /// created.
    pub fn create(&self, medium: &Location, sources: &[PathBuf]) -> Result<ErrorsFile, Failure> {
        let Some(path) = &self.errors_to else {
            return Ok(ErrorsFile::default());
        };
        let cannot = |error| {
            let path = path.display();
            Failure::new(format!("cannot write the errors to {path}: {error}"))
        };
        if path.as_os_str() == "-" {
            return Err(Failure::usage(
                "--errors-to needs the name of a file; use /dev/stderr for standard error, and ./- \
                 for a file that is named -",
            ));
        }
        let (mut file, is_new) = open(path).map_err(cannot)?;
        let found = file.metadata().map_err(cannot)?;
        let id = (found.dev(), found.ino());
        let refused = match find_refusal(path, id, medium, sources) {
            None if found.is_file() && !is_new && !is_list(&mut file).map_err(cannot)? => {
                Some("it has other content; name a new file, or remove it".to_owned())
            }
            found => found,
        };
        if let Some(why) = refused {
            if is_new {
                let _ = std::fs::remove_file(path); // it is empty
            }
            let path = path.display();
            return Err(Failure::usage(format!(
                "cannot write the errors to {path}: {why}"
            )));
        }
        if found.is_file() {
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                let path = path.display();
                return Err(Failure::new(format!(
                    "cannot write the errors to {path}: another job is writing it; name another \
                     file, or wait until that job has ended"
                )));
            }
            file.set_len(0).map_err(cannot)?;
        }
        let output = Output {
            path: path.clone(),
            id: found.is_file().then_some(id),
            stream: match found.is_file() {
                true => None,
                false => Some(StoppableOutput::new(file.try_clone().map_err(cannot)?)),
            },
            file,
            written: 0,
            error: None,
        };
        Ok(ErrorsFile(Some(Arc::new(Mutex::new(output)))))
    }
}

/// Opens a file that is to be written. Returns it, and true if it is a new one.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = File::options();
    options.read(true).append(true);
    match retry(|| options.clone().create_new(true).open(path)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        created => return created.map(|file| (file, true)),
    }
    if retry(|| std::fs::metadata(path)).is_ok_and(|found| found.file_type().is_fifo()) {
        // Waits for a reader: without one, all lines would be lost in silence. A signal ends it.
        return retry(|| File::options().append(true).open(path)).map(|file| (file, false));
    }
    match retry(|| options.open(path)) {
        // The name of a link that dangles exists.
        Err(error) if error.kind() == ErrorKind::NotFound => Err(io::Error::other(
            "it is a symbolic link to a file that does not exist",
        )),
        // A terminal, or a pipe that can only be written.
        Err(_) => retry(|| File::options().append(true).open(path)).map(|file| (file, false)),
        opened => opened.map(|file| (file, false)),
    }
}

/// Returns the reason why the errors must not be written to the file `id`.
fn find_refusal(
    path: &Path,
    id: (u64, u64),
    medium: &Location,
    sources: &[PathBuf],
) -> Option<String> {
    let identity =
        |path: &Path| retry(|| std::fs::metadata(path)).map(|found| (found.dev(), found.ino()));
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if let Ok(medium_id) = medium.identity()
        && (medium_id == id || identity(dir).is_ok_and(|dir| dir == medium_id))
    {
        return Some(format!("it belongs to the medium, {medium}; name another"));
    }
    if sources
        .iter()
        .any(|source| identity(source).is_ok_and(|source| source == id))
    {
        return Some("it is one of the sources; name another".to_owned());
    }
    let output = stdout().as_fd().try_clone_to_owned().map(File::from);
    let is_output = output
        .and_then(|output| output.metadata())
        .is_ok_and(|found| {
            let kind = found.file_type();
            (kind.is_file() || kind.is_fifo()) && (found.dev(), found.ino()) == id
        });
    is_output.then(|| "it is also standard output; name another".to_owned())
}

/// Returns true if the file is empty, or has a list of errors.
fn is_list(file: &mut File) -> io::Result<bool> {
    let mut begin = Vec::new();
    retry(|| {
        begin.clear();
        (&mut *file)
            .take(BEGIN.len() as u64)
            .read_to_end(&mut begin)
    })?;
    Ok(begin.is_empty() || begin == BEGIN)
}

/// The first bytes of each line.
const BEGIN: &[u8] = b"{\"list\":\"";

/// The list of all errors of a job, if the user wants it. Clones share one file.
#[derive(Clone, Debug, Default)]
pub struct ErrorsFile(Option<Arc<Mutex<Output>>>);

#[derive(Debug)]
struct Output {
    path: PathBuf,
    /// Device and inode of a file with a name.
    id: Option<(u64, u64)>,
    file: File,
    /// The same, if it is a pipe or a terminal, whose reader may never read.
    stream: Option<StoppableOutput>,
    /// Number of lines that were written.
    written: u64,
    /// The first error. Nothing is written after it.
    error: Option<io::Error>,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    list: &'static str,
    path: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    kind: &'static str,
    what: &'a str,
}

impl ErrorsFile {
    /// Writes the problems of reading a tree, from now on, and calls `also` with each.
    pub fn watch_tree(
        &self,
        report: &TreeReport,
        also: impl Fn(&TreeProblem) + Send + Sync + 'static,
    ) {
        let file = self.clone();
        report.on_problem(move |problem| {
            let list = if problem.kind.is_left_out() {
                "left_out"
            } else {
                "errors"
            };
            let kind = name_of(&problem.kind);
            file.add(list, &problem.path, kind, &problem.kind.to_string());
            also(problem);
        });
    }

    /// Writes the problems of a restore or a verification, from now on.
    pub fn watch_restore(&self, report: &RestoreReport) {
        if self.0.is_some() {
            let file = self.clone();
            report.on_problem(move |problem| {
                let kind = match problem.damaged {
                    true => "damaged",
                    false => "differs",
                };
                file.add("errors", &problem.path, kind, &problem.what);
            });
        }
    }

    /// Writes the damage of a medium, from now on.
    pub fn watch_damage(&self, log: &DamageLog) {
        if self.0.is_some() {
            let file = self.clone();
            log.on_damage(move |damage| file.add("errors", b"", "medium", &damage.to_string()));
        }
    }

    /// Writes a line.
    pub fn add(&self, list: &'static str, path: &[u8], kind: &'static str, what: &str) {
        let Some(mut output) = self.lock() else {
            return;
        };
        let (path, path_b64) = to_json_text(path);
        let line = serde_json::to_vec(&Line {
            list,
            path: Some(path).filter(|path| !path.is_empty()),
            path_b64,
            kind,
            what,
        });
        output.write(line.map_err(io::Error::other));
    }

    /// Returns advice for the reader of a list that is cut.
    pub fn describe_rest(&self) -> String {
        match self.lock() {
            Some(output) if output.error.is_none() => {
                format!("{} has all of them", output.path.display())
            }
            Some(_) => "the rest is lost".to_owned(),
            None => "--errors-to FILE has all of them".to_owned(),
        }
    }

    /// Brings the file to stable storage. Returns a note if it lacks some of `total` problems,
    /// which the job has counted.
    ///
    /// # Errors
    ///
    /// Returns a message if it could not be written, or does not have its name anymore.
    pub fn finish(&self, total: u64) -> Result<Option<String>, String> {
        let Some(mut output) = self.lock() else {
            return Ok(None);
        };
        let path = output.path.display().to_string();
        if let Some(error) = output.error.take().or_else(|| output.sync().err()) {
            let written = count_of(output.written, "line was", "lines were");
            return Err(format!(
                "the list of errors in {path} is incomplete: {error}; {written} written before"
            ));
        }
        let named =
            |path: &Path| retry(|| std::fs::metadata(path)).map(|found| (found.dev(), found.ino()));
        if let Some(id) = output.id
            && !named(&output.path).is_ok_and(|found| found == id)
        {
            return Err(format!(
                "the list of errors, {path}, was removed or replaced while the job ran"
            ));
        }
        let missing = total.saturating_sub(output.written);
        Ok((missing > 0).then(|| {
            let missing = count_of(missing, "error is", "errors are");
            format!("{missing} missing in {path}: a process could not report all of them")
        }))
    }

    fn lock(&self) -> Option<MutexGuard<'_, Output>> {
        let output = self.0.as_ref()?;
        Some(output.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Output {
    fn write(&mut self, line: io::Result<Vec<u8>>) {
        if self.error.is_some() {
            return;
        }
        let written = line.and_then(|mut line| {
            line.push(b'\n');
            match &self.stream {
                Some(stream) => (&mut &*stream).write_all(&line),
                None => self.file.write_all(&line),
            }
        });
        match written {
            Ok(()) => self.written += 1,
            Err(error) => self.error = Some(error),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match retry(|| self.file.sync_all()) {
            // A pipe or a terminal.
            Err(_) if self.id.is_none() => Ok(()),
            synced => synced,
        }
    }
}

/// Returns the name of a kind of problem.
fn name_of(kind: &ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Unreadable(_) => "unreadable",
        ProblemKind::Attribute(..) => "attribute",
        ProblemKind::InodeFlags(_) => "inode-flags",
        ProblemKind::Vanished => "vanished",
        ProblemKind::Changed => "changed",
        ProblemKind::Socket => "socket",
        ProblemKind::MountPoint => "mount-point",
        ProblemKind::Medium => "medium",
        ProblemKind::TooLong(_) => "too-long",
        ProblemKind::Rejected(_) => "rejected",
        ProblemKind::Garbled(_) => "process",
        _ => "other",
    }
}
