//! The commands of the program, and a client that was written from the pages.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use datapipe_net::protocol::{PipeState, PipeStatus};
use datapipe_net::{Client, Initiate, StageRequest};
use rustix::process::{Pid, Signal, kill_process};

use crate::site::{Site, outcome, plain, wait_until};

/// Standard output of a command that succeeded.
fn text(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The same, as JSON.
fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(text(output)).unwrap()
}

/// Standard error of a command that ended with the exit code `code`.
fn error(output: &Output, code: i32) -> &str {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Starts a pipe with a label of two directions of writing and a plain one, which both move data.
pub(crate) fn two_pipes(client: &mut Client) -> (String, String) {
    let mut request = plain("forever");
    request.label = "right\u{202e}left".to_owned();
    let strange = client.initiate(&request).unwrap().pipe;
    let plain = client.initiate(&plain("forever")).unwrap().pipe;
    for pipe in [&strange, &plain] {
        wait_until("it moves", || client.status(pipe).unwrap().bytes() > 0);
    }
    (strange, plain)
}

pub(crate) fn commands_print_lists_and_statuses() {
    let site = Site::new("");
    assert_eq!(text(&site.run("list", &[])), "no pipes\n");
    assert_eq!(text(&site.run("status", &[])), "no pipes\n");
    let (strange, plain) = two_pipes(&mut site.client());
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
    assert_eq!(listed["pipes"][1]["pipe"], plain);
    assert_eq!(listed["pipes"][0]["label"], "right\u{202e}left");

    let status = site.run("status", &["plain"]);
    assert!(
        text(&status).contains("numbers") && text(&status).contains("buffers free"),
        "{status:?}"
    );
    assert!(
        !text(&status).contains('\x1b'),
        "no terminal, so no escape sequences"
    );
    let status = json(&site.run("status", &["--json", &plain]));
    let pipe = &status["pipes"][0];
    assert_eq!(
        (&pipe["state"], &pipe["stages"][0]["name"]),
        (&"running".into(), &"numbers".into())
    );
    assert!(pipe["bytes_per_s"].as_f64().unwrap() > 0.0);
}

pub(crate) fn stop_command_ends_a_pipe_or_reports_its_failure() {
    let site = Site::new("");
    let mut client = site.client();
    let (strange, plain_pipe) = two_pipes(&mut client);
    assert!(error(&site.run("stop", &["none"]), 2).contains("there is no pipe \"none\""));
    let common = &strange[..strange.len().min(3)];
    let several = site.run("stop", &[common]);
    let several = error(&several, 2);
    assert!(several.contains("several pipes match"), "{several}");
    assert!(
        several.contains(&strange) && several.contains("plain"),
        "{several}"
    );
    assert!(error(&site.run("stop", &[""]), 2).contains("would match every pipe"));
    let user = datapipe_net::config::User::own();
    let by = format!("by user {user}");
    let stopped = site.run("stop", &["plain"]);
    assert_eq!(
        text(&stopped),
        format!("{plain_pipe} \"plain\": stopped {by}\n")
    );
    assert_eq!(outcome(&mut client, &plain_pipe), (PipeState::STOPPED, by));
    text(&site.run("stop", &["--no-wait", &strange]));
    assert_eq!(outcome(&mut client, &strange).0, PipeState::STOPPED);
    assert_eq!(text(&site.run("status", &[])), "no pipes\n");
    assert!(text(&site.run("status", &["plain"])).contains("stopped"));
    // A pipe that has ended counts as stopped, unless it failed.
    for arguments in [&["plain"][..], &["--no-wait", "plain"]] {
        let again = site.run("stop", arguments);
        let again = text(&again);
        assert!(
            again.contains("\"plain\": had ended before, and was not stopped now: stopped by"),
            "{again}"
        );
    }
    let mut fails = plain("9");
    fails.label = "fails".to_owned();
    fails
        .stages
        .insert(1, StageRequest::module("pass").arguments("4"));
    let failed = client.initiate(&fails).unwrap().pipe;
    assert_eq!(outcome(&mut client, &failed).0, PipeState::FAILED);
    assert!(error(&site.run("stop", &["fails"]), 1).contains("was not stopped now: failed: "));
}

pub(crate) fn commands_without_a_daemon_fail() {
    let site = Site::without_daemon("");
    assert!(error(&site.run("list", &[]), 1).contains("no daemon answers at"));
}

pub(crate) fn run_without_the_directory_of_its_socket_says_what_to_make() {
    let site = Site::without_daemon("");
    let socket = site.path("missing/socket");
    let configuration = site.configuration("");
    let ours = format!("socket = {:?}", site.socket());
    assert!(configuration.contains(&ours));
    site.configure(&configuration.replace(&ours, &format!("socket = {socket:?}")));
    let output = site.run("run", &[]);
    let stderr = error(&output, 1);
    let directory = site.path("missing");
    let advice = format!("make it with `mkdir -m 755 {}`", directory.display());
    assert!(stderr.contains(&advice) && !directory.exists(), "{stderr}");
}

/// A signal ends the command; that is not a failure.
pub(crate) fn status_command_repeats_until_a_signal() {
    let site = Site::new("");
    two_pipes(&mut site.client());
    let mut watch = site.command("status");
    watch
        .args(["--json", "--interval", "0.1"])
        .stdout(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let statuses: Vec<serde_json::Value> = lines
        .take(3)
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    let has_both = |status: &serde_json::Value| status["pipes"].as_array().unwrap().len() == 2;
    assert!(statuses.iter().all(has_both));
    kill_process(Pid::from_raw(watch.id() as i32).unwrap(), Signal::INT).unwrap();
    // The pipe of its output has no reader any more, which it may notice before the signal.
    let ended = watch.wait().unwrap();
    assert!(matches!(ended.code(), Some(0 | 1)), "{ended}");
}

pub(crate) fn configurations_with_mistakes_are_rejected_with_their_line() {
    let site = Site::without_daemon("");
    text(&site.run("check", &[]));
    let good = site.configuration("");
    for (from, to, line) in [
        ("[access]", "[acess]", 2),
        (
            "users = [\"4000000001\", \"4000000002\"]",
            "users = [\"no such user\"]",
            3,
        ),
        ("role = \"head\"", "role = \"foot\"", 9),
    ] {
        site.configure(&good.replacen(from, to, 1));
        for command in ["check", "run"] {
            let output = site.run(command, &[]);
            let stderr = error(&output, 2);
            assert!(
                stderr.contains(&format!("datapiped.toml:{line}: ")),
                "{stderr}"
            );
        }
    }
    // The default configuration is valid, and has no module.
    let printed = site.run("run", &["--print-default-config"]);
    site.configure(text(&printed));
    text(&site.run("check", &[]));
}

/// The page of the protocol suffices to write a client: `tests/client/client.py` shows the list and
/// the status that the Rust client sees.
pub(crate) fn client_from_the_page_alone_shows_lists_and_statuses() {
    let site = Site::new("");
    let mut client = site.client();
    let request = Initiate::new("watched")
        .buffers(8)
        .buffer_size(4096)
        .stage(StageRequest::module("numbers").arguments("77"))
        .stage(StageRequest::module("pass").named("through").instances(2))
        .stage(StageRequest::module("count"));
    let pipe = client.initiate(&request).unwrap().pipe;
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::ENDED);
    let listed = json(&run_script(&site, &["list"]));
    assert_eq!(listed[0]["name"], pipe);
    assert_eq!(
        (&listed[0]["label"], &listed[0]["state"]),
        (&"watched".into(), &4.into())
    );
    assert_eq!(listed[0]["owner"], rustix::process::geteuid().as_raw());
    let status = json(&run_script(&site, &["status", &pipe]));
    assert_same_status(&status, &client.status(&pipe).unwrap());
    let none = run_script(&site, &["status", "host.1.2"]);
    assert_eq!(none.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(none.stderr).unwrap(),
        "refused (5): there is no pipe \"host.1.2\" here\n"
    );
}

/// The same holds for problems and the history.
pub(crate) fn client_from_the_page_alone_shows_problems_and_history() {
    let site = Site::new("");
    let mut client = site.client();
    let mut request = plain("0");
    request.stages[0] = StageRequest::module("troubled").arguments("3");
    let pipe = client.initiate(&request).unwrap().pipe;
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::INCOMPLETE);
    let problems = json(&run_script(&site, &["problems", &pipe]));
    assert_eq!(problems["count"], 3);
    let last = &problems["last"][2];
    assert_eq!(
        (&last["stage"], &last["text"]),
        (&"troubled".into(), &"\u{1b}[31m2 is not read".into())
    );
    let past = &json(&run_script(&site, &["history", "1"]))[0];
    assert_eq!(
        (&past["name"], &past["state"]),
        (&(*pipe).into(), &7.into())
    );
    let rust = &client.history(Some(1)).unwrap()[0];
    for (name, number) in [
        ("started", rust.started),
        ("duration", rust.duration),
        ("bytes", rust.bytes),
        ("problems", rust.problems),
    ] {
        assert_eq!(past[name], number, "{name}");
    }
    assert_eq!(past["cause"], *rust.cause);
}

fn run_script(site: &Site, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client/client.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(site.socket()).args(arguments);
    command.output().unwrap()
}

fn assert_same_status(script: &serde_json::Value, rust: &PipeStatus) {
    assert_eq!(script["buffers"], rust.buffers);
    let stages = script["stages"].as_array().unwrap();
    assert_eq!(stages.len(), rust.stages.len());
    for (script, rust) in stages.iter().zip(&rust.stages) {
        assert_eq!(script["name"], *rust.name);
        let instances = script["instances"].as_array().unwrap();
        for (script, rust) in instances.iter().zip(&rust.instances) {
            assert_eq!(
                (&script["activity"], &script["blocks_in"]),
                (&rust.activity.0.into(), &rust.blocks_in.into())
            );
            let working = rust.working.as_nanos() as u64;
            assert_eq!(
                (&script["bytes_out"], &script["working"]),
                (&rust.bytes_out.into(), &working.into())
            );
        }
    }
}

/// The page of the protocol, and the one that describes the arguments of modules, suffice to start
/// a pipe.
pub(crate) fn client_from_the_pages_alone_copies_a_file() {
    let site = Site::new("");
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let (from, to) = (site.path("in/file"), site.path("out/file"));
    fs::write(&from, &content).unwrap();
    let arguments = ["copy", from.to_str().unwrap(), to.to_str().unwrap()];
    let name = run_script(&site, &arguments);
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
    // The copy of a file that only its owner may read is not readable for all.
    assert_eq!(
        fs::metadata(&to).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // Without the argument `overwrite` no file is replaced.
    assert!(error(&run_script(&site, &arguments), 1).contains("did not end well"));
    assert!(fs::read(&to).unwrap() == content);
}
