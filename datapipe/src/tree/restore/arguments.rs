//! Module names of the tails, and the arguments from which another process recreates
//! [`TreeRestore`](super::TreeRestore).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::stage::{Arguments, TailStage};

use super::options::RestoreOptions;
use super::scope::RestoreScope;

pub(in crate::tree) const TREE_RESTORE_MODULE: &str = "datapipe.tree-restore";
pub(in crate::tree) const TREE_VERIFY_MODULE: &str = "datapipe.tree-verify";

/// Arguments and descriptors of a tail that restores: the destination, and the scope's file if
/// there is one.
#[derive(Debug)]
pub(super) struct RestoreArguments {
    arguments: Arguments,
    descriptors: Vec<Arc<OwnedFd>>,
}

impl RestoreArguments {
    pub(super) fn new(
        dest: Arc<OwnedFd>,
        options: &RestoreOptions,
        scope: &RestoreScope,
    ) -> io::Result<Self> {
        let file = scope.to_file()?;
        let keep = options.keep.iter();
        let keep = keep.map(|(device, inode)| format!("{device}:{inode}"));
        let arguments = Arguments::new()
            .with_flag("overwrite", options.overwrite)
            .with_flag("no-sync", !options.sync)
            .with("threads", options.threads.to_string())
            .with_all("keep", keep)
            .with_all("only", scope.selection.paths())
            .with_flag("plain", options.plain)
            .with_flag("numeric-owner", options.numeric_owner)
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

    /// Adds the module, its arguments and its descriptors to the description of a stage.
    pub(super) fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        stage.module_with_shared_descriptors(
            TREE_RESTORE_MODULE,
            self.arguments.clone(),
            self.descriptors.iter().map(Arc::clone),
        )
    }
}
