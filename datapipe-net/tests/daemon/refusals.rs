//! What is not done, and why.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use datapipe_net::client::ClientError;
use datapipe_net::protocol::{CloseReason, PipeState, RefusalCode};
use datapipe_net::{AttachRole, Client, Initiate, StageRequest};
use rustix::process::Uid;

use crate::site::{Site, children_of, outcome, plain, refusal};

pub(crate) fn pipes_that_are_refused() {
    let site = Site::new("");
    let mut client = site.client();
    let numbers = || StageRequest::module("numbers").arguments("1");
    let count = || StageRequest::module("count");
    let pipe = |stages: &[StageRequest]| {
        stages
            .iter()
            .cloned()
            .fold(Initiate::new("refused"), Initiate::stage)
    };
    let mut elsewhere = numbers();
    elsewhere.machine = Some("other.example.org".to_owned());
    let mut holding = numbers();
    holding.holds_in = Some(3);
    let mut stateful = count();
    stateful.stateful = true;
    let mut set = StageRequest::unbound("mine");
    set.arguments = b"x".to_vec();
    for (stages, code, why) in [
        (
            &[numbers()][..],
            RefusalCode::IMPOSSIBLE,
            "two stages or more",
        ),
        (
            &[numbers(), StageRequest::module("shell")],
            RefusalCode::NO_SUCH_MODULE,
            "no module \"shell\" here, only: numbers",
        ),
        (
            &[count(), count()],
            RefusalCode::MODULE,
            "is a tail, and stands where a head belongs",
        ),
        (
            &[numbers(), numbers(), count()],
            RefusalCode::MODULE,
            "is a head, and stands where a middle belongs",
        ),
        (
            &[elsewhere, count()],
            RefusalCode::RESERVED,
            "other.example.org",
        ),
        (&[holding, count()], RefusalCode::MODULE, "is no loop"),
        (
            &[numbers(), stateful],
            RefusalCode::MODULE,
            "never replaced",
        ),
        (&[set, count()], RefusalCode::IMPOSSIBLE, "unbound"),
        (
            &[numbers(), StageRequest::unbound("x"), count()],
            RefusalCode::IMPOSSIBLE,
            "first and the last",
        ),
        (
            &[
                numbers(),
                StageRequest::module("pass").instances(5),
                count(),
            ],
            RefusalCode::LIMIT,
            "may have 4 instances, not 5",
        ),
        (
            &[
                numbers(),
                StageRequest::module("pass").instances(0),
                count(),
            ],
            RefusalCode::IMPOSSIBLE,
            "instances",
        ),
    ] {
        let refused = refusal(client.initiate(&pipe(stages)));
        assert_eq!(refused.0, code, "{stages:?}: {}", refused.1);
        assert!(refused.1.contains(why), "{stages:?}: {}", refused.1);
    }
    let few = Initiate::new("few")
        .buffers(1)
        .stage(numbers())
        .stage(StageRequest::module("pass"))
        .stage(count());
    let (code, why) = refusal(client.initiate(&few));
    assert_eq!(code, RefusalCode::IMPOSSIBLE);
    assert!(why.contains("use"), "the sum: {why}");
    assert_eq!(client.list().unwrap(), [], "nothing was started");
    assert_eq!(children_of(site.process()), [0; 0]);
    let (code, _) = refusal(client.stop("host.1.2"));
    assert_eq!(code, RefusalCode::NO_SUCH_PIPE);
    assert_eq!(
        refusal(client.status("host.1.2")).0,
        RefusalCode::NO_SUCH_PIPE
    );
    assert_eq!(
        refusal(client.subscribe(Some("host.1.2"))).0,
        RefusalCode::NO_SUCH_PIPE
    );
    client.subscribe(None).unwrap();
    assert_eq!(refusal(client.subscribe(None)).0, RefusalCode::LIMIT);
}

/// Nothing but what the configuration allows may be named; what there is outside of it is not told.
pub(crate) fn paths_that_are_refused() {
    let site = Site::new("");
    let mut client = site.client();
    symlink("/etc", site.path("in/etc")).unwrap();
    let numbers = || StageRequest::module("numbers").arguments("1");
    let count = || StageRequest::module("count");
    let read = |path: &str| StageRequest::module("read").read(site.path(path));
    let write = |path: &str| count().write(site.path(path));
    for (head, tail, why) in [
        (
            numbers().read("/etc/passwd"),
            count(),
            "may not read /etc/passwd: its configuration allows nothing",
        ),
        (read("out"), count(), "may not read"),
        (read("in/../out"), count(), "symbolic links followed"),
        (read("in/etc/passwd"), count(), "symbolic links followed"),
        (read("in/etc/none"), count(), "symbolic links followed"),
        (read("in/none"), count(), "No such file"),
        (read("in/none/none"), count(), "No such file"),
        (numbers(), write("in/new"), "may not write"),
        (numbers(), write("datapiped.toml"), "may not write"),
    ] {
        let ask = Initiate::new("refused").stage(head).stage(tail);
        let refused = refusal(client.initiate(&ask));
        assert_eq!(refused.0, RefusalCode::PATH, "{ask:?}: {}", refused.1);
        assert!(refused.1.contains(why), "{ask:?}: {}", refused.1);
    }
    assert_eq!(client.list().unwrap(), [], "nothing was started");
}

/// What was checked is what is run: not what somebody has put in its place since.
pub(crate) fn a_program_that_has_changed() {
    let mut site = Site::without_daemon("");
    let program = site.path("program");
    let swap = |name: &str| {
        fs::copy(std::env::current_exe().unwrap(), site.path(name)).unwrap();
        fs::set_permissions(site.path(name), PermissionsExt::from_mode(0o755)).unwrap();
        fs::rename(site.path(name), &program).unwrap();
    };
    swap("first");
    let own = std::env::current_exe().unwrap();
    let text = site
        .configuration("")
        .replace(&own.display().to_string(), &program.display().to_string());
    site.configure(&text);
    site.start();
    let mut client = site.client();
    let pipe = client.initiate(&plain("10")).unwrap().pipe;
    assert_eq!(
        outcome(&mut client, &pipe),
        (PipeState::ENDED, String::new())
    );
    let second = site.path("second");
    fs::copy(&own, &second).unwrap();
    fs::set_permissions(&second, PermissionsExt::from_mode(0o755)).unwrap();
    fs::rename(&second, &program).unwrap();
    let (code, why) = refusal(client.initiate(&plain("10")));
    assert_eq!(code, RefusalCode::MODULE);
    assert!(
        why.contains("has changed since the configuration was checked"),
        "{why}"
    );
}

pub(crate) fn limits_are_kept() {
    let site = Site::new("pipes = 2\nmemory_per_pipe_mib = 1\nmemory_mib = 1");
    let mut client = site.client();
    let (code, why) = refusal(client.initiate(&plain("1").buffers(512).buffer_size(4096)));
    assert_eq!(code, RefusalCode::LIMIT);
    assert!(why.contains("one may take 1 MiB"), "{why}");
    let first = client.initiate(&plain("forever")).unwrap().pipe;
    let (code, why) = refusal(client.initiate(&plain("1").buffers(84)));
    assert_eq!(code, RefusalCode::LIMIT);
    assert!(why.contains("are left"), "{why}");
    let second = client.initiate(&plain("forever")).unwrap().pipe;
    assert_eq!(refusal(client.initiate(&plain("1"))).0, RefusalCode::LIMIT);
    // Room that was given back is room.
    for pipe in [first, second] {
        client.stop(&pipe).unwrap();
        assert_eq!(outcome(&mut client, &pipe).0, PipeState::STOPPED);
    }
    let third = client.initiate(&plain("1").buffers(64)).unwrap().pipe;
    assert_eq!(outcome(&mut client, &third).0, PipeState::ENDED);
}

/// Runs `client` as another user. The kernel knows users by thread.
fn as_user<T: Send>(user: u32, client: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let user = Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            client()
        });
        thread.join().unwrap()
    })
}

/// Needs root, to be somebody else; without it, only what every user can do is tested.
pub(crate) fn other_users() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: other users are not tested");
        return;
    }
    let (one, two, stranger) = (4_000_000_001, 4_000_000_002, 4_000_000_003);
    let site = Site::new("");
    let closed = as_user(stranger, || Client::connect(&site.socket()).map(drop));
    assert!(
        matches!(
            closed,
            Err(ClientError::Closed {
                why: CloseReason::ACCESS,
                ..
            })
        ),
        "{closed:?}"
    );
    let pipe = as_user(one, || {
        let mut client = site.client();
        let private = Initiate::new("x")
            .stage(StageRequest::module("roots"))
            .stage(StageRequest::module("count"));
        let (code, why) = refusal(client.initiate(&private));
        assert_eq!(code, RefusalCode::NO_SUCH_MODULE);
        assert!(!why.contains("roots,"), "{why}");
        let mut ask = plain("forever");
        ask.stages[0] = StageRequest::unbound("mine");
        client.initiate(&ask).unwrap().pipe
    });
    as_user(two, || {
        let mut client = site.client();
        assert_eq!(
            client.list().unwrap(),
            [],
            "the pipes of others are not shown"
        );
        assert_eq!(refusal(client.status(&pipe)).0, RefusalCode::NOT_ALLOWED);
        assert_eq!(refusal(client.stop(&pipe)).0, RefusalCode::NOT_ALLOWED);
        assert_eq!(
            refusal(client.identify(&pipe, AttachRole::Head)).0,
            RefusalCode::NOT_ALLOWED
        );
        assert_eq!(
            refusal(client.subscribe(Some(&pipe))).0,
            RefusalCode::NOT_ALLOWED
        );
    });
    // Root may.
    let mut client = site.client();
    let entries = client.list().unwrap();
    assert_eq!(
        entries
            .iter()
            .map(|entry| (&*entry.name, entry.owner))
            .collect::<Vec<_>>(),
        [(&*pipe, one)]
    );
    client.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::STOPPED);
    as_user(one, || {
        let entry = site.client().list().unwrap().pop().unwrap();
        assert_eq!(
            (entry.name, entry.state),
            (pipe.clone(), PipeState::STOPPED)
        );
    });
}
