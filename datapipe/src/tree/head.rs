//! Objects into blocks, by one instance or several, and the catalogue between them.
//!
//! ```text
//!   walk, one at a time:  batch 0   batch 1   batch 2          names; directories, opened
//!   each instance:        open and read what is in its batch, into its block
//!   in turn:              [block 0][block 1][block 2]...       numbered as they are sent
//! ```

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crate::error::StageError;
use crate::pool::Block;
use crate::stage::{Arguments, Fill, Head, HeadStage, Stage};

use super::modules::{self, TREE_HEAD_MODULE};
use super::options::{Source, TreeError, TreeOptions, check_sources, name_sources};
use super::order::{Shared, Span};
use super::reader::{Progress, Reader};
use super::report::TreeReport;
use super::walk::{NextBatch, Walk};

/// Reads file trees into blocks of entries: files, directories, links, fifos and devices, with
/// their attributes.
///
/// Every block is a run of whole entries, so each can be read by itself. Blocks of the catalogue,
/// which says where each object is, stand between the others, and at the end all of it stands once
/// more: [`BlockInfo::kind`] says so. The archive's content is
/// [`Content::Tree`](crate::wire::Content::Tree).
///
/// What cannot be read is reported and left out, or said to be not whole; it does not end the pipe.
/// Relative paths are taken from the working directory when the pipe runs.
///
/// As a [`HeadStage`] it can run in a process. The sources are opened there, by their paths, when
/// their turn comes, as they would be here. One that is confined must be allowed to read them, and
/// to write to the directory for temporary files, where the catalogue of a large tree goes. The
/// [report](Self::report) is at most a tenth of a second behind then, and complete when the pipe
/// has ended.
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
/// assert_eq!((report.outcome().files, report.outcome().directories), (1, 1));
/// for problem in report.problems() {
///     eprintln!("{problem}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TreeHead {
    shared: Arc<Shared>,
    report: TreeReport,
    reader: Reader,
    /// What of the walk is in our hands.
    span: Span,
    phase: Phase,
    /// Bytes of an object, on average of those that were read lately.
    average: usize,
    /// Objects of the last batch, and bytes that they became so far.
    read: (usize, usize),
    /// What a module makes this head from; nothing for an instance of a stage that is described
    /// already.
    arguments: Arguments,
}

/// How far an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Reading,
    /// All objects were given away, and this instance sends what stands behind them.
    Closing,
    Ended,
}

/// Bytes of an object, as long as nothing is known.
const FIRST_AVERAGE: usize = 16 << 10;
/// Batches that become a block, about.
const BATCHES_OF_A_BLOCK: usize = 2;

impl TreeHead {
    /// A head that reads `sources`, each under the last name of its path: `/srv/data` as `data`,
    /// `.` and `..` by the name of the directory that they mean, `/` as `root`. A symbolic link is
    /// read as one.
    ///
    /// # Errors
    ///
    /// [`TreeError`]: a source is not there, two have one name, or a pattern is not one.
    pub fn new<P: AsRef<Path>>(sources: &[P], options: TreeOptions) -> Result<Self, TreeError> {
        Self::with(name_sources(sources)?, options)
    }

    /// A head that reads each path under the name that stands before it.
    ///
    /// # Errors
    ///
    /// As of [`new`](Self::new), and if a name is not one: it has no `/`, and is neither `.` nor
    /// `..`.
    pub fn named(
        sources: impl IntoIterator<Item = (OsString, PathBuf)>,
        options: TreeOptions,
    ) -> Result<Self, TreeError> {
        Self::with(
            sources
                .into_iter()
                .map(|(name, path)| Source { name, path })
                .collect(),
            options,
        )
    }

    fn with(sources: Vec<Source>, options: TreeOptions) -> Result<Self, TreeError> {
        check_sources(&sources)?;
        let (arguments, report) = (modules::of_head(&sources, &options), TreeReport::default());
        let walk = Walk::new(sources, &options, report.clone())?;
        let mut head = Self::instance(Arc::new(Shared::new(walk)), report);
        head.arguments = arguments;
        Ok(head)
    }

    fn instance(shared: Arc<Shared>, report: TreeReport) -> Self {
        let reader = Reader::new(shared.walk.lock().rules());
        let (span, phase, arguments) = (Span::default(), Phase::New, Arguments::new());
        Self {
            shared,
            report,
            reader,
            span,
            phase,
            average: FIRST_AVERAGE,
            read: (0, 0),
            arguments,
        }
    }

    /// The stage in which `n` instances read the tree, each on a thread of its own: 1 to
    /// [`MAX_INSTANCES`](crate::limits::MAX_INSTANCES).
    /// [`default_instances`](Self::default_instances) are a good number. The archive has the same
    /// objects in the same order, in other blocks.
    ///
    /// What is gained: where files have to be fetched before they can be read, from a disk or
    /// through a network, several are waited for at once; and several processors compute digests. A
    /// large file is read by one instance, and so are objects with several names, while the others
    /// wait.
    ///
    /// What it costs: a tenth more time of the processors, since what is too little for a block is
    /// copied into one with what another has read; and memory for two blocks, besides the buffers
    /// of each instance. Blocks are nearly as full as those of one instance.
    ///
    /// Seconds for 51,000 objects with 560 MB, on two processors, as `tests/tree/measure.rs` measures:
    ///
    /// | instances | 1 | 2 | 4 | 8 | 16 | tar |
    /// |---|---|---|---|---|---|---|
    /// | nothing of it in memory | 4.8 | 3.1 | 2.5 | 2.1 | 1.9 | 5.1 |
    /// | all of it in memory | 0.78 | 0.49 | 0.48 | 0.48 | | 0.85 |
    ///
    /// Inline, where all instances are on one thread, one of them does all the work. In processes,
    /// all are in one, each on a thread of its own.
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
    /// assert_eq!(report.outcome().files, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn instances(self, n: u32) -> HeadStage<'static> {
        let (shared, report) = (Arc::clone(&self.shared), self.report.clone());
        let instance = move |before| {
            // All are made before any of them works.
            shared.walk.lock().divide(before + 1);
            Self::instance(Arc::clone(&shared), report.clone())
        };
        self.describe(Stage::head(self.name(), instance).instances(n))
    }

    /// Instances that read a tree fast, wherever it is: as many as there are processors; 8 at
    /// least, for mostly they wait for the disk, and 16 at most. A disk that has to move its heads
    /// may be faster with one.
    pub fn default_instances() -> u32 {
        thread::available_parallelism().map_or(8, |processors| processors.get().clamp(8, 16) as u32)
    }

    /// What becomes of the tree.
    pub fn report(&self) -> TreeReport {
        self.report.clone()
    }

    /// The next block.
    fn next_block(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.phase == Phase::Closing {
            return self.close(block);
        }
        if self.span.has_turn()
            && let Some(fill) = self.go_on(block)?
        {
            return Ok(fill);
        }
        loop {
            let before = block.len();
            let progress = self.reader.fill(block, &self.shared, &mut self.span)?;
            self.read.1 += block.len() - before;
            let placed = match progress {
                Progress::Abandoned => return Ok(Fill::End),
                Progress::Full => self.place(block, true)?,
                Progress::Done => match self.take(block.capacity()) {
                    NextBatch::Batch => None,
                    NextBatch::NotNext => self.place(block, false)?,
                    NextBatch::Nothing => return Ok(Fill::End),
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

    /// What has to be done when the block that was filled last was sent, and the turn is still
    /// ours.
    fn go_on(&mut self, block: &mut Block) -> Result<Option<Fill>, StageError> {
        let Self {
            shared,
            reader,
            span,
            ..
        } = self;
        let mut order = shared.order();
        if let Some(fill) = order.piece(block)? {
            return Ok(Some(fill));
        }
        if reader.is_done() {
            shared.pass_turn(&mut order, span);
        } else {
            order.take_rest(block)?;
        }
        Ok(None)
    }

    /// The next objects, if they follow on those that are in the block, or if there are none.
    fn take(&mut self, capacity: usize) -> NextBatch {
        if let Some(bytes) = self.read.1.min(capacity).checked_div(self.read.0) {
            self.average = (3 * self.average + bytes).div_ceil(4);
        }
        let wanted = capacity / BATCHES_OF_A_BLOCK / self.average;
        let batch = &mut self.reader.batch;
        let given = self
            .shared
            .walk
            .lock()
            .give(batch, self.span.next(), wanted, capacity);
        if matches!(given, NextBatch::Batch | NextBatch::End) {
            self.span.add(batch.number);
        }
        self.read = (batch.len(), 0);
        given
    }

    /// Finds the place of what is in the block, in its turn; `now`: for more is to be read behind
    /// it. `None` if it stays behind for another block, and the turn has passed.
    fn place(&mut self, block: &mut Block, now: bool) -> Result<Option<Fill>, StageError> {
        let Self {
            shared,
            reader,
            span,
            ..
        } = self;
        let Some(mut order) = shared.await_turn(span, block) else {
            return Ok(Some(Fill::End));
        };
        let fill = order.place(block, reader, now)?;
        if fill.is_none() {
            shared.pass_turn(&mut order, span);
        }
        Ok(fill)
    }

    /// What stands behind all objects.
    fn close(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        match self.shared.await_turn(&mut self.span, block) {
            Some(mut order) => order.close(block),
            None => Ok(Fill::End),
        }
    }
}

impl Head for TreeHead {
    fn name(&self) -> &str {
        "tree-head"
    }

    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.phase == Phase::New {
            self.phase = if self.shared.begin() {
                Phase::Reading
            } else {
                Phase::Ended
            };
        }
        if self.phase == Phase::Ended {
            return Ok(Fill::End);
        }
        self.shared.note_fetch(&self.span, false);
        let fill = self.next_block(block)?;
        self.shared.note_fetch(&self.span, true);
        if fill == Fill::End {
            // What is in it has no place, if the pipe ends.
            block.clear();
            self.phase = Phase::Ended;
        }
        Ok(fill)
    }

    fn describe<'a>(&self, stage: HeadStage<'a>) -> HeadStage<'a> {
        let stage = stage
            .module(TREE_HEAD_MODULE, self.arguments.clone())
            .together();
        stage.notes(self.report.hearer())
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
            .field("span", &self.span)
            .finish_non_exhaustive()
    }
}
