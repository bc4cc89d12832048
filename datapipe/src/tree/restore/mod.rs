//! Puts file trees back: the tail that restores, and the one that only verifies.
//!
//! ```text
//!   blocks -> follow: entries of open objects, digests, gaps -> write: beneath DEST, by descriptor
//!                        |                                         |
//!                        +----------------> report <---------------+
//! ```
//!
//! What is in an archive may have been written by an enemy. It can fill the destination with what
//! it likes, and change nothing else: no path leads out of it, and no symbolic link is followed.

mod attributes; // owner, mode, extended attributes, times
mod beneath; // the destination, by descriptor
mod follow; // objects through blocks: which are whole
mod lanes; // files that are made at the same time
mod lost; // objects in blocks that are lost
mod open; // an object that is open
mod part; // what is wanted
mod report; // what became of it
mod spill; // what is needed later, in bounded memory
mod write; // files, directories and everything else

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::error::StageError;
use crate::pool::Block;
use crate::stage::{Arguments, Tail, TailStage};
use crate::tree::modules::{OfRestore, TREE_VERIFY_MODULE};
use crate::tree::selection::Selection;
use crate::tree::wanted::CatalogueQuery;
use crate::wire::ObjectMeta;

pub(super) use part::Part;
pub(super) use report::Told as ToldOfRestore;
pub use report::{RestoreProblem, RestoreReport};

use follow::{Failure, Follower, Sink};
use open::Described;
use spill::{Became, First};
use write::Writer;

/// How a tree is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Whether what exists is replaced, and existing directories get the archive's attributes. A
    /// directory is never replaced by something else, nor something else by a directory.
    pub overwrite: bool,
    /// Only these paths below the root of the archive, and what is below them; if there are none,
    /// everything.
    pub paths: Vec<Vec<u8>>,
    /// Whether all that was written is on stable storage when the pipe has ended well.
    pub sync: bool,
    /// Threads that make files, up to [`MAX_RESTORE_THREADS`](crate::limits::MAX_RESTORE_THREADS);
    /// 0 is one for each processor. They take part only while the tail has a block.
    pub threads: usize,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            overwrite: false,
            paths: Vec::new(),
            sync: true,
            threads: 0,
        }
    }
}

/// Puts the objects of an archived tree back beneath a directory.
///
/// It takes blocks that are decrypted and decompressed. What cannot be restored is a [`RestoreProblem`] in
/// the [report](Self::report), and the rest is restored all the same; only a destination that takes
/// nothing more stops the pipe. So look at [`RestoreReport::is_whole`] when the pipe has ended.
///
/// An object that is damaged is never left under its name: what there is of a file is called
/// `NAME.damaged`, or `NAME.damaged.1` and so on. A file that is overwritten keeps its old content
/// until the new one is whole; and a new one has no permissions at all before it is, which tells it
/// from the others if the process that makes it is killed.
///
/// Owners, setuid and setgid, devices, and attributes of the system are restored for root only.
/// Modes and times of directories are set when everything else is done.
///
/// A pipe that fails leaves no file half-written under its name, but directories with mode 0700. A
/// process that dies in the middle leaves such files too, or `.datapipe-PID-N` where they were to
/// replace another. Restore again then, with [`overwrite`](RestoreOptions::overwrite).
///
/// As a [`TailStage`] it can run in a process, which gets the open directory. One that is confined
/// must be allowed to write there, and to the directory for temporary files, where goes what a
/// large restore has to remember. The [report](Self::report) is at most a tenth of a second behind
/// then, and complete when the pipe has ended.
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
/// let options = RestoreOptions { paths: vec![b"home/ada".to_vec()], ..Default::default() };
/// let restore = TreeRestore::new("/srv/restored", options)?;
/// let report = restore.report();
/// reader.read(2).pipe.tail(restore).run()?;
/// for problem in report.problems() {
///     eprintln!("{problem}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TreeRestore {
    follower: Follower<Writer>,
    module: OfRestore,
}

impl TreeRestore {
    /// A tail that restores to the directory `dest`, which must exist. It is the only path that may
    /// lead through symbolic links.
    ///
    /// # Errors
    ///
    /// What the system says if `dest` cannot be opened.
    pub fn new(dest: impl AsRef<Path>, options: RestoreOptions) -> io::Result<Self> {
        let part = Part::everything(Selection::new(&options.paths));
        Self::to_directory(directory(dest.as_ref())?, &options, part)
    }

    /// A tail that restores what was found: it gets only the [blocks](CatalogueQuery::blocks) that have
    /// something of it. Instead of the paths in the options count those of `wanted`. A further name
    /// of a file is restored as that file, if its first name is not wanted.
    ///
    /// # Errors
    ///
    /// As of [`new`](Self::new).
    pub fn part(
        dest: impl AsRef<Path>,
        options: RestoreOptions,
        wanted: &CatalogueQuery,
    ) -> io::Result<Self> {
        let (selection, blocks, called) = wanted.part();
        let part = Part {
            selection,
            blocks: Some(blocks),
            called,
        };
        Self::to_directory(directory(dest.as_ref())?, &options, part)
    }

    pub(super) fn to_directory(
        dest: OwnedFd,
        options: &RestoreOptions,
        part: Part,
    ) -> io::Result<Self> {
        let (dest, report) = (Arc::new(dest), RestoreReport::default());
        let module = OfRestore::new(Arc::clone(&dest), options, &part)?;
        let writer = Writer::new(dest, options.overwrite, options.sync, &report)?;
        let follower = Follower::new(writer, part, report, false).on_threads(options.threads);
        Ok(Self { follower, module })
    }

    /// What becomes of it: final when the pipe has ended.
    pub fn report(&self) -> RestoreReport {
        self.follower.report().clone()
    }
}

impl Tail for TreeRestore {
    fn name(&self) -> &str {
        "tree-restore"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.follower.block(block)
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.follower.finish()
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        self.module.describe(stage).notes(self.report().hearer())
    }
}

/// Opens the directory to restore to.
pub(super) fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Reads an archived tree and checks everything that [`TreeRestore`] does, and the catalogue. It
/// writes nothing, but for temporary files. As a [`TailStage`] it can run in a process.
#[derive(Debug)]
pub struct TreeVerify(Follower<Nowhere>);

impl TreeVerify {
    /// A tail that verifies.
    pub fn new() -> Self {
        let part = Part::everything(Selection::new(&[]));
        Self(Follower::new(Nowhere, part, RestoreReport::default(), true).on_threads(0))
    }

    /// What becomes of it: final when the pipe has ended.
    pub fn report(&self) -> RestoreReport {
        self.0.report().clone()
    }
}

impl Default for TreeVerify {
    fn default() -> Self {
        Self::new()
    }
}

impl Tail for TreeVerify {
    fn name(&self) -> &str {
        "tree-verify"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.0.block(block)
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.0.finish()
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        stage
            .module(TREE_VERIFY_MODULE, Arguments::new())
            .notes(self.report().hearer())
    }
}

/// Where objects go that are only verified.
#[derive(Debug)]
struct Nowhere;

impl Sink for Nowhere {
    type Made = ();

    fn another(&self) -> Self {
        Self
    }

    fn begin(&mut self, _: &ObjectMeta<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn extent(&mut self, (): &mut (), _: u64, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn end(&mut self, (): (), _: &Described, _: u64) -> Result<Became, Failure> {
        Ok(Became::Verified)
    }

    fn link(&mut self, _: &ObjectMeta<'_>, _: &First) -> Result<(), Failure> {
        Ok(())
    }

    fn set_aside(&mut self, (): (), _: &ObjectMeta<'_>) -> String {
        String::new()
    }

    fn finish(&mut self) -> Result<(), StageError> {
        Ok(())
    }
}
