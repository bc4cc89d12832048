//! A stage in any role, as a module makes it.

use crate::memory::{InstanceId, Shape, StageId};
use crate::stage::mirror::Mirrors;
use crate::stage::runner::Worker;
use crate::stage::{HeadStage, MiddleStage, StageKind, TailStage};

/// A stage in any role, as a module makes it. Each of the three roles converts into it.
#[derive(Debug)]
pub struct AnyStage(Role);

#[derive(Debug)]
enum Role {
    Head(HeadStage<'static>),
    Middle(MiddleStage<'static>),
    Tail(TailStage<'static>),
}

impl AnyStage {
    /// Kind of the stage's work.
    pub(super) fn kind(&self) -> StageKind {
        match &self.0 {
            Role::Head(stage) => stage.kind(),
            Role::Middle(stage) => stage.kind(),
            Role::Tail(stage) => stage.kind(),
        }
    }

    /// True if the stage's role, and the number of blocks that it makes from one, are those of
    /// `stage` in a pipe of this shape.
    pub(super) fn fits(&self, stage: StageId, shape: &Shape) -> bool {
        match &self.0 {
            Role::Head(_) => stage == StageId::HEAD,
            Role::Tail(_) => stage == shape.tail(),
            Role::Middle(middle) => {
                let between = stage > StageId::HEAD && stage < shape.tail();
                between && middle.settings.outputs == shape.parts(stage)
            }
        }
    }

    /// The reports that the stage writes to.
    pub(super) fn reports(&self) -> &Mirrors {
        match &self.0 {
            Role::Head(stage) => &stage.settings.message_handler.reports,
            Role::Middle(stage) => &stage.settings.message_handler.reports,
            Role::Tail(stage) => &stage.settings.message_handler.reports,
        }
    }

    /// Makes an instance. One that works in place gets copies, because a process may be killed.
    pub(super) fn worker(&mut self, instance: InstanceId) -> Worker<'static> {
        match &mut self.0 {
            Role::Head(stage) => stage.worker(instance),
            Role::Middle(stage) => stage.worker_on_copies(instance),
            Role::Tail(stage) => stage.worker(instance),
        }
    }
}

impl From<HeadStage<'static>> for AnyStage {
    fn from(stage: HeadStage<'static>) -> Self {
        Self(Role::Head(stage))
    }
}

impl From<MiddleStage<'static>> for AnyStage {
    fn from(stage: MiddleStage<'static>) -> Self {
        Self(Role::Middle(stage))
    }
}

impl From<TailStage<'static>> for AnyStage {
    fn from(stage: TailStage<'static>) -> Self {
        Self(Role::Tail(stage))
    }
}
