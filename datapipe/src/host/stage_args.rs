//! Everything that a module has to make a stage from.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::allowed_paths::{LastLink, PathUse, judge};
use super::launch_request::Job;
use super::message::StageMessage;
use super::message_sources::{MessageSources, Notifier};
use crate::error::StageError;
use crate::stage::mirror::{Mirror, Mirrors};
use crate::stage::{Confinement, DamageLog, Fields, Module};
use crate::words::len_of;

/// Arguments, descriptors and message channel from which a module makes a stage.
#[derive(Debug)]
pub struct StageArgs<'c> {
    module: &'c Module,
    confinement: Option<&'c Confinement>,
    restores_plainly: bool,
    messages: &'c MessageSources,
}

impl<'c> StageArgs<'c> {
    pub(super) fn new(job: &'c Job, messages: &'c MessageSources) -> Self {
        Self {
            module: &job.module,
            confinement: job.confinement.as_ref(),
            restores_plainly: job.restores_plainly,
            messages,
        }
    }
}

impl StageArgs<'_> {
    /// The arguments that were passed to [`Stage::module`](crate::stage::Stage::module).
    pub fn arguments(&self) -> &[u8] {
        &self.module.arguments
    }

    /// The arguments, decoded as the fields that [`Arguments`](crate::stage::Arguments) encodes.
    ///
    /// # Errors
    ///
    /// If the arguments are not a sequence of whole fields.
    pub fn fields(&self) -> Result<Fields<'_>, StageError> {
        Fields::read(&self.module.arguments)
    }

    /// The arguments as text.
    ///
    /// # Errors
    ///
    /// If they are not UTF-8.
    pub fn text(&self) -> Result<&str, StageError> {
        Ok(str::from_utf8(&self.module.arguments)?)
    }

    /// A duplicate of descriptor `n`, counted from 0 in the order of
    /// [`Stage::module_with_descriptors`](crate::stage::Stage::module_with_descriptors).
    ///
    /// # Errors
    ///
    /// If there are only `n` descriptors or fewer, or the system cannot duplicate it.
    pub fn descriptor(&self, n: usize) -> Result<OwnedFd, StageError> {
        let descriptors = &self.module.descriptors;
        let none = || {
            StageError::new(format!(
                "missing descriptor {n}: the module has {}",
                len_of(descriptors.len(), "descriptor")
            ))
        };
        Ok(descriptors.get(n).ok_or_else(none)?.try_clone()?)
    }

    /// Judges a path of the arguments that the stage is to read: returns the path without symbolic
    /// links if the [confinement](crate::stage::Stage::confined) of the process allows it. The
    /// kernel prevents a confined process from opening other files, but not from inspecting them
    /// and their links. Without a confinement, every path is returned as it is.
    ///
    /// # Errors
    ///
    /// If the path is not allowed, or cannot be resolved. The error reveals nothing about files
    /// outside of the allowed paths, also not that they exist.
    pub fn allow_read(&self, path: impl AsRef<Path>) -> Result<PathBuf, StageError> {
        judge(
            self.confinement,
            path.as_ref(),
            PathUse::Read,
            LastLink::Followed,
        )
    }

    /// As [`allow_read`](Self::allow_read), for a path that the stage is to write. It need not
    /// exist, but its directory must.
    ///
    /// # Errors
    ///
    /// As [`allow_read`](Self::allow_read).
    pub fn allow_write(&self, path: impl AsRef<Path>) -> Result<PathBuf, StageError> {
        judge(
            self.confinement,
            path.as_ref(),
            PathUse::Write,
            LastLink::Followed,
        )
    }

    /// As [`allow_read`](Self::allow_read), for an object that is read as a link if it is one.
    pub(crate) fn allow_read_of_object(&self, path: &Path) -> Result<PathBuf, StageError> {
        judge(self.confinement, path, PathUse::Read, LastLink::Kept)
    }

    /// True if the process may open, or inspect, no other paths than those of a list.
    pub(crate) fn is_confined(&self) -> bool {
        self.confinement.is_some()
    }

    /// True if the stage must not restore owners, setuid, setgid, file capabilities and devices:
    /// [`Stage::restores_plainly`](crate::stage::Stage::restores_plainly).
    pub fn restores_plainly(&self) -> bool {
        self.restores_plainly
    }

    /// Number of descriptors that came with the arguments.
    pub(crate) fn descriptors(&self) -> usize {
        self.module.descriptors.len()
    }

    /// A log of damage whose contents the caller's log receives.
    pub(crate) fn damage_log(&self) -> DamageLog {
        let log = DamageLog::new();
        self.mirror(&log);
        log
    }

    /// From now on sends what changes in `report` to the caller's copy, which
    /// [`Stage::mirrored`](crate::stage::Stage::mirrored) names. The reports of the stage that the
    /// module makes are sent without that: this is for a stage that cannot name its report.
    pub(crate) fn mirror<M: Mirror>(&self, report: &M) {
        self.messages.add_reports(&Mirrors::default().with(report));
    }

    /// From now on polls `source` ten times a second, and once after the stage has ended, for new
    /// messages. The stage's handler in the controller
    /// ([`Stage::on_message`](crate::stage::Stage::on_message)) receives each [`StageMessage`], in
    /// order. If the process is killed, messages that had not been polled are lost; send them [at
    /// once](Notifier::send_pending) to prevent that. A panic of `source` fails the stage.
    pub fn add_message_source(
        &self,
        source: impl FnMut() -> Vec<StageMessage> + Send + 'static,
    ) -> Notifier {
        Notifier::new(self.messages, source)
    }
}
