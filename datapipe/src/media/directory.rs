//! A medium in a directory, whose files are the volumes.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::limits::MAX_VOLUMES;
use crate::wire::looks_like_record;

use super::append::{check_is_in_place, go_on};
use super::chain::{
    ChainReader, ChainWriter, ReadShelf, WriteShelf, WriteVolume as _, forward_reader,
    forward_writer,
};
use super::dir_storage::DirStorage;
use super::medium_handle::VolumeEnd;
use super::reader::VolumeReader;
use super::volume_files::{
    Volumes, begin_in_place, check_switch, create_directory, file_of, lock_directory, remove_lock,
    remove_volumes, settle, switch,
};
use super::volume_labels::{VolumeLabels, find_by_label};
use super::volume_options::new_id;
use super::volume_start::VolumeStart;
use super::writer::{VolumeWriter, cannot_open, check_identity, is_full, lock_file, no_space};
use super::{
    Abilities, FileSystem, Form, GivenAway, HandleError, Item, MediumError, MediumHandle,
    MediumReader, MediumWriter, Origin, Position, Probe, Replacing, Storage, StorageFile, VolumeId,
    VolumeOptions,
};

/// A medium of many volumes: the files `000001.tap`, `000002.tap` and so on of one directory.
///
/// It does not touch other files in the directory. A record is always within one volume. Volumes of
/// this library that have exchanged their names are read by their records and labels
/// ([`misnamed_volumes`](super::misnamed_volumes)).
///
/// While it is written, the directory has the file `.datapipe-lock`. Volumes that are to replace
/// others are called `000001.tap.new` and so on until the medium is finished.
#[derive(Debug)]
#[non_exhaustive]
pub struct VolumeDirectory;

/// A [`VolumeDirectory`] that is open to write.
#[derive(Debug)]
pub struct DirectoryWriter<S: Storage = FileSystem>(ChainWriter<DirectoryToWrite<S>>);

/// A [`VolumeDirectory`] that is open to read.
#[derive(Debug)]
pub struct DirectoryReader<S: Storage = FileSystem>(ChainReader<DirectoryToRead<S>>);

forward_writer!(DirectoryWriter);
forward_reader!(DirectoryReader);

/// The volumes of a directory that is written.
#[derive(Debug)]
struct DirectoryToWrite<S: Storage> {
    storage: S,
    path: PathBuf,
    options: VolumeOptions,
    /// Id of the medium, which each of its volumes gets.
    medium: [u8; 16],
    /// Old volumes that are still there, and that the new ones replace.
    replacing: Option<Replacing>,
    /// The switch to the new volumes was begun, and may have been taken in part.
    switching: bool,
    /// The first volume had content, after which it is written.
    appends: bool,
    /// Number of the first volume that was written to.
    first: u32,
    /// Identities of the volumes from that one on, the current one included.
    written: Vec<(u64, u64)>,
    /// The file with the lock, if the storage has locks.
    lock: Option<S::File>,
    given: GivenAway,
}

/// The volumes of a directory that is read.
#[derive(Debug)]
struct DirectoryToRead<S: Storage> {
    storage: S,
    path: PathBuf,
    /// The lowest and the highest number among the volumes.
    first: u32,
    last: u32,
    /// A switch to new volumes has begun: those not renamed yet come before the old ones.
    switching: bool,
    /// Labels of the first volume, once it was looked at.
    labels: Option<VolumeLabels>,
    probe: Probe,
    given: GivenAway,
}

impl VolumeDirectory {
    /// Creates the directory if it does not exist, and begins volume 1. Old volumes stay until the
    /// medium is [finished](super::MediumWriter::finish), or until the first write
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
    /// [`MediumError::VolumeTooSmall`], [`MediumError::TextTooLong`], [`MediumError::Full`] and
    /// [`MediumError::Io`].
    pub fn create(
        path: impl Into<PathBuf>,
        options: VolumeOptions,
    ) -> Result<DirectoryWriter, MediumError> {
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
    ) -> Result<DirectoryWriter<S>, MediumError> {
        locked(storage, path.into(), options, begin_medium)
    }

    /// Opens the volumes of a directory to write after everything that they have, from the last
    /// one on; without volumes, volume 1 is begun. No byte that was written is changed.
    ///
    /// A torn frame at the end, which a writer that was stopped has left, is removed by the first
    /// write, which also adds the marks that an unfinished writer did not write: two precede
    /// the new items. Damage is kept. A last volume that has reached the size in the options is
    /// completed, and the next one begun. New volumes get pool and label of the last one, unless
    /// the options have others.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), except [`MediumError::NotEmpty`], and
    /// [`MediumError::CannotAppend`] if the end of the content is not where it can be continued.
    pub fn append(
        path: impl Into<PathBuf>,
        options: VolumeOptions,
    ) -> Result<DirectoryWriter, MediumError> {
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
    ) -> Result<DirectoryWriter<S>, MediumError> {
        let begin =
            |storage: &S, path: &Path, options| begin_to_append(storage, path, options, probe);
        locked(storage, path.into(), options, begin)
    }

    /// Opens a directory with volumes of this library's records to read, at the start of volume 1.
    ///
    /// # Errors
    ///
    /// [`MediumError::NoVolumes`] if there are none, and [`MediumError::Io`]. A missing volume is
    /// reported only by the call that would read it.
    pub fn open(path: impl Into<PathBuf>) -> Result<DirectoryReader, MediumError> {
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
    ) -> Result<DirectoryReader, MediumError> {
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
    ) -> Result<DirectoryReader<S>, MediumError> {
        let path = path.into();
        let volumes = Volumes::list(&storage, &path)?;
        check_switch::<S>(&path, &volumes)?;
        let Some(last) = volumes.last() else {
            return Err(MediumError::NoVolumes { path });
        };
        let shelf = DirectoryToRead {
            storage,
            path,
            first: volumes.current.first().copied().unwrap_or(1),
            last,
            switching: volumes.switch.is_some(),
            labels: None,
            probe,
            given: GivenAway::default(),
        };
        Ok(DirectoryReader(ChainReader::new(shelf, None)))
    }

    /// Reopens a directory that another process has opened to append, and not written to.
    pub(super) fn from_descriptors_to_append(
        storage: DirStorage,
        path: PathBuf,
        [file, lock]: [File; 2],
        options: VolumeOptions,
        end: VolumeEnd,
    ) -> Result<DirectoryWriter<DirStorage>, MediumError> {
        let (name, medium) = (file_of(&path, end.volume, false), end.medium);
        let identity = StorageFile::identity(&file).map_err(MediumError::io("look at", &name))?;
        let begun = Begun {
            volume: VolumeWriter::continued(file, name, &options, end)?,
            identity,
            medium,
            options,
            replacing: None,
            appends: true,
        };
        Ok(begun.on(storage, path, Some(lock)))
    }

    /// Reopens a directory in which another process has created volume 1.
    pub(super) fn from_descriptors_to_write(
        storage: DirStorage,
        path: PathBuf,
        [file, lock]: [File; 2],
        options: VolumeOptions,
        replacing: Option<Replacing>,
    ) -> Result<DirectoryWriter<DirStorage>, MediumError> {
        let name = file_of(&path, 1, replacing.is_some());
        let identity = StorageFile::identity(&file).map_err(MediumError::io("look at", &name))?;
        let medium = new_id()?;
        let record = options.new_record(medium, 1)?;
        let begun = Begun {
            volume: VolumeWriter::new(file, name, 1, &options, &record),
            identity,
            medium,
            options,
            replacing,
            appends: false,
        };
        Ok(begun.on(storage, path, Some(lock)))
    }
}

/// A medium whose first volume to write was begun.
struct Begun<F> {
    volume: VolumeWriter<F>,
    identity: (u64, u64),
    medium: [u8; 16],
    options: VolumeOptions,
    replacing: Option<Replacing>,
    appends: bool,
}

impl<F: StorageFile> Begun<F> {
    fn on<S: Storage<File = F>>(
        self,
        storage: S,
        path: PathBuf,
        lock: Option<F>,
    ) -> DirectoryWriter<S> {
        let shelf = DirectoryToWrite {
            storage,
            path,
            options: self.options,
            medium: self.medium,
            replacing: self.replacing,
            switching: false,
            appends: self.appends,
            first: self.volume.number(),
            written: vec![self.identity],
            lock,
            given: GivenAway::default(),
        };
        DirectoryWriter(ChainWriter::new(shelf, self.volume))
    }
}

/// Makes the directory, locks it, and begins the medium in it with `begin`.
fn locked<S: Storage>(
    storage: S,
    path: PathBuf,
    options: VolumeOptions,
    begin: impl FnOnce(&S, &Path, VolumeOptions) -> Result<Begun<S::File>, MediumError>,
) -> Result<DirectoryWriter<S>, MediumError> {
    options.check()?;
    create_directory(&storage, &path)?;
    let lock = lock_directory(&storage, &path)?;
    match begin(&storage, &path, options) {
        Ok(begun) => Ok(begun.on(storage, path, lock)),
        Err(error) => {
            lock.iter()
                .for_each(|lock| remove_lock(&storage, &path, lock));
            Err(error)
        }
    }
}

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
    let medium = new_id()?;
    let file = file_of(path, 1, replacing.is_some());
    let (volume, identity) = begin(storage, path, file, (medium, 1), &options)?;
    Ok(Begun {
        volume,
        identity,
        medium,
        options,
        replacing,
        appends: false,
    })
}

/// Opens the last volume of a directory that is locked, or begins the one after it.
fn begin_to_append<S: Storage>(
    storage: &S,
    path: &Path,
    options: VolumeOptions,
    probe: Probe,
) -> Result<Begun<S::File>, MediumError> {
    let mut volumes = settle(storage, path)?.current;
    if are_empty(storage, path, &volumes)? {
        volumes.clear();
    }
    let (Some(first), Some(number)) = (volumes.first(), volumes.last().copied()) else {
        let options = VolumeOptions {
            overwrite: false,
            ..options
        };
        return begin_medium(storage, path, options);
    };
    let first = start_of(storage, &file_of(path, *first, false))?;
    let name = file_of(path, number, false);
    let last = start_of(storage, &name)?;
    check_is_in_place(&name, number, &last, &first)?;
    // The first one may have lost its record, or have been a tape.
    let records = [&first, &last].into_iter().filter_map(VolumeStart::record);
    let mut mediums = records.map(|record| record.medium);
    let medium = mediums
        .find(|medium| *medium != [0; 16])
        .map_or_else(new_id, Ok)?;
    let file = storage.open_to_write(&name).map_err(cannot_open(&name))?;
    if !lock_file(storage, &name, &file, path)? {
        return Err(MediumError::Displaced { path: name });
    }
    let identity = file.identity();
    let identity = identity.map_err(MediumError::io("look at", &name))?;
    let mut known = go_on(storage, &name, file, (medium, number), options, probe)?;
    let (volume, identity) = match known.has_room() {
        true => (known.writer, identity),
        false => {
            known.writer.complete()?;
            known.writer.sync(storage)?;
            let next = number + 1;
            let file = file_of(path, next, false);
            begin(storage, path, file, (medium, next), &known.options)?
        }
    };
    Ok(Begun {
        volume,
        identity,
        medium,
        options: known.options,
        replacing: None,
        appends: true,
    })
}

/// Reads the start of a volume's file.
fn start_of<S: Storage>(storage: &S, file: &Path) -> Result<VolumeStart, MediumError> {
    let opened = storage.open(file).map_err(MediumError::io("open", file))?;
    VolumeStart::read(&opened).map_err(MediumError::io("read", file))
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

/// Creates the file of the volume with this number in the medium of this id. Returns its writer and
/// its identity.
fn begin<S: Storage>(
    storage: &S,
    path: &Path,
    file: PathBuf,
    (medium, number): ([u8; 16], u32),
    options: &VolumeOptions,
) -> Result<BegunVolume<S::File>, MediumError> {
    if number > MAX_VOLUMES {
        let what = format!(
            "it has {MAX_VOLUMES} volumes, which is the most; continue in another directory"
        );
        return Err(MediumError::Full {
            path: path.to_owned(),
            what,
        });
    }
    let record = options.new_record(medium, number)?;
    match storage.create_new(&file) {
        Ok(opened) => {
            // Against a writer that takes the volume for a tape.
            lock_file(storage, &file, &opened, path)?;
            let identity = opened.identity();
            let identity = identity.map_err(MediumError::io("look at", &file))?;
            let volume = VolumeWriter::new(opened, file, number, options, &record);
            Ok((volume, identity))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(MediumError::NotEmpty { path: file })
        }
        Err(error) if is_full(&error) => Err(no_space(&file, &error)),
        Err(error) => Err(MediumError::io("create", &file)(error)),
    }
}

impl<S: Storage> WriteShelf for DirectoryToWrite<S> {
    type Volume = VolumeWriter<S::File>;

    /// The first call removes the old volumes if this medium is written in their place.
    fn prepare(&mut self, volume: &mut Self::Volume) -> Result<(), MediumError> {
        if self.replacing == Some(Replacing::InPlace) {
            begin_in_place(&self.storage, &self.path)?;
            volume.renamed(file_of(&self.path, 1, false));
            self.replacing = None;
        }
        Ok(())
    }

    fn sync(&mut self, volume: &mut Self::Volume) -> Result<(), MediumError> {
        volume.sync(&self.storage)
    }

    fn next(&mut self, volume: &Self::Volume) -> Result<Self::Volume, MediumError> {
        let number = volume.number() + 1;
        let file = file_of(&self.path, number, self.replacing.is_some());
        let of = (self.medium, number);
        let (mut next, identity) = begin(&self.storage, &self.path, file, of, &self.options)?;
        next.set_after_full(volume.out_of_room().is_some());
        self.written.push(identity);
        Ok(next)
    }

    fn finish(&mut self, volume: &mut Self::Volume) -> Result<(), MediumError> {
        volume.finish(&self.storage)?;
        let is_new = self.replacing.is_some();
        for (number, identity) in (self.first..).zip(&self.written) {
            let file = file_of(&self.path, number, is_new);
            check_identity(&self.storage, &file, *identity)?;
        }
        if is_new {
            let last = volume.number();
            self.switching = true;
            switch(&self.storage, &self.path, last)?;
            self.replacing = None;
            volume.renamed(file_of(&self.path, last, false));
        }
        Ok(())
    }

    /// Adds the remedy that takes no room to the error of new volumes that have none beside the old
    /// ones.
    fn advise(&self, error: MediumError) -> MediumError {
        match error {
            MediumError::Full { path, what } if self.replacing == Some(Replacing::Beside) => {
                let what = format!(
                    "{what}, or overwrite in place, which does not need room for the old volumes \
                     and the new"
                );
                MediumError::Full { path, what }
            }
            error => error,
        }
    }

    fn accepts_empty(&self) -> bool {
        self.replacing.is_none() || self.options.allow_empty
    }

    fn handle(&self, volume: &Self::Volume) -> Result<MediumHandle, HandleError> {
        if !volume.is_as_opened() || self.written.len() > 1 {
            return Err(HandleError::Written);
        }
        let file = volume.file();
        let mut descriptors = self.storage.descriptors(Some(file), Some(&self.path))?;
        let lock = self.lock.as_ref().unwrap_or(file);
        descriptors.extend(self.storage.descriptors(Some(lock), None)?);
        Ok(MediumHandle {
            origin: Origin::Files {
                form: Form::Directory,
                path: self.path.clone(),
                options: self.options.clone(),
                replacing: self.replacing,
                continued: self.appends.then(|| volume.end(self.medium)),
            },
            descriptors: self.given.share(descriptors),
        })
    }

    /// Removes new volumes that did not replace the old ones, and the file of the lock.
    fn close(&mut self, volume: &Self::Volume) {
        if volume.is_as_opened() && self.written.len() == 1 && self.given.is_given() {
            return;
        }
        if self.replacing.is_some() && !self.switching {
            for (number, _) in (self.first..).zip(&self.written) {
                // What stays is removed by the next writer.
                let _ = self.storage.remove(&file_of(&self.path, number, true));
            }
        }
        if let Some(lock) = &self.lock {
            remove_lock(&self.storage, &self.path, lock);
        }
    }
}

impl<S: Storage> DirectoryToRead<S> {
    /// Labels of the first volume, with which those of the others are compared.
    fn labels(&mut self) -> VolumeLabels {
        let labels = self.labels.take().unwrap_or_else(|| {
            let file = self.storage.open(&file_of(&self.path, self.first, false));
            file.map_or_else(|_| VolumeLabels::default(), |file| VolumeLabels::of(&file))
        });
        self.labels = Some(labels.clone());
        labels
    }

    /// Returns the file of a volume, by its name, or by the labels if the file of that name is
    /// another volume.
    fn file(
        &mut self,
        number: u32,
        named: S::File,
        name: PathBuf,
    ) -> Result<(S::File, PathBuf), MediumError> {
        if self.switching {
            return Ok((named, name));
        }
        let (first, own) = (self.labels(), VolumeLabels::of(&named));
        let is_other = first.is_same_medium(&own) == Some(false);
        if !is_other && own.number().is_none_or(|found| found == number) {
            return Ok((named, name));
        }
        // Without a record of the first volume, the labels of the one with this name decide.
        let of = if is_other && first.has_record() {
            first
        } else {
            own.clone()
        };
        if let Some((file, opened)) = find_by_label(&self.storage, &self.path, number, &of) {
            return Ok((opened, file));
        }
        match own.foreign_to(&of) {
            None => Ok((named, name)),
            Some(found) => Err(MediumError::WrongVolume {
                path: name,
                volume: number,
                last: self.last,
                found,
            }),
        }
    }
}

impl<S: Storage> ReadShelf for DirectoryToRead<S> {
    type Volume = VolumeReader<S::File>;

    fn path(&self) -> &Path {
        &self.path
    }

    fn last(&self) -> u32 {
        self.last
    }

    fn open(&mut self, number: u32) -> Result<Self::Volume, MediumError> {
        let mut name = file_of(&self.path, number, self.switching);
        let mut opened = self.storage.open(&name);
        if self.switching && matches!(&opened, Err(error) if error.kind() == ErrorKind::NotFound) {
            // It has its name already.
            name = file_of(&self.path, number, false);
            opened = self.storage.open(&name);
        }
        match opened {
            Ok(named) => {
                let (file, name) = self.file(number, named, name)?;
                VolumeReader::new(file, name, number, self.probe)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Err(MediumError::MissingVolume {
                path: name,
                volume: number,
                last: self.last,
            }),
            Err(error) => Err(MediumError::io("open", &name)(error)),
        }
    }

    fn handle(&self, _: Option<&Self::Volume>) -> Result<MediumHandle, HandleError> {
        let descriptors = self.storage.descriptors(None, Some(&self.path))?;
        Ok(MediumHandle {
            origin: Origin::Files {
                form: Form::Directory,
                path: self.path.clone(),
                options: VolumeOptions::default().allow_empty(true),
                replacing: None,
                continued: None,
            },
            descriptors: self.given.share(descriptors),
        })
    }
}
