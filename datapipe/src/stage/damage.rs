//! Damage that a salvaging reader has met, and where on the medium it was.
//!
//! ```text
//!   reader --note_place(block, place)--> ring of the last blocks
//!                                          |
//!   stages behind it --report(block, what)-+--> entries, with their places
//! ```
//!
//! A reader knows where a block stood, and the stages behind it whether it is whole: the log brings both together.
//! Its memory is bounded, however much is damaged.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::{MAX_DAMAGE_TEXT, MAX_LOG_ENTRIES, MAX_PLACES};
use crate::media::Place;
use crate::pool::Block;

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
/// use datapipe::media::Place;
/// use datapipe::stage::DamageLog;
///
/// let log = DamageLog::new();
/// log.note_place(1204, Place { volume: 1, record: 17, byte: 1_048_640 });
/// log.report(1204, "authentication failed");
/// assert_eq!(
///     log.entries()[0].to_string(),
///     "block 1204 at volume 1, record 17 (byte 1,048,640): authentication failed"
/// );
/// ```
#[derive(Clone, Debug, Default)]
pub struct DamageLog(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// A block's place stands at its number modulo the length; empty before the first note.
    places: Vec<Option<(u64, Place)>>,
    entries: Vec<Damage>,
    count: u64,
}

impl DamageLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes where `block` stood. Of blocks whose numbers are [`MAX_PLACES`] apart, only the last is remembered.
    pub fn note_place(&self, block: u64, place: Place) {
        let mut inner = self.0.lock();
        if inner.places.is_empty() {
            inner.places = vec![None; MAX_PLACES];
        }
        inner.places[slot(block)] = Some((block, place));
    }

    /// Reports that `block` is damaged, at the place that was noted for it.
    pub fn report(&self, block: u64, what: impl Into<String>) {
        let mut inner = self.0.lock();
        let noted = inner.places.get(slot(block)).copied().flatten().filter(|(number, _)| *number == block);
        let place = noted.map(|(_, place)| place.to_string());
        inner.push(Damage { block: Some(block), place, what: what.into() });
    }

    /// Reports damage that belongs to no block whose number is known, such as a record that cannot be read.
    pub fn report_at(&self, place: Place, what: impl Into<String>) {
        self.0.lock().push(Damage { block: None, place: Some(place.to_string()), what: what.into() });
    }

    /// Reports what is known in full.
    pub(crate) fn add(&self, damage: Damage) {
        self.0.lock().push(damage);
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
                damage.what = damage.what[..damage.what.floor_char_boundary(MAX_DAMAGE_TEXT)].to_owned();
            }
            self.entries.push(damage);
        }
    }
}

fn slot(block: u64) -> usize {
    (block % MAX_PLACES as u64) as usize
}

/// The number that people know a block by: its place in the archive if a sequencer gave it one, otherwise its place
/// in the pipe.
pub(super) fn number_of(block: &Block) -> u64 {
    block.info().sequence.unwrap_or_else(|| block.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(record: u64) -> Place {
        Place { volume: 2, record, byte: record << 16 }
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
        let bare = Damage { block: None, place: None, what: "gone".to_owned() };
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
        assert!(entries.iter().all(|damage| damage.what.len() == MAX_DAMAGE_TEXT));
        assert_eq!(entries.last().unwrap().block, Some(MAX_LOG_ENTRIES as u64 - 1));
    }
}
