//! The stage that decides the outcome of a read: each block once, in order, up to the last one.
//!
//! ```text
//!   ArchiveHead > open > order > decompress > tail
//!        |                 |
//!        +-- explains      +-- decides: ReadOutcome::complete
//! ```
//!
//! The head may run on another machine, and what it reports says no more than where and why
//! something is damaged. This stage comes after the one that has the key. It has one instance, in
//! the caller's process, and looks at the information of a block only, so it copies nothing. Its
//! memory is that of the runs to be read.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::crypto::TAG_LEN;
use crate::error::StageError;
use crate::limits::MAX_SPECIALS;
use crate::pool::{Block, BlockInfo, Codec, Marks};
use crate::stage::mirror::{Mirror, ReportKind, Update};
use crate::stage::{InPlace, MiddleStage, Stage, Verdict};
use crate::wire::BlockKind;
use crate::wire::codec::DecodeError;
use crate::words::count_of;

use super::super::continuity::Continuity;
use super::super::origin::{ArchiveOrigin, ORIGIN};
use super::super::report::{DamageReporter, ReadReport, StreamDamage, Whole};
use super::super::special::Special;
use super::front::Front;

/// Reason why the stage has one instance.
const ALL_BLOCKS: &str = "compares each block with all before it";
/// Reason why the stage has no module.
const OUTCOME: &str = "the outcome of the reading belongs to this program: run it on a thread";

/// Fault of a block 0 that is not the origin of the archive.
pub(super) const NO_ORIGIN: &str = "is not the origin, with which each archive begins";
/// Fault of an origin in another block.
pub(super) const LATER_ORIGIN: &str = "is an origin, and only block 0 of an archive is one";

/// A function of the caller that is called with each special header, and returns true if it knows
/// the identifier.
pub(in crate::archive) type OnSpecial = Arc<dyn Fn(&Special) -> bool + Send + Sync>;

/// The special headers of a reading, and the function that judges them.
#[derive(Clone, Default)]
pub(super) struct Specials {
    /// Those at the start of the archive, if only other blocks are read.
    pub(super) front: Option<Front>,
    pub(super) on_special: Option<OnSpecial>,
    /// The blocks are as they are stored, perhaps encrypted: no special header is looked at, and
    /// all blocks go further.
    pub(super) is_stored: bool,
}

impl Specials {
    /// Shows a special header to the caller. One of the format's is passed over: this version knows
    /// the origin only, which is looked at before.
    fn show(&self, number: u64, special: &Special) -> Result<(), StageError> {
        let is_own = special.id() & Special::OWN != 0;
        let on_special = self.on_special.as_ref().filter(|_| is_own);
        let is_known = on_special.is_some_and(|on_special| on_special(special));
        if is_known || !special.is_required() {
            return Ok(());
        }
        Err(StageError::new(unknown_special(number, special)))
    }
}

/// Returns the reason why an archive with this special header cannot be read.
pub(super) fn unknown_special(number: u64, special: &Special) -> String {
    format!(
        "block {number} has the special header {:08x}, which a reader of this archive must know: \
         read it with the program that wrote it, or know the identifier in \
         ArchiveReader::on_special",
        special.id()
    )
}

/// Returns the stage. `runs` are the numbers of the blocks that are read, ascending, or all if
/// there are none, and true if the last of them go on to the end of the archive; `block_len` is
/// the largest size of a block.
pub(super) fn order_stage<'a>(
    runs: (Option<VecDeque<(u64, u64)>>, bool),
    block_len: u32,
    is_tree: bool,
    reporter: &DamageReporter,
    report: &ReadReport,
    specials: Specials,
) -> MiddleStage<'a> {
    let unexplained = Unexplained::default();
    let order = Order {
        expected: Expected::new(runs.0, runs.1),
        continuity: Continuity::new(block_len),
        is_tree,
        next: 0,
        last: None,
        rejected: 0,
        missing: 0,
        damaged: 0,
        reporter: reporter.clone(),
        report: report.clone(),
        unexplained: unexplained.clone(),
        specials,
        special_count: 0,
        has_data: false,
    };
    let mut once = Some(order);
    let stage = Stage::in_place("order", move |_| once.take().expect("one instance"));
    let stage = stage.single(ALL_BLOCKS).stateful().fixed().local(OUTCOME);
    let stage = stage.checks_archive().mirrored(&unexplained);
    reporter.log.iter().fold(stage, MiddleStage::mirrored)
}

/// The check of the blocks of one reading.
struct Order {
    expected: Expected,
    continuity: Continuity,
    is_tree: bool,
    /// Number of the block after the last one that came.
    next: u64,
    /// Number of the archive's last block, once it has come.
    last: Option<u64>,
    rejected: u64,
    /// Number of blocks that should have come and did not.
    missing: u64,
    /// Number of blocks that came without valid content, out of order, or in a wrong place.
    damaged: u64,
    reporter: DamageReporter,
    report: ReadReport,
    unexplained: Unexplained,
    specials: Specials,
    /// Number of special headers that came.
    special_count: usize,
    /// A block of data has come, after which no special header can be required.
    has_data: bool,
}

impl Order {
    /// Counts a block that is not as it should be, and fails if the reading does not go on after
    /// damage. The log has the head's explanation, if there is one.
    fn count_damaged(&mut self, block: u64, what: &str) -> Result<(), StageError> {
        self.damaged += 1;
        self.fail_if_strict(Some(block), what)
    }

    /// Counts a block whose content is not as it should be. Only this stage sees that, so the log
    /// has no explanation of the head.
    fn report_damaged(&mut self, block: u64, what: impl Into<String>) -> Result<(), StageError> {
        self.damaged += 1;
        let (block, at, what) = (Some(block), None, what.into());
        self.reporter.report(StreamDamage { block, at, what })
    }

    fn fail_if_strict(&self, block: Option<u64>, what: &str) -> Result<(), StageError> {
        if self.reporter.log.is_some() {
            return Ok(());
        }
        let (at, what) = (None, what.to_owned());
        self.reporter.report(StreamDamage { block, at, what })
    }

    /// Takes the next block. Returns false if it goes no further.
    ///
    /// The number of a block without valid content is not authenticated: it counts only if it is
    /// the next one, and the blocks after it show what is missing.
    fn take(&mut self, number: u64, info: &mut BlockInfo, len: usize) -> Result<bool, StageError> {
        let is_damaged = info.marks.contains(Marks::DAMAGED);
        if is_damaged && !self.expected.is_next(number) {
            self.count_damaged(number, "is damaged, and is not the next one")?;
            return Ok(false);
        }
        let Some(missing) = self.expected.take(number) else {
            self.count_damaged(number, "appears again, out of order, or was not asked for")?;
            return Ok(false);
        };
        if missing > 0 {
            self.missing = self.missing.saturating_add(missing);
            let what = format!("comes after a gap of {}", count_of(missing, "block"));
            self.fail_if_strict(Some(number), &what)?;
        }
        if self.last.is_some() {
            self.count_damaged(number, "comes after the archive's last block")?;
            if self.specials.is_stored {
                // A copy ends with the last block.
                return Ok(false);
            }
        }
        self.continuity.skip(number.saturating_sub(self.next));
        self.next = number.saturating_add(1);
        if is_damaged {
            self.continuity.skip(1);
            self.count_damaged(number, "is damaged")?;
            return Ok(true);
        }
        self.check_offset(number, info, len)?;
        self.rejected += u64::from(info.marks.contains(Marks::REJECTED));
        if info.marks.contains(Marks::LAST) {
            self.last = Some(number);
            return Ok(self.specials.is_stored);
        }
        // The tail of a tree follows the numbers. Special headers belong to each copy, too.
        let is_kept = info.kind == BlockKind::Special.code() || self.specials.is_stored;
        Ok(self.is_tree || is_kept || !info.is_control())
    }

    /// Shows the special headers at the start of the archive to the caller, except those that are
    /// read anyway.
    fn show_front(&mut self) -> Result<(), StageError> {
        let Some(front) = self.specials.front.take() else {
            return Ok(());
        };
        let mut others = front.specials().filter(|(at, _)| !self.expected.has(*at));
        others.try_for_each(|(number, special)| self.specials.show(number, special))?;
        match front.lost().filter(|(lost, _)| !self.expected.has(*lost)) {
            None => Ok(()),
            Some((block, why)) => self.reporter.report(StreamDamage {
                block: Some(block),
                at: None,
                what: why.to_owned(),
            }),
        }
    }

    /// Checks block 0. Returns true if it is the origin of the archive.
    fn check_origin(&mut self, info: &BlockInfo, block: &Block) -> Result<bool, StageError> {
        let is_special = info.kind == BlockKind::Special.code();
        let why = match is_special.then(|| ArchiveOrigin::copy_of(block.shared())) {
            None => NO_ORIGIN.to_owned(),
            Some(origin) => match origin? {
                Ok(_) => return Ok(true),
                Err(error) => format!("{NO_ORIGIN} ({error})"),
            },
        };
        self.report_damaged(0, why).map(|()| false)
    }

    /// Shows the special header in a block to the caller.
    fn show_special(&mut self, number: u64, block: &Block) -> Result<(), StageError> {
        self.special_count += 1;
        if self.special_count > MAX_SPECIALS {
            let what = format!(
                "is a special header, and the archive had {MAX_SPECIALS} besides its origin, the \
                 limit"
            );
            return self.report_damaged(number, what);
        }
        match Special::copy_of(block.shared(), &mut Vec::new())? {
            Ok(special) if special.id() == ORIGIN => self.report_damaged(number, LATER_ORIGIN),
            Ok(special) => {
                self.specials.show(number, &special)?;
                if special.is_required() && self.has_data {
                    let what = format!(
                        "has the required special header {:08x} after data, which it should \
                         precede: they may have been read in another way than it demands",
                        special.id()
                    );
                    self.report_damaged(number, what)?;
                }
                Ok(())
            }
            Err(error) => self.report_damaged(number, error.to_string()),
        }
    }

    /// Checks the offset of a block, which is not authenticated. A wrong one is corrected: the
    /// lengths of the blocks before are known, except that of lost ones.
    fn check_offset(
        &mut self,
        number: u64,
        info: &mut BlockInfo,
        len: usize,
    ) -> Result<(), StageError> {
        let has_own_len = info.codec == Codec::NONE && !info.marks.contains(Marks::REJECTED);
        let tag = if info.sealed { TAG_LEN } else { 0 };
        let plain = if has_own_len {
            u32::try_from(len.saturating_sub(tag))?
        } else {
            info.plain_len
        };
        let counts = BlockKind::from_code(info.kind).is_some_and(BlockKind::counts_in_offsets);
        let plain = if counts { plain } else { 0 };
        let Err(why) = self.continuity.advance(info.offset, plain) else {
            return Ok(());
        };
        self.count_damaged(number, &why)?;
        info.offset = self.continuity.end();
        self.continuity
            .advance(info.offset, plain)
            .map_err(|why| StageError::new(format!("block {number} {why}")))
    }
}

impl InPlace for Order {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        self.show_front()?;
        let mut info = block.info();
        let Some(number) = info.sequence else {
            if info.marks.contains(Marks::LAST) {
                // That of this pipe, which ends with another archive.
                return Ok(Verdict::Send);
            }
            let what = "comes without its number in the archive";
            self.count_damaged(block.number().get(), what)?;
            return Ok(Verdict::Drop);
        };
        let goes_on = self.take(number, &mut info, block.len())?;
        let is_valid =
            !info.marks.contains(Marks::DAMAGED) && self.next == number.saturating_add(1);
        if number == 0 && !self.specials.is_stored {
            let is_origin = !is_valid || self.check_origin(&info, block)?;
            // The tail of a tree follows the numbers. An archive that gets the data has its own.
            if !(is_origin && self.is_tree) {
                return Ok(Verdict::Drop);
            }
            block.clear();
        } else if info.kind == BlockKind::Special.code() && is_valid && !self.specials.is_stored {
            self.show_special(number, block)?;
        }
        // The kind of a damaged block is not authenticated.
        self.has_data |= is_valid && !info.is_control() && info.kind == BlockKind::Data.code();
        if !goes_on {
            return Ok(Verdict::Drop);
        }
        block.set_info(info);
        Ok(Verdict::Send)
    }

    fn takes_control_blocks(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.show_front()?;
        let is_partial = self.expected.is_partial;
        if is_partial {
            let missing = self.expected.remaining();
            self.missing = self.missing.saturating_add(missing);
            if missing > 0 {
                let what = format!(
                    "{} of those asked for did not come",
                    count_of(missing, "block")
                );
                self.fail_if_strict(None, &what)?;
            }
        }
        if self.expected.is_to_end && self.last.is_none() {
            let what = "the archive is incomplete: its last block did not come";
            self.fail_if_strict(None, what)?;
        }
        let is_whole = self.missing == 0 && self.damaged == 0;
        self.report.set_whole(Whole {
            missing: self.missing,
            has_last: self.last.is_some(),
            is_complete: is_whole && self.last.is_some() && self.rejected == 0 && !is_partial,
        });
        let has_end = !self.expected.is_to_end || self.last.is_some();
        *self.unexplained.0.lock() = !(is_whole && has_end);
        Ok(())
    }
}

/// The numbers of the blocks that are still to come.
#[derive(Debug)]
struct Expected {
    is_partial: bool,
    /// The last run is as long as the archive.
    is_to_end: bool,
    /// First and last number of each run, ascending.
    runs: VecDeque<(u64, u64)>,
}

impl Expected {
    fn new(runs: Option<VecDeque<(u64, u64)>>, is_to_end: bool) -> Self {
        Self {
            is_partial: runs.is_some(),
            is_to_end: is_to_end || runs.is_none(),
            runs: runs.unwrap_or_else(|| [(0, u64::MAX)].into()),
        }
    }

    /// True if the block is the next one to come.
    fn is_next(&self, number: u64) -> bool {
        self.runs.front().is_some_and(|&(first, _)| first == number)
    }

    /// True if the block is still to come.
    fn has(&self, number: u64) -> bool {
        let at = self.runs.partition_point(|&(_, last)| last < number);
        self.runs.get(at).is_some_and(|&(first, _)| first <= number)
    }

    /// Takes a block that has come. Returns the number of those that should have come before, or
    /// nothing if the block is not to come any more, or never was.
    fn take(&mut self, number: u64) -> Option<u64> {
        let at = self.runs.partition_point(|&(_, last)| last < number);
        let &(first, _) = self.runs.get(at).filter(|(first, _)| *first <= number)?;
        let skipped = self.runs.drain(..at).map(len_of);
        let missing = skipped.fold(number - first, u64::saturating_add);
        let run = self.runs.front_mut()?;
        match number == run.1 {
            true => drop(self.runs.pop_front()),
            false => run.0 = number + 1,
        }
        Some(missing)
    }

    /// Number of the blocks that are still to come, as far as it is known.
    fn remaining(&self) -> u64 {
        let unknown = usize::from(self.is_to_end);
        let known = self.runs.len().saturating_sub(unknown);
        let lens = self.runs.iter().take(known).copied().map(len_of);
        lens.fold(0, u64::saturating_add)
    }
}

/// Number of the blocks of a run.
fn len_of((first, last): (u64, u64)) -> u64 {
    (last - first).saturating_add(1)
}

/// True if the blocks were not those of the archive. It is a problem of the pipe, unless the log
/// has entries: then the head, or the stage that decrypts, has explained it.
#[derive(Clone, Debug, Default)]
struct Unexplained(Arc<Mutex<bool>>);

impl Mirror for Unexplained {
    /// A log counts instead of a report of this kind.
    const KIND: ReportKind = ReportKind::Read;
    type Cursor = ();

    fn delta(&self, (): &mut ()) -> Vec<Update> {
        Vec::new()
    }

    fn apply(&self, _: &[u8]) -> Result<(), DecodeError> {
        Err(DecodeError::new(
            "a report of the order of blocks",
            "comes from a process, and no process runs this stage",
        ))
    }

    fn reject(&self, _: &DecodeError) {}

    fn problem_count(&self) -> u64 {
        u64::from(*self.0.lock())
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}
