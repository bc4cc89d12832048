//! Sockets of a link: dialled, accepted, and secured. Every wait ends with the stop signal.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::settings::{Peer, SendingLink};
use crate::limits::{ACCEPT_PAUSE, LINK_CONNECT, LINK_HANDSHAKE};
use crate::socket::{Deadline, Stop};
use crate::tls::{Handshake, HandshakeError, TlsReader, TlsWriter};

/// Connection that frames may go over.
pub(super) struct Transport {
    pub(super) socket: Arc<TcpStream>,
    pub(super) records: Option<(TlsReader, TlsWriter)>,
}

/// Failure of a dial.
pub(super) enum DialError {
    /// The dial may be repeated.
    Unreachable(String),
    /// The machines do not accept each other, and a repetition changes nothing.
    Refused(String),
    /// This machine does not do what the settings ask for.
    Here(String),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl From<HandshakeError> for DialError {
    fn from(error: HandshakeError) -> Self {
        let text = error.to_string();
        match error {
            HandshakeError::Host { .. } | HandshakeError::Own(_) | HandshakeError::Refused(_) => {
                Self::Refused(text)
            }
            _ => Self::Unreachable(text),
        }
    }
}

/// Dials an address.
pub(super) fn dial(
    address: SocketAddr,
    link: &SendingLink,
    halt: &Stop,
) -> Result<Transport, DialError> {
    let socket = connected(address, halt)?;
    if let Some(name) = &link.congestion {
        sockopt::set_tcp_congestion(&socket, name).map_err(|error| {
            DialError::Here(format!(
                "cannot set the congestion control {name:?}: {error}"
            ))
        })?;
    }
    let peer = link.peer.as_ref();
    let secured = peer.map(|peer| {
        let handshake = Handshake::client(&peer.identity, &peer.name)?;
        handshake.run(&socket, Deadline::after(LINK_HANDSHAKE), Some(halt))
    });
    let records = secured.transpose()?.map(|secured| secured.into_records());
    let socket = Arc::new(socket);
    Ok(Transport { socket, records })
}

fn connected(address: SocketAddr, halt: &Stop) -> io::Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => {
            let deadline = Deadline::after(LINK_CONNECT);
            if !wait(&[&socket], PollFlags::OUT, halt, deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sockopt::socket_error(&socket)??;
        }
        Err(error) => return Err(error.into()),
    }
    let socket = TcpStream::from(socket);
    // Two ports of the range for clients can meet each other.
    if socket.local_addr()? == socket.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    prepare(&socket)?;
    Ok(socket)
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)
}

/// Waits for the next connection of any listener. `None` when the signal is given.
pub(super) fn accept(listeners: &[TcpListener], halt: &Stop) -> Option<(u16, TcpStream)> {
    loop {
        match wait(listeners, PollFlags::IN, halt, Deadline::NEVER) {
            Ok(_) => {}
            Err(error) if error.kind() == STOPPED => return None,
            // For lack of memory: the next call may succeed.
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
        for (index, listener) in (0..).zip(listeners) {
            match listener.accept() {
                Ok((socket, _)) => return Some((index, socket)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Of the connection, or for lack of descriptors: the next one may succeed.
                Err(_) => {
                    let pause = Deadline::after(ACCEPT_PAUSE);
                    let waited = wait::<TcpListener>(&[], PollFlags::IN, halt, pause);
                    if waited.is_err_and(|error| error.kind() == STOPPED) {
                        return None;
                    }
                }
            }
        }
    }
}

/// Secures a connection that was accepted.
pub(super) fn secure(
    socket: TcpStream,
    peer: Option<&Peer>,
    halt: &Stop,
) -> Result<Transport, HandshakeError> {
    prepare(&socket).map_err(HandshakeError::System)?;
    let mut records = None;
    if let Some(Peer { identity, name }) = peer {
        let handshake = Handshake::server(identity)?;
        let deadline = Deadline::after(LINK_HANDSHAKE);
        let secured = handshake.run(&socket, deadline, Some(halt))?;
        if secured.peer.name() != name {
            let other = format!("it is {}, and not {name}", secured.peer.name());
            return Err(HandshakeError::System(io::Error::other(other)));
        }
        records = Some(secured.into_records());
    }
    let socket = Arc::new(socket);
    Ok(Transport { socket, records })
}

/// Kind of the error of a wait that the stop signal has ended.
const STOPPED: io::ErrorKind = io::ErrorKind::Other;

/// Waits until one of the descriptors is ready; false after the deadline, and an error of the kind
/// [`STOPPED`] when the signal is given.
fn wait<T: AsFd>(
    descriptors: &[T],
    events: PollFlags,
    halt: &Stop,
    deadline: Deadline,
) -> io::Result<bool> {
    let mut polled = vec![PollFd::new(halt, PollFlags::IN)];
    polled.extend(descriptors.iter().map(|one| PollFd::new(one, events)));
    loop {
        match poll(&mut polled, deadline.left().as_ref()) {
            Ok(0) if deadline.has_passed() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) if !polled[0].revents().is_empty() => return Err(STOPPED.into()),
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
