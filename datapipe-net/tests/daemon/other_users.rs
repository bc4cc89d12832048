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
pub(crate) const STRANGER: u32 = 4_000_000_003;

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

/// True if this process may become another user. If not, the test that asks tests nothing.
pub(crate) fn can_become_others() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("not root: other users are not tested");
    }
    is_root
}

pub(crate) fn users_cannot_manage_pipes_of_others() {
    if !can_become_others() {
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

/// `status LABEL` of root showed the pipe of any user with that label.
pub(crate) fn labels_of_several_users_are_told_apart() {
    if !can_become_others() {
        return;
    }
    let site = Site::new("");
    let start = || site.client().initiate(&plain("forever")).unwrap().pipe;
    let (of_owner, of_other) = (as_user(OWNER, start), as_user(OTHER, start));
    let status = |pipe: &str, code: i32| {
        let output = site.run("status", &["--once", pipe]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for command in ["status", "problems", "stop"] {
        let output = site.run(command, &["plain"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        let named = [&of_owner, &of_other].map(|pipe| text.contains(pipe));
        assert_eq!(named, [true, true], "{text}");
        assert!(
            text.contains("several users") && text.contains("USER/LABEL"),
            "{text}"
        );
    }
    assert!(status(&format!("{OTHER}/plain"), 0).contains(&of_other));
    let own = start();
    let text = status("plain", 0);
    assert!(text.contains(&own) && !text.contains(&of_owner), "{text}");
    // Of own pipes, too, the one that has ended is meant rather than one of another user.
    for _ in 0..2 {
        let output = site.run("stop", &["plain"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(&own));
    }
    for pipe in [of_owner, of_other] {
        let entry = site.client().status(&pipe).unwrap().entry;
        assert_eq!(entry.state, PipeState::RUNNING);
        site.client().stop(&pipe).unwrap();
    }
}
