//! A copy of an archive to another medium, without its key.

use std::io;
use std::time::Duration;

use datapipe::archive::Reading;
use datapipe::prelude::*;
use datapipe::wire::Framing;

use crate::failure::Failure;
use crate::status::DP_ERR_ARGUMENT;

use super::archive::{Selection, log_damage};
use super::backup::WriteMode;
use super::hooks::{Hooks, Progress};
use super::medium::Medium;
use super::read::damage_log;
use super::run::run;
use super::secret::SecretSource;

/// A copy of one archive, in a session of its own.
pub(crate) struct Copy {
    pub(crate) from: Medium,
    pub(crate) selection: Selection,
    /// Opens the names of encrypted archives, among which the selection looks.
    pub(crate) secret: Option<SecretSource>,
    pub(crate) to: Medium,
    pub(crate) mode: WriteMode,
    pub(crate) volumes: VolumeOptions,
    pub(crate) framing: Option<Framing>,
    pub(crate) record_len: Option<usize>,
}

/// Result of a copy.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CopyDone {
    pub(crate) problems: u64,
    pub(crate) bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) volumes: u32,
    pub(crate) elapsed: Duration,
    pub(crate) header_hash: [u8; 32],
}

impl Copy {
    /// Runs the copy.
    pub(crate) fn run(self, hooks: &mut Hooks) -> Result<CopyDone, Failure> {
        hooks.check()?;
        if self.from.overlaps(&self.to) {
            let reason = "is the source of the copy, or a part of it: name another medium";
            return Err(self.to.failure(DP_ERR_ARGUMENT, reason));
        }
        match self.mode {
            WriteMode::New => self.to.check_empty()?,
            WriteMode::Overwrite => {}
            WriteMode::Append => drop(self.to.check_append(None, true, hooks)?),
        }
        self.from.warn_if_written();
        let secret = self.secret.as_ref().map(SecretSource::read).transpose()?;
        hooks.check()?;
        let opened = (self.selection).open_stored(&self.from, secret.as_ref(), hooks)?;
        log_damage(&self.from, &opened.damage);
        let stored = opened.archive;
        let header_hash = stored.header_hash();
        let log = damage_log(hooks);
        let stored = stored.salvage(&log);
        let mut copy = stored.copy();
        if let Some(framing) = self.framing {
            copy = copy.framing(framing);
        }
        if let Some(len) = self.record_len(stored.session().record_len as usize) {
            copy = copy.record_len(len);
        }
        let copy = copy.plan()?;
        // A pipe that cannot run is refused before the medium is created.
        stored
            .read()
            .pipe
            .tail(StreamTail::new(io::sink()))
            .plan()?;
        let (medium, _) = match self.mode {
            WriteMode::Append => self.to.append(self.volumes.clone())?,
            _ => self.to.create(self.volumes.clone())?,
        };
        let copy = match self.mode {
            WriteMode::Append => copy.after(self.to.sessions_before()?),
            _ => copy,
        };
        let (written, total) = (copy.report(), self.from.bytes());
        let Reading { pipe, report } = stored.read();
        let ended = run(pipe.archive(copy, medium), hooks, |progress| Progress {
            read: report.snapshot().read,
            total,
            ..progress
        })?;
        let written = written.snapshot();
        Ok(CopyDone {
            problems: ended.problems,
            bytes: ended.bytes_out(),
            blocks: written.blocks,
            volumes: written.volumes,
            elapsed: ended.status.elapsed,
            header_hash,
        })
    }

    /// Length of the records, if it is not the planned one: a small volume needs small records.
    fn record_len(&self, planned: usize) -> Option<usize> {
        let most = self
            .volumes
            .volume_size
            .map(|size| usize::try_from(size / 8));
        match (self.record_len, most) {
            (Some(len), _) => Some(len),
            (None, Some(Ok(most))) if most < planned => Some(most),
            _ => None,
        }
    }
}
