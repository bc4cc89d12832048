//! The handshake over a socket: rustls's, one record at a time.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};

use super::alert::Alert;
use super::identity::{MachineIdentity, PROTOCOL};
use super::keys::TrafficKeys;
use super::record::{TlsReader, TlsWriter};
use super::verify::{CertificateRefusal, PeerMachine};
use crate::limits::MAX_TLS_HANDSHAKE;
use crate::socket::{Deadline, Stop};

/// Length of a record's header, and of the longest record of a handshake, in bytes.
const HEADER_LEN: usize = 5;
const MAX_RECORD: usize = HEADER_LEN + (1 << 14) + 256;
/// Types of records: change_cipher_spec, alert, handshake, and what is encrypted.
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=23;

/// Handshake of one connection. The caller waits for the socket, or uses [`Handshake::run`].
pub struct Handshake {
    connection: Connection,
    /// Name that was dialled, if this machine is the client.
    server: Option<ServerName<'static>>,
    identity: MachineIdentity,
    /// The record that is being received, from its beginning. rustls gets it when it is whole: it
    /// must never have bytes beyond the handshake, because they would be lost with it.
    record: Vec<u8>,
    /// Number of bytes that were received.
    received: usize,
}

/// State of a handshake.
///
/// Exhaustive: a handshake has no other states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeProgress {
    /// It goes on when the socket can be read from.
    Reads,
    /// It goes on when the socket can be written to.
    Writes,
    /// It is over: [`Handshake::finish`] returns the keys.
    Done,
}

/// Connection after its handshake: the other machine, and the keys of both directions. The keys can
/// be used on any thread or, with the socket, in another process.
#[derive(Debug)]
pub struct Secured {
    /// The other machine.
    pub peer: PeerMachine,
    /// Keys of what the peer sends.
    pub receive: TrafficKeys,
    /// Keys of what this machine sends.
    pub send: TrafficKeys,
}

/// Failure of a handshake.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The name of the server is neither a DNS name nor an IP address.
    Host {
        /// The name.
        host: String,
    },
    /// This machine's own certificate cannot be that of a client.
    Own(CertificateRefusal),
    /// The other machine's certificate is refused.
    Refused(CertificateRefusal),
    /// The other machine ended the handshake.
    Alert(Alert),
    /// The other machine does not speak TLS: the byte is not the beginning of a record.
    NotTls {
        /// The first byte of what should be a record.
        byte: u8,
    },
    /// The other machine speaks TLS, but not the protocol of links.
    Protocol,
    /// The other machine has sent more than a handshake may have, in bytes.
    TooLong {
        /// Most bytes of a handshake, or of one record.
        most: usize,
    },
    /// The other machine closed the connection.
    Closed,
    /// The deadline passed.
    TooSlow,
    /// The stop signal was given.
    Stopped,
    /// The handshake broke the rules of TLS 1.3.
    Tls(rustls::Error),
    /// The connection failed.
    System(io::Error),
}

impl Handshake {
    /// Begins the handshake of a client, which expects the server `host`: a DNS name, or an
    /// address.
    ///
    /// # Errors
    ///
    /// If `host` is neither, or the own certificate has expired, is not valid yet, is not one of a
    /// client, or does not have one DNS name.
    pub fn client(identity: &MachineIdentity, host: &str) -> Result<Self, HandshakeError> {
        let server = ServerName::try_from(host.to_owned()).map_err(|_| HandshakeError::Host {
            host: host.to_owned(),
        })?;
        identity.judge_own().map_err(HandshakeError::Own)?;
        let connection = ClientConnection::new(identity.client.clone(), server.clone());
        let connection = connection.map_err(HandshakeError::Tls)?;
        Ok(Self::new(connection.into(), Some(server), identity))
    }

    /// Begins the handshake of a server.
    ///
    /// # Errors
    ///
    /// If rustls cannot begin one.
    pub fn server(identity: &MachineIdentity) -> Result<Self, HandshakeError> {
        let connection = ServerConnection::new(identity.server.clone());
        let connection = connection.map_err(HandshakeError::Tls)?;
        Ok(Self::new(connection.into(), None, identity))
    }

    fn new(
        connection: Connection,
        server: Option<ServerName<'static>>,
        identity: &MachineIdentity,
    ) -> Self {
        Self {
            connection,
            server,
            identity: identity.clone(),
            record: Vec::with_capacity(MAX_RECORD),
            received: 0,
        }
    }

    /// Carries the handshake out over a connected socket.
    ///
    /// # Errors
    ///
    /// If either machine refuses the other, the connection fails, the deadline passes, or `stop`
    /// is given.
    pub fn run(
        mut self,
        socket: impl AsFd,
        deadline: Deadline,
        stop: Option<&Stop>,
    ) -> Result<Secured, HandshakeError> {
        let socket = socket.as_fd();
        loop {
            let events = match self.advance(socket)? {
                HandshakeProgress::Reads => PollFlags::IN,
                HandshakeProgress::Writes => PollFlags::OUT,
                HandshakeProgress::Done => return self.finish(),
            };
            wait(socket, events, deadline, stop)?;
        }
    }

    /// Carries the handshake on as far as the socket allows without waiting. The socket may be in
    /// either mode.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run), but for deadline and stop. The reason has been sent to the other
    /// machine if the socket had room for it.
    pub fn advance(&mut self, socket: impl AsFd) -> Result<HandshakeProgress, HandshakeError> {
        let mut socket = Socket(socket.as_fd());
        loop {
            while self.connection.wants_write() {
                match self.connection.write_tls(&mut socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(HandshakeProgress::Writes);
                    }
                    Err(error) => return Err(HandshakeError::System(error)),
                }
            }
            if !self.connection.is_handshaking() {
                return Ok(HandshakeProgress::Done);
            }
            if !self.receive(socket)? {
                return Ok(HandshakeProgress::Reads);
            }
            self.process(socket)?;
        }
    }

    /// Returns the other machine and the keys.
    ///
    /// # Errors
    ///
    /// If the handshake is not over, or has agreed on no protocol.
    pub fn finish(self) -> Result<Secured, HandshakeError> {
        let incomplete = || HandshakeError::Tls(rustls::Error::HandshakeNotComplete);
        if self.connection.is_handshaking() {
            return Err(incomplete());
        }
        if self.connection.alpn_protocol() != Some(PROTOCOL) {
            return Err(HandshakeError::Protocol);
        }
        let certificates = self.connection.peer_certificates().unwrap_or_default();
        let peer = match &self.server {
            Some(server) => PeerMachine::server(server, certificates),
            None => PeerMachine::client(certificates).map_err(HandshakeError::Refused)?,
        };
        let secrets = self.connection.dangerous_extract_secrets();
        let secrets = secrets.map_err(HandshakeError::Tls)?;
        Ok(Secured {
            peer,
            receive: TrafficKeys::from_handshake(secrets.rx).ok_or_else(incomplete)?,
            send: TrafficKeys::from_handshake(secrets.tx).ok_or_else(incomplete)?,
        })
    }

    /// Receives until a record is whole; false if the socket has no more bytes now.
    fn receive(&mut self, socket: Socket<'_>) -> Result<bool, HandshakeError> {
        loop {
            let needed = needed(&self.record)?;
            let done = self.record.len();
            if done == needed {
                return Ok(true);
            }
            self.record.resize(needed, 0);
            let got = recv(socket.0, &mut self.record[done..], RecvFlags::DONTWAIT);
            self.record
                .truncate(done + got.map_or(0, |(count, _)| count));
            match got {
                Ok((0, _)) => return Err(HandshakeError::Closed),
                Ok((count, _)) => self.received += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(HandshakeError::System(error.into())),
            }
            if self.received > MAX_TLS_HANDSHAKE {
                let most = MAX_TLS_HANDSHAKE;
                return Err(HandshakeError::TooLong { most });
            }
        }
    }

    /// Gives the record to rustls. If it refuses it, the alert is sent.
    fn process(&mut self, mut socket: Socket<'_>) -> Result<(), HandshakeError> {
        let mut record = &self.record[..];
        let mut result = Ok(());
        while result.is_ok() && !record.is_empty() {
            match self.connection.read_tls(&mut record) {
                Ok(0) => break,
                Ok(_) => result = self.connection.process_new_packets().map(|_| ()),
                Err(error) => return Err(HandshakeError::System(error)),
            }
        }
        self.record.clear();
        result.map_err(|error| {
            // One attempt: the other machine may be gone, and the alert is only a courtesy.
            while self.connection.wants_write() && self.connection.write_tls(&mut socket).is_ok() {}
            self.failure(error)
        })
    }

    fn failure(&self, error: rustls::Error) -> HandshakeError {
        match error {
            rustls::Error::AlertReceived(alert) => HandshakeError::Alert(Alert(alert.into())),
            rustls::Error::NoApplicationProtocol => HandshakeError::Protocol,
            error @ (rustls::Error::InvalidCertificate(_)
            | rustls::Error::InvalidCertRevocationList(_)
            | rustls::Error::NoCertificatesPresented) => HandshakeError::Refused(
                CertificateRefusal::from_rustls(error, &self.identity.trust),
            ),
            error => HandshakeError::Tls(error),
        }
    }
}

impl Secured {
    /// Returns the two directions of the record layer.
    pub fn into_records(self) -> (TlsReader, TlsWriter) {
        (TlsReader::new(self.receive), TlsWriter::new(self.send))
    }
}

/// Length up to which the record that begins with `bytes` has to be received next.
fn needed(bytes: &[u8]) -> Result<usize, HandshakeError> {
    if let Some(&byte) = bytes.first().filter(|byte| !RECORD_TYPES.contains(byte)) {
        return Err(HandshakeError::NotTls { byte });
    }
    let Some(&[_, _, _, high, low]) = bytes.first_chunk() else {
        return Ok(HEADER_LEN);
    };
    let len = HEADER_LEN + (usize::from(high) << 8 | usize::from(low));
    match len <= MAX_RECORD {
        true => Ok(len),
        false => Err(HandshakeError::TooLong { most: MAX_RECORD }),
    }
}

/// Waits for events of a socket until the deadline, or the stop signal.
fn wait(
    socket: BorrowedFd<'_>,
    events: PollFlags,
    deadline: Deadline,
    stop: Option<&Stop>,
) -> Result<(), HandshakeError> {
    let mut polled = vec![PollFd::from_borrowed_fd(socket, events)];
    polled.extend(stop.map(|stop| PollFd::new(stop, PollFlags::IN)));
    loop {
        // Also before a socket that is ready: one byte at a time must not go on for ever.
        if deadline.has_passed() {
            return Err(HandshakeError::TooSlow);
        }
        match poll(&mut polled, deadline.left().as_ref()) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(HandshakeError::System(error.into())),
        }
    }
    match polled.get(1).is_some_and(|stop| !stop.revents().is_empty()) {
        true => Err(HandshakeError::Stopped),
        false => Ok(()),
    }
}

/// Socket without waiting, and without the signal of a closed connection.
#[derive(Clone, Copy)]
struct Socket<'a>(BorrowedFd<'a>);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            send(self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        })?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("server", &self.server)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host } => {
                write!(
                    f,
                    "{host:?} is neither the name nor the address of a machine"
                )
            }
            Self::Own(refusal) => write!(f, "the certificate of this machine {refusal}"),
            Self::Refused(refusal) => {
                write!(f, "the certificate of the other machine {refusal}")
            }
            Self::Alert(alert) => write!(f, "the other machine has refused: {alert}"),
            Self::NotTls { byte } => write!(
                f,
                "the other machine does not speak TLS: a record begins with 20 to 23, and not \
                 with {byte}"
            ),
            Self::Protocol => {
                f.write_str("the other machine speaks TLS, but not the protocol datapipe/1")
            }
            Self::TooLong { most } => {
                write!(
                    f,
                    "the other machine sent more than {most} bytes in a handshake or record"
                )
            }
            Self::Closed => {
                f.write_str("the other machine closed the connection during the handshake")
            }
            Self::TooSlow => f.write_str("the handshake has not ended in time"),
            Self::Stopped => f.write_str("the handshake was stopped"),
            Self::Tls(error) => write!(f, "the handshake failed: {error}"),
            Self::System(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl std::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Own(refusal) | Self::Refused(refusal) => Some(refusal),
            Self::Tls(error) => Some(error),
            Self::System(error) => Some(error),
            _ => None,
        }
    }
}
