//! Clients that send far more than any that works would: the daemon's memory and log stay small,
//! and others do not notice.

use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Instant;

use datapipe_net::client::ClientError;
use datapipe_net::protocol::{CloseReason, PipeState, RefusalCode};
use datapipe_net::{Client, Initiate, StageRequest};
use rustix::process::{Pid, Signal, kill_process};

use crate::other_users::{STRANGER, as_user, can_become_others};
use crate::site::{Site, outcome, refusal, wait_until};

/// Resident memory of a process, in KiB.
fn memory_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn threads_of(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .count()
}

/// Asserts that a log has at most 10 lines with `text` for each window, and counts the others.
fn assert_few_lines(log: &str, text: &str) {
    let lines = |text| log.lines().filter(|line| line.contains(text)).count();
    let windows = 1 + lines("more like this");
    assert!(windows > 1, "the others are counted: {log}");
    assert!(lines(text) <= 10 * windows, "{log}");
}

/// Ends the daemon in good order, and returns its log.
fn log_of(mut site: Site) -> String {
    site.signal(Signal::TERM);
    let (status, log) = site.end();
    assert!(status.success(), "{status}: {log}");
    log
}

/// Each refused subscription left about 150 bytes: one client took 250 MiB in 40 s.
pub(crate) fn refused_subscriptions_leave_no_memory() {
    let site = Site::new("");
    let mut client = site.client();
    let mut refuse = |count: u32| {
        for _ in 0..count {
            let (code, _) = refusal(client.subscribe(Some("host.1.2")));
            assert_eq!(code, RefusalCode::NO_SUCH_PIPE);
        }
    };
    refuse(2000);
    let before = memory_of(site.process());
    refuse(20_000);
    let after = memory_of(site.process());
    println!("{before} KiB, after 20,000 refused subscriptions {after} KiB");
    assert!(after < before + 1024, "{before} KiB, then {after} KiB");
}

/// A user who may not connect made the daemon start a thread and write a line for each try.
pub(crate) fn stranger_that_floods_keeps_no_other_user_out() {
    if !can_become_others() {
        return;
    }
    let site = Site::without_daemon("");
    // With a group, the daemon has to look the groups of a user up.
    let text = site.configuration("connections_per_user = 4");
    site.configure(&text.replace("[access]", "[access]\ngroups = [\"4000000009\"]"));
    let mut site = site;
    site.start();
    let (path, done) = (site.socket(), OnceLock::new());
    let idle_threads = threads_of(site.process());
    let most_threads = std::thread::scope(|scope| {
        let floods: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    as_user(STRANGER, || {
                        let mut tries = 0;
                        while done.get().is_none() || tries < 2000 {
                            drop(UnixStream::connect(&path));
                            tries += 1;
                        }
                        tries
                    })
                })
            })
            .collect();
        let most_threads = (0..200).map(|_| {
            assert_eq!(site.client().list().unwrap(), []);
            threads_of(site.process())
        });
        let most_threads = most_threads.max().unwrap();
        done.get_or_init(|| ());
        let tries: u64 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
        println!("{tries} connections of a stranger");
        most_threads
    });
    // As many as the stranger's limit may be looked up before the first refusal is known. One more
    // serves root, and one root's connection before.
    assert!(
        most_threads <= idle_threads + 4 + 2,
        "{most_threads} threads"
    );
    let refused = as_user(STRANGER, || Client::connect(&path).map(drop));
    let is_access = |reason| reason == CloseReason::ACCESS;
    assert!(
        matches!(refused, Err(ClientError::Closed { reason, .. }) if is_access(reason)),
        "{refused:?}"
    );
    assert_few_lines(&log_of(site), "refused a connection");
}

pub(crate) fn client_that_floods_with_refused_pipes_leaves_few_lines() {
    let site = Site::new("");
    let mut client = site.client();
    let request = Initiate::new("bad")
        .stage(StageRequest::module("none"))
        .stage(StageRequest::module("count"));
    for _ in 0..2000 {
        let (code, _) = refusal(client.initiate(&request));
        assert_eq!(code, RefusalCode::NO_SUCH_MODULE);
    }
    wait_until("the client is served", || client.list().is_ok());
    assert_few_lines(&log_of(site), "refused a pipe");
}

/// A user who killed processes of an own pipe wrote two lines for each.
pub(crate) fn user_whose_processes_die_leaves_few_lines() {
    let site = Site::new("");
    let mut client = site.client();
    let request = Initiate::new("dying")
        .buffers(8)
        .buffer_size(4096)
        .stage(StageRequest::module("numbers").arguments("forever"))
        .stage(StageRequest::module("pass"))
        .stage(StageRequest::module("count"));
    let start = Instant::now();
    let pipe = client.initiate(&request).unwrap().pipe;
    for deaths in 1..=40 {
        // A block at which several processes die in turn would end the pipe.
        let before = client.status(&pipe).unwrap().stages[1].instances[0].blocks_out;
        let mut process = 0;
        wait_until("the process works", || {
            let pass = client.status(&pipe).unwrap().stages[1].instances[0].clone();
            process = pass.process;
            pass.processes == deaths && process > 0 && pass.blocks_out > before + 3
        });
        kill_process(Pid::from_raw(process as i32).unwrap(), Signal::KILL).unwrap();
    }
    wait_until("the last is replaced", || {
        client.status(&pipe).unwrap().stages[1].instances[0].processes == 41
    });
    client.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::STOPPED);
    let windows = 2 + start.elapsed().as_secs() as usize / 10;
    let log = log_of(site);
    let lines = log.lines().filter(|line| line.contains("/0: process "));
    assert!(lines.count() <= 10 * windows, "{log}");
}
