//! Records to units, and the way after damage. `docs/wire-format.md`, "Reading, and finding the way
//! after damage".

use std::collections::VecDeque;

use crate::media::{Item, Medium, MediumError, Position};
use crate::wire::{
    RECORD_HEADER_LEN, RecordHeader, RecordKind, UNIT_HEADER_LEN, UnitHeader, UnitKind,
    looks_like_record,
};

/// Reads the units of one session, one after the other.
pub(in crate::archive) struct Units<M> {
    medium: M,
    /// Whose records count: the first right record's, if nobody said.
    session: Option<[u8; 16]>,
    /// Sequence of the next record.
    sequence: u64,
    /// Records before it whose headers were damaged, and which may have been none of the session's.
    guessed: u64,
    /// Number of the volume that is being read.
    volume: u32,
    record: Vec<u8>,
    window: Window,
    /// What comes behind the window, but not next to it.
    behind: Option<Behind>,
    /// What was found while units were read, and is to be told first.
    found: VecDeque<Event>,
    /// The unit that was given last: bytes of its body, and to the next unit.
    body: usize,
    skip: usize,
    /// No header stood where one should have, and this was said.
    lost: bool,
    /// Records are gone, and this was said.
    gap: bool,
    /// Records of another session stand here, and this was said.
    foreign: bool,
    /// The first of the other sessions that have records here.
    other: Option<[u8; 16]>,
    /// Bytes of the records that were read, and the last volume that had one.
    met: (u64, u32),
    ended: bool,
}

/// What comes next.
#[derive(Debug)]
pub(in crate::archive) enum Event {
    /// A unit, whose body [`Units::body`] has.
    Unit(UnitHeader, Option<Position>),
    /// A copy of a unit on a volume's label.
    Label(UnitHeader, Vec<u8>),
    /// Something is not as it should be.
    Damage(Damage),
    /// A file mark: everything before it was on stable storage.
    Mark,
    /// There is no more.
    End,
}

/// Damage, as far as the stream shows it.
#[derive(Debug)]
pub(in crate::archive) struct Damage {
    /// The block, if it is known.
    pub(in crate::archive) block: Option<u64>,
    pub(in crate::archive) place: Option<Position>,
    pub(in crate::archive) what: String,
}

/// What ends the part of the stream that is in memory.
enum Behind {
    Record(RecordHeader, Position),
    Mark,
    End,
}

/// What an attempt to have more of the stream came to.
#[derive(PartialEq)]
enum Pulled {
    More,
    /// What is in the window does not go on.
    Cut,
}

/// The part of the stream that is in memory: what was read and not used yet.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    /// Bytes at the front that were used.
    used: usize,
    /// Position of the first byte behind them.
    position: u64,
    /// Where the records begin whose bytes are here, and where they stand.
    places: VecDeque<(u64, Position)>,
}

impl<M: Medium> Units<M> {
    /// Reads from the start of the session, where the medium stands.
    pub(in crate::archive) fn new(medium: M, session: Option<[u8; 16]>) -> Self {
        Self {
            medium,
            session,
            sequence: 0,
            guessed: 0,
            volume: 1,
            record: Vec::new(),
            window: Window::default(),
            behind: None,
            found: VecDeque::new(),
            body: 0,
            skip: 0,
            lost: false,
            gap: false,
            foreign: false,
            other: None,
            met: (0, 0),
            ended: false,
        }
    }

    /// Goes on from where the medium was sought to, at the first header of the next record that has
    /// one.
    pub(in crate::archive) fn moved(&mut self, volume: u32) {
        (self.sequence, self.guessed, self.volume) = (0, 0, volume);
        // At no position that a record could go on from.
        self.window = Window {
            position: u64::MAX,
            ..Window::default()
        };
        self.behind = None;
        self.found.clear();
        (self.body, self.skip) = (0, 0);
        (self.lost, self.gap, self.foreign, self.ended) = (false, true, false, false);
    }

    /// The session whose records count, once it is known.
    pub(in crate::archive) fn session(&self) -> Option<[u8; 16]> {
        self.session
    }

    /// Another session that has records here, if one has.
    pub(in crate::archive) fn other_session(&self) -> Option<[u8; 16]> {
        self.other
    }

    /// Bytes of the records that were read, and the last volume that had one.
    pub(in crate::archive) fn met(&self) -> (u64, u32) {
        self.met
    }

    /// The body of the unit that [`next`](Self::next) gave last.
    pub(in crate::archive) fn body(&self) -> &[u8] {
        &self.window.rest()[..self.body]
    }

    /// What comes next.
    ///
    /// # Errors
    ///
    /// What the medium says, but for what is damage.
    pub(in crate::archive) fn next(&mut self) -> Result<Event, MediumError> {
        self.window.consume(std::mem::take(&mut self.skip));
        self.body = 0;
        loop {
            if let Some(event) = self.found.pop_front() {
                return Ok(event);
            }
            if self.ended {
                return Ok(Event::End);
            }
            if self.window.rest().len() >= UNIT_HEADER_LEN {
                if let Some(event) = self.unit()? {
                    return Ok(event);
                }
            } else if self.pull()? == Pulled::Cut {
                if !self.lost {
                    let place = self.window.place();
                    self.say(
                        None,
                        place,
                        "the stream is cut in the middle of a header".to_owned(),
                    );
                }
                self.window.clear();
            }
        }
    }

    /// The unit at the front of the window, if one is there.
    fn unit(&mut self) -> Result<Option<Event>, MediumError> {
        let place = self.window.place();
        let header = match UnitHeader::parse(self.window.rest()) {
            Ok(header) if self.is_ours(&header) => header,
            other => {
                let why = match other {
                    Ok(_) => "a unit header that belongs elsewhere".to_owned(),
                    Err(malformed) => malformed.to_string(),
                };
                if !std::mem::replace(&mut self.lost, true) {
                    self.say(None, place, why);
                }
                self.window.consume(8);
                return Ok(None);
            }
        };
        let (stored, len) = (header.stored as usize, header.unit_len());
        while self.window.rest().len() < len {
            // What was found on the way is told at once: a tape full of it would fill the memory.
            if !self.found.is_empty() {
                return Ok(None);
            }
            if self.pull()? == Pulled::Cut {
                self.say(
                    block_of(&header),
                    place,
                    format!("the {} is cut off", header.kind.name()),
                );
                self.window.clear();
                return Ok(None);
            }
        }
        self.lost = false;
        let (body, padding) = self.window.rest()[UNIT_HEADER_LEN..len].split_at(stored);
        let why = if crc32fast::hash(body) != header.body_crc {
            Some("damaged (checksum)")
        } else if padding.iter().any(|&byte| byte != 0) {
            Some("followed by bytes that are not zero")
        } else {
            None
        };
        if let Some(why) = why {
            self.window.consume(len);
            self.say(
                block_of(&header),
                place,
                format!("the {} is {why}", header.kind.name()),
            );
            return Ok(None);
        }
        self.window.consume(UNIT_HEADER_LEN);
        (self.body, self.skip) = (stored, len - UNIT_HEADER_LEN);
        Ok(Some(Event::Unit(header, place)))
    }

    /// A backed-up medium holds right headers, too, but of another session, or of another position.
    fn is_ours(&self, header: &UnitHeader) -> bool {
        let session = self
            .session
            .is_none_or(|session| session.starts_with(&header.session));
        session && header.position == self.window.position
    }

    /// Makes the window longer by a record, if one goes on where it ends.
    fn pull(&mut self) -> Result<Pulled, MediumError> {
        let behind = match self.behind.take() {
            Some(behind) => Some(behind),
            None => self.read()?,
        };
        let Some(behind) = behind else {
            return Ok(Pulled::More);
        };
        if !self.window.rest().is_empty() {
            if let Behind::Record(header, place) = &behind
                && header.position == self.window.end()
            {
                let content = content_of(&self.record, header);
                self.window.append(content, *place);
                // What goes on has no gap before it.
                self.gap = false;
                return Ok(Pulled::More);
            }
            self.behind = Some(behind);
            return Ok(Pulled::Cut);
        }
        match behind {
            Behind::Mark => self.found.push_back(Event::Mark),
            Behind::End => self.ended = true,
            Behind::Record(header, place) => {
                let content = content_of(&self.record, &header);
                let goes_on = header.position == self.window.position;
                // Behind a gap, what comes before the first header is the end of something that is
                // lost.
                let first = if goes_on {
                    Some(0)
                } else {
                    header.first.map(|first| first as usize)
                };
                self.window.begin(header.position, content, first, place);
                // What was said of the gap is enough said of what it cut.
                self.lost = first.is_none() || (goes_on && self.lost);
                self.gap = false;
            }
        }
        Ok(Pulled::More)
    }

    /// Reads up to something that matters to the stream. `None`: something else was found.
    fn read(&mut self) -> Result<Option<Behind>, MediumError> {
        match self.medium.read(&mut self.record) {
            Ok(Item::Record(place)) => {
                let (bytes, volume) = self.met;
                self.met = (bytes + self.record.len() as u64, volume.max(place.volume));
                Ok(self.sort_record(place))
            }
            Ok(Item::Mark(_)) => Ok(Some(Behind::Mark)),
            Ok(Item::Damaged { at, skipped }) => {
                self.say(None, Some(at), format!("{skipped} bytes are no record"));
                self.gap = true;
                Ok(self.find_record().then(|| self.sort_record(at)).flatten())
            }
            Ok(Item::End) => self.next_volume(),
            Err(MediumError::MissingVolume { .. }) => self.next_volume(),
            Err(error) => Err(error),
        }
    }

    fn next_volume(&mut self) -> Result<Option<Behind>, MediumError> {
        match self.medium.next_volume() {
            Ok(true) => {
                self.volume += 1;
                Ok(None)
            }
            Ok(false) => Ok(Some(Behind::End)),
            Err(error @ MediumError::MissingVolume { .. }) => {
                self.volume += 1;
                self.lose(Position::start_of(self.volume), error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the record that was read is the next of this session.
    fn sort_record(&mut self, place: Position) -> Option<Behind> {
        let header = match RecordHeader::parse(&self.record) {
            Ok((header, _)) => header,
            Err(malformed) => {
                let intact = !self.gap;
                self.lose(place, malformed.to_string());
                return intact.then(|| self.guess_record(place)).flatten();
            }
        };
        let session = *self.session.get_or_insert(header.session);
        if header.session != session {
            let what = match header.kind {
                RecordKind::Label => "the wrong volume: it belongs to another session",
                RecordKind::Data => "a foreign record: it belongs to another session",
            };
            self.other.get_or_insert(header.session);
            if !std::mem::replace(&mut self.foreign, true) {
                self.say(None, Some(place), what.to_owned());
            }
            return None;
        }
        self.foreign = false;
        let expected = self.sequence;
        // A guess too many must not cost the record that it was taken for.
        let guessed = std::mem::take(&mut self.guessed);
        if header.sequence < expected.saturating_sub(guessed) {
            let what = format!(
                "record {} of the session stands behind a later one",
                header.sequence
            );
            self.say(None, Some(place), what);
            return None;
        }
        if header.sequence > expected && !self.gap {
            let missing = header.sequence - expected;
            self.lose(
                place,
                format!("{missing} records of the session are missing before this one"),
            );
        }
        self.sequence = header.sequence.saturating_add(1);
        if header.kind == RecordKind::Label && header.volume != place.volume {
            let what = format!(
                "this is volume {} of the session, out of order",
                header.volume
            );
            self.say(None, Some(place), what);
        }
        match header.kind {
            RecordKind::Data => {
                if place.record == 0 {
                    self.say(None, Some(place), "the volume has no label".to_owned());
                }
                Some(Behind::Record(header, place))
            }
            RecordKind::Label => {
                let content = content_of(&self.record, &header).to_vec();
                self.read_label(&content, place);
                None
            }
        }
    }

    /// Looks for a record of ours in damaged bytes, and keeps what is left of it. A length word may
    /// be all that is damaged.
    fn find_record(&mut self) -> bool {
        let starts = 0..self.record.len().saturating_sub(RECORD_HEADER_LEN);
        let found = starts.into_iter().find_map(|at| {
            let (header, content) = self.record[at..].split_at(RECORD_HEADER_LEN);
            if !looks_like_record(header) {
                return None;
            }
            let header = RecordHeader::parse_header(header).ok()?;
            let left = content.len().min(header.length as usize) / 8 * 8;
            (left > 0 && self.session.is_none_or(|session| session == header.session))
                .then_some((at, header, left))
        });
        let Some((at, header, left)) = found else {
            return false;
        };
        let first = header.first.filter(|&first| (first as usize) < left);
        let header = RecordHeader {
            length: left as u32,
            first,
            ..header
        };
        self.record.drain(..at);
        self.record.truncate(RECORD_HEADER_LEN + left);
        self.record[..RECORD_HEADER_LEN].copy_from_slice(&header.to_bytes());
        true
    }

    /// Takes a record whose header is damaged for the one that should stand here: its units say
    /// where they belong, so if it is another, they are not believed.
    fn guess_record(&mut self, place: Position) -> Option<Behind> {
        let sequence = self.sequence;
        let length = self
            .record
            .len()
            .checked_sub(RECORD_HEADER_LEN)
            .filter(|len| len.is_multiple_of(8))?;
        self.sequence = sequence.saturating_add(1);
        self.guessed = self.guessed.saturating_add(1);
        // The first of a volume is its label, whose content is no part of the stream.
        if place.record == 0 || length == 0 {
            return None;
        }
        let (session, position) = (self.session?, self.window.end());
        // A header may have lied, so that there is no position behind it.
        position.checked_add(length as u64)?;
        let (kind, volume, length) = (RecordKind::Data, place.volume, length as u32);
        Some(Behind::Record(
            RecordHeader {
                kind,
                session,
                sequence,
                volume,
                length,
                position,
                first: None,
            },
            place,
        ))
    }

    /// Takes the copies of units from a label.
    fn read_label(&mut self, mut content: &[u8], place: Position) {
        while !content.is_empty() {
            let unit = UnitHeader::parse(content)
                .ok()
                .filter(|header| header.unit_len() <= content.len());
            let Some(header) = unit else {
                self.say(
                    None,
                    Some(place),
                    "the volume's label is damaged".to_owned(),
                );
                return;
            };
            let (unit, rest) = content.split_at(header.unit_len());
            let body = &unit[UNIT_HEADER_LEN..][..header.stored as usize];
            if crc32fast::hash(body) == header.body_crc {
                self.found.push_back(Event::Label(header, body.to_vec()));
            } else {
                self.say(
                    None,
                    Some(place),
                    "the volume's label is damaged".to_owned(),
                );
            }
            content = rest;
        }
    }

    /// A part of the stream is gone.
    fn lose(&mut self, place: Position, what: String) {
        self.gap = true;
        self.say(None, Some(place), what);
    }

    fn say(&mut self, block: Option<u64>, place: Option<Position>, what: String) {
        self.found
            .push_back(Event::Damage(Damage { block, place, what }));
    }
}

impl Window {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// Position behind the last byte.
    fn end(&self) -> u64 {
        self.position + self.rest().len() as u64
    }

    /// Where the record stands in which the front is.
    fn place(&self) -> Option<Position> {
        // The first, for those of what was used are gone: a long unit of tiny records has millions.
        self.places.front().map(|&(_, place)| place)
    }

    fn consume(&mut self, len: usize) {
        self.used += len;
        self.position += len as u64;
        while self
            .places
            .get(1)
            .is_some_and(|(begins, _)| *begins <= self.position)
        {
            self.places.pop_front();
        }
        // Moving what is left is worth it once it is less than what is gone.
        if self.used > self.bytes.len() / 2 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
    }

    fn append(&mut self, content: &[u8], place: Position) {
        self.places.push_back((self.end(), place));
        self.bytes.extend_from_slice(content);
    }

    /// Starts anew with a record's content from `first` on.
    fn begin(&mut self, position: u64, content: &[u8], first: Option<usize>, place: Position) {
        self.clear();
        let first = first.unwrap_or(content.len());
        self.position = position + first as u64;
        self.append(&content[first..], place);
    }

    /// Gives up what was not used.
    fn clear(&mut self) {
        self.position = self.end();
        self.bytes.clear();
        self.used = 0;
        self.places.clear();
    }
}

/// The content of a record, which `header` says how long it is.
fn content_of<'a>(record: &'a [u8], header: &RecordHeader) -> &'a [u8] {
    record.split_at(record.len() - header.length as usize).1
}

/// The number of a block, if the unit is one.
fn block_of(header: &UnitHeader) -> Option<u64> {
    (header.kind == UnitKind::Block).then_some(header.number)
}
