//! Objects into blocks, one entry after the other, and the catalogue between them.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::error::StageError;
use crate::limits::MAX_ATTRIBUTE;
use crate::pool::Block;
use crate::stage::{Fill, Head};
use crate::wire::{CatalogueEntry, End, Entry, EntryBody, Object, ObjectKind, State, What};

use super::catalogue::Catalogue;
use super::extents::{Extents, Progress};
use super::links::Links;
use super::object::Attributes;
use super::options::{Source, TreeError, TreeOptions, check_sources, name_sources};
use super::report::{ProblemKind, TreeReport};
use super::walk::{Found, Walk};

/// Reads file trees into blocks of entries: files, directories, links, fifos and devices, with their attributes.
///
/// Every block is a run of whole entries, so each can be read by itself. Blocks of the catalogue, which says where each
/// object is, stand between the others, and at the end all of it stands once more: [`BlockInfo::kind`] says
/// so. The archive's content is [`Content::Tree`](crate::wire::Content::Tree).
///
/// What cannot be read is reported and left out, or said to be not whole; it does not end the pipe. Relative paths
/// are taken from the working directory when the pipe runs.
///
/// [`BlockInfo::kind`]: crate::pool::BlockInfo::kind
///
/// # Examples
///
/// ```
/// use datapipe::prelude::*;
/// use datapipe::tree::{TreeHead, TreeOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let source = dir.path().to_owned();
/// # std::fs::write(source.join("a"), b"data")?;
/// let head = TreeHead::new(&[source], TreeOptions::default())?;
/// let report = head.report();
/// Pipe::builder().head(head).tail(StreamTail::new(std::io::sink())).run()?;
/// assert_eq!((report.outcome().files, report.outcome().directories), (1, 1));
/// for problem in report.problems() {
///     eprintln!("{problem}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TreeHead {
    walk: Walk,
    report: TreeReport,
    catalogue: Catalogue,
    links: Links,
    /// The object that is not whole in the blocks yet.
    current: Option<Current>,
    /// There are no more objects.
    ended: bool,
    /// Objects that have a number, and blocks and bytes that were sent.
    objects: u64,
    blocks: u64,
    bytes: u64,
    attributes: Attributes,
    /// Room for a value, and for an entry.
    value: Box<[u8]>,
    entry: Vec<u8>,
}

/// An object on its way into blocks.
struct Current {
    found: Found,
    /// Its kind, which is another than that of what was found if it is a further name.
    kind: ObjectKind,
    /// The object that it is another name of.
    link: u64,
    number: u64,
    /// Block and offset of its first entry.
    first: (u64, u32),
    state: State,
    step: Step,
}

/// What of an object is to be written next.
enum Step {
    Object,
    Attributes,
    Extents(Box<Extents>),
    End(u64, Option<[u8; 32]>),
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

impl TreeHead {
    /// A head that reads `sources`, each under the last name of its path: `/srv/data` as `data`, `.` and `..` by the
    /// name of the directory that they mean, `/` as `root`. A symbolic link is read as one.
    ///
    /// # Errors
    ///
    /// [`TreeError`]: a source is not there, two have one name, or a pattern is not one.
    pub fn new<P: AsRef<Path>>(sources: &[P], options: TreeOptions) -> Result<Self, TreeError> {
        Self::with(name_sources(sources)?, options)
    }

    /// A head that reads each path under the name that stands before it.
    ///
    /// # Errors
    ///
    /// As of [`new`](Self::new), and if a name is not one: it has no `/`, and is neither `.` nor `..`.
    pub fn named(
        sources: impl IntoIterator<Item = (OsString, PathBuf)>,
        options: TreeOptions,
    ) -> Result<Self, TreeError> {
        Self::with(sources.into_iter().map(|(name, path)| Source { name, path }).collect(), options)
    }

    fn with(sources: Vec<Source>, options: TreeOptions) -> Result<Self, TreeError> {
        check_sources(&sources)?;
        let report = TreeReport::default();
        Ok(Self {
            walk: Walk::new(sources, &options, report.clone())?,
            report,
            catalogue: Catalogue::default(),
            links: Links::default(),
            current: None,
            ended: false,
            objects: 0,
            blocks: 0,
            bytes: 0,
            attributes: Attributes::default(),
            value: vec![0; MAX_ATTRIBUTE].into(),
            entry: Vec::new(),
        })
    }

    /// What becomes of the tree.
    pub fn report(&self) -> TreeReport {
        self.report.clone()
    }

    /// Objects until the block is full or there are no more.
    fn fill_objects(&mut self, block: &mut Block) -> Result<(), StageError> {
        loop {
            let mut current = match self.current.take() {
                Some(current) => current,
                None => match self.begin()? {
                    Some(current) => current,
                    None => {
                        self.ended = true;
                        return Ok(());
                    }
                },
            };
            if self.write(&mut current, block)? == Put::Full {
                self.current = Some(current);
                return Ok(());
            }
        }
    }

    fn begin(&mut self) -> Result<Option<Current>, StageError> {
        let Some(found) = self.walk.next() else { return Ok(None) };
        let named = found.meta.links > 1 && found.kind != ObjectKind::Directory;
        let link = if named { self.links.find(found.meta.id, found.meta.stamp())? } else { None };
        let kind = if link.is_some() { ObjectKind::HardLink } else { found.kind };
        let state = if found.unread { State::Unread } else { State::Whole };
        let (number, first) = (self.objects + 1, (0, 0));
        let link = link.unwrap_or(0);
        Ok(Some(Current { found, kind, link, number, first, state, step: Step::Object }))
    }

    /// Writes what is left of an object, as far as it fits.
    fn write(&mut self, current: &mut Current, block: &mut Block) -> Result<Put, StageError> {
        loop {
            let put = match current.step {
                Step::Object => self.write_object(current, block)?,
                Step::Attributes => self.write_attributes(current, block)?,
                Step::Extents(_) => self.write_extents(current, block)?,
                Step::End(size, digest) => return self.write_end(current, size, digest, block),
            };
            if put != Put::Done {
                return Ok(put);
            }
        }
    }

    fn write_object(&mut self, current: &mut Current, block: &mut Block) -> Result<Put, StageError> {
        let Current { found, kind, link, number, .. } = &*current;
        let meta = found.meta;
        let body = EntryBody::Object(Object {
            kind: *kind,
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            modified: meta.modified,
            size: if *kind == ObjectKind::File { meta.size } else { 0 },
            device: if *link == 0 { meta.device } else { (0, 0) },
            link: *link,
            linked: meta.links > 1 && !matches!(kind, ObjectKind::Directory | ObjectKind::HardLink),
            path: self.walk.path(),
            target: if *link == 0 { &found.target } else { &[] },
        });
        let offset = block.len() as u32;
        match put(&mut self.entry, &Entry { object: *number, body }, block) {
            Ok(Put::Done) => {}
            Ok(Put::Full) => return Ok(Put::Full),
            Ok(Put::Never) => {
                let kind = ProblemKind::TooLong(self.entry.len());
                return Ok(self.leave_out(current, kind));
            }
            Err(why) => return Ok(self.leave_out(current, ProblemKind::Unreadable(why))),
        }
        self.objects = current.number;
        current.first = (self.blocks, offset);
        if current.kind == ObjectKind::HardLink {
            current.step = Step::End(0, None);
            return Ok(Put::Done);
        }
        if meta.links > 1 && current.kind != ObjectKind::Directory {
            self.links.add(meta.id, meta.stamp(), current.number, meta.links)?;
        }
        current.step = Step::Attributes;
        let listed = match descriptor(&current.found, &self.walk) {
            Some(fd) => self.attributes.list(fd, current.found.path_only, &mut self.value),
            None => Ok(()),
        };
        if let Err(error) = listed {
            self.attributes = Attributes::default();
            self.problem(current, State::Unread, ProblemKind::Attribute(Vec::new(), error.to_string()));
        }
        Ok(Put::Done)
    }

    fn write_attributes(&mut self, current: &mut Current, block: &mut Block) -> Result<Put, StageError> {
        while let (Some(name), Some(fd)) = (self.attributes.name(), descriptor(&current.found, &self.walk)) {
            let name = name.to_bytes();
            let wrong = match self.attributes.value(fd, &mut self.value) {
                Ok(None) => None,
                Ok(Some(len)) => {
                    let body = EntryBody::Attribute(name, &self.value[..len]);
                    match put(&mut self.entry, &Entry { object: current.number, body }, block) {
                        Ok(Put::Done) => None,
                        Ok(Put::Full) => return Ok(Put::Full),
                        Ok(Put::Never) => {
                            Some(format!("{} bytes, which is more than a block has", self.entry.len()))
                        }
                        Err(why) => Some(why),
                    }
                }
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = wrong {
                let kind = ProblemKind::Attribute(name.to_vec(), why);
                self.problem(current, State::Unread, kind);
            }
            self.attributes.advance();
        }
        current.step = match current.kind {
            ObjectKind::File => Step::Extents(Box::new(Extents::new(current.found.meta))),
            _ => Step::End(0, None),
        };
        Ok(Put::Done)
    }

    fn write_extents(&mut self, current: &mut Current, block: &mut Block) -> Result<Put, StageError> {
        let Current { found, number, step: Step::Extents(extents), .. } = current else {
            return Ok(Put::Done);
        };
        let Some(fd) = &found.fd else { return Ok(Put::Done) };
        let outcome = extents.read(fd.as_fd(), *number, block)?;
        if outcome == Ok(Progress::Full) {
            return Ok(Put::Full);
        }
        let summary = extents.summary();
        self.report.update(|outcome| outcome.bytes += summary.bytes);
        current.step = Step::End(summary.size, Some(summary.digest));
        match outcome {
            Ok(Progress::Done(State::Changed)) => self.problem(current, State::Changed, ProblemKind::Changed),
            Ok(_) => {}
            Err(error) => {
                let why = format!("{error} at byte {}", summary.size);
                self.problem(current, State::Unread, ProblemKind::Unreadable(why));
            }
        }
        Ok(Put::Done)
    }

    fn write_end(
        &mut self,
        current: &Current,
        size: u64,
        digest: Option<[u8; 32]>,
        block: &mut Block,
    ) -> Result<Put, StageError> {
        let Current { found, kind, link, state, number, first, .. } = current;
        let body = EntryBody::End(End { state: *state, size, digest });
        match put(&mut self.entry, &Entry { object: *number, body }, block) {
            Ok(Put::Done) => {}
            // The smallest block has room for an end.
            Ok(other) => return Ok(other),
            Err(why) => return Err(StageError::new(why)),
        }
        let body = EntryBody::Catalogue(CatalogueEntry {
            kind: *kind,
            state: *state,
            mode: found.meta.mode,
            size,
            link: *link,
            modified: found.meta.modified,
            blocks: (first.0, self.blocks),
            offset: first.1,
            path: self.walk.path(),
            target: if *kind == ObjectKind::Symlink { &found.target } else { &[] },
        });
        self.catalogue.add(&Entry { object: *number, body })?;
        self.report.update(|outcome| match kind {
            ObjectKind::File => outcome.files += 1,
            ObjectKind::Directory => outcome.directories += 1,
            _ => outcome.others += 1,
        });
        Ok(Put::Done)
    }

    /// Reports what is wrong with an object, which is in the archive all the same.
    fn problem(&self, current: &mut Current, state: State, kind: ProblemKind) {
        if current.state != State::Unread {
            current.state = state;
        }
        self.report.problem(self.walk.path(), kind);
    }

    /// Reports an object that is not in the archive, with what is below it.
    fn leave_out(&mut self, current: &Current, kind: ProblemKind) -> Put {
        self.report.problem(self.walk.path(), kind);
        if current.found.kind == ObjectKind::Directory && current.found.fd.is_none() {
            self.walk.leave();
        }
        Put::Never
    }
}

/// The descriptor of what was found.
fn descriptor<'a>(found: &'a Found, walk: &'a Walk) -> Option<BorrowedFd<'a>> {
    found.fd.as_ref().map(AsFd::as_fd).or_else(|| walk.directory())
}

/// Puts an entry into a block, if it fits. `room` has its bytes then in any case.
///
/// # Errors
///
/// Why the format cannot take it.
fn put(room: &mut Vec<u8>, entry: &Entry<'_>, block: &mut Block) -> Result<Put, String> {
    room.clear();
    entry.append_to(room).map_err(|malformed| malformed.to_string())?;
    Ok(match block.put(room) {
        Ok(()) => Put::Done,
        Err(_) if room.len() > block.capacity() => Put::Never,
        Err(_) => Put::Full,
    })
}

impl Head for TreeHead {
    fn name(&self) -> &str {
        "tree-head"
    }

    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let mut info = block.info();
        info.offset = self.bytes;
        if !self.ended && self.catalogue.is_due(block.capacity()) {
            self.catalogue.fill_piece(block)?;
            info.kind = What::Catalogue.code();
        } else if !self.ended {
            self.fill_objects(block)?;
        }
        if block.is_empty() {
            self.catalogue.fill_closing(block)?;
            info.kind = What::ClosingCatalogue.code();
        }
        if block.is_empty() {
            return Ok(Fill::End);
        }
        self.bytes += block.len() as u64;
        self.blocks += 1;
        block.set_info(info);
        Ok(Fill::Block)
    }
}

impl fmt::Debug for TreeHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, blocks, bytes, .. } = self;
        f.debug_struct("TreeHead")
            .field("objects", objects)
            .field("blocks", blocks)
            .field("bytes", bytes)
            .finish_non_exhaustive()
    }
}
