//! Killed, crashed and failed processes: replaced if nothing is lost, otherwise named in the error.
//! None is left.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use datapipe::memory::Process;
use datapipe::pool::Activity;
use datapipe::prelude::*;
use datapipe::testkit::Random;
use datapipe::{NotReplaced, StageFailure};
use rustix::process::{Pid, Signal, kill_process};

use crate::data::setting;
use crate::stages::{
    Deed, checking, counting, in_place, in_place_once, out_of_place, outputs_of, point, several,
    slow_to_replace,
};
use crate::watch::{children, children_of, wait_until};

/// Sends 200 blocks through a stage, and returns the number that arrived. Asserts that every buffer
/// is free afterwards, also after a failure.
fn run(stage: MiddleStage<'static>) -> Result<u64, StageFailure> {
    let (enough, count) = (Arc::default(), Arc::default());
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(counting(200, &enough))
        .stage(stage);
    let pipe = pipe.tail(checking(&count)).start().unwrap();
    let segment = pipe.segment().clone();
    let result = pipe.wait();
    for instance in Status::of(&segment)
        .stages
        .iter()
        .flat_map(|stage| &stage.instances)
    {
        assert_eq!(instance.held, 0, "{result:?}");
    }
    match result {
        Ok(_) => Ok(count.load(Ordering::SeqCst)),
        Err(Error::Stage(failure)) => Err(failure),
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn processes_killed_at_random_are_replaced() {
    const BUFFERS: u32 = 24;
    let seed = setting("DATAPIPE_SEED", 1);
    let mut random = Random::new(seed);
    let (enough, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let pipe = Pipe::builder()
        .buffers(BUFFERS)
        .buffer_size(1024)
        .head(counting(u64::MAX, &enough))
        .stage(zstd(1).instances(2).in_processes())
        .stage(decompress().instances(2).in_processes())
        .tail(checking(&count))
        .start()
        .unwrap();
    let taken_up = || -> Vec<u64> {
        let stages = pipe.status().stages;
        stages[1..3]
            .iter()
            .flat_map(|stage| &stage.instances)
            .map(|instance| instance.blocks_in)
            .collect()
    };
    for kill in 0..20 {
        // All blocks in flight at the last kill have arrived, and every process works again. So
        // this kill hits another block.
        let (arrived, before) = (count.load(Ordering::SeqCst), taken_up());
        wait_until("the pipe has continued", || {
            let all = taken_up()
                .iter()
                .zip(&before)
                .all(|(now, before)| now > before);
            all && count.load(Ordering::SeqCst) > arrived + u64::from(BUFFERS)
        });
        std::thread::sleep(Duration::from_micros(random.below(2000)));
        let children = children();
        assert_eq!(children.len(), 4, "after {kill} kills, seed {seed}");
        let victim = Process::watch(children[random.below(4) as usize]).unwrap();
        victim.kill().unwrap();
        wait_until("the killed one is replaced", || {
            let children = crate::watch::children();
            children.len() == 4 && !children.contains(&victim.id())
        });
    }
    enough.store(true, Ordering::SeqCst);
    let report = pipe
        .wait()
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let arrived = count.load(Ordering::SeqCst);
    assert!(arrived > 480, "{arrived}");
    assert_eq!(report.status.stages[0].instances[0].blocks_out, arrived);
}

/// Runs a stage that dies once and then creates a file.
fn run_to_one_death(stage: impl FnOnce(&str) -> MiddleStage<'static>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("died");
    assert_eq!(run(stage(file.to_str().unwrap())).unwrap(), 200);
    assert!(file.exists(), "it has died");
}

pub(crate) fn process_killed_at_a_block_is_replaced() {
    run_to_one_death(|file| out_of_place(Deed::DieOnce, 17, file).instances(2));
    run_to_one_death(|file| out_of_place(Deed::DieOnce, 0, file));
    run_to_one_death(|file| out_of_place(Deed::DieOnce, 199, file));
    run_to_one_death(|file| in_place_once(Deed::DieOnce, 17, file).instances(2));
}

/// Sends 40 blocks through a stage that makes several from one, and asserts that all outputs arrive
/// in order, each once.
fn run_flat_map(stage: MiddleStage<'static>) {
    struct Collect<'a>(&'a mut Vec<Vec<u8>>);
    impl Tail for Collect<'_> {
        fn write(&mut self, block: &Block) -> Result<(), StageError> {
            self.0.push(block.bytes().to_vec());
            Ok(())
        }
    }
    let mut got = Vec::new();
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(counting(40, &Arc::default()))
        .stage(stage)
        .tail(Collect(&mut got));
    pipe.run().unwrap();
    let expected: Vec<_> = (0..40).flat_map(outputs_of).collect();
    assert!(got == expected, "{} of {}", got.len(), expected.len());
}

pub(crate) fn process_killed_between_its_outputs_is_replaced() {
    run_flat_map(several(Deed::Pass, 0, "").instances(2));
    // Block 19 has three outputs, block 20 has none.
    let points = [0, 1, 2, 3].map(|begun| point(19, begun));
    for at in points.into_iter().chain([point(20, 0)]) {
        for instances in [1, 3] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("died");
            let stage = several(Deed::DieOnce, at, file.to_str().unwrap());
            run_flat_map(stage.instances(instances));
            assert!(file.exists(), "it has died at {at}, x{instances}");
        }
    }
}

pub(crate) fn process_killed_at_its_end_is_replaced() {
    run_to_one_death(|file| out_of_place(Deed::DieAtEnd, 0, file));
    run_to_one_death(|file| out_of_place(Deed::DieAtEnd, 0, file).instances(3));
}

/// All other stages sleep meanwhile, which is not a deadlock.
pub(crate) fn slow_replacement_is_not_a_deadlock() {
    run_to_one_death(|file| slow_to_replace(Deed::DieOnce, 17, file));
}

pub(crate) fn process_between_inline_stages_works() {
    let (enough, count) = (Arc::default(), Arc::new(AtomicU64::new(0)));
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(counting(200, &enough).inline());
    pipe.stage(out_of_place(Deed::Pass, 0, ""))
        .tail(checking(&count).inline())
        .run()
        .unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 200);
}

pub(crate) fn deadly_block_is_named() {
    for (deed, signal) in [(Deed::Die, 9), (Deed::Abort, 6)] {
        let failure = run(out_of_place(deed, 17, "").instances(2)).unwrap_err();
        assert_eq!((failure.stage.as_str(), failure.instances), ("doer", 2));
        let death = failure.error.death().unwrap();
        assert_eq!(death.reason, NotReplaced::PoisonBlock(17));
        assert_eq!(death.status.unwrap().signal(), Some(signal));
        let (text, process) = (failure.to_string(), death.process.to_string());
        for part in ["doer", &process, "signal", "block 17"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

/// The replacement does not hang.
pub(crate) fn process_over_its_work_limit_is_replaced() {
    let limit = Duration::from_secs(2);
    run_to_one_death(|file| out_of_place(Deed::HangOnce, 17, file).work_limit(limit));
}

pub(crate) fn block_over_the_work_limit_is_named() {
    let limit = Duration::from_secs(1);
    let (events, sink) = {
        let events = Arc::new(parking_lot::Mutex::new(Vec::new()));
        (Arc::clone(&events), events)
    };
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .on_event(move |event| sink.lock().push(event.clone()))
        .head(counting(200, &Arc::default()))
        .stage(out_of_place(Deed::Hang, 17, "").work_limit(limit))
        .tail(checking(&Arc::default()));
    let Err(Error::Stage(failure)) = pipe.run() else {
        panic!("the pipe did not fail")
    };
    let death = failure.error.death().unwrap();
    assert_eq!(death.reason, NotReplaced::PoisonBlock(17));
    assert_eq!(death.over_limit, Some(limit));
    let text = failure.to_string();
    assert!(
        text.contains("(killed after more than 1 s on one block) at block 17"),
        "{text}"
    );
    let is_over = |event: &&Event| {
        let Event::OverLimit { stage, block, .. } = event else {
            return false;
        };
        stage == "doer" && *block == Some(17)
    };
    assert_eq!(events.lock().iter().filter(is_over).count(), 2);
}

/// A process that waits for a silent pipe ends by itself: it is not killed.
pub(crate) fn processes_on_silent_and_full_pipes_end_when_the_pipe_is_cancelled() {
    let (silent, _writer) = std::io::pipe().unwrap();
    let (_reader, full) = std::io::pipe().unwrap();
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    let source = |fd: std::os::fd::OwnedFd| HeadStage::from(StreamHead::file(fd)).in_processes();
    let sink = |fd: std::os::fd::OwnedFd| TailStage::from(StreamTail::file(fd)).in_processes();
    let null = std::fs::File::options()
        .write(true)
        .open("/dev/null")
        .unwrap();
    let pipes = [
        (source(silent.into()), sink(null.into()), 0),
        (source(zeros.into()), sink(full.into()), 1),
    ];
    for (head, tail, waiting) in pipes {
        let events = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let pipe = Pipe::builder().buffer_size(64 << 10).head(head).tail(tail);
        let pipe = pipe.on_event(move |event| seen.lock().push(event.clone()));
        let pipe = pipe.start().unwrap();
        wait_until("it waits", || {
            let activity = pipe.status().stages[waiting].instances[0].activity;
            activity == Activity::WaitingOutside
        });
        pipe.cancel();
        assert!(matches!(pipe.wait(), Err(Error::Cancelled)));
        let events = events.lock();
        let died = events
            .iter()
            .any(|event| matches!(event, Event::Died { .. }));
        assert!(!died, "{events:?}");
    }
}

pub(crate) fn stateful_stage_is_not_replaced() {
    let failure = run(in_place(Deed::Die, 17).stateful()).unwrap_err();
    assert_eq!(failure.error.death().unwrap().reason, NotReplaced::Stateful);
    let failure = run(out_of_place(Deed::Die, 17, "").stateful()).unwrap_err();
    assert_eq!(failure.error.death().unwrap().reason, NotReplaced::Stateful);
    assert_eq!(run(in_place(Deed::Pass, 17).instances(2)).unwrap(), 200);
}

pub(crate) fn process_dying_before_its_first_block_ends_the_pipe() {
    let failure = run(out_of_place(Deed::Pass, 0, "").module("test.stillborn", "")).unwrap_err();
    let death = failure.error.death().unwrap();
    assert_eq!(
        death.reason,
        NotReplaced::Fruitless(datapipe::limits::MAX_FRUITLESS_DEATHS)
    );
}

pub(crate) fn stage_errors_and_panics_are_reported() {
    let failure = run(out_of_place(Deed::Fail, 17, "").instances(2)).unwrap_err();
    assert_eq!(failure.error.to_string(), "no more after 17");
    assert!(!failure.error.is_panic() && failure.error.death().is_none());
    let failure = run(in_place(Deed::Panic, 17)).unwrap_err();
    assert!(failure.error.is_panic());
    assert_eq!(
        failure.to_string(),
        "stage \"doer\": panicked: lost my mind at 17"
    );
}

pub(crate) fn exit_without_a_message_is_reported() {
    let failure = run(out_of_place(Deed::Exit, 17, "")).unwrap_err();
    let death = failure.error.death().unwrap();
    assert_eq!(
        (death.reason, death.status.unwrap().code()),
        (NotReplaced::Exited, Some(3))
    );
    assert!(failure.to_string().contains("exit status: 3"), "{failure}");
}

pub(crate) fn hanging_process_is_killed_with_its_pipe() {
    let (enough, count) = (Arc::default(), Arc::new(AtomicU64::new(0)));
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(counting(u64::MAX, &enough))
        .stage(out_of_place(Deed::Hang, 17, ""))
        .tail(checking(&count))
        .start()
        .unwrap();
    wait_until("it hangs", || count.load(Ordering::SeqCst) == 17);
    pipe.cancel();
    assert!(matches!(pipe.wait(), Err(Error::Cancelled)));
}

pub(crate) fn cancelled_pipe_leaves_no_process() {
    let (enough, count) = (Arc::default(), Arc::default());
    let stage = || out_of_place(Deed::Pass, 0, "").instances(2);
    let pipe = || {
        let pipe = Pipe::builder()
            .buffer_size(1024)
            .head(counting(u64::MAX, &enough));
        pipe.stage(stage()).tail(checking(&count))
    };
    let early = pipe();
    early.canceller().cancel();
    assert!(matches!(early.run(), Err(Error::Cancelled)));
    drop(pipe().start().unwrap()); // dropped while it starts
    drop(pipe()); // never started
}

/// First argument of a process that becomes a controller and is then killed.
pub(crate) const CONTROLLER: &str = "--be-a-controller";

/// Runs an endless pipe until this process is killed.
pub(crate) fn be_a_controller() -> ! {
    let (enough, count) = (Arc::default(), Arc::new(AtomicU64::new(0)));
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(counting(u64::MAX, &enough))
        .stage(out_of_place(Deed::Pass, 0, "").instances(2))
        .tail(checking(&count))
        .start()
        .unwrap();
    wait_until("both work", || {
        pipe.status().stages[1]
            .instances
            .iter()
            .all(|instance| instance.blocks_in > 0)
    });
    let _ = writeln!(std::io::stdout(), "working");
    let ended = pipe.wait();
    panic!("it was to be killed, but ended: {ended:?}");
}

pub(crate) fn processes_die_with_their_controller() {
    let mut command = Command::new("/proc/self/exe");
    let mut controller = command
        .arg(CONTROLLER)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(controller.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "working\n");
    let instances: Vec<_> = children_of(controller.id())
        .into_iter()
        .map(|id| Process::watch(id).unwrap())
        .collect();
    assert_eq!(instances.len(), 2);
    // A stopped process continues, and ends with the others.
    kill_process(
        Pid::from_raw(instances[0].id() as i32).unwrap(),
        Signal::STOP,
    )
    .unwrap();
    controller.kill().unwrap();
    controller.wait().unwrap();
    for instance in instances {
        assert!(
            instance.wait(Duration::from_secs(30)).unwrap().is_some(),
            "it outlives its controller"
        );
    }
}
