//! Incidents of a run: cuts, broken connections, deaths, stops.

use super::super::frame::{StopCode, StopReason};
use super::super::violation::LinkError;
use super::network::Arrival;
use super::plan::{Fault, MS, SECOND, Side};
use super::world::{Event, World};

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Cut {
                paths,
                to_a,
                to_b,
                until,
            } => self.cut(paths, to_a, to_b, until),
            Fault::Break { paths } => {
                for wire in 0..self.wires.len() {
                    if paths & (1 << self.wires[wire].path) != 0 {
                        self.break_wire(wire);
                    }
                }
            }
            Fault::Kill(side) => self.kill(side),
            Fault::Stop(side) => {
                let reason = StopReason::new(StopCode::CANCELLED, "the run is stopped");
                let ending = Some(Err(LinkError::StoppedHere(reason.clone())));
                match (side, &mut self.sender, &mut self.receiver) {
                    (Side::A, Some(sender), _) => sender.stop(self.now, reason),
                    (Side::B, _, Some(receiver)) => receiver.stop(self.now, reason),
                    // Its parent is dead and is not replaced.
                    _ if self.endings[side as usize].is_none() => {
                        self.endings[side as usize] = ending;
                    }
                    _ => {}
                }
            }
            Fault::Lie(_) => self.lying = true,
            Fault::Retire { path, side } => {
                for wire in &mut self.wires {
                    match (
                        wire.end(side).id,
                        side,
                        &mut self.sender,
                        &mut self.receiver,
                    ) {
                        (Some(id), Side::A, Some(sender), _) if wire.path == usize::from(path) => {
                            sender.retire(id);
                        }
                        (Some(id), Side::B, _, Some(receiver))
                            if wire.path == usize::from(path) =>
                        {
                            receiver.retire(id);
                        }
                        _ => {}
                    }
                }
            }
            Fault::Rate(rate) => {
                if let Some(receiver) = &mut self.receiver {
                    receiver.set_rate(rate).expect("a rate within its range");
                }
            }
        }
    }

    /// Cuts paths: everything under way is lost from some byte on, and no side notices.
    pub(super) fn cut(&mut self, paths: u64, to_a: bool, to_b: bool, until: u64) {
        for path in (0..self.cuts.len()).filter(|path| paths & (1 << path) != 0) {
            for (at, cut) in [to_a, to_b].into_iter().enumerate() {
                if cut {
                    self.cuts[path][at] = self.cuts[path][at].max(until);
                }
            }
            for wire in 0..self.wires.len() {
                if self.wires[wire].path == path {
                    for (side, cut) in [(Side::A, to_a), (Side::B, to_b)] {
                        if cut {
                            self.lose_bytes(wire, side);
                            self.wires[wire].end(side).deaf = true;
                        }
                    }
                }
            }
        }
    }

    /// Loses bytes under way to an end, from some byte on.
    pub(super) fn lose_bytes(&mut self, wire: usize, to: Side) {
        let random = &mut self.random;
        let end = self.wires[wire].end(to);
        end.coming
            .truncate(random.below(end.coming.len() as u64 + 1) as usize);
        if let Some((_, Arrival::Bytes(bytes))) = end.coming.back_mut() {
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
        }
    }

    /// Breaks a connection. Each side notices it soon, late or never.
    pub(super) fn break_wire(&mut self, wire: usize) {
        for to in [Side::A, Side::B] {
            self.lose_bytes(wire, to);
            let notice = match self.random.below(3) {
                0 => Some(self.random.below(50 * MS)),
                1 => Some(self.random.below(8 * SECOND)),
                _ => None,
            };
            if let Some(after) = notice {
                self.send(wire, to, self.now + after, Arrival::Reset);
            }
            self.wires[wire].end(to).deaf = true;
        }
    }

    /// Kills a half's parent. Its sockets are closed, and buffers that it had not sent on are free.
    pub(super) fn kill(&mut self, killed: Side) {
        let alive = match killed {
            Side::A => self.sender.take().is_some(),
            Side::B => match self.receiver.take() {
                Some(receiver) => {
                    self.free_b += receiver.held();
                    true
                }
                None => false,
            },
        };
        if !alive {
            return;
        }
        for wire in 0..self.wires.len() {
            let end = self.wires[wire].end(killed);
            if end.open {
                self.shut(wire, killed, true);
            }
            let end = self.wires[wire].end(killed);
            end.id = None;
            end.open = false;
        }
        let after = self.now + self.random.below(3 * SECOND);
        self.at(
            after,
            Event::Restart {
                a: killed == Side::A,
            },
        );
    }
}
