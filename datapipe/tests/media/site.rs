//! A medium in its storage, its content, and two readers independent of the library's.

use std::fs;
use std::path::{Path, PathBuf};

use datapipe::limits::MAX_RECORD;
use datapipe::media::{
    FileSystem, Item, MediumError, MediumReader, MediumWriter, Position, Storage, VirtualTape,
    VolumeDirectory, VolumeOptions,
};
use datapipe::testkit::{FaultyStorage, Random};
use datapipe::wire::{VOLUME_RECORD_LEN, VolumeRecord};
use tempfile::TempDir;

/// First bytes of the records of these tests, which the probe knows.
pub(crate) const MAGIC: &[u8] = b"\xd1\x9e\x04";

/// The probe for these records.
pub(crate) fn ours(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// A record that the probe knows, of 3 to `longest` bytes.
pub(crate) fn record(random: &mut Random, longest: u64) -> Vec<u8> {
    let mut bytes = vec![0; 3 + random.below(longest - 2) as usize];
    random.fill(&mut bytes);
    bytes[..3].copy_from_slice(MAGIC);
    bytes
}

/// An item on a medium.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Thing {
    Record(Vec<u8>),
    Mark,
    Damaged(u64),
    NextVolume,
}

impl Thing {
    /// Length in a file.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Record(bytes) => bytes.len().next_multiple_of(2) as u64 + 8,
            Self::Mark => 4,
            Self::Damaged(skipped) => *skipped,
            Self::NextVolume => 0,
        }
    }
}

/// Returns random records and marks, about one mark to four records.
pub(crate) fn things(random: &mut Random, count: usize, longest: u64) -> Vec<Thing> {
    let one = |random: &mut Random| match random.below(5) {
        0 => Thing::Mark,
        _ => Thing::Record(record(random, longest)),
    };
    (0..count).map(|_| one(random)).collect()
}

/// A storage whose files a test can change.
pub(crate) trait Files: Storage + Clone {
    fn bytes(&self, path: &Path) -> Vec<u8>;
    fn set_bytes(&self, path: &Path, bytes: &[u8]);
}

impl Files for FileSystem {
    fn bytes(&self, path: &Path) -> Vec<u8> {
        fs::read(path).unwrap()
    }

    fn set_bytes(&self, path: &Path, bytes: &[u8]) {
        fs::write(path, bytes).unwrap();
    }
}

impl Files for FaultyStorage {
    fn bytes(&self, path: &Path) -> Vec<u8> {
        Self::bytes(self, path).unwrap()
    }

    fn set_bytes(&self, path: &Path, bytes: &[u8]) {
        Self::set_bytes(self, path, bytes);
    }
}

/// A medium in a storage.
pub(crate) struct Site<S> {
    pub(crate) storage: S,
    pub(crate) path: PathBuf,
    /// True for a directory of volumes, false for a tape.
    pub(crate) many: bool,
    _guard: Option<TempDir>,
}

/// Returns a new site on the file system.
pub(crate) fn real(many: bool) -> Site<FileSystem> {
    let guard = tempfile::tempdir().unwrap();
    Site {
        storage: FileSystem,
        path: guard.path().join("medium"),
        many,
        _guard: Some(guard),
    }
}

/// Returns a new site on a storage that fails on request.
pub(crate) fn faulty(seed: u64, many: bool) -> Site<FaultyStorage> {
    Site {
        storage: FaultyStorage::new(seed),
        path: "/medium".into(),
        many,
        _guard: None,
    }
}

impl<S: Files> Site<S> {
    pub(crate) fn create(
        &self,
        size: Option<u64>,
        overwrite: bool,
    ) -> Result<Box<dyn MediumWriter>, MediumError> {
        let options = VolumeOptions::default();
        self.create_with(options.volume_size(size).overwrite(overwrite))
    }

    /// Creates a medium whose first write removes the old content.
    pub(crate) fn create_in_place(
        &self,
        size: Option<u64>,
    ) -> Result<Box<dyn MediumWriter>, MediumError> {
        let options = VolumeOptions::default().overwrite(true).in_place(true);
        self.create_with(options.volume_size(size))
    }

    pub(crate) fn create_with(
        &self,
        options: VolumeOptions,
    ) -> Result<Box<dyn MediumWriter>, MediumError> {
        let (storage, path) = (self.storage.clone(), &self.path);
        if self.many {
            return Ok(Box::new(VolumeDirectory::create_on(
                storage, path, options,
            )?));
        }
        Ok(Box::new(VirtualTape::create_on(storage, path, options)?))
    }

    /// Opens the medium to append.
    pub(crate) fn append(&self, size: Option<u64>) -> Result<Box<dyn MediumWriter>, MediumError> {
        self.append_with(VolumeOptions::default().volume_size(size))
    }

    pub(crate) fn append_with(
        &self,
        options: VolumeOptions,
    ) -> Result<Box<dyn MediumWriter>, MediumError> {
        let (storage, path) = (self.storage.clone(), &self.path);
        if self.many {
            let medium = VolumeDirectory::append_on(storage, path, options, ours)?;
            return Ok(Box::new(medium));
        }
        let medium = VirtualTape::append_on(storage, path, options, ours)?;
        Ok(Box::new(medium))
    }

    pub(crate) fn open_with(
        &self,
        probe: fn(&[u8]) -> bool,
    ) -> Result<Box<dyn MediumReader>, MediumError> {
        let (storage, path) = (self.storage.clone(), &self.path);
        if self.many {
            return Ok(Box::new(VolumeDirectory::open_on(storage, path, probe)?));
        }
        Ok(Box::new(VirtualTape::open_on(storage, path, probe)?))
    }

    pub(crate) fn open(&self) -> Box<dyn MediumReader> {
        self.open_with(ours).unwrap()
    }

    pub(crate) fn file(&self, volume: u32) -> PathBuf {
        if self.many {
            self.path.join(format!("{volume:06}.tap"))
        } else {
            self.path.clone()
        }
    }

    /// The bytes of a volume, without its record.
    pub(crate) fn bytes(&self, volume: u32) -> Vec<u8> {
        let mut bytes = self.storage.bytes(&self.file(volume));
        if record_of(&bytes).is_some() {
            bytes.drain(..FRAME);
        }
        bytes
    }

    /// Creates a medium of one volume with these items, and returns the bytes of its file.
    pub(crate) fn one_volume(&self, things: &[Thing]) -> Vec<u8> {
        let mut medium = self.create(None, true).unwrap();
        assert_eq!(write(&mut *medium, things).0, things);
        medium.finish().unwrap();
        self.bytes(1)
    }

    /// Reads the medium with these bytes as its only volume.
    pub(crate) fn read_bytes(
        &self,
        bytes: &[u8],
        probe: fn(&[u8]) -> bool,
    ) -> Vec<(Position, Thing)> {
        self.storage.set_bytes(&self.file(1), bytes);
        let found = read(&mut *self.open_with(probe).unwrap());
        check_cover(bytes, &found, probe);
        found
    }
}

/// Bytes of the frame of a volume record.
pub(crate) const FRAME: usize = VOLUME_RECORD_LEN + 8;

/// The volume record with which the bytes of a volume begin.
pub(crate) fn record_of(bytes: &[u8]) -> Option<VolumeRecord> {
    VolumeRecord::parse(bytes.get(4..4 + VOLUME_RECORD_LEN)?).ok()
}

/// Writes items, and continues on the next volume where one ends. Returns the items that are on the
/// medium then, and the position of each record of `things`.
pub(crate) fn write(
    medium: &mut dyn MediumWriter,
    things: &[Thing],
) -> (Vec<Thing>, Vec<Position>) {
    let (mut written, mut positions) = (Vec::new(), Vec::new());
    for thing in things {
        match thing {
            Thing::Record(bytes) => {
                let position = match medium.write(bytes) {
                    Err(MediumError::EndOfVolume { .. }) => {
                        medium.write_mark().unwrap();
                        medium.next_volume().unwrap();
                        written.extend([Thing::Mark, Thing::NextVolume]);
                        medium.write(bytes).unwrap()
                    }
                    position => position.unwrap(),
                };
                positions.push(position);
            }
            _ => medium.write_mark().unwrap(),
        }
        written.push(thing.clone());
    }
    (written, positions)
}

/// Reads everything, over all volumes.
pub(crate) fn read(medium: &mut dyn MediumReader) -> Vec<(Position, Thing)> {
    let (mut found, mut bytes, mut at) = (Vec::new(), Vec::new(), Position::start_of(1));
    let mut is_first = true;
    loop {
        let (position, thing) = match medium.read(&mut bytes).unwrap() {
            Item::Record(position) => (position, Thing::Record(bytes.clone())),
            Item::Mark(position) => (position, Thing::Mark),
            Item::Damaged { at, skipped } => (at, Thing::Damaged(skipped)),
            Item::End => {
                assert_eq!(
                    medium.read(&mut bytes).unwrap(),
                    Item::End,
                    "the end is permanent"
                );
                if !medium.next_volume().unwrap() {
                    return found;
                }
                at = Position::start_of(at.volume + 1);
                (at, Thing::NextVolume)
            }
        };
        if is_first && position.byte == FRAME as u64 {
            // The volume record precedes it.
            (at.record, at.byte) = (1, position.byte);
        }
        is_first = thing == Thing::NextVolume;
        assert_eq!((position.volume, position.record), (at.volume, at.record));
        let given = matches!(thing, Thing::Record(_) | Thing::Damaged(_));
        assert_eq!(
            !bytes.is_empty(),
            given,
            "a record's bytes, or what is damaged, and nothing else"
        );
        at = Position {
            byte: position.byte + thing.bytes(),
            ..position
        };
        at.record += u64::from(thing != Thing::NextVolume);
        found.push((position, thing));
    }
}

/// Returns the items without their positions.
pub(crate) fn only_things(found: Vec<(Position, Thing)>) -> Vec<Thing> {
    found.into_iter().map(|(_, thing)| thing).collect()
}

/// Asserts that the items cover the bytes of a volume, that no record was skipped as damaged, and
/// that damage ends only before a record or marks.
fn check_cover(bytes: &[u8], found: &[(Position, Thing)], probe: fn(&[u8]) -> bool) {
    let word =
        |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().unwrap()) as usize);
    let frame = |at: usize| {
        let lead = word(at)?;
        let len = lead & !(1 << 31);
        let trailing =
            word(at + 4 + len.next_multiple_of(2)).filter(|_| (1..=MAX_RECORD).contains(&len))?;
        (trailing & !(1 << 31) == len).then_some((lead, len, trailing))
    };
    let is_bad = |at| frame(at).is_some_and(|(lead, len, trailing)| lead != len || trailing != len);
    let is_record = |at: usize| {
        frame(at)
            .is_some_and(|(lead, len, _)| lead == len && probe(&bytes[at + 4..][..len.min(64)]))
    };
    let mut at = 0;
    for (position, thing) in found {
        assert_eq!(position.byte, at as u64, "no byte is skipped silently");
        let start = at;
        at += thing.bytes() as usize;
        if matches!(thing, Thing::Damaged(_)) && !is_bad(start) {
            assert!(at > start);
            assert_eq!(
                (start + 1..at).find(|at| is_record(*at)),
                None,
                "skipped {start} to {at}"
            );
            let next = (at..).step_by(4).find(|at| word(*at) != Some(0)).unwrap();
            assert!(
                next >= bytes.len() || is_record(next),
                "damage from {start} does not end at {at}"
            );
        }
    }
    assert!(
        at == bytes.len() || word(at) == Some(u32::MAX as usize),
        "read to {at} of {}",
        bytes.len()
    );
}

/// Parses a volume by the description of SIMH, without the library's reader. Panics if the volume
/// has anything else.
pub(crate) fn simh(mut bytes: &[u8]) -> Vec<Thing> {
    fn word(bytes: &mut &[u8]) -> u32 {
        let (word, rest) = bytes.split_first_chunk::<4>().expect("whole words");
        *bytes = rest;
        u32::from_le_bytes(*word)
    }
    let mut things = Vec::new();
    while !bytes.is_empty() {
        let length = word(&mut bytes);
        if length == 0 {
            things.push(Thing::Mark);
            continue;
        }
        assert!(length <= 1 << 24, "an error-free record");
        let (data, rest) = bytes.split_at(length as usize);
        bytes = rest;
        if length % 2 == 1 {
            assert_eq!(bytes[0], 0, "padding is zero");
            bytes = &bytes[1..];
        }
        assert_eq!(word(&mut bytes), length, "the lengths agree");
        things.push(Thing::Record(data.to_vec()));
    }
    things
}
