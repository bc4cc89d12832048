//! The receiving half: which block gets a buffer, which is next, and what the sender may send.

use std::collections::BTreeMap;

use super::connections::{
    Action, ConnectError, Connection, ConnectionId, Connections, LinkSettings, Work,
};
use super::frame::{DataHead, Frame, Receipt, StopCode, StopReason};
use super::pace::{Pace, RateError};
use super::violation::{LinkError, Violation};
use super::wrong::wrong;
use crate::limits::MAX_LINK_AHEAD;

/// Receiving half of a link.
///
/// The parent allocates buffers while [`wants_buffer`](Self::wants_buffer) and counts each with
/// [`stocked`](Self::stocked). It sends on the block [`next`](Self::next) once it is
/// [`ready`](Self::ready), and then calls [`sent_on`](Self::sent_on). All buffers of the stock are
/// alike: a reader that is to [`Reading::Take`] a block takes any of them.
#[derive(Debug)]
pub struct Receiver {
    connections: Connections<Own>,
    /// Most bytes of a block.
    most: u32,
    /// Number of blocks that were sent on.
    next: u64,
    /// Number of blocks that were sent on or have a buffer.
    limit: u64,
    /// Buffers without a block. Invariant: as many as numbers from `next` up to `limit` without a
    /// claim.
    stock: u64,
    claims: BTreeMap<u64, Claim>,
    safe: u64,
    total: Option<u64>,
    /// Incarnation of the sender.
    far: Option<u64>,
    /// Bytes a second that the sender may send; 0 sets no limit.
    rate: u64,
    /// Buffers to have ahead of `next`.
    ahead: u64,
    /// True if the stock has run empty since the last buffer came.
    ran_empty: bool,
    /// Time until which a half that has sent on everything waits for the sender to know it.
    linger: Option<u64>,
    /// Buffers of each connection's quota.
    #[cfg(test)]
    quotas: Vec<u64>,
}

/// A block that has a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// The block is under way: a reader fills the buffer with `len` bytes since `since`.
    Filling {
        by: ConnectionId,
        since: u64,
        len: u32,
    },
    /// The block has arrived.
    Filled,
}

/// Part of a connection that only the receiving half has.
#[derive(Clone, Debug)]
struct Own {
    /// Incarnation of the sender, after its HELLO.
    far: u64,
    /// The block that its reader receives.
    taking: Option<u64>,
    /// The connection whose reader must leave before this one's reader goes on.
    waits_for: Option<ConnectionId>,
    /// Time since which the reader has received no block.
    idle_since: u64,
    /// Length of the last block, and the time that it took.
    last_block: Option<(u32, u64)>,
    /// State that the sender received last.
    reported: Option<Receipt>,
    /// Rate that the sender received last on this connection, if it has received one.
    reported_rate: Option<u64>,
    /// Blocks that came over the connection.
    #[cfg(test)]
    blocks: u64,
}

/// Answer to a frame, for the reader that has received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reading {
    /// Read the next frame.
    On,
    /// Take a buffer of the stock, receive the block's data into it, then call
    /// [`Receiver::filled`].
    Take,
    /// Receive the block's data and throw them away: the block is there already.
    Discard,
    /// The block is under way on another connection, which is being closed. Give the same frame
    /// again after [`Action::Resume`].
    Wait(ConnectionId),
    /// Leave: the connection was closed, or nothing follows.
    Leave,
}

impl Receiver {
    /// Makes the receiving half. `next` is the number of blocks that the parents that it replaces
    /// have sent on, `ended` is true if one of them has ended its stream after these blocks, and
    /// `most` is the number of bytes that a buffer has room for.
    pub fn new(now: u64, settings: LinkSettings, next: u64, ended: bool, most: u32) -> Self {
        let linger = now.saturating_add(settings.timers.wait);
        Self {
            connections: Connections::new(now, settings),
            most,
            next,
            limit: next,
            stock: 0,
            claims: BTreeMap::new(),
            safe: 0,
            total: ended.then_some(next),
            far: None,
            rate: 0,
            ahead: 2 * u64::from(settings.connections) + 2,
            ran_empty: false,
            linger: ended.then_some(linger),
            #[cfg(test)]
            quotas: vec![0; usize::from(settings.connections)],
        }
    }

    /// Takes the actions that earlier calls have asked for.
    pub fn take_actions(&mut self) -> Vec<Action> {
        self.connections.take_actions()
    }

    /// Number of blocks that were sent on, which is the number of the block to be sent on next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Number of buffers that the half holds.
    pub fn held(&self) -> u64 {
        self.limit - self.next
    }

    /// True if the block [`next`](Self::next) has arrived.
    pub fn ready(&self) -> bool {
        self.claims.get(&self.next) == Some(&Claim::Filled)
    }

    /// True if every block of the stream was sent on, and the parent is to end its own stream and
    /// then to call [`completed`](Self::completed).
    pub fn is_complete(&self) -> bool {
        self.total == Some(self.next) && self.linger.is_none() && self.connections.is_running()
    }

    /// True if the parent is to allocate a further buffer.
    pub fn wants_buffer(&self) -> bool {
        self.held() < self.ahead
            && self.total.is_none_or(|total| self.limit < total)
            && self.connections.is_running()
    }

    fn settings(&self) -> &LinkSettings {
        &self.connections.settings
    }

    // Events from the parent.

    /// A buffer was allocated for the next number without one. `waited` is true if the pool had
    /// none at first. If it had one at once although the stock had run empty, more are worth it.
    pub fn stocked(&mut self, waited: bool) {
        if std::mem::take(&mut self.ran_empty) && !waited {
            self.ahead = (self.ahead * 2).min(MAX_LINK_AHEAD);
        }
        self.limit += 1;
        self.stock += 1;
        #[cfg(test)]
        if let Some(least) = self.quotas.iter_mut().min() {
            *least += 1;
        }
        self.connections.wake();
    }

    /// The block [`next`](Self::next) was sent on.
    ///
    /// # Panics
    ///
    /// If it is not [`ready`](Self::ready).
    pub fn sent_on(&mut self) {
        assert!(self.ready(), "block {} has not arrived", self.next);
        self.claims.remove(&self.next);
        self.next += 1;
        self.connections.wake();
    }

    /// The parent has ended its own stream after the last block. Only now may the sender learn that
    /// the stream is complete: it then forgets the stream, and a replacement of this half's parent
    /// could not learn the total from it any more.
    ///
    /// # Panics
    ///
    /// If the stream is not [`complete`](Self::is_complete).
    pub fn completed(&mut self, now: u64) {
        assert!(
            self.is_complete(),
            "{} of {:?} blocks are sent on",
            self.next,
            self.total
        );
        self.linger = Some(now.saturating_add(self.settings().timers.wait));
        self.connections.wake();
    }

    /// The first `safe` blocks, in the numbers of the head, are on stable storage.
    pub fn saved(&mut self, safe: u64) {
        if safe > self.safe {
            self.safe = safe;
            self.connections.wake();
        }
    }

    /// Limits the rate of the sender, in bytes a second; 0 sets no limit.
    ///
    /// # Errors
    ///
    /// If the rate is outside of the range of a link of this number of connections.
    pub fn set_rate(&mut self, rate: u64) -> Result<(), RateError> {
        Pace::new(self.settings().connections, rate)?;
        self.rate = rate;
        self.connections.wake();
        Ok(())
    }

    /// Stops the pipe: the other half receives the reason.
    pub fn stop(&mut self, now: u64, reason: StopReason) {
        let error = LinkError::StoppedHere(reason.clone());
        self.connections.leave(now, Some(reason), Err(error));
    }

    // Events from connections.

    /// A connection was accepted that the peer calls its `index`th.
    ///
    /// # Errors
    ///
    /// If the link has no such connection, too many are there, or the link is over.
    pub fn connected(&mut self, now: u64, index: u16) -> Result<ConnectionId, ConnectError> {
        let (connections, present) = (self.settings().connections, self.connections.all.len());
        if index >= connections {
            return Err(ConnectError::Index { index, connections });
        }
        if self.connections.is_over() {
            return Err(ConnectError::Over);
        }
        // Each may have a successor before it is noticed that it was lost.
        if present >= 2 * usize::from(connections) {
            return Err(ConnectError::Busy { present });
        }
        let own = Own {
            far: 0,
            taking: None,
            waits_for: None,
            idle_since: now,
            last_block: None,
            reported: None,
            reported_rate: None,
            #[cfg(test)]
            blocks: 0,
        };
        Ok(self.connections.add(now, index, own))
    }

    /// Bytes were received on a connection.
    pub fn received(&mut self, now: u64, id: ConnectionId) {
        if let Some(connection) = self.connections.open(id) {
            connection.pulse.received(now);
        }
    }

    /// A connection has failed, or has ended without a BYE.
    pub fn lost(&mut self, now: u64, id: ConnectionId, why: &str) {
        self.connections.close(now, id, why);
    }

    /// The reader and the writer of a connection have left. The buffer that its reader was filling
    /// is back in the stock.
    pub fn gone(&mut self, now: u64, id: ConnectionId) {
        let Some(connection) = self.connections.remove(now, id) else {
            return;
        };
        if let Some(number) = connection.own.taking
            && !wrong!(self.settings(), ClaimKept)
        {
            self.claims.remove(&number);
            self.stock += 1;
            #[cfg(test)]
            {
                self.quotas[usize::from(connection.index)] += 1;
            }
        }
        // If several wait, the sender has given up all but the newest: each takes the block from
        // the one before it.
        for at in 0..self.connections.all.len() {
            let other = &mut self.connections.all[at];
            if other.own.waits_for == Some(id) {
                other.own.waits_for = None;
                // This half did not read meanwhile: the connection was not silent.
                other.pulse.received(now);
                let resumed = other.id;
                self.connections.act(Action::Resume(resumed));
            }
        }
        self.connections.wake();
    }

    /// This half is to say BYE on a connection: its keys have been used for long enough.
    pub fn retire(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.open(id) {
            connection.retiring = true;
            self.connections.wake();
        }
    }

    /// The reader of a connection has received all data of its block.
    pub fn filled(&mut self, now: u64, id: ConnectionId) {
        let Some(connection) = self.connections.all.iter_mut().find(|one| one.id == id) else {
            return;
        };
        let Some(number) = connection.own.taking.take() else {
            return;
        };
        connection.pulse.received(now);
        connection.own.idle_since = now;
        if let Some(Claim::Filling { since, len, .. }) = self.claims.insert(number, Claim::Filled) {
            connection.own.last_block = Some((len, now.saturating_sub(since)));
        }
        if number == self.next {
            self.connections.wake();
        }
    }

    /// A connection was not made: its handshake has failed.
    pub fn unreachable(&mut self, why: &str) {
        self.connections.unreachable(why);
    }

    /// Bytes have arrived that are not a frame: the error of the connection's decoder.
    pub fn malformed(&mut self, now: u64, id: ConnectionId, violation: Violation) {
        if self.connections.open(id).is_some() {
            self.violate(now, id, violation);
        }
    }

    /// A frame has arrived: for [`Frame::Data`], all but the data of the block.
    pub fn frame(&mut self, now: u64, id: ConnectionId, frame: &Frame) -> Reading {
        let Some(connection) = self.connections.open(id) else {
            return Reading::Leave;
        };
        connection.pulse.received(now);
        let kind = frame.kind();
        let result = if connection.bye_received {
            let why = "it follows a BYE";
            Err(Violation::Unexpected { kind, why })
        } else if !connection.met && !matches!(frame, Frame::Hello { .. } | Frame::Stop(_)) {
            Err(Violation::First {
                expected: "HELLO",
                kind,
            })
        } else {
            self.take(now, id, frame)
        };
        let reading = result.unwrap_or_else(|violation| {
            self.violate(now, id, violation);
            Reading::Leave
        });
        match self.connections.open(id) {
            Some(connection) if !connection.bye_received => reading,
            _ => Reading::Leave,
        }
    }

    /// Handles a frame at its place.
    fn take(&mut self, now: u64, id: ConnectionId, frame: &Frame) -> Result<Reading, Violation> {
        let kind = frame.kind();
        let Some(connection) = self.connections.open(id) else {
            return Ok(Reading::Leave);
        };
        match frame {
            Frame::Hello { .. } if connection.met => {
                let why = "it is not the first one";
                return Err(Violation::Unexpected { kind, why });
            }
            Frame::Hello {
                lowest,
                incarnation,
            } => self.hello(now, id, *lowest, *incarnation),
            Frame::Data(head) => return self.data(now, id, head),
            Frame::End { total } => self.end(*total)?,
            Frame::Ping { clock } => {
                connection.pulse.pinged(*clock);
                self.connections.wake();
            }
            Frame::Pong { clock } => {
                connection.pulse.answered(now, *clock);
            }
            Frame::Stop(reason) => {
                let error = LinkError::StoppedThere(reason.clone());
                self.connections.end(now, Err(error));
            }
            Frame::Bye { over: true } if self.linger.is_some() => self.connections.end(now, Ok(())),
            Frame::Bye { over: true } => {
                let why = "it reports an end of the stream that was not acknowledged";
                return Err(Violation::Unexpected { kind, why });
            }
            Frame::Bye { over: false } => {
                connection.bye_received = true;
                self.connections.wake();
            }
            Frame::Welcome { .. } | Frame::Ack(_) | Frame::Rate { .. } => {
                let why = "only the receiving half sends it";
                return Err(Violation::Unexpected { kind, why });
            }
        }
        Ok(Reading::On)
    }

    /// Meets the sender, which may be another incarnation than before. The sender has given up
    /// older connections of the same index, and all of an older incarnation.
    fn hello(&mut self, now: u64, id: ConnectionId, lowest: u64, incarnation: u64) {
        if self.far.is_some_and(|far| incarnation < far) {
            self.connections
                .close(now, id, "the sending half has been replaced since");
            return;
        }
        if lowest > self.next {
            self.fail(
                now,
                StopCode::HOLE,
                LinkError::Hole {
                    lowest,
                    next: self.next,
                },
            );
            return;
        }
        self.far = Some(incarnation);
        let Some(connection) = self.connections.open(id) else {
            return;
        };
        connection.own.far = incarnation;
        let index = connection.index;
        self.connections.meet(id);
        let is_old = |far: u64, other: u16| far < incarnation || other == index;
        let met = self
            .connections
            .all
            .iter()
            .filter(|one| one.met && one.id != id);
        let old: Vec<_> = met
            .filter(|one| is_old(one.own.far, one.index))
            .map(|one| one.id)
            .collect();
        for id in old {
            self.connections
                .close(now, id, "the sending half has replaced the connection");
        }
    }

    /// Decides on a block.
    fn data(&mut self, now: u64, id: ConnectionId, head: &DataHead) -> Result<Reading, Violation> {
        let &DataHead {
            number,
            vacant,
            len,
            ..
        } = head;
        let (limit, most) = (self.limit, self.most);
        let credits = wrong!(self.settings(), CreditsByConnection);
        if let Some(total) = self.total.filter(|total| number >= *total) {
            return Err(Violation::BeyondTotal { number, total });
        }
        if number >= limit && !credits {
            return Err(Violation::BeyondLimit { number, limit });
        }
        if len > most {
            return Err(Violation::TooLong { number, len, most });
        }
        if vacant && len > 0 {
            return Err(Violation::VacantData { number, len });
        }
        let taken_again = wrong!(self.settings(), TakenAgain);
        let no_wait = wrong!(self.settings(), NoWait);
        #[cfg(test)]
        if let Some(connection) = self.connections.open(id) {
            connection.own.blocks += 1;
        }
        let reading = match self.claims.get(&number) {
            _ if number < self.next => Reading::Discard,
            Some(Claim::Filled) if !taken_again => Reading::Discard,
            Some(Claim::Filling { .. }) if no_wait => Reading::Discard,
            Some(&Claim::Filling { by, .. }) => {
                // The sender has given up the other connection, or it would not send again.
                self.connections
                    .close(now, by, "its block came again on another connection");
                if let Some(connection) = self.connections.open(id) {
                    connection.own.waits_for = Some(by);
                }
                #[cfg(test)]
                if let Some(connection) = self.connections.open(id) {
                    connection.own.blocks -= 1;
                }
                return Ok(Reading::Wait(by));
            }
            Some(Claim::Filled) | None => Reading::Take,
        };
        if reading == Reading::Take {
            self.claim(now, id, number, len);
        } else if let Some(connection) = self.connections.open(id) {
            connection.own.idle_since = now;
        }
        Ok(reading)
    }

    /// Takes a buffer of the stock for a block. There is one: the invariant of `stock`.
    fn claim(&mut self, now: u64, id: ConnectionId, number: u64, len: u32) {
        self.stock = self
            .stock
            .checked_sub(1)
            .expect("a buffer for each number below the limit");
        self.claims.insert(
            number,
            Claim::Filling {
                by: id,
                since: now,
                len,
            },
        );
        self.ran_empty |= self.stock == 0;
        if let Some(connection) = self.connections.open(id) {
            connection.own.taking = Some(number);
            #[cfg(test)]
            {
                let quota = &mut self.quotas[usize::from(connection.index)];
                *quota = quota.saturating_sub(1);
            }
        }
    }

    /// Takes over the number of blocks of the stream.
    fn end(&mut self, total: u64) -> Result<(), Violation> {
        if let Some(earlier) = self.total.filter(|earlier| *earlier != total) {
            return Err(Violation::OtherTotal { total, earlier });
        }
        let highest = self
            .claims
            .last_key_value()
            .map_or(0, |(number, _)| number + 1);
        let arrived = self.next.max(highest);
        if total < arrived {
            return Err(Violation::TotalBelow { total, arrived });
        }
        self.total = Some(total);
        self.connections.wake();
        Ok(())
    }

    // Writers.

    /// State of this half.
    fn receipt(&self) -> Receipt {
        Receipt {
            next: self.next,
            limit: self.limit,
            safe: self.safe,
            ended: self.linger.is_some(),
        }
    }

    /// State with the limit of one connection, by the wrong rule that has one for each.
    #[cfg(test)]
    fn receipt_by_connection(&self, connection: &Connection<Own>) -> Receipt {
        let mut receipt = self.receipt();
        if wrong!(self.settings(), CreditsByConnection) {
            receipt.limit = connection.own.blocks + self.quotas[usize::from(connection.index)];
        }
        receipt
    }

    /// Work of the writer of a connection, which has done its work before. `None`: there is none;
    /// the writer asks again after the next [`Action::Wake`].
    pub fn work(&mut self, now: u64, id: ConnectionId) -> Option<Work> {
        #[cfg(not(test))]
        let receipt = self.receipt();
        #[cfg(test)]
        let receipt = {
            let mut all = self.connections.all.iter();
            let connection = all.find(|one| one.id == id);
            connection.map_or_else(|| self.receipt(), |one| self.receipt_by_connection(one))
        };
        let incarnation = self.settings().incarnation;
        let greeting = Frame::Welcome {
            receipt,
            incarnation,
        };
        if let Some(work) = self.connections.work(now, id, &greeting) {
            if matches!(work, Work::Frame(Frame::Welcome { .. }))
                && let Some(connection) = self.connections.open(id)
            {
                connection.own.reported = Some(receipt);
            }
            return Some(work);
        }
        let rate = self.rate;
        let connection = self.connections.open(id)?;
        if connection.own.reported_rate != Some(rate) {
            connection.own.reported_rate = Some(rate);
            return Some(Work::Frame(Frame::Rate { rate }));
        }
        if connection.own.reported != Some(receipt) {
            connection.own.reported = Some(receipt);
            return Some(Work::Frame(Frame::Ack(receipt)));
        }
        self.connections.ping(now, id)
    }

    // Time.

    /// Lets time pass. To be called when the time of [`timeout`](Self::timeout) has come; an
    /// earlier or additional call is harmless.
    pub fn tick(&mut self, now: u64) {
        for id in self.connections.tick(now) {
            let mut all = self.connections.all.iter_mut();
            match all.find(|one| one.id == id) {
                // This half does not read it.
                Some(connection) if connection.own.waits_for.is_some() => {
                    connection.pulse.received(now);
                }
                _ => {
                    self.connections
                        .close(now, id, "nothing was received for too long");
                }
            }
        }
        if let Some((at, id)) = self.held_up()
            && at <= now
        {
            self.connections
                .close(now, id, "it held up all other connections");
        }
        if self.linger.is_some_and(|until| now >= until) {
            self.connections.end(now, Ok(()));
        } else if self.linger.is_none()
            && self
                .connections
                .alone_until()
                .is_some_and(|until| now >= until)
        {
            self.connections.end_alone(now);
        }
    }

    /// Time of the next [`tick`](Self::tick), in nanoseconds; `u64::MAX` after the end.
    pub fn timeout(&self) -> u64 {
        if self.connections.is_over() {
            return u64::MAX;
        }
        let alone = self.connections.alone_until().unwrap_or(u64::MAX);
        let wait = self.linger.unwrap_or(alone);
        let held_up = self.held_up().map_or(u64::MAX, |(at, _)| at);
        self.connections.timeout().min(wait).min(held_up)
    }

    /// The connection that holds up the others, and the time at which it is to be given up.
    ///
    /// The block that is next is under way, or was sent before one that is under way, while another
    /// connection has nothing to do although its last block, of at least half the length, took
    /// little time. Only the receiver can judge that: it knows when blocks arrive, and the sender
    /// only when they have left.
    fn held_up(&self) -> Option<(u64, ConnectionId)> {
        if !self.connections.is_running() {
            return None;
        }
        let first = self.claims.get(&self.next);
        if first == Some(&Claim::Filled) {
            return None;
        }
        let all = &self.connections.all;
        let of_suspect = |suspect: &Connection<Own>| {
            let number = suspect.own.taking.filter(|_| suspect.open)?;
            if first.is_some() && number != self.next {
                return None;
            }
            let Some(&Claim::Filling { since, len, .. }) = self.claims.get(&number) else {
                return None;
            };
            let idle = all
                .iter()
                .filter_map(|one| self.impatient_at(one, since, len));
            idle.min().map(|at| (at, suspect.id))
        };
        all.iter().filter_map(of_suspect).min()
    }

    /// Time from which an idle connection waits too long for a block of `len` bytes that another
    /// one receives since `since`. `None` if it is not idle, or has had no such block.
    fn impatient_at(&self, idle: &Connection<Own>, since: u64, len: u32) -> Option<u64> {
        let is_idle = idle.open && idle.met && idle.own.taking.is_none();
        if !is_idle || idle.own.waits_for.is_some() {
            return None;
        }
        let (_, time) = idle
            .own
            .last_block
            .filter(|(length, _)| *length >= len / 2)?;
        let patience = self.settings().timers.patience(time);
        Some(since.max(idle.own.idle_since).saturating_add(patience))
    }

    // Helpers.

    /// Handles a broken promise. After the end of the stream only the connection is closed.
    fn violate(&mut self, now: u64, id: ConnectionId, violation: Violation) {
        if self.linger.is_some() {
            self.connections.close(now, id, &violation.to_string());
        } else {
            self.fail(now, StopCode::VIOLATION, LinkError::Violation(violation));
        }
    }

    fn fail(&mut self, now: u64, code: StopCode, error: LinkError) {
        let reason = StopReason::new(code, error.to_string());
        self.connections.leave(now, Some(reason), Err(error));
    }

    /// Checks the machine's own promises.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let claims = self.claims.len() as u64;
        assert!(self.next <= self.limit);
        assert_eq!(
            self.stock + claims,
            self.held(),
            "one buffer for each number"
        );
        if !wrong!(self.settings(), CreditsByConnection) {
            assert!(
                self.claims
                    .keys()
                    .all(|number| (self.next..self.limit).contains(number))
            );
        }
        let filling: Vec<_> = self
            .claims
            .values()
            .filter(|claim| **claim != Claim::Filled)
            .collect();
        for claim in filling {
            let Claim::Filling { by, .. } = claim else {
                continue;
            };
            assert!(
                self.connections.all.iter().any(|one| one.id == *by),
                "a reader fills it"
            );
        }
        let limit = 2 * usize::from(self.settings().connections);
        assert!(self.connections.all.len() <= limit, "few connections");
    }
}
