//! The first blocks of an archive: its origin, and the special headers after it, some of which a
//! reader must know.

use crate::crypto::{TAG_LEN, nonce};
use crate::limits::{FIRST_BLOCK, MAX_SPECIALS};
use crate::media::{MediumError, MediumReader};
use crate::pool::Codec;
use crate::wire::{BlockKind, CipherKind, UnitHeader, UnitKind};

use super::super::key::ArchiveKey;
use super::super::origin::{ArchiveOrigin, ORIGIN};
use super::super::place::Place;
use super::super::special::Special;
use super::ending::Ending;
use super::order::{LATER_ORIGIN, NO_ORIGIN};
use super::shared_medium::SharedMedium;
use super::unit_event::UnitEvent;
use super::unit_reader::UnitReader;

/// Fault of a block that does not come, or has no valid content.
const LOST: &str = "is damaged or missing, and may be a special header that a reader must know";

/// The special headers of an archive after its origin, authenticated if it is encrypted.
#[derive(Clone, Debug, Default)]
pub(super) struct Front {
    /// Block 0 is the archive's origin.
    has_origin: bool,
    /// Each with the number of its block, ascending.
    specials: Vec<(u64, Special)>,
    /// A block at the start that is not valid, and may have been a special header, and its fault.
    lost: Option<(u64, String)>,
}

impl Front {
    /// Reads the first blocks of an archive, from its start, up to the first one of another kind. A
    /// block that does not come is lost.
    ///
    /// # Errors
    ///
    /// [`MediumError::Io`] and [`MediumError::NoMemory`]: another attempt may succeed.
    pub(super) fn read<M: MediumReader>(
        medium: &SharedMedium<M>,
        session: [u8; 16],
        place: &Place,
        key: Option<&ArchiveKey>,
    ) -> Result<Self, MediumError> {
        let mut front = Self::default();
        let mut blocks = match FirstBlocks::new(medium, session, place) {
            Ok(blocks) => blocks,
            Err(error) => return front.cut(error),
        };
        loop {
            match blocks.next() {
                Ok(Some(header)) if front.take(&header, blocks.body(), key) => {}
                Ok(Some(_)) => return Ok(front),
                Ok(None) => return Ok(front.losing(LOST)),
                Err(error) => return front.cut(error),
            }
        }
    }

    /// Ends where the medium cannot be read.
    fn cut(self, error: MediumError) -> Result<Self, MediumError> {
        match error {
            MediumError::Io { .. } | MediumError::NoMemory { .. } => Err(error),
            _ => Ok(self.losing(LOST)),
        }
    }

    /// Notes that the next block is lost.
    fn losing(mut self, why: &str) -> Self {
        self.lose(self.next(), why);
        self
    }

    fn lose(&mut self, number: u64, why: impl Into<String>) {
        self.lost = Some((number, why.into()));
    }

    /// Number of the next block.
    fn next(&self) -> u64 {
        let before = if self.has_origin { FIRST_BLOCK } else { 0 };
        self.specials
            .last()
            .map_or(before, |(number, _)| number + 1)
    }

    /// Takes the next block. Returns false if no further special headers are to be read.
    fn take(&mut self, header: &UnitHeader, body: &[u8], key: Option<&ArchiveKey>) -> bool {
        let next = self.next();
        if header.number < next {
            // A repetition.
            return true;
        }
        let is_special = header.block_kind == BlockKind::Special;
        let content = content_of(header, body, BlockKind::Special, key);
        // One lost block before data that do not begin the stream had the data before them. Offsets
        // are not authenticated, so in an encrypted archive it may have been a special header.
        let lost = header.number - next;
        let is_proven_data = !is_special && key.is_none() && header.offset != 0 && next > 0;
        let has_gap = lost > 1 || lost == 1 && !is_proven_data;
        if has_gap || header.number == next && content.is_none() {
            self.lose(next, LOST);
            return false;
        }
        if next == 0 {
            let origin = match is_special {
                true => ArchiveOrigin::parse(&content.unwrap_or_default()),
                false => {
                    self.lose(0, NO_ORIGIN);
                    return false;
                }
            };
            match origin {
                Ok(_) => self.has_origin = true,
                Err(error) => self.lose(0, format!("{NO_ORIGIN} ({error})")),
            }
            return self.has_origin;
        }
        if !is_special {
            return false;
        }
        match Special::parse(&content.unwrap_or_default()) {
            Ok(special) if special.id() == ORIGIN => self.lose(header.number, LATER_ORIGIN),
            Ok(special) if self.specials.len() < MAX_SPECIALS => {
                self.specials.push((header.number, special));
                return true;
            }
            _ => self.lose(header.number, LOST),
        }
        false
    }

    /// The special headers, with the numbers of their blocks.
    pub(super) fn specials(&self) -> impl Iterator<Item = (u64, &Special)> {
        self.specials
            .iter()
            .map(|(number, special)| (*number, special))
    }

    /// Number of a block at the start that is not valid, and may have been a special header, and
    /// its fault.
    pub(super) fn lost(&self) -> Option<(u64, &str)> {
        self.lost.as_ref().map(|(number, why)| (*number, &**why))
    }
}

/// Reads the origin of an archive, which is its first block. `None` if it cannot be read: a pipe
/// that reads the archive reports why.
///
/// # Errors
///
/// [`MediumError::Io`] and [`MediumError::NoMemory`]: another attempt may succeed.
pub(super) fn read_origin<M: MediumReader>(
    medium: &SharedMedium<M>,
    session: [u8; 16],
    place: &Place,
    key: Option<&ArchiveKey>,
) -> Result<Option<ArchiveOrigin>, MediumError> {
    let read = || {
        let mut blocks = FirstBlocks::new(medium, session, place)?;
        let first = blocks.next()?;
        Ok(first.and_then(|header| origin_of(&header, blocks.body(), key)))
    };
    match read() {
        Err(error @ (MediumError::Io { .. } | MediumError::NoMemory { .. })) => Err(error),
        read => Ok(read.unwrap_or_default()),
    }
}

/// True if the first block of an encrypted archive that comes opens.
///
/// # Errors
///
/// As of the medium.
pub(super) fn first_block_opens<M: MediumReader>(
    medium: &SharedMedium<M>,
    session: [u8; 16],
    place: &Place,
    key: &ArchiveKey,
) -> Result<bool, MediumError> {
    let mut blocks = FirstBlocks::new(medium, session, place)?;
    let first = blocks.next()?;
    let content =
        first.and_then(|header| content_of(&header, blocks.body(), BlockKind::Special, Some(key)));
    Ok(content.is_some())
}

/// Returns the origin in a block, if it is the one that has it.
pub(super) fn origin_of(
    header: &UnitHeader,
    body: &[u8],
    key: Option<&ArchiveKey>,
) -> Option<ArchiveOrigin> {
    let is_it = header.number == 0 && header.block_kind == BlockKind::Special;
    let content = content_of(header, body, BlockKind::Special, key).filter(|_| is_it)?;
    ArchiveOrigin::parse(&content).ok()
}

/// The blocks of an archive, from its start.
struct FirstBlocks<M> {
    units: UnitReader<SharedMedium<M>>,
    archive: u32,
    ending: Ending,
}

impl<M: MediumReader> FirstBlocks<M> {
    fn new(
        medium: &SharedMedium<M>,
        session: [u8; 16],
        place: &Place,
    ) -> Result<Self, MediumError> {
        Ok(Self {
            units: UnitReader::of_archive(medium, session, *place)?,
            archive: place.archive,
            ending: Ending::new(place.archive, false),
        })
    }

    /// Returns the header of the next block, or nothing if the archive ends before one.
    fn next(&mut self) -> Result<Option<UnitHeader>, MediumError> {
        loop {
            match self.units.next()? {
                UnitEvent::Unit(header, _) if self.ending.has_come(&header) => return Ok(None),
                UnitEvent::Unit(header, _) if header.archive == self.archive => match header.kind {
                    UnitKind::Block => return Ok(Some(header)),
                    UnitKind::ArchiveFooter => return Ok(None),
                    _ => {}
                },
                // Other archives of the session.
                UnitEvent::Unit(..) => {}
                UnitEvent::End => return Ok(None),
                UnitEvent::Label(..) | UnitEvent::Damage(_) | UnitEvent::Mark => {}
            }
        }
    }

    /// Body of the block that [`next`](Self::next) returned last.
    fn body(&self) -> &[u8] {
        self.units.body()
    }
}

/// Returns the data of a control block if they are valid; nothing of what is not of this kind.
pub(super) fn content_of(
    header: &UnitHeader,
    body: &[u8],
    kind: BlockKind,
    key: Option<&ArchiveKey>,
) -> Option<Vec<u8>> {
    let is_wanted = header.block_kind == kind;
    let is_stored = header.codec == Codec::NONE || !is_wanted;
    let Some(key) = key else {
        let is_valid = header.cipher == CipherKind::None && is_stored;
        return is_valid.then(|| if is_wanted { body } else { &[] }.to_vec());
    };
    let is_valid = header.cipher == CipherKind::Aes256Gcm && is_stored;
    let (data, tag) = body.split_last_chunk::<TAG_LEN>().filter(|_| is_valid)?;
    let (mut data, nonce) = (data.to_vec(), nonce(header.number));
    let associated = header.associated_data();
    let opened = key.cipher().open(&nonce, &associated, &mut data, tag);
    opened.ok().map(|()| data)
}
