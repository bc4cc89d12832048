//! A suite that every stage between two queues must pass, run over yours.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::controller::{Event, Pipe};
use crate::error::{Death, Error, NotReplaced, StageError};
use crate::host;
use crate::memory::Process;
use crate::pool::Block;
use crate::stage::{Fill, Head, MiddleStage, Stage, Tail, TailStage};

use super::Random;

/// Runs a stage that answers each block with one through what every such stage must do.
///
/// - Its result does not depend on how many instances there are, nor on whether they are threads or
///   inline.
/// - It copes with empty-handed streams, short blocks, full blocks, and with being stopped in the
///   middle.
/// - If it names a [module](crate::stage::Stage::module), and this program
///   [serves](crate::host::serve): its result is the same in processes, and if one of them is
///   killed; or, if it cannot be replaced, that is what the pipe says.
///
/// `blocks` are the data that it is given, in order; none may be larger than 64 KiB. Returns what
/// came out.
///
/// # Panics
///
/// With what went wrong, if the stage does not.
///
/// # Examples
///
/// ```
/// use datapipe::stage::zstd;
/// use datapipe::testkit::check_stage;
///
/// let blocks = [b"a".to_vec(), vec![7; 60_000], b"short".to_vec()];
/// let compressed = check_stage(&blocks, || zstd(3));
/// assert!(compressed[1].len() < 100);
/// ```
pub fn check_stage(blocks: &[Vec<u8>], stage: impl Fn() -> MiddleStage<'static>) -> Vec<Vec<u8>> {
    let one = run(blocks, stage(), None).expect("one thread");
    let in_processes = stage().settings.module.is_some() && host::serves();
    for instances in [1, 2, 5] {
        let stage = || stage().instances(instances);
        let processes = in_processes.then(|| ("in processes", stage().in_processes()));
        for (place, stage) in [("as threads", stage()), ("inline", stage().inline())]
            .into_iter()
            .chain(processes)
        {
            let got = run(blocks, stage, None)
                .unwrap_or_else(|error| panic!("x{instances} {place}: {error}"));
            assert_eq!(
                got, one,
                "x{instances} {place} gave another result than one thread"
            );
        }
    }
    assert_eq!(
        run(&[], stage(), None).expect("an empty stream"),
        Vec::<Vec<u8>>::new()
    );
    let mut random = Random::new(blocks.len() as u64);
    for _ in 0..10 {
        let cut = random.below(blocks.len() as u64 + 1);
        match run(blocks, stage().instances(2), Some((cut, End::Cancel))) {
            Err(Error::Cancelled) | Ok(_) => {}
            Err(error) => panic!("being cancelled after {cut} blocks gave: {error}"),
        }
        if in_processes {
            match run(
                blocks,
                stage().instances(2).in_processes(),
                Some((cut, End::Kill)),
            ) {
                Ok(got) => assert_eq!(
                    got, one,
                    "killed after {cut} blocks, it gave another result"
                ),
                Err(Error::Stage(failure))
                    if failure.error.death().is_some_and(cannot_be_replaced) => {}
                Err(error) => panic!("being killed after {cut} blocks gave: {error}"),
            }
        }
    }
    one
}

fn cannot_be_replaced(death: &Death) -> bool {
    matches!(death.reason, NotReplaced::Stateful | NotReplaced::Together)
}

/// Event in the middle of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The pipe is cancelled.
    Cancel,
    /// The process that was started last is killed.
    Kill,
}

/// Sends `blocks` through `stage`, until the `cut` says that so many have come through.
fn run(
    blocks: &[Vec<u8>],
    stage: MiddleStage<'static>,
    cut: Option<(u64, End)>,
) -> Result<Vec<Vec<u8>>, Error> {
    struct Source {
        blocks: VecDeque<Vec<u8>>,
    }
    impl Head for Source {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            let Some(bytes) = self.blocks.pop_front() else {
                return Ok(Fill::End);
            };
            block.put(&bytes)?;
            Ok(Fill::Block)
        }
    }
    struct Sink<F>(F);
    impl<F: FnMut(&Block) + Send> Tail for Sink<F> {
        fn write(&mut self, block: &Block) -> Result<(), StageError> {
            (self.0)(block);
            Ok(())
        }
    }
    let got = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&got);
    let source = Source {
        blocks: blocks.to_vec().into(),
    };
    let builder = Pipe::builder()
        .label("suite")
        .buffer_size(64 << 10)
        .head(source)
        .stage(stage);
    let canceller = builder.canceller();
    let started = Arc::new(Mutex::new(None));
    let victim = Arc::clone(&started);
    // Watched before any process can wait for it: so this is never another process of the same
    // number.
    let builder = builder.on_event(move |event| {
        if let Event::Started { process, .. } = event {
            *started.lock() = Process::watch(*process).ok();
        }
    });
    let tail: TailStage<'_> = Stage::tail("sink", move |_| {
        let (into, canceller, victim) = (Arc::clone(&into), canceller.clone(), Arc::clone(&victim));
        let mut cut = cut;
        Sink(move |block: &Block| {
            let mut into = into.lock();
            into.push(block.bytes().to_vec());
            match cut.take_if(|(at, _)| into.len() as u64 > *at) {
                Some((_, End::Cancel)) => canceller.cancel(),
                Some((_, End::Kill)) => victim
                    .lock()
                    .iter()
                    .for_each(|process| drop(process.kill())),
                None => {}
            }
        })
    });
    builder.tail(tail).run()?;
    let got = std::mem::take(&mut *got.lock());
    Ok(got)
}
