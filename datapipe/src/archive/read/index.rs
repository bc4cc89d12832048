//! Where the blocks of a whole archive stand, as its end says. `docs/wire-format.md`, "Reading some
//! blocks only".
//!
//! ```text
//!   ... block block | chunk footer | mark | locator | archive footer | session footer | mark | mark
//!         ^               |                   ^  |          ^                |              start, then back
//!         +---------------+---- places -------+--+          +----------------+
//! ```
//!
//! Nobody trusts it: a block that is found says itself which it is.

use std::fmt;

use crate::limits::MAX_RECORD;
use crate::media::{Item, Medium, MediumError, Position};
use crate::wire::{
    ArchiveFooter, ChunkEntry, ChunkFooter, Framing, Locator, RecordHeader, RecordKind,
    SessionFooter, UnitHeader, UnitKind,
};

use super::block_set::BlockSet;
use super::reader::OpenError;
use super::shared_medium::Shared;
use super::unit_reader::{Event, Units};

/// Where the blocks of an archive stand. Made by
/// [`ArchiveReader::index`](super::ArchiveReader::index).
pub struct Index {
    footer: ArchiveFooter,
    chunks: Vec<ChunkEntry>,
    framing: Framing,
    /// The record in which the locator begins.
    locator: Position,
}

/// Where to begin to read for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::archive) struct Start {
    /// The block whose header begins in the record at `place`.
    pub(in crate::archive) block: u64,
    pub(in crate::archive) place: Position,
    /// Of the block's header in the stream.
    pub(in crate::archive) position: u64,
}

/// A run of blocks, and where to begin.
#[derive(Clone, Copy, Debug)]
pub(in crate::archive) struct Run {
    pub(in crate::archive) first: u64,
    pub(in crate::archive) last: u64,
    pub(in crate::archive) start: Start,
}

impl Index {
    /// How many blocks the archive has.
    pub fn blocks(&self) -> u64 {
        self.footer.blocks
    }

    /// Bytes of all blocks before compression, catalogue included.
    pub fn plain(&self) -> u64 {
        self.footer.plain
    }

    /// The blocks of the catalogue's closing run. A stream has none.
    pub fn catalogue(&self) -> BlockSet {
        let mut blocks = BlockSet::new();
        if let Some(last) = self.footer.blocks.checked_sub(1) {
            blocks.insert(self.footer.catalogue, last);
        }
        blocks
    }

    /// Reads the end of a medium. `footer` opens the archive's footer.
    pub(in crate::archive) fn read<M: Medium>(
        medium: &Shared<M>,
        session: [u8; 16],
        framing: Framing,
        footer: impl FnOnce(&UnitHeader, &[u8]) -> Result<ArchiveFooter, String>,
    ) -> Result<Self, OpenError> {
        let mut end = End {
            medium: medium.clone(),
            units: Units::new(medium.clone(), Some(session)),
            session,
        };
        end.medium.seek_end(None)?;
        for _ in 0..2 {
            if !matches!(end.back()?, Item::Mark(_)) {
                return Err(no_index("its last volume does not end with two marks"));
            }
        }
        end.back_to(|header| header.first == Some(0))?;
        let (_, body) = end.unit(UnitKind::SessionFooter)?;
        let session = SessionFooter::parse(&body)?;
        let [archive] = session.archives[..] else {
            return Err(no_index("its session has not one archive"));
        };
        end.medium.seek(archive.place)?;
        let (header, body) = end.unit(UnitKind::ArchiveFooter)?;
        let footer =
            footer(&header, &body).map_err(|why| no_index(&format!("the archive footer {why}")))?;
        end.medium.seek(archive.place)?;
        let locator = end.back_to(|header| header.position <= archive.locator)?;
        let (_, body) = end.unit(UnitKind::Locator)?;
        let chunks = Locator::parse(&body)?.chunks;
        if !chunks.is_sorted_by_key(|chunk| chunk.first) {
            return Err(no_index("its locator is out of order"));
        }
        Ok(Self {
            footer,
            chunks,
            framing,
            locator,
        })
    }

    /// Where to begin to read for each of these runs.
    pub(in crate::archive) fn runs<M: Medium>(
        &self,
        medium: &Shared<M>,
        session: [u8; 16],
        blocks: &BlockSet,
    ) -> Result<Vec<Run>, MediumError> {
        let mut end = End {
            medium: medium.clone(),
            units: Units::new(medium.clone(), Some(session)),
            session,
        };
        let mut runs = Vec::new();
        let mut chunk = None;
        for (first, last) in blocks.runs() {
            let which = self
                .chunks
                .partition_point(|chunk| chunk.first <= first)
                .checked_sub(1);
            let start = match which {
                None => Start {
                    block: 0,
                    place: Position::start_of(1),
                    position: 0,
                },
                Some(which) => {
                    let ChunkEntry {
                        first: begins,
                        place,
                        position,
                        ..
                    } = self.chunks[which];
                    let start = Start {
                        block: begins,
                        place,
                        position,
                    };
                    if begins == first {
                        start
                    } else {
                        if chunk.as_ref().is_none_or(|(of, _)| *of != which) {
                            chunk = Some((which, self.places(&mut end, which)?));
                        }
                        let places = chunk.as_ref().map(|(_, places)| places.as_slice());
                        start_of(places.unwrap_or_default(), first).unwrap_or(start)
                    }
                }
            };
            runs.push(Run { first, last, start });
        }
        Ok(runs)
    }

    /// Where the blocks of a chunk stand, as far as its footer can be found and says so.
    fn places<M: Medium>(&self, end: &mut End<M>, which: usize) -> Result<Vec<Start>, MediumError> {
        match self.places_in_footer(end, which) {
            Ok(places) => Ok(places),
            Err(OpenError::Medium(error @ MediumError::Io { .. })) => Err(error),
            // The chunk's start is known without it.
            Err(_) => Ok(Vec::new()),
        }
    }

    fn places_in_footer<M: Medium>(
        &self,
        end: &mut End<M>,
        which: usize,
    ) -> Result<Vec<Start>, OpenError> {
        let behind = match self.framing {
            Framing::Header => return Ok(Vec::new()),
            Framing::HeaderFooter => self
                .chunks
                .get(which + 1)
                .map_or(self.locator, |chunk| chunk.place),
            Framing::Once => self.locator,
        };
        end.medium.seek(behind)?;
        // From the next chunk's first block, its header may stand between.
        end.back_to_mark()?;
        end.back_to(|header| header.first == Some(0))?;
        let (header, body) = end.unit(UnitKind::ChunkFooter)?;
        let footer = ChunkFooter::parse(&body)?;
        let behind = match self.framing {
            Framing::Once => self.footer.blocks,
            _ => header.number.saturating_add(footer.blocks.into()),
        };
        let first = behind.saturating_sub(footer.entries.len() as u64);
        // In this order: a number behind the last one is not asked for.
        let numbered = footer.entries.iter().zip(first..);
        Ok(numbered
            .map(|(entry, block)| Start {
                block,
                place: entry.place,
                position: entry.position,
            })
            .collect())
    }
}

/// The last place that is not behind block `first`.
fn start_of(places: &[Start], first: u64) -> Option<Start> {
    places[..places.partition_point(|start| start.block <= first)]
        .last()
        .copied()
}

/// What stands at the end of a medium, or of a chunk.
struct End<M> {
    medium: Shared<M>,
    units: Units<Shared<M>>,
    session: [u8; 16],
}

impl<M: Medium> End<M> {
    /// What stands in front of the place, on the volume before if need be.
    fn back(&mut self) -> Result<Item, OpenError> {
        let mut record = Vec::new();
        Ok(self.medium.read_back(&mut record)?)
    }

    /// Goes back to a record of the session of which `is_it` is true, and stands in front of it.
    fn back_to(&mut self, is_it: impl Fn(&RecordHeader) -> bool) -> Result<Position, OpenError> {
        let (mut record, mut left) = (Vec::new(), MOST_BACK);
        while left > 0 {
            let place = match self.medium.read_back(&mut record)? {
                Item::Record(place) => place,
                other @ (Item::Mark(_) | Item::End) => {
                    if other == Item::End {
                        self.volume_before()?;
                    }
                    left = left.saturating_sub(MARK_COUNTS);
                    continue;
                }
                Item::Damaged { .. } => return Err(no_index("something is damaged there")),
            };
            let (header, _) = RecordHeader::parse(&record)?;
            if header.session != self.session {
                return Err(no_index("something of another session stands there"));
            }
            if header.kind == RecordKind::Data && is_it(&header) {
                return Ok(place);
            }
            left = left.saturating_sub(record.len());
        }
        Err(no_index("what should stand there does not"))
    }

    fn back_to_mark(&mut self) -> Result<(), OpenError> {
        for _ in 0..MOST_BEFORE_BLOCK {
            match self.back()? {
                Item::Mark(_) => return Ok(()),
                Item::Record(_) => {}
                Item::End => self.volume_before()?,
                Item::Damaged { .. } => break,
            }
        }
        Err(no_index("no mark stands in front of the chunk"))
    }

    fn volume_before(&mut self) -> Result<(), OpenError> {
        let mut record = Vec::new();
        let volume = match self.medium.read(&mut record)? {
            Item::Record(place) | Item::Mark(place) | Item::Damaged { at: place, .. } => {
                place.volume
            }
            Item::End => 1,
        };
        match volume.checked_sub(1) {
            None | Some(0) => Err(no_index("its first volume begins there")),
            before => Ok(self.medium.seek_end(before)?),
        }
    }

    /// The next unit that begins behind the place, which has to be of this kind.
    fn unit(&mut self, kind: UnitKind) -> Result<(UnitHeader, Vec<u8>), OpenError> {
        self.units.moved(1);
        loop {
            match self.units.next()? {
                Event::Unit(header, _) if header.kind == kind => {
                    return Ok((header, self.units.body().to_vec()));
                }
                Event::Label(..) => {}
                Event::Unit(header, _) => {
                    let found = header.kind.name();
                    return Err(no_index(&format!(
                        "a {found} stands where the {} should",
                        kind.name()
                    )));
                }
                Event::Damage(damage) => return Err(no_index(&damage.what)),
                Event::Mark | Event::End => {
                    return Err(no_index(&format!(
                        "its {} is not where it should be",
                        kind.name()
                    )));
                }
            }
        }
    }
}

/// Bytes of records in which something is looked for: a locator is no longer.
const MOST_BACK: usize = 2 * MAX_RECORD;

/// A mark, or the start of a volume, counts as so many of those.
const MARK_COUNTS: usize = 1024;

/// Records between a mark and the one in which the first block of a chunk begins, and labels.
const MOST_BEFORE_BLOCK: usize = 8;

fn no_index(why: &str) -> OpenError {
    OpenError::NoIndex(why.to_owned())
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("footer", &self.footer)
            .finish_non_exhaustive()
    }
}
