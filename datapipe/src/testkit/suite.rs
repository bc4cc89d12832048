//! What every stage between two queues must do, run over yours.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::controller::Pipe;
use crate::error::{Error, StageError};
use crate::pool::Block;
use crate::stage::{Fill, Head, MiddleStage, Stage, Tail, TailStage};

use super::Random;

/// Runs a stage that answers each block with one through what every such stage must do.
///
/// - Its result does not depend on how many instances there are, nor on whether they are threads or inline.
/// - It copes with empty-handed streams, short blocks, full blocks, and with being stopped in the middle.
///
/// `blocks` are the data that it is given, in order; none may be larger than 64 KiB. Returns what came out.
///
/// # Panics
///
/// With what went wrong, if the stage does not.
///
/// # Examples
///
/// ```
/// use datapipe::stage::Zstd;
/// use datapipe::testkit::check_stage;
///
/// let blocks = [b"a".to_vec(), vec![7; 60_000], b"short".to_vec()];
/// let compressed = check_stage(&blocks, || Zstd::level(3));
/// assert!(compressed[1].len() < 100);
/// ```
pub fn check_stage(blocks: &[Vec<u8>], stage: impl Fn() -> MiddleStage<'static>) -> Vec<Vec<u8>> {
    let one = run(blocks, stage(), None).expect("one thread");
    for instances in [1, 2, 5] {
        for inline in [false, true] {
            let place = if inline { "inline" } else { "as threads" };
            let stage = stage().instances(instances);
            let stage = if inline { stage.inline() } else { stage };
            let got =
                run(blocks, stage, None).unwrap_or_else(|error| panic!("x{instances} {place}: {error}"));
            assert_eq!(got, one, "x{instances} {place} gave another result than one thread");
        }
    }
    assert_eq!(run(&[], stage(), None).expect("an empty stream"), Vec::<Vec<u8>>::new());
    let mut random = Random::new(blocks.len() as u64);
    for _ in 0..10 {
        let cut = random.below(blocks.len() as u64 + 1);
        match run(blocks, stage().instances(2), Some(cut)) {
            Err(Error::Cancelled) | Ok(_) => {}
            Err(error) => panic!("being cancelled after {cut} blocks gave: {error}"),
        }
    }
    one
}

/// Sends `blocks` through `stage`, cancelling after `cut` of them.
fn run(blocks: &[Vec<u8>], stage: MiddleStage<'static>, cut: Option<u64>) -> Result<Vec<Vec<u8>>, Error> {
    struct Source {
        blocks: VecDeque<Vec<u8>>,
    }
    impl Head for Source {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            let Some(bytes) = self.blocks.pop_front() else { return Ok(Fill::End) };
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
    let source = Source { blocks: blocks.to_vec().into() };
    let builder = Pipe::builder().label("suite").buffer_size(64 << 10).head(source).stage(stage);
    let canceller = builder.canceller();
    let tail: TailStage<'_> = Stage::tail("sink", move |_| {
        let (into, canceller) = (Arc::clone(&into), canceller.clone());
        Sink(move |block: &Block| {
            let mut into = into.lock();
            into.push(block.bytes().to_vec());
            if cut.is_some_and(|cut| into.len() as u64 > cut) {
                canceller.cancel();
            }
        })
    });
    builder.tail(tail).run()?;
    let got = std::mem::take(&mut *got.lock());
    Ok(got)
}
