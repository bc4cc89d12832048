//! Opens an object by its name, and reads its metadata and extended attributes.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Statx, StatxFlags, fstat, major, makedev, minor, statx,
};
use rustix::io::{Errno, Result, retry_on_intr};

use crate::limits::MAX_OBJECT_ATTRIBUTES;
use crate::tree::inode_calls;
use crate::wire::{ObjectKind, ObjectMeta, Time};

/// The file system that an object belongs to.
///
/// A device number does not tell file systems apart: overlayfs reports that of a layer for its
/// files, btrfs one for each subvolume. A mount does, and its id tells whether something else was
/// mounted over a directory or a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// Id of the mount; `None` if the kernel does not report it (before Linux 5.8).
    mount: Option<u64>,
    device: u64,
}

/// Metadata of an object, from `statx` or `fstat`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    /// Device and inode.
    pub(super) id: (u64, u64),
    pub(super) file_system: FileSystem,
    /// Time at which the inode was made, if the file system reports it.
    pub(super) born: Option<Time>,
    /// Number of hard links.
    pub(super) links: u64,
    pub(super) kind: FileType,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Allocated size, in 512-byte sectors.
    pub(super) sectors: u64,
    pub(super) modified: Time,
    /// Time of the last change of the inode.
    pub(super) changed: Time,
    /// Major and minor number of a device.
    pub(super) device: (u32, u32),
}

impl Meta {
    pub(super) fn from_fd(fd: BorrowedFd<'_>) -> Result<Self> {
        let wanted = StatxFlags::BASIC_STATS
            | StatxFlags::BTIME
            | StatxFlags::MNT_ID
            | StatxFlags::from_bits_retain(MNT_ID_UNIQUE);
        match retry_on_intr(|| statx(fd, c"", AtFlags::EMPTY_PATH, wanted)) {
            Ok(found) => Ok(Self::from_statx(&found)),
            // A sandbox that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => Ok(Self::new(&retry_on_intr(|| fstat(fd))?)),
            Err(error) => Err(error),
        }
    }

    fn from_statx(found: &Statx) -> Self {
        let kind = FileType::from_raw_mode(found.stx_mode.into());
        let special = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let device = match special {
            true => (found.stx_rdev_major, found.stx_rdev_minor),
            false => (0, 0),
        };
        let has = |field: u32| found.stx_mask & field != 0;
        let born = has(StatxFlags::BTIME.bits())
            .then(|| time(found.stx_btime.tv_sec, found.stx_btime.tv_nsec.into()));
        let id_of_mount = StatxFlags::MNT_ID.bits() | MNT_ID_UNIQUE;
        let of_device = makedev(found.stx_dev_major, found.stx_dev_minor);
        Self {
            id: (of_device, found.stx_ino),
            file_system: FileSystem {
                mount: has(id_of_mount).then_some(found.stx_mnt_id),
                device: of_device,
            },
            born,
            links: found.stx_nlink.into(),
            kind,
            mode: u32::from(found.stx_mode) & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            size: size_of(kind, found.stx_size),
            sectors: found.stx_blocks,
            modified: time(found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec.into()),
            changed: time(found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec.into()),
            device,
        }
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
        Self {
            id: (stat.st_dev as u64, stat.st_ino as u64),
            file_system: FileSystem {
                mount: None,
                device: stat.st_dev as u64,
            },
            born: None,
            links: stat.st_nlink as u64,
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: size_of(kind, u64::try_from(stat.st_size).unwrap_or(0)),
            sectors: stat.st_blocks as u64,
            modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            device,
        }
    }

    /// Returns a hash that tells a file from another one that reuses its inode: of size, time of
    /// modification, and the time at which the inode was made.
    ///
    /// A user can give two files the same size and time of modification. The time at which an inode
    /// was made cannot be set. Where the file system does not keep it, the time of the inode's last
    /// change takes its place: that of a file whose names change while the tree is read changes
    /// too, and the file is stored twice.
    pub(super) fn stamp(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.size.to_le_bytes());
        let times = [self.modified, self.born.unwrap_or(self.changed)];
        for Time {
            seconds,
            nanoseconds,
        } in times
        {
            hasher.update(&seconds.to_le_bytes());
            hasher.update(&nanoseconds.to_le_bytes());
        }
        hasher.update(&[self.born.is_some().into()]);
        let mut stamp = [0; 8];
        hasher.finalize_xof().fill(&mut stamp);
        u64::from_le_bytes(stamp)
    }

    /// Returns true if the object does not belong to the file system `of`, on which its source is.
    ///
    /// Without ids of mounts only directories are compared by their devices: where another file
    /// system is mounted, the device of a directory differs, and a file's may differ anyway.
    pub(super) fn is_outside(&self, of: FileSystem) -> bool {
        match (self.file_system.mount, of.mount) {
            (Some(own), Some(of)) => own != of,
            _ => self.kind == FileType::Directory && self.file_system.device != of.device,
        }
    }

    /// Returns true if `other` describes this inode, and not one that reuses its number.
    pub(super) fn is_same_inode(&self, other: &Self) -> bool {
        (self.id, self.born) == (other.id, other.born)
    }

    /// Returns the entry of an object that is not a further name of another. `kind` is that of
    /// [`object_kind`](Self::object_kind).
    pub(super) fn to_object<'a>(
        self,
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

    /// Returns true if the object has further names.
    pub(super) fn is_linked(&self) -> bool {
        self.links > 1 && self.kind != FileType::Directory
    }

    /// Returns the kind of the object in an archive, or `None` for a socket, which has none.
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

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): the id of the mount, never used again before the next boot.
/// A kernel that does not know it reports the id that `STATX_MNT_ID` asks for.
const MNT_ID_UNIQUE: u32 = 0x4000;

fn time(seconds: i64, nanoseconds: u64) -> Time {
    Time {
        seconds,
        nanoseconds: u32::try_from(nanoseconds)
            .map_or(0, |nanoseconds| nanoseconds.min(999_999_999)),
    }
}

/// Returns the size of a regular file, and 0 for other kinds.
fn size_of(kind: FileType, size: u64) -> u64 {
    match kind {
        FileType::RegularFile => size,
        _ => 0,
    }
}

/// Opens an object, again if a signal interrupts it: on network file systems that happens.
pub(super) fn openat(
    dir: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::openat(dir, name, flags, mode))
}

/// A directory, open for as long as an object in it may have to be opened.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) fd: OwnedFd,
    /// File system of the source that the directory belongs to.
    pub(super) file_system: FileSystem,
}

/// The descriptor of an open object.
#[derive(Debug)]
pub(super) enum Descriptor {
    Own(OwnedFd),
    /// Descriptor of a directory, shared because objects in it are to be opened.
    Shared(Arc<Dir>),
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Shared(dir) => dir.fd.as_fd(),
        }
    }
}

/// An open object and its metadata.
#[derive(Debug)]
pub(super) struct OpenObject {
    pub(super) fd: Descriptor,
    /// The descriptor was opened with `O_PATH`: neither data nor names can be read from it.
    pub(super) path_only: bool,
    pub(super) meta: Meta,
    /// The error because of which a directory cannot be listed, or not completely.
    pub(super) unread: Option<Errno>,
}

impl OpenObject {
    /// Shares the descriptor of a directory of a source in `file_system`.
    pub(super) fn share(self, file_system: FileSystem) -> (Self, Arc<Dir>) {
        let dir = match self.fd {
            Descriptor::Own(fd) => Arc::new(Dir { fd, file_system }),
            Descriptor::Shared(dir) => dir,
        };
        let fd = Descriptor::Shared(Arc::clone(&dir));
        (Self { fd, ..self }, dir)
    }
}

/// Opens the object `name` in `dir`. `expected` is its type according to the directory. Only files
/// and directories are opened for reading, since opening a device can have effects.
///
/// By the time the object is opened it may be of another type. So an object that is not of the
/// expected type is opened with `O_PATH`, which has no effects, and its true type is read. If that
/// is a file or a directory after all, it is opened once more, for reading.
///
/// # Errors
///
/// The error of the system. A directory that cannot be read is not an error: it is returned with
/// [`OpenObject::unread`].
pub(super) fn open(dir: BorrowedFd<'_>, name: &CStr, expected: FileType) -> Result<OpenObject> {
    let mut unread = None;
    if is_readable(expected) {
        match open_to_read(dir, name, expected) {
            Ok(Some(opened)) => return Ok(opened),
            // Its type has changed since the directory was read.
            Ok(None) => {}
            Err(error) if expected == FileType::Directory => unread = Some(error),
            Err(error) => return Err(error),
        }
    }
    let opened = open_path(dir, name)?;
    let kind = opened.meta.kind;
    if is_readable(kind) && unread.is_none() {
        drop(opened);
        // If its type has changed again, another process plays with it: it counts as removed.
        return match open_to_read(dir, name, kind) {
            Ok(opened) => opened.ok_or(Errno::NOENT),
            Err(error) if kind == FileType::Directory => Ok(OpenObject {
                unread: Some(error),
                ..open_path(dir, name)?
            }),
            Err(error) => Err(error),
        };
    }
    Ok(OpenObject {
        unread: unread.filter(|_| kind == FileType::Directory),
        ..opened
    })
}

fn is_readable(kind: FileType) -> bool {
    matches!(kind, FileType::RegularFile | FileType::Directory)
}

/// Opens an object without access to its content.
fn open_path(dir: BorrowedFd<'_>, name: &CStr) -> Result<OpenObject> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    let meta = Meta::from_fd(fd.as_fd())?;
    Ok(OpenObject {
        fd: Descriptor::Own(fd),
        path_only: true,
        meta,
        unread: None,
    })
}

/// Opens a file or a directory for reading. Returns `None` if the object is not of the expected
/// type.
fn open_to_read(
    dir: BorrowedFd<'_>,
    name: &CStr,
    expected: FileType,
) -> Result<Option<OpenObject>> {
    // `NONBLOCK`: if a fifo has replaced the file, do not wait for its other end.
    let mut flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if expected == FileType::Directory {
        flags |= OFlags::DIRECTORY;
    }
    let opened = match openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner of a file may open it with `NOATIME`.
        Err(Errno::PERM) => openat(dir, name, flags, Mode::empty()),
        other => other,
    };
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::NODEV) => return Ok(None),
        Err(error) => return Err(error),
    };
    let meta = Meta::from_fd(fd.as_fd())?;
    if meta.kind != expected {
        return Ok(None);
    }
    Ok(Some(OpenObject {
        fd: Descriptor::Own(fd),
        path_only: false,
        meta,
        unread: None,
    }))
}

/// Returns the target of a symbolic link.
pub(super) fn read_target(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let target = retry_on_intr(|| rustix::fs::readlinkat(fd, c"", Vec::new()))?;
    Ok(target.into_bytes())
}

/// Names of an object's extended attributes, and a cursor among them.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// The names, each followed by a zero byte.
    names: Vec<u8>,
    at: usize,
    /// True for a descriptor that was opened with `O_PATH`.
    path_only: bool,
    /// Bytes of the entries that were written.
    written: usize,
}

impl Attributes {
    /// Lists the names, by way of `buf`. The kernel limits a list to 64 KiB.
    pub(super) fn list(
        &mut self,
        fd: BorrowedFd<'_>,
        path_only: bool,
        buf: &mut [u8],
    ) -> Result<()> {
        self.names.clear();
        (self.at, self.written, self.path_only) = (0, 0, path_only);
        let listed = with_small_buf(buf, |buf| match path_only {
            true => inode_calls::list(fd, buf),
            false => rustix::fs::flistxattr(fd, buf),
        });
        match listed {
            Ok(len) => self.names.extend_from_slice(&buf[..len]),
            Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
        // A file system in user space may leave the last one out.
        if self.names.last().is_some_and(|&last| last != 0) {
            self.names.push(0);
        }
        Ok(())
    }

    /// Returns the current name.
    pub(super) fn name(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(self.names.get(self.at..)?).ok()
    }

    /// Advances to the next name.
    pub(super) fn advance(&mut self) {
        self.at += self.name().map_or(0, |name| name.to_bytes_with_nul().len());
    }

    /// Reads the value of the current name into `buf` and returns its length, or `None` if the
    /// attribute was removed.
    pub(super) fn value(&self, fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<Option<usize>> {
        let Some(name) = self.name() else {
            return Ok(None);
        };
        let read = with_small_buf(buf, |buf| match self.path_only {
            true => inode_calls::value(fd, name, buf),
            false => rustix::fs::fgetxattr(fd, name, buf),
        });
        match read {
            Ok(len) => Ok(Some(len)),
            Err(Errno::NODATA) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// True if an entry of `len` bytes may follow: a restore takes no more of one object.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.written + len <= MAX_OBJECT_ATTRIBUTES
    }

    /// Counts an entry that was written.
    pub(super) fn count(&mut self, len: usize) {
        self.written += len;
    }
}

/// Calls `read` with a small part of `buf` first, which mostly is enough. The kernel allocates as
/// much memory as it is offered, and 64 KiB take it longer than listing the names.
///
/// A call that a signal interrupts is repeated.
fn with_small_buf(buf: &mut [u8], read: impl Fn(&mut [u8]) -> Result<usize>) -> Result<usize> {
    let small = buf.len().min(512);
    match retry_on_intr(|| read(&mut buf[..small])) {
        Err(Errno::RANGE) => retry_on_intr(|| read(buf)),
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

    /// For each type that a directory may report, the object that exists now is opened as what it
    /// is: no link is followed, and `open` does not wait for the other end of a fifo.
    #[test]
    fn object_of_unexpected_type_is_opened_as_what_it_is() {
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
