//! One daemon for a path. A lock decides which daemon has the path; it replaces the socket that a
//! dead daemon left, and never one that is in use.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use datapipe::interrupt::retry;
use rustix::fs::{FlockOperation, Gid, Mode, OFlags, flock};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A listening socket. Dropping it removes the socket's file.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    file: SocketFile,
    /// Released after the socket's file is removed.
    _lock: Lock,
}

/// File of a listening socket.
#[derive(Clone, Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode. If another file has replaced it, that stays as it is.
    inode: (u64, u64),
    /// Group that the system gave it, which it has if the configuration names none.
    first_group: u32,
}

/// Failure to listen at a path.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// Another daemon listens at the path.
    Taken {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The file at the path is not a socket.
    NotASocket {
        /// Path of the file.
        path: PathBuf,
    },
    /// A system call failed.
    System {
        /// Failed action, which the path follows: `cannot lock`.
        what: &'static str,
        /// File of the action.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

impl Listener {
    /// Listens at `path`. The socket gets the permissions `mode` and, if given, the group `group`.
    ///
    /// The socket is made under another name in the same directory and renamed when it has its
    /// permissions and listens, so no client sees it before that.
    ///
    /// # Errors
    ///
    /// If another daemon listens at `path`, the file there is not a socket, or the system refuses.
    pub fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<Self, ListenError> {
        let failed = |what| {
            move |source: io::Error| ListenError::System {
                what,
                path: path.to_owned(),
                source,
            }
        };
        let lock = Lock::take(path)?;
        check_unused(path)?;
        let new = temporary_name(path);
        match retry(|| fs::remove_file(&new)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let what = "cannot remove the temporary socket of a dead daemon next to";
                return Err(failed(what)(error));
            }
            _ => {}
        }
        let address =
            SocketAddrUnix::new(&new).map_err(|error| failed("cannot listen at")(error.into()))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| failed("cannot create a socket for")(error.into()))?;
        rustix::net::bind(&socket, &address)
            .map_err(|error| failed("cannot listen at")(error.into()))?;
        let published = publish(&socket, &new, path, mode, group);
        let (inode, first_group) = published.map_err(|error| {
            let _ = fs::remove_file(&new);
            failed("cannot listen at")(error)
        })?;
        let path = path.to_owned();
        Ok(Self {
            socket,
            file: SocketFile {
                path,
                inode,
                first_group,
            },
            _lock: lock,
        })
    }

    /// Accepts a waiting connection. This does not block.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if no connection waits; another error if, for example, the
    /// process has no descriptor left.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(retry_on_intr(|| {
            rustix::net::accept_with(&self.socket, flags)
        })?)
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// File of the socket.
    pub(crate) fn file(&self) -> &SocketFile {
        &self.file
    }
}

impl SocketFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file other permissions, and the group `group`, or the one that the system gave it.
    /// No user can connect meanwhile who may neither before nor after.
    ///
    /// # Errors
    ///
    /// If another file has replaced it, or the system refuses.
    pub(crate) fn set_access(&self, mode: u32, group: Option<u32>) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::open(&self.path, flags, Mode::empty());
        let file = File::from(retry_on_intr(open)?);
        let found = retry(|| file.metadata())?;
        if (found.dev(), found.ino()) != self.inode {
            return Err(io::Error::other("another file has replaced it"));
        }
        // The name may lead elsewhere by now.
        let opened = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let group = group.unwrap_or(self.first_group);
        if found.gid() != group {
            let without_group = Permissions::from_mode(found.mode() & mode & 0o707);
            retry(|| fs::set_permissions(&opened, without_group.clone()))?;
            retry(|| std::os::unix::fs::chown(&opened, None, Some(group)))?;
        }
        retry(|| fs::set_permissions(&opened, Permissions::from_mode(mode)))
    }
}

impl AsFd for Listener {
    /// Returns a descriptor that is readable when a connection waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let SocketFile { path, inode, .. } = &self.file;
        let found = retry(|| fs::symlink_metadata(path));
        if found.is_ok_and(|now| (now.dev(), now.ino()) == *inode) {
            // If the file cannot be removed, the next daemon replaces it.
            let _ = retry(|| fs::remove_file(path));
        }
    }
}

/// Gives the socket its group and permissions, listens, and renames it from `new` to `path`.
/// Returns the device and inode of its file, and the group that it had from the system.
fn publish(
    socket: &OwnedFd,
    new: &Path,
    path: &Path,
    mode: u32,
    group: Option<u32>,
) -> io::Result<((u64, u64), u32)> {
    let metadata = retry(|| fs::symlink_metadata(new))?;
    if let Some(group) = group {
        retry_on_intr(|| rustix::fs::chown(new, None, Some(Gid::from_raw(group))))?;
    }
    retry(|| fs::set_permissions(new, Permissions::from_mode(mode)))?;
    rustix::net::listen(socket, BACKLOG)?;
    fs::rename(new, path)?;
    Ok(((metadata.dev(), metadata.ino()), metadata.gid()))
}

/// Checks that no process serves `path`. This process has the lock, so no daemon of this library
/// does, but a program that does not know the lock may.
fn check_unused(path: &Path) -> Result<(), ListenError> {
    let failed = |source: io::Error| ListenError::System {
        what: "cannot look at",
        path: path.to_owned(),
        source,
    };
    let metadata = match retry(|| fs::symlink_metadata(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(failed)?,
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket {
            path: path.to_owned(),
        });
    }
    // A program whose queue of connections is full must not block this one.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let socket = socket.map_err(|error| failed(error.into()))?;
    let address = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
    match retry_on_intr(|| rustix::net::connect(&socket, &address)) {
        Ok(()) | Err(Errno::AGAIN) => Err(ListenError::Taken {
            path: path.to_owned(),
        }),
        // Its program has ended, or has just removed it.
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // Sockets of another type are not ours.
        Err(error) => Err(failed(error.into())),
    }
}

/// Lock file next to a socket. The kernel releases the lock when its holder dies.
#[derive(Debug)]
struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    fn take(socket: &Path) -> Result<Self, ListenError> {
        let path = with_suffix(socket, ".lock");
        let failed = |source: io::Error| ListenError::System {
            what: "cannot lock",
            path: path.clone(),
            source,
        };
        // The daemon that held the lock may remove the file after this process opened it. A lock on
        // a file without that name excludes no other daemon, so another try is needed. The loop
        // ends with the first try during which no daemon removes its lock file.
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let mode = Mode::from_raw_mode(0o600);
            let file = retry_on_intr(|| rustix::fs::open(&path, flags, mode));
            let mut file = File::from(file.map_err(|error| failed(error.into()))?);
            match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    return Err(ListenError::Taken {
                        path: socket.to_owned(),
                    });
                }
                Err(error) => return Err(failed(error.into())),
            }
            let held = retry(|| file.metadata()).map_err(failed)?;
            let named = retry(|| fs::symlink_metadata(&path));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())) {
                // The process id is for people who look into the file.
                let _ = file
                    .set_len(0)
                    .and_then(|()| writeln!(file, "{}", std::process::id()));
                return Ok(Self { file, path });
            }
        }
    }
}

impl Drop for Lock {
    /// Removes the file while the lock is held: a daemon that opened it before then finds that it
    /// has locked a file without a name, and tries again.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Path of a socket until it has its permissions.
fn temporary_name(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

/// True if `path` is short enough for a socket. An address has at most 108 bytes, and the socket's
/// temporary name needs 4 of them.
pub fn fits_in_address(path: &Path) -> bool {
    SocketAddrUnix::new(temporary_name(path)).is_ok()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { path } => write!(f, "another daemon listens at {}", path.display()),
            Self::NotASocket { path } => {
                write!(
                    f,
                    "{} is not a socket: remove the file, or configure another path",
                    path.display()
                )
            }
            Self::System { what, path, source } => write!(f, "{what} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            Self::Taken { .. } | Self::NotASocket { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

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
    fn listener_excludes_others_and_removes_its_files() {
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
    fn socket_of_a_dead_daemon_is_replaced_and_a_used_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        // The listener dies without removing its files.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        fs::write(with_suffix(&path, ".lock"), "1\n").unwrap();
        drop(std::os::unix::net::UnixListener::bind(with_suffix(&path, ".new")).unwrap());
        drop(Listener::bind(&path, 0o600, None).unwrap());
        // This one is in use by a program that does not know the lock.
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
            Err(ListenError::NotASocket { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"data");
        // A refused listener leaves no file.
        assert_eq!(names(dir.path()), ["s"]);
    }

    #[test]
    fn file_that_replaced_the_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = Listener::bind(&path, 0o600, None).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "data").unwrap();
        drop(listener);
        assert_eq!(names(dir.path()), ["s"]);
    }

    #[test]
    fn errors_of_listening_name_the_path() {
        let error = Listener::bind(Path::new("/nowhere/s"), 0o600, None)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot lock /nowhere/s.lock: No such"),
            "{error}"
        );
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("s".repeat(120));
        assert!(!fits_in_address(&long) && !fits_in_address(Path::new(&"s".repeat(105))));
        assert!(fits_in_address(Path::new(&"s".repeat(104))));
        assert!(
            Listener::bind(&long, 0o600, None)
                .unwrap_err()
                .to_string()
                .starts_with("cannot listen at")
        );
    }
}
