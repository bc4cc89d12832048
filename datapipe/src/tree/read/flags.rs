//! Inode flags, such as those that `chattr` sets. An archive does not have them.

use std::os::fd::BorrowedFd;

use rustix::fs::{IFlags, ioctl_getflags};
use rustix::io::retry_on_intr;

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

/// Returns the names of an object's flags, separated by commas; empty if it has none, or its file
/// system has no flags.
pub(super) fn names(fd: BorrowedFd<'_>) -> String {
    let flags = retry_on_intr(|| ioctl_getflags(fd)).map_or(0, |flags| flags.bits());
    let names = NAMES.iter().filter(|(flag, _)| flags & flag != 0);
    let names: Vec<_> = names.map(|(_, name)| *name).collect();
    names.join(", ")
}
