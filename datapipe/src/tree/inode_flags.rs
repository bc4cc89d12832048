//! Inode flags, such as those that `chattr` sets.

use std::os::fd::BorrowedFd;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::{Errno, Result, retry_on_intr};

/// Flags that a user sets, and their names. Others, such as those for extents and indexes, are set
/// by the file system.
const NAMES: [(u32, &str); 16] = [
    (IFlags::IMMUTABLE.bits(), "immutable"),
    (IFlags::APPEND.bits(), "append-only"),
    (IFlags::NODUMP.bits(), "no dump"),
    (IFlags::NOATIME.bits(), "no access times"),
    (IFlags::SYNC.bits(), "synchronous"),
    (IFlags::DIRSYNC.bits(), "synchronous directory"),
    (IFlags::NOCOW.bits(), "no copy-on-write"),
    (IFlags::COMPRESSED.bits(), "compressed"),
    (IFlags::PROJECT_INHERIT.bits(), "project inherited"),
    (IFlags::JOURNALING.bits(), "data in the journal"),
    (IFlags::NOTAIL.bits(), "no tail merging"),
    (IFlags::TOPDIR.bits(), "top of a hierarchy"),
    (IFlags::SECURE_REMOVAL.bits(), "secure removal"),
    (IFlags::UNRM.bits(), "kept after removal"),
    (0x0200_0000, "direct access"),
    (0x4000_0000, "case folded"),
];

/// Returns the flags of an object; 0 if its file system has none.
pub(super) fn flags_of(fd: BorrowedFd<'_>) -> u32 {
    retry_on_intr(|| ioctl_getflags(fd)).map_or(0, |flags| flags.bits())
}

/// Returns those of the flags that a user sets.
pub(super) fn settable(flags: u32) -> u32 {
    NAMES.iter().fold(0, |all, (flag, _)| all | (flags & flag))
}

/// Returns the names of flags, separated by commas.
pub(super) fn names(flags: u32) -> String {
    let names = NAMES.iter().filter(|(flag, _)| flags & flag != 0);
    let names: Vec<_> = names.map(|(_, name)| *name).collect();
    names.join(", ")
}

/// Gives an object the settable ones of these flags. Returns those that it does not get: its file
/// system has no such flags, or not for this kind of object.
///
/// # Errors
///
/// The error of the system, if the object has no flags at all, or may not be given any.
pub(super) fn set(fd: BorrowedFd<'_>, flags: u32) -> Result<u32> {
    let wanted = settable(flags);
    let before = retry_on_intr(|| ioctl_getflags(fd))?.bits();
    let set =
        |flags: u32| retry_on_intr(|| ioctl_setflags(fd, IFlags::from_bits_retain(before | flags)));
    // The last two forbid changes, also of other flags.
    let freezing = IFlags::IMMUTABLE.bits() | IFlags::APPEND.bits();
    let got = match set(wanted) {
        Ok(()) => wanted,
        Err(Errno::NOTSUP | Errno::INVAL) => {
            let each = NAMES.iter().map(|(flag, _)| flag & wanted & !freezing);
            let mut got = 0;
            for flag in each.filter(|flag| *flag != 0) {
                if set(got | flag).is_ok() {
                    got |= flag;
                }
            }
            if wanted & freezing != 0 && set(got | wanted & freezing).is_ok() {
                got |= wanted & freezing;
            }
            got
        }
        Err(error) => return Err(error),
    };
    // Some file systems accept what they do not keep.
    let kept = retry_on_intr(|| ioctl_getflags(fd)).map_or(got, |flags| flags.bits());
    Ok(wanted & !(got & kept))
}
