//! The interface of `processes` and `admission` in a build without the feature `processes`: no
//! stage can be placed in a process, so there is nothing to start, watch or admit.

use std::convert::Infallible;
use std::io;

use crossbeam_channel::Sender;

use crate::memory::StageId;
use crate::pool::AtLimit;
use crate::stage::{Role, Settings, StageKind};

use super::instance::InstanceExit;
use super::supervisor_context::SupervisorContext;

/// A process of a stage, which this build does not have.
#[derive(Debug)]
pub(super) struct ProcessSpec(Infallible);

/// A seat that a process may attach to, which this build does not have.
pub(super) type UnboundSeat = Infallible;

impl ProcessSpec {
    pub(super) fn all_of(
        _: &Settings,
        _: StageKind,
        _: StageId,
        _: Role,
        _: AtLimit,
    ) -> io::Result<Vec<Self>> {
        Ok(Vec::new())
    }

    pub(super) fn unbound(&self) -> Option<UnboundSeat> {
        match self.0 {}
    }
}

/// Starts no processes: a build without them has none.
pub(super) fn run(_: Vec<ProcessSpec>, _: &SupervisorContext<'_>, _: Sender<InstanceExit>) {}

/// Returns false: this build has no `host::serve`.
pub(super) fn serves() -> bool {
    false
}

/// The seats of a pipe that processes may attach to: none.
#[derive(Debug)]
pub(super) struct AttachPoint;

impl AttachPoint {
    pub(super) fn new(_: Vec<UnboundSeat>) -> io::Result<Self> {
        Ok(Self)
    }
}
