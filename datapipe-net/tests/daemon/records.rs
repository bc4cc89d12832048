//! Records of pipes that the daemon keeps: their problems, and the history.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use datapipe_net::client::ClientError;
use datapipe_net::limits::KEPT_PROBLEMS;
use datapipe_net::protocol::{EventKind, PipeState, RefusalCode};
use datapipe_net::{Initiate, StageRequest};
use rustix::process::Signal;

use crate::other_users::{OTHER, OWNER, as_user};
use crate::site::{Site, events, outcome, plain, refusal, wait_until};

/// A pipe whose head reports problems.
fn troubled(label: &str, problems: &str) -> Initiate {
    let mut request = plain("0");
    request.label = label.to_owned();
    request.stages[0] = StageRequest::module("troubled").arguments(problems);
    request
}

/// Standard output of a command that ended with the exit code `code`.
fn output(site: &Site, command: &str, arguments: &[&str], code: i32) -> String {
    let output = site.run(command, arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A pipe that ended well except for its problems is not one that ended: a client that was not
/// subscribed learned nothing of files that were not read.
pub(crate) fn pipe_with_problems_is_incomplete_everywhere() {
    let mut site = Site::new("");
    let mut client = site.client();
    client.subscribe(None).unwrap();
    let pipe = client.initiate(&troubled("nightly", "250")).unwrap().pipe;
    let events = events(&mut client, &pipe);
    let over = events.last().unwrap();
    assert_eq!(
        (over.state, over.problems),
        (Some(PipeState::INCOMPLETE), Some(250))
    );
    let notes = events.iter().filter(|event| event.kind == EventKind::NOTE);
    assert!(notes.clone().count() > 0 && notes.clone().all(|event| event.problems == Some(1)));

    let mut late = site.client();
    let why = "250 problems, the last: troubled: \u{1b}[31m249 is not read";
    assert_eq!(
        outcome(&mut late, &pipe),
        (PipeState::INCOMPLETE, why.to_owned())
    );
    let entry = late.list().unwrap().pop().unwrap();
    assert_eq!((entry.state, entry.problems), (PipeState::INCOMPLETE, 250));
    let problems = late.problems(&pipe).unwrap();
    assert_eq!((problems.count, problems.last.len()), (250, KEPT_PROBLEMS));
    let texts = problems.last.iter().map(|problem| &*problem.text);
    assert!(texts.eq((150..250).map(|n| format!("\u{1b}[31m{n} is not read"))));

    let text = output(&site, "problems", &["nightly"], 3);
    assert!(
        text.starts_with("250 problems, the last 100:\ntroubled/0: \\u{1b}[31m150"),
        "{text}"
    );
    let json = output(&site, "problems", &["--json", &pipe], 3);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["count"], &json["pipe"]),
        (&250.into(), &(*pipe).into())
    );
    assert!(output(&site, "list", &[], 0).contains("incomplete"));
    let list: serde_json::Value =
        serde_json::from_str(&output(&site, "list", &["--json"], 0)).unwrap();
    assert_eq!(
        (&list["pipes"][0]["state"], &list["pipes"][0]["problems"]),
        (&"incomplete".into(), &250.into())
    );
    output(&site, "stop", &["nightly"], 3);
    // Of several pipes with a label, the newest is meant.
    let again = client.initiate(&troubled("nightly", "1")).unwrap().pipe;
    assert_eq!(outcome(&mut client, &again).0, PipeState::INCOMPLETE);
    assert!(output(&site, "problems", &["nightly"], 3).starts_with("1 problem:\n"));
    assert!(output(&site, "problems", &[&pipe], 3).starts_with("250 problems"));

    let pipe = client.initiate(&troubled("well", "0")).unwrap().pipe;
    assert_eq!(
        outcome(&mut client, &pipe),
        (PipeState::ENDED, String::new())
    );
    assert_eq!(output(&site, "problems", &["well"], 0), "no problems\n");
    site.signal(Signal::TERM);
    let (_, log) = site.end();
    let line = "incomplete: 250 problems, the last: troubled: \\u{1b}[31m249 is not read";
    assert!(log.contains(line), "{log}");
}

/// A script took a pipe that had failed before its first problem for a good one.
pub(crate) fn problems_of_a_pipe_that_failed_are_a_failure() {
    let site = Site::new("");
    let mut client = site.client();
    let pipe = client.initiate(&troubled("well", "x")).unwrap().pipe;
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::FAILED);
    assert_eq!(output(&site, "problems", &["well"], 1), "no problems\n");
    let pipe = client
        .initiate(&troubled("well", "1 forever"))
        .unwrap()
        .pipe;
    client.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::STOPPED);
    output(&site, "problems", &["well"], 1);
}

pub(crate) fn problems_of_a_live_pipe_can_be_read() {
    let site = Site::new("");
    let mut client = site.client();
    let pipe = client
        .initiate(&troubled("live", "3 forever"))
        .unwrap()
        .pipe;
    wait_until("the problems have arrived", || {
        client.problems(&pipe).unwrap().count == 3
    });
    let entry = client.status(&pipe).unwrap().entry;
    assert_eq!((entry.state, entry.problems), (PipeState::RUNNING, 3));
    client.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::STOPPED);
    let past = client.history(None).unwrap().pop().unwrap();
    assert_eq!((past.state, past.problems), (PipeState::STOPPED, 3));
    assert_eq!(client.problems(&pipe).unwrap().last.len(), 3);
    assert_eq!(
        refusal(client.problems("host.1.2")).0,
        RefusalCode::NO_SUCH_PIPE
    );
}

/// A site with a directory of state, whose daemon is not started yet.
fn site_with_state() -> Site {
    let site = Site::without_daemon("");
    let state = site.path("state");
    fs::create_dir(&state).unwrap();
    let text = site.configuration("");
    site.configure(&format!("state_dir = {state:?}\n{text}"));
    site
}

/// Labels and states of the history, the newest first.
fn past(site: &Site) -> Vec<(String, PipeState)> {
    let pipes = site.client().history(None).unwrap();
    let pipes = pipes.into_iter();
    pipes.map(|pipe| (pipe.label, pipe.state)).collect()
}

/// Number of lines of a history's file that are of ended pipes.
fn ends_in(file: &std::path::Path) -> usize {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines();
    lines
        .filter(|line| !line.contains("\"state\":\"running\""))
        .count()
}

fn run(site: &Site, request: &Initiate) -> PipeState {
    let mut client = site.client();
    let pipe = client.initiate(request).unwrap().pipe;
    outcome(&mut client, &pipe).0
}

pub(crate) fn history_survives_the_daemon() {
    let mut site = site_with_state();
    site.start();
    let mut fails = plain("9");
    fails.label = "fails\u{202e}".to_owned();
    fails
        .stages
        .insert(1, StageRequest::module("pass").arguments("4"));
    assert_eq!(run(&site, &plain("1000")), PipeState::ENDED);
    assert_eq!(run(&site, &fails), PipeState::FAILED);
    assert_eq!(
        run(&site, &troubled("troubled", "2")),
        PipeState::INCOMPLETE
    );
    let all = past(&site);
    assert_eq!(all.len(), 3);
    let file = site.path("state/history.jsonl");
    let lines = || ends_in(&file);
    wait_until("all pipes are written", || lines() == 3);
    // A daemon that is killed writes nothing more.
    site.signal(Signal::KILL);
    site.end();
    site.start();
    assert_eq!(past(&site), all);
    let pipes = site.client().history(Some(2)).unwrap();
    let found: Vec<_> = pipes
        .iter()
        .map(|pipe| (&*pipe.label, pipe.state, pipe.problems))
        .collect();
    let (incomplete, failed) = (PipeState::INCOMPLETE, PipeState::FAILED);
    assert_eq!(
        found,
        [("troubled", incomplete, 2), ("fails\u{202e}", failed, 0)]
    );
    assert!(pipes[1].cause.contains("I do not like"), "{:?}", pipes[1]);
    assert_eq!(site.client().history(None).unwrap()[2].bytes, 8000);
    let table = output(&site, "history", &[], 0);
    assert_eq!(table.lines().count(), 4);
    assert!(
        table.contains("fails\\u{202e}") && table.contains("incomplete"),
        "{table}"
    );
    let json = output(&site, "history", &["--json", "--limit", "1"], 0);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["pipes"].as_array().unwrap().len(), 1);
    assert_eq!(json["pipes"][0]["problems"], 2);
    // A pipe that is stopped with the daemon is written before it ends.
    site.client().initiate(&plain("forever")).unwrap();
    site.signal(Signal::TERM);
    site.end();
    assert_eq!(lines(), 4);
    site.start();
    assert_eq!(past(&site)[0].1, PipeState::STOPPED);
}

pub(crate) fn history_file_with_garbage_is_read_as_far_as_possible() {
    let mut site = site_with_state();
    site.start();
    assert_eq!(run(&site, &plain("1")), PipeState::ENDED);
    site.signal(Signal::TERM);
    site.end();
    let file = site.path("state/history.jsonl");
    let whole = fs::read(&file).unwrap();
    let garbage = [b"\0\xff{]\n{}\n", &whole[..], &whole[..whole.len() / 2]].concat();
    fs::write(&file, &garbage).unwrap();
    site.start();
    assert_eq!(past(&site).len(), 1);
    assert_eq!(run(&site, &plain("1")), PipeState::ENDED);
    site.signal(Signal::TERM);
    let (_, log) = site.end();
    assert!(
        log.contains("history.jsonl: 2 lines are not records of pipes"),
        "{log}"
    );
    assert_eq!(fs::read(site.path("state/history.bad")).unwrap(), garbage);
    assert_eq!(ends_in(&file), 2);
}

/// A pipe that lived when the daemon was killed left no trace: a backup that did not happen was
/// missing in the history.
pub(crate) fn pipes_that_are_lost_with_the_daemon_are_in_the_history() {
    let mut site = site_with_state();
    site.start();
    let mut nightly = plain("forever");
    nightly.label = "nightly".to_owned();
    assert_eq!(run(&site, &plain("1")), PipeState::ENDED);
    for _ in 0..2 {
        site.client().initiate(&nightly).unwrap();
    }
    let file = site.path("state/history.jsonl");
    let is_written = |state: &str| {
        let text = fs::read_to_string(&file).unwrap();
        text.matches(&format!("\"state\":\"{state}\"")).count()
    };
    wait_until("the starts are written", || is_written("running") == 3);
    site.signal(Signal::KILL);
    site.end();
    // Restarts do not count a pipe again.
    for is_first in [true, false] {
        site.start();
        let pipes = site.client().history(None).unwrap();
        let found: Vec<_> = pipes
            .iter()
            .map(|pipe| (&*pipe.label, pipe.state))
            .collect();
        let failed = ("nightly", PipeState::FAILED);
        assert_eq!(found, [failed, failed, ("plain", PipeState::ENDED)]);
        assert!(pipes[0].cause.starts_with("lost: the daemon was killed"));
        wait_until("the file is written anew", || is_written("running") == 0);
        site.signal(Signal::KILL);
        let (_, log) = site.end();
        let line = "history.jsonl: 2 pipes were lost with the daemon before this one";
        assert_eq!(log.contains(line), is_first, "{log}");
    }
    let table = {
        site.start();
        output(&site, "history", &[], 0)
    };
    assert_eq!(table.matches("failed").count(), 2, "{table}");
}

/// A directory that cannot be used does not keep the daemon from its work.
pub(crate) fn history_without_a_usable_directory_is_in_memory() {
    let mut site = site_with_state();
    let state = site.path("state");
    fs::set_permissions(&state, PermissionsExt::from_mode(0o777)).unwrap();
    let refused = site.run("check", &[]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("datapiped.toml:1: ") && message.contains("write permission"));
    fs::set_permissions(&state, PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir(state.join("history.jsonl")).unwrap();
    site.start();
    assert_eq!(run(&site, &plain("1")), PipeState::ENDED);
    assert_eq!(past(&site).len(), 1);
    site.signal(Signal::TERM);
    let (_, log) = site.end();
    assert!(
        log.contains("kept in memory only: history.jsonl: "),
        "{log}"
    );
}

/// Needs root, to become another user; without it nothing is tested.
pub(crate) fn records_of_others_are_hidden() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: other users are not tested");
        return;
    }
    let site = Site::new("");
    let pipe = as_user(OWNER, || {
        let mut client = site.client();
        let pipe = client.initiate(&troubled("mine", "2")).unwrap().pipe;
        assert_eq!(outcome(&mut client, &pipe).0, PipeState::INCOMPLETE);
        assert_eq!(client.history(None).unwrap().len(), 1);
        pipe
    });
    as_user(OTHER, || {
        let mut client = site.client();
        assert_eq!(client.history(None).unwrap(), []);
        assert_eq!(refusal(client.problems(&pipe)).0, RefusalCode::NOT_ALLOWED);
        let metrics: Result<String, ClientError> = client.metrics();
        assert_eq!(refusal(metrics).0, RefusalCode::NOT_ALLOWED);
    });
    assert_eq!(site.client().history(None).unwrap()[0].owner, OWNER);
    assert_eq!(site.client().problems(&pipe).unwrap().count, 2);
}
