//! A medium in a directory, whose files are the volumes.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::limits::MAX_VOLUMES;
use crate::wire::looks_like_record;

use super::dir_storage::DirStorage;
use super::reader::VolumeReader;
use super::writer::{VolumeWriter, check_size, directory_of, is_full, no_space};
use super::{
    FileSystem, Form, HandleError, Item, Medium, MediumError, MediumHandle, Origin, Position,
    Probe, Storage, VolumeOptions,
};

/// A medium of many volumes: the files `000001.tap`, `000002.tap` and so on of one directory.
///
/// It does not touch other files in the directory. A record is always within one volume.
#[derive(Debug)]
pub struct VolumeDirectory<S: Storage = FileSystem> {
    storage: S,
    path: PathBuf,
    side: Side<S>,
}

#[derive(Debug)]
enum Side<S: Storage> {
    Write {
        writer: VolumeWriter<S::File>,
        volume_size: Option<u64>,
    },
    Read {
        /// `None` while no volume is open: before the first read, and at a missing volume.
        reader: Option<VolumeReader<S::File>>,
        /// The current volume, open or missing.
        volume: u32,
        /// The highest number among the volumes.
        last: u32,
        probe: Probe,
    },
}

impl VolumeDirectory {
    /// Creates the directory if it does not exist, removes old volumes if the options allow it, and
    /// begins volume 1.
    ///
    /// # Errors
    ///
    /// [`MediumError::NotEmpty`] if there are volumes and the options do not allow overwriting,
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
        file: File,
        volume_size: Option<u64>,
    ) -> Self {
        let writer = VolumeWriter::new(file, file_of(&path, 1), 1, volume_size);
        Self {
            storage,
            path,
            side: Side::Write {
                writer,
                volume_size,
            },
        }
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
        match storage.create_directory(&path) {
            Ok(()) => {
                let parent = directory_of(&path);
                storage
                    .sync_directory(parent)
                    .map_err(MediumError::io("sync the directory", parent))?;
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                remove_volumes(&storage, &path, options.overwrite)?;
            }
            Err(error) if is_full(&error) => return Err(no_space(&path, &error)),
            Err(error) => return Err(MediumError::io("make the directory", &path)(error)),
        }
        let writer = begin(&storage, &path, 1, options.volume_size)?;
        Ok(Self {
            storage,
            path,
            side: Side::Write {
                writer,
                volume_size: options.volume_size,
            },
        })
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
        let volumes = volumes(&storage, &path)?;
        let Some(last) = volumes.last().copied() else {
            return Err(MediumError::NoVolumes { path });
        };
        Ok(Self {
            storage,
            path,
            side: Side::Read {
                reader: None,
                volume: 1,
                last,
                probe,
            },
        })
    }
}

impl<S: Storage> Medium for VolumeDirectory<S> {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        self.side.writer("write")?.write(record)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.side.writer("write")?.write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        self.side.writer("write")?.sync(&self.storage)
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        match &mut self.side {
            Side::Write {
                writer,
                volume_size,
            } => {
                writer.sync(&self.storage)?;
                *writer = begin(&self.storage, &self.path, writer.volume() + 1, *volume_size)?;
                Ok(true)
            }
            Side::Read { volume, last, .. } if *volume >= *last => Ok(false),
            Side::Read {
                reader,
                volume,
                last,
                probe,
            } => {
                // Before the volume is opened: if it is missing, the next call goes past it.
                *volume += 1;
                *reader = None;
                *reader = Some(open(&self.storage, &self.path, *volume, *last, *probe)?);
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
        let mut opened = open(&self.storage, &self.path, to.volume, *last, *probe)?;
        opened.seek(to)?;
        (*reader, *volume) = (Some(opened), to.volume);
        Ok(())
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        let (volume_size, descriptors) = match &self.side {
            Side::Write { writer, .. } if !writer.is_untouched() => {
                return Err(HandleError::Written);
            }
            Side::Write {
                writer,
                volume_size,
            } => (
                *volume_size,
                self.storage
                    .descriptors(Some(writer.file()), Some(&self.path))?,
            ),
            Side::Read { .. } => (None, self.storage.descriptors(None, Some(&self.path))?),
        };
        Ok(MediumHandle {
            origin: Origin::Files {
                form: Form::Directory,
                path: self.path.clone(),
                volume_size,
            },
            descriptors,
        })
    }
}

impl<S: Storage> VolumeDirectory<S> {
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
                probe,
            } => {
                let opened = open(&self.storage, &self.path, *volume, *last, *probe)?;
                Ok(reader.insert(opened))
            }
        }
    }
}

impl<S: Storage> Side<S> {
    /// The writer, or an error that names `doing`.
    fn writer(&mut self, doing: &'static str) -> Result<&mut VolumeWriter<S::File>, MediumError> {
        match self {
            Self::Write { writer, .. } => Ok(writer),
            Self::Read { .. } => Err(MediumError::WrongDirection {
                doing,
                open_to: "read",
            }),
        }
    }
}

/// The path of a volume's file.
fn file_of(path: &Path, volume: u32) -> PathBuf {
    path.join(format!("{volume:06}.tap"))
}

/// The numbers of the existing volumes, in ascending order.
fn volumes(storage: &impl Storage, path: &Path) -> Result<Vec<u32>, MediumError> {
    let names = storage.list(path).map_err(MediumError::io("list", path))?;
    let numbers = names.iter().filter_map(|name| {
        let digits = name.to_str()?.strip_suffix(".tap")?;
        let all = digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse().ok().filter(|number| all && *number > 0)
    });
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes all volumes if `overwrite` allows that, and syncs the directory.
fn remove_volumes(storage: &impl Storage, path: &Path, overwrite: bool) -> Result<(), MediumError> {
    let old = volumes(storage, path)?;
    if let Some(first) = old.first()
        && !overwrite
    {
        return Err(MediumError::NotEmpty {
            path: file_of(path, *first),
        });
    }
    // From the last one down: if the process is stopped on the way, the volumes that remain are a
    // complete prefix.
    for volume in old.iter().rev() {
        let file = file_of(path, *volume);
        storage
            .remove(&file)
            .map_err(MediumError::io("remove", &file))?;
    }
    if !old.is_empty() {
        // Without this sync, a crash could leave old volumes after the new ones.
        storage
            .sync_directory(path)
            .map_err(MediumError::io("sync the directory", path))?;
    }
    Ok(())
}

/// Creates the file of a volume.
fn begin<S: Storage>(
    storage: &S,
    path: &Path,
    volume: u32,
    limit: Option<u64>,
) -> Result<VolumeWriter<S::File>, MediumError> {
    if volume > MAX_VOLUMES {
        let what = format!(
            "it has {MAX_VOLUMES} volumes, which is the most; continue in another directory"
        );
        return Err(MediumError::Full {
            path: path.to_owned(),
            what,
        });
    }
    let file = file_of(path, volume);
    match storage.create_new(&file) {
        Ok(opened) => Ok(VolumeWriter::new(opened, file, volume, limit)),
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
    path: &Path,
    volume: u32,
    last: u32,
    probe: Probe,
) -> Result<VolumeReader<S::File>, MediumError> {
    let file = file_of(path, volume);
    match storage.open(&file) {
        Ok(opened) => VolumeReader::new(opened, file, volume, probe),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(MediumError::MissingVolume {
            path: file,
            volume,
            last,
        }),
        Err(error) => Err(MediumError::io("open", &file)(error)),
    }
}
