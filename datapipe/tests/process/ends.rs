//! Heads and tails in processes: their messages, their deaths, and their confinement.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datapipe::controller::Event;
use datapipe::host::{Modules, StageArgs, StageMessage};
use datapipe::memory::Backing;
use datapipe::prelude::*;
use datapipe::stage::{CheckedPath, Confinement};
use datapipe::{Death, NotReplaced};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::stages::{Deed, checking, counting, out_of_place};
use crate::watch::{children, wait_until};

const ENDLESS: u64 = u64::MAX;

/// Returns a head in a process that sends `most` blocks.
fn far_counting(most: u64) -> HeadStage<'static> {
    counting(most, &Arc::default())
        .module("test.counting", most.to_string())
        .in_processes()
}

/// Returns a tail in a process that checks the blocks of [`counting`] and reports its progress.
pub(crate) fn far_checking(count: &Arc<AtomicU64>) -> TailStage<'static> {
    let count = Arc::clone(count);
    let noted = move |data: &[u8]| {
        let now = u64::from_le_bytes(data.try_into().unwrap());
        assert!(
            count.swap(now, Ordering::SeqCst) <= now,
            "messages arrive in order"
        );
    };
    checking(&Arc::default())
        .module("test.checking", "")
        .on_message(noted)
        .in_processes()
}

/// Returns a head that sends the content of a file, which it may not be allowed to read.
fn peeking(path: &str) -> HeadStage<'static> {
    let path = path.to_owned();
    Stage::head("peek", move |_| Peek(Some(path.clone())))
}

struct Peek(Option<String>);

impl Head for Peek {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let Some(path) = self.0.take() else {
            return Ok(Fill::End);
        };
        block.put(&fs::read(path)?)?;
        Ok(Fill::Block)
    }
}

/// Returns a tail that writes to an open file.
fn keeping(file: File) -> TailStage<'static> {
    StreamTail::new(file).into()
}

/// Adds the modules of this file.
pub(crate) fn add(modules: Modules) -> Modules {
    modules
        .with("test.counting", |call| {
            Ok(counting(call.text()?.parse()?, &Arc::default()))
        })
        .with("test.checking", |call| {
            let (count, mut sent) = (Arc::new(AtomicU64::new(0)), 0);
            let counted = Arc::clone(&count);
            call.add_message_source(move || {
                let now = counted.load(Ordering::SeqCst);
                let is_new = std::mem::replace(&mut sent, now) != now;
                let note = StageMessage::new(format!("{now} blocks"), now.to_le_bytes()).unwrap();
                if is_new { vec![note] } else { Vec::new() }
            });
            Ok(checking(&count))
        })
        .with("test.peeking", |call| Ok(peeking(call.text()?)))
        .with("test.keeping", |call: &StageArgs<'_>| {
            Ok(keeping(File::from(call.descriptor(0)?)))
        })
}

pub(crate) fn every_stage_can_be_a_process() {
    for backing in [Backing::Anonymous, Backing::Named] {
        let count = Arc::default();
        let report = Pipe::builder()
            .backing(backing)
            .buffer_size(1024)
            .head(far_counting(200))
            .stage(zstd(1).instances(2).in_processes())
            .stage(decompress().in_processes())
            .tail(far_checking(&count))
            .run()
            .unwrap();
        assert_eq!(
            count.load(Ordering::SeqCst),
            200,
            "the last message arrives after the end"
        );
        assert_eq!(report.status.stages[0].instances[0].processes, 1);
    }
}

pub(crate) fn instances_sharing_a_process_die_together() {
    let count = Arc::new(AtomicU64::new(0));
    let stage = || out_of_place(Deed::Pass, 0, "").instances(3).together();
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(counting(ENDLESS, &Arc::default()));
    let pipe = pipe.stage(stage()).tail(checking(&count)).start().unwrap();
    wait_until("all work", || {
        pipe.status().stages[1]
            .instances
            .iter()
            .all(|one| one.blocks_in > 0)
    });
    let [one] = children()[..] else {
        panic!("one process for all")
    };
    assert!(
        pipe.status().stages[1]
            .instances
            .iter()
            .all(|instance| instance.process == one)
    );
    kill_process(Pid::from_raw(one as i32).unwrap(), Signal::KILL).unwrap();
    let failure = failed(pipe.wait());
    assert_eq!(failure.reason, NotReplaced::Together);

    let failing = out_of_place(Deed::Fail, 17, "").instances(3).together();
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(counting(ENDLESS, &Arc::default()));
    let error = pipe
        .stage(failing)
        .tail(checking(&count_of()))
        .run()
        .unwrap_err();
    assert!(error.to_string().contains("no more after 17"), "{error}");
}

fn count_of() -> Arc<AtomicU64> {
    Arc::default()
}

fn failed(result: Result<Report, Error>) -> Death {
    match result {
        Err(Error::Stage(failure)) => failure
            .error
            .death()
            .unwrap_or_else(|| panic!("{failure}"))
            .clone(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn heads_and_tails_are_not_replaced() {
    for (stage, reason) in [(0, NotReplaced::Head), (2, NotReplaced::Tail)] {
        let (count, events) = (Arc::default(), Arc::new(Mutex::new(Vec::new())));
        let sink = Arc::clone(&events);
        let pipe = Pipe::builder()
            .buffer_size(1024)
            .on_event(move |event| sink.lock().push(event.clone()))
            .head(far_counting(ENDLESS))
            .stage(out_of_place(Deed::Pass, 0, ""))
            .tail(far_checking(&count))
            .start()
            .unwrap();
        wait_until("blocks arrive", || count.load(Ordering::SeqCst) > 0);
        let victim = pipe.status().stages[stage].instances[0].process;
        assert!(children().contains(&victim));
        kill_process(Pid::from_raw(victim as i32).unwrap(), Signal::KILL).unwrap();
        let segment = pipe.segment().clone();
        let death = failed(pipe.wait());
        assert_eq!((death.process, death.reason), (victim, reason));
        let status = Status::of(&segment);
        assert!(
            status
                .stages
                .iter()
                .flat_map(|stage| &stage.instances)
                .all(|instance| instance.held == 0)
        );
        let died = |event: &Event| match event {
            Event::Died {
                process,
                replaced: false,
                ..
            } => *process == victim,
            _ => false,
        };
        assert!(events.lock().iter().any(died), "{events:?}");
        assert!(
            events.lock().iter().any(
                |event| matches!(event, Event::StageMessage { stage, .. } if stage == "check")
            )
        );
    }
}

pub(crate) fn stopped_process_is_killed_and_replaced() {
    let (count, events) = (Arc::default(), Arc::new(Mutex::new(Vec::new())));
    let (sink, enough) = (Arc::clone(&events), Arc::default());
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .stopped_limit(Duration::from_millis(300))
        .on_event(move |event| sink.lock().push(event.to_string()))
        .head(counting(ENDLESS, &enough))
        .stage(out_of_place(Deed::Pass, 0, ""))
        .tail(checking(&count))
        .start()
        .unwrap();
    wait_until("blocks arrive", || count.load(Ordering::SeqCst) > 0);
    let victim = pipe.status().stages[1].instances[0].process;
    kill_process(Pid::from_raw(victim as i32).unwrap(), Signal::STOP).unwrap();
    let died = format!("doer/0: process {victim} died (signal: 9 (SIGKILL)) and is replaced");
    wait_until("it is killed", || events.lock().contains(&died));
    let then = count.load(Ordering::SeqCst);
    wait_until("the pipe has continued", || {
        count.load(Ordering::SeqCst) > then
    });
    enough.store(true, Ordering::SeqCst);
    let report = pipe.wait().unwrap();
    assert_eq!(
        report.status.stages[0].instances[0].blocks_out,
        count.load(Ordering::SeqCst)
    );
}

pub(crate) fn confined_process_reads_only_its_paths() {
    let dir = tempfile::tempdir().unwrap();
    let (open, shut) = (dir.path().join("open"), dir.path().join("shut"));
    fs::create_dir(&open).unwrap();
    fs::create_dir(&shut).unwrap();
    for place in [&open, &shut] {
        fs::write(place.join("file"), "what it says").unwrap();
    }
    let run = |path: &std::path::Path| {
        let out = tempfile::tempfile().unwrap();
        let path = path.to_str().unwrap();
        let head = peeking(path)
            .module("test.peeking", path)
            .confined(Confinement::new().read([open.clone()]));
        let file: OwnedFd = out.try_clone().unwrap().into();
        let tail =
            keeping(out.try_clone().unwrap()).module_with_descriptors("test.keeping", "", [file]);
        let tail = tail.confined(Confinement::new()).in_processes();
        let result = Pipe::builder()
            .buffer_size(1024)
            .head(head.in_processes())
            .tail(tail)
            .run();
        let (mut out, mut text) = (out, String::new());
        out.rewind().unwrap();
        out.read_to_string(&mut text).unwrap();
        result.map(|_| text)
    };
    assert_eq!(run(&open.join("file")).unwrap(), "what it says");
    let error = run(&shut.join("file")).unwrap_err().to_string();
    assert!(error.contains("Permission denied"), "{error}");
}

/// The party that could rename what is at an allowed path chose what the process opened.
pub(crate) fn confined_process_opens_only_the_file_that_was_checked() {
    let dir = tempfile::tempdir().unwrap();
    let [place, other] = ["place", "other"].map(|name| dir.path().join(name));
    for folder in [&place, &other] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "what it says").unwrap();
    }
    let checked = CheckedPath::new(&place, File::open(&place).unwrap()).unwrap();
    let path = place.join("file");
    let run = || {
        let head = peeking(path.to_str().unwrap())
            .module("test.peeking", path.to_str().unwrap())
            .confined(Confinement::new().read_checked([checked.clone()]));
        let pipe = Pipe::builder().buffer_size(1024).head(head.in_processes());
        pipe.tail(StreamTail::new(std::io::sink())).run()
    };
    run().unwrap();
    fs::rename(&place, dir.path().join("aside")).unwrap();
    fs::rename(&other, &place).unwrap();
    let error = run().unwrap_err().to_string();
    assert!(error.contains("another file than when"), "{error}");
}
