//! A participant that writes garbage over the control words while the pipe runs. The pipe ends with
//! a result or an error and does not hang, the controller does not crash, and another pipe is not
//! affected.
//!
//! `DATAPIPE_SCRIBBLES=n` runs n pipes instead of 60; `DATAPIPE_SEED=n` starts with another seed.
#![allow(unsafe_code, reason = "writes where it should not")]

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use datapipe::pool::{Lent, MiddlePort};
use datapipe::prelude::*;
use datapipe::testkit::{Collected, Random, collect, drop_every, numbers, pass};

#[path = "harness/data.rs"]
mod data; // settings

use data::setting;

/// Time after which a pipe counts as hanging.
const HANGS: Duration = Duration::from_secs(60);

/// Overwrites `count` words in the first `len` bytes of the segment.
fn scribble(pipe: &Pipe, len: usize, count: u64, random: &mut Random) {
    let descriptor = pipe.segment().descriptor().unwrap();
    let map = memmap2::MmapOptions::new()
        .len(len)
        .map_raw(&descriptor)
        .unwrap();
    for _ in 0..count {
        let at = random.below(len as u64 / 8) as usize;
        let value = match random.below(4) {
            0 => 0,
            1 => u64::MAX,
            2 => random.below(256),
            _ => random.bits(),
        };
        // SAFETY: the word is inside the mapping.
        let word = unsafe { map.as_mut_ptr().cast::<u64>().add(at) };
        // SAFETY: the word is mapped, writable and aligned. An unexpected value is the purpose:
        // every participant reads these words as atomics for which all values are valid, and never
        // as anything else.
        unsafe { word.write_volatile(value) };
    }
}

/// Returns the length of the control words, which precede the buffers.
fn control_len(pipe: &Pipe) -> usize {
    let shape = pipe.segment().shape();
    let room =
        u64::from(shape.headroom() + shape.buffer_size() + shape.tailroom()).next_multiple_of(4096);
    let total = std::fs::metadata(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&pipe.segment().descriptor().unwrap())
    ))
    .unwrap()
    .len();
    (total - room * u64::from(shape.buffers())) as usize
}

/// A loop whose blocks another thread reads and changes.
fn lending<'a>() -> MiddleStage<'a> {
    let run = |port: &MiddlePort| {
        let (to_reader, lent) = mpsc::channel::<Lent>();
        let (to_port, read) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                for mut lent in lent {
                    let info = lent.info();
                    lent.bytes_mut().rotate_left(1);
                    lent.bytes_mut().rotate_right(1);
                    lent.set_info(info);
                    if to_port.send(lent).is_err() {
                        return;
                    }
                }
            });
            while let Some(block) = port.receive()? {
                to_reader.send(block.lend())?;
                port.forward(port.take_back(read.recv()?)?)?;
            }
            drop(to_reader);
            Ok(())
        })
    };
    Stage::port("lend", run).holds_out(0)
}

#[test]
fn garbage_in_shared_memory_ends_in_a_result_or_an_error() {
    let first = setting("DATAPIPE_SEED", 1);
    let pipes = setting("DATAPIPE_SCRIBBLES", 60);
    println!("seeds {first} to {}", first + pipes - 1);
    let witness_got = Collected::default();
    let witness = Pipe::builder()
        .label("witness")
        .buffer_size(512)
        .head(numbers(20_000))
        .stage(pass(1).instances(2))
        .tail(collect(&witness_got))
        .start()
        .unwrap();
    let (mut results, mut errors) = (0, 0);
    for seed in first..first + pipes {
        let mut random = Random::new(seed);
        let got = Collected::default();
        let blocks = 20_000;
        let pipe = Pipe::builder()
            .label("victim")
            .buffer_size(512)
            .head(numbers(blocks))
            .stage(pass(seed).instances(2))
            .stage(drop_every(1_000_000).instances(2));
        let pipe = match seed % 3 {
            0 => pipe.stage(lending()),
            _ => pipe,
        };
        let pipe = pipe.tail(collect(&got)).start().unwrap();
        thread::sleep(Duration::from_micros(random.below(5000)));
        let len = control_len(&pipe);
        // From a single word to all of them many times.
        let count = [1, 3, 30, 1000, len as u64][random.below(5) as usize];
        scribble(&pipe, len, count, &mut random);
        let started = Instant::now();
        while let Some(status) = pipe.status_every(Duration::from_millis(100)) {
            assert!(
                started.elapsed() < HANGS,
                "seed {seed}, {count} words: hangs\n{status}\n{:?}",
                pipe.segment().audit()
            );
        }
        match pipe.wait() {
            Ok(_) => {
                results += 1;
                assert_eq!(
                    got.numbers()[..],
                    (1..blocks).collect::<Vec<_>>(),
                    "seed {seed}: a result, but wrong"
                );
            }
            // Garbage in the stop word stops the pipe, as any process with the segment may.
            // Garbage in the ledger may look as if a stage held blocks that it does not have.
            Err(Error::Corrupt(_) | Error::Deadlock(_) | Error::Stage(_) | Error::Cancelled) => {
                errors += 1
            }
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
    println!("{results} pipes came to a result, {errors} to an error");
    assert!(errors > 0, "the garbage was noticed");
    witness.wait().unwrap();
    assert_eq!(witness_got.numbers().len(), 20_000);
}

/// A slow head, so that the test meets the pipe in the middle of its work.
struct Slow(u64);

impl Head for Slow {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.0 == 0 {
            return Ok(Fill::End);
        }
        self.0 -= 1;
        thread::sleep(Duration::from_millis(5));
        block.put(&[1; 64])?;
        Ok(Fill::Block)
    }
}

/// A slightly wrong word is worse than garbage, because its value is plausible. The offsets are
/// those of docs/shared-memory.md for two stages and eight buffers.
#[test]
fn slightly_wrong_word_ends_in_an_error() {
    const STAGES: usize = 256;
    const QUEUES: usize = STAGES + 2 * 128;
    const PARTICIPANTS: usize = QUEUES + 3 * 192 + 3 * 16 * 8;
    const LEDGER: usize = PARTICIPANTS + 2 * 192;
    type Change = fn(u64) -> u64;
    let words: [(&str, usize, Change, bool); 4] = [
        ("nothing", LEDGER, |word| word, true),
        (
            "the tail of queue 1 is one too far",
            QUEUES + 192 + 64,
            |tail| tail + 1,
            false,
        ),
        (
            "the tail of the free list is one too far",
            QUEUES + 64,
            |tail| tail + 1,
            false,
        ),
        (
            "the head's stage is done too early",
            STAGES + 8,
            |_| 1,
            false,
        ),
    ];
    for (what, at, change, harmless) in words {
        let pipe = Pipe::builder().buffer_size(512).buffers(8).head(Slow(60));
        let pipe = pipe.tail(StreamTail::new(std::io::sink())).start().unwrap();
        thread::sleep(Duration::from_millis(50));
        let map = memmap2::MmapOptions::new()
            .map_raw(&pipe.segment().descriptor().unwrap())
            .unwrap();
        // SAFETY: the word is inside the mapping.
        let word = unsafe { map.as_mut_ptr().add(at).cast::<u64>() };
        // SAFETY: as in `scribble`.
        let value = unsafe { word.read_volatile() };
        // SAFETY: as above.
        unsafe { word.write_volatile(change(value)) };
        let started = Instant::now();
        while let Some(status) = pipe.status_every(Duration::from_millis(100)) {
            assert!(started.elapsed() < HANGS, "{what}: hangs\n{status}");
        }
        match pipe.wait() {
            Ok(report) => assert!(
                harmless && report.bytes_out() == 60 * 64,
                "{what}: a result, but wrong"
            ),
            Err(Error::Corrupt(corrupt)) => assert!(!harmless, "{what}: {corrupt}"),
            Err(other) => panic!("{what}: {other}"),
        }
    }
}
