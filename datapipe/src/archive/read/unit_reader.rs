//! Reads the units of one session. `docs/wire-format.md`, "Reading, and recovering from damage".

use crate::media::{MediumError, MediumReader, Position};
use crate::wire::{MAX_STORED, UNIT_HEADER_LEN, UnitHeader, UnitKind};

use super::super::place::Place;
use super::super::report::AfterEnd;
use super::record_reader::{RecordReader, StreamItem};
use super::resync;
use super::shared_medium::SharedMedium;
use super::unit_event::UnitEvent;
use super::window::Window;

/// Reads units one after the other, and finds the next intact unit after damage.
pub(in crate::archive) struct UnitReader<M> {
    records: RecordReader<M>,
    window: Window,
    /// An item that was read and does not continue the window. It is used when the window is empty.
    pending: Option<StreamItem>,
    /// Length of the body of the last unit, at the front of the window.
    body: usize,
    /// Distance from the start of that body to the next unit.
    skip: usize,
    /// No unit header was found where one should be, and that was reported.
    is_lost: bool,
    /// Position after the last unit whose header was right: the next one is at this one or after
    /// it.
    floor: u64,
    /// Number of bytes that may be read again, to look for units in the body of one that is
    /// damaged. Each byte of the medium adds to it, so the work is bounded by the medium's length.
    rereads: u64,
    has_ended: bool,
}

/// Bytes that may be read again at the start: the longest unit.
const FIRST_REREADS: u64 = 2 * MAX_STORED as u64;

/// Bytes that may be read again for each byte that was read.
const REREADS: u64 = 4;

/// The outcome of an attempt to extend the window.
#[derive(PartialEq)]
enum Extension {
    /// The window, the events, or the end of the reader have changed: look again.
    Progress,
    /// The stream does not go on after the window.
    Interrupted,
}

impl<M: MediumReader> UnitReader<SharedMedium<M>> {
    /// Reads the archive of a session that is at `place`, from its start.
    pub(super) fn of_archive(
        medium: &SharedMedium<M>,
        session: [u8; 16],
        place: Place,
    ) -> Result<Self, MediumError> {
        let mut medium = medium.clone();
        match place.start {
            None => medium.rewind()?,
            Some(start) => medium.seek(start)?,
        }
        let mut units = Self::new(medium, Some(session)).within(place);
        if let Some(start) = place.start {
            units.moved(start.volume);
        }
        Ok(units)
    }
}

impl<M: MediumReader> UnitReader<M> {
    /// Reads from the current position of the medium, which is the start of the session. Without a
    /// session, that of the first intact record is read.
    pub(in crate::archive) fn new(medium: M, session: Option<[u8; 16]>) -> Self {
        Self {
            records: RecordReader::new(medium, session),
            window: Window::default(),
            pending: None,
            body: 0,
            skip: 0,
            is_lost: false,
            floor: 0,
            rereads: FIRST_REREADS,
            has_ended: false,
        }
    }

    /// Reads the session at `place` only, up to the next one.
    pub(in crate::archive) fn within(self, place: Place) -> Self {
        Self {
            records: self.records.within(place),
            ..self
        }
    }

    /// Continues at another position, in `volume`, to which the caller has moved the medium: with
    /// the first unit of the next record in which one begins.
    pub(super) fn moved(&mut self, volume: u32) {
        self.records.moved(volume);
        self.window = Window::detached();
        self.pending = None;
        (self.body, self.skip) = (0, 0);
        (self.is_lost, self.floor, self.has_ended) = (false, 0, false);
    }

    /// Ends after the item with which `bytes` have been read from here.
    pub(super) fn limit(&mut self, bytes: u64) {
        self.records.limit(bytes);
    }

    /// The session that is read, once it is known.
    pub(super) fn session(&self) -> Option<[u8; 16]> {
        self.records.session()
    }

    /// The first other session of which a record was found.
    pub(super) fn other_session(&self) -> Option<[u8; 16]> {
        self.records.other_session()
    }

    /// Bytes of all records that were read, and the last volume from which one was.
    pub(super) fn totals(&self) -> (u64, u32) {
        self.records.totals()
    }

    /// Number of records of kinds that this version does not know.
    pub(super) fn later_records(&self) -> u64 {
        self.records.later_records()
    }

    /// Looks at the medium after the end of the session.
    pub(super) fn look_after_end(&mut self) -> AfterEnd {
        self.records.look_after_end()
    }

    /// Body of the unit that [`next`](Self::next) returned last.
    pub(super) fn body(&self) -> &[u8] {
        &self.window.bytes()[..self.body]
    }

    /// Returns the next event.
    ///
    /// # Errors
    ///
    /// Failures of the medium. Damage is an event.
    pub(super) fn next(&mut self) -> Result<UnitEvent, MediumError> {
        self.window.consume(std::mem::take(&mut self.skip));
        self.body = 0;
        loop {
            if let Some(event) = self.records.next_event() {
                return Ok(event);
            }
            if self.has_ended {
                return Ok(UnitEvent::End);
            }
            if self.window.bytes().len() >= UNIT_HEADER_LEN {
                if let Some(event) = self.read_unit()? {
                    return Ok(event);
                }
            } else if self.extend()? == Extension::Interrupted {
                if !self.is_lost && !self.records.is_loose() {
                    let at = self.window.record();
                    let what = "the stream is cut in the middle of a header";
                    self.records.report(None, at, what.to_owned());
                }
                self.window.clear();
            }
        }
    }

    /// Returns the unit at the front of the window, or `None` if there is none, or none yet; the
    /// caller then looks again.
    ///
    /// A unit is accepted if its header is intact and carries the position at which it was found,
    /// if all of its body is in the window, and if the body has the right checksum and is followed
    /// by zeros. After that the header is consumed; the body stays at the front of the window for
    /// [`body`](Self::body), and `skip` is what [`next`](Self::next) consumes first.
    ///
    /// The reader is lost at a header that it does not accept. The window moves on to the next
    /// header that is right. Bytes may have been inserted, or may be missing, so that header may be
    /// at any byte, and it states its position. Only the first failure in a row is reported.
    ///
    /// A long unit needs many records. If one of them caused an event, this returns early so that
    /// the event is taken before more records are read: on a damaged tape the events of one unit
    /// could fill the memory. Nothing is lost, because the next call parses the same header again.
    fn read_unit(&mut self) -> Result<Option<UnitEvent>, MediumError> {
        let at = self.window.record();
        let header = match UnitHeader::parse(self.window.bytes()) {
            Ok(header) if self.is_ours(&header) => header,
            other => {
                if !self.is_lost {
                    self.is_lost = true;
                    let what = match other {
                        Ok(_) => "a unit header that belongs elsewhere".to_owned(),
                        Err(error) => error.to_string(),
                    };
                    self.records.report(None, at, what);
                }
                self.skip_to_unit();
                return Ok(None);
            }
        };
        let len = header.unit_len();
        self.floor = header.position;
        while self.window.bytes().len() < len {
            if self.records.has_events() {
                return Ok(None);
            }
            if self.extend()? == Extension::Interrupted {
                self.report_unit(&header, at, "cut off");
                self.skip_unit(&header, self.window.bytes().len());
                return Ok(None);
            }
        }
        self.is_lost = false;
        let stored = header.stored as usize;
        let (body, padding) = self.window.bytes()[UNIT_HEADER_LEN..len].split_at(stored);
        let defect = if crc32fast::hash(body) != header.body_crc {
            Some("damaged (checksum)")
        } else if padding.iter().any(|&byte| byte != 0) {
            Some("followed by bytes that are not zero")
        } else {
            None
        };
        if let Some(defect) = defect {
            self.report_unit(&header, at, defect);
            self.skip_unit(&header, len);
            return Ok(None);
        }
        self.floor = self.window.position().saturating_add(len as u64);
        self.window.consume(UNIT_HEADER_LEN);
        (self.body, self.skip) = (stored, len - UNIT_HEADER_LEN);
        Ok(Some(UnitEvent::Unit(header, at)))
    }

    /// Moves on from what is not a unit header to the next one. Without one, the last bytes are
    /// kept: they may be the start of one.
    fn skip_to_unit(&mut self) {
        let session = self.records.session();
        let Some(session) = session else {
            return self.window.consume(8);
        };
        let bytes = self.window.bytes();
        match resync::find_unit(bytes, session, self.floor) {
            Some((offset, header)) => self.window.consume_to(offset, header.position),
            None => self.window.consume(bytes.len() - (UNIT_HEADER_LEN - 1)),
        }
    }

    /// Moves past a damaged unit, whose first `len` bytes are in the window. Some of its bytes may
    /// be missing, so that the next unit begins before its end: it is looked for.
    fn skip_unit(&mut self, header: &UnitHeader, len: usize) {
        self.floor = header.position.saturating_add(header.unit_len() as u64);
        if let Some(session) = self.records.session() {
            let bytes = self.window.bytes();
            let reach = bytes.len().min(len + UNIT_HEADER_LEN - 1);
            let found = resync::find_unit(&bytes[..reach], session, self.floor);
            let cost = |offset: usize| len.saturating_sub(offset) as u64;
            if let Some((offset, next)) = found
                && let Some(left) = self.rereads.checked_sub(cost(offset))
            {
                self.rereads = left;
                return self.window.consume_to(offset, next.position);
            }
        }
        self.window.consume(len);
    }

    /// True if a header belongs to this session, and to this position. The content of a block may
    /// be an archive with intact headers of its own, which must not be taken for units.
    fn is_ours(&self, header: &UnitHeader) -> bool {
        let is_of_session = self
            .records
            .session()
            .is_none_or(|session| session.starts_with(&header.session));
        is_of_session && header.position == self.window.position()
    }

    /// Reports the defect of a unit, as damage of the block if the unit is one of the archive.
    fn report_unit(&mut self, header: &UnitHeader, at: Option<Position>, defect: &str) {
        let is_block = header.kind == UnitKind::Block && header.archive == self.records.archive();
        let block = is_block.then_some(header.number);
        let what = format!("the {} is {defect}", header.kind.name());
        self.records.report(block, at, what);
    }

    /// Extends the window by a record, if the next one continues it.
    ///
    /// A window that has bytes left can only be continued by a record that begins exactly at its
    /// end; any other item interrupts it, and is kept as pending until the caller has discarded the
    /// bytes. An empty window takes every item: a mark becomes an event, and a record starts the
    /// window anew. If there is a gap before that record, its bytes up to the first unit header are
    /// the end of a unit that is lost, and are skipped.
    fn extend(&mut self) -> Result<Extension, MediumError> {
        let item = match self.pending.take() {
            Some(item) => item,
            None => match self.records.read(self.window.end())? {
                Some(item) => item,
                None => return Ok(Extension::Progress),
            },
        };
        if !self.window.bytes().is_empty() {
            match item {
                StreamItem::Record(header, at) if self.window.cut_to(header.position) => {
                    let content = self.records.content();
                    self.rereads = self.rereads.saturating_add(REREADS * content.len() as u64);
                    self.window.append(content, at)?;
                    self.records.accept();
                    return Ok(Extension::Progress);
                }
                other => {
                    self.pending = Some(other);
                    return Ok(Extension::Interrupted);
                }
            }
        }
        match item {
            StreamItem::Mark => self.records.push_event(UnitEvent::Mark),
            StreamItem::End => self.has_ended = true,
            StreamItem::Loose(at) => self.begin(self.floor, Some(0), false, at)?,
            StreamItem::Record(header, at) => {
                let goes_on = header.position == self.window.position();
                let first = if goes_on || self.records.is_loose() {
                    Some(0)
                } else {
                    header.first.map(|first| first as usize)
                };
                if !self.records.is_loose() {
                    self.floor = header.position;
                }
                self.begin(header.position, first, goes_on, at)?;
            }
        }
        Ok(Extension::Progress)
    }

    /// Starts the window anew with the content of a record that begins at `position`, from byte
    /// `first` on. It goes on where the window ended, or there is a gap before it.
    fn begin(
        &mut self,
        position: u64,
        first: Option<usize>,
        goes_on: bool,
        at: Position,
    ) -> Result<(), MediumError> {
        let (content, is_loose) = (self.records.content(), self.records.is_loose());
        self.rereads = self.rereads.saturating_add(REREADS * content.len() as u64);
        self.window.begin(position, content, first, at)?;
        // The report of the gap covers the unit that the gap has cut.
        self.is_lost = first.is_none() || is_loose && !goes_on || goes_on && self.is_lost;
        self.records.accept();
        Ok(())
    }
}
