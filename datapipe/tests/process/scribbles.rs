//! A process that writes garbage over the control words of its pipe. That pipe ends with a result
//! or an error and does not hang, the controller does not crash, and another pipe of the same
//! controller is not affected.
//!
//! `DATAPIPE_SCRIBBLES=n` runs n pipes instead of 30; `DATAPIPE_SEED=n` starts with another seed.

#![allow(unsafe_code, reason = "writes where it should not")]

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use datapipe::prelude::*;
use datapipe::testkit::Random;

use crate::data::setting;
use crate::stages::{Deed, checking, counting, out_of_place};

/// Time after which a pipe counts as hanging.
const HANGS: Duration = Duration::from_secs(60);
/// Blocks of a pipe with a scribbling process.
const BLOCKS: u64 = 2_000;

/// A stage that passes blocks on and, at one of them, overwrites words.
pub(crate) fn scribbling(seed: u64) -> MiddleStage<'static> {
    struct Scribbling {
        at: u64,
        random: Random,
    }
    impl Transform for Scribbling {
        fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
            if input.number().get() == self.at {
                scribble(&mut self.random)?;
            }
            output.put(input.bytes())?;
            Ok(Verdict::Send)
        }
    }
    let make = move |_| {
        let mut random = Random::new(seed);
        Scribbling {
            at: random.below(200),
            random,
        }
    };
    Stage::transform("scribble", make).module("test.scribble", seed.to_string())
}

/// Returns the descriptor of the only segment that this process has.
fn segment() -> Result<OwnedFd, StageError> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        if fs::read_link(&path)
            .is_ok_and(|target| target.to_string_lossy().contains("memfd:datapipe"))
        {
            return Ok(File::options().read(true).write(true).open(path)?.into());
        }
    }
    Err(StageError::new("this process has no segment"))
}

/// Overwrites some words before the buffers, or all of them many times.
fn scribble(random: &mut Random) -> Result<(), StageError> {
    let map = memmap2::MmapOptions::new().map_raw(&segment()?)?;
    let word = |offset: usize| {
        // SAFETY: the header is mapped, and contains the offset of docs/shared-memory.md.
        let word = unsafe { map.as_ptr().add(offset).cast::<u32>() };
        // SAFETY: it is mapped and aligned. All values are valid, and are checked below.
        unsafe { word.read_volatile() }
    };
    let [page, buffers, size, headroom, tailroom] =
        [12, 32, 36, 40, 44].map(|at| u64::from(word(at)));
    let room = (headroom + size + tailroom)
        .next_multiple_of(page.max(1))
        .checked_mul(buffers);
    let len = room.and_then(|room| (map.len() as u64).checked_sub(room));
    // If the length is impossible, an earlier process has overwritten the header, too.
    let len = len.ok_or_else(|| StageError::new("the header is impossible"))?;
    let count = [1, 3, 30, 1000, len][random.below(5) as usize];
    for _ in 0..count {
        let at = random.below(len / 8) as usize;
        let value = [0, u64::MAX, random.below(256), random.bits()][random.below(4) as usize];
        // SAFETY: the word is inside the mapping.
        let word = unsafe { map.as_mut_ptr().cast::<u64>().add(at) };
        // SAFETY: it is mapped, writable and aligned. An unexpected value is the purpose: every
        // participant reads these words as atomics for which all values are valid, and never as
        // anything else.
        unsafe { word.write_volatile(value) };
    }
    Ok(())
}

pub(crate) fn garbage_from_a_process_harms_no_other_pipe() {
    let first = setting("DATAPIPE_SEED", 1);
    let pipes = setting("DATAPIPE_SCRIBBLES", 30);
    println!("seeds {first} to {}", first + pipes - 1);
    let (enough, witnessed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let witness = Pipe::builder()
        .label("witness")
        .buffer_size(1024)
        .head(counting(u64::MAX, &enough));
    let witness = witness
        .stage(out_of_place(Deed::Pass, 0, "").instances(2))
        .tail(checking(&witnessed));
    let witness = witness.start().unwrap();
    let (mut results, mut errors) = (0, 0);
    for seed in first..first + pipes {
        let (never, count) = (Arc::default(), Arc::new(AtomicU64::new(0)));
        let before = witnessed.load(Ordering::SeqCst);
        let pipe = Pipe::builder()
            .label("victim")
            .buffer_size(1024)
            .head(counting(BLOCKS, &never));
        let pipe = pipe.stage(scribbling(seed).in_processes());
        let pipe = pipe
            .stage(out_of_place(Deed::Pass, 0, ""))
            .tail(checking(&count))
            .start()
            .unwrap();
        let started = Instant::now();
        while let Some(status) = pipe.status_every(Duration::from_millis(100)) {
            let hangs = started.elapsed() >= HANGS;
            assert!(
                !hangs,
                "seed {seed}: hangs\n{status}\n{:?}",
                pipe.segment().audit()
            );
        }
        match pipe.wait() {
            Ok(_) => {
                results += 1;
                assert_eq!(
                    count.load(Ordering::SeqCst),
                    BLOCKS,
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
        crate::watch::wait_until("the other pipe continues", || {
            witnessed.load(Ordering::SeqCst) > before
        });
    }
    println!("{results} pipes came to a result, {errors} to an error");
    assert!(errors > 0, "the garbage was noticed");
    enough.store(true, Ordering::SeqCst);
    let report = witness.wait().unwrap();
    assert_eq!(
        report.status.stages[0].instances[0].blocks_out,
        witnessed.load(Ordering::SeqCst)
    );
}
