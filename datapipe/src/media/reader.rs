//! Reads one volume, and finds its way again behind damage.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::limits::MAX_RECORD;

use super::layout::{END_OF_MEDIUM, GAP, Length, MARK, SHORTEST_FRAME, WORD, word};
use super::{Item, MediumError, Position, Probe, StorageFile};

/// Most bytes that a probe is given.
const PROBED: usize = 64;

/// Bytes of the first and of the largest window that a search reads. They grow from one to the
/// other, so that what a search costs follows from how far it goes: a volume with damage at every
/// other record is read in linear time.
const FIRST_WINDOW: u64 = 4 << 10;
const LARGEST_WINDOW: u64 = 1 << 20;

/// Bytes that a storage loses together, and most bytes in a row that it may have lost: what is more
/// is no damaged volume but a broken drive.
const SECTOR: u64 = 4 << 10;
const MOST_UNREADABLE: u64 = 1 << 20;

/// What a drive says of a sector that it has lost.
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

/// What stands for a length word that could not be read: a class that nobody knows.
const UNREADABLE: u32 = 0x7000_0000;

/// Damaged bytes that are given out: a record's, and its length words'.
const MOST_DAMAGED: u64 = MAX_RECORD as u64 + 2 * WORD;

/// Bytes in which marks are looked for in front of what a search found.
const MARKS_BACK: u64 = 4 << 10;

/// A place in one volume.
#[derive(Debug)]
pub(super) struct VolumeReader<F> {
    file: F,
    path: PathBuf,
    volume: u32,
    probe: Probe,
    /// Bytes of the file when it was opened. Nothing is read behind them.
    len: u64,
    /// Where the next frame begins, never behind `len`.
    at: u64,
    /// Items before that.
    items: u64,
    /// Some of what was read last could not be, and is zeros.
    unreadable: Cell<bool>,
}

impl<F: StorageFile> VolumeReader<F> {
    pub(super) fn new(
        file: F,
        path: PathBuf,
        volume: u32,
        probe: Probe,
    ) -> Result<Self, MediumError> {
        let len = file.len().map_err(MediumError::io("look at", &path))?;
        Ok(Self {
            file,
            path,
            volume,
            probe,
            len,
            at: 0,
            items: 0,
            unreadable: Cell::new(false),
        })
    }

    pub(super) fn volume(&self) -> u32 {
        self.volume
    }

    pub(super) fn file(&self) -> &F {
        &self.file
    }

    /// Goes to `to`, which must be of this volume.
    pub(super) fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        if to.byte > self.len {
            let what = format!("its file has {} bytes", self.len);
            return Err(MediumError::NoSuchPlace {
                path: self.path.clone(),
                to,
                what,
            });
        }
        (self.at, self.items) = (to.byte, to.record);
        Ok(())
    }

    /// Goes behind the last byte.
    pub(super) fn seek_end(&mut self) {
        (self.at, self.items) = (self.len, Position::UNCOUNTED);
    }

    pub(super) fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        let item = self.next(record);
        self.complete(item, record)
    }

    pub(super) fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        let item = self.previous(record);
        self.complete(item, record)
    }

    /// Sees to what is in `record` after anything but a record.
    fn complete(&self, item: io::Result<Item>, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        let item = item.and_then(|item| {
            match item {
                Item::Record(_) => {}
                // Perhaps whoever knows what is in a record finds something in them.
                Item::Damaged { at, skipped } => {
                    record.resize(skipped.min(MOST_DAMAGED) as usize, 0);
                    self.fill(record, at.byte)?;
                }
                Item::Mark(_) | Item::End => record.clear(),
            }
            Ok(item)
        });
        item.map_err(MediumError::io("read", &self.path))
    }

    fn next(&mut self, record: &mut Vec<u8>) -> io::Result<Item> {
        let mut lead = self.word_at(self.at)?;
        while lead == Some(GAP) {
            self.at += WORD;
            lead = self.word_at(self.at)?;
        }
        match lead {
            None if self.at == self.len => return Ok(Item::End),
            Some(END_OF_MEDIUM) => return Ok(Item::End),
            Some(MARK) => return Ok(Item::Mark(self.advance(self.at + WORD))),
            _ => {}
        }
        let Some((length, bad)) = lead
            .map(|lead| self.frame_at(self.at, lead))
            .transpose()?
            .flatten()
        else {
            return self.resynchronise();
        };
        let end = self.at + length.frame();
        if bad {
            return Ok(Item::Damaged {
                skipped: length.frame(),
                at: self.advance(end),
            });
        }
        // The length was compared with the limit and with what the file has, so this takes no more
        // than there is.
        record.resize(length.bytes as usize, 0);
        self.fill(record, self.at + WORD)?;
        if self.unreadable.get() {
            return Ok(Item::Damaged {
                skipped: length.frame(),
                at: self.advance(end),
            });
        }
        Ok(Item::Record(self.advance(end)))
    }

    fn previous(&mut self, record: &mut Vec<u8>) -> io::Result<Item> {
        let mut trail = self.word_before()?;
        while matches!(trail, Some(GAP | END_OF_MEDIUM)) {
            self.at -= WORD;
            trail = self.word_before()?;
        }
        if self.at == 0 {
            return Ok(Item::End);
        }
        if trail == Some(MARK) {
            return Ok(Item::Mark(self.retreat(WORD)));
        }
        let length = trail
            .and_then(Length::parse)
            .filter(|length| length.frame() <= self.at);
        if let Some(length) = length {
            let from = self.at - length.frame();
            if let Some((same, bad)) = self
                .frame_from(from)?
                .filter(|(same, _)| same.bytes == length.bytes)
            {
                record.resize(same.bytes as usize, 0);
                self.fill(record, from + WORD)?;
                let (damaged, at) = (bad || self.unreadable.get(), self.retreat(same.frame()));
                return Ok(if damaged {
                    Item::Damaged {
                        at,
                        skipped: same.frame(),
                    }
                } else {
                    Item::Record(at)
                });
            }
        }
        Ok(Item::Damaged {
            skipped: self.at,
            at: self.retreat(self.at),
        })
    }

    /// The word in front of the place, or none if there is less.
    fn word_before(&self) -> io::Result<Option<u32>> {
        self.at
            .checked_sub(WORD)
            .map_or(Ok(None), |at| self.word_at(at))
    }

    /// The frame that begins at `at`.
    fn frame_from(&self, at: u64) -> io::Result<Option<(Length, bool)>> {
        let lead = self.word_at(at)?;
        Ok(lead
            .map(|lead| self.frame_at(at, lead))
            .transpose()?
            .flatten())
    }

    /// Puts the place in front of an item of so many bytes, and says where that is.
    fn retreat(&mut self, bytes: u64) -> Position {
        (self.at, self.items) = (self.at - bytes, self.items.saturating_sub(1));
        Position {
            volume: self.volume,
            record: self.items,
            byte: self.at,
        }
    }

    /// Puts the place at `end`, behind one item, and says where that item begins.
    fn advance(&mut self, end: u64) -> Position {
        let from = Position {
            volume: self.volume,
            record: self.items,
            byte: self.at,
        };
        (self.at, self.items) = (end, self.items.saturating_add(1));
        from
    }

    /// The length of the frame at `at`, which begins with `lead`, and whether either end says that
    /// its data are bad. None if it is no frame.
    fn frame_at(&self, at: u64, lead: u32) -> io::Result<Option<(Length, bool)>> {
        let Some(length) = Length::parse(lead).filter(|length| length.frame() <= self.len - at)
        else {
            return Ok(None);
        };
        // Before the data: a wrong length would have us read megabytes for nothing, and a wicked
        // volume has a wrong length at every byte.
        let trailing = self
            .word_at(at + length.to_trailing())?
            .and_then(Length::parse);
        let same = trailing.filter(|trailing| trailing.bytes == length.bytes);
        Ok(same.map(|trailing| (length, length.bad || trailing.bad)))
    }

    /// Goes to the next record behind the damage at `self.at`, or to the end of the file.
    fn resynchronise(&mut self) -> io::Result<Item> {
        let found = self.search()?;
        let end = self.end_of_damage(found)?;
        let skipped = end - self.at;
        Ok(Item::Damaged {
            skipped,
            at: self.advance(end),
        })
    }

    /// The first offset behind `self.at` at which a frame stands that the probe knows, or the
    /// file's length.
    fn search(&self) -> io::Result<u64> {
        let (mut from, mut size) = (self.at + 1, FIRST_WINDOW);
        let mut window = Vec::new();
        while from + SHORTEST_FRAME <= self.len {
            let left = self.len - from;
            window.resize(left.min(size) as usize, 0);
            self.fill(&mut window, from)?;
            // Only offsets for which the probe sees all that it may see, except at the end of the
            // file.
            let beyond = if left <= size {
                WORD as usize
            } else {
                WORD as usize + PROBED
            };
            let offsets = window.len() - beyond + 1;
            for offset in 0..offsets {
                if self.is_record(&window[offset..], from + offset as u64)? {
                    return Ok(from + offset as u64);
                }
            }
            if left <= size {
                break;
            }
            from += offsets as u64;
            size = (size * 2).min(LARGEST_WINDOW);
        }
        Ok(self.len)
    }

    /// Whether a record of the layer above stands at `at`. `bytes` are the file's from there on: a
    /// word, and what is there for the probe.
    fn is_record(&self, bytes: &[u8], at: u64) -> io::Result<bool> {
        let lead = word(bytes);
        // What needs no system call comes first; nearly every offset ends here.
        if lead == MARK || lead as usize > MAX_RECORD {
            return Ok(false);
        }
        let data = &bytes[WORD as usize..];
        let probed = &data[..data.len().min(PROBED).min(lead as usize)];
        Ok((self.probe)(probed) && self.frame_at(at, lead)?.is_some())
    }

    /// Where the damage at `self.at` ends, if the next record, or the end of the file, is at
    /// `found`.
    ///
    /// A search finds records only. If the damaged bytes are one frame of which one length is
    /// right, then the words between its end and `found` are marks, and not damaged.
    fn end_of_damage(&self, found: u64) -> io::Result<u64> {
        let promised = self
            .word_at(self.at)?
            .and_then(Length::parse)
            .map(|length| self.at + length.frame());
        let from = found.saturating_sub(MARKS_BACK).max(self.at);
        let mut before = vec![0; (found - from) as usize];
        self.fill(&mut before, from)?;
        let zeros = before.iter().rev().take_while(|byte| **byte == 0).count() as u64 / WORD * WORD;
        if let Some(end) = promised
            && end <= found
            && found - end <= zeros
            && (found - end).is_multiple_of(WORD)
        {
            return Ok(end);
        }
        let end = found - zeros;
        if end < from + WORD {
            return Ok(found);
        }
        let trailing = Length::parse(word(&before[(end - WORD - from) as usize..]));
        let fits = trailing.is_some_and(|length| self.at + length.frame() == end);
        Ok(if fits { end } else { found })
    }

    /// The word at `at`, or none if the file ends before its end.
    fn word_at(&self, at: u64) -> io::Result<Option<u32>> {
        if self.len - at < WORD {
            return Ok(None);
        }
        let mut bytes = [0; WORD as usize];
        self.fill(&mut bytes, at)?;
        Ok(Some(if self.unreadable.get() {
            UNREADABLE
        } else {
            word(&bytes)
        }))
    }

    /// Fills `bytes` from `at` on. Sectors that cannot be read become zeros, and `unreadable` says
    /// so.
    fn fill(&self, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
        self.unreadable.set(false);
        let (mut tried, mut in_a_row) = (false, 0);
        while !bytes.is_empty() {
            // One more attempt, for what was a moment's failure, and no more than the sector in
            // question.
            let sector = (SECTOR - at % SECTOR).min(bytes.len() as u64);
            let wanted = if tried {
                &mut bytes[..sector as usize]
            } else {
                &mut *bytes
            };
            match self.file.read_at(wanted, at) {
                Err(error) if error.raw_os_error() == Some(EIO) && !tried => tried = true,
                Err(error) if error.raw_os_error() == Some(EIO) && in_a_row < MOST_UNREADABLE => {
                    bytes[..sector as usize].fill(0);
                    bytes = &mut bytes[sector as usize..];
                    (at, in_a_row, tried) = (at + sector, in_a_row + sector, false);
                    self.unreadable.set(true);
                }
                Ok(0) => {
                    let what = format!("it ended at byte {at}, but was longer when it was opened");
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, what));
                }
                Ok(count) => {
                    (at, in_a_row, tried) = (at + count as u64, 0, false);
                    bytes = &mut bytes[count..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
