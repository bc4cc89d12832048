//! One daemon for a path. A lock decides who has it; a socket that a dead daemon has left is
//! replaced, a living one's never.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, Mode, OFlags, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket that clients connect to. Dropping it removes the socket.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Of the socket's file: what another has put there in the meantime is not removed.
    inode: (u64, u64),
    /// Let go when the socket has gone.
    _lock: Lock,
}

/// Why a path cannot be listened at.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// Another daemon has it.
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket stands there.
    NoSocket {
        /// The socket.
        path: PathBuf,
    },
    /// The machine refused.
    System {
        /// What was done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Listener {
    /// Listens at `path`, with the permissions `mode` and, if one is given, the group `group`.
    ///
    /// # Errors
    ///
    /// If another daemon does, something else stands there, or the machine refuses.
    pub fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<Self, ListenError> {
        let failed = |what| {
            move |source: io::Error| ListenError::System {
                what,
                path: path.to_owned(),
                source,
            }
        };
        let lock = Lock::take(path)?;
        Self::refuse_the_living(path)?;
        // Made beside its place, so that nobody sees it before it has its permissions.
        let new = new_name(path);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(
                    "cannot remove what a dead daemon has left beside the socket",
                )(error));
            }
            _ => {}
        }
        let address =
            SocketAddrUnix::new(&new).map_err(|error| failed("cannot listen at")(error.into()))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| failed("cannot make a socket for")(error.into()))?;
        rustix::net::bind(&socket, &address)
            .map_err(|error| failed("cannot listen at")(error.into()))?;
        let dressed = Self::dress(&socket, &new, path, mode, group);
        let inode = dressed.map_err(|error| {
            let _ = fs::remove_file(&new);
            failed("cannot listen at")(error)
        })?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            inode,
            _lock: lock,
        })
    }

    fn dress(
        socket: &OwnedFd,
        new: &Path,
        path: &Path,
        mode: u32,
        group: Option<u32>,
    ) -> io::Result<(u64, u64)> {
        if let Some(group) = group {
            rustix::fs::chown(new, None, Some(Gid::from_raw(group)))?;
        }
        fs::set_permissions(new, Permissions::from_mode(mode))?;
        rustix::net::listen(socket, BACKLOG)?;
        let metadata = fs::symlink_metadata(new)?;
        fs::rename(new, path)?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// The lock is ours, so no daemon of this library lives at the path. Somebody else may.
    fn refuse_the_living(path: &Path) -> Result<(), ListenError> {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return Ok(());
        };
        if !metadata.file_type().is_socket() {
            return Err(ListenError::NoSocket {
                path: path.to_owned(),
            });
        }
        match UnixStream::connect(path) {
            Ok(_) => Err(ListenError::Taken {
                path: path.to_owned(),
            }),
            Err(_) => Ok(()),
        }
    }

    /// The next connection that waits, without waiting for one.
    ///
    /// # Errors
    ///
    /// Of the kind [`io::ErrorKind::WouldBlock`] if there is none; else if there are no descriptors
    /// left, say.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(rustix::net::accept_with(&self.socket, flags)?)
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    /// Readable when a connection waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.inode);
        if ours {
            // If it cannot be removed, the next daemon replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The lock beside a socket. The kernel lets go of it when its holder dies.
#[derive(Debug)]
struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    fn take(socket: &Path) -> Result<Self, ListenError> {
        let path = beside(socket, ".lock");
        let failed = |source: io::Error| ListenError::System {
            what: "cannot lock",
            path: path.clone(),
            source,
        };
        // Ends as soon as no other daemon removes its lock between our opening and locking it.
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600));
            let mut file = File::from(file.map_err(|error| failed(error.into()))?);
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(ListenError::Taken {
                        path: socket.to_owned(),
                    });
                }
                Err(error) => return Err(failed(error.into())),
            }
            let held = file.metadata().map_err(failed)?;
            let named = fs::symlink_metadata(&path);
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())) {
                // For people who wonder.
                let _ = file
                    .set_len(0)
                    .and_then(|()| writeln!(file, "{}", std::process::id()));
                return Ok(Self { file, path });
            }
        }
    }
}

impl Drop for Lock {
    /// Removed while it is held: who opens it in between sees that it is not the one with the name.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// What a socket is called until it has its permissions.
fn new_name(path: &Path) -> PathBuf {
    beside(path, ".new")
}

/// Whether a socket could be at `path`: the kernel takes 108 bytes, and four are for the name that
/// it has at first.
pub fn is_short_enough(path: &Path) -> bool {
    SocketAddrUnix::new(new_name(path)).is_ok()
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { path } => write!(f, "another daemon listens at {}", path.display()),
            Self::NoSocket { path } => {
                write!(
                    f,
                    "{} is no socket: remove it, or configure another socket",
                    path.display()
                )
            }
            Self::System { what, path, source } => write!(f, "{what} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for ListenError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn one_listener_for_a_path_and_nothing_left_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = Listener::bind(&path, 0o640, None).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert!(matches!(
            Listener::bind(&path, 0o600, None),
            Err(ListenError::Taken { .. })
        ));
        let client = UnixStream::connect(&path).unwrap();
        drop((listener.accept().unwrap(), client));
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(listener);
        assert_eq!(names(dir.path()), Vec::<OsString>::new());
    }

    #[test]
    fn what_the_dead_have_left_is_replaced_and_what_lives_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        // A listener that is gone without having removed anything.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        fs::write(beside(&path, ".lock"), "1\n").unwrap();
        drop(std::os::unix::net::UnixListener::bind(beside(&path, ".new")).unwrap());
        drop(Listener::bind(&path, 0o600, None).unwrap());
        // One that lives, and knows no lock.
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(
            Listener::bind(&path, 0o600, None),
            Err(ListenError::Taken { .. })
        ));
        drop(other);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "data").unwrap();
        assert!(matches!(
            Listener::bind(&path, 0o600, None),
            Err(ListenError::NoSocket { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"data");
        // Who is refused leaves nothing beside it.
        assert_eq!(names(dir.path()), ["s"]);
    }

    #[test]
    fn what_others_have_put_in_its_place_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = Listener::bind(&path, 0o600, None).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "data").unwrap();
        drop(listener);
        assert_eq!(names(dir.path()), ["s"]);
    }

    #[test]
    fn errors_name_the_path() {
        let error = Listener::bind(Path::new("/nowhere/s"), 0o600, None)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot lock /nowhere/s.lock: No such"),
            "{error}"
        );
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("s".repeat(120));
        assert!(!is_short_enough(&long) && !is_short_enough(Path::new(&"s".repeat(105))));
        assert!(is_short_enough(Path::new(&"s".repeat(104))));
        assert!(
            Listener::bind(&long, 0o600, None)
                .unwrap_err()
                .to_string()
                .starts_with("cannot listen at")
        );
    }
}
