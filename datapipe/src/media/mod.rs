//! Media: what a stream is kept on. A sequence of volumes, each a sequence of records and marks.
//!
//! ```text
//!   medium     volume 1                      volume 2
//!            +--------+--------+------+    +--------+------+--------+------+
//!            | record | record | mark |    | record | mark | record | mark |
//!            +--------+--------+------+    +--------+------+--------+------+
//!   files     000001.tap                    000002.tap                         a VolumeDirectory
//!             backup.tap                                                       a VirtualTape: one volume
//! ```
//!
//! It is used like a tape drive: records are written one behind the other and read back as they
//! were written, up to the end of the volume, which comes when it comes. A volume is a file in the
//! layout that tape simulators use (SIMH, `.tap`), so other tools can read it.
//! `docs/wire-format.md` has the bytes.
//!
//! A volume that was damaged is read as far as that goes: what is no record is reported with its
//! place and its length, and reading goes on at the next record behind it.
//!
//! Does not know what is in a record, nor check it: a record whose bytes were changed is still a
//! record here. Does not lock: two that write one tape spoil it. Does not write its memory to
//! stable storage until it is asked to [`sync`](Medium::sync).
//!
//! # Examples
//!
//! ```
//! use datapipe::media::{VolumeDirectory, VolumeOptions, Item, Medium, MediumError};
//!
//! let place = tempfile::tempdir()?;
//! let path = place.path().join("backup");
//!
//! let options = VolumeOptions { volume_size: Some(64 << 10), ..VolumeOptions::default() };
//! let mut medium = VolumeDirectory::create(&path, options)?;
//! for number in 0..100u8 {
//!     let record = [number; 1000];
//!     match medium.write(&record) {
//!         Err(MediumError::EndOfVolume { .. }) => {
//!             medium.write_mark()?;
//!             medium.next_volume()?;
//!             medium.write(&record)?;
//!         }
//!         written => drop(written?),
//!     }
//! }
//! medium.sync()?;
//!
//! let mut medium = VolumeDirectory::open(&path, |_| true)?;
//! let (mut record, mut count, mut volumes) = (Vec::new(), 0, 1);
//! loop {
//!     match medium.read(&mut record)? {
//!         Item::Record(_) => count += 1,
//!         Item::Mark(_) => {}
//!         Item::Damaged { at, skipped } => eprintln!("{skipped} bytes are damaged at {at}"),
//!         Item::End if medium.next_volume()? => volumes += 1,
//!         Item::End => break,
//!     }
//! }
//! assert_eq!((count, volumes), (100, 2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod directory; // volumes as the files of a directory
mod error; // what can be wrong with it
mod given; // one directory, open
mod layout; // the words of a volume's file
mod passage; // how it gets into another process
mod place; // a place, and what stands there
mod reader; // records, and the way back to them behind damage
mod storage; // what is asked of a file system
mod tape; // one file, one volume
mod writer; // whole records, or nothing of them

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use given::DirStorage;

pub use crate::position::Position;
pub use directory::VolumeDirectory;
pub use error::MediumError;
pub(crate) use passage::Form;
pub use passage::MediumHandle;
pub use place::{Item, Probe};
pub use storage::{FileSystem, Storage, StorageFile};
pub use tape::VirtualTape;

/// A sequence of volumes, each a sequence of records and marks, open either to write or to read.
///
/// What is written is written behind what was written before. Dropping it syncs nothing.
pub trait Medium: Send {
    /// Writes a record of 1 to [`MAX_RECORD`](crate::limits::MAX_RECORD) bytes, all of it or
    /// nothing. Returns where it begins.
    ///
    /// After [`MediumError::EndOfVolume`], shorter records and marks may be tried: records written
    /// before that leave at least [`VOLUME_RESERVE`](crate::limits::VOLUME_RESERVE) bytes for them,
    /// as a tape does between its early warning and its end. On a file system that is full, even
    /// those may end in [`MediumError::EndOfVolume`] again.
    ///
    /// # Errors
    ///
    /// [`MediumError::EndOfVolume`] where it does not fit this volume any more,
    /// [`MediumError::Full`] if there is not even room for it in a volume that is empty,
    /// [`MediumError::TooLong`] and [`MediumError::Empty`] if no volume of this medium could have
    /// it, [`MediumError::WrongDirection`], and [`MediumError::Io`]. After any of these nothing of
    /// the record can be read.
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError>;

    /// Writes a mark. May use what is kept free of records.
    ///
    /// # Errors
    ///
    /// As [`write`](Medium::write).
    fn write_mark(&mut self) -> Result<(), MediumError>;

    /// Returns when everything that was written is on stable storage: the bytes, and the name of a
    /// new file.
    ///
    /// # Errors
    ///
    /// [`MediumError::Io`] and [`MediumError::WrongDirection`]. A sync that failed is not made good
    /// by another one: from then on each call answers [`MediumError::Broken`].
    fn sync(&mut self) -> Result<(), MediumError>;

    /// Goes to the next volume.
    ///
    /// To write: syncs and closes this one, and begins a new one; the answer is true. To read: goes
    /// to the start of the next one, or answers false if there is none.
    ///
    /// # Errors
    ///
    /// To write, [`MediumError::Full`] if there can be no other volume, and those of
    /// [`sync`](Medium::sync). To read, [`MediumError::MissingVolume`] if later ones are there but
    /// this one is not: asked again, it goes on behind that one. [`MediumError::Io`].
    fn next_volume(&mut self) -> Result<bool, MediumError>;

    /// Reads what comes next, and a record's bytes into `record`, or as many of those that are
    /// damaged as a record can have. It is empty after anything else. Sectors that the drive has
    /// lost are damage, and zeros in those bytes, unless more than a megabyte in a row is lost:
    /// then the drive is broken.
    ///
    /// # Errors
    ///
    /// [`MediumError::MissingVolume`], [`MediumError::WrongDirection`] and [`MediumError::Io`].
    /// Damage is no error, but an [`Item`].
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError>;

    /// Reads what comes before, as [`read`](Medium::read) does, and then stands in front of it.
    /// [`Item::End`] is the start of the volume. No way leads back past damage: all that is before
    /// it is one [`Item::Damaged`].
    ///
    /// # Errors
    ///
    /// As [`read`](Medium::read).
    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError>;

    /// What another process makes this medium from, so that a stage which writes or reads it can
    /// run there. A medium that is wrapped is passed on without what it is wrapped in.
    ///
    /// # Errors
    ///
    /// Why there is none, and what to do about it. That is so for every medium but a
    /// [`VirtualTape`] and a [`VolumeDirectory`] on the [`FileSystem`], and for one that has been written
    /// to.
    fn passage(&self) -> Result<MediumHandle, String> {
        Err(MediumHandle::NONE.to_owned())
    }

    /// Goes behind all that is in a volume, or in the last one that is there. How many items those
    /// are, no place knows from then on until the next [`seek`](Medium::seek):
    /// [`Position::UNCOUNTED`].
    ///
    /// # Errors
    ///
    /// As [`seek`](Medium::seek).
    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError>;

    /// Goes to a position that `write` or `read` gave, or to the start of a volume. The next read
    /// begins there.
    ///
    /// # Errors
    ///
    /// [`MediumError::NoSuchPlace`], [`MediumError::MissingVolume`],
    /// [`MediumError::WrongDirection`] and [`MediumError::Io`]. It stays where it was then.
    fn seek(&mut self, to: Position) -> Result<(), MediumError>;
}

/// For programs that choose the medium while they run.
impl<M: Medium + ?Sized> Medium for Box<M> {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        (**self).write(record)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        (**self).write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        (**self).sync()
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        (**self).next_volume()
    }

    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        (**self).read(record)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        (**self).read_back(record)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        (**self).seek_end(volume)
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        (**self).seek(to)
    }

    fn passage(&self) -> Result<MediumHandle, String> {
        (**self).passage()
    }
}

/// A medium that another process has created, and written nothing to.
///
/// # Errors
///
/// [`MediumError::VolumeTooSmall`].
pub(crate) fn given_to_write(
    form: Form,
    path: PathBuf,
    volume_size: Option<u64>,
    [file, directory]: [OwnedFd; 2],
) -> Result<Box<dyn Medium>, MediumError> {
    writer::check_size(volume_size)?;
    let (file, storage) = (File::from(file), DirStorage::new(directory));
    Ok(match form {
        Form::Tape => Box::new(VirtualTape::given_to_write(
            storage,
            path,
            file,
            volume_size,
        )),
        Form::Directory => Box::new(VolumeDirectory::given_to_write(
            storage,
            path,
            file,
            volume_size,
        )),
    })
}

/// A medium that another process has open to read.
///
/// # Errors
///
/// As [`VolumeDirectory::open`].
pub(crate) fn given_to_read(
    form: Form,
    path: PathBuf,
    descriptor: OwnedFd,
    probe: Probe,
) -> Result<Box<dyn Medium>, MediumError> {
    Ok(match form {
        Form::Tape => Box::new(VirtualTape::given_to_read(path, descriptor.into(), probe)?),
        Form::Directory => Box::new(VolumeDirectory::open_on(
            DirStorage::new(descriptor),
            path,
            probe,
        )?),
    })
}

/// How volumes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeOptions {
    /// Most bytes of one volume, at least [`MIN_VOLUME_SIZE`](crate::limits::MIN_VOLUME_SIZE); none
    /// means that a volume ends when the file system is full.
    pub volume_size: Option<u64>,
    /// Whether volumes that are there are removed first.
    pub overwrite: bool,
}
