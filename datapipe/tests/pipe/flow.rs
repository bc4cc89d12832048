//! Whole pipes: what goes in comes out, in order, wherever the stages run, and nothing stays
//! behind.

use std::io::{Read, Write};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use datapipe::memory::Backing;
use datapipe::prelude::*;
use datapipe::stage::{StageError, resequence, sequence};
use datapipe::testkit::{
    Collected, FaultyStorage, Random, check_stage, collect, discard_every, fail_at, gather,
    numbers, panic_at, pass, sleepy,
};

fn all(n: u64) -> Vec<u64> {
    (0..n).collect()
}

/// A pipe of small buffers.
fn small<'a>() -> PipeBuilder<'a> {
    Pipe::builder().label("test").buffer_size(4096)
}

#[test]
fn what_goes_in_comes_out_in_order() {
    let got = Collected::default();
    let report = small()
        .head(numbers(500))
        .stage(pass(1).instances(3))
        .stage(sleepy(2, Duration::from_micros(50)).instances(4))
        .stage(pass(3))
        .tail(collect(&got))
        .run()
        .unwrap();
    assert_eq!(got.numbers(), all(500));
    assert!(got.finished());
    assert_eq!(report.bytes_in(), report.bytes_out());
    assert_eq!(
        report.chain,
        "test  numbers > pass x3 > sleepy x4 > pass 2 > collect"
    );
    assert!(report.to_string().starts_with("test: "), "{report}");
}

#[test]
fn placement_is_one_word_and_changes_nothing() {
    for (head, middle, tail) in [
        (true, true, true),
        (false, true, false),
        (true, false, true),
        (true, true, false),
        (false, false, true),
    ] {
        let got = Collected::default();
        let place =
            |inline, stage: MiddleStage<'static>| if inline { stage.inline() } else { stage };
        let source = if head {
            numbers(200).inline()
        } else {
            numbers(200)
        };
        let sink = if tail {
            collect(&got).inline()
        } else {
            collect(&got)
        };
        small()
            .head(source)
            .stage(place(middle, pass(7).instances(2)))
            .stage(place(middle, discard_every(1_000_000)))
            .tail(sink)
            .run()
            .unwrap();
        assert_eq!(
            got.numbers()[..],
            all(200)[1..],
            "inline: {head} {middle} {tail}"
        );
    }
}

#[test]
fn a_pipe_of_inline_stages_starts_no_thread() {
    struct SameThread(std::thread::ThreadId);
    impl InPlace for SameThread {
        fn transform(&mut self, _: &mut Block) -> Result<Verdict, StageError> {
            assert_eq!(std::thread::current().id(), self.0);
            Ok(Verdict::Send)
        }
    }
    let (got, here) = (Collected::default(), std::thread::current().id());
    small()
        .head(numbers(50).inline())
        .stage(Stage::in_place("here", move |_| SameThread(here)).inline())
        .tail(collect(&got).inline())
        .run()
        .unwrap();
    assert_eq!(got.numbers(), all(50));
}

#[test]
fn dropped_blocks_leave_no_gap_behind_parallel_stages() {
    let got = Collected::default();
    small()
        .head(numbers(300))
        .stage(discard_every(3).instances(3))
        .stage(pass(1).instances(2))
        .stage(discard_every(5).instances(4))
        .tail(collect(&got))
        .run()
        .unwrap();
    let expected: Vec<_> = (0..300).filter(|n| n % 3 != 0 && n % 5 != 0).collect();
    assert_eq!(got.numbers(), expected);
}

#[test]
fn the_sequencing_stages_restore_an_order_that_a_loop_has_broken() {
    let got = Collected::default();
    // Swaps neighbours: what arrives behind it is out of order.
    let swap = Stage::port("swap", |port| {
        while let Some(first) = port.receive()? {
            if let Some(second) = port.receive()? {
                port.forward(second)?;
            }
            port.forward(first)?;
        }
        Ok(())
    })
    .holds_in(2)
    .holds_out(0);
    small()
        .head(numbers(101))
        .stage(discard_every(10).instances(2))
        .stage(sequence(40))
        .stage(swap)
        .stage(resequence(40, 3))
        .tail(collect(&got))
        .run()
        .unwrap();
    assert_eq!(
        got.numbers(),
        (0..101).filter(|n| n % 10 != 0).collect::<Vec<_>>()
    );
    let got = Collected::default();
    let gaps = small()
        .head(numbers(50))
        .stage(sequence(0))
        .stage(discard_every(7).instances(2));
    gaps.stage(resequence(0, 2))
        .tail(collect(&got))
        .run()
        .unwrap();
    assert_eq!(
        got.numbers(),
        (0..50).filter(|n| n % 7 != 0).collect::<Vec<_>>()
    );
}

/// Stages that encrypt as an archive does, and decrypt that.
fn seal_and_open<'a>() -> (MiddleStage<'a>, MiddleStage<'a>) {
    let archive = ArchiveOptions::new("test")
        .encrypt(Secret::Key(Key::from_bytes([9; 32])))
        .plan()
        .unwrap();
    let open = archive.open_blocks().unwrap();
    let tape =
        VirtualTape::create_on(FaultyStorage::new(1), "/t", VolumeOptions::default()).unwrap();
    (archive.stages(tape).0.unwrap(), open)
}

fn seal<'a>() -> MiddleStage<'a> {
    seal_and_open().0
}

#[test]
fn compression_and_encryption_are_undone() {
    let mut source = b"A line of text that repeats itself.\n".repeat(60_000);
    let mut noise = vec![0; 900_000];
    Random::new(5).fill(&mut noise);
    source.extend(noise);
    let mut back = Vec::new();
    let (seal, open) = seal_and_open();
    let report = Pipe::builder()
        .buffer_size(100_000)
        .head(StreamHead::new(&source[..]))
        .stage(analyze().instances(2))
        .stage(Zstd::level(3).instances(3))
        .stage(seal.instances(2))
        .stage(open.instances(2))
        .stage(decompress().instances(2))
        .tail(StreamTail::new(&mut back))
        .run()
        .unwrap();
    assert!(back == source, "not what it was");
    let between = report.status.stages[3]
        .instances
        .iter()
        .map(|i| i.bytes_out)
        .sum::<u64>();
    assert!(
        between < 1_000_000,
        "the text part was compressed: {between}"
    );
}

#[test]
fn a_block_that_was_tampered_with_does_not_open() {
    struct Flip;
    impl InPlace for Flip {
        fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
            if block.number() == 3 {
                block.bytes_mut()[17] ^= 1;
            }
            Ok(Verdict::Send)
        }
    }
    let run = |damage: MiddleStage<'static>, another: bool| {
        let got = Collected::default();
        let (seal, open) = seal_and_open();
        let open = if another { seal_and_open().1 } else { open };
        small()
            .head(numbers(6))
            .stage(seal)
            .stage(damage)
            .stage(open)
            .tail(collect(&got))
            .run()
    };
    run(pass(0), false).unwrap();
    let error = run(Stage::in_place("flip", |_| Flip), false)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("stage \"aes-256-gcm-open\": block 3: does not authenticate"),
        "{error}"
    );
    assert!(
        run(pass(0), true).is_err(),
        "another archive's key does not open"
    );
}

#[test]
fn stages_of_the_library_pass_the_suite() {
    let mut random = Random::new(11);
    let blocks: Vec<Vec<u8>> = (0..40)
        .map(|i| {
            let mut bytes = vec![b'x'; random.below(65_000) as usize + 1];
            if i % 3 == 0 {
                random.fill(&mut bytes);
            }
            bytes
        })
        .collect();
    assert_eq!(check_stage(&blocks, analyze), blocks);
    assert_eq!(check_stage(&blocks, || pass(3)), blocks);
    check_stage(&blocks, || Zstd::level(1));
    assert_eq!(
        check_stage(&blocks, decompress),
        blocks,
        "what was not compressed is passed on"
    );
}

#[test]
fn a_failure_names_the_stage_and_gives_everything_back() {
    let run = |bad: MiddleStage<'static>| {
        let got = Collected::default();
        let result = small()
            .head(numbers(1_000_000))
            .stage(pass(1).instances(2))
            .stage(bad.instances(3))
            .stage(pass(2).instances(2))
            .tail(collect(&got))
            .run();
        assert!(!got.finished(), "the tail is not told that all is well");
        assert_eq!(
            got.numbers(),
            all(got.numbers().len() as u64),
            "what came before is whole and in order"
        );
        result.unwrap_err()
    };
    let failed = run(fail_at(77)).to_string();
    assert!(failed.starts_with("stage \"fail\" (instance "), "{failed}");
    assert!(
        failed.ends_with(" of 3): failed at 77, as asked"),
        "{failed}"
    );
    let panicked = run(panic_at(33));
    let Error::Stage(failure) = &panicked else {
        panic!("{panicked}")
    };
    assert!(failure.error.is_panic());
    assert!(panicked.to_string().contains("panicked: "), "{panicked}");
    let inline = run(panic_at(5).inline()).to_string();
    assert!(inline.contains("panicked as asked"), "{inline}");
}

#[test]
fn heads_and_tails_fail_like_any_stage() {
    struct Bad;
    impl Read for Bad {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is on fire"))
        }
    }
    impl Write for Bad {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the tape is torn"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = small()
        .head(StreamHead::new(Bad))
        .tail(collect(&Collected::default()))
        .run()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "stage \"stream-head\": cannot read the source at byte 0: the disk is on fire"
    );
    let error = small()
        .head(numbers(9))
        .tail(StreamTail::new(Bad))
        .run()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "stage \"stream-tail\": cannot write to the destination at byte 0: the tape is torn"
    );
}

#[test]
fn a_pipe_that_cannot_work_is_refused_with_the_sum() {
    let chain = || {
        Pipe::builder()
            .label("nightly")
            .head(numbers(1))
            .stage(Zstd::level(3).instances(2))
            .stage(gather(4).named("group"))
            .tail(collect(&Collected::default()))
    };
    let error = chain().buffers(8).run().unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot start pipe \"nightly\": stage \"group\" keeps 4 inputs before it frees one, but zstd instances may \
         hold 2 buffers each\n  zstd x2 has 4 of 8 buffers (8 / 2 allocating modules); 2 >= 1 + (4 - 1) does not \
         hold; use 16 buffers or more"
    );
    assert!(
        chain()
            .buffers(16)
            .plan()
            .unwrap()
            .budget()
            .warning()
            .is_some(),
        "legal, but small"
    );
    assert_eq!(
        chain().plan().unwrap().to_string(),
        "nightly  numbers > zstd x2 > group > collect"
    );
}

#[test]
fn other_impossible_pipes_are_refused_in_words() {
    let refused = |builder: PipeBuilder<'_>| builder.run().unwrap_err().to_string();
    let sink = || collect(&Collected::default());
    assert_eq!(
        refused(small().tail(sink())),
        "cannot start pipe \"test\": it has no head"
    );
    assert_eq!(
        refused(small().head(numbers(1))),
        "cannot start pipe \"test\": it has no tail"
    );
    let two = small()
        .head(numbers(1))
        .stage(gather(2).instances(2))
        .tail(sink());
    assert!(
        refused(two)
            .contains("stage \"gather\" can have one instance, not 2: it is a loop over its port")
    );
    let inline = small()
        .head(numbers(1))
        .stage(gather(2).inline())
        .tail(sink());
    assert!(
        refused(inline).ends_with("stage \"gather\" is a loop over its port and cannot run inline")
    );
    let none = small()
        .head(numbers(1))
        .stage(pass(1).instances(0))
        .tail(sink());
    assert!(refused(none).contains("number of instances"));
    let many = small()
        .head(numbers(1))
        .stage(pass(1).instances(65))
        .tail(sink());
    assert!(refused(many).contains("is 65, but must be between 1 and 64"));
    let tiny = small().buffer_size(1).head(numbers(1)).tail(sink());
    assert!(refused(tiny).contains("buffer size is 1, but must be between 512 and 67108864"));
    let nameless = small()
        .head(numbers(1))
        .stage(pass(1).named(""))
        .tail(sink());
    assert!(refused(nameless).contains("a name must have 1 to 64 bytes"));
    // A value is one instance: asking for more is refused, and does not panic.
    let twice: HeadStage<'_> = StreamHead::new(std::io::empty()).into();
    assert!(refused(small().head(twice.instances(2)).tail(sink())).contains("one instance"));
}

#[test]
fn an_instance_at_its_limit_is_ended_if_that_is_the_policy() {
    let got = Collected::default();
    let error = small()
        .at_limit(AtLimit::Terminate)
        .buffers(4)
        .head(numbers(1_000_000))
        .stage(sleepy(1, Duration::from_millis(2)))
        .tail(collect(&got))
        .run()
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("stage \"numbers\": all 4 buffers that this instance may have"),
        "{error}"
    );
}

#[test]
fn rules_of_a_port_are_kept_for_everybody() {
    let run = |bad: MiddleStage<'static>| {
        small()
            .head(numbers(5))
            .stage(bad)
            .tail(collect(&Collected::default()))
            .run()
            .map(drop)
    };
    let reverse = Stage::port("answers what it allocated", |port| {
        let block = port.alloc()?;
        Ok(port.forward(block)?)
    });
    assert!(
        run(reverse)
            .unwrap_err()
            .to_string()
            .contains("was not received")
    );
    // A loop that is not numbered may drop, add and repeat as it likes.
    let free = Stage::port("free", |port| {
        while let Some(block) = port.receive()? {
            if block.number() == 1 {
                drop(block);
                continue;
            }
            port.forward(block)?;
        }
        Ok(())
    });
    run(free).unwrap();
}

#[test]
fn try_and_timeout_variants_say_what_they_wait_for() {
    use datapipe::pool::Blocked;
    let done = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&done);
    let head = Stage::head_port("head", move |port| {
        let first = port.alloc()?;
        let second = port.try_alloc()?.expect("the quota is two");
        assert_eq!(port.try_alloc()?.map(drop), Err(Blocked::AtLimit));
        assert!(port.alloc_timeout(Duration::from_millis(1))?.is_none());
        gate.wait();
        drop(first);
        port.send(second)?;
        Ok(())
    });
    let tail = Stage::tail_port("tail", move |port| {
        assert_eq!(port.try_receive()?.map(drop), Err(Blocked::NoInput));
        assert_eq!(
            port.receive_timeout(Duration::from_millis(1))?.map(drop),
            Err(Blocked::NoInput)
        );
        done.wait();
        assert!(port.receive()?.is_some());
        assert!(port.receive()?.is_none(), "the end");
        assert!(port.receive()?.is_none(), "and it stays the end");
        Ok(())
    });
    small().buffers(2).head(head).tail(tail).run().unwrap();
}

#[test]
fn blocks_carry_what_stages_say_about_them() {
    let sizes = Stage::in_place("note", |_| StageMessage);
    struct StageMessage;
    impl InPlace for StageMessage {
        fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
            let mut info = block.info();
            info.user = [block.number(), block.len() as u64, 3, u64::MAX];
            info.class = ContentClass::VIDEO;
            block.set_info(info);
            // Head- and tailroom: a header before, a trailer behind, nothing moved.
            block.grow_front(4)?.copy_from_slice(b"HEAD");
            block.grow(4)?.copy_from_slice(b"TAIL");
            assert!(block.grow_front(1 << 20).is_err() && block.grow(1 << 20).is_err());
            Ok(Verdict::Send)
        }
    }
    struct Check;
    impl InPlace for Check {
        fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
            assert!(block.bytes().starts_with(b"HEAD") && block.bytes().ends_with(b"TAIL"));
            block.trim_front(4);
            block.truncate(block.len() - 4);
            assert_eq!(
                block.info().user,
                [block.number(), block.len() as u64, 3, u64::MAX]
            );
            assert_eq!(block.info().class, ContentClass::VIDEO);
            Ok(Verdict::Send)
        }
    }
    let got = Collected::default();
    small()
        .head(numbers(40))
        .stage(sizes)
        .stage(pass(2).instances(2))
        .stage(Stage::in_place("check", |_| Check))
        .tail(collect(&got))
        .run()
        .unwrap();
    assert_eq!(got.numbers(), all(40));
}

#[test]
fn status_names_the_stage_that_limits() {
    let got = Collected::default();
    let pipe = small()
        .head(numbers(400))
        .stage(pass(1).instances(2))
        .stage(sleepy(1, Duration::from_millis(3)))
        .tail(collect(&got))
        .direction(Direction::Restore)
        .start()
        .unwrap();
    let mut seen = 0;
    let mut last = pipe.status();
    while let Some(status) = pipe.status_every(Duration::from_millis(100)) {
        let step = status.since(&last);
        assert_eq!(status.stages.len(), 4);
        assert!(status.free <= status.buffers);
        assert!(step.bytes_in() <= status.bytes_in());
        if let Some(limit) = status
            .limit()
            .filter(|_| status.elapsed > Duration::from_millis(200))
        {
            assert_eq!(limit.stage, "sleepy", "{status}");
            seen += 1;
        }
        last = status;
    }
    assert!(seen > 0);
    let name = pipe.name().clone();
    let attached = datapipe::memory::Segment::attach(
        pipe.segment()
            .descriptor()
            .unwrap()
            .try_clone_to_owned()
            .unwrap(),
    )
    .unwrap();
    let outside = Status::of(&attached);
    assert_eq!(
        (outside.pipe.as_str(), outside.direction),
        (name.as_str(), Direction::Restore)
    );
    let report = pipe.wait().unwrap();
    assert_eq!(report.status.pipe, name.as_str());
    assert_eq!(report.status.free, report.status.buffers);
    assert_eq!(report.status.stages[3].instances[0].blocks_in, 400);
    assert!(
        report.to_string().contains("limited by sleepy ("),
        "{report}"
    );
}

#[test]
fn a_named_segment_does_the_same_and_is_gone_afterwards() {
    let got = Collected::default();
    let pipe = small()
        .backing(Backing::Named)
        .head(numbers(100))
        .stage(pass(1).instances(2))
        .tail(collect(&got))
        .start()
        .unwrap();
    let path = format!("/dev/shm/datapipe-{}", pipe.name());
    assert!(std::fs::exists(&path).unwrap());
    pipe.wait().unwrap();
    assert_eq!(got.numbers(), all(100));
    assert!(!std::fs::exists(&path).unwrap());
}

#[test]
fn many_heads_and_many_tails_share_one_pipe() {
    let got = Collected::default();
    small()
        .head(numbers(100).instances(3))
        .stage(pass(1).instances(2))
        .tail(collect(&got).instances(3))
        .run()
        .unwrap();
    let mut numbers = got.numbers();
    numbers.sort_unstable();
    let expected: Vec<_> = (0..100).flat_map(|n| [n, n, n]).collect();
    assert_eq!(
        numbers, expected,
        "each head sends all, each block arrives once"
    );
}

#[test]
fn a_block_is_never_sealed_twice() {
    // Twice under one key and nonce gave the plaintext back, and the run reported success.
    let got = Collected::default();
    let twice = small()
        .head(numbers(3))
        .stage(seal())
        .stage(seal())
        .tail(collect(&got));
    let error = twice.run().unwrap_err().to_string();
    assert_eq!(
        error,
        "stage \"aes-256-gcm 2\": block 0 is encrypted already"
    );
    let closed = small()
        .head(numbers(3))
        .stage(seal())
        .stage(decompress())
        .tail(collect(&got));
    assert!(
        closed
            .run()
            .unwrap_err()
            .to_string()
            .contains("block 0 is still encrypted")
    );
    let full = StreamHead::new(std::io::repeat(1).take(9000));
    let tight = small()
        .rooms(0, 15)
        .head(full)
        .stage(seal())
        .tail(collect(&got));
    assert!(
        tight
            .run()
            .unwrap_err()
            .to_string()
            .contains("needs 16 bytes of tailroom")
    );
}

#[test]
fn a_loop_that_returns_early_is_named() {
    // The pipe waited for it for ever; with a short stream, the shared memory was said to be
    // corrupt.
    let text =
        "the stage broke the rules of its port: the stage returned before the end of its input";
    for blocks in [2, 100_000] {
        let early = Stage::tail_port("early", |port| Ok(port.receive().map(drop)?));
        let error = small()
            .head(numbers(blocks))
            .tail(early)
            .run()
            .unwrap_err()
            .to_string();
        assert_eq!(error, format!("stage \"early\": {text}"));
        let early = Stage::port("early", |port| Ok(port.receive().map(drop)?));
        let got = Collected::default();
        let error = small()
            .head(numbers(blocks))
            .stage(early)
            .tail(collect(&got))
            .run()
            .unwrap_err()
            .to_string();
        assert_eq!(error, format!("stage \"early\": {text}"));
    }
}

#[test]
fn a_writer_that_is_dropped_with_data_is_no_good_end() {
    // 5,000 bytes were written, 4,096 arrived, and the run reported success.
    let run = |finish: bool| {
        let mut back = Vec::new();
        let head = Stage::head_port("writer", move |port| {
            let mut writer = BlockWriter::new(port);
            writer.write_all(&[7; 5000])?;
            if finish { writer.finish() } else { Ok(()) }
        });
        let result = small().head(head).tail(StreamTail::new(&mut back)).run();
        (result.map_err(|error| error.to_string()), back.len())
    };
    assert!(
        run(false)
            .0
            .unwrap_err()
            .contains("a writer was dropped before it had sent")
    );
    let (result, len) = run(true);
    assert!(result.is_ok() && len == 5000);
}

#[test]
fn a_stop_that_comes_through_a_writer_or_reader_is_still_a_stop() {
    let head = Stage::head_port("writer", |port| {
        let mut writer = BlockWriter::new(port);
        loop {
            if let Err(error) = writer.write_all(&[7; 5000]) {
                let error = StageError::from(error);
                assert!(error.is_stopped(), "{error}");
                return Err(error);
            }
        }
    });
    let pipe = small()
        .head(head)
        .tail(StreamTail::new(std::io::sink()))
        .start()
        .unwrap();
    pipe.cancel();
    assert!(matches!(pipe.wait(), Err(Error::Cancelled)));
}

#[test]
fn a_pool_larger_than_the_memory_is_refused_at_once() {
    let huge = Pipe::builder()
        .buffers(4096)
        .buffer_size(64 << 20)
        .head(numbers(1))
        .tail(collect(&Collected::default()));
    let text = huge.run().unwrap_err().to_string();
    assert!(
        text.starts_with("the buffer pool takes 2621") && text.contains("MiB are available"),
        "{text}"
    );
}

#[test]
fn hundreds_of_inline_stages_share_one_thread() {
    // More events than one futex_waitv takes: those left over were not waited for.
    struct Quick(u64);
    impl Head for Quick {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            if self.0 == 0 {
                return Ok(Fill::End);
            }
            self.0 -= 1;
            std::thread::sleep(Duration::from_micros(300));
            block.put(&[1])?;
            Ok(Fill::Block)
        }
    }
    let look = || Stage::analyze("look", |_| Nothing).instances(64).inline();
    struct Nothing;
    impl Analyze for Nothing {
        fn analyze(&mut self, _: &[u8], _: &mut BlockInfo) -> Result<(), StageError> {
            Ok(())
        }
    }
    let report = small()
        .head(Quick(60))
        .stage(look())
        .stage(look())
        .stage(look())
        .tail(StreamTail::new(std::io::sink()))
        .run()
        .unwrap();
    assert_eq!(report.bytes_out(), 60);
}

#[test]
fn the_mark_of_a_whole_stream_is_set_when_all_of_it_is_written() {
    // A tail that had seen the end finished, and then another one of the same stage failed at its
    // last block.
    struct Half {
        instance: u32,
        finished: Collected,
        broken: Arc<Mutex<bool>>,
        inline: bool,
    }
    impl Tail for Half {
        fn write(&mut self, _: &Block) -> Result<(), StageError> {
            if self.instance == 0 {
                *self.broken.lock().unwrap() = true;
                std::thread::sleep(Duration::from_millis(30));
                return Err(StageError::new("this drive is broken"));
            }
            // The other one takes a block, too, however quick this one is.
            while !self.inline && !*self.broken.lock().unwrap() {
                std::thread::yield_now();
            }
            Ok(())
        }
        fn finish(&mut self) -> Result<(), StageError> {
            self.finished.finish();
            Ok(())
        }
    }
    let run = |inline: bool| {
        let finished = Collected::default();
        let broken = Arc::default();
        let half = |instance| Half {
            instance,
            finished: finished.clone(),
            broken: Arc::clone(&broken),
            inline,
        };
        let tail = Stage::tail("drive", half).instances(2);
        let tail = if inline { tail.inline() } else { tail };
        let head = if inline {
            numbers(6).inline()
        } else {
            numbers(6)
        };
        let error = small().head(head).tail(tail).run().unwrap_err().to_string();
        assert_eq!(
            error,
            "stage \"drive\" (instance 1 of 2): this drive is broken"
        );
        assert!(!finished.finished(), "inline: {inline}");
    };
    run(false);
    run(true);
}

#[test]
fn the_first_failure_stops_a_pipe_of_inline_stages() {
    // The other head sent all it had first, and would have gone on for ever.
    struct Endless(u32);
    impl Head for Endless {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            if self.0 == 0 {
                return Err(StageError::new("no such disk"));
            }
            block.put(&[1])?;
            Ok(Fill::Block)
        }
    }
    let head = Stage::head("endless", Endless).instances(2).inline();
    let tail: TailStage<'_> = StreamTail::new(std::io::sink()).into();
    let error = small()
        .head(head)
        .tail(tail.inline())
        .run()
        .unwrap_err()
        .to_string();
    assert_eq!(error, "stage \"endless\" (instance 1 of 2): no such disk");
}

#[test]
fn panics_where_nobody_expects_one_are_errors_like_others() {
    struct Bomb(&'static str);
    impl InPlace for Bomb {
        fn transform(&mut self, _: &mut Block) -> Result<Verdict, StageError> {
            if self.0 == "work" {
                Err(StageError::new("the real cause"))
            } else {
                Ok(Verdict::Send)
            }
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    for (at, text) in [("work", "the real cause"), ("drop", "panicked: dropped")] {
        for inline in [false, true] {
            let bomb = Stage::in_place("bomb", move |_| Bomb(at));
            let bomb = if inline { bomb.inline() } else { bomb };
            let pipe = small()
                .head(numbers(3))
                .stage(bomb)
                .tail(StreamTail::new(std::io::sink()));
            let pipe = pipe.start().unwrap();
            while pipe.status_every(Duration::from_millis(50)).is_some() {}
            assert_eq!(
                pipe.wait().unwrap_err().to_string(),
                format!("stage \"bomb\": {text}"),
                "inline: {inline}"
            );
        }
    }
    let factory = Stage::in_place("factory", |_| -> Bomb { panic!("no license") });
    let error = small()
        .head(numbers(3))
        .stage(factory)
        .tail(StreamTail::new(std::io::sink()))
        .run()
        .unwrap_err();
    assert_eq!(error.to_string(), "stage \"factory\": panicked: no license");
}

#[test]
fn a_head_cannot_lose_its_last_block() {
    // What stood in the block with which the end was said was dropped, and the run reported
    // success.
    struct Careless(bool);
    impl Head for Careless {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            block.put(&[7; 100])?;
            Ok(if std::mem::replace(&mut self.0, true) {
                Fill::End
            } else {
                Fill::Block
            })
        }
    }
    let error = small()
        .head(Careless(false))
        .tail(StreamTail::new(std::io::sink()))
        .run()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no more, with 100 bytes in the block"),
        "{error}"
    );
}

#[test]
fn loops_do_not_see_what_was_dropped_before_them() {
    let mut lengths = Vec::new();
    let tail = Stage::tail_port("tail", |port| {
        while let Some(block) = port.receive()? {
            lengths.push(block.len());
        }
        Ok(())
    });
    small()
        .head(numbers(9))
        .stage(discard_every(2).instances(2))
        .tail(tail)
        .run()
        .unwrap();
    assert_eq!(lengths.len(), 4);
    assert!(lengths.iter().all(|&len| len > 0));
}

#[test]
fn encryption_does_not_number_gaps() {
    // What was sealed behind a gap did not open: its reader counts the blocks that it gets.
    let got = Collected::default();
    let gap = small()
        .head(numbers(9))
        .stage(discard_every(4))
        .stage(seal().instances(2));
    let error = gap.tail(collect(&got)).run().unwrap_err().to_string();
    assert!(
        error.contains("was dropped before encryption, which numbers blocks without gaps"),
        "{error}"
    );
    // A loop between begins to count anew.
    let again = Stage::port("again", |port| {
        while let Some(block) = port.receive()? {
            port.forward(block)?;
        }
        Ok(())
    });
    let (seal, open) = seal_and_open();
    let dense = small()
        .head(numbers(9))
        .stage(discard_every(4))
        .stage(again.holds_out(0))
        .stage(seal);
    dense.stage(open).tail(collect(&got)).run().unwrap();
    assert_eq!(got.numbers(), [1, 2, 3, 5, 6, 7]);
}
