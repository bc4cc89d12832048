//! Refused requests.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use datapipe::stage::Arguments;
use datapipe_net::protocol::{PipeState, RefusalCode};
use datapipe_net::{Initiate, StageRequest};

use crate::site::{Site, children_of, outcome, plain, refusal};

fn numbers() -> StageRequest {
    StageRequest::module("numbers").arguments("1")
}

fn pass(instances: u32) -> StageRequest {
    StageRequest::module("pass").instances(instances)
}

fn count() -> StageRequest {
    StageRequest::module("count")
}

/// Requests that are refused: the stages, the code, and a part of the text.
fn refused_stages() -> Vec<(Vec<StageRequest>, RefusalCode, &'static str)> {
    let mut elsewhere = numbers();
    elsewhere.machine = Some("other.example.org".to_owned());
    let mut holding = numbers();
    holding.holds_in = Some(3);
    let mut stateful = count();
    stateful.stateful = true;
    let mut with_arguments = StageRequest::unbound("mine");
    with_arguments.arguments = b"x".to_vec();
    let unbound = StageRequest::unbound("x");
    let shell = StageRequest::module("shell");
    let no_shell = "no module \"shell\" here, only: numbers";
    let needs_head = "is a tail, where the pipe needs a head";
    let needs_middle = "is a head, where the pipe needs a middle";
    vec![
        (vec![numbers()], RefusalCode::IMPOSSIBLE, "at least two"),
        (
            vec![numbers(), shell],
            RefusalCode::NO_SUCH_MODULE,
            no_shell,
        ),
        (vec![count(), count()], RefusalCode::MODULE, needs_head),
        (
            vec![numbers(), numbers(), count()],
            RefusalCode::MODULE,
            needs_middle,
        ),
        (
            vec![elsewhere, count()],
            RefusalCode::RESERVED,
            "other.example.org",
        ),
        (vec![holding, count()], RefusalCode::MODULE, "is not a loop"),
        (
            vec![numbers(), stateful],
            RefusalCode::MODULE,
            "never replaced",
        ),
        (
            vec![with_arguments, count()],
            RefusalCode::IMPOSSIBLE,
            "unbound",
        ),
        (
            vec![numbers(), unbound, count()],
            RefusalCode::IMPOSSIBLE,
            "first and the last",
        ),
        (
            vec![numbers(), pass(5), count()],
            RefusalCode::LIMIT,
            "may have 4 instances, not 5",
        ),
        (
            vec![numbers(), pass(0), count()],
            RefusalCode::IMPOSSIBLE,
            "instances",
        ),
    ]
}

pub(crate) fn pipes_that_cannot_work_are_refused() {
    let site = Site::new("");
    let mut client = site.client();
    for (stages, code, why) in refused_stages() {
        let request = stages
            .iter()
            .cloned()
            .fold(Initiate::new("refused"), Initiate::stage);
        let refused = refusal(client.initiate(&request));
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
    assert!(why.contains("use"), "the calculation: {why}");
    assert_eq!(client.list().unwrap(), [], "no pipe was started");
    assert_eq!(children_of(site.process()), [0; 0]);
}

pub(crate) fn requests_for_unknown_pipes_are_refused() {
    let site = Site::new("");
    let mut client = site.client();
    let codes = [
        refusal(client.stop("host.1.2")).0,
        refusal(client.status("host.1.2")).0,
        refusal(client.subscribe(Some("host.1.2"))).0,
    ];
    assert_eq!(codes, [RefusalCode::NO_SUCH_PIPE; 3]);
    client.subscribe(None).unwrap();
    assert_eq!(refusal(client.subscribe(None)).0, RefusalCode::LIMIT);
}

/// A refusal does not reveal what exists outside of the allowed paths.
pub(crate) fn paths_outside_the_configuration_are_refused() {
    let site = Site::new("");
    let mut client = site.client();
    symlink("/etc", site.path("in/etc")).unwrap();
    let read = |path: &str| StageRequest::module("read").read(site.path(path));
    let write = |path: &str| count().write(site.path(path));
    for (head, tail, why) in [
        (
            numbers().read("/etc/passwd"),
            count(),
            "may not read /etc/passwd: its configuration allows nothing",
        ),
        (read("out"), count(), "may not read"),
        (read("in/../out"), count(), "after symbolic links"),
        (read("in/etc/passwd"), count(), "after symbolic links"),
        (read("in/etc/none"), count(), "after symbolic links"),
        (read("in/none"), count(), "No such file"),
        (read("in/none/none"), count(), "No such file"),
        (numbers(), write("in/new"), "may not write"),
        (numbers(), write("datapiped.toml"), "may not write"),
    ] {
        let request = Initiate::new("refused").stage(head).stage(tail);
        let refused = refusal(client.initiate(&request));
        assert_eq!(refused.0, RefusalCode::PATH, "{request:?}: {}", refused.1);
        assert!(refused.1.contains(why), "{request:?}: {}", refused.1);
    }
    assert_eq!(client.list().unwrap(), [], "no pipe was started");
}

/// The daemon runs the file that was checked, and not one that has replaced it since.
pub(crate) fn program_that_has_changed_is_refused() {
    let mut site = Site::without_daemon("");
    let program = site.path("program");
    let swap_in = |new: &Path| {
        fs::copy(std::env::current_exe().unwrap(), new).unwrap();
        fs::set_permissions(new, PermissionsExt::from_mode(0o755)).unwrap();
        fs::rename(new, &program).unwrap();
    };
    swap_in(&site.path("first"));
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
    swap_in(&site.path("second"));
    let (code, why) = refusal(client.initiate(&plain("10")));
    assert_eq!(code, RefusalCode::MODULE);
    assert!(
        why.contains("has changed since the configuration was checked"),
        "{why}"
    );
}

pub(crate) fn limits_of_pipes_and_memory_are_enforced() {
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
    // The room of an ended pipe is free.
    for pipe in [first, second] {
        client.stop(&pipe).unwrap();
        assert_eq!(outcome(&mut client, &pipe).0, PipeState::STOPPED);
    }
    let third = client.initiate(&plain("1").buffers(64)).unwrap().pipe;
    assert_eq!(outcome(&mut client, &third).0, PipeState::ENDED);
}

/// A number that the module's page does not allow fails the pipe with the range, and is not
/// replaced by another in silence.
pub(crate) fn modules_refuse_numbers_outside_of_their_range() {
    let site = Site::new("");
    let mut client = site.client();
    for (level, range) in [("0", "1 to 22"), ("23", "1 to 22"), ("-5", "1 to 22")] {
        let arguments = Arguments::new().with("level", level);
        let request = Initiate::new("level")
            .buffers(8)
            .buffer_size(4096)
            .stage(StageRequest::module("numbers").arguments("3"))
            .stage(StageRequest::module("zstd").arguments(arguments))
            .stage(count());
        let pipe = client.initiate(&request).unwrap().pipe;
        let (state, why) = outcome(&mut client, &pipe);
        assert_eq!(state, PipeState::FAILED, "{level}");
        let expected = format!("invalid value {level} for field `level`: use {range}");
        assert!(why.contains(&expected), "{why}");
    }
}
