//! Jobs that a signal interrupts.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, failed, letters, noise, ok};

fn interrupt(child: &Child) {
    let signal = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(signal.success());
}

#[test]
fn stopped_backup_is_valid_and_reported_as_incomplete() {
    let fixture = Fixture::new();
    let text = letters(1 << 20);
    for n in 0..60 {
        fs::write(fixture.path(&format!("src/data/{n:02}")), &text[n * 1000..]).unwrap();
    }
    // At the highest level compression takes long enough to be interrupted.
    let options = [
        "--compress",
        "zstd:22",
        "--buffer-size",
        "256K",
        "--volume-size",
        "1MiB",
    ];
    let mut child = fixture
        .command(
            DISK_TO_TAPE,
            &[&options[..], &["src/data", "tape/"]].concat(),
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !fixture.path("tape/000002.tap").exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the backup ended before the signal"
        );
        thread::sleep(Duration::from_millis(10));
    }
    interrupt(&child);
    let text = failed(&child.wait_with_output().unwrap(), 1);
    assert!(
        text.contains("was cancelled; tape/ is incomplete: it has no checkpoint yet"),
        "{text}"
    );

    let text = failed(&fixture.restore(&["--verify", "tape"]), 3);
    assert!(text.contains("the archive is incomplete"), "{text}");
    let text = failed(&fixture.restore(&["tape", "out"]), 3);
    assert!(text.contains("the archive is incomplete"), "{text}");
    fixture.assert_no_damage_under_original_names();
    let restored = fixture.names("out/data").len();
    assert!((1..60).contains(&restored), "{restored} files");
    ok(&fixture.back_up(&["--overwrite", "src/data", "tape"]));
    ok(&fixture.restore(&["--overwrite", "tape", "out2"]));
    fs::remove_dir_all(fixture.path("out")).unwrap();
    fs::rename(fixture.path("out2"), fixture.path("out")).unwrap();
    fixture.assert_same();
}

#[test]
fn stopped_restore_leaves_no_damaged_file_under_its_name() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/noise"), noise(64 << 20)).unwrap();
    ok(&fixture.back_up(&["--compress", "none", "src/data", "tape"]));
    let input = fs::File::open(fixture.path("src/data/noise")).unwrap();
    ok(&fixture
        .command(DISK_TO_TAPE, &["-", "stream"])
        .stdin(input)
        .output()
        .unwrap());
    // A restore whose output is not read blocks until it is stopped.
    let mut child = fixture
        .command(TAPE_TO_DISK, &["stream", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 1000]).unwrap();
    // The output stays full, and nothing reads it.
    interrupt(&child);
    failed(&child.wait_with_output().unwrap(), 1);
    drop(out);
    // These jobs may end before the signal arrives.
    for medium in ["tape", "stream"] {
        let child = fixture
            .command(TAPE_TO_DISK, &[medium, "out"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while fs::read_dir(fixture.path("out")).unwrap().count() == 0 {
            thread::yield_now();
        }
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}",
            output.status
        );
        let there = ["out/data/noise", "out/stdin"]
            .map(|name| fixture.path(name))
            .into_iter()
            .find(|path| path.exists());
        assert!(there.is_some() || !output.status.success());
        // A signal may also arrive after the file is complete, before the program ends.
        if let Some(path) = there {
            assert!(
                fs::read(&path).unwrap() == fs::read(fixture.path("src/data/noise")).unwrap(),
                "{path:?}"
            );
        }
        fixture.clear("out");
    }
}

#[test]
fn stopped_stream_does_not_wait_for_its_source() {
    let fixture = Fixture::new();
    let mut child = fixture
        .command(DISK_TO_TAPE, &["--buffer-size", "64K", "-", "tape"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first output shows that the pipe has started.
    let mut messages = child.stdout.take().unwrap();
    messages.read_exact(&mut [0]).unwrap();
    let mut source = child.stdin.take().unwrap();
    source.write_all(&noise(1 << 20)).unwrap();
    // The source stays open and silent.
    interrupt(&child);
    let text = failed(&child.wait_with_output().unwrap(), 1);
    assert!(
        text.contains("tape is incomplete: it has no checkpoint yet"),
        "{text}"
    );
    drop(source);
}

#[test]
fn stopped_job_is_reported_as_one_object() {
    let fixture = Fixture::new();
    let mut child = fixture
        .command(
            DISK_TO_TAPE,
            &["--json", "--buffer-size", "64K", "-", "tape"],
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut source = child.stdin.take().unwrap();
    // More bytes than the pipe to the program holds, so the job has begun.
    source.write_all(&noise(1 << 20)).unwrap();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    drop(source);
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found["status"], &found["exit"]),
        (&"failed".into(), &1.into())
    );
    assert!(
        found["message"].as_str().unwrap().contains("was cancelled"),
        "{found}"
    );
}

/// Runs a program after the shell has done `before`.
fn after(fixture: &Fixture, before: &str, program: &str, args: &[&str]) -> Command {
    let script = format!("{before}; exec \"$0\" \"$@\"");
    fixture.command("sh", &[&["-c", &script, program], args].concat())
}

// A backup that nohup started goes on when its terminal is closed.
#[test]
fn signals_ignored_at_the_start_stay_ignored() {
    let fixture = Fixture::new();
    let mut child = after(
        &fixture,
        "trap '' HUP INT",
        DISK_TO_TAPE,
        &["--buffer-size", "64KiB", "-", "tapes/"],
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::null())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&noise(1 << 20)).unwrap();
    // The handlers are older than the medium.
    while !fixture.path("tapes").exists() {
        thread::sleep(Duration::from_millis(1));
    }
    for signal in ["-HUP", "-INT"] {
        let sent = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }
    input.write_all(&noise(1 << 20)).unwrap();
    drop(input);
    ok(&child.wait_with_output().unwrap());
}

// A key that comes from a named pipe may never come.
#[test]
fn signal_before_the_job_ends_the_program() {
    let fixture = Fixture::new();
    let made = Command::new("mkfifo").arg(fixture.path("pipe")).status();
    assert!(made.unwrap().success());
    let child = fixture
        .command(
            DISK_TO_TAPE,
            &["--json", "--key-file", "pipe", "src/data", "tape"],
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Opening succeeds as soon as the program waits for a writer; then it waits for data.
    let key = loop {
        let opened = fs::OpenOptions::new()
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(fixture.path("pipe"));
        match opened {
            Ok(key) => break key,
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    };
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    drop(key);
    assert_eq!(output.status.code(), Some(1));
    let object = String::from_utf8(output.stdout).unwrap();
    let message = "stopped by SIGINT before the job began";
    assert!(object.contains(message), "{object}");
    assert!(!fixture.path("tape").exists());
}

// The administrator limits the size of files: the backup continues on more volumes, and a tape
// that reaches the limit is reported. The kernel's signal at the limit would kill the program.
#[test]
fn limit_on_the_size_of_files_is_an_error() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/noise"), noise(20 << 20)).unwrap();
    // Blocks of 512 bytes. The pool in shared memory has to fit, too.
    let limit = "ulimit -f 16000";
    let options = ["--buffer-size", "64KiB"];
    let args = [&options[..], &["src/data", "tape"]].concat();
    let output = after(&fixture, limit, DISK_TO_TAPE, &args).output();
    let text = failed(&output.unwrap(), 1);
    assert!(text.contains("tape is full"), "{text}");

    for (tapes, processes) in [("tapes/", &[][..]), ("others/", &["--processes"])] {
        let args = [processes, &options, &["src/data", tapes]].concat();
        let output = after(&fixture, limit, DISK_TO_TAPE, &args).output();
        ok(&output.unwrap());
        assert!(fixture.path(tapes).join("000003.tap").exists());
        ok(&fixture.restore(&["--verify", tapes]));
    }
}
