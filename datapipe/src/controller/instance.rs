//! End of one instance of a stage.

use crate::error::StageError;
use crate::memory::InstanceId;

/// Last message from an instance to the controller: how it ended.
#[derive(Debug)]
pub(super) struct InstanceExit {
    pub(super) id: InstanceId,
    pub(super) result: Result<(), StageError>,
    /// True if the pipe had been stopped by then: an error is then only a consequence.
    pub(super) after_stop: bool,
}
