//! The head: instances fill blocks with objects, in turn, and put the catalogue between them.
//!
//! ```text
//!   walk, one at a time:  batch 0   batch 1   batch 2          names; directories, opened
//!   each instance:        open and read what is in its batch, into its block
//!   in turn:              [block 0][block 1][block 2]...       numbered as they are sent
//! ```

use std::ffi::OsString;
use std::fmt;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crate::error::StageError;
use crate::pool::Block;
use crate::stage::{Arguments, Fill, Head, HeadStage, Stage, TREE_HEAD_MODULE};
use crate::wire::make_relative;
use crate::words::count_of;

use super::inspect::InspectorFactory;
use super::note::TreeNote;
use super::object_reader::{FillProgress, ObjectReader};
use super::options::{
    Source, TreeError, TreeOptions, digest_of_sources, head_arguments, name_sources,
    validate_sources,
};
use super::owners::OwnerNames;
use super::reader_gate::{ReadWaits, thread_waits};
use super::report::TreeReport;
use super::turn::{BatchRange, SharedHead};
use super::unsent::entry_ends;
use super::walk::{NextBatch, Walk};

/// Reads file trees into blocks of entries: files, directories, links, fifos and devices, with
/// their attributes.
///
/// Every block is a run of whole entries, so each can be read by itself. Their numbers are relative
/// to those of the entry before: a stage that parses them calls
/// [`make_absolute`](crate::wire::make_absolute) for its copy first. Blocks of the catalogue,
/// which records the position of each object, alternate with the blocks of data, and the complete
/// catalogue follows at the end: [`BlockInfo::kind`] tells them apart. The archive's content is
/// [`Content::Tree`](crate::wire::Content::Tree).
///
/// An object that cannot be read is reported, and is either left out or marked as incomplete. It
/// does not end the pipe. Relative paths are resolved against the working directory when the pipe
/// runs.
///
/// As a [`HeadStage`] it can run in another process. That process opens the sources by their paths
/// when their turn comes, as this one would. If it is confined, it must be allowed to read them,
/// and to write to the directory for temporary files, where the catalogue of a large tree is kept.
/// The [report](Self::report) then lags by at most a tenth of a second, and is complete when the
/// pipe has ended.
///
/// [`BlockInfo::kind`]: crate::pool::BlockInfo::kind
///
/// # Examples
///
/// ```
/// use datapipe::prelude::*;
/// use datapipe::tree::{TreeHead, TreeOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let source = dir.path().to_owned();
/// # std::fs::write(source.join("a"), b"data")?;
/// let head = TreeHead::new(&[source], TreeOptions::default())?;
/// let report = head.report();
/// Pipe::builder().head(head).tail(StreamTail::new(std::io::sink())).run()?;
/// assert_eq!((report.snapshot().files, report.snapshot().directories), (1, 1));
/// for problem in report.snapshot().problems {
///     eprintln!("{problem}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TreeHead {
    shared: Arc<SharedHead>,
    report: TreeReport,
    reader: ObjectReader,
    /// Batches that this instance has taken from the walk and not committed.
    range: BatchRange,
    phase: Phase,
    /// Waits of the reads since this instance entered the gate; `None` outside of it.
    inside: Option<ReadWaits>,
    /// This instance has returned a block from its last call, which has been sent since.
    has_sent: bool,
    /// Offsets at which the entries of a block end.
    ends: Vec<usize>,
    /// Moving average of the bytes of an object in blocks.
    average: usize,
    /// Objects of the last batch, and the bytes in blocks that they have become so far.
    batch_len: usize,
    batch_bytes: usize,
    /// Number of this instance, and of the instances that read.
    number: u32,
    readers: u32,
    /// Maker of this instance's inspector.
    inspectors: Option<InspectorFactory>,
    /// Number of sources, if an archive without content is refused.
    refuses_empty: Option<u64>,
    /// Arguments from which a module makes this head; empty for an instance of a stage that is
    /// described already.
    arguments: Arguments,
}

/// Progress of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Reading,
    /// The walk is exhausted, and this instance sends what follows the objects.
    Closing,
    Ended,
}

/// Assumed bytes of an object before any was read.
const FIRST_AVERAGE: usize = 16 << 10;
/// Approximate number of batches that fill a block.
const BATCHES_PER_BLOCK: usize = 2;

impl TreeHead {
    /// Creates a head that reads `sources`, each under the last name of its path: `/srv/data` as
    /// `data`, `.` and `..` as the name of the directory they refer to, `/` as `root`. A symbolic
    /// link is read as a link, which is a [`TreeNote::LinkSource`] in the report; a path with a
    /// slash at its end refers to the directory.
    ///
    /// # Errors
    ///
    /// [`TreeError`] if a source does not exist, two sources have the same name, or a pattern is
    /// invalid.
    pub fn new<P: AsRef<Path>>(sources: &[P], options: TreeOptions) -> Result<Self, TreeError> {
        Self::with(name_sources(sources)?, options)
    }

    /// Creates a head that reads each path under the name given with it.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), and if a name is invalid: it must not be empty, contain `/` or a
    /// zero byte, or be `.` or `..`.
    pub fn named(
        sources: impl IntoIterator<Item = (OsString, PathBuf)>,
        options: TreeOptions,
    ) -> Result<Self, TreeError> {
        let sources = sources
            .into_iter()
            .map(|(name, path)| Source { name, path });
        Self::with(sources.collect(), options)
    }

    fn with(sources: Vec<Source>, options: TreeOptions) -> Result<Self, TreeError> {
        validate_sources(&sources)?;
        let (arguments, report) = (head_arguments(&sources, &options), TreeReport::default());
        let refuses_empty = options.refuse_empty.then_some(sources.len() as u64);
        let digest = digest_of_sources(&sources, &options);
        let walk = Walk::new(sources, &options, report.clone())?;
        let inspectors = options.inspectors;
        let owners = OwnerNames::new(options.numeric_owner);
        let shared = SharedHead::new(walk, owners, report.clone(), digest);
        let shared = Arc::new(shared);
        let mut head = Self::instance(shared, report, 0, inspectors);
        head.refuses_empty = refuses_empty;
        head.arguments = arguments;
        Ok(head)
    }

    fn instance(
        shared: Arc<SharedHead>,
        report: TreeReport,
        number: u32,
        inspectors: Option<InspectorFactory>,
    ) -> Self {
        let reader = ObjectReader::new(shared.walk.lock().rules());
        Self {
            shared,
            report,
            reader,
            range: BatchRange::default(),
            phase: Phase::New,
            inside: None,
            has_sent: false,
            ends: Vec::new(),
            average: FIRST_AVERAGE,
            batch_len: 0,
            batch_bytes: 0,
            number,
            readers: 1,
            inspectors,
            refuses_empty: None,
            arguments: Arguments::new(),
        }
    }

    /// Returns a stage of `n` instances that read the tree, each on a thread of its own: 1 to
    /// [`MAX_INSTANCES`](crate::limits::MAX_INSTANCES).
    /// [`default_instances`](Self::default_instances) is a good number. The archive contains the
    /// same objects in the same order, in other blocks.
    ///
    /// One instance for each processor reads, and more of them while reads have to wait, up to all.
    /// Reads from memory leave the processors to the other stages that way.
    ///
    /// The benefit: where files have to be fetched before they can be read, from a disk or through
    /// a network, several fetches are in progress at once, and several processors compute digests.
    /// One instance alone reads a large file, or an object with several names, while the others
    /// wait.
    ///
    /// The cost: a tenth more processor time, since entries too few for a block are copied into one
    /// with those of another instance; and memory for at most one block for each instance, and one
    /// more, besides the buffers: entries that were copied and are not sent yet. Blocks are nearly
    /// as full as those of one instance.
    ///
    /// Seconds for 51,000 objects with 560 MB, on two processors, as `tests/tree/measure.rs`
    /// measures:
    ///
    /// | instances | 1 | 2 | 4 | 8 | 16 | tar |
    /// |---|---|---|---|---|---|---|
    /// | nothing cached in memory | 4.8 | 3.1 | 2.5 | 2.1 | 1.9 | 5.1 |
    /// | all cached in memory | 0.78 | 0.49 | 0.48 | 0.48 | | 0.85 |
    ///
    /// Inline, where all instances run on one thread, one of them does all the work. In processes,
    /// all of them run in one process, each on a thread of its own.
    ///
    /// ```
    /// use datapipe::prelude::*;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let source = dir.path().to_owned();
    /// # std::fs::write(source.join("a"), b"data")?;
    /// let head = TreeHead::new(&[source], TreeOptions::default())?;
    /// let report = head.report();
    /// let head = head.instances(TreeHead::default_instances());
    /// Pipe::builder().head(head).tail(StreamTail::new(std::io::sink())).run()?;
    /// assert_eq!(report.snapshot().files, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn instances(self, n: u32) -> HeadStage<'static> {
        let (shared, report) = (Arc::clone(&self.shared), self.report.clone());
        let inspectors = self.inspectors.clone();
        let refuses_empty = self.refuses_empty;
        let head = Stage::head(self.name(), move |id| {
            let before = id.index();
            // All instances are made before any of them runs.
            shared.walk.lock().set_instances(before + 1);
            let (shared, report) = (Arc::clone(&shared), report.clone());
            let mut head = Self::instance(shared, report, before, inspectors.clone());
            head.refuses_empty = refuses_empty;
            head
        });
        self.describe(head.instances(n))
    }

    /// Returns a number of instances that read a tree fast on any medium: as many as there are
    /// processors, at least 8 because with a disk they mostly wait for it, and at most 16. A disk
    /// that has to move its heads may be faster with one.
    pub fn default_instances() -> u32 {
        thread::available_parallelism().map_or(8, |processors| processors.get().clamp(8, 16) as u32)
    }

    /// Returns the report on the tree, which is updated as the pipe runs.
    pub fn report(&self) -> TreeReport {
        self.report.clone()
    }

    /// Fills the next block: first what the turn still requires, if this instance has it, then
    /// objects until the block is full, the next batch is out of turn, or the walk is exhausted.
    fn next_block(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.phase == Phase::Closing {
            return self.close(block);
        }
        if let Some(turn) = self.shared.held_turn(&mut self.range) {
            let (fill, change) = turn.resume(block, &mut self.reader)?;
            if !change.apply(block)? {
                return Ok(Fill::End);
            }
            if let Some(fill) = fill {
                return Ok(fill);
            }
        }
        loop {
            let before = block.len();
            let progress = self.read(block)?;
            self.batch_bytes += block.len() - before;
            let placed = match progress {
                FillProgress::Abandoned => return Ok(Fill::End),
                FillProgress::BlockFull => self.place(block, true)?,
                FillProgress::BatchDone => match self.take_batch(block)? {
                    NextBatch::Batch => None,
                    NextBatch::OutOfTurn => self.place(block, false)?,
                    NextBatch::Exhausted => return Ok(Fill::End),
                    NextBatch::End => {
                        self.phase = Phase::Closing;
                        if block.is_empty() {
                            return self.close(block);
                        }
                        self.place(block, true)?
                    }
                },
            };
            if let Some(fill) = placed {
                return Ok(fill);
            }
        }
    }

    /// Reads objects of the batch into the block, and counts the waits of the reads.
    fn read(&mut self, block: &mut Block) -> Result<FillProgress, StageError> {
        let others = self.range.waits();
        let before = thread_waits();
        let progress = self.reader.fill(block, &self.shared, &mut self.range);
        let waits = thread_waits() - before;
        if let Some(read) = &mut self.inside {
            read.waits += waits.saturating_sub(self.range.waits() - others);
        }
        progress
    }

    /// Takes the next batch from the walk, if it follows the objects in the block or the block has
    /// none. Its size is chosen so that about [`BATCHES_PER_BLOCK`] fill a block.
    fn take_batch(&mut self, block: &Block) -> Result<NextBatch, StageError> {
        let capacity = block.capacity();
        let bytes = self.batch_bytes.min(capacity);
        if let Some(bytes) = bytes.checked_div(self.batch_len) {
            self.average = (3 * self.average + bytes).div_ceil(4);
        }
        let wanted = capacity / BATCHES_PER_BLOCK / self.average;
        self.pass_gate(block);
        let batch = &mut self.reader.batch;
        let mut walk = self.shared.walk.lock();
        let next = walk.next_batch(batch, self.range.next(), wanted);
        let short = walk.rules().check_resources();
        drop(walk);
        short?;
        if matches!(next, NextBatch::Batch | NextBatch::End) {
            self.range.add(batch.number);
        }
        if matches!(next, NextBatch::Exhausted | NextBatch::End) {
            self.shared.gate.open();
        }
        (self.batch_len, self.batch_bytes) = (batch.len(), 0);
        if let Some(read) = &mut self.inside {
            read.objects += batch.len() as u64;
        }
        Ok(next)
    }

    /// Leaves the gate and enters it again, if this instance has nothing that is not committed.
    fn pass_gate(&mut self, block: &Block) {
        if self.range.next().is_some() {
            return;
        }
        let read = self.inside.take();
        block.count_wait(self.shared.gate.pass(read.as_ref(), self.readers));
        self.inside = Some(ReadWaits::default());
    }

    /// Commits the content of the block when its turn comes. Returns `None` if it was kept for a
    /// later block, which happens only if `must_send` is false; the turn has passed then.
    fn place(&mut self, block: &mut Block, must_send: bool) -> Result<Option<Fill>, StageError> {
        self.ends.clear();
        self.ends.extend(entry_ends(block.shared()));
        let Some(turn) = self.shared.await_turn(&mut self.range, block) else {
            return Ok(Some(Fill::End));
        };
        if self.phase == Phase::Closing {
            check_content(self.refuses_empty, &self.report)?;
        }
        self.reader.repeat_names();
        let (fill, change) = turn.place(block, &mut self.reader, &self.ends, must_send)?;
        match change.apply(block)? {
            true => Ok(fill),
            false => Ok(Some(Fill::End)),
        }
    }

    /// Fills the block with what follows all objects.
    fn close(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        match self.shared.await_turn(&mut self.range, block) {
            Some(turn) => {
                check_content(self.refuses_empty, &self.report)?;
                let (fill, change) = turn.close(block, &self.shared.owners)?;
                Ok(if change.apply(block)? {
                    fill
                } else {
                    Fill::End
                })
            }
            None => Ok(Fill::End),
        }
    }
}

/// Refuses or remarks on an archive without content, once all objects were read. `sources` is the
/// number of sources, or `None` if such an archive is accepted.
fn check_content(sources: Option<u64>, report: &TreeReport) -> Result<(), StageError> {
    let counts = report.counts();
    let is_empty = counts.files + counts.others == 0;
    match sources {
        Some(sources)
            if is_empty && (counts.directories <= sources || counts.problem_count > 0) =>
        {
            Err(StageError::new(format!(
                "nothing was found to archive: the sources are {}, with {}; check that their file \
                 systems are mounted, and the patterns, or allow an empty archive",
                match counts.directories {
                    0 if counts.excluded > 0 => "left out by a pattern".to_owned(),
                    0 => "unreadable".to_owned(),
                    1 => "1 directory".to_owned(),
                    directories => format!("{directories} directories"),
                },
                match counts.problem_count {
                    0 => "nothing in them".to_owned(),
                    problems => format!("{} that cannot be read", count_of(problems, "object")),
                },
            )))
        }
        _ => {
            if is_empty {
                report.note(TreeNote::NoContent);
            }
            Ok(())
        }
    }
}

impl Head for TreeHead {
    fn name(&self) -> &str {
        "tree-head"
    }

    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.phase == Phase::New {
            self.readers = self.shared.walk.lock().readers();
            self.phase = if self.number < self.readers && self.shared.register_thread(block) {
                let inspectors = self.inspectors.as_ref();
                self.reader.inspector = inspectors.map(|factory| factory.make(self.number));
                Phase::Reading
            } else {
                Phase::Ended
            };
        }
        if self.phase == Phase::Ended {
            return Ok(Fill::End);
        }
        if mem::take(&mut self.has_sent) {
            self.shared.block_sent();
        }
        let mut fill = self.next_block(block)?;
        if fill == Fill::Block {
            // No later step moves the entries of the block. The turn has passed, if it could.
            if !block.info().is_control() {
                make_relative(block.bytes_mut());
            }
            self.has_sent = self.shared.await_predecessors(block);
            if !self.has_sent {
                fill = Fill::End;
            }
        }
        if fill == Fill::End {
            // If the pipe ends, the content of the block has no position.
            block.clear();
            self.phase = Phase::Ended;
        }
        Ok(fill)
    }

    fn describe<'a>(&self, stage: HeadStage<'a>) -> HeadStage<'a> {
        let stage = stage.sends_tree().makes_checkpoints();
        if self.inspectors.is_some() {
            return stage.local("its inspector belongs to this program: run it on threads");
        }
        let stage = stage
            .module(TREE_HEAD_MODULE, self.arguments.clone())
            .together();
        stage.mirrored(&self.report)
    }
}

impl Drop for TreeHead {
    fn drop(&mut self) {
        if matches!(self.phase, Phase::Reading | Phase::Closing) {
            self.shared.abandon();
        }
    }
}

impl fmt::Debug for TreeHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeHead")
            .field("phase", &self.phase)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}
