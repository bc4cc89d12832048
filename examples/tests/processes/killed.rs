//! Killed processes: messages and exit codes of their program, and the files that they leave.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, failed, noise, ok};

/// Waits until `happened` returns a value. Fails after a minute.
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

/// Returns the ids of the processes of a program's stages, with the labels of the instances.
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

/// Starts a backup of a stream, which has received some data and waits for more.
fn start_backup(fixture: &Fixture) -> (Child, Vec<u8>) {
    let options = [
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
        .command(DISK_TO_TAPE, &options)
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
fn backup_without_an_irreplaceable_process_fails_and_names_it() {
    for stage in ["stream-head", "archive-tail"] {
        let fixture = Fixture::new();
        let (child, _) = start_backup(&fixture);
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
fn backup_continues_with_a_replacement_process() {
    for stage in ["analyze", "zstd", "aes-256-gcm"] {
        let fixture = Fixture::new();
        let (mut child, mut data) = start_backup(&fixture);
        kill(&child, stage);
        child.stdin.as_mut().unwrap().write_all(&data).unwrap();
        data.extend_from_within(..);
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        ok(&output);
        // The backup is intact, but the user should investigate the death.
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.contains(&format!("{stage}/0: process")) && text.contains("SIGKILL"),
            "{text}"
        );
        ok(&fixture.restore(&["--key-file", "key", "tape", "out"]));
        assert!(fs::read(fixture.path("out/stdin")).unwrap() == data);
    }
}

#[test]
fn restore_replaces_what_it_can_and_names_the_other_processes() {
    let fixture = Fixture::new();
    let (mut child, data) = start_backup(&fixture);
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
        // Its output is not read, so it blocks.
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
fn tree_jobs_without_an_irreplaceable_process_fail_and_name_it() {
    let fixture = Fixture::new();
    for n in 0..200 {
        fs::write(fixture.path(&format!("src/data/{n:03}")), noise(200 << 10)).unwrap();
    }
    let mut deaths = 0;
    let mut run = |program: &str, args: &[&str], stage: &str, has_begun: &dyn Fn() -> bool| {
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
        wait_until("it has begun", || has_begun().then_some(()));
        // The process may have ended by now; its parent has not collected it yet.
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
        fixture.assert_no_damage_under_original_names();
        fixture.clear("out");
    }
    assert!(deaths > 0, "at least one process was killed before its end");
}

#[test]
fn processes_die_with_their_program() {
    let fixture = Fixture::new();
    let (mut child, _) = start_backup(&fixture);
    let stages = wait_until("all processes run", || {
        Some(stages(&child)).filter(|stages| stages.len() == 5)
    });
    // Kept open: at the end of the stream the processes would finish the archive, if they read it
    // before they learn of the death.
    let stream = child.stdin.take();
    signal(child.id());
    child.wait().unwrap();
    wait_until("all processes have ended", || {
        let is_there = |process: u32| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
        };
        (!stages.iter().any(|(process, _)| is_there(*process))).then_some(())
    });
    drop(stream);
    fixture.assert_holds(&["tape"]);
    assert!(
        failed(
            &fixture.restore(&["--verify", "--key-file", "key", "tape"]),
            3
        )
        .contains("incomplete")
    );
}
