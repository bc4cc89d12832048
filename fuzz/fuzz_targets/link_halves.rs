//! Both halves of a link, fed with the frames of a hostile peer on several connections, in any
//! order with the events of their parents. Neither panics, both hold few connections, the sender
//! frees only blocks that it has, and both end when the peer falls silent.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use datapipe_net::link::{
    Action, ConnectionId, Frame, FrameDecoder, LinkSettings, Reading, Receiver, Sender, StopCode,
    StopReason,
};
use libfuzzer_sys::fuzz_target;

const BLOCKS: u64 = 8;

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
        3 => len,
        4 => 16,
        _ => 0,
    };
    let number = u64::from(u32::from_le_bytes(number[..4].try_into().unwrap_or_default()) % 16)
        | u64::from(number[4] / 255) << 63;
    let mut bytes = vec![kind, flags, 0, 0, len, 0, 0, 0];
    bytes.extend(number.to_le_bytes());
    bytes.extend(body.iter().flat_map(|word| (word % 32).to_le_bytes()));
    FrameDecoder::default().take(&mut &bytes[..]).ok().flatten()
}

struct Link {
    now: u64,
    sender: Sender,
    receiver: Receiver,
    of_sender: Vec<ConnectionId>,
    of_receiver: Vec<ConnectionId>,
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
            Step::Connect {
                to_sender: true,
                index,
            } => {
                self.of_sender
                    .extend(self.sender.connected(now, u16::from(index % 4)).ok());
            }
            Step::Connect {
                to_sender: false,
                index,
            } => {
                self.of_receiver
                    .extend(self.receiver.connected(now, u16::from(index % 4)).ok());
            }
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
                (Some(id), true) => self.sender.gone(now, id),
                (Some(id), false) => self.receiver.gone(now, id),
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
            self.receiver.gone(self.now, other);
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
    let settings = LinkSettings::new(3, 5, 7);
    let mut link = Link {
        now: 0,
        sender: Sender::new(0, settings, 0, 0),
        receiver: Receiver::new(0, settings, 0, false, 100),
        of_sender: Vec::new(),
        of_receiver: Vec::new(),
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
