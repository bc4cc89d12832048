//! Pipes from start to end.

use std::fs;

use datapipe::Direction;
use datapipe::stage::Arguments;
use datapipe_net::protocol::{Activity, EventKind, PipeState, StageStatus};
use datapipe_net::{Initiate, StageRequest};

use crate::site::{HANGS, Site, events, outcome, plain, wait_until};

pub(crate) fn pipe_reports_events_and_status_until_its_end() {
    let site = Site::new("");
    let mut client = site.client();
    assert_eq!(client.list().unwrap(), []);
    client.subscribe(None).unwrap();
    let out = site.path("out/sum");
    let started = client
        .initiate(
            &Initiate::new("nightly")
                .direction(Direction::Restore)
                .buffers(8)
                .buffer_size(4096)
                .stage(StageRequest::module("numbers").arguments("1000"))
                .stage(StageRequest::module("pass").named("through").instances(2))
                .stage(
                    StageRequest::module("count")
                        .arguments(out.to_str().unwrap())
                        .write(&out),
                ),
        )
        .unwrap();
    assert!(started.attachment.is_none());
    let events = events(&mut client, &started.pipe);
    assert_eq!(
        (events[0].kind, events[0].text.as_deref()),
        (EventKind::INITIATED, Some("nightly"))
    );
    let starts: Vec<_> = events
        .iter()
        .filter(|event| event.kind == EventKind::STARTED)
        .collect();
    let mut stages: Vec<_> = starts
        .iter()
        .map(|event| event.stage.clone().unwrap())
        .collect();
    stages.sort();
    assert_eq!(stages, ["count", "numbers", "through", "through"]);
    assert!(
        starts
            .iter()
            .all(|event| event.process > Some(0) && event.pipe == started.pipe)
    );
    assert_eq!(events.last().unwrap().state, Some(PipeState::ENDED));
    assert_eq!(fs::read(&out).unwrap(), b"8000");

    let status = client.status(&started.pipe).unwrap();
    assert_eq!(
        (status.entry.state, status.entry.owner),
        (PipeState::ENDED, rustix::process::geteuid().as_raw())
    );
    assert_eq!(
        (&*status.entry.label, status.entry.direction),
        ("nightly", Direction::Restore)
    );
    assert_eq!((status.buffers, status.bytes()), (8, 8000));
    let blocks: Vec<_> = status
        .stages
        .iter()
        .map(|stage| stage.instances.iter().map(|i| i.blocks_in).sum::<u64>())
        .collect();
    assert_eq!(blocks, [0, 1000, 1000]);
    assert!(
        status
            .stages
            .iter()
            .flat_map(|stage| &stage.instances)
            .all(|i| i.activity == Activity::ENDED)
    );
    assert_eq!(client.list().unwrap(), [status.entry]);
}

pub(crate) fn pipe_that_is_stopped_leaves_others_alone() {
    let site = Site::new("");
    let mut client = site.client();
    let endless = client.initiate(&plain("forever")).unwrap().pipe;
    let other = client.initiate(&plain("forever")).unwrap().pipe;
    let mut subscriber = site.client();
    subscriber.subscribe(Some(&endless)).unwrap();
    wait_until("all are there, and it moves", || {
        let status = client.status(&endless).unwrap();
        let there = |stage: &StageStatus| {
            stage.instances[0].process > 0 && stage.instances[0].processes > 0
        };
        status.bytes() > 0 && status.stages.iter().all(there)
    });
    let status = client.status(&endless).unwrap();
    assert_eq!(status.entry.state, PipeState::RUNNING);
    assert!(
        status
            .stages
            .iter()
            .all(|stage| stage.instances[0].processes == 1)
    );
    let names: Vec<_> = client
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, [endless.clone(), other.clone()]);
    client.stop(&endless).unwrap();
    let events = events(&mut subscriber, &endless);
    assert!(events.iter().all(|event| event.pipe == endless));
    assert!(events.iter().any(|event| event.kind == EventKind::STOPPING));
    assert_eq!(events.last().unwrap().state, Some(PipeState::STOPPED));
    // The event and the list say who stopped it.
    let cause = format!("by user {}", datapipe_net::config::User::own());
    assert_eq!(events.last().unwrap().text.as_ref(), Some(&cause));
    assert_eq!(outcome(&mut client, &endless), (PipeState::STOPPED, cause));
    // The other pipe goes on.
    let before = client.status(&other).unwrap().bytes();
    wait_until("it moves on", || {
        client.status(&other).unwrap().bytes() > before
    });
}

pub(crate) fn pipe_that_fails_reports_the_cause() {
    let site = Site::new("");
    let mut client = site.client();
    client.subscribe(None).unwrap();
    let failing = Initiate::new("failing")
        .buffers(8)
        .buffer_size(4096)
        .stage(StageRequest::module("numbers").arguments("forever"))
        .stage(StageRequest::module("pass").arguments("3"))
        .stage(StageRequest::module("count"));
    let pipe = client.initiate(&failing).unwrap().pipe;
    let over = events(&mut client, &pipe).pop().unwrap();
    assert_eq!(over.state, Some(PipeState::FAILED));
    let why = "stage \"pass\": I do not like \x1b[31mthis one";
    assert_eq!(over.text.as_deref(), Some(why));
    assert_eq!(
        outcome(&mut client, &pipe),
        (PipeState::FAILED, why.to_owned())
    );
}

/// The library's modules run with the paths that a confined process has.
pub(crate) fn library_modules_run_confined() {
    let site = Site::new("");
    let mut client = site.client();
    let out = site.path("out/sum");
    let request = Initiate::new("compressed")
        .buffers(16)
        .buffer_size(4096)
        .stage(StageRequest::module("numbers").arguments("1000"))
        .stage(
            StageRequest::module("zstd")
                .arguments(Arguments::new().with("level", "3"))
                .instances(2),
        )
        .stage(StageRequest::module("decompress"))
        .stage(
            StageRequest::module("count")
                .arguments(out.to_str().unwrap())
                .write(&out),
        );
    let pipe = client.initiate(&request).unwrap().pipe;
    assert_eq!(
        outcome(&mut client, &pipe),
        (PipeState::ENDED, String::new())
    );
    assert_eq!(fs::read(&out).unwrap(), b"8000");
}

/// A module can open the paths of the request, if the configuration allows them, and no others.
pub(crate) fn module_opens_only_requested_and_allowed_paths() {
    let site = Site::new("");
    let mut client = site.client();
    for name in ["in/named", "in/other"] {
        fs::write(site.path(name), "12345").unwrap();
    }
    let mut run = |named: &str, read: &str, tail: &str, out: &str| {
        let [named, read, out] = [named, read, out].map(|name| site.path(name));
        let mut last = StageRequest::module(tail).arguments(out.to_str().unwrap());
        if tail == "count" {
            last = last.write(site.path("out/sum"));
        }
        let reading = Initiate::new("reading")
            .buffers(4)
            .buffer_size(4096)
            .stage(
                StageRequest::module("read")
                    .arguments(read.to_str().unwrap())
                    .read(named),
            )
            .stage(last);
        let pipe = client.initiate(&reading).unwrap().pipe;
        outcome(&mut client, &pipe)
    };
    assert_eq!(
        run("in/named", "in/named", "count", "out/sum"),
        (PipeState::ENDED, String::new())
    );
    assert_eq!(fs::read(site.path("out/sum")).unwrap(), b"40");
    // A named directory includes everything beneath it.
    assert_eq!(
        run("in", "in/other", "count", "out/sum").0,
        PipeState::ENDED
    );
    for (named, read, tail, out) in [
        ("in/named", "in/other", "count", "out/sum"),
        ("in/named", "datapiped.toml", "count", "out/sum"),
        ("in/named", "in/named", "count", "elsewhere"),
    ] {
        let (state, why) = run(named, read, tail, out);
        assert_eq!(state, PipeState::FAILED);
        assert!(why.contains("Permission denied"), "{why}");
    }
    assert!(!site.path("elsewhere").exists());
    // This module is not confined by the configuration.
    assert_eq!(
        run("in/named", "in/named", "free-count", "elsewhere").0,
        PipeState::ENDED
    );
    assert!(site.path("elsewhere").exists());
}

/// The subscriber loses events and receives their number. Neither the pipe nor other clients wait
/// for it.
pub(crate) fn subscriber_that_does_not_read_loses_events() {
    let site = Site::new("");
    let (mut lazy, mut eager) = (site.client(), site.client());
    lazy.subscribe(None).unwrap();
    eager.subscribe(None).unwrap();
    let noisy = Initiate::new("noisy")
        .buffers(4)
        .buffer_size(4096)
        .stage(StageRequest::module("noisy").arguments("forever"))
        .stage(StageRequest::module("count"));
    site.client().initiate(&noisy).unwrap();
    // Far more events than fit in a queue and a socket.
    let mut notes = Vec::new();
    while notes.len() < 5000 {
        let event = eager.next_event(HANGS).unwrap().expect("an event");
        notes.extend(Some(event).filter(|event| event.kind == EventKind::NOTE));
    }
    let texts: Vec<_> = notes
        .iter()
        .filter_map(|note| note.text.as_deref())
        .collect();
    assert_eq!(texts[..2], ["text 0", "text 1"]);
    let data: Vec<_> = notes
        .iter()
        .filter_map(|note| note.note.as_deref())
        .collect();
    assert_eq!(data[..2], [b"data 0", b"data 1"]);
    let mut got = 0;
    let lost = loop {
        let event = lazy
            .next_event(HANGS)
            .unwrap()
            .expect("an event or the number of lost ones");
        match event.lost {
            Some(lost) => break lost,
            None => got += 1,
        }
    };
    assert!(lost > 0 && got > 0, "{got} events, {lost} lost");
}
