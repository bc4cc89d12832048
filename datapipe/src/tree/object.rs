//! Opens what a name stands for, and says what it is.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, major, minor, openat};
use rustix::io::{Errno, Result};

use crate::wire::{ObjectKind, ObjectMeta, Time};

/// What the system says about an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    /// Device and inode.
    pub(super) id: (u64, u64),
    pub(super) links: u64,
    pub(super) kind: FileType,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Of 512 bytes each, that the object takes on its disk.
    pub(super) sectors: u64,
    pub(super) modified: Time,
    /// When any of this changed.
    pub(super) changed: Time,
    /// Major and minor number.
    pub(super) device: (u32, u32),
}

impl Meta {
    pub(super) fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self::new(&fstat(fd)?))
    }

    #[allow(
        clippy::unnecessary_cast,
        reason = "the widths differ between processors"
    )]
    fn new(stat: &Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let special = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let device = if special {
            (major(stat.st_rdev), minor(stat.st_rdev))
        } else {
            (0, 0)
        };
        let time = |seconds: i64, nanoseconds: u64| Time {
            seconds,
            nanoseconds: u32::try_from(nanoseconds)
                .map_or(0, |nanoseconds| nanoseconds.min(999_999_999)),
        };
        Self {
            id: (stat.st_dev as u64, stat.st_ino as u64),
            links: stat.st_nlink as u64,
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: if kind == FileType::RegularFile {
                u64::try_from(stat.st_size).unwrap_or(0)
            } else {
                0
            },
            sectors: stat.st_blocks as u64,
            modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            device,
        }
    }

    /// What tells a file from another that has its inode later.
    pub(super) fn stamp(&self) -> u64 {
        let seconds = u64::from_le_bytes(self.modified.seconds.to_le_bytes());
        self.size.rotate_left(48) ^ seconds.rotate_left(30) ^ u64::from(self.modified.nanoseconds)
    }

    /// The entry of an object that is the first of its name: `kind` as
    /// [`object_kind`](Self::object_kind) says.
    pub(super) fn describe<'a>(
        &self,
        kind: ObjectKind,
        path: &'a [u8],
        target: &'a [u8],
    ) -> ObjectMeta<'a> {
        ObjectMeta {
            kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            modified: self.modified,
            size: self.size,
            device: self.device,
            link: 0,
            linked: self.is_linked(),
            path,
            target,
        }
    }

    /// Whether there are further names of it.
    pub(super) fn is_linked(&self) -> bool {
        self.links > 1 && self.kind != FileType::Directory
    }

    /// What the object is in an archive. Sockets are nothing there.
    pub(super) fn object_kind(&self) -> Option<ObjectKind> {
        match self.kind {
            FileType::RegularFile => Some(ObjectKind::File),
            FileType::Directory => Some(ObjectKind::Directory),
            FileType::Symlink => Some(ObjectKind::Symlink),
            FileType::Fifo => Some(ObjectKind::Fifo),
            FileType::CharacterDevice => Some(ObjectKind::CharacterDevice),
            FileType::BlockDevice => Some(ObjectKind::BlockDevice),
            _ => None,
        }
    }
}

/// A descriptor of an object, and what it is.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    /// The descriptor only says which object it is: neither data nor names can be read from it.
    pub(super) path_only: bool,
    pub(super) meta: Meta,
    /// Why a directory cannot be listed.
    pub(super) unread: Option<Errno>,
}

/// Opens the object that `name` stands for in `dir`. `expected` is what the directory says that it
/// is: only files and directories are opened for reading, since the opening of a device can do
/// things.
///
/// # Errors
///
/// What the system says; a directory that cannot be read is no error.
pub(super) fn open(dir: BorrowedFd<'_>, name: &CStr, expected: FileType) -> Result<Opened> {
    let mut unread = None;
    if matches!(expected, FileType::RegularFile | FileType::Directory) {
        match open_to_read(dir, name, expected) {
            Ok(Some(opened)) => return Ok(opened),
            // It is something else by now.
            Ok(None) => {}
            Err(error) if expected == FileType::Directory => unread = Some(error),
            Err(error) => return Err(error),
        }
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    let meta = Meta::new(&fstat(&fd)?);
    let readable = matches!(meta.kind, FileType::RegularFile | FileType::Directory);
    if readable && unread.is_none() {
        drop(fd);
        // If it is yet another thing now, somebody is playing: it is as good as gone.
        return match open_to_read(dir, name, meta.kind) {
            Ok(opened) => opened.ok_or(Errno::NOENT),
            Err(error) if meta.kind == FileType::Directory => {
                let fd = openat(dir, name, flags, Mode::empty())?;
                let meta = Meta::new(&fstat(&fd)?);
                Ok(Opened {
                    fd,
                    path_only: true,
                    meta,
                    unread: Some(error),
                })
            }
            Err(error) => Err(error),
        };
    }
    if meta.kind != FileType::Directory {
        unread = None;
    }
    Ok(Opened {
        fd,
        path_only: true,
        meta,
        unread,
    })
}

/// `None` if it is not of the kind that was expected.
fn open_to_read(dir: BorrowedFd<'_>, name: &CStr, expected: FileType) -> Result<Option<Opened>> {
    // Not to wait for the other side of a fifo that took the place of a file.
    let mut flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if expected == FileType::Directory {
        flags |= OFlags::DIRECTORY;
    }
    let opened = match openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only owners may ask for that.
        Err(Errno::PERM) => openat(dir, name, flags, Mode::empty()),
        other => other,
    };
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::NODEV) => return Ok(None),
        Err(error) => return Err(error),
    };
    let meta = Meta::new(&fstat(&fd)?);
    if meta.kind != expected {
        return Ok(None);
    }
    Ok(Some(Opened {
        fd,
        path_only: false,
        meta,
        unread: None,
    }))
}

/// Where a symbolic link leads to.
pub(super) fn target(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(fd, c"", Vec::new())?.into_bytes())
}

/// The extended attributes of one object, by their names.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// The names, each with a zero behind it.
    names: Vec<u8>,
    at: usize,
    /// The object's place in `/proc`, for descriptors from which nothing can be read.
    place: Option<CString>,
}

impl Attributes {
    /// Lists them. `room` is where: no list is longer than the kernel's 64 KiB.
    pub(super) fn list(
        &mut self,
        fd: BorrowedFd<'_>,
        path_only: bool,
        room: &mut [u8],
    ) -> Result<()> {
        self.names.clear();
        self.at = 0;
        self.place = path_only.then(|| {
            CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("a path without zeros")
        });
        let listed = with_usual_room(room, |room| match &self.place {
            Some(place) => rustix::fs::listxattr(place.as_c_str(), room),
            None => rustix::fs::flistxattr(fd, room),
        });
        match listed {
            Ok(len) => self.names.extend_from_slice(&room[..len]),
            Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The next name.
    pub(super) fn name(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(self.names.get(self.at..)?).ok()
    }

    /// Goes on to the name behind it.
    pub(super) fn advance(&mut self) {
        self.at += self.name().map_or(0, |name| name.to_bytes_with_nul().len());
    }

    /// Reads the value of the next name to `room`; `None` if it is gone.
    pub(super) fn value(&self, fd: BorrowedFd<'_>, room: &mut [u8]) -> Result<Option<usize>> {
        let Some(name) = self.name() else {
            return Ok(None);
        };
        let read = with_usual_room(room, |room| match &self.place {
            Some(place) => rustix::fs::getxattr(place.as_c_str(), name, room),
            None => rustix::fs::fgetxattr(fd, name, room),
        });
        match read {
            Ok(len) => Ok(Some(len)),
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Offers little room first, which mostly is enough: the kernel takes as much memory as it is
/// offered, and to get 64 KiB takes it longer than to list the names.
fn with_usual_room(room: &mut [u8], read: impl Fn(&mut [u8]) -> Result<usize>) -> Result<usize> {
    let usual = room.len().min(512);
    match read(&mut room[..usual]) {
        Err(Errno::RANGE) => read(room),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    use rustix::fs::CWD;

    use super::*;

    /// Whatever a directory said, what is there now is opened, and as what it is: no link is
    /// followed, and nobody waits for the other side of a fifo.
    #[test]
    fn what_took_the_place_of_another_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), b"x").unwrap();
        fs::create_dir(path("directory")).unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        std::os::unix::fs::symlink("directory", path("link to directory")).unwrap();
        rustix::fs::mkfifoat(CWD, path("fifo"), Mode::RUSR).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        let fd = File::open(dir.path()).unwrap();
        for expected in [
            FileType::RegularFile,
            FileType::Directory,
            FileType::Symlink,
            FileType::Unknown,
        ] {
            for (name, kind) in [
                (c"file", FileType::RegularFile),
                (c"directory", FileType::Directory),
                (c"link", FileType::Symlink),
                (c"link to directory", FileType::Symlink),
                (c"fifo", FileType::Fifo),
                (c"socket", FileType::Socket),
            ] {
                let opened = open(fd.as_fd(), name, expected).unwrap();
                assert_eq!(opened.meta.kind, kind, "{name:?} {expected:?}");
                let readable = matches!(kind, FileType::RegularFile | FileType::Directory);
                assert_eq!(
                    (opened.path_only, opened.unread),
                    (!readable, None),
                    "{name:?} {expected:?}"
                );
            }
            assert_eq!(
                open(fd.as_fd(), c"missing", expected).unwrap_err(),
                Errno::NOENT
            );
        }
    }
}
