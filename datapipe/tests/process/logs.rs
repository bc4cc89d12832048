//! Logs of the caller whose stages run in processes: they have what the processes recorded.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datapipe::host::{Modules, StageArgs, StageMessage};
use datapipe::prelude::*;
use rustix::process::{Signal, getpid, kill_process};

use crate::stages::counting;

const SCAN: &str = "test.scan";
const WRAPPED: &str = "test.wrapped-decompress";

/// Blocks of the stream.
const BLOCKS: u64 = 400;

/// Number of the block at which a process dies. It has no finding.
const DEADLY: u64 = 203;

/// Marks each third block and rejects each fifth. Its process dies at [`DEADLY`] if a file is named
/// and does not exist yet.
struct Scan {
    seen: Arc<AtomicU64>,
    dies_once: Option<String>,
}

/// Number of a block of [`counting`], from its text.
fn number(data: &[u8]) -> Result<u64, StageError> {
    let text = str::from_utf8(data)?;
    let number = text.split([' ', ';']).nth(1).unwrap_or_default();
    Ok(number.parse()?)
}

impl Inspect for Scan {
    fn inspect(&mut self, data: &[u8], _: &BlockInfo) -> Result<Finding, StageError> {
        let number = number(data)?;
        if let Some(path) = &self.dies_once
            && number == DEADLY
            && File::create_new(path).is_ok()
        {
            kill_process(getpid(), Signal::KILL)?;
        }
        self.seen.fetch_add(1, Ordering::SeqCst);
        Ok(match number {
            n if n % 5 == 0 => Finding::Reject,
            n if n % 3 == 0 => Finding::Mark,
            _ => Finding::Pass,
        })
    }
}

/// The one description of the stage, for threads and for processes.
fn scan(log: &InspectionLog, seen: &Arc<AtomicU64>, dies_once: &str) -> MiddleStage<'static> {
    let (seen, path) = (Arc::clone(seen), dies_once.to_owned());
    let make = move |_| Scan {
        seen: Arc::clone(&seen),
        dies_once: (!path.is_empty()).then(|| path.clone()),
    };
    Stage::inspect("scan", log, make).module(SCAN, dies_once)
}

/// Adds the modules of this file.
pub(crate) fn add(modules: Modules) -> Modules {
    modules
        .with(SCAN, |args: &StageArgs<'_>| {
            let seen = Arc::new(AtomicU64::new(0));
            let (count, mut sent) = (Arc::clone(&seen), 0);
            args.add_message_source(move || {
                let now = count.load(Ordering::SeqCst);
                let new = now - std::mem::replace(&mut sent, now);
                let message = StageMessage::new("", new.to_le_bytes()).unwrap();
                if new > 0 { vec![message] } else { Vec::new() }
            });
            Ok(scan(&InspectionLog::new(), &seen, args.text()?))
        })
        .with(WRAPPED, |_| Ok(wrapped(&DamageLog::new())))
}

/// A stage of the library under the name of another module.
fn wrapped(log: &DamageLog) -> MiddleStage<'static> {
    decompress_salvaging(log).module(WRAPPED, "")
}

/// Runs the stage over the blocks, in two processes.
fn run(stage: MiddleStage<'static>) {
    Pipe::builder()
        .buffer_size(1024)
        .head(counting(BLOCKS, &Arc::default()))
        .stage(stage.in_processes())
        .tail(StreamTail::new(io::sink()))
        .run()
        .unwrap();
}

fn assert_complete(log: &InspectionLog) {
    let outcome = log.snapshot();
    let rejected: Vec<u64> = (0..BLOCKS).filter(|n| n % 5 == 0).collect();
    let marked: Vec<u64> = (0..BLOCKS).filter(|n| n % 3 == 0 && n % 5 != 0).collect();
    assert_eq!(outcome.rejected_count, rejected.len() as u64);
    assert_eq!(outcome.marked_count, marked.len() as u64);
    assert_eq!((outcome.rejected, outcome.marked), (rejected, marked));
    assert_eq!(outcome.fault, None);
}

pub(crate) fn inspection_in_processes_fills_the_callers_log() {
    let log = InspectionLog::new();
    run(scan(&log, &Arc::default(), "").instances(2));
    assert_complete(&log);
}

pub(crate) fn findings_of_a_killed_process_are_kept() {
    let (log, dir) = (InspectionLog::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("died");
    run(scan(&log, &Arc::default(), path.to_str().unwrap()).instances(2));
    assert!(path.exists(), "a process has died");
    assert_complete(&log);
}

pub(crate) fn handler_of_the_caller_and_reports_both_receive() {
    let (log, seen) = (InspectionLog::new(), Arc::new(AtomicU64::new(0)));
    let received = Arc::clone(&seen);
    let stage = scan(&log, &Arc::default(), "").instances(2);
    run(stage.on_message(move |data| {
        let new = u64::from_le_bytes(data.try_into().unwrap());
        received.fetch_add(new, Ordering::SeqCst);
    }));
    assert_complete(&log);
    assert_eq!(seen.load(Ordering::SeqCst), BLOCKS);
}

pub(crate) fn log_of_a_wrapped_stage_is_filled() {
    let damage = |stage: fn(&DamageLog) -> MiddleStage<'static>| {
        let log = DamageLog::new();
        let handled = stage(&log).on_message(|_| panic!("a report is not for the handler"));
        let claims_zstd = Stage::in_place("claim", |_| Claim);
        Pipe::builder()
            .buffer_size(1024)
            .head(counting(20, &Arc::default()))
            .stage(claims_zstd)
            .stage(handled.instances(2).in_processes())
            .tail(StreamTail::new(io::sink()))
            .run()
            .unwrap();
        log.snapshot().count
    };
    assert_eq!(damage(wrapped), 20);
    assert_eq!(damage(decompress_salvaging), 20);
}

/// Declares that blocks of text are compressed.
struct Claim;

impl InPlace for Claim {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        info.codec = Codec::ZSTD;
        block.set_info(info);
        Ok(Verdict::Send)
    }
}
