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

use std::collections::{BTreeMap, BTreeSet};
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

    /// Number of problems that the report has counted so far. A pipe whose reports count any is
    /// incomplete, however well it ends. The number only grows.
    fn problem_count(&self) -> u64;

    /// Describes the problems that [`delta`](Self::delta) has no texts for, if there are any.
    fn describe_problems(&self) -> String {
        String::new()
    }

    /// Address of the report, which its clones share.
    fn address(&self) -> usize;

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

impl ReportKind {
    const ALL: [Self; 6] = [
        Self::Damage,
        Self::Tree,
        Self::Restore,
        Self::Read,
        Self::Write,
        Self::Inspection,
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Number of a report in a message about problems that a module counts itself.
pub(crate) const OWN_PROBLEMS: u8 = u8::MAX;

/// A message about a change of a report, or a piece of one: a text for people, which may be empty,
/// and data for the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) text: String,
    pub(crate) data: Vec<u8>,
    /// True if the text is that of a problem, which the report counts.
    pub(crate) is_problem: bool,
}

impl Update {
    /// A message without a text for people.
    pub(crate) fn silent(data: Vec<u8>) -> Self {
        Self {
            text: String::new(),
            data,
            is_problem: false,
        }
    }

    /// A message about a problem, with its text.
    pub(crate) fn problem(text: String, data: Vec<u8>) -> Self {
        Self {
            is_problem: !text.is_empty(),
            text,
            data,
        }
    }
}

/// A packet about a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// A piece of a message.
    Piece(Update),
    /// The report with this number has counted further problems.
    Problems {
        report: u8,
        increase: u64,
        text: String,
    },
}

/// Flag of a piece: the piece continues the message of the piece before it.
const CONTINUES: u8 = 1;
/// Flag of a piece: the next piece continues its message.
const MORE: u8 = 2;
/// Flag of a piece: its text is that of a problem.
const PROBLEM: u8 = 4;

/// Bytes of a packet reserved for the text that accompanies a piece.
const TEXT: usize = 1024;
/// Maximum bytes of a message in one piece, after kind and flags.
pub(crate) const MAX_PIECE: usize = MAX_STAGE_MESSAGE - TEXT - 2;

/// Returns everything that changed in `report` since `cursor` as pieces of messages, and advances
/// the cursor. The last piece of a message carries its text.
pub(crate) fn pieces<M: Mirror>(report: &M, cursor: &mut M::Cursor) -> Vec<Update> {
    let mut pieces = Vec::new();
    for Update {
        mut text,
        data,
        is_problem,
    } in report.delta(cursor)
    {
        let mut flags = 0;
        let mut chunks = data.chunks(MAX_PIECE).peekable();
        while let Some(chunk) = chunks.next() {
            let is_last = chunks.peek().is_none();
            let more = match (is_last, is_problem) {
                (false, _) => MORE,
                (true, true) => PROBLEM,
                (true, false) => 0,
            };
            pieces.push(Update {
                text: if is_last {
                    std::mem::take(&mut text)
                } else {
                    String::new()
                },
                data: [&[M::KIND as u8, flags | more], chunk].concat(),
                is_problem: is_last && is_problem,
            });
            flags = CONTINUES;
        }
    }
    pieces
}

/// Returns everything that changed in `report` as the packets to be sent: pieces of messages, then
/// the number of new problems. `counted` is the number that has been sent.
fn packets<M: Mirror>(report: &M, cursor: &mut M::Cursor, counted: &mut u64) -> Vec<Packet> {
    let pieces = pieces(report, cursor);
    let mut packets: Vec<_> = pieces.into_iter().map(Packet::Piece).collect();
    // Counted after the texts were taken, so that no text is without its problem.
    let count = report.problem_count();
    let increase = count.saturating_sub(*counted);
    if increase > 0 {
        *counted = count;
        packets.push(Packet::Problems {
            report: M::KIND as u8,
            increase,
            text: report.describe_problems(),
        });
    }
    packets
}

/// The reports of a stage in the controller, and the state of the connections to its instances.
/// Clones share both.
#[derive(Clone, Default)]
pub(crate) struct Mirrors {
    reports: Vec<Arc<dyn Report>>,
    senders: Arc<Mutex<Senders>>,
}

/// State of the messages that the processes of a stage have sent.
#[derive(Debug, Default)]
struct Senders {
    instances: BTreeMap<u32, Sender>,
    /// Number of problems that the processes have counted, by the number of the report.
    counted: BTreeMap<u8, u64>,
}

/// Effect of a packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The packet's text is that of a problem.
    pub(crate) is_problem: bool,
    /// Fault in the packet, which ends the reports of its instance.
    pub(crate) fault: Option<String>,
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
pub(crate) type Packets = Box<dyn FnMut() -> Vec<Packet> + Send>;

/// A [`Mirror`] of any kind, as both sides use it.
trait Report: Send + Sync {
    fn packets(&self) -> Packets;
    fn problem_count(&self) -> u64;
    fn address(&self) -> usize;
    fn on_urgent_change(&self, hook: ChangeHook);
    fn kind(&self) -> ReportKind;
    fn max_message(&self) -> usize;
    fn apply(&self, message: &[u8]) -> Result<(), DecodeError>;
    fn reject(&self, error: &DecodeError);
}

impl<M: Mirror> Report for M {
    fn packets(&self) -> Packets {
        let (report, mut cursor, mut counted) = (self.clone(), M::Cursor::default(), 0);
        Box::new(move || packets(&report, &mut cursor, &mut counted))
    }

    fn problem_count(&self) -> u64 {
        Mirror::problem_count(self)
    }

    fn address(&self) -> usize {
        Mirror::address(self)
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
    pub(crate) fn sources(&self, hook: &ChangeHook) -> impl Iterator<Item = (ReportKind, Packets)> {
        self.reports.iter().map(|report| {
            report.on_urgent_change(hook.clone());
            (report.kind(), report.packets())
        })
    }

    /// Receives one piece of an instance's messages, and applies the message that it completes.
    ///
    /// A caller may not have a report that the process has, because a module of another program
    /// made the stage. Its messages are dropped; the problems that it counts are not.
    pub(crate) fn receive(&self, instance: u32, piece: &[u8]) -> Receipt {
        let mut senders = self.senders.lock();
        let sender = senders.sender(instance);
        let Sender::Valid(partial) = sender else {
            return Receipt::default();
        };
        match self.join(partial, piece) {
            Ok(is_problem) => Receipt {
                is_problem,
                fault: None,
            },
            Err(error) => self.reject(&mut senders, instance, &error),
        }
    }

    /// Receives a number of further problems that a process has counted in one of its reports.
    pub(crate) fn receive_problems(&self, instance: u32, report: u8, increase: u64) -> Receipt {
        let mut senders = self.senders.lock();
        if matches!(senders.sender(instance), Sender::Rejected) {
            return Receipt::default();
        }
        if report != OWN_PROBLEMS && ReportKind::of(report).is_none() {
            let error = DecodeError::new(
                "a process's number of problems",
                format!("is of an unknown report, {report}"),
            );
            return self.reject(&mut senders, instance, &error);
        }
        senders.count(report, increase);
        Receipt {
            is_problem: true,
            fault: None,
        }
    }

    /// Ends the reports of an instance, which is a problem.
    fn reject(&self, senders: &mut Senders, instance: u32, error: &DecodeError) -> Receipt {
        senders.instances.insert(instance, Sender::Rejected);
        let before = self.counted();
        for report in &self.reports {
            report.reject(error);
        }
        if self.counted() == before {
            senders.count(OWN_PROBLEMS, 1);
        }
        Receipt {
            is_problem: false,
            fault: Some(format!("invalid report from its process: {error}")),
        }
    }

    /// Sum of the problems of the stage's own reports.
    fn counted(&self) -> u64 {
        let counts = self.reports.iter().map(|report| report.problem_count());
        counts.fold(0, u64::saturating_add)
    }

    /// Number of problems of the stage. `seen` has the reports of other stages that have been
    /// counted, because stages can share a log.
    ///
    /// A reader that has a log adds everything to it that its own report counts.
    pub(super) fn problem_count(&self, seen: &mut BTreeSet<usize>) -> u64 {
        let own = self.reports.iter().map(|report| {
            let is_new = seen.insert(report.address());
            (Some(report.kind()), report.problem_count(), is_new)
        });
        let own: Vec<_> = own.collect();
        let senders = self.senders.lock();
        let sent = senders.counted.iter().filter_map(|(&number, &count)| {
            let kind = ReportKind::of(number);
            let is_copied = kind.is_some() && own.iter().any(|(own, ..)| *own == kind);
            (!is_copied).then_some((kind, count, true))
        });
        let all: Vec<_> = own.iter().copied().chain(sent).collect();
        let has_log = all
            .iter()
            .any(|&(kind, count, _)| kind == Some(ReportKind::Damage) && count > 0);
        let counts = all
            .into_iter()
            .filter(|&(kind, _, is_new)| is_new && !(has_log && kind == Some(ReportKind::Read)));
        counts.fold(0, |sum, (_, count, _)| sum.saturating_add(count))
    }

    /// Joins a piece with the previous ones of its message, and applies the message if it is whole.
    /// Returns true if the text that comes with the piece is that of a problem.
    fn join(&self, partial: &mut Option<Partial>, piece: &[u8]) -> Result<bool, DecodeError> {
        let mut piece = Bytes::new("a piece of a report", piece);
        let (kind, flags) = (piece.u8()?, piece.u8()?);
        if flags & !(CONTINUES | MORE | PROBLEM) != 0 {
            return Err(piece.error(format!("invalid flags {flags}, the flags are 1, 2 and 4")));
        }
        let is_problem = flags & PROBLEM != 0;
        let mut reports = self.reports.iter();
        let Some(report) = reports.find(|report| report.kind() as u8 == kind) else {
            // A caller that described the stage's reports has all of them.
            return match (ReportKind::of(kind), self.reports.is_empty()) {
                (Some(_), true) => Ok(is_problem),
                _ => Err(piece.error(format!("the stage has no report of kind {kind}"))),
            };
        };
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
            return report.apply(&message).map(|()| is_problem);
        }
        *partial = Some(Partial { kind, message });
        Ok(is_problem)
    }
}

impl Senders {
    fn sender(&mut self, instance: u32) -> &mut Sender {
        self.instances
            .entry(instance)
            .or_insert(Sender::Valid(None))
    }

    fn count(&mut self, report: u8, increase: u64) {
        let count = self.counted.entry(report).or_default();
        *count = count.saturating_add(increase);
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
        .inspect(|piece| drop(to.receive(0, &piece.data)))
        .filter_map(|piece| (!piece.text.is_empty()).then_some(piece.text))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::problem_count::ProblemCount;
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
                is_problem: false,
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

        fn problem_count(&self) -> u64 {
            self.0.lock().1.len() as u64
        }

        fn address(&self) -> usize {
            Arc::as_ptr(&self.0).addr()
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

        fn problem_count(&self) -> u64 {
            Mirror::problem_count(&self.0)
        }

        fn address(&self) -> usize {
            Mirror::address(&self.0)
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
            (&[&[KIND, 8]], "invalid flags 8, the flags are 1, 2 and 4"),
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
            for packet in packets {
                mirrors.receive(0, packet);
            }
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

    /// Sends everything that is new in a report to the mirrors of a stage.
    fn send(packets: &mut Packets, to: &Mirrors) {
        for packet in packets() {
            match packet {
                Packet::Piece(piece) => to.receive(0, &piece.data),
                Packet::Problems {
                    report, increase, ..
                } => to.receive_problems(0, report, increase),
            };
        }
    }

    #[test]
    fn problems_of_a_process_count_without_a_copy_of_its_report() {
        let list = List::of(&[b"a"]);
        let mut packets = Report::packets(&list);
        let (with, without) = (
            Mirrors::default().with(&List::default()),
            Mirrors::default(),
        );
        let (copied, counted) = (
            ProblemCount::new(vec![with.clone()]),
            ProblemCount::new(vec![without.clone()]),
        );
        for expected in 0..3 {
            send(&mut packets, &without);
            assert_eq!(counted.get(), expected);
            Mirror::reject(&list, &DecodeError::new("it", "is nonsense"));
        }
        // A copy counts itself, and ignores the number.
        with.receive_problems(0, KIND, 7);
        assert_eq!(copied.get(), 0);
        with.receive_problems(0, OWN_PROBLEMS, 2);
        assert_eq!(copied.get(), 2);
        without.receive_problems(1, OWN_PROBLEMS, u64::MAX);
        without.receive_problems(2, OTHER, 9);
        assert_eq!(counted.get(), u64::MAX);
    }

    #[test]
    fn malformed_packet_is_one_problem() {
        let unknown = "unknown report, 77";
        for (receipt, why) in [
            (
                Mirrors::default().receive(0, &[9, 0]),
                "no report of kind 9",
            ),
            (Mirrors::default().receive_problems(0, 77, 1), unknown),
        ] {
            assert!(receipt.fault.unwrap().contains(why), "{why}");
        }
        for mirrors in [
            Mirrors::default(),
            Mirrors::default().with(&List::default()),
        ] {
            let count = ProblemCount::new(vec![mirrors.clone()]);
            assert!(mirrors.receive(0, &[9, 0]).fault.is_some());
            assert_eq!(mirrors.receive(0, &[9, 0]), Receipt::default());
            mirrors.receive_problems(0, KIND, 5);
            assert_eq!(count.get(), 1, "{mirrors:?}");
        }
    }
}
