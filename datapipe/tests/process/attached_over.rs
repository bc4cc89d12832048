//! Processes that attach over a connected socket: an inherited one, or one that listens at a path.

use std::io::{IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datapipe::controller::{AdmitError, Role};
use datapipe::host::{AttachError, Attachment};
use datapipe::prelude::*;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::attached::{receive, send, unbound_head};
use crate::stages::{checking, content};

/// First argument of a process that attaches over a socket. The second is the path at which the
/// program with the pipe listens; without it the socket is standard input.
pub(crate) const ATTACH: &str = "--attach-over";
const PATIENCE: Duration = Duration::from_secs(60);
const BLOCKS: u64 = 300;

/// Attaches, and sends or receives blocks.
pub(crate) fn attach(path: Option<&str>) -> ! {
    let socket = match path {
        Some(path) => UnixStream::connect(path).unwrap(),
        None => std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .unwrap()
            .into(),
    };
    let attachment = Attachment::receive(&socket).unwrap();
    let result = match attachment.role() {
        Role::Head => send(&attachment, BLOCKS),
        _ => receive(&attachment),
    };
    attachment.end(result);
    std::process::exit(0)
}

fn attacher(path: Option<&Path>, input: Stdio) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command.arg(ATTACH).args(path).stdin(input);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn ends(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn unbound() -> Pipe {
    let pipe = Pipe::builder().buffer_size(1024);
    let pipe = pipe.head(Stage::unbound_head("feeder", PATIENCE));
    pipe.tail(Stage::unbound_tail("drain", PATIENCE))
        .start()
        .unwrap()
}

pub(crate) fn processes_attach_over_a_listening_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seats");
    let listener = UnixListener::bind(&path).unwrap();
    let pipe = unbound();
    let head = attacher(Some(&path), Stdio::null());
    pipe.admit_over(Role::Head, &listener.accept().unwrap().0)
        .unwrap();
    let tail = attacher(Some(&path), Stdio::null());
    pipe.admit_over(Role::Tail, &listener.accept().unwrap().0)
        .unwrap();
    assert_eq!(
        (ends(head), ends(tail)),
        (String::new(), "300 blocks\n".to_owned())
    );
    let report = pipe.wait().unwrap();
    assert_eq!(report.status.stages[1].instances[0].blocks_in, BLOCKS);
}

/// This process made the pair. The child is watched all the same: it proves which process it is.
pub(crate) fn process_attaches_over_an_inherited_socket() {
    let pipe = unbound();
    let mut children = Vec::new();
    for role in [Role::Tail, Role::Head] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        children.push(attacher(None, OwnedFd::from(theirs).into()));
        pipe.admit_over(role, &ours).unwrap();
    }
    let head = children.pop().unwrap();
    assert_eq!(
        (ends(head), ends(children.pop().unwrap())),
        (String::new(), "300 blocks\n".to_owned())
    );
    pipe.wait().unwrap();

    // A death of the child stops the pipe, although this process lives.
    let pipe = unbound_head();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = Command::new("/proc/self/exe")
        .args([ATTACH, "--stay"])
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    pipe.admit_over(Role::Head, &ours).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let Err(Error::Stage(failure)) = pipe.wait() else {
        panic!("the pipe did not fail")
    };
    assert!(failure.error.death().is_some(), "{}", failure.error);
}

/// Attaches over standard input, and then only waits.
pub(crate) fn stay() -> ! {
    let socket: UnixStream = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .unwrap()
        .into();
    let _attachment = Attachment::receive(&socket).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

pub(crate) fn thread_attaches_and_keeps_its_socket() {
    let count = Arc::new(AtomicU64::new(0));
    let pipe = Pipe::builder()
        .buffer_size(1024)
        .head(Stage::unbound_head("feeder", PATIENCE))
        .tail(checking(&count))
        .start()
        .unwrap();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let attachment = Attachment::receive(&theirs).unwrap();
            theirs.write_all(b"seated").unwrap();
            let mut answer = [0; 2];
            theirs.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"go");
            let result = send(&attachment, 20);
            attachment.end(result);
        });
        pipe.admit_over(Role::Head, &ours).unwrap();
        ours.write_all(b"go").unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "seated");
    });
    pipe.wait().unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 20);
    assert!(!content(19).is_empty());
}

pub(crate) fn refused_processes_receive_an_answer() {
    let pipe = unbound_head();
    let asked = |role: Role| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            let seat = scope.spawn(move || Attachment::receive(&theirs).map(drop));
            (pipe.admit_over(role, &ours), seat.join().unwrap())
        })
    };
    let (admitted, received) = asked(Role::Tail);
    assert!(matches!(admitted, Err(AdmitError::Bound(Role::Tail))));
    assert!(
        matches!(received, Err(AttachError::Refused)),
        "{received:?}"
    );
    let (admitted, _) = asked(Role::Middle);
    assert!(matches!(admitted, Err(AdmitError::NotAnEnd(Role::Middle))));

    let (admitted, received) = asked(Role::Head);
    admitted.unwrap();
    received.unwrap();
    let (admitted, received) = asked(Role::Head);
    assert!(
        matches!(admitted, Err(AdmitError::Taken(_) | AdmitError::Ended)),
        "{admitted:?}"
    );
    assert!(
        matches!(received, Err(AttachError::Refused)),
        "{received:?}"
    );
    assert!(
        pipe.wait().is_err(),
        "the attachment was dropped without a result"
    );
}

/// Sends one byte, with a descriptor if there is one.
fn send_byte(socket: &UnixStream, byte: u8, descriptor: Option<BorrowedFd<'_>>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let bytes = [byte];
    let slices = [IoSlice::new(&bytes)];
    rustix::net::sendmsg(socket, &slices, &mut ancillary, SendFlags::empty()).unwrap();
}

pub(crate) fn sockets_that_break_the_exchange_are_errors() {
    let pipe = unbound_head();
    let file = std::fs::File::open("/dev/null").unwrap();
    let refused = |break_it: &dyn Fn(UnixStream)| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let kept = theirs.try_clone().unwrap();
        break_it(theirs);
        ours.set_read_timeout(Some(Duration::from_millis(250)))
            .unwrap();
        let error = pipe.admit_over(Role::Head, &ours).unwrap_err();
        assert!(matches!(error, AdmitError::Socket(_)), "{error:?}");
        drop(kept);
        error.to_string()
    };
    let text = refused(&|socket| send_byte(&socket, 7, None));
    assert!(text.contains("sent byte 7"), "{text}");
    let text = refused(&|socket| send_byte(&socket, 1, None));
    assert!(text.contains("no descriptor"), "{text}");
    let text = refused(&|socket| send_byte(&socket, 1, Some(file.as_fd())));
    assert!(text.contains("about no process"), "{text}");
    let text = refused(&|socket| socket.shutdown(std::net::Shutdown::Both).unwrap());
    assert!(text.contains("closed the socket"), "{text}");
    let text = refused(&|_| {});
    assert!(text.contains("timed out"), "{text}");

    // The other side answers nothing, something else, or hangs up.
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    let error = Attachment::receive(&theirs).unwrap_err().to_string();
    assert!(error.contains("timed out"), "{error}");
    theirs.set_read_timeout(None).unwrap();
    send_byte(&ours, 1, None);
    let error = Attachment::receive(&theirs).unwrap_err().to_string();
    assert!(error.contains("byte 1 without a descriptor"), "{error}");
    send_byte(&ours, 1, Some(file.as_fd()));
    let error = Attachment::receive(&theirs).unwrap_err();
    assert!(matches!(error, AttachError::Request(_)), "{error:?}");
    drop(ours);
    let error = Attachment::receive(&theirs).unwrap_err();
    assert!(matches!(error, AttachError::Socket(_)), "{error:?}");

    // The pipe's end ends the wait.
    let (ours, _theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| pipe.admit_over(Role::Head, &ours));
        pipe.cancel();
        let ended = waits.join().unwrap();
        assert!(matches!(ended, Err(AdmitError::Ended)), "{ended:?}");
    });
}

/// Needs root, to become another user. The pair belongs to the user that made it.
pub(crate) fn other_users_are_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: a socket of another user is not tested");
        return;
    }
    let stranger = 4_000_000_003;
    let pair = std::thread::spawn(move || {
        let user = rustix::process::Uid::from_raw(stranger);
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        UnixStream::pair().unwrap()
    });
    let (ours, theirs) = pair.join().unwrap();
    let pipe = unbound_head();
    std::thread::scope(|scope| {
        let seat = scope.spawn(move || Attachment::receive(&theirs).map(drop));
        let refused = pipe.admit_over(Role::Head, &ours);
        assert!(
            matches!(refused, Err(AdmitError::OtherUser { user, own: 0 }) if user == stranger),
            "{refused:?}"
        );
        assert!(matches!(seat.join().unwrap(), Err(AttachError::Refused)));
    });
}
