//! A search for the keys of an archive in the memory of processes.
//!
//! The keys are derived from the normative page of the format, not by the library. A process that
//! searches has them in its own memory, so a process that is searched must be another one.

#![allow(dead_code, reason = "not every target searches for all keys")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use datapipe::wire::{ArchiveHeader, SessionHeader};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};

/// Bytes of a mapping that are read at once.
const PIECE: usize = 4 << 20;

/// Keys with their names: `secret`, the content of a key file or a passphrase; `slot`, what
/// Argon2id derives from a passphrase; `wrap`, the key of the slot's cipher; `data`, the session's
/// key; `archive`, the key that encrypts blocks.
pub(crate) struct Keys(Vec<(String, Vec<u8>)>);

fn derive(key: &[u8], salt: &[u8], info: &[&[u8]]) -> Vec<u8> {
    let mut derived = vec![0; 32];
    Hkdf::<Sha256>::new(Some(salt), key)
        .expand_multi_info(info, &mut derived)
        .unwrap();
    derived
}

impl Keys {
    /// Derives all keys of the archive with these headers, whose first slot is for this secret.
    pub(crate) fn derive(secret: &[u8], session: &SessionHeader, archive: &ArchiveHeader) -> Self {
        let slot = &session.slots[0];
        let number = |at: usize| u32::from_le_bytes(slot[at..at + 4].try_into().unwrap());
        let salt = &slot[16..48];
        let mut keys = vec![("secret".to_owned(), secret.to_vec())];
        let mut key = secret.to_vec();
        if slot[0] == 2 {
            let params = argon2::Params::new(number(4), number(8), number(12), Some(32)).unwrap();
            let mut memory = vec![argon2::Block::new(); params.block_count()];
            key = vec![0; 32];
            argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
                .hash_password_into_with_memory(secret, salt, &mut key, &mut memory)
                .unwrap();
            keys.push(("slot".to_owned(), key.clone()));
        }
        let check = derive(&key, salt, &[b"datapipe 1 key check"]);
        assert_eq!(check, slot[48..80], "the secret of the first slot");
        let wrap = derive(&key, salt, &[b"datapipe 1 key wrap"]);
        let cipher = aes_gcm::Aes256Gcm::new_from_slice(&wrap).unwrap();
        let mut data = slot[80..112].to_vec();
        let covered = [&session.id[..], &slot[..80]].concat();
        let tag: [u8; 16] = slot[112..].try_into().unwrap();
        cipher
            .decrypt_inout_detached(
                &[0; 12].into(),
                &covered,
                data.as_mut_slice().into(),
                &tag.into(),
            )
            .unwrap();
        let hash = Sha256::new()
            .chain_update(session.identity())
            .chain_update(archive.to_bytes())
            .finalize();
        let info: [&[u8]; 3] = [b"datapipe 1 archive key", &archive.id, &hash];
        let archive = derive(&data, &archive.salt, &info);
        keys.extend([
            ("wrap".to_owned(), wrap),
            ("data".to_owned(), data),
            ("archive".to_owned(), archive),
        ]);
        Self(keys)
    }

    /// Returns the names of the keys that are in the memory of a process, with the mappings that
    /// have them. The round keys of AES-256 begin with the two halves of its key, so half a key
    /// counts, too.
    pub(crate) fn find_in(&self, process: u32) -> BTreeSet<(String, String)> {
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
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
        let mut firsts = [false; 256];
        for (_, part) in &parts {
            firsts[usize::from(part[0])] = true;
        }
        let mut at = 0;
        while let Some(next) = bytes[at..].iter().position(|b| firsts[usize::from(*b)]) {
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
