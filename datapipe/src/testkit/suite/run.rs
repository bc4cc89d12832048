//! The settings of a suite, and the pipes that it runs and waits for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::controller::{Event, Pipe, PipeBuilder, Report};
use crate::error::{Error, StageError};
use crate::host;
use crate::memory::Process;
use crate::pool::Block;
use crate::stage::{Fill, Head, HeadStage, Placement, Stage, Tail, TailStage};

use super::contract::Contract;

/// Suites for stages and media of your own. Each runs what it is given through every part of the
/// contract of its kind, and panics at the first part that is broken, with its name, the case, the
/// block, the offset and 16 bytes.
///
/// | suite | of |
/// |---|---|
/// | [`head`](Self::head) | heads: traits and loops over a port |
/// | [`stage`](Self::stage) | stages that answer one for one: transforms, in place, analyses |
/// | [`port`](Self::port) | loops over the port of a stage between two queues |
/// | [`tail`](Self::tail) | tails: traits and loops over a port |
/// | [`medium`](Self::medium) | media |
///
/// The constructor says whether processes are part of the suite. A suite
/// [with processes](Self::with_processes) fails if it cannot start any; it never leaves them out.
/// Suites have no random parts but those that follow from constant seeds.
///
/// # Examples
///
/// ```
/// use datapipe::prelude::*;
/// use datapipe::testkit::{Sink, Suite};
/// use std::cell::RefCell;
///
/// let suite = Suite::on_threads();
/// suite.head(b"some data", || StreamHead::new(&b"some data"[..]));
///
/// let blocks = [b"a".to_vec(), vec![7; 60_000], b"short".to_vec()];
/// let compressed = suite.stage(&blocks, || zstd(3));
/// assert!(compressed[1].len() < 100);
///
/// let last = RefCell::new(Sink::default());
/// let tail = || {
///     *last.borrow_mut() = Sink::default();
///     StreamTail::new(last.borrow().clone())
/// };
/// suite.tail(&blocks, tail, || last.borrow().bytes());
/// ```
#[derive(Clone, Debug)]
pub struct Suite {
    pub(super) with_processes: bool,
    pub(super) buffer_sizes: Vec<u32>,
    pub(super) patience: Duration,
}

impl Suite {
    /// A suite that runs stages on threads and inline, and none in processes.
    pub fn on_threads() -> Self {
        Self {
            with_processes: false,
            buffer_sizes: vec![512, 4096, 64 << 10],
            patience: Duration::from_secs(60),
        }
    }

    /// A suite that runs stages on threads, inline, and in processes. A stage must name its
    /// [module](crate::stage::Stage::module), and a medium must have a
    /// [handle](crate::media::MediumWriter::handle).
    ///
    /// Processes run this program again. In a test, this needs a target whose `main` is its own
    /// (`harness = false` in `Cargo.toml`) and calls [`host::serve`](crate::host::serve) first.
    ///
    /// # Panics
    ///
    /// If this program does not call `host::serve`.
    pub fn with_processes() -> Self {
        assert!(
            host::serves(),
            "Suite::with_processes runs stages in processes of this program, which does not host \
             them: call host::serve first in main, with the modules of your stages \
             (harness = false in a test), or use Suite::on_threads"
        );
        Self {
            with_processes: true,
            ..Self::on_threads()
        }
    }

    /// Sets the buffer sizes with which a head must give the same data: 512, 4096 and 65536 bytes
    /// if this is not called. Leave out sizes that the head rightly refuses.
    #[must_use]
    pub fn buffer_sizes(mut self, sizes: impl IntoIterator<Item = u32>) -> Self {
        self.buffer_sizes = sizes.into_iter().collect();
        self
    }

    /// Sets the time after which a pipe counts as hanging if no block has moved: a minute if this
    /// is not called.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Fails unless the stage names a module, if processes are part of the suite.
    pub(super) fn check_module<W>(&self, stage: &Stage<W>) {
        if self.with_processes && stage.settings.module.is_none() {
            let why = stage
                .settings
                .local
                .as_deref()
                .unwrap_or("it names no module");
            let name = &stage.settings.name;
            Contract::Module.broken("in processes", format!("stage \"{name}\": {why}"));
        }
    }

    /// Runs a pipe to its end. A pipe that hangs breaks `Stops` if it was cancelled, and `Works`
    /// otherwise.
    pub(super) fn run(&self, case: &str, pipe: PipeBuilder<'static>) -> Result<Report, Error> {
        let canceller = pipe.canceller();
        let pipe = pipe.label("suite").start()?;
        let (mut moved, mut since) = (0, Instant::now());
        while let Some(status) = pipe.status_every(Duration::from_millis(50)) {
            let instances = status.stages.iter().flat_map(|stage| &stage.instances);
            let now = instances
                .map(|one| one.blocks_in + one.blocks_out)
                .sum::<u64>();
            if std::mem::replace(&mut moved, now) != now {
                since = Instant::now();
            }
            if since.elapsed() > self.patience {
                let contract = if canceller.is_cancelled() {
                    Contract::Stops
                } else {
                    Contract::Works
                };
                // To drop it would wait for the stage.
                std::mem::forget(pipe);
                let seconds = self.patience.as_secs_f64();
                contract.broken(
                    case,
                    format!("no block has moved for {seconds} s\n{status}"),
                );
            }
        }
        pipe.wait()
    }
}

/// Puts a stage on threads, wherever it was before.
pub(super) fn on_threads<W>(mut stage: Stage<W>) -> Stage<W> {
    stage.settings.placement = Placement::Thread;
    stage
}

/// A head that sends blocks.
pub(super) fn source(blocks: &[Vec<u8>]) -> HeadStage<'static> {
    struct Source(VecDeque<Vec<u8>>);
    impl Head for Source {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            let Some(bytes) = self.0.pop_front() else {
                return Ok(Fill::End);
            };
            block.put(&bytes)?;
            Ok(Fill::Block)
        }
    }
    HeadStage::from(Source(blocks.to_vec().into())).named("suite-source")
}

/// Event in the middle of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The pipe is cancelled.
    Cancel,
    /// The process that was started last is killed.
    Kill,
}

/// Blocks that the suite's own tail has received, and the event after so many of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    blocks: Arc<Mutex<Vec<Vec<u8>>>>,
    cut: Option<(u64, End)>,
    /// Bytes after which the tail fails, because the head does not end.
    most: Option<usize>,
}

/// Blocks without data in a row after which a head counts as endless.
const MOST_EMPTY: usize = 10_000;
/// Text of the failure of a stream that is too long.
pub(super) const ENDLESS: &str = "the stream does not end";

impl Received {
    pub(super) fn cut(cut: Option<(u64, End)>) -> Self {
        Self {
            cut,
            ..Self::default()
        }
    }

    pub(super) fn at_most(mut self, bytes: usize) -> Self {
        self.most = Some(bytes);
        self
    }

    /// Takes the blocks out.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.blocks.lock())
    }

    /// Completes a pipe with the tail that receives.
    pub(super) fn end(&self, pipe: PipeBuilder<'static>) -> PipeBuilder<'static> {
        let canceller = pipe.canceller();
        let started = Arc::new(Mutex::new(None));
        let victim = Arc::clone(&started);
        // Watched before any process can wait for it: so this is never another process of the same
        // number.
        let pipe = pipe.on_event(move |event| {
            if let Event::Started { process, .. } = event {
                *started.lock() = Process::watch(*process).ok();
            }
        });
        let act = move |end| match end {
            End::Cancel => canceller.cancel(),
            End::Kill => victim
                .lock()
                .iter()
                .for_each(|process| drop(process.kill())),
        };
        let (received, act) = (self.clone(), Arc::new(act));
        let tail: TailStage<'static> = Stage::tail("suite-sink", move |_| Receive {
            received: received.clone(),
            act: Arc::clone(&act),
            bytes: 0,
            empty: 0,
        });
        pipe.tail(tail)
    }
}

struct Receive<F> {
    received: Received,
    act: Arc<F>,
    bytes: usize,
    empty: usize,
}

impl<F: Fn(End) + Send + Sync> Tail for Receive<F> {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let count = {
            let mut blocks = self.received.blocks.lock();
            blocks.push(block.bytes().to_vec());
            blocks.len() as u64
        };
        self.bytes += block.len();
        self.empty = if block.is_empty() { self.empty + 1 } else { 0 };
        if let Some(most) = self.received.most
            && (self.bytes > most || self.empty > MOST_EMPTY)
        {
            return Err(StageError::new(ENDLESS));
        }
        if let Some((_, end)) = self.received.cut.take_if(|(at, _)| count > *at) {
            (self.act)(end);
        }
        Ok(())
    }
}

/// Returns a pipe with the suite's buffer size.
pub(super) fn pipe() -> PipeBuilder<'static> {
    Pipe::builder().buffer_size(64 << 10)
}
