//! Reassembles the objects of an archive from its blocks, and decides for each whether it is
//! complete.
//!
//! ```text
//!   block -> entries -> object, attributes, extents, end --> complete: the sink completes it
//!                         |  |                           \-> no end, gap, wrong digest, wrong
//!                         |  |                               order: the sink sets it aside
//!                         |  +-- not wanted, refused: its entries are skipped
//!                         +-- a file complete within the block: given to the workers
//! ```
//!
//! Entries of different objects may be interleaved: at most [`MAX_OPEN_OBJECTS`] are open at once.
//! The [`Sink`] decides what is created of an object. This module creates nothing itself.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ops::Range;

use crate::error::StageError;
use crate::limits::{MAX_OBJECT_ATTRIBUTES, MAX_OPEN_OBJECTS};
use crate::pool::{Block, Marks, Stop};
use crate::stage::Following;
use crate::wire::{
    BlockEntries, BlockKind, CatalogueEntry, Entry, EntryBody, EntryCopy, EntryStart, InodeFacts,
    ObjectEnd, ObjectKind, ObjectMeta, ObjectState,
};

use super::catalogue_comparison::CatalogueComparison;
use super::link_targets::{LinkTarget, LinkTargets, ObjectOutcome};
use super::lost_blocks::LostBlocks;
use super::object_in_progress::ObjectInProgress;
use super::report::RestoreReport;
use super::scope::RestoreScope;
use super::sink::{Failure, Sink};

/// Reassembles objects. `parallel.rs` has the methods that distribute files among workers.
#[derive(Debug)]
pub(super) struct ObjectAssembler<S: Sink> {
    sink: S,
    scope: RestoreScope,
    report: RestoreReport,
    open: Vec<ObjectInProgress<S::Partial>>,
    link_targets: LinkTargets,
    lost: LostBlocks,
    /// Copy of the entries of the block that is read.
    pub(super) entries: EntryCopy,
    /// Room for the copy of the next one, while workers use the other.
    pub(super) next_entries: EntryCopy,
    /// The comparison with the catalogue, if all objects are read.
    comparison: Option<Box<CatalogueComparison>>,
    /// The stop of the pipe, once a block has come.
    stop: Option<Stop>,
    /// Number of the next block, if none is missing.
    next: u64,
    /// Number of the last object that began.
    last_object: u64,
    /// Objects that were reported although their object entry never came, or that were given up:
    /// their further entries are skipped in silence. Only the last [`MAX_OPEN_OBJECTS`].
    unknown: VecDeque<u64>,
    /// Assemblers that create files on other threads, with sinks to the same destination. They
    /// share only the report: each gets files that are complete in a block and independent.
    pub(super) workers: Vec<Self>,
}

impl<S: Sink> ObjectAssembler<S> {
    pub(super) fn new(sink: S, scope: RestoreScope, report: RestoreReport) -> Self {
        let is_all = scope.blocks.is_none() && scope.selection.paths().next().is_none();
        Self {
            sink,
            comparison: is_all.then(Box::default),
            scope,
            report,
            open: Vec::new(),
            link_targets: LinkTargets::default(),
            lost: LostBlocks::default(),
            entries: EntryCopy::default(),
            next_entries: EntryCopy::default(),
            stop: None,
            next: 0,
            last_object: 0,
            unknown: VecDeque::new(),
            workers: Vec::new(),
        }
    }

    pub(super) fn report(&self) -> &RestoreReport {
        &self.report
    }

    pub(super) fn sink(&self) -> &S {
        &self.sink
    }

    /// True if the path of a file is selected.
    pub(super) fn wants_file(&mut self, path: &[u8]) -> bool {
        self.scope.selection.wants(path, ObjectKind::File)
    }

    /// Takes the next block of the archive.
    pub(super) fn accept_block(&mut self, block: &Block) -> Result<(), StageError> {
        let files = self.begin_block(block)?;
        self.restore_files(block, &files, &Following::none())
            .map(|_| ())
    }

    /// Takes the next block of the archive, and those of `following` that come while the files of
    /// the block before them are restored. Each is given back before the next but one is taken.
    pub(super) fn accept_blocks(
        &mut self,
        mut block: Block,
        following: &Following<'_>,
    ) -> Result<(), StageError> {
        let mut files = self.begin_block(&block)?;
        while let Some((next, its_files)) = self.restore_files(&block, &files, following)? {
            (block, files) = (next, its_files);
        }
        Ok(())
    }

    /// Takes the next block of the archive, and returns the entries of each file in it that any
    /// thread can restore.
    ///
    /// Blocks come in ascending order. A gap is lost, unless the scope says that the blocks in it
    /// are not needed; so is a block whose content was damaged or rejected.
    pub(super) fn begin_block(&mut self, block: &Block) -> Result<Vec<Range<usize>>, StageError> {
        self.stop.get_or_insert_with(|| block.stop());
        let info = block.info();
        let number = block.archive_number();
        if number < self.next {
            self.report_problem(format!(
                "block {number} arrived where block {} was expected, and is ignored",
                self.next
            ));
            return Ok(Vec::new());
        }
        if number > self.next {
            self.handle_gap(self.next, number - 1);
        }
        self.next = number.saturating_add(1);
        if info.marks.intersects(Marks::DAMAGED | Marks::REJECTED) {
            // Its kind is not used: it has not been authenticated.
            let why = if info.marks.contains(Marks::DAMAGED) {
                "it is damaged"
            } else {
                "inspection rejected it when the archive was written"
            };
            let what = format!("block {number} has no content: {why}");
            self.mark_lost(number, number, 0, what);
            return Ok(Vec::new());
        }
        let is_data = info.kind == BlockKind::Data.code();
        // A restore of some blocks gets no more of the catalogue than shares a block with them.
        let is_unneeded = !is_data && self.scope.blocks.is_some() && self.lost.is_empty();
        if info.is_control() || is_unneeded {
            self.entries.pass(number);
            return Ok(Vec::new());
        }
        // Another process may change the block meanwhile: all that is checked is copied first.
        let mut copy = mem::take(&mut self.entries);
        let entries = copy.fetch(block.shared(), number, info.kind);
        if let Some(start) = entries.cut() {
            self.lose_object_entry(start);
        }
        let read = if is_data {
            self.read_data_block(number, &entries)
        } else {
            self.read_catalogue_block(number, info.kind, &entries);
            Ok(Vec::new())
        };
        self.entries = copy;
        read
    }

    /// Reads the entries of a data block that must be processed in order, and returns those of the
    /// files that are complete within the block.
    ///
    /// Directories, links and objects that span blocks come before these files, so that a file
    /// finds its directory. None of them refers to one of the files, or to one of the block before,
    /// because a file that has further names is not among those.
    fn read_data_block(
        &mut self,
        number: u64,
        entries: &BlockEntries<'_>,
    ) -> Result<Vec<Range<usize>>, StageError> {
        self.sink.begin_block()?;
        let (mut next, mut files) = (0, Vec::new());
        while let Some(fetched) = entries.get(next) {
            let fetched = match fetched {
                Ok(fetched) => fetched,
                Err(damaged) => {
                    // The length of the entry is unknown, so the rest of the block is lost.
                    let (from, error) = (damaged.offset, damaged.error);
                    let what = format!("block {number}, byte {from}: {error}");
                    self.mark_lost(number, number, from, what);
                    if damaged.start.0 < number {
                        self.lose_object_entry(damaged.start);
                    }
                    break;
                }
            };
            let entry = &fetched.entry;
            let start = start_of(fetched.start);
            if let EntryBody::Piece(piece) = &entry.body
                && piece.begins_object()
            {
                self.lose_object_entry(fetched.start);
            }
            if let EntryBody::Object(object) = &entry.body
                && !self.is_next_object(entry.object, object)
            {
                next += 1;
                continue;
            }
            if let EntryBody::Object(object) = &entry.body
                && let Some((file, end)) = self.complete_file(entry.object, object, entries, next)
            {
                next = file.end;
                if let Some(comparison) = &mut self.comparison {
                    comparison.add_object((entry.object, object), start, &end, number);
                }
                if self.wants_file(object.path) {
                    files.push(file);
                }
                continue;
            }
            if let Some(comparison) = &mut self.comparison {
                comparison.add_entry(entry, start);
            }
            self.process_entry(entry.object, &entry.body, fetched.bytes)?;
            next += 1;
        }
        Ok(files)
    }

    /// Returns true if the number of an object is above those of all objects before. One that is
    /// not is reported, and its entries are skipped: those of another object may have its number.
    fn is_next_object(&mut self, number: u64, object: &ObjectMeta<'_>) -> bool {
        let last = self.last_object;
        if number > last {
            self.last_object = number;
            return true;
        }
        if let Some(at) = self.open.iter().position(|open| open.number == number) {
            self.mark_damaged(at, "its object entry is repeated");
            return false;
        }
        self.remember_unknown(number);
        let what = format!(
            "has the number {number}, which is not above that of an object before it, {last}"
        );
        self.report.record_damage(object.path, what);
        false
    }

    /// Reads the entries of a catalogue block, which names objects that began in lost blocks.
    fn read_catalogue_block(&mut self, number: u64, kind: u8, entries: &BlockEntries<'_>) {
        for fetched in entries.iter() {
            let fetched = match fetched {
                Ok(fetched) => fetched,
                Err(damaged) => {
                    let (from, error) = (damaged.offset, damaged.error);
                    self.report_problem(format!("block {number}, byte {from}: {error}"));
                    self.comparison = None;
                    self.lost.lose_closing();
                    break;
                }
            };
            if kind == BlockKind::ClosingCatalogue.code()
                && let Some(comparison) = &mut self.comparison
            {
                comparison.add_closing(&fetched.entry.body);
            }
            match fetched.entry.body {
                EntryBody::Catalogue(body) => {
                    self.check_catalogue_entry(fetched.entry.object, &body, kind);
                }
                EntryBody::CatalogueStart(_) => self.lost.start_closing(),
                EntryBody::OwnerName(name) => self.sink.name_owner(&name),
                EntryBody::Piece(_) => self.report_problem(format!(
                    "catalogue block {number} has a part of an entry whose other parts are missing"
                )),
                // Others are not in a block of the catalogue, or later ones that are skipped.
                _ => {}
            }
        }
    }

    /// True if no open object has this number or path, and the object is not to be renamed.
    pub(super) fn is_independent(&self, number: u64, path: &[u8]) -> bool {
        let conflicts = |open: &ObjectInProgress<S::Partial>| {
            open.number == number || open.description.path() == path
        };
        !self.scope.renames.contains_key(&number) && !self.open.iter().any(conflicts)
    }

    /// Processes an entry of object `number`. `bytes` are those of its private copy.
    pub(super) fn process_entry(
        &mut self,
        number: u64,
        body: &EntryBody<'_>,
        bytes: &[u8],
    ) -> Result<(), StageError> {
        let at = self.open.iter().position(|open| open.number == number);
        match (body, at) {
            (EntryBody::Object(object), None) => return self.begin_object(number, object, bytes),
            (EntryBody::Object(_), Some(at)) => {
                self.mark_damaged(at, "its object entry is repeated")
            }
            (EntryBody::Attribute(name, _), Some(at)) => self.add_attribute(at, name, bytes),
            (EntryBody::Inode(inode), Some(at)) => self.add_inode(at, *inode, bytes),
            (EntryBody::OwnerName(name), _) => self.sink.name_owner(name),
            (EntryBody::Piece(_), Some(at)) => {
                self.mark_damaged(at, "a part of one of its entries is missing");
            }
            (EntryBody::Extent(offset, data), Some(at)) => {
                return self.write_extent(at, *offset, data);
            }
            (EntryBody::End(end), Some(at)) => return self.end_object(at, *end),
            (
                EntryBody::Attribute(..)
                | EntryBody::Inode(_)
                | EntryBody::Extent(..)
                | EntryBody::Piece(_)
                | EntryBody::End(_),
                None,
            ) => self.report_unknown(number),
            // Not in a block of data, or of a later version.
            (EntryBody::Catalogue(_) | EntryBody::CatalogueStart(_) | EntryBody::Later(_), _) => {}
        }
        Ok(())
    }

    fn begin_object(
        &mut self,
        number: u64,
        object: &ObjectMeta<'_>,
        bytes: &[u8],
    ) -> Result<(), StageError> {
        // The catalogue may say that an object has further names. The object entry decides. Its
        // own name, if that is selected, comes first.
        if let Some(path) = self.scope.renames.remove(&number)
            && object.linked
            && !self.scope.selection.wants(object.path, object.kind)
        {
            return self.begin_renamed(number, object, &path);
        }
        if self.open.len() >= MAX_OPEN_OBJECTS && !self.evict_one() {
            self.remember_unknown(number);
            let what = format!("more than {MAX_OPEN_OBJECTS} objects are open at once");
            self.report.record_damage(object.path, what);
            return Ok(());
        }
        let partial = self.begin_in_sink(object)?;
        if partial.is_none() {
            self.remember_link_target(number, object, ObjectOutcome::NotRestored)?;
        }
        self.open
            .push(ObjectInProgress::new(number, object, bytes, partial));
        Ok(())
    }

    /// Begins an object as if its object entry had another path.
    fn begin_renamed(
        &mut self,
        number: u64,
        object: &ObjectMeta<'_>,
        path: &[u8],
    ) -> Result<(), StageError> {
        let object = ObjectMeta { path, ..*object };
        let mut bytes = Vec::new();
        let body = EntryBody::Object(object);
        let entry = Entry {
            object: number,
            body,
        };
        entry.append_to(&mut bytes)?;
        self.begin_object(number, &object, &bytes)
    }

    /// Begins an object in the sink. Returns `None` if its remaining entries are to be skipped: it
    /// is not wanted, or it cannot be created, which is reported.
    fn begin_in_sink(&mut self, object: &ObjectMeta<'_>) -> Result<Option<S::Partial>, StageError> {
        if !self.scope.selection.wants(object.path, object.kind) {
            return Ok(None);
        }
        let is_same = |open: &ObjectInProgress<S::Partial>| {
            open.partial.is_some() && open.description.path() == object.path
        };
        if self.open.iter().any(is_same) {
            self.report
                .record_damage(object.path, "another object with this path is open");
            return Ok(None);
        }
        let is_on_the_way = object.kind == ObjectKind::Directory
            && self.scope.selection.is_only_on_the_way(object.path);
        match self.sink.begin(object, is_on_the_way) {
            Ok(partial) => Ok(Some(partial)),
            Err(failure) => self.report_failure(object.path, failure).map(|()| None),
        }
    }

    /// Keeps an attribute until the object ends. One for which there is no space is reported, and
    /// costs no more than itself.
    fn add_attribute(&mut self, at: usize, name: &[u8], bytes: &[u8]) {
        let open = &mut self.open[at];
        if open.partial.is_none() {
            return;
        }
        if open.has_data {
            self.mark_damaged(at, "an attribute follows its data");
        } else if open.description.attributes_len() + bytes.len() > MAX_OBJECT_ATTRIBUTES {
            let what = format!(
                "cannot set attribute {}: with it the object would have more than \
                 {MAX_OBJECT_ATTRIBUTES} bytes of attributes",
                name.escape_ascii()
            );
            self.report.record_problem(open.description.path(), what);
        } else {
            open.description.add(bytes);
        }
    }

    /// Keeps the entry of an inode until the object ends.
    fn add_inode(&mut self, at: usize, inode: InodeFacts, bytes: &[u8]) {
        let open = &mut self.open[at];
        let Some(partial) = &mut open.partial else {
            return;
        };
        if open.has_data || open.description.has_properties() {
            self.mark_damaged(
                at,
                "an entry of its inode follows its attributes or data, or another",
            );
        } else {
            open.description.add_inode(bytes);
            self.sink.begin_inode(partial, inode);
        }
    }

    fn write_extent(&mut self, at: usize, offset: u64, data: &[u8]) -> Result<(), StageError> {
        let open = &mut self.open[at];
        let Some(partial) = &mut open.partial else {
            return Ok(());
        };
        if !open.description.is(ObjectKind::File) {
            self.mark_damaged(at, "has data but is not a file");
            return Ok(());
        }
        if offset < open.end {
            let what = format!(
                "overlapping extents: one begins at byte {offset}, the one before ends at byte {}",
                open.end
            );
            self.mark_damaged(at, &what);
            return Ok(());
        }
        match self.sink.write_extent(partial, offset, data) {
            Ok(()) => open.extend(offset, data),
            Err(Failure::Refused(what) | Failure::Damaged(what)) => self.mark_damaged(at, &what),
            Err(Failure::Stop(error)) => {
                let path = open.description.path().to_vec();
                self.discard(at);
                let what = "could not be written, and was removed again";
                self.report.record_damage(&path, what);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends an object: checks that it is complete, and completes it in the sink or sets it aside.
    fn end_object(&mut self, at: usize, end: ObjectEnd) -> Result<(), StageError> {
        if self.open[at].partial.is_some()
            && let Some(defect) = find_defect(&self.open[at], &end)
        {
            self.mark_damaged(at, defect);
        }
        let open = self.open.swap_remove(at);
        let Some(partial) = open.partial else {
            return Ok(()); // skipped, or set aside just now
        };
        let object = open.description.object();
        let completed = if object.kind == ObjectKind::HardLink {
            self.create_link(&object)
        } else {
            self.sink.complete(partial, &open.description, end.size)
        };
        match completed {
            Ok(outcome) => {
                if end.state == ObjectState::Changed {
                    let what = match object.kind {
                        ObjectKind::File => {
                            "changed while it was archived, or lacks attributes that could not be \
                             archived"
                        }
                        _ => "lacks attributes that could not be archived",
                    };
                    self.report.record_problem(object.path, what);
                }
                self.report.record_object(object.kind, open.bytes);
                self.remember_link_target(open.number, &object, outcome)
            }
            Err(failure) => {
                if matches!(failure, Failure::Refused(_)) {
                    let outcome = ObjectOutcome::NotRestored;
                    self.remember_link_target(open.number, &object, outcome)?;
                }
                self.report_failure(object.path, failure)
            }
        }
    }

    /// Remembers an object that says that it has further names, which follow in the archive.
    fn remember_link_target(
        &mut self,
        number: u64,
        object: &ObjectMeta<'_>,
        outcome: ObjectOutcome,
    ) -> Result<(), StageError> {
        if !object.linked {
            return Ok(());
        }
        let path = object.path.to_vec();
        let target = LinkTarget { path, outcome };
        let fits = self.link_targets.add(number, &target);
        if !fits.map_err(link_target_error)? {
            self.report.record_problem(
                object.path,
                "too many objects have several names: further names of this one are not restored",
            );
        }
        Ok(())
    }

    fn create_link(&mut self, object: &ObjectMeta<'_>) -> Result<ObjectOutcome, Failure> {
        let target = self
            .link_targets
            .get(object.link)
            .map_err(|error| Failure::Stop(link_target_error(error)))?;
        let Some(target) = target else {
            return Err(Failure::Damaged(format!(
                "is a hard link to object {}, which is damaged or follows it",
                object.link
            )));
        };
        if target.outcome == ObjectOutcome::NotRestored {
            let shown = target.path[..target.path.len().min(200)].escape_ascii();
            return Err(Failure::Refused(format!(
                "is a hard link to \"{shown}\", which was not restored"
            )));
        }
        // A target that was renamed to this path exists under it already.
        if target.path != object.path {
            self.sink.link(object, &target)?;
        }
        Ok(target.outcome)
    }

    /// Reports an object that the catalogue names and that began in a lost block, or is not as the
    /// catalogue says.
    fn check_catalogue_entry(&mut self, number: u64, entry: &CatalogueEntry<'_>, kind: u8) {
        let comparison = self.comparison.as_mut();
        if let Some(what) = comparison.and_then(|check| check.check_entry(number, entry, kind)) {
            self.report.record_problem(entry.path, what);
        }
        if let Some(what) = self.lost.newly_lost(entry)
            && self.wants_file(entry.path)
        {
            self.report.record_damage(entry.path, what);
        }
        if kind == BlockKind::ClosingCatalogue.code() {
            self.lost.add_closing(entry);
        }
    }

    /// Handles blocks `first` to `last`, which did not come: those that are part of the scope are
    /// lost.
    fn handle_gap(&mut self, first: u64, last: u64) {
        let lost: Vec<_> = match &self.scope.blocks {
            None => vec![(first, last)],
            Some(blocks) => blocks.within(first, last).collect(),
        };
        for (first, last) in lost {
            let what = match last - first {
                0 => format!("block {first} is missing"),
                _ => format!("blocks {first} to {last} are missing"),
            };
            self.mark_lost(first, last, 0, what);
        }
        if self.scope.blocks.is_some() {
            // An object that is skipped and still open ends in a block that does not come.
            self.open.retain(|open| open.partial.is_some());
        }
    }

    /// Marks blocks `first` to `last` as lost, the first of them from byte `from` on. Part of every
    /// open object may have been in them. An object that has data has all its attributes, which
    /// precede the data, and its digest will decide about the data. An object without data may lack
    /// attributes, which no digest covers: it is damaged.
    fn mark_lost(&mut self, first: u64, last: u64, from: usize, what: String) {
        self.report_problem(what);
        self.lost.add(first, last, from);
        if let Some(comparison) = &mut self.comparison {
            comparison.lose(first, last);
        }
        for at in 0..self.open.len() {
            self.open[at].is_doubtful = true;
            if !self.open[at].has_data {
                self.mark_damaged(at, "part of it may be in a lost block");
            }
        }
    }

    /// Takes note of an object entry of which a part is missing: the catalogue names the object
    /// that begins at this place.
    fn lose_object_entry(&mut self, start: EntryStart) {
        let start = start_of(start);
        self.lost.add_cut(start);
        if let Some(comparison) = &mut self.comparison {
            comparison.lose(start.0, self.next.saturating_sub(1));
        }
    }

    /// Closes one open object to make room: one that is skipped, or one that may have ended in a
    /// lost block. Returns false if there is none.
    fn evict_one(&mut self) -> bool {
        let skipped = self.open.iter().position(|open| open.partial.is_none());
        let Some(at) = skipped.or_else(|| self.open.iter().position(|open| open.is_doubtful))
        else {
            return false;
        };
        self.mark_damaged(at, NO_END);
        let open = self.open.swap_remove(at);
        self.remember_unknown(open.number);
        true
    }

    /// Marks an open object as damaged: the sink sets it aside, and its remaining entries are
    /// skipped. An object that is skipped already is left alone.
    fn mark_damaged(&mut self, at: usize, why: &str) {
        let open = &mut self.open[at];
        if let Some(partial) = open.partial.take() {
            let object = open.description.object();
            let remains = self.sink.set_aside(partial, &object);
            self.report
                .record_damage(object.path, format!("{why}{remains}"));
        }
    }

    fn report_failure(&self, path: &[u8], failure: Failure) -> Result<(), StageError> {
        match failure {
            Failure::Refused(what) => self.report.record_problem(path, what),
            Failure::Damaged(what) => self.report.record_damage(path, what),
            Failure::Stop(error) => return Err(error),
        }
        Ok(())
    }

    /// Reports, once, an object whose object entry never came.
    fn report_unknown(&mut self, number: u64) {
        // If only some blocks come, the object is one that is not wanted and began in another.
        if self.scope.blocks.is_none() && !self.unknown.contains(&number) {
            self.remember_unknown(number);
            self.report_problem(format!(
                "entries of object {number} have come, but not its object entry"
            ));
        }
    }

    fn remember_unknown(&mut self, number: u64) {
        if self.unknown.len() >= MAX_OPEN_OBJECTS {
            self.unknown.pop_front();
        }
        self.unknown.push_back(number);
    }

    fn report_problem(&self, what: String) {
        self.report.record_problem(b"", what);
    }

    /// Sets all objects aside that are still open: their ends are missing.
    fn abandon_open_objects(&mut self) {
        for at in 0..self.open.len() {
            self.mark_damaged(at, NO_END);
        }
        self.open.clear();
    }

    /// Removes what was created of an open object that is not damaged in the archive.
    fn discard(&mut self, at: usize) {
        let open = &mut self.open[at];
        if let Some(partial) = open.partial.take() {
            self.sink.discard(partial, &open.description.object());
        }
    }

    /// Ends the restore: reports missing blocks, objects without an end, and selected paths that
    /// were not found, and finishes the sink.
    pub(super) fn finish(&mut self) -> Result<(), StageError> {
        if self.scope.blocks.is_some() {
            // If all blocks come, only the reader knows how many there should be.
            self.handle_gap(self.next, u64::MAX);
        }
        if let Some(start) = self.entries.take_cut() {
            self.lose_object_entry(start);
        }
        self.abandon_open_objects();
        if let Some(what) = self.comparison.as_ref().and_then(|check| check.finish()) {
            self.report_problem(what);
        }
        let unnamed = self.lost.unnamed();
        let lacks_names = unnamed.is_some();
        if let Some(what) = unnamed {
            self.report_problem(what);
        }
        for path in self.scope.selection.not_found() {
            self.report.record_problem(path, "not found in the archive");
        }
        self.sink.finish()?;
        if lacks_names && let Some(what) = self.sink.unnamed_owners() {
            self.report_problem(what);
        }
        Ok(())
    }
}

/// Sets open objects aside, so that a pipe that failed leaves nothing incomplete under its name. If
/// the job was interrupted, they are not damaged: the next run restores them, and would leave the
/// recovered parts beside them.
impl<S: Sink> Drop for ObjectAssembler<S> {
    fn drop(&mut self) {
        if self.stop.as_ref().is_some_and(Stop::is_cancelled) {
            (0..self.open.len()).for_each(|at| self.discard(at));
        }
        self.abandon_open_objects();
    }
}

/// Place of an entry in the archive as the catalogue has it: its block, and the byte in it.
fn start_of((block, offset): EntryStart) -> (u64, u32) {
    (block, u32::try_from(offset).unwrap_or(u32::MAX))
}

const NO_END: &str = "its end is missing";

/// Returns the defect of an object whose end entry has come, if it has one.
fn find_defect<P>(open: &ObjectInProgress<P>, end: &ObjectEnd) -> Option<&'static str> {
    let is_file = open.description.is(ObjectKind::File);
    match end.digest {
        _ if end.state == ObjectState::Unread => {
            Some("was not read to its end when it was archived")
        }
        _ if is_file && end.size < open.end => Some("has data beyond its recorded size"),
        Some(digest) if is_file && open.digest.finish(end.size) != digest => {
            Some("its digest is wrong")
        }
        None if open.is_doubtful => {
            Some("blocks were lost while it was open, and it has no digest")
        }
        _ => None,
    }
}

fn link_target_error(error: io::Error) -> StageError {
    StageError::with_source(
        "cannot keep the targets of hard links in a temporary file",
        error,
    )
}
