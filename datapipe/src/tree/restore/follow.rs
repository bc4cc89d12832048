//! Follows the objects of an archive through its blocks, and says of each whether it is whole.
//!
//! ```text
//!   block --entries--> object: begin -> attributes -> extents -> end -----> whole: the sink finishes it
//!                        |  |                            |
//!                        |  +-- not wanted, refused -> its entries are passed over
//!                        +-- no end, gap, wrong digest, wrong order -> damaged: the sink sets it aside
//! ```
//!
//! What is done with an object is the [`Sink`]'s. At most [`MAX_OPEN_OBJECTS`] are open at once.

use std::collections::VecDeque;
use std::io;
use std::thread;

use crate::error::StageError;
use crate::limits::{MAX_OBJECT_ATTRIBUTES, MAX_OPEN_OBJECTS, MAX_RESTORE_THREADS};
use crate::pool::{Block, Marks};
use crate::tree::digest::Digest;
use crate::tree::selection::Selection;
use crate::wire::{
    BlockKind, CatalogueEntry, Entry, EntryBody, ObjectEnd, ObjectKind, ObjectMeta, ObjectState,
};

use super::lost::Lost;
use super::open::{Described, Open};
use super::part::Part;
use super::report::RestoreReport;
use super::spill::{Became, First, Links};

/// What is done with objects.
pub(super) trait Sink: Send + Sized {
    /// What was made of an object that is open.
    type Made: Send;

    /// Another one, for files that are made at the same time.
    fn another(&self) -> Self;

    /// An object begins.
    fn begin(&mut self, object: &ObjectMeta<'_>) -> Result<Self::Made, Failure>;

    /// Data of a file.
    fn extent(&mut self, made: &mut Self::Made, offset: u64, data: &[u8]) -> Result<(), Failure>;

    /// An object is whole, and a file has `size` bytes.
    fn end(&mut self, made: Self::Made, what: &Described, size: u64) -> Result<Became, Failure>;

    /// An object is another name of one that is whole.
    fn link(&mut self, object: &ObjectMeta<'_>, first: &First) -> Result<(), Failure>;

    /// An object is damaged. Says what became of it.
    fn set_aside(&mut self, made: Self::Made, object: &ObjectMeta<'_>) -> String;

    /// All objects are done.
    fn finish(&mut self) -> Result<(), StageError>;
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// This object cannot be made here; it may be whole in the archive.
    Refused(String),
    /// This object is damaged, in the archive or here, and what was made of it has been set aside.
    Damaged(String),
    /// Nothing can be made any more.
    Stop(StageError),
}

/// Follows objects.
#[derive(Debug)]
pub(super) struct Follower<S: Sink> {
    sink: S,
    part: Part,
    report: RestoreReport,
    open: Vec<Open<S::Made>>,
    links: Links,
    lost: Lost,
    /// Number of the block that is to come.
    next: u64,
    /// Objects that have been told of as unknown.
    unknown: VecDeque<u64>,
    /// Whether the catalogue is read even if nothing is lost.
    checks_catalogue: bool,
    /// Those that make files besides this one.
    pub(super) lanes: Vec<Self>,
}

impl<S: Sink> Follower<S> {
    pub(super) fn new(sink: S, part: Part, report: RestoreReport, checks_catalogue: bool) -> Self {
        let (open, links, lost, unknown) = (
            Vec::new(),
            Links::default(),
            Lost::default(),
            VecDeque::new(),
        );
        let lanes = Vec::new();
        Self {
            sink,
            part,
            report,
            open,
            links,
            lost,
            next: 0,
            unknown,
            checks_catalogue,
            lanes,
        }
    }

    /// Makes files on so many threads. 0: one for each processor, up to [`MAX_RESTORE_THREADS`].
    pub(super) fn on_threads(mut self, threads: usize) -> Self {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { processors() } else { threads }.min(MAX_RESTORE_THREADS);
        let lane = |_| {
            let part = Part::everything(Selection::new(&[]));
            Self::new(self.sink.another(), part, self.report.clone(), false)
        };
        self.lanes = (1..threads).map(lane).collect();
        self
    }

    pub(super) fn report(&self) -> &RestoreReport {
        &self.report
    }

    pub(super) fn block(&mut self, block: &Block) -> Result<(), StageError> {
        let info = block.info();
        let number = info.sequence.unwrap_or_else(|| block.number());
        if number < self.next {
            let next = self.next;
            self.problem(format!(
                "block {number} comes where {next} belongs, and is not used"
            ));
            return Ok(());
        }
        if number > self.next {
            self.miss(self.next, number - 1);
        }
        self.next = number.saturating_add(1);
        let is_data = info.kind == BlockKind::Data.code();
        if info.marks.contains(Marks::DAMAGED) || info.marks.contains(Marks::REJECTED) {
            // What kind of block it was is not believed: nobody has authenticated that.
            self.lose(
                number,
                number,
                0,
                format!("block {number} has no content: it is damaged, or was refused"),
            );
            return Ok(());
        }
        if !is_data && self.lost.is_empty() && !self.checks_catalogue {
            return Ok(());
        }
        let (mut rest, mut files) = (block.bytes(), Vec::new());
        while !rest.is_empty() {
            let from = block.len() - rest.len();
            let (entry, behind) = match Entry::parse(rest) {
                Ok(parsed) => parsed,
                Err(error) => {
                    let what = format!("block {number}, byte {from}: {error}");
                    match is_data {
                        true => self.lose(number, number, from, what),
                        false => self.problem(what),
                    }
                    break;
                }
            };
            if let (true, EntryBody::Object(object)) = (is_data, &entry.body)
                && let Some(len) = self.whole_file(entry.object, object, rest)
            {
                if self.part.selection.wants(object.path, false) {
                    files.push(from..from + len);
                }
                rest = &rest[len..];
                continue;
            }
            let bytes = &rest[..rest.len() - behind.len()];
            match (is_data, entry.body) {
                (true, body) => self.entry(entry.object, body, bytes)?,
                (false, EntryBody::Catalogue(entry)) => self.catalogue(&entry),
                (false, EntryBody::Later(_)) => {}
                (false, _) => self.problem(format!(
                    "block {number} of the catalogue holds something else"
                )),
            }
            rest = behind;
        }
        self.make_files(block.bytes(), &files)
    }

    /// Whether an object is none that is open or has another name, and its path is that of none.
    pub(super) fn is_free(&self, number: u64, path: &[u8]) -> bool {
        let is_open = |open: &Open<S::Made>| open.number == number || open.what.path() == path;
        !self.part.called.contains_key(&number) && !self.open.iter().any(is_open)
    }

    pub(super) fn entry(
        &mut self,
        number: u64,
        body: EntryBody<'_>,
        bytes: &[u8],
    ) -> Result<(), StageError> {
        let at = self.open.iter().position(|open| open.number == number);
        match (body, at) {
            (EntryBody::Object(object), None) => return self.begin(number, &object, bytes),
            (EntryBody::Object(_), Some(at)) => self.damaged(at, "its entry comes twice"),
            (EntryBody::Attribute(..), Some(at)) => self.attribute(at, bytes),
            (EntryBody::Extent(offset, data), Some(at)) => return self.extent(at, offset, data),
            (EntryBody::End(end), Some(at)) => return self.end(at, end),
            (EntryBody::Attribute(..) | EntryBody::Extent(..) | EntryBody::End(_), None) => {
                self.unknown(number)
            }
            (EntryBody::Catalogue(_), _) => {
                self.problem("an entry of the catalogue stands among data".to_owned())
            }
            (EntryBody::Later(_), _) => {}
        }
        Ok(())
    }

    fn begin(
        &mut self,
        number: u64,
        object: &ObjectMeta<'_>,
        bytes: &[u8],
    ) -> Result<(), StageError> {
        // An object that says that it has no other names has none, whatever the catalogue says.
        if let Some(path) = self.part.called.remove(&number)
            && object.linked
        {
            let (object, mut bytes) = (
                ObjectMeta {
                    path: &path,
                    ..*object
                },
                Vec::new(),
            );
            Entry {
                object: number,
                body: EntryBody::Object(object),
            }
            .append_to(&mut bytes)?;
            return self.begin(number, &object, &bytes);
        }
        if self.open.len() >= MAX_OPEN_OBJECTS && !self.make_room() {
            let what = format!("more than {MAX_OPEN_OBJECTS} objects are open at once");
            self.unknown_is_told(number);
            self.report.damage(object.path, what);
            return Ok(());
        }
        let is_directory = object.kind == ObjectKind::Directory;
        let taken = || {
            self.open
                .iter()
                .any(|open| open.made.is_some() && open.what.path() == object.path)
        };
        let made = if !self.part.selection.wants(object.path, is_directory) {
            None
        } else if taken() {
            self.report
                .damage(object.path, "another object of this path is open");
            None
        } else {
            match self.sink.begin(object) {
                Ok(made) => Some(made),
                Err(failure) => {
                    self.failed(object.path, failure)?;
                    None
                }
            }
        };
        if made.is_none() {
            self.remember(number, object, Became::NotRestored)?;
        }
        let (what, digest) = (Described::new(bytes), Digest::new());
        let (end, bytes, has_data, doubtful) = (0, 0, false, false);
        self.open.push(Open {
            number,
            what,
            made,
            digest,
            end,
            bytes,
            has_data,
            doubtful,
        });
        Ok(())
    }

    fn attribute(&mut self, at: usize, bytes: &[u8]) {
        let open = &mut self.open[at];
        if open.made.is_none() {
            return;
        }
        if open.has_data {
            self.damaged(at, "an attribute comes behind its data");
        } else if open.what.attribute_bytes() + bytes.len() > MAX_OBJECT_ATTRIBUTES {
            self.damaged(at, "has more attributes than any object has");
        } else {
            open.what.add_attribute(bytes);
        }
    }

    fn extent(&mut self, at: usize, offset: u64, data: &[u8]) -> Result<(), StageError> {
        let open = &mut self.open[at];
        let Some(made) = &mut open.made else {
            return Ok(());
        };
        if !open.what.is(ObjectKind::File) {
            self.damaged(at, "has data, but is no file");
        } else if offset < open.end {
            let what = format!(
                "overlapping extents: one at byte {offset} comes behind byte {}",
                open.end
            );
            self.damaged(at, &what);
        } else if let Err(failure) = self.sink.extent(made, offset, data) {
            match failure {
                Failure::Refused(what) | Failure::Damaged(what) => self.damaged(at, &what),
                Failure::Stop(error) => {
                    self.damaged(at, "could not be written");
                    return Err(error);
                }
            }
        } else {
            open.extend(offset, data);
        }
        Ok(())
    }

    fn end(&mut self, at: usize, end: ObjectEnd) -> Result<(), StageError> {
        if self.open[at].made.is_none() {
            self.open.swap_remove(at);
            return Ok(());
        }
        if let Some(why) = not_whole(&self.open[at], &end) {
            self.damaged(at, why);
            self.open.swap_remove(at);
            return Ok(());
        }
        let open = self.open.swap_remove(at);
        let (Some(made), Some(object)) = (open.made, open.what.object()) else {
            return Ok(());
        };
        let done = if object.kind == ObjectKind::HardLink {
            self.link(&object)
        } else {
            self.sink.end(made, &open.what, end.size)
        };
        match done {
            Ok(became) => {
                if end.state == ObjectState::Changed {
                    self.report
                        .problem(object.path, "changed while it was archived");
                }
                self.report.done(object.kind, open.bytes);
                self.remember(open.number, &object, became)
            }
            Err(failure) => {
                if matches!(failure, Failure::Refused(_)) {
                    self.remember(open.number, &object, Became::NotRestored)?;
                }
                self.failed(object.path, failure)
            }
        }
    }

    fn remember(
        &mut self,
        number: u64,
        object: &ObjectMeta<'_>,
        became: Became,
    ) -> Result<(), StageError> {
        let path = object.path.to_vec();
        if object.linked
            && !self
                .links
                .add(number, &First { path, became })
                .map_err(cannot_remember)?
        {
            self.report
                .problem(object.path, "is one of too many with several names");
        }
        Ok(())
    }

    fn link(&mut self, object: &ObjectMeta<'_>) -> Result<Became, Failure> {
        let first = self
            .links
            .get(object.link)
            .map_err(|error| Failure::Stop(cannot_remember(error)))?;
        let Some(first) = first else {
            let what = format!(
                "is another name of object {}, which is damaged or comes later",
                object.link
            );
            return Err(Failure::Damaged(what));
        };
        if first.became == Became::NotRestored {
            let shown = first.path[..first.path.len().min(200)].escape_ascii();
            return Err(Failure::Refused(format!(
                "is another name of \"{shown}\", which was not restored"
            )));
        }
        // Or it was called by this name all along.
        if first.path != object.path {
            self.sink.link(object, &first)?;
        }
        Ok(first.became)
    }

    fn catalogue(&mut self, entry: &CatalogueEntry<'_>) {
        if self.lost.has(entry) && self.part.selection.wants(entry.path, false) {
            let block = entry.blocks.0;
            self.report.damage(
                entry.path,
                format!("is lost: it begins in block {block}, which is lost"),
            );
        }
    }

    /// Blocks `first` to `last` did not come. Those of them that should have are lost.
    fn miss(&mut self, first: u64, last: u64) {
        let lost: Vec<_> = match &self.part.blocks {
            None => vec![(first, last)],
            Some(blocks) => blocks.within(first, last).collect(),
        };
        for (first, last) in lost {
            self.lose(
                first,
                last,
                0,
                format!("blocks {first} to {last} are missing"),
            );
        }
        if self.part.blocks.is_some() {
            // What is not wanted, and has not ended, ends in a block that does not come.
            self.open.retain(|open| open.made.is_some());
        }
    }

    /// Blocks `first` to `last` are lost, the first of them from byte `from` on, and something of
    /// every open object may have been in them.
    fn lose(&mut self, first: u64, last: u64, from: usize, what: String) {
        self.problem(what);
        self.lost.add(first, last, from);
        for at in 0..self.open.len() {
            self.open[at].doubtful = true;
            if !self.open[at].has_data {
                self.damaged(at, "something of it was in a block that is lost");
            }
        }
    }

    /// Gives up an object that may have ended in a block that is lost, or that nobody wants.
    fn make_room(&mut self) -> bool {
        let dead = self.open.iter().position(|open| open.made.is_none());
        let Some(at) = dead.or_else(|| self.open.iter().position(|open| open.doubtful)) else {
            return false;
        };
        self.damaged(at, NO_END);
        let open = self.open.swap_remove(at);
        self.unknown_is_told(open.number);
        true
    }

    /// An open object is damaged: what was made of it is set aside, and what still comes of it
    /// passed over.
    fn damaged(&mut self, at: usize, why: &str) {
        let open = &mut self.open[at];
        if let (Some(made), Some(object)) = (open.made.take(), open.what.object()) {
            let became = self.sink.set_aside(made, &object);
            self.report.damage(object.path, format!("{why}{became}"));
        }
    }

    fn failed(&self, path: &[u8], failure: Failure) -> Result<(), StageError> {
        match failure {
            Failure::Refused(what) => self.report.problem(path, what),
            Failure::Damaged(what) => self.report.damage(path, what),
            Failure::Stop(error) => return Err(error),
        }
        Ok(())
    }

    fn unknown(&mut self, number: u64) {
        // In a part, something that is not wanted began in a block that did not come.
        if self.part.blocks.is_none() && !self.unknown.contains(&number) {
            self.unknown_is_told(number);
            self.problem(format!(
                "there is something of object {number}, but not what it is"
            ));
        }
    }

    fn unknown_is_told(&mut self, number: u64) {
        if self.unknown.len() >= MAX_OPEN_OBJECTS {
            self.unknown.pop_front();
        }
        self.unknown.push_back(number);
    }

    fn problem(&self, what: String) {
        self.report.problem(b"", what);
    }

    /// Whatever is still open has no end.
    fn give_up(&mut self) {
        for at in 0..self.open.len() {
            self.damaged(at, NO_END);
        }
        self.open.clear();
    }

    pub(super) fn finish(&mut self) -> Result<(), StageError> {
        if self.part.blocks.is_some() {
            // Of everything, only the reader knows how many blocks there should be.
            self.miss(self.next, u64::MAX);
        }
        self.give_up();
        for path in self.part.selection.not_found() {
            self.report
                .problem(path, "nothing of this path is in the archive");
        }
        self.sink.finish()
    }
}

/// A pipe that failed leaves nothing under a name that is not whole.
impl<S: Sink> Drop for Follower<S> {
    fn drop(&mut self) {
        self.give_up();
    }
}

const NO_END: &str = "its end is missing";

/// Why an object is damaged, if it is.
fn not_whole<M>(open: &Open<M>, end: &ObjectEnd) -> Option<&'static str> {
    let is_file = open.what.is(ObjectKind::File);
    match end.digest {
        _ if end.state == ObjectState::Unread => {
            Some("was not read to its end when it was archived")
        }
        _ if is_file && end.size < open.end => Some("has more data than it says"),
        Some(digest) if is_file && open.digest.finish() != digest => Some("its digest is wrong"),
        None if open.doubtful => Some("blocks were lost while it was open, and it has no digest"),
        _ => None,
    }
}

fn cannot_remember(error: io::Error) -> StageError {
    StageError::new(format!(
        "cannot keep what is needed later in a temporary file: {error}"
    ))
}
