//! The part of an archive that a job reads: all of it, or less.

use std::error::Error;

use datapipe::archive::{BlockSet, Index, Reading};
use datapipe::media::MediumError;
use datapipe::prelude::*;
use datapipe::stage::IntoTail;
use datapipe::tree::{CatalogueCheck, CatalogueQuery, CutTree};

use crate::arguments::PlacementArgs;

/// Part of an archive that is read.
#[derive(Debug)]
pub enum ReadScope {
    /// The entire archive.
    Everything,
    /// The catalogue, for a list.
    Catalogue(Index, BlockSet),
    /// The blocks that hold some paths.
    Paths(Index, BlockSet, CatalogueQuery),
    /// The entire archive, of which some paths are restored.
    AllForPaths(CatalogueQuery),
    /// The objects of an archive without an end, by its checkpoints, for a list.
    Cut(CutTree),
    /// The blocks that hold some paths in an archive without an end, and the damage that a search
    /// of it has found.
    CutPaths(CutTree, CatalogueQuery, DamageLog),
}

impl ReadScope {
    /// Returns the part that a list of a tree needs. An archive without an end is read by its
    /// checkpoints, if it has any. It is read entirely if its catalogue is damaged or cannot be
    /// read.
    ///
    /// # Errors
    ///
    /// Returns an error if the pipe that reads the catalogue cannot run.
    pub fn for_list<M: MediumReader + 'static>(
        reader: &ArchiveReader<M>,
        placement: PlacementArgs,
    ) -> Result<Self, Box<dyn Error>> {
        let Some(index) = read_index(reader) else {
            let cut = CutTree::read(reader).map(Self::Cut);
            return Ok(cut.unwrap_or(Self::Everything));
        };
        let catalogue = index.catalogue();
        // Printed lines cannot be taken back, so the blocks of the catalogue are read in advance.
        let intact = is_intact(reader, placement, &index, &catalogue, CatalogueCheck::new())?;
        Ok(if intact {
            Self::Catalogue(index, catalogue)
        } else {
            Self::Everything
        })
    }

    /// Returns the part that holds these paths of a tree. An archive without an end is searched by
    /// its checkpoints, if it has any. If the catalogue cannot be used, the objects are searched,
    /// so the archive is read twice.
    ///
    /// # Errors
    ///
    /// As [`for_list`](Self::for_list).
    pub fn for_paths<M: MediumReader + 'static>(
        reader: &ArchiveReader<M>,
        paths: &[Vec<u8>],
        placement: PlacementArgs,
    ) -> Result<Self, Box<dyn Error>> {
        let query = CatalogueQuery::new(paths);
        let Some(index) = read_index(reader) else {
            return match CutTree::read(reader) {
                Ok(cut) => Self::searched_cut(reader, cut, query, placement),
                Err(_) => Self::searched(reader, query, placement),
            };
        };
        let catalogue = index.catalogue();
        while let Some(search) = query.search() {
            if !is_intact(reader, placement, &index, &catalogue, search)? {
                return Self::searched(reader, query, placement);
            }
        }
        let blocks = query.blocks(&index);
        Ok(Self::Paths(index, blocks, query))
    }

    /// Searches an archive without an end.
    fn searched_cut<M: MediumReader + 'static>(
        reader: &ArchiveReader<M>,
        cut: CutTree,
        query: CatalogueQuery,
        placement: PlacementArgs,
    ) -> Result<Self, Box<dyn Error>> {
        let mut log = DamageLog::new();
        loop {
            // Each pass finds the same damage.
            let pass = DamageLog::new();
            let Some(search) = query.search_cut(&cut, &pass) else {
                return Ok(Self::CutPaths(cut, query, log));
            };
            let reading = cut.reading(&reader.clone().salvage(&pass))?;
            match placement.pipe(reading.pipe).tail(search).run() {
                Ok(_) => log = pass,
                Err(datapipe::Error::Stage(_)) => return Self::searched(reader, query, placement),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Searches the objects themselves.
    fn searched<M: MediumReader + 'static>(
        reader: &ArchiveReader<M>,
        query: CatalogueQuery,
        placement: PlacementArgs,
    ) -> Result<Self, Box<dyn Error>> {
        // The restore reads what is damaged, or fails, again, and reports it.
        let reader = reader.clone().salvage(&DamageLog::new());
        let pipe = placement.pipe(reader.read().pipe);
        match pipe.tail(query.search_objects()).run() {
            Ok(_) | Err(datapipe::Error::Stage(_)) => Ok(Self::AllForPaths(query)),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the pipe that reads this part, without a tail.
    ///
    /// # Errors
    ///
    /// Returns an error if the medium fails.
    pub fn read<M: MediumReader + 'static>(
        &self,
        reader: &ArchiveReader<M>,
        instances: u32,
    ) -> Result<Reading, MediumError> {
        match self {
            Self::Everything | Self::AllForPaths(_) => Ok(reader.read().instances(instances)),
            Self::Catalogue(index, blocks) | Self::Paths(index, blocks, _) => {
                Ok(reader.read_blocks(index, blocks)?.instances(instances))
            }
            Self::Cut(cut) => Ok(cut.reading(reader)?.instances(instances)),
            Self::CutPaths(cut, query, _) => {
                let positions = cut.index().positions();
                let blocks = query.blocks(positions);
                Ok(reader.read_blocks(positions, &blocks)?.instances(instances))
            }
        }
    }

    /// Returns true if the entire archive is read.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::Everything | Self::AllForPaths(_))
    }
}

/// Reads the positions of the blocks from the end of the archive. Returns `None` if the end cannot
/// be read or lists no catalogue; the archive can then still be read from its start.
fn read_index<M: MediumReader + 'static>(reader: &ArchiveReader<M>) -> Option<Index> {
    reader
        .index()
        .ok()
        .filter(|index| !index.catalogue().is_empty())
}

/// Reads the catalogue. Returns true if the tail takes it and it reaches the archive's last block.
/// The positions of its blocks, at the end of the archive, are not authenticated.
fn is_intact<M: MediumReader + 'static>(
    reader: &ArchiveReader<M>,
    placement: PlacementArgs,
    index: &Index,
    blocks: &BlockSet,
    tail: impl IntoTail<'static>,
) -> Result<bool, Box<dyn Error>> {
    let Reading { pipe, report } = reader.read_blocks(index, blocks)?;
    match placement.pipe(pipe).tail(tail).run() {
        Ok(_) => Ok(report.snapshot().reached_end()),
        Err(datapipe::Error::Stage(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
