//! The stages of an archive in a pipe.

use crate::controller::PipeBuilder;
use crate::media::MediumWriter;
use crate::stage::{MiddleStage, TailStage};

use super::super::plan_data::PlanData;
use super::super::report::WriteReport;
use super::super::seal;
use super::super::special::Special;
use super::options::Archive;
use super::plan_error::PlanError;
use super::squeeze::squeeze_stage;
use super::tail::ArchiveTail;

impl Archive {
    /// Adds a special header, which is written before the archive's data. The archive's pipe then
    /// has a stage `squeeze`, which sends it.
    ///
    /// # Errors
    ///
    /// [`PlanError::Special`] if it is longer than the archive's blocks less 24 bytes, the archive
    /// is a copy, or it has [`MAX_SPECIALS`](crate::limits::MAX_SPECIALS) already.
    pub fn special(mut self, special: Special) -> Result<Self, PlanError> {
        if self.data.copy_of.is_some() {
            let (id, why) = (
                special.id(),
                "a copy has those of its source, and no others",
            );
            return Err(PlanError::Special { id, why });
        }
        special.check_added(&self.specials, self.data.header.block_len)?;
        self.specials.push(special);
        Ok(self)
    }

    /// True if it has special headers, which the stages of [`separate_stages`] do not send.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn has_specials(&self) -> bool {
        !self.specials.is_empty()
    }
}

impl<'a> PipeBuilder<'a> {
    /// Ends the pipe with an archive on `medium`, which must be empty, in place of an earlier
    /// [`tail`](Self::tail) or archive.
    ///
    /// The archive's stages come after all others, also after those that are added later:
    ///
    /// - `squeeze`, on a thread of the controller, which closes the gaps of dropped blocks. It is
    ///   left out if all other stages are the library's own, which drop none, and the archive has
    ///   no special headers.
    /// - `aes-256-gcm`, if the archive has a key. It needs 16 bytes of tailroom, and fails on a
    ///   block that is encrypted already.
    /// - `archive-tail`, one instance.
    ///
    /// So stages of one's own may change the length of blocks, drop, add and merge them. In an
    /// archive of a tree they may only change the length, and a restore has to undo that before
    /// [`TreeRestore`](crate::tree::TreeRestore): the tree's catalogue has the numbers of its
    /// blocks.
    ///
    /// The last block of an archive has no data. It says that the archive ends there, in a way that
    /// only the key can make if there is one. The head's last instance to end sends it, and it
    /// passes all other stages: [`BlockInfo::is_control`](crate::pool::BlockInfo::is_control).
    ///
    /// The first block ends the pipe with an error if it is of a stream and the archive of a tree,
    /// or the reverse. [`Archive::map_seal`] and [`Archive::map_tail`] change the settings of the
    /// stages, [`Archive::report`] returns the report of the writing.
    ///
    /// ```
    /// use datapipe::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("nightly.tap");
    ///
    /// let key = Secret::Key(Key::from_bytes([7; 32]));
    /// let archive = ArchiveOptions::stream("nightly").encrypt(key).plan()?;
    /// let report = archive.report();
    /// let plan = Pipe::builder()
    ///     .head(StreamHead::new(&b"the only copy"[..]))
    ///     .archive(
    ///         archive.map_seal(|seal| seal.instances(2)),
    ///         VirtualTape::create(path, VolumeOptions::default())?,
    ///     )
    ///     .stage(zstd(3));
    /// assert_eq!(
    ///     plan.plan()?.to_string(),
    ///     "pipe  stream-head > zstd > aes-256-gcm x2 > archive-tail"
    /// );
    /// plan.run()?;
    /// assert!(report.snapshot().complete);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn archive<'b, 'c>(
        self,
        archive: Archive,
        medium: impl MediumWriter + 'b,
    ) -> PipeBuilder<'c>
    where
        'a: 'c,
        'b: 'c,
    {
        let accepts_empty = medium.accepts_empty();
        self.archive_by(archive, accepts_empty, |plan, report| {
            ArchiveTail::new(plan, medium, report)
        })
    }

    /// Ends the pipe with an archive whose tail `tail` makes. `accepts_empty` is that of its
    /// medium.
    pub(super) fn archive_by<'b, 'c, M: MediumWriter + 'b>(
        self,
        archive: Archive,
        accepts_empty: bool,
        tail: impl FnOnce(PlanData, WriteReport) -> ArchiveTail<M>,
    ) -> PipeBuilder<'c>
    where
        'a: 'c,
        'b: 'c,
    {
        let content = archive.data.header.content;
        let specials = archive.specials.clone();
        let archive_is_new = archive.data.copy_of.is_none();
        let (seal, tail) = stages_by::<'b, M>(archive, tail);
        // The blocks of a copy keep the numbers that they have.
        let squeeze = archive_is_new.then(|| squeeze_stage(content, specials, accepts_empty));
        let before = squeeze.into_iter().chain(seal.map(MiddleStage::shorten));
        self.shorten().tail_after(before, tail.shorten())
    }
}

/// Returns the seal, if the archive has a key, and the tail.
#[cfg(any(test, feature = "testkit"))]
pub(crate) fn separate_stages<'a>(
    archive: Archive,
    medium: impl MediumWriter + 'a,
) -> (Option<MiddleStage<'a>>, TailStage<'a>) {
    stages_by(archive, |plan, report| {
        ArchiveTail::new(plan, medium, report)
    })
}

fn stages_by<'a, M: MediumWriter + 'a>(
    archive: Archive,
    make_tail: impl FnOnce(PlanData, WriteReport) -> ArchiveTail<M>,
) -> (Option<MiddleStage<'a>>, TailStage<'a>) {
    let Archive {
        mut data,
        report,
        seal_settings,
        tail_settings,
        ..
    } = archive;
    let id = data.header.id;
    let seal = data.key.take().map(|key| {
        let stage = seal::seal_stage(key).of_archive(id);
        seal_settings
            .into_iter()
            .fold(stage, |stage, map| map(stage))
    });
    let tail = TailStage::from(make_tail(data, report)).of_archive(id);
    let tail = tail_settings
        .into_iter()
        .fold(tail, |stage, map| map(stage));
    (seal, tail)
}
