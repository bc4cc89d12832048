//! The medium: records are gathered in parts, and found in them again.

use std::io;

use datapipe::StageError;
use datapipe::archive::MediumArgs;
use datapipe::limits::{MAX_RECORD, MIN_VOLUME_SIZE, VOLUME_RESERVE};
use datapipe::media::{
    Abilities, HandleError, Item, MediumError, MediumHandle, MediumReader, MediumWriter, Position,
};
use datapipe::stage::Arguments;

use crate::part::{self, Frame};
use crate::site::{Parts, Site};
use crate::uploads::Uploads;

/// Sizes of a medium that is written.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ObjectOptions {
    /// Bytes after which a part is uploaded. A longer record is a part of its own.
    pub part_len: usize,
    /// Most bytes of a volume.
    pub volume_size: u64,
    /// Parts that are uploaded at the same time. They are in memory meanwhile.
    pub uploads: usize,
}

impl Default for ObjectOptions {
    fn default() -> Self {
        Self {
            part_len: 8 << 20,
            volume_size: 64 << 30,
            uploads: 4,
        }
    }
}

/// An archive's medium in an object storage: what opens it.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObjectMedium;

/// An archive's medium in an object storage, open to write.
#[derive(Debug)]
pub struct ObjectWriter {
    site: Site,
    writer: Writer,
}

/// An archive's medium in an object storage, open to read.
#[derive(Debug)]
pub struct ObjectReader {
    site: Site,
    reader: Reader,
}

impl ObjectMedium {
    /// Name of the module that opens the medium in a process: `modules.with_medium(
    /// ObjectMedium::MODULE, ObjectMedium::create_from, ObjectMedium::open_from)`.
    pub const MODULE: &str = "object-storage";

    /// Opens a site to write. It must have no parts.
    ///
    /// # Errors
    ///
    /// [`MediumError::NotEmpty`], [`MediumError::VolumeTooSmall`], and [`MediumError::Io`] if the
    /// storage fails.
    pub fn create(site: Site, options: ObjectOptions) -> Result<ObjectWriter, MediumError> {
        let (size, min) = (options.volume_size, MIN_VOLUME_SIZE);
        if size < min {
            return Err(MediumError::VolumeTooSmall { size, min });
        }
        if !site.parts()?.is_empty() {
            return Err(MediumError::NotEmpty { path: site.path() });
        }
        let writer = Writer {
            options,
            uploads: Uploads::new(options.uploads),
            volume: 1,
            items: 0,
            from: 0,
            part: Vec::new(),
            ended: false,
        };
        Ok(ObjectWriter { site, writer })
    }

    /// Opens a site to read.
    ///
    /// # Errors
    ///
    /// [`MediumError::NoVolumes`], and [`MediumError::Io`] if the storage fails.
    pub fn open(site: Site) -> Result<ObjectReader, MediumError> {
        let parts = site.parts()?;
        let reader = Reader {
            last: parts.keys().copied().max().unwrap_or(1),
            parts,
            volume: 1,
            at: 0,
            items: 0,
            loaded: None,
        };
        Ok(ObjectReader { site, reader })
    }

    /// Opens the medium to write in a process, from the arguments of its handle.
    ///
    /// # Errors
    ///
    /// As [`Site::of_url`] and [`create`](Self::create).
    pub fn create_from(args: &MediumArgs<'_>) -> Result<ObjectWriter, StageError> {
        let mut fields = args.fields()?;
        let site = Site::of_url(fields.text("url")?)?;
        let default = ObjectOptions::default();
        let options = ObjectOptions {
            part_len: fields.number_or("part-len", default.part_len)?,
            volume_size: fields.number_or("volume-size", default.volume_size)?,
            uploads: fields.number_or("uploads", default.uploads)?,
        };
        fields.end()?;
        Ok(Self::create(site, options)?)
    }

    /// Opens the medium to read in a process, from the arguments of its handle.
    ///
    /// # Errors
    ///
    /// As [`Site::of_url`] and [`open`](Self::open).
    pub fn open_from(args: &MediumArgs<'_>) -> Result<ObjectReader, StageError> {
        let mut fields = args.fields()?;
        let site = Site::of_url(fields.text("url")?)?;
        fields.end()?;
        Ok(Self::open(site)?)
    }
}

impl ObjectWriter {
    fn longest_record(&self) -> usize {
        let longest = (self.writer.options.volume_size - VOLUME_RESERVE - 8) & !1;
        longest.min(MAX_RECORD as u64) as usize
    }
}

impl MediumWriter for ObjectWriter {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        let (len, max) = (record.len(), self.longest_record());
        if len == 0 {
            return Err(MediumError::Empty);
        }
        if len > max {
            return Err(MediumError::TooLong { len, max });
        }
        // Records leave the reserve free until one did not fit; after that, room for a mark.
        let reserve = if self.writer.ended { 4 } else { VOLUME_RESERVE };
        self.writer.push(&self.site, record, reserve)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.writer.push(&self.site, &[], 0).map(drop)
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        self.writer.upload(&self.site)?;
        self.writer.uploads.finish(&self.site)
    }

    fn next_volume(&mut self) -> Result<(), MediumError> {
        self.sync()?;
        let writer = &mut self.writer;
        writer.volume += 1;
        (writer.items, writer.from, writer.ended) = (0, 0, false);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), MediumError> {
        self.sync() // a site that has parts is not replaced
    }

    fn abilities(&self) -> Abilities {
        Abilities::default().longest_record(self.longest_record())
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        let url = self.site.url().ok_or(HandleError::Unsupported)?;
        if (self.writer.volume, self.writer.items) != (1, 0) {
            return Err(HandleError::Written);
        }
        let options = &self.writer.options;
        let arguments = Arguments::new()
            .with("url", url)
            .with("part-len", options.part_len.to_string())
            .with("volume-size", options.volume_size.to_string())
            .with("uploads", options.uploads.to_string());
        Ok(MediumHandle::of_module(ObjectMedium::MODULE, arguments))
    }
}

impl MediumReader for ObjectReader {
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        record.clear();
        self.reader.read(&self.site, record)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        record.clear();
        self.reader.read_back(&self.site, record)
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        self.reader.next_volume(&self.site)
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        let reader = &mut self.reader;
        if to.volume == 0 || to.volume > reader.last || to.byte > reader.end_of(to.volume) {
            return Err(reader.nowhere(&self.site, to));
        }
        (reader.volume, reader.at, reader.items) = (to.volume, to.byte, to.record);
        Ok(())
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        let reader = &mut self.reader;
        let volume = volume.unwrap_or(reader.last);
        if volume == 0 || volume > reader.last {
            return Err(reader.nowhere(&self.site, Position::start_of(volume)));
        }
        (reader.volume, reader.at) = (volume, reader.end_of(volume));
        reader.items = Position::UNCOUNTED;
        Ok(())
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        let url = self.site.url().ok_or(HandleError::Unsupported)?;
        let arguments = Arguments::new().with("url", url);
        Ok(MediumHandle::of_module(ObjectMedium::MODULE, arguments))
    }
}

/// The part that is filled, and those that are uploaded.
#[derive(Debug)]
struct Writer {
    options: ObjectOptions,
    uploads: Uploads,
    volume: u32,
    /// Records and marks of the volume.
    items: u64,
    /// First byte of the part in the volume.
    from: u64,
    part: Vec<u8>,
    /// A record did not fit in the volume any more.
    ended: bool,
}

impl Writer {
    /// Adds a record, or a mark if it has no bytes, unless fewer than `reserve` bytes would remain.
    fn push(&mut self, site: &Site, record: &[u8], reserve: u64) -> Result<Position, MediumError> {
        self.uploads.check(site)?;
        let mut position = Position::start_of(self.volume);
        (position.record, position.byte) = (self.items, self.from + self.part.len() as u64);
        let end = position.byte + Frame::len_of(record.len());
        if end + reserve > self.options.volume_size {
            self.ended = true;
            return Err(MediumError::EndOfVolume {
                volume: self.volume,
            });
        }
        // Before the record is taken: an error must leave nothing of it.
        if self.part.len() >= self.options.part_len {
            self.upload(site)?;
        }
        part::put(&mut self.part, record);
        self.items += 1;
        Ok(position)
    }

    /// Begins to upload the part.
    fn upload(&mut self, site: &Site) -> Result<(), MediumError> {
        self.uploads.check(site)?;
        if self.part.is_empty() {
            return Ok(());
        }
        let part = std::mem::take(&mut self.part);
        let (from, len) = (self.from, part.len() as u64);
        self.uploads.begin(site, self.volume, from, part)?;
        self.from += len;
        Ok(())
    }
}

/// A position between two items, and the part that was read last.
#[derive(Debug)]
struct Reader {
    parts: Parts,
    last: u32,
    volume: u32,
    at: u64,
    items: u64,
    /// Volume, first byte, and bytes of a part.
    loaded: Option<(u32, u64, Vec<u8>)>,
}

impl Reader {
    fn position(&self) -> Position {
        let mut position = Position::start_of(self.volume);
        (position.record, position.byte) = (self.items, self.at);
        position
    }

    fn end_of(&self, volume: u32) -> u64 {
        let parts = self.parts.get(&volume);
        parts
            .and_then(|parts| parts.last())
            .map_or(0, |(from, len)| from + len)
    }

    fn nowhere(&self, site: &Site, to: Position) -> MediumError {
        MediumError::NoSuchPosition {
            path: site.path(),
            to,
            what: format!("it has volumes 1 to {}", self.last),
        }
    }

    fn next_volume(&mut self, site: &Site) -> Result<bool, MediumError> {
        if self.volume >= self.last {
            return Ok(false);
        }
        self.volume += 1;
        (self.at, self.items) = (0, 0);
        if !self.parts.contains_key(&self.volume) {
            return Err(MediumError::MissingVolume {
                path: site.path().join(format!("{:06}", self.volume)),
                volume: self.volume,
                last: self.last,
            });
        }
        Ok(true)
    }

    /// Loads the part that contains the byte at `at`, and returns its first byte; `None` if no part
    /// contains it.
    fn load(&mut self, site: &Site, at: u64) -> Result<Option<u64>, MediumError> {
        let parts = self.parts.get(&self.volume).map_or(&[][..], Vec::as_slice);
        let contains = |(from, len): &&(u64, u64)| (*from..from + len).contains(&at);
        let Some(&(from, len)) = parts.iter().find(contains) else {
            return Ok(None);
        };
        let is_loaded =
            |(volume, loaded, _): &(u32, u64, Vec<u8>)| (*volume, *loaded) == (self.volume, from);
        if !self.loaded.as_ref().is_some_and(is_loaded) {
            let bytes = site.read(self.volume, from)?;
            if bytes.len() as u64 != len {
                return Err(MediumError::Io {
                    doing: "read",
                    path: site.path(),
                    source: io::Error::other("a part has changed since it was listed"),
                });
            }
            self.loaded = Some((self.volume, from, bytes));
        }
        Ok(Some(from))
    }

    fn part(&self) -> &[u8] {
        self.loaded.as_ref().map_or(&[], |(_, _, bytes)| bytes)
    }

    fn read(&mut self, site: &Site, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        let at = self.position();
        if self.at >= self.end_of(self.volume) {
            return Ok(Item::End);
        }
        let Some(from) = self.load(site, self.at)? else {
            // A part is missing: on to the next one.
            let parts = self.parts.get(&self.volume).map_or(&[][..], Vec::as_slice);
            let next = parts.iter().find(|(from, _)| *from > self.at);
            let next = next.map_or(self.at, |(from, _)| *from);
            return Ok(self.skip_to(at, next));
        };
        let start = (self.at - from) as usize;
        let Some(frame) = Frame::after(self.part(), start) else {
            let end = from + self.part().len() as u64;
            return Ok(self.skip_to(at, end));
        };
        let bytes = part::record_at(start);
        record.extend_from_slice(&self.part()[bytes..bytes + frame.record]);
        self.at += frame.len as u64;
        self.items = self.items.wrapping_add(1);
        Ok(item(frame, at))
    }

    fn skip_to(&mut self, at: Position, next: u64) -> Item {
        let skipped = next - self.at;
        self.at = next;
        self.items = self.items.wrapping_add(1);
        Item::Damaged { at, skipped }
    }

    fn read_back(&mut self, site: &Site, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        if self.at == 0 {
            return Ok(Item::End);
        }
        self.items = self.items.wrapping_sub(1);
        let frame = match self.load(site, self.at - 1)? {
            None => None,
            Some(from) => {
                let end = (self.at - from) as usize;
                Frame::before(self.part(), end).map(|frame| (frame, end - frame.len))
            }
        };
        let Some((frame, start)) = frame else {
            // Reading back cannot pass damage.
            let skipped = std::mem::take(&mut self.at);
            let at = self.position();
            return Ok(Item::Damaged { at, skipped });
        };
        let bytes = part::record_at(start);
        if frame.record > 0 {
            record.extend_from_slice(&self.part()[bytes..bytes + frame.record]);
        }
        self.at -= frame.len as u64;
        Ok(item(frame, self.position()))
    }
}

fn item(frame: Frame, at: Position) -> Item {
    if frame.record == 0 {
        Item::Mark(at)
    } else {
        Item::Record(at)
    }
}
