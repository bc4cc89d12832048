//! Unit headers of blocks, from and to [`BlockInfo`].
//!
//! The writer, the stage that seals and the stage that opens make the header of a block
//! independently of each other, and all three must come to the same bytes: encryption authenticates
//! them.

use crate::crypto::TAG_LEN;
use crate::error::StageError;
use crate::limits::MAX_BUFFER_SIZE;
use crate::pool::{BlockInfo, Codec, Marks};
use crate::wire::{BlockKind, CipherKind, MAX_STORED, UnitHeader, UnitKind};

/// [`TAG_LEN`] as the type of a unit's lengths.
pub(super) const TAG_LEN_U32: u32 = TAG_LEN as u32;

// The format's own constant: `wire` does not depend on `crypto`.
const _: () = assert!(MAX_STORED == MAX_BUFFER_SIZE + TAG_LEN_U32);

/// Returns the header of block `number`, without the fields that the writer of the stream fills in.
/// `len` is the length of the block's data in bytes, without the tag.
///
/// # Errors
///
/// If no archive can have such a block.
pub(super) fn unit_header(
    number: u64,
    info: &BlockInfo,
    len: usize,
) -> Result<UnitHeader, StageError> {
    let Some(data) = u32::try_from(len)
        .ok()
        .filter(|&data| data <= MAX_BUFFER_SIZE)
    else {
        return Err(StageError::new(format!(
            "block {number} has {len} bytes, but a block of an archive has at most \
             {MAX_BUFFER_SIZE}"
        )));
    };
    let is_rejected = info.marks.contains(Marks::REJECTED);
    if is_rejected && (data != 0 || info.codec != Codec::NONE) {
        return Err(StageError::new(format!(
            "block {number} is rejected, but has content: clear a block that you reject"
        )));
    }
    let Some(block_kind) = BlockKind::from_code(info.kind) else {
        return Err(StageError::new(format!(
            "block {number} is of unknown kind {}",
            info.kind
        )));
    };
    let (cipher, tag) = if info.sealed {
        (CipherKind::Aes256Gcm, TAG_LEN_U32)
    } else {
        (CipherKind::None, 0)
    };
    let header = UnitHeader {
        marks: info.marks & (Marks::MARKED | Marks::REJECTED | Marks::LAST),
        number,
        offset: info.offset,
        // A rejected block keeps the length that it had: its place in the stream.
        plain: if info.codec == Codec::NONE && !is_rejected {
            data
        } else {
            info.plain_len
        },
        stored: data + tag,
        codec: info.codec,
        cipher,
        class: info.class,
        block_kind,
        ..UnitHeader::new(UnitKind::Block)
    };
    // A reader refuses such a header, so the archive could not be read.
    header.check_lengths().map_err(|error| {
        StageError::new(format!(
            "block {number}: {error}: a stage that sets BlockInfo::codec sets plain_len, too, to \
             the length before compression"
        ))
    })?;
    Ok(header)
}

/// Checks the information of block `number`, which is about to enter an archive: this version
/// writes no code, and no mark, that its readers do not know.
///
/// # Errors
///
/// Names the value, and the remedy.
pub(super) fn check_info(number: u64, info: &BlockInfo) -> Result<(), StageError> {
    let unknown = info.marks.unknown();
    let what = if !unknown.is_empty() {
        format!(
            "has the unknown marks {:#04x}: set marks that have a name",
            unknown.0
        )
    } else if info.kind > BlockKind::Checkpoint.code() {
        format!(
            "is of unknown kind {}: leave BlockInfo::kind at 0",
            info.kind
        )
    } else if info.marks.contains(Marks::LAST) && info.kind != BlockKind::Data.code() {
        format!(
            "has the mark of the last block, and is of kind {}: the library sends the last block",
            info.kind
        )
    } else if info.kind >= BlockKind::Special.code() && info.codec != Codec::NONE {
        format!(
            "is of kind {}, and compressed: readers see such blocks before they are decompressed",
            info.kind
        )
    } else if info.form != 0 {
        format!(
            "has the unknown form {}: leave BlockInfo::form at 0",
            info.form
        )
    } else if info.lane != 0 {
        format!(
            "has the unknown lane {}: leave BlockInfo::lane at 0",
            info.lane
        )
    } else if !info.class.is_known() {
        format!(
            "has the unknown content class {}: use one that has a name",
            info.class.0
        )
    } else if ![Codec::NONE, Codec::ZSTD, Codec::DEFLATE].contains(&info.codec) {
        format!(
            "is compressed by {}, which no reader knows: an archive has blocks of zstd and \
             deflate; leave BlockInfo::codec at NONE for a compression of your own",
            info.codec
        )
    } else {
        return Ok(());
    };
    Err(StageError::new(format!("block {number} {what}")))
}

/// Returns the info with which a block that was read enters the pipe. `entries` is true in an
/// archive of a tree.
pub(super) fn block_info(header: &UnitHeader, entries: bool) -> BlockInfo {
    BlockInfo {
        offset: header.offset,
        plain_len: if header.codec == Codec::NONE && !header.marks.contains(Marks::REJECTED) {
            0
        } else {
            header.plain
        },
        codec: header.codec,
        class: header.class,
        sealed: header.cipher != CipherKind::None,
        sequence: Some(header.number),
        marks: header.marks,
        kind: header.block_kind.code(),
        entries,
        ..BlockInfo::default()
    }
}
