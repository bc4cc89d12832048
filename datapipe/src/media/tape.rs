//! A medium in one file, which is one volume.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::wire::looks_like_record;

use super::dir_storage::DirStorage;
use super::reader::VolumeReader;
use super::writer::{VolumeWriter, check_size, directory_of, is_full, no_space};
use super::{
    FileSystem, Form, HandleError, Item, Medium, MediumError, MediumHandle, Origin, Position,
    Probe, Storage, StorageFile, VolumeOptions,
};

/// A medium of one volume: a file of any name.
#[derive(Debug)]
pub struct VirtualTape<S: Storage = FileSystem> {
    storage: S,
    path: PathBuf,
    side: Side<S::File>,
}

#[derive(Debug)]
enum Side<F> {
    Write(VolumeWriter<F>),
    Read(VolumeReader<F>),
}

impl VirtualTape {
    /// Creates a tape. Empties an existing one if the options allow overwriting.
    ///
    /// # Errors
    ///
    /// [`MediumError::NotEmpty`] if it has content and the options do not allow overwriting,
    /// [`MediumError::VolumeTooSmall`], [`MediumError::Full`] and [`MediumError::Io`].
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
        })
    }
}

impl VirtualTape<DirStorage> {
    /// Reopens a tape that another process has created.
    pub(super) fn from_descriptors_to_write(
        storage: DirStorage,
        path: PathBuf,
        file: File,
        size: Option<u64>,
    ) -> Self {
        let side = Side::Write(VolumeWriter::new(file, path.clone(), 1, size));
        Self {
            storage,
            path,
            side,
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
        let VolumeOptions {
            volume_size: size,
            overwrite,
        } = options;
        let path = path.into();
        check_size(size)?;
        let file = match storage.create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                reuse(&storage, &path, overwrite)?
            }
            Err(error) if is_full(&error) => return Err(no_space(&path, &error)),
            created => created.map_err(MediumError::io("create", &path))?,
        };
        let side = Side::Write(VolumeWriter::new(file, path.clone(), 1, size));
        Ok(Self {
            storage,
            path,
            side,
        })
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
        })
    }

    fn writer(&mut self) -> Result<&mut VolumeWriter<S::File>, MediumError> {
        match &mut self.side {
            Side::Write(writer) => Ok(writer),
            Side::Read(_) => Err(MediumError::WrongDirection {
                doing: "write",
                open_to: "read",
            }),
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
            Side::Write(_) => Err(MediumError::NOT_TO_READ),
        }
    }
}

/// Opens an existing tape to write, and empties it if `overwrite` allows that.
fn reuse<S: Storage>(storage: &S, path: &Path, overwrite: bool) -> Result<S::File, MediumError> {
    let file = storage
        .open_to_write(path)
        .map_err(MediumError::io("open", path))?;
    if file.is_empty().map_err(MediumError::io("look at", path))? {
        return Ok(file);
    }
    if !overwrite {
        return Err(MediumError::NotEmpty {
            path: path.to_owned(),
        });
    }
    // Every new tape needs this sync at its end. It is tried while the old content still exists.
    let directory = directory_of(path);
    let synced = storage.sync_directory(directory);
    synced.map_err(MediumError::io("sync the directory", directory))?;
    // Without this sync, a crash could leave old records after the new ones.
    let emptied = file.truncate(0).and_then(|()| file.sync());
    emptied.map_err(MediumError::io("empty", path))?;
    Ok(file)
}

impl<S: Storage> Medium for VirtualTape<S> {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        self.writer()?.write(record)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.writer()?.write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        match &mut self.side {
            Side::Write(writer) => writer.sync(&self.storage),
            Side::Read(_) => Err(MediumError::WrongDirection {
                doing: "write",
                open_to: "read",
            }),
        }
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        if let Side::Read(_) = self.side {
            return Ok(false);
        }
        self.sync()?;
        let what = "a virtual tape has one volume; use a directory of volumes".to_owned();
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
        let descriptors = match &self.side {
            Side::Write(writer) if !writer.is_untouched() => {
                return Err(HandleError::Written);
            }
            Side::Write(writer) => self
                .storage
                .descriptors(Some(writer.file()), Some(directory_of(&self.path))),
            Side::Read(reader) => self.storage.descriptors(Some(reader.file()), None),
        };
        let volume_size = match &self.side {
            Side::Write(writer) => writer.limit(),
            Side::Read(_) => None,
        };
        Ok(MediumHandle {
            origin: Origin::Files {
                form: Form::Tape,
                path: self.path.clone(),
                volume_size,
            },
            descriptors: descriptors?,
        })
    }
}
