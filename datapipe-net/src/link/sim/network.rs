//! Connections as the two kernels see them: bytes with the times at which they arrive.

use std::collections::VecDeque;

use super::super::connections::ConnectionId;
use super::super::frame::{Frame, FrameDecoder};
use super::super::receiver::Reading;
use super::plan::Side;

/// Bytes, or the end, that arrive at a time.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    Bytes(Vec<u8>),
    /// The other side has shut its sending direction, or closed the connection.
    End,
    /// The connection was reset.
    Reset,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) path: usize,
    pub(super) a: End,
    pub(super) b: End,
}

/// One end of a connection, with what is under way to it.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The machine's id, until both threads have left.
    pub(super) id: Option<ConnectionId>,
    /// False after the socket was shut.
    pub(super) open: bool,
    /// True until its reader and writer have left.
    pub(super) reads: bool,
    pub(super) writes: bool,
    /// True while the writer is in `write`.
    pub(super) busy: bool,
    /// The block that the writer reads.
    pub(super) writing: Option<u64>,
    /// The frame that the reader gives again after a resume.
    pub(super) waits: Option<Frame>,
    pub(super) decoder: FrameDecoder,
    /// The block whose data arrive: its reading, its number, missing bytes, and the data.
    pub(super) data: Option<(Reading, u64, usize, Vec<u8>)>,
    /// Arrivals under way to this end.
    pub(super) coming: VecDeque<(u64, Arrival)>,
    /// True if nothing that is sent to this end from now on arrives.
    pub(super) deaf: bool,
    /// True if the machine has been asked to forget the connection.
    pub(super) leaving: bool,
}

impl End {
    pub(super) fn new() -> Self {
        Self {
            open: true,
            reads: true,
            writes: true,
            ..Self::default()
        }
    }

    /// Time at which the last thing under way arrives.
    pub(super) fn last(&self) -> u64 {
        self.coming.back().map_or(0, |(at, _)| *at)
    }
}

impl Wire {
    pub(super) fn new(path: usize) -> Self {
        Self {
            path,
            a: End::new(),
            b: End::new(),
        }
    }

    pub(super) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Data of a block: the same in every copy of it.
pub(super) fn data_of(number: u64) -> Vec<u8> {
    let len = (number.wrapping_mul(0x9e37_79b9) >> 7) % 41;
    vec![(number % 251) as u8; len as usize]
}

/// Changes a frame as a dishonest peer does. Returns false if the frame is to be left out.
pub(super) fn lie(word: u64, frame: &mut Frame) -> bool {
    let (what, by) = (word % 8, (word >> 8) % 5);
    let change = |value: &mut u64| match what {
        0 => *value = value.wrapping_add(1 + by),
        1 => *value = value.wrapping_sub(1 + by),
        2 => *value = word,
        3 => *value = u64::MAX - by,
        _ => {}
    };
    match frame {
        Frame::Hello {
            lowest: a,
            incarnation: b,
        } => change(if by % 2 == 0 { a } else { b }),
        Frame::Welcome {
            receipt,
            incarnation,
        } if by == 0 => {
            receipt.ended = what == 5;
            change(incarnation);
        }
        Frame::Welcome { receipt, .. } | Frame::Ack(receipt) => {
            receipt.ended |= what == 4;
            change([&mut receipt.next, &mut receipt.limit, &mut receipt.safe][by as usize % 3]);
        }
        Frame::End { total: number } | Frame::Rate { rate: number } => change(number),
        Frame::Ping { clock } | Frame::Pong { clock } => change(clock),
        Frame::Data(head) => {
            change(&mut head.number);
            head.vacant ^= what == 6;
        }
        Frame::Bye { over } => *over ^= what == 4,
        Frame::Stop(_) => {}
    }
    what != 7
}
