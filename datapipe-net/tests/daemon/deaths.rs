//! Deaths of the daemon, of modules and of clients. No process and no file remains.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use datapipe_net::protocol::{EventKind, PipeState, RefusalCode};
use datapipe_net::{AttachRole, Initiate, StageRequest};
use rustix::process::{Pid, Signal, kill_process};

use crate::site::{Site, children_of, events, lives, outcome, plain, refusal, wait_until};

/// Names of the files in the site's directory, sorted.
fn names(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(site.path("")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Files of a site without a daemon.
const NO_DAEMON: [&str; 3] = ["datapiped.toml", "in", "out"];

pub(crate) fn daemon_that_is_killed_leaves_no_process() {
    let mut site = Site::new("");
    let mut client = site.client();
    let pipes: Vec<_> = (0..3)
        .map(|_| client.initiate(&plain("forever")).unwrap().pipe)
        .collect();
    wait_until("all move", || {
        pipes
            .iter()
            .all(|pipe| client.status(pipe).unwrap().bytes() > 0)
    });
    let waiting = Initiate::new("waiting")
        .stage(StageRequest::unbound("me"))
        .stage(StageRequest::module("count"));
    let waiting = client.initiate(&waiting).unwrap().pipe;
    let attached = site.client().identify(&waiting, AttachRole::Head).unwrap();
    let modules = children_of(site.process());
    assert_eq!(modules.len(), 7);
    site.signal(Signal::KILL);
    site.end();
    wait_until("all modules have ended", || {
        !modules.iter().any(|&module| lives(module))
    });
    // The attached process survives, and its port reports the end.
    let port = attached.head().unwrap();
    wait_until("the port of the seat fails", || port.alloc().is_err());
    drop(port);
    drop(attached);
    assert!(client.list().is_err());
    assert_eq!(
        names(&site),
        [&NO_DAEMON[..], &["socket", "socket.lock"]].concat()
    );
    site.start();
    let mut client = site.client();
    assert_eq!(client.list().unwrap(), []);
    let pipe = client.initiate(&plain("10")).unwrap().pipe;
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::ENDED);
}

pub(crate) fn daemon_that_is_stopped_leaves_no_file() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut site = Site::new("");
        let mut client = site.client();
        let mut idle = site.client();
        client.subscribe(None).unwrap();
        let pipe = client.initiate(&plain("forever")).unwrap().pipe;
        wait_until("it moves", || client.status(&pipe).unwrap().bytes() > 0);
        let modules = children_of(site.process());
        assert_eq!(modules.len(), 2);
        // A label with a line break stays on the line of the log.
        let forged =
            Initiate::new("x\ndatapiped: all is well").stage(StageRequest::module("numbers"));
        refusal(client.initiate(&forged));
        site.signal(signal);
        let (status, log) = site.end();
        assert!(status.success(), "{status}: {log}");
        assert!(!modules.iter().any(|&module| lives(module)));
        let stopped = format!("{pipe} \"plain\" of user");
        assert!(log.contains(&stopped), "{log}");
        assert!(log.contains(": stopped because the daemon stops"), "{log}");
        assert!(log.contains("\"x\\ndatapiped: all is well\""), "{log}");
        assert!(log.ends_with("datapiped: stopped\n"), "{log}");
        assert_eq!(names(&site), NO_DAEMON);
        // Subscribers receive the ends of the pipes.
        assert_eq!(
            events(&mut client, &pipe).pop().unwrap().state,
            Some(PipeState::STOPPED)
        );
        assert!(idle.list().is_err());
    }
}

pub(crate) fn module_that_is_killed_is_replaced_or_fails_the_pipe() {
    let site = Site::new("");
    let mut client = site.client();
    client.subscribe(None).unwrap();
    let request = Initiate::new("killed")
        .buffers(8)
        .buffer_size(4096)
        .stage(StageRequest::module("numbers").arguments("forever"))
        .stage(StageRequest::module("pass"))
        .stage(StageRequest::module("count"));
    let pipe = client.initiate(&request).unwrap().pipe;
    wait_until("all are there, and it moves", || {
        let status = client.status(&pipe).unwrap();
        status.bytes() > 0
            && status
                .stages
                .iter()
                .all(|stage| stage.instances[0].process > 0)
    });
    let process = |client: &mut datapipe_net::Client, stage: usize| {
        client.status(&pipe).unwrap().stages[stage].instances[0].process
    };
    let kill =
        |process: u32| kill_process(Pid::from_raw(process as i32).unwrap(), Signal::KILL).unwrap();
    // A module that does not work in place is replaced.
    kill(process(&mut client, 1));
    wait_until("there is another", || {
        client.status(&pipe).unwrap().stages[1].instances[0].processes == 2
    });
    // A head is not replaced.
    kill(process(&mut client, 0));
    let events = events(&mut client, &pipe);
    let deaths: Vec<_> = events
        .iter()
        .filter(|event| event.kind == EventKind::DIED)
        .collect();
    assert_eq!(deaths[0].replaced, Some(true));
    assert_eq!(
        (deaths[0].stage.as_deref(), deaths[1].replaced),
        (Some("pass"), Some(false))
    );
    assert!(
        deaths[0].text.as_ref().unwrap().contains("SIGKILL"),
        "{:?}",
        deaths[0]
    );
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::FAILED);
}

/// A pipe does not depend on the connection over which it was requested.
pub(crate) fn pipe_outlives_its_initiator() {
    let site = Site::new("");
    let pipe = site.client().initiate(&plain("forever")).unwrap().pipe;
    let mut client = site.client();
    wait_until("it moves", || client.status(&pipe).unwrap().bytes() > 0);
    let before = client.status(&pipe).unwrap().bytes();
    wait_until("it moves on", || {
        client.status(&pipe).unwrap().bytes() > before
    });
}

pub(crate) fn second_daemon_at_a_socket_is_refused() {
    let site = Site::new("");
    let second = site.run("run", &[]);
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert!(stderr.contains("another daemon listens at"), "{stderr}");
    assert_eq!(
        site.client().list().unwrap(),
        [],
        "the first has not noticed"
    );
}

pub(crate) fn configuration_is_reloaded_on_sighup() {
    let mut site = Site::new("");
    let mut client = site.client();
    let pipe = client.initiate(&plain("forever")).unwrap().pipe;
    let fewer = site.configuration("pipes = 1");
    site.configure(&fewer);
    site.signal(Signal::HUP);
    let mut refused = None;
    // A pipe that is refused under the new configuration ends at once under the old one.
    wait_until("it has reloaded the configuration", || {
        refused = client.initiate(&plain("0")).err();
        refused.is_some()
    });
    assert_eq!(refusal::<()>(Err(refused.unwrap())).0, RefusalCode::LIMIT);
    // An invalid configuration changes nothing.
    site.configure(&fewer.replace("pipes = 1", "pipes = -1"));
    site.signal(Signal::HUP);
    client.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::STOPPED);
    site.signal(Signal::TERM);
    let (status, log) = site.end();
    assert!(status.success());
    assert!(log.contains("configuration reloaded"), "{log}");
    // The third signal may overtake the second.
    if log.contains("configuration not reloaded") {
        assert!(log.contains("datapiped.toml:5: "), "{log}");
    }
}

/// An administrator who had closed the socket to other users, and reloaded the configuration, found
/// it open: only a start had set its permissions.
pub(crate) fn socket_gets_its_permissions_on_sighup() {
    let mut site = Site::new("");
    let text = site.configuration("");
    let access = || {
        let found = fs::metadata(site.socket()).unwrap();
        (found.mode() & 0o777, found.gid())
    };
    let own = access().1;
    let is_root = rustix::process::geteuid().is_root();
    let group = if is_root { 4_000_000_009 } else { own };
    for (mode, group) in [(0o666, group), (0o600, own), (0o660, group)] {
        let first = format!("socket_mode = \"0{mode:o}\"\nsocket_group = \"{group}\"\n");
        site.configure(&[first, text.clone()].concat());
        site.signal(Signal::HUP);
        wait_until("the socket has the permissions", || {
            access() == (mode, group)
        });
    }
    let elsewhere = text.replace("/socket\"", "/elsewhere\"");
    site.configure(&format!("state_dir = {:?}\n{elsewhere}", site.path("in")));
    site.signal(Signal::HUP);
    wait_until("it has the default permissions", || {
        access() == (0o666, own) && site.client().list().is_ok()
    });
    site.signal(Signal::TERM);
    let (_, log) = site.end();
    for key in ["socket", "state_dir"] {
        let line = format!("datapiped: {key} takes effect when the daemon is started again\n");
        assert_eq!(log.matches(&line).count(), 1, "{log}");
    }
}

/// The log has what an administrator needs after a night: which pipe, of whom, which process, why.
pub(crate) fn deaths_and_replacements_are_logged_with_label_and_owner() {
    let mut site = Site::new("");
    let mut client = site.client();
    let request = Initiate::new("nightly\u{202e}")
        .buffers(8)
        .buffer_size(4096)
        .stage(StageRequest::module("numbers").arguments("forever"))
        .stage(StageRequest::module("pass").instances(2))
        .stage(StageRequest::module("count"));
    let pipe = client.initiate(&request).unwrap().pipe;
    let process = |client: &mut datapipe_net::Client, stage: usize, instance: usize| {
        client.status(&pipe).unwrap().stages[stage].instances[instance].process
    };
    wait_until("all are there, and it moves", || {
        let status = client.status(&pipe).unwrap();
        let mut instances = status.stages.iter().flat_map(|stage| &stage.instances);
        status.bytes() > 0 && instances.all(|instance| instance.process > 0)
    });
    let first = process(&mut client, 1, 1);
    // The runtime's handler of this signal returns once if there is no fault.
    wait_until("it has died of the signal", || {
        let pid = Pid::from_raw(first as i32).unwrap();
        let _ = kill_process(pid, Signal::SEGV);
        process(&mut client, 1, 1) != first
    });
    wait_until("there is another", || process(&mut client, 1, 1) > 0);
    let second = process(&mut client, 1, 1);
    let head = process(&mut client, 0, 0);
    kill_process(Pid::from_raw(head as i32).unwrap(), Signal::KILL).unwrap();
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::FAILED);
    site.signal(Signal::TERM);
    let (_, log) = site.end();
    let user = datapipe_net::config::User::own();
    let name = format!("datapiped: {pipe} \"nightly\\u{{202e}}\" of user {user}: ");
    for line in [
        "started with numbers, pass, count".to_owned(),
        format!("pass/1: process {first} died (signal: 11 (SIGSEGV)"),
        format!("pass/1: process {second} is the replacement"),
        format!(
            "numbers/0: process {head} died (signal: 9 (SIGKILL)): it is not replaced, and the \
             pipe stops"
        ),
        "failed: ".to_owned(),
    ] {
        assert!(log.contains(&format!("{name}{line}")), "{line} in {log}");
    }
}

/// A stop kills what does not end by itself. The log named a process that died and made its pipe
/// stop, and the metric to be alarmed at counted it.
pub(crate) fn death_in_a_pipe_that_is_stopped_is_no_alarm() {
    let mut site = Site::new("");
    let mut client = site.client();
    let pipe = client.initiate(&plain("forever")).unwrap().pipe;
    wait_until("it moves", || client.status(&pipe).unwrap().bytes() > 0);
    let process = client.status(&pipe).unwrap().stages[0].instances[0].process;
    let pid = Pid::from_raw(process as i32).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    client.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::STOPPED);
    let metrics = client.metrics().unwrap();
    site.signal(Signal::TERM);
    let (_, log) = site.end();
    let died =
        format!("numbers/0: process {process} died (signal: 9 (SIGKILL)) while the pipe stopped\n");
    assert!(log.contains(&died), "{log}");
    assert!(
        metrics.contains("\ndatapiped_process_deaths_total 0\n"),
        "{metrics}"
    );
}
