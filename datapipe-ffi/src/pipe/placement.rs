//! The place of a stage: threads of this process, or processes of their own.

use std::path::PathBuf;
use std::time::Duration;

use datapipe::stage::{MiddleStage, Stage};

/// Processes that run a stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes {
    /// The module that makes the stage, and its arguments. `None` for a stage of the library.
    pub(crate) module: Option<(String, Vec<u8>)>,
    /// The program that they run; `None` for this one.
    pub(crate) program: Option<PathBuf>,
    /// Longest time for one block.
    pub(crate) work_limit: Option<Duration>,
}

/// The place of a stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    /// `None` for threads of this process.
    pub(crate) processes: Option<Processes>,
    pub(crate) is_stateful: bool,
    pub(crate) is_together: bool,
}

impl Placement {
    /// Puts a stage between head and tail in its place. Heads and tails are not replaced, with
    /// state or without.
    pub(super) fn place_middle(self, stage: MiddleStage<'static>) -> MiddleStage<'static> {
        match self.is_stateful {
            true => self.place(stage.stateful()),
            false => self.place(stage),
        }
    }

    /// Puts a stage in its place.
    pub(super) fn place<W>(self, mut stage: Stage<W>) -> Stage<W> {
        if self.is_together {
            stage = stage.together();
        }
        let Some(processes) = self.processes else {
            return stage;
        };
        if let Some((name, arguments)) = processes.module {
            stage = stage.module(name, arguments);
        }
        if let Some(limit) = processes.work_limit {
            stage = stage.work_limit(limit);
        }
        match processes.program {
            None => stage.in_processes(),
            Some(program) => stage.in_processes_of(program),
        }
    }
}
