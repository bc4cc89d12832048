//! Encrypts and decrypts blocks, in place and in parallel. `docs/wire-format.md`, "Encryption".
//!
//! A block that is sealed a second time, because the process was killed that sealed it first, is
//! the same block with the same number: so its nonce seals nothing new.

use std::sync::Arc;

use crate::crypto::{Cipher, NonceKind, SubKey, nonce};
use crate::error::StageError;
use crate::pool::{Block, Codec, Marks};
use crate::stage::{DamageLog, InPlace, MiddleStage, SALVAGE, Stage, Verdict};

use super::block_header::{TAG_LEN, header_of, number_of};
use super::modules;

/// The key of an archive, and the cipher that it makes. Clones share it.
#[derive(Clone)]
pub(super) struct ArchiveKey {
    cipher: Arc<Cipher>,
    /// For stages in other processes, which make the cipher anew.
    key: SubKey,
}

impl ArchiveKey {
    pub(super) fn new(key: SubKey) -> Self {
        Self {
            cipher: Arc::new(Cipher::new(&key)),
            key,
        }
    }

    pub(super) fn cipher(&self) -> &Cipher {
        &self.cipher
    }

    pub(super) fn key(&self) -> &SubKey {
        &self.key
    }
}

/// The stage that encrypts.
pub(in crate::archive) fn sealing<'a>(key: ArchiveKey) -> MiddleStage<'a> {
    let arguments = modules::key_arguments(&key);
    let stage = Stage::in_place("aes-256-gcm", move |_| Seal(Arc::clone(&key.cipher)));
    stage.module(modules::SEAL_MODULE, arguments)
}

/// The stage that decrypts. What does not authenticate ends the pipe, or, with a log, is reported
/// there and travels on without its content.
pub(super) fn opening<'a>(key: ArchiveKey, log: Option<DamageLog>) -> MiddleStage<'a> {
    let arguments = modules::key_arguments(&key).with_flag(SALVAGE, log.is_some());
    let heard = log.clone();
    let opening = move |_| Open {
        cipher: Arc::clone(&key.cipher),
        log: log.clone(),
    };
    let stage =
        Stage::in_place("aes-256-gcm-open", opening).module(modules::OPEN_MODULE, arguments);
    match heard {
        Some(log) => stage.notes(move |data| log.hear(data)),
        None => stage,
    }
}

struct Seal(Arc<Cipher>);

impl InPlace for Seal {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        let number = block.number();
        if info.sealed {
            // A second time under the same key and nonce would lay the first key stream bare.
            return Err(StageError::new(format!(
                "block {number} is encrypted already"
            )));
        }
        (info.sealed, info.sequence) = (true, Some(number));
        let header = header_of(number, &info, block.len())?;
        let nonce = nonce(number, NonceKind::Block);
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
        Ok(Verdict::Send)
    }

    /// A reader counts the blocks that it gets, so a gap would look like a loss.
    fn missed(&mut self, number: u64) -> Result<(), StageError> {
        Err(StageError::new(format!(
            "block {number} was dropped before encryption, which numbers blocks without gaps; drop blocks behind it, \
             or put a loop over a port between, behind which numbers begin anew"
        )))
    }
}

struct Open {
    cipher: Arc<Cipher>,
    log: Option<DamageLog>,
}

impl InPlace for Open {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        if info.marks.contains(Marks::DAMAGED) {
            return Ok(Verdict::Send);
        }
        let number = number_of(block, &info);
        let opened = self.open(block, number);
        info.sealed = false;
        if let Err(why) = opened {
            let Some(log) = &self.log else {
                return Err(StageError::new(format!("block {number}: {why}")));
            };
            log.report(number, why);
            block.clear();
            (info.marks, info.codec) = (info.marks.with(Marks::DAMAGED), Codec::NONE);
        }
        block.set_info(info);
        Ok(Verdict::Send)
    }
}

impl Open {
    /// Decrypts the block, or says what is wrong with it.
    fn open(&self, block: &mut Block, number: u64) -> Result<(), &'static str> {
        let info = block.info();
        let data = block.len().checked_sub(TAG_LEN).filter(|_| info.sealed);
        let Some(data) = data else {
            return Err("is not encrypted, although a key was given");
        };
        let header = header_of(number, &info, data).map_err(|_| "is no block of an archive")?;
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&block.bytes()[data..]);
        block.truncate(data);
        let nonce = nonce(number, NonceKind::Block);
        let opened = self
            .cipher
            .open(&nonce, &header.associated_data(), block.bytes_mut(), &tag);
        opened.map_err(
            |_| "does not authenticate: it is damaged, or is not the block that stood here",
        )
    }
}
