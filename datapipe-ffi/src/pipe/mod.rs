//! Pipes of the program's own stages and those of the library.
//!
//! ```text
//!   stages added --start--> running --wait--> outcome, which stays until the handle is freed
//! ```
//!
//! This module does not check arguments: stages come to it as they are to run.

mod attachment; // seats in pipes of other processes
mod daemon; // seats in pipes that a daemon runs
mod entry; // a pipe from its description to its outcome
mod flat_map; // stages that make several blocks from one
mod foreign; // stages whose work are functions of the program
mod module; // modules of the program, for stages in processes
mod placement; // threads or processes of a stage

pub(crate) use attachment::{AttachedBuffer, attach, free_attachment, with_attachment};
pub(crate) use daemon::DaemonSeat;
pub(crate) use entry::{
    EventSink, PIPES, PipeEntry, PipeSettings, PipeStage, PlacedStage, UnboundStage,
};
pub(crate) use foreign::{ForeignStage, StageFunctions, check_not_in_stage, in_stage};
pub(crate) use module::{ModuleMaker, serve};
pub(crate) use placement::{Placement, Processes};
