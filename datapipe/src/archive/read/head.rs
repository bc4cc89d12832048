//! The head of a pipe that reads the blocks of an archive, in order, and reports what is damaged.

use std::fmt;

use crate::error::StageError;
use crate::limits::FIRST_BLOCK;
use crate::media::{HandleError, MediumError, MediumReader, Position};
use crate::pool::{Block, Codec, Marks};
use crate::stage::{Fill, Head, HeadStage, MiddleStage};
use crate::wire::{self, ArchiveFooter, LostBlocks, UnitHeader, UnitKind};
use crate::words::count_of;

use super::super::arguments::{self, HeadSettings};
use super::super::block_header::block_info;
use super::super::place::Place;
use super::super::report::{AfterEnd, DamageReporter, ReadReport, RejectedBlock, StreamDamage};
use super::super::run::Run;
use super::ending::Ending;
use super::footer::parse_footer;
use super::front::Front;
use super::numbering::Numbering;
use super::order::{OnSpecial, Specials, order_stage};
use super::run_cursor::RunCursor;
use super::shared_medium::{Claim, SharedMedium};
use super::unit_event::UnitEvent;
use super::unit_reader::UnitReader;

/// The head of a pipe that reads an archive. [`ArchiveReader::head`](super::ArchiveReader::head)
/// makes it. Its blocks are as they were stored: decrypt them, then decompress them.
pub struct ArchiveHead<M> {
    medium: SharedMedium<M>,
    /// The claim to the medium, from the first block to the end.
    claim: Option<Claim>,
    units: UnitReader<SharedMedium<M>>,
    place: Place,
    /// Largest size of the archive's blocks before compression, in bytes.
    block_len: u32,
    /// The archive is of a tree: its blocks hold entries.
    is_tree: bool,
    /// The archive's blocks are encrypted. The head does not have the key.
    is_encrypted: bool,
    reporter: DamageReporter,
    on_special: Option<OnSpecial>,
    /// The blocks stay as they are stored.
    is_stored: bool,
    /// The special headers at the start of the archive, if only other blocks are read.
    front: Option<Front>,
    report: ReadReport,
    runs: RunCursor,
    numbering: Numbering,
    trailer: Trailer,
    ending: Ending,
    has_ended: bool,
}

/// The parts of the end of a session that were found.
#[derive(Default)]
struct Trailer {
    /// Number of the block that says it is the last one. It is not authenticated yet.
    last_block: Option<u64>,
    /// A valid archive footer, right after the last block.
    archive_footer: bool,
    /// The last archive footer that came without the last block, and its place. Nothing proves a
    /// footer, so it is judged only where the archive ends.
    early_footer: Option<(ArchiveFooter, Option<Position>)>,
    session_footer: bool,
    /// The end of the last run has come, which is that of the archive.
    has_come: bool,
    /// Number of marks after the session footer: two of them end the session.
    marks: u32,
    /// The reading ended with those two marks.
    has_marked_end: bool,
    /// The session has another archive.
    later_archive: bool,
}

impl<M: MediumReader> ArchiveHead<M> {
    pub(in crate::archive) fn new(
        medium: SharedMedium<M>,
        units: UnitReader<SharedMedium<M>>,
        block_len: u32,
        reporter: DamageReporter,
    ) -> Self {
        Self {
            medium,
            claim: None,
            units,
            place: Place::ONLY,
            block_len,
            is_tree: false,
            is_encrypted: false,
            reporter,
            on_special: None,
            is_stored: false,
            front: None,
            report: ReadReport::default(),
            runs: RunCursor::all(),
            numbering: Numbering::new(block_len),
            trailer: Trailer::default(),
            ending: Ending::new(Place::ONLY.archive, false),
            has_ended: false,
        }
    }

    /// Declares where the archive is.
    pub(in crate::archive) fn at(self, place: Place) -> Self {
        Self {
            units: self.units.within(place),
            ending: Ending::new(place.archive, false),
            place,
            ..self
        }
    }

    /// Declares that the archive is of a tree.
    pub(in crate::archive) fn of_tree(self, is_tree: bool) -> Self {
        Self { is_tree, ..self }
    }

    /// Declares that the archive's blocks are encrypted.
    pub(in crate::archive) fn encrypted(self, is_encrypted: bool) -> Self {
        Self {
            is_encrypted,
            ..self
        }
    }

    /// Declares that the blocks are to stay as they are stored, perhaps encrypted.
    pub(in crate::archive) fn stored(self) -> Self {
        Self {
            is_stored: true,
            ..self
        }
    }

    /// Shows special headers to a function of the caller.
    pub(in crate::archive) fn on_special(self, on_special: Option<OnSpecial>) -> Self {
        Self { on_special, ..self }
    }

    /// Lets the check judge the special headers at the start of the archive, without reading them
    /// again.
    pub(super) fn after_front(self, front: Front) -> Self {
        Self {
            front: Some(front),
            ..self
        }
    }

    /// Limits reading to these runs, which ascend.
    pub(in crate::archive) fn only(self, runs: Vec<Run>) -> Self {
        Self {
            runs: RunCursor::only(runs),
            ending: Ending::new(self.place.archive, true),
            ..self
        }
    }

    /// Lets the last of the runs go on to the end of the archive, which is not known.
    pub(in crate::archive) fn until_end(self) -> Self {
        Self {
            runs: self.runs.until_end(),
            ..self
        }
    }

    /// Returns the report of the reading. It is final when the pipe has ended, and complete only if
    /// the pipe has this head's [`check`](Self::check).
    pub fn report(&self) -> ReadReport {
        self.report.clone()
    }

    /// Returns the stage that checks the blocks of this head, right after
    /// [`ArchiveReader::open_blocks`](super::ArchiveReader::open_blocks): that each one comes once
    /// and in order, up to the last one. It decides the outcome of the reading, also if the head
    /// runs in a process that is not trusted. It runs on a thread of this program.
    ///
    /// A pipe that has this head and no check counts a problem, even if it ends well:
    /// [`Report::is_complete`](crate::Report::is_complete) is false.
    pub fn check<'a>(&self) -> MiddleStage<'a> {
        let runs = self.runs.remaining().map(|runs| {
            let numbers = runs.iter().map(|run| (run.first, run.last));
            numbers.collect()
        });
        order_stage(
            (runs, self.runs.is_to_end()),
            self.block_len,
            self.is_tree,
            &self.reporter,
            &self.report,
            Specials {
                front: self.front.clone(),
                on_special: self.on_special.clone(),
                is_stored: self.is_stored,
            },
        )
    }

    /// Moves to where reading begins, or to the next run if the current one has been read. Returns
    /// false if there is no other run.
    fn seek(&mut self) -> Result<bool, StageError> {
        if !self.runs.is_partial() {
            if self.runs.set_positioned() {
                match self.place.start {
                    None => self.medium.rewind()?,
                    Some(start) => {
                        self.medium.seek(start)?;
                        self.units.moved(start.volume);
                    }
                }
            }
            return Ok(true);
        }
        while self.runs.is_done(self.numbering.next()) {
            let Some(run) = self.runs.advance() else {
                return Ok(false);
            };
            if !self.runs.can_read_on(&run, self.numbering.next()) {
                self.seek_run(&run)?;
            }
        }
        Ok(true)
    }

    /// Moves to the start of a run. If its position cannot be reached, the run is given up and its
    /// blocks are reported missing.
    fn seek_run(&mut self, run: &Run) -> Result<(), StageError> {
        match self.medium.seek(run.start.record) {
            Ok(()) => {
                self.runs.set_positioned();
                self.units.moved(run.start.record.volume);
                self.ending.moved();
                self.numbering.restart(&run.start);
                Ok(())
            }
            Err(error @ (MediumError::Io { .. } | MediumError::NoMemory { .. })) => {
                Err(error.into())
            }
            Err(error) => {
                let more = run.last - run.first;
                self.count_missing(more);
                self.count_missing(1);
                self.runs.drop_current();
                let what = format!("cannot be reached, and {more} more: {error}");
                self.report_damage(Some(run.first), Some(run.start.record), what)
            }
        }
    }

    /// Ends the current run here, and reports the rest of its blocks missing.
    fn cut_run(&mut self, at: Option<Position>) -> Result<(), StageError> {
        if self.runs.reads_to_end() {
            self.runs.abandon();
            self.trailer.has_come = true;
        } else if let Some(run) = self.runs.current() {
            self.advance_past(run.last.saturating_add(1), at)?;
            self.runs.abandon();
        }
        Ok(())
    }

    /// Puts the next block that is wanted into `block`, or returns the end.
    fn read_block(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        while self.seek()? {
            let event = self.units.next()?;
            let (read, volumes) = self.units.totals();
            let later = self.units.later_records();
            self.report.update(|outcome| {
                (outcome.read, outcome.volumes, outcome.later_records) = (read, volumes, later);
            });
            match event {
                UnitEvent::Unit(header, at) if self.is_over(&header) => {
                    match self.runs.is_partial() {
                        true => self.cut_run(at)?,
                        false => break,
                    }
                }
                // Other archives of the session are not read.
                UnitEvent::Unit(header, _)
                    if header.archive > 0 && header.archive != self.place.archive => {}
                UnitEvent::Unit(header, at) => match header.kind {
                    UnitKind::Block if self.take_block(&header, at, block)? => {
                        return Ok(Fill::Block);
                    }
                    // A footer proves nothing, and must not cost the blocks after it.
                    UnitKind::ArchiveFooter if !self.runs.reads_to_end() => {}
                    UnitKind::ArchiveFooter => {
                        self.take_footer(&header, at)?;
                        let is_over = self.place.is_selected || self.runs.is_partial();
                        if is_over && self.trailer.archive_footer {
                            self.trailer.has_come = true;
                            break;
                        }
                    }
                    UnitKind::SessionFooter => self.take_session_footer(),
                    UnitKind::LostBlocks => {
                        // One that does not parse only costs the belief in the next number.
                        if let Ok(lost) = LostBlocks::parse(self.units.body()) {
                            self.numbering.announce_lost(header.number, lost.count);
                        }
                    }
                    _ => {}
                },
                UnitEvent::Label(..) => {}
                UnitEvent::Damage(damage) => self.take_damage(damage)?,
                UnitEvent::Mark => {
                    let next = self.numbering.next();
                    self.report.update(|outcome| outcome.checkpoint = next);
                    self.trailer.marks += u32::from(self.trailer.session_footer);
                    if self.trailer.archive_footer && self.trailer.marks == 2 {
                        // What follows does not belong to the session.
                        self.trailer.has_marked_end = true;
                        break;
                    }
                }
                UnitEvent::End if self.runs.is_partial() => self.cut_run(None)?,
                UnitEvent::End => break,
            }
        }
        if let Some((footer, at)) = self.trailer.early_footer.take() {
            self.check_footer(&footer, at)?;
        }
        self.check_trailer()?;
        self.check_after_end();
        Ok(Fill::End)
    }

    /// True if the archive has ended before a unit. All of the medium is read if the archive is to
    /// be its only one.
    fn is_over(&mut self, header: &UnitHeader) -> bool {
        let is_over = self.ending.has_come(header);
        let is_alone = !self.place.is_selected && !self.runs.is_partial();
        self.trailer.later_archive |= is_alone && header.archive > self.place.archive;
        is_over && !is_alone
    }

    fn take_session_footer(&mut self) {
        self.trailer.session_footer = true;
        // A footer that does not parse is not needed here.
        let footer = wire::SessionFooter::parse(self.units.body());
        let archives = footer.map_or(0, |footer| footer.archives.len());
        self.trailer.later_archive |= archives > 1;
    }

    /// Looks for another archive, in the session or after it: an outcome must not be complete if
    /// only one of two was read.
    fn check_after_end(&mut self) {
        if self.runs.is_partial() || self.place.is_selected {
            return;
        }
        let has_ended = self.trailer.has_marked_end;
        let found = if self.trailer.later_archive {
            AfterEnd::Archive
        } else if has_ended {
            self.units.look_after_end()
        } else {
            AfterEnd::Nothing
        };
        if found == AfterEnd::Archive {
            self.reporter.note_unread_archive();
        }
        // Without the end of the session the whole medium was read. Records of another session were
        // reported as foreign.
        let is_foreign = !has_ended && self.units.other_session().is_some();
        let after_end = if is_foreign { AfterEnd::Archive } else { found };
        self.report.update(|outcome| outcome.after_end = after_end);
    }

    /// Puts a unit's body into `block`. Returns false if the block is not wanted or not valid; the
    /// second is reported.
    fn take_block(
        &mut self,
        header: &UnitHeader,
        at: Option<Position>,
        block: &mut Block,
    ) -> Result<bool, StageError> {
        if let Some(defect) = self.defect_of(header) {
            self.report_damage(Some(header.number), at, defect)?;
            return Ok(false);
        }
        if !self.accept_number(header, at)? || !self.runs.is_wanted(header.number) {
            return Ok(false);
        }
        let body = self.units.body();
        // A compressed block must fit once it is decompressed, too: the stage that does that would
        // take it for damaged.
        let fits = header.codec == Codec::NONE || header.plain as usize <= block.capacity();
        match block.grow(body.len()) {
            Ok(room) if fits => room.copy_from_slice(body),
            _ => {
                return Err(StageError::new(format!(
                    "the archive has blocks of {} bytes, but the pipe's buffers hold {}: use \
                     larger ones",
                    self.block_len,
                    block.capacity()
                )));
            }
        }
        // The reader of the units has just compared it. The tail of a copy takes it from here.
        block.set_checksum(header.body_crc);
        block.set_info(block_info(header, self.is_tree));
        self.reporter.note_position(header.number, at);
        self.count_block(header, at);
        Ok(true)
    }

    /// Counts a block that was read. The origin and the last block do not count.
    fn count_block(&mut self, header: &UnitHeader, at: Option<Position>) {
        if header.marks.contains(Marks::LAST) {
            self.trailer.last_block = Some(header.number);
            return;
        }
        if header.number < FIRST_BLOCK {
            return;
        }
        let is_rejected = header.marks.contains(Marks::REJECTED);
        let has_data = header.block_kind.counts_in_offsets() && !is_rejected;
        let plain = if has_data { header.plain } else { 0 };
        self.report.update(|outcome| {
            outcome.blocks += 1;
            outcome.plain = outcome.plain.saturating_add(plain.into());
        });
        if is_rejected {
            self.count_rejected(header, at);
        }
    }

    /// Counts a block that an inspection rejected, and reports it.
    fn count_rejected(&self, header: &UnitHeader, at: Option<Position>) {
        let rejected = RejectedBlock {
            block: header.number,
            offset: header.offset,
            position: at,
        };
        self.report.update(|outcome| {
            outcome.rejected += 1;
            outcome.first_rejected.get_or_insert(rejected);
        });
        self.reporter.note_rejected(&rejected);
    }

    /// Returns the reason why a block cannot be one of this archive, if there is one.
    fn defect_of(&self, header: &UnitHeader) -> Option<String> {
        let is_encrypted = header.cipher != wire::CipherKind::None;
        match (is_encrypted, self.is_encrypted) {
            (false, true) => Some("is not encrypted, although the archive is".to_owned()),
            (true, false) => Some("is encrypted, although the archive is not".to_owned()),
            _ if header.plain > self.block_len => Some(format!(
                "has {} bytes, more than the archive's blocks, which have {}",
                header.plain, self.block_len
            )),
            _ => None,
        }
    }

    /// Makes a block the last one that was read, and reports the blocks that are missing before it.
    /// Returns false if the block is not the next one or a later one, or ends the current run.
    ///
    /// The block is not authenticated yet, so its header may be damaged or forged. It is checked in
    /// this order:
    ///
    /// 1. After the archive footer there are no blocks.
    /// 2. A smaller number than the next one is a repetition. It is expected where a run begins:
    ///    other blocks may begin in the same record before the first that is wanted. Anywhere else,
    ///    while runs are read, the run's start was wrong. The run is then given up, because reading
    ///    on to its blocks could mean reading most of the archive, for each run.
    /// 3. A larger number is believed only as far as the missing blocks can have been there.
    /// 4. A number past the end of the run ends it; the block itself is not wanted.
    /// 5. The block's offset must follow from the one before.
    fn accept_number(
        &mut self,
        header: &UnitHeader,
        at: Option<Position>,
    ) -> Result<bool, StageError> {
        let (number, next) = (header.number, self.numbering.next());
        if self.trailer.archive_footer {
            let what = "comes after the archive's footer, which does not count it";
            self.report_damage(Some(number), at, what.to_owned())?;
            return Ok(false);
        }
        if number < next {
            let start = self.runs.current().map(|run| run.start.record);
            if self.runs.reads_to_end() && (start.is_none() || at != start) {
                let what = "appears again, or out of order";
                self.report_damage(Some(number), at, what.to_owned())?;
            } else if at != start {
                self.cut_run(at)?;
            }
            return Ok(false);
        }
        if !self.numbering.can_reach(header) {
            let what = format!("cannot be here, where block {next} is next");
            self.report_damage(Some(number), at, what)?;
            return Ok(false);
        }
        if self.runs.current().is_some_and(|run| number > run.last) {
            self.cut_run(at)?;
            return Ok(false);
        }
        self.drop_early_footer(&format!("block {number}"))?;
        self.advance_past(number, at)?;
        if let Err(why) = self.numbering.check_offset(header) {
            self.count_missing(1);
            self.report_damage(Some(number), at, why)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Makes the block after `number` the next one, and reports the blocks that are missing before
    /// `number`.
    fn advance_past(&mut self, number: u64, at: Option<Position>) -> Result<(), StageError> {
        let Some((first, last)) = self.numbering.advance_past(number) else {
            return Ok(());
        };
        let Some((first, last)) = self.runs.wanted(first, last) else {
            return Ok(());
        };
        self.count_missing(last - first + 1);
        let what = if first == last {
            "missing".to_owned()
        } else {
            format!("missing, and all up to block {last}")
        };
        self.report_damage(Some(first), at, what)
    }

    /// Counts `blocks` wanted blocks as missing.
    fn count_missing(&self, blocks: u64) {
        self.report
            .update(|outcome| outcome.missing = outcome.missing.saturating_add(blocks));
    }

    /// Reports damage, unless only other blocks than the damaged one are wanted. If the next block
    /// is damaged it is counted once, here, and not reported as missing later.
    fn take_damage(&mut self, damage: StreamDamage) -> Result<(), StageError> {
        let is_wanted = damage
            .block
            .is_some_and(|number| self.runs.is_wanted(number));
        if damage.block == Some(self.numbering.next()) {
            self.numbering.lose_next();
            self.count_missing(is_wanted.into());
        }
        // While runs are read, blocks that are missing in them are reported anyway.
        if is_wanted || self.runs.reads_to_end() {
            self.reporter.report(damage)
        } else {
            Ok(())
        }
    }

    /// Takes the archive footer. It ends the archive only right after the last block; any other may
    /// be forged, and waits for the end.
    fn take_footer(&mut self, header: &UnitHeader, at: Option<Position>) -> Result<(), StageError> {
        let footer = match parse_footer(header, self.units.body()) {
            Ok(footer) => footer,
            Err(why) => return self.report_damage(None, at, format!("the archive footer {why}")),
        };
        let next = self.numbering.next();
        let last = self.trailer.last_block;
        let is_after_last = last.is_some_and(|last| last.checked_add(1) == Some(next));
        self.drop_early_footer("another one")?;
        if is_after_last && footer.blocks == next {
            return self.check_footer(&footer, at);
        }
        self.trailer.early_footer = Some((footer, at));
        Ok(())
    }

    /// Reports an archive footer that waits for the end, since `what` comes after it.
    fn drop_early_footer(&mut self, what: &str) -> Result<(), StageError> {
        let Some((_, at)) = self.trailer.early_footer.take() else {
            return Ok(());
        };
        let what = format!(
            "an archive footer is not at the archive's end: {what} comes after it, so it is forged \
             or out of place, and is passed over"
        );
        self.report_damage(None, at, what)
    }

    /// Checks the archive footer against the blocks that were read.
    fn check_footer(
        &mut self,
        footer: &ArchiveFooter,
        at: Option<Position>,
    ) -> Result<(), StageError> {
        let next = self.numbering.next();
        let Some(missing) = footer.blocks.checked_sub(next) else {
            let what = format!(
                "the archive footer says {}, but there are more",
                count_of(footer.blocks, "block")
            );
            return self.report_damage(None, at, what);
        };
        if let Some(more) = missing.checked_sub(1) {
            self.count_missing(missing);
            // The last blocks of a tree are those of its catalogue.
            let names = match self.is_tree {
                true => ": a part of the catalogue, without which not all lost objects are named",
                false => "",
            };
            let what = format!("missing at the end, with {more} more{names}");
            self.report_damage(Some(next), at, what)?;
            self.numbering.finish(footer.blocks);
        }
        let read = self.report.snapshot();
        let found = (self.numbering.plain(), read.rejected);
        let is_known = read.missing == 0 && !self.runs.is_partial();
        if is_known && found != (footer.plain, footer.rejected) {
            let what = format!(
                "the archive footer says {} and {}, but the blocks have {}, {} rejected",
                count_of(footer.plain, "byte"),
                count_of(footer.rejected, "rejected block"),
                count_of(found.0, "byte"),
                read.rejected
            );
            self.report_damage(None, at, what)?;
        }
        self.trailer.archive_footer = true;
        Ok(())
    }

    /// Reports footers that were not found, once the whole medium has been read.
    fn check_trailer(&self) -> Result<(), StageError> {
        if self.runs.is_partial() && !self.trailer.has_come {
            return Ok(());
        }
        let next = self.numbering.next();
        let has_last = self
            .trailer
            .last_block
            .is_some_and(|last| last.checked_add(1) == Some(next));
        if has_last && !self.trailer.archive_footer {
            let what = "the archive's footer is missing or cannot be read: the archive ends with \
                        its last block all the same";
            self.report_damage(None, None, what.to_owned())
        } else if !has_last && self.trailer.archive_footer {
            if self.report.snapshot().missing > 0 {
                return Ok(());
            }
            let what = "the archive's footer is there, but no block before it is the last one: \
                        blocks were cut off";
            self.report_damage(None, None, what.to_owned())
        } else if !has_last {
            let blocks = match self.report.snapshot().blocks {
                1 => "1 block was".to_owned(),
                blocks => format!("{blocks} blocks were"),
            };
            let unknown = match (self.is_tree, self.numbering.next()) {
                (false, _) => String::new(),
                (true, 0) => ", and the names of its objects are not known".to_owned(),
                (true, next) => {
                    format!(
                        ", and the names of objects after block {} are not known",
                        next - 1
                    )
                }
            };
            let what = format!(
                "the archive is incomplete: its writer did not come to its end, or the end cannot \
                 be read; {blocks} read before that{unknown}"
            );
            self.report_damage(None, None, what)
        } else if !self.trailer.session_footer && !self.place.is_selected && !self.runs.is_partial()
        {
            let what = "the session's footer is missing: data that followed the archive may be \
                        missing too";
            self.report_damage(None, None, what.to_owned())
        } else {
            Ok(())
        }
    }

    fn report_damage(
        &self,
        block: Option<u64>,
        at: Option<Position>,
        what: String,
    ) -> Result<(), StageError> {
        self.reporter.report(StreamDamage { block, at, what })
    }
}

impl<M: MediumReader> Head for ArchiveHead<M> {
    fn name(&self) -> &str {
        "archive-head"
    }

    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.has_ended {
            return Ok(Fill::End);
        }
        if self.claim.is_none() {
            self.claim = Some(self.medium.claim()?);
        }
        let fill = self.read_block(block)?;
        if fill == Fill::End {
            (self.has_ended, self.claim) = (true, None);
        }
        Ok(fill)
    }

    fn describe<'a>(&self, stage: HeadStage<'a>) -> HeadStage<'a> {
        let stage = stage.notices(self.report.notices()).reads_archive();
        let Some(session) = self.units.session() else {
            return stage;
        };
        let medium = match self.medium.handle() {
            Ok(medium) => medium,
            Err(why @ HandleError::Io { .. }) => return stage.local_at_limit(why.to_string()),
            Err(why) => return stage.local(why.to_string()),
        };
        let settings = HeadSettings {
            session,
            place: self.place,
            block_len: self.block_len,
            is_tree: self.is_tree,
            is_encrypted: self.is_encrypted,
            runs: self.runs.remaining(),
            is_to_end: self.runs.is_to_end(),
            reporter: &self.reporter,
            report: &self.report,
        };
        arguments::describe_head(stage, &settings, medium)
    }
}

impl<M> fmt::Debug for ArchiveHead<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveHead")
            .field("next", &self.numbering.next())
            .finish_non_exhaustive()
    }
}
