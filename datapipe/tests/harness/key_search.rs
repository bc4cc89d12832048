//! A search for keys in the memory of processes. A process that searches has the keys in its own
//! memory, so a process that is searched must be another one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

/// Bytes of a mapping that are read at once.
const PIECE: usize = 4 << 20;

/// Keys with their names.
pub(crate) struct Keys(pub(crate) Vec<(String, Vec<u8>)>);

impl Keys {
    /// Returns the names of the keys that are in the memory of a process, with the mappings that
    /// have them. The round keys of AES-256 begin with the two halves of its key, so half a key
    /// counts, too.
    pub(crate) fn find_in(&self, process: u32) -> BTreeSet<(String, String)> {
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
        if maps.is_empty() {
            // It has ended, and is not waited for yet.
            return BTreeSet::new();
        }
        let memory = File::open(format!("/proc/{process}/mem")).unwrap();
        let mut found = BTreeSet::new();
        for line in maps.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let is_file = words[4] != "0" && !words[1].contains('w');
            if is_file || !words[1].starts_with('r') || line.contains("[v") {
                continue;
            }
            let (start, end) = words[0].split_once('-').unwrap();
            let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
            let name = words.get(5).copied().unwrap_or("anonymous");
            for key in self.in_range(&memory, start, end) {
                found.insert((key, name.to_owned()));
            }
        }
        found
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
