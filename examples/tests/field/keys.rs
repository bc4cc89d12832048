//! A dump of the memory of a running job had the key or the passphrase, and with it every archive
//! that they open.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::Duration;
use std::{fs, io};

use datapipe::archive::ArchiveReader;
use datapipe::crypto::{Identity, Key, Passphrase, Secret};
use datapipe::media::VirtualTape;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, noise, ok};
use crate::key_derivation::keys_of;
use crate::key_search::Keys;

const SECRET: &str = "an unlikely passphrase of 32 byt";

/// A job, which does not outlive its test.
struct Job(Option<Child>);

impl Job {
    fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Continues it, and waits for its end.
    fn end(mut self) -> Output {
        resume(&self);
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(job) = &mut self.0 {
            // Its processes end with it.
            let _ = (job.kill(), job.wait());
        }
    }
}

/// Stops a job first, so that it does not see that its processes are stopped.
fn stop(job: &Job) {
    kill_process(pid(job.id()), Signal::STOP).unwrap();
    for process in family(job.id()) {
        kill_process(pid(process), Signal::STOP).unwrap();
    }
}

/// Continues a job last.
fn resume(job: &Job) {
    for process in family(job.id()).into_iter().rev() {
        kill_process(pid(process), Signal::CONT).unwrap();
    }
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process as i32).unwrap()
}

/// Starts a job, and stops it as soon as `is_at_work` returns true.
fn start(fixture: &Fixture, program: &str, args: &[&str], is_at_work: impl Fn() -> bool) -> Job {
    let mut command = fixture.command(program, args);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut job = Job(Some(child.spawn().unwrap()));
    while !is_at_work() {
        let ended = job.0.as_mut().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "the job ended too early");
        std::thread::sleep(Duration::from_micros(100));
    }
    stop(&job);
    job
}

/// Keys of the archive on a tape, which may be incomplete.
fn keys_on(fixture: &Fixture, tape: &str, secret: &Secret) -> Keys {
    // The tape itself is in use.
    let copy = fixture.path("copy.tap");
    fs::copy(fixture.path(tape), &copy).unwrap();
    let reader = ArchiveReader::open(VirtualTape::open(&copy).unwrap(), Some(secret)).unwrap();
    fs::remove_file(copy).unwrap();
    keys_of(SECRET.as_bytes(), reader.header())
}

/// A process and those that it has started.
fn family(process: u32) -> Vec<u32> {
    let read = || -> io::Result<Vec<String>> {
        let tasks = fs::read_dir(format!("/proc/{process}/task"))?;
        tasks
            .map(|task| fs::read_to_string(task?.path().join("children")))
            .collect()
    };
    // A thread that ends meanwhile leaves its children to another one.
    let lists = std::iter::repeat_with(read)
        .take(1000)
        .find_map(Result::ok)
        .unwrap();
    let children = lists.iter().flat_map(|list| list.split_whitespace());
    let children = children.map(|child| child.parse().unwrap());
    std::iter::once(process).chain(children).collect()
}

/// Name of the stage that a process of a job runs; `job` for the job itself.
fn stage_of(process: u32) -> String {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap();
    let words: Vec<_> = line.split(|byte| *byte == 0).collect();
    match words[..] {
        [_, b"--datapipe-instance", label, ..] => {
            let label = String::from_utf8_lossy(label);
            label.split('/').next().unwrap_or_default().to_owned()
        }
        _ => "job".to_owned(),
    }
}

/// Asserts that the processes of a job have no key but the archive's, and that only those of
/// `holders` have that.
fn check(job: &Job, keys: &Keys, holders: &[&str]) {
    let mut have_it = BTreeSet::new();
    for process in family(job.id()) {
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let limit = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let soft = limit.and_then(|line| line.split_whitespace().nth(4));
        assert!(matches!(soft, Some("0" | "1")), "{soft:?}");
        let (stage, found) = (stage_of(process), keys.find_in(process));
        assert!(
            found.iter().all(|(name, _)| name == "archive"),
            "{stage}: {found:?}"
        );
        if !found.is_empty() {
            have_it.insert(stage);
        }
    }
    assert!(!have_it.is_empty(), "the search finds the key");
    let others = have_it.iter().find(|stage| !holders.contains(&&***stage));
    assert_eq!(others, None, "{have_it:?}");
}

/// Backs up and restores with a secret from a file, and searches both jobs.
fn search_jobs(option: &str, secret: &Secret, in_processes: bool) {
    let fixture = Fixture::new();
    fs::write(fixture.path("secret"), SECRET).unwrap();
    for n in 0..24 {
        fs::write(fixture.path(&format!("src/data/{n}")), noise(1 << 20)).unwrap();
    }
    let place: &[&str] = if in_processes { &["--processes"] } else { &[] };
    // Few small buffers, because all of them are searched in each process.
    let pool = ["--buffer-size", "64K", "--buffers", "24"];
    let paths = [option, "secret", "src/data", "tape.tap"];
    let args = [place, &pool, &paths].concat();
    let tape = fixture.path("tape.tap");
    let has_blocks = || fs::metadata(&tape).is_ok_and(|tape| tape.len() > 2 << 20);
    let job = start(&fixture, DISK_TO_TAPE, &args, has_blocks);
    let keys = keys_on(&fixture, "tape.tap", secret);
    let holders: &[&str] = match in_processes {
        true => &["aes-256-gcm"],
        false => &["job"],
    };
    check(&job, &keys, holders);
    ok(&job.end());

    let args = [place, &[option, "secret", "tape.tap", "dest"]].concat();
    let dest = fixture.path("dest/data");
    let has_files = || fs::read_dir(&dest).is_ok_and(|files| files.count() > 1);
    let job = start(&fixture, TAPE_TO_DISK, &args, has_files);
    // The job keeps the archive open.
    let holders: &[&str] = match in_processes {
        true => &["job", "aes-256-gcm-open"],
        false => &["job"],
    };
    check(&job, &keys, holders);
    ok(&job.end());
}

/// Starts a backup with a key or without, all of whose processes may leave core dumps, and aborts
/// them at work. Returns the dumps.
fn abort(sealed_with: Option<&str>, in_processes: bool) -> Vec<PathBuf> {
    let fixture = Fixture::new();
    fs::write(
        fixture.path("recipient"),
        format!("{}\n", Identity::random().unwrap().recipient()),
    )
    .unwrap();
    fs::write(fixture.path("src/data/noise"), noise(24 << 20)).unwrap();
    let raised = "ulimit -c unlimited; exec \"$0\" \"$@\"";
    let mut args = vec![
        "-c",
        raised,
        DISK_TO_TAPE,
        "--buffer-size",
        "64K",
        "--buffers",
        "24",
    ];
    args.extend(sealed_with);
    args.extend(in_processes.then_some("--processes"));
    args.extend(["src/data", "tape.tap"]);
    let tape = fixture.path("tape.tap");
    let has_blocks = || fs::metadata(&tape).is_ok_and(|tape| tape.len() > 2 << 20);
    let job = start(&fixture, "sh", &args, has_blocks);
    for process in family(job.id()).into_iter().rev() {
        kill_process(pid(process), Signal::ABORT).unwrap();
        kill_process(pid(process), Signal::CONT).unwrap();
    }
    assert_eq!(job.end().status.signal(), Some(Signal::ABORT.as_raw()));
    let names = fs::read_dir(fixture.dir.path()).unwrap();
    let paths = names.map(|name| name.unwrap().path());
    let is_dump = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.as_bytes().starts_with(b"core"))
    };
    paths.filter(is_dump).collect()
}

/// A job that was aborted left its key in core dumps: that of the program, or of its processes.
#[test]
fn aborted_job_with_a_key_leaves_no_core_dump() {
    for in_processes in [false, true] {
        // Recipients have no secret, but what encrypts for them has the archive's key.
        for sealed_with in ["--key-file=key", "--recipient=recipient"] {
            let with_a_key = abort(Some(sealed_with), in_processes);
            assert!(with_a_key.is_empty(), "{sealed_with}: {with_a_key:?}");
        }
        if abort(None, in_processes).is_empty() {
            println!("without effect: the system puts core dumps elsewhere, or allows none");
        }
    }
}

#[test]
fn key_file_is_in_no_process_of_a_job() {
    let secret = Secret::from(Key::from_bytes(SECRET.as_bytes().try_into().unwrap()));
    search_jobs("--key-file", &secret, false);
    search_jobs("--key-file", &secret, true);
}

#[test]
fn passphrase_is_in_no_process_of_a_job() {
    let secret = Secret::from(Passphrase::from_bytes(SECRET).unwrap());
    search_jobs("--passphrase-file", &secret, false);
    search_jobs("--passphrase-file", &secret, true);
}
