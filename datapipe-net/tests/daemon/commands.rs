//! What people type, and what they see.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use datapipe_net::protocol::PipeState;
use datapipe_net::{Initiate, StageRequest};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::site::{Site, outcome, plain, wait_until};

fn text(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(text(output)).unwrap()
}

fn refused(output: &Output, code: i32) -> &str {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    std::str::from_utf8(&output.stderr).unwrap()
}

pub(crate) fn commands() {
    let site = Site::new("");
    assert_eq!(text(&site.run("list", &[])), "no pipes\n");
    assert_eq!(text(&site.run("status", &[])), "no pipes\n");
    let mut client = site.client();
    let mut ask = plain("forever");
    ask.label = "right\u{202e}left".to_owned();
    let strange = client.initiate(&ask).unwrap().pipe;
    let plain_one = client.initiate(&plain("forever")).unwrap().pipe;
    for pipe in [&strange, &plain_one] {
        wait_until("it moves", || client.status(pipe).unwrap().bytes() > 0);
    }
    let list = site.run("list", &[]);
    let lines: Vec<_> = text(&list).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[1].starts_with(&strange) && lines[1].contains("right\\u{202e}left"),
        "{lines:?}"
    );
    assert!(
        lines[2].contains("plain") && lines[2].contains("running"),
        "{lines:?}"
    );
    let listed = json(&site.run("list", &["--json"]));
    assert_eq!(listed["pipes"][1]["pipe"], plain_one);
    assert_eq!(listed["pipes"][0]["label"], "right\u{202e}left");

    let shown = site.run("status", &["plain"]);
    assert!(
        text(&shown).contains("numbers") && text(&shown).contains("buffers free"),
        "{shown:?}"
    );
    assert!(
        !text(&shown).contains('\x1b'),
        "no commands where there is no terminal"
    );
    let status = json(&site.run("status", &["--json", &plain_one]));
    let pipe = &status["pipes"][0];
    assert_eq!(
        (&pipe["state"], &pipe["stages"][0]["name"]),
        (&"running".into(), &"numbers".into())
    );
    assert!(pipe["bytes_per_s"].as_f64().unwrap() > 0.0);
    watched(&site);
    watched_on_a_terminal(&site);

    assert!(refused(&site.run("stop", &["none"]), 2).contains("there is no pipe \"none\""));
    let common = &strange[..strange.len().min(3)];
    assert!(refused(&site.run("stop", &[common]), 2).contains("one of several"));
    text(&site.run("stop", &["plain"]));
    assert_eq!(
        outcome(&mut client, &plain_one),
        (PipeState::STOPPED, String::new())
    );
    text(&site.run("stop", &["--no-wait", &strange]));
    assert_eq!(outcome(&mut client, &strange).0, PipeState::STOPPED);
    assert_eq!(text(&site.run("status", &[])), "no pipes\n");
    assert!(text(&site.run("status", &["plain"])).contains("stopped"));
    // Who stops what has ended meanwhile has what he wants; but he hears of a failure.
    for how in [&["plain"][..], &["--no-wait", "plain"]] {
        text(&site.run("stop", how));
    }
    let mut fails = plain("9");
    fails.label = "fails".to_owned();
    fails
        .stages
        .insert(1, StageRequest::module("pass").arguments("4"));
    let failed = client.initiate(&fails).unwrap().pipe;
    assert_eq!(outcome(&mut client, &failed).0, PipeState::FAILED);
    assert!(refused(&site.run("stop", &["fails"]), 1).contains("had failed: "));
    // Nobody listens there.
    let nobody = Command::new(env!("CARGO_BIN_EXE_datapiped"))
        .args(["list", "--socket"])
        .arg(site.path("nobody"))
        .output()
        .unwrap();
    assert!(refused(&nobody, 1).contains("no daemon answers at"));
}

/// Looks again and again, until a signal comes; that is no failure.
fn watched(site: &Site) {
    let mut watch = site.command("status");
    watch
        .args(["--json", "--interval", "0.1"])
        .stdout(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let looks: Vec<serde_json::Value> = lines
        .take(3)
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert!(
        looks
            .iter()
            .all(|look| look["pipes"].as_array().unwrap().len() == 2)
    );
    kill_process(Pid::from_raw(watch.id() as i32).unwrap(), Signal::INT).unwrap();
    // Nobody reads any more: it may meet that before the signal.
    let ended = watch.wait().unwrap();
    assert!(matches!(ended.code(), Some(0 | 1)), "{ended}");
}

/// The table is drawn in place, again and again, until a signal comes.
fn watched_on_a_terminal(site: &Site) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let path = ptsname(&terminal, Vec::new()).unwrap();
    let screen = File::options()
        .read(true)
        .write(true)
        .open(path.to_str().unwrap())
        .unwrap();
    let size = Winsize {
        ws_row: 50,
        ws_col: 60,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&screen, size).unwrap();
    // The command keeps what it gave its child, until it is dropped.
    let mut watch = {
        let mut command = site.command("status");
        command
            .args(["--interval", "0.1"])
            .stdout(screen)
            .spawn()
            .unwrap()
    };
    let mut terminal = File::from(terminal);
    let mut shown = Vec::new();
    let mut tables = 0;
    while tables < 3 {
        let mut bytes = [0; 4096];
        let count = terminal.read(&mut bytes).unwrap();
        shown.extend_from_slice(&bytes[..count]);
        tables = shown
            .windows(7)
            .filter(|window| window == b"\x1b[H\x1b[2J")
            .count();
    }
    kill_process(Pid::from_raw(watch.id() as i32).unwrap(), Signal::INT).unwrap();
    // What is left must not keep it from ending.
    let drain = std::thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = terminal.read_to_end(&mut rest);
    });
    assert!(watch.wait().unwrap().success());
    drain.join().unwrap();
    let shown = String::from_utf8(shown).unwrap();
    let tables: Vec<_> = shown.split("\x1b[H\x1b[2J").collect();
    assert!(
        tables[1].contains("limited by") && tables[1].contains("numbers"),
        "{shown:?}"
    );
    assert!(
        tables[1].lines().all(|line| line.chars().count() <= 60),
        "{shown:?}"
    );
    assert!(!tables[1].contains('\x1b'), "{shown:?}");
}

pub(crate) fn configurations_that_are_wrong() {
    let site = Site::without_daemon("");
    text(&site.run("check", &[]));
    let good = site.configuration("");
    for (from, to, line) in [
        ("[access]", "[acess]", 2),
        (
            "users = [\"4000000001\", \"4000000002\"]",
            "users = [\"nobody of that name\"]",
            3,
        ),
        ("role = \"head\"", "role = \"foot\"", 9),
    ] {
        site.configure(&good.replacen(from, to, 1));
        for command in ["check", "run"] {
            let output = site.run(command, &[]);
            let said = refused(&output, 2);
            assert!(said.contains(&format!("datapiped.toml:{line}: ")), "{said}");
        }
    }
    // What explains itself says what is true: it is a configuration, and allows no module.
    let printed = site.run("run", &["--print-default-config"]);
    site.configure(text(&printed));
    text(&site.run("check", &[]));
}

/// The protocol's page is enough to write a client.
pub(crate) fn a_client_from_the_page_alone() {
    let site = Site::new("");
    let mut client = site.client();
    let ask = Initiate::new("watched")
        .buffers(8)
        .buffer_size(4096)
        .stage(StageRequest::module("numbers").arguments("77"))
        .stage(StageRequest::module("pass").named("through").instances(2))
        .stage(StageRequest::module("count"));
    let pipe = client.initiate(&ask).unwrap().pipe;
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::ENDED);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client/client.py");
    let run = |arguments: &[&str]| {
        let socket = site.socket();
        Command::new("python3")
            .arg(&program)
            .arg(socket)
            .args(arguments)
            .output()
            .unwrap()
    };
    let listed = json(&run(&["list"]));
    assert_eq!(listed[0]["name"], pipe);
    assert_eq!(
        (&listed[0]["label"], &listed[0]["state"]),
        (&"watched".into(), &4.into())
    );
    assert_eq!(listed[0]["owner"], rustix::process::geteuid().as_raw());
    let status = json(&run(&["status", &pipe]));
    let ours = client.status(&pipe).unwrap();
    assert_eq!(status["buffers"], ours.buffers);
    let stages = status["stages"].as_array().unwrap();
    assert_eq!(stages.len(), ours.stages.len());
    for (theirs, ours) in stages.iter().zip(&ours.stages) {
        assert_eq!(theirs["name"], *ours.name);
        for (theirs, ours) in theirs["instances"]
            .as_array()
            .unwrap()
            .iter()
            .zip(&ours.instances)
        {
            assert_eq!(
                (&theirs["activity"], &theirs["blocks_in"]),
                (&ours.activity.0.into(), &ours.blocks_in.into())
            );
            assert_eq!(
                (&theirs["bytes_out"], &theirs["working"]),
                (
                    &ours.bytes_out.into(),
                    &(ours.working.as_nanos() as u64).into()
                )
            );
        }
    }
    a_copy(&site, &run);
    let none = run(&["status", "host.1.2"]);
    assert_eq!(none.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(none.stderr).unwrap(),
        "refused (5): there is no pipe \"host.1.2\" here\n"
    );
}

/// Its pages, and the one that says what modules are told, are enough to start a pipe.
fn a_copy(site: &Site, run: &dyn Fn(&[&str]) -> Output) {
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let (from, to) = (site.path("in/file"), site.path("out/file"));
    fs::write(&from, &content).unwrap();
    let copy = || run(&["copy", from.to_str().unwrap(), to.to_str().unwrap()]);
    let name = copy();
    let status = site.client().status(text(&name).trim_end()).unwrap();
    assert_eq!(
        (&*status.entry.label, status.entry.state),
        ("copied", PipeState::ENDED)
    );
    assert!(
        status.stages[1].bytes_out() < status.stages[1].bytes_in(),
        "{status:?}"
    );
    assert!(fs::read(&to).unwrap() == content);
    // Nothing is replaced that nobody has said to replace.
    assert!(refused(&copy(), 1).contains("has not ended well"));
    assert!(fs::read(&to).unwrap() == content);
}
