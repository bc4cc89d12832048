//! The tail that verifies a tree.

use crate::error::StageError;
use crate::pool::Block;
use crate::stage::{Arguments, Tail, TailStage};
use crate::tree::selection::Selection;
use crate::wire::Object;

use super::arguments::TREE_VERIFY_MODULE;
use super::assembler::Follower;
use super::link_targets::{Became, First};
use super::open_object::Described;
use super::report::RestoreReport;
use super::scope::Part;
use super::sink::{Failure, Sink};

/// Reads an archived tree and checks everything that [`TreeRestore`] does, and the catalogue. It
/// writes nothing, but for temporary files. As a [`TailStage`] it can run in a process.
#[derive(Debug)]
pub struct TreeVerify(Follower<Nowhere>);

impl TreeVerify {
    /// A tail that verifies.
    pub fn new() -> Self {
        let part = Part::everything(Selection::new(&[]));
        Self(Follower::new(Nowhere, part, RestoreReport::default(), true).on_threads(0))
    }

    /// What becomes of it: final when the pipe has ended.
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
        self.0.block(block)
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.0.finish()
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        stage
            .module(TREE_VERIFY_MODULE, Arguments::new())
            .notes(self.report().hearer())
    }
}

/// Where objects go that are only verified.
#[derive(Debug)]
struct Nowhere;

impl Sink for Nowhere {
    type Made = ();

    fn another(&self) -> Self {
        Self
    }

    fn begin(&mut self, _: &Object<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn extent(&mut self, (): &mut (), _: u64, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn end(&mut self, (): (), _: &Described, _: u64) -> Result<Became, Failure> {
        Ok(Became::Verified)
    }

    fn link(&mut self, _: &Object<'_>, _: &First) -> Result<(), Failure> {
        Ok(())
    }

    fn set_aside(&mut self, (): (), _: &Object<'_>) -> String {
        String::new()
    }

    fn finish(&mut self) -> Result<(), StageError> {
        Ok(())
    }
}
