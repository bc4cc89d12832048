//! The trait of a medium: a sequence of volumes that is written or read.

use super::{Item, MediumError, MediumHandle, Position};

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
