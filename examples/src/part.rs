//! What of an archive has to be read: all of it, or less.

use std::error::Error;
use std::io;

use datapipe::archive::{BlockSet, Index, Reading};
use datapipe::media::MediumError;
use datapipe::prelude::*;
use datapipe::tree::CatalogueQuery;

use crate::arguments::PlacementArgs;

/// What of an archive is read.
#[derive(Debug)]
pub enum Part {
    /// All of it.
    Everything,
    /// The catalogue, for a list.
    Catalogue(Index, BlockSet),
    /// The blocks that some paths need.
    CatalogueQuery(Index, BlockSet, CatalogueQuery),
}

impl Part {
    /// The part that a list of a tree needs. An archive that is incomplete, or whose catalogue is
    /// damaged or cannot be read, is read as a whole.
    ///
    /// # Errors
    ///
    /// If the pipe that reads the catalogue cannot run.
    pub fn of_list<M: Medium + 'static>(
        reader: &ArchiveReader<M>,
        placement: PlacementArgs,
    ) -> Result<Self, Box<dyn Error>> {
        let Some(index) = index(reader) else {
            return Ok(Self::Everything);
        };
        let catalogue = index.catalogue();
        // A list that has begun cannot be taken back, so its blocks are tried first.
        let whole = look(
            reader,
            placement,
            &index,
            &catalogue,
            StreamTail::new(io::sink()),
        )?;
        Ok(if whole {
            Self::Catalogue(index, catalogue)
        } else {
            Self::Everything
        })
    }

    /// The part that has these paths of a tree.
    ///
    /// # Errors
    ///
    /// As of [`of_list`](Self::of_list).
    pub fn of_paths<M: Medium + 'static>(
        reader: &ArchiveReader<M>,
        paths: &[Vec<u8>],
        placement: PlacementArgs,
    ) -> Result<Self, Box<dyn Error>> {
        let Some(index) = index(reader) else {
            return Ok(Self::Everything);
        };
        let (catalogue, wanted) = (index.catalogue(), CatalogueQuery::new(paths));
        while let Some(search) = wanted.search() {
            if !look(reader, placement, &index, &catalogue, search)? {
                return Ok(Self::Everything);
            }
        }
        let blocks = wanted.blocks(&index);
        Ok(Self::CatalogueQuery(index, blocks, wanted))
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
            Self::Everything => Ok(reader.read().instances(instances)),
            Self::Catalogue(index, blocks) | Self::CatalogueQuery(index, blocks, _) => {
                Ok(reader.read_blocks(index, blocks)?.instances(instances))
            }
        }
    }

    /// Whether all of the archive is read.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::Everything)
    }
}

/// Where blocks stand, if the end of the archive says so, and that there is a catalogue. Whatever
/// is wrong with the end, what stands before it can be read from the start.
fn index<M: Medium + 'static>(reader: &ArchiveReader<M>) -> Option<Index> {
    reader
        .index()
        .ok()
        .filter(|index| !index.catalogue().is_empty())
}

/// Reads some blocks, and says whether they are whole, and all of them have their content.
fn look<M: Medium + 'static>(
    reader: &ArchiveReader<M>,
    placement: PlacementArgs,
    index: &Index,
    blocks: &BlockSet,
    tail: impl Into<TailStage<'static>>,
) -> Result<bool, Box<dyn Error>> {
    let Reading { pipe, report } = reader.read_blocks(index, blocks)?;
    match placement.pipe(pipe).tail(tail).run() {
        Ok(_) => Ok(report.snapshot().rejected == 0),
        Err(datapipe::Error::Stage(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
