//! The traits of a medium, one for each direction.

use crate::limits::MAX_RECORD;

use super::{HandleError, Item, MediumError, MediumHandle, Position};

/// A sequence of volumes, each a sequence of records and marks, open to write.
///
/// Each write appends. A writer calls [`finish`](MediumWriter::finish) at the end. Dropping a
/// medium syncs nothing, and removes what was written to replace old content that is still there.
pub trait MediumWriter: Send {
    /// Writes a record of 1 to [`MAX_RECORD`] bytes, all of it or nothing. Returns the position at
    /// which it begins.
    ///
    /// After [`MediumError::EndOfVolume`], the caller may try shorter records and marks: the
    /// records before leave at least [`VOLUME_RESERVE`](crate::limits::VOLUME_RESERVE) bytes for
    /// them, as a tape does between its early warning and its end. On a file system that is full,
    /// even those may end in [`MediumError::EndOfVolume`] again.
    ///
    /// # Errors
    ///
    /// [`MediumError::EndOfVolume`] if the record does not fit in this volume any more,
    /// [`MediumError::Full`] if it does not fit even in an empty volume, [`MediumError::TooLong`]
    /// and [`MediumError::Empty`] if no volume of this medium could have it, and
    /// [`MediumError::Io`]. After any of these errors a reader finds nothing of the record.
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError>;

    /// Writes a record that consists of `parts`, one after the other, as
    /// [`write`](MediumWriter::write) does.
    ///
    /// The provided method copies the parts into one record, which is what a drive needs. A medium
    /// in files writes them from where they are: a block from the pool of its pipe. A wrapper calls
    /// the `write_parts` of the medium in it.
    ///
    /// # Errors
    ///
    /// As [`write`](MediumWriter::write).
    fn write_parts(&mut self, parts: &[&[u8]]) -> Result<Position, MediumError> {
        self.write(&parts.concat())
    }

    /// Writes a mark. It may use the bytes that are reserved at the end of the volume.
    ///
    /// # Errors
    ///
    /// As [`write`](MediumWriter::write).
    fn write_mark(&mut self) -> Result<(), MediumError>;

    /// Returns when everything written so far is on stable storage: the bytes, and the name of a
    /// new file.
    ///
    /// # Errors
    ///
    /// [`MediumError::Io`], and [`MediumError::Displaced`] if a file was removed or replaced while
    /// it was written. Another sync cannot repair one that failed: from then on each call returns
    /// [`MediumError::Broken`].
    fn sync(&mut self) -> Result<(), MediumError>;

    /// Syncs and closes this volume, and begins the next one.
    ///
    /// # Errors
    ///
    /// [`MediumError::Full`] if another volume is not possible, and the errors of
    /// [`sync`](MediumWriter::sync).
    fn next_volume(&mut self) -> Result<(), MediumError>;

    /// Completes the medium: as [`sync`](MediumWriter::sync), and then puts what was written in the
    /// place of old content, if this medium replaces some. Nothing can be written after that. A
    /// wrapper calls the `finish` of the medium in it.
    ///
    /// # Errors
    ///
    /// As [`sync`](MediumWriter::sync), and [`MediumError::Displaced`] if what was written has lost
    /// its name to another file.
    fn finish(&mut self) -> Result<(), MediumError>;

    /// True if an archive without any data may be written. False for a medium that replaces old
    /// content, unless [`VolumeOptions::allow_empty`](super::VolumeOptions::allow_empty) is set.
    /// The provided method returns true.
    fn accepts_empty(&self) -> bool {
        true
    }

    /// Returns the abilities of the medium. The provided method returns the default ones.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    /// Returns the identity of the volume that is being written. The provided method returns the
    /// default one: an archive is readable without it.
    fn volume(&self) -> VolumeId {
        VolumeId::default()
    }

    /// Returns a handle from which another process can reopen this medium, so that a stage which
    /// writes it can run there. The handle of a wrapped medium is that of the inner one: the other
    /// process gets it without the wrapper.
    ///
    /// # Errors
    ///
    /// [`HandleError`]. A [`VirtualTape`](super::VirtualTape) and a
    /// [`VolumeDirectory`](super::VolumeDirectory) have a handle on the
    /// [`FileSystem`](super::FileSystem) only, and only before the first write. One that was opened
    /// to append has the end of its content in the handle. The provided method returns
    /// [`HandleError::Unsupported`]; a medium of your own returns [`MediumHandle::of_module`].
    fn handle(&self) -> Result<MediumHandle, HandleError> {
        Err(HandleError::Unsupported)
    }
}

/// A sequence of volumes, each a sequence of records and marks, open to read.
///
/// A medium that is open to read cannot be written:
///
/// ```compile_fail,E0599
/// use datapipe::media::{MediumReader, MediumWriter, VirtualTape};
///
/// let mut tape = VirtualTape::open("nightly.tap")?;
/// tape.write(b"a record")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait MediumReader: Send {
    /// Reads the next item. Puts a record's bytes into `record`, or those of a damaged stretch, up
    /// to the length of the longest record; after any other item `record` is empty. Sectors that
    /// the drive has lost are damage, and appear as zeros in those bytes. If more than a megabyte
    /// in a row is lost, the drive is broken, and that is an error.
    ///
    /// # Errors
    ///
    /// [`MediumError::MissingVolume`], [`MediumError::WrongVolume`] and [`MediumError::Io`]. Damage
    /// is not an error, but an [`Item`].
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError>;

    /// Reads the previous item, as [`read`](MediumReader::read) does, and leaves the position
    /// before it. [`Item::End`] is the start of the volume. Reading back cannot pass damage:
    /// everything before it is one [`Item::Damaged`].
    ///
    /// # Errors
    ///
    /// As [`read`](MediumReader::read).
    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError>;

    /// Goes to the start of the next volume, or returns false if there is none.
    ///
    /// # Errors
    ///
    /// [`MediumError::MissingVolume`] if the next volume is missing but later ones exist, and
    /// [`MediumError::WrongVolume`] if it is of another medium; another call continues after it.
    /// [`MediumError::Io`].
    fn next_volume(&mut self) -> Result<bool, MediumError>;

    /// Goes to a position that `write` or `read` returned, or to the start of a volume. The next
    /// read begins there.
    ///
    /// # Errors
    ///
    /// [`MediumError::NoSuchPosition`], [`MediumError::MissingVolume`],
    /// [`MediumError::WrongVolume`] and [`MediumError::Io`]. After an error the position is
    /// unchanged.
    fn seek(&mut self, to: Position) -> Result<(), MediumError>;

    /// Goes to the end of a volume, or of the last one. The number of items before it is not known,
    /// so positions from there on, until the next [`seek`](MediumReader::seek), count from
    /// [`Position::UNCOUNTED`].
    ///
    /// # Errors
    ///
    /// As [`seek`](MediumReader::seek).
    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError>;

    /// Returns the identity of volume number `volume`. The position is unchanged. The provided
    /// method returns the default one: a reader that looks for a volume by its id does not find it,
    /// and reads more instead.
    ///
    /// # Errors
    ///
    /// As [`seek`](MediumReader::seek).
    fn volume_id(&mut self, volume: u32) -> Result<VolumeId, MediumError> {
        let _ = volume;
        Ok(VolumeId::default())
    }

    /// Returns a handle from which another process can reopen this medium, so that a stage which
    /// reads it can run there. The handle of a wrapped medium is that of the inner one: the other
    /// process gets it without the wrapper.
    ///
    /// # Errors
    ///
    /// [`HandleError`]. A [`VirtualTape`](super::VirtualTape) and a
    /// [`VolumeDirectory`](super::VolumeDirectory) have a handle on the
    /// [`FileSystem`](super::FileSystem) only. The provided method returns
    /// [`HandleError::Unsupported`]; a medium of your own returns [`MediumHandle::of_module`].
    fn handle(&self) -> Result<MediumHandle, HandleError> {
        Err(HandleError::Unsupported)
    }
}

/// Identity of a volume, as its volume record has it. All zeros: it has no volume record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeId {
    /// Random id of the volume.
    pub id: [u8; 16],
    /// Number of the volume in its medium, from 1; 0 if it has none.
    pub ordinal: u32,
}

impl VolumeId {
    /// The identity of a volume.
    pub fn new(id: [u8; 16], ordinal: u32) -> Self {
        Self { id, ordinal }
    }
}

/// Abilities of a medium that is open to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abilities {
    /// Most bytes of a record that an empty volume takes, at most [`MAX_RECORD`].
    pub longest_record: usize,
    /// True if the end of what was written can be cut off: false for a tape, and for volumes that
    /// are written once.
    pub cuts_back: bool,
}

impl Default for Abilities {
    /// Records of [`MAX_RECORD`] bytes, and a medium that cannot be cut.
    fn default() -> Self {
        Self {
            longest_record: MAX_RECORD,
            cuts_back: false,
        }
    }
}

impl Abilities {
    /// Sets [`longest_record`](field@Self::longest_record).
    #[must_use]
    pub fn longest_record(self, bytes: usize) -> Self {
        Self {
            longest_record: bytes,
            ..self
        }
    }

    /// Sets [`cuts_back`](field@Self::cuts_back).
    #[must_use]
    pub fn cuts_back(self, cuts_back: bool) -> Self {
        Self { cuts_back, ..self }
    }
}

/// Forwards to the medium in the box, for programs that choose a medium at run time.
impl<M: MediumWriter + ?Sized> MediumWriter for Box<M> {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        (**self).write(record)
    }

    fn write_parts(&mut self, parts: &[&[u8]]) -> Result<Position, MediumError> {
        (**self).write_parts(parts)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        (**self).write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        (**self).sync()
    }

    fn next_volume(&mut self) -> Result<(), MediumError> {
        (**self).next_volume()
    }

    fn finish(&mut self) -> Result<(), MediumError> {
        (**self).finish()
    }

    fn accepts_empty(&self) -> bool {
        (**self).accepts_empty()
    }

    fn abilities(&self) -> Abilities {
        (**self).abilities()
    }

    fn volume(&self) -> VolumeId {
        (**self).volume()
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        (**self).handle()
    }
}

/// Forwards to the medium in the box, for programs that choose a medium at run time.
impl<M: MediumReader + ?Sized> MediumReader for Box<M> {
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        (**self).read(record)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        (**self).read_back(record)
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        (**self).next_volume()
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        (**self).seek(to)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        (**self).seek_end(volume)
    }

    fn volume_id(&mut self, volume: u32) -> Result<VolumeId, MediumError> {
        (**self).volume_id(volume)
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        (**self).handle()
    }
}
