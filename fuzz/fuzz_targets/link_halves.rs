//! Both halves of a link, fed with the frames of a hostile peer on several connections, in any
//! order with the events of their parents. Neither panics, both take few connections, the sender
//! frees only blocks that it has, and both end when the peer falls silent.
#![no_main]

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Unstructured};
use datapipe_net::link::{
    Action, ConnectError, ConnectionId, FRAME_HEAD_LEN, Frame, FrameDecoder, INFO_LEN,
    LinkSettings, Reading, Receiver, Sender, StopCode, StopReason,
};
use libfuzzer_sys::fuzz_target;

const BLOCKS: u64 = 8;
/// Connections of the link: as many of the sender, and twice as many of the receiver.
const CONNECTIONS: usize = 3;

/// An event of a link.
#[derive(Arbitrary, Debug)]
enum Step {
    Connect {
        to_sender: bool,
        index: u8,
    },
    Frame {
        to_sender: bool,
        connection: u8,
        head: [u8; 8],
        body: [u64; 3],
    },
    Work {
        of_sender: bool,
        connection: u8,
    },
    Lost {
        of_sender: bool,
        connection: u8,
    },
    Gone {
        of_sender: bool,
        connection: u8,
    },
    Filled {
        connection: u8,
    },
    Block,
    End,
    Stocked,
    Later {
        milliseconds: u16,
    },
    Stop {
        sender: bool,
    },
}

/// The frame of some bytes, if they are one. Its numbers are small, so that it gets far.
fn frame(head: [u8; 8], body: [u64; 3]) -> Option<Frame> {
    let [kind, flags, len, number @ ..] = head;
    let len = match kind {
        1 => 8,
        2 => 24,
        // Flag 2: the block's information precedes its data.
        3 if flags & 2 != 0 => len.max(INFO_LEN as u8),
        3 => len,
        4 => 16,
        // A code, and a text that is part of the body.
        8 => 2 + len % 23,
        _ => 0,
    };
    let number = u64::from(u32::from_le_bytes(number[..4].try_into().unwrap_or_default()) % 16)
        | u64::from(number[4] / 255) << 63;
    let number = match kind {
        8 | 10 => 0,
        // A few of these are rates of the link, and the others too high.
        9 => number.saturating_mul(1 << 16),
        _ => number,
    };
    let mut bytes = vec![kind, flags, 0, 0, len, 0, 0, 0];
    bytes.extend(number.to_le_bytes());
    bytes.extend(body.iter().flat_map(|word| (word % 32).to_le_bytes()));
    bytes.resize(bytes.len().max(FRAME_HEAD_LEN + INFO_LEN), 0);
    FrameDecoder::default().take(&mut &bytes[..]).ok().flatten()
}

struct Link {
    now: u64,
    sender: Sender,
    receiver: Receiver,
    /// All connections so far: those that are gone, too.
    of_sender: Vec<ConnectionId>,
    of_receiver: Vec<ConnectionId>,
    /// Connections that the sender and the receiver have taken, and that are not gone.
    present: [BTreeSet<ConnectionId>; 2],
    blocks: u64,
    ended: bool,
}

impl Link {
    fn step(&mut self, step: Step) {
        let now = self.now;
        let pick = |all: &[ConnectionId], at: u8| {
            (!all.is_empty()).then(|| all[usize::from(at) % all.len()])
        };
        let (of_sender, of_receiver) = (&self.of_sender, &self.of_receiver);
        let at = |sender: bool, at: u8| pick(if sender { of_sender } else { of_receiver }, at);
        match step {
            Step::Connect { to_sender, index } => self.connect(to_sender, u16::from(index % 4)),
            Step::Frame {
                to_sender,
                connection,
                head,
                body,
            } => {
                self.frame(to_sender, at(to_sender, connection), frame(head, body));
            }
            Step::Work {
                of_sender: sender,
                connection,
            } => match (at(sender, connection), sender) {
                (Some(id), true) => drop(self.sender.work(now, id)),
                (Some(id), false) => drop(self.receiver.work(now, id)),
                _ => {}
            },
            Step::Lost {
                of_sender: sender,
                connection,
            } => match (at(sender, connection), sender) {
                (Some(id), true) => self.sender.lost(now, id, "lost"),
                (Some(id), false) => self.receiver.lost(now, id, "lost"),
                _ => {}
            },
            Step::Gone {
                of_sender: sender,
                connection,
            } => match (at(sender, connection), sender) {
                (Some(id), sender) => self.gone(sender, id),
                _ => {}
            },
            Step::Filled { connection } => {
                if let Some(id) = at(false, connection) {
                    self.receiver.filled(now, id);
                }
            }
            step => self.parents_step(step),
        }
    }

    fn connect(&mut self, to_sender: bool, index: u16) {
        let result = match to_sender {
            true => self.sender.connected(self.now, index),
            false => self.receiver.connected(self.now, index),
        };
        let (present, most, all) = match to_sender {
            true => (&mut self.present[0], CONNECTIONS, &mut self.of_sender),
            false => (&mut self.present[1], 2 * CONNECTIONS, &mut self.of_receiver),
        };
        match result {
            Ok(id) => {
                assert!(present.insert(id), "no two connections have the same id");
                assert!(present.len() <= most, "few connections");
                all.push(id);
            }
            Err(ConnectError::Busy { .. }) => assert_eq!(present.len(), most),
            Err(_) => {}
        }
    }

    /// The reader and the writer of a connection have left.
    fn gone(&mut self, of_sender: bool, id: ConnectionId) {
        match of_sender {
            true => self.sender.gone(self.now, id),
            false => self.receiver.gone(self.now, id),
        }
        self.present[usize::from(!of_sender)].remove(&id);
    }

    /// Events from the parents, and time.
    fn parents_step(&mut self, step: Step) {
        match step {
            Step::Block if self.sender.wants() && !self.ended && self.blocks < BLOCKS => {
                assert_eq!(self.sender.block(), self.blocks);
                self.blocks += 1;
            }
            Step::End => {
                self.sender.end(self.now);
                self.ended = true;
            }
            Step::Stocked if self.receiver.wants_buffer() && self.receiver.held() < BLOCKS => {
                self.receiver.stocked(false);
            }
            Step::Later { milliseconds } => {
                self.now += u64::from(milliseconds) * 1_000_000;
                self.sender.tick(self.now);
                self.receiver.tick(self.now);
            }
            Step::Stop { sender } => {
                let reason = StopReason::new(StopCode::CANCELLED, "stopped");
                if sender {
                    self.sender.stop(self.now, reason);
                } else {
                    self.receiver.stop(self.now, reason);
                }
            }
            _ => {}
        }
    }

    /// Gives a frame to a half.
    fn frame(&mut self, to_sender: bool, id: Option<ConnectionId>, frame: Option<Frame>) {
        let (Some(id), Some(frame)) = (id, frame) else {
            return;
        };
        if to_sender {
            self.sender.frame(self.now, id, frame);
        } else if let Reading::Wait(other) = self.receiver.frame(self.now, id, &frame) {
            self.gone(false, other);
        }
    }

    /// The parents' part, and the actions.
    fn settle(&mut self) {
        if self.receiver.ready() {
            self.receiver.sent_on();
        }
        if self.receiver.is_complete() {
            self.receiver.completed(self.now);
        }
        for action in self.sender.take_actions() {
            if let Action::Free { below } = action {
                assert!(below <= self.blocks);
            }
        }
        self.receiver.take_actions();
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let settings = LinkSettings::new(CONNECTIONS as u16, 5, 7);
    let mut link = Link {
        now: 0,
        sender: Sender::new(0, settings, 0, 0),
        receiver: Receiver::new(0, settings, 0, false, 100),
        of_sender: Vec::new(),
        of_receiver: Vec::new(),
        present: Default::default(),
        blocks: 0,
        ended: false,
    };
    while !input.is_empty()
        && let Ok(step) = Step::arbitrary(&mut input)
    {
        link.step(step);
        link.settle();
    }
    for _ in 0..10_000 {
        let timeout = link.sender.timeout().min(link.receiver.timeout());
        if timeout == u64::MAX {
            return;
        }
        link.now = link.now.max(timeout);
        link.sender.tick(link.now);
        link.receiver.tick(link.now);
        link.settle();
    }
    panic!("a half whose peer is silent goes on");
});
