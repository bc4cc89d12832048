//! Connections of machines that are not known yet: a listener, and a table of handshakes that is
//! bounded in number, bytes, time and processor time. What leaves it is authenticated.
//!
//! When the table is full, a random handshake makes room for the new one: a flood of connections
//! that send nothing would keep the newcomers out otherwise, and looks like them.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::handshake::{Handshake, HandshakeError, HandshakeProgress, Secured};
use super::identity::MachineIdentity;
use crate::limits::{
    ACCEPT_PAUSE, TLS_HANDSHAKE_PATIENCE, TLS_HANDSHAKES, TLS_HANDSHAKES_PER_ADDRESS,
    TLS_HANDSHAKES_PER_SECOND,
};
use crate::socket::{Deadline, Stop};

/// Listener for machines, with the handshakes that are not over.
pub struct TlsAcceptor {
    listener: TcpListener,
    identity: MachineIdentity,
    limits: AcceptorLimits,
    places: Vec<Place>,
    refusals: Refusals,
    /// Earliest time of the next handshake, if handshakes had begun one at a time.
    next_start: Instant,
    /// End of the pause after the system could not accept a connection.
    paused_until: Option<Instant>,
}

/// Limits of the handshakes that are not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptorLimits {
    /// Handshakes at a time, 1 to 4096.
    pub handshakes: usize,
    /// Handshakes at a time of one address of IPv4, or one network of 64 bits of IPv6; 1 or more.
    pub per_address: usize,
    /// Handshakes that begin in a second, 1 to 1,000,000. As many as there are places may begin at
    /// once. Further connections wait in the kernel.
    pub per_second: u32,
    /// Time for one handshake.
    pub patience: Duration,
}

/// Connection of a machine that is known.
#[derive(Debug)]
#[non_exhaustive]
pub struct AcceptedMachine {
    /// The connection. It does not wait: it is in the mode that is not blocking.
    pub socket: TcpStream,
    /// Address of the machine.
    pub address: SocketAddr,
    /// The machine, and the keys of the connection.
    pub secured: Secured,
}

/// Handshakes that have failed since they were counted last.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Refusals {
    /// Handshakes in which one machine has refused the other, or which were not those of TLS.
    pub failed: u64,
    /// Handshakes that were not over in time.
    pub slow: u64,
    /// Handshakes that made room for others.
    pub displaced: u64,
    /// Number of times that the system could not accept a connection.
    pub not_accepted: u64,
    /// The last that has failed, and its reason.
    pub last: Option<(SocketAddr, HandshakeError)>,
}

/// Handshake that is not over.
struct Place {
    socket: TcpStream,
    address: SocketAddr,
    handshake: Handshake,
    waits_for: PollFlags,
    end: Instant,
}

/// Address of which the handshakes are counted together.
#[derive(PartialEq, Eq)]
enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Default for AcceptorLimits {
    fn default() -> Self {
        Self {
            handshakes: TLS_HANDSHAKES,
            per_address: TLS_HANDSHAKES_PER_ADDRESS,
            per_second: TLS_HANDSHAKES_PER_SECOND,
            patience: TLS_HANDSHAKE_PATIENCE,
        }
    }
}

impl TlsAcceptor {
    /// Takes connections from `listener`, for a machine with this identity.
    ///
    /// # Errors
    ///
    /// If the listener cannot be set to the mode that is not blocking.
    ///
    /// # Panics
    ///
    /// If a limit is out of its range.
    pub fn new(
        listener: TcpListener,
        identity: MachineIdentity,
        limits: AcceptorLimits,
    ) -> io::Result<Self> {
        assert!((1..=4096).contains(&limits.handshakes) && limits.per_address > 0);
        assert!((1..=1_000_000).contains(&limits.per_second));
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            identity,
            limits,
            places: Vec::with_capacity(limits.handshakes),
            refusals: Refusals::default(),
            next_start: Instant::now(),
            paused_until: None,
        })
    }

    /// Uses a newer identity. Handshakes that are not over end, because they began with the older
    /// one; connections that were accepted are judged by
    /// [`MachineIdentity::judge_client`].
    pub fn set_identity(&mut self, identity: MachineIdentity) {
        self.identity = identity;
        self.places.clear();
    }

    /// Number of handshakes that are not over.
    pub fn handshakes(&self) -> usize {
        self.places.len()
    }

    /// Returns the refusals since the last call, for a log. Their number does not depend on that of
    /// the connections.
    pub fn take_refusals(&mut self) -> Refusals {
        std::mem::take(&mut self.refusals)
    }

    /// Waits until a machine is authenticated, and returns it, or `None` when the deadline has
    /// passed.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Stopped`] if `stop` is given, and an error of the system if it cannot
    /// wait.
    pub fn accept(
        &mut self,
        deadline: Deadline,
        stop: &Stop,
    ) -> Result<Option<AcceptedMachine>, HandshakeError> {
        loop {
            let now = Instant::now();
            self.remove_slow(now);
            let begins = self.earliest_start();
            let can_start = begins <= now;
            let wakes = self.places.iter().map(|place| place.end);
            let wakes = wakes.chain((!can_start).then_some(begins)).min();
            let ready = self.wait(can_start, wakes.map(|at| at - now), deadline, stop)?;
            // From the back, so that what is removed moves none that comes later.
            for index in (0..self.places.len()).rev() {
                if ready.get(index).copied().unwrap_or_default()
                    && let Some(accepted) = self.advance(index)
                {
                    return Ok(Some(accepted));
                }
            }
            if can_start {
                self.start();
            }
            if deadline.has_passed() {
                return Ok(None);
            }
        }
    }

    fn remove_slow(&mut self, now: Instant) {
        let before = self.places.len();
        self.places.retain(|place| place.end > now);
        self.refusals.slow += (before - self.places.len()) as u64;
    }

    /// Earliest time at which another handshake may begin.
    fn earliest_start(&self) -> Instant {
        // At once as many as there are places, and then one at a time.
        let at_once = self
            .interval()
            .saturating_mul(self.limits.handshakes as u32 - 1);
        let start = self.next_start.checked_sub(at_once);
        let start = start.unwrap_or(self.next_start);
        self.paused_until.map_or(start, |pause| start.max(pause))
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.limits.per_second
    }

    /// Waits for the sockets. Returns which of the places can go on.
    fn wait(
        &self,
        accepts: bool,
        wakes: Option<Duration>,
        deadline: Deadline,
        stop: &Stop,
    ) -> Result<Vec<bool>, HandshakeError> {
        let mut polled = vec![PollFd::new(stop, PollFlags::IN)];
        polled
            .extend((self.places.iter()).map(|place| PollFd::new(&place.socket, place.waits_for)));
        polled.extend(accepts.then(|| PollFd::new(&self.listener, PollFlags::IN)));
        let wakes = wakes.map(|time| Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: time.subsec_nanos().into(),
        });
        let timeout = match (wakes, deadline.left()) {
            (Some(a), Some(b)) if (b.tv_sec, b.tv_nsec) < (a.tv_sec, a.tv_nsec) => Some(b),
            (None, left) => left,
            (wakes, _) => wakes,
        };
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(HandshakeError::System(error.into())),
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        match ready.next() {
            Some(true) => Err(HandshakeError::Stopped),
            _ => Ok(ready.take(self.places.len()).collect()),
        }
    }

    /// Carries one handshake on. Returns its connection if it is over.
    fn advance(&mut self, index: usize) -> Option<AcceptedMachine> {
        let place = &mut self.places[index];
        let ended = match place.handshake.advance(place.socket.as_fd()) {
            Ok(HandshakeProgress::Reads) => {
                place.waits_for = PollFlags::IN;
                return None;
            }
            Ok(HandshakeProgress::Writes) => {
                place.waits_for = PollFlags::OUT;
                return None;
            }
            Ok(HandshakeProgress::Done) => Ok(()),
            Err(error) => Err(error),
        };
        let Place {
            socket,
            address,
            handshake,
            ..
        } = self.places.swap_remove(index);
        match ended.and_then(|()| handshake.finish()) {
            Ok(secured) => Some(AcceptedMachine {
                socket,
                address,
                secured,
            }),
            Err(error) => {
                self.refuse(address, error);
                None
            }
        }
    }

    fn refuse(&mut self, address: SocketAddr, error: HandshakeError) {
        self.refusals.failed += 1;
        self.refusals.last = Some((address, error));
    }

    /// Accepts one connection, if there is one, and begins its handshake.
    fn start(&mut self) {
        let now = Instant::now();
        self.paused_until = None;
        let (socket, address) = match self.listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
                if !matches!(error.kind(), WouldBlock | ConnectionAborted | Interrupted) {
                    // No descriptor or no memory is left. The pause keeps the loop from spinning.
                    self.refusals.not_accepted += 1;
                    self.paused_until = Some(now + ACCEPT_PAUSE);
                }
                return;
            }
        };
        self.next_start = self.next_start.max(now) + self.interval();
        let handshake = socket
            .set_nonblocking(true)
            .map_err(HandshakeError::System)
            .and_then(|()| Handshake::server(&self.identity));
        match handshake {
            Ok(handshake) => {
                self.make_room(&address);
                self.places.push(Place {
                    socket,
                    address,
                    handshake,
                    waits_for: PollFlags::IN,
                    end: now + self.limits.patience,
                });
            }
            Err(error) => self.refuse(address, error),
        }
    }

    /// Ends a random handshake of the same address if there are too many of it, or any if there are
    /// too many of all.
    fn make_room(&mut self, address: &SocketAddr) {
        let source = Source::of(address);
        let same = |place: &Place| Source::of(&place.address) == source;
        let is_full = self.places.len() >= self.limits.handshakes;
        let of_source: Vec<_> = (0..self.places.len())
            .filter(|&index| same(&self.places[index]))
            .collect();
        let displaced = match of_source.len() >= self.limits.per_address {
            true => of_source[random_below(of_source.len())],
            false if is_full => random_below(self.places.len()),
            false => return,
        };
        self.places.swap_remove(displaced);
        self.refusals.displaced += 1;
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor")
            .field("listener", &self.listener)
            .field("limits", &self.limits)
            .field("handshakes", &self.places.len())
            .field("refusals", &self.refusals)
            .finish_non_exhaustive()
    }
}

impl Source {
    fn of(address: &SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// A random number below `end`, which the other machines cannot predict.
fn random_below(end: usize) -> usize {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("random bytes");
    (u64::from_le_bytes(bytes) % end as u64) as usize
}
