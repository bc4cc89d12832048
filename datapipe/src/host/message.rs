//! Messages from a process to its controller: the end of each instance, and progress messages. One
//! packet each.
//!
//! The controller checks them as it checks all external input. A hang-up of the process is not
//! evidence of its death.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags};

use super::failure::{put_failure, read_failure};
use crate::error::{Corruption, StageError};
use crate::limits::{MAX_FAILURE_TEXT, MAX_STAGE_MESSAGE};
use crate::memory::{BufferId, QueueId};
use crate::pool::PortError;
use crate::stage::mirror::{OWN_PROBLEMS, Packet, Update};
use crate::wire::codec::{Bytes, DecodeError, Put, len_u16, truncate};

/// A message of a process.
#[derive(Debug)]
pub(crate) enum Message {
    /// Result of an instance, counted from the first one of the launch request.
    Ended(u32, Result<(), StageError>),
    /// A message about the process's work.
    StageMessage(StageMessage),
}

/// A message that a process sends about its work while it runs: a text for people, and data for the
/// stage's [handler](crate::stage::Stage::on_message).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageMessage {
    pub(crate) text: String,
    pub(crate) data: Vec<u8>,
    pub(crate) about: About,
}

/// Subject of a message about the work of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum About {
    /// Text and data are the module's own.
    #[default]
    Work,
    /// The data is a piece of a report of the stage, and not for the handler.
    Report,
    /// A report of the stage has counted further problems: its number and the increase. The text
    /// may describe them.
    Problems(u8, u64),
}

impl StageMessage {
    /// A message of a text for people and of data for the handler, either of which may be empty. A
    /// text that does not fit into [`MAX_STAGE_MESSAGE`] bytes together with the data is truncated.
    ///
    /// # Errors
    ///
    /// If the data does not fit.
    pub fn new(text: impl AsRef<str>, data: impl Into<Vec<u8>>) -> Result<Self, StageError> {
        let data = data.into();
        match MAX_STAGE_MESSAGE.checked_sub(data.len()) {
            Some(room) => Ok(Self {
                text: truncate(text.as_ref(), room).to_owned(),
                data,
                about: About::Work,
            }),
            None => Err(StageError::new(format!(
                "the data of a stage message has {} bytes, the limit is {MAX_STAGE_MESSAGE}",
                data.len()
            ))),
        }
    }

    /// A message about one problem of the stage, for people: something that was not read, written
    /// or restored as it should be, while the stage goes on. The pipe ends as
    /// [incomplete](crate::Report::is_complete). The text is truncated to [`MAX_STAGE_MESSAGE`]
    /// bytes.
    ///
    /// ```
    /// use datapipe::host::{Modules, StageMessage};
    /// use datapipe::prelude::*;
    ///
    /// let modules = Modules::empty().with("count-lines", |call| {
    ///     let (found, problems) = std::sync::mpsc::channel::<String>();
    ///     let next = move || problems.try_iter().map(StageMessage::problem).collect();
    ///     call.add_message_source(next);
    ///     # drop(found);
    ///     Ok(TailStage::from(StreamTail::new(std::io::sink())))
    /// });
    /// # drop(modules);
    /// ```
    pub fn problem(text: impl AsRef<str>) -> Self {
        Self {
            text: truncate(text.as_ref(), MAX_STAGE_MESSAGE).to_owned(),
            data: Vec::new(),
            about: About::Problems(OWN_PROBLEMS, 1),
        }
    }

    /// A packet of a report.
    pub(super) fn report(packet: Packet) -> Self {
        match packet {
            Packet::Piece(Update { text, data, .. }) => {
                let message = Self::new(text, data).expect("a piece fits into a stage message");
                Self {
                    about: About::Report,
                    ..message
                }
            }
            Packet::Problems {
                report,
                increase,
                text,
            } => Self {
                about: About::Problems(report, increase),
                ..Self::problem(text)
            },
        }
    }
}

/// Kinds of a packet: its first byte.
const ENDED: u8 = 0;
const FAILED: u8 = 1;
const PANICKED: u8 = 2;
const STOPPED: u8 = 3;
const CORRUPT: u8 = 4;
const MESSAGE: u8 = 5;
const REPORT: u8 = 6;
const PROBLEMS: u8 = 7;
/// Queue or buffer of a corruption that names none.
const NONE: u32 = u32::MAX;
/// Bytes of a result packet before its text: kind, instance, and the queue and the buffer of a
/// corruption.
const RESULT_FIELDS: usize = 13;
/// Length in bytes of the longest packet. A stage message has fewer fields than a result, whose
/// text and causes are shorter.
const MAX_PACKET: usize = RESULT_FIELDS + MAX_STAGE_MESSAGE;

/// Sends the result of an instance.
pub(super) fn send_result(control: &OwnedFd, instance: u32, result: &Result<(), StageError>) {
    let (kind, text, queue, buffer) = match result {
        Ok(()) => (ENDED, String::new(), None, None),
        Err(error) if error.is_stopped() => (STOPPED, String::new(), None, None),
        Err(error) => match (
            error.corrupt().map(Corruption::parts),
            error.panic_message(),
        ) {
            (Some((what, queue, buffer)), _) => (CORRUPT, what.to_owned(), queue, buffer),
            (_, Some(message)) => (PANICKED, message.to_owned(), None, None),
            _ => (FAILED, String::new(), None, None),
        },
    };
    let mut bytes = vec![kind];
    bytes.put_u32(instance);
    bytes.put_u32(queue.map_or(NONE, QueueId::get));
    bytes.put_u32(buffer.map_or(NONE, BufferId::get));
    match result {
        Err(error) if kind == FAILED => put_failure(&mut bytes, error),
        _ => bytes.put(truncate(&text, MAX_FAILURE_TEXT).as_bytes()),
    }
    // A controller that no longer receives has died, and this process is about to end.
    let _ = rustix::net::send(control, &bytes, SendFlags::NOSIGNAL);
}

/// Sends a message about the process's work.
pub(super) fn send_message(control: &OwnedFd, message: &StageMessage) {
    let StageMessage { text, data, about } = message;
    let mut bytes = match about {
        About::Work => vec![MESSAGE],
        About::Report => vec![REPORT],
        About::Problems(report, increase) => {
            let mut bytes = vec![PROBLEMS, *report];
            bytes.put_u64(*increase);
            bytes
        }
    };
    bytes.put_u16(len_u16(text.len()));
    bytes.put(text.as_bytes());
    bytes.put(data);
    let _ = retry_on_intr(|| rustix::net::send(control, &bytes, SendFlags::NOSIGNAL)); // as above
}

/// Result of [`recv`].
#[derive(Debug)]
pub(crate) enum Received {
    /// A message, and the length of its packet in bytes.
    Message(Message, usize),
    /// No message yet.
    Nothing,
    /// The process has hung up, and had not received its launch request. Its messages follow.
    LeftRequest,
    /// The process has hung up, and every message has been received.
    HungUp,
}

/// Receives one message without waiting, through `buffer`. Messages that a process sent before it
/// died are not lost.
pub(crate) fn recv(control: &OwnedFd, buffer: &mut Vec<u8>) -> Received {
    buffer.resize(MAX_PACKET, 0);
    let packet = loop {
        // TRUNC returns the whole length of a packet, also if it is longer than the buffer.
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        match rustix::net::recv(control.as_fd(), &mut buffer[..], flags) {
            Ok((_, 0)) => return Received::HungUp,
            Ok((_, len)) => break len,
            Err(Errno::AGAIN) => return Received::Nothing,
            // The kernel returns it once if the process died with unread data in its own receive
            // queue. Its messages are still there.
            Err(Errno::CONNRESET) => return Received::LeftRequest,
            Err(Errno::INTR) => {}
            Err(_) => return Received::HungUp,
        }
    };
    let too_long = || {
        DecodeError::new(
            "a message of its process",
            format!("has {packet} bytes, the limit is {MAX_PACKET}"),
        )
    };
    let message = buffer.get(..packet).ok_or_else(too_long).and_then(decode);
    Received::Message(
        message.unwrap_or_else(|error| Message::Ended(0, Err(error.into()))),
        packet,
    )
}

/// True if the process has hung up, and had not received its launch request. Returns it once, as
/// [`recv`] does.
pub(crate) fn left_request(control: &OwnedFd) -> bool {
    let error = rustix::net::sockopt::socket_error(control);
    matches!(error, Ok(Err(Errno::CONNRESET)))
}

/// Number of bytes that were sent and not received yet.
pub(crate) fn unread(control: &OwnedFd) -> usize {
    let unread = rustix::io::ioctl_fionread(control).unwrap_or(0);
    usize::try_from(unread).unwrap_or(usize::MAX)
}

fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    let mut bytes = Bytes::new("a message of its process", bytes);
    let kind = bytes.u8()?;
    let about = match kind {
        MESSAGE => Some(About::Work),
        REPORT => Some(About::Report),
        PROBLEMS => Some(About::Problems(bytes.u8()?, bytes.u64()?)),
        _ => None,
    };
    if let Some(about) = about {
        let len = usize::from(bytes.u16()?);
        let text = bytes.text(len)?;
        return Ok(Message::StageMessage(StageMessage {
            text,
            data: bytes.rest().to_vec(),
            about,
        }));
    }
    let (instance, queue, buffer) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
    if kind == FAILED {
        return Ok(Message::Ended(instance, Err(read_failure(bytes)?)));
    }
    let text = String::from_utf8_lossy(bytes.rest()).into_owned();
    let result = match kind {
        ENDED => Ok(()),
        PANICKED => Err(StageError::panicked(text)),
        STOPPED => Err(PortError::Stopped.into()),
        CORRUPT => {
            let mut corruption = Corruption::new(text);
            if queue != NONE {
                corruption = corruption.at_queue(QueueId::new(queue));
            }
            if buffer != NONE {
                corruption = corruption.at_buffer(BufferId::new(buffer));
            }
            Err(PortError::Corrupt(corruption).into())
        }
        _ => return Err(bytes.error(format!("is of an unknown kind, {kind}"))),
    };
    Ok(Message::Ended(instance, result))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::super::launch_request::control_pair;
    use super::*;

    fn recv_now(control: &OwnedFd) -> Received {
        recv(control, &mut Vec::new())
    }

    fn ended(received: Received) -> (u32, Result<(), StageError>) {
        match received {
            Received::Message(Message::Ended(instance, result), _) => (instance, result),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn results_survive_encoding_and_decoding() {
        let round_trip = |result| {
            let (ours, theirs) = control_pair().unwrap();
            send_result(&theirs, 7, &result);
            drop(theirs);
            let (instance, result) = ended(recv_now(&ours));
            assert_eq!(instance, 7);
            assert!(
                matches!(recv_now(&ours), Received::HungUp),
                "a hang-up is not a result"
            );
            result
        };
        assert!(round_trip(Ok(())).is_ok());
        assert!(
            round_trip(Err(PortError::Stopped.into()))
                .unwrap_err()
                .is_stopped()
        );
        let panic = round_trip(Err(StageError::panicked("ouch".to_owned()))).unwrap_err();
        assert!(panic.is_panic() && panic.to_string() == "panicked: ouch");
        let long = round_trip(Err(StageError::new("é".repeat(MAX_FAILURE_TEXT)))).unwrap_err();
        assert_eq!(long.to_string(), "é".repeat(MAX_FAILURE_TEXT / 2));
        for corrupt in [
            Corruption::new("a"),
            Corruption::new("b").at_queue(QueueId::new(1)),
            Corruption::new("c").at_buffer(BufferId::new(0)),
        ] {
            let error = round_trip(Err(PortError::Corrupt(corrupt.clone()).into())).unwrap_err();
            assert_eq!(error.corrupt(), Some(&corrupt));
        }
    }

    #[test]
    fn sent_result_arrives_although_the_process_has_unread_data() {
        let (ours, theirs) = control_pair().unwrap();
        rustix::net::send(&ours, b"a request", SendFlags::NOSIGNAL).unwrap();
        send_result(&theirs, 0, &Ok(()));
        drop(theirs);
        assert_eq!(unread(&ours), RESULT_FIELDS);
        assert!(matches!(recv_now(&ours), Received::LeftRequest));
        assert!(ended(recv_now(&ours)).1.is_ok());
        assert!(matches!(recv_now(&ours), Received::HungUp));
    }

    #[test]
    fn stage_messages_arrive_whole_or_are_rejected() {
        let (ours, theirs) = control_pair().unwrap();
        assert!(matches!(recv_now(&ours), Received::Nothing));
        let whole = StageMessage::new("é".repeat(1000), vec![3; MAX_STAGE_MESSAGE - 2000]).unwrap();
        let cut = StageMessage::new("é".repeat(1000), vec![3; MAX_STAGE_MESSAGE - 1999]).unwrap();
        assert_eq!((whole.text.len(), cut.text.len()), (2000, 1998));
        let piece = StageMessage::report(Packet::Piece(Update::silent(vec![1, 0, 7])));
        let problem = StageMessage::problem("é".repeat(MAX_STAGE_MESSAGE));
        assert_eq!(problem.text.len(), MAX_STAGE_MESSAGE);
        for sent in [StageMessage::default(), whole, cut, piece, problem] {
            send_message(&theirs, &sent);
            match recv_now(&ours) {
                Received::Message(Message::StageMessage(message), _) => assert_eq!(message, sent),
                other => panic!("{other:?}"),
            }
        }
        let long = StageMessage::new("", vec![3; MAX_STAGE_MESSAGE + 1]);
        assert!(long.unwrap_err().to_string().contains("16385 bytes"));
    }

    #[test]
    fn malformed_message_is_an_error_of_the_stage() {
        let (ours, theirs) = control_pair().unwrap();
        let kind = [77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let long = [5; RESULT_FIELDS + MAX_STAGE_MESSAGE + 1];
        for (bytes, why) in [
            (&kind[..], "unknown kind, 77"),
            (&[0], "ends 4 bytes too early"),
            (&[5, 9, 0], "too early"),
            (&long, "16398 bytes, the limit is 16397"),
        ] {
            rustix::net::send(&theirs, bytes, SendFlags::NOSIGNAL).unwrap();
            let error = ended(recv_now(&ours)).1.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
