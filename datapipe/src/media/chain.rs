//! A medium as a chain of volumes: a volume reads or writes its items, a shelf has the volumes, and
//! the chain has what is common to all media.
//!
//! ```text
//!   ChainWriter, ChainReader     numbers of volumes, the next one, positions
//!       |            |
//!   WriteShelf   ReadShelf       the volume to write next, or the one of a number
//!       |            |
//!   WriteVolume  ReadVolume      records and marks
//! ```

use std::fmt::Debug;
use std::path::Path;

use super::{Abilities, HandleError, Item, MediumError, MediumHandle, Position};
use super::{MediumReader, MediumWriter, VolumeId};

/// A volume that is open to write.
pub(super) trait WriteVolume: Debug + Send {
    /// Number of the volume in its medium, from 1.
    fn number(&self) -> u32;

    /// Writes a record that consists of `parts`, as [`MediumWriter::write_parts`].
    fn write(&mut self, parts: &[&[u8]]) -> Result<Position, MediumError>;

    /// Writes a mark, as [`MediumWriter::write_mark`].
    fn write_mark(&mut self) -> Result<(), MediumError>;

    /// Writes what ends the content of an earlier writer, if nothing was written after it.
    fn complete(&mut self) -> Result<(), MediumError>;

    /// As [`MediumWriter::abilities`].
    fn abilities(&self) -> Abilities;

    /// As [`MediumWriter::volume`].
    fn id(&self) -> VolumeId;
}

/// A volume that is open to read.
pub(super) trait ReadVolume: Debug + Send {
    /// Number of the volume in its medium, from 1.
    fn number(&self) -> u32;

    /// Reads the next item, as [`MediumReader::read`].
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError>;

    /// Reads the item before, as [`MediumReader::read_back`].
    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError>;

    /// Goes to a position in this volume, as [`MediumReader::seek`].
    fn seek(&mut self, to: Position) -> Result<(), MediumError>;

    /// Goes to the end of this volume, as [`MediumReader::seek_end`].
    fn seek_end(&mut self) -> Result<(), MediumError>;

    /// As [`MediumReader::volume_id`].
    fn id(&mut self) -> Result<VolumeId, MediumError>;
}

/// A shelf with the volumes of a medium that is written.
pub(super) trait WriteShelf: Debug + Send {
    /// A volume of the shelf.
    type Volume: WriteVolume;

    /// Makes the volume ready for a write.
    fn prepare(&mut self, volume: &mut Self::Volume) -> Result<(), MediumError>;

    /// As [`MediumWriter::sync`], of the volume that is written.
    fn sync(&mut self, volume: &mut Self::Volume) -> Result<(), MediumError>;

    /// Begins the volume after `volume`, which was synced.
    fn next(&mut self, volume: &Self::Volume) -> Result<Self::Volume, MediumError>;

    /// As [`MediumWriter::finish`]; `volume` is the last one.
    fn finish(&mut self, volume: &mut Self::Volume) -> Result<(), MediumError>;

    /// Adds a remedy to an error of a write, if the shelf knows one.
    fn advise(&self, error: MediumError) -> MediumError {
        error
    }

    /// As [`MediumWriter::accepts_empty`].
    fn accepts_empty(&self) -> bool;

    /// As [`MediumWriter::handle`].
    fn handle(&self, volume: &Self::Volume) -> Result<MediumHandle, HandleError>;

    /// Removes what was not finished; `volume` is the last one.
    fn close(&mut self, volume: &Self::Volume);
}

/// A shelf with the volumes of a medium that is read.
pub(super) trait ReadShelf: Debug + Send {
    /// A volume of the shelf.
    type Volume: ReadVolume;

    /// Path of the medium, for errors.
    fn path(&self) -> &Path;

    /// Number of the last volume.
    fn last(&self) -> u32;

    /// Opens the volume of this number, from 1 to the last one.
    fn open(&mut self, number: u32) -> Result<Self::Volume, MediumError>;

    /// As [`MediumReader::handle`].
    fn handle(&self, volume: Option<&Self::Volume>) -> Result<MediumHandle, HandleError>;
}

/// A medium that is open to write.
#[derive(Debug)]
pub(super) struct ChainWriter<S: WriteShelf> {
    shelf: S,
    volume: S::Volume,
}

impl<S: WriteShelf> ChainWriter<S> {
    pub(super) fn new(shelf: S, volume: S::Volume) -> Self {
        Self { shelf, volume }
    }

    pub(super) fn shelf(&self) -> &S {
        &self.shelf
    }

    pub(super) fn volume(&self) -> &S::Volume {
        &self.volume
    }

    /// The volume, ready for a write.
    fn prepared(&mut self) -> Result<&mut S::Volume, MediumError> {
        self.shelf.prepare(&mut self.volume)?;
        Ok(&mut self.volume)
    }
}

impl<S: WriteShelf> MediumWriter for ChainWriter<S> {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        self.write_parts(&[record])
    }

    fn write_parts(&mut self, parts: &[&[u8]]) -> Result<Position, MediumError> {
        let written = self.prepared()?.write(parts);
        written.map_err(|error| self.shelf.advise(error))
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.prepared()?.write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        self.shelf.sync(&mut self.volume)
    }

    fn next_volume(&mut self) -> Result<(), MediumError> {
        self.prepared()?.complete()?;
        self.sync()?;
        let next = self.shelf.next(&self.volume);
        self.volume = next.map_err(|error| self.shelf.advise(error))?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), MediumError> {
        self.prepared()?;
        self.shelf.finish(&mut self.volume)
    }

    fn accepts_empty(&self) -> bool {
        self.shelf.accepts_empty()
    }

    fn abilities(&self) -> Abilities {
        self.volume.abilities()
    }

    fn volume(&self) -> VolumeId {
        self.volume.id()
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        self.shelf.handle(&self.volume)
    }
}

impl<S: WriteShelf> Drop for ChainWriter<S> {
    /// Removes what was written to replace old content and did not take its place.
    fn drop(&mut self) {
        self.shelf.close(&self.volume);
    }
}

/// A medium that is open to read.
#[derive(Debug)]
pub(super) struct ChainReader<S: ReadShelf> {
    shelf: S,
    /// `None` while no volume is open: before the first read, and at a missing volume.
    volume: Option<S::Volume>,
    /// Number of the current volume, open or missing.
    number: u32,
}

impl<S: ReadShelf> ChainReader<S> {
    /// Reads from the start of the first volume, which the caller may have opened.
    pub(super) fn new(shelf: S, volume: Option<S::Volume>) -> Self {
        Self {
            shelf,
            volume,
            number: 1,
        }
    }

    /// The current volume, which is opened first if necessary.
    fn opened(&mut self) -> Result<&mut S::Volume, MediumError> {
        if self.volume.is_none() {
            self.volume = Some(self.shelf.open(self.number)?);
        }
        Ok(self.volume.as_mut().expect("it was opened"))
    }

    /// Reads an item into `record`, as `read` does it. The record before is overwritten, and not
    /// filled with zeros first. After an error it is empty.
    fn read_with(
        &mut self,
        record: &mut Vec<u8>,
        read: impl FnOnce(&mut S::Volume, &mut Vec<u8>) -> Result<Item, MediumError>,
    ) -> Result<Item, MediumError> {
        let item = self.opened().and_then(|volume| read(volume, record));
        if item.is_err() {
            record.clear();
        }
        item
    }

    /// Checks that there can be a volume of this number.
    fn check_number(&self, to: Position) -> Result<(), MediumError> {
        let last = self.shelf.last();
        if (1..=last).contains(&to.volume) {
            return Ok(());
        }
        let what = match last {
            1 => "it has volume 1 only".to_owned(),
            last => format!("it has volumes 1 to {last}"),
        };
        Err(MediumError::NoSuchPosition {
            path: self.shelf.path().to_owned(),
            to,
            what,
        })
    }

    /// Goes on in volume `number`, as `go` does it.
    fn go_to(
        &mut self,
        number: u32,
        go: impl FnOnce(&mut S::Volume) -> Result<(), MediumError>,
    ) -> Result<(), MediumError> {
        if let Some(volume) = &mut self.volume
            && volume.number() == number
        {
            return go(volume);
        }
        let mut volume = self.shelf.open(number)?;
        go(&mut volume)?;
        (self.volume, self.number) = (Some(volume), number);
        Ok(())
    }
}

impl<S: ReadShelf> MediumReader for ChainReader<S> {
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.read_with(record, S::Volume::read)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.read_with(record, S::Volume::read_back)
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        if self.number >= self.shelf.last() {
            return Ok(false);
        }
        // Before the volume is opened: if it is missing, the next call goes past it.
        self.number += 1;
        self.volume = None;
        self.opened()?;
        Ok(true)
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        self.check_number(to)?;
        self.go_to(to.volume, |volume| volume.seek(to))
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        let number = volume.unwrap_or_else(|| self.shelf.last());
        self.check_number(Position::start_of(number))?;
        self.go_to(number, S::Volume::seek_end)
    }

    fn volume_id(&mut self, volume: u32) -> Result<VolumeId, MediumError> {
        self.check_number(Position::start_of(volume))?;
        match &mut self.volume {
            Some(current) if current.number() == volume => current.id(),
            _ => self.shelf.open(volume)?.id(),
        }
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        self.shelf.handle(self.volume.as_ref())
    }
}

/// Makes a public type, whose only field is a [`ChainWriter`], a medium.
macro_rules! forward_writer {
    ($name:ident) => {
        impl<S: Storage> MediumWriter for $name<S> {
            fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
                self.0.write(record)
            }

            fn write_parts(&mut self, parts: &[&[u8]]) -> Result<Position, MediumError> {
                self.0.write_parts(parts)
            }

            fn write_mark(&mut self) -> Result<(), MediumError> {
                self.0.write_mark()
            }

            fn sync(&mut self) -> Result<(), MediumError> {
                self.0.sync()
            }

            fn next_volume(&mut self) -> Result<(), MediumError> {
                self.0.next_volume()
            }

            fn finish(&mut self) -> Result<(), MediumError> {
                self.0.finish()
            }

            fn accepts_empty(&self) -> bool {
                self.0.accepts_empty()
            }

            fn abilities(&self) -> Abilities {
                self.0.abilities()
            }

            fn volume(&self) -> VolumeId {
                MediumWriter::volume(&self.0)
            }

            fn handle(&self) -> Result<MediumHandle, HandleError> {
                self.0.handle()
            }
        }
    };
}

/// Makes a public type, whose only field is a [`ChainReader`], a medium.
macro_rules! forward_reader {
    ($name:ident) => {
        impl<S: Storage> MediumReader for $name<S> {
            fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
                self.0.read(record)
            }

            fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
                self.0.read_back(record)
            }

            fn next_volume(&mut self) -> Result<bool, MediumError> {
                self.0.next_volume()
            }

            fn seek(&mut self, to: Position) -> Result<(), MediumError> {
                self.0.seek(to)
            }

            fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
                self.0.seek_end(volume)
            }

            fn volume_id(&mut self, volume: u32) -> Result<VolumeId, MediumError> {
                self.0.volume_id(volume)
            }

            fn handle(&self) -> Result<MediumHandle, HandleError> {
                self.0.handle()
            }
        }
    };
}

pub(super) use {forward_reader, forward_writer};
