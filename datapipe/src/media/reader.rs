//! Reads one volume, and resynchronises after damage.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::limits::MAX_RECORD;
use crate::wire::looks_like_record;

use super::chain::ReadVolume;
use super::layout::{END_OF_MEDIUM, GAP, Length, MARK, SHORTEST_FRAME, WORD, word};
use super::volume_start::VolumeStart;
use super::writer::WholePart;
use super::{Item, MediumError, Position, Probe, StorageFile, VolumeId};

/// Most bytes that a probe is given.
const PROBED: usize = 64;

/// Bytes of the first and of the largest window that a search reads. The windows grow from one to
/// the other, so that the cost of a search is proportional to its distance: a volume with damage at
/// every other record is read in linear time.
const FIRST_WINDOW: u64 = 4 << 10;
const LARGEST_WINDOW: u64 = 1 << 20;

/// Bytes that a storage loses together, and the most bytes in a row that it may lose. If it loses
/// more, the drive is broken rather than the volume damaged.
const SECTOR: u64 = 4 << 10;
const MOST_UNREADABLE: u64 = 1 << 20;

/// Error of a drive for a sector that it has lost.
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

/// Substitute for a length word that could not be read: its class is unknown.
const UNREADABLE: u32 = 0x7000_0000;

/// Most damaged bytes that a read returns: a record and its two length words.
const MOST_DAMAGED: u64 = MAX_RECORD as u64 + 2 * WORD;

/// Bytes before the result of a search in which marks are looked for.
const MARKS_BACK: u64 = 4 << 10;

/// The item at a position.
enum Found {
    End,
    Mark,
    /// A frame with its length, and true if its data are marked as bad.
    Frame(Length, bool),
    Damage,
}

/// The reader of one volume, with its current position.
#[derive(Debug)]
pub(super) struct VolumeReader<F> {
    file: F,
    path: PathBuf,
    volume: u32,
    probe: Probe,
    /// Bytes of the file when it was opened. Later bytes are not read.
    len: u64,
    /// The volume record, once it was looked for: before the first item is read.
    start: Option<VolumeStart>,
    /// Offset of the first item: the end of the volume record.
    begin: u64,
    /// Offset at which the next frame begins, from `begin` to `len`.
    at: u64,
    /// Items before that offset.
    items: u64,
    /// Everything from the current position to this offset is damaged, if it is after it.
    damaged_to: u64,
    /// The last call of `fill` could not read some sectors, and filled them with zeros.
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
            start: None,
            begin: 0,
            at: 0,
            items: 0,
            damaged_to: 0,
            unreadable: Cell::new(false),
        })
    }

    pub(super) fn file(&self) -> &F {
        &self.file
    }

    /// The state of the volume record, which is read first if necessary.
    pub(super) fn start(&mut self) -> Result<&VolumeStart, MediumError> {
        if self.start.is_none() {
            let start = VolumeStart::read(&self.file);
            let start = start.map_err(MediumError::io("read", &self.path))?;
            // Later bytes than the file had when it was opened are not read.
            let start = match start.len() > self.len {
                true => VolumeStart::Absent,
                false => start,
            };
            (self.begin, self.at, self.items) = (start.len(), start.len(), start.items());
            self.start = Some(start);
        }
        Ok(self.start.as_ref().expect("it was read"))
    }

    /// Finds the end of what is whole, without a look at the content of records, and the number of
    /// marks in a row before it. `None` if there is a word for the end of the medium.
    pub(super) fn whole_part(&mut self) -> Result<Option<(WholePart, u64)>, MediumError> {
        self.start()?;
        let found = self.find_whole_part();
        found.map_err(MediumError::io("read", &self.path))
    }

    /// Sets `record` after an item other than a record: to the damaged bytes, or to nothing.
    fn complete(&self, item: io::Result<Item>, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        let item = item.and_then(|item| {
            match item {
                Item::Record(_) => {}
                // The layer above, which knows the content of a record, may recover some of them.
                Item::Damaged { at, skipped } => {
                    set_len(record, skipped.min(MOST_DAMAGED))?;
                    self.fill(record, at.byte)?;
                }
                Item::Mark(_) | Item::End => record.clear(),
            }
            Ok(item)
        });
        item.map_err(MediumError::io("read", &self.path))
    }

    fn find_whole_part(&mut self) -> io::Result<Option<(WholePart, u64)>> {
        let mut marks = 0;
        loop {
            match self.find_frame()? {
                Found::Mark => {
                    self.advance(self.at + WORD);
                    marks += 1;
                }
                Found::Frame(length, _) => {
                    self.advance(self.at + length.frame_len());
                    marks = 0;
                }
                Found::Damage if self.at < self.damaged_to => drop(self.pass_damage()),
                Found::Damage if self.is_torn()? => break,
                Found::Damage => {
                    self.resynchronise()?;
                    marks = 0;
                }
                Found::End if self.at < self.len => return Ok(None),
                Found::End => break,
            }
        }
        let whole = WholePart {
            len: self.at,
            items: self.items,
            is_torn: self.at < self.len,
        };
        Ok(Some((whole, marks)))
    }

    /// True if the bytes from the current position to the end of the file can only be the beginning
    /// of a record whose writer was stopped: a length that goes beyond the end, with the beginning
    /// of a record, or a part of a length. It is not a frame whose first length was changed, and
    /// not a changed mark before others. Any other bytes may be worth something to a salvage.
    fn is_torn(&self) -> io::Result<bool> {
        let left = self.len - self.at;
        let Some(lead) = self.word_at(self.at)? else {
            return Ok(true);
        };
        let length = Length::parse(lead).filter(|length| length.frame_len() > left);
        let Some(length) = length else {
            return Ok(false);
        };
        let wanted = PROBED.min(length.bytes as usize);
        let mut data = vec![0; wanted.min((left - WORD) as usize)];
        self.fill(&mut data, self.at + WORD)?;
        let is_record = match data.len() == wanted {
            true => (self.probe)(&data) || looks_like_record(&data),
            false => data.is_empty() || data.iter().any(|byte| *byte != 0),
        };
        if !is_record || self.search(self.len)? < self.len {
            return Ok(false);
        }
        // A frame whose first length was changed has the right one at its end, and marks after it.
        let from = self.len.saturating_sub(MARKS_BACK).max(self.at);
        let mut tail = vec![0; (self.len - from) as usize];
        self.fill(&mut tail, from)?;
        while let Some((rest, &[0, 0, 0, 0])) = tail.split_last_chunk::<4>() {
            tail.truncate(rest.len());
        }
        let end = from + tail.len() as u64;
        let trailing = tail.split_last_chunk::<4>();
        let trailing = trailing.and_then(|(_, word)| Length::parse(u32::from_le_bytes(*word)));
        Ok(trailing.is_none_or(|length| self.at + length.frame_len() != end))
    }

    /// Looks for the item at the current position. Skips erase gaps.
    fn find_frame(&mut self) -> io::Result<Found> {
        if self.at < self.damaged_to {
            return Ok(Found::Damage);
        }
        let mut lead = self.word_at(self.at)?;
        while lead == Some(GAP) {
            self.at += WORD;
            lead = self.word_at(self.at)?;
        }
        Ok(match lead {
            None if self.at == self.len => Found::End,
            Some(END_OF_MEDIUM) if self.ends_here()? => Found::End,
            Some(MARK) => Found::Mark,
            Some(lead) => match self.frame_at(self.at, lead)? {
                Some((length, bad)) => Found::Frame(length, bad),
                None => Found::Damage,
            },
            None => Found::Damage,
        })
    }

    /// Reads the item at the current position, and goes to its end.
    fn next(&mut self, record: &mut Vec<u8>) -> io::Result<Item> {
        let (length, bad) = match self.find_frame()? {
            Found::End => return Ok(Item::End),
            Found::Mark => return Ok(Item::Mark(self.advance(self.at + WORD))),
            Found::Frame(length, bad) => (length, bad),
            Found::Damage if self.at < self.damaged_to => return Ok(self.pass_damage()),
            Found::Damage => return self.resynchronise(),
        };
        let end = self.at + length.frame_len();
        if bad {
            return Ok(Item::Damaged {
                skipped: length.frame_len(),
                at: self.advance(end),
            });
        }
        // The length is within the limit and within the file, so this takes no more memory than
        // the file has bytes.
        set_len(record, length.bytes.into())?;
        self.fill(record, self.at + WORD)?;
        if self.unreadable.get() {
            return Ok(Item::Damaged {
                skipped: length.frame_len(),
                at: self.advance(end),
            });
        }
        Ok(Item::Record(self.advance(end)))
    }

    /// Reads the item that ends at the current position, and goes to its start.
    ///
    /// A frame is found by its trailing length, and believed only if the leading length agrees.
    /// Without such a frame everything before the position counts as damaged, because a search
    /// backwards has no leading length to start from.
    fn previous(&mut self, record: &mut Vec<u8>) -> io::Result<Item> {
        self.damaged_to = 0;
        let mut trail = self.word_before(self.at)?;
        while self.at > self.begin && matches!(trail, Some(GAP | END_OF_MEDIUM)) {
            self.at -= WORD;
            trail = self.word_before(self.at)?;
        }
        if self.at == self.begin {
            return Ok(Item::End);
        }
        if trail == Some(MARK) {
            return Ok(Item::Mark(self.retreat(WORD)));
        }
        let length = trail
            .and_then(Length::parse)
            .filter(|length| length.frame_len() <= self.at - self.begin);
        if let Some(length) = length {
            let from = self.at - length.frame_len();
            if let Some((same, bad)) = self
                .read_frame_at(from)?
                .filter(|(same, _)| same.bytes == length.bytes)
            {
                set_len(record, same.bytes.into())?;
                self.fill(record, from + WORD)?;
                let (damaged, at) = (bad || self.unreadable.get(), self.retreat(same.frame_len()));
                return Ok(if damaged {
                    Item::Damaged {
                        at,
                        skipped: same.frame_len(),
                    }
                } else {
                    Item::Record(at)
                });
            }
        }
        Ok(Item::Damaged {
            skipped: self.at - self.begin,
            at: self.retreat(self.at - self.begin),
        })
    }

    /// The word before `at`, or none if fewer bytes precede it.
    fn word_before(&self, at: u64) -> io::Result<Option<u32>> {
        at.checked_sub(WORD).map_or(Ok(None), |at| self.word_at(at))
    }

    /// The frame that begins at `at`.
    fn read_frame_at(&self, at: u64) -> io::Result<Option<(Length, bool)>> {
        let lead = self.word_at(at)?;
        Ok(lead
            .map(|lead| self.frame_at(at, lead))
            .transpose()?
            .flatten())
    }

    /// Goes back over an item of `bytes` bytes, and returns its position.
    fn retreat(&mut self, bytes: u64) -> Position {
        (self.at, self.items) = (self.at - bytes, self.items.saturating_sub(1));
        Position {
            volume: self.volume,
            record: self.items,
            byte: self.at,
        }
    }

    /// True if the word at the current position, for the end of the medium, means that. It does
    /// after a mark, and directly before a record, where a tool has ended a volume that held more.
    /// Anywhere else it may be a part of a damaged record, and is one if a record follows closely.
    fn ends_here(&self) -> io::Result<bool> {
        // The words before it are asked, not the last item that was read: a position means the same
        // however it was reached.
        let mut before = self.at;
        let mut word = self.word_before(before)?;
        while word == Some(GAP) {
            before -= WORD;
            word = self.word_before(before)?;
        }
        if word == Some(MARK) {
            return Ok(true);
        }
        let until = self.len.min(self.at.saturating_add(2 * MOST_DAMAGED));
        let found = self.search(until)?;
        Ok(found == until || found == self.at + WORD)
    }

    /// Goes to `end`, past one item, and returns that item's position.
    fn advance(&mut self, end: u64) -> Position {
        let from = Position {
            volume: self.volume,
            record: self.items,
            byte: self.at,
        };
        (self.at, self.items) = (end, self.items.saturating_add(1));
        from
    }

    /// The length of the frame at `at`, which begins with `lead`, and true if either length word
    /// marks its data as bad. `None` if it is not a frame.
    fn frame_at(&self, at: u64, lead: u32) -> io::Result<Option<(Length, bool)>> {
        let Some(length) = Length::parse(lead).filter(|length| length.frame_len() <= self.len - at)
        else {
            return Ok(None);
        };
        // The trailing length is read before the data: a wrong length would cost a read of
        // megabytes, and a hostile volume may have a wrong length at every byte.
        let trailing = self
            .word_at(at + length.trailing_offset())?
            .and_then(Length::parse);
        let same = trailing.filter(|trailing| trailing.bytes == length.bytes);
        Ok(same.map(|trailing| (length, length.bad || trailing.bad)))
    }

    /// Searches the next record after the damage at `self.at`, or the end of the file, and passes
    /// the damage.
    fn resynchronise(&mut self) -> io::Result<Item> {
        let found = self.search(self.len)?;
        self.damaged_to = self.end_of_damage(found)?;
        Ok(self.pass_damage())
    }

    /// Goes to the end of the damage, or past as much of it as one read returns: the layer above is
    /// given all damaged bytes, because there may be parts of records among them.
    fn pass_damage(&mut self) -> Item {
        let end = self.damaged_to.min(self.at + MOST_DAMAGED);
        Item::Damaged {
            skipped: end - self.at,
            at: self.advance(end),
        }
    }

    /// The first offset after `self.at` and before `until` with a frame that the probe recognises,
    /// or `until`.
    ///
    /// The search reads windows and tests every offset in each. Consecutive windows overlap by the
    /// bytes that a test needs, so that every offset is tested with all of them.
    fn search(&self, until: u64) -> io::Result<u64> {
        let (mut from, mut size) = (self.at + 1, FIRST_WINDOW);
        let mut window = Vec::new();
        while from + SHORTEST_FRAME <= until {
            let left = until - from;
            set_len(&mut window, left.min(size))?;
            self.fill(&mut window, from)?;
            // Only offsets for which the window has a word and all bytes for the probe. At the end
            // of the file the probe gets as many as there are.
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
        Ok(until)
    }

    /// True if a record of the layer above begins at `at`. `bytes` are the file's bytes from there
    /// on: a word, and the bytes for the probe.
    fn is_record(&self, bytes: &[u8], at: u64) -> io::Result<bool> {
        let lead = word(bytes);
        // The tests that need no system call come first; they reject nearly every offset.
        if lead == MARK || lead as usize > MAX_RECORD {
            return Ok(false);
        }
        let data = &bytes[WORD as usize..];
        let probed = &data[..data.len().min(PROBED).min(lead as usize)];
        Ok((self.probe)(probed) && self.frame_at(at, lead)?.is_some())
    }

    /// The offset at which the damage at `self.at` ends, if the next record, or the end of the
    /// file, is at `found`.
    ///
    /// A search finds records only, so there may be marks, words of zeros, between the damage and
    /// `found`. They are believed if the damaged bytes are one frame with one right length: the
    /// leading one, which promises an end within those zeros, or the trailing one, which is the
    /// last word before them and has exactly the length of the damage. Otherwise the zeros may be
    /// data, and all bytes up to `found` are damaged.
    fn end_of_damage(&self, found: u64) -> io::Result<u64> {
        let promised = self
            .word_at(self.at)?
            .and_then(Length::parse)
            .map(|length| self.at + length.frame_len());
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
        let fits = trailing.is_some_and(|length| self.at + length.frame_len() == end);
        Ok(if fits { end } else { found })
    }

    /// The word at `at`, or none if the file ends within it.
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

    /// Fills `bytes` from `at` on. Sectors that cannot be read become zeros, and set `unreadable`.
    ///
    /// After an error of the drive, the next attempt reads only the rest of the sector at `at`. If
    /// that fails too, the sector is lost: it becomes zeros, and reading continues after it with
    /// everything that remains. More than [`MOST_UNREADABLE`] bytes of lost sectors in a row are an
    /// error.
    fn fill(&self, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
        self.unreadable.set(false);
        let (mut tried, mut in_a_row) = (false, 0);
        while !bytes.is_empty() {
            // The second attempt, in case the failure was temporary, reads one sector only.
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

impl<F: StorageFile> ReadVolume for VolumeReader<F> {
    fn number(&self) -> u32 {
        self.volume
    }

    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.start()?;
        let item = self.next(record);
        self.complete(item, record)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.start()?;
        let item = self.previous(record);
        self.complete(item, record)
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        let first = self.start()?.items();
        if to.byte > self.len {
            let what = format!("its file has {} bytes", self.len);
            return Err(MediumError::NoSuchPosition {
                path: self.path.clone(),
                to,
                what,
            });
        }
        (self.at, self.items, self.damaged_to) = match to.byte < self.begin {
            true => (self.begin, first, 0),
            false => (to.byte, to.record, 0),
        };
        Ok(())
    }

    fn seek_end(&mut self) -> Result<(), MediumError> {
        self.start()?;
        (self.at, self.items, self.damaged_to) = (self.len, Position::UNCOUNTED, 0);
        Ok(())
    }

    fn id(&mut self) -> Result<VolumeId, MediumError> {
        let record = self.start()?.record();
        Ok(record.map_or_else(VolumeId::default, |record| {
            VolumeId::new(record.id, record.ordinal)
        }))
    }
}

/// Sets the length of a record, for which there may be too little memory.
fn set_len(record: &mut Vec<u8>, len: u64) -> io::Result<()> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    record.try_reserve(len.saturating_sub(record.len()))?;
    record.resize(len, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_beyond_the_memory_is_an_error() {
        let mut record = vec![1; 10];
        let error = set_len(&mut record, u64::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        set_len(&mut record, 12).unwrap();
        assert_eq!(record, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
        set_len(&mut record, 0).unwrap();
        assert!(record.is_empty());
    }
}
