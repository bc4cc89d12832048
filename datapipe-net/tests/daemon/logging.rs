//! A log that cannot be written: standard error is a pipe that is not read.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Stdio};

use datapipe_net::protocol::PipeState;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};

use crate::site::{Site, outcome, plain, wait_until};

/// A daemon that does not outlive a test that fails.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fills a pipe to its end. The writing end that this opens is its own, so that those of others
/// still wait.
fn fill(pipe: &File) {
    let own = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let nonblock = OFlags::NONBLOCK.bits() as i32;
    let mut full = OpenOptions::new()
        .write(true)
        .custom_flags(nonblock)
        .open(own)
        .unwrap();
    while full.write(b"x").is_ok() {}
}

/// The daemon waited for its log, did not serve, and did not stop.
pub(crate) fn daemon_whose_log_is_not_read_serves_and_stops() {
    let site = Site::without_daemon("");
    let daemon = site.command("run").stderr(Stdio::piped()).spawn().unwrap();
    let mut daemon = KilledOnDrop(daemon);
    let mut log = BufReader::new(daemon.0.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(line.contains("listening at"), "{line}");
    let pipe = log.into_inner();
    let mut pipe = File::from(std::os::fd::OwnedFd::from(pipe));
    fill(&pipe);
    // Each of these makes the daemon log: a pipe, its end, and a reload.
    let mut client = site.client();
    let id = Pid::from_raw(daemon.0.id() as i32).unwrap();
    for _ in 0..3 {
        kill_process(id, Signal::HUP).unwrap();
        let started = client.initiate(&plain("10")).unwrap().pipe;
        assert_eq!(outcome(&mut client, &started).0, PipeState::ENDED);
    }
    let endless = client.initiate(&plain("forever")).unwrap().pipe;
    assert!(client.status(&endless).is_ok());
    kill_process(id, Signal::TERM).unwrap();
    wait_until("the daemon has ended", || {
        daemon.0.try_wait().unwrap().is_some()
    });
    assert!(daemon.0.wait().unwrap().success());
    assert!(!fs::exists(site.socket()).unwrap());
    // Only what was written before is there.
    let mut rest = Vec::new();
    pipe.read_to_end(&mut rest).unwrap();
    assert!(rest.starts_with(b"xxx"));
}

/// A label with quotation marks looked like the end of the label, followed by another user's name.
pub(crate) fn labels_cannot_imitate_other_users_in_the_log() {
    let mut site = Site::new("");
    let mut client = site.client();
    for label in ["x\" of user root: ended #", "y\\\" of user root: ended #"] {
        let mut pipe = plain("10");
        pipe.label = label.to_owned();
        let started = client.initiate(&pipe).unwrap().pipe;
        assert_eq!(outcome(&mut client, &started).0, PipeState::ENDED);
        pipe.stages.truncate(1);
        assert!(client.initiate(&pipe).is_err());
    }
    drop(client);
    site.signal(Signal::TERM);
    let (_, log) = site.end();
    assert!(
        log.contains(r#""x\" of user root: ended #" of user "#),
        "{log}"
    );
    assert!(
        log.contains(r#""y\\\" of user root: ended #" of user "#),
        "{log}"
    );
    assert!(log.contains(r#"refused a pipe "x\" of user root"#), "{log}");
}
