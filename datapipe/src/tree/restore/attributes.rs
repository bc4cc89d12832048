//! Owner, mode, extended attributes and times of created objects.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::{Errno, Result, retry_on_intr};

use super::object_in_progress::ObjectDescription;
use super::open_directory::{NewFile, OpenDirectory};
use super::owners::Owners;
use super::report::RestoreReport;
use super::set_properties::SetProperties;
use crate::limits::MAX_ATTRIBUTE;
use crate::tree::inode_calls;
use crate::tree::own_resources::{is_shortage, retry_on_shortage};
use crate::wire::{ObjectKind, ObjectMeta, OwnerKind};

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
    /// Nothing that gives rights is restored, also not by root.
    plain: bool,
}

impl Credentials {
    pub(super) fn current(plain: bool) -> Self {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        Self { uid, gid, plain }
    }

    pub(super) fn is_root(self) -> bool {
        self.uid == 0
    }

    /// True if owners, setuid, setgid, file capabilities and devices are restored.
    pub(super) fn may_give_rights(self) -> bool {
        self.is_root() && !self.plain
    }

    /// Reason for which rights are not restored.
    pub(super) fn why_not(self) -> &'static str {
        if self.plain {
            "this restore gives no rights of users"
        } else {
            "only root may do that"
        }
    }

    /// Gives us access to an existing directory that we own, so that we can create objects in it.
    /// Its final mode is set at the end.
    pub(super) fn grant_access(self, dir: impl AsFd, name: &[u8], stat: &Stat) {
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
    ///
    /// Attributes that the archive does not have are removed first: an access control list that the
    /// object inherited from its directory, or what an existing directory had.
    /// With a list, the group's part of a mode is the most that the list gives. So until the list
    /// is set, and if it cannot be set, the group gets what the list gives to it.
    ///
    /// Everything that cannot be set is reported. Returns the status of the object afterwards.
    ///
    /// `dir` is the directory in which the object is a new file. What its first file had from the
    /// beginning is not set or removed again for the next. With `owners`, the numbers of the owner
    /// are those of its names here.
    ///
    /// # Errors
    ///
    /// A resource that this process or the machine lacks, which is not a property of the object.
    pub(super) fn apply(
        self,
        fd: ObjectFd<'_>,
        description: &ObjectDescription,
        report: &RestoreReport,
        dir: Option<&OpenDirectory>,
        owners: Option<&Owners>,
    ) -> Result<Option<Stat>> {
        let mut object = description.object();
        if let Some(owners) = owners.filter(|_| self.may_give_rights()) {
            object.uid = owners.id_here(OwnerKind::User, object.uid, report);
            object.gid = owners.id_here(OwnerKind::Group, object.gid, report);
        }
        let status = || retry_on_intr(|| rustix::fs::fstat(fd.descriptor())).ok();
        let known = dir.and_then(OpenDirectory::new_file);
        let first = dir.filter(|_| known.is_none());
        let first = first.and_then(|dir| status().map(|stat| (dir, stat)));
        let may_set_id = self.apply_owner(fd, &object, report, known)?;
        let mode = if may_set_id {
            object.mode
        } else {
            object.mode & PLAIN_MODE
        };
        let is_acl = |name: &[u8]| name.starts_with(b"system.");
        // The owner of an existing directory can give it a list for new files at any time.
        let is_new = dir.is_some_and(OpenDirectory::is_new);
        let may_have_attributes = known.is_none_or(|known| known.has_attributes) || !is_new;
        if object.kind != ObjectKind::Symlink && may_have_attributes {
            let had = remove_others(fd, description, report)?;
            if let (Some((dir, stat)), Some(has_attributes)) = (first, had) {
                let owner = (stat.st_uid, stat.st_gid);
                dir.set_new_file(NewFile {
                    owner,
                    has_attributes,
                });
            }
        }
        self.apply_attributes(fd, description, report, |name| !is_acl(name))?;
        let first = mode_without_list(mode, description);
        let mut set = SetProperties {
            owner: may_set_id,
            mode: (object.kind != ObjectKind::Symlink).then_some(first),
            modified: true,
        };
        if object.kind != ObjectKind::Symlink
            && let Err(error) = fd.set_mode(first)
        {
            set.mode = None;
            report_unset(
                report,
                object.path,
                &format_args!("its mode to {first:o}"),
                error,
            )?;
        }
        if self.apply_attributes(fd, description, report, is_acl)? {
            // The list has changed the group's part of the mode.
            set.mode = set.mode.map(|_| mode);
        }
        if let Err(error) = fd.set_modified(&object) {
            set.modified = false;
            report_unset(report, object.path, &"its times", error)?;
        }
        let stat = status();
        if let Some(stat) = &stat {
            set.check(stat, &object, report);
        }
        Ok(stat)
    }

    /// Sets the owner, which only root may. Returns true if the object has its owner, and thus may
    /// have setuid and setgid: with another owner they would give away that owner's rights.
    fn apply_owner(
        self,
        fd: ObjectFd<'_>,
        object: &ObjectMeta<'_>,
        report: &RestoreReport,
        known: Option<NewFile>,
    ) -> Result<bool> {
        if !self.may_give_rights() {
            let why = self.why_not();
            if (object.uid, object.gid) != (self.uid, self.gid) {
                report.record_note(&format!("owners are not restored: {why}"));
            }
            if object.mode & !PLAIN_MODE != 0 {
                report.record_note(&format!("setuid and setgid are not restored: {why}"));
            }
            return Ok(false);
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
            return Ok(false);
        }
        // A file that gives rights gets its owner in any case before it gives them.
        let gives_rights = object.mode & !PLAIN_MODE != 0;
        if known.is_some_and(|new| !gives_rights && new.owner == (object.uid, object.gid)) {
            return Ok(true);
        }
        if let Err(error) = fd.set_owner(object.uid, object.gid) {
            let owner = format_args!("its owner to {}:{}", object.uid, object.gid);
            report_unset(report, object.path, &owner, error)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Sets those extended attributes whose names are `chosen`. Returns true if all were set.
    fn apply_attributes(
        self,
        fd: ObjectFd<'_>,
        description: &ObjectDescription,
        report: &RestoreReport,
        chosen: impl Fn(&[u8]) -> bool,
    ) -> Result<bool> {
        let mut all = true;
        for (name, value) in description.attributes().filter(|(name, _)| chosen(name)) {
            let is_for_root = name.starts_with(b"security.") || name.starts_with(b"trusted.");
            if is_for_root && !self.may_give_rights() {
                let why = self.why_not();
                report.record_note(&format!(
                    "security.* and trusted.* attributes are not restored: {why}"
                ));
                all = false;
            } else if let Err(error) = fd.set_attribute(name, value) {
                let what = format_args!("attribute {}", name.escape_ascii());
                report_unset(report, description.path(), &what, error)?;
                all = false;
            }
        }
        Ok(all)
    }
}

/// Removes the attributes that the archive does not have, among them access control lists. Those
/// that the system gives, such as the label of a security module, stay and are noted. Returns true
/// if there were any, and `None` if they cannot be listed.
fn remove_others(
    fd: ObjectFd<'_>,
    description: &ObjectDescription,
    report: &RestoreReport,
) -> Result<Option<bool>> {
    let names = match fd.attribute_names() {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(Some(false)),
        Err(error) if is_shortage(error) => return Err(error),
        Err(error) => {
            let why = inode_calls::describe(error);
            let what = format!("cannot list its attributes, to remove those of others: {why}");
            report.record_problem(description.path(), what);
            return Ok(None);
        }
    };
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let bytes = name.to_bytes();
        if bytes.is_empty()
            || description
                .attributes()
                .any(|(archived, _)| archived == bytes)
        {
            continue;
        }
        if !is_removable(bytes) {
            report.record_note(&format!(
                "attribute {}, which the archive does not have, is left: the system gives it",
                bytes.escape_ascii()
            ));
            continue;
        }
        match fd.remove_attribute(name) {
            // Gone already.
            Ok(()) | Err(Errno::NODATA) => {}
            Err(error) if is_shortage(error) => return Err(error),
            Err(error) => {
                let what = format!(
                    "cannot remove attribute {}, which the archive does not have: {}",
                    bytes.escape_ascii(),
                    inode_calls::describe(error)
                );
                report.record_problem(description.path(), what);
            }
        }
    }
    Ok(Some(!names.is_empty()))
}

/// True for an attribute that users, programs or administrators give, and not the system.
fn is_removable(name: &[u8]) -> bool {
    LISTS.iter().any(|list| list.to_bytes() == name)
        || name == b"security.capability"
        || name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
}

/// The attributes that are access control lists: of an object, and for what is created in it.
const LISTS: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];

/// Removes the access control lists that a new object has inherited from its directory. An object
/// without them is left as it is.
pub(super) fn remove_inherited_lists(fd: impl AsFd) {
    for list in LISTS {
        // Either there is none, or the mode without access for groups bounds what it gives.
        let _ = rustix::fs::fremovexattr(&fd, list);
    }
}

/// Returns the mode that gives the group what the archived access control list gives to it, if
/// there is one: the mode of the object gives it what the list gives to all together.
fn mode_without_list(mode: u32, description: &ObjectDescription) -> u32 {
    let list = description
        .attributes()
        .find(|(name, _)| *name == LISTS[0].to_bytes());
    match list {
        Some((_, list)) => mode & !0o070 | group_permissions(list) << 3,
        None => mode,
    }
}

/// Permissions that an access control list gives to the object's group, of its mask: 0 to 7.
/// `linux/posix_acl_xattr.h`: a version, 32 bits, then tag and permissions, 16 bits each, and an id
/// of 32 bits, all little-endian.
fn group_permissions(list: &[u8]) -> u32 {
    const GROUP_OBJ: u16 = 4;
    const MASK: u16 = 16;
    let entries = list.get(4..).unwrap_or_default().chunks_exact(8);
    let permissions = |wanted: u16| {
        entries.clone().find_map(|entry| match *entry {
            [a, b, c, d, ..] if u16::from_le_bytes([a, b]) == wanted => {
                Some(u32::from(u16::from_le_bytes([c, d])) & 7)
            }
            _ => None,
        })
    };
    permissions(GROUP_OBJ).unwrap_or(0) & permissions(MASK).unwrap_or(7)
}

/// Reports what could not be set; an error that says nothing about the object is returned instead.
fn report_unset(
    report: &RestoreReport,
    path: &[u8],
    what: &dyn fmt::Display,
    error: Errno,
) -> Result<()> {
    if is_shortage(error) {
        return Err(error);
    }
    let why = inode_calls::describe(error);
    report.record_problem(path, format!("cannot set {what}: {why}"));
    Ok(())
}

/// Calls `call` until no signal interrupts it, and again while a resource is short.
fn repeat<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    retry_on_shortage(|| retry_on_intr(&mut call))
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
            Self::Open(fd) => repeat(|| rustix::fs::fchown(fd, uid, gid)),
            Self::Path(fd) => repeat(|| rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH)),
        }
    }

    fn set_mode(self, mode: u32) -> Result<()> {
        match self {
            Self::Open(fd) => repeat(|| rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))),
            Self::Path(fd) => repeat(|| inode_calls::set_mode(fd, mode)),
        }
    }

    fn set_attribute(self, name: &[u8], value: &[u8]) -> Result<()> {
        match self {
            Self::Open(fd) => {
                repeat(|| rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()))
            }
            Self::Path(fd) => repeat(|| inode_calls::set(fd, name, value)),
        }
    }

    /// Returns the names of all attributes, each followed by a zero byte.
    fn attribute_names(self) -> Result<Vec<u8>> {
        let list = |buf: &mut [u8]| match self {
            Self::Open(fd) => repeat(|| rustix::fs::flistxattr(fd, &mut *buf)),
            Self::Path(fd) => repeat(|| inode_calls::list(fd, &mut *buf)),
        };
        // Most objects have none, and few have more than this.
        let mut few = [0; 512];
        match list(&mut few) {
            Ok(len) => Ok(few[..len].to_vec()),
            Err(Errno::RANGE) => {
                let mut names = vec![0; MAX_ATTRIBUTE];
                let len = list(&mut names)?;
                names.truncate(len);
                Ok(names)
            }
            Err(error) => Err(error),
        }
    }

    fn remove_attribute(self, name: &CStr) -> Result<()> {
        match self {
            Self::Open(fd) => repeat(|| rustix::fs::fremovexattr(fd, name)),
            Self::Path(fd) => repeat(|| inode_calls::remove(fd, name)),
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
            Self::Open(fd) => repeat(|| rustix::fs::futimens(fd, &times)),
            Self::Path(fd) => repeat(|| rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry of an access control list.
    fn entry(tag: u16, permissions: u16) -> [u8; 8] {
        let mut entry = [0xff; 8];
        entry[..2].copy_from_slice(&tag.to_le_bytes());
        entry[2..4].copy_from_slice(&permissions.to_le_bytes());
        entry
    }

    #[test]
    fn group_gets_what_the_list_gives_to_it() {
        let list = |entries: &[[u8; 8]]| [&[2, 0, 0, 0], entries.concat().as_slice()].concat();
        let (user, group, named, mask) = (entry(1, 7), entry(4, 5), entry(2, 7), entry(16, 6));
        assert_eq!(group_permissions(&list(&[user, named, group, mask])), 4);
        assert_eq!(group_permissions(&list(&[user, group])), 5);
        assert_eq!(group_permissions(&list(&[user])), 0);
        for len in 0..12 {
            assert_eq!(group_permissions(&list(&[group])[..len]), 0, "{len}");
        }
    }
}
