//! Stages and hosts that cannot run in processes: the error has the reason.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use datapipe::prelude::*;
use datapipe::stage::{Arguments, Confinement, StageKind};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::stages::{Deed, in_place};

fn pipe(stage: MiddleStage<'static>) -> PipeBuilder<'static> {
    let head = StreamHead::new(&b"some data"[..]);
    Pipe::builder()
        .head(head)
        .stage(stage)
        .tail(StreamTail::new(std::io::sink()))
}

/// Checks the plan of a pipe before this program has called `serve`.
pub(crate) fn before_serving() {
    let error = pipe(zstd(1).in_processes()).plan().unwrap_err().to_string();
    assert!(
        error.contains("does not call datapipe::host::serve"),
        "{error}"
    );
    pipe(zstd(1).in_processes_of("/elsewhere")).plan().unwrap();
}

pub(crate) fn unusable_stage_descriptions_are_rejected() {
    let refused = |stage: MiddleStage<'static>, why: &str| {
        let error = pipe(stage).run().unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    };
    refused(
        datapipe::testkit::pass(1).in_processes(),
        "no module is named",
    );
    let long = "x".repeat(datapipe::limits::MAX_MODULE_NAME + 1);
    refused(zstd(1).module(long, "").in_processes(), "256 and 0 bytes");
    let long = vec![0; datapipe::limits::MAX_MODULE_ARGUMENTS + 1];
    refused(
        zstd(1).module("x", long).in_processes(),
        "1 and 65537 bytes",
    );
    let descriptors = (0..9).map(|_| File::open("/dev/null").unwrap().into());
    let nine = zstd(1).module_with_descriptors("x", "", descriptors);
    refused(nine.in_processes(), "9 descriptors");
    let long = vec![PathBuf::from(
        "/x".repeat(datapipe::limits::MAX_MODULE_ARGUMENTS),
    )];
    refused(
        zstd(1)
            .confined(Confinement::new().read(long))
            .in_processes(),
        "131092 bytes",
    );
    refused(
        Stage::middle_of_module("far", StageKind::Transform).unwrap(),
        "without its code",
    );
    assert!(Stage::middle_of_module("far", StageKind::Write).is_none());
}

pub(crate) fn unusable_hosts_are_reported() {
    let fails = |stage: MiddleStage<'static>, why: &str| {
        let error = pipe(stage).run().unwrap_err();
        assert!(matches!(error, Error::Stage(_)), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    };
    fails(
        zstd(1).in_processes_of("/nonexistent/host"),
        "cannot start its process: /nonexistent/host: No such file",
    );
    fails(
        zstd(1).in_processes_of("/bin/true"),
        "died (exit status: 0) and left its launch request: does the program's main call \
         datapipe::host::serve first?",
    );
    fails(
        zstd(1).module("unheard of", "").in_processes(),
        "no module \"unheard of\", only datapipe.analyze",
    );
    let leveled =
        |level: &str| zstd(1).module("datapipe.zstd", Arguments::new().with("level", level));
    fails(
        leveled("many").in_processes(),
        "invalid value \"many\" for field `level`",
    );
    fails(
        zstd(1).module("datapipe.zstd", "1").in_processes(),
        "too early",
    );
    let module = |stage: MiddleStage<'static>| stage.module("datapipe.analyze", "");
    fails(
        module(in_place(Deed::Pass, 0)),
        "makes another kind of stage",
    );
}

pub(crate) fn host_rejects_launches_by_other_processes() {
    let host = env!("CARGO_BIN_EXE_datapipe-host");
    let run = |command: &mut Command, input: Stdio| {
        let started = command.stdin(input).output().unwrap();
        (
            started.status.code(),
            String::from_utf8(started.stderr).unwrap(),
        )
    };
    let (code, text) = run(Command::new(host).arg("--datapipe-instance"), Stdio::null());
    assert_eq!(code, Some(2));
    assert!(
        text.contains("was not started by a pipe's controller"),
        "{text}"
    );
    // A child of the controller may launch, a grandchild may not: it would not notice the death of
    // the controller.
    let control = || {
        let kind = SocketType::SEQPACKET;
        rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
    };
    let (ours, theirs) = control();
    drop(ours);
    let (code, _) = run(Command::new(host).arg("--datapipe-instance"), theirs.into());
    assert_eq!(
        code,
        Some(1),
        "the controller has hung up before it sent a request"
    );
    let script = "\"$0\" --datapipe-instance; exit $?";
    let (ours, theirs) = control();
    let (code, text) = run(Command::new("sh").args(["-c", script, host]), theirs.into());
    drop(ours);
    assert_eq!(code, Some(2));
    assert!(
        text.contains("its parent is not the process that made its control socket"),
        "{text}"
    );
    let (code, text) = run(&mut Command::new(host), Stdio::null());
    assert_eq!((code, text.lines().count()), (Some(2), 1), "{text}");
}
