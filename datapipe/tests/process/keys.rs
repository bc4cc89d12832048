//! Keys in the memory of the processes of a pipe: only where they are used.
//!
//! The searching is done by a process of its own ([`search`]), which derives the keys: the
//! controller, which is the process of the test, is searched, too.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datapipe::archive::ArchiveReader;
use datapipe::crypto::{Argon2Cost, Key, Passphrase, Secret};
use datapipe::media::VirtualTape;
use datapipe::prelude::*;
use datapipe::wire::{ArchiveHeader, SessionHeader};

use crate::key_derivation::keys_of;
use crate::medium::create_tape;
use crate::watch::wait_until;

const BLOCK: u32 = 16 << 10;

/// First argument of a process that searches; then the directory with the secret and the headers,
/// then the processes that it searches.
pub(crate) const SEARCH: &str = "--search-keys";

/// Prints the keys of an archive that are in the memory of processes.
pub(crate) fn search(dir: &str, processes: &[&str]) -> ! {
    let read = |name: &str| fs::read(Path::new(dir).join(name)).unwrap();
    let session = SessionHeader::parse(&read("session")).unwrap();
    let archive = ArchiveHeader::parse(&read("archive")).unwrap();
    let keys = keys_of(&read("secret"), &session, &archive);
    for process in processes {
        for (key, mapping) in keys.find_in(process.parse().unwrap()) {
            println!("{process} {key} {mapping}");
        }
    }
    std::process::exit(0)
}

/// Makes the file of a secret, byte by byte, so that its content is never in memory as a whole.
fn make_secret(dir: &Path) {
    let mut file = File::create(dir.join("secret")).unwrap();
    let mut byte = 0x9e_u8;
    for n in 0..32 {
        byte = byte.wrapping_mul(167).wrapping_add(n ^ 0x5a);
        file.write_all(&[!byte]).unwrap();
    }
}

/// Returns the keys that are in the memory of each of these processes, and where.
fn find_keys(dir: &Path, processes: &[u32]) -> BTreeMap<u32, Vec<String>> {
    let found = Command::new(std::env::current_exe().unwrap())
        .arg(SEARCH)
        .arg(dir)
        .args(processes.iter().map(u32::to_string))
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

/// Asserts that only processes of these stages have the archive's key, and that no process has
/// another key. Stages on threads are those of the controller.
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
        let bad = keys
            .iter()
            .filter(|key| !(is_holder && key.starts_with("archive ")));
        let bad: Vec<_> = bad.collect();
        assert!(bad.is_empty(), "{name}: {bad:?}");
        assert!(!is_holder || !keys.is_empty(), "{name}: has no key");
    }
}

/// Sends blocks until it may end.
struct Endless(Arc<AtomicBool>);

impl Head for Endless {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.0.load(Ordering::SeqCst) {
            return Ok(Fill::End);
        }
        block.stop().sleep(Duration::from_millis(1))?;
        block.put(&b"some text ".repeat(1000))?;
        Ok(Fill::Block)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    KeyFile,
    Passphrase,
}

fn read_secret(kind: Kind, path: &Path) -> Secret {
    match kind {
        Kind::KeyFile => Key::from_file(path).unwrap().into(),
        Kind::Passphrase => Passphrase::from_file(path).unwrap().into(),
    }
}

/// Writes an archive and searches while it is written, and after its end.
fn write_and_search(dir: &Path, kind: Kind, in_processes: bool) {
    make_secret(dir);
    let cost = Argon2Cost {
        memory_kib: 256,
        passes: 1,
        lanes: 2,
    };
    let secret = read_secret(kind, &dir.join("secret"));
    let archive = ArchiveOptions::stream("keys")
        .block_len(BLOCK)
        .encrypt_at(secret, cost)
        .plan()
        .unwrap();
    fs::write(dir.join("session"), archive.session().to_bytes()).unwrap();
    fs::write(dir.join("archive"), archive.header().to_bytes()).unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let builder = Pipe::builder()
        .buffer_size(BLOCK)
        .head(Endless(Arc::clone(&enough)))
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
    wait_until("the tail works", || {
        let status = pipe.status();
        status.stages.last().unwrap().instances[0].blocks_in > 3
    });
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
    let secret = read_secret(kind, &dir.join("secret"));
    let tape = VirtualTape::open(dir.join("tape")).unwrap();
    let reader = ArchiveReader::open(tape, Some(&secret)).unwrap();
    drop(secret);
    let enough = Arc::new(AtomicBool::new(false));
    let mut builder = reader.read().pipe;
    drop(reader);
    if in_processes {
        builder = builder.in_processes();
    }
    let tail = Waiting {
        blocks: 0,
        enough: Arc::clone(&enough),
    };
    let pipe = builder.tail(tail).start().unwrap();
    wait_until("the tail works", || {
        let status = pipe.status();
        status.stages.last().unwrap().instances[0].blocks_in > 3
    });
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
}

/// A pipe on threads leaves no key in its process.
pub(crate) fn keys_are_erased_at_the_end_of_a_pipe_on_threads() {
    search_pipes(Kind::KeyFile, false);
    search_pipes(Kind::Passphrase, false);
}
