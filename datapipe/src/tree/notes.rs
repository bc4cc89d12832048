//! What a report in another process says to the one that the caller has: messages of any length, in
//! notes.
//!
//! ```text
//!   message --in pieces, each behind a byte that says whether more follow--> notes --> message
//! ```
//!
//! A report says what it has not said yet, so each message changes something. Does not know what
//! one says.

use parking_lot::Mutex;

use crate::host::StageMessage;
use crate::limits::{MAX_NOTE, MAX_PROBLEM_BYTES};
use crate::wire::codec::{Bytes, DecodeError, Put, len_u32};

/// Longest message: everything that a report keeps may be one path.
const LONGEST: usize = MAX_PROBLEM_BYTES + 1024;
/// Bytes of a message in a note, behind the one that says whether more follow, and of a text beside
/// them.
const PIECE: usize = MAX_NOTE - 1 - TEXT;
const TEXT: usize = 1024;

const MORE: u8 = 1;
const LAST: u8 = 0;

/// Adds a message to `notes`, and a text for people to the note of its end.
pub(super) fn say(notes: &mut Vec<StageMessage>, message: &[u8], text: &str) {
    let mut pieces = message.chunks(PIECE).peekable();
    while let Some(piece) = pieces.next() {
        let (more, text) = if pieces.peek().is_some() {
            (MORE, "")
        } else {
            (LAST, text)
        };
        notes.push(
            StageMessage::new(text, [&[more], piece].concat()).expect("a piece fits into a note"),
        );
    }
}

/// What hears notes, for [`Stage::notes`](crate::stage::Stage::notes): calls `hear` with each
/// message, up to the first that makes no sense. Of that, `wrong` is told.
pub(super) fn hearer(
    hear: impl Fn(&[u8]) -> Result<(), DecodeError> + Send + Sync + 'static,
    wrong: impl Fn(&DecodeError) + Send + Sync + 'static,
) -> impl Fn(&[u8]) + Send + Sync + 'static {
    let begun = Mutex::new(Some(Vec::new()));
    move |piece| {
        let mut begun = begun.lock();
        let Some(message) = begun.as_mut() else {
            return;
        };
        let heard = match join(message, piece) {
            Ok(true) => hear(&std::mem::take(message)),
            Ok(false) => Ok(()),
            Err(malformed) => Err(malformed),
        };
        if let Err(malformed) = heard {
            *begun = None;
            wrong(&malformed);
        }
    }
}

/// Adds a piece to what has come of a message. Returns whether that is all of it.
fn join(message: &mut Vec<u8>, piece: &[u8]) -> Result<bool, DecodeError> {
    let mut piece = Bytes::new("a note of a tree", piece);
    let more = piece.u8()?;
    if more > MORE {
        return Err(piece.error(format!(
            "is neither the end of a message nor a part: {more}"
        )));
    }
    message.put(piece.rest());
    if message.len() > LONGEST {
        return Err(piece.error(format!("belongs to a message of more than {LONGEST} bytes")));
    }
    Ok(more == LAST)
}

/// Adds bytes behind their length.
pub(super) fn put_bytes(message: &mut Vec<u8>, bytes: &[u8]) {
    message.put_u32(len_u32(bytes.len()));
    message.put(bytes);
}

/// Takes what [`put_bytes`] has added.
pub(super) fn take_bytes<'b>(message: &mut Bytes<'b>) -> Result<&'b [u8], DecodeError> {
    let len = message.u32()? as usize;
    message.take(len)
}

/// As [`take_bytes`], of text.
pub(super) fn take_text(message: &mut Bytes<'_>) -> Result<String, DecodeError> {
    let len = message.u32()? as usize;
    message.text(len)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What is heard of these notes, and what is wrong with them.
    fn heard<'d>(notes: impl IntoIterator<Item = &'d [u8]>) -> (Vec<Vec<u8>>, Vec<String>) {
        let (good, bad) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (to_good, to_bad) = (Arc::clone(&good), Arc::clone(&bad));
        let hear = hearer(
            move |message| {
                to_good.lock().push(message.to_vec());
                if message == b"nonsense" {
                    Err(DecodeError::new("it", "is nonsense"))
                } else {
                    Ok(())
                }
            },
            move |malformed| to_bad.lock().push(malformed.to_string()),
        );
        notes.into_iter().for_each(hear);
        (good.lock().clone(), bad.lock().clone())
    }

    #[test]
    fn messages_of_any_length_arrive_whole() {
        let messages = [1, PIECE, PIECE + 1, LONGEST].map(|len| vec![7; len]);
        let mut notes = Vec::new();
        messages
            .iter()
            .for_each(|message| say(&mut notes, message, &"é".repeat(TEXT)));
        let texts = notes.iter().filter(|note| !note.text.is_empty());
        assert!(texts.map(|note| note.text.len()).all(|len| len >= TEXT));
        let (good, bad) = heard(notes.iter().map(|note| note.data.as_slice()));
        assert!(good == messages && bad.is_empty());
    }

    #[test]
    fn nothing_is_heard_behind_what_makes_no_sense() {
        let hears = |notes: &[&[u8]], good: usize, why: &str| {
            let (messages, wrong) = heard(notes.iter().copied());
            assert_eq!((messages.len(), wrong.len()), (good, 1), "{why}");
            assert!(wrong[0].contains(why), "{wrong:?}");
        };
        hears(
            &[b"\x00first", b"", b"\x00last"],
            1,
            "ends 1 bytes too early",
        );
        hears(&[b"\x02what", b"\x00last"], 0, "neither the end");
        hears(&[b"\x00nonsense", b"\x00last", b"\x03"], 1, "is nonsense");
        let long = [&[MORE], vec![0; LONGEST].as_slice()].concat();
        hears(
            &[&long, b"\x00more", b"\x00last"],
            0,
            "more than 16778240 bytes",
        );
    }
}
