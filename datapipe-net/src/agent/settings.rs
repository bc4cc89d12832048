//! Settings of both halves, checked before their pipes start.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{SocketAddr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

use datapipe::prelude::{HeadStage, Stage, TailStage};

use super::error::{LinkSide, SetupError};
use super::{receiving, sending};
use crate::limits::MAX_LINK_CONNECTIONS;
use crate::link::{LinkSettings, LinkTimers, Pace};
use crate::tls::MachineIdentity;

/// Settings of the sending half of a link: the tail of a pipe whose blocks go to another pipe.
///
/// ```
/// use std::net::TcpListener;
///
/// use datapipe::prelude::*;
/// use datapipe_net::agent::{ReceivingLink, SendingLink};
///
/// let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
/// let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
/// let near = SendingLink::new(addresses).stage()?;
/// let far = ReceivingLink::new(listeners.into()).stage()?;
///
/// let mut got = Vec::new();
/// std::thread::scope(|scope| {
///     scope.spawn(|| Pipe::builder().head(StreamHead::new(&b"a stream"[..])).tail(near).run());
///     Pipe::builder().head(far).tail(StreamTail::new(&mut got)).run()
/// })?;
/// assert_eq!(got, b"a stream");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SendingLink {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) timers: LinkTimers,
    pub(super) peer: Option<Peer>,
    pub(super) congestion: Option<String>,
}

/// Settings of the receiving half of a link: the head of a pipe that gets the blocks of another
/// one. [`SendingLink`] has an example.
#[derive(Debug)]
pub struct ReceivingLink {
    pub(super) listeners: Vec<TcpListener>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) timers: LinkTimers,
    pub(super) peer: Option<Peer>,
    pub(super) rate: u64,
}

/// The identity of this machine, and the name of the other one.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) identity: MachineIdentity,
    pub(super) name: String,
}

impl SendingLink {
    /// Makes the settings of a link with one connection for each address, 1 to
    /// [`MAX_LINK_CONNECTIONS`].
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        Self {
            addresses,
            timers: LinkTimers::default(),
            peer: None,
            congestion: None,
        }
    }

    /// Sets the congestion control of the connections, by the name that the kernel gives it, for
    /// example `cubic`. The link fails if the kernel does not have it, or does not allow it. By
    /// default it is that of the machine.
    #[must_use]
    pub fn congestion(mut self, name: impl Into<String>) -> Self {
        self.congestion = Some(name.into());
        self
    }

    /// Encrypts the connections. `host` is the DNS name or IP address that the certificate of the
    /// receiving machine must have.
    #[must_use]
    pub fn encrypt(mut self, identity: MachineIdentity, host: impl Into<String>) -> Self {
        let name = host.into();
        self.peer = Some(Peer { identity, name });
        self
    }

    /// Sets the timers. Those of the other half should be the same.
    #[must_use]
    pub fn timers(mut self, timers: LinkTimers) -> Self {
        self.timers = timers;
        self
    }

    /// Returns the tail, which runs on a thread. Its success means that the receiving half has sent
    /// on all blocks in its own pipe and ended that stream. The report of that pipe says what its
    /// later stages have made of them.
    ///
    /// # Errors
    ///
    /// If there are no addresses or too many, the timers contradict each other, or an address is
    /// not a loopback address although the connections are not encrypted.
    pub fn stage(self) -> Result<TailStage<'static>, SetupError> {
        check(&self.addresses, &self.timers, self.peer.is_some())?;
        let run = move |port: &_| sending::run(port, self);
        Ok(Stage::tail_port("net", run))
    }
}

impl ReceivingLink {
    /// Makes the settings of a link with one connection for each listener, 1 to
    /// [`MAX_LINK_CONNECTIONS`]. The listeners have the order of the sending half's addresses.
    pub fn new(listeners: Vec<TcpListener>) -> Self {
        Self {
            listeners,
            addresses: Vec::new(),
            timers: LinkTimers::default(),
            peer: None,
            rate: 0,
        }
    }

    /// Encrypts the connections. `client` is the DNS name in the certificate of the sending
    /// machine, in lower case.
    #[must_use]
    pub fn encrypt(mut self, identity: MachineIdentity, client: impl Into<String>) -> Self {
        let name = client.into();
        self.peer = Some(Peer { identity, name });
        self
    }

    /// Sets the timers. Those of the other half should be the same.
    #[must_use]
    pub fn timers(mut self, timers: LinkTimers) -> Self {
        self.timers = timers;
        self
    }

    /// Limits the rate of the sending half, in bytes a second over all connections; 0, the default,
    /// sets no limit.
    #[must_use]
    pub fn rate(mut self, rate: u64) -> Self {
        self.rate = rate;
        self
    }

    /// Returns the head, which runs on a thread. The listeners are closed at its end.
    ///
    /// # Errors
    ///
    /// As [`SendingLink::stage`], and if the rate is out of range for the number of connections, or
    /// a listener cannot be used.
    pub fn stage(mut self) -> Result<HeadStage<'static>, SetupError> {
        for listener in &self.listeners {
            let address = listener.local_addr().map_err(SetupError::Listener)?;
            self.addresses.push(address);
            let result = listener.set_nonblocking(true);
            result.map_err(SetupError::Listener)?;
        }
        check(&self.addresses, &self.timers, self.peer.is_some())?;
        let connections = settings(self.addresses.len(), self.timers).connections;
        Pace::new(connections, self.rate).map_err(SetupError::Rate)?;
        let run = move |port: &_| receiving::run(port, self);
        Ok(Stage::head_port("net", run))
    }
}

fn check(
    addresses: &[SocketAddr],
    timers: &LinkTimers,
    is_encrypted: bool,
) -> Result<(), SetupError> {
    let count = addresses.len();
    if count == 0 || count > usize::from(MAX_LINK_CONNECTIONS) {
        return Err(SetupError::Connections { count });
    }
    let is_open = |address: &&SocketAddr| !is_encrypted && !address.ip().is_loopback();
    if let Some(&address) = addresses.iter().find(is_open) {
        return Err(SetupError::NotLoopback { address });
    }
    let LinkTimers {
        ping,
        silence,
        wait,
        redial,
        ..
    } = *timers;
    let is_ordered = ping > 0 && ping.saturating_mul(2) <= silence && silence <= wait;
    if !is_ordered || redial < 1_000_000 {
        return Err(SetupError::Timers);
    }
    Ok(())
}

/// Settings of the machine of a half that begins now.
pub(super) fn settings(connections: usize, timers: LinkTimers) -> LinkSettings {
    let connections = u16::try_from(connections).unwrap_or(u16::MAX);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A parent that replaces another begins later.
    let incarnation = since.map_or(0, |time| time.as_nanos() as u64);
    let seed = RandomState::new().build_hasher().finish();
    let mut settings = LinkSettings::new(connections, incarnation, seed);
    settings.timers = timers;
    settings
}

/// Reason that the other half receives when the pipe of this half stops.
pub(super) fn stopped(side: LinkSide) -> String {
    format!("the pipe of the {side} was stopped, or one of its stages failed")
}
