//! A dump of the memory of a running job had the key or the passphrase, and with it every archive
//! that they open.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use datapipe::archive::ArchiveReader;
use datapipe::crypto::{Key, Passphrase, Secret};
use datapipe::media::VirtualTape;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, noise, ok};
use crate::key_derivation::keys_of;
use crate::key_search::Keys;

const SECRET: &str = "an unlikely passphrase of 32 byt";

/// Stops a job first, so that it does not see that its processes are stopped.
fn stop(job: &Child) {
    kill_process(pid(job.id()), Signal::STOP).unwrap();
    for process in family(job.id()) {
        kill_process(pid(process), Signal::STOP).unwrap();
    }
}

/// Continues a job last.
fn resume(job: &Child) {
    for process in family(job.id()).into_iter().rev() {
        kill_process(pid(process), Signal::CONT).unwrap();
    }
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process as i32).unwrap()
}

/// Starts a job, and stops it as soon as `is_at_work` returns true.
fn start(fixture: &Fixture, program: &str, args: &[&str], is_at_work: impl Fn() -> bool) -> Child {
    let mut command = fixture.command(program, args);
    let mut job = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !is_at_work() {
        assert!(job.try_wait().unwrap().is_none(), "the job ended too early");
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
    keys_of(SECRET.as_bytes(), reader.session(), reader.header())
}

/// A process and those that it has started.
fn family(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let lists = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")));
    let lists: Vec<_> = lists.map(Result::unwrap).collect();
    let children = lists.iter().flat_map(|list| list.split_whitespace());
    let children = children.map(|child| child.parse().unwrap());
    std::iter::once(process).chain(children).collect()
}

/// Asserts that the processes of a job have no key but the archive's, which some of them have, so
/// many at most, and the job itself if `job_has_it`.
fn check(job: &Child, keys: &Keys, holders: usize, job_has_it: bool) {
    let family = family(job.id());
    let found: Vec<BTreeSet<_>> = family.iter().map(|p| keys.find_in(*p)).collect();
    for (process, found) in family.iter().zip(&found) {
        let names: BTreeSet<_> = found.iter().map(|(name, _)| &**name).collect();
        let is_only = names.is_empty() || names == BTreeSet::from(["archive"]);
        assert!(is_only, "process {process}: {found:?}");
    }
    let have_it = found.iter().filter(|found| !found.is_empty()).count();
    let has_it = !found[0].is_empty();
    assert!((1..=holders).contains(&have_it), "{found:?}");
    assert_eq!(has_it, job_has_it, "{found:?}");
}

/// Backs up and restores with a secret from a file, and searches both jobs.
fn search_jobs(option: &str, secret: &Secret, in_processes: bool) {
    let fixture = Fixture::new();
    fs::write(fixture.path("secret"), SECRET).unwrap();
    for n in 0..40 {
        fs::write(fixture.path(&format!("src/data/{n}")), noise(1 << 20)).unwrap();
    }
    let place: &[&str] = if in_processes { &["--processes"] } else { &[] };
    let args = [place, &[option, "secret", "src/data", "tape.tap"]].concat();
    let tape = fixture.path("tape.tap");
    let has_blocks = || fs::metadata(&tape).is_ok_and(|tape| tape.len() > 2 << 20);
    let job = start(&fixture, DISK_TO_TAPE, &args, has_blocks);
    let keys = keys_on(&fixture, "tape.tap", secret);
    // The process that encrypts, and the one with the medium.
    let (holders, job_has_it) = if in_processes { (2, false) } else { (1, true) };
    check(&job, &keys, holders, job_has_it);
    resume(&job);
    ok(&job.wait_with_output().unwrap());

    let args = [place, &[option, "secret", "tape.tap", "dest"]].concat();
    let dest = fixture.path("dest/data");
    let has_files = || fs::read_dir(&dest).is_ok_and(|files| files.count() > 1);
    let job = start(&fixture, TAPE_TO_DISK, &args, has_files);
    // Besides, the job keeps the archive open.
    let holders = if in_processes { 3 } else { 1 };
    check(&job, &keys, holders, true);
    resume(&job);
    ok(&job.wait_with_output().unwrap());
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
