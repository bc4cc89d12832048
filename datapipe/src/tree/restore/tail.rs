//! The tail that restores a tree: an assembler whose sink is a writer.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::error::StageError;
use crate::pool::Block;
use crate::stage::{Following, Tail, TailStage};
use crate::tree::select::CatalogueQuery;
use crate::tree::select::Selection;
use crate::wire::OwnerName;
use crate::words::name_limit;

use super::arguments::RestoreArguments;
use super::assembler::ObjectAssembler;
use super::open_directory::OpenDirectory;
use super::options::RestoreOptions;
use super::report::RestoreReport;
use super::scope::RestoreScope;
use super::sink::Sink;
use super::writer::Writer;

/// Restores the objects of an archived tree below a directory.
///
/// It takes blocks that are decrypted and decompressed. An object that cannot be restored is a
/// [`RestoreProblem`](super::RestoreProblem) in the [report](Self::report), and the others are
/// restored all the same; only a destination that can take nothing more stops the pipe, and
/// not a full or read-only file system that is mounted below it. So check
/// [`RestoreOutcome::is_whole`](super::RestoreOutcome::is_whole) when the pipe has ended.
///
/// A damaged object is never left under its name: the recovered part of a file is named
/// `NAME.damaged`, or `NAME.damaged.1` and so on. A file has a hidden name,
/// `.datapipe-RUN-N.part`, until it is complete and, with [`sync`](RestoreOptions::sync), on stable
/// storage. Until then a file that is overwritten keeps its old content. What a restore has made it
/// never overwrites: an archive may have a path twice, and a file system may take two names for
/// one.
///
/// Existing files and directories stay as they are and are problems, unless they may be
/// [overwritten](RestoreOptions::overwrite). An existing directory that is not selected, and only
/// on the way to what is, stays as it is in silence, and so does `dest` itself.
///
/// An attribute that cannot be set costs no more than itself: it is a problem, and the object is
/// complete otherwise. Extended attributes and access control lists that the archive does not have
/// are removed from what is restored, for example those that a directory gives to new files. Only
/// labels that the system or a security module gives stay, which is noted.
///
/// Owners, setuid and setgid, devices, and `security.*` and `trusted.*` attributes are restored for
/// root only. Modes and times of directories are set when everything else is done. Owners, modes
/// and times that a file system does not keep, or keeps less precisely, are problems.
///
/// A pipe that fails leaves no partial file under its name, but directories with mode 0700. One
/// that is cancelled, or whose destination is full, removes what it has of a file: that is not
/// damaged, and the next restore brings it whole. A process that dies in the middle also leaves
/// parts under hidden names. A later restore to the same directory removes them; a lock in that
/// directory, `.datapipe-RUN.lock`, keeps it from removing those of a restore that still runs.
/// Restore with [`overwrite`](RestoreOptions::overwrite) then.
///
/// As a [`TailStage`] it can run in a process, which gets the open directory. A confined process
/// must be allowed to write there and to the directory for temporary files, to which a large
/// restore moves the data that exceeds its memory. The [report](Self::report) then lags by at most
/// a tenth of a second, and is complete when the pipe has ended.
///
/// It defends itself against the archive, and not against another process that changes the
/// destination at the same time.
///
/// # Examples
///
/// ```no_run
/// use datapipe::prelude::*;
/// use datapipe::tree::{RestoreOptions, TreeRestore};
///
/// let reader = ArchiveReader::open(VirtualTape::open("nightly.tap")?, None)?;
/// let paths = [b"home/ada".to_vec()];
/// let restore = TreeRestore::paths("/srv/restored", RestoreOptions::default(), &paths)?;
/// let report = restore.report();
/// reader.read().instances(2).pipe.tail(restore).run()?;
/// for problem in report.snapshot().problems {
///     eprintln!("{problem}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TreeRestore {
    assembler: ObjectAssembler<Writer>,
    arguments: RestoreArguments,
}

impl TreeRestore {
    /// Creates a tail that restores the whole archive to the directory `dest`, which must exist.
    /// It is the only path that may lead through symbolic links.
    ///
    /// # Errors
    ///
    /// The system's error if `dest` cannot be opened.
    pub fn new(dest: impl AsRef<Path>, options: RestoreOptions) -> io::Result<Self> {
        Self::paths(dest, options, &[])
    }

    /// Creates a tail that restores only these paths below the root of the archive, with everything
    /// below them. `paths` are those of [`Selection::new`](crate::tree::Selection::new): without
    /// any, everything is restored. The tail must receive all blocks of the archive; a
    /// [`part`](Self::part) does not need them. A hard link is a problem if the first name of its
    /// file is not among the paths: only a [`part`](Self::part) knows where the file is.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn paths(
        dest: impl AsRef<Path>,
        options: RestoreOptions,
        paths: &[Vec<u8>],
    ) -> io::Result<Self> {
        let scope = RestoreScope::of_all_blocks(Selection::new(paths));
        Self::to_directory(open_directory(dest.as_ref())?, &options, scope)
    }

    /// Creates a tail that restores the result of a query: its paths, from its
    /// [blocks](CatalogueQuery::blocks), which are the only ones it receives, or from all blocks if
    /// the query has searched the [objects](CatalogueQuery::search_objects). A hard link is
    /// restored as the file itself if the first name of the file is not among the paths.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn part(
        dest: impl AsRef<Path>,
        options: RestoreOptions,
        query: &CatalogueQuery,
    ) -> io::Result<Self> {
        let scope = RestoreScope::of_part(query.part());
        Self::to_directory(open_directory(dest.as_ref())?, &options, scope)
    }

    pub(in crate::tree) fn to_directory(
        dest: OwnedFd,
        options: &RestoreOptions,
        scope: RestoreScope,
    ) -> io::Result<Self> {
        let (dest, report) = (Arc::new(dest), RestoreReport::default());
        let arguments = RestoreArguments::new(Arc::clone(&dest), options, &scope);
        let arguments = arguments.map_err(name_limit)?;
        let dest = Arc::new(OpenDirectory::existing(dest));
        let mut writer = Writer::new(dest, options, &report).map_err(name_limit)?;
        for (&(kind, id), name) in &scope.owners {
            writer.name_owner(&OwnerName { kind, id, name });
        }
        let assembler = ObjectAssembler::new(writer, scope, report).with_threads(options.threads);
        Ok(Self {
            assembler,
            arguments,
        })
    }

    /// Returns the report of this restore. It is final when the pipe has ended.
    pub fn report(&self) -> RestoreReport {
        self.assembler.report().clone()
    }
}

impl Tail for TreeRestore {
    fn name(&self) -> &str {
        "tree-restore"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.assembler.accept_block(block)
    }

    fn write_ahead(&mut self, block: Block, following: &Following<'_>) -> Result<(), StageError> {
        self.assembler.accept_blocks(block, following)
    }

    /// They have numbers, and a gap in the numbers is a loss.
    fn takes_control_blocks(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.assembler.finish()
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        self.arguments.describe(stage).mirrored(&self.report())
    }
}

/// Opens the directory to restore to.
pub(in crate::tree) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()));
    opened.map_err(|error| name_limit(error.into()))
}
