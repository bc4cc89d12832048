//! Where an archive lies: a directory of volumes, or a virtual tape.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use datapipe::media::{Item, MediumError, Place};
use datapipe::prelude::*;
use datapipe::wire::{
    Kind, RecordHeader, SessionHeader, Time, UNIT_HEADER_LEN, UnitHeader, looks_like_record,
};

use crate::console::Failure;

/// A path that is, or is to be, a medium.
#[derive(Clone, Debug)]
pub struct Location {
    path: PathBuf,
    directory: bool,
}

impl Location {
    /// A directory of volumes, if one is there or the path ends with a slash; otherwise a virtual tape.
    pub fn new(path: PathBuf) -> Self {
        let directory = path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir();
        Self { path, directory }
    }

    /// A failure that has to do with this medium.
    pub fn failure(&self, what: impl std::fmt::Display) -> Failure {
        Failure::new(format!("{}: {what}", self.path.display()))
    }

    /// Begins to write.
    ///
    /// # Errors
    ///
    /// As [`Directory::create`] and [`VirtualTape::create`].
    pub fn create(&self, options: VolumeOptions) -> Result<Box<dyn Medium>, MediumError> {
        Ok(if self.directory {
            Box::new(Directory::create(&self.path, options)?)
        } else {
            Box::new(VirtualTape::create(&self.path, options)?)
        })
    }

    /// Opens it to read.
    ///
    /// # Errors
    ///
    /// As [`Directory::open`] and [`VirtualTape::open`].
    pub fn open(&self) -> Result<Box<dyn Medium>, MediumError> {
        Ok(if self.directory {
            Box::new(Directory::open(&self.path, looks_like_record)?)
        } else {
            Box::new(VirtualTape::open(&self.path, looks_like_record)?)
        })
    }

    /// Refuses to replace what is there, and says what it is. Without this a medium that has content is refused just
    /// the same when it is created.
    ///
    /// # Errors
    ///
    /// If there is anything, or it cannot be looked at.
    pub fn check_free(&self) -> Result<(), Failure> {
        let mut medium = match self.open() {
            Err(MediumError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(MediumError::NoVolumes { .. }) => return Ok(()),
            opened => opened?,
        };
        let mut record = Vec::new();
        let what = match medium.read(&mut record) {
            Ok(Item::End) if !self.directory => return Ok(()),
            Ok(Item::Record(_)) => session_of_label(&record)
                .map_or_else(|| OTHER.to_owned(), |session| format!("an archive {}", origin(&session))),
            _ => OTHER.to_owned(),
        };
        Err(self.failure(format!("already holds {what}; give --overwrite to replace it")))
    }

    /// What tells the medium's files from those that are backed up, if it lies among them.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn identity(&self) -> io::Result<Identity> {
        let id = id_of(&fs::metadata(&self.path)?);
        Ok(Identity { id, directory: self.directory })
    }
}

/// What a medium holds that has no label of ours.
const OTHER: &str = "something that is not known as an archive";

/// Which file, or which directory, a medium is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    id: (u64, u64),
    directory: bool,
}

impl Identity {
    /// Whether a file is the medium, or one of its volumes.
    pub fn has(&self, path: &Path, file: &Metadata) -> bool {
        if !self.directory {
            return id_of(file) == self.id;
        }
        let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        let digits = name.strip_suffix(b".tap").unwrap_or_default();
        let volume = digits.len() == 6 && digits.iter().all(u8::is_ascii_digit);
        volume
            && path
                .parent()
                .is_some_and(|parent| fs::metadata(parent).is_ok_and(|dir| id_of(&dir) == self.id))
    }
}

fn id_of(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// The session header on a volume's label.
fn session_of_label(record: &[u8]) -> Option<SessionHeader> {
    let (_, content) = RecordHeader::parse(record).ok()?;
    let unit = UnitHeader::parse(content).ok().filter(|unit| unit.kind == Kind::SessionHeader)?;
    let body = content.get(UNIT_HEADER_LEN..)?.get(..unit.stored as usize)?;
    SessionHeader::parse(body).ok()
}

/// When and by whom a session was written, for people. The host's name is somebody's word: nothing of it reaches a
/// terminal as a command.
pub fn origin(session: &SessionHeader) -> String {
    let mut text = format!("written {}", minute(session.created));
    if !session.host.is_empty() {
        text += &format!(" by host {}", session.host.escape_debug());
    }
    text
}

/// A time to the minute, as UTC.
fn minute(time: Time) -> String {
    let (days, second) = (time.seconds.div_euclid(86_400), time.seconds.rem_euclid(86_400));
    // Hinnant, "chrono-compatible low-level date algorithms", civil_from_days: years begin in March, eras of 400
    // years with day 0 of the first on 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", second / 3600, second / 60 % 60)
}

/// What was met on a medium since it was last read from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Volumes.
    pub volumes: u64,
    /// Runs of records with a mark between them: chunks, and what stands behind the last one.
    pub runs: u64,
    /// The last of them has no mark yet.
    open: bool,
}

/// A medium that counts what is read from it.
pub struct Counted {
    medium: Box<dyn Medium>,
    met: Arc<Mutex<Met>>,
}

impl Counted {
    /// Counts what is read from `medium`.
    pub fn new(medium: Box<dyn Medium>) -> Self {
        Self { medium, met: Arc::default() }
    }

    /// What gives the counts when the medium is out of reach.
    pub fn met(&self) -> impl Fn() -> Met + use<> {
        let met = Arc::clone(&self.met);
        move || *met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Met)) {
        change(&mut self.met.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Medium for Counted {
    fn write(&mut self, record: &[u8]) -> Result<Place, MediumError> {
        self.medium.write(record)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.medium.write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        self.medium.sync()
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        let there = self.medium.next_volume()?;
        self.note(|met| met.volumes += u64::from(there));
        Ok(there)
    }

    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        let item = self.medium.read(record)?;
        self.note(|met| match item {
            Item::Record(_) => {
                met.volumes = met.volumes.max(1);
                met.runs += u64::from(!std::mem::replace(&mut met.open, true));
            }
            Item::Mark(_) => met.open = false,
            _ => {}
        });
        Ok(item)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.medium.read_back(record)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        self.medium.seek_end(volume)
    }

    fn seek(&mut self, to: Place) -> Result<(), MediumError> {
        self.medium.seek(to)?;
        self.note(|met| *met = Met::default());
        Ok(())
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counted").field("met", &self.met).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (-1, "1969-12-31 23:59"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (951_868_800, "2000-03-01 00:00"),
            (4_107_542_400, "2100-03-01 00:00"),
            (1_795_208_640, "2026-11-20 21:04"),
            (-62_167_219_200, "0000-01-01 00:00"),
        ] {
            assert_eq!(minute(Time { seconds, nanoseconds: 0 }), text);
        }
        // Anything may stand on a medium.
        for seconds in [i64::MIN, i64::MAX] {
            assert!(!minute(Time { seconds, nanoseconds: 0 }).is_empty());
        }
    }
}
