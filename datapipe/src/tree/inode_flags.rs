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

/// Flags that forbid changes to an object, and its names.
pub(super) const FREEZING: u32 = IFlags::IMMUTABLE.union(IFlags::APPEND).bits();

/// Flags that only root may set.
pub(super) const PRIVILEGED: u32 = FREEZING | IFlags::JOURNALING.bits();

/// Flags of a file that say how its data are stored, and that count for what is written later: file
/// systems refuse or ignore the first of them for a file that has data.
const STORAGE: u32 = IFlags::NOCOW.union(IFlags::COMPRESSED).bits();

/// Flags that an object does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnsetFlags {
    pub(super) flags: u32,
    /// The first error of the system; `None` if the file system accepts them and does not keep
    /// them.
    pub(super) error: Option<Errno>,
}

/// Returns the flags of an object; 0 if its file system has none.
///
/// # Errors
///
/// The error of the system, if the object may have flags.
pub(super) fn flags_of(fd: BorrowedFd<'_>) -> Result<u32> {
    or_none(retry_on_intr(|| ioctl_getflags(fd)).map(|flags| flags.bits()))
}

/// Makes 0 of the errors that say that there are no flags: file systems have different ones.
fn or_none(flags: Result<u32>) -> Result<u32> {
    match flags {
        Err(Errno::NOTTY | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => Ok(0),
        other => other,
    }
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

/// Gives a file that has no data yet those of the flags that say how data are stored. What fails is
/// left to [`set`], when the file is complete.
pub(super) fn set_storage(fd: BorrowedFd<'_>, flags: u32) {
    if flags & STORAGE != 0 {
        let _ = set(fd, flags & STORAGE);
    }
}

/// Gives an object the settable ones of these flags.
///
/// # Errors
///
/// The flags that it does not get, and the reason.
pub(super) fn set(fd: BorrowedFd<'_>, flags: u32) -> std::result::Result<(), UnsetFlags> {
    let wanted = settable(flags);
    let get = || retry_on_intr(|| ioctl_getflags(fd)).map(|flags| flags.bits());
    let before = get().map_err(|error| UnsetFlags {
        flags: wanted,
        error: Some(error),
    })?;
    let set =
        |flags: u32| retry_on_intr(|| ioctl_setflags(fd, IFlags::from_bits_retain(before | flags)));
    let (got, error) = set_one_by_one(wanted, set);
    // Some file systems accept what they do not keep.
    let kept = get().unwrap_or(got);
    match wanted & !(got & kept) {
        0 => Ok(()),
        flags => Err(UnsetFlags { flags, error }),
    }
}

/// Sets flags together, or as many of them as possible. Returns those that were set, and the first
/// error of one that was not.
fn set_one_by_one(wanted: u32, set: impl Fn(u32) -> Result<()>) -> (u32, Option<Errno>) {
    if set(wanted).is_ok() {
        return (wanted, None);
    }
    // The last ones forbid changes, also of other flags.
    let freezing = wanted & FREEZING;
    let single = NAMES.iter().map(|(flag, _)| flag & wanted & !freezing);
    let last = [
        freezing,
        wanted & IFlags::APPEND.bits(),
        wanted & IFlags::IMMUTABLE.bits(),
    ];
    let (mut got, mut first) = (0, None);
    for flags in single.chain(last) {
        if flags & !got == 0 {
            continue;
        }
        match set(got | flags) {
            Ok(()) => got |= flags,
            Err(error) => first = first.or(Some(error)),
        }
    }
    (got, first.filter(|_| got != wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_flags_are_told_apart_from_errors() {
        for none in [Errno::NOTTY, Errno::NOTSUP, Errno::NOSYS, Errno::INVAL] {
            assert_eq!(or_none(Err(none)), Ok(0));
        }
        for error in [Errno::IO, Errno::ACCESS, Errno::PERM, Errno::STALE] {
            assert_eq!(or_none(Err(error)), Err(error));
        }
        assert_eq!(or_none(Ok(64)), Ok(64));
    }

    /// An error of one flag kept all others from the object, unless it was one of two errors.
    #[test]
    fn each_flag_is_set_whose_setting_is_not_refused() {
        let (nodump, noatime) = (IFlags::NODUMP.bits(), IFlags::NOATIME.bits());
        let (frozen, append) = (IFlags::IMMUTABLE.bits(), IFlags::APPEND.bits());
        for error in [Errno::PERM, Errno::ACCESS, Errno::IO, Errno::INVAL] {
            let refuse =
                |refused: u32| move |flags| (flags & refused == 0).then_some(()).ok_or(error);
            let all = nodump | noatime | frozen | append;
            assert_eq!(set_one_by_one(all, refuse(0)), (all, None));
            for flag in [nodump, noatime, frozen, append] {
                let expected = (all & !flag, Some(error));
                assert_eq!(set_one_by_one(all, refuse(flag)), expected);
            }
        }
    }
}
