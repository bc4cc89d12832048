//! What of an archive has to be read: all of it, or less.

use std::error::Error;
use std::io;

use datapipe::archive::{Blocks, Index, OpenError, Reading};
use datapipe::media::MediumError;
use datapipe::prelude::*;
use datapipe::tree::Wanted;

/// What of an archive is read.
#[derive(Debug)]
pub enum Part {
    /// All of it.
    Everything,
    /// The catalogue, for a list.
    Catalogue(Index, Blocks),
    /// The blocks that some paths need.
    Wanted(Index, Blocks, Wanted),
}

impl Part {
    /// The part that a list of a tree needs. An archive that is incomplete, or whose catalogue is damaged, is read as a
    /// whole.
    ///
    /// # Errors
    ///
    /// If the medium fails, or the pipe that reads the catalogue.
    pub fn of_list<M: Medium + 'static>(reader: &ArchiveReader<M>) -> Result<Self, Box<dyn Error>> {
        let Some(index) = index(reader)? else { return Ok(Self::Everything) };
        let catalogue = index.catalogue();
        // A list that has begun cannot be taken back, so its blocks are tried first.
        let whole = look(reader, &index, &catalogue, StreamTail::new(io::sink()))?;
        Ok(if whole { Self::Catalogue(index, catalogue) } else { Self::Everything })
    }

    /// The part that has these paths of a tree.
    ///
    /// # Errors
    ///
    /// As of [`of_list`](Self::of_list).
    pub fn of_paths<M: Medium + 'static>(
        reader: &ArchiveReader<M>,
        paths: &[Vec<u8>],
    ) -> Result<Self, Box<dyn Error>> {
        let Some(index) = index(reader)? else { return Ok(Self::Everything) };
        let (catalogue, wanted) = (index.catalogue(), Wanted::new(paths));
        while let Some(search) = wanted.search() {
            if !look(reader, &index, &catalogue, search)? {
                return Ok(Self::Everything);
            }
        }
        let blocks = wanted.blocks(&index);
        Ok(Self::Wanted(index, blocks, wanted))
    }

    /// The pipe that reads it, but for its tail.
    ///
    /// # Errors
    ///
    /// If the medium fails.
    pub fn read<M: Medium + 'static>(
        &self,
        reader: &ArchiveReader<M>,
        instances: u32,
    ) -> Result<Reading, MediumError> {
        match self {
            Self::Everything => Ok(reader.read(instances)),
            Self::Catalogue(index, blocks) | Self::Wanted(index, blocks, _) => {
                reader.read_blocks(index, blocks, instances)
            }
        }
    }

    /// Whether all of the archive is read.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::Everything)
    }
}

/// Where blocks stand, if the end of the archive says so, and that there is a catalogue.
fn index<M: Medium + 'static>(reader: &ArchiveReader<M>) -> Result<Option<Index>, Box<dyn Error>> {
    match reader.index() {
        Ok(index) => {
            let last = index.blocks().checked_sub(1);
            let has_catalogue = last.is_some_and(|last| index.catalogue().contains(last));
            Ok(has_catalogue.then_some(index))
        }
        Err(OpenError::Medium(error @ MediumError::Io { .. })) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Reads some blocks, and says whether they are whole.
fn look<M: Medium + 'static>(
    reader: &ArchiveReader<M>,
    index: &Index,
    blocks: &Blocks,
    tail: impl Into<TailStage<'static>>,
) -> Result<bool, Box<dyn Error>> {
    match reader.read_blocks(index, blocks, 1)?.pipe.tail(tail).run() {
        Ok(_) => Ok(true),
        Err(datapipe::Error::Stage(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
