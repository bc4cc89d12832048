//! The work of a described stage, as the controller and a host use it: its kind, and its instances.

use super::description::{
    HeadKind, HeadWork, MiddleKind, MiddleStage, MiddleWork, Stage, TailKind, TailWork,
};
use super::runner::Worker;
use super::settings::StageKind;
use crate::memory::InstanceId;

/// The work of one role, as the controller and a host use it.
pub(crate) trait Work<'a> {
    /// Kind of the work, for the process that runs it.
    fn kind(&self) -> StageKind;

    /// Makes instance `id`, ready to be moved to its thread.
    fn worker(&mut self, id: InstanceId) -> Worker<'a>;

    /// True if this program has the stage's code.
    fn has_code(&self) -> bool;
}

/// The view of a stage from the controller and from a host.
impl<W> Stage<W> {
    /// Kind of the stage's work, for the process that runs it.
    pub(crate) fn kind<'a>(&self) -> StageKind
    where
        W: Work<'a>,
    {
        self.work.kind()
    }

    /// True if this program has the stage's code.
    pub(crate) fn has_code<'a>(&self) -> bool
    where
        W: Work<'a>,
    {
        self.work.has_code()
    }

    /// Makes instance `id` by the stage's factory, ready to be moved to its thread.
    pub(crate) fn worker<'a>(&mut self, id: InstanceId) -> Worker<'a>
    where
        W: Work<'a>,
    {
        self.work.worker(id)
    }
}

impl<'a> MiddleStage<'a> {
    /// As [`worker`](Self::worker), for a process, which may be killed: a stage that works in place
    /// gets copies.
    pub(crate) fn worker_on_copies(&mut self, id: InstanceId) -> Worker<'a> {
        match &mut self.work.0 {
            MiddleKind::InPlace(make) => Worker::on_copies(make(id)),
            _ => self.worker(id),
        }
    }
}

impl<'a> Work<'a> for HeadWork<'a> {
    fn kind(&self) -> StageKind {
        match self.0 {
            HeadKind::Fill(_) => StageKind::Fill,
            HeadKind::Port(_) => StageKind::Loop,
            HeadKind::Described(kind) => kind,
        }
    }

    fn worker(&mut self, id: InstanceId) -> Worker<'a> {
        match &mut self.0 {
            HeadKind::Fill(make) => Worker::head(make(id)),
            HeadKind::Port(run) => Worker::head_loop(take_loop(run)),
            HeadKind::Described(_) => Worker::without_code(),
        }
    }

    fn has_code(&self) -> bool {
        !matches!(self.0, HeadKind::Described(_))
    }
}

impl<'a> Work<'a> for MiddleWork<'a> {
    fn kind(&self) -> StageKind {
        match self.0 {
            MiddleKind::Transform(_) => StageKind::Transform,
            MiddleKind::InPlace(_) => StageKind::InPlace,
            MiddleKind::Analyze(_) => StageKind::Analyze,
            MiddleKind::FlatMap(_) => StageKind::FlatMap,
            MiddleKind::Port(_) => StageKind::Loop,
            MiddleKind::Described(kind) => kind,
        }
    }

    fn worker(&mut self, id: InstanceId) -> Worker<'a> {
        match &mut self.0 {
            MiddleKind::Transform(make) => Worker::transform(make(id)),
            MiddleKind::InPlace(make) => Worker::in_place(make(id)),
            MiddleKind::Analyze(make) => Worker::analyze(make(id)),
            MiddleKind::FlatMap(make) => Worker::flat_map(make(id)),
            MiddleKind::Port(run) => Worker::middle_loop(take_loop(run)),
            MiddleKind::Described(_) => Worker::without_code(),
        }
    }

    fn has_code(&self) -> bool {
        !matches!(self.0, MiddleKind::Described(_))
    }
}

impl<'a> Work<'a> for TailWork<'a> {
    fn kind(&self) -> StageKind {
        match self.0 {
            TailKind::Write(_) => StageKind::Write,
            TailKind::Port(_) => StageKind::Loop,
            TailKind::Described(kind) => kind,
        }
    }

    fn worker(&mut self, id: InstanceId) -> Worker<'a> {
        match &mut self.0 {
            TailKind::Write(make) => Worker::tail(make(id)),
            TailKind::Port(run) => Worker::tail_loop(take_loop(run)),
            TailKind::Described(_) => Worker::without_code(),
        }
    }

    fn has_code(&self) -> bool {
        !matches!(self.0, TailKind::Described(_))
    }
}

fn take_loop<T>(run: &mut Option<T>) -> T {
    run.take().expect("a loop has one instance")
}
