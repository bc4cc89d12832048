//! A search for keys in the memory of processes. A process that searches has the keys in its own
//! memory, so a process that is searched must be another one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes of a mapping that are read at once.
const PIECE: usize = 4 << 20;

/// Keys with their names.
pub(crate) struct Keys(pub(crate) Vec<(String, Vec<u8>)>);

/// End of the name of a mapping that a core dump has.
pub(crate) const IN_DUMPS: &str = ", in dumps";

/// A mapping of a process.
struct Mapping {
    start: u64,
    end: u64,
    name: String,
}

impl Keys {
    /// Returns the names of the keys that are in the memory of a process, with the mappings that
    /// have them; those that a core dump of the process would have end with [`IN_DUMPS`]. A dump
    /// has the registers of the threads, too. The round keys of AES-256 begin with the two halves
    /// of its key, so half a key counts, too.
    pub(crate) fn find_in(&self, process: u32) -> BTreeSet<(String, String)> {
        let maps = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
        if maps.is_empty() {
            // It has ended, and is not waited for yet.
            return BTreeSet::new();
        }
        let memory = File::open(format!("/proc/{process}/mem")).unwrap();
        let mut found = BTreeSet::new();
        for Mapping { start, end, name } in mappings(&maps) {
            for key in self.in_range(&memory, start, end) {
                found.insert((key, name.clone()));
            }
        }
        found
    }

    /// Returns the names of the keys that are in a file: a core dump, with its registers.
    #[allow(dead_code, reason = "not every target makes dumps")]
    pub(crate) fn find_in_file(&self, path: &Path) -> BTreeSet<String> {
        let file = File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        self.in_range(&file, 0, len)
    }

    fn in_range(&self, memory: &File, start: u64, end: u64) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut bytes = vec![0; PIECE + 64];
        for at in (start..end).step_by(PIECE) {
            let len = (bytes.len() as u64).min(end - at) as usize;
            // A page may have gone meanwhile.
            let Ok(()) = memory.read_exact_at(&mut bytes[..len], at) else {
                continue;
            };
            self.in_bytes(&bytes[..len], &mut found);
        }
        found
    }

    fn in_bytes(&self, bytes: &[u8], found: &mut BTreeSet<String>) {
        let mut parts = Vec::new();
        for (name, key) in &self.0 {
            let half = if key.len() == 32 { 16 } else { key.len() };
            parts.extend(key.chunks(half).map(|part| (name, part)));
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return;
        }
        // Of other bytes, few begin as a key does.
        let mut begins = vec![false; 1 << 16];
        let pair = |bytes: &[u8]| usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        for (_, part) in &parts {
            begins[pair(part)] = true;
        }
        let mut at = 0;
        while let Some(next) = bytes[at..].windows(2).position(|two| begins[pair(two)]) {
            let rest = &bytes[at + next..];
            for (name, part) in &parts {
                if rest.starts_with(part) {
                    found.insert((*name).clone());
                }
            }
            at += next + 1;
        }
    }
}

/// Mappings that can have keys, from the content of `smaps`.
fn mappings(maps: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    let mut is_searched = false;
    for line in maps.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if words[0] == "VmFlags:" && is_searched {
            let is_left_out = words.contains(&"dd");
            let end = if is_left_out { "" } else { IN_DUMPS };
            mappings.last_mut().unwrap().name += end;
        }
        if words[0].ends_with(':') {
            continue;
        }
        let is_file = words[4] != "0" && !words[1].contains('w');
        is_searched = !is_file && words[1].starts_with('r') && !line.contains("[v");
        if is_searched {
            let (start, end) = words[0].split_once('-').unwrap();
            let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
            mappings.push(Mapping {
                start,
                end,
                name: words.get(5).copied().unwrap_or("anonymous").to_owned(),
            });
        }
    }
    mappings
}
