//! A source, a sink, and stages that misbehave on request.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::StageError;
use crate::pool::{Block, MiddlePort};
use crate::stage::{
    Fill, FlatMap, Head, HeadStage, InPlace, MiddleStage, Outputs, Stage, Tail, TailStage,
    Transform, Verdict,
};

use super::Random;

/// A head that sends `count` blocks, each of which holds its number and then bytes that follow from
/// it.
pub fn numbers<'a>(count: u64) -> HeadStage<'a> {
    struct Numbers {
        next: u64,
        count: u64,
    }
    impl Head for Numbers {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            if self.next == self.count {
                return Ok(Fill::End);
            }
            block.put(&content(self.next, block.capacity()))?;
            self.next += 1;
            Ok(Fill::Block)
        }
    }
    Stage::head("numbers", move |_| Numbers { next: 0, count })
}

/// The block that [`numbers`] sends as its `n`th: of a length between 8 bytes and `capacity` that
/// follows from `n`.
fn content(n: u64, capacity: usize) -> Vec<u8> {
    let mut random = Random::new(n + 1);
    let mut bytes = vec![0; 8 + random.below(capacity as u64 - 7) as usize];
    random.fill(&mut bytes);
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes
}

/// Record of what [`collect`] has received so far: the numbers of the blocks, in the order in which
/// they came.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    numbers: Arc<Mutex<Vec<u64>>>,
    finished: Arc<Mutex<bool>>,
}

impl Collected {
    /// The numbers, in the order in which they came.
    pub fn numbers(&self) -> Vec<u64> {
        self.numbers.lock().clone()
    }

    /// Notes that a tail saw the stream end well.
    pub fn finish(&self) {
        *self.finished.lock() = true;
    }

    /// True if the tail saw the stream end well.
    pub fn finished(&self) -> bool {
        *self.finished.lock()
    }
}

/// A tail that checks that each block is one of [`numbers`]', unchanged, and remembers which.
pub fn collect<'a>(into: &Collected) -> TailStage<'a> {
    struct Collect(Collected);
    impl Tail for Collect {
        fn write(&mut self, block: &Block) -> Result<(), StageError> {
            let bytes = block.bytes();
            let number = bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            let number =
                number.ok_or_else(|| StageError::new("a block is too short for its number"))?;
            if bytes != content(number, block.capacity()) {
                return Err(StageError::new(format!(
                    "block {number} arrived with other content"
                )));
            }
            self.0.numbers.lock().push(number);
            Ok(())
        }

        fn finish(&mut self) -> Result<(), StageError> {
            self.0.finish();
            Ok(())
        }
    }
    let into = into.clone();
    Stage::tail("collect", move |_| Collect(into.clone()))
}

/// A stage that sends on what it gets: a copy, or the block itself, as a coin decides.
pub fn pass<'a>(seed: u64) -> MiddleStage<'a> {
    struct Pass(Random);
    impl Transform for Pass {
        fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
            if self.0.below(4) == 0 {
                return Ok(Verdict::SendInput);
            }
            // The tailroom too: the input may have grown into its own.
            output.grow(input.len())?.copy_from_slice(input.bytes());
            Ok(Verdict::Send)
        }
    }
    Stage::transform("pass", move |id| {
        Pass(Random::new(seed ^ u64::from(id.index()) << 32))
    })
}

/// A stage that sleeps for up to `longest` before it sends on what it got.
pub fn sleepy<'a>(seed: u64, longest: Duration) -> MiddleStage<'a> {
    struct Sleepy(Random, Duration);
    impl InPlace for Sleepy {
        fn transform(&mut self, _: &mut Block) -> Result<Verdict, StageError> {
            let nap = self.0.below(self.1.as_micros() as u64 + 1);
            std::thread::sleep(Duration::from_micros(nap));
            Ok(Verdict::Send)
        }
    }
    Stage::in_place("sleepy", move |id| {
        Sleepy(Random::new(seed ^ u64::from(id.index()) << 32), longest)
    })
}

/// A stage that drops every block whose number, as [`numbers`] wrote it, is a multiple of `every`.
pub fn drop_every<'a>(every: u64) -> MiddleStage<'a> {
    on_number("drop", move |number| {
        Ok(if number.is_multiple_of(every) {
            Verdict::Drop
        } else {
            Verdict::Send
        })
    })
}

/// A stage that sends block `n`, as [`numbers`] numbered it, `n % (most + 1)` times.
pub fn repeat<'a>(most: u32) -> MiddleStage<'a> {
    struct Repeat;
    impl FlatMap for Repeat {
        fn flat_map(&mut self, input: &Block, outputs: &mut Outputs<'_>) -> Result<(), StageError> {
            let number = input.bytes().first_chunk();
            let number =
                number.ok_or_else(|| StageError::new("a block is too short for its number"))?;
            let times = u64::from_le_bytes(*number) % u64::from(outputs.limit() + 1);
            for _ in 0..times {
                let output = outputs.next_block()?;
                // The tailroom too: the input may have grown into its own.
                output.grow(input.len())?.copy_from_slice(input.bytes());
            }
            Ok(())
        }
    }
    Stage::flat_map("repeat", most, |_| Repeat)
}

/// A stage that fails at block `number`.
pub fn fail_at<'a>(number: u64) -> MiddleStage<'a> {
    on_number("fail", move |n| {
        if n == number {
            Err(StageError::new(format!("failed at {n}, as asked")))
        } else {
            Ok(Verdict::Send)
        }
    })
}

/// A stage that panics at block `number`.
pub fn panic_at<'a>(number: u64) -> MiddleStage<'a> {
    on_number("panic", move |n| {
        assert_ne!(n, number, "panicked as asked");
        Ok(Verdict::Send)
    })
}

/// A stage that receives `n` blocks before it sends any of them on, and at the end what is left.
pub fn gather<'a>(n: u32) -> MiddleStage<'a> {
    let run = move |port: &MiddlePort| {
        let mut kept = Vec::new();
        while let Some(block) = port.receive()? {
            kept.push(block);
            if kept.len() == n as usize {
                kept.drain(..).try_for_each(|block| port.forward(block))?;
            }
        }
        Ok(kept.into_iter().try_for_each(|block| port.forward(block))?)
    };
    Stage::port("gather", run).holds_in(n).holds_out(0)
}

fn on_number<'a>(
    name: &str,
    verdict: impl Fn(u64) -> Result<Verdict, StageError> + Send + Clone + 'static,
) -> MiddleStage<'a> {
    struct OnNumber<F>(F);
    impl<F: Fn(u64) -> Result<Verdict, StageError> + Send> InPlace for OnNumber<F> {
        fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
            let number = block
                .bytes()
                .first_chunk()
                .map(|bytes| u64::from_le_bytes(*bytes));
            (self.0)(number.ok_or_else(|| StageError::new("a block is too short for its number"))?)
        }
    }
    Stage::in_place(name, move |_| OnNumber(verdict.clone()))
}
