//! Scope of a restore: the paths, blocks and renames, and the file that passes them to another
//! process.
//!
//! The selected paths are arguments of the module. The rest can be long and is in a file without a
//! name, all integers little-endian:
//!
//! ```text
//!   runs u32 | runs x [first u64 | last u64]
//!   owners u32 | owners x [kind u8 | id u32 | len u32 | name]
//!   up to the end: [object u64 | path_len u32 | path]
//! ```
//!
//! [`ALL_BLOCKS`] instead of the number of runs says that the tail receives all blocks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::archive::BlockSet;
use crate::error::StageError;
use crate::limits::{MAX_BLOCK_RUNS, MAX_RESTORE_MEMORY};
use crate::tree::select::{ArchivedOwners, FoundPart, Selection};
use crate::wire::OwnerKind;
use crate::wire::codec::{Bytes, DecodeError, Put, len_u32};

/// Paths by object number: the objects that are restored under another of their names, because
/// their first name is not selected.
pub(super) type Renames = BTreeMap<u64, Vec<u8>>;

/// The objects that a restore takes from the blocks it receives.
#[derive(Debug)]
pub(in crate::tree) struct RestoreScope {
    pub(in crate::tree) selection: Selection,
    /// The blocks that the tail receives, and no others. `None` if it receives all blocks.
    pub(super) blocks: Option<BlockSet>,
    pub(super) renames: Renames,
    /// Names of owners that are known before the first block comes.
    pub(super) owners: ArchivedOwners,
}

/// Number of runs in the file of a tail that receives all blocks.
const ALL_BLOCKS: u32 = u32::MAX;

/// Limit of the file's length, in bytes. A query finds no more than that.
const MAX_FILE_LEN: u64 = MAX_RESTORE_MEMORY as u64;

impl RestoreScope {
    /// Scope of a tail that receives all blocks.
    pub(in crate::tree) fn of_all_blocks(selection: Selection) -> Self {
        Self {
            selection,
            blocks: None,
            renames: Renames::new(),
            owners: ArchivedOwners::new(),
        }
    }

    /// Scope of a tail that receives what a query has found.
    pub(super) fn of_part(part: FoundPart) -> Self {
        Self {
            selection: part.selection,
            blocks: part.blocks,
            renames: part.renames,
            owners: part.owners,
        }
    }

    /// Writes everything but the selection to a file. Returns `None` if there is nothing else.
    pub(in crate::tree) fn to_file(&self) -> io::Result<Option<File>> {
        if self.blocks.is_none() && self.renames.is_empty() && self.owners.is_empty() {
            return Ok(None);
        }
        let file = File::from(memfd_create("datapipe-part", MemfdFlags::CLOEXEC)?);
        file.write_all_at(&self.encode(), 0)?;
        Ok(Some(file))
    }

    /// Reads the scope of `selection` from a file that [`to_file`](Self::to_file) has written.
    pub(in crate::tree) fn from_file(
        selection: Selection,
        file: &File,
    ) -> Result<Self, StageError> {
        let len = file.metadata()?.len();
        if len > MAX_FILE_LEN {
            return Err(StageError::new(format!(
                "the file of the restore scope has {len} bytes, more than {MAX_FILE_LEN}"
            )));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(decode(selection, &bytes)?)
    }

    fn encode(&self) -> Vec<u8> {
        let (mut bytes, blocks) = (Vec::new(), self.blocks.as_ref());
        bytes.put_u32(blocks.map_or(ALL_BLOCKS, |blocks| len_u32(blocks.runs().count())));
        for run in blocks.iter().flat_map(|blocks| blocks.runs()) {
            bytes.put_u64(*run.start());
            bytes.put_u64(*run.end());
        }
        bytes.put_u32(len_u32(self.owners.len()));
        for ((kind, id), name) in &self.owners {
            bytes.put_u8((*kind == OwnerKind::Group).into());
            bytes.put_u32(*id);
            bytes.put_prefixed(name);
        }
        for (object, path) in &self.renames {
            bytes.put_u64(*object);
            bytes.put_prefixed(path);
        }
        bytes
    }
}

fn decode(selection: Selection, bytes: &[u8]) -> Result<RestoreScope, DecodeError> {
    let mut bytes = Bytes::new("the restore scope", bytes);
    let (count, mut blocks, mut renames) = (bytes.u32()?, BlockSet::new(), Renames::new());
    let is_all = count == ALL_BLOCKS;
    let runs = if is_all { 0 } else { count };
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
        blocks.insert(first..=last);
    }
    let (count, mut owners) = (bytes.u32()?, ArchivedOwners::new());
    for _ in 0..count {
        let kind = match bytes.u8()? {
            0 => OwnerKind::User,
            1 => OwnerKind::Group,
            other => return Err(bytes.error(format!("an owner of unknown kind {other}"))),
        };
        let id = bytes.u32()?;
        owners.insert((kind, id), bytes.prefixed()?.to_vec());
    }
    while !bytes.rest().is_empty() {
        let object = bytes.u64()?;
        renames.insert(object, bytes.prefixed()?.to_vec());
    }
    Ok(RestoreScope {
        selection,
        blocks: (!is_all).then_some(blocks),
        renames,
        owners,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn scope() -> RestoreScope {
        let mut blocks = BlockSet::new();
        blocks.insert(3..=9);
        blocks.insert(1 << 40..=u64::MAX);
        let renames = Renames::from([(1, b"a/\xff".to_vec()), (u64::MAX, vec![b'x'; 100_000])]);
        RestoreScope {
            selection: Selection::new(&[]),
            blocks: Some(blocks),
            renames,
            owners: owners(),
        }
    }

    fn owners() -> ArchivedOwners {
        ArchivedOwners::from([
            ((OwnerKind::User, 1000), b"ada".to_vec()),
            ((OwnerKind::Group, u32::MAX), vec![0xff; 300]),
        ])
    }

    #[test]
    fn scope_survives_the_file() {
        let file = scope().to_file().unwrap().unwrap();
        let back = RestoreScope::from_file(Selection::new(&[]), &file).unwrap();
        assert_eq!(back.blocks, scope().blocks);
        assert_eq!((back.renames, back.owners), (scope().renames, owners()));
        let mut everything = RestoreScope::of_all_blocks(Selection::new(&[]));
        assert!(everything.to_file().unwrap().is_none());
        everything.renames = scope().renames;
        let file = everything.to_file().unwrap().unwrap();
        let back = RestoreScope::from_file(Selection::new(&[]), &file).unwrap();
        assert_eq!((back.blocks, back.renames), (None, scope().renames));
    }

    #[test]
    fn scope_files_that_are_truncated_too_long_or_invalid_are_rejected() {
        let small = RestoreScope {
            renames: Renames::from([(1, b"a".to_vec())]),
            ..scope()
        };
        let whole = small.encode();
        let decode = |bytes: &[u8]| decode(Selection::new(&[]), bytes);
        let end_of_owners = whole.len() - (8 + 4 + 1);
        for len in (0..whole.len()).filter(|len| *len != end_of_owners) {
            assert!(
                decode(&whole[..len]).is_err(),
                "{len} of {} bytes",
                whole.len()
            );
        }
        let rejected = |bytes: &[u8], why: &str| {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        rejected(
            &(u32::MAX - 1).to_le_bytes(),
            "4294967294 runs of blocks, more than 65536",
        );
        rejected(
            &[&[1, 0, 0, 0][..], &[2; 8], &[1; 8]].concat(),
            "ends before it begins",
        );
        let file = tempfile::tempfile().unwrap();
        file.set_len(MAX_FILE_LEN + 1).unwrap();
        let error = RestoreScope::from_file(Selection::new(&[]), &file)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("33554433 bytes, more than 33554432"),
            "{error}"
        );
    }
}
