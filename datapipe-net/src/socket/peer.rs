//! Who is on the other side of a connection: what the kernel has noted when it was made.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::config::User;

/// The process that has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub user: User,
    /// Its group.
    pub group: u32,
    /// Its id; 0 if it lives where this process cannot see it.
    pub process: u32,
}

impl Peer {
    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// If `socket` is no connected unix socket.
    pub fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
        Ok(Self {
            user: User(credentials.uid()),
            group: credentials.gid(),
            process: u32::try_from(credentials.pid()).unwrap_or(0),
        })
    }

    /// A descriptor of the process that has connected, which becomes readable when that dies.
    ///
    /// From Linux 6.5 on the kernel has kept it since the connection was made. Before, the process
    /// is looked up by its id, which would be another's if it has died since, and the id was given
    /// anew.
    ///
    /// # Errors
    ///
    /// If the process is dead, or cannot be seen from here.
    pub fn descriptor(&self, socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        if let Ok(descriptor) = getsockopt(&socket.as_fd(), sockopt::PeerPidfd) {
            return Ok(descriptor);
        }
        let id = i32::try_from(self.process).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| {
            io::Error::other("the process lives where it cannot be seen from here")
        })?;
        Ok(pidfd_open(id, PidfdFlags::empty())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(ours.as_fd()).unwrap();
        assert_eq!((peer.user, peer.process), (User::own(), std::process::id()));
        peer.descriptor(ours.as_fd()).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Peer::of(file.as_fd()).is_err());
    }
}
