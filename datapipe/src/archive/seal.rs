//! Stages that encrypt and decrypt blocks, in place and in parallel. `docs/wire-format.md`,
//! "Encryption".
//!
//! If the process that seals a block is killed, the block is sealed a second time. It is the same
//! block with the same number, so its nonce seals nothing new.

use std::sync::Arc;

use crate::crypto::{Cipher, TAG_LEN, nonce};
use crate::error::StageError;
use crate::limits::FIRST_BLOCK;
use crate::memory::Number;
use crate::pool::{Block, BlockInfo, Codec, Marks};
use crate::stage::{DamageLog, InPlace, MiddleStage, SALVAGE, Stage, Verdict};
use crate::wire::BlockKind;

use super::arguments::{OPEN_MODULE, SEAL_MODULE, key_arguments};
use super::block_header::{check_info, unit_header};
use super::key::ArchiveKey;
use super::origin::ArchiveOrigin;
use super::write::check_tree_number;

/// Returns the stage that encrypts.
pub(super) fn seal_stage<'a>(key: ArchiveKey) -> MiddleStage<'a> {
    let arguments = key_arguments(&key);
    Stage::in_place("aes-256-gcm", move |_| Seal(Arc::clone(key.cipher())))
        .keep_blocks()
        .module(SEAL_MODULE, arguments)
}

/// The information about block 0, which has the archive's origin.
pub(super) fn origin_info(is_sealed: bool) -> BlockInfo {
    BlockInfo {
        kind: BlockKind::Special.code(),
        sealed: is_sealed,
        sequence: Some(0),
        ..BlockInfo::default()
    }
}

/// Returns block 0 of an archive as it is stored: encrypted, if the archive has a key.
///
/// # Errors
///
/// If no archive can have such a block.
pub(super) fn origin_block(
    origin: &ArchiveOrigin,
    key: Option<&ArchiveKey>,
) -> Result<Vec<u8>, StageError> {
    let mut block = origin.to_special().to_block();
    if let Some(key) = key {
        let header = unit_header(0, &origin_info(true), block.len())?;
        let covered = header.associated_data();
        let tag = key.cipher().seal(&nonce(0), &covered, &mut block)?;
        block.extend_from_slice(&tag);
    }
    Ok(block)
}

/// Returns the stage that decrypts. A block that does not authenticate ends the pipe. With a log it
/// is reported there instead, and travels on without its content.
pub(super) fn open_stage<'a>(key: ArchiveKey, log: Option<DamageLog>) -> MiddleStage<'a> {
    let arguments = key_arguments(&key).with_flag(SALVAGE, log.is_some());
    let callers_log = log.clone();
    let stage = Stage::in_place("aes-256-gcm-open", move |_| Open {
        cipher: Arc::clone(key.cipher()),
        log: log.clone(),
    })
    .keep_blocks()
    .module(OPEN_MODULE, arguments);
    match callers_log {
        Some(log) => stage.mirrored(&log),
        None => stage,
    }
}

struct Seal(Arc<Cipher>);

impl InPlace for Seal {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        let number = archive_number(block.number());
        if info.sealed {
            // Sealing it again under the same key and nonce would expose the key stream.
            return Err(StageError::new(format!(
                "block {number} is encrypted already"
            )));
        }
        check_info(number, &info)?;
        if info.entries && !info.is_control() {
            check_tree_number(&info, number)?;
        }
        // What leaves in clear says no more of the content than a reader needs to open it.
        info = BlockInfo {
            plain_len: info.plain_len,
            codec: info.codec,
            marks: info.marks,
            kind: info.kind,
            lane: info.lane,
            entries: info.entries,
            sealed: true,
            sequence: Some(number),
            ..BlockInfo::default()
        };
        let header = unit_header(number, &info, block.len())?;
        let nonce = nonce(number);
        let tag = self
            .0
            .seal(&nonce, &header.associated_data(), block.bytes_mut())?;
        let room = block.grow(TAG_LEN).map_err(|no_room| {
            StageError::new(format!(
                "encryption needs {TAG_LEN} bytes of tailroom in every buffer: {no_room}"
            ))
        })?;
        room.copy_from_slice(&tag);
        block.set_info(info);
        // Several instances do this at once, and the data are in the cache; the tail has one.
        block.set_checksum(crc32fast::hash(block.bytes()));
        Ok(Verdict::Send)
    }

    fn takes_control_blocks(&self) -> bool {
        true
    }

    /// Fails: a reader counts the blocks that it gets, so a gap in the numbers would look like a
    /// loss.
    fn on_vacant(&mut self, number: Number) -> Result<(), StageError> {
        let number = archive_number(number);
        Err(StageError::new(format!(
            "block {number} was dropped before encryption, which numbers blocks without gaps: add \
             the archive to the pipe with PipeBuilder::archive, or put a loop over a port between, \
             which numbers blocks anew"
        )))
    }
}

/// Number in the archive of a block that the stage receives at `position`: the origin is block 0.
fn archive_number(position: Number) -> u64 {
    position.get().saturating_add(FIRST_BLOCK)
}

struct Open {
    cipher: Arc<Cipher>,
    log: Option<DamageLog>,
}

impl InPlace for Open {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        // A last block without a number is that of this pipe, which may end with another archive.
        let is_own = info.marks.contains(Marks::LAST) && info.sequence.is_none();
        if info.marks.contains(Marks::DAMAGED) || is_own {
            return Ok(Verdict::Send);
        }
        let number = block.archive_number();
        let opened = self.open(block, number, &info);
        info.sealed = false;
        if let Err(why) = opened {
            let Some(log) = &self.log else {
                return Err(StageError::new(format!("block {number}: {why}")));
            };
            log.report(number, why);
            block.clear();
            (info.marks, info.codec) = (info.marks | Marks::DAMAGED, Codec::NONE);
        }
        block.set_info(info);
        Ok(Verdict::Send)
    }

    fn takes_control_blocks(&self) -> bool {
        true
    }
}

impl Open {
    /// Decrypts the block and removes its tag.
    ///
    /// # Errors
    ///
    /// The defect of the block. Its content is then undefined.
    fn open(&self, block: &mut Block, number: u64, info: &BlockInfo) -> Result<(), &'static str> {
        let data = block.len().checked_sub(TAG_LEN).filter(|_| info.sealed);
        let Some(data) = data else {
            return Err("is not encrypted, although a key was given");
        };
        let header =
            unit_header(number, info, data).map_err(|_| "cannot be a block of an archive")?;
        let mut tag = [0; TAG_LEN];
        block.shared().copy_to(data, &mut tag);
        block.truncate(data);
        let nonce = nonce(number);
        self.cipher
            .open(&nonce, &header.associated_data(), block.bytes_mut(), &tag)
            .map_err(|_| "does not authenticate: it is damaged, or another block was put here")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::sync::Mutex;

    use super::*;
    use crate::controller::Pipe;
    use crate::crypto::SubKey;
    use crate::stage::{StreamHead, StreamTail};

    /// Compares the checksum of each block with its bytes, and counts the blocks.
    struct Compare(Arc<Mutex<u32>>);

    impl InPlace for Compare {
        fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
            let (data, tag) = block.bytes().split_last_chunk::<TAG_LEN>().unwrap();
            let covered = unit_header(block.info().sequence.unwrap(), &block.info(), data.len())?;
            let nonce = nonce(block.info().sequence.unwrap());
            let mut data = data.to_vec();
            let opened = cipher().open(&nonce, &covered.associated_data(), &mut data, tag);
            assert!(opened.is_ok(), "the tag is not at the end");
            assert_eq!(block.checksum(), Some(crc32fast::hash(block.bytes())));
            *self.0.lock().unwrap() += 1;
            Ok(Verdict::Send)
        }
    }

    fn cipher() -> Arc<Cipher> {
        Arc::new(Cipher::new(&SubKey::from_slice(&[7; 32]).unwrap()))
    }

    /// The tail writes the checksum of a block beside the data and the tag.
    #[test]
    fn checksum_of_an_encrypted_block_is_that_of_its_data_and_tag() {
        let count = Arc::new(Mutex::new(0));
        let compared = Arc::clone(&count);
        Pipe::builder()
            .tailroom(TAG_LEN as u32)
            .buffer_size(1000)
            .head(StreamHead::new(&[9; 3500][..]))
            .stage(Stage::in_place("seal", |_| Seal(cipher())))
            .stage(Stage::in_place("compare", move |_| {
                Compare(Arc::clone(&compared))
            }))
            .tail(StreamTail::new(std::io::sink()))
            .run()
            .unwrap();
        assert_eq!(*count.lock().unwrap(), 4);
    }
}
