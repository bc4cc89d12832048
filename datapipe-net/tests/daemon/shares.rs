//! Limits of each user, besides those of all together. One user who takes all that it can get
//! leaves the others theirs, and root can always connect, list and stop.

use datapipe::host::Attachment;
use datapipe_net::client::ClientError;
use datapipe_net::protocol::{CloseReason, PipeState, RefusalCode};
use datapipe_net::{AttachRole, Client, Initiate, StageRequest};

use crate::other_users::{OTHER, OWNER, as_user, can_become_others};
use crate::site::{Site, outcome, plain, refusal, wait_until};

pub(crate) fn connections_of_a_user_are_limited() {
    if !can_become_others() {
        return;
    }
    let site = Site::new("connections = 8\nconnections_per_user = 5");
    let connect = |user| as_user(user, || Client::connect(site.socket()));
    let is_busy = |client: Result<Client, ClientError>| {
        let reason = client.map(drop).unwrap_err();
        matches!(reason, ClientError::Closed { reason, .. } if reason == CloseReason::BUSY)
    };
    let mut taken: Vec<_> = (0..5).map(|_| connect(OWNER).unwrap()).collect();
    assert!(is_busy(connect(OWNER)));
    taken.extend((0..3).map(|_| connect(OTHER).unwrap()));
    // All are taken; root has a reserve.
    assert!(is_busy(connect(OTHER)));
    for _ in 0..3 {
        assert_eq!(site.client().list().unwrap(), []);
    }
    taken.remove(0);
    wait_until("there is room again", || connect(OWNER).is_ok());
}

/// Starts a pipe as `user`: its name, or the text of the refusal because of a limit.
fn start(site: &Site, user: u32, request: &Initiate) -> Result<String, String> {
    as_user(user, || match site.client().initiate(request) {
        Ok(started) => Ok(started.pipe),
        refused => {
            let (code, why) = refusal(refused.map(drop));
            assert_eq!(code, RefusalCode::LIMIT, "{why}");
            Err(why)
        }
    })
}

pub(crate) fn pipes_of_a_user_are_limited() {
    if !can_become_others() {
        return;
    }
    let endless = plain("forever");
    // The limit of a user that the second pipe exceeds, and its key.
    for (limits, key) in [
        ("pipes_per_user = 1", "pipes_per_user"),
        ("processes_per_user = 3", "processes_per_user"),
        ("descriptors_per_user = 30", "descriptors_per_user"),
        (
            "memory_per_pipe_mib = 1\nmemory_per_user_mib = 1",
            "memory_per_user_mib",
        ),
    ] {
        let endless = endless.clone().buffers(48);
        let site = Site::new(limits);
        let first = start(&site, OWNER, &endless).unwrap();
        let why = start(&site, OWNER, &endless).unwrap_err();
        assert!(why.contains(key), "{limits}: {why}");
        let other = start(&site, OTHER, &endless).unwrap();
        let mut root = site.client();
        let own: Vec<_> = (0..2)
            .map(|_| root.initiate(&endless).unwrap().pipe)
            .collect();
        for pipe in [first, other].iter().chain(&own) {
            root.stop(pipe).unwrap();
            assert_eq!(outcome(&mut root, pipe).0, PipeState::STOPPED);
        }
        start(&site, OWNER, &endless).unwrap();
    }
}

pub(crate) fn process_gets_no_more_memory_than_its_limit() {
    let site = Site::new("memory_per_process_mib = 128");
    let mut client = site.client();
    for (mib, state) in [("16", PipeState::ENDED), ("192", PipeState::FAILED)] {
        let mut request = plain("3");
        request
            .stages
            .insert(1, StageRequest::module("hog").arguments(mib));
        let pipe = client.initiate(&request).unwrap().pipe;
        let (outcome, why) = outcome(&mut client, &pipe);
        assert_eq!(outcome, state, "{mib} MiB: {why}");
        assert_eq!(why.contains("memory"), state == PipeState::FAILED, "{why}");
    }
}

/// Memory that the segment of an attachment takes, in bytes.
fn memory_of(attachment: &Attachment) -> i64 {
    let descriptor = attachment.segment().descriptor().unwrap();
    rustix::fs::fstat(descriptor).unwrap().st_blocks * 512
}

/// A client that keeps the memory of a stopped pipe took new memory with each further pipe, and
/// none of it counted.
pub(crate) fn memory_of_a_stopped_pipe_counts_while_a_client_maps_it() {
    if !can_become_others() {
        return;
    }
    let site = Site::new("memory_per_user_mib = 24\nmemory_per_pipe_mib = 20");
    let request = Initiate::new("kept")
        .buffers(16)
        .buffer_size(1 << 20)
        .stage(StageRequest::module("numbers").arguments("forever"))
        .stage(StageRequest::unbound("mine"));
    let pipe = start(&site, OWNER, &request).unwrap();
    let attachment = as_user(OWNER, || {
        site.client().identify(&pipe, AttachRole::Tail).unwrap()
    });
    let port = attachment.tail().unwrap();
    let block = port.receive().unwrap().expect("a block");
    assert_eq!(block.bytes(), 0u64.to_le_bytes());
    assert!(memory_of(&attachment) > 16 << 20);
    let mut root = site.client();
    root.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut root, &pipe).0, PipeState::STOPPED);
    // The client finds the pipe ended, and its memory is the machine's again.
    assert!(port.receive().is_err());
    assert!(memory_of(&attachment) < 1 << 20);
    assert_eq!(block.bytes(), [0; 8], "its content is gone");
    let why = start(&site, OWNER, &request).unwrap_err();
    assert!(why.contains("memory_per_user_mib"), "{why}");
    drop(block);
    drop(port);
    attachment.end(Ok(()));
    wait_until("its memory counts no longer", || {
        start(&site, OWNER, &request).is_ok()
    });
}
