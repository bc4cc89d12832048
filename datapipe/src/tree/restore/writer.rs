//! Writer: the sink that creates files, directories and everything else below the destination.
//!
//! ```text
//!              begin               extents   complete                     finish
//!   file       open, O_EXCL, mode 0  pwrite  length, attributes, rename
//!   directory  mkdir, mode 0700              push on the stack            pop, attributes
//!   others                                   create, attributes, rename
//! ```
//!
//! An object whose name is taken is created under a temporary name, if overwriting is allowed, and
//! renamed over the old one when it is complete.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::error::StageError;
use crate::tree::own_resources::{is_shortage, retry_on_shortage, shortage_error};
use crate::wire::{ObjectKind, ObjectMeta};

use super::attributes::{Credentials, ObjectFd, remove_inherited_lists};
use super::destination::{Destination, Dir, Missing, inode_of, is_directory, lstat, rename_aside};
use super::link_targets::{LinkTarget, ObjectOutcome};
use super::object_in_progress::ObjectDescription;
use super::record_stack::RecordStack;
use super::report::RestoreReport;
use super::sink::{Failure, Sink};

/// Mode of a file that has content but not its attributes: read and write for its owner.
const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);

/// Writes objects to a file system.
#[derive(Debug)]
pub(super) struct Writer {
    destination: Destination,
    overwrite: bool,
    sync: bool,
    credentials: Credentials,
    /// Descriptions of the directories whose attributes are set at the end: what is created in a
    /// directory changes its times, and its mode may forbid creating anything.
    directories: RecordStack,
    report: RestoreReport,
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
    /// Its name until it is complete, if its own name is taken.
    temporary: Option<Vec<u8>>,
    len: u64,
}

impl Writer {
    /// Creates a writer to an open directory.
    pub(super) fn new(
        dest: Dir,
        overwrite: bool,
        sync: bool,
        report: &RestoreReport,
    ) -> io::Result<Self> {
        Ok(Self {
            destination: Destination::new(dest, report)?,
            overwrite,
            sync,
            credentials: Credentials::current(),
            directories: RecordStack::default(),
            report: report.clone(),
        })
    }

    /// Returns the directory of an object, created if need be, and the object's name in it.
    fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(Dir, &'a [u8]), Failure> {
        self.destination
            .parent(path, Missing::Create)
            .map_err(|error| match error {
                Errno::LOOP | Errno::NOTDIR => {
                    Failure::Refused("a component of its path is not a directory".to_owned())
                }
                error => failure("open the parent directory of", path, error),
            })
    }

    /// Creates an object other than a directory under `name`, or, if that is taken and may be
    /// overwritten, under a temporary name. Returns the temporary name.
    fn create<T>(
        &mut self,
        (dir, name): (&Dir, &[u8]),
        path: &[u8],
        create: impl Fn(&[u8]) -> rustix::io::Result<T>,
    ) -> Result<(Option<Vec<u8>>, T), Failure> {
        let existing = match retry_on_shortage(|| create(name)) {
            Ok(created) => return Ok((None, created)),
            Err(Errno::EXIST) => lstat(dir, name),
            Err(error) => return Err(failure("create", path, error)),
        };
        if existing.is_ok_and(|stat| is_directory(&stat)) {
            return Err(Failure::Refused(
                "a directory exists in its place and is kept".to_owned(),
            ));
        }
        if !self.overwrite {
            return Err(Failure::Refused(
                "already exists and is left unchanged".to_owned(),
            ));
        }
        let (temporary, created) = self
            .destination
            .create_temporary(create)
            .map_err(|error| failure("create", path, error))?;
        Ok((Some(temporary), created))
    }

    /// Renames an object that is complete from its temporary name, if it has one, to its own.
    fn rename_into_place(
        &self,
        dir: &Dir,
        temporary: Option<&[u8]>,
        name: &[u8],
    ) -> Result<(), Failure> {
        let Some(temporary) = temporary else {
            return Ok(());
        };
        rustix::fs::renameat(dir, temporary, dir, name).map_err(|error| {
            let _ = rustix::fs::unlinkat(dir, temporary, AtFlags::empty());
            Failure::Refused(format!("cannot replace the existing object: {error}"))
        })
    }

    /// Creates a file with mode 0, which no user but root can open until it is complete. So a file
    /// whose restore was cut short by a kill is recognised.
    fn begin_file(&mut self, path: &[u8]) -> Result<PartialFile, Failure> {
        let (dir, name) = self.parent(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (temporary, file) = self.create((&dir, name), path, |name| {
            retry_on_intr(|| rustix::fs::openat(&dir, name, flags, Mode::empty()))
        })?;
        Ok(PartialFile {
            file: file.into(),
            temporary,
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
        let fd = ObjectFd::Open(partial.file.as_fd());
        self.credentials.apply(fd, description, &self.report);
        if let Some(temporary) = &partial.temporary {
            let (dir, name) = self.parent(object.path)?;
            self.rename_into_place(&dir, Some(temporary), name)?;
        }
        outcome_of(&partial.file, object)
    }

    /// Creates a directory, or accepts an existing one. Returns true if its attributes are to be
    /// set at the end.
    fn begin_directory(&mut self, path: &[u8]) -> Result<bool, Failure> {
        let (dir, name) = self.parent(path)?;
        match retry_on_intr(|| rustix::fs::mkdirat(&dir, name, Mode::RWXU)) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failure("create", path, error)),
        }
        let Some(stat) = lstat(&dir, name).ok().filter(is_directory) else {
            return Err(Failure::Refused(
                "an object that is not a directory exists in its place and is kept".to_owned(),
            ));
        };
        // Created by this restore, as the parent of something.
        if self.destination.take_created(&stat) {
            return Ok(true);
        }
        if self.overwrite {
            self.credentials.grant_access(&dir, name, &stat);
        }
        Ok(self.overwrite)
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
        if !self.credentials.is_root() && node.is_some_and(|node| node != FileType::Fifo) {
            self.report
                .record_note("devices are not restored: only root may do that");
            return Ok(ObjectOutcome::NotRestored);
        }
        let (dir, name) = self.parent(object.path)?;
        let device = rustix::fs::makedev(device.0, device.1);
        let create = |name: &[u8]| match node {
            None => retry_on_intr(|| rustix::fs::symlinkat(object.target, &dir, name)),
            Some(node) => rustix::fs::mknodat(&dir, name, node, OWNER_ONLY, device),
        };
        let (temporary, ()) = self.create((&dir, name), object.path, create)?;
        let current = temporary.as_deref().unwrap_or(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = retry_on_intr(|| rustix::fs::openat(&dir, current, flags, Mode::empty()));
        let fd = opened.map_err(|error| {
            let _ = rustix::fs::unlinkat(&dir, current, AtFlags::empty());
            failure("open", object.path, error)
        })?;
        self.credentials
            .apply(ObjectFd::Path(fd.as_fd()), description, &self.report);
        self.rename_into_place(&dir, temporary.as_deref(), name)?;
        outcome_of(&fd, object)
    }

    /// Sets the attributes of a directory, when everything in it has been created.
    fn finish_directory(&mut self, description: &ObjectDescription) {
        let Some(object) = description.object() else {
            return;
        };
        match self.destination.directory(object.path, Missing::Fail) {
            Ok(dir) => {
                // A directory that may be searched but not read is opened with `O_PATH`.
                let is_path =
                    rustix::fs::fcntl_getfl(&dir).is_ok_and(|flags| flags.contains(OFlags::PATH));
                let fd = match is_path {
                    true => ObjectFd::Path(dir.as_fd()),
                    false => ObjectFd::Open(dir.as_fd()),
                };
                self.credentials.apply(fd, description, &self.report);
            }
            Err(error) => self
                .report
                .record_problem(object.path, format!("cannot set its attributes: {error}")),
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
        let current = partial.temporary.as_deref().unwrap_or(name);
        // Only the file that we created: another process may have put something else there.
        if inode_of(&lstat(&dir, current)?)
            != inode_of(&retry_on_intr(|| rustix::fs::fstat(&partial.file))?)
        {
            return Err(Errno::NOENT);
        }
        remove_inherited_lists(&partial.file);
        let _ = rustix::fs::fchmod(&partial.file, OWNER_ONLY);
        rename_aside(&dir, current, name).or_else(|error| {
            rustix::fs::unlinkat(&dir, current, AtFlags::empty())?;
            Err(error)
        })
    }
}

/// Outcome of an object that was created: with its inode if further names of it may follow.
fn outcome_of(fd: impl AsFd, object: &ObjectMeta<'_>) -> Result<ObjectOutcome, Failure> {
    if !object.linked {
        return Ok(ObjectOutcome::Verified);
    }
    let stat = retry_on_intr(|| rustix::fs::fstat(&fd))
        .map_err(|error| failure("inspect", object.path, error))?;
    let (device, inode) = inode_of(&stat);
    Ok(ObjectOutcome::Created { device, inode })
}

impl Sink for Writer {
    type Partial = PartialObject;

    fn for_worker(&self) -> Self {
        Self {
            destination: self.destination.for_worker(),
            overwrite: self.overwrite,
            sync: self.sync,
            credentials: self.credentials,
            directories: RecordStack::default(),
            report: self.report.clone(),
        }
    }

    fn begin(&mut self, object: &ObjectMeta<'_>) -> Result<PartialObject, Failure> {
        match object.kind {
            ObjectKind::File => self.begin_file(object.path).map(PartialObject::File),
            ObjectKind::Directory => {
                let set_attributes = self.begin_directory(object.path)?;
                Ok(PartialObject::Directory { set_attributes })
            }
            _ => Ok(PartialObject::Deferred),
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
                Some(errno) if is_final(errno) => {
                    Failure::Stop(StageError::with_source(what, error))
                }
                _ => Failure::Damaged(format!("{what}: {error}")),
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
        let Some(object) = description.object() else {
            return Ok(ObjectOutcome::NotRestored);
        };
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

    /// Creates a hard link, but only if the target's path still leads to the inode that this
    /// restore created there.
    fn link(&mut self, object: &ObjectMeta<'_>, target: &LinkTarget) -> Result<(), Failure> {
        let gone = || Failure::Damaged("the target of this hard link no longer exists".to_owned());
        let (target_dir, target_name) = self
            .destination
            .parent(&target.path, Missing::Fail)
            .map_err(|error| match is_final(error) {
                true => failure("open the parent directory of", &target.path, error),
                false => gone(),
            })?;
        let is_target = |dir, name| {
            let inode = lstat(dir, name).map(|stat| inode_of(&stat));
            inode.is_ok_and(|(device, inode)| {
                target.outcome == ObjectOutcome::Created { device, inode }
            })
        };
        if !is_target(&target_dir, target_name) {
            return Err(gone());
        }
        let (dir, name) = self.parent(object.path)?;
        let (temporary, ()) = self.create((&dir, name), object.path, |name| {
            rustix::fs::linkat(&target_dir, target_name, &dir, name, AtFlags::empty())
        })?;
        if let Some(temporary) = temporary {
            if is_target(&dir, name) {
                // The link exists already. A rename between two names of one object does nothing,
                // and would leave the temporary name.
                let _ = rustix::fs::unlinkat(&dir, temporary, AtFlags::empty());
            } else {
                self.rename_into_place(&dir, Some(&temporary), name)?;
            }
        }
        Ok(())
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

    fn finish(&mut self) -> Result<(), StageError> {
        // The last first, so that a directory is finished before its parent, whose mode may make
        // it unreachable.
        while let Some(directory) = self.directories.pop().map_err(|error| {
            StageError::with_source("cannot read directories back from a temporary file", error)
        })? {
            self.finish_directory(&ObjectDescription::from_bytes(directory));
        }
        self.destination.forget_created();
        if self.sync {
            self.destination.sync().map_err(|error| {
                StageError::with_source("restored data may not be on stable storage", error)
            })?;
        }
        Ok(())
    }
}

/// True if an error will also hit everything that follows, so that the restore must stop.
fn is_final(error: Errno) -> bool {
    is_shortage(error) || matches!(error, Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO)
}

/// Failure of an action on an object: a stop if the error is final, or else a refusal.
fn failure(action: &str, path: &[u8], error: Errno) -> Failure {
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
