//! Inode flags of restored objects.
//!
//! ```text
//!   begin      file without data: how its data are stored
//!   complete   file: all flags but those that freeze it; for these device, inode, path --> stack
//!   finish     names are given; then files are frozen; then each directory: attributes, flags
//! ```
//!
//! Flags that freeze an object forbid to rename it, to give it further names, and to change its
//! attributes: they are set when everything else is done.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::error::StageError;
use crate::tree::inode_calls::describe;
use crate::tree::inode_flags::{FREEZING, PRIVILEGED, UnsetFlags, names, set, settable};
use crate::wire::codec::{Bytes, Put};

use super::destination::{Missing, inode_of};
use super::object_in_progress::ObjectDescription;
use super::sink::Failure;
use super::writer::Writer;

impl Writer {
    /// Returns the flags that a restored object gets: without root's rights, those that its owner
    /// may set.
    pub(super) fn flags_to_set(&self, description: &ObjectDescription) -> u32 {
        let flags = description.inode().map_or(0, |inode| settable(inode.flags));
        let refused = match self.credentials.may_give_rights() {
            true => 0,
            false => flags & PRIVILEGED,
        };
        if refused != 0 {
            let why = self.credentials.why_not();
            let names = names(PRIVILEGED);
            self.report
                .record_note(&format!("inode flags {names} are not restored: {why}"));
        }
        flags & !refused
    }

    /// Sets the flags of a file that is complete, but remembers those that freeze it for the end of
    /// the restore.
    pub(super) fn set_flags_of_file(
        &mut self,
        file: impl AsFd,
        path: &[u8],
        flags: u32,
    ) -> Result<(), Failure> {
        if flags & !FREEZING != 0 {
            self.set_flags(file.as_fd(), path, flags & !FREEZING);
        }
        self.freeze_later(file, path, flags & FREEZING)
    }

    fn freeze_later(&mut self, file: impl AsFd, path: &[u8], flags: u32) -> Result<(), Failure> {
        if flags == 0 {
            return Ok(());
        }
        let Ok(stat) = rustix::fs::fstat(file) else {
            self.report_flags(path, flags, "its inode is not known");
            return Ok(());
        };
        let (device, inode) = inode_of(&stat);
        let mut record = Vec::new();
        record.put_u64s(&[device, inode]);
        record.put_u32(flags);
        record.put(path);
        self.flagged.push(&record).map_err(|error| {
            let what = "cannot keep inode flags in a temporary file";
            Failure::Stop(StageError::with_source(what, error))
        })
    }

    /// Freezes files, once all have their names.
    pub(super) fn freeze_files(&mut self) -> Result<(), StageError> {
        while let Some(record) = self.flagged.pop().map_err(|error| {
            StageError::with_source("cannot read inode flags back from a temporary file", error)
        })? {
            let mut bytes = Bytes::new("inode flags", &record);
            let (id, flags) = ((bytes.u64()?, bytes.u64()?), bytes.u32()?);
            let path = bytes.rest();
            if let Err(error) = self.freeze_file(id, flags, path) {
                self.report_flags(path, flags, &error.to_string());
            }
        }
        Ok(())
    }

    /// Freezes a file, if it is still the one that was restored to this path.
    fn freeze_file(&mut self, id: (u64, u64), flags: u32, path: &[u8]) -> rustix::io::Result<()> {
        let (dir, name) = self.destination.parent(path, Missing::Fail)?;
        let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = retry_on_intr(|| rustix::fs::openat(&dir, name, how, Mode::empty()))?;
        if inode_of(&rustix::fs::fstat(&file)?) != id {
            return Err(Errno::NOENT);
        }
        self.set_flags(file.as_fd(), path, flags);
        Ok(())
    }

    /// Sets flags now, and reports those that the object does not get.
    pub(super) fn set_flags(&self, fd: BorrowedFd<'_>, path: &[u8], flags: u32) {
        let Err(UnsetFlags { flags, error }) = set(fd, flags) else {
            return;
        };
        match error {
            None => self.report_flags(path, flags, "the file system does not keep them"),
            Some(Errno::NOTTY | Errno::BADF) => {
                self.report_flags(path, flags, "the file system has no such flags");
            }
            Some(error) => self.report_flags(path, flags, &describe(error)),
        }
    }

    fn report_flags(&self, path: &[u8], flags: u32, why: &str) {
        let what = format!("cannot set its inode flags ({}): {why}", names(flags));
        self.report.record_problem(path, what);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs::{self, File};
    use std::sync::Arc;

    use rustix::fs::IFlags;

    use super::*;
    use crate::tree::inode_flags::flags_of;
    use crate::tree::restore::open_directory::OpenDirectory;
    use crate::tree::restore::options::RestoreOptions;
    use crate::tree::restore::record_stack::RecordStack;
    use crate::tree::restore::report::RestoreReport;
    use crate::tree::restore::sink::Sink;
    use crate::tree::restore::writer::PartialObject;
    use crate::wire::{Entry, EntryBody, InodeFacts, ObjectKind, ObjectMeta, Time};

    /// A file "x", begun in `dir` as an archive with these flags of its inode has it.
    fn begin(
        dir: &std::path::Path,
        flags: u32,
        plain: bool,
    ) -> (Writer, PartialObject, ObjectDescription) {
        let options = RestoreOptions::default().sync(false).plain(plain);
        let dest = Arc::new(File::open(dir).unwrap().into());
        let dest = Arc::new(OpenDirectory::existing(dest));
        let mut writer = Writer::new(dest, &options, &RestoreReport::default()).unwrap();
        let object = ObjectMeta {
            kind: ObjectKind::File,
            mode: 0o600,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            modified: Time::default(),
            size: 0,
            device: (0, 0),
            link: 0,
            linked: false,
            path: b"x",
            target: b"",
        };
        let encode = |body| {
            let mut bytes = Vec::new();
            Entry { object: 1, body }.append_to(&mut bytes).unwrap();
            bytes
        };
        let inode = InodeFacts { flags, born: None };
        let entry = encode(EntryBody::Object(object));
        let mut description = ObjectDescription::new(&object, &entry);
        description.add_inode(&encode(EntryBody::Inode(inode)));
        let mut partial = writer.begin(&object, false).unwrap();
        writer.begin_inode(&mut partial, inode);
        (writer, partial, description)
    }

    /// A file that was complete but for its name stayed under a hidden one.
    #[test]
    fn file_whose_flags_cannot_be_kept_leaves_nothing() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not tried: only root keeps flags for later");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, partial, description) = begin(dir.path(), FREEZING, false);
        writer.flagged = RecordStack::broken();
        let failed = writer.complete(partial, &description, 0).unwrap_err();
        assert!(matches!(failed, Failure::Stop(_)), "{failed:?}");
        writer.flagged = RecordStack::default();
        drop(writer);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Flags that are ignored, or refused, for a file with data were set after the data.
    #[test]
    fn storage_flags_are_set_before_the_data() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let flags = IFlags::COMPRESSED.bits();
        let probe = tempfile::tempfile_in(dir.path()).unwrap();
        if set(probe.as_fd(), flags).is_err() {
            eprintln!("not tried: the file system does not keep the flag");
            return;
        }
        let (mut writer, mut partial, description) = begin(dir.path(), flags, false);
        let PartialObject::File(file) = &partial else {
            panic!("it is a file");
        };
        assert_eq!(flags_of(file.fd()).unwrap() & flags, flags);
        writer.write_extent(&mut partial, 0, b"data").unwrap();
        writer.complete(partial, &description, 4).unwrap();
        writer.finish().unwrap();
        let file = File::open(dir.path().join("x")).unwrap();
        assert_eq!(flags_of(file.as_fd()).unwrap() & flags, flags);
    }

    /// A restore without the rights of root left out all flags: as if only root could set them.
    #[test]
    fn flags_of_users_are_set_without_rights() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let nodump = IFlags::NODUMP.bits();
        let probe = tempfile::tempfile_in(dir.path()).unwrap();
        if set(probe.as_fd(), nodump).is_err() {
            eprintln!("not tried: the file system does not keep the flag");
            return;
        }
        let (mut writer, partial, description) = begin(dir.path(), nodump | FREEZING, true);
        writer.complete(partial, &description, 0).unwrap();
        writer.finish().unwrap();
        let file = File::open(dir.path().join("x")).unwrap();
        assert_eq!(settable(flags_of(file.as_fd()).unwrap()), nodump);
        let outcome = writer.report.snapshot();
        assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
        let notes = outcome.notes.join("\n");
        assert!(
            notes.contains("inode flags immutable, append-only, data in the journal are not"),
            "{notes}"
        );
    }
}
