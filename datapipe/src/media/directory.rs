//! A medium in a directory, whose files are the volumes.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::limits::MAX_VOLUMES;
use crate::wire::looks_like_record;

use super::dir_storage::DirStorage;
use super::reader::VolumeReader;
use super::volume_files::{
    Volumes, begin_in_place, check_switch, create_directory, file_of, lock_directory, remove_lock,
    remove_volumes, settle, switch,
};
use super::volume_labels::find_by_label;
use super::writer::{VolumeWriter, check_identity, check_size, is_full, lock_file, no_space};
use super::{
    FileSystem, Form, GivenAway, HandleError, Item, Medium, MediumError, MediumHandle, Origin,
    Position, Probe, Replacing, Storage, StorageFile, VolumeOptions,
};

/// A medium of many volumes: the files `000001.tap`, `000002.tap` and so on of one directory.
///
/// It does not touch other files in the directory. A record is always within one volume. Volumes of
/// this library that have exchanged their names are read by their labels
/// ([`misnamed_volumes`](super::misnamed_volumes)).
///
/// While it is written, the directory has the file `.datapipe-lock`. Volumes that are to replace
/// others are called `000001.tap.new` and so on until the medium is finished.
#[derive(Debug)]
pub struct VolumeDirectory<S: Storage = FileSystem> {
    storage: S,
    path: PathBuf,
    side: Side<S>,
    given: GivenAway,
}

#[derive(Debug)]
enum Side<S: Storage> {
    Write(Writing<S::File>),
    Read {
        /// `None` while no volume is open: before the first read, and at a missing volume.
        reader: Option<VolumeReader<S::File>>,
        /// The current volume, open or missing.
        volume: u32,
        /// The highest number among the volumes.
        last: u32,
        /// A switch to new volumes has begun: those not renamed yet come before the old ones.
        switching: bool,
        probe: Probe,
    },
}

/// A directory that is open to write.
#[derive(Debug)]
struct Writing<F> {
    writer: VolumeWriter<F>,
    volume_size: Option<u64>,
    /// Old volumes that are still there, and that the new ones replace.
    replacing: Option<Replacing>,
    /// The switch to the new volumes was begun, and may have been taken in part.
    switching: bool,
    allow_empty: bool,
    /// Identities of the volumes so far, the current one included.
    written: Vec<(u64, u64)>,
    /// The file with the lock, if the storage has locks.
    lock: Option<F>,
}

impl VolumeDirectory {
    /// Creates the directory if it does not exist, and begins volume 1. Old volumes stay until the
    /// medium is [finished](Medium::finish), or until the first write
    /// [in place](field@VolumeOptions::in_place).
    ///
    /// If an earlier writer has begun to replace volumes, and was stopped, that is completed first.
    /// It is refused if another user may have begun it: in a directory in which several users may
    /// create files, by the rule of [`VirtualTape::create`](super::VirtualTape::create).
    ///
    /// # Errors
    ///
    /// [`MediumError::InUse`] if it is being written, [`MediumError::NotEmpty`] if there
    /// are volumes, at least one of them with content, and the options do not allow overwriting,
    /// [`MediumError::VolumeTooSmall`], [`MediumError::Full`] and [`MediumError::Io`].
    pub fn create(path: impl Into<PathBuf>, options: VolumeOptions) -> Result<Self, MediumError> {
        Self::create_on(FileSystem, path, options)
    }

    /// Opens a directory with volumes of this library's records to read, at the start of volume 1.
    ///
    /// # Errors
    ///
    /// [`MediumError::NoVolumes`] if there are none, and [`MediumError::Io`]. A missing volume is
    /// reported only by the call that would read it.
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
}

impl VolumeDirectory<DirStorage> {
    /// Reopens a directory in which another process has created volume 1.
    pub(super) fn from_descriptors_to_write(
        storage: DirStorage,
        path: PathBuf,
        [file, lock]: [File; 2],
        options: VolumeOptions,
        replacing: Option<Replacing>,
    ) -> Result<Self, MediumError> {
        let name = file_of(&path, 1, replacing.is_some());
        let identity = StorageFile::identity(&file).map_err(MediumError::io("look at", &name))?;
        let side = Side::Write(Writing {
            writer: VolumeWriter::new(file, name, 1, options.volume_size),
            volume_size: options.volume_size,
            replacing,
            switching: false,
            allow_empty: options.allow_empty,
            written: vec![identity],
            lock: Some(lock),
        });
        Ok(Self {
            storage,
            path,
            side,
            given: GivenAway::default(),
        })
    }
}

impl<S: Storage> VolumeDirectory<S> {
    /// As [`VolumeDirectory::create`], on another storage.
    ///
    /// # Errors
    ///
    /// As [`VolumeDirectory::create`].
    pub fn create_on(
        storage: S,
        path: impl Into<PathBuf>,
        options: VolumeOptions,
    ) -> Result<Self, MediumError> {
        let path = path.into();
        check_size(options.volume_size)?;
        create_directory(&storage, &path)?;
        let lock = lock_directory(&storage, &path)?;
        match begin_medium(&storage, &path, options) {
            Ok((writer, identity, replacing)) => Ok(Self {
                storage,
                path,
                given: GivenAway::default(),
                side: Side::Write(Writing {
                    writer,
                    volume_size: options.volume_size,
                    replacing,
                    switching: false,
                    allow_empty: options.allow_empty,
                    written: vec![identity],
                    lock,
                }),
            }),
            Err(error) => {
                lock.iter()
                    .for_each(|lock| remove_lock(&storage, &path, lock));
                Err(error)
            }
        }
    }

    /// As [`VolumeDirectory::open_with_probe`], on another storage.
    ///
    /// # Errors
    ///
    /// As [`VolumeDirectory::open`].
    pub fn open_on(
        storage: S,
        path: impl Into<PathBuf>,
        probe: Probe,
    ) -> Result<Self, MediumError> {
        let path = path.into();
        let volumes = Volumes::list(&storage, &path)?;
        check_switch::<S>(&path, &volumes)?;
        let Some(last) = volumes.last() else {
            return Err(MediumError::NoVolumes { path });
        };
        let switching = volumes.switch.is_some();
        Ok(Self {
            storage,
            path,
            side: Side::Read {
                reader: None,
                volume: 1,
                last,
                switching,
                probe,
            },
            given: GivenAway::default(),
        })
    }
}

impl<S: Storage> Medium for VolumeDirectory<S> {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        self.write_parts(&[record])
    }

    fn write_parts(&mut self, parts: &[&[u8]]) -> Result<Position, MediumError> {
        let written = self.begun("write")?.write(parts);
        written.map_err(|error| self.advise(error))
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.begun("write")?.write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        let Side::Write(writing) = &mut self.side else {
            return Err(NOT_TO_WRITE);
        };
        writing.writer.sync(&self.storage)
    }

    fn finish(&mut self) -> Result<(), MediumError> {
        self.begun("write")?;
        let Side::Write(writing) = &mut self.side else {
            return Err(NOT_TO_WRITE);
        };
        writing.writer.finish(&self.storage)?;
        let is_new = writing.replacing.is_some();
        for (volume, identity) in (1..).zip(&writing.written) {
            check_identity(
                &self.storage,
                &file_of(&self.path, volume, is_new),
                *identity,
            )?;
        }
        if is_new {
            let last = writing.writer.volume();
            writing.switching = true;
            switch(&self.storage, &self.path, last)?;
            writing.replacing = None;
            writing.writer.renamed(file_of(&self.path, last, false));
        }
        Ok(())
    }

    fn accepts_empty(&self) -> bool {
        match &self.side {
            Side::Write(writing) => writing.replacing.is_none() || writing.allow_empty,
            Side::Read { .. } => true,
        }
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        match &mut self.side {
            Side::Write(writing) => {
                writing.writer.sync(&self.storage)?;
                let next = writing.writer.volume() + 1;
                let file = file_of(&self.path, next, writing.replacing.is_some());
                let begun = begin(&self.storage, &self.path, file, next, writing.volume_size);
                let (mut writer, identity) = match begun {
                    Err(error) => return Err(self.advise(error)),
                    Ok(begun) => begun,
                };
                writer.set_after_full(writing.writer.out_of_room().is_some());
                writing.writer = writer;
                writing.written.push(identity);
                Ok(true)
            }
            Side::Read { volume, last, .. } if *volume >= *last => Ok(false),
            Side::Read {
                reader,
                volume,
                last,
                switching,
                probe,
            } => {
                // Before the volume is opened: if it is missing, the next call goes past it.
                *volume += 1;
                *reader = None;
                let files = (&*self.path, *volume, *switching);
                *reader = Some(open(&self.storage, files, *last, *probe)?);
                Ok(true)
            }
        }
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
        let Side::Read { last, .. } = &self.side else {
            return Err(MediumError::NOT_TO_READ);
        };
        let volume = volume.unwrap_or(*last);
        self.seek(Position::start_of(volume))?;
        self.reader()?.seek_end();
        Ok(())
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        let Side::Read {
            reader,
            volume,
            last,
            switching,
            probe,
        } = &mut self.side
        else {
            return Err(MediumError::NOT_TO_READ);
        };
        if to.volume == 0 || to.volume > *last {
            let what = format!("it has volumes 1 to {last}");
            return Err(MediumError::NoSuchPosition {
                path: self.path.clone(),
                to,
                what,
            });
        }
        if let Some(reader) = reader
            && reader.volume() == to.volume
        {
            return reader.seek(to);
        }
        let files = (&*self.path, to.volume, *switching);
        let mut opened = open(&self.storage, files, *last, *probe)?;
        opened.seek(to)?;
        (*reader, *volume) = (Some(opened), to.volume);
        Ok(())
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        let Side::Write(writing) = &self.side else {
            return Ok(MediumHandle {
                origin: Origin::Files {
                    form: Form::Directory,
                    path: self.path.clone(),
                    volume_size: None,
                    replacing: None,
                    allow_empty: true,
                },
                descriptors: self
                    .given
                    .share(self.storage.descriptors(None, Some(&self.path))?),
            });
        };
        if !writing.writer.is_untouched() {
            return Err(HandleError::Written);
        }
        let file = writing.writer.file();
        let mut descriptors = self.storage.descriptors(Some(file), Some(&self.path))?;
        let lock = writing.lock.as_ref().unwrap_or(file);
        descriptors.extend(self.storage.descriptors(Some(lock), None)?);
        Ok(MediumHandle {
            origin: Origin::Files {
                form: Form::Directory,
                path: self.path.clone(),
                volume_size: writing.volume_size,
                replacing: writing.replacing,
                allow_empty: writing.allow_empty,
            },
            descriptors: self.given.share(descriptors),
        })
    }
}

impl<S: Storage> VolumeDirectory<S> {
    /// The writer, for the operation `doing`. The first call removes the old volumes if this medium
    /// is written in their place.
    fn begun(&mut self, doing: &'static str) -> Result<&mut VolumeWriter<S::File>, MediumError> {
        let Side::Write(writing) = &mut self.side else {
            return Err(MediumError::WrongDirection {
                doing,
                open_to: "read",
            });
        };
        if writing.replacing == Some(Replacing::InPlace) {
            begin_in_place(&self.storage, &self.path)?;
            writing.writer.renamed(file_of(&self.path, 1, false));
            writing.replacing = None;
        }
        Ok(&mut writing.writer)
    }

    /// Adds the remedy that takes no room to the error of new volumes that have none beside the old
    /// ones.
    fn advise(&self, error: MediumError) -> MediumError {
        match (&self.side, error) {
            (Side::Write(writing), MediumError::Full { path, what })
                if writing.replacing == Some(Replacing::Beside) =>
            {
                let what = format!(
                    "{what}, or overwrite in place, which does not need room for the old volumes \
                     and the new"
                );
                MediumError::Full { path, what }
            }
            (_, error) => error,
        }
    }

    /// The reader of the current volume, which is opened first if necessary.
    fn reader(&mut self) -> Result<&mut VolumeReader<S::File>, MediumError> {
        match &mut self.side {
            Side::Write { .. } => Err(MediumError::NOT_TO_READ),
            Side::Read {
                reader: Some(reader),
                ..
            } => Ok(reader),
            Side::Read {
                reader,
                volume,
                last,
                switching,
                probe,
            } => {
                let files = (&*self.path, *volume, *switching);
                let opened = open(&self.storage, files, *last, *probe)?;
                Ok(reader.insert(opened))
            }
        }
    }
}

impl<S: Storage> Drop for VolumeDirectory<S> {
    /// Removes new volumes that did not replace the old ones, and the file of the lock.
    fn drop(&mut self) {
        let Side::Write(writing) = &self.side else {
            return;
        };
        if writing.writer.is_untouched() && self.given.is_given() {
            return;
        }
        if writing.replacing.is_some() && !writing.switching {
            for (volume, _) in (1..).zip(&writing.written) {
                // What stays is removed by the next writer.
                let _ = self.storage.remove(&file_of(&self.path, volume, true));
            }
        }
        if let Some(lock) = &writing.lock {
            remove_lock(&self.storage, &self.path, lock);
        }
    }
}

/// The error of a write to a directory that is open to read.
const NOT_TO_WRITE: MediumError = MediumError::WrongDirection {
    doing: "write",
    open_to: "read",
};

/// The writer of the first volume, its identity, and the way in which old volumes are replaced.
type Begun<F> = (VolumeWriter<F>, (u64, u64), Option<Replacing>);

/// Creates the file of the first volume in a directory that is locked.
fn begin_medium<S: Storage>(
    storage: &S,
    path: &Path,
    options: VolumeOptions,
) -> Result<Begun<S::File>, MediumError> {
    let mut old = settle(storage, path)?.current;
    if are_empty(storage, path, &old)? {
        // A writer that was stopped before its first record left them.
        remove_volumes(storage, path, &old)?;
        old.clear();
    }
    if let Some(first) = old.first()
        && !options.overwrite
    {
        return Err(MediumError::NotEmpty {
            path: file_of(path, *first, false),
        });
    }
    let replacing = match (old.is_empty(), options.in_place) {
        (true, _) => None,
        (false, true) => Some(Replacing::InPlace),
        (false, false) => Some(Replacing::Beside),
    };
    let file = file_of(path, 1, replacing.is_some());
    let (writer, identity) = begin(storage, path, file, 1, options.volume_size)?;
    Ok((writer, identity, replacing))
}

/// True if no volume has a byte. A file that cannot be opened to write has content for all we know.
fn are_empty<S: Storage>(storage: &S, path: &Path, volumes: &[u32]) -> Result<bool, MediumError> {
    for volume in volumes {
        let file = file_of(path, *volume, false);
        match storage.open_to_write(&file) {
            Ok(opened)
                if opened
                    .is_empty()
                    .map_err(MediumError::io("look at", &file))? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// The writer of a volume, and the identity of its file.
type BegunVolume<F> = (VolumeWriter<F>, (u64, u64));

/// Creates the file of a volume. Returns its writer and its identity.
fn begin<S: Storage>(
    storage: &S,
    path: &Path,
    file: PathBuf,
    volume: u32,
    limit: Option<u64>,
) -> Result<BegunVolume<S::File>, MediumError> {
    if volume > MAX_VOLUMES {
        let what = format!(
            "it has {MAX_VOLUMES} volumes, which is the most; continue in another directory"
        );
        return Err(MediumError::Full {
            path: path.to_owned(),
            what,
        });
    }
    match storage.create_new(&file) {
        Ok(opened) => {
            // Against a writer that takes the volume for a tape.
            lock_file(storage, &file, &opened, path)?;
            let identity = opened.identity();
            let identity = identity.map_err(MediumError::io("look at", &file))?;
            Ok((VolumeWriter::new(opened, file, volume, limit), identity))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(MediumError::NotEmpty { path: file })
        }
        Err(error) if is_full(&error) => Err(no_space(&file, &error)),
        Err(error) => Err(MediumError::io("create", &file)(error)),
    }
}

/// Opens the file of a volume to read. `last` is the highest number among the volumes.
fn open<S: Storage>(
    storage: &S,
    (path, volume, switching): (&Path, u32, bool),
    last: u32,
    probe: Probe,
) -> Result<VolumeReader<S::File>, MediumError> {
    let mut file = file_of(path, volume, switching);
    let mut opened = storage.open(&file);
    if switching && matches!(&opened, Err(error) if error.kind() == ErrorKind::NotFound) {
        // It has its name already.
        file = file_of(path, volume, false);
        opened = storage.open(&file);
    }
    match opened {
        Ok(opened) => {
            let by_label = match switching {
                true => None,
                false => find_by_label(storage, path, volume, &opened),
            };
            let (file, opened) = by_label.unwrap_or((file, opened));
            VolumeReader::new(opened, file, volume, probe)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(MediumError::MissingVolume {
            path: file,
            volume,
            last,
        }),
        Err(error) => Err(MediumError::io("open", &file)(error)),
    }
}
