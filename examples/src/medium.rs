//! Location of an archive: a directory of volumes, or a virtual tape.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use datapipe::media::{Item, MediumError};
use datapipe::prelude::*;
use datapipe::wire::{RecordHeader, SessionHeader, UNIT_HEADER_LEN, UnitHeader, UnitKind};

use crate::console::Failure;
use crate::format::{escape, format_minute};

/// Path of a medium that exists or will be created.
#[derive(Clone, Debug)]
pub struct Location {
    path: PathBuf,
    directory: bool,
}

impl Location {
    /// Location at `path`: a directory of volumes if the path is a directory or ends with a slash,
    /// otherwise a virtual tape.
    pub fn new(path: PathBuf) -> Self {
        let directory = path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir();
        Self { path, directory }
    }

    /// Returns a failure that concerns this medium.
    pub fn failure(&self, reason: impl fmt::Display) -> Failure {
        Failure::new(format!("{self}: {reason}"))
    }

    /// Creates the medium for writing.
    ///
    /// # Errors
    ///
    /// As [`VolumeDirectory::create`] and [`VirtualTape::create`].
    pub fn create(&self, options: VolumeOptions) -> Result<Box<dyn Medium>, MediumError> {
        Ok(if self.directory {
            Box::new(VolumeDirectory::create(&self.path, options)?)
        } else {
            Box::new(VirtualTape::create(&self.path, options)?)
        })
    }

    /// Opens the medium for reading.
    ///
    /// # Errors
    ///
    /// As [`VolumeDirectory::open`] and [`VirtualTape::open`].
    pub fn open(&self) -> Result<Box<dyn Medium>, MediumError> {
        Ok(if self.directory {
            Box::new(VolumeDirectory::open(&self.path)?)
        } else {
            Box::new(VirtualTape::open(&self.path)?)
        })
    }

    /// Checks that the medium is empty or does not exist, so that nothing is replaced. Creating the
    /// medium would refuse to replace its content too; the error of this check names the content.
    ///
    /// # Errors
    ///
    /// Returns a failure if the medium has content or cannot be read.
    pub fn check_empty(&self) -> Result<(), Failure> {
        let mut medium = match self.open() {
            Err(MediumError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(MediumError::NoVolumes { .. }) => return Ok(()),
            opened => opened?,
        };
        let mut record = Vec::new();
        let content = match medium.read(&mut record) {
            Ok(Item::End) if !self.directory => return Ok(()),
            Ok(Item::Record(_)) => session_of_label(&record).map_or_else(
                || UNKNOWN_CONTENT.to_owned(),
                |session| format!("an archive {}", origin(&session)),
            ),
            _ => UNKNOWN_CONTENT.to_owned(),
        };
        Err(self.failure(format!(
            "already holds {content}; use --overwrite to replace it"
        )))
    }

    /// Returns device and inode of the tape's file, or of the directory of volumes.
    ///
    /// # Errors
    ///
    /// Returns an error if the file or directory does not exist.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        fs::metadata(&self.path).map(|found| (found.dev(), found.ino()))
    }

    /// Returns the total size of its files in bytes. Files that cannot be inspected are not
    /// counted.
    pub fn bytes(&self) -> u64 {
        let len = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        if !self.directory {
            return len(&self.path);
        }
        let volumes = fs::read_dir(&self.path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        volumes
            .filter(|path| path.extension().is_some_and(|end| end == "tap"))
            .map(|path| len(&path))
            .sum()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// Description of a medium without a label of this format.
const UNKNOWN_CONTENT: &str = "data that is not an archive";

/// Reads the session header from a volume's label.
fn session_of_label(record: &[u8]) -> Option<SessionHeader> {
    let (_, content) = RecordHeader::parse(record).ok()?;
    let unit = UnitHeader::parse(content)
        .ok()
        .filter(|unit| unit.kind == UnitKind::SessionHeader)?;
    let body = content
        .get(UNIT_HEADER_LEN..)?
        .get(..unit.stored as usize)?;
    SessionHeader::parse(body).ok()
}

/// Describes the time and the host of a session, for people. The host's name comes from the medium,
/// so it is escaped: it must not send commands to a terminal.
pub fn origin(session: &SessionHeader) -> String {
    let mut text = format!("written {}", format_minute(session.created));
    if !session.host.is_empty() {
        text += &format!(" by host {}", escape(session.host.as_bytes()));
    }
    text
}
