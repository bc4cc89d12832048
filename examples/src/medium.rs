//! Where an archive lies: a directory of volumes, or a virtual tape.

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
use crate::names::{escaped, minute};

/// A path that is, or is to be, a medium.
#[derive(Clone, Debug)]
pub struct Location {
    path: PathBuf,
    directory: bool,
}

impl Location {
    /// A directory of volumes, if one is there or the path ends with a slash; otherwise a virtual
    /// tape.
    pub fn new(path: PathBuf) -> Self {
        let directory = path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir();
        Self { path, directory }
    }

    /// A failure that has to do with this medium.
    pub fn failure(&self, what: impl fmt::Display) -> Failure {
        Failure::new(format!("{self}: {what}"))
    }

    /// Begins to write.
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

    /// Opens it to read.
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

    /// Refuses to replace what is there, and says what it is. Without this a medium that has
    /// content is refused just the same when it is created.
    ///
    /// # Errors
    ///
    /// If there is anything, or it cannot be looked at.
    pub fn check_free(&self) -> Result<(), Failure> {
        let mut medium = match self.open() {
            Err(MediumError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(MediumError::NoVolumes { .. }) => return Ok(()),
            opened => opened?,
        };
        let mut record = Vec::new();
        let what = match medium.read(&mut record) {
            Ok(Item::End) if !self.directory => return Ok(()),
            Ok(Item::Record(_)) => session_of_label(&record).map_or_else(
                || OTHER.to_owned(),
                |session| format!("an archive {}", origin(&session)),
            ),
            _ => OTHER.to_owned(),
        };
        Err(self.failure(format!(
            "already holds {what}; give --overwrite to replace it"
        )))
    }

    /// Device and inode of the tape's file, or of the directory of volumes.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        fs::metadata(&self.path).map(|found| (found.dev(), found.ino()))
    }

    /// Bytes of its files, as far as they can be looked at.
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

/// What a medium holds that has no label of ours.
const OTHER: &str = "something that is not known as an archive";

/// The session header on a volume's label.
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

/// When and by whom a session was written, for people. The host's name is somebody's word: nothing
/// of it reaches a terminal as a command.
pub fn origin(session: &SessionHeader) -> String {
    let mut text = format!("written {}", minute(session.created));
    if !session.host.is_empty() {
        text += &format!(" by host {}", escaped(session.host.as_bytes()));
    }
    text
}
