//! Mode and extended attributes of an object by a descriptor that was opened with `O_PATH`: a
//! symbolic link, a fifo, a device.
//!
//! The kernel refuses `fchmod` and `fsetxattr` for such a descriptor. Its path in `/proc/self/fd`
//! leads to the object, and to no other. Where `/proc` is not mounted, root mounts an instance
//! that has no place in the tree of files, and Linux 6.13 takes names relative to its descriptor;
//! Linux 6.6 sets the mode without it. This module does not use the name of the object, which could
//! lead elsewhere by now.

use std::ffi::{CStr, CString, c_int, c_long};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, XattrFlags, openat};
use rustix::io::{Errno, Result};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Offset of the numbers of system calls; 0 except on MIPS.
const FIRST_CALL: c_long = if cfg!(any(target_arch = "mips64", target_arch = "mips64r6")) {
    5000
} else {
    0
};
const FCHMODAT2: c_long = FIRST_CALL + 452;
const SETXATTRAT: c_long = FIRST_CALL + 463;
const GETXATTRAT: c_long = FIRST_CALL + 464;
const LISTXATTRAT: c_long = FIRST_CALL + 465;
const REMOVEXATTRAT: c_long = FIRST_CALL + 466;

/// `struct xattr_args` of `linux/xattr.h`: a value that is set or read.
#[repr(C, align(8))]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Sets the mode. A symbolic link has none.
pub(super) fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    let by_path =
        |path: &str| rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty());
    match by_path(&proc_path(fd)) {
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        other => return other,
    }
    let (path, flags) = (c"", libc::AT_EMPTY_PATH);
    // SAFETY: the path is a string that the call only reads; the other arguments are numbers.
    let result = unsafe { libc::syscall(FCHMODAT2, fd.as_raw_fd(), path.as_ptr(), mode, flags) };
    checked(result).map(drop)
}

/// Way to an object whose descriptor was opened with `O_PATH`.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// The path of the descriptor in `/proc`.
    Path(&'a str),
    /// A directory in another instance of `/proc`, and the name of the descriptor in it.
    At(c_int, &'a CStr),
}

/// Lists the names of the attributes to `buf`, each followed by a zero byte. Returns their length.
pub(super) fn list(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize> {
    by_proc(fd, |way| {
        let (dir, path) = match way {
            Way::Path(path) => return rustix::fs::listxattr(path, &mut *buf),
            Way::At(dir, path) => (dir, path.as_ptr()),
        };
        let (to, len) = (buf.as_mut_ptr(), buf.len());
        // SAFETY: the call reads the path and writes at most `len` bytes to the buffer, which is
        // borrowed until it returns.
        checked(unsafe { libc::syscall(LISTXATTRAT, dir, path, 0, to, len) })
    })
}

/// Reads the value of an attribute to `buf`. Returns its length.
pub(super) fn value(fd: BorrowedFd<'_>, name: &CStr, buf: &mut [u8]) -> Result<usize> {
    by_proc(fd, |way| {
        let (dir, path) = match way {
            Way::Path(path) => return rustix::fs::getxattr(path, name, &mut *buf),
            Way::At(dir, path) => (dir, path.as_ptr()),
        };
        let args = XattrArgs {
            value: buf.as_mut_ptr().expose_provenance() as u64,
            size: u32::try_from(buf.len()).unwrap_or(u32::MAX),
            flags: 0,
        };
        let (name, args, len) = (name.as_ptr(), &raw const args, size_of::<XattrArgs>());
        // SAFETY: the call reads path, name and arguments, and writes at most `args.size` bytes to
        // the buffer at `args.value`, which has as many and is borrowed until the call returns.
        checked(unsafe { libc::syscall(GETXATTRAT, dir, path, 0, name, args, len) })
    })
}

/// Sets an attribute.
pub(super) fn set(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let size = u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
    by_proc(fd, |way| {
        let (dir, path) = match way {
            Way::Path(path) => {
                return rustix::fs::setxattr(path, name.as_c_str(), value, XattrFlags::empty());
            }
            Way::At(dir, path) => (dir, path.as_ptr()),
        };
        let args = XattrArgs {
            value: value.as_ptr().expose_provenance() as u64,
            size,
            flags: 0,
        };
        let (name, args, len) = (name.as_ptr(), &raw const args, size_of::<XattrArgs>());
        // SAFETY: the call reads path, name and arguments, and the `args.size` bytes of the value
        // at `args.value`. All of them are borrowed until it returns.
        checked(unsafe { libc::syscall(SETXATTRAT, dir, path, 0, name, args, len) }).map(drop)
    })
}

/// Removes an attribute.
pub(super) fn remove(fd: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    by_proc(fd, |way| {
        let (dir, path) = match way {
            Way::Path(path) => return rustix::fs::removexattr(path, name),
            Way::At(dir, path) => (dir, path.as_ptr()),
        };
        // SAFETY: path and name are strings that the call only reads.
        checked(unsafe { libc::syscall(REMOVEXATTRAT, dir, path, 0, name.as_ptr()) }).map(drop)
    })
}

/// Calls `call` with the way to the object by `/proc`. If that is not mounted, calls it again with
/// the way by another instance of it.
///
/// # Errors
///
/// `NOSYS` if neither leads to the object.
fn by_proc<T>(fd: BorrowedFd<'_>, mut call: impl FnMut(Way<'_>) -> Result<T>) -> Result<T> {
    static DETACHED: OnceLock<Option<OwnedFd>> = OnceLock::new();
    match call(Way::Path(&proc_path(fd))) {
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        other => return other,
    }
    let descriptors = DETACHED.get_or_init(|| detached_descriptors().ok());
    let descriptors = descriptors.as_ref().ok_or(Errno::NOSYS)?;
    let name = CString::new(fd.as_raw_fd().to_string()).map_err(|_| Errno::INVAL)?;
    call(Way::At(descriptors.as_raw_fd(), &name))
}

fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens the directory of this process's descriptors in an instance of `/proc` that is not part of
/// the tree of files, and ends with this process. Only root may.
fn detached_descriptors() -> Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(mount, "self/fd", flags, Mode::empty())
}

/// Converts the result of a system call, whose error is in `errno`.
fn checked(result: c_long) -> Result<usize> {
    usize::try_from(result)
        .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Text of an error of a call on an attribute or a mode, with what to do if the error is known.
pub(super) fn describe(error: Errno) -> String {
    let advice = match error {
        Errno::NOSYS => {
            return "/proc is not mounted, and this kernel or user cannot do without it: mount it"
                .to_owned();
        }
        Errno::NOTSUP => "the file system does not support it",
        Errno::NOSPC | Errno::RANGE | Errno::TOOBIG | Errno::DQUOT => {
            "the file system has no room for it: it may limit the attributes of one object"
        }
        _ => return error.to_string(),
    };
    format!("{error}; {advice}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::OFlags;

    use super::*;

    fn open_path(path: &std::path::Path) -> OwnedFd {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).unwrap()
    }

    /// Both ways lead to the same object: a file, since any user may give it attributes.
    #[test]
    fn attributes_are_reached_with_and_without_proc() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        let fd = open_path(&path);
        if let Err(error) = set(fd.as_fd(), b"user.a", b"value") {
            eprintln!("not tried: the file system has no attributes: {error}");
            return;
        }
        let mut buf = [0; 512];
        let len = list(fd.as_fd(), &mut buf).unwrap();
        assert!(
            buf[..len]
                .split(|&byte| byte == 0)
                .any(|name| name == b"user.a")
        );
        let len = value(fd.as_fd(), c"user.a", &mut buf).unwrap();
        assert_eq!(&buf[..len], b"value");
        // Without /proc: by another instance of it.
        let reached = by_proc(fd.as_fd(), |way| match way {
            Way::Path(_) => Err(Errno::NOENT),
            Way::At(dir, name) => {
                assert!(dir >= 0);
                assert_eq!(name.to_str().unwrap(), fd.as_raw_fd().to_string());
                Ok(())
            }
        });
        let is_root = rustix::process::geteuid().is_root();
        assert!(reached == Ok(()) || !is_root && reached == Err(Errno::NOSYS));
        remove(fd.as_fd(), c"user.a").unwrap();
        assert_eq!(value(fd.as_fd(), c"user.a", &mut buf), Err(Errno::NODATA));
        set_mode(fd.as_fd(), 0o640).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
    }

    #[test]
    fn link_is_not_followed() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let (path, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&path, "x").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let fd = open_path(&link);
        // A link cannot have an attribute of a user.
        set(fd.as_fd(), b"user.a", b"value").unwrap_err();
        let file = open_path(&path);
        value(file.as_fd(), c"user.a", &mut [0; 16]).unwrap_err();
    }
}
