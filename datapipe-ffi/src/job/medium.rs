//! Media by their paths: directories of volumes and virtual tapes.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datapipe::archive::{ListedArchive, OpenError, Sessions, SharedKey};
use datapipe::interrupt::retry;
use datapipe::media::{FileSystem, MediumError, Storage, Writer, find_writer, volume_files};
use datapipe::prelude::*;
use datapipe::wire::SessionsBefore;

use crate::failure::Failure;
use crate::log_sink::log;
use crate::status::*;

use super::hooks::Hooks;

/// Kind of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediumKind {
    /// A directory of volumes if the path is a directory or ends with a slash, and otherwise a
    /// virtual tape.
    ByPath,
    VirtualTape,
    VolumeDirectory,
}

/// A medium that the program itself has.
pub(crate) trait MediumSource: fmt::Debug + Send + Sync {
    /// Bytes of its content.
    fn content(&self) -> Result<u64, MediumError>;

    /// Opens it to write, after its content or from its start.
    fn writer(&self, label: &str, appends: bool) -> Result<Box<dyn MediumWriter>, MediumError>;

    /// Opens it to read.
    fn reader(&self) -> Result<Box<dyn MediumReader>, MediumError>;

    /// Addresses of its pointer and functions: equal for two values that are one medium.
    fn identity(&self) -> [usize; 3];
}

/// A medium that exists or will be created.
#[derive(Clone, Debug)]
pub(crate) struct Medium {
    /// Its path; the name of one of the program.
    path: PathBuf,
    is_directory: bool,
    /// A medium of the program, which has no files.
    of_program: Option<Arc<dyn MediumSource>>,
}

/// A medium that is open for writing, with device and inode of each file that a backup leaves out.
pub(super) type OpenMedium = (Box<dyn MediumWriter>, Vec<(u64, u64)>);

impl Medium {
    pub(crate) fn new(path: PathBuf, kind: MediumKind) -> Self {
        let is_directory = match kind {
            MediumKind::ByPath => path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir(),
            MediumKind::VirtualTape => false,
            MediumKind::VolumeDirectory => true,
        };
        Self {
            path,
            is_directory,
            of_program: None,
        }
    }

    /// A medium of the program.
    pub(crate) fn of_program(name: PathBuf, source: Arc<dyn MediumSource>) -> Self {
        Self {
            path: name,
            is_directory: false,
            of_program: Some(source),
        }
    }

    pub(crate) fn is_of_program(&self) -> bool {
        self.of_program.is_some()
    }

    /// The failure of an operation on this medium.
    pub(super) fn failure(&self, status: dp_status, reason: impl fmt::Display) -> Failure {
        Failure::new(status, format!("{self}: {reason}"))
    }

    /// The failure of opening an archive on this medium.
    pub(super) fn open_failure(&self, error: OpenError) -> Failure {
        Failure::at(&self.to_string(), error)
    }

    pub(super) fn create(&self, options: VolumeOptions) -> Result<OpenMedium, Failure> {
        if let Some(source) = &self.of_program {
            return Ok((source.writer(&options.label, false)?, Vec::new()));
        }
        if self.is_directory {
            let medium = VolumeDirectory::create(&self.path, options)?;
            return Ok((Box::new(medium), vec![self.identity()?]));
        }
        let tape = VirtualTape::create(&self.path, options)?;
        let mut files = vec![self.identity()?];
        if let Some(beside) = tape.written_beside() {
            files.push(identity_of(&retry(|| fs::metadata(beside))?));
        }
        Ok((Box::new(tape), files))
    }

    /// Opens the medium to write after its content. One that does not exist is created.
    pub(super) fn append(&self, options: VolumeOptions) -> Result<OpenMedium, Failure> {
        if let Some(source) = &self.of_program {
            return Ok((source.writer(&options.label, true)?, Vec::new()));
        }
        let medium: Box<dyn MediumWriter> = match self.is_directory {
            true => Box::new(VolumeDirectory::append(&self.path, options)?),
            false => Box::new(VirtualTape::append(&self.path, options)?),
        };
        Ok((medium, vec![self.identity()?]))
    }

    pub(super) fn open(&self) -> Result<Box<dyn MediumReader>, MediumError> {
        if let Some(source) = &self.of_program {
            return source.reader();
        }
        Ok(match self.is_directory {
            true => Box::new(VolumeDirectory::open(&self.path)?),
            false => Box::new(VirtualTape::open(&self.path)?),
        })
    }

    /// The sessions that the medium has, for the header of the next one. It must be open to append.
    pub(super) fn sessions_before(&self) -> Result<SessionsBefore, Failure> {
        match self.content()? {
            0 => Ok(SessionsBefore::default()),
            _ => Sessions::before_next(self.open()?).map_err(|error| self.open_failure(error)),
        }
    }

    /// The process that writes the medium, if that is known.
    fn writer(&self) -> Option<Writer> {
        match self.of_program {
            None => find_writer(&self.path).ok().flatten(),
            Some(_) => None,
        }
    }

    /// Checks that no other job writes the medium.
    fn check_not_in_use(&self) -> Result<(), Failure> {
        match self.writer() {
            Some(writer) => Err(self.failure(
                DP_ERR_MEDIUM_IN_USE,
                format_args!("is being written by {writer}; wait until it has ended"),
            )),
            _ => Ok(()),
        }
    }

    /// Logs a warning if a job writes the medium that is read.
    pub(super) fn warn_if_written(&self) {
        if let Some(writer) = self.writer() {
            let text = format!(
                "{self} is being written by {writer}: this job reads its present content, which \
                 may be incomplete"
            );
            log(DP_LOG_WARNING, &text);
        }
    }

    /// Checks that a job that replaces nothing can write the medium.
    pub(super) fn check_empty(&self) -> Result<(), Failure> {
        self.check_not_in_use()?;
        match self.content()? {
            // A job that was stopped before its first block may have left empty volumes.
            0 => Ok(()),
            bytes => Err(self.failure(
                DP_ERR_MEDIUM_NOT_EMPTY,
                format_args!(
                    "has content of {bytes} bytes already; set the mode to append or to overwrite, \
                     or name another medium"
                ),
            )),
        }
    }

    /// Checks that an archive can be appended. Returns the data key of the last archive if `secret`
    /// opens that. `any_key`: the secret need not open it.
    pub(super) fn check_append(
        &self,
        secret: Option<&Secret>,
        any_key: bool,
        hooks: &Hooks,
    ) -> Result<Option<SharedKey>, Failure> {
        self.check_not_in_use()?;
        if self.content()? == 0 {
            return Ok(None);
        }
        let sessions = Sessions::read(self.open()?).map_err(|error| self.open_failure(error))?;
        hooks.check()?;
        if sessions.sessions().is_empty() && !self.is_labelled() {
            return Err(self.failure(
                DP_ERR_MEDIUM_NOT_EMPTY,
                "has data that is not an archive, and nothing is added to it; name another medium",
            ));
        }
        let is_readable = |archive: &&ListedArchive| archive.is_encrypted().is_some();
        let Some(last) = sessions.archives().filter(is_readable).last() else {
            if !any_key && sessions.archives().next().is_some() {
                let text = format!(
                    "no header of an archive on {self} can be read: whether they have the key of \
                     this archive, or any, was not checked"
                );
                log(DP_LOG_WARNING, &text);
            }
            return Ok(None);
        };
        let (status, why) = match (secret, last.is_encrypted() == Some(true)) {
            (Some(secret), true) => match SharedKey::of_listed(self.open()?, last, secret) {
                Ok(key) => return Ok(key),
                Err(_) if any_key => return Ok(None),
                Err(error) => return Err(self.open_failure(error)),
            },
            (None, false) => return Ok(None),
            _ if any_key => return Ok(None),
            (Some(_), false) => (
                DP_ERR_NOT_ENCRYPTED,
                "is not encrypted, and a key was given",
            ),
            (None, true) => (DP_ERR_KEY_NEEDED, "is encrypted, and no key was given"),
        };
        let name = last.name().unwrap_or_default().as_bytes().escape_ascii();
        Err(self.failure(
            status,
            format_args!(
                "its last archive, \"{name}\", {why}; give the same key, or set \
                 DP_BACKUP_OTHER_KEY if this archive is to have another one, or none"
            ),
        ))
    }

    /// True if a file of the medium begins as one of a volume: without its label, it may have
    /// sessions that cannot be read.
    pub(super) fn is_labelled(&self) -> bool {
        if self.is_of_program() {
            return false;
        }
        let files = volume_files(&self.path).unwrap_or_default();
        files.iter().any(|file| file.record.is_some())
    }

    /// Device and inode of the tape's file, or of the directory.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        if self.is_of_program() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        retry(|| fs::metadata(&self.path)).map(|found| identity_of(&found))
    }

    /// True if the medium has a file in common with `other`, or is in its directory; of media of
    /// the program, if they are one.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        if let (Some(source), Some(other)) = (&self.of_program, &other.of_program) {
            return source.identity() == other.identity();
        }
        let files = other.files();
        self.files().iter().any(|file| files.contains(file))
    }

    /// Device and inode of each file of the medium. Files that cannot be inspected are left out.
    pub(super) fn files(&self) -> Vec<(u64, u64)> {
        if self.is_of_program() {
            return Vec::new();
        }
        let names = match self.is_directory {
            true => FileSystem.list(&self.path).unwrap_or_default(),
            false => Vec::new(),
        };
        let names = names.iter().filter(|name| is_of_volumes(name));
        let paths = names.map(|name| self.path.join(name));
        let found = [self.path.clone()]
            .into_iter()
            .chain(paths)
            .filter_map(|path| retry(|| fs::symlink_metadata(&path)).ok())
            .map(|found| identity_of(&found));
        self.identity().into_iter().chain(found).collect()
    }

    /// Checks that the medium is not a source, or a file in one that has other data than an
    /// archive: the job would leave it out of the backup, and replace it.
    pub(super) fn check_is_not_in(
        &self,
        sources: &[PathBuf],
        replaces: bool,
    ) -> Result<(), Failure> {
        let Ok(medium) = self.identity() else {
            return Ok(());
        };
        let is_medium = |path: &&PathBuf| {
            retry(|| fs::symlink_metadata(path)).is_ok_and(|found| identity_of(&found) == medium)
        };
        if let Some(source) = sources.iter().find(is_medium) {
            let reason = format_args!("is the source {}; name another medium", source.display());
            return Err(self.failure(DP_ERR_ARGUMENT, reason));
        }
        let Ok(path) = retry(|| fs::canonicalize(&self.path)) else {
            return Ok(());
        };
        let is_around = |source: &&PathBuf| {
            retry(|| fs::canonicalize(source)).is_ok_and(|source| path.starts_with(source))
        };
        match sources.iter().find(is_around) {
            Some(source) if replaces && self.bytes() > 0 && !self.has_archive() => Err(self
                .failure(
                    DP_ERR_MEDIUM_NOT_EMPTY,
                    format_args!(
                        "belongs to the source {} and has data that is not an archive, of which \
                         this job would leave no copy: name another medium, or remove it",
                        source.display()
                    ),
                )),
            _ => Ok(()),
        }
    }

    /// True if a session of the medium can be read.
    fn has_archive(&self) -> bool {
        let sessions = self
            .open()
            .ok()
            .and_then(|medium| Sessions::read(medium).ok());
        sessions.is_some_and(|sessions| !sessions.sessions().is_empty())
    }

    /// Bytes of its content. Fails if a medium of the program cannot say it.
    fn content(&self) -> Result<u64, Failure> {
        match &self.of_program {
            None => Ok(self.bytes()),
            Some(source) => Ok(source.content()?),
        }
    }

    /// Total size of its files in bytes. Files that cannot be inspected are not counted.
    pub(super) fn bytes(&self) -> u64 {
        if let Some(source) = &self.of_program {
            return source.content().unwrap_or_default();
        }
        let len = |path: &Path| match retry(|| fs::metadata(path)) {
            Ok(found) if found.is_file() => found.len(),
            _ => 0,
        };
        if !self.is_directory {
            return len(&self.path);
        }
        let names = FileSystem.list(&self.path).unwrap_or_default();
        let volumes = names.into_iter().map(|name| self.path.join(name));
        let volumes = volumes.filter(|path| path.extension().is_some_and(|end| end == "tap"));
        volumes.map(|path| len(&path)).sum()
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

fn identity_of(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// True if a directory of volumes has files of this name: a volume, a new one, a lock.
fn is_of_volumes(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let digits = name
        .get(..6)
        .is_some_and(|digits| digits.iter().all(u8::is_ascii_digit));
    let is_volume = digits && matches!(&name[6..], b".tap" | b".tap.new" | b".tap.last");
    is_volume || name == b".datapipe-lock"
}
