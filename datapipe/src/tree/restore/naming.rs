//! Names for objects that are complete.
//!
//! ```text
//!   place --> pending .. --commit: syncfs--> names, in order    syncfs reports failed writes
//!         \-> name at once                                      fsync has, or none is wanted
//! ```
//!
//! So neither a kill nor a loss of power leaves an object under its name that is not whole.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::error::StageError;
use crate::wire::{ObjectKind, ObjectMeta};
use crate::words::len_of;

use super::destination::{Dir, Missing, inode_of, is_directory, lstat, rename_no_replace};
use super::durability::Durability;
use super::link_targets::{LinkTarget, ObjectOutcome};
use super::sink::Failure;
use super::writer::{Writer, failure, is_final};

/// Limit of the objects that wait for their names.
const MAX_PENDING: usize = 8192;
/// Limit of their data and paths, in bytes.
const MAX_PENDING_BYTES: u64 = 256 << 20;

/// An object that is complete and has no name.
#[derive(Debug)]
enum Unnamed {
    Part {
        path: Box<[u8]>,
        part: Box<[u8]>,
        kind: ObjectKind,
    },
    Link {
        path: Box<[u8]>,
        target: LinkTarget,
    },
}

/// Objects that get their names when they are on stable storage. Clones share one list.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingNames(Arc<Mutex<PendingInner>>);

#[derive(Debug, Default)]
struct PendingInner {
    objects: Vec<Unnamed>,
    bytes: u64,
}

impl PendingNames {
    fn push(&self, object: Unnamed, bytes: u64) {
        let mut inner = self.0.lock();
        inner.objects.push(object);
        inner.bytes = inner.bytes.saturating_add(bytes);
    }

    fn is_empty(&self) -> bool {
        self.0.lock().objects.is_empty()
    }

    pub(super) fn is_large(&self) -> bool {
        let inner = self.0.lock();
        inner.objects.len() >= MAX_PENDING || inner.bytes >= MAX_PENDING_BYTES
    }

    fn take(&self) -> Vec<Unnamed> {
        mem::take(&mut *self.0.lock()).objects
    }
}

impl Writer {
    /// Gives a part the name of its object, at once or when its `size` bytes are on stable storage.
    pub(super) fn place(
        &mut self,
        object: &ObjectMeta<'_>,
        part: &[u8],
        durability: Durability,
        size: u64,
    ) -> Result<(), Failure> {
        if !self.sync || durability != Durability::BySyncfs {
            return self.name_part(object.path, part);
        }
        let unnamed = Unnamed::Part {
            path: object.path.into(),
            part: part.into(),
            kind: object.kind,
        };
        let bytes = size.saturating_add((object.path.len() + part.len()) as u64);
        self.pending.push(unnamed, bytes);
        Ok(())
    }

    /// Creates a hard link, after the object that it leads to has its name.
    pub(super) fn place_link(&mut self, path: &[u8], target: &LinkTarget) -> Result<(), Failure> {
        if self.pending.is_empty() {
            return self.link_now(path, target);
        }
        let unnamed = Unnamed::Link {
            path: path.into(),
            target: target.clone(),
        };
        let bytes = path.len() + target.path.len();
        self.pending.push(unnamed, bytes as u64);
        Ok(())
    }

    /// Brings all objects that have no name to stable storage, then names them.
    pub(super) fn commit(&mut self) -> Result<(), StageError> {
        let objects = self.pending.take();
        if objects.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.destination.sync() {
            let count = len_of(objects.len(), "object");
            objects.iter().for_each(|object| self.discard(object));
            let what = format!(
                "cannot bring restored data to stable storage: what had no name yet was removed \
                 again, {count}"
            );
            return Err(StageError::with_source(what, error));
        }
        let mut result = Ok(());
        for object in objects {
            let (path, kind, named) = match object {
                Unnamed::Part { path, part, kind } => {
                    let named = self.name_part(&path, &part);
                    (path, kind, named)
                }
                Unnamed::Link { path, target } => {
                    let named = self.link_now(&path, &target);
                    (path, ObjectKind::HardLink, named)
                }
            };
            let Err(failure) = named else { continue };
            self.report.uncount_object(kind);
            match failure {
                Failure::Refused(what) => self.report.record_problem(&path, what),
                Failure::Damaged(what) => self.report.record_damage(&path, what),
                Failure::Stop(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Removes an object that has no name.
    fn discard(&mut self, object: &Unnamed) {
        let kind = match object {
            Unnamed::Part { path, part, kind } => {
                if let Ok((dir, _)) = self.destination.parent(path, Missing::Fail) {
                    self.destination.remove_part(&dir, part);
                }
                *kind
            }
            Unnamed::Link { .. } => ObjectKind::HardLink,
        };
        self.report.uncount_object(kind);
    }

    /// Gives a part its name, over an existing object if that may be overwritten. Removes the part
    /// if that is not possible.
    pub(super) fn name_part(&mut self, path: &[u8], part: &[u8]) -> Result<(), Failure> {
        let (dir, name) = self.parent(path)?;
        let named = self.rename_part(&dir, part, name, path);
        match named {
            Ok(()) => self.destination.forget_part(),
            Err(_) => self.destination.remove_part(&dir, part),
        }
        named
    }

    fn rename_part(&self, dir: &Dir, part: &[u8], name: &[u8], path: &[u8]) -> Result<(), Failure> {
        let making = self.destination.making();
        match rename_no_replace(dir, part, name, &making) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failure("create", path, error)),
        }
        // Between the check and the replacement no other thread gives this name to its object,
        // which would then be replaced.
        let _made = making.lock();
        self.check_replaceable(dir, name)?;
        let old = lstat(dir, name);
        retry_on_intr(|| rustix::fs::renameat(dir, part, dir, name))
            .map_err(|error| failure("replace the existing object by", path, error))?;
        if let Ok(old) = old {
            self.destination.remember_lost_name(&old);
        }
        Ok(())
    }

    /// Checks, before an object is created, that its name is free or may be overwritten.
    pub(super) fn check_free(&self, dir: &Dir, name: &[u8], path: &[u8]) -> Result<(), Failure> {
        match lstat(dir, name) {
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failure("create", path, error)),
            Ok(stat) => self.check_existing(dir, name, &stat),
        }
    }

    fn check_replaceable(&self, dir: &Dir, name: &[u8]) -> Result<(), Failure> {
        // An object that has gone meanwhile leaves its name free.
        lstat(dir, name).map_or(Ok(()), |stat| self.check_existing(dir, name, &stat))
    }

    /// Checks that an existing object may be replaced.
    fn check_existing(&self, dir: &Dir, name: &[u8], stat: &Stat) -> Result<(), Failure> {
        let why = if self.destination.has_made(dir, name, stat) {
            MADE_BY_THIS_RESTORE
        } else if is_directory(stat) {
            "a directory exists in its place and is kept"
        } else if self.keep.contains(&inode_of(stat)) {
            "is a part of the medium that is read, or its key, and is kept"
        } else if !self.overwrite {
            "already exists and is left unchanged; to replace it, restore with overwrite"
        } else {
            return Ok(());
        };
        Err(Failure::Refused(why.to_owned()))
    }

    /// Creates a hard link, but only if the target's path still leads to the inode that this
    /// restore created there.
    fn link_now(&mut self, path: &[u8], target: &LinkTarget) -> Result<(), Failure> {
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
        let (dir, name) = self.parent(path)?;
        let link = |name: &[u8]| {
            retry_on_intr(|| {
                rustix::fs::linkat(&target_dir, target_name, &dir, name, AtFlags::empty())
            })
        };
        match link(name) {
            Ok(()) => return Ok(()),
            // The link exists already.
            Err(Errno::EXIST) if is_target(&dir, name) => return Ok(()),
            Err(Errno::EXIST) => self.check_replaceable(&dir, name)?,
            Err(error) => return Err(failure("create", path, error)),
        }
        let (part, ()) = self
            .destination
            .create_part(path, link)
            .map_err(|error| failure("create", path, error))?;
        self.name_part(path, &part)
    }
}

/// Refusal to replace an object that this restore has made.
pub(super) const MADE_BY_THIS_RESTORE: &str = "this restore has already made an object of this \
    name, which is kept: the archive has the name twice, or this file system takes two names for \
    one (upper and lower case, forms of accents)";
