//! Keys in the memory of the processes of a pipe: only where they are used.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datapipe::crypto::{Key, Secret};
use datapipe::prelude::*;

use crate::medium::create_tape;
use crate::watch::wait_until;

const BLOCK: u32 = 16 << 10;

/// The inverse of the bytes of a key file.
fn inverse() -> [u8; 32] {
    let mut byte = 0x9e_u8;
    std::array::from_fn(|n| {
        byte = byte.wrapping_mul(167).wrapping_add(n as u8 ^ 0x5a);
        byte
    })
}

/// Makes the key file, byte by byte, so that its content is never in memory as a whole.
fn make_key_file(path: &Path) {
    let mut file = File::create(path).unwrap();
    for byte in inverse() {
        file.write_all(&[!byte]).unwrap();
    }
}

/// Returns the mappings of a process in which the inverse of these bytes is: so the search itself
/// does not put them into memory.
fn mappings_with(process: u32, inverse: &[u8]) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| !line.contains("[v")) {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        // A page may have gone meanwhile.
        let Ok(()) = memory.read_exact_at(&mut bytes, start) else {
            continue;
        };
        let is_found = bytes.windows(inverse.len()).any(|part| {
            let mut pairs = part.iter().zip(inverse);
            pairs.all(|(byte, inverse)| *byte == !inverse)
        });
        if is_found {
            found.push(line.to_owned());
        }
    }
    found
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

/// The content of a key file is needed for the plan only. After that it is in no process of the
/// pipe, neither on a heap nor on a stack.
pub(crate) fn key_file_is_in_no_process_of_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key");
    make_key_file(&key_file);
    let own = std::process::id();
    let secret = Secret::Key(Key::from_file(&key_file).unwrap());
    assert!(
        !mappings_with(own, &inverse()).is_empty(),
        "the search finds a key"
    );
    let archive = ArchiveOptions::stream("keys")
        .block_len(BLOCK)
        .encrypt(secret)
        .plan()
        .unwrap();
    let found = mappings_with(own, &inverse());
    assert!(
        found.is_empty(),
        "after the plan, the key file's bytes: {found:?}"
    );
    let archive = archive
        .map_seal(|seal| seal.in_processes())
        .map_tail(|tail| tail.in_processes());
    let enough = Arc::new(AtomicBool::new(false));
    let builder = Pipe::builder()
        .buffer_size(BLOCK)
        .head(Endless(Arc::clone(&enough)))
        .stage(analyze().in_processes())
        .stage(zstd(3).in_processes());
    let pipe = builder
        .archive(archive, create_tape(&dir.path().join("tape")))
        .start()
        .unwrap();
    wait_until("the tail works", || {
        let status = pipe.status();
        status.stages.last().unwrap().instances[0].blocks_in > 3
    });
    let status = pipe.status();
    let mut looked_at = 0;
    for stage in &status.stages {
        let process = stage.instances[0].process;
        if process == 0 || process == std::process::id() {
            continue;
        }
        looked_at += 1;
        let found = mappings_with(process, &inverse());
        assert!(
            found.is_empty(),
            "{}: the key file's bytes: {found:?}",
            stage.name
        );
    }
    assert!(looked_at >= 4, "analyze, zstd, seal and tail: {status}");
    enough.store(true, Ordering::SeqCst);
    pipe.wait().unwrap();
}
