//! Puts entries into blocks: whole, or in pieces if they are longer than a block.

use crate::pool::Block;
use crate::wire::{Entry, next_piece};

/// Outcome of writing an entry, or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Written,
    /// The block is full: the entry, or the rest of it, belongs to the next one.
    BlockFull,
    /// The format cannot have the object.
    Refused,
}

/// Puts an entry into a block if it fits. One that is longer than a block is put into empty blocks
/// piece by piece, each of which fills its block: then it is `BlockFull` until the last piece, and
/// the next call continues. `buf` contains the encoded entry afterwards in any case.
///
/// # Errors
///
/// The reason why the format cannot represent the entry.
pub(super) fn put(
    buf: &mut Vec<u8>,
    written: &mut Option<usize>,
    entry: &Entry<'_>,
    block: &mut Block,
) -> Result<Put, String> {
    if written.is_none() {
        buf.clear();
        entry.append_to(buf).map_err(|error| error.to_string())?;
    }
    Ok(put_encoded(buf, written, block))
}

/// Puts an encoded entry, or the next piece of it, into a block. `written` is the number of bytes
/// of its body that are in pieces already, or `None` before the first and after the last.
pub(super) fn put_encoded(entry: &[u8], written: &mut Option<usize>, block: &mut Block) -> Put {
    if written.is_none() && entry.len() <= block.capacity() {
        return match block.put(entry) {
            Ok(()) => Put::Written,
            Err(_) => Put::BlockFull,
        };
    }
    if !block.is_empty() {
        return Put::BlockFull; // each piece begins a block
    }
    let before = written.take().unwrap_or(0);
    let Some((header, body)) = next_piece(entry, before, block.capacity()) else {
        return Put::Written;
    };
    let (after, is_last) = (before + body.len(), body.end == entry.len());
    if block.put(&header).is_err() || block.put(&entry[body]).is_err() {
        return Put::BlockFull;
    }
    if is_last {
        return Put::Written;
    }
    *written = Some(after);
    Put::BlockFull
}
