//! Module names and arguments of the tails.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::stage::{Arguments, TailStage};

use super::options::RestoreOptions;
use super::scope::Part;

pub(in crate::tree) const TREE_RESTORE_MODULE: &str = "datapipe.tree-restore";
pub(in crate::tree) const TREE_VERIFY_MODULE: &str = "datapipe.tree-verify";

/// What a tail that restores is made from.
#[derive(Debug)]
pub(super) struct OfRestore {
    arguments: Arguments,
    descriptors: Vec<Arc<OwnedFd>>,
}

impl OfRestore {
    pub(super) fn new(
        dest: Arc<OwnedFd>,
        options: &RestoreOptions,
        part: &Part,
    ) -> io::Result<Self> {
        let file = part.to_file()?;
        let arguments = Arguments::new()
            .with_flag("overwrite", options.overwrite)
            .with_flag("no-sync", !options.sync)
            .with("threads", options.threads.to_string())
            .with_all("only", part.selection.paths())
            .with_flag("part", file.is_some());
        let descriptors = [dest]
            .into_iter()
            .chain(file.map(|file| Arc::new(file.into())))
            .collect();
        Ok(Self {
            arguments,
            descriptors,
        })
    }

    pub(super) fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        let stage = stage.module(TREE_RESTORE_MODULE, self.arguments.clone());
        self.descriptors
            .iter()
            .map(Arc::clone)
            .fold(stage, TailStage::shared_descriptor)
    }
}
