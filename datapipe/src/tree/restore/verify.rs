//! The tail that verifies a tree: an assembler whose sink creates nothing.

use crate::error::StageError;
use crate::pool::Block;
use crate::stage::{Arguments, Following, Tail, TailStage};
use crate::tree::select::Selection;
use crate::wire::{InodeFacts, ObjectMeta, OwnerName};

use super::arguments::TREE_VERIFY_MODULE;
use super::assembler::ObjectAssembler;
use super::link_targets::{LinkTarget, ObjectOutcome};
use super::object_in_progress::ObjectDescription;
use super::report::RestoreReport;
use super::scope::RestoreScope;
use super::sink::{Failure, Sink};

/// Reads an archived tree and checks what a [`TreeRestore`](super::TreeRestore) of all blocks
/// checks, the catalogue included: both report the same defects of the archive. It writes nothing
/// but temporary files. As a [`TailStage`] it can run in a process.
#[derive(Debug)]
pub struct TreeVerify(ObjectAssembler<VerifyOnly>);

impl TreeVerify {
    /// Creates a tail that verifies.
    pub fn new() -> Self {
        let scope = RestoreScope::of_all_blocks(Selection::new(&[]));
        let report = RestoreReport::default();
        Self(ObjectAssembler::new(VerifyOnly, scope, report).with_threads(0))
    }

    /// Returns the report of this verification. It is final when the pipe has ended.
    pub fn report(&self) -> RestoreReport {
        self.0.report().clone()
    }
}

impl Default for TreeVerify {
    fn default() -> Self {
        Self::new()
    }
}

impl Tail for TreeVerify {
    fn name(&self) -> &str {
        "tree-verify"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.0.accept_block(block)
    }

    fn write_ahead(&mut self, block: Block, following: &Following<'_>) -> Result<(), StageError> {
        self.0.accept_blocks(block, following)
    }

    /// They have numbers, and a gap in the numbers is a loss.
    fn takes_control_blocks(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.0.finish()
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        stage
            .module(TREE_VERIFY_MODULE, Arguments::new())
            .mirrored(&self.report())
    }
}

/// Sink of a verification: it creates nothing and refuses nothing.
#[derive(Debug)]
struct VerifyOnly;

impl Sink for VerifyOnly {
    type Partial = ();

    fn for_worker(&self) -> Self {
        Self
    }

    fn begin_block(&mut self) -> Result<(), StageError> {
        Ok(())
    }

    fn needs_idle_workers(&self) -> bool {
        false
    }

    fn name_owner(&mut self, _: &OwnerName<'_>) {}

    fn begin(&mut self, _: &ObjectMeta<'_>, _: bool) -> Result<(), Failure> {
        Ok(())
    }

    fn begin_inode(&mut self, (): &mut (), _: InodeFacts) {}

    fn write_extent(&mut self, (): &mut (), _: u64, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn complete(
        &mut self,
        (): (),
        _: &ObjectDescription,
        _: u64,
    ) -> Result<ObjectOutcome, Failure> {
        Ok(ObjectOutcome::Verified)
    }

    fn link(&mut self, _: &ObjectMeta<'_>, _: &LinkTarget) -> Result<(), Failure> {
        Ok(())
    }

    fn set_aside(&mut self, (): (), _: &ObjectMeta<'_>) -> String {
        String::new()
    }

    fn discard(&mut self, (): (), _: &ObjectMeta<'_>) {}

    fn finish(&mut self) -> Result<(), StageError> {
        Ok(())
    }

    fn unnamed_owners(&self) -> Option<String> {
        None
    }
}
