//! Readers, writers and sockets of both sides: they carry frames between the machines.

use super::super::connections::Work;
use super::super::frame::{DataHead, Frame, INFO_LEN};
use super::super::pace::Allowance;
use super::super::receiver::Reading;
use super::network::{Arrival, Wire, data_of, lie};
use super::plan::{MS, SECOND, Side, US};
use super::world::{Event, World};

impl World {
    /// True if the path carries to a side now.
    pub(super) fn carries(&self, path: usize, to: Side) -> bool {
        self.cuts[path][to as usize] <= self.now
    }

    pub(super) fn dial(&mut self, index: u16, incarnation: u64) {
        if self.incarnations[0] != incarnation || self.sender.is_none() {
            return;
        }
        let path = usize::from(index);
        let both = self.carries(path, Side::A) && self.carries(path, Side::B);
        let Some(sender) = &mut self.sender else {
            return;
        };
        if !both {
            sender.unreachable(self.now + 5 * SECOND, index, "the dial timed out");
            return;
        }
        if self.endings[1].is_some() {
            sender.refused(self.now, "no such pipe");
            return;
        }
        if self.receiver.is_none() {
            sender.unreachable(self.now, index, "the half is being replaced");
            return;
        }
        if let Ok(id) = sender.connected(self.now, index) {
            let mut wire = Wire::new(path);
            wire.a.id = Some(id);
            self.wires.push(wire);
            let incarnation = self.incarnations[1];
            let event = Event::Accept {
                wire: self.wires.len() - 1,
                incarnation,
            };
            self.soon(2 * self.plan.paths[path].delay, event);
        }
    }

    pub(super) fn accept(&mut self, wire: usize, incarnation: u64) {
        let index = self.wires[wire].path as u16;
        let id = match &mut self.receiver {
            Some(receiver) if self.incarnations[1] == incarnation => {
                receiver.connected(self.now, index).ok()
            }
            _ => None,
        };
        if id.is_none() {
            self.wires[wire].b.open = false;
            self.send(wire, Side::A, self.now + MS, Arrival::Reset);
        }
        self.wires[wire].b.id = id;
        self.arrive(wire, Side::B);
    }

    /// Sends an arrival to an end, unless it is lost on the way.
    pub(super) fn send(&mut self, wire: usize, to: Side, at: u64, arrival: Arrival) {
        let carries = self.carries(self.wires[wire].path, to);
        let end = self.wires[wire].end(to);
        if !end.deaf && carries {
            let at = at.max(end.last());
            end.coming.push_back((at, arrival));
            self.at(
                at,
                Event::Arrive {
                    wire,
                    to_a: to == Side::A,
                },
            );
        }
    }

    /// Handles what has arrived at an end.
    pub(super) fn arrive(&mut self, wire: usize, at: Side) {
        loop {
            let now = self.now;
            let end = self.wires[wire].end(at);
            if end.id.is_none() || !end.open || !end.reads || end.waits.is_some() {
                return;
            }
            let Some((_, arrival)) = end.coming.pop_front_if(|(time, _)| *time <= now) else {
                return;
            };
            match arrival {
                Arrival::Bytes(bytes) => self.read(wire, at, &bytes),
                Arrival::End => self.lose(wire, at, "the connection ended"),
                Arrival::Reset => self.lose(wire, at, "connection reset"),
            }
        }
    }

    pub(super) fn lose(&mut self, wire: usize, at: Side, why: &str) {
        let Some(id) = self.wires[wire].end(at).id else {
            return;
        };
        match (at, &mut self.sender, &mut self.receiver) {
            (Side::A, Some(sender), _) => sender.lost(self.now, id, why),
            (Side::B, _, Some(receiver)) => receiver.lost(self.now, id, why),
            _ => {}
        }
    }

    /// Gives bytes to a reader.
    pub(super) fn read(&mut self, wire: usize, at: Side, mut bytes: &[u8]) {
        let Some(id) = self.wires[wire].end(at).id else {
            return;
        };
        match (at, &mut self.sender, &mut self.receiver) {
            (Side::A, Some(sender), _) => sender.received(self.now, id),
            (Side::B, _, Some(receiver)) => receiver.received(self.now, id),
            _ => {}
        }
        loop {
            let end = self.wires[wire].end(at);
            if !end.open || !end.reads {
                return;
            }
            if end.waits.is_some() {
                if !bytes.is_empty() {
                    end.coming
                        .push_front((self.now, Arrival::Bytes(bytes.to_vec())));
                }
                return;
            }
            if let Some((_, _, missing, data)) = &mut end.data {
                let len = bytes.len().min(*missing);
                data.extend_from_slice(&bytes[..len]);
                *missing -= len;
                bytes = &bytes[len..];
                if *missing > 0 {
                    return;
                }
                self.filled(wire);
                continue;
            }
            match end.decoder.take(&mut bytes) {
                Ok(Some(frame)) => self.frame(wire, at, frame),
                Ok(None) => return,
                Err(violation) => panic!("frames are whole: {violation}"),
            }
        }
    }

    /// All data of a block have arrived.
    pub(super) fn filled(&mut self, wire: usize) {
        let end = &mut self.wires[wire].b;
        let (reading, number, _, data) = end.data.take().expect("data arrive");
        if self.plan.liar != Some(Side::A) {
            assert_eq!(data, data_of(number), "the data of block {number}");
        }
        let (Some(id), Some(receiver)) = (end.id, &mut self.receiver) else {
            return;
        };
        if reading == Reading::Take {
            receiver.filled(self.now, id);
            self.moved_at = self.now;
            self.wake_parent(Side::B);
        }
    }

    pub(super) fn frame(&mut self, wire: usize, at: Side, frame: Frame) {
        let end = self.wires[wire].end(at);
        let Some(id) = end.id else { return };
        if at == Side::A {
            if let Some(sender) = &mut self.sender {
                end.reads = sender.frame(self.now, id, frame);
            }
            self.leave_if_done(wire, at);
            return;
        }
        let Some(receiver) = &mut self.receiver else {
            return;
        };
        let reading = receiver.frame(self.now, id, &frame);
        match (reading, &frame) {
            (Reading::Take | Reading::Discard, Frame::Data(head)) => {
                let len = head.len as usize;
                end.data = Some((reading, head.number, len, Vec::new()));
                if len == 0 {
                    self.filled(wire);
                }
            }
            (Reading::Wait(_), _) => end.waits = Some(frame),
            (Reading::Leave, _) => {
                end.reads = false;
                self.leave_if_done(wire, at);
            }
            _ => {}
        }
    }

    /// Ends one side of a connection when its reader and writer have left.
    pub(super) fn leave_if_done(&mut self, wire: usize, at: Side) {
        let end = self.wires[wire].end(at);
        let done = !end.open || !end.reads && !end.writes;
        if done && end.id.is_some() && !std::mem::replace(&mut end.leaving, true) {
            let event = Event::Gone {
                wire,
                at_a: at == Side::A,
            };
            self.soon(5 * MS, event);
        }
    }

    pub(super) fn gone(&mut self, wire: usize, at: Side) {
        if self.wires[wire].end(at).open {
            self.shut(wire, at, false);
        }
        let Some(id) = self.wires[wire].end(at).id.take() else {
            return;
        };
        match (at, &mut self.sender, &mut self.receiver) {
            (Side::A, Some(sender), _) => sender.gone(self.now, id),
            (Side::B, _, Some(receiver)) => receiver.gone(self.now, id),
            _ => {}
        }
    }

    /// Closes one end's socket. The other end learns of it, unless it is lost.
    pub(super) fn shut(&mut self, wire: usize, at: Side, abrupt: bool) {
        let end = self.wires[wire].end(at);
        end.open = false;
        end.coming.clear();
        let delay = self.plan.paths[self.wires[wire].path].delay;
        if abrupt && self.random.once_in(3) {
            self.lose_bytes(wire, at.other());
            self.send(wire, at.other(), self.now + delay, Arrival::Reset);
        } else {
            self.send(wire, at.other(), self.now + delay, Arrival::End);
        }
    }

    /// Gives an idle writer work. True if there was any.
    pub(super) fn offer_work(&mut self, wire: usize, by: Side) -> bool {
        let now = self.now;
        let end = self.wires[wire].end(by);
        let Some(id) = end.id.filter(|_| !end.busy && end.writes) else {
            return false;
        };
        end.writing = None;
        let work = match (by, &mut self.sender, &mut self.receiver) {
            (Side::A, Some(sender), _) => sender.work(now, id),
            (Side::B, _, Some(receiver)) => receiver.work(now, id),
            _ => None,
        };
        match work {
            None => return false,
            Some(Work::Leave) => {
                end.writes = false;
                self.leave_if_done(wire, by);
            }
            Some(Work::Shut) => self.send(wire, by.other(), now, Arrival::End),
            Some(Work::Frame(frame)) => self.write_frame(wire, by, frame, &[]),
            Some(Work::Data { number }) => {
                end.writing = Some(number);
                let data = data_of(number);
                let head = DataHead {
                    number,
                    vacant: data.is_empty(),
                    info: (number % 3 == 0).then_some([number as u8; INFO_LEN]),
                    len: data.len() as u32,
                };
                self.write_frame(wire, by, Frame::Data(head), &data);
            }
        }
        true
    }

    /// Time at which the writer of a block has the allowance for all of its data.
    fn allowed_at(&mut self, mut wanted: u64) -> u64 {
        let mut now = self.now;
        while wanted > 0
            && let Some(sender) = &mut self.sender
        {
            match sender.allowance(now, wanted) {
                Allowance::Now(bytes) => wanted -= bytes,
                Allowance::At(at) => now = at,
            }
        }
        now
    }

    /// Writes a frame in pieces, each at its time.
    pub(super) fn write_frame(&mut self, wire: usize, by: Side, mut frame: Frame, data: &[u8]) {
        if self.lying && self.plan.liar == Some(by) && self.random.once_in(4) {
            let word = self.random.word();
            if !lie(word, &mut frame) {
                return;
            }
        }
        let path = self.plan.paths[self.wires[wire].path];
        let is_block = matches!(frame, Frame::Data(_));
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        bytes.extend_from_slice(data);
        let time = if is_block {
            path.block_time
        } else {
            path.block_time / 1000 + US
        };
        let pieces = if is_block {
            self.random.within(2, 4)
        } else {
            self.random.within(1, 2)
        };
        let mut from = 0;
        let mut leaves = self.allowed_at(data.len() as u64);
        for piece in 1..=pieces {
            let most = (bytes.len() - from) as u64;
            let len = if piece == pieces {
                most
            } else {
                self.random.below(most + 1)
            };
            let next = from + len as usize;
            leaves += time / pieces;
            let jitter = self.random.below(path.jitter + 1);
            let arrival = Arrival::Bytes(bytes[from..next].to_vec());
            self.send(wire, by.other(), leaves + path.delay + jitter, arrival);
            from = next;
        }
        self.wires[wire].end(by).busy = true;
        // A connection that carries nothing fills its socket buffer, or blocks its writer.
        let blocked = self.wires[wire].end(by.other()).deaf && self.random.once_in(2);
        if !blocked {
            self.at(
                leaves,
                Event::Written {
                    wire,
                    by_a: by == Side::A,
                },
            );
        }
    }
}
