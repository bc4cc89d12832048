//! What a block's header says, for those who write, seal and open it: all three must come to the
//! same bytes.

use crate::error::StageError;
use crate::limits::MAX_BUFFER_SIZE;
use crate::pool::{Block, BlockInfo, Codec, Marks};
use crate::wire::{BlockKind, CipherKind, UnitHeader, UnitKind};

/// Bytes that sealing adds to a block, behind the data.
pub(super) const TAG_LEN: usize = 16;

/// The header of block `number`, but for what the writer of the stream fills in. `data`: bytes of
/// the block without the tag.
pub(super) fn header_of(
    number: u64,
    info: &BlockInfo,
    data: usize,
) -> Result<UnitHeader, StageError> {
    let data = u32::try_from(data)
        .ok()
        .filter(|&len| len <= MAX_BUFFER_SIZE);
    let data =
        data.ok_or_else(|| StageError::new(format!("block {number} is too long for an archive")))?;
    if info.marks.contains(Marks::REJECTED) && (data != 0 || info.codec != Codec::NONE) {
        let why =
            format!("block {number} is rejected, but has content: clear a block that you reject");
        return Err(StageError::new(why));
    }
    let Some(what) = BlockKind::from_code(info.kind) else {
        return Err(StageError::new(format!(
            "block {number} is of unknown kind {}",
            info.kind
        )));
    };
    let (cipher, tag) = if info.sealed {
        (CipherKind::Aes256Gcm, TAG_LEN as u32)
    } else {
        (CipherKind::None, 0)
    };
    Ok(UnitHeader {
        marks: Marks(info.marks.0 & (Marks::MARKED.0 | Marks::REJECTED.0)),
        number,
        offset: info.offset,
        plain: if info.codec == Codec::NONE {
            data
        } else {
            info.plain_len
        },
        stored: data + tag,
        codec: info.codec,
        cipher,
        class: info.class,
        block_kind: what,
        ..UnitHeader::new(UnitKind::Block)
    })
}

/// What the stages are to know of a block that was read.
pub(super) fn info_of(header: &UnitHeader) -> BlockInfo {
    BlockInfo {
        offset: header.offset,
        plain_len: if header.codec == Codec::NONE {
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
        ..BlockInfo::default()
    }
}

/// A block's number in its archive: what the reader said, or its place in the stream.
pub(super) fn number_of(block: &Block, info: &BlockInfo) -> u64 {
    info.sequence.unwrap_or_else(|| block.number())
}
