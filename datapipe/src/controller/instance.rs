//! Identity and end of one instance of a stage.

use crate::error::StageError;

/// Identity of an instance: its stage, and its number within the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InstanceId {
    pub(super) stage: u32,
    pub(super) instance: u32,
}

/// Last message from an instance to the controller: how it ended.
#[derive(Debug)]
pub(super) struct InstanceExit {
    pub(super) id: InstanceId,
    pub(super) result: Result<(), StageError>,
    /// True if the pipe had been stopped by then: an error is then only a consequence.
    pub(super) after_stop: bool,
}
