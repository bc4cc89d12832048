//! What a process says: how its instances ended, and notes about their work. One packet each.
//!
//! Checked like anything from outside. That the process hangs up says nothing about its life.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::error::{Corruption, StageError};
use crate::limits::{MAX_FAILURE_TEXT, MAX_NOTE};
use crate::pool::PortError;
use crate::wire::codec::{Bytes, DecodeError, Put, len_u16, truncate};

/// What a process says.
#[derive(Debug)]
pub(crate) enum Message {
    /// How an instance ended, counted from the first of the order.
    Ended(u32, Result<(), StageError>),
    /// Something about its work.
    StageMessage(StageMessage),
}

/// What a process says about its work, beside its end: for people, and for the stage's
/// [handler](crate::stage::Stage::notes).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageMessage {
    pub(crate) text: String,
    pub(crate) data: Vec<u8>,
}

impl StageMessage {
    /// A note of a text for people and of data for the handler, either of which may be empty. A
    /// text that does not fit beside the data into [`MAX_NOTE`] bytes is cut.
    ///
    /// # Errors
    ///
    /// If the data does not fit.
    pub fn new(text: impl AsRef<str>, data: impl Into<Vec<u8>>) -> Result<Self, StageError> {
        let data = data.into();
        match MAX_NOTE.checked_sub(data.len()) {
            Some(room) => Ok(Self {
                text: truncate(text.as_ref(), room).to_owned(),
                data,
            }),
            None => Err(StageError::new(format!(
                "the data of a note has {} bytes, at most {MAX_NOTE} are passed on",
                data.len()
            ))),
        }
    }
}

const ENDED: u8 = 0;
const FAILED: u8 = 1;
const PANICKED: u8 = 2;
const STOPPED: u8 = 3;
const CORRUPT: u8 = 4;
const NOTE: u8 = 5;
/// A queue or a buffer that a report does not name.
const NONE: u32 = u32::MAX;
/// Bytes of a packet before its text: its kind, the instance, and the queue and the buffer of a
/// contradiction.
const REPORT_FIELDS: usize = 13;

/// Reports how an instance ended.
pub(super) fn tell(control: &OwnedFd, instance: u32, result: &Result<(), StageError>) {
    let (kind, text, queue, buffer) = match result {
        Ok(()) => (ENDED, String::new(), None, None),
        Err(error) if error.is_stopped() => (STOPPED, String::new(), None, None),
        Err(error) => match (
            error.corrupt().map(Corruption::parts),
            error.panic_message(),
        ) {
            (Some((what, queue, buffer)), _) => (CORRUPT, what.to_owned(), queue, buffer),
            (_, Some(message)) => (PANICKED, message.to_owned(), None, None),
            _ => (FAILED, error.to_string(), None, None),
        },
    };
    let mut bytes = vec![kind];
    bytes.put_u32(instance);
    bytes.put_u32(queue.unwrap_or(NONE));
    bytes.put_u32(buffer.unwrap_or(NONE));
    bytes.put(truncate(&text, MAX_FAILURE_TEXT).as_bytes());
    // A controller that does not listen any more has died, and this process is about to.
    let _ = rustix::net::send(control, &bytes, SendFlags::NOSIGNAL);
}

/// Passes a note on.
pub(super) fn note(control: &OwnedFd, StageMessage { text, data }: &StageMessage) {
    let mut bytes = vec![NOTE];
    bytes.put_u16(len_u16(text.len()));
    bytes.put(text.as_bytes());
    bytes.put(data);
    let _ = rustix::net::send(control, &bytes, SendFlags::NOSIGNAL); // as above
}

/// What there is to be heard of a process now.
#[derive(Debug)]
pub(crate) enum Received {
    /// It said this, in so many bytes.
    Message(Message, usize),
    /// It has said nothing, and still can.
    Nothing,
    /// It will say nothing more.
    HungUp,
}

/// Listens, without waiting. Of what has been said before the process died, nothing is lost.
pub(crate) fn hear(control: &OwnedFd, room: &mut Vec<u8>) -> Received {
    room.resize(REPORT_FIELDS + MAX_FAILURE_TEXT.max(MAX_NOTE), 0); // the fields of a note are fewer
    let packet = loop {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC; // the length of all of it, also if that is too long
        match rustix::net::recv(control.as_fd(), &mut room[..], flags) {
            Ok((_, 0)) => return Received::HungUp,
            Ok((_, len)) => break len,
            Err(Errno::AGAIN) => return Received::Nothing,
            // The latter once, if it died with something unheard of its own. What it said is still
            // there.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(_) => return Received::HungUp,
        }
    };
    let longer = || {
        DecodeError::new(
            "what its process said",
            format!("has {packet} bytes, more than any"),
        )
    };
    let said = room.get(..packet).ok_or_else(longer).and_then(decode);
    Received::Message(
        said.unwrap_or_else(|malformed| Message::Ended(0, Err(malformed.into()))),
        packet,
    )
}

/// How many bytes have been said and not been heard yet.
pub(crate) fn unheard(control: &OwnedFd) -> usize {
    let unheard = rustix::io::ioctl_fionread(control).unwrap_or(0);
    usize::try_from(unheard).unwrap_or(usize::MAX)
}

fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    let mut bytes = Bytes::new("what its process said", bytes);
    let kind = bytes.u8()?;
    if kind == NOTE {
        let len = usize::from(bytes.u16()?);
        let text = bytes.text(len)?;
        return Ok(Message::StageMessage(StageMessage {
            text,
            data: bytes.rest().to_vec(),
        }));
    }
    let (instance, queue, buffer) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
    let text = String::from_utf8_lossy(bytes.rest()).into_owned();
    let result = match kind {
        ENDED => Ok(()),
        FAILED => Err(StageError::new(text)),
        PANICKED => Err(StageError::panicked(text)),
        STOPPED => Err(PortError::Stopped.into()),
        CORRUPT => {
            let corrupt = Corruption::new(text);
            let corrupt = if queue == NONE {
                corrupt
            } else {
                corrupt.at_queue(queue)
            };
            let corrupt = if buffer == NONE {
                corrupt
            } else {
                corrupt.at_buffer(buffer)
            };
            Err(PortError::Corrupt(corrupt).into())
        }
        _ => return Err(bytes.error(format!("is of an unknown kind, {kind}"))),
    };
    Ok(Message::Ended(instance, result))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::super::order::pair;
    use super::*;

    fn heard(control: &OwnedFd) -> Received {
        hear(control, &mut Vec::new())
    }

    fn ended(heard: Received) -> (u32, Result<(), StageError>) {
        match heard {
            Received::Message(Message::Ended(instance, result), _) => (instance, result),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reports_arrive_as_they_were_meant() {
        let report = |result| {
            let (ours, theirs) = pair().unwrap();
            tell(&theirs, 7, &result);
            drop(theirs);
            let (instance, result) = ended(heard(&ours));
            assert_eq!(instance, 7);
            assert!(
                matches!(heard(&ours), Received::HungUp),
                "a hang-up is no report"
            );
            result
        };
        assert!(report(Ok(())).is_ok());
        assert!(
            report(Err(PortError::Stopped.into()))
                .unwrap_err()
                .is_stopped()
        );
        let panic = report(Err(StageError::panicked("ouch".to_owned()))).unwrap_err();
        assert!(panic.is_panic() && panic.to_string() == "panicked: ouch");
        let long = report(Err(StageError::new("é".repeat(MAX_FAILURE_TEXT)))).unwrap_err();
        assert_eq!(long.to_string(), "é".repeat(MAX_FAILURE_TEXT / 2));
        for corrupt in [
            Corruption::new("a"),
            Corruption::new("b").at_queue(1),
            Corruption::new("c").at_buffer(0),
        ] {
            let error = report(Err(PortError::Corrupt(corrupt.clone()).into())).unwrap_err();
            assert_eq!(error.corrupt(), Some(&corrupt));
        }
    }

    #[test]
    fn what_was_said_is_heard_whatever_the_process_has_not_heard() {
        let (ours, theirs) = pair().unwrap();
        rustix::net::send(&ours, b"an order", SendFlags::NOSIGNAL).unwrap();
        tell(&theirs, 0, &Ok(()));
        drop(theirs);
        assert_eq!(unheard(&ours), REPORT_FIELDS);
        assert!(ended(heard(&ours)).1.is_ok());
        assert!(matches!(heard(&ours), Received::HungUp));
    }

    #[test]
    fn notes_arrive_whole_or_are_refused() {
        let (ours, theirs) = pair().unwrap();
        assert!(matches!(heard(&ours), Received::Nothing));
        let whole = StageMessage::new("é".repeat(1000), vec![3; MAX_NOTE - 2000]).unwrap();
        let cut = StageMessage::new("é".repeat(1000), vec![3; MAX_NOTE - 1999]).unwrap();
        assert_eq!((whole.text.len(), cut.text.len()), (2000, 1998));
        for sent in [StageMessage::default(), whole, cut] {
            note(&theirs, &sent);
            assert!(
                matches!(heard(&ours), Received::Message(Message::StageMessage(note), _) if note == sent)
            );
        }
        let long = StageMessage::new("", vec![3; MAX_NOTE + 1]);
        assert!(long.unwrap_err().to_string().contains("16385 bytes"));
    }

    #[test]
    fn what_makes_no_sense_is_an_error_of_the_stage() {
        let (ours, theirs) = pair().unwrap();
        let kind = [77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let long = [5; REPORT_FIELDS + MAX_NOTE + 1];
        for (bytes, why) in [
            (&kind[..], "unknown kind, 77"),
            (&[0], "ends 4 bytes too early"),
            (&[5, 9, 0], "too early"),
            (&long, "16398 bytes, more than any"),
        ] {
            rustix::net::send(&theirs, bytes, SendFlags::NOSIGNAL).unwrap();
            let error = ended(heard(&ours)).1.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
