//! The check of the blocks of an archive in a pipe whose stages are modules.
//!
//! The pipe's description has the modules' names and arguments only. Therefore the check knows the
//! numbers of the blocks from the format, and learns from the arguments of the head how long they
//! are and if the reading goes on after damage.

use crate::controller::PipeBuilder;
use crate::error::StageError;
use crate::limits::MAX_BUFFER_SIZE;
use crate::pool::Block;
use crate::stage::{DamageLog, Fields, InPlace, SALVAGE, Stage, Verdict};

use super::super::arguments::{BLOCK_LEN, ENCRYPTED, OPEN_MODULE, RUNS};
use super::super::report::{DamageReporter, ReadReport};
use super::order::{Specials, order_stage};

impl PipeBuilder<'_> {
    /// Adds the stage `order` if the module of the head reads an archive and no stage checks its
    /// blocks yet: [`ArchiveHead::check`](crate::archive::ArchiveHead::check). It comes after the
    /// module that decrypts, or after the head, and runs on a thread of this program. Call it after
    /// all stages were added.
    ///
    /// If it finds blocks missing, repeated or out of order, the pipe fails, or counts a problem
    /// if the head has the field `salvage`.
    ///
    /// A pipe whose head has the field `runs` fails: the special headers of an archive of which
    /// only some blocks are read come from a reader, and this pipe has none.
    ///
    /// It is not added if the head says that the archive is encrypted and no module decrypts it:
    /// the check needs decrypted blocks. Such a pipe counts a problem.
    ///
    /// ```
    /// use datapipe::prelude::*;
    /// use datapipe::stage::{Arguments, StageKind};
    ///
    /// let medium = Arguments::new().with("medium", "tape").with("path", "/backup/nightly.tap");
    /// let head = Stage::head_of_module("head", StageKind::Fill)
    ///     .expect("a head can have this kind")
    ///     .module("datapipe.archive-head", medium);
    /// let pipe = Pipe::builder().head(head).stage(decompress());
    /// let pipe = pipe.tail(StreamRestore::new(std::io::sink())).check_archive();
    /// # let _ = pipe;
    /// ```
    pub fn check_archive(self) -> Self {
        let head = self.archive_head_arguments();
        let Some(arguments) = head.filter(|_| !self.checks_archive()) else {
            return self;
        };
        let settings = HeadArguments::of(arguments);
        let modules: Vec<_> = self.middle_modules().collect();
        let opened = modules.iter().rposition(|name| *name == Some(OPEN_MODULE));
        if opened.is_none() && settings.is_encrypted {
            return self;
        }
        let log = settings.salvages.then(DamageLog::new);
        let check = if settings.has_runs {
            let refuse = Stage::in_place("order", |_| RefuseRuns).checks_archive();
            refuse.fixed().local("it lets no block pass")
        } else {
            let (reporter, report) = (DamageReporter { log }, ReadReport::default());
            // Control blocks go on to every tail, which takes those that it knows.
            let specials = Specials::default();
            order_stage(
                (None, false),
                settings.block_len,
                true,
                &reporter,
                &report,
                specials,
            )
        };
        self.stage_at(opened.map_or(0, |at| at + 1), check)
    }
}

/// Lets no block pass.
struct RefuseRuns;

impl RefuseRuns {
    fn refuse<T>() -> Result<T, StageError> {
        Err(StageError::new(
            "the head has the field `runs`, and a pipe of modules cannot check a reading of some \
             blocks: read them with ArchiveReader::read_blocks, or all blocks without `runs`",
        ))
    }
}

impl InPlace for RefuseRuns {
    fn transform(&mut self, _: &mut Block) -> Result<Verdict, StageError> {
        Self::refuse()
    }

    fn takes_control_blocks(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), StageError> {
        Self::refuse()
    }
}

/// The arguments of a head's module that concern the check. Invalid ones fail in the module.
struct HeadArguments {
    block_len: u32,
    salvages: bool,
    is_encrypted: bool,
    has_runs: bool,
}

impl HeadArguments {
    fn of(arguments: &[u8]) -> Self {
        let mut settings = Self {
            block_len: MAX_BUFFER_SIZE,
            salvages: false,
            is_encrypted: false,
            has_runs: false,
        };
        let Ok(mut fields) = Fields::read(arguments) else {
            return settings;
        };
        let block_len = fields.optional(BLOCK_LEN).ok().flatten();
        let block_len = block_len.and_then(|text| str::from_utf8(text).ok()?.parse().ok());
        settings.block_len = block_len.unwrap_or(MAX_BUFFER_SIZE);
        settings.salvages = fields.flag(SALVAGE).unwrap_or(false);
        settings.is_encrypted = fields.flag(ENCRYPTED).unwrap_or(false);
        settings.has_runs = fields.flag(RUNS).unwrap_or(false);
        settings
    }
}
