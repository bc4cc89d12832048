//! Which blocks have what is wanted, as the catalogue says.
//!
//! ```text
//!   catalogue --1st time--> objects of the wanted paths: their blocks; of hard links: the objects they are names of
//!             --2nd time--> of those, the ones whose own paths are not wanted: their blocks, and a path that is
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::archive::{BlockSet, Index};
use crate::error::StageError;
use crate::limits::{MAX_RESTORE_MEMORY, MAX_WANTED_LINKS};
use crate::pool::{Block, Marks};
use crate::stage::{Tail, TailStage};
use crate::wire::{BlockKind, CatalogueEntry, Entry, EntryBody, ObjectKind};

use super::selection::Selection;

/// Finds the blocks of some paths in the catalogue of an archived tree. Clones share what was
/// found.
///
/// # Examples
///
/// ```no_run
/// use datapipe::prelude::*;
/// use datapipe::tree::Wanted;
///
/// let reader = ArchiveReader::open(VirtualTape::open("nightly.tap")?, None)?;
/// let index = reader.index()?;
/// let wanted = CatalogueQuery::new(&[b"home/ada".to_vec()]);
/// while let Some(search) = wanted.search() {
///     reader.read_blocks(&index, &index.catalogue(), 1)?.pipe.tail(search).run()?;
/// }
/// let restore = TreeRestore::part("/srv/restored", RestoreOptions::default(), &wanted)?;
/// reader.read_blocks(&index, &wanted.blocks(&index), 2)?.pipe.tail(restore).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CatalogueQuery(Arc<Mutex<Found>>);

#[derive(Debug)]
struct Found {
    selection: Selection,
    blocks: BlockSet,
    step: Step,
    /// Objects that a wanted hard link is another name of. After the second time: only those whose
    /// own paths are not wanted.
    linked: BTreeSet<u64>,
    /// What those are to be called, and what that takes of the memory, in bytes.
    called: BTreeMap<u64, Vec<u8>>,
    called_bytes: usize,
}

/// What the catalogue is read for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Paths,
    Links,
    Done,
}

impl CatalogueQuery {
    /// Nothing was found yet. `paths` are those of [`Selection::new`].
    pub fn new(paths: &[Vec<u8>]) -> Self {
        Self(Arc::new(Mutex::new(Found {
            selection: Selection::new(paths),
            blocks: BlockSet::new(),
            step: Step::Paths,
            linked: BTreeSet::new(),
            called: BTreeMap::new(),
            called_bytes: 0,
        })))
    }

    /// The tail of a pipe that reads the closing catalogue, if it has to be read, or to be read
    /// again.
    pub fn search(&self) -> Option<Search> {
        let step = self.0.lock().step;
        (step != Step::Done).then(|| Search(self.clone()))
    }

    /// The blocks that a restore needs, and those of the catalogue, which names what is lost if one
    /// of them is.
    pub fn blocks(&self, index: &Index) -> BlockSet {
        let mut blocks = self.0.lock().blocks.clone();
        if !blocks.is_empty() {
            index
                .catalogue()
                .runs()
                .for_each(|(first, last)| blocks.insert(first, last));
        }
        blocks
    }

    /// The paths of which nothing was found.
    pub fn not_found(&self) -> Vec<Vec<u8>> {
        self.0
            .lock()
            .selection
            .not_found()
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// What is wanted, which blocks are to come, and objects that are to have another path. That
    /// the catalogue names a path does not mean that it comes.
    pub(super) fn part(&self) -> (Selection, BlockSet, BTreeMap<u64, Vec<u8>>) {
        let found = self.0.lock();
        (
            found.selection.not_yet_found(),
            found.blocks.clone(),
            found.called.clone(),
        )
    }
}

/// The tail that searches the catalogue, which [`CatalogueQuery::search`] gives.
#[derive(Debug)]
pub struct Search(CatalogueQuery);

impl Found {
    fn entry(&mut self, object: u64, entry: &CatalogueEntry<'_>) -> Result<(), StageError> {
        let is_directory = entry.kind == ObjectKind::Directory;
        let wanted = self.selection.wants(entry.path, is_directory);
        match self.step {
            Step::Paths if wanted => {
                self.blocks.insert(entry.blocks.0, entry.blocks.1);
                if entry.link > 0 {
                    self.linked.insert(entry.link);
                }
            }
            // It stands before all of its other names.
            Step::Links if self.linked.contains(&object) => {
                if wanted {
                    self.linked.remove(&object);
                } else {
                    self.blocks.insert(entry.blocks.0, entry.blocks.1);
                }
            }
            Step::Links if wanted && self.linked.contains(&entry.link) => {
                self.called.entry(entry.link).or_insert_with(|| {
                    self.called_bytes += entry.path.len() + CALLED_COST;
                    entry.path.to_vec()
                });
            }
            _ => {}
        }
        if self.linked.len() > MAX_WANTED_LINKS || self.called_bytes > MAX_CALLED_BYTES {
            return Err(StageError::new(
                "too many of these paths are further names of files that are not among them: restore the whole archive",
            ));
        }
        Ok(())
    }
}

impl Tail for Search {
    fn name(&self) -> &str {
        "catalogue-search"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let info = block.info();
        if info.marks.contains(Marks::DAMAGED) || info.marks.contains(Marks::REJECTED) {
            let number = info.sequence.unwrap_or_else(|| block.number());
            return Err(StageError::new(format!(
                "block {number} has no content: what it names is not known"
            )));
        }
        if info.kind != BlockKind::ClosingCatalogue.code() {
            return Ok(());
        }
        let mut found = self.0.0.lock();
        let mut rest = block.bytes();
        while !rest.is_empty() {
            let (entry, behind) = Entry::parse(rest)?;
            if let EntryBody::Catalogue(of) = &entry.body {
                found.entry(entry.object, of)?;
            }
            rest = behind;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StageError> {
        let mut found = self.0.0.lock();
        found.step = match found.step {
            Step::Paths if !found.linked.is_empty() => Step::Links,
            _ => Step::Done,
        };
        if found.step == Step::Done {
            drop(mem::take(&mut found.linked));
        }
        Ok(())
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        stage.local("what it finds is for this program: let it run on a thread")
    }
}

/// What objects that are to be called something else may take of the memory, and each of them
/// beside its path, in bytes.
const MAX_CALLED_BYTES: usize = MAX_RESTORE_MEMORY / 4;
const CALLED_COST: usize = 64;
