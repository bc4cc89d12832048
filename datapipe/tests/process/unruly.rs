//! Processes that break the rules, and callers whose own code fails: the pipe ends with the reason.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datapipe::NotReplaced;
use datapipe::controller::Role;
use datapipe::host::Modules;
use datapipe::memory::Process;
use datapipe::pool::Activity;
use datapipe::prelude::*;
use datapipe::stage::{Confinement, StageKind};
use rustix::net::SendFlags;
use rustix::process::{Signal, getpid, kill_process};

use crate::attached::{attacher_and_wire, unbound_head};
use crate::stages::{Deed, checking, counting, out_of_place};
use crate::watch::{children_of, wait_until};

/// First argument of a process that sends useless messages over its standard input without end.
pub(crate) const FLOOD: &str = "--flood";

/// First argument of a process that becomes the controller of a lingering process and is then
/// killed.
pub(crate) const CONTROLLER: &str = "--let-linger";

/// True in a process whose host never ends.
static LINGERS: AtomicBool = AtomicBool::new(false);

/// Sends the message until the other end is closed.
pub(crate) fn flood() -> ! {
    let note = [5, 0, 0, 1];
    for sent in 0.. {
        if rustix::net::send(rustix::stdio::stdin(), &note, SendFlags::NOSIGNAL).is_err() {
            break;
        }
        if sent == 20 {
            println!("flooding");
        }
    }
    std::process::exit(0)
}

/// Breaks the rules in a process of a certain name, before it serves. Its standard input is the
/// control connection.
#[allow(clippy::zombie_processes, reason = "it dies before its children")]
pub(crate) fn before_serving() {
    let label = std::env::args().nth(2).unwrap_or_default();
    let send = |kind: u8, instance: u32, text: &str| {
        let len = (text.len() as u16).to_le_bytes();
        // A failure has a text and its causes, none here; an end that is well has nothing.
        let failure = [&len[..], text.as_bytes(), &[0]].concat();
        let mut packet = [&[kind], &instance.to_le_bytes()[..], &[255; 8]].concat();
        if kind == 1 {
            packet.extend(failure);
        }
        rustix::net::send(rustix::stdio::stdin(), &packet, SendFlags::NOSIGNAL).unwrap();
    };
    match label.as_str() {
        "flood/0" => {
            for _ in 0..3 {
                let mut command = Command::new("/proc/self/exe");
                let child = command.arg(FLOOD).stdout(Stdio::piped()).spawn().unwrap();
                child.stdout.unwrap().read_exact(&mut [0; 8]).unwrap();
            }
            kill_process(getpid(), Signal::KILL).unwrap();
        }
        "threads/0" => {
            std::thread::spawn(std::thread::park);
            return;
        }
        "all-well/0" => send(0, 0, ""),
        "another/0" => send(1, 7, "it was me"),
        "twice/0" => {
            send(0, 0, "");
            send(1, 0, "or not");
        }
        _ => return,
    }
    std::process::exit(0)
}

/// Blocks the end of its process.
struct Lingering;

impl Drop for Lingering {
    fn drop(&mut self) {
        while LINGERS.load(Ordering::SeqCst) {
            std::thread::park();
        }
    }
}

/// Adds the modules of this file.
pub(crate) fn add(modules: Modules) -> Modules {
    let lingering = Lingering;
    modules
        .with("test.lingering", move |_| {
            let _ = &lingering;
            LINGERS.store(true, Ordering::SeqCst);
            Ok(out_of_place(Deed::Pass, 0, ""))
        })
        .with("test.mad-notes", |call| {
            std::panic::set_hook(Box::new(|_| {})); // a deliberate panic
            call.add_message_source(|| panic!("lost the notes"));
            Ok(counting(u64::MAX, &Arc::default()))
        })
}

/// Returns a tail in a process. Only its name matters.
fn named(name: &str) -> TailStage<'static> {
    Stage::tail_of_module(name, StageKind::Write)
        .unwrap()
        .module("test.checking", "")
        .in_processes()
}

/// Runs this tail after an endless head, and returns the error.
fn run(tail: TailStage<'static>) -> Error {
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(counting(u64::MAX, &Arc::default()));
    pipe.tail(tail.in_processes()).run().unwrap_err()
}

pub(crate) fn panic_in_a_message_handler_fails_the_stage() {
    let tail = checking(&Arc::default()).module("test.checking", "");
    let Error::Stage(failure) = run(tail.on_message(|_| panic!("cannot bear to hear it"))) else {
        panic!()
    };
    assert_eq!(
        failure.to_string(),
        "stage \"check\": panicked: cannot bear to hear it"
    );
}

pub(crate) fn panic_in_an_event_listener_reaches_the_caller() {
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .on_event(|_| panic!("cannot bear to hear it"))
        .head(counting(u64::MAX, &Arc::default()))
        .stage(out_of_place(Deed::Pass, 0, ""))
        .tail(checking(&Arc::default()));
    assert!(
        catch_unwind(AssertUnwindSafe(|| pipe.run())).is_err(),
        "the panic is the caller's own"
    );
}

pub(crate) fn panic_in_a_message_source_fails_the_stage() {
    let head = counting(u64::MAX, &Arc::default())
        .module("test.mad-notes", "")
        .in_processes();
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(head)
        .tail(checking(&Arc::default()));
    let Err(Error::Stage(failure)) = pipe.run() else {
        panic!("the pipe did not fail")
    };
    assert_eq!(
        failure.to_string(),
        "stage \"count\": panicked: lost the notes"
    );
}

pub(crate) fn message_flood_does_not_hide_a_death() {
    let slow = |_: &[u8]| std::thread::sleep(Duration::from_millis(1));
    let Error::Stage(failure) = run(named("flood").on_message(slow)) else {
        panic!("the process did not die")
    };
    assert_eq!(failure.error.death().unwrap().reason, NotReplaced::Tail);
}

pub(crate) fn process_lingering_after_its_end_is_killed() {
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(counting(200, &Arc::default()));
    let lingering = out_of_place(Deed::Pass, 0, "").module("test.lingering", "");
    pipe.stage(lingering)
        .tail(checking(&Arc::default()))
        .run()
        .unwrap();
}

/// Runs a pipe with a stage that ends and a process that does not, until this process is killed.
pub(crate) fn be_a_controller() -> ! {
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(counting(200, &Arc::default()));
    let lingering = out_of_place(Deed::Pass, 0, "").module("test.lingering", "");
    let pipe = pipe
        .stage(lingering)
        .tail(checking(&Arc::default()))
        .start()
        .unwrap();
    wait_until("it has ended", || {
        pipe.status().stages[1].instances[0].activity == Activity::Ended
    });
    println!("it has ended");
    let ended = pipe.wait();
    panic!("it was to be killed, but ended: {ended:?}");
}

pub(crate) fn lingering_process_dies_with_its_controller() {
    let mut command = Command::new("/proc/self/exe");
    let mut controller = command
        .arg(CONTROLLER)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    controller
        .stdout
        .take()
        .unwrap()
        .read_exact(&mut [0; 12])
        .unwrap();
    let [process] = children_of(controller.id())[..] else {
        panic!("it has one process")
    };
    let process = Process::watch(process).unwrap();
    controller.kill().unwrap();
    controller.wait().unwrap();
    assert!(
        process.wait(Duration::from_secs(30)).unwrap().is_some(),
        "it outlives its controller"
    );
}

pub(crate) fn false_end_messages_are_corruption() {
    for name in ["all-well", "twice"] {
        let error = run(named(name));
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
    }
    let error = run(named("another")).to_string();
    assert!(
        error.contains("\"another\"") && error.contains("instance 7"),
        "{error}"
    );
}

/// A process that hangs up after the pipe has stopped is not the cause of the stop.
pub(crate) fn hang_up_after_a_stop_is_not_a_failure() {
    let pipe = unbound_head();
    let (mut child, mut wire) = attacher_and_wire(&pipe, Role::Head, "hang-up");
    pipe.cancel();
    wire.write_all(b"!").unwrap(); // now it hangs up, and continues to run
    assert!(matches!(pipe.wait(), Err(Error::Cancelled)));
    drop(wire);
    child.wait().unwrap();
}

/// Confinement would not cover threads that run already.
pub(crate) fn confinement_of_a_threaded_process_is_rejected() {
    let error = run(named("threads").confined(Confinement::new())).to_string();
    assert!(error.contains("it has 2 threads"), "{error}");
}

/// A plan does not keep the descriptors of its stages open.
pub(crate) fn plan_keeps_no_descriptors() {
    let (mut ours, theirs) = std::io::pipe().unwrap();
    let descriptors = [OwnedFd::from(theirs)];
    let tail = named("drain").module_with_descriptors("test.checking", "", descriptors);
    let builder = Pipe::builder()
        .buffer_size(1024)
        .head(counting(1, &Arc::default()))
        .tail(tail);
    let plan = builder.plan().unwrap();
    drop(builder);
    rustix::io::ioctl_fionbio(ours.as_fd(), true).unwrap();
    assert_eq!(
        ours.read(&mut [0]).expect("the other end is closed"),
        0,
        "{plan}"
    );
}
