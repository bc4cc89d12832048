//! List of the objects in an archived tree.

use std::fmt;

use crate::error::StageError;
use crate::pool::Block;
use crate::stage::{DamageLog, Tail, TailStage};
use crate::wire::CatalogueEntry;

use super::cut_tree::CutTree;
use super::object_scan::{ObjectScan, VisitObject};

/// Tail that calls a function with each object of an archived tree, once.
///
/// It takes blocks that are decrypted and decompressed. Those of the closing catalogue suffice for
/// an archive that is complete. If it gets all blocks of an archive, it reads the objects
/// themselves. It skips blocks that are damaged. An object without an end has the state
/// [`ObjectState::Unread`](crate::wire::ObjectState::Unread).
///
/// # Examples
///
/// ```no_run
/// use datapipe::prelude::*;
/// use datapipe::tree::TreeList;
///
/// let reader = ArchiveReader::open(VirtualTape::open("nightly.tap")?, None)?;
/// let index = reader.index()?;
/// let list = TreeList::new(|object| {
///     println!("{:>12} {}", object.size, object.path.escape_ascii());
///     Ok(())
/// });
/// reader.read_blocks(&index, &index.catalogue())?.pipe.tail(list).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TreeList<F>(ObjectScan<EachObject<F>>);

/// Visitor that calls a function.
struct EachObject<F>(F);

impl<F: FnMut(&CatalogueEntry<'_>) -> Result<(), StageError>> VisitObject for EachObject<F> {
    fn visit(&mut self, _: u64, object: &CatalogueEntry<'_>) -> Result<(), StageError> {
        (self.0)(object)
    }
}

impl<F: FnMut(&CatalogueEntry<'_>) -> Result<(), StageError> + Send> TreeList<F> {
    /// Creates a tail that calls `visit` with each object. An error from it ends the pipe.
    pub fn new(visit: F) -> Self {
        Self(ObjectScan::new(EachObject(visit)))
    }

    /// Lists the objects of an archive without an end, from the blocks of
    /// [`CutTree::reading`](crate::tree::CutTree::reading).
    #[must_use]
    pub fn of_cut(self, cut: &CutTree) -> Self {
        Self(self.0.of_cut(cut))
    }

    /// Records data that cannot be decoded in `log`, and continues after the block, instead of
    /// ending the pipe.
    #[must_use]
    pub fn salvage(self, log: &DamageLog) -> Self {
        Self(self.0.with_log(Some(log.clone())))
    }
}

impl<F: FnMut(&CatalogueEntry<'_>) -> Result<(), StageError> + Send> Tail for TreeList<F> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.0.write(block)
    }

    fn takes_control_blocks(&self) -> bool {
        self.0.takes_control_blocks()
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.0.finish()
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        self.0.describe(stage)
    }
}

impl<F> fmt::Debug for TreeList<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeList").finish_non_exhaustive()
    }
}
