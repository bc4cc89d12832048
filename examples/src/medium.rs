//! Location of an archive: a directory of volumes, or a virtual tape.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use datapipe::archive::{ArchiveOrigin, ListedArchive, Sessions, SharedKey, WriteOutcome};
use datapipe::controller::ByteCount;
use datapipe::interrupt::retry;
use datapipe::media::{
    FileSystem, Item, MediumError, MisnamedVolume, Storage as _, VolumeFile, VolumeRelation,
    find_writer, misnamed_volumes, missing_volumes, volume_files,
};
use datapipe::prelude::*;
use datapipe::wire::{
    RecordHeader, SessionHeader, SessionsBefore, Time, UNIT_HEADER_LEN, UnitHeader, UnitKind,
};

use crate::console::Failure;
use crate::format::{escape, format_minute};
use crate::signals;
use crate::summary::Summary;

/// Path of a medium that exists or will be created.
#[derive(Clone, Debug)]
pub struct Location {
    path: PathBuf,
    directory: bool,
}

/// Rule for the key of an archive that is appended to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// The key of the last archive, or none if that has none.
    Same,
    /// As [`Same`](Self::Same), or recipients only, without a key.
    SameOrRecipients,
    /// Any key.
    Any,
}

/// Settings of a job that writes a medium.
#[derive(Clone, Debug)]
pub struct WriteSettings {
    /// Options of its volumes.
    pub options: VolumeOptions,
    /// The job adds a session to those that the medium has.
    pub append: bool,
    /// The tail runs in a process.
    pub in_processes: bool,
}

/// A medium that was created, with device and inode of each file that is not to be backed up to it.
pub type CreatedMedium = (Box<dyn MediumWriter>, Vec<(u64, u64)>);

/// Identity of a medium's content, which shows if a job has changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediumContent {
    /// Id of the session on the first volume's label.
    session: Option<[u8; 16]>,
    /// Total size of its files in bytes.
    pub bytes: u64,
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

    /// Returns a detail of a failure: whether the content that the medium had before, which a job
    /// was to replace, is still there. `None` if there was none.
    pub fn describe_kept(&self, before: &MediumContent) -> Option<String> {
        if before.bytes == 0 {
            return None;
        }
        Some(match self.content() == *before {
            true => format!("what {self} held before is still there"),
            false => format!("what {self} held before is gone"),
        })
    }

    /// Adds to the failure of a job that writes what it has left. `is_shared` says that the archive
    /// is in a session with others.
    pub fn explain_failure(
        &self,
        failure: Failure,
        settings: &WriteSettings,
        written: &WriteOutcome,
        is_shared: bool,
    ) -> Failure {
        let is_untouched = written.blocks == 0 && !is_shared;
        if settings.in_processes && is_untouched && self.identity().is_ok() {
            // A process that did not start leaves the new file that was to replace the old one, or
            // the lock file of a directory. The next writer removes them, here one that writes
            // nothing.
            drop(self.open_to_write(settings));
        }
        let keeps_old = settings.options.overwrite || settings.append;
        match keeps_old && is_untouched {
            true => failure,
            false => {
                let is_new = keeps_old || is_shared;
                failure.with_detail(&self.describe_unfinished(written, is_new))
            }
        }
    }

    /// Describes what is left of an archive whose job failed.
    fn describe_unfinished(&self, written: &WriteOutcome, is_new: bool) -> String {
        let valid = match written.safe_blocks {
            0 => "it has no checkpoint yet".to_owned(),
            _ => format!(
                "it is valid up to the last checkpoint, at {}",
                ByteCount(written.safe_plain)
            ),
        };
        let unconfirmed = match written.plain - written.safe_plain {
            0 => "that its end is on stable storage is not confirmed".to_owned(),
            plain => format!(
                "that the {} after that are on stable storage is not confirmed",
                ByteCount(plain)
            ),
        };
        let archive = match is_new {
            true => "the new archive".to_owned(),
            false => self.to_string(),
        };
        format!("{archive} is incomplete: {valid}, and {unconfirmed}")
    }

    /// Opens the medium as the settings say: to append, or to create it.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create) and [`append`](Self::append).
    pub fn open_to_write(&self, settings: &WriteSettings) -> Result<CreatedMedium, Failure> {
        let options = settings.options.clone();
        match settings.append {
            true => self.append(options),
            false => self.create(options),
        }
    }

    /// Creates the medium for writing. From then on, a signal waits for the pipe. Returns it with
    /// device and inode of each file or directory that is not to be backed up to it: those to which
    /// the archive is written, or that it will replace.
    ///
    /// # Errors
    ///
    /// As [`VolumeDirectory::create`] and [`VirtualTape::create`], and if a file cannot be
    /// inspected.
    pub fn create(&self, options: VolumeOptions) -> Result<CreatedMedium, Failure> {
        signals::wait_for_pipe();
        if self.directory {
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

    /// Opens the medium to write after its content, as [`create`](Self::create) creates one. If it
    /// has content, a signal ends the program until [`sessions_before`](Self::sessions_before) has
    /// read what it needs.
    ///
    /// # Errors
    ///
    /// As [`VolumeDirectory::append`] and [`VirtualTape::append`], and if a file cannot be
    /// inspected.
    pub fn append(&self, options: VolumeOptions) -> Result<CreatedMedium, Failure> {
        if self.bytes() == 0 {
            signals::wait_for_pipe();
        }
        let medium: Box<dyn MediumWriter> = match self.directory {
            true => Box::new(VolumeDirectory::append(&self.path, options)?),
            false => Box::new(VirtualTape::append(&self.path, options)?),
        };
        Ok((medium, vec![self.identity()?]))
    }

    /// Returns the sessions that the medium has, for the header of the next one. It must be open to
    /// append. From then on, a signal waits for the pipe.
    ///
    /// # Errors
    ///
    /// Returns a failure if the medium cannot be read.
    pub fn sessions_before(&self) -> Result<SessionsBefore, Failure> {
        let before = match self.bytes() {
            0 => Ok(SessionsBefore::default()),
            _ => Sessions::before_next(self.open()?).map_err(|error| self.failure(error)),
        };
        signals::wait_for_pipe();
        before
    }

    /// Checks that an archive can be appended with `secret`, and returns the data key of the last
    /// archive, if that opens it. Notes it if no header of an archive can be read, so that the key
    /// is not known.
    ///
    /// # Errors
    ///
    /// Returns a failure if the medium is being written, has data that is not an archive, or the
    /// last archive does not have the key that `rule` demands.
    pub fn check_append(
        &self,
        secret: Option<&Secret>,
        rule: KeyRule,
        summary: &mut Summary,
    ) -> Result<Option<SharedKey>, Failure> {
        if let Ok(Some(writer)) = find_writer(&self.path) {
            return Err(Failure::new(format!(
                "{self} is being written by {writer}; wait until it has ended"
            )));
        }
        if self.bytes() == 0 {
            return Ok(None);
        }
        let sessions = Sessions::read(self.open()?).map_err(|error| self.failure(error))?;
        let is_made = || {
            let files = volume_files(&self.path).unwrap_or_default();
            files.iter().any(|file| file.record.is_some())
        };
        if sessions.sessions().is_empty() && !is_made() {
            return Err(self.failure(format_args!(
                "holds {UNKNOWN_CONTENT}, and nothing is added to it; name another medium"
            )));
        }
        let readable = |archive: &&ListedArchive| archive.is_encrypted().is_some();
        let Some(last) = sessions.archives().filter(readable).last() else {
            if rule != KeyRule::Any && sessions.archives().next().is_some() {
                summary.notes.push(format!(
                    "no header of an archive on {self} can be read: whether they have the key of \
                     this archive, or any, was not checked"
                ));
            }
            return Ok(None);
        };
        let is_encrypted = last.is_encrypted() == Some(true);
        let opened = secret
            .filter(|_| is_encrypted)
            .map(|secret| SharedKey::of_listed(self.open()?, last, secret));
        let why = match (opened, secret) {
            (Some(Ok(key)), _) => return Ok(key),
            (Some(Err(error)), _) => format!("does not open with this key: {error}"),
            (None, Some(_)) => "is not encrypted, and a key was given".to_owned(),
            (None, None) if !is_encrypted || rule == KeyRule::SameOrRecipients => return Ok(None),
            (None, None) => "is encrypted, and no key was given".to_owned(),
        };
        if rule == KeyRule::Any {
            return Ok(None);
        }
        let name = match last.name() {
            Some(name) => format!("\"{}\"", escape(name.as_bytes())),
            None if is_encrypted => "whose name is encrypted".to_owned(),
            None => "whose name is damaged".to_owned(),
        };
        Err(self.failure(format_args!(
            "its last archive, {name}, {why}; give the same key, or --other-key if this archive is \
             to have another one, or none"
        )))
    }

    /// Returns what identifies the medium's content.
    pub fn content(&self) -> MediumContent {
        let mut record = Vec::new();
        let first = self.open().and_then(|mut medium| medium.read(&mut record));
        let session = match first {
            Ok(Item::Record(_)) => session_of_label(&record).map(|session| session.id),
            _ => None,
        };
        MediumContent {
            session,
            bytes: self.bytes(),
        }
    }

    /// Returns a note on the process that writes the medium, for a job that reads it; `None` if
    /// there is none.
    pub fn writer_note(&self) -> Option<String> {
        let writer = find_writer(&self.path).ok()??;
        Some(format!(
            "{self} is being written by {writer}: this job reads what it holds at present, which \
             may be incomplete"
        ))
    }

    /// Returns the volumes of the medium, as far as they can be read.
    pub fn volumes(&self) -> Vec<VolumeFile> {
        volume_files(&self.path).unwrap_or_default()
    }

    /// Returns the label of the first of these volumes that has one, for a terminal.
    pub fn label_of(volumes: &[VolumeFile]) -> Option<String> {
        let records = volumes.iter().filter_map(|file| file.record.as_ref());
        let mut labels = records.map(|record| &record.label);
        let label = labels.find(|label| !label.is_empty())?;
        Some(escape(label.as_bytes()))
    }

    /// Adds a note on each of these volumes whose record is damaged.
    fn note_lost_records(volumes: &[VolumeFile], summary: &mut Summary) {
        for VolumeFile { path, label, .. } in volumes.iter().filter(|file| file.is_record_lost) {
            let named = match label {
                Some(volume) => format!("its label names it volume {volume} of its session"),
                None => "it has no label that can be read either".to_owned(),
            };
            if summary.notes.len() < MAX_NOTES {
                summary.notes.push(format!(
                    "{} has a damaged volume record, and is read all the same: {named}",
                    path.display()
                ));
            }
        }
    }

    /// Adds a note on each volume that is missing, whose record is damaged, or whose file has the
    /// name of another one, and an error for each volume of another archive, which is not read.
    /// `volumes` are those of [`volumes`](Self::volumes).
    pub fn note_volumes(&self, volumes: &[VolumeFile], summary: &mut Summary) {
        Self::note_lost_records(volumes, summary);
        if !self.directory {
            return;
        }
        for volume in missing_volumes(&self.path).unwrap_or_default() {
            if summary.notes.len() < MAX_NOTES {
                summary.notes.push(format!(
                    "{self} has no volume {volume} ({volume:06}.tap): what it held cannot be \
                     restored; --verify names the lost objects"
                ));
            }
        }
        let misnamed = misnamed_volumes(&self.path).unwrap_or_default();
        for MisnamedVolume {
            path,
            volume,
            relation,
            ..
        } in misnamed
        {
            let file = path.display();
            let note = match relation {
                VolumeRelation::OtherArchive => {
                    let what = "belongs to another archive than the first volume: give the volumes \
                                of that archive a directory of their own";
                    summary.add_error(path.into_os_string().into_vec(), "other-archive", what);
                    continue;
                }
                VolumeRelation::Copy => format!(
                    "{file} is another copy of volume {volume}, and is not read: remove it, or \
                     keep it elsewhere"
                ),
                _ => format!(
                    "{file} has the label of volume {volume}: rename it to {volume:06}.tap, and \
                     the other volumes of the archive to the numbers on their labels"
                ),
            };
            if summary.notes.len() < MAX_NOTES {
                summary.notes.push(note);
            }
        }
    }

    /// Checks that the medium has a path.
    ///
    /// # Errors
    ///
    /// Returns a usage error for `-`, which other programs take for a standard stream.
    pub fn check_is_path(&self) -> Result<(), Failure> {
        if self.path.as_os_str() == "-" {
            return Err(Failure::usage(
                "MEDIUM cannot be a standard stream (-): an archive needs a file or a directory. \
                 Use ./- for a file of that name",
            ));
        }
        Ok(())
    }

    /// Checks that the medium is not a standard stream: the archive would be mixed with the
    /// messages of the program, or with the data that it reads.
    ///
    /// # Errors
    ///
    /// Returns a usage error if it is one.
    pub fn check_is_not_a_stream(&self) -> Result<(), Failure> {
        self.check_is_path()?;
        let Ok(medium) = self.identity() else {
            return Ok(());
        };
        for (name, stream) in [
            ("standard output", io::stdout().as_fd().try_clone_to_owned()),
            ("standard error", io::stderr().as_fd().try_clone_to_owned()),
            ("standard input", io::stdin().as_fd().try_clone_to_owned()),
        ] {
            let found = stream.and_then(|stream| File::from(stream).metadata());
            if found.is_ok_and(|found| identity_of(&found) == medium) {
                return Err(Failure::usage(format!(
                    "{self} is also {name}, which would be mixed with the archive; name another \
                     file"
                )));
            }
        }
        Ok(())
    }

    /// Opens the medium for reading.
    ///
    /// # Errors
    ///
    /// As [`VolumeDirectory::open`] and [`VirtualTape::open`].
    pub fn open(&self) -> Result<Box<dyn MediumReader>, MediumError> {
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
    pub fn check_empty(&self, secret: Option<&Secret>) -> Result<(), Failure> {
        if let Ok(Some(writer)) = find_writer(&self.path) {
            return Err(Failure::new(format!(
                "{self} is being written by {writer}; wait until it has ended, or write elsewhere"
            )));
        }
        if self.bytes() == 0 {
            // A job that was stopped before its first block may have left empty volumes.
            return Ok(());
        }
        let mut medium = match self.open() {
            Err(MediumError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(MediumError::NoVolumes { .. }) => return Ok(()),
            opened => opened?,
        };
        let mut record = Vec::new();
        let content = match medium.read(&mut record) {
            Ok(Item::Record(_)) => session_of_label(&record).map_or_else(
                || UNKNOWN_CONTENT.to_owned(),
                |session| self.describe_archive(&session, secret),
            ),
            _ => UNKNOWN_CONTENT.to_owned(),
        };
        Err(self.failure(format!(
            "already holds {content}; use --overwrite to replace it, or --append to add to it"
        )))
    }

    /// Describes an archive on the medium.
    fn describe_archive(&self, session: &SessionHeader, secret: Option<&Secret>) -> String {
        let sessions = self
            .open()
            .ok()
            .and_then(|medium| Sessions::read(medium).ok());
        let count = sessions.iter().flat_map(Sessions::archives).count();
        let first = sessions.iter().flat_map(Sessions::archives).next();
        let first = first.and_then(ListedArchive::created);
        let first = first.unwrap_or(session.created);
        let reader = self
            .open()
            .ok()
            .and_then(|medium| ArchiveReader::open(medium, secret).ok());
        if count > 1 {
            let origin = describe_origin(first, None);
            return format!("{count} archives, the first of them {origin}");
        }
        let created = reader.as_ref().map_or(first, |one| one.header().created);
        let origin = describe_origin(created, reader.as_ref().and_then(ArchiveReader::origin));
        match reader.map(|reader| reader.index()) {
            Some(Err(_)) => format!(
                "an archive {origin} that is unfinished, because its job did not end, or is damaged"
            ),
            _ => format!("an archive {origin}"),
        }
    }

    /// Returns device and inode of the tape's file, or of the directory of volumes.
    ///
    /// # Errors
    ///
    /// Returns an error if the file or directory does not exist.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        retry(|| fs::metadata(&self.path)).map(|found| identity_of(&found))
    }

    /// True if the medium has a file in common with `other`, or `other` is a tape in its directory,
    /// where that need not exist yet.
    pub fn overlaps(&self, other: &Self) -> bool {
        let files = other.files();
        let is_shared = self.files().iter().any(|file| files.contains(file));
        is_shared || other.is_inside(self)
    }

    /// True if this is a tape in the directory of the volumes of `other`.
    fn is_inside(&self, other: &Self) -> bool {
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let is_tape = !self.directory && other.directory;
        let parent = retry(|| fs::metadata(parent)).map(|found| identity_of(&found));
        is_tape && parent.is_ok_and(|parent| other.identity().is_ok_and(|own| own == parent))
    }

    /// Returns device and inode of each file of the medium, which a restore must not replace. Files
    /// that cannot be inspected are left out.
    pub fn files(&self) -> Vec<(u64, u64)> {
        let volumes = match self.directory {
            true => FileSystem.list(&self.path).unwrap_or_default(),
            false => Vec::new(),
        };
        let volumes = volumes
            .iter()
            .filter(|name| is_of_volumes(name))
            .map(|name| self.path.join(name));
        let links = [self.path.clone()]
            .into_iter()
            .chain(volumes)
            .filter_map(|path| retry(|| fs::symlink_metadata(&path)).ok())
            .map(|found| identity_of(&found));
        self.identity().into_iter().chain(links).collect()
    }

    /// Returns the names in the directory of volumes that belong to no medium.
    ///
    /// # Errors
    ///
    /// The system's error if the directory cannot be listed.
    pub fn other_names(&self) -> io::Result<Vec<OsString>> {
        let mut names = match self.directory {
            true => FileSystem.list(&self.path)?,
            false => Vec::new(),
        };
        names.retain(|name| !is_of_volumes(name));
        Ok(names)
    }

    /// Checks that the medium is not a file of one of `sources` that has other data than an
    /// archive. The job would leave it out and replace it.
    ///
    /// # Errors
    ///
    /// Returns a failure if it is one.
    pub fn check_is_no_data_of(&self, sources: &[PathBuf]) -> Result<(), Failure> {
        let Ok(path) = retry(|| fs::canonicalize(&self.path)) else {
            return Ok(());
        };
        let is_inside = |source: &&PathBuf| {
            retry(|| fs::canonicalize(source)).is_ok_and(|source| path.starts_with(source))
        };
        let Some(source) = sources.iter().find(is_inside) else {
            return Ok(());
        };
        let content = self.content();
        if content.session.is_some() || content.bytes == 0 {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{self} belongs to the source {} and holds {UNKNOWN_CONTENT}, of which this job would \
             leave no copy: name another medium, or remove it",
            source.display()
        )))
    }

    /// Returns the total size of its files in bytes. Files that cannot be inspected are not
    /// counted.
    pub fn bytes(&self) -> u64 {
        let len = |path: &Path| match retry(|| fs::metadata(path)) {
            Ok(found) if found.is_file() => found.len(),
            _ => 0,
        };
        if !self.directory {
            return len(&self.path);
        }
        let names = FileSystem.list(&self.path).unwrap_or_default();
        let volumes = names.into_iter().map(|name| self.path.join(name));
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

/// Number of notes at which volumes get no more.
const MAX_NOTES: usize = 20;

/// True if a directory of volumes has files of this name: a volume, a new one, a lock.
fn is_of_volumes(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let is_volume = name
        .get(..6)
        .is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
        && matches!(&name[6..], b".tap" | b".tap.new" | b".tap.last");
    is_volume || name == b".datapipe-lock"
}

/// Returns device and inode of a file.
pub(crate) fn identity_of(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
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

/// Returns the name of an archive in quotes, escaped as that of the host below, or the reason why
/// it is not known. `is_sealed`: the archive is encrypted, and its key is not given.
pub fn describe_name(origin: Option<&ArchiveOrigin>, is_sealed: bool) -> String {
    match origin {
        Some(origin) => format!("\"{}\"", escape(origin.name.as_bytes())),
        None if is_sealed => "an archive whose name is encrypted".to_owned(),
        None => "an archive whose name is damaged".to_owned(),
    }
}

/// Describes when an archive was begun, as its own header says, and on which host if that is known,
/// for people. With a key both are authenticated; the time of a session never is. The host's name
/// comes from the medium, so it is escaped: it must not send commands to a terminal.
pub fn describe_origin(created: Time, archive: Option<&ArchiveOrigin>) -> String {
    let mut text = format!("written {}", format_minute(created));
    if let Some(origin) = archive.filter(|origin| !origin.host.is_empty()) {
        text += &format!(" by host {}", escape(origin.host.as_bytes()));
    }
    text
}
