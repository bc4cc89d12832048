//! A medium in one file, which is one volume.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::limits::MAX_RECORD;
use crate::wire::looks_like_record;
use crate::words::describe_full;

use super::append::go_on;
use super::chain::{
    ChainReader, ChainWriter, ReadShelf, WriteShelf, forward_reader, forward_writer,
};
use super::dir_storage::DirStorage;
use super::medium_handle::VolumeEnd;
use super::reader::VolumeReader;
use super::volume_files::check_not_a_volume;
use super::writer::{
    VolumeWriter, cannot_open, check_gives_way, check_identity, directory_of, is_full, lock_file,
    no_space,
};
use super::{
    Abilities, FileSystem, Form, GivenAway, HandleError, Item, MediumError, MediumHandle,
    MediumReader, MediumWriter, Origin, Position, Probe, Replacing, Storage, StorageFile, VolumeId,
    VolumeOptions,
};

/// A medium of one volume: a file of any name.
///
/// A tape that replaces another is written to the hidden file `.NAME.datapipe-new` beside it (a
/// long NAME is cut), with the owner and the permissions of the old one, and gets the name when it
/// is finished.
#[derive(Debug)]
#[non_exhaustive]
pub struct VirtualTape;

/// A [`VirtualTape`] that is open to write.
#[derive(Debug)]
pub struct TapeWriter<S: Storage = FileSystem>(ChainWriter<TapeToWrite<S>>);

/// A [`VirtualTape`] that is open to read.
#[derive(Debug)]
pub struct TapeReader<S: Storage = FileSystem>(ChainReader<TapeToRead<S>>);

forward_writer!(TapeWriter);
forward_reader!(TapeReader);

/// The file of a tape that is written.
#[derive(Debug)]
struct TapeToWrite<S: Storage> {
    storage: S,
    path: PathBuf,
    replaces: Option<Replaces<S::File>>,
    options: VolumeOptions,
    /// The tape had content, after which it is written.
    appends: bool,
    given: GivenAway,
}

/// The file of a tape that is read.
#[derive(Debug)]
struct TapeToRead<S: Storage> {
    storage: S,
    path: PathBuf,
    probe: Probe,
    given: GivenAway,
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
    /// Creates a tape. One that has content stays until this one is
    /// [finished](super::MediumWriter::finish), or until the first write
    /// [in place](field@VolumeOptions::in_place).
    ///
    /// A file that exists is refused if another user may have put it there: in a directory in which
    /// several users may create files, the file, or a link to it, must belong to root, to the user
    /// of this process, or to the owner of the directory.
    ///
    /// # Errors
    ///
    /// [`MediumError::InUse`] if it is being written, [`MediumError::NotEmpty`] if it has content
    /// and the options do not allow overwriting, [`MediumError::OtherNames`] if it cannot be
    /// overwritten in place, [`MediumError::VolumeTooSmall`], [`MediumError::TextTooLong`],
    /// [`MediumError::Full`] and [`MediumError::Io`].
    pub fn create(
        path: impl Into<PathBuf>,
        options: VolumeOptions,
    ) -> Result<TapeWriter, MediumError> {
        Self::create_on(FileSystem, path, options)
    }

    /// As [`create`](Self::create), on another storage.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_on<S: Storage>(
        storage: S,
        path: impl Into<PathBuf>,
        options: VolumeOptions,
    ) -> Result<TapeWriter<S>, MediumError> {
        let path = path.into();
        options.check()?;
        check_not_a_volume(&storage, &path)?;
        let file = lock_tape(&storage, &path)?;
        let (writer, replaces) = reuse(&storage, &path, file, &options)?;
        Ok(TapeWriter::of(
            storage,
            path,
            options,
            (writer, replaces),
            false,
        ))
    }

    /// Opens a tape to write after everything that it has; one that does not exist is created. No
    /// byte that was written is changed.
    ///
    /// A torn frame at the end, which a writer that was stopped has left, is removed by the first
    /// write, which also adds the marks that an unfinished writer did not write: two precede
    /// the new items. Damage is kept. The options' label, pool and size are those of the new
    /// tape, if there is none yet; the size is also the limit of one that exists. The hidden file
    /// of a writer that was killed while it replaced the tape is removed.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), except [`MediumError::NotEmpty`];
    /// [`MediumError::CannotAppend`] if the end of its content is not where it can be continued,
    /// and [`MediumError::Full`] if there is no room for a label of 4 KiB.
    pub fn append(
        path: impl Into<PathBuf>,
        options: VolumeOptions,
    ) -> Result<TapeWriter, MediumError> {
        Self::append_on(FileSystem, path, options, looks_like_record)
    }

    /// As [`append`](Self::append), on another storage, to records that `probe` recognises.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_on<S: Storage>(
        storage: S,
        path: impl Into<PathBuf>,
        options: VolumeOptions,
        probe: Probe,
    ) -> Result<TapeWriter<S>, MediumError> {
        let path = path.into();
        options.check()?;
        check_not_a_volume(&storage, &path)?;
        let file = lock_tape(&storage, &path)?;
        let known = go_on(&storage, &path, file, ([0; 16], 1), options, probe)?;
        if !known.has_room() {
            let what = "the tape has reached its size; write to another one, or raise the size";
            return Err(MediumError::Full {
                path,
                what: what.to_owned(),
            });
        }
        let appends = known.writer.has_content();
        if appends {
            // It is in no way of this writer. Where it cannot be removed, or is not a tape, it
            // stays.
            let resolved = storage.resolve(&path).ok();
            let _ = resolved.map(|target| remove_left(&storage, &beside(&target)));
        }
        let writer = (known.writer, None);
        Ok(TapeWriter::of(
            storage,
            path,
            known.options,
            writer,
            appends,
        ))
    }

    /// Opens a tape of this library's records to read, at its start.
    ///
    /// # Errors
    ///
    /// [`MediumError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<TapeReader, MediumError> {
        Self::open_with_probe(path, looks_like_record)
    }

    /// As [`open`](Self::open), for records that another program wrote, which `probe` recognises.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with_probe(
        path: impl Into<PathBuf>,
        probe: Probe,
    ) -> Result<TapeReader, MediumError> {
        Self::open_on(FileSystem, path, probe)
    }

    /// As [`open_with_probe`](Self::open_with_probe), on another storage.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_on<S: Storage>(
        storage: S,
        path: impl Into<PathBuf>,
        probe: Probe,
    ) -> Result<TapeReader<S>, MediumError> {
        let mut shelf = TapeToRead {
            storage,
            path: path.into(),
            probe,
            given: GivenAway::default(),
        };
        let volume = shelf.open(1)?;
        Ok(TapeReader(ChainReader::new(shelf, Some(volume))))
    }

    /// Reopens a tape that another process has open to read.
    pub(super) fn from_descriptors_to_read(
        path: PathBuf,
        file: File,
        probe: Probe,
    ) -> Result<TapeReader, MediumError> {
        let volume = VolumeReader::new(file, path.clone(), 1, probe)?;
        let shelf = TapeToRead {
            storage: FileSystem,
            path,
            probe,
            given: GivenAway::default(),
        };
        Ok(TapeReader(ChainReader::new(shelf, Some(volume))))
    }

    /// Reopens a tape that another process has opened to append, and not written to.
    pub(super) fn from_descriptor_to_append(
        storage: DirStorage,
        path: PathBuf,
        file: File,
        options: VolumeOptions,
        end: VolumeEnd,
    ) -> Result<TapeWriter<DirStorage>, MediumError> {
        let writer = VolumeWriter::continued(file, path.clone(), &options, end)?;
        Ok(TapeWriter::of(storage, path, options, (writer, None), true))
    }

    /// Reopens a tape that another process has created, and not written to. `lock` is the tape that
    /// it replaces, or the tape itself.
    pub(super) fn from_descriptors_to_write(
        storage: DirStorage,
        path: PathBuf,
        [file, lock]: [File; 2],
        options: VolumeOptions,
        replacing: Option<Replacing>,
    ) -> Result<TapeWriter<DirStorage>, MediumError> {
        let record = options.new_record([0; 16], 1)?;
        let writer = |file, path| VolumeWriter::new(file, path, 1, &options, &record);
        let (writer, replaces) = match replacing {
            None => (writer(file, path.clone()), None),
            Some(Replacing::InPlace) => (
                writer(file, path.clone()).in_place(),
                Some(Replaces::InPlace),
            ),
            Some(Replacing::Beside) => (
                writer(file, beside(&path)),
                Some(Replaces::Beside {
                    old: lock,
                    path: path.clone(),
                }),
            ),
        };
        Ok(TapeWriter::of(
            storage,
            path,
            options,
            (writer, replaces),
            false,
        ))
    }
}

impl<S: Storage> TapeWriter<S> {
    fn of(
        storage: S,
        path: PathBuf,
        options: VolumeOptions,
        (writer, replaces): (VolumeWriter<S::File>, Option<Replaces<S::File>>),
        appends: bool,
    ) -> Self {
        let shelf = TapeToWrite {
            storage,
            path,
            replaces,
            options,
            appends,
            given: GivenAway::default(),
        };
        Self(ChainWriter::new(shelf, writer))
    }

    /// Path of the file to which this tape is written, if that is not its own yet: the hidden file
    /// beside the tape that it replaces.
    pub fn written_beside(&self) -> Option<&Path> {
        match &self.0.shelf().replaces {
            Some(Replaces::Beside { .. }) => Some(self.0.volume().path()),
            _ => None,
        }
    }
}

/// Opens and locks the file of a tape, and creates it if there is none. Also one that was created
/// here may have content: another writer can have found it empty before it was locked, and have
/// finished.
fn lock_tape<S: Storage>(storage: &S, path: &Path) -> Result<S::File, MediumError> {
    loop {
        let file = match storage.create_new(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                storage.open_to_write(path).map_err(cannot_open(path))?
            }
            Err(error) if is_full(&error) => return Err(no_space(path, &error)),
            created => created.map_err(MediumError::io("create", path))?,
        };
        // Another writer may have replaced the file that was opened.
        if lock_file(storage, path, &file, path)? {
            return Ok(file);
        }
    }
}

/// The writer of a tape, and the old content that it replaces.
type Reused<F> = (VolumeWriter<F>, Option<Replaces<F>>);

/// The writer to a tape that is locked, and the content that it replaces.
fn reuse<S: Storage>(
    storage: &S,
    path: &Path,
    old: S::File,
    options: &VolumeOptions,
) -> Result<Reused<S::File>, MediumError> {
    let record = options.new_record([0; 16], 1)?;
    let writer = |file, path| VolumeWriter::new(file, path, 1, options, &record);
    if old.is_empty().map_err(MediumError::io("look at", path))? {
        return Ok((writer(old, path.to_owned()), None));
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
        let writer = writer(old, path.to_owned()).in_place();
        writer.check_only_name()?;
        return Ok((writer, Some(Replaces::InPlace)));
    }
    let target = storage
        .resolve(path)
        .map_err(MediumError::io("resolve", path))?;
    check_gives_way::<S>(&target, "overwrite it in place, or write elsewhere")?;
    let new = beside(&target);
    remove_left(storage, &new)?;
    let file = match storage.create_new(&new) {
        Err(error) if is_full(&error) => return Err(no_space(&new, &error)),
        created => created.map_err(MediumError::io("create", &new))?,
    };
    let writer = writer(file, new.clone());
    let prepared = writer.file().copy_access(&old);
    prepared.map_err(MediumError::io("set the permissions of", &new))?;
    lock_file(storage, &new, writer.file(), path)?;
    Ok((writer, Some(Replaces::Beside { old, path: target })))
}

/// Removes the hidden file that a writer may have left which was killed: the lock on the old tape,
/// which the caller has, proves that it is dead.
fn remove_left<S: Storage>(storage: &S, new: &Path) -> Result<(), MediumError> {
    check_was_left(storage, new)?;
    match storage.remove(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(MediumError::io("remove", new)(error))
        }
        _ => Ok(()),
    }
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

impl<S: Storage> WriteShelf for TapeToWrite<S> {
    type Volume = VolumeWriter<S::File>;

    fn prepare(&mut self, _: &mut Self::Volume) -> Result<(), MediumError> {
        Ok(())
    }

    fn sync(&mut self, volume: &mut Self::Volume) -> Result<(), MediumError> {
        volume.sync(&self.storage)
    }

    fn next(&mut self, volume: &Self::Volume) -> Result<Self::Volume, MediumError> {
        let what = match volume.out_of_room() {
            None => "a virtual tape has one volume; use a directory of volumes".to_owned(),
            Some(error) if matches!(self.replaces, Some(Replaces::Beside { .. })) => format!(
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

    fn finish(&mut self, volume: &mut Self::Volume) -> Result<(), MediumError> {
        volume.finish(&self.storage)?;
        if let Some(Replaces::Beside { old, path }) = &self.replaces {
            let was = old.identity().map_err(MediumError::io("look at", path))?;
            check_identity(&self.storage, path, was)?;
            let renamed = self.storage.rename(volume.path(), path);
            renamed.map_err(MediumError::io("replace", path))?;
            let path = path.clone();
            // From here on, dropping the medium must not remove the file.
            self.replaces = None;
            volume.renamed(path.clone());
            let directory = directory_of(&path);
            let synced = self.storage.sync_directory(directory);
            synced.map_err(MediumError::io("sync the directory", directory))?;
        }
        self.replaces = None;
        Ok(())
    }

    fn accepts_empty(&self) -> bool {
        self.replaces.is_none() || self.options.allow_empty
    }

    fn handle(&self, volume: &Self::Volume) -> Result<MediumHandle, HandleError> {
        if !volume.is_as_opened() {
            return Err(HandleError::Written);
        }
        let continued = self.appends.then(|| volume.end([0; 16]));
        let (replacing, path, lock) = match &self.replaces {
            None => (None, &self.path, volume.file()),
            Some(Replaces::InPlace) => (Some(Replacing::InPlace), &self.path, volume.file()),
            Some(Replaces::Beside { old, path }) => (Some(Replacing::Beside), path, old),
        };
        let directory = directory_of(path);
        let mut descriptors = self
            .storage
            .descriptors(Some(volume.file()), Some(directory))?;
        descriptors.extend(self.storage.descriptors(Some(lock), None)?);
        Ok(MediumHandle {
            origin: Origin::Files {
                form: Form::Tape,
                path: path.clone(),
                options: self.options.clone(),
                replacing,
                continued,
            },
            descriptors: self.given.share(descriptors),
        })
    }

    fn close(&mut self, volume: &Self::Volume) {
        if matches!(self.replaces, Some(Replaces::Beside { .. }))
            && !(volume.is_as_opened() && self.given.is_given())
            && volume.has_name(&self.storage)
        {
            // If it stays, the next writer removes it.
            let _ = self.storage.remove(volume.path());
        }
    }
}

impl<S: Storage> ReadShelf for TapeToRead<S> {
    type Volume = VolumeReader<S::File>;

    fn path(&self) -> &Path {
        &self.path
    }

    fn last(&self) -> u32 {
        1
    }

    fn open(&mut self, number: u32) -> Result<Self::Volume, MediumError> {
        let file = self.storage.open(&self.path);
        let file = file.map_err(MediumError::io("open", &self.path))?;
        VolumeReader::new(file, self.path.clone(), number, self.probe)
    }

    fn handle(&self, volume: Option<&Self::Volume>) -> Result<MediumHandle, HandleError> {
        let descriptors = self
            .storage
            .descriptors(volume.map(VolumeReader::file), None)?;
        Ok(MediumHandle {
            origin: Origin::to_read(Form::Tape, &self.path),
            descriptors: self.given.share(descriptors),
        })
    }
}
