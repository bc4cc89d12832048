//! The suites of the testkit, run on good and bad stages.
//!
//! Each bad stage breaks one part of its contract, and the failure names it.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use datapipe::prelude::*;
use datapipe::testkit::{Sink, Suite, check_stage};

/// Runs a suite that must fail, and returns its message.
pub(crate) fn failure(suite: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(suite)).expect_err("the suite must fail");
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.unwrap_or_else(|| (*panic.downcast_ref::<&str>().expect("a text")).to_owned());
    assert!(text.len() < 3000, "{} bytes of message", text.len());
    text
}

/// Checks that a suite fails, and that its message has each of the words.
fn fails(words: &[&str], suite: impl FnOnce()) {
    let text = failure(suite);
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

fn suite() -> Suite {
    Suite::on_threads()
}

/// Thirty blocks of different lengths, with the number of each in front.
fn blocks() -> Vec<Vec<u8>> {
    let block = |n: usize| [(n as u64).to_le_bytes().to_vec(), vec![n as u8; n * 97]].concat();
    (0..30).map(block).collect()
}

/// Sets its flag when the test is over, so that the stages that ignore the stop end.
#[derive(Default)]
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn wait_for(over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

mod heads {
    use super::*;

    /// The bytes of a text, as many in a block as fit.
    struct Text {
        bytes: Vec<u8>,
        at: usize,
        fault: Fault,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        /// Takes 600 bytes at a time, and drops what does not fit in the block.
        Cuts,
        /// Begins anew at the end.
        Endless,
        /// Sends blocks without data at the end.
        Empty,
        /// Returns the last data with `Fill::End`.
        EndWithData,
    }

    impl Head for Text {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            let rest = &self.bytes[self.at..];
            if rest.is_empty() {
                match self.fault {
                    Fault::Endless => self.at = 0,
                    Fault::Empty => {}
                    _ => return Ok(Fill::End),
                }
                return Ok(Fill::Block);
            }
            let room = block.spare().len();
            let taken = if self.fault == Fault::Cuts { 600 } else { room };
            let taken = taken.min(rest.len());
            block.put(&rest[..taken.min(room)])?;
            self.at += taken;
            let ends = self.at == self.bytes.len() && self.fault == Fault::EndWithData;
            Ok(if ends { Fill::End } else { Fill::Block })
        }
    }

    fn data() -> Vec<u8> {
        (0..100_000u32).map(|n| (n * 7 % 251) as u8).collect()
    }

    fn text(fault: Fault) -> impl Fn() -> Text {
        move || Text {
            bytes: data(),
            at: 0,
            fault,
        }
    }

    #[test]
    fn good_heads_pass() {
        suite().head(&data(), text(Fault::None));
        suite().head(&[], || StreamHead::new(&[][..]));
        suite().head(&data(), || {
            Stage::head_port("chunks", |port| {
                for chunk in data().chunks(300) {
                    let mut block = port.alloc()?;
                    block.put(chunk)?;
                    port.send(block)?;
                }
                Ok(())
            })
        });
    }

    #[test]
    fn bad_heads_fail_with_the_contract() {
        fails(
            &[
                "each byte once, with buffers of any size",
                "buffers of 512 bytes",
                "offset 512:",
            ],
            || suite().head(&data(), text(Fault::Cuts)),
        );
        for fault in [Fault::Endless, Fault::Empty] {
            fails(&["a head returns Fill::End at the end of its data"], || {
                suite().head(&data(), text(fault));
            });
        }
        fails(&["without an error", "returned Fill::End with"], || {
            suite().head(&data(), text(Fault::EndWithData));
        });
        fails(&["each byte once", "the end"], || {
            suite().head(&[data(), vec![1]].concat(), text(Fault::None));
        });
    }

    #[test]
    fn head_that_ignores_the_stop_fails() {
        let over = Over::default();
        let over = &over.0;
        let head = || {
            let over = Arc::clone(over);
            Stage::head_port("deaf", move |port| {
                for chunk in data().chunks(300) {
                    let sent = port.alloc().and_then(|mut block| {
                        block.put(chunk).expect("there is room");
                        port.send(block)
                    });
                    if sent.is_err() {
                        wait_for(&over);
                    }
                }
                Ok(())
            })
        };
        let suite = suite().patience(Duration::from_millis(500));
        fails(
            &["the stage ends when the pipe stops", "no block has moved"],
            || {
                suite.head(&data(), head);
            },
        );
    }
}

mod stages {
    use super::*;

    struct Map<F>(F);

    impl<F: FnMut(&[u8]) -> Result<Vec<u8>, StageError> + Send> Transform for Map<F> {
        fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
            output.put(&(self.0)(input.bytes())?)?;
            Ok(Verdict::Send)
        }
    }

    struct Change<F>(F);

    impl<F: FnMut(&mut [u8]) + Send> InPlace for Change<F> {
        fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
            (self.0)(block.bytes_mut());
            Ok(Verdict::Send)
        }
    }

    #[test]
    fn good_stages_pass() {
        let upper = || Stage::transform("upper", |_| Map(|bytes: &[u8]| Ok(bytes.to_vec())));
        assert_eq!(check_stage(&blocks(), upper), blocks());
        let invert = |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte = !*byte);
        let invert = || Stage::in_place("invert", move |_| Change(invert));
        let inverted = check_stage(&blocks(), invert);
        assert_eq!(check_stage(&inverted, invert), blocks());
    }

    #[test]
    fn stage_that_depends_on_its_instance_fails() {
        let stage = || {
            Stage::in_place("tagging", |id| {
                Change(move |bytes: &mut [u8]| {
                    // Not at once: all instances must get some blocks.
                    std::thread::sleep(Duration::from_millis(1));
                    bytes[7] = id.index() as u8;
                })
            })
        };
        fails(
            &[
                "does not depend on the number of instances",
                "2 instances",
                "offset 7: 01",
            ],
            || {
                drop(check_stage(&blocks(), stage));
            },
        );
    }

    #[test]
    fn stage_that_depends_on_earlier_blocks_fails() {
        let difference = || {
            Stage::transform("difference", |_| {
                let mut before = 0;
                Map(move |bytes: &[u8]| {
                    let out = bytes.iter().map(|byte| byte ^ before).collect();
                    before = bytes[0];
                    Ok(out)
                })
            })
        };
        fails(
            &[
                "depends on this block only",
                "reverse order",
                "block 0, offset 0",
            ],
            || {
                drop(check_stage(&blocks(), difference));
            },
        );
    }

    #[test]
    fn stage_that_fails_is_named() {
        let picky = || {
            Stage::transform("picky", |_| {
                Map(|bytes: &[u8]| match bytes.len() {
                    8 => Err(StageError::new("a block of 8 bytes")),
                    _ => Ok(bytes.to_vec()),
                })
            })
        };
        fails(
            &[
                "without an error",
                "picky, one thread",
                "a block of 8 bytes",
            ],
            || {
                drop(suite().stage(&blocks(), picky));
            },
        );
    }

    #[test]
    fn processes_are_never_left_out_in_silence() {
        fails(
            &["it names a module", "call host::serve first in main"],
            || {
                drop(check_stage(&blocks(), || zstd(1)));
            },
        );
        fails(
            &["Suite::with_processes", "call host::serve first in main"],
            || {
                drop(Suite::with_processes());
            },
        );
    }
}

mod ports {
    use super::*;

    fn kept(count: usize, declared: u32) -> MiddleStage<'static> {
        let stage = Stage::port("keep", move |port| {
            let mut kept = Vec::new();
            while let Some(block) = port.receive()? {
                kept.push(block);
                if kept.len() == count {
                    kept.drain(..).try_for_each(|block| port.forward(block))?;
                }
            }
            Ok(kept.into_iter().try_for_each(|block| port.forward(block))?)
        });
        stage.holds_in(declared).holds_out(0)
    }

    #[test]
    fn good_loops_pass() {
        assert_eq!(suite().port(&blocks(), || kept(4, 4)), blocks());
        let twice = || {
            Stage::port("twice", |port| {
                while let Some(input) = port.receive()? {
                    let mut copy = port.alloc()?;
                    copy.put(input.bytes())?;
                    port.send(copy, &input)?;
                    port.forward(input)?;
                }
                Ok(())
            })
        };
        assert_eq!(suite().port(&blocks(), twice).len(), 60);
    }

    #[test]
    fn bad_loops_fail_with_the_contract() {
        fails(&["holds no more blocks than it declares", "keep"], || {
            drop(suite().port(&blocks(), || kept(4, 1)));
        });
        let early = || {
            Stage::port("early", |port| {
                if let Some(block) = port.receive()? {
                    port.forward(block)?;
                }
                Ok(())
            })
        };
        fails(&["without an error", "before the end of its input"], || {
            drop(suite().port(&blocks(), early));
        });
        let runs = Arc::new(AtomicU64::new(0));
        let moody = || {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            Stage::port("moody", move |port| {
                let mut first = true;
                while let Some(mut block) = port.receive()? {
                    if std::mem::take(&mut first) {
                        block.bytes_mut()[0] = run as u8;
                    }
                    port.forward(block)?;
                }
                Ok(())
            })
        };
        fails(&["the result does not depend", "block 0, offset 0"], || {
            drop(suite().port(&blocks(), moody));
        });
    }

    #[test]
    fn loop_that_ignores_the_stop_fails() {
        let over = Over::default();
        let over = &over.0;
        let deaf = || {
            let over = Arc::clone(over);
            Stage::port("deaf", move |port| {
                loop {
                    match port.receive() {
                        Ok(Some(block)) => {
                            if port.forward(block).is_err() {
                                wait_for(&over);
                            }
                        }
                        Ok(None) => return Ok(()),
                        Err(error) => {
                            wait_for(&over);
                            return Err(error.into());
                        }
                    }
                }
            })
        };
        let suite = suite().patience(Duration::from_millis(500));
        fails(
            &["the stage ends when the pipe stops", "cancelled after"],
            || {
                drop(suite.port(&blocks(), deaf));
            },
        );
    }
}

mod tails {
    use super::*;

    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        /// Keeps less than a kilobyte in memory, and loses it at the end.
        Forgets,
        /// Writes the first 4096 bytes of a block only.
        Cuts,
        /// Writes a trailer also if the pipe was cancelled.
        Trailer,
        Fails,
    }

    struct Writer {
        sink: Sink,
        buffer: Vec<u8>,
        fault: Fault,
        finished: bool,
    }

    impl Writer {
        fn flush(&mut self) -> Result<(), StageError> {
            use std::io::Write as _;
            Ok(self.sink.write_all(&std::mem::take(&mut self.buffer))?)
        }
    }

    impl Tail for Writer {
        fn write(&mut self, block: &Block) -> Result<(), StageError> {
            let bytes = block.bytes();
            if self.fault == Fault::Fails && bytes.is_empty() {
                return Err(StageError::new("a block without data"));
            }
            let cut = if self.fault == Fault::Cuts {
                4096
            } else {
                bytes.len()
            };
            self.buffer
                .extend_from_slice(&bytes[..cut.min(bytes.len())]);
            if self.buffer.len() > 1000 {
                self.flush()
            } else {
                Ok(())
            }
        }

        fn finish(&mut self) -> Result<(), StageError> {
            self.finished = true;
            if self.fault == Fault::Forgets {
                Ok(())
            } else {
                self.flush()
            }
        }
    }

    impl Drop for Writer {
        fn drop(&mut self) {
            if self.fault == Fault::Trailer && !self.finished {
                self.buffer = b"trailer".to_vec();
                self.flush().expect("a sink takes everything");
            }
        }
    }

    fn run(fault: Fault) {
        let last = RefCell::new(Sink::default());
        let tail = || {
            last.replace(Sink::default());
            Writer {
                sink: last.borrow().clone(),
                buffer: Vec::new(),
                fault,
                finished: false,
            }
        };
        suite().tail(&blocks(), tail, || last.borrow().bytes());
    }

    #[test]
    fn good_tails_pass() {
        run(Fault::None);
    }

    #[test]
    fn bad_tails_fail_with_the_contract() {
        fails(&["a tail writes its data in order", "instead of"], || {
            run(Fault::Forgets)
        });
        fails(
            &[
                "however they are cut into blocks",
                "blocks of 65536 bytes",
                "offset 4096",
            ],
            || run(Fault::Cuts),
        );
        fails(
            &[
                "has written a beginning of the data",
                "74 72 61 69 6c 65 72",
            ],
            || {
                run(Fault::Trailer);
            },
        );
        fails(
            &[
                "without an error",
                "every other block empty",
                "a block without data",
            ],
            || {
                run(Fault::Fails);
            },
        );
    }

    #[test]
    fn tail_that_keeps_blocks_fails() {
        let last = RefCell::new(Sink::default());
        let tail = || {
            use std::io::Write as _;
            last.replace(Sink::default());
            let mut sink = last.borrow().clone();
            Stage::tail_port("keeper", move |port| {
                let mut kept = Vec::new();
                while let Some(block) = port.receive()? {
                    kept.push(block);
                    if kept.len() == 6 {
                        kept.drain(..)
                            .try_for_each(|block| sink.write_all(block.bytes()))?;
                    }
                }
                Ok(kept
                    .drain(..)
                    .try_for_each(|block| sink.write_all(block.bytes()))?)
            })
        };
        fails(&["holds no more blocks than it declares", "keeper"], || {
            suite().tail(&blocks(), tail, || last.borrow().bytes());
        });
    }
}
