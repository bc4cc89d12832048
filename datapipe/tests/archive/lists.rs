//! Lists of sessions and archives: the bytes that they read, also of forged media, and records that
//! are out of place.

use std::fs;
use std::sync::{Arc, Mutex};

use datapipe::archive::{ListedArchive, Session, SessionOptions, Sessions};
use datapipe::limits::{MAX_ARCHIVES, MIN_RECORD};
use datapipe::media::{Item, MediumError, Position, VolumeId};
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, Random, frames};
use datapipe::wire::{
    ArchiveEntry, LabelPlace, RecordHeader, RecordKind, SessionFooter, UnitHeader, UnitKind,
    looks_like_record,
};

use crate::data::{key, setting};
use crate::fixture::{TAPE, volume};
use crate::medium::open;
use crate::site::{SMALL, Scale, Site, sites};

/// Bytes and items that were read of a medium.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<Mutex<(u64, u64)>>);

impl Count {
    /// Bytes of all records.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.lock().unwrap().0
    }

    /// Records and damaged places.
    fn items(&self) -> u64 {
        self.0.lock().unwrap().1
    }

    fn add(&self, item: &Result<Item, MediumError>, record: &[u8]) {
        if let Ok(Item::Record(_) | Item::Damaged { .. }) = item {
            let mut count = self.0.lock().unwrap();
            *count = (count.0 + record.len() as u64, count.1 + 1);
        }
    }
}

/// Counts what is read.
pub(crate) struct Counting<M>(pub(crate) M, pub(crate) Count);

impl<M: MediumReader> MediumReader for Counting<M> {
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        let item = self.0.read(record);
        self.1.add(&item, record);
        item
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        let item = self.0.read_back(record);
        self.1.add(&item, record);
        item
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        self.0.next_volume()
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        self.0.seek(to)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        self.0.seek_end(volume)
    }

    fn volume_id(&mut self, volume: u32) -> Result<VolumeId, MediumError> {
        self.0.volume_id(volume)
    }
}

#[test]
fn list_reads_the_footers_and_a_record_for_each_archive() {
    let mut site = Site::new("t", None, None);
    for number in 1..=5 {
        site.add_session(number);
    }
    let bytes = fs::metadata(&site.path).unwrap().len();
    let count = Count::default();
    let medium = Counting(open(&site.path), count.clone());
    assert_eq!(Sessions::read(medium).unwrap().archives().count(), 15);
    let read = count.bytes();
    assert!(
        read < 5 * 4096 && read < bytes / 4,
        "{read} of {bytes} bytes"
    );
}

/// With and without a key, on a tape and on many volumes.
#[test]
fn list_of_a_session_of_500_archives_reads_64_kib_and_a_record_for_each() {
    for secret in [None, Some(key(7))] {
        for volume_size in [None, Some(64 << 10)] {
            let mut site = Site::new("medium", volume_size, secret.clone());
            let session = Session::new(site.append(), SessionOptions::new("many")).unwrap();
            for number in 0..500 {
                site.write(&session, &number.to_string(), 0);
            }
            session.finish().unwrap();
            let count = Count::default();
            let sessions = Sessions::read(Counting(open(&site.path), count.clone())).unwrap();
            assert_eq!(sessions.archives().count(), 500);
            assert!(sessions.archives().all(|archive| archive.id().is_some()));
            // A record with the header of an archive, and a special header after it.
            let (bytes, items) = (count.bytes(), count.items());
            assert!(bytes <= (64 << 10) + 500 * 768, "{bytes} bytes");
            // The footer, read three times, the label, the end of the last archive, read twice, and
            // what is between the two, with at most one label on the way back and on that forth.
            assert!(items <= 500 + 12, "{items} records");
            assert!(sessions.damage().is_empty(), "{:?}", sessions.damage());

            let count = Count::default();
            let medium = Counting(open(&site.path), count.clone());
            sessions.with_sources(medium).unwrap();
            let (bytes, items) = (count.bytes(), count.items());
            assert!(bytes <= 500 * 768, "{bytes} bytes of the archives' footers");
            // A label, where a footer is the first record of its volume.
            assert!(items <= 500 + 50, "{items} records");
        }
    }
}

/// The end of a session is read up to a limit: its footer is the longest here, in the records that
/// divide it the most.
#[test]
fn list_of_a_session_of_the_most_archives_in_small_records_finds_no_damage() {
    for volume_size in [None, Some(64 << 10)] {
        let scale = Scale {
            record: MIN_RECORD,
            ..SMALL
        };
        let mut site = Site::of_scale(scale, "medium", volume_size, None);
        let session = site.session("most");
        for number in 0..MAX_ARCHIVES {
            site.write(&session, &number.to_string(), 0);
        }
        session.finish().unwrap();
        let sessions = site.list();
        assert_eq!(sessions.archives().count(), MAX_ARCHIVES);
        assert!(sessions.archives().all(|archive| archive.id().is_some()));
        assert!(sessions.damage().is_empty(), "{:?}", sessions.damage());
    }
}

/// A medium that its maker forges, record by record.
struct Forged {
    bytes: Vec<u8>,
    session: [u8; 16],
    label: Position,
    sequence: u64,
    position: u64,
}

impl Forged {
    /// Begins with the volume record and the label of an archive.
    fn new() -> Self {
        let data = vec![7; 2000];
        let tape = volume(ArchiveOptions::stream("forged"), &data, 512);
        let label = frames(&tape).remove(0);
        let (header, _) = RecordHeader::parse(&label[4..label.len() - 4]).unwrap();
        let label_at = Position {
            volume: 1,
            record: 0,
            byte: 0,
        };
        Self {
            bytes: label,
            session: header.session,
            label: label_at,
            sequence: 1,
            position: 0,
        }
    }

    /// Position of the next record.
    fn at(&self) -> Position {
        Position {
            volume: 1,
            record: self.sequence,
            byte: self.bytes.len() as u64,
        }
    }

    /// Begins another session, with the label and the id of the first.
    fn begin(&mut self) {
        let label = frames(&self.bytes).remove(0);
        let (_, content) = RecordHeader::parse(&label[4..label.len() - 4]).unwrap();
        (self.sequence, self.position) = (0, 0);
        self.label = self.record(RecordKind::Label, Some(0), content);
    }

    fn record(&mut self, kind: RecordKind, first: Option<u32>, content: &[u8]) -> Position {
        let at = self.at();
        let header = RecordHeader {
            kind,
            session: self.session,
            sequence: self.sequence,
            volume: 1,
            length: content.len() as u32,
            position: self.position,
            first,
        };
        self.sequence += 1;
        if kind == RecordKind::Data {
            self.position += content.len() as u64;
        }
        let len = (64 + content.len() as u32).to_le_bytes();
        let parts = [&len[..], &header.to_bytes(), content, &len];
        self.bytes.extend(parts.concat());
        at
    }

    /// A unit that is not followed by all of its body.
    fn unit(&self, kind: UnitKind, archive: u32, stored: u32, offset: usize) -> Vec<u8> {
        let mut unit = UnitHeader::new(kind);
        unit.session = self.session[..4].try_into().unwrap();
        (unit.archive, unit.stored, unit.plain) = (archive, stored, stored);
        unit.position = self.position + offset as u64;
        unit.to_bytes().to_vec()
    }

    /// Ends the session with entries of these positions of headers and of footers.
    fn end(&mut self, places: impl IntoIterator<Item = (Position, Position)>) {
        let archives = places.into_iter().map(|(header, place)| ArchiveEntry {
            id: [9; 16],
            blocks: 1,
            place,
            position: 0,
            locator: 0,
            header,
        });
        let footer = SessionFooter {
            label: LabelPlace {
                volume: [0; 16],
                record: self.label.record,
                byte: self.label.byte,
            },
            archives: archives.collect(),
            extensions: Vec::new(),
        };
        let mut body = footer.to_bytes();
        let mut unit = UnitHeader::new(UnitKind::SessionFooter);
        unit.session = self.session[..4].try_into().unwrap();
        (unit.stored, unit.plain) = (body.len() as u32, body.len() as u32);
        unit.body_crc = crc32fast::hash(&body);
        unit.position = self.position;
        let mut content = unit.to_bytes().to_vec();
        content.append(&mut body);
        content.resize(content.len().next_multiple_of(8), 0);
        self.record(RecordKind::Data, Some(0), &content);
        self.bytes.extend([0; 8]);
    }

    /// Lists the medium, with the footers of its archives. Returns the number of the archives, and
    /// the bytes that were read.
    fn list(&self) -> (usize, u64) {
        let storage = FaultyStorage::new(1);
        storage.set_bytes(TAPE, &self.bytes);
        let count = Count::default();
        let medium = || {
            let tape = VirtualTape::open_on(storage.clone(), TAPE, looks_like_record).unwrap();
            Counting(tape, count.clone())
        };
        let sessions = Sessions::read(medium()).unwrap();
        let archives = sessions.archives().count();
        sessions.with_sources(medium()).unwrap();
        (archives, count.bytes())
    }
}

/// The entries of a session's footer name any places. A list read the medium from there, for each
/// of them: in records without units, of later versions, or of a unit without an end.
#[test]
fn list_of_a_forged_medium_reads_a_small_multiple_of_its_bytes() {
    let nothing = vec![0; 4000];
    for (what, are_same) in [
        ("units", true),
        ("later", true),
        ("long", true),
        ("units", false),
    ] {
        let mut forged = Forged::new();
        let mut places = Vec::new();
        for _ in 0..1000 {
            places.push(match what {
                "later" => forged.record(RecordKind::Later(200), None, &nothing),
                "long" => {
                    let mut content = forged.unit(UnitKind::ArchiveHeader, 1, 16 << 20, 0);
                    content.resize(4000, 0);
                    forged.record(RecordKind::Data, Some(0), &content)
                }
                _ => forged.record(RecordKind::Data, None, &nothing),
            });
        }
        let at = |n: usize| if are_same { places[0] } else { places[n] };
        forged.end((0..1000).map(|n| (at(n), at(n))));
        let len = forged.bytes.len() as u64;
        let (archives, read) = forged.list();
        assert_eq!(archives, 1000, "{what}");
        // Up to 64 KiB for a header, and 128 KiB for a footer, and for a copy of a header.
        let limit = match are_same {
            true => 2 * len,
            false => 2 * len + 1000 * (400 << 10),
        };
        assert!(read <= limit, "{what}: {read} of {len} bytes");
    }
}

/// The footer of each session could name a record that is after it, and all of them the same one.
#[test]
fn list_of_forged_sessions_that_name_one_record_after_them_reads_it_once() {
    const SESSIONS: usize = 40;
    // The places depend on nothing but the number of the entries.
    let mut shared = Position::start_of(1);
    for round in 0..2 {
        let mut forged = Forged::new();
        let mut own = forged.label;
        for session in 0..SESSIONS {
            if session > 0 {
                forged.begin();
            }
            if session + 1 < SESSIONS {
                forged.end([(shared, Position::start_of(0))]);
                continue;
            }
            let mut content = forged.unit(UnitKind::ArchiveHeader, 1, 16 << 20, 0);
            content.resize(1 << 20, 0);
            own = forged.record(RecordKind::Data, Some(0), &content);
            forged.end([(own, Position::start_of(0))]);
        }
        if round == 0 {
            shared = own;
            continue;
        }
        assert_eq!(shared, own);
        let len = forged.bytes.len() as u64;
        let (archives, read) = forged.list();
        assert_eq!(archives, SESSIONS);
        assert!(read <= 8 * len, "{read} of {len} bytes");
    }
}

/// Each unit in a record that says it is an archive's made a list read that record again.
#[test]
fn list_of_a_forged_unfinished_session_reads_it_twice_at_most() {
    let mut forged = Forged::new();
    for record in 0..10 {
        let mut content = Vec::new();
        for unit in 0..1000 {
            let number = 1 + record * 1000 + unit;
            let kind = match unit % 2 {
                0 => UnitKind::ArchiveHeader,
                _ => UnitKind::ArchiveFooter,
            };
            let unit = forged.unit(kind, number, 0, content.len());
            content.extend(unit);
        }
        forged.record(RecordKind::Data, Some(0), &content);
    }
    let len = forged.bytes.len() as u64;
    let (archives, read) = forged.list();
    assert_eq!(archives, 10_000);
    assert!(read <= 2 * len, "{read} of {len} bytes");
}

/// A record of one session amid another hid what the other had after it.
#[test]
fn records_out_of_place_hide_no_archive() {
    let seed = setting("DATAPIPE_SEED", 20_261_130);
    println!("DATAPIPE_SEED={seed}");
    let mut random = Random::new(seed);
    for mut site in sites() {
        if site.is_directory() {
            continue;
        }
        for number in 1..=3 {
            site.add_session(number);
        }
        let good = frames(&fs::read(&site.path).unwrap());
        let names: Vec<_> = site.list().archives().map(name).collect();
        let header = |frame: &[u8]| {
            let record = frame.get(4..frame.len().checked_sub(4)?)?;
            let (header, _) = RecordHeader::parse(record).ok()?;
            (header.kind != RecordKind::Volume).then_some(header)
        };
        // Without the footer of the last session, and its marks, all records are read.
        let last = good
            .iter()
            .rposition(|frame| header(frame).is_some())
            .unwrap();
        let good = &good[..last];
        let records: Vec<usize> = (0..last)
            .filter(|&at| header(&good[at]).is_some())
            .collect();
        let session = |at: usize| header(&good[at]).unwrap().session;
        for round in 0..setting("DATAPIPE_STRAYS", 40) {
            let mut any = || records[random.below(records.len() as u64) as usize];
            let (one, other) = (any(), any());
            if session(one) == session(other) {
                continue;
            }
            let mut bad = good.to_vec();
            let what = match round % 2 {
                0 => {
                    bad.swap(one, other);
                    "swapped"
                }
                _ => {
                    let moved = bad.remove(one);
                    bad.insert(other, moved);
                    "moved"
                }
            };
            let context = format!("seed {seed}, round {round}: {one} and {other} are {what}");
            fs::write(&site.path, bad.concat()).unwrap();
            let sessions = site.list();
            let ids = [session(one), session(other)];
            assert_eq!(sessions.archives().count(), names.len(), "{context}");
            for (archive, wanted) in sessions.archives().zip(&names) {
                // The record with the name may be one of the two.
                let is_lost = archive.name().is_none() && ids.contains(archive.session_id());
                assert!(name(archive) == *wanted || is_lost, "{context}: {wanted:?}");
            }
            for (archive, (_, data)) in sessions.archives().zip(&site.data) {
                let (bytes, is_complete, damage) = site.restore(archive);
                let is_hit = ids.contains(archive.session_id());
                assert!(is_complete || is_hit, "{context}: {damage:?}");
                assert!(&bytes == data || !is_complete, "{context}");
            }
        }
    }
}

fn name(archive: &ListedArchive) -> Option<String> {
    archive.name().map(str::to_owned)
}
