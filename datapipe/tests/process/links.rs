//! Two pipes joined by a link: the tail of one and the head of the other run in processes that are
//! replaced when they are killed. Every block arrives once, with its number, its content and its
//! info, no matter which of them dies, and when.
//!
//! `DATAPIPE_KILLS=n` kills n processes instead of 24; `DATAPIPE_SEED=n` makes the same choices
//! again.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use datapipe::controller::Event;
use datapipe::host::{Modules, StageArgs};
use datapipe::memory::Process;
use datapipe::pool::Activity;
use datapipe::prelude::*;
use datapipe::testkit::Random;
use datapipe::{Death, NotReplaced};

use crate::data::setting;
use crate::link_stages::{Ack, receiving, sending};
use crate::stages::{content, counting};
use crate::watch::wait_until;

/// Adds the modules of this file.
pub(crate) fn add(modules: Modules) -> Modules {
    modules
        .with("test.link-tail", |call: &StageArgs<'_>| {
            Ok(sending(PathBuf::from(call.text()?)))
        })
        .with("test.link-head", |call: &StageArgs<'_>| {
            Ok(receiving(UnixListener::from(call.descriptor(0)?)))
        })
        .with("test.link-suicide", |call: &StageArgs<'_>| {
            let blocks = call.text()?.parse()?;
            Ok(Stage::tail_port("die", move |port| {
                let mut kept = Vec::new();
                for _ in 0..blocks {
                    kept.extend(port.receive()?);
                }
                std::process::abort()
            }))
        })
}

/// Drops every seventh block and puts the number of each other block into its info.
struct Mark;

impl InPlace for Mark {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        info.user[3] = block.number().get();
        block.set_info(info);
        let is_dropped = block.number().get() % 7 == 3;
        Ok(if is_dropped {
            Verdict::Drop
        } else {
            Verdict::Send
        })
    }
}

/// Returns the pipe that reads: its blocks go to the listener at `path`.
fn near(path: &Path, enough: &Arc<AtomicBool>) -> Pipe {
    let tail = sending(path.to_owned());
    let tail = tail.module("test.link-tail", path.as_os_str().as_bytes());
    Pipe::builder()
        .label("near")
        .buffer_size(1024)
        .buffers(12)
        .head(counting(u64::MAX, enough))
        .stage(Stage::in_place("mark", |_| Mark))
        .tail(tail.replaceable().in_processes())
        .start()
        .unwrap()
}

/// Returns the pipe that writes: its blocks come from `listener`, and `arrived` counts them.
fn far(listener: &UnixListener, arrived: &Arc<AtomicU64>) -> Pipe {
    let head = receiving(listener.try_clone().unwrap());
    let listener = listener.try_clone().unwrap().into();
    let head = head.module_with_descriptors("test.link-head", "", [listener]);
    let arrived = Arc::clone(arrived);
    let tail = Stage::tail_port("check", move |port| {
        port.take_vacant_blocks();
        for expected in 0.. {
            let Some(block) = port.receive()? else { break };
            let number = block.number().get();
            assert_eq!(number, expected);
            assert_eq!(block.info().user[3], number);
            assert_eq!(block.is_vacant(), number % 7 == 3, "block {number}");
            let whole = if block.is_vacant() {
                Vec::new()
            } else {
                content(number)
            };
            assert_eq!(block.bytes(), whole, "block {number}");
            arrived.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    Pipe::builder()
        .label("far")
        .buffer_size(1024)
        .buffers(8)
        .head(head.replaceable().in_processes())
        .tail(tail)
        .start()
        .unwrap()
}

/// Process at an end of the link, once it has its seat.
fn process_of(pipe: &Pipe, stage: usize) -> Option<u32> {
    let process = pipe.status().stages[stage].instances[0].process;
    (process > 0 && pipe.status().stages[stage].instances[0].activity != Activity::Idle)
        .then_some(process)
}

/// Kills the process at an end of the link, if it has one.
fn kill_end(pipe: &Pipe, stage: usize) -> u64 {
    let Some(process) = process_of(pipe, stage).and_then(|id| Process::watch(id).ok()) else {
        return 0;
    };
    u64::from(process.kill().is_ok())
}

pub(crate) fn killed_ends_of_a_link_are_replaced() {
    let (kills, seed) = (setting("DATAPIPE_KILLS", 24), setting("DATAPIPE_SEED", 1));
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("link");
    let listener = UnixListener::bind(&path).unwrap();
    let (enough, arrived) = (Arc::default(), Arc::default());
    let (near, far) = (near(&path, &enough), far(&listener, &arrived));
    let mut killed = [0, 0];
    while killed.iter().sum::<u64>() < kills {
        // At each of the ends, and now and then at both.
        let deed = random.below(8);
        if random.below(3) == 0 {
            let before = arrived.load(Ordering::SeqCst);
            wait_until(&format!("blocks arrive again, seed {seed}"), || {
                assert!(!near.is_finished() && !far.is_finished(), "seed {seed}");
                arrived.load(Ordering::SeqCst) > before
            });
        } else {
            wait_until("both processes have begun", || {
                assert!(!near.is_finished() && !far.is_finished(), "seed {seed}");
                process_of(&near, 2).is_some() && process_of(&far, 0).is_some()
            });
        }
        thread::sleep(Duration::from_micros(random.below(4000)));
        if deed.is_multiple_of(2) || deed == 1 {
            killed[0] += kill_end(&near, 2);
        }
        if deed % 2 == 1 {
            killed[1] += kill_end(&far, 0);
        }
    }
    enough.store(true, Ordering::SeqCst);
    let far = far
        .wait()
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    // The receiving end may have died with its last acknowledgement: this process, which knows how
    // its pipe ended, answers in its place.
    let total = arrived.load(Ordering::SeqCst);
    let ended = Ack {
        incarnation: u64::MAX,
        next: total,
        limit: total,
        is_ended: 1,
    };
    listener.set_nonblocking(true).unwrap();
    while !near.is_finished() {
        if let Ok((stream, _)) = listener.accept() {
            let _ = ended.write(stream);
        }
        thread::sleep(Duration::from_millis(1));
    }
    let near = near
        .wait()
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    println!(
        "  {} and {} killed, {total} blocks arrived, seed {seed}",
        killed[0], killed[1]
    );
    let sent = near.status.stages[1].instances[0].blocks_in;
    assert_eq!(sent, total, "each block arrived once");
    assert!(killed[0] > 0 && killed[1] > 0 && total > 0);
    for report in [near, far] {
        let held = report
            .status
            .stages
            .iter()
            .flat_map(|stage| &stage.instances);
        assert_eq!(held.map(|instance| instance.held).sum::<u32>(), 0);
    }
}

/// Runs a pipe whose tail dies whenever it has received `blocks` blocks. Returns its last death and
/// the number of deaths.
fn run_to_death(blocks: u64) -> (Death, u32) {
    let deaths = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&deaths);
    let tail = Stage::tail_port("die", |_| Ok(())).module("test.link-suicide", blocks.to_string());
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .on_event(move |event| {
            if matches!(event, Event::Died { .. }) {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        })
        .head(counting(u64::MAX, &Arc::default()))
        .tail(tail.holds_in(4).replaceable().in_processes());
    let Err(Error::Stage(failure)) = pipe.run() else {
        panic!("the pipe did not fail")
    };
    let death = failure.error.death().unwrap().clone();
    (death, deaths.load(Ordering::SeqCst) as u32)
}

/// Its death at the same block again and again is not the fault of the block, but of the program.
pub(crate) fn tail_that_dies_without_end_is_given_up() {
    let most = datapipe::limits::MAX_FUTILE_DEATHS;
    let (death, deaths) = run_to_death(2);
    assert_eq!(death.reason, NotReplaced::Futile(most));
    assert_eq!(deaths, most);
    assert!(
        death
            .to_string()
            .contains(&format!("the last of {most} in a row")),
        "{death}"
    );
}

/// Stages that are called for each block cannot go on in another process, and one that attaches is
/// not the controller's to start.
pub(crate) fn replaceable_stages_of_other_kinds_are_refused() {
    let refused = |head: HeadStage<'static>| {
        let tail = Stage::tail_port("tail", |_| Ok(()));
        let error = Pipe::builder()
            .head(head)
            .tail(tail)
            .plan()
            .unwrap_err()
            .to_string();
        assert!(error.contains("is declared replaceable but is"), "{error}");
        error
    };
    let error = refused(counting(1, &Arc::default()).replaceable());
    assert!(
        error.contains("called for each block") && error.contains("head_port"),
        "{error}"
    );
    let unbound = Stage::unbound_head("head", Duration::from_secs(1)).replaceable();
    assert!(refused(unbound).contains("in_processes"));
}
