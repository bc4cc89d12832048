//! Damage that a salvaging reader has met, and where on the medium it was.
//!
//! ```text
//!   reader --note_place(block, place)--> ring of the last blocks
//!                                          |
//!   stages behind it --report(block, what)-+--> entries, with their places
//! ```
//!
//! A reader knows where a block stood, and the stages behind it whether it is whole: the log brings
//! both together. Its memory is bounded, however much is damaged.
//!
//! Where a stage runs in a process of its own, it has a log of its own there, whose news are told
//! to the caller's log. The place of a block may be told later than that the block is damaged, so
//! what is reported waits for it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::{MAX_DAMAGE_TEXT, MAX_INSTANCES, MAX_LOG_ENTRIES, MAX_NOTE, MAX_PLACES};
use crate::pool::Block;
use crate::position::Position;
use crate::wire::codec::{Bytes, DecodeError, Put, cut, len_u16};

/// The field of a module's arguments that says that its stage goes on behind damage.
pub(crate) const SALVAGE: &str = "salvage";

/// Something that could not be read back whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Number of the block, if it is known.
    pub block: Option<u64>,
    /// Where it stood, if that is known.
    pub place: Option<String>,
    /// What is wrong, shortened to [`MAX_DAMAGE_TEXT`] bytes.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.block, &self.place) {
            (Some(block), Some(place)) => write!(f, "block {block} at {place}: ")?,
            (Some(block), None) => write!(f, "block {block}: ")?,
            (None, Some(place)) => write!(f, "{place}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.what)
    }
}

/// What was found damaged so far. Clones are the same log.
///
/// ```
/// use datapipe::media::Position;
/// use datapipe::stage::DamageLog;
///
/// let log = DamageLog::new();
/// log.note_place(1204, Position { volume: 1, record: 17, byte: 1_048_640 });
/// log.report(1204, "authentication failed");
/// assert_eq!(
///     log.entries()[0].to_string(),
///     "block 1204 at volume 1, record 17 (byte 1,048,640): authentication failed"
/// );
/// ```
#[derive(Clone, Debug, Default)]
pub struct DamageLog(Arc<Mutex<Inner>>);

/// Called when something has been reported.
#[derive(Clone)]
struct WhenReported(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for WhenReported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WhenReported")
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// A block's place stands at its number modulo the length; empty before the first note.
    places: Vec<Option<(u64, Position)>>,
    entries: Vec<Damage>,
    count: u64,
    /// Numbers of the blocks whose places are not known yet, with their entries.
    placeless: BTreeSet<(u64, usize)>,
    /// What is to be told another log, if somebody asks for it.
    news: Option<News>,
    when_reported: Option<WhenReported>,
}

/// What a log has not told yet.
#[derive(Debug, Default)]
struct News {
    /// Entries that were told.
    told: usize,
    /// Reports that were not kept.
    unkept: u64,
    /// Places, the last [`MAX_PLACES`].
    places: VecDeque<(u64, Position)>,
}

/// What follows of what a log tells another.
const DAMAGE: u8 = 0;
const PLACES: u8 = 1;
const UNKEPT: u8 = 2;
/// Blocks that can be in the hands of a stage's processes at once, and be told of twice.
const AT_ONCE: usize = MAX_INSTANCES as usize;
/// Bytes of a place and its block.
const PLACE_LEN: usize = 28;

/// In what is told of a damaged block: what is known of it.
const HAS_BLOCK: u8 = 1;
const HAS_PLACE: u8 = 2;

impl DamageLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes where `block` stood. Of blocks whose numbers are [`MAX_PLACES`] apart, only the last
    /// is remembered.
    pub fn note_place(&self, block: u64, place: Position) {
        let mut inner = self.0.lock();
        if inner.places.is_empty() {
            inner.places = vec![None; MAX_PLACES];
        }
        inner.places[slot(block)] = Some((block, place));
        if let Some(news) = &mut inner.news {
            if news.places.len() == MAX_PLACES {
                news.places.pop_front();
            }
            news.places.push_back((block, place));
        }
    }

    /// Reports that `block` is damaged, at the place that was noted for it.
    pub fn report(&self, block: u64, what: impl Into<String>) {
        let place = self.0.lock().place_of(block);
        self.add(Damage {
            block: Some(block),
            place,
            what: what.into(),
        });
    }

    /// Reports damage that belongs to no block whose number is known, such as a record that cannot
    /// be read.
    pub fn report_at(&self, place: Position, what: impl Into<String>) {
        self.add(Damage {
            block: None,
            place: Some(place.to_string()),
            what: what.into(),
        });
    }

    /// Reports what is known in full.
    pub(crate) fn add(&self, damage: Damage) {
        let call = {
            let mut inner = self.0.lock();
            inner.push(damage);
            inner.when_reported.clone()
        };
        // It asks for the news.
        call.iter().for_each(|call| (call.0)());
    }

    /// From now on calls `call` when something has been reported, before the reporting one goes on.
    pub(crate) fn when_reported(&self, call: impl Fn() + Send + Sync + 'static) {
        self.0.lock().when_reported = Some(WhenReported(Arc::new(call)));
    }

    /// A log of a process, whose news are told to another one.
    pub(crate) fn of_process() -> Self {
        let log = Self::default();
        log.0.lock().news = Some(News::default());
        log
    }

    /// What has been reported and noted since this was called last, as texts for people and what
    /// [`hear`](Self::hear) understands.
    pub(crate) fn news(&self) -> Vec<(String, Vec<u8>)> {
        let inner = &mut *self.0.lock();
        let Some(news) = &mut inner.news else {
            return Vec::new();
        };
        let mut told = Vec::new();
        // Before what was found damaged there.
        let places: Vec<_> = news.places.drain(..).collect();
        for places in places.chunks((MAX_NOTE - 1) / PLACE_LEN) {
            told.push((String::new(), encode_places(places)));
        }
        let fresh = inner.entries.get(news.told..).unwrap_or_default();
        told.extend(
            fresh
                .iter()
                .map(|damage| (damage.to_string(), encode(damage))),
        );
        news.told = inner.entries.len();
        if let count @ 1.. = std::mem::take(&mut news.unkept) {
            let mut data = vec![UNKEPT];
            data.put_u64(count);
            told.push((String::new(), data));
        }
        told
    }

    /// Takes what another log tells. What makes no sense is itself reported.
    pub(crate) fn hear(&self, told: &[u8]) {
        let mut inner = self.0.lock();
        if let Err(malformed) = inner.hear(told) {
            inner.push(Damage {
                block: None,
                place: None,
                what: malformed.to_string(),
            });
        }
    }

    /// The first [`MAX_LOG_ENTRIES`] reports, in the order in which they came.
    pub fn entries(&self) -> Vec<Damage> {
        self.0.lock().entries.clone()
    }

    /// How many reports there were, kept or not.
    pub fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// Whether nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

impl Inner {
    fn push(&mut self, mut damage: Damage) {
        self.count += 1;
        if self.entries.len() < MAX_LOG_ENTRIES {
            if damage.what.len() > MAX_DAMAGE_TEXT {
                damage.what = cut(&damage.what, MAX_DAMAGE_TEXT).to_owned();
            }
            if let (Some(block), None) = (damage.block, &damage.place) {
                self.placeless.insert((block, self.entries.len()));
            }
            self.entries.push(damage);
        } else if let Some(news) = &mut self.news {
            news.unkept += 1;
        }
    }

    fn hear(&mut self, told: &[u8]) -> Result<(), DecodeError> {
        let mut told = Bytes::new("what a process says of damage", told);
        match told.u8()? {
            DAMAGE => self.hear_damage(told),
            PLACES => {
                while !told.rest().is_empty() {
                    let block = told.u64()?;
                    let place = Position {
                        volume: told.u32()?,
                        record: told.u64()?,
                        byte: told.u64()?,
                    };
                    self.hear_place(block, place);
                }
                Ok(())
            }
            UNKEPT => {
                self.count = self.count.saturating_add(told.u64()?);
                told.end()
            }
            other => Err(told.wrong(format!("is of an unknown kind, {other}"))),
        }
    }

    fn hear_damage(&mut self, mut told: Bytes<'_>) -> Result<(), DecodeError> {
        let flags = told.u8()?;
        let block = if flags & HAS_BLOCK != 0 {
            Some(told.u64()?)
        } else {
            None
        };
        let mut place = None;
        if flags & HAS_PLACE != 0 {
            let len = told.u16()?;
            place = Some(cut(&told.text(len.into())?, MAX_DAMAGE_TEXT).to_owned());
        }
        let what = told.text(told.rest().len())?;
        let place = place.or_else(|| block.and_then(|block| self.place_of(block)));
        let is_same =
            |known: &Damage| known.block == block && known.what == cut(&what, MAX_DAMAGE_TEXT);
        // One that is killed when it has told of a block leaves that to its replacement, which
        // finds the same.
        if block.is_none() || !self.entries.iter().rev().take(AT_ONCE).any(is_same) {
            self.push(Damage { block, place, what });
        }
        Ok(())
    }

    fn hear_place(&mut self, block: u64, place: Position) {
        if self.places.is_empty() {
            self.places = vec![None; MAX_PLACES];
        }
        self.places[slot(block)] = Some((block, place));
        let waiting: Vec<_> = self
            .placeless
            .range((block, 0)..=(block, usize::MAX))
            .copied()
            .collect();
        for (block, entry) in waiting {
            self.placeless.remove(&(block, entry));
            if let Some(damage) = self.entries.get_mut(entry) {
                damage.place = Some(place.to_string());
            }
        }
    }

    /// Where a block stood, if that was noted and not so long ago.
    fn place_of(&self, block: u64) -> Option<String> {
        let noted = self
            .places
            .get(slot(block))
            .copied()
            .flatten()
            .filter(|(number, _)| *number == block);
        noted.map(|(_, place)| place.to_string())
    }
}

fn encode_places(places: &[(u64, Position)]) -> Vec<u8> {
    let mut data = vec![PLACES];
    for (
        block,
        Position {
            volume,
            record,
            byte,
        },
    ) in places
    {
        data.put_u64(*block);
        data.put_u32(*volume);
        data.put_u64(*record);
        data.put_u64(*byte);
    }
    data
}

fn encode(Damage { block, place, what }: &Damage) -> Vec<u8> {
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    let mut data = vec![
        DAMAGE,
        flag(block.is_some(), HAS_BLOCK) | flag(place.is_some(), HAS_PLACE),
    ];
    if let Some(block) = block {
        data.put_u64(*block);
    }
    if let Some(place) = place {
        let place = cut(place, MAX_DAMAGE_TEXT);
        data.put_u16(len_u16(place.len()));
        data.put(place.as_bytes());
    }
    data.put(what.as_bytes());
    data
}

fn slot(block: u64) -> usize {
    (block % MAX_PLACES as u64) as usize
}

/// The number that people know a block by: its place in the archive if a sequencer gave it one,
/// otherwise its place in the pipe.
pub(super) fn number_of(block: &Block) -> u64 {
    block.info().sequence.unwrap_or_else(|| block.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(record: u64) -> Position {
        Position {
            volume: 2,
            record,
            byte: record << 16,
        }
    }

    #[test]
    fn what_a_replacement_tells_again_is_known() {
        let (log, process) = (DamageLog::new(), DamageLog::of_process());
        let heard = log.clone();
        let telling = process.clone();
        process.when_reported(move || telling.news().iter().for_each(|(_, data)| heard.hear(data)));
        for _ in 0..2 {
            process.report(7, "torn");
        }
        assert_eq!(
            (log.count(), process.count()),
            (1, 2),
            "told at once, and once"
        );
        process.report(7, "also gone");
        process.report(8, "torn");
        (0..2).for_each(|_| process.report_at(place(9), "unreadable"));
        assert_eq!(log.count(), 5, "others are others");
    }

    #[test]
    fn places_are_remembered_for_the_blocks_in_flight() {
        let log = DamageLog::new();
        assert!(log.is_empty());
        log.report(3, "nobody noted it");
        let last = MAX_PLACES as u64 + 4;
        (0..=last).for_each(|block| log.note_place(block, place(block)));
        for block in [4, 5, last, last + 1] {
            log.clone().report(block, "torn");
        }
        log.report_at(place(9), "unreadable");
        let text: Vec<String> = log.entries().iter().map(Damage::to_string).collect();
        let expected = [
            "block 3: nobody noted it".to_owned(),
            "block 4: torn".to_owned(),
            "block 5 at volume 2, record 5 (byte 327,680): torn".to_owned(),
            format!("block {last} at {}: torn", place(last)),
            format!("block {}: torn", last + 1),
            "volume 2, record 9 (byte 589,824): unreadable".to_owned(),
        ];
        assert_eq!(text, expected);
        let bare = Damage {
            block: None,
            place: None,
            what: "gone".to_owned(),
        };
        assert_eq!(bare.to_string(), "gone");
    }

    #[test]
    fn memory_is_bounded_and_everything_is_counted() {
        let log = DamageLog::new();
        let long = "ä".repeat(MAX_DAMAGE_TEXT);
        (0..MAX_LOG_ENTRIES as u64 + 5).for_each(|block| log.report(block, long.clone()));
        assert_eq!(log.count(), MAX_LOG_ENTRIES as u64 + 5);
        let entries = log.entries();
        assert_eq!(entries.len(), MAX_LOG_ENTRIES);
        assert!(
            entries
                .iter()
                .all(|damage| damage.what.len() == MAX_DAMAGE_TEXT)
        );
        assert_eq!(
            entries.last().unwrap().block,
            Some(MAX_LOG_ENTRIES as u64 - 1)
        );
    }

    /// What a process has found, told to another log.
    fn tell(from: &DamageLog, to: &DamageLog) -> Vec<String> {
        from.news()
            .iter()
            .map(|(_, data)| to.hear(data))
            .for_each(drop);
        to.entries().iter().map(Damage::to_string).collect()
    }

    #[test]
    fn what_processes_find_is_brought_together() {
        let (reader, decoder, whole) = (
            DamageLog::of_process(),
            DamageLog::of_process(),
            DamageLog::new(),
        );
        decoder.report(4, "torn");
        assert_eq!(tell(&decoder, &whole), ["block 4: torn"]);
        reader.note_place(4, place(4));
        reader.note_place(5, place(5));
        reader.report_at(place(9), "unreadable");
        decoder.report(5, "torn, too");
        tell(&reader, &whole);
        let expected = [
            "block 4 at volume 2, record 4 (byte 262,144): torn",
            "volume 2, record 9 (byte 589,824): unreadable",
            "block 5 at volume 2, record 5 (byte 327,680): torn, too",
        ];
        assert_eq!(tell(&decoder, &whole), expected);
        assert!(
            reader.news().is_empty() && decoder.news().is_empty(),
            "nothing is told twice"
        );
        assert!(whole.news().is_empty(), "nobody asked for this one's");
    }

    #[test]
    fn many_reports_and_places_are_told_in_pieces() {
        let (process, whole) = (DamageLog::of_process(), DamageLog::new());
        (0..MAX_PLACES as u64 + 7).for_each(|block| process.note_place(block, place(block)));
        (0..MAX_LOG_ENTRIES as u64 + 5)
            .for_each(|block| process.report(block + 7, "ä".repeat(300)));
        let news = process.news();
        assert!(news.iter().all(|(_, data)| data.len() <= MAX_NOTE));
        news.iter().for_each(|(_, data)| whole.hear(data));
        assert_eq!(
            (whole.entries(), whole.count()),
            (process.entries(), process.count())
        );
        assert!(whole.entries().iter().all(|damage| damage.place.is_some()));
    }

    #[test]
    fn what_makes_no_sense_is_reported() {
        let log = DamageLog::new();
        let damage = Damage {
            block: Some(1),
            place: Some("x".to_owned()),
            what: "é".to_owned(),
        };
        let mut data = encode(&damage);
        log.hear(&data);
        assert_eq!(log.entries(), [damage]);
        data.pop();
        let cut_place = encode_places(&[(1, place(1))]);
        let wrong = [
            &[][..],
            &[9],
            &data,
            &data[..5],
            &data[..11],
            &cut_place[..20],
            &[UNKEPT, 1],
        ];
        for (before, wrong) in wrong.into_iter().enumerate() {
            log.hear(wrong);
            assert_eq!(log.count(), before as u64 + 2);
            assert!(
                log.entries()[before + 1]
                    .what
                    .starts_with("what a process says of damage: ")
            );
        }
    }
}
