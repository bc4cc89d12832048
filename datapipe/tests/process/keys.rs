//! Keys in the memory of the processes of a pipe: only where they are used.
//!
//! The searching is done by a process of its own ([`search`]), which derives the keys: the
//! controller, which is the process of the test, is searched, too.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datapipe::archive::ArchiveReader;
use datapipe::crypto::{Argon2Cost, Identity, Key, Passphrase, Secret};
use datapipe::media::VirtualTape;
use datapipe::pool::Activity;
use datapipe::prelude::*;
use datapipe::wire::ArchiveHeader;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::key_derivation::keys_of;
use crate::key_search::{IN_DUMPS, dumps_have_no_round_keys};
use crate::medium::create_tape;
use crate::watch::wait_until;

const BLOCK: u32 = 16 << 10;

/// First argument of a process that searches; then the directory with the secret and the header,
/// then the processes and core dumps that it searches.
pub(crate) const SEARCH: &str = "--search-keys";

/// First argument of a process that writes an archive, and aborts before its end; then the
/// directory of the archive, which becomes the one of its core dump.
pub(crate) const ABORT: &str = "--abort-with-keys";

/// Prints the keys of an archive that are in the memory of processes, and in dumps.
pub(crate) fn search(dir: &str, processes: &[&str]) -> ! {
    let read = |name: &str| fs::read(Path::new(dir).join(name)).unwrap();
    let archive = ArchiveHeader::parse(&read("archive")).unwrap();
    let mut keys = keys_of(&read("secret"), &archive);
    if let Ok(line) = fs::read(Path::new(dir).join("line")) {
        // The digits of an identity are as good as its bytes.
        keys.0.push(("digits".to_owned(), line[18..82].to_vec()));
    }
    for process in processes {
        let Ok(process) = process.parse() else {
            let found = keys.find_in_file(Path::new(process));
            found.iter().for_each(|key| println!("0 {key}"));
            continue;
        };
        for (key, mapping) in keys.find_in(process) {
            println!("{process} {key} {mapping}");
        }
    }
    std::process::exit(0)
}

/// Makes the file of a secret, byte by byte, so that its content is never in memory as a whole, and
/// for an identity the file with its line.
fn make_secret(dir: &Path, kind: Kind) {
    let mut file = File::create(dir.join("secret")).unwrap();
    let mut line = (kind == Kind::Identity).then(|| File::create(dir.join("line")).unwrap());
    if let Some(line) = &mut line {
        line.write_all(b"datapipe-secret-1 ").unwrap();
    }
    let mut byte = 0x9e_u8;
    for n in 0..32 {
        byte = byte.wrapping_mul(167).wrapping_add(n ^ 0x5a);
        file.write_all(&[!byte]).unwrap();
        if let Some(line) = &mut line {
            write!(line, "{:02x}", !byte).unwrap();
        }
    }
}

/// Returns the keys that are in the memory of each of these processes, and where.
fn find_keys(dir: &Path, processes: &[u32]) -> BTreeMap<u32, Vec<String>> {
    let processes: Vec<_> = processes.iter().map(u32::to_string).collect();
    search_all(dir, &processes)
}

/// As [`find_keys`], in processes and core dumps. Dumps count as process 0.
fn search_all(dir: &Path, places: &[String]) -> BTreeMap<u32, Vec<String>> {
    let found = Command::new(std::env::current_exe().unwrap())
        .arg(SEARCH)
        .arg(dir)
        .args(places)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success(), "the search: {error}");
    let mut keys: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8(found.stdout).unwrap().lines() {
        let (process, key) = line.split_once(' ').unwrap();
        let key = key.to_owned();
        keys.entry(process.parse().unwrap()).or_default().push(key);
    }
    keys
}

/// Asserts that only processes of these stages have the archive's key, that no process has another
/// key, and that no dump of one has any. Stages on threads are those of the controller. No instance
/// must be at work: the registers and the stack of one that encrypts have parts of the key.
fn check_keys(dir: &Path, status: &Status, holders: &[&str]) {
    let own = std::process::id();
    let mut names = BTreeMap::from([(own, "controller".to_owned())]);
    for stage in &status.stages {
        for instance in &stage.instances {
            if ![0, own].contains(&instance.process) {
                names.insert(instance.process, stage.name.clone());
            }
        }
    }
    let processes: Vec<_> = names.keys().copied().collect();
    let mut found = find_keys(dir, &processes);
    for (process, name) in &names {
        let keys = found.remove(process).unwrap_or_default();
        let is_holder = holders.contains(&name.as_str());
        let is_in_dumps = |key: &str| dumps_have_no_round_keys() && key.ends_with(IN_DUMPS);
        let bad = keys
            .iter()
            .filter(|key| !is_holder || !key.starts_with("archive ") || is_in_dumps(key));
        let bad: Vec<_> = bad.collect();
        assert!(bad.is_empty(), "{name}: {bad:?}");
        assert!(!is_holder || !keys.is_empty(), "{name}: has no key");
    }
}

/// Number of blocks of an archive: more than the pipe that reads it has buffers.
const BLOCKS: u64 = 40;

/// Sends all blocks, and then waits until it may end.
struct Lingering {
    sent: u64,
    enough: Arc<AtomicBool>,
}

impl Lingering {
    fn new(enough: &Arc<AtomicBool>) -> Self {
        Self {
            sent: 0,
            enough: Arc::clone(enough),
        }
    }
}

impl Head for Lingering {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.sent < BLOCKS {
            self.sent += 1;
            block.put(&b"some text ".repeat(1000))?;
            return Ok(Fill::Block);
        }
        while !self.enough.load(Ordering::SeqCst) {
            block.stop().sleep(Duration::from_millis(1))?;
        }
        Ok(Fill::End)
    }
}

/// Waits until the first block has arrived and every instance waits: none encrypts or decrypts.
fn wait_for_rest(pipe: &Pipe) {
    let mut before = Vec::new();
    wait_until("all instances wait", || {
        let stages = pipe.status().stages;
        let instances: Vec<_> = stages.iter().flat_map(|stage| &stage.instances).collect();
        let waits = instances.iter().all(|instance| {
            use Activity::{WaitingForBuffer, WaitingForInput, WaitingOutside};
            [WaitingForBuffer, WaitingForInput, WaitingOutside].contains(&instance.activity)
        });
        let counts = instances.iter().map(|one| (one.blocks_in, one.blocks_out));
        let counts: Vec<_> = counts.collect();
        let rests = waits && counts == before && counts[counts.len() - 1].0 > 3;
        before = counts;
        rests
    });
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    KeyFile,
    Passphrase,
    Identity,
}

fn read_secret(kind: Kind, dir: &Path) -> Secret {
    let path = dir.join("secret");
    match kind {
        Kind::KeyFile => Key::from_file(path).unwrap().into(),
        Kind::Passphrase => Passphrase::from_file(path).unwrap().into(),
        Kind::Identity => Identity::from_file(dir.join("line")).unwrap().into(),
    }
}

/// Plans an archive with a secret, and writes its header to a file.
fn plan(dir: &Path, kind: Kind) -> Archive {
    make_secret(dir, kind);
    let cost = Argon2Cost {
        memory_kib: 256,
        passes: 1,
        lanes: 2,
    };
    let secret = read_secret(kind, dir);
    let archive = ArchiveOptions::stream("keys")
        .block_len(BLOCK)
        .encrypt_at(secret, cost)
        .plan()
        .unwrap();
    fs::write(dir.join("archive"), archive.header().to_bytes()).unwrap();
    archive
}

/// Writes an archive and searches while it is written, and after its end.
fn write_and_search(dir: &Path, kind: Kind, in_processes: bool) {
    let archive = plan(dir, kind);
    let enough = Arc::new(AtomicBool::new(false));
    let builder = Pipe::builder()
        .buffer_size(BLOCK)
        .head(Lingering::new(&enough))
        .stage(analyze().in_processes())
        .stage(zstd(3).in_processes());
    let archive = if in_processes {
        archive
            .map_seal(|seal| seal.in_processes())
            .map_tail(|tail| tail.in_processes())
    } else {
        archive
    };
    let pipe = builder
        .archive(archive, create_tape(&dir.join("tape")))
        .start()
        .unwrap();
    wait_for_rest(&pipe);
    let status = pipe.status();
    let holders: &[&str] = if in_processes {
        &["aes-256-gcm"]
    } else {
        &["controller"]
    };
    check_keys(dir, &status, holders);
    enough.store(true, Ordering::SeqCst);
    pipe.wait().unwrap();
    let left = find_keys(dir, &[std::process::id()]);
    assert!(left.is_empty(), "{kind:?}, after the end: {left:?}");
}

/// Takes four blocks, and then waits until it may take the others.
struct Waiting {
    blocks: u32,
    enough: Arc<AtomicBool>,
}

impl Tail for Waiting {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.blocks += 1;
        while self.blocks > 4 && !self.enough.load(Ordering::SeqCst) {
            block.stop().sleep(Duration::from_millis(1))?;
        }
        Ok(())
    }
}

/// Reads the archive and searches while it is read, and after its end.
fn read_and_search(dir: &Path, kind: Kind, in_processes: bool) {
    let secret = read_secret(kind, dir);
    let tape = VirtualTape::open(dir.join("tape")).unwrap();
    let reader = ArchiveReader::open(tape, Some(&secret)).unwrap();
    drop(secret);
    let enough = Arc::new(AtomicBool::new(false));
    let mut builder = reader.read().pipe.buffers(16);
    drop(reader);
    if in_processes {
        builder = builder.in_processes();
    }
    let tail = Waiting {
        blocks: 0,
        enough: Arc::clone(&enough),
    };
    let pipe = builder.tail(tail).start().unwrap();
    wait_for_rest(&pipe);
    let holders: &[&str] = if in_processes {
        &["aes-256-gcm-open"]
    } else {
        &["controller"]
    };
    check_keys(dir, &pipe.status(), holders);
    enough.store(true, Ordering::SeqCst);
    pipe.wait().unwrap();
    let left = find_keys(dir, &[std::process::id()]);
    assert!(left.is_empty(), "{kind:?}, after the end: {left:?}");
}

fn search_pipes(kind: Kind, in_processes: bool) {
    let dir = tempfile::tempdir().unwrap();
    write_and_search(dir.path(), kind, in_processes);
    read_and_search(dir.path(), kind, in_processes);
}

/// A secret is needed for the plan only. After that it, and all that is derived from it except for
/// the archive's key, is in no process of the pipe, neither on a heap nor on a stack. The archive's
/// key is only in the processes that use it, and only while they live.
pub(crate) fn keys_are_only_in_processes_that_use_them() {
    search_pipes(Kind::KeyFile, true);
    search_pipes(Kind::Passphrase, true);
    search_pipes(Kind::Identity, true);
}

/// A pipe on threads leaves no key in its process.
pub(crate) fn keys_are_erased_at_the_end_of_a_pipe_on_threads() {
    search_pipes(Kind::KeyFile, false);
    search_pipes(Kind::Passphrase, false);
    search_pipes(Kind::Identity, false);
}

/// Writes an archive on threads, and aborts while it waits for its end.
pub(crate) fn abort(dir: &str) -> ! {
    let dir = Path::new(dir);
    std::env::set_current_dir(dir).unwrap();
    let limit = getrlimit(Resource::Core);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Core, raised).unwrap();
    let archive = plan(dir, Kind::Passphrase);
    let enough = Arc::new(AtomicBool::new(false));
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(Lingering::new(&enough))
        .archive(archive, create_tape(&dir.join("tape")))
        .start()
        .unwrap();
    wait_for_rest(&pipe);
    std::process::abort()
}

/// A core dump of a program that writes an archive had its key, and with it the archive.
pub(crate) fn core_dump_has_no_key() {
    if !dumps_have_no_round_keys() {
        println!("skipped: a dump has the round keys of AWS-LC");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .arg(ABORT)
        .arg(dir.path())
        .status()
        .unwrap();
    if !status.core_dumped() || pattern.contains(['/', '|', '@']) {
        println!("skipped: dumps are not written here: {status}, core_pattern {pattern}");
        return;
    }
    let names = fs::read_dir(dir.path()).unwrap();
    let names = names.map(|entry| {
        entry
            .unwrap()
            .path()
            .into_os_string()
            .into_string()
            .unwrap()
    });
    let dumps: Vec<_> = names.filter(|name| name.contains("/core")).collect();
    assert_eq!(dumps.len(), 1, "{dumps:?}");
    let found = search_all(dir.path(), &dumps);
    assert!(found.is_empty(), "{found:?}");
}
