//! Owner, mode, extended attributes and times of what was made.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Result;

use super::open::Described;
use super::report::RestoreReport;
use crate::wire::{ObjectKind, ObjectMeta};

/// Bits of a mode that anybody may set.
const PLAIN_MODE: u32 = 0o1777;

/// Something that was made, by descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Made<'a> {
    /// Open for reading or writing.
    Open(BorrowedFd<'a>),
    /// A place only (`O_PATH`): what cannot be opened, or is better not.
    Place(BorrowedFd<'a>),
}

/// Who restores.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    pub(super) fn current() -> Self {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        Self { uid, gid }
    }

    pub(super) fn is_root(self) -> bool {
        self.uid == 0
    }

    /// Makes an existing directory of ours one that we can work in: its mode is set at the end.
    pub(super) fn open_up(self, dir: &OwnedFd, name: &[u8], stat: &Stat) {
        let missing = stat.st_mode & 0o700 != 0o700;
        if missing && !self.is_root() && stat.st_uid == self.uid {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // If it cannot be done, what is in the directory says so.
            let _ = rustix::fs::openat(dir, name, flags, Mode::empty()).and_then(|place| {
                Made::Place(place.as_fd()).set_mode(stat.st_mode & PLAIN_MODE | 0o700)
            });
        }
    }

    /// Sets everything, in an order in which nothing undoes or forbids what comes later: a new
    /// owner clears setuid and capabilities, a new mode may forbid to set attributes, and changes
    /// an access control list.
    pub(super) fn apply(self, made: Made<'_>, what: &Described, report: &RestoreReport) {
        let Some(object) = what.object() else { return };
        let path = object.path;
        let failed = |what: &dyn fmt::Display, error| {
            report.problem(path, format!("cannot set {what}: {error}"))
        };
        let mut mode = object.mode;
        if !self.is_root() {
            if (object.uid, object.gid) != (self.uid, self.gid) {
                report.note("owners are not restored: only root may do that");
            }
            if mode & !PLAIN_MODE != 0 {
                report.note("setuid and setgid are not restored: only root may do that");
            }
            mode &= PLAIN_MODE;
        } else if object.uid == u32::MAX || object.gid == u32::MAX {
            report.problem(path, "has an owner that nobody can be");
            mode &= PLAIN_MODE;
        } else if let Err(error) = made.set_owner(object.uid, object.gid) {
            failed(
                &format_args!("its owner to {}:{}", object.uid, object.gid),
                error,
            );
            mode &= PLAIN_MODE;
        }
        let set_attributes = |chosen: &dyn Fn(&[u8]) -> bool| {
            for (name, value) in what.attributes().filter(|(name, _)| chosen(name)) {
                if !self.is_root()
                    && (name.starts_with(b"security.") || name.starts_with(b"trusted."))
                {
                    report.note("attributes of the system are not restored: only root may do that");
                } else if let Err(error) = made.set_attribute(name, value) {
                    failed(&format_args!("attribute {}", name.escape_ascii()), error);
                }
            }
        };
        let is_list = |name: &[u8]| name.starts_with(b"system.");
        set_attributes(&|name| !is_list(name));
        if object.kind != ObjectKind::Symlink
            && let Err(error) = made.set_mode(mode)
        {
            failed(&format_args!("its mode to {mode:o}"), error);
        }
        set_attributes(&is_list);
        if let Err(error) = made.set_modified(&object) {
            failed(&"its times", error);
        }
    }
}

impl Made<'_> {
    fn set_owner(self, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Self::Place(fd) => rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH),
        }
    }

    fn set_mode(self, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode),
            Self::Place(fd) => rustix::fs::chmodat(CWD, itself(fd), mode, AtFlags::empty()),
        }
    }

    fn set_attribute(self, name: &[u8], value: &[u8]) -> Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Place(fd) => rustix::fs::setxattr(itself(fd), name, value, XattrFlags::empty()),
        }
    }

    fn set_modified(self, object: &ObjectMeta<'_>) -> Result<()> {
        let modified = Timespec {
            tv_sec: object.modified.seconds,
            tv_nsec: object.modified.nanoseconds.into(),
        };
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: modified,
        };
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, &times),
            Self::Place(fd) => rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH),
        }
    }
}

/// A path that leads to what the descriptor is of, even if that is a symbolic link, and nowhere
/// else.
fn itself(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
