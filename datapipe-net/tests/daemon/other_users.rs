//! Rights of other users. These tests need root, to become another user; without it they test
//! nothing.

use datapipe_net::client::ClientError;
use datapipe_net::protocol::{CloseReason, PipeState, RefusalCode};
use datapipe_net::{AttachRole, Client, Initiate, StageRequest};
use rustix::process::Uid;

use crate::site::{Site, outcome, plain, refusal};

pub(crate) const OWNER: u32 = 4_000_000_001;
pub(crate) const OTHER: u32 = 4_000_000_002;
/// A user that the configuration does not name.
const STRANGER: u32 = 4_000_000_003;

/// Runs `client` as another user, on a thread: the kernel keeps the user of each thread.
pub(crate) fn as_user<T: Send>(user: u32, client: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let user = Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            client()
        });
        thread.join().unwrap()
    })
}

pub(crate) fn users_cannot_manage_pipes_of_others() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: other users are not tested");
        return;
    }
    let site = Site::new("");
    let closed = as_user(STRANGER, || Client::connect(site.socket()).map(drop));
    assert!(
        matches!(
            closed,
            Err(ClientError::Closed {
                reason: CloseReason::ACCESS,
                ..
            })
        ),
        "{closed:?}"
    );
    let pipe = as_user(OWNER, || initiate_as_owner(&site));
    as_user(OTHER, || assert_others_are_refused(&site, &pipe));
    let mut root = site.client();
    let entries = root.list().unwrap();
    let owners: Vec<_> = entries
        .iter()
        .map(|entry| (&*entry.name, entry.owner))
        .collect();
    assert_eq!(owners, [(&*pipe, OWNER)]);
    root.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut root, &pipe).0, PipeState::STOPPED);
    as_user(OWNER, || {
        let entry = site.client().list().unwrap().pop().unwrap();
        assert_eq!(
            (entry.name, entry.state),
            (pipe.clone(), PipeState::STOPPED)
        );
    });
}

/// Starts a pipe with an unbound head, after a request with a module of root is refused.
fn initiate_as_owner(site: &Site) -> String {
    let mut client = site.client();
    let private = Initiate::new("x")
        .stage(StageRequest::module("roots"))
        .stage(StageRequest::module("count"));
    let (code, why) = refusal(client.initiate(&private));
    assert_eq!(code, RefusalCode::NO_SUCH_MODULE);
    assert!(!why.contains("roots,"), "{why}");
    let mut request = plain("forever");
    request.stages[0] = StageRequest::unbound("mine");
    client.initiate(&request).unwrap().pipe
}

fn assert_others_are_refused(site: &Site, pipe: &str) {
    let mut client = site.client();
    let entries = client.list().unwrap();
    assert_eq!(entries, [], "the list has no pipes of others");
    let codes = [
        refusal(client.status(pipe)).0,
        refusal(client.stop(pipe)).0,
        refusal(client.identify(pipe, AttachRole::Head)).0,
        refusal(client.subscribe(Some(pipe))).0,
    ];
    assert_eq!(codes, [RefusalCode::NOT_ALLOWED; 4]);
}
