//! A medium in one file, which is one volume.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::limits::MAX_RECORD;
use crate::wire::looks_like_record;
use crate::words::describe_full;

use super::dir_storage::DirStorage;
use super::reader::VolumeReader;
use super::volume_files::check_not_a_volume;
use super::writer::{
    VolumeWriter, cannot_open, check_gives_way, check_identity, check_size, directory_of, is_full,
    lock_file, no_space,
};
use super::{
    FileSystem, Form, GivenAway, HandleError, Item, Medium, MediumError, MediumHandle, Origin,
    Position, Probe, Replacing, Storage, StorageFile, VolumeOptions,
};

/// A medium of one volume: a file of any name.
///
/// A tape that replaces another is written to the hidden file `.NAME.datapipe-new` beside it (a
/// long NAME is cut), with the owner and the permissions of the old one, and gets the name when it
/// is finished.
#[derive(Debug)]
pub struct VirtualTape<S: Storage = FileSystem> {
    storage: S,
    path: PathBuf,
    side: Side<S::File>,
    given: GivenAway,
}

#[derive(Debug)]
enum Side<F> {
    Write {
        writer: VolumeWriter<F>,
        replaces: Option<Replaces<F>>,
        allow_empty: bool,
    },
    Read(VolumeReader<F>),
}

/// Old content that the tape replaces.
#[derive(Debug)]
enum Replaces<F> {
    /// The file that is to be replaced, which has the lock, and its path without links.
    Beside { old: F, path: PathBuf },
    /// The content of the same file. The first write removes it.
    InPlace,
}

impl VirtualTape {
    /// Creates a tape. One that has content stays until this one is [finished](Medium::finish), or
    /// until the first write [in place](field@VolumeOptions::in_place).
    ///
    /// A file that exists is refused if another user may have put it there: in a directory in which
    /// several users may create files, the file, or a link to it, must belong to root, to the user
    /// of this process, or to the owner of the directory.
    ///
    /// # Errors
    ///
    /// [`MediumError::InUse`] if it is being written, [`MediumError::NotEmpty`] if it has content
    /// and the options do not allow overwriting, [`MediumError::OtherNames`] if it cannot be
    /// overwritten in place, [`MediumError::VolumeTooSmall`], [`MediumError::Full`] and
    /// [`MediumError::Io`].
    pub fn create(path: impl Into<PathBuf>, options: VolumeOptions) -> Result<Self, MediumError> {
        Self::create_on(FileSystem, path, options)
    }

    /// Opens a tape of this library's records to read, at its start.
    ///
    /// # Errors
    ///
    /// [`MediumError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, MediumError> {
        Self::open_with_probe(path, looks_like_record)
    }

    /// As [`open`](Self::open), for records that another program wrote, which `probe` recognises.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with_probe(path: impl Into<PathBuf>, probe: Probe) -> Result<Self, MediumError> {
        Self::open_on(FileSystem, path, probe)
    }

    /// Reopens a tape that another process has open to read.
    pub(super) fn from_descriptors_to_read(
        path: PathBuf,
        file: File,
        probe: Probe,
    ) -> Result<Self, MediumError> {
        let side = Side::Read(VolumeReader::new(file, path.clone(), 1, probe)?);
        Ok(Self {
            storage: FileSystem,
            path,
            side,
            given: GivenAway::default(),
        })
    }
}

impl VirtualTape<DirStorage> {
    /// Reopens a tape that another process has created, and not written to. `lock` is the tape that
    /// it replaces, or the tape itself.
    pub(super) fn from_descriptors_to_write(
        storage: DirStorage,
        path: PathBuf,
        [file, lock]: [File; 2],
        options: VolumeOptions,
        replacing: Option<Replacing>,
    ) -> Self {
        let size = options.volume_size;
        let (writer, replaces) = match replacing {
            None => (VolumeWriter::new(file, path.clone(), 1, size), None),
            Some(Replacing::InPlace) => (
                VolumeWriter::in_place(file, path.clone(), 1, size),
                Some(Replaces::InPlace),
            ),
            Some(Replacing::Beside) => (
                VolumeWriter::new(file, beside(&path), 1, size),
                Some(Replaces::Beside {
                    old: lock,
                    path: path.clone(),
                }),
            ),
        };
        let side = Side::Write {
            writer,
            replaces,
            allow_empty: options.allow_empty,
        };
        Self {
            storage,
            path,
            side,
            given: GivenAway::default(),
        }
    }
}

impl<S: Storage> VirtualTape<S> {
    /// As [`VirtualTape::create`], on another storage.
    ///
    /// # Errors
    ///
    /// As [`VirtualTape::create`].
    pub fn create_on(
        storage: S,
        path: impl Into<PathBuf>,
        options: VolumeOptions,
    ) -> Result<Self, MediumError> {
        let path = path.into();
        check_size(options.volume_size)?;
        check_not_a_volume(&storage, &path)?;
        let (writer, replaces) = loop {
            let file = match storage.create_new(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let file = storage.open_to_write(&path).map_err(cannot_open(&path))?;
                    if !lock_file(&storage, &path, &file, &path)? {
                        continue;
                    }
                    break reuse(&storage, &path, file, options)?;
                }
                Err(error) if is_full(&error) => return Err(no_space(&path, &error)),
                created => created.map_err(MediumError::io("create", &path))?,
            };
            // Another writer may have found the empty file.
            if lock_file(&storage, &path, &file, &path)? {
                let size = options.volume_size;
                break (VolumeWriter::new(file, path.clone(), 1, size), None);
            }
        };
        let side = Side::Write {
            writer,
            replaces,
            allow_empty: options.allow_empty,
        };
        Ok(Self {
            storage,
            path,
            side,
            given: GivenAway::default(),
        })
    }

    /// Path of the file to which this tape is written, if that is not its own yet: the hidden file
    /// beside the tape that it replaces.
    pub fn written_beside(&self) -> Option<&Path> {
        match &self.side {
            Side::Write {
                writer,
                replaces: Some(Replaces::Beside { .. }),
                ..
            } => Some(writer.path()),
            _ => None,
        }
    }

    /// As [`VirtualTape::open_with_probe`], on another storage.
    ///
    /// # Errors
    ///
    /// As [`VirtualTape::open`].
    pub fn open_on(
        storage: S,
        path: impl Into<PathBuf>,
        probe: Probe,
    ) -> Result<Self, MediumError> {
        let path = path.into();
        let file = storage
            .open(&path)
            .map_err(MediumError::io("open", &path))?;
        let side = Side::Read(VolumeReader::new(file, path.clone(), 1, probe)?);
        Ok(Self {
            storage,
            path,
            side,
            given: GivenAway::default(),
        })
    }

    fn writer(&mut self) -> Result<&mut VolumeWriter<S::File>, MediumError> {
        match &mut self.side {
            Side::Write { writer, .. } => Ok(writer),
            Side::Read(_) => Err(NOT_TO_WRITE),
        }
    }

    /// The reader, if `to` is in the only volume.
    fn reader_at(&mut self, to: Position) -> Result<&mut VolumeReader<S::File>, MediumError> {
        if to.volume != 1 {
            let what = "a virtual tape has volume 1 only".to_owned();
            return Err(MediumError::NoSuchPosition {
                path: self.path.clone(),
                to,
                what,
            });
        }
        self.reader()
    }

    fn reader(&mut self) -> Result<&mut VolumeReader<S::File>, MediumError> {
        match &mut self.side {
            Side::Read(reader) => Ok(reader),
            Side::Write { .. } => Err(MediumError::NOT_TO_READ),
        }
    }
}

/// The writer of a tape, and the old content that it replaces.
type Reused<F> = (VolumeWriter<F>, Option<Replaces<F>>);

/// The writer to an existing tape, which is locked, and the content that it replaces.
fn reuse<S: Storage>(
    storage: &S,
    path: &Path,
    old: S::File,
    options: VolumeOptions,
) -> Result<Reused<S::File>, MediumError> {
    let size = options.volume_size;
    if old.is_empty().map_err(MediumError::io("look at", path))? {
        return Ok((VolumeWriter::new(old, path.to_owned(), 1, size), None));
    }
    if !options.overwrite {
        return Err(MediumError::NotEmpty {
            path: path.to_owned(),
        });
    }
    // Every new tape needs this sync at its end. It is tried while the old content still exists.
    let directory = directory_of(path);
    let synced = storage.sync_directory(directory);
    synced.map_err(MediumError::io("sync the directory", directory))?;
    if options.in_place {
        let writer = VolumeWriter::in_place(old, path.to_owned(), 1, size);
        writer.check_only_name()?;
        return Ok((writer, Some(Replaces::InPlace)));
    }
    let target = storage
        .resolve(path)
        .map_err(MediumError::io("resolve", path))?;
    check_gives_way::<S>(&target, "overwrite it in place, or write elsewhere")?;
    let new = beside(&target);
    // A writer that was killed may have left one: the lock on the old tape proves that it is dead.
    check_was_left(storage, &new)?;
    match storage.remove(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(MediumError::io("remove", &new)(error));
        }
        _ => {}
    }
    let file = match storage.create_new(&new) {
        Err(error) if is_full(&error) => return Err(no_space(&new, &error)),
        created => created.map_err(MediumError::io("create", &new))?,
    };
    let writer = VolumeWriter::new(file, new.clone(), 1, size);
    let prepared = writer.file().copy_access(&old);
    prepared.map_err(MediumError::io("set the permissions of", &new))?;
    lock_file(storage, &new, writer.file(), path)?;
    Ok((writer, Some(Replaces::Beside { old, path: target })))
}

/// Checks that a file with the hidden name, if there is one, can be a tape: it begins with the
/// length of a record or with zeros, or is too short for one.
fn check_was_left<S: Storage>(storage: &S, path: &Path) -> Result<(), MediumError> {
    let file = match storage.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(MediumError::io("open", path))?,
    };
    let mut first = [0; 4];
    let read = file.read_at(&mut first, 0);
    let read = read.map_err(MediumError::io("read", path))?;
    if read < first.len() || u32::from_le_bytes(first) as usize <= MAX_RECORD {
        return Ok(());
    }
    let what = "it is not a tape that a writer has left, and the new one needs its name; move it";
    Err(MediumError::io("replace", path)(io::Error::other(what)))
}

/// End of the hidden name.
const BESIDE: &str = ".datapipe-new";
/// Most bytes in the name of a file on the usual file systems.
const MAX_NAME: usize = 255;
/// Bytes of a long name that the hidden name has.
const MAX_KEPT: usize = 200;

/// The hidden file to which the successor of the tape at `path` is written.
fn beside(path: &Path) -> PathBuf {
    let own = path.file_name().unwrap_or_default();
    let mut name = OsString::from(".");
    if own.len() + BESIDE.len() < MAX_NAME {
        name.push(own);
    } else {
        // The checksum keeps tapes apart whose names begin in the same way.
        let bytes = own.as_bytes();
        name.push(OsStr::from_bytes(&bytes[..MAX_KEPT]));
        name.push(format!(".{:08x}", crc32fast::hash(bytes)));
    }
    name.push(BESIDE);
    path.with_file_name(name)
}

impl<S: Storage> Medium for VirtualTape<S> {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        self.write_parts(&[record])
    }

    fn write_parts(&mut self, parts: &[&[u8]]) -> Result<Position, MediumError> {
        self.writer()?.write(parts)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.writer()?.write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        match &mut self.side {
            Side::Write { writer, .. } => writer.sync(&self.storage),
            Side::Read(_) => Err(NOT_TO_WRITE),
        }
    }

    fn finish(&mut self) -> Result<(), MediumError> {
        let Side::Write {
            writer, replaces, ..
        } = &mut self.side
        else {
            return Err(NOT_TO_WRITE);
        };
        writer.finish(&self.storage)?;
        if let Some(Replaces::Beside { old, path }) = &*replaces {
            let was = old.identity().map_err(MediumError::io("look at", path))?;
            check_identity(&self.storage, path, was)?;
            let renamed = self.storage.rename(writer.path(), path);
            renamed.map_err(MediumError::io("replace", path))?;
            let path = path.clone();
            // From here on, dropping the medium must not remove the file.
            *replaces = None;
            writer.renamed(path.clone());
            let directory = directory_of(&path);
            let synced = self.storage.sync_directory(directory);
            synced.map_err(MediumError::io("sync the directory", directory))?;
        }
        *replaces = None;
        Ok(())
    }

    fn accepts_empty(&self) -> bool {
        match &self.side {
            Side::Write {
                replaces,
                allow_empty,
                ..
            } => replaces.is_none() || *allow_empty,
            Side::Read(_) => true,
        }
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        let Side::Write {
            writer, replaces, ..
        } = &mut self.side
        else {
            return Ok(false);
        };
        writer.sync(&self.storage)?;
        let what = match writer.out_of_room() {
            None => "a virtual tape has one volume; use a directory of volumes".to_owned(),
            Some(error) if matches!(replaces, Some(Replaces::Beside { .. })) => format!(
                "{}; make room, write elsewhere, or overwrite in place, which does not need \
                 room for the old content and the new",
                describe_full(error)
            ),
            Some(error) => {
                let error = describe_full(error);
                format!("{error}; make room, or write to another file system")
            }
        };
        Err(MediumError::Full {
            path: self.path.clone(),
            what,
        })
    }

    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        record.clear();
        self.reader()?.read(record)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        record.clear();
        self.reader()?.read_back(record)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        let to = Position::start_of(volume.unwrap_or(1));
        self.reader_at(to)?.seek_end();
        Ok(())
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        self.reader_at(to)?.seek(to)
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        let (writer, replaces, allow_empty) = match &self.side {
            Side::Write { writer, .. } if !writer.is_untouched() => {
                return Err(HandleError::Written);
            }
            Side::Write {
                writer,
                replaces,
                allow_empty,
            } => (writer, replaces, *allow_empty),
            Side::Read(reader) => {
                return Ok(MediumHandle {
                    origin: Origin::Files {
                        form: Form::Tape,
                        path: self.path.clone(),
                        volume_size: None,
                        replacing: None,
                        allow_empty: true,
                    },
                    descriptors: self
                        .given
                        .share(self.storage.descriptors(Some(reader.file()), None)?),
                });
            }
        };
        let (replacing, path, lock) = match replaces {
            None => (None, &self.path, writer.file()),
            Some(Replaces::InPlace) => (Some(Replacing::InPlace), &self.path, writer.file()),
            Some(Replaces::Beside { old, path }) => (Some(Replacing::Beside), path, old),
        };
        let directory = directory_of(path);
        let mut descriptors = self
            .storage
            .descriptors(Some(writer.file()), Some(directory))?;
        descriptors.extend(self.storage.descriptors(Some(lock), None)?);
        Ok(MediumHandle {
            origin: Origin::Files {
                form: Form::Tape,
                path: path.clone(),
                volume_size: writer.limit(),
                replacing,
                allow_empty,
            },
            descriptors: self.given.share(descriptors),
        })
    }
}

impl<S: Storage> Drop for VirtualTape<S> {
    /// Removes what was written beside a tape and did not take its place.
    fn drop(&mut self) {
        if let Side::Write {
            writer,
            replaces: Some(Replaces::Beside { .. }),
            ..
        } = &self.side
            && !(writer.is_untouched() && self.given.is_given())
            && writer.has_name(&self.storage)
        {
            // If it stays, the next writer removes it.
            let _ = self.storage.remove(writer.path());
        }
    }
}

/// The error of a write to a tape that is open to read.
const NOT_TO_WRITE: MediumError = MediumError::WrongDirection {
    doing: "write",
    open_to: "read",
};
