//! Media that several test targets share: tapes and directories on the file system, and a medium of
//! the test's own.

#![allow(dead_code, reason = "each target uses some of it")]

use std::path::Path;

use datapipe::media::{
    Abilities, DirectoryWriter, Item, MediumError, MediumReader, MediumWriter, Position,
    TapeWriter, VirtualTape, VolumeDirectory, VolumeId, VolumeOptions,
};

/// Creates a tape at `path`, which must not exist or be empty.
pub(crate) fn create_tape(path: &Path) -> TapeWriter {
    VirtualTape::create(path, VolumeOptions::default()).unwrap()
}

/// Creates a directory of volumes of at most `volume_size` bytes.
pub(crate) fn create_volumes(
    path: &Path,
    volume_size: Option<u64>,
    overwrite: bool,
) -> DirectoryWriter {
    let options = VolumeOptions::default()
        .volume_size(volume_size)
        .overwrite(overwrite);
    VolumeDirectory::create(path, options).unwrap()
}

/// Opens the tape, or the directory of volumes, at `path`.
pub(crate) fn open(path: &Path) -> Box<dyn MediumReader> {
    if path.is_dir() {
        Box::new(VolumeDirectory::open(path).unwrap())
    } else {
        Box::new(VirtualTape::open(path).unwrap())
    }
}

/// A medium that is not the library's: it forwards to one that is. So it cannot be described to
/// another process, and its volumes may be shorter than any that the library makes.
pub(crate) struct OwnMedium<M: ?Sized> {
    inner: Box<M>,
    /// Records of a volume, its label included; `None`: as many as `inner` takes.
    records: Option<u64>,
    written: u64,
}

impl<M: ?Sized> OwnMedium<M> {
    pub(crate) fn new(inner: Box<M>, records: Option<u64>) -> Self {
        Self {
            inner,
            records,
            written: 0,
        }
    }
}

impl<M: MediumWriter + ?Sized> MediumWriter for OwnMedium<M> {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        if Some(self.written) == self.records {
            return Err(MediumError::EndOfVolume { volume: 0 });
        }
        self.written += 1;
        self.inner.write(record)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.inner.write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        self.inner.sync()
    }

    fn next_volume(&mut self) -> Result<(), MediumError> {
        self.written = 0;
        self.inner.next_volume()
    }

    fn finish(&mut self) -> Result<(), MediumError> {
        self.inner.finish()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn volume(&self) -> VolumeId {
        self.inner.volume()
    }
}

impl<M: MediumReader + ?Sized> MediumReader for OwnMedium<M> {
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.inner.read(record)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.inner.read_back(record)
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        self.inner.next_volume()
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        self.inner.seek(to)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        self.inner.seek_end(volume)
    }

    fn volume_id(&mut self, volume: u32) -> Result<VolumeId, MediumError> {
        self.inner.volume_id(volume)
    }
}
