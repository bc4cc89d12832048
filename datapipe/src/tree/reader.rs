//! Objects of a batch into a block, one entry after the other.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::error::StageError;
use crate::limits::MAX_ATTRIBUTE;
use crate::pool::Block;
use crate::wire::{DIGEST_LEN, Entry, EntryBody, ObjectEnd, ObjectKind, ObjectMeta, ObjectState};

use super::batch::{Batch, Descriptor, Found, Item, Lead, Path};
use super::extents::{self, Extents};
use super::object::{self, Attributes, Opened};
use super::order::{Shared, Span};
use super::pending::{Ended, Pending, Spot};
use super::report::ProblemKind;
use super::walk::{Rules, unreadable};

/// Reads the objects of one batch after the other.
#[derive(Debug)]
pub(super) struct Reader {
    rules: Arc<Rules>,
    pub(super) batch: Batch,
    /// The object that is not whole in the blocks yet.
    current: Option<Current>,
    /// Objects that have ended in the block that is being filled.
    pub(super) pending: Pending,
    attributes: Attributes,
    /// Room for a value, and for an entry.
    value: Box<[u8]>,
    entry: Vec<u8>,
}

/// An object on its way into blocks.
#[derive(Debug)]
struct Current {
    found: Found,
    path: Path,
    /// What a symbolic link says.
    target: Vec<u8>,
    /// Its kind, which is another than that of what was found if it is a further name.
    kind: ObjectKind,
    /// The object that it is another name of.
    link: u64,
    number: u64,
    first: Spot,
    state: ObjectState,
    step: Step,
}

/// What of an object is to be written next.
#[derive(Debug)]
enum Step {
    Object,
    Attributes,
    Extents(Box<Extents>),
    End(u64, Option<[u8; DIGEST_LEN]>),
}

/// What became of an entry, or of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Done,
    /// It is for the next block.
    Full,
    /// No block can take it.
    Never,
}

/// How far the reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The block is full.
    Full,
    /// The batch was read.
    Done,
    /// The pipe ends.
    Abandoned,
}

impl Reader {
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            batch: Batch::default(),
            current: None,
            pending: Pending::default(),
            attributes: Attributes::default(),
            value: vec![0; MAX_ATTRIBUTE].into(),
            entry: Vec::new(),
        }
    }

    /// Whether all objects of the batch are in blocks.
    pub(super) fn is_done(&self) -> bool {
        self.current.is_none() && self.batch.is_empty()
    }

    /// Puts objects into the block until it is full or there are no more. Of an object that has
    /// several names, only whoever has the turn knows whether it is the first: it is waited for.
    pub(super) fn fill(
        &mut self,
        block: &mut Block,
        shared: &Shared,
        span: &mut Span,
    ) -> Result<Progress, StageError> {
        loop {
            let mut current = match self.current.take() {
                Some(current) => current,
                None => {
                    let Some(item) = self.batch.next() else {
                        return Ok(Progress::Done);
                    };
                    let Some(mut current) = self.begin(item) else {
                        continue;
                    };
                    let meta = &current.found.meta;
                    if meta.is_linked() {
                        let Some(mut order) = shared.await_turn(span, block) else {
                            return Ok(Progress::Abandoned);
                        };
                        if let Some(link) = order.links.find(meta.id, meta.stamp())? {
                            (current.kind, current.link) = (ObjectKind::HardLink, link);
                        }
                    }
                    current
                }
            };
            if self.write(&mut current, block, shared)? == Put::Full {
                self.current = Some(current);
                return Ok(Progress::Full);
            }
        }
    }

    /// Where the object begins that is not whole in the blocks yet, if any of it is.
    pub(super) fn first(&mut self) -> Option<&mut Spot> {
        let current = self.current.as_mut()?;
        (!matches!(current.step, Step::Object)).then_some(&mut current.first)
    }

    /// Opens an object, if it is not open; `None` if there is nothing to be read.
    fn begin(&self, item: Item) -> Option<Current> {
        let Item { object, lead, path } = item;
        let looked = match lead {
            Lead::Directory(found) => Some((*found, ObjectKind::Directory, Vec::new())),
            Lead::Opened(opened, file_system) => self.look(path, Ok(*opened), file_system),
            Lead::Name(dir, expected) => {
                let opened = object::open(dir.fd.as_fd(), self.batch.name(path), expected);
                self.look(path, opened, dir.file_system)
            }
        };
        let (found, kind, target) = looked?;
        let state = if found.unread {
            ObjectState::Unread
        } else {
            ObjectState::Whole
        };
        let (first, step) = (Spot::default(), Step::Object);
        Some(Current {
            found,
            path,
            target,
            kind,
            link: 0,
            number: object,
            first,
            state,
            step,
        })
    }

    /// Whether what was opened belongs to the archive, and what it is there.
    fn look(
        &self,
        path: Path,
        opened: Result<Opened, Errno>,
        file_system: u64,
    ) -> Option<(Found, ObjectKind, Vec<u8>)> {
        let path = self.batch.path(path);
        let looked = opened.and_then(|opened| match opened.meta.kind {
            // It was none when the walk came by, so nobody lists it: what was there is gone.
            FileType::Directory => Err(Errno::NOENT),
            FileType::Symlink => object::target(opened.fd.as_fd()).map(|target| (opened, target)),
            _ => Ok((opened, Vec::new())),
        });
        match looked {
            Ok((
                Opened {
                    fd,
                    path_only,
                    meta,
                    ..
                },
                target,
            )) => {
                let kind = self.rules.judge(path, &meta, file_system)?;
                Some((
                    Found {
                        meta,
                        fd: Descriptor::Own(fd),
                        path_only,
                        unread: false,
                    },
                    kind,
                    target,
                ))
            }
            Err(error) => {
                self.rules.report.problem(path, unreadable(error));
                None
            }
        }
    }

    /// Writes what is left of an object, as far as it fits.
    fn write(
        &mut self,
        current: &mut Current,
        block: &mut Block,
        shared: &Shared,
    ) -> Result<Put, StageError> {
        loop {
            let put = match current.step {
                Step::Object => self.write_object(current, block, shared)?,
                Step::Attributes => self.write_attributes(current, block)?,
                Step::Extents(_) => self.write_extents(current, block)?,
                Step::End(size, digest) => return self.write_end(current, size, digest, block),
            };
            if put != Put::Done {
                return Ok(put);
            }
        }
    }

    fn write_object(
        &mut self,
        current: &mut Current,
        block: &mut Block,
        shared: &Shared,
    ) -> Result<Put, StageError> {
        let meta = current.found.meta;
        let is_further = current.kind == ObjectKind::HardLink;
        let first = meta.describe(current.kind, self.batch.path(current.path), &current.target);
        let object = if is_further {
            ObjectMeta {
                size: 0,
                device: (0, 0),
                link: current.link,
                linked: false,
                target: &[],
                ..first
            }
        } else {
            first
        };
        let first_spot = Spot::at(block.len());
        let entry = Entry {
            object: current.number,
            body: EntryBody::Object(object),
        };
        let wrong = match put(&mut self.entry, &entry, block) {
            Ok(Put::Done) => None,
            Ok(Put::Full) => return Ok(Put::Full),
            Ok(Put::Never) => Some(ProblemKind::TooLong(self.entry.len())),
            Err(why) => Some(ProblemKind::Unreadable(why)),
        };
        if let Some(kind) = wrong {
            self.rules
                .report
                .problem(self.batch.path(current.path), kind);
            return Ok(Put::Never);
        }
        current.first = first_spot;
        if is_further {
            current.step = Step::End(0, None);
            return Ok(Put::Done);
        }
        if meta.is_linked() {
            shared
                .order()
                .links
                .add(meta.id, meta.stamp(), current.number, meta.links)?;
        }
        current.step = Step::Attributes;
        let Found { fd, path_only, .. } = &current.found;
        if let Err(error) = self
            .attributes
            .list(fd.as_fd(), *path_only, &mut self.value)
        {
            self.attributes = Attributes::default();
            self.problem(
                current,
                ObjectState::Unread,
                ProblemKind::Attribute(Vec::new(), error.to_string()),
            );
        }
        Ok(Put::Done)
    }

    fn write_attributes(
        &mut self,
        current: &mut Current,
        block: &mut Block,
    ) -> Result<Put, StageError> {
        while let Some(name) = self.attributes.name() {
            let name = name.to_bytes();
            let wrong = match self
                .attributes
                .value(current.found.fd.as_fd(), &mut self.value)
            {
                Ok(None) => None,
                Ok(Some(len)) => {
                    let body = EntryBody::Attribute(name, &self.value[..len]);
                    match put(
                        &mut self.entry,
                        &Entry {
                            object: current.number,
                            body,
                        },
                        block,
                    ) {
                        Ok(Put::Done) => None,
                        Ok(Put::Full) => return Ok(Put::Full),
                        Ok(Put::Never) => Some(format!(
                            "{} bytes, which is more than a block has",
                            self.entry.len()
                        )),
                        Err(why) => Some(why),
                    }
                }
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = wrong {
                let kind = ProblemKind::Attribute(name.to_vec(), why);
                self.problem(current, ObjectState::Unread, kind);
            }
            self.attributes.advance();
        }
        current.step = match current.kind {
            ObjectKind::File => Step::Extents(Box::new(Extents::new(current.found.meta))),
            _ => Step::End(0, None),
        };
        Ok(Put::Done)
    }

    fn write_extents(
        &mut self,
        current: &mut Current,
        block: &mut Block,
    ) -> Result<Put, StageError> {
        let Current {
            found,
            number,
            step: Step::Extents(extents),
            ..
        } = current
        else {
            return Ok(Put::Done);
        };
        let outcome = extents.read(found.fd.as_fd(), *number, block)?;
        if outcome == Ok(extents::Progress::Full) {
            return Ok(Put::Full);
        }
        let summary = extents.summary();
        self.rules
            .report
            .update(|outcome| outcome.bytes += summary.bytes);
        current.step = Step::End(summary.size, Some(summary.digest));
        match outcome {
            Ok(extents::Progress::Done(ObjectState::Changed)) => {
                self.problem(current, ObjectState::Changed, ProblemKind::Changed);
            }
            Ok(_) => {}
            Err(error) => {
                let why = format!("{error} at byte {}", summary.size);
                self.problem(current, ObjectState::Unread, ProblemKind::Unreadable(why));
            }
        }
        Ok(Put::Done)
    }

    fn write_end(
        &mut self,
        current: &Current,
        size: u64,
        digest: Option<[u8; DIGEST_LEN]>,
        block: &mut Block,
    ) -> Result<Put, StageError> {
        let Current {
            found,
            kind,
            link,
            state,
            number,
            first,
            ..
        } = current;
        let end = Spot::at(block.len());
        let body = EntryBody::End(ObjectEnd {
            state: *state,
            size,
            digest,
        });
        match put(
            &mut self.entry,
            &Entry {
                object: *number,
                body,
            },
            block,
        ) {
            Ok(Put::Done) => {}
            // The smallest block has room for an end.
            Ok(other) => return Ok(other),
            Err(why) => return Err(StageError::new(why)),
        }
        let ended = Ended {
            // Nobody else asks for a number.
            object: if found.meta.is_linked() && *kind != ObjectKind::HardLink {
                *number
            } else {
                0
            },
            kind: *kind,
            state: *state,
            mode: found.meta.mode,
            size,
            link: *link,
            modified: found.meta.modified,
            first: *first,
            end,
        };
        let target = if *kind == ObjectKind::Symlink {
            current.target.as_slice()
        } else {
            &[]
        };
        self.pending
            .add(ended, self.batch.path(current.path), target);
        self.rules.report.update(|outcome| match kind {
            ObjectKind::File => outcome.files += 1,
            ObjectKind::Directory => outcome.directories += 1,
            _ => outcome.others += 1,
        });
        Ok(Put::Done)
    }

    /// Reports what is wrong with an object, which is in the archive all the same.
    fn problem(&self, current: &mut Current, state: ObjectState, kind: ProblemKind) {
        if current.state != ObjectState::Unread {
            current.state = state;
        }
        self.rules
            .report
            .problem(self.batch.path(current.path), kind);
    }
}

/// Puts an entry into a block, if it fits. `room` has its bytes then in any case.
///
/// # Errors
///
/// Why the format cannot take it.
fn put(room: &mut Vec<u8>, entry: &Entry<'_>, block: &mut Block) -> Result<Put, String> {
    room.clear();
    entry
        .append_to(room)
        .map_err(|malformed| malformed.to_string())?;
    Ok(match block.put(room) {
        Ok(()) => Put::Done,
        Err(_) if room.len() > block.capacity() => Put::Never,
        Err(_) => Put::Full,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs;

    use super::*;
    use crate::tree::options::{TreeOptions, name_sources};
    use crate::tree::report::TreeReport;
    use crate::tree::walk::{NextBatch, Walk};

    #[test]
    fn a_directory_in_the_place_of_a_file_is_not_taken_for_one_that_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("data");
        fs::create_dir(&source).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(source.join(name), name).unwrap();
        }
        let report = TreeReport::default();
        let sources = name_sources(std::slice::from_ref(&source)).unwrap();
        let mut walk = Walk::new(sources, &TreeOptions::default(), report.clone()).unwrap();
        let mut reader = Reader::new(walk.rules());
        assert_eq!(
            walk.give(&mut reader.batch, None, 100, 4096),
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
        let problems: Vec<String> = report.problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "data/a: vanished before it was read",
                "data/b: vanished before it was read"
            ]
        );
    }
}
