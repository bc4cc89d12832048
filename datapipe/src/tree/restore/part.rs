//! What is wanted of an archive, and how another process learns of it.
//!
//! What of it can be long lies in a file without a name: how many runs of blocks there are, in 32
//! bits, and each in two times 64 bits; then, up to the end, objects with other names: each in 64
//! bits, and its path behind its length.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::archive::BlockSet;
use crate::error::StageError;
use crate::limits::{MAX_BLOCK_RUNS, MAX_RESTORE_MEMORY};
use crate::tree::notes::{put_bytes, take_bytes};
use crate::tree::selection::Selection;
use crate::wire::codec::{Bytes, DecodeError, Put, len_u32};

/// What is wanted of an archive.
#[derive(Debug)]
pub(in crate::tree) struct Part {
    pub(in crate::tree) selection: Selection,
    /// The blocks that have it, and only they come; none if all blocks come.
    pub(super) blocks: Option<BlockSet>,
    /// Objects that are restored under another name, because their own is not wanted.
    pub(super) called: BTreeMap<u64, Vec<u8>>,
}

/// Longest file: more than that is not found.
const LONGEST: u64 = MAX_RESTORE_MEMORY as u64;

impl Part {
    /// Of all blocks.
    pub(in crate::tree) fn everything(selection: Selection) -> Self {
        Self {
            selection,
            blocks: None,
            called: BTreeMap::new(),
        }
    }

    /// A file with what is wanted beside the selection; none if all blocks come.
    pub(in crate::tree) fn to_file(&self) -> io::Result<Option<File>> {
        let Some(blocks) = &self.blocks else {
            return Ok(None);
        };
        let file = File::from(memfd_create("datapipe-part", MemfdFlags::CLOEXEC)?);
        file.write_all_at(&encode(blocks, &self.called), 0)?;
        Ok(Some(file))
    }

    /// What is wanted beside a selection, as [`to_file`](Self::to_file) has written it.
    pub(in crate::tree) fn of_file(selection: Selection, file: &File) -> Result<Self, StageError> {
        let len = file.metadata()?.len();
        if len > LONGEST {
            return Err(StageError::new(format!(
                "the file that says which part to restore has {len} bytes, more than {LONGEST}"
            )));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let (blocks, called) = decode(&bytes)?;
        Ok(Self {
            selection,
            blocks: Some(blocks),
            called,
        })
    }
}

fn encode(blocks: &BlockSet, called: &BTreeMap<u64, Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u32(len_u32(blocks.runs().count()));
    for (first, last) in blocks.runs() {
        bytes.put_u64(first);
        bytes.put_u64(last);
    }
    for (object, path) in called {
        bytes.put_u64(*object);
        put_bytes(&mut bytes, path);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Result<(BlockSet, BTreeMap<u64, Vec<u8>>), DecodeError> {
    let mut bytes = Bytes::new("the part to restore", bytes);
    let (runs, mut blocks, mut called) = (bytes.u32()?, BlockSet::new(), BTreeMap::new());
    if runs as usize > MAX_BLOCK_RUNS {
        return Err(bytes.error(format!(
            "has {runs} runs of blocks, more than {MAX_BLOCK_RUNS}"
        )));
    }
    for _ in 0..runs {
        let (first, last) = (bytes.u64()?, bytes.u64()?);
        if first > last {
            return Err(bytes.error(format!(
                "has a run of blocks that ends before it begins: {first} to {last}"
            )));
        }
        blocks.insert(first, last);
    }
    while !bytes.rest().is_empty() {
        let object = bytes.u64()?;
        called.insert(object, take_bytes(&mut bytes)?.to_vec());
    }
    Ok((blocks, called))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn part() -> Part {
        let mut blocks = BlockSet::new();
        blocks.insert(3, 9);
        blocks.insert(1 << 40, u64::MAX);
        let called = BTreeMap::from([(1, b"a/\xff".to_vec()), (u64::MAX, vec![b'x'; 100_000])]);
        Part {
            selection: Selection::new(&[]),
            blocks: Some(blocks),
            called,
        }
    }

    #[test]
    fn a_file_has_all_of_it() {
        let file = part().to_file().unwrap().unwrap();
        let back = Part::of_file(Selection::new(&[]), &file).unwrap();
        assert_eq!(
            (&back.blocks, &back.called),
            (&part().blocks, &part().called)
        );
        assert!(
            Part::everything(Selection::new(&[]))
                .to_file()
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn files_that_are_cut_longer_or_nonsense_are_refused() {
        let small = Part {
            called: BTreeMap::from([(1, b"a".to_vec())]),
            ..part()
        };
        let whole = encode(small.blocks.as_ref().unwrap(), &small.called);
        let behind_the_runs = 4 + 2 * 16;
        for len in (0..whole.len()).filter(|len| *len != behind_the_runs) {
            assert!(
                decode(&whole[..len]).is_err(),
                "{len} of {} bytes",
                whole.len()
            );
        }
        let refused = |bytes: &[u8], why: &str| {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(
            &u32::MAX.to_le_bytes(),
            "4294967295 runs of blocks, more than 65536",
        );
        refused(
            &[&[1, 0, 0, 0][..], &[2; 8], &[1; 8]].concat(),
            "ends before it begins",
        );
        let file = tempfile::tempfile().unwrap();
        file.set_len(LONGEST + 1).unwrap();
        let error = Part::of_file(Selection::new(&[]), &file)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("33554433 bytes, more than 33554432"),
            "{error}"
        );
    }
}
