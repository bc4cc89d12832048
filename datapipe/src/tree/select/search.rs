//! Search of the catalogue for the blocks of some objects, or of the objects if it is damaged.
//!
//! ```text
//!   catalogue --1st pass--> objects at the paths: their blocks; of hard links: their targets
//!             --2nd pass--> targets that are not selected themselves: their blocks, and a new path
//! ```
//!
//! A hard link names an object by number, and that object can be anywhere in the archive. To
//! restore a link without its target, the object's data is restored at the path of the link.
//!
//! Objects that are read themselves precede their hard links, so that one pass suffices.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::archive::{BlockSet, Index};
use crate::error::StageError;
use crate::limits::{MAX_OWNERS, MAX_RESTORE_MEMORY, MAX_WANTED_LINKS};
use crate::pool::{Block, Marks};
use crate::stage::{DamageLog, Tail, TailStage};
use crate::wire::{BlockKind, CatalogueEntry, EntryBody, EntryCopy, OwnerKind, OwnerName};

use super::closing_run::ClosingRun;
use super::cut_tree::CutTree;
use super::object_scan::{ObjectScan, VisitObject};
use super::paths::Selection;

/// Finds the blocks of some paths in the catalogue of an archived tree. Clones share the result.
///
/// # Examples
///
/// ```no_run
/// use datapipe::prelude::*;
/// use datapipe::tree::CatalogueQuery;
///
/// let reader = ArchiveReader::open(VirtualTape::open("nightly.tap")?, None)?;
/// let index = reader.index()?;
/// let query = CatalogueQuery::new(&[b"home/ada".to_vec()]);
/// while let Some(search) = query.search() {
///     reader.read_blocks(&index, &index.catalogue())?.pipe.tail(search).run()?;
/// }
/// let restore = TreeRestore::part("/srv/restored", RestoreOptions::default(), &query)?;
/// let reading = reader.read_blocks(&index, &query.blocks(&index))?.instances(2);
/// reading.pipe.tail(restore).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// If the index is missing, or a search fails because the catalogue is damaged, the objects
/// themselves are searched, which reads the whole archive:
///
/// ```no_run
/// use datapipe::prelude::*;
/// use datapipe::tree::CatalogueQuery;
///
/// let reader = ArchiveReader::open(VirtualTape::open("nightly.tap")?, None)?;
/// let query = CatalogueQuery::new(&[b"home/ada".to_vec()]);
/// // The restore reads the same damage again, and reports it.
/// let quiet = reader.clone().salvage(&DamageLog::new());
/// quiet.read().pipe.tail(query.search_objects()).run()?;
/// let restore = TreeRestore::part("/srv/restored", RestoreOptions::default(), &query)?;
/// let log = DamageLog::new();
/// reader.salvage(&log).read().pipe.tail(restore).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CatalogueQuery(Arc<Mutex<QueryInner>>);

#[derive(Debug)]
struct QueryInner {
    selection: Selection,
    blocks: BlockSet,
    step: SearchStep,
    /// Targets of selected hard links. After the second pass, only those whose own paths are not
    /// selected. In a search of the objects: those whose own paths are selected.
    linked: BTreeSet<u64>,
    /// New paths of those targets, and the memory they take in bytes.
    renames: BTreeMap<u64, Vec<u8>>,
    rename_bytes: usize,
    owners: ArchivedOwners,
}

/// Names of users and groups in an archive, by their numbers.
pub(in crate::tree) type ArchivedOwners = BTreeMap<(OwnerKind, u32), Vec<u8>>;

/// Part of an archive that a query has found.
#[derive(Debug)]
pub(in crate::tree) struct FoundPart {
    /// The selected paths, none of them found: the catalogue names them, but their data may still
    /// be missing.
    pub(in crate::tree) selection: Selection,
    /// The blocks to be read, or `None` for all.
    pub(in crate::tree) blocks: Option<BlockSet>,
    /// The objects to be restored under another path.
    pub(in crate::tree) renames: BTreeMap<u64, Vec<u8>>,
    pub(in crate::tree) owners: ArchivedOwners,
}

/// The next pass over the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SearchStep {
    Paths,
    Links,
    Done,
    /// The objects are searched, or have been, instead of the catalogue.
    Objects,
}

impl CatalogueQuery {
    /// Creates a query for `paths`, which have the form of [`Selection::new`].
    pub fn new(paths: &[Vec<u8>]) -> Self {
        let inner = QueryInner::new(Selection::new(paths), SearchStep::Paths);
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Returns the tail for the next pipe that reads the closing catalogue, or `None` if the query
    /// is complete. A query takes one pass, or two if hard links are selected.
    pub fn search(&self) -> Option<Search> {
        let step = self.0.lock().step;
        let is_over = matches!(step, SearchStep::Done | SearchStep::Objects);
        (!is_over).then(|| Search {
            query: self.clone(),
            copy: EntryCopy::default(),
            closing: ClosingRun::default(),
        })
    }

    /// Returns the tail for a pipe that reads all blocks of an archive whose catalogue is missing
    /// or damaged. It begins the query anew, takes one pass, and skips what is damaged. The query
    /// is then one for a restore from [all blocks](crate::tree::TreeRestore::part).
    ///
    /// The search keeps [`MAX_WANTED_LINKS`] files with several names. Further names of other files
    /// may be left to the restore, which reports those that it cannot restore.
    pub fn search_objects(&self) -> impl Tail + use<> {
        let mut inner = self.0.lock();
        let selection = inner.selection.as_not_found();
        *inner = QueryInner::new(selection, SearchStep::Objects);
        drop(inner);
        // A block that cannot be read is passed: the restore reports it.
        ObjectScan::new(ObjectSearch(self.clone())).with_log(Some(DamageLog::new()))
    }

    /// Returns the tail for the next pipe that reads an archive without an end, from the blocks of
    /// [`CutTree::reading`], or `None` if the query is complete. It takes one pass, or two if hard
    /// links are selected, and skips what is damaged, which `log` records. A restore needs the
    /// blocks of [`blocks`](Self::blocks) then, with the positions of the cut index.
    pub fn search_cut(&self, cut: &CutTree, log: &DamageLog) -> Option<impl Tail + use<>> {
        let step = self.0.lock().step;
        let is_over = matches!(step, SearchStep::Done | SearchStep::Objects);
        let scan = ObjectScan::new(CutSearch(self.clone())).with_log(Some(log.clone()));
        (!is_over).then(|| scan.of_cut(cut))
    }

    /// Returns the blocks that a restore needs, and those of the catalogue, which names the objects
    /// that are lost if one of the blocks is.
    pub fn blocks(&self, index: &Index) -> BlockSet {
        let mut blocks = self.0.lock().blocks.clone();
        if !blocks.is_empty() {
            index.catalogue().runs().for_each(|run| blocks.insert(run));
        }
        blocks
    }

    /// Returns the paths at which the catalogue has no object.
    pub fn not_found(&self) -> Vec<Vec<u8>> {
        self.0
            .lock()
            .selection
            .not_found()
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// Returns what a restore takes from the archive.
    pub(in crate::tree) fn part(&self) -> FoundPart {
        let inner = self.0.lock();
        FoundPart {
            selection: inner.selection.as_not_found(),
            blocks: (inner.step != SearchStep::Objects).then(|| inner.blocks.clone()),
            renames: inner.renames.clone(),
            owners: inner.owners.clone(),
        }
    }
}

/// Tail that searches the catalogue, from [`CatalogueQuery::search`].
#[derive(Debug)]
pub struct Search {
    query: CatalogueQuery,
    copy: EntryCopy,
    closing: ClosingRun,
}

/// Visitor that searches the objects.
struct ObjectSearch(CatalogueQuery);

impl VisitObject for ObjectSearch {
    fn visit(&mut self, number: u64, object: &CatalogueEntry<'_>) -> Result<(), StageError> {
        self.0.0.lock().object(number, object);
        Ok(())
    }

    fn owner(&mut self, name: &OwnerName<'_>) {
        self.0.0.lock().owner(name);
    }
}

/// Visitor that searches an archive without an end.
struct CutSearch(CatalogueQuery);

impl VisitObject for CutSearch {
    fn visit(&mut self, number: u64, object: &CatalogueEntry<'_>) -> Result<(), StageError> {
        self.0.0.lock().entry(number, object)
    }

    fn owner(&mut self, name: &OwnerName<'_>) {
        self.0.0.lock().owner(name);
    }

    fn finish(&mut self) {
        self.0.0.lock().next_step();
    }
}

impl QueryInner {
    /// Goes on to the next pass, if there is one.
    fn next_step(&mut self) {
        self.step = match self.step {
            SearchStep::Paths if !self.linked.is_empty() => SearchStep::Links,
            _ => SearchStep::Done,
        };
        if self.step == SearchStep::Done {
            drop(mem::take(&mut self.linked));
        }
    }

    fn new(selection: Selection, step: SearchStep) -> Self {
        Self {
            selection,
            blocks: BlockSet::new(),
            step,
            linked: BTreeSet::new(),
            renames: BTreeMap::new(),
            rename_bytes: 0,
            owners: ArchivedOwners::new(),
        }
    }

    /// Keeps a name, the first of each user and group.
    fn owner(&mut self, name: &OwnerName<'_>) {
        let OwnerName { kind, id, name } = *name;
        if self.owners.len() < MAX_OWNERS {
            let owner = self.owners.entry((kind, id));
            owner.or_insert_with(|| name.to_vec());
        }
    }

    /// Takes an object that was read itself. `number` is 0 unless hard links to it may follow.
    fn object(&mut self, number: u64, object: &CatalogueEntry<'_>) {
        if !self.selection.wants(object.path, object.kind) {
            return;
        }
        if number > 0 {
            // Its links come after it. In an archive where they do not, its own name is the first.
            self.renames.remove(&number);
            if self.linked.len() < MAX_WANTED_LINKS {
                self.linked.insert(number);
            }
        }
        let is_far = object.link > 0 && !self.linked.contains(&object.link);
        let cost = object.path.len() + RENAME_COST;
        if is_far
            && self.rename_bytes + cost <= MAX_RENAME_BYTES
            && !self.renames.contains_key(&object.link)
        {
            self.rename_bytes += cost;
            self.renames.insert(object.link, object.path.to_vec());
        }
    }

    /// Takes an entry of the catalogue. `object` is 0 unless hard links to it may follow.
    fn entry(&mut self, object: u64, entry: &CatalogueEntry<'_>) -> Result<(), StageError> {
        let selected = self.selection.wants(entry.path, entry.kind);
        match self.step {
            SearchStep::Paths if selected => {
                self.blocks.insert(entry.blocks.0..=entry.blocks.1);
                if entry.link > 0 {
                    self.linked.insert(entry.link);
                }
            }
            // The target precedes all its other names, so its own path is checked first.
            SearchStep::Links if self.linked.contains(&object) => {
                if selected {
                    self.linked.remove(&object);
                } else {
                    self.blocks.insert(entry.blocks.0..=entry.blocks.1);
                }
            }
            SearchStep::Links if selected && self.linked.contains(&entry.link) => {
                self.renames.entry(entry.link).or_insert_with(|| {
                    self.rename_bytes += entry.path.len() + RENAME_COST;
                    entry.path.to_vec()
                });
            }
            _ => {}
        }
        if self.linked.len() > MAX_WANTED_LINKS || self.rename_bytes > MAX_RENAME_BYTES {
            return Err(StageError::new(
                "too many of the selected paths are hard links to files that are not selected: \
                 restore the whole archive",
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
        let (info, number) = (block.info(), block.archive_number());
        if info.marks.intersects(Marks::DAMAGED | Marks::REJECTED) {
            return Err(StageError::new(format!(
                "block {number} has no valid content: the objects it names are unknown"
            )));
        }
        if info.kind != BlockKind::ClosingCatalogue.code() {
            self.copy.pass(number);
            return Ok(());
        }
        let mut inner = self.query.0.lock();
        let entries = self.copy.fetch(block.shared(), number, info.kind);
        for fetched in entries.iter() {
            let entry = fetched.map_err(|damaged| damaged.error)?.entry;
            self.closing.add(&entry.body);
            match &entry.body {
                EntryBody::Catalogue(body) => inner.entry(entry.object, body)?,
                EntryBody::OwnerName(name) => inner.owner(name),
                EntryBody::Piece(_) => {
                    return Err(StageError::new(
                        "an entry of the catalogue is in parts, and some of them are missing",
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// They have numbers, and a gap between the pieces of an entry is a loss.
    fn takes_control_blocks(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.closing.check_found().map_err(StageError::new)?;
        self.query.0.lock().next_step();
        Ok(())
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        stage.local("its result belongs to this program: run it on a thread")
    }
}

/// Maximum memory for new paths of objects, and the part of it that each takes besides its path, in
/// bytes.
const MAX_RENAME_BYTES: usize = MAX_RESTORE_MEMORY / 4;
const RENAME_COST: usize = 64;
