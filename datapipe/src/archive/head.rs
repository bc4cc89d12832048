//! Reads the blocks of an archive, in their order, and says what is not as it should be.

use std::collections::VecDeque;
use std::fmt;

use crate::crypto::{Cipher, NonceKind, nonce};
use crate::error::StageError;
use crate::media::{Medium, MediumError, Position};
use crate::pool::{Block, Codec, Marks};
use crate::stage::{Fill, Head, HeadStage};
use crate::wire::{self, ArchiveFooter, UNIT_HEADER_LEN, UnitHeader, UnitKind};

use super::block::{TAG_LEN, info_of};
use super::course::Course;
use super::index::Run;
use super::modules::{self, Reads};
use super::report::{ReadReport, Reporter};
use super::seal::ArchiveKey;
use super::shared::Shared;
use super::units::{Damage, Event, Units};

/// The head of a pipe that reads an archive, which
/// [`ArchiveReader::head`](super::ArchiveReader::head) gives. Its blocks are as they were stored:
/// decrypt them, then decompress them.
pub struct ArchiveHead<M> {
    medium: Shared<M>,
    units: Units<Shared<M>>,
    block_len: u32,
    key: Option<ArchiveKey>,
    reporter: Reporter,
    report: ReadReport,
    course: Course,
    /// What is to be read, if that is not everything: the run that is being read, and those behind
    /// it.
    part: Option<(Option<Run>, VecDeque<Run>)>,
    /// Number of the next block.
    next: u64,
    /// Where in the stream the block before it ends.
    behind: u64,
    complete: bool,
    /// The session's footer was seen, and so many marks behind it.
    closed: bool,
    marks: u32,
    /// The medium was sought to where reading begins.
    begun: bool,
    ended: bool,
}

impl<M: Medium> ArchiveHead<M> {
    pub(super) fn new(
        medium: Shared<M>,
        units: Units<Shared<M>>,
        block_len: u32,
        key: Option<ArchiveKey>,
        reporter: Reporter,
    ) -> Self {
        Self {
            medium,
            units,
            block_len,
            key,
            reporter,
            report: ReadReport::default(),
            course: Course::new(block_len),
            part: None,
            next: 0,
            behind: 0,
            complete: false,
            closed: false,
            marks: 0,
            begun: false,
            ended: false,
        }
    }

    /// Reads these runs, which ascend, and nothing else.
    pub(super) fn only(self, runs: Vec<Run>) -> Self {
        Self {
            part: Some((None, runs.into())),
            ..self
        }
    }

    /// What becomes of the reading: final when the pipe has ended.
    pub fn report(&self) -> ReadReport {
        self.report.clone()
    }

    /// Goes to where reading begins, or to the next run if the last one has been read. False: there
    /// is none.
    fn seek(&mut self) -> Result<bool, StageError> {
        let Some((run, runs)) = &mut self.part else {
            if !std::mem::replace(&mut self.begun, true) {
                self.medium.rewind()?;
            }
            return Ok(true);
        };
        while run.is_none_or(|run| self.next > run.last) {
            let Some(to) = runs.pop_front() else {
                return Ok(false);
            };
            *run = Some(to);
            // What lies between is not worth a seek if nobody knows a place behind it.
            if self.begun && (to.start.block..=to.first).contains(&self.next) {
                continue;
            }
            match self.medium.seek(to.start.place) {
                Ok(()) => {
                    self.begun = true;
                    self.units.moved(to.start.place.volume);
                    (self.next, self.behind) = (to.start.block, to.start.position);
                    self.course = Course::new(self.block_len);
                    self.course.lose(to.start.block);
                }
                Err(error @ MediumError::Io { .. }) => return Err(error.into()),
                Err(error) => {
                    let blocks = to.last - to.first;
                    self.report.update(|outcome| {
                        outcome.missing = outcome.missing.saturating_add(blocks).saturating_add(1);
                    });
                    let what = format!("cannot be reached, and {blocks} more: {error}");
                    self.reporter.say(Damage {
                        block: Some(to.first),
                        place: Some(to.start.place),
                        what,
                    })?;
                    *run = None;
                }
            }
        }
        Ok(true)
    }

    /// Those of the blocks `first` to `last` that somebody wants.
    fn wanted(&self, first: u64, last: u64) -> Option<(u64, u64)> {
        let (first, last) = match &self.part {
            None => (first, last),
            Some((Some(run), _)) => (first.max(run.first), last.min(run.last)),
            Some((None, _)) => return None,
        };
        (first <= last).then_some((first, last))
    }

    /// The run that is being read goes no further.
    fn cut_run(&mut self, place: Option<Position>) -> Result<(), StageError> {
        if let Some((Some(run), _)) = self.part {
            self.skip_to(run.last.saturating_add(1), place)?;
            // The next run is nowhere behind this.
            (self.next, self.begun) = (u64::MAX, false);
            self.part = self.part.take().map(|(_, runs)| (None, runs));
        }
        Ok(())
    }

    /// Whether this is the next block, or a later one; says what is missing before it.
    fn is_next(
        &mut self,
        header: &UnitHeader,
        place: Option<Position>,
    ) -> Result<bool, StageError> {
        let number = header.number;
        if self.complete {
            self.say(
                Some(number),
                place,
                "stands behind the archive's footer, which knows of no more".to_owned(),
            )?;
            return Ok(false);
        }
        if number < self.next {
            if let Some((run, _)) = &self.part {
                // It begins in the same record as the first that is wanted. Or else that is not
                // where it was said to be, and nobody reads all that lies between, perhaps for each
                // run.
                let begins = run.map(|run| run.start.place);
                return if place == begins {
                    Ok(false)
                } else {
                    self.cut_run(place).map(|()| false)
                };
            }
            self.say(
                Some(number),
                place,
                "stands here again, or out of order".to_owned(),
            )?;
            return Ok(false);
        }
        // Each block that is missing had a header at least. A number that nobody has proven yet
        // must not cost more.
        if number - self.next > header.position.saturating_sub(self.behind) / UNIT_HEADER_LEN as u64
        {
            let what = format!("cannot stand here, where block {} is next", self.next);
            self.say(Some(number), place, what)?;
            return Ok(false);
        }
        if let Some((Some(run), _)) = &self.part
            && number > run.last
        {
            self.cut_run(place)?;
            return Ok(false);
        }
        self.skip_to(number, place)?;
        if let Err(why) = self.course.follow(header) {
            self.course.lose(1);
            self.miss(1);
            self.say(Some(number), place, why)?;
            return Ok(false);
        }
        self.behind = header.position.saturating_add(header.unit_len() as u64);
        Ok(true)
    }

    /// Goes on behind block `number`, and says what is missing before it.
    fn skip_to(&mut self, number: u64, place: Option<Position>) -> Result<(), StageError> {
        if number > self.next {
            self.course.lose(number - self.next);
            if let Some((first, last)) = self.wanted(self.next, number - 1) {
                self.miss(last - first + 1);
                let what = if first == last {
                    "missing".to_owned()
                } else {
                    format!("missing, and all up to block {last}")
                };
                self.say(Some(first), place, what)?;
            }
        }
        self.next = number.saturating_add(1);
        Ok(())
    }

    /// So many blocks that are wanted are missing.
    fn miss(&self, blocks: u64) {
        self.report
            .update(|outcome| outcome.missing = outcome.missing.saturating_add(blocks));
    }

    /// Says what is damaged, if it matters. If that is the next block, it is not missing besides.
    fn pass_over(&mut self, damage: Damage) -> Result<(), StageError> {
        let wanted = damage
            .block
            .is_some_and(|number| self.wanted(number, number).is_some());
        if damage.block == Some(self.next) {
            self.next = self.next.saturating_add(1);
            self.course.lose(1);
            self.miss(wanted.into());
        }
        // Who reads a part is told of what is missing in it.
        if wanted || self.part.is_none() {
            self.reporter.say(damage)
        } else {
            Ok(())
        }
    }

    /// Puts a unit's body into `block`, if it is one that belongs there.
    fn take(
        &mut self,
        header: &UnitHeader,
        place: Option<Position>,
        block: &mut Block,
    ) -> Result<bool, StageError> {
        let encrypted = self.key.is_some();
        if (header.cipher != wire::CipherKind::None) != encrypted {
            let what = if encrypted {
                "is not encrypted, although the archive is"
            } else {
                "is encrypted, although the archive is not"
            };
            self.say(Some(header.number), place, what.to_owned())?;
            return Ok(false);
        }
        if header.plain > self.block_len {
            let (is, may) = (header.plain, self.block_len);
            let what = format!("has {is} bytes, more than the archive's blocks, which have {may}");
            self.say(Some(header.number), place, what)?;
            return Ok(false);
        }
        if !self.is_next(header, place)? || self.wanted(header.number, header.number).is_none() {
            return Ok(false);
        }
        let body = self.units.body();
        // Or what decompresses would have no room, and take the block for damaged.
        let fits = header.codec == Codec::NONE || header.plain as usize <= block.capacity();
        match block.grow(body.len()) {
            Ok(room) if fits => room.copy_from_slice(body),
            _ => {
                let (need, have) = (self.block_len, block.capacity());
                return Err(StageError::new(format!(
                    "the archive has blocks of {need} bytes, but the pipe's buffers hold {have}: use larger ones"
                )));
            }
        }
        block.set_info(info_of(header));
        self.reporter.note_place(header.number, place);
        self.report.update(|outcome| {
            outcome.blocks += 1;
            outcome.rejected += u64::from(header.marks.contains(Marks::REJECTED));
            outcome.plain = outcome.plain.saturating_add(header.plain.into());
        });
        Ok(true)
    }

    /// Checks the archive's footer against what was read.
    fn close(&mut self, header: &UnitHeader, place: Option<Position>) -> Result<(), StageError> {
        let footer = match open_footer(
            self.key.as_ref().map(ArchiveKey::cipher),
            header,
            self.units.body(),
        ) {
            Ok(footer) => footer,
            Err(why) => return self.say(None, place, format!("the archive footer {why}")),
        };
        if footer.blocks < self.next {
            let what = format!(
                "the archive footer says {} blocks, but there are more",
                footer.blocks
            );
            return self.say(None, place, what);
        }
        let missing = footer.blocks - self.next;
        if missing > 0 {
            self.report
                .update(|outcome| outcome.missing = outcome.missing.saturating_add(missing));
            let what = format!("missing at the end, with {} more", missing - 1);
            self.say(Some(self.next), place, what)?;
            self.next = footer.blocks;
        }
        let read = self.report.outcome();
        if read.missing == 0 && (read.plain, read.rejected) != (footer.plain, footer.rejected) {
            let (bytes, should) = (read.plain, footer.plain);
            let what = format!(
                "the archive footer says {should} bytes, but its blocks have {bytes}, or more were rejected"
            );
            self.say(None, place, what)?;
        }
        self.complete = true;
        self.report.update(|outcome| outcome.complete = true);
        Ok(())
    }

    fn say(
        &self,
        block: Option<u64>,
        place: Option<Position>,
        what: String,
    ) -> Result<(), StageError> {
        self.reporter.say(Damage { block, place, what })
    }

    /// The next block into `block`, or the end.
    fn advance(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        while self.seek()? {
            let event = self.units.next()?;
            let (read, volumes) = self.units.met();
            self.report
                .update(|outcome| (outcome.read, outcome.volumes) = (read, volumes));
            match event {
                // Archives behind this one are somebody else's business.
                Event::Unit(header, _) if header.archive > ARCHIVE => {}
                Event::Unit(header, place) => match header.kind {
                    UnitKind::Block if self.take(&header, place, block)? => return Ok(Fill::Block),
                    UnitKind::ArchiveFooter if self.part.is_some() => self.cut_run(place)?,
                    UnitKind::ArchiveFooter => self.close(&header, place)?,
                    UnitKind::SessionFooter => self.closed = true,
                    UnitKind::Options => self.check_options(place)?,
                    _ => {}
                },
                Event::Label(..) => {}
                Event::Damage(damage) => self.pass_over(damage)?,
                Event::Mark => {
                    let next = self.next;
                    self.report.update(|outcome| outcome.checkpoint = next);
                    self.marks += u32::from(self.closed);
                    if self.complete && self.marks == 2 {
                        // What follows belongs to nobody.
                        break;
                    }
                }
                Event::End if self.part.is_some() => self.cut_run(None)?,
                Event::End => break,
            }
        }
        if self.part.is_some() {
            return Ok(Fill::End);
        }
        if !self.complete {
            let blocks = self.report.outcome().blocks;
            let what = format!(
                "the archive is incomplete: its writer did not come to the end; {blocks} blocks were read before that"
            );
            self.say(None, None, what)?;
        } else if !self.closed {
            self.say(
                None,
                None,
                "the session's footer is missing: something may have stood behind the archive"
                    .to_owned(),
            )?;
        }
        Ok(Fill::End)
    }

    /// Version 1 knows no option. Those that a reader must know have identifiers from 32768 on.
    fn check_options(&self, place: Option<Position>) -> Result<(), StageError> {
        let mut rest = self.units.body();
        let cut = || self.say(None, place, "options that end in the middle".to_owned());
        while let Some((head, more)) = rest.split_at_checked(4) {
            let identifier = u16::from_le_bytes([head[0], head[1]]);
            let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
            if identifier >= REQUIRED_OPTIONS {
                let what = format!(
                    "unknown option {identifier}, which a reader of this archive must know"
                );
                return Err(StageError::new(what));
            }
            let Some(behind) = more.get(len..) else {
                return cut();
            };
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { cut() }
    }
}

/// What the archive's footer says.
///
/// # Errors
///
/// Why it is not believed.
pub(super) fn open_footer(
    cipher: Option<&Cipher>,
    header: &UnitHeader,
    body: &[u8],
) -> Result<ArchiveFooter, String> {
    let mut body = body.to_vec();
    match (cipher, header.cipher) {
        (Some(cipher), wire::CipherKind::Aes256Gcm) => {
            let data = body.len().saturating_sub(TAG_LEN);
            let mut tag = [0; TAG_LEN];
            let end = body
                .get(data..)
                .filter(|end| end.len() == TAG_LEN)
                .ok_or("is too short")?;
            tag.copy_from_slice(end);
            body.truncate(data);
            let nonce = nonce(header.number, NonceKind::ArchiveFooter);
            let opened = cipher.open(&nonce, &header.associated_data(), &mut body, &tag);
            opened.map_err(|_| "does not authenticate")?;
        }
        (None, wire::CipherKind::None) => {}
        (Some(_), _) => return Err("is not encrypted, although the archive is".to_owned()),
        (None, _) => return Err("is encrypted, although the archive is not".to_owned()),
    }
    let footer = ArchiveFooter::parse(&body).map_err(|malformed| malformed.to_string())?;
    if footer.blocks != header.number {
        return Err("contradicts itself".to_owned());
    }
    Ok(footer)
}

/// The archive that is read, by its number in the session.
const ARCHIVE: u32 = 1;

/// First identifier of the options that a reader must know.
const REQUIRED_OPTIONS: u16 = 32_768;

impl<M: Medium> Head for ArchiveHead<M> {
    fn name(&self) -> &str {
        "archive-head"
    }

    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.ended {
            return Ok(Fill::End);
        }
        let fill = self.advance(block)?;
        self.ended = fill == Fill::End;
        Ok(fill)
    }

    fn describe<'a>(&self, stage: HeadStage<'a>) -> HeadStage<'a> {
        let Some(session) = self.units.session() else {
            return stage;
        };
        let passage = match self.medium.handle() {
            Ok(passage) => passage,
            Err(why) => return stage.local(why.to_string()),
        };
        let runs = self.part.as_ref().map(|(_, runs)| runs);
        let (key, reporter) = (self.key.as_ref(), &self.reporter);
        let reads = Reads {
            session,
            block_len: self.block_len,
            key,
            runs,
            reporter,
            report: &self.report,
        };
        modules::describe_head(stage, &reads, passage)
    }
}

impl<M> fmt::Debug for ArchiveHead<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveHead")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
