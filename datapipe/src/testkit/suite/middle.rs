//! The suites of stages between two queues.

use crate::controller::PipeBuilder;
use crate::error::{Death, Error, NotReplaced};
use crate::host;
use crate::pool::Refusal;
use crate::stage::MiddleStage;

use super::super::Random;
use super::contract::Contract;
use super::difference::Difference;
use super::run::{End, Received, Suite, on_threads, pipe, source};

/// Runs a stage that answers each block with one through [`Suite::stage`]: with processes if the
/// stage names a [module](crate::stage::Stage::module), and otherwise on threads, because a stage
/// without a module cannot run anywhere else.
///
/// # Panics
///
/// As [`Suite::stage`]; and if the stage names a module, but this program does not call
/// [`host::serve`]. To leave out processes use [`Suite::on_threads`].
///
/// # Examples
///
/// ```
/// use datapipe::prelude::*;
/// use datapipe::testkit::check_stage;
///
/// struct Upper;
///
/// impl InPlace for Upper {
///     fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
///         block.bytes_mut().make_ascii_uppercase();
///         Ok(Verdict::Send)
///     }
/// }
///
/// let blocks = [b"one".to_vec(), b"two".to_vec()];
/// let upper = check_stage(&blocks, || Stage::in_place("upper", |_| Upper));
/// assert_eq!(upper, [b"ONE", b"TWO"]);
/// ```
pub fn check_stage(blocks: &[Vec<u8>], stage: impl Fn() -> MiddleStage<'static>) -> Vec<Vec<u8>> {
    let name = stage().settings.name;
    let has_module = stage().settings.module.is_some();
    assert!(
        !has_module || host::serves(),
        "check_stage runs stage \"{name}\" in processes of this program, because it names a \
         module, but this program does not host it: call host::serve first in main \
         (harness = false in a test), or use Suite::on_threads"
    );
    let suite = if has_module {
        Suite::with_processes()
    } else {
        Suite::on_threads()
    };
    suite.stage(blocks, stage)
}

/// Cuts of a run: after how many blocks the pipe is cancelled or a process killed.
const CUTS: usize = 10;

impl Suite {
    /// Runs a stage that answers each block with at most one: a transform, a stage that works in
    /// place, an analysis.
    ///
    /// - Its result does not depend on how many instances there are, nor on whether they are
    ///   threads, inline or processes, nor on the blocks before.
    /// - An empty stream gives an empty stream. The stage ends when the pipe is cancelled.
    /// - If one of its processes is killed, the result is the same; or, if it is stateful or its
    ///   instances share a process, the pipe ends with that reason.
    ///
    /// `blocks` are the data that it gets, in order: of at most 64 KiB each, and at least ten, or
    /// it cannot be stopped in the middle. Returns the result.
    ///
    /// # Panics
    ///
    /// If the stage breaks its contract.
    pub fn stage(
        &self,
        blocks: &[Vec<u8>],
        stage: impl Fn() -> MiddleStage<'static>,
    ) -> Vec<Vec<u8>> {
        let name = stage().settings.name;
        self.check_module(&stage());
        let one = self.result(&format!("{name}, one thread"), blocks, on_threads(stage()));
        self.check_state(&name, blocks, &one, &stage);
        for instances in [1, 2, 5] {
            let stage = || on_threads(stage()).instances(instances);
            let processes = self
                .with_processes
                .then(|| ("in processes", stage().in_processes()));
            for (place, stage) in [("as threads", stage()), ("inline", stage().inline())]
                .into_iter()
                .chain(processes)
            {
                let case = format!("{name}, {instances} instances {place}");
                let got = self.result(&case, blocks, stage);
                if let Some(difference) = Difference::of_blocks(&got, &one) {
                    Contract::SameResult.broken(&case, difference);
                }
            }
        }
        self.check_empty(&name, on_threads(stage()));
        let mut random = Random::new(blocks.len() as u64);
        for _ in 0..CUTS {
            let cut = random.below(blocks.len() as u64 + 1);
            self.check_cancel(&name, blocks, cut, on_threads(stage()).instances(2));
            if self.with_processes {
                let stage = stage().instances(2).in_processes();
                self.check_kill(&name, blocks, cut, stage, &one);
            }
        }
        one
    }

    /// Runs a loop over the port of a stage between two queues, which may merge, split or drop
    /// blocks.
    ///
    /// - It receives until the end of its input, and sends the same blocks each time.
    /// - It holds no more blocks than it declares: it works with the smallest pool that its
    ///   declaration admits.
    /// - An empty stream gives a stream, and the loop ends when the pipe is cancelled.
    /// - In a process it gives the same result; if that is killed, the pipe ends with that reason.
    ///
    /// `blocks` are as for [`stage`](Self::stage). Returns the result.
    ///
    /// # Panics
    ///
    /// If the loop breaks its contract.
    pub fn port(
        &self,
        blocks: &[Vec<u8>],
        stage: impl Fn() -> MiddleStage<'static>,
    ) -> Vec<Vec<u8>> {
        let name = stage().settings.name;
        self.check_module(&stage());
        let one = self.result(&format!("{name}, one thread"), blocks, on_threads(stage()));
        let same = |case: &str, got: &[Vec<u8>]| {
            if let Some(difference) = Difference::of_blocks(got, &one) {
                Contract::SameResult.broken(case, difference);
            }
        };
        let case = format!("{name}, the smallest pool");
        let received = Received::default();
        let small = || received.end(pipe().head(source(blocks)).stage(on_threads(stage())));
        let small = small().buffers(smallest_pool(&case, small()));
        if let Err(error) = self.run(&case, small) {
            fail(&case, error);
        }
        same(&case, &received.take());
        if self.with_processes {
            let case = format!("{name}, in a process");
            same(&case, &self.result(&case, blocks, stage().in_processes()));
        }
        self.result(
            &format!("{name}, an empty stream"),
            &[],
            on_threads(stage()),
        );
        let mut random = Random::new(blocks.len() as u64);
        for _ in 0..CUTS {
            let cut = random.below(blocks.len() as u64 + 1);
            self.check_cancel(&name, blocks, cut, on_threads(stage()));
            if self.with_processes {
                self.check_kill(&name, blocks, cut, stage().in_processes(), &one);
            }
        }
        one
    }

    /// Returns what a stage makes of the blocks. It must not fail.
    fn result(&self, case: &str, blocks: &[Vec<u8>], stage: MiddleStage<'static>) -> Vec<Vec<u8>> {
        self.outcome(case, blocks, stage, None)
            .unwrap_or_else(|error| fail(case, error))
    }

    fn outcome(
        &self,
        case: &str,
        blocks: &[Vec<u8>],
        stage: MiddleStage<'static>,
        cut: Option<(u64, End)>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let received = Received::cut(cut);
        let pipe = pipe().head(source(blocks)).stage(stage);
        self.run(case, received.end(pipe))?;
        Ok(received.take())
    }

    /// In reverse order, each block must give what it gave before.
    fn check_state(
        &self,
        name: &str,
        blocks: &[Vec<u8>],
        one: &[Vec<u8>],
        stage: &impl Fn() -> MiddleStage<'static>,
    ) {
        let case = format!("{name}, the blocks in reverse order");
        let reversed: Vec<_> = blocks.iter().rev().cloned().collect();
        let mut got = self.result(&case, &reversed, on_threads(stage()));
        got.reverse();
        if let Some(difference) = Difference::of_blocks(&got, one) {
            Contract::NoState.broken(&case, difference);
        }
    }

    fn check_empty(&self, name: &str, stage: MiddleStage<'static>) {
        let case = format!("{name}, an empty stream");
        let got = self.result(&case, &[], stage);
        if let Some(difference) = Difference::of_blocks(&got, &[]) {
            Contract::EmptyStream.broken(&case, difference);
        }
    }

    fn check_cancel(&self, name: &str, blocks: &[Vec<u8>], cut: u64, stage: MiddleStage<'static>) {
        let case = format!("{name}, cancelled after {cut} blocks");
        match self.outcome(&case, blocks, stage, Some((cut, End::Cancel))) {
            Err(Error::Cancelled) | Ok(_) => {}
            Err(error) => Contract::Stops.broken(&case, error),
        }
    }

    fn check_kill(
        &self,
        name: &str,
        blocks: &[Vec<u8>],
        cut: u64,
        stage: MiddleStage<'static>,
        one: &[Vec<u8>],
    ) {
        let case = format!("{name}, a process killed after {cut} blocks");
        match self.outcome(&case, blocks, stage, Some((cut, End::Kill))) {
            Ok(got) => {
                if let Some(difference) = Difference::of_blocks(&got, one) {
                    Contract::Replaceable.broken(&case, difference);
                }
            }
            Err(Error::Stage(failure)) if failure.error.death().is_some_and(cannot_be_replaced) => {
            }
            Err(error) => Contract::Replaceable.broken(&case, error),
        }
    }
}

fn cannot_be_replaced(death: &Death) -> bool {
    matches!(death.reason, NotReplaced::Stateful | NotReplaced::Together)
}

/// Returns the smallest pool that admission allows.
pub(super) fn smallest_pool(case: &str, pipe: PipeBuilder<'static>) -> u32 {
    match pipe.buffers(1).plan() {
        Err(Error::Refused {
            reason: Refusal::TooFewBuffers { enough, .. },
            ..
        }) => enough,
        Ok(_) => 1,
        Err(error) => Contract::Works.broken(case, error),
    }
}

/// Fails the test because of the error of a pipe that had to work.
pub(super) fn fail(case: &str, error: Error) -> ! {
    let contract = match error {
        Error::Deadlock { .. } => Contract::DeclaredHolds,
        _ => Contract::Works,
    };
    contract.broken(case, error)
}
