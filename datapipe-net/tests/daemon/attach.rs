//! Heads and tails from outside.

use datapipe::host::Attachment;
use datapipe_net::protocol::{EventKind, PipeState, RefusalCode};
use datapipe_net::{AttachRole, Initiate, Participation, StageRequest};

use crate::site::{Site, events, outcome, plain, refusal, wait_until};

fn unbound(label: &str) -> Initiate {
    Initiate::new(label)
        .buffers(8)
        .buffer_size(4096)
        .stage(StageRequest::unbound("source"))
        .stage(StageRequest::module("pass"))
        .stage(StageRequest::unbound("sink"))
}

fn send(attachment: Attachment, count: u64) {
    let port = attachment.head().unwrap();
    for number in 0..count {
        let mut block = port.alloc().unwrap();
        block.put(&number.to_le_bytes()).unwrap();
        port.send(block).unwrap();
    }
    port.finish().unwrap();
    attachment.end(Ok(()));
}

fn receive(attachment: Attachment) -> u64 {
    let port = attachment.tail().unwrap();
    let mut number = 0u64;
    while let Some(block) = port.receive().unwrap() {
        assert_eq!(block.bytes(), number.to_le_bytes());
        number += 1;
    }
    port.finish().unwrap();
    attachment.end(Ok(()));
    number
}

pub(crate) fn head_and_tail_attach_from_outside() {
    let site = Site::new("");
    let mut client = site.client();
    client.subscribe(None).unwrap();
    let pipe = client.initiate(&unbound("waiting")).unwrap().pipe;
    let both = "waits for a process to attach as \"source\" and \"sink\"";
    wait_until("it waits for both", || {
        client.status(&pipe).unwrap().entry.explanation == both
    });
    assert_eq!(
        client.status(&pipe).unwrap().entry.state,
        PipeState::WAITING
    );
    let head = site.client().identify(&pipe, AttachRole::Head).unwrap();
    // The seat belongs to the process, and not to the connection, which closes here.
    let tail = site.client().identify(&pipe, AttachRole::Tail).unwrap();
    let received = std::thread::scope(|scope| {
        scope.spawn(|| send(head, 500));
        scope.spawn(|| receive(tail)).join().unwrap()
    });
    assert_eq!(received, 500);
    assert_eq!(
        outcome(&mut client, &pipe),
        (PipeState::ENDED, String::new())
    );
    let events = events(&mut client, &pipe);
    let attached: Vec<_> = events
        .iter()
        .filter(|event| event.kind == EventKind::ATTACHED)
        .collect();
    assert_eq!(attached.len(), 2);
    assert!(
        attached
            .iter()
            .all(|event| event.process == Some(std::process::id()))
    );
}

/// The log and the history had such a pipe as stopped, and named no one.
pub(crate) fn stop_by_an_attached_process_is_named() {
    let site = Site::new("");
    let mut client = site.client();
    let pipe = client.initiate(&unbound("waiting")).unwrap().pipe;
    let head = site.client().identify(&pipe, AttachRole::Head).unwrap();
    let tail = site.client().identify(&pipe, AttachRole::Tail).unwrap();
    tail.segment().stop();
    let (state, why) = outcome(&mut client, &pipe);
    assert_eq!(state, PipeState::STOPPED, "{why}");
    assert_eq!(why, "by a process that has its memory");
    drop((head, tail));
}

pub(crate) fn initiator_takes_a_seat() {
    let site = Site::new("");
    let mut client = site.client();
    let out = site.path("out/sum");
    let request = Initiate::new("mine")
        .buffers(4)
        .buffer_size(4096)
        .participation(Participation::Head)
        .stage(StageRequest::unbound("me"))
        .stage(
            StageRequest::module("count")
                .arguments(out.to_str().unwrap())
                .write(&out),
        );
    let started = client.initiate(&request).unwrap();
    send(started.attachment.expect("a seat"), 10);
    assert_eq!(outcome(&mut client, &started.pipe).0, PipeState::ENDED);
    assert_eq!(std::fs::read(&out).unwrap(), b"80");

    let request = plain("5").participation(Participation::Tail);
    let (code, why) = refusal(client.initiate(&request));
    assert_eq!(code, RefusalCode::BOUND, "{why}");
    let mut request = plain("5").participation(Participation::Tail);
    request.stages[1] = StageRequest::unbound("me");
    let started = client.initiate(&request).unwrap();
    assert_eq!(receive(started.attachment.expect("a seat")), 5);
    assert_eq!(outcome(&mut client, &started.pipe).0, PipeState::ENDED);
}

pub(crate) fn seats_that_are_bound_or_taken_are_refused() {
    let site = Site::new("");
    let mut client = site.client();
    let bound = client.initiate(&plain("forever")).unwrap().pipe;
    let waiting = client.initiate(&unbound("waiting")).unwrap().pipe;
    let mut code = |pipe: &str, role| refusal(client.identify(pipe, role)).0;
    assert_eq!(
        code("host.1.2", AttachRole::Head),
        RefusalCode::NO_SUCH_PIPE
    );
    assert_eq!(
        code("waiting", AttachRole::Head),
        RefusalCode::NO_SUCH_PIPE,
        "a label is not a name"
    );
    assert_eq!(code(&bound, AttachRole::Head), RefusalCode::BOUND);
    assert_eq!(
        code(&waiting, AttachRole::NetworkAgent),
        RefusalCode::NETWORK_AGENT
    );
    let head = site.client().identify(&waiting, AttachRole::Head).unwrap();
    assert_eq!(code(&waiting, AttachRole::Head), RefusalCode::TAKEN);
    // A process that closes its control connection without an outcome has failed.
    drop(head);
    let (state, why) = outcome(&mut client, &waiting);
    assert_eq!(state, PipeState::FAILED);
    assert!(why.contains("source"), "{why}");
    assert_eq!(
        refusal(client.identify(&waiting, AttachRole::Tail)).0,
        RefusalCode::OVER
    );
}

pub(crate) fn seat_without_a_process_fails_the_pipe() {
    let site = Site::new("unbound_patience_s = 1");
    let mut client = site.client();
    let pipe = client.initiate(&unbound("waiting")).unwrap().pipe;
    let (state, why) = outcome(&mut client, &pipe);
    assert_eq!(state, PipeState::FAILED);
    assert!(why.contains("attach"), "{why}");
}
