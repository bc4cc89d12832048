//! Inode flags of restored objects, which are set when everything else is done: some of them forbid
//! to rename an object, to give it further names, or to change its attributes.
//!
//! ```text
//!   complete   file: device, inode, flags, path --> stack
//!   finish     names are given; then flags of files; then each directory: attributes, flags
//! ```

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::error::StageError;
use crate::tree::inode_calls::describe;
use crate::tree::inode_flags::{names, set, settable};
use crate::wire::codec::{Bytes, Put};

use super::destination::{Missing, inode_of};
use super::object_in_progress::ObjectDescription;
use super::sink::Failure;
use super::writer::Writer;

impl Writer {
    /// Returns the flags that a restored object gets: none unless root restores rights.
    pub(super) fn flags_to_set(&self, description: &ObjectDescription) -> u32 {
        let flags = description.inode().map_or(0, |inode| settable(inode.flags));
        if flags != 0 && !self.credentials.may_give_rights() {
            let why = self.credentials.why_not();
            self.report
                .record_note(&format!("inode flags are not restored: {why}"));
            return 0;
        }
        flags
    }

    /// Remembers the flags of a file for the end of the restore.
    pub(super) fn set_flags_later(
        &mut self,
        file: impl AsFd,
        path: &[u8],
        flags: u32,
    ) -> Result<(), Failure> {
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

    /// Sets the flags of all files, once they have their names.
    pub(super) fn set_flags_of_files(&mut self) -> Result<(), StageError> {
        while let Some(record) = self.flagged.pop().map_err(|error| {
            StageError::with_source("cannot read inode flags back from a temporary file", error)
        })? {
            let mut bytes = Bytes::new("inode flags", &record);
            let (id, flags) = ((bytes.u64()?, bytes.u64()?), bytes.u32()?);
            let path = bytes.rest();
            if let Err(error) = self.set_flags_of_file(id, flags, path) {
                self.report_flags(path, flags, &error.to_string());
            }
        }
        Ok(())
    }

    /// Sets the flags of a file, if it is still the one that was restored to this path.
    fn set_flags_of_file(
        &mut self,
        id: (u64, u64),
        flags: u32,
        path: &[u8],
    ) -> rustix::io::Result<()> {
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
        match set(fd, flags) {
            Ok(0) => {}
            Ok(missing) => self.report_flags(path, missing, "the file system does not keep them"),
            Err(Errno::NOTTY | Errno::BADF) => {
                self.report_flags(path, flags, "the file system has no such flags");
            }
            Err(error) => self.report_flags(path, flags, &describe(error)),
        }
    }

    fn report_flags(&self, path: &[u8], flags: u32, why: &str) {
        let what = format!("cannot set its inode flags ({}): {why}", names(flags));
        self.report.record_problem(path, what);
    }
}
