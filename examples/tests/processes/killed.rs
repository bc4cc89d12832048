//! A process that is killed: what it says, what it returns, and that nothing is left.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, failed, noise, ok};

/// Waits for what has to happen; that it does not is a failure.
fn wait_until<T>(what: &str, mut happened: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(happened) = happened() {
            return happened;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "waited in vain until {what}"
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// The processes of a program's stages: their ids, and which they are.
fn stages(program: &Child) -> Vec<(u32, String)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", program.id()))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect();
    let named = children.into_iter().filter_map(|id| {
        let line = fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
        Some((id, line.split('\0').nth(2)?.to_owned()))
    });
    named.collect()
}

/// Kills the process of a stage.
fn kill(program: &Child, stage: &str) {
    let label = format!("{stage}/0");
    let victim = wait_until(stage, || {
        stages(program)
            .into_iter()
            .find(|(_, found)| *found == label)
    });
    signal(victim.0);
}

fn signal(process: u32) {
    kill_process(Pid::from_raw(process as i32).unwrap(), Signal::KILL).unwrap();
}

/// A backup of a stream that has begun, and waits for more.
fn begun(fixture: &Fixture) -> (Child, Vec<u8>) {
    let how = [
        "--key-file",
        "key",
        "--buffer-size",
        "64K",
        "--instances",
        "1",
        "-",
        "tape",
    ];
    let mut child = fixture
        .command(DISK_TO_TAPE, &how)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let data = noise(4 << 20);
    child.stdin.as_mut().unwrap().write_all(&data).unwrap();
    wait_until("something is on the tape", || {
        fs::metadata(fixture.path("tape"))
            .ok()
            .filter(|found| found.len() > 0)
    });
    (child, data)
}

#[test]
fn a_backup_without_one_of_its_processes_fails_and_says_which() {
    for stage in ["stream-head", "archive-tail"] {
        let fixture = Fixture::new();
        let (child, _) = begun(&fixture);
        kill(&child, stage);
        let text = failed(&child.wait_with_output().unwrap(), 1);
        assert!(
            text.contains(&format!("\"{stage}\"")) && text.contains("SIGKILL"),
            "{text}"
        );
        assert!(
            text.contains("tape is incomplete: it has no checkpoint yet"),
            "{text}"
        );
        fixture.assert_holds(&["tape"]);
        let text = failed(&fixture.restore(&["--key-file", "key", "tape", "out"]), 3);
        assert!(text.contains("the archive is incomplete"), "{text}");
        assert_eq!(fixture.names("out"), ["stdin.damaged"]);
    }
}

#[test]
fn a_backup_goes_on_with_another_process() {
    for stage in ["analyze", "zstd", "aes-256-gcm"] {
        let fixture = Fixture::new();
        let (mut child, mut data) = begun(&fixture);
        kill(&child, stage);
        child.stdin.as_mut().unwrap().write_all(&data).unwrap();
        data.extend_from_within(..);
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        ok(&output);
        // It is none the worse for it, but somebody should look why.
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains(&format!("{stage}/0: process")) && said.contains("SIGKILL"),
            "{said}"
        );
        ok(&fixture.restore(&["--key-file", "key", "tape", "out"]));
        assert!(fs::read(fixture.path("out/stdin")).unwrap() == data);
    }
}

#[test]
fn a_restore_goes_on_without_what_can_be_replaced_and_names_the_rest() {
    let fixture = Fixture::new();
    let (mut child, data) = begun(&fixture);
    for _ in 0..3 {
        child.stdin.as_mut().unwrap().write_all(&data).unwrap();
    }
    drop(child.stdin.take());
    ok(&child.wait_with_output().unwrap());
    for stage in [
        "archive-head",
        "aes-256-gcm-open",
        "decompress",
        "stream-restore",
    ] {
        // Its output is not taken, so it stands still.
        let mut child = fixture
            .command(
                TAPE_TO_DISK,
                &["--key-file", "key", "--instances", "1", "tape", "-"],
            )
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut back = vec![0; 1000];
        out.read_exact(&mut back).unwrap();
        kill(&child, stage);
        if ["aes-256-gcm-open", "decompress"].contains(&stage) {
            out.read_to_end(&mut back).unwrap();
            ok(&child.wait_with_output().unwrap());
            assert!(back == data.repeat(4), "{stage}");
            continue;
        }
        let text = failed(&child.wait_with_output().unwrap(), 1);
        assert!(
            text.contains(&format!("\"{stage}\"")) && text.contains("SIGKILL"),
            "{text}"
        );
    }
    fixture.assert_holds(&["tape"]);
}

#[test]
fn trees_without_one_of_their_processes_fail_and_say_which() {
    let fixture = Fixture::new();
    for n in 0..200 {
        fs::write(fixture.path(&format!("src/data/{n:03}")), noise(200 << 10)).unwrap();
    }
    let mut deaths = 0;
    let mut run = |program: &str, args: &[&str], stage: &str, looks_begun: &dyn Fn() -> bool| {
        let mut command = fixture.command(program, args);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let label = format!("{stage}/0");
        let victim = wait_until(stage, || {
            stages(&child)
                .into_iter()
                .find(|(_, found)| *found == label)
        });
        wait_until("it has begun", || looks_begun().then_some(()));
        // It may be done by now, but it is not buried yet.
        let _ = kill_process(Pid::from_raw(victim.0 as i32).unwrap(), Signal::KILL);
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            return;
        }
        deaths += 1;
        let text = failed(&output, 1);
        assert!(
            text.contains(&format!("\"{stage}\"")) && text.contains("SIGKILL"),
            "{text}"
        );
    };
    let tape = || fs::metadata(fixture.path("tape")).is_ok_and(|found| found.len() > 0);
    for stage in ["tree-head", "archive-tail"] {
        run(
            DISK_TO_TAPE,
            &["--overwrite", "--compress", "none", "src/data", "tape"],
            stage,
            &tape,
        );
    }
    ok(&fixture.back_up(&["--overwrite", "src/data", "tape"]));
    let there = || fixture.path("out/data").exists();
    for stage in ["archive-head", "tree-restore"] {
        run(TAPE_TO_DISK, &["tape", "out"], stage, &there);
        fixture.assert_nothing_looks_whole_that_is_not();
        fixture.clear("out");
    }
    assert!(deaths > 0, "some of them were in time");
}

#[test]
fn processes_die_with_their_program() {
    let fixture = Fixture::new();
    let (mut child, _) = begun(&fixture);
    let stages = wait_until("all are there", || {
        Some(stages(&child)).filter(|stages| stages.len() == 5)
    });
    signal(child.id());
    child.wait().unwrap();
    wait_until("nobody is left", || {
        let is_there = |process: u32| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
        };
        (!stages.iter().any(|(process, _)| is_there(*process))).then_some(())
    });
    fixture.assert_holds(&["tape"]);
    assert!(
        failed(
            &fixture.restore(&["--verify", "--key-file", "key", "tape"]),
            3
        )
        .contains("incomplete")
    );
}
