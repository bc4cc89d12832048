//! Writer: the sink that creates files, directories and everything else below the destination.
//!
//! ```text
//!              begin                   extents   complete                        finish
//!   file       hidden name, mode 0     pwrite    length, attributes, place
//!   directory  mkdir, mode 0700                  push on the stack               pop, attributes
//!   others                                       hidden name, attributes, name
//! ```
//!
//! `naming.rs` gives an object its name when it is complete and, if that is wanted, on stable
//! storage.

use std::fs::{self, File};
use std::io;
#[cfg(test)]
use std::os::fd::BorrowedFd;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::error::StageError;
use crate::interrupt::retry;
use crate::tree::inode_flags;
use crate::tree::own_resources::{is_shortage, shortage_error};
use crate::wire::{InodeFacts, ObjectKind, ObjectMeta, OwnerName};
use crate::words::describe_full;

use super::attributes::{Credentials, ObjectFd, remove_inherited_lists};
use super::destination::{Destination, Dir, Missing, inode_of, is_directory, lstat, rename_aside};
use super::durability::{self, Durability};
use super::link_targets::{LinkTarget, ObjectOutcome};
use super::naming::{MADE_BY_THIS_RESTORE, PendingNames};
use super::object_in_progress::ObjectDescription;
use super::options::RestoreOptions;
use super::owners::Owners;
use super::record_stack::RecordStack;
use super::report::RestoreReport;
use super::sink::{Failure, Sink};

/// Mode of a file that has content but not its attributes: read and write for its owner.
const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);

/// Writes objects to a file system.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) destination: Destination,
    pub(super) overwrite: bool,
    /// Objects that are not replaced.
    pub(super) keep: Arc<[(u64, u64)]>,
    pub(super) sync: bool,
    /// True for the writer of a worker thread.
    is_worker: bool,
    pub(super) pending: PendingNames,
    pub(super) credentials: Credentials,
    /// Names of owners; `None` to restore their numbers.
    owners: Option<Owners>,
    /// Files that are frozen at the end, with device, inode and flags of each: these flags forbid
    /// to rename the file, or to give it further names.
    pub(super) flagged: RecordStack,
    /// Descriptions of the directories whose attributes are set at the end: what is created in a
    /// directory changes its times, and its mode may forbid creating anything.
    directories: RecordStack,
    /// Path of the destination when the restore began, if the system has `/proc`.
    place: Option<PathBuf>,
    pub(super) report: RestoreReport,
}

/// The writer's state of an open object.
#[derive(Debug)]
pub(super) enum PartialObject {
    File(PartialFile),
    Directory {
        /// True if its attributes are to be set: it is new, or may be overwritten.
        set_attributes: bool,
    },
    /// Any other kind: it has no data, and is created in one go when it is complete.
    Deferred,
}

#[derive(Debug)]
pub(super) struct PartialFile {
    file: File,
    /// Its name until it is complete.
    part: Vec<u8>,
    len: u64,
}

impl PartialFile {
    #[cfg(test)]
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Writer {
    /// Creates a writer to an open directory.
    pub(super) fn new(
        dest: Dir,
        options: &RestoreOptions,
        report: &RestoreReport,
    ) -> io::Result<Self> {
        if is_removed(&dest) {
            return Err(io::Error::new(io::ErrorKind::NotFound, REMOVED));
        }
        Ok(Self {
            place: place_of(&dest),
            destination: Destination::new(dest, report)?,
            overwrite: options.overwrite,
            keep: options.keep.as_slice().into(),
            sync: options.sync,
            is_worker: false,
            pending: PendingNames::default(),
            credentials: Credentials::current(options.plain),
            owners: (!options.numeric_owner).then(Owners::new),
            flagged: RecordStack::default(),
            directories: RecordStack::default(),
            report: report.clone(),
        })
    }

    /// Returns the directory of an object, created if need be, and the object's name in it.
    pub(super) fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(Dir, &'a [u8]), Failure> {
        match self.destination.parent(path, Missing::Create) {
            Ok(parent) => Ok(parent),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(Failure::Refused(
                "a component of its path is not a directory".to_owned(),
            )),
            Err(error) => Err(self.cannot("open the parent directory of", path, error)),
        }
    }

    /// Failure to create something. It stops a restore that has restored nothing yet because this
    /// user may not write to the destination: all that follows would fail in the same way.
    fn cannot(&mut self, action: &str, path: &[u8], error: Errno) -> Failure {
        let first = path.split(|&byte| byte == b'/').next().unwrap_or(path);
        let counts = self.report.counts();
        if error == Errno::ACCESS
            && counts.files + counts.directories + counts.others == 0
            && matches!(lstat(self.destination.root(), first), Err(Errno::NOENT))
        {
            let first = first[..first.len().min(200)].escape_ascii();
            let what = format!(
                "cannot create \"{first}\": this user may not write to the destination; change \
                 its mode or owner, or restore to another directory"
            );
            return Failure::Stop(StageError::with_source(what, error));
        }
        if error == Errno::NOENT && is_removed(self.destination.root()) {
            return Failure::Stop(StageError::with_source(REMOVED, error));
        }
        if is_full_or_read_only(error) && self.is_mounted_below(path, error) {
            let error = describe_full(&error.into());
            return Failure::Refused(format!(
                "cannot {action} it in what is mounted there: {error}"
            ));
        }
        failure(action, path, error)
    }

    /// True if an object belongs into another file system, which is mounted below the destination,
    /// so that an error of that one costs only what belongs there.
    fn is_mounted_below(&mut self, path: &[u8], error: Errno) -> bool {
        let root = Arc::clone(self.destination.root());
        // A directory can be mounted read-only in a file system that is not.
        let read_only = || {
            rustix::fs::fstatvfs(&root).map_or(true, |found| {
                found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)
            })
        };
        error == Errno::ROFS && !read_only()
            || self
                .destination
                .parent(path, Missing::Fail)
                .and_then(|(dir, _)| rustix::fs::fstat(&dir))
                .is_ok_and(|found| self.is_other_device(found.st_dev))
    }

    fn is_other_device(&self, device: u64) -> bool {
        let root = rustix::fs::fstat(self.destination.root());
        root.is_ok_and(|root| root.st_dev != device)
    }

    /// Creates an object other than a directory under a hidden name, if its own name is free or may
    /// be overwritten. Returns the hidden name.
    ///
    /// In a directory that this restore has made, only what it has made itself can have the name,
    /// and that is found when the object gets its name. An object that may have further names is
    /// refused before, so that they are, too.
    fn create<T>(
        &mut self,
        (dir, name): (&Dir, &[u8]),
        object: &ObjectMeta<'_>,
        create: impl Fn(&[u8]) -> rustix::io::Result<T>,
    ) -> Result<(Vec<u8>, T), Failure> {
        if !dir.is_new() || object.linked {
            self.check_free(dir, name, object.path)?;
        }
        self.destination
            .create_part(object.path, create)
            .map_err(|error| self.cannot("create", object.path, error))
    }

    /// Creates a file with mode 0, which no user but root can open until it is complete.
    fn begin_file(&mut self, object: &ObjectMeta<'_>) -> Result<PartialFile, Failure> {
        let (dir, name) = self.parent(object.path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (part, file) = self.create((&dir, name), object, |name| {
            rustix::fs::openat(&dir, name, flags, Mode::empty())
        })?;
        Ok(PartialFile {
            file: file.into(),
            part,
            len: 0,
        })
    }

    fn complete_file(
        &mut self,
        partial: PartialFile,
        description: &ObjectDescription,
        object: &ObjectMeta<'_>,
        size: u64,
    ) -> Result<ObjectOutcome, Failure> {
        // A hole at the end has no extent.
        if size != partial.len
            && let Err(error) = rustix::fs::ftruncate(&partial.file, size)
        {
            let remains = self.set_aside(PartialObject::File(partial), object);
            return Err(Failure::Damaged(format!(
                "cannot set its length to {size} bytes: {error}{remains}"
            )));
        }
        if description.attributes_len() > 0 {
            // Setting an attribute needs write permission. If this fails, so do the attributes, and
            // they are reported.
            let _ = rustix::fs::fchmod(&partial.file, OWNER_ONLY);
        }
        let PartialFile { file, part, .. } = partial;
        let finished = self.finish_file(file, description, object);
        let (outcome, durability) = finished.inspect_err(|_| self.remove_part(object, &part))?;
        self.place(object, &part, durability, size)?;
        Ok(outcome)
    }

    /// Sets the attributes of a file that has all its data, and closes it.
    fn finish_file(
        &mut self,
        file: File,
        description: &ObjectDescription,
        object: &ObjectMeta<'_>,
    ) -> Result<(ObjectOutcome, Durability), Failure> {
        let fd = ObjectFd::Open(file.as_fd());
        let dir = self.destination.open_parent(object.path);
        let dir = dir.map(|dir| &**dir);
        let owners = self.owners.as_ref();
        let applied = (self.credentials).apply(fd, description, &self.report, dir, owners);
        let stat = applied.map_err(|error| failure(SET_ATTRIBUTES, object.path, error))?;
        let (outcome, durability) = self.made(&file, stat, object)?;
        let flags = self.flags_to_set(description);
        self.set_flags_of_file(&file, object.path, flags)?;
        let synced = match durability {
            Durability::EachFile if self.sync => durability::sync(&file),
            _ => Ok(()),
        };
        let closed = synced.and_then(|()| durability::close(file));
        closed.map_err(|error| unconfirmed(object, error))?;
        Ok((outcome, durability))
    }

    /// Remembers an object that was created under a hidden name, with its status if that is known.
    /// Returns its outcome, with its inode if further names of it may follow, and the way in which
    /// its file system reports failed writes.
    fn made(
        &mut self,
        fd: impl AsFd,
        stat: Option<Stat>,
        object: &ObjectMeta<'_>,
    ) -> Result<(ObjectOutcome, Durability), Failure> {
        let stat = stat.map_or_else(|| rustix::fs::fstat(&fd), Ok);
        let stat = stat.map_err(|error| failure("inspect", object.path, error))?;
        let (device, inode) = inode_of(&stat);
        self.destination.remember_made((device, inode));
        let outcome = if object.linked {
            ObjectOutcome::Created { device, inode }
        } else {
            ObjectOutcome::Verified
        };
        Ok((outcome, self.destination.durability(fd, device)))
    }

    fn remove_part(&mut self, object: &ObjectMeta<'_>, part: &[u8]) {
        if let Ok((dir, _)) = self.destination.parent(object.path, Missing::Fail) {
            self.destination.remove_part(&dir, part);
        }
    }

    /// Creates a directory, or accepts an existing one. Returns true if its attributes are to be
    /// set at the end.
    ///
    /// An existing directory is treated as an existing file is: it gets the archive's attributes
    /// if it may be overwritten, and is refused otherwise. One that is only on the way to what is
    /// restored stays as it is.
    fn begin_directory(&mut self, path: &[u8], is_on_the_way: bool) -> Result<bool, Failure> {
        let (dir, name) = self.parent(path)?;
        // A worker may be making it, as the parent of a file: then it is remembered after this.
        let making = self.destination.making();
        let made = making.lock();
        let created = retry_on_intr(|| rustix::fs::mkdirat(&dir, name, Mode::RWXU));
        let stat = match created {
            Ok(()) | Err(Errno::EXIST) => lstat(&dir, name),
            Err(error) => return Err(self.cannot("create", path, error)),
        };
        let Some(stat) = stat.ok().filter(is_directory) else {
            return Err(Failure::Refused(
                "an object that is not a directory exists in its place and is kept".to_owned(),
            ));
        };
        if created.is_ok() {
            self.destination.remember_made(inode_of(&stat));
            return Ok(true);
        }
        // Created by this restore, as the parent of something.
        if self.destination.take_created(&stat) {
            return Ok(true);
        }
        drop(made);
        if self.destination.has_made(&dir, name, &stat) {
            return Err(Failure::Refused(MADE_BY_THIS_RESTORE.to_owned()));
        }
        // Before it is opened: a descriptor from before could not set attributes.
        if self.overwrite && !is_on_the_way {
            self.credentials.grant_access(&dir, name, &stat);
        }
        if let Ok(existing) = self.destination.directory(path, Missing::Fail) {
            self.destination.clean_up(&existing, path);
        }
        if is_on_the_way {
            return Ok(false);
        }
        if !self.overwrite {
            return Err(Failure::Refused(
                "already exists: the directory keeps its owner, mode, attributes and times"
                    .to_owned(),
            ));
        }
        Ok(true)
    }

    /// Creates an object without data: a symbolic link, a fifo, a device.
    fn create_special(
        &mut self,
        description: &ObjectDescription,
        object: &ObjectMeta<'_>,
    ) -> Result<ObjectOutcome, Failure> {
        let (node, device) = match object.kind {
            ObjectKind::Symlink => (None, (0, 0)),
            ObjectKind::Fifo => (Some(FileType::Fifo), (0, 0)),
            ObjectKind::CharacterDevice => (Some(FileType::CharacterDevice), object.device),
            _ => (Some(FileType::BlockDevice), object.device),
        };
        if !self.credentials.may_give_rights() && node.is_some_and(|node| node != FileType::Fifo) {
            let what = match self.credentials.is_root() {
                true => "is a device, which this restore does not create",
                false => "is a device, which only root may create",
            };
            return Err(Failure::Refused(what.to_owned()));
        }
        let (dir, name) = self.parent(object.path)?;
        let device = rustix::fs::makedev(device.0, device.1);
        let create = |name: &[u8]| match node {
            None => retry_on_intr(|| rustix::fs::symlinkat(object.target, &dir, name)),
            Some(node) => rustix::fs::mknodat(&dir, name, node, OWNER_ONLY, device),
        };
        let (part, ()) = self.create((&dir, name), object, create)?;
        let finished = self.finish_special(description, object, (&dir, &part));
        let outcome = finished.inspect_err(|_| self.destination.remove_part(&dir, &part))?;
        // It has no data that a loss of power could take, and a symbolic link must be in its place
        // before the archive's next paths lead there.
        self.name_part(object.path, &part)?;
        Ok(outcome)
    }

    /// Sets the attributes of an object without data that has the name `part`.
    fn finish_special(
        &mut self,
        description: &ObjectDescription,
        object: &ObjectMeta<'_>,
        (dir, part): (&Dir, &[u8]),
    ) -> Result<ObjectOutcome, Failure> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = retry_on_intr(|| rustix::fs::openat(dir, part, flags, Mode::empty()));
        let fd = opened.map_err(|error| failure("open", object.path, error))?;
        let fd_of = ObjectFd::Path(fd.as_fd());
        let owners = self.owners.as_ref();
        let applied = (self.credentials).apply(fd_of, description, &self.report, None, owners);
        let stat = applied.map_err(|error| failure(SET_ATTRIBUTES, object.path, error))?;
        Ok(self.made(&fd, stat, object)?.0)
    }

    /// Sets the attributes of a directory, when everything in it has been created.
    fn finish_directory(&mut self, description: &ObjectDescription) -> Result<(), StageError> {
        let object = description.object();
        match self.destination.directory(object.path, Missing::Fail) {
            Ok(dir) => {
                // A directory that may be searched but not read is opened with `O_PATH`.
                let is_path =
                    rustix::fs::fcntl_getfl(&dir).is_ok_and(|flags| flags.contains(OFlags::PATH));
                let fd = match is_path {
                    true => ObjectFd::Path(dir.as_fd()),
                    false => ObjectFd::Open(dir.as_fd()),
                };
                let owners = self.owners.as_ref();
                let applied = (self.credentials).apply(fd, description, &self.report, None, owners);
                let stat =
                    applied.map_err(|error| shortage_error(SET_ATTRIBUTES, object.path, error))?;
                if let Some(stat) = stat {
                    self.sync_directory(&dir, object.path, stat.st_dev);
                }
                let flags = self.flags_to_set(description);
                if flags != 0 {
                    self.set_flags(dir.as_fd(), object.path, flags);
                }
            }
            Err(error) => self
                .report
                .record_problem(object.path, format!("cannot set its attributes: {error}")),
        }
        Ok(())
    }

    /// Brings a directory to stable storage where `syncfs` may not report that it failed.
    fn sync_directory(&self, dir: &Dir, path: &[u8], device: u64) {
        if self.sync
            && self.destination.durability(dir, device) == Durability::EachFile
            && let Err(error) = retry_on_intr(|| rustix::fs::fsync(dir))
            // Opened for search only, or in a file system that cannot sync.
            && !matches!(error, Errno::BADF | Errno::INVAL | Errno::NOTSUP)
        {
            let what = format!("the directory may not be on stable storage: {error}");
            self.report.record_problem(path, what);
        }
    }

    /// Renames a damaged file to `NAME.damaged` or the like, or removes it if it cannot be renamed.
    /// Returns the new name.
    fn set_file_aside(
        &mut self,
        partial: &PartialFile,
        object: &ObjectMeta<'_>,
    ) -> rustix::io::Result<Vec<u8>> {
        let (dir, name) = self.destination.parent(object.path, Missing::Fail)?;
        let current = partial.part.as_slice();
        // Only the file that we created: another process may have put something else there.
        if inode_of(&lstat(&dir, current)?)
            != inode_of(&retry_on_intr(|| rustix::fs::fstat(&partial.file))?)
        {
            return Err(Errno::NOENT);
        }
        remove_inherited_lists(&partial.file);
        self.destination.forget_part();
        let _ = rustix::fs::fchmod(&partial.file, OWNER_ONLY);
        rename_aside(&dir, current, name, &self.destination.making()).or_else(|error| {
            rustix::fs::unlinkat(&dir, current, AtFlags::empty())?;
            Err(error)
        })
    }
}

/// Writes that were not confirmed: the object's data may be lost.
fn unconfirmed(object: &ObjectMeta<'_>, error: Errno) -> Failure {
    if is_final(error) {
        let shown = object.path[..object.path.len().min(200)].escape_ascii();
        let what = format!("cannot bring \"{shown}\" to stable storage; it was removed again");
        return Failure::Stop(StageError::with_source(what, error));
    }
    Failure::Damaged(format!(
        "cannot be brought to stable storage, and was removed again: {error}"
    ))
}

/// Gives what is complete its name also if the pipe has failed.
impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_worker {
            return;
        }
        if let Err(error) = self.commit() {
            self.report.record_problem(b"", error.to_string());
        }
        self.destination.remove_lock();
    }
}

impl Sink for Writer {
    type Partial = PartialObject;

    fn for_worker(&self) -> Self {
        Self {
            destination: self.destination.for_worker(),
            overwrite: self.overwrite,
            keep: Arc::clone(&self.keep),
            sync: self.sync,
            is_worker: true,
            place: None,
            pending: self.pending.clone(),
            credentials: self.credentials,
            owners: self.owners.clone(),
            flagged: RecordStack::default(),
            directories: RecordStack::default(),
            report: self.report.clone(),
        }
    }

    fn begin_block(&mut self) -> Result<(), StageError> {
        // Without the lock nothing can be created, and that is reported for each object.
        let _ = self.destination.prepare();
        if self.pending.is_large() {
            self.commit()?;
        }
        self.destination.trim_list();
        Ok(())
    }

    fn needs_idle_workers(&self) -> bool {
        self.destination.has_long_list()
    }

    fn name_owner(&mut self, name: &OwnerName<'_>) {
        if let Some(owners) = &self.owners {
            owners.add(name, &self.report);
        }
    }

    fn begin(
        &mut self,
        object: &ObjectMeta<'_>,
        is_on_the_way: bool,
    ) -> Result<PartialObject, Failure> {
        match object.kind {
            ObjectKind::File => self.begin_file(object).map(PartialObject::File),
            ObjectKind::Directory => {
                let set_attributes = self.begin_directory(object.path, is_on_the_way)?;
                Ok(PartialObject::Directory { set_attributes })
            }
            _ => Ok(PartialObject::Deferred),
        }
    }

    fn begin_inode(&mut self, partial: &mut PartialObject, inode: InodeFacts) {
        if let PartialObject::File(partial) = partial {
            inode_flags::set_storage(partial.file.as_fd(), inode.flags);
        }
    }

    fn write_extent(
        &mut self,
        partial: &mut PartialObject,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Failure> {
        let PartialObject::File(partial) = partial else {
            return Ok(());
        };
        partial.file.write_all_at(data, offset).map_err(|error| {
            let what = format!("cannot write {} bytes at byte {offset}", data.len());
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(errno)
                    if is_final(errno)
                        && !(is_full_or_read_only(errno)
                            && (partial.file.metadata())
                                .is_ok_and(|found| self.is_other_device(found.dev()))) =>
                {
                    Failure::Stop(StageError::with_source(what, error))
                }
                _ => Failure::Damaged(format!("{what}: {}", describe_full(&error))),
            }
        })?;
        partial.len = offset + data.len() as u64;
        Ok(())
    }

    fn complete(
        &mut self,
        partial: PartialObject,
        description: &ObjectDescription,
        size: u64,
    ) -> Result<ObjectOutcome, Failure> {
        let object = description.object();
        match partial {
            PartialObject::File(file) => self.complete_file(file, description, &object, size),
            PartialObject::Directory { set_attributes } => {
                if set_attributes {
                    self.directories
                        .push(description.bytes())
                        .map_err(|error| {
                            Failure::Stop(StageError::with_source(
                                "cannot keep directories in a temporary file",
                                error,
                            ))
                        })?;
                }
                Ok(ObjectOutcome::Verified)
            }
            PartialObject::Deferred => self.create_special(description, &object),
        }
    }

    fn link(&mut self, object: &ObjectMeta<'_>, target: &LinkTarget) -> Result<(), Failure> {
        self.place_link(object.path, target)
    }

    fn set_aside(&mut self, partial: PartialObject, object: &ObjectMeta<'_>) -> String {
        let file = match partial {
            PartialObject::File(file) => file,
            PartialObject::Directory { .. } => {
                return "; it exists, with the permissions of its owner only".to_owned();
            }
            PartialObject::Deferred => return String::new(),
        };
        match self.set_file_aside(&file, object) {
            Ok(aside) => format!("; its recovered part is named {}", aside.escape_ascii()),
            Err(error) => format!("; its recovered part could not be kept: {error}"),
        }
    }

    fn discard(&mut self, partial: PartialObject, object: &ObjectMeta<'_>) {
        if let PartialObject::File(file) = partial {
            self.remove_part(object, &file.part);
        }
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.commit()?;
        self.freeze_files()?;
        // The last first, so that a directory is finished before its parent, whose mode may make
        // it unreachable.
        while let Some(directory) = self.directories.pop().map_err(|error| {
            StageError::with_source("cannot read directories back from a temporary file", error)
        })? {
            // It is one: it was parsed when it came.
            if let Some(directory) = ObjectDescription::from_bytes(directory) {
                self.finish_directory(&directory)?;
            }
        }
        self.destination.remove_lock();
        self.destination.forget_created();
        if self.sync {
            self.destination.sync().map_err(|error| {
                StageError::with_source("restored data may not be on stable storage", error)
            })?;
        }
        check_place(self.destination.root(), self.place.as_deref())
    }

    fn unnamed_owners(&self) -> Option<String> {
        self.owners.as_ref()?.unnamed()
    }
}

/// Path of an open directory, if the system has `/proc`.
fn place_of(dir: &Dir) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{}", dir.fd().as_raw_fd());
    retry(|| fs::read_link(&link)).ok()
}

/// Checks that a destination that was at `place` is still there: what has come is not where the
/// caller looks for it if another program has moved or removed the directory meanwhile.
fn check_place(root: &Dir, place: Option<&Path>) -> Result<(), StageError> {
    if is_removed(root) {
        return Err(StageError::new(REMOVED));
    }
    match (place, place_of(root)) {
        (Some(before), Some(now)) if before != now => Err(StageError::new(format!(
            "another program has moved the directory to restore to: what was restored is in {}",
            now.display()
        ))),
        _ => Ok(()),
    }
}

/// True if an open directory has no name anymore, so that nothing can be created in it.
fn is_removed(dir: &Dir) -> bool {
    rustix::fs::fstat(dir).is_ok_and(|stat| stat.st_nlink == 0)
}

const REMOVED: &str = "the directory to restore to was removed; make it again, or name another";

/// The action of an object that is complete but for its attributes.
const SET_ATTRIBUTES: &str = "set the attributes of";

/// True if an error will also hit everything that follows, so that the restore must stop.
pub(super) fn is_final(error: Errno) -> bool {
    is_shortage(error) || matches!(error, Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO)
}

/// True if an error says that a file system takes no more.
fn is_full_or_read_only(error: Errno) -> bool {
    matches!(error, Errno::NOSPC | Errno::DQUOT | Errno::ROFS)
}

/// Failure of an action on an object: a stop if the error is final, or else a refusal.
pub(super) fn failure(action: &str, path: &[u8], error: Errno) -> Failure {
    if is_shortage(error) {
        return Failure::Stop(shortage_error(action, path, error));
    }
    if is_final(error) {
        let shown = path[..path.len().min(200)].escape_ascii();
        let what = format!("cannot {action} \"{shown}\"");
        return Failure::Stop(StageError::with_source(what, error));
    }
    Failure::Refused(format!("cannot {action} it: {error}"))
}
