//! Identity of the process at the other end of a connection, as the kernel recorded it when the
//! connection was made.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::config::User;

/// Process that connected.
///
/// Exhaustive: these are the credentials that the kernel reports (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User of the process.
    pub user: User,
    /// Group of the process.
    pub group: u32,
    /// Id of the process; 0 if it is in a process namespace that this process cannot see.
    pub process: u32,
}

impl Peer {
    /// Reads the identity of the peer of `socket` from the kernel.
    ///
    /// # Errors
    ///
    /// If `socket` is not a connected Unix socket.
    pub fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
        Ok(Self {
            user: User(credentials.uid()),
            group: credentials.gid(),
            process: u32::try_from(credentials.pid()).unwrap_or(0),
        })
    }

    /// Opens a descriptor of the process that connected; it becomes readable when that dies.
    ///
    /// From Linux 6.5 on, the kernel keeps the process of the connection. On an older kernel this
    /// function looks the process up by its id. If the process has died since and its id was
    /// reused, the descriptor is that of another process.
    ///
    /// # Errors
    ///
    /// If the process has died, or is in a namespace that this process cannot see.
    pub fn descriptor(&self, socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        if let Ok(descriptor) = getsockopt(&socket.as_fd(), sockopt::PeerPidfd) {
            return Ok(descriptor);
        }
        let id = i32::try_from(self.process).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| {
            io::Error::other("the process is in a namespace that the daemon cannot see")
        })?;
        Ok(pidfd_open(id, PidfdFlags::empty())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn peer_of_a_socket_pair_is_this_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(ours.as_fd()).unwrap();
        assert_eq!((peer.user, peer.process), (User::own(), std::process::id()));
        peer.descriptor(ours.as_fd()).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Peer::of(file.as_fd()).is_err());
    }
}
