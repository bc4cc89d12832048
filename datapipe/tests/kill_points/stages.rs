//! The modules of this host, a head of numbered blocks, and a tail that knows which must arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use datapipe::host::{Modules, StageMessage};
use datapipe::prelude::*;

/// Number of blocks that a head sends.
pub(crate) const BLOCKS: u64 = 60;

pub(crate) fn modules() -> Modules {
    datapipe::modules()
        .with("kill.mixed", |_| Ok(mixed()))
        .with("kill.flat-map", |_| Ok(flat_map()))
        .with("kill.copy", |_| Ok(copy()))
        .with("kill.in-place", |_| Ok(in_place()))
        .with("kill.loop", |_| Ok(port_loop()))
        .with("kill.number", |_| Ok(numbering()))
        .with("kill.check", |call| {
            let (seen, mut sent) = (Arc::new(Seen::default()), None);
            let stage = checking(&seen, |_| false);
            call.add_message_source(move || {
                let now = (seen.blocks(), seen.end());
                let note = StageMessage::new(
                    String::new(),
                    [now.0.to_le_bytes(), [u8::from(now.1); 8]].concat(),
                );
                if sent.replace(now) == Some(now) {
                    Vec::new()
                } else {
                    note.into_iter().collect()
                }
            });
            Ok(stage)
        })
}

/// Returns the content of the block with this number.
fn content(number: u64) -> Vec<u8> {
    format!("block {number}; ")
        .into_bytes()
        .repeat(1 + number as usize % 50)
}

pub(crate) fn numbering() -> HeadStage<'static> {
    struct Numbering(u64);
    impl Head for Numbering {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            if self.0 == BLOCKS {
                return Ok(Fill::End);
            }
            block.put(&content(self.0))?;
            self.0 += 1;
            Ok(Fill::Block)
        }
    }
    Stage::head("number", |_| Numbering(0))
}

/// Progress of a tail.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    blocks: AtomicU64,
    end: AtomicBool,
}

impl Seen {
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::SeqCst)
    }

    /// True if the stream has ended.
    pub(crate) fn end(&self) -> bool {
        self.end.load(Ordering::SeqCst)
    }
}

/// Returns a [`numbering`] head in a process.
pub(crate) fn far_numbering() -> HeadStage<'static> {
    numbering().module("kill.number", "").in_processes()
}

/// Returns a [`checking`] tail in a process, which reports its progress.
pub(crate) fn far_checking(seen: &Arc<Seen>) -> TailStage<'static> {
    let seen = Arc::clone(seen);
    let noted = move |data: &[u8]| {
        let (blocks, end) = data.split_first_chunk().unwrap();
        seen.blocks
            .store(u64::from_le_bytes(*blocks), Ordering::SeqCst);
        seen.end.store(end[0] == 1, Ordering::SeqCst);
    };
    checking(&Arc::default(), |_| false)
        .module("kill.check", "")
        .on_message(noted)
        .in_processes()
}

/// Returns a tail that checks that the blocks of [`numbering`], except the `dropped` ones, arrive
/// in order, whole, each once.
pub(crate) fn checking(seen: &Arc<Seen>, dropped: fn(u64) -> bool) -> TailStage<'static> {
    struct Checking {
        next: u64,
        dropped: fn(u64) -> bool,
        seen: Arc<Seen>,
    }
    impl Tail for Checking {
        fn write(&mut self, block: &Block) -> Result<(), StageError> {
            while (self.dropped)(self.next) {
                self.next += 1;
            }
            if block.bytes() != content(self.next) {
                return Err(StageError::new(format!("this is not block {}", self.next)));
            }
            self.next += 1;
            self.seen.blocks.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        fn finish(&mut self) -> Result<(), StageError> {
            self.seen.end.store(true, Ordering::SeqCst);
            Ok(())
        }
    }
    let seen = Arc::clone(seen);
    Stage::tail("check", move |_| Checking {
        next: 0,
        dropped,
        seen: Arc::clone(&seen),
    })
}

/// True for the blocks that [`mixed`] drops.
pub(crate) fn every_fifth(number: u64) -> bool {
    number % 5 == 3
}

/// Returns a stage that answers with a copy, with the input, or with nothing.
pub(crate) fn mixed() -> MiddleStage<'static> {
    struct Mixed;
    impl Transform for Mixed {
        fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
            if every_fifth(input.number().get()) {
                return Ok(Verdict::Drop);
            }
            if input.number().get().is_multiple_of(2) {
                return Ok(Verdict::SendInput);
            }
            output.put(input.bytes())?;
            Ok(Verdict::Send)
        }
    }
    Stage::transform("mixed", |_| Mixed).module("kill.mixed", "")
}

/// Returns a stage that answers with one of the three blocks that it may send, or with none.
pub(crate) fn flat_map() -> MiddleStage<'static> {
    struct FewOrNone;
    impl FlatMap for FewOrNone {
        fn flat_map(&mut self, input: &Block, outputs: &mut Outputs<'_>) -> Result<(), StageError> {
            if !every_fifth(input.number().get()) {
                outputs.put(input.bytes())?;
            }
            Ok(())
        }
    }
    Stage::flat_map("flat-map", 3, |_| FewOrNone).module("kill.flat-map", "")
}

pub(crate) fn copy() -> MiddleStage<'static> {
    struct Copying;
    impl Transform for Copying {
        fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
            output.put(input.bytes())?;
            Ok(Verdict::Send)
        }
    }
    Stage::transform("copy", |_| Copying).module("kill.copy", "")
}

pub(crate) fn in_place() -> MiddleStage<'static> {
    struct Untouched;
    impl InPlace for Untouched {
        fn transform(&mut self, _: &mut Block) -> Result<Verdict, StageError> {
            Ok(Verdict::Send)
        }
    }
    Stage::in_place("in-place", |_| Untouched).module("kill.in-place", "")
}

/// Returns a loop over a port, which cannot be replaced in the middle.
pub(crate) fn port_loop() -> MiddleStage<'static> {
    let run = |port: &MiddlePort| {
        while let Some(input) = port.receive()? {
            let mut output = port.alloc()?;
            output.put(input.bytes())?;
            port.send(output, &input)?;
        }
        Ok(())
    };
    Stage::port("loop", run).module("kill.loop", "")
}
