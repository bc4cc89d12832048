//! The sending half: which block goes over which connection, and which blocks may be freed.

use std::collections::VecDeque;

use super::connections::{Action, ConnectError, ConnectionId, Connections, LinkSettings, Work};
use super::frame::{Frame, Receipt, StopCode, StopReason};
use super::life::Backoff;
use super::pace::{Allowance, Pace};
use super::violation::{LinkError, Violation};
use super::wrong::wrong;

/// Sending half of a link.
///
/// The parent gives it the numbers of blocks with [`block`](Self::block) and keeps the blocks until
/// [`Action::Free`]. Each connection has a reader, which calls [`frame`](Self::frame), and a
/// writer, which calls [`work`](Self::work); when both have left, one of them calls
/// [`gone`](Self::gone).
#[derive(Debug)]
pub struct Sender {
    connections: Connections<Own>,
    pace: Pace,
    /// Number of blocks that the receiver has sent on.
    acked: u64,
    /// Blocks below this number may be freed.
    freed: u64,
    /// Number of blocks so far: the next block has this number.
    taken: u64,
    /// Blocks below this number have a buffer at the receiver.
    limit: u64,
    /// Number of blocks on stable storage.
    safe: u64,
    /// Incarnation of the receiver.
    far: Option<u64>,
    /// The connection over which each block from `acked` up to `taken` is under way, or was sent.
    sent: VecDeque<Option<ConnectionId>>,
    /// No block below this number is unsent.
    first_unsent: u64,
    total: Option<u64>,
    /// The total, as the receiver knows it from an earlier incarnation of this half.
    ended_at: Option<u64>,
    redials: Vec<Backoff>,
    /// Shortest round trip of a ping, in nanoseconds.
    round_trip: Option<u64>,
    /// True after the end was sent on any connection.
    #[cfg(test)]
    end_sent: bool,
}

/// Part of a connection that only the sending half has.
#[derive(Clone, Debug, Default)]
struct Own {
    /// The receiver's last state on this connection.
    receipt: Receipt,
    /// The block that the writer reads.
    writing: Option<u64>,
    end_sent: bool,
    /// The receiver's last rate on this connection, if one has arrived; 0 sets no limit.
    rate: Option<u64>,
    /// Time of the receiver's greeting, and its incarnation.
    met_at: u64,
    far: u64,
    /// Blocks that were sent over the connection.
    #[cfg(test)]
    blocks: u64,
}

impl Sender {
    /// Makes the sending half, which asks at once to dial its connections. Blocks from `lowest` up
    /// to `taken` are those that a parent inherits from the one that it replaces; without any, both
    /// numbers are the number of the first block.
    ///
    /// # Panics
    ///
    /// If `lowest` is greater than `taken`.
    pub fn new(now: u64, settings: LinkSettings, lowest: u64, taken: u64) -> Self {
        assert!(lowest <= taken, "{lowest} is at most {taken}");
        let mut connections = Connections::new(now, settings);
        let mut redials = Vec::new();
        for index in 0..settings.connections {
            let seed = settings.seed ^ (u64::from(index) << 48);
            redials.push(Backoff::new(seed, &settings.timers));
            connections.act(Action::Dial {
                index,
                not_before: now,
            });
        }
        Self {
            connections,
            pace: Pace::new(settings.connections, 0).expect("no rate is a rate"),
            acked: lowest,
            freed: lowest,
            taken,
            limit: 0,
            safe: 0,
            far: None,
            sent: (lowest..taken).map(|_| None).collect(),
            first_unsent: lowest,
            total: None,
            ended_at: None,
            redials,
            round_trip: None,
            #[cfg(test)]
            end_sent: false,
        }
    }

    /// Takes the actions that earlier calls have asked for.
    pub fn take_actions(&mut self) -> Vec<Action> {
        self.connections.take_actions()
    }

    /// Number of blocks that the receiver has sent on.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Number of blocks on stable storage at the receiver, in the numbers of the head.
    pub fn safe(&self) -> u64 {
        self.safe
    }

    /// Shortest round trip of a ping so far, in nanoseconds.
    pub fn round_trip(&self) -> Option<u64> {
        self.round_trip
    }

    /// True if a further block could be sent at once. The parent takes a block from its own queue
    /// only then, so that blocks that wait are seen in that queue.
    pub fn wants(&self) -> bool {
        let promised = self.taken < self.limit || wrong!(self.settings(), CreditsByConnection);
        promised && self.total.is_none() && self.connections.is_running()
    }

    fn settings(&self) -> &LinkSettings {
        &self.connections.settings
    }

    // Events from the parent.

    /// Adds the next block, and returns its number.
    ///
    /// # Panics
    ///
    /// If the stream has ended.
    pub fn block(&mut self) -> u64 {
        assert!(self.total.is_none(), "a block after the end");
        let number = self.taken;
        self.taken += 1;
        self.sent.push_back(None);
        self.connections.wake();
        number
    }

    /// Ends the stream: the blocks so far are all.
    pub fn end(&mut self, now: u64) {
        if self.total.is_some() {
            return;
        }
        let total = self.taken;
        self.total = Some(total);
        self.connections.wake();
        match self.ended_at {
            Some(next) if next != total => self.violate(now, Violation::EndedEarly { next, total }),
            Some(_) => self.connections.leave(now, None, Ok(())),
            None => {}
        }
    }

    /// Stops the pipe: the other half receives the reason.
    pub fn stop(&mut self, now: u64, reason: StopReason) {
        let error = LinkError::StoppedHere(reason.clone());
        self.connections.leave(now, Some(reason), Err(error));
    }

    /// The other machine answered a dial: it does not have the pipe, or not for this peer. If the
    /// receiver has reported the end of the stream, the answer to a late dial changes nothing.
    pub fn refused(&mut self, now: u64, why: &str) {
        if self.connections.is_running() {
            let error = LinkError::Refused(why.to_owned());
            self.connections.end(now, Err(error));
        }
    }

    // Events from connections.

    /// A dial has succeeded.
    ///
    /// # Errors
    ///
    /// If the link has no such connection, has all of them, or is over.
    pub fn connected(&mut self, now: u64, index: u16) -> Result<ConnectionId, ConnectError> {
        let connections = self.settings().connections;
        if index >= connections {
            return Err(ConnectError::Index { index, connections });
        }
        if !self.connections.is_running() {
            return Err(ConnectError::Over);
        }
        let present = self.connections.all.len();
        if present >= usize::from(connections) {
            return Err(ConnectError::Busy { present });
        }
        Ok(self.connections.add(now, index, Own::default()))
    }

    /// A dial has failed.
    pub fn unreachable(&mut self, now: u64, index: u16, why: &str) {
        self.connections.unreachable(why);
        self.redial(now, index);
    }

    /// Bytes were received on a connection.
    pub fn received(&mut self, now: u64, id: ConnectionId) {
        if let Some(connection) = self.connections.open(id) {
            connection.pulse.received(now);
        }
    }

    /// A connection has failed, or has ended without a BYE.
    pub fn lost(&mut self, now: u64, id: ConnectionId, why: &str) {
        self.close(now, id, why);
    }

    /// The reader and the writer of a connection have left.
    pub fn gone(&mut self, now: u64, id: ConnectionId) {
        let Some(connection) = self.connections.remove(now, id) else {
            return;
        };
        self.unsend(id);
        self.update_rate();
        self.free();
        let lasted = connection.met
            && now.saturating_sub(connection.own.met_at) >= self.settings().timers.silence;
        let clean = connection.open && connection.bye_received;
        if (lasted || clean)
            && let Some(backoff) = self.redials.get_mut(usize::from(connection.index))
        {
            backoff.reset(&self.connections.settings.timers);
        }
        self.redial(now, connection.index);
    }

    /// The writer of a connection is to say BYE after its block, so that a new connection takes its
    /// place: its keys have been used for long enough.
    pub fn retire(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.open(id) {
            connection.retiring = true;
            self.connections.wake();
        }
    }

    /// Bytes have arrived that are not a frame: the error of the connection's decoder.
    pub fn malformed(&mut self, now: u64, id: ConnectionId, violation: Violation) {
        if self.connections.open(id).is_some() {
            self.violate(now, violation);
        }
    }

    /// A frame has arrived. Returns false if the reader is to leave.
    pub fn frame(&mut self, now: u64, id: ConnectionId, frame: Frame) -> bool {
        let Some(connection) = self.connections.open(id) else {
            return false;
        };
        connection.pulse.received(now);
        let kind = frame.kind();
        if connection.bye_received {
            let why = "it follows a BYE";
            self.violate(now, Violation::Unexpected { kind, why });
        } else if !connection.met && !matches!(frame, Frame::Welcome { .. } | Frame::Stop(_)) {
            self.violate(
                now,
                Violation::First {
                    expected: "WELCOME",
                    kind,
                },
            );
        } else if let Err(violation) = self.take(now, id, frame) {
            self.violate(now, violation);
        }
        self.connections
            .open(id)
            .is_some_and(|connection| !connection.bye_received)
    }

    /// Handles a frame at its place.
    fn take(&mut self, now: u64, id: ConnectionId, frame: Frame) -> Result<(), Violation> {
        let kind = frame.kind();
        let Some(connection) = self.connections.open(id) else {
            return Ok(());
        };
        match frame {
            Frame::Welcome { .. } if connection.met => {
                let why = "it is not the first one";
                return Err(Violation::Unexpected { kind, why });
            }
            Frame::Welcome {
                receipt,
                incarnation,
            } => {
                return self.welcome(now, id, receipt, incarnation);
            }
            Frame::Ack(receipt) => return self.receipt(now, id, receipt),
            Frame::Ping { clock } => {
                connection.pulse.pinged(clock);
                self.connections.wake();
            }
            Frame::Pong { clock } => {
                if let Some(time) = connection.pulse.answered(now, clock) {
                    self.round_trip = Some(self.round_trip.map_or(time, |least| least.min(time)));
                }
            }
            Frame::Stop(reason) => self
                .connections
                .end(now, Err(LinkError::StoppedThere(reason))),
            Frame::Rate { rate } => {
                let mut checked = self.pace.clone();
                checked.set_rate(rate).map_err(|error| Violation::Rate {
                    rate,
                    least: error.least,
                    most: error.most,
                })?;
                connection.own.rate = Some(rate);
                self.update_rate();
            }
            Frame::Bye { over: true } => {
                let why = "only the sending half reports the end of the stream";
                return Err(Violation::Unexpected { kind, why });
            }
            Frame::Bye { over: false } => {
                connection.bye_received = true;
                self.connections.wake();
            }
            Frame::Hello { .. } | Frame::Data(_) | Frame::End { .. } => {
                let why = "only the sending half sends it";
                return Err(Violation::Unexpected { kind, why });
            }
        }
        Ok(())
    }

    /// Meets the receiver, which may be another incarnation than before.
    fn welcome(
        &mut self,
        now: u64,
        id: ConnectionId,
        receipt: Receipt,
        incarnation: u64,
    ) -> Result<(), Violation> {
        if self.far.is_some_and(|far| incarnation < far) {
            self.close(now, id, "the receiving half has been replaced since");
            return Ok(());
        }
        if self.far != Some(incarnation) {
            if receipt.next < self.acked {
                let (lowest, next) = (self.acked, receipt.next);
                self.fail(now, StopCode::HOLE, LinkError::Hole { lowest, next });
                return Ok(());
            }
            self.replaced(now, receipt.limit, incarnation);
        }
        if let Some(connection) = self.connections.open(id) {
            connection.own.met_at = now;
            connection.own.far = incarnation;
        }
        self.connections.meet(id);
        self.receipt(now, id, receipt)
    }

    /// Forgets what the receiver's parent had before it was replaced: its limit. Connections to it
    /// are closed, so that the blocks that went over them count as unsent, and because an
    /// acknowledgement that is still under way on one of them has the old limit.
    fn replaced(&mut self, now: u64, limit: u64, incarnation: u64) {
        self.far = Some(incarnation);
        if !wrong!(self.settings(), OldLimit) {
            self.limit = limit;
        }
        let old: Vec<_> = self
            .connections
            .all
            .iter()
            .filter(|one| one.met)
            .map(|one| one.id)
            .collect();
        for id in old {
            self.close(now, id, "the receiving half has been replaced");
        }
    }

    /// Takes over the receiver's state. States arrive out of order over several connections, but in
    /// order on each.
    fn receipt(&mut self, now: u64, id: ConnectionId, receipt: Receipt) -> Result<(), Violation> {
        let (taken, total, ended_at) = (self.taken, self.total, self.ended_at);
        let credits = wrong!(self.settings(), CreditsByConnection);
        let Some(connection) = self.connections.open(id) else {
            return Ok(());
        };
        let earlier = connection.own.receipt;
        let Receipt {
            next,
            limit,
            safe,
            ended,
        } = receipt;
        for (what, value, earlier) in [
            ("the number of acknowledged blocks", next, earlier.next),
            ("the limit", limit, earlier.limit),
            ("the number of safe blocks", safe, earlier.safe),
        ] {
            if value < earlier {
                return Err(Violation::Backwards {
                    what,
                    value,
                    earlier,
                });
            }
        }
        if next > limit && !credits {
            return Err(Violation::NextBeyondLimit { next, limit });
        }
        if next > taken {
            return Err(Violation::NotSent { next, taken });
        }
        if let Some(total) = total.filter(|total| ended && *total != next) {
            return Err(Violation::EndedEarly { next, total });
        }
        if earlier.ended && !ended {
            return Err(Violation::EndTakenBack { next: earlier.next });
        }
        if let Some(earlier) = ended_at.filter(|earlier| ended && *earlier != next) {
            return Err(Violation::OtherEnd { next, earlier });
        }
        connection.own.receipt = receipt;
        self.limit = self.limit.max(limit);
        self.safe = self.safe.max(safe);
        if next > self.acked {
            self.sent.drain(..(next - self.acked) as usize);
            self.acked = next;
            self.first_unsent = self.first_unsent.max(next);
            self.free();
        }
        self.connections.wake();
        if ended {
            self.ended_at = Some(next);
            if total.is_some() {
                self.connections.leave(now, None, Ok(()));
            }
        }
        Ok(())
    }

    // Writers.

    /// Work of the writer of a connection, which has done its work before. `None`: there is none;
    /// the writer asks again after the next [`Action::Wake`].
    pub fn work(&mut self, now: u64, id: ConnectionId) -> Option<Work> {
        if let Some(connection) = self.connections.all.iter_mut().find(|one| one.id == id)
            && connection.own.writing.take().is_some()
        {
            self.free();
        }
        let incarnation = self.settings().incarnation;
        let greeting = Frame::Hello {
            lowest: self.acked,
            incarnation,
        };
        if let Some(work) = self.connections.work(now, id, &greeting) {
            return Some(work);
        }
        if let Some(work) = self.end_or_data(id) {
            return Some(work);
        }
        self.connections.ping(now, id)
    }

    /// The end of the stream, or the lowest block that may be sent.
    fn end_or_data(&mut self, id: ConnectionId) -> Option<Work> {
        let (total, far) = (self.total, self.far);
        let credits = wrong!(self.settings(), CreditsByConnection);
        #[cfg(test)]
        let elsewhere = wrong!(self.settings(), EndOnce) && self.end_sent;
        #[cfg(not(test))]
        let elsewhere = false;
        let connection = self.connections.open(id)?;
        if !connection.met || Some(connection.own.far) != far {
            return None;
        }
        if let Some(total) = total
            && !connection.own.end_sent
            && !elsewhere
        {
            connection.own.end_sent = true;
            #[cfg(test)]
            {
                self.end_sent = true;
            }
            return Some(Work::Frame(Frame::End { total }));
        }
        while self.first_unsent < self.taken
            && self.sent[(self.first_unsent - self.acked) as usize].is_some()
        {
            self.first_unsent += 1;
        }
        let number = self.first_unsent;
        #[cfg(test)]
        let may = if credits {
            connection.own.blocks < connection.own.receipt.limit
        } else {
            number < self.limit
        };
        #[cfg(not(test))]
        let may = number < self.limit && !credits;
        if number == self.taken || !may {
            return None;
        }
        #[cfg(test)]
        {
            connection.own.blocks += 1;
        }
        connection.own.writing = Some(number);
        self.sent[(number - self.acked) as usize] = Some(id);
        Some(Work::Data { number })
    }

    /// Asks for bytes of the link's rate: a writer takes each piece of a block before it writes it.
    pub fn allowance(&mut self, now: u64, wanted: u64) -> Allowance {
        self.pace.take(now, wanted)
    }

    // Time.

    /// Lets time pass. To be called when the time of [`timeout`](Self::timeout) has come; an
    /// earlier or additional call is harmless.
    pub fn tick(&mut self, now: u64) {
        for id in self.connections.tick(now) {
            self.close(now, id, "nothing was received for too long");
        }
        if self
            .connections
            .alone_until()
            .is_some_and(|until| now >= until)
        {
            self.connections.end_alone(now);
        }
    }

    /// Time of the next [`tick`](Self::tick), in nanoseconds; `u64::MAX` after the end.
    pub fn timeout(&self) -> u64 {
        let alone = self.connections.alone_until().unwrap_or(u64::MAX);
        self.connections.timeout().min(alone)
    }

    // Helpers.

    fn close(&mut self, now: u64, id: ConnectionId, why: &str) {
        if self.connections.close(now, id, why) {
            self.unsend(id);
            self.update_rate();
        }
    }

    /// Marks the blocks of a connection as unsent. Its writer may still read one: the same bytes
    /// may go over another connection at the same time.
    fn unsend(&mut self, id: ConnectionId) {
        if wrong!(self.settings(), NotSentAgain) {
            return;
        }
        for (number, sent) in (self.acked..).zip(&mut self.sent) {
            if *sent == Some(id) {
                *sent = None;
                self.first_unsent = self.first_unsent.min(number);
            }
        }
        self.connections.wake();
    }

    /// Lets the parent free what the receiver has sent on and no writer reads.
    fn free(&mut self) {
        let mut below = self.acked;
        if wrong!(self.settings(), FreeNext) {
            below = (below + 1).min(self.taken);
        }
        if !wrong!(self.settings(), FreeWhileWritten) {
            let written = self
                .connections
                .all
                .iter()
                .filter_map(|one| one.own.writing)
                .min();
            below = below.min(written.unwrap_or(below));
        }
        if below > self.freed {
            self.freed = below;
            self.connections.act(Action::Free { below });
        }
    }

    /// Takes the lowest rate of all connections: a new rate comes on each, in any order with
    /// earlier ones on others. While none has arrived on an open one, the last rate holds, so that
    /// the loss of all connections does not lift the limit.
    fn update_rate(&mut self) {
        let open = self.connections.all.iter().filter(|one| one.open);
        let rates: Vec<_> = open.filter_map(|one| one.own.rate).collect();
        if rates.is_empty() {
            return;
        }
        let limits = rates.into_iter().filter(|rate| *rate != 0);
        let rate = limits.min().unwrap_or(0);
        self.pace.set_rate(rate).expect("a rate that was checked");
    }

    fn redial(&mut self, now: u64, index: u16) {
        if self.connections.is_running()
            && let Some(backoff) = self.redials.get_mut(usize::from(index))
        {
            let not_before = now.saturating_add(backoff.next());
            self.connections.act(Action::Dial { index, not_before });
        }
    }

    fn violate(&mut self, now: u64, violation: Violation) {
        self.fail(now, StopCode::VIOLATION, LinkError::Violation(violation));
    }

    fn fail(&mut self, now: u64, code: StopCode, error: LinkError) {
        let reason = StopReason::new(code, error.to_string());
        self.connections.leave(now, Some(reason), Err(error));
    }

    /// Checks the machine's own promises.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.sent.len() as u64, self.taken - self.acked);
        assert!(self.freed <= self.acked || wrong!(self.settings(), FreeNext));
        let limit = usize::from(self.settings().connections);
        assert!(self.connections.all.len() <= limit, "few connections");
        for number in self.acked..self.first_unsent.min(self.taken) {
            assert!(
                self.sent[(number - self.acked) as usize].is_some(),
                "{number} was sent"
            );
        }
    }
}
