//! Reads the objects of a batch into blocks, one entry after the other.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::error::StageError;
use crate::limits::{MAX_ATTRIBUTE, MAX_DAMAGE_TEXT, MAX_OBJECT_ATTRIBUTES, MAX_OWNER_NAME};
use crate::pool::Block;
use crate::tree::inode_calls;
use crate::tree::inode_flags;
use crate::tree::own_resources::{is_shortage, shortage_error};
use crate::wire::codec::truncate;
use crate::wire::{
    DIGEST_LEN, ENTRY_HEADER_LEN, Entry, EntryBody, InodeFacts, ObjectEnd, ObjectKind, ObjectMeta,
    ObjectState, OpenFile, OwnerKind,
};

use super::batch::{Batch, Candidate, Item, PathIndex};
use super::checkpoints::OpenObjectState;
use super::extents::{Extents, ReadProgress};
use super::inspect::{ObjectInspector, ObjectVerdict};
use super::open::{self, Attributes, FileSystem, OpenObject};
use super::owners::Owner;
use super::put_entry::{Put, put, put_encoded};
use super::report::ProblemKind;
use super::turn::{BatchRange, SharedHead};
use super::unplaced::{EntryPos, FinishedObject, Unplaced};
use super::walk::{Rules, open_object};

/// Reader of the objects of one batch after the other.
pub(super) struct ObjectReader {
    rules: Arc<Rules>,
    pub(super) inspector: Option<Box<dyn ObjectInspector>>,
    pub(super) batch: Batch,
    /// The object of which not all entries are in blocks.
    current: Option<Current>,
    /// Objects that have ended in the block being filled.
    unplaced: Unplaced,
    attributes: Attributes,
    /// Buffers for the value of an attribute, and for an entry.
    value: Box<[u8]>,
    entry: Vec<u8>,
    /// Bytes of the body of `entry` that are in blocks, if that is longer than a block.
    written: Option<usize>,
    /// Owners whose names are in the entries that are not committed yet.
    named: HashSet<Owner>,
}

/// An object on its way into blocks.
#[derive(Debug)]
struct Current {
    opened: OpenObject,
    path: PathIndex,
    /// Target of a symbolic link.
    target: Vec<u8>,
    /// Kind in the archive: `HardLink` for a further name of an object of any kind.
    kind: ObjectKind,
    /// For a hard link, number of the object that it is another name of.
    link: u64,
    number: u64,
    /// Position of its first entry, once a part of that is in a block.
    first: Option<EntryPos>,
    /// Bytes of data in blocks.
    bytes: u64,
    state: ObjectState,
    next: NextEntry,
    /// Its inode flags, once they were read.
    flags: Option<u32>,
}

/// The entry of an object that is to be written next.
#[derive(Debug)]
enum NextEntry {
    Owners,
    ObjectMeta,
    Inode,
    Attributes,
    /// No entry: the inspector decides about the metadata before the data is read.
    Inspection,
    Extents(Box<Extents>),
    ObjectEnd(u64, Option<[u8; DIGEST_LEN]>),
}

/// Progress of filling a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FillProgress {
    /// The block is full.
    BlockFull,
    /// All objects of the batch were read.
    BatchDone,
    /// The pipe ends.
    Abandoned,
}

impl ObjectReader {
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            inspector: None,
            batch: Batch::default(),
            current: None,
            unplaced: Unplaced::default(),
            attributes: Attributes::default(),
            value: vec![0; MAX_ATTRIBUTE].into(),
            entry: Vec::new(),
            written: None,
            named: HashSet::new(),
        }
    }

    /// Returns true if all objects of the batch are in blocks.
    pub(super) fn is_done(&self) -> bool {
        self.current.is_none() && self.batch.is_empty()
    }

    /// Writes objects into the block until it is full or the batch is done.
    pub(super) fn fill(
        &mut self,
        block: &mut Block,
        shared: &SharedHead,
        range: &mut BatchRange,
    ) -> Result<FillProgress, StageError> {
        loop {
            let mut current = match self.current.take() {
                Some(current) => current,
                None => {
                    let Some(item) = self.batch.next() else {
                        return Ok(FillProgress::BatchDone);
                    };
                    let Some(mut current) = self.begin(item) else {
                        self.rules.check_resources()?;
                        continue;
                    };
                    if !resolve_link(&mut current, block, shared, range)? {
                        return Ok(FillProgress::Abandoned);
                    }
                    current
                }
            };
            if self.write(&mut current, block, shared, range)? == Put::BlockFull {
                self.current = Some(current);
                return Ok(FillProgress::BlockFull);
            }
        }
    }

    /// Writes the names of owners again that the next objects have: the entries so far are
    /// committed, and will be in another block. A block that is lost takes few names with it.
    pub(super) fn repeat_names(&mut self) {
        self.named.clear();
    }

    /// Returns the objects that have ended in the block being filled, and the start of the object
    /// that has not, if any of it was written.
    pub(super) fn unplaced(&mut self) -> (&mut Unplaced, Option<&mut EntryPos>) {
        let open = self.current.as_mut();
        let open = open.and_then(|current| current.first.as_mut());
        (&mut self.unplaced, open)
    }

    /// Returns the object that has begun and not ended, as a checkpoint has it.
    pub(super) fn open_object(&self) -> OpenObjectState<'_> {
        let Some(current) = &self.current else {
            return OpenObjectState::Nothing;
        };
        match (&current.next, current.first) {
            _ if self.written.is_some() => OpenObjectState::Entries,
            (_, None) => OpenObjectState::Nothing,
            (NextEntry::Extents(extents), Some(first)) => {
                let file = current.open_file(extents, first);
                OpenObjectState::File(file, self.batch.path(current.path))
            }
            (_, Some(_)) => OpenObjectState::Entries,
        }
    }

    /// Opens an object if it is not open. Returns `None` if it does not belong to the archive.
    fn begin(&self, item: Item) -> Option<Current> {
        let Item {
            object,
            candidate,
            path,
        } = item;
        let (opened, kind, target) = match candidate {
            Candidate::Directory(opened) => (*opened, ObjectKind::Directory, Vec::new()),
            Candidate::Opened(opened, file_system) => {
                self.classify(path, Ok(*opened), file_system)?
            }
            Candidate::Name(dir, expected) => {
                let opened = open_object(dir.fd.as_fd(), self.batch.name(path), expected);
                self.classify(path, opened, dir.file_system)?
            }
        };
        let state = match opened.unread {
            Some(_) => ObjectState::Unread,
            None => ObjectState::Whole,
        };
        Some(Current {
            opened,
            path,
            target,
            kind,
            link: 0,
            number: object,
            first: None,
            bytes: 0,
            state,
            next: NextEntry::Owners,
            flags: None,
        })
    }

    /// Returns an object that was opened by its name, its kind in the archive, and the target of a
    /// symbolic link. Returns `None`, and reports the problem, if it does not belong to the archive
    /// or could not be opened.
    fn classify(
        &self,
        path: PathIndex,
        opened: Result<OpenObject, Errno>,
        file_system: FileSystem,
    ) -> Option<(OpenObject, ObjectKind, Vec<u8>)> {
        let path = self.batch.path(path);
        let with_target = opened.and_then(|opened| match opened.meta.kind {
            // The walk found another type here and has not listed this directory. So the object
            // that the walk found was removed.
            FileType::Directory => Err(Errno::NOENT),
            FileType::Symlink => {
                open::read_target(opened.fd.as_fd()).map(|target| (opened, target))
            }
            _ => Ok((opened, Vec::new())),
        });
        match with_target {
            Ok((opened, target)) => {
                let kind = self.rules.classify(path, &opened.meta, file_system)?;
                Some((opened, kind, target))
            }
            Err(error) => {
                self.rules.record_unreadable(path, error);
                None
            }
        }
    }

    /// Writes the remaining entries of an object, as far as they fit.
    fn write(
        &mut self,
        current: &mut Current,
        block: &mut Block,
        shared: &SharedHead,
        range: &mut BatchRange,
    ) -> Result<Put, StageError> {
        loop {
            let put = match current.next {
                NextEntry::Owners => self.write_owners(current, block, shared)?,
                NextEntry::ObjectMeta => self.write_object(current, block, shared, range)?,
                NextEntry::Inode => self.write_inode(current, block)?,
                NextEntry::Attributes => self.write_attributes(current, block)?,
                NextEntry::Inspection => self.begin_extents(current, shared, range)?,
                NextEntry::Extents(_) => self.write_extents(current, block, shared, range)?,
                NextEntry::ObjectEnd(size, digest) => {
                    return self.write_end(current, size, digest, block);
                }
            };
            if put != Put::Written {
                return Ok(put);
            }
        }
    }

    /// Writes the names of an object's owners that this instance has not written for this block. An
    /// object of another instance may precede this one in it, and its owner has the name from
    /// there; but only the instance that has the turn could know.
    fn write_owners(
        &mut self,
        current: &mut Current,
        block: &mut Block,
        shared: &SharedHead,
    ) -> Result<Put, StageError> {
        let meta = &current.opened.meta;
        for owner in [(OwnerKind::User, meta.uid), (OwnerKind::Group, meta.gid)] {
            if self.named.contains(&owner) {
                continue;
            }
            self.entry.clear();
            (shared.owners).append_one(owner, &mut self.entry, &self.rules.report)?;
            if !self.entry.is_empty()
                && put_encoded(&self.entry, &mut self.written, block) == Put::BlockFull
            {
                return Ok(Put::BlockFull);
            }
            self.named.insert(owner);
        }
        current.next = NextEntry::ObjectMeta;
        Ok(Put::Written)
    }

    /// Writes the first entry of an object. An object that the format cannot have is reported and
    /// left out.
    fn write_object(
        &mut self,
        current: &mut Current,
        block: &mut Block,
        shared: &SharedHead,
        range: &mut BatchRange,
    ) -> Result<Put, StageError> {
        let meta = current.opened.meta;
        let first = EntryPos::unsent(block.len());
        let body = EntryBody::Object(current.object(self.batch.path(current.path)));
        let entry = Entry {
            object: current.number,
            body,
        };
        let put = put(&mut self.entry, &mut self.written, &entry, block);
        if block.len() > first.offset() {
            current.first.get_or_insert(first);
        }
        match put {
            Ok(Put::Written) => {}
            Ok(other) => {
                // The object begins in a later block, which has the names again. That may be
                // the second one after this: the next one begins with what is left over of this
                // one. An empty block has room for both, so this ends.
                let fits = self.entry.len() + 2 * MAX_OWNER_ENTRY <= block.capacity();
                if current.first.is_none() && fits {
                    current.next = NextEntry::Owners;
                }
                return Ok(other);
            }
            Err(why) => {
                let path = self.batch.path(current.path);
                self.rules
                    .report
                    .problem(path, ProblemKind::Unreadable(why));
                return Ok(Put::Refused);
            }
        }
        if current.kind == ObjectKind::HardLink {
            current.next = NextEntry::ObjectEnd(0, None);
            return Ok(Put::Written);
        }
        if meta.is_linked() {
            // `resolve_link` obtained the turn, and the range keeps it until the object has ended.
            let mut turn = shared.held_turn(range).ok_or_else(|| {
                StageError::new("an object with several names was begun out of turn")
            })?;
            turn.links()
                .add(meta.id, meta.stamp(), current.number, meta.links)?;
        }
        current.next = NextEntry::Inode;
        Ok(Put::Written)
    }

    /// Writes the entry of an object's inode, if it has flags that users set, or its time of birth
    /// is wanted.
    fn write_inode(&mut self, current: &mut Current, block: &mut Block) -> Result<Put, StageError> {
        let flags = self.read_flags(current)?;
        let born = current.opened.meta.born;
        let born = born.filter(|_| self.rules.birth_time);
        if inode_flags::settable(flags) != 0 || born.is_some() {
            let body = EntryBody::Inode(InodeFacts { flags, born });
            let put = self.put(current.number, body, block);
            if put.map_err(StageError::new)? == Put::BlockFull {
                return Ok(Put::BlockFull);
            }
        }
        current.next = NextEntry::Attributes;
        self.list_attributes(current)?;
        Ok(Put::Written)
    }

    /// Returns the inode flags of an object, which are read once. If that fails, the object has
    /// none in the archive and is reported.
    fn read_flags(&self, current: &mut Current) -> Result<u32, StageError> {
        if let Some(flags) = current.flags {
            return Ok(flags);
        }
        let found = match current.opened.path_only {
            true => Ok(0),
            false => inode_flags::flags_of(current.opened.fd.as_fd()),
        };
        let flags = match found {
            Ok(flags) => flags,
            Err(error) if is_shortage(error) => {
                let path = self.batch.path(current.path);
                return Err(shortage_error("read the inode flags of", path, error));
            }
            Err(error) => {
                let kind = ProblemKind::InodeFlags(inode_calls::describe(error));
                self.problem(current, ObjectState::Changed, kind);
                0
            }
        };
        current.flags = Some(flags);
        Ok(flags)
    }

    /// Lists the extended attributes of an object. If that fails, the object has none in the
    /// archive and is reported.
    fn list_attributes(&mut self, current: &mut Current) -> Result<(), StageError> {
        let OpenObject { fd, path_only, .. } = &current.opened;
        let listed = self
            .attributes
            .list(fd.as_fd(), *path_only, &mut self.value);
        if let Err(error) = listed {
            if is_shortage(error) {
                let path = self.batch.path(current.path);
                return Err(shortage_error("list the attributes of", path, error));
            }
            self.attributes = Attributes::default();
            let kind = ProblemKind::Attribute(Vec::new(), inode_calls::describe(error));
            self.problem(current, ObjectState::Changed, kind);
        }
        Ok(())
    }

    /// Writes the extended attributes that remain. One that cannot be read or stored is reported
    /// and left out, and costs no more than itself: the object is restored.
    fn write_attributes(
        &mut self,
        current: &mut Current,
        block: &mut Block,
    ) -> Result<Put, StageError> {
        while let Some(name) = self.attributes.name() {
            if self.written.is_some() {
                if put_encoded(&self.entry, &mut self.written, block) == Put::BlockFull {
                    return Ok(Put::BlockFull);
                }
                self.attributes.count(self.entry.len());
                self.attributes.advance();
                continue;
            }
            let name = name.to_bytes();
            let fd = current.opened.fd.as_fd();
            let mut written = 0;
            let failure = match self.attributes.value(fd, &mut self.value) {
                Ok(None) => None,
                Ok(Some(len)) if !self.attributes.has_room(entry_len(name, len)) => Some(format!(
                    "with it the object would have more than {MAX_OBJECT_ATTRIBUTES} bytes of \
                     attributes"
                )),
                Ok(Some(len)) => {
                    let entry = Entry {
                        object: current.number,
                        body: EntryBody::Attribute(name, &self.value[..len]),
                    };
                    match put(&mut self.entry, &mut self.written, &entry, block) {
                        Ok(Put::BlockFull) => return Ok(Put::BlockFull),
                        Ok(_) => {
                            written = self.entry.len();
                            None
                        }
                        Err(why) => Some(why),
                    }
                }
                Err(error) if is_shortage(error) => {
                    let path = self.batch.path(current.path);
                    return Err(shortage_error("read the attributes of", path, error));
                }
                Err(error) => Some(inode_calls::describe(error)),
            };
            if let Some(why) = failure {
                // Without a name it would read as the list of names.
                let name = if name.is_empty() {
                    b"(no name)".as_slice()
                } else {
                    name
                };
                let kind = ProblemKind::Attribute(name.to_vec(), why);
                self.problem(current, ObjectState::Changed, kind);
            }
            self.attributes.count(written);
            self.attributes.advance();
        }
        current.next = match current.kind {
            ObjectKind::File => NextEntry::Inspection,
            _ => NextEntry::ObjectEnd(0, None),
        };
        Ok(Put::Written)
    }

    /// Begins to read the data of a file, unless the inspector rejects the file.
    fn begin_extents(
        &mut self,
        current: &mut Current,
        shared: &SharedHead,
        range: &mut BatchRange,
    ) -> Result<Put, StageError> {
        let extents = Extents::new(current.opened.meta);
        let verdict = match &mut self.inspector {
            Some(inspector) => inspector.begin(&current.object(self.batch.path(current.path)))?,
            None => ObjectVerdict::Pass,
        };
        if let ObjectVerdict::Reject(why) = verdict {
            let summary = extents.summary();
            current.next = NextEntry::ObjectEnd(0, Some(summary.digest));
            self.reject(current, &why, shared, range);
        } else {
            current.next = NextEntry::Extents(Box::new(extents));
        }
        Ok(Put::Written)
    }

    /// Reports a file that the inspector rejected. Further names of it are inspected and reported
    /// too, so they must not become links to it.
    fn reject(
        &self,
        current: &mut Current,
        why: &str,
        shared: &SharedHead,
        range: &mut BatchRange,
    ) {
        let meta = current.opened.meta;
        if meta.is_linked()
            && let Some(mut turn) = shared.held_turn(range)
        {
            turn.links().forget(meta.id);
        }
        self.rules.report.update(|outcome| outcome.rejected += 1);
        let why = truncate(why, MAX_DAMAGE_TEXT).to_owned();
        self.problem(current, ObjectState::Unread, ProblemKind::Rejected(why));
    }

    /// Writes the extents of a file that remain. A file that changed or cannot be read to its end
    /// stays in the archive as far as it was read, and is reported.
    fn write_extents(
        &mut self,
        current: &mut Current,
        block: &mut Block,
        shared: &SharedHead,
        range: &mut BatchRange,
    ) -> Result<Put, StageError> {
        let NextEntry::Extents(extents) = &mut current.next else {
            return Ok(Put::Written);
        };
        let (fd, inspector) = (current.opened.fd.as_fd(), self.inspector.as_deref_mut());
        let outcome = extents.read(fd, current.number, block, inspector)?;
        if outcome == Ok(ReadProgress::BlockFull) {
            return Ok(Put::BlockFull);
        }
        let summary = extents.summary();
        current.bytes = summary.bytes;
        self.rules
            .report
            .update(|outcome| outcome.bytes += summary.bytes);
        current.next = NextEntry::ObjectEnd(summary.size, Some(summary.digest));
        match outcome {
            Ok(ReadProgress::Done(ObjectState::Changed)) => {
                self.problem(current, ObjectState::Changed, ProblemKind::Changed);
            }
            Ok(ReadProgress::Rejected(why)) => self.reject(current, &why, shared, range),
            Ok(ReadProgress::Short(announced)) => {
                let why = format!(
                    "it ends at byte {}, and its size is {announced} bytes",
                    summary.size
                );
                self.problem(current, ObjectState::Unread, ProblemKind::Unreadable(why));
            }
            Ok(_) => {}
            Err(error) if is_shortage(error) => {
                let path = self.batch.path(current.path);
                return Err(shortage_error("read", path, error));
            }
            Err(error) => {
                let why = format!("{error} at byte {}", summary.size);
                self.problem(current, ObjectState::Unread, ProblemKind::Unreadable(why));
            }
        }
        Ok(Put::Written)
    }

    /// Writes the last entry of an object, records it for the catalogue and counts it.
    fn write_end(
        &mut self,
        current: &Current,
        size: u64,
        digest: Option<[u8; DIGEST_LEN]>,
        block: &mut Block,
    ) -> Result<Put, StageError> {
        let end = EntryPos::unsent(block.len());
        let body = EntryBody::End(ObjectEnd {
            state: current.state,
            size,
            digest,
        });
        match self.put(current.number, body, block) {
            Ok(Put::Written) => {}
            Ok(other) => return Ok(other),
            Err(why) => return Err(StageError::new(why)),
        }
        let target = match current.kind {
            ObjectKind::Symlink => current.target.as_slice(),
            _ => &[],
        };
        let path = self.batch.path(current.path);
        self.unplaced.add(current.finished(size, end), path, target);
        self.rules.report.update(|outcome| match current.kind {
            ObjectKind::File => outcome.files += 1,
            ObjectKind::Directory => outcome.directories += 1,
            _ => outcome.others += 1,
        });
        Ok(Put::Written)
    }

    /// Puts an entry of an object into the block.
    fn put(&mut self, object: u64, body: EntryBody<'_>, block: &mut Block) -> Result<Put, String> {
        let entry = Entry { object, body };
        put(&mut self.entry, &mut self.written, &entry, block)
    }

    /// Reports a problem with an object that is in the archive nevertheless, and records it in the
    /// object's state.
    fn problem(&self, current: &mut Current, state: ObjectState, kind: ProblemKind) {
        if current.state != ObjectState::Unread {
            current.state = state;
        }
        let path = self.batch.path(current.path);
        self.rules.report.problem(path, kind);
    }
}

/// Makes an object with several names a hard link if another of its names is in the archive.
///
/// Only the instance that has the turn knows whether this name is the first. So this function waits
/// for the turn. Returns false if the pipe ends.
fn resolve_link(
    current: &mut Current,
    block: &Block,
    shared: &SharedHead,
    range: &mut BatchRange,
) -> Result<bool, StageError> {
    let meta = current.opened.meta;
    if !meta.is_linked() {
        return Ok(true);
    }
    let Some(mut turn) = shared.await_turn(range, block) else {
        return Ok(false);
    };
    if let Some(link) = turn.links().find(meta.id, meta.stamp())? {
        (current.kind, current.link) = (ObjectKind::HardLink, link);
    }
    Ok(true)
}

impl Current {
    /// Returns the body of the object's first entry.
    fn object<'a>(&'a self, path: &'a [u8]) -> ObjectMeta<'a> {
        let object = self.opened.meta.to_object(self.kind, path, &self.target);
        if self.kind != ObjectKind::HardLink {
            return object;
        }
        ObjectMeta {
            size: 0,
            device: (0, 0),
            link: self.link,
            linked: false,
            target: &[],
            ..object
        }
    }

    /// Returns the file as a checkpoint has it, which begins at `first`.
    fn open_file(&self, extents: &Extents, first: EntryPos) -> OpenFile {
        let meta = &self.opened.meta;
        let (at, cells) = extents.read_so_far();
        OpenFile {
            object: self.number,
            // All of its entries are sent before the checkpoint; a block is smaller than 4 GiB.
            first: (first.block().unwrap_or_default(), first.offset() as u32),
            state: self.state,
            at,
            cells,
            id: meta.id,
            size: meta.size,
            modified: meta.modified,
            changed: meta.changed,
        }
    }

    /// Returns the record for the catalogue, without block numbers, of an object that has ended.
    fn finished(&self, size: u64, end: EntryPos) -> FinishedObject {
        let meta = &self.opened.meta;
        // Only hard links refer to an object by its number.
        let is_link_target = meta.is_linked() && self.kind != ObjectKind::HardLink;
        FinishedObject {
            number: self.number,
            object: if is_link_target { self.number } else { 0 },
            kind: self.kind,
            state: self.state,
            mode: meta.mode,
            size,
            link: self.link,
            modified: meta.modified,
            changed: meta.changed,
            inode: meta.id.1,
            bytes: self.bytes,
            first: self.first.unwrap_or_default(),
            end,
        }
    }
}

/// Length of the longest entry with the name of an owner: its header, number, type, length, name.
const MAX_OWNER_ENTRY: usize = ENTRY_HEADER_LEN + 8 + MAX_OWNER_NAME;

/// Length of the entry of an attribute: its header, two lengths, and name and value.
fn entry_len(name: &[u8], value: usize) -> usize {
    ENTRY_HEADER_LEN + 8 + name.len() + value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs;

    use super::*;
    use crate::tree::read::options::{TreeOptions, name_sources};
    use crate::tree::read::report::TreeReport;
    use crate::tree::read::walk::{NextBatch, Walk};

    #[test]
    fn directory_that_replaced_a_file_is_reported_as_vanished() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("data");
        fs::create_dir(&source).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(source.join(name), name).unwrap();
        }
        let report = TreeReport::default();
        let sources = name_sources(std::slice::from_ref(&source)).unwrap();
        let mut walk = Walk::new(sources, &TreeOptions::default(), report.clone()).unwrap();
        let mut reader = ObjectReader::new(walk.rules());
        assert_eq!(
            walk.next_batch(&mut reader.batch, None, 100),
            NextBatch::Batch
        );
        fs::remove_file(source.join("a")).unwrap();
        fs::create_dir(source.join("a")).unwrap();
        fs::remove_file(source.join("b")).unwrap();
        let mut kinds = Vec::new();
        while let Some(item) = reader.batch.next() {
            kinds.push(reader.begin(item).map(|current| current.kind));
        }
        assert_eq!(
            kinds,
            [
                Some(ObjectKind::Directory),
                None,
                None,
                Some(ObjectKind::File)
            ]
        );
        let problems: Vec<String> = report
            .snapshot()
            .problems
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            problems,
            [
                "data/a: vanished before it was read",
                "data/b: vanished before it was read"
            ]
        );
    }
}
