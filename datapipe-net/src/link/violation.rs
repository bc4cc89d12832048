//! Broken promises of the other half, and the reasons for which a link ends without success.

use std::error::Error;
use std::fmt;

use super::frame::StopReason;

/// Frame that the other half must not send. A half that receives one stops the pipe: a peer that
/// breaks its promises is not tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// The reserved bytes of a head are not 0.
    Reserved {
        /// Kind of the frame.
        kind: u8,
        /// Value of the reserved bytes.
        found: u16,
    },
    /// The kind is unknown, and its bit 7 forbids to skip it.
    UnknownKind {
        /// Kind of the frame.
        kind: u8,
    },
    /// Flags that the kind does not have.
    Flags {
        /// Kind of the frame.
        kind: u8,
        /// Flags of the frame.
        flags: u8,
        /// Flags that the kind has.
        known: u8,
    },
    /// The body's length is not one that the kind has.
    BodyLength {
        /// Kind of the frame.
        kind: u8,
        /// Length of the body, in bytes.
        len: u32,
        /// Shortest length.
        least: u32,
        /// Greatest length.
        most: u32,
    },
    /// The number of a kind that has none is not 0.
    Number {
        /// Kind of the frame.
        kind: u8,
        /// Number of the frame.
        number: u64,
    },
    /// The text of a STOP is not UTF-8.
    Text,
    /// The first frame on a connection is not the one that it must be.
    First {
        /// Name of the frame that must be first.
        expected: &'static str,
        /// Kind of the frame.
        kind: u8,
    },
    /// A frame that only the other direction has, or one that may come once, again.
    Unexpected {
        /// Kind of the frame.
        kind: u8,
        /// The reason.
        why: &'static str,
    },
    /// A block at or above the limit.
    BeyondLimit {
        /// Number of the block.
        number: u64,
        /// The limit.
        limit: u64,
    },
    /// A block at or above the total.
    BeyondTotal {
        /// Number of the block.
        number: u64,
        /// The total.
        total: u64,
    },
    /// Another total than before.
    OtherTotal {
        /// The total.
        total: u64,
        /// The total before.
        earlier: u64,
    },
    /// A total below the number of blocks that have arrived.
    TotalBelow {
        /// The total.
        total: u64,
        /// Number of blocks, counted up to the highest that has arrived.
        arrived: u64,
    },
    /// Data that do not fit in a buffer.
    TooLong {
        /// Number of the block.
        number: u64,
        /// Length of the data in bytes.
        len: u32,
        /// Length that fits.
        most: u32,
    },
    /// A vacant block with data.
    VacantData {
        /// Number of the block.
        number: u64,
        /// Length of the data in bytes.
        len: u32,
    },
    /// A value that decreased on one connection, where it may only grow.
    Backwards {
        /// Name of the value.
        what: &'static str,
        /// The value.
        value: u64,
        /// The value before.
        earlier: u64,
    },
    /// An acknowledgement of blocks that were not sent.
    NotSent {
        /// Number of acknowledged blocks.
        next: u64,
        /// Number of blocks that the sender has had.
        taken: u64,
    },
    /// An acknowledgement above the limit beside it.
    NextBeyondLimit {
        /// Number of acknowledged blocks.
        next: u64,
        /// The limit.
        limit: u64,
    },
    /// The end at another number than the total.
    EndedEarly {
        /// Number of acknowledged blocks.
        next: u64,
        /// The total.
        total: u64,
    },
    /// The end, and later on the same connection no end.
    EndTakenBack {
        /// Number of acknowledged blocks at the end.
        next: u64,
    },
    /// The end at another number than before.
    OtherEnd {
        /// Number of acknowledged blocks.
        next: u64,
        /// The number before.
        earlier: u64,
    },
    /// A rate outside of its range.
    Rate {
        /// The rate, in bytes a second.
        rate: u64,
        /// Lowest rate.
        least: u64,
        /// Highest rate.
        most: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved { kind, found } => {
                write!(
                    f,
                    "a frame of kind {kind}: its reserved bytes are {found:#x}, not 0"
                )
            }
            Self::UnknownKind { kind } => write!(
                f,
                "a frame of the unknown kind {kind:#x}, which must be understood: use the same \
                 version on both machines"
            ),
            Self::Flags { kind, flags, known } => {
                write!(
                    f,
                    "a frame of kind {kind}: flags {flags:#x}, of which only {known:#x} exist"
                )
            }
            Self::BodyLength {
                kind,
                len,
                least,
                most,
            } => write!(
                f,
                "a frame of kind {kind}: its body has {len} bytes, not {least} to {most}"
            ),
            Self::Number { kind, number } => {
                write!(f, "a frame of kind {kind}: its number is {number}, not 0")
            }
            Self::Text => write!(f, "the text of a STOP is not UTF-8"),
            Self::First { expected, kind } => {
                write!(f, "the first frame has kind {kind} and is not a {expected}")
            }
            Self::Unexpected { kind, why } => write!(f, "a frame of kind {kind}: {why}"),
            _ => self.fmt_numbers(f),
        }
    }
}

impl Violation {
    /// Formats violations whose frame is right by itself: its values contradict others.
    fn fmt_numbers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondLimit { number, limit } => {
                write!(f, "block {number} is not below the limit, {limit}")
            }
            Self::BeyondTotal { number, total } => {
                write!(f, "block {number} is not below the total, {total}")
            }
            Self::OtherTotal { total, earlier } => {
                write!(f, "the total is {total}, and was {earlier} before")
            }
            Self::TotalBelow { total, arrived } => write!(
                f,
                "the total is {total}, but blocks up to number {} have arrived",
                arrived.saturating_sub(1)
            ),
            Self::TooLong { number, len, most } => write!(
                f,
                "block {number} has {len} bytes, and a buffer has room for {most}"
            ),
            Self::VacantData { number, len } => {
                write!(f, "block {number} is vacant and has {len} bytes")
            }
            Self::Backwards {
                what,
                value,
                earlier,
            } => {
                write!(f, "{what} is {value}, and was {earlier} before")
            }
            Self::NotSent { next, taken } => write!(
                f,
                "{next} blocks are acknowledged, and there have been {taken} so far"
            ),
            Self::NextBeyondLimit { next, limit } => {
                write!(f, "{next} blocks are acknowledged with a limit of {limit}")
            }
            Self::EndedEarly { next, total } => write!(
                f,
                "the stream is reported complete after {next} blocks, and it has {total}"
            ),
            Self::EndTakenBack { next } => write!(
                f,
                "the stream was reported complete after {next} blocks, and is reported incomplete"
            ),
            Self::OtherEnd { next, earlier } => write!(
                f,
                "the stream is reported complete after {next} blocks, and was after {earlier} \
                 before"
            ),
            Self::Rate { rate, least, most } => write!(
                f,
                "a rate of {rate} bytes a second; the range is {least} to {most}, or 0 for none"
            ),
            Self::Reserved { kind, .. }
            | Self::UnknownKind { kind }
            | Self::Flags { kind, .. }
            | Self::BodyLength { kind, .. }
            | Self::Number { kind, .. }
            | Self::First { kind, .. }
            | Self::Unexpected { kind, .. } => write!(f, "a frame of kind {kind}"),
            Self::Text => Ok(()),
        }
    }
}

impl Error for Violation {}

/// Reason for which a link ended before everything had been handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The other half broke a promise.
    Violation(Violation),
    /// Neither half holds the blocks from `next` up to `lowest`.
    Hole {
        /// Number of the first block that the sending half still holds.
        lowest: u64,
        /// Number of the block that the receiving half needs.
        next: u64,
    },
    /// The other half stopped the pipe.
    StoppedThere(StopReason),
    /// This half stopped the pipe.
    StoppedHere(StopReason),
    /// There was no connection for too long.
    Unreachable {
        /// Time without a connection, in seconds.
        seconds: u64,
        /// The last connection's end.
        last: String,
    },
    /// The other machine answered that the pipe does not exist, or not for this peer.
    Refused(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => {
                write!(
                    f,
                    "the other half broke the protocol of the link: {violation}"
                )
            }
            Self::Hole { lowest, next } => write!(
                f,
                "the receiving half needs block {next}, and the sending half holds blocks from \
                 {lowest} on: start the job again"
            ),
            Self::StoppedThere(reason) => write!(f, "the other half stopped: {}", reason.text),
            Self::StoppedHere(reason) => write!(f, "stopped: {}", reason.text),
            Self::Unreachable { seconds, last } => {
                write!(f, "no connection to the other half for {seconds} s: {last}")
            }
            Self::Refused(text) => write!(f, "the other machine refused: {text}"),
        }
    }
}

impl Error for LinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Violation(violation) => Some(violation),
            _ => None,
        }
    }
}
