//! Owner, mode, extended attributes and times of created objects.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::{Errno, Result};

use super::arrived::SetProperties;
use super::object_in_progress::ObjectDescription;
use super::report::RestoreReport;
use crate::wire::{ObjectKind, ObjectMeta};

/// Mode bits that every user may set: all but setuid and setgid.
const PLAIN_MODE: u32 = 0o1777;

/// Descriptor of a created object.
#[derive(Clone, Copy, Debug)]
pub(super) enum ObjectFd<'a> {
    /// Open for reading or writing.
    Open(BorrowedFd<'a>),
    /// Opened with `O_PATH`: an object that cannot be opened, such as a symbolic link, or should
    /// not be, such as a device.
    Path(BorrowedFd<'a>),
}

/// Effective user and group of the process that restores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credentials {
    uid: u32,
    gid: u32,
}

impl Credentials {
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

    /// Gives us access to an existing directory that we own, so that we can create objects in it.
    /// Its final mode is set at the end.
    pub(super) fn grant_access(self, dir: &OwnedFd, name: &[u8], stat: &Stat) {
        let is_missing = stat.st_mode & 0o700 != 0o700;
        if is_missing && !self.is_root() && stat.st_uid == self.uid {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // If this fails, so do the objects in the directory, and they are reported.
            let _ = rustix::fs::openat(dir, name, flags, Mode::empty()).and_then(|fd| {
                ObjectFd::Path(fd.as_fd()).set_mode(stat.st_mode & PLAIN_MODE | 0o700)
            });
        }
    }

    /// Sets everything, in an order in which nothing undoes or forbids a later step: a new owner
    /// clears setuid and capabilities; a new mode may forbid setting attributes, and changes an
    /// access control list. So: owner, attributes, mode, access control lists, times.
    pub(super) fn apply(
        self,
        fd: ObjectFd<'_>,
        description: &ObjectDescription,
        report: &RestoreReport,
    ) {
        let Some(object) = description.object() else {
            return;
        };
        let may_set_id = self.apply_owner(fd, &object, report);
        let mode = if may_set_id {
            object.mode
        } else {
            object.mode & PLAIN_MODE
        };
        let is_acl = |name: &[u8]| name.starts_with(b"system.");
        self.apply_attributes(fd, description, report, |name| !is_acl(name));
        let mut set = SetProperties {
            owner: may_set_id,
            mode: (object.kind != ObjectKind::Symlink).then_some(mode),
            modified: true,
        };
        if object.kind != ObjectKind::Symlink
            && let Err(error) = fd.set_mode(mode)
        {
            set.mode = None;
            report_unset(
                report,
                object.path,
                &format_args!("its mode to {mode:o}"),
                error,
            );
        }
        self.apply_attributes(fd, description, report, is_acl);
        if let Err(error) = fd.set_modified(&object) {
            set.modified = false;
            report_unset(report, object.path, &"its times", error);
        }
        set.check(fd.descriptor(), &object, report);
    }

    /// Sets the owner, which only root may. Returns true if the object has its owner, and thus may
    /// have setuid and setgid: with another owner they would give away that owner's rights.
    fn apply_owner(
        self,
        fd: ObjectFd<'_>,
        object: &ObjectMeta<'_>,
        report: &RestoreReport,
    ) -> bool {
        if !self.is_root() {
            if (object.uid, object.gid) != (self.uid, self.gid) {
                report.record_note("owners are not restored: only root may do that");
            }
            if object.mode & !PLAIN_MODE != 0 {
                report.record_note("setuid and setgid are not restored: only root may do that");
            }
            return false;
        }
        // For chown, u32::MAX means "leave as it is".
        if object.uid == u32::MAX || object.gid == u32::MAX {
            let what = format!(
                "has an invalid owner, {}:{}: {} is not a user or group",
                object.uid,
                object.gid,
                u32::MAX
            );
            report.record_problem(object.path, what);
            return false;
        }
        if let Err(error) = fd.set_owner(object.uid, object.gid) {
            let owner = format_args!("its owner to {}:{}", object.uid, object.gid);
            report_unset(report, object.path, &owner, error);
            return false;
        }
        true
    }

    /// Sets those extended attributes whose names are `chosen`.
    fn apply_attributes(
        self,
        fd: ObjectFd<'_>,
        description: &ObjectDescription,
        report: &RestoreReport,
        chosen: impl Fn(&[u8]) -> bool,
    ) {
        for (name, value) in description.attributes().filter(|(name, _)| chosen(name)) {
            let is_for_root = name.starts_with(b"security.") || name.starts_with(b"trusted.");
            if is_for_root && !self.is_root() {
                report.record_note(
                    "security.* and trusted.* attributes are not restored: only root may do that",
                );
            } else if let Err(error) = fd.set_attribute(name, value) {
                let what = format_args!("attribute {}", name.escape_ascii());
                report_unset(report, description.path(), &what, error);
            }
        }
    }
}

fn report_unset(report: &RestoreReport, path: &[u8], what: &dyn fmt::Display, error: Errno) {
    report.record_problem(path, format!("cannot set {what}: {error}"));
}

impl<'a> ObjectFd<'a> {
    fn descriptor(self) -> BorrowedFd<'a> {
        match self {
            Self::Open(fd) | Self::Path(fd) => fd,
        }
    }

    fn set_owner(self, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Self::Path(fd) => rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH),
        }
    }

    fn set_mode(self, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode),
            Self::Path(fd) => rustix::fs::chmodat(CWD, proc_path(fd), mode, AtFlags::empty()),
        }
    }

    fn set_attribute(self, name: &[u8], value: &[u8]) -> Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Path(fd) => rustix::fs::setxattr(proc_path(fd), name, value, XattrFlags::empty()),
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
            Self::Path(fd) => rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH),
        }
    }
}

/// Returns a path that leads to the object of the descriptor, even if that is a symbolic link, and
/// nowhere else.
fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
