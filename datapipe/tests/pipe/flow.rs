//! Blocks in whole pipes: they arrive in order and unchanged, wherever the stages run.

use std::time::Duration;

use datapipe::memory::Backing;
use datapipe::prelude::*;
use datapipe::stage::{StageError, resequence, sequence};
use datapipe::testkit::{Collected, Random, Suite, collect, drop_every, numbers, pass, sleepy};

use crate::fixture::{all, small};

#[test]
fn blocks_arrive_in_order() {
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
fn inline_placement_does_not_change_the_result() {
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
            .stage(place(middle, drop_every(1_000_000)))
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
fn inline_stages_start_no_thread() {
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

/// There are more events than one `futex_waitv` takes: the rest were not waited for.
#[test]
fn hundreds_of_inline_stages_share_one_thread() {
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
fn dropped_blocks_leave_no_gap_after_parallel_stages() {
    let got = Collected::default();
    small()
        .head(numbers(300))
        .stage(drop_every(3).instances(3))
        .stage(pass(1).instances(2))
        .stage(drop_every(5).instances(4))
        .tail(collect(&got))
        .run()
        .unwrap();
    let expected: Vec<_> = (0..300).filter(|n| n % 3 != 0 && n % 5 != 0).collect();
    assert_eq!(got.numbers(), expected);
}

#[test]
fn port_loops_skip_vacant_blocks() {
    let mut lengths = Vec::new();
    let tail = Stage::tail_port("tail", |port| {
        while let Some(block) = port.receive()? {
            lengths.push(block.len());
        }
        Ok(())
    });
    small()
        .head(numbers(9))
        .stage(drop_every(2).instances(2))
        .tail(tail)
        .run()
        .unwrap();
    assert_eq!(lengths.len(), 4);
    assert!(lengths.iter().all(|&len| len > 0));
}

#[test]
fn resequencer_restores_the_order_after_a_port_loop() {
    let got = Collected::default();
    // Swaps neighbours: the blocks after it are out of order.
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
        .stage(drop_every(10).instances(2))
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
        .stage(drop_every(7).instances(2));
    gaps.stage(resequence(0, 2))
        .tail(collect(&got))
        .run()
        .unwrap();
    assert_eq!(
        got.numbers(),
        (0..50).filter(|n| n % 7 != 0).collect::<Vec<_>>()
    );
}

#[test]
fn several_heads_and_tails_share_one_pipe() {
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
fn named_segment_is_removed_after_the_pipe() {
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
fn block_info_and_headroom_travel_with_the_block() {
    let sizes = Stage::in_place("note", |_| StageMessage);
    struct StageMessage;
    impl InPlace for StageMessage {
        fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
            let mut info = block.info();
            info.user = [block.number().get(), block.len() as u64, 3, u64::MAX];
            info.class = ContentClass::VIDEO;
            block.set_info(info);
            // Headroom and tailroom take a header and a trailer without moving the data.
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
                [block.number().get(), block.len() as u64, 3, u64::MAX]
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
fn library_stages_pass_the_stage_suite() {
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
    assert_eq!(Suite::on_threads().stage(&blocks, analyze), blocks);
    assert_eq!(Suite::on_threads().stage(&blocks, || pass(3)), blocks);
    Suite::on_threads().stage(&blocks, || zstd(1));
    assert_eq!(
        Suite::on_threads().stage(&blocks, decompress),
        blocks,
        "uncompressed blocks are passed on"
    );
}

#[test]
fn status_names_the_limiting_stage() {
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

/// The time in which an instance starts and ends is not work that limits a pipe.
#[test]
fn pipe_without_data_is_limited_by_no_stage() {
    let report = small()
        .head(numbers(0))
        .stage(pass(1))
        .tail(collect(&Collected::default()))
        .run()
        .unwrap();
    assert_eq!(report.status.limit(), None);
    assert!(!report.to_string().contains("limited by"), "{report}");
}
