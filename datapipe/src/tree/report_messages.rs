//! Framing of the messages by which a report in another process updates the caller's copy.
//!
//! ```text
//!   message --cut into pieces, each after a byte: do more follow?--> stage messages --> message
//! ```
//!
//! A message can have any length; a [`StageMessage`] cannot. A report sends only what changed since
//! its last message, so each message has an effect. This module does not interpret messages.

use parking_lot::Mutex;

use crate::host::StageMessage;
use crate::limits::{MAX_PROBLEM_BYTES, MAX_STAGE_MESSAGE};
use crate::wire::codec::{Bytes, DecodeError, Put, len_u32};

/// Maximum length of a message: all that a report holds may be one path.
const MAX_MESSAGE: usize = MAX_PROBLEM_BYTES + 1024;
/// Maximum bytes of a message in one piece, after the byte that is `MORE` or `LAST`.
const PIECE: usize = MAX_STAGE_MESSAGE - 1 - TEXT;
/// Bytes reserved for the text that accompanies a piece.
const TEXT: usize = 1024;

/// First byte of a piece: more pieces of the message follow, or none.
const MORE: u8 = 1;
const LAST: u8 = 0;

/// Appends a message to `messages`, in pieces. The last piece carries `text`, which is for people.
pub(super) fn push_message(messages: &mut Vec<StageMessage>, message: &[u8], text: &str) {
    let mut pieces = message.chunks(PIECE).peekable();
    while let Some(piece) = pieces.next() {
        let (more, text) = if pieces.peek().is_some() {
            (MORE, "")
        } else {
            (LAST, text)
        };
        messages.push(
            StageMessage::new(text, [&[more], piece].concat())
                .expect("a piece fits into a stage message"),
        );
    }
}

/// Returns a handler for [`Stage::on_message`](crate::stage::Stage::on_message) that joins pieces
/// and calls `apply` with each message. After the first invalid piece or message it calls
/// `on_error` once and ignores everything that follows.
pub(super) fn receiver(
    apply: impl Fn(&[u8]) -> Result<(), DecodeError> + Send + Sync + 'static,
    on_error: impl Fn(&DecodeError) + Send + Sync + 'static,
) -> impl Fn(&[u8]) + Send + Sync + 'static {
    // The pieces of a message received so far; `None` after an error.
    let partial = Mutex::new(Some(Vec::new()));
    move |piece| {
        let mut partial = partial.lock();
        let Some(message) = partial.as_mut() else {
            return;
        };
        let outcome = match join(message, piece) {
            Ok(true) => apply(&std::mem::take(message)),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            *partial = None;
            on_error(&error);
        }
    }
}

/// Appends a piece to the previous ones of a message. Returns true if the message is complete.
fn join(message: &mut Vec<u8>, piece: &[u8]) -> Result<bool, DecodeError> {
    let mut piece = Bytes::new("a piece of a report", piece);
    let more = piece.u8()?;
    if more > MORE {
        return Err(piece.error(format!("invalid first byte {more}, expected 0 or 1")));
    }
    message.put(piece.rest());
    if message.len() > MAX_MESSAGE {
        return Err(piece.error(format!(
            "its message is longer than the limit of {MAX_MESSAGE} bytes"
        )));
    }
    Ok(more == LAST)
}

/// Appends the length of `bytes` in 32 bits, then the bytes.
pub(super) fn put_bytes(message: &mut Vec<u8>, bytes: &[u8]) {
    message.put_u32(len_u32(bytes.len()));
    message.put(bytes);
}

/// Takes bytes that [`put_bytes`] appended.
pub(super) fn take_bytes<'b>(message: &mut Bytes<'b>) -> Result<&'b [u8], DecodeError> {
    let len = message.u32()? as usize;
    message.take(len)
}

/// Takes text that [`put_bytes`] appended.
pub(super) fn take_text(message: &mut Bytes<'_>) -> Result<String, DecodeError> {
    let len = message.u32()? as usize;
    message.text(len)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Passes pieces to a receiver. Returns the messages applied, and the errors.
    fn receive<'d>(pieces: impl IntoIterator<Item = &'d [u8]>) -> (Vec<Vec<u8>>, Vec<String>) {
        let (good, bad) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (to_good, to_bad) = (Arc::clone(&good), Arc::clone(&bad));
        let handler = receiver(
            move |message| {
                to_good.lock().push(message.to_vec());
                if message == b"nonsense" {
                    Err(DecodeError::new("it", "is nonsense"))
                } else {
                    Ok(())
                }
            },
            move |error| to_bad.lock().push(error.to_string()),
        );
        pieces.into_iter().for_each(handler);
        (good.lock().clone(), bad.lock().clone())
    }

    #[test]
    fn messages_of_any_length_are_joined() {
        let messages = [1, PIECE, PIECE + 1, MAX_MESSAGE].map(|len| vec![7; len]);
        let mut pieces = Vec::new();
        messages
            .iter()
            .for_each(|message| push_message(&mut pieces, message, &"é".repeat(TEXT)));
        let texts = pieces.iter().filter(|piece| !piece.text.is_empty());
        assert!(texts.map(|piece| piece.text.len()).all(|len| len >= TEXT));
        let (good, bad) = receive(pieces.iter().map(|piece| piece.data.as_slice()));
        assert!(good == messages && bad.is_empty());
    }

    #[test]
    fn messages_after_an_invalid_one_are_ignored() {
        let check = |pieces: &[&[u8]], good: usize, why: &str| {
            let (messages, errors) = receive(pieces.iter().copied());
            assert_eq!((messages.len(), errors.len()), (good, 1), "{why}");
            assert!(errors[0].contains(why), "{errors:?}");
        };
        check(
            &[b"\x00first", b"", b"\x00last"],
            1,
            "ends 1 bytes too early",
        );
        check(&[b"\x02what", b"\x00last"], 0, "invalid first byte 2");
        check(&[b"\x00nonsense", b"\x00last", b"\x03"], 1, "is nonsense");
        let long = [&[MORE], vec![0; MAX_MESSAGE].as_slice()].concat();
        check(
            &[&long, b"\x00more", b"\x00last"],
            0,
            "longer than the limit of 16778240 bytes",
        );
    }
}
