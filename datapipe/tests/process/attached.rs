//! Processes that attach to a pipe as its head or its tail.
//!
//! They receive their control connection over a socket, which is their standard input. Any other
//! way to pass a descriptor works as well.

use std::io::{IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datapipe::NotReplaced;
use datapipe::controller::{AdmitError, Role};
use datapipe::host::Attachment;
use datapipe::memory::Process;
use datapipe::pool::Activity;
use datapipe::prelude::*;
use datapipe::testkit::Sink;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::stages::{Deed, checking, content, counting, out_of_place};
use crate::watch::wait_until;

/// First argument of a process that attaches. The second is its task.
pub(crate) const ATTACH: &str = "--attach";
const PATIENCE: Duration = Duration::from_secs(60);

/// Attaches, and does its task: sends a number of blocks, receives all blocks, fails, leaves or
/// hangs up.
pub(crate) fn attach(deed: &str) -> ! {
    let control = received();
    if deed == "hang-up" {
        let mut wire = std::io::stdin();
        wire.read_exact(&mut [0]).unwrap(); // until the test asks for it
        drop(control);
        let _ = wire.read(&mut [0]);
        std::process::exit(0);
    }
    let attachment = Attachment::open(control).unwrap();
    assert_eq!(attachment.role() == Role::Head, deed != "receive");
    let result = match deed {
        "fail" => Err(StageError::new("I do not like it")),
        "leave" => std::process::exit(0),
        "receive" => receive(&attachment),
        count => send(&attachment, count.parse().unwrap()),
    };
    let code = i32::from(result.is_err());
    attachment.end(result);
    std::process::exit(code)
}

pub(crate) fn send(attachment: &Attachment, count: u64) -> Result<(), StageError> {
    let port = attachment.head()?;
    for number in 0..count {
        let mut block = port.alloc()?;
        block.put(&content(number))?;
        port.send(block)?;
    }
    Ok(port.finish()?)
}

pub(crate) fn receive(attachment: &Attachment) -> Result<(), StageError> {
    let port = attachment.tail()?;
    let mut number = 0;
    while let Some(block) = port.receive()? {
        assert_eq!(block.bytes(), content(number));
        number += 1;
    }
    println!("{number} blocks");
    Ok(port.finish()?)
}

/// Returns the descriptor that arrives over standard input.
fn received() -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let slices = &mut [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(
        rustix::stdio::stdin(),
        slices,
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    let message = ancillary.drain().next().unwrap();
    let RecvAncillaryMessage::ScmRights(mut descriptors) = message else {
        panic!("another message")
    };
    descriptors.next().unwrap()
}

/// Starts a process that attaches in this role, with this task.
fn attacher(pipe: &Pipe, role: Role, deed: &str) -> Child {
    attacher_and_wire(pipe, role, deed).0
}

/// Starts a process as [`attacher`] does, and returns the other end of its standard input, too.
pub(crate) fn attacher_and_wire(pipe: &Pipe, role: Role, deed: &str) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = Command::new("/proc/self/exe");
    command
        .args([ATTACH, deed])
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let control = pipe
        .admit(role, Process::watch(child.id()).unwrap())
        .unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [control.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    rustix::net::sendmsg(
        &ours,
        &[IoSlice::new(b"!")],
        &mut ancillary,
        SendFlags::empty(),
    )
    .unwrap();
    (child, ours)
}

/// Waits for a process to succeed, and returns its output.
fn end(mut child: Child) -> String {
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(child.wait().unwrap().success());
    text
}

fn activity(pipe: &Pipe, stage: usize) -> Activity {
    pipe.status().stages[stage].instances[0].activity
}

pub(crate) fn head_and_tail_processes_attach() {
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(Stage::unbound_head("feeder", PATIENCE))
        .stage(out_of_place(Deed::Pass, 0, "").instances(2))
        .tail(Stage::unbound_tail("drain", PATIENCE))
        .start()
        .unwrap();
    wait_until("it waits for both", || {
        activity(&pipe, 0) == Activity::Unattached && activity(&pipe, 2) == Activity::Unattached
    });
    assert!(
        pipe.status()
            .to_string()
            .contains("waits for a process to attach")
    );
    let tail = attacher(&pipe, Role::Tail, "receive");
    let head = attacher(&pipe, Role::Head, "300");
    let own = || Process::watch(std::process::id()).unwrap();
    assert!(matches!(
        pipe.admit(Role::Head, own()),
        Err(AdmitError::Taken(Role::Head) | AdmitError::Ended)
    ));
    assert_eq!(
        (end(head), end(tail)),
        (String::new(), "300 blocks\n".to_owned())
    );
    let report = pipe.wait().unwrap();
    assert_eq!(report.status.stages[2].instances[0].blocks_in, 300);
    assert_eq!(report.status.stages[0].instances[0].processes, 1);
}

/// The port of an attached head sends the archive's last block. A head that is killed before it has
/// ended leaves an archive without one.
pub(crate) fn attached_head_ends_an_archive() {
    for is_killed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tap");
        let archive = ArchiveOptions::stream("s").block_len(1024).chunk_len(4096);
        let archive = archive.plan().unwrap();
        let written = archive.report();
        let tape = VirtualTape::create(&path, VolumeOptions::default().in_place(true)).unwrap();
        let pipe = Pipe::builder()
            .buffer_size(1024)
            .head(Stage::unbound_head("feeder", PATIENCE))
            .stage(out_of_place(Deed::Pass, 0, "").instances(2))
            .archive(archive, tape)
            .start()
            .unwrap();
        let count = if is_killed { u64::MAX } else { 300 };
        let head = attacher(&pipe, Role::Head, &count.to_string());
        if is_killed {
            wait_until("blocks are safe", || written.snapshot().safe_blocks > 0);
            let pid = Pid::from_raw(head.id() as i32).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
            pipe.wait().unwrap_err();
            let mut head = head;
            head.wait().unwrap();
        } else {
            end(head);
            pipe.wait().unwrap();
        }
        assert_eq!(written.snapshot().complete, !is_killed);
        let (log, sink) = (DamageLog::new(), Sink::default());
        let tape = VirtualTape::open(&path).unwrap();
        let reading = ArchiveReader::open(tape, None)
            .unwrap()
            .salvage(&log)
            .read();
        let pipe = reading.pipe.tail(StreamRestore::new(sink.clone()));
        assert_eq!(pipe.run().unwrap().is_complete(), !is_killed);
        let outcome = reading.report.snapshot();
        assert_eq!((outcome.complete, outcome.missing), (!is_killed, 0));
        let all: Vec<u8> = (0..outcome.blocks).flat_map(content).collect();
        assert!(sink.bytes() == all && outcome.blocks > 0);
    }
}

pub(crate) fn attachment_is_refused_or_times_out() {
    let (enough, count) = (Arc::default(), Arc::new(AtomicU64::new(0)));
    let pipe = Pipe::builder()
        .head(counting(u64::MAX, &enough))
        .tail(checking(&count))
        .start()
        .unwrap();
    let own = || Process::watch(std::process::id()).unwrap();
    for role in [Role::Head, Role::Tail] {
        let refused = pipe.admit(role, own()).unwrap_err();
        assert!(
            matches!(refused, AdmitError::Bound(bound) if bound == role),
            "{refused}"
        );
    }
    pipe.cancel();
    wait_until("no process is admitted", || {
        matches!(pipe.admit(Role::Head, own()), Err(AdmitError::Ended))
    });

    let patience = Duration::from_millis(50);
    let pipe = Pipe::builder()
        .head(Stage::unbound_head("feeder", patience))
        .tail(checking(&count));
    let error = pipe.run().unwrap_err().to_string();
    assert_eq!(
        error,
        "stage \"feeder\": no process attached to it within 0.05 s"
    );

    let pipe = Pipe::builder()
        .head(Stage::unbound_head("feeder", PATIENCE))
        .tail(checking(&count));
    let pipe = pipe.start().unwrap();
    pipe.cancel();
    assert!(
        matches!(pipe.wait(), Err(Error::Cancelled)),
        "it does not wait any longer"
    );
    let two = Stage::unbound_tail("drain", PATIENCE).instances(2);
    let error = Pipe::builder()
        .head(counting(1, &enough))
        .tail(two)
        .plan()
        .unwrap_err()
        .to_string();
    assert!(error.contains("one process that attaches"), "{error}");
}

/// Starts a pipe that waits for its head.
pub(crate) fn unbound_head() -> Pipe {
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(Stage::unbound_head("feeder", PATIENCE));
    pipe.tail(checking(&Arc::default())).start().unwrap()
}

pub(crate) fn failure_of_an_attached_process_is_reported() {
    let failing = unbound_head();
    let mut child = attacher(&failing, Role::Head, "fail");
    let error = failing.wait().unwrap_err().to_string();
    assert_eq!(error, "stage \"feeder\": I do not like it");
    assert_eq!(child.wait().unwrap().code(), Some(1));

    let left = unbound_head();
    let mut child = attacher(&left, Role::Head, "leave");
    let Err(Error::Stage(failure)) = left.wait() else {
        panic!("the pipe did not fail")
    };
    assert_eq!(failure.error.death().unwrap().reason, NotReplaced::Attached);
    child.wait().unwrap();
}

/// An attached process is killed, is stopped, or its pipe is cancelled.
pub(crate) fn death_of_an_attached_process_ends_the_pipe() {
    let start = || {
        let count = Arc::new(AtomicU64::new(0));
        let pipe = Pipe::builder()
            .buffer_size(1024)
            .stopped_limit(Duration::from_millis(300));
        let pipe = pipe
            .head(Stage::unbound_head("feeder", PATIENCE))
            .tail(checking(&count))
            .start()
            .unwrap();
        let child = attacher(&pipe, Role::Head, &u64::MAX.to_string());
        wait_until("blocks arrive", || count.load(Ordering::SeqCst) > 0);
        (pipe, child)
    };
    let (pipe, mut child) = start();
    let segment = pipe.segment().clone();
    child.kill().unwrap();
    let Err(Error::Stage(failure)) = pipe.wait() else {
        panic!("the pipe did not fail")
    };
    assert_eq!(failure.error.death().unwrap().reason, NotReplaced::Attached);
    assert!(
        Status::of(&segment)
            .stages
            .iter()
            .all(|stage| stage.instances[0].held == 0)
    );
    child.wait().unwrap();

    let (pipe, mut child) = start();
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::STOP).unwrap();
    let error = pipe.wait().unwrap_err().to_string();
    assert!(error.contains("was stopped for too long"), "{error}");
    assert!(
        child.try_wait().unwrap().is_none(),
        "the controller does not kill it"
    );
    child.kill().unwrap();
    child.wait().unwrap();

    let (pipe, mut child) = start();
    pipe.cancel();
    assert!(matches!(pipe.wait(), Err(Error::Cancelled)));
    assert_eq!(
        child.wait().unwrap().code(),
        Some(1),
        "it received the stop"
    );
}
