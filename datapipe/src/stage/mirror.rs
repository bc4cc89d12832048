//! Mirrors of reports: a stage in a process writes to its own report, and the controller's copy of
//! the report follows it.
//!
//! ```text
//!   process:     report --delta--> messages --cut into pieces--> packets
//!   controller:  packets --joined, per instance--> messages --apply--> the caller's report
//! ```
//!
//! A message can have any length up to the limit of its report; a packet cannot. Therefore each
//! packet is one piece of a message: the kind of the report (8 bits), flags (8 bits), bytes of the
//! message. A stage can have several reports of different kinds. `docs/host-protocol.md` describes
//! the messages.
//!
//! The process is not trusted. The first packet of an instance that is malformed ends its reports:
//! the mirrors of the stage record the error, and ignore the instance from then on. Otherwise a
//! later message could replace the counts that include the error.
//!
//! This module does not interpret messages, and does not send them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::MAX_STAGE_MESSAGE;
use crate::wire::codec::{Bytes, DecodeError, Put};

/// A report that can be copied from a process to the controller. Clones share one report.
pub(crate) trait Mirror: Clone + Send + Sync + 'static {
    /// Kind of the report, the same in the process and in the controller.
    const KIND: ReportKind;

    /// Length in bytes of the longest message. A controller stores an unfinished message for each
    /// instance of the stage.
    const MAX_MESSAGE: usize = MAX_PIECE;

    /// The part of the report that has been sent.
    type Cursor: Default + Send + 'static;

    /// Returns messages with everything that changed since `cursor`, and advances the cursor.
    fn delta(&self, cursor: &mut Self::Cursor) -> Vec<Update>;

    /// Applies one message of the [`delta`](Self::delta) of a report in a process.
    ///
    /// # Errors
    ///
    /// If the message is malformed. The report may contain a part of it.
    fn apply(&self, message: &[u8]) -> Result<(), DecodeError>;

    /// Records that a process sent a malformed message. Its further messages are ignored.
    fn reject(&self, error: &DecodeError);

    /// From now on calls `hook` after each change that must leave the process before the block that
    /// it is about, before the changing call returns. A report without such changes ignores it.
    fn on_urgent_change(&self, hook: ChangeHook) {
        drop(hook);
    }
}

/// A function that is called after a change of a report.
#[derive(Clone)]
pub(crate) struct ChangeHook(Arc<dyn Fn() + Send + Sync>);

impl ChangeHook {
    pub(crate) fn new(hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    pub(crate) fn call(&self) {
        (self.0)();
    }
}

impl fmt::Debug for ChangeHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangeHook")
    }
}

/// Kinds of reports: the first byte of each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportKind {
    /// Damage that a salvaging stage found.
    Damage = 0,
    /// Progress and problems of a head that reads a file tree.
    Tree = 1,
    /// Progress and problems of a tail that restores or verifies a file tree.
    Restore = 2,
    /// Progress of a head that reads an archive.
    Read = 3,
    /// Progress of a tail that writes an archive.
    Write = 4,
    /// Blocks that an inspection has marked or rejected.
    Inspection = 5,
}

/// A message about a change of a report, or a piece of one: a text for people, which may be empty,
/// and data for the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) text: String,
    pub(crate) data: Vec<u8>,
}

impl Update {
    /// A message without a text for people.
    pub(crate) fn silent(data: Vec<u8>) -> Self {
        Self {
            text: String::new(),
            data,
        }
    }
}

/// Flag of a piece: the piece continues the message of the piece before it.
const CONTINUES: u8 = 1;
/// Flag of a piece: the next piece continues its message.
const MORE: u8 = 2;

/// Bytes of a packet reserved for the text that accompanies a piece.
const TEXT: usize = 1024;
/// Maximum bytes of a message in one piece, after kind and flags.
pub(crate) const MAX_PIECE: usize = MAX_STAGE_MESSAGE - TEXT - 2;

/// Returns everything that changed in `report` since `cursor` as the packets to be sent, and
/// advances the cursor. The last piece of a message carries its text.
pub(crate) fn pieces<M: Mirror>(report: &M, cursor: &mut M::Cursor) -> Vec<Update> {
    let mut pieces = Vec::new();
    for Update { mut text, data } in report.delta(cursor) {
        let mut flags = 0;
        let mut chunks = data.chunks(MAX_PIECE).peekable();
        while let Some(chunk) = chunks.next() {
            let is_last = chunks.peek().is_none();
            let more = if is_last { 0 } else { MORE };
            pieces.push(Update {
                text: if is_last {
                    std::mem::take(&mut text)
                } else {
                    String::new()
                },
                data: [&[M::KIND as u8, flags | more], chunk].concat(),
            });
            flags = CONTINUES;
        }
    }
    pieces
}

/// The reports of a stage in the controller, and the state of the connections to its instances.
/// Clones share both.
#[derive(Clone, Default)]
pub(crate) struct Mirrors {
    reports: Vec<Arc<dyn Report>>,
    senders: Arc<Mutex<BTreeMap<u32, Sender>>>,
}

/// The messages of one instance.
#[derive(Debug)]
enum Sender {
    /// Every piece so far was valid.
    Valid(Option<Partial>),
    /// A piece was malformed.
    Rejected,
}

/// The beginning of a message whose further pieces have not arrived.
#[derive(Debug)]
struct Partial {
    kind: u8,
    message: Vec<u8>,
}

/// Returns the packets with everything that is new in a report since the last call.
pub(crate) type Pieces = Box<dyn FnMut() -> Vec<Update> + Send>;

/// A [`Mirror`] of any kind, as both sides use it.
trait Report: Send + Sync {
    fn pieces(&self) -> Pieces;
    fn on_urgent_change(&self, hook: ChangeHook);
    fn kind(&self) -> ReportKind;
    fn max_message(&self) -> usize;
    fn apply(&self, message: &[u8]) -> Result<(), DecodeError>;
    fn reject(&self, error: &DecodeError);
}

impl<M: Mirror> Report for M {
    fn pieces(&self) -> Pieces {
        let (report, mut cursor) = (self.clone(), M::Cursor::default());
        Box::new(move || pieces(&report, &mut cursor))
    }

    fn on_urgent_change(&self, hook: ChangeHook) {
        Mirror::on_urgent_change(self, hook);
    }

    fn kind(&self) -> ReportKind {
        M::KIND
    }

    fn max_message(&self) -> usize {
        M::MAX_MESSAGE
    }

    fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
        Mirror::apply(self, message)
    }

    fn reject(&self, error: &DecodeError) {
        Mirror::reject(self, error);
    }
}

impl Mirrors {
    /// Adds a report. A stage has at most one of each kind.
    #[must_use]
    pub(crate) fn with<M: Mirror>(mut self, report: &M) -> Self {
        debug_assert!(self.reports.iter().all(|other| other.kind() != M::KIND));
        self.reports.push(Arc::new(report.clone()));
        self
    }

    /// Returns the kind of each report, and the source of its packets, for the process that runs
    /// the stage. `hook` is called after urgent changes.
    pub(crate) fn sources(&self, hook: &ChangeHook) -> impl Iterator<Item = (ReportKind, Pieces)> {
        self.reports.iter().map(|report| {
            report.on_urgent_change(hook.clone());
            (report.kind(), report.pieces())
        })
    }

    /// Receives one packet of an instance, and applies the message that it completes.
    pub(crate) fn receive(&self, instance: u32, piece: &[u8]) {
        let mut senders = self.senders.lock();
        let sender = senders.entry(instance).or_insert(Sender::Valid(None));
        let Sender::Valid(partial) = sender else {
            return;
        };
        if let Err(error) = self.join(partial, piece) {
            *sender = Sender::Rejected;
            for report in &self.reports {
                report.reject(&error);
            }
        }
    }

    /// Joins a piece with the previous ones of its message, and applies the message if it is whole.
    fn join(&self, partial: &mut Option<Partial>, piece: &[u8]) -> Result<(), DecodeError> {
        let mut piece = Bytes::new("a piece of a report", piece);
        let (kind, flags) = (piece.u8()?, piece.u8()?);
        let mut reports = self.reports.iter();
        let report = reports
            .find(|report| report.kind() as u8 == kind)
            .ok_or_else(|| piece.error(format!("the stage has no report of kind {kind}")))?;
        if flags & !(CONTINUES | MORE) != 0 {
            return Err(piece.error(format!("invalid flags {flags}, the flags are 1 and 2")));
        }
        // A message that ended early was sent by a process that died, and its replacement begins
        // with another one.
        let mut message = match partial.take() {
            _ if flags & CONTINUES == 0 => Vec::new(),
            Some(begun) if begun.kind == kind => begun.message,
            _ => return Err(piece.error(format!("continues no message of kind {kind}"))),
        };
        message.put(piece.rest());
        if message.len() > report.max_message() {
            return Err(piece.error(format!(
                "its message is longer than the limit of {} bytes",
                report.max_message()
            )));
        }
        if flags & MORE == 0 {
            return report.apply(&message);
        }
        *partial = Some(Partial { kind, message });
        Ok(())
    }
}

impl fmt::Debug for Mirrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.reports.iter().map(|report| report.kind());
        f.debug_list().entries(kinds).finish()
    }
}

/// Copies everything that changed since `cursor` from a report to another, through packets. Returns
/// the texts for people.
#[cfg(test)]
pub(crate) fn copy<M: Mirror>(from: &M, cursor: &mut M::Cursor, to: &M) -> Vec<String> {
    let to = Mirrors::default().with(to);
    let pieces = pieces(from, cursor).into_iter();
    pieces
        .inspect(|piece| to.receive(0, &piece.data))
        .filter_map(|piece| (!piece.text.is_empty()).then_some(piece.text))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report that is a list of messages. The one that says "nonsense" is malformed.
    #[derive(Clone, Debug, Default)]
    struct List(Arc<Mutex<Received>>);

    /// Messages, and texts of errors.
    type Received = (Vec<Vec<u8>>, Vec<String>);

    impl List {
        fn of(messages: &[&[u8]]) -> Self {
            let messages = messages.iter().map(|message| message.to_vec()).collect();
            Self(Arc::new(Mutex::new((messages, Vec::new()))))
        }

        fn messages(&self) -> Vec<Vec<u8>> {
            self.0.lock().0.clone()
        }

        fn errors(&self) -> Vec<String> {
            self.0.lock().1.clone()
        }
    }

    impl Mirror for List {
        const KIND: ReportKind = ReportKind::Tree;
        const MAX_MESSAGE: usize = 3 * MAX_PIECE;
        type Cursor = usize;

        fn delta(&self, cursor: &mut usize) -> Vec<Update> {
            let new = self.messages().split_off(*cursor);
            *cursor += new.len();
            let update = |data: Vec<u8>| Update {
                text: "é".repeat(TEXT / 2),
                data,
            };
            new.into_iter().map(update).collect()
        }

        fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
            if message == b"nonsense" {
                return Err(DecodeError::new("it", "is nonsense"));
            }
            self.0.lock().0.push(message.to_vec());
            Ok(())
        }

        fn reject(&self, error: &DecodeError) {
            self.0.lock().1.push(error.to_string());
        }
    }

    /// A report of another kind, whose messages have one piece.
    #[derive(Clone, Debug, Default)]
    struct Short(List);

    impl Mirror for Short {
        const KIND: ReportKind = ReportKind::Damage;
        type Cursor = usize;

        fn delta(&self, cursor: &mut usize) -> Vec<Update> {
            self.0.delta(cursor)
        }

        fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
            Mirror::apply(&self.0, message)
        }

        fn reject(&self, error: &DecodeError) {
            Mirror::reject(&self.0, error);
        }
    }

    const KIND: u8 = List::KIND as u8;
    const OTHER: u8 = Short::KIND as u8;

    #[test]
    fn messages_of_any_length_arrive_once() {
        let lengths = [1, MAX_PIECE, MAX_PIECE + 1, 3 * MAX_PIECE].map(|len| vec![7; len]);
        let messages: Vec<&[u8]> = lengths.iter().map(Vec::as_slice).collect();
        let (report, mirror, mut cursor) = (List::of(&messages), List::default(), 0);
        let packets = pieces(&report, &mut cursor);
        assert_eq!(packets.len(), 1 + 1 + 2 + 3);
        let is_too_long =
            |packet: &Update| packet.text.len() + packet.data.len() > MAX_STAGE_MESSAGE;
        assert!(!packets.iter().any(is_too_long));
        assert_eq!(
            copy(&report, &mut 0, &mirror).len(),
            4,
            "a text per message"
        );
        assert_eq!(
            (mirror.messages(), mirror.errors()),
            (lengths.into(), vec![])
        );
        assert_eq!(pieces(&report, &mut cursor), []);
    }

    #[test]
    fn reports_and_instances_of_a_stage_do_not_mix() {
        let (list, short) = (List::default(), Short::default());
        let mirrors = Mirrors::default().with(&list).with(&short);
        mirrors.receive(1, &[KIND, MORE, b'a']);
        mirrors.receive(2, &[KIND, MORE, b'x']);
        mirrors.receive(3, &[OTHER, 0, b'o']);
        mirrors.receive(1, &[KIND, CONTINUES | MORE, b'b']);
        mirrors.receive(2, &[KIND, CONTINUES, b'y']);
        mirrors.receive(1, &[KIND, CONTINUES, b'c']);
        assert_eq!(list.messages(), [b"xy".to_vec(), b"abc".to_vec()]);
        assert_eq!(short.0.messages(), [b"o".to_vec()]);
        mirrors.receive(2, &[KIND, 0xff]);
        mirrors.receive(2, &[KIND, 0, b'z']);
        mirrors.receive(1, &[KIND, 0, b'd']);
        assert_eq!(list.messages().last().unwrap(), b"d", "only 2 is ignored");
    }

    #[test]
    fn message_cut_by_a_death_is_replaced_by_the_next() {
        let list = List::default();
        let mirrors = Mirrors::default().with(&list);
        mirrors.receive(0, &[KIND, MORE, b'a']);
        mirrors.receive(0, &[KIND, MORE, b'b']);
        mirrors.receive(0, &[KIND, CONTINUES, b'c']);
        assert_eq!(
            (list.messages(), list.errors()),
            (vec![b"bc".to_vec()], vec![])
        );
    }

    #[test]
    fn malformed_packet_ends_the_reports_of_its_instance() {
        let long = [&[OTHER, 0][..], &vec![0; MAX_PIECE + 1]].concat();
        let third = [&[KIND, CONTINUES | MORE][..], &vec![0; MAX_PIECE]].concat();
        let begin = [KIND, MORE, 1];
        let cases: [(&[&[u8]], &str); 10] = [
            (&[&[]], "ends 1 byte too early"),
            (&[&[KIND]], "ends 1 byte too early"),
            (&[&[9, 0, 1]], "the stage has no report of kind 9"),
            (&[&[KIND, 4]], "invalid flags 4, the flags are 1 and 2"),
            (&[&[KIND, CONTINUES, 1]], "continues no message of kind 1"),
            (
                &[&begin, &[OTHER, CONTINUES]],
                "continues no message of kind 0",
            ),
            // A piece of another report ends the message before it.
            (&[&begin, &[OTHER, 0, 5], &[KIND, CONTINUES]], "of kind 1"),
            (&[&long], "longer than the limit of 15358 bytes"),
            (
                &[&begin, &third, &third, &third],
                "longer than the limit of 46074",
            ),
            (&[b"\x01\0nonsense"], "is nonsense"),
        ];
        for (packets, why) in cases {
            let (list, short) = (List::default(), Short::default());
            let mirrors = Mirrors::default().with(&list).with(&short);
            packets.iter().for_each(|packet| mirrors.receive(0, packet));
            assert_eq!(list.messages(), Vec::<Vec<u8>>::new(), "{why}");
            for last in [&[KIND, 0, 1][..], &[OTHER, 0, 1], &[]] {
                mirrors.receive(0, last);
            }
            let errors = list.errors();
            assert!(
                errors.len() == 1 && errors[0].contains(why),
                "{why}: {errors:?}"
            );
            assert_eq!((short.0.errors(), list.messages()), (errors, vec![]));
        }
    }
}
