//! Visits all objects of an archived tree, in the catalogue or in the objects themselves.

use std::mem;

use crate::error::StageError;
use crate::limits::MAX_OPEN_OBJECTS;
use crate::pool::{Block, Marks};
use crate::stage::{DamageEntry, DamageLog, Tail, TailStage};
use crate::wire::{
    BlockEntries, BlockKind, CatalogueEntry, DamagedEntry, Entry, EntryBody, EntryCopy,
    FetchedEntry, ObjectKind, ObjectMeta, ObjectState, OwnerName,
};

use crate::words::count_of;

use super::closing_run::ClosingRun;
use super::cut_tree::{BegunBefore, CutPoint, CutTree};

/// Receiver of the objects of a scan.
pub(in crate::tree) trait VisitObject {
    /// Receives an object. `number` is 0 if no hard links to it can follow. An object precedes its
    /// hard links.
    fn visit(&mut self, number: u64, object: &CatalogueEntry<'_>) -> Result<(), StageError>;

    /// Receives the name of a user or a group.
    fn owner(&mut self, _: &OwnerName<'_>) {}

    /// Receives the end of the scan.
    fn finish(&mut self) {}
}

/// Tail that visits each object once.
///
/// It takes blocks that are decrypted and decompressed. If it gets blocks of data, it reads the
/// objects themselves, otherwise the closing catalogue.
pub(in crate::tree) struct ObjectScan<V> {
    visitor: V,
    /// Objects that have begun and not ended.
    begun: Vec<BegunObject>,
    /// Number of the last object that began.
    last: u64,
    /// Blocks of data were received, so the catalogue repeats objects already visited.
    has_data: bool,
    /// Number of objects visited in blocks of data.
    visited: u64,
    /// Count of the closing catalogue. With blocks of data only its start counts.
    closing: ClosingRun,
    /// With blocks of data: all that precedes the objects in the closing catalogue has come.
    has_names: bool,
    /// Copy of the entries of the block that is read.
    copy: EntryCopy,
    /// Log of entries that cannot be decoded; without one they end the pipe.
    log: Option<DamageLog>,
    /// Before this place the pieces of the catalogue are read, and not the objects.
    cut: Option<CutPoint>,
    /// Number of the last block that came.
    last_block: u64,
}

/// An object that has begun.
struct BegunObject {
    number: u64,
    /// First entry of the object, and its position.
    entry: Vec<u8>,
    block: u64,
    offset: u32,
}

impl<V: VisitObject> ObjectScan<V> {
    pub(in crate::tree) fn new(visitor: V) -> Self {
        Self {
            visitor,
            begun: Vec::new(),
            last: 0,
            has_data: false,
            visited: 0,
            closing: ClosingRun::default(),
            has_names: false,
            copy: EntryCopy::default(),
            log: None,
            cut: None,
            last_block: 0,
        }
    }

    /// Reads an archive without an end: the pieces of the catalogue before its last checkpoint, and
    /// the objects after that.
    pub(in crate::tree) fn of_cut(self, cut: &CutTree) -> Self {
        let point = cut.point();
        Self {
            cut: Some(point),
            last: point.objects,
            has_data: true,
            ..self
        }
    }

    /// Records data that cannot be decoded in `log`, if there is one, and continues after the
    /// block.
    pub(in crate::tree) fn with_log(self, log: Option<DamageLog>) -> Self {
        Self { log, ..self }
    }

    /// Takes what precedes the objects in a block of the closing catalogue: its start, and names of
    /// owners, which may have been in lost blocks.
    fn read_front(&mut self, block: &Block, number: u64) {
        let kind = BlockKind::ClosingCatalogue.code();
        for fetched in self.copy.fetch(block.shared(), number, kind).iter() {
            match fetched.map(|fetched| fetched.entry.body) {
                Ok(EntryBody::OwnerName(name)) => self.visitor.owner(&name),
                Ok(body @ EntryBody::CatalogueStart(_)) => self.closing.add(&body),
                Ok(EntryBody::Later(_)) => {}
                _ => {
                    self.has_names = true;
                    return;
                }
            }
        }
    }

    /// Takes the entries of a block.
    fn read_entries(
        &mut self,
        number: u64,
        is_data: bool,
        entries: &BlockEntries<'_>,
    ) -> Result<(), StageError> {
        for fetched in entries.iter() {
            let FetchedEntry {
                entry,
                bytes,
                start,
            } = match fetched {
                Ok(fetched) => fetched,
                Err(damaged) => return self.report(number, &damaged),
            };
            match entry.body {
                EntryBody::OwnerName(name) => self.visitor.owner(&name),
                _ if is_data => self.entry(&entry, bytes, (start.0, u32::try_from(start.1)?))?,
                EntryBody::Catalogue(object) => self.visitor.visit(entry.object, &object)?,
                _ => {}
            }
            if !is_data {
                self.closing.add(&entry.body);
            }
        }
        Ok(())
    }

    /// Takes a block before the last checkpoint of an archive without an end.
    fn read_before(&mut self, block: &Block, number: u64, cut: CutPoint) -> Result<(), StageError> {
        let kind = block.info().kind;
        let open = cut.open.filter(|&(_, (begins, _))| begins == number);
        let is_piece = kind == BlockKind::Catalogue.code();
        if !is_piece && (open.is_none() || kind != BlockKind::Data.code()) {
            self.copy.pass(number);
            return Ok(());
        }
        let mut copy = mem::take(&mut self.copy);
        let entries = copy.fetch(block.shared(), number, kind);
        let read = self.read_entries_before(number, open, &entries);
        self.copy = copy;
        read
    }

    /// Takes the entries of the catalogue, and the first one of the object that had not ended.
    fn read_entries_before(
        &mut self,
        number: u64,
        open: Option<BegunBefore>,
        entries: &BlockEntries<'_>,
    ) -> Result<(), StageError> {
        for fetched in entries.iter() {
            let FetchedEntry {
                entry,
                bytes,
                start,
            } = match fetched {
                Ok(fetched) => fetched,
                Err(damaged) => return self.report(number, &damaged),
            };
            match entry.body {
                EntryBody::Catalogue(object) => {
                    self.visited = self.visited.saturating_add(1);
                    self.visitor.visit(entry.object, &object)?;
                }
                EntryBody::OwnerName(name) => self.visitor.owner(&name),
                EntryBody::Object(_) if open.is_some_and(|open| open.0 == entry.object) => {
                    self.begun.push(BegunObject {
                        number: entry.object,
                        entry: bytes.to_vec(),
                        block: start.0,
                        offset: u32::try_from(start.1)?,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reports an entry that cannot be decoded, with which the rest of its block is lost.
    fn report(&self, number: u64, damaged: &DamagedEntry) -> Result<(), StageError> {
        let DamagedEntry { offset, error, .. } = damaged;
        match &self.log {
            Some(log) => {
                log.report(number, format!("byte {offset}: {error}"));
                Ok(())
            }
            None => Err(StageError::new(format!(
                "block {number}, byte {offset}: {error}"
            ))),
        }
    }

    /// Takes an entry of a block of data, at block and offset `at`.
    fn entry(&mut self, entry: &Entry<'_>, bytes: &[u8], at: (u64, u32)) -> Result<(), StageError> {
        match entry.body {
            EntryBody::Object(_) if entry.object <= self.last => {
                self.refuse_number(entry.object, at)?;
            }
            EntryBody::Object(_) => {
                self.last = entry.object;
                if self.begun.len() >= MAX_OPEN_OBJECTS {
                    self.end(0, ObjectState::Unread, 0, at.0)?;
                }
                let (block, offset) = at;
                self.begun.push(BegunObject {
                    number: entry.object,
                    entry: bytes.to_vec(),
                    block,
                    offset,
                });
            }
            EntryBody::End(end) => {
                if let Some(which) = self
                    .begun
                    .iter()
                    .position(|begun| begun.number == entry.object)
                {
                    self.end(which, end.state, end.size, at.0)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Refuses an object whose number is not above those of all objects before it. One that is open
    /// and has the same number is not whole: it may have entries of the other one.
    fn refuse_number(&mut self, number: u64, (block, byte): (u64, u32)) -> Result<(), StageError> {
        let what = format!(
            "byte {byte}: an object has the number {number}, which is not above that of an object \
             before it, {}",
            self.last
        );
        let Some(log) = &self.log else {
            return Err(StageError::new(format!("block {block}, {what}")));
        };
        log.report(block, what);
        match self.begun.iter().position(|begun| begun.number == number) {
            Some(which) => self.end(which, ObjectState::Unread, 0, block),
            None => Ok(()),
        }
    }

    /// Checks at the end that no object was left out. Objects that blocks of data lack may be due
    /// to damage, which the log has then; without any, these are not all blocks.
    fn check(&self) -> Result<(), String> {
        if !self.has_data {
            return self.closing.check();
        }
        let announced = self.closing.announced().unwrap_or(0);
        let is_explained = self.log.as_ref().is_some_and(|log| log.count() > 0);
        if self.visited >= announced || is_explained {
            return Ok(());
        }
        Err(format!(
            "the blocks have {}, but the start of the catalogue says {announced}",
            count_of(self.visited, "object")
        ))
    }

    /// Visits the object `begun[which]`, which has ended in block `last`.
    fn end(
        &mut self,
        which: usize,
        state: ObjectState,
        size: u64,
        last: u64,
    ) -> Result<(), StageError> {
        let BegunObject {
            number,
            entry,
            block,
            offset,
        } = self.begun.remove(which);
        let Ok((
            Entry {
                body: EntryBody::Object(object),
                ..
            },
            _,
        )) = Entry::parse(&entry)
        else {
            return Ok(());
        };
        self.visited = self.visited.saturating_add(1);
        let ObjectMeta {
            kind,
            mode,
            modified,
            link,
            linked,
            path,
            target,
            ..
        } = object;
        let has_links = linked && kind != ObjectKind::HardLink;
        let size = if kind == ObjectKind::File { size } else { 0 };
        let blocks = (block, last);
        let object = CatalogueEntry {
            kind,
            state,
            mode,
            size,
            link,
            modified,
            blocks,
            offset,
            // Only the catalogue has these.
            changed: modified,
            inode: 0,
            path,
            target,
        };
        self.visitor
            .visit(if has_links { number } else { 0 }, &object)
    }
}

impl<V: VisitObject + Send> Tail for ObjectScan<V> {
    fn name(&self) -> &str {
        "tree-list"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let info = block.info();
        let number = block.archive_number();
        let is_data = info.kind == BlockKind::Data.code() && !info.is_control();
        self.has_data |= is_data;
        self.last_block = number;
        let is_closing = info.kind == BlockKind::ClosingCatalogue.code();
        if info.marks.intersects(Marks::DAMAGED | Marks::REJECTED) {
            return Ok(());
        }
        if let Some(cut) = self.cut.filter(|cut| number < cut.checkpoint) {
            return self.read_before(block, number, cut);
        }
        if !is_data && (self.has_data || !is_closing) {
            match is_closing && !self.has_names {
                true => self.read_front(block, number),
                false => self.copy.pass(number),
            }
            return Ok(());
        }
        let mut copy = mem::take(&mut self.copy);
        let entries = copy.fetch(block.shared(), number, info.kind);
        let read = self.read_entries(number, is_data, &entries);
        self.copy = copy;
        read
    }

    /// They have numbers, and a gap between the pieces of an entry is a loss.
    fn takes_control_blocks(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), StageError> {
        while let Some(begun) = self.begun.first() {
            // Its data go on to the end, as far as they are there.
            let block = match self.cut {
                Some(_) => self.last_block.max(begun.block),
                None => begun.block,
            };
            self.end(0, ObjectState::Unread, 0, block)?;
        }
        self.visitor.finish();
        let Err(why) = self.check() else {
            return Ok(());
        };
        match &self.log {
            Some(log) => {
                log.add(DamageEntry {
                    block: None,
                    position: None,
                    what: why,
                });
                Ok(())
            }
            None => Err(StageError::new(why)),
        }
    }

    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        stage.local("its function belongs to this program: run it on a thread")
    }
}
