//! Copies that are made without a key: of whole archives, of damaged ones, and of hostile ones.

use datapipe::archive::{
    BlockSet, CopyOptions, ReadOutcome, Session, SessionOptions, Sessions, Special, StoredArchive,
    WriteOutcome,
};
use datapipe::media::{Item, MediumError, Position, TapeReader, VolumeId};
use datapipe::pool::BlockInfo;
use datapipe::prelude::*;
use datapipe::stage::{Finding, Inspect, InspectionLog};
use datapipe::testkit::{FaultyStorage, Random, archive_stages, frames};
use datapipe::wire::{
    ArchiveHeader, CopySource, Framing, Time, UNIT_HEADER_LEN, UnitHeader, UnitKind,
};

use crate::data::{blocks, key, noise, setting};
use crate::fixture::{
    FRAMINGS, Run, Salvaged, TAPE, create_tape, damage_of, encrypted, open_tape, options, restored,
    stream, tape,
};
use crate::medium::{create_volumes, open};

const BLOCK: u32 = 512;

fn secret(is_encrypted: bool) -> Option<Secret> {
    is_encrypted.then(|| key(9))
}

/// Returns the bytes of a volume with an archive of `data`.
fn volume(data: &[u8], framing: Framing, is_encrypted: bool) -> Vec<u8> {
    let options = options("small", 1024, 3000, BLOCK).framing(framing);
    let options = encrypted(options, secret(is_encrypted).as_ref());
    crate::fixture::volume(options, data, BLOCK)
}

fn salvage(medium: impl MediumReader + 'static, is_encrypted: bool) -> Salvaged {
    let (secret, log) = (secret(is_encrypted), DamageLog::new());
    crate::fixture::salvage(medium, secret.as_ref(), &log, BLOCK, Run::Inline)
}

/// Result of a copy.
#[derive(Debug)]
struct Copied {
    /// The tape of the copy; empty if nothing was written, or if it is not a tape in memory.
    bytes: Vec<u8>,
    read: ReadOutcome,
    written: WriteOutcome,
    damage: Vec<String>,
    error: Option<String>,
}

impl Copied {
    fn is_clean(&self) -> bool {
        let is_complete = self.read.complete && self.written.complete;
        is_complete && self.damage.is_empty() && self.error.is_none()
    }
}

/// Copies the first archive of a tape to another one, without a key.
fn copy(bytes: &[u8], options: impl FnOnce(CopyOptions) -> CopyOptions) -> Result<Copied, String> {
    let storage = FaultyStorage::new(1);
    let copied = copy_to(tape(bytes), create_tape(&storage), options)?;
    Ok(Copied {
        bytes: storage.bytes(TAPE).unwrap_or_default(),
        ..copied
    })
}

/// Copies the first archive of a medium to another one, without a key.
fn copy_to(
    from: impl MediumReader + 'static,
    to: impl MediumWriter + 'static,
    options: impl FnOnce(CopyOptions) -> CopyOptions,
) -> Result<Copied, String> {
    let log = DamageLog::new();
    let source = StoredArchive::open(from).map_err(|error| error.to_string())?;
    let source = source.salvage(&log);
    let plan = options(source.copy()).plan().unwrap();
    let written = plan.report();
    let (seal, tail) = archive_stages(plan, to);
    assert!(seal.is_none(), "a copy seals nothing");
    let head = source.head();
    let (report, check) = (head.report(), head.check());
    let ended = Pipe::builder()
        .buffer_size(BLOCK)
        .head(HeadStage::from(head).inline())
        .stage(check.inline())
        .tail(tail.inline())
        .run();
    Ok(Copied {
        bytes: Vec::new(),
        read: report.snapshot(),
        written: written.snapshot(),
        damage: damage_of(&log),
        error: ended.err().map(|error| error.to_string()),
    })
}

/// The archive header and the blocks of a tape, without what belongs to the session. A unit that is
/// cut off at the end is left out.
fn stored(volume: &[u8]) -> (Vec<u8>, Vec<(UnitHeader, Vec<u8>)>) {
    let stream = stream(&frames(volume));
    let (mut at, mut archive, mut blocks) = (0, Vec::new(), Vec::new());
    while at + UNIT_HEADER_LEN <= stream.len() {
        let header = UnitHeader::parse(&stream[at..]).unwrap();
        let Some(body) = stream[at + UNIT_HEADER_LEN..].get(..header.stored as usize) else {
            break;
        };
        match header.kind {
            UnitKind::ArchiveHeader => archive = body.to_vec(),
            UnitKind::Block => {
                let of_archive = UnitHeader {
                    archive: 0,
                    chunk: 0,
                    position: 0,
                    session: [0; 4],
                    ..header
                };
                blocks.push((of_archive, body.to_vec()));
            }
            _ => {}
        }
        at += header.unit_len();
    }
    (archive, blocks)
}

#[test]
fn copy_without_key_has_the_same_blocks_and_restores_as_its_source() {
    let data = blocks(23 * BLOCK as usize + 7, BLOCK as usize, 1);
    for is_encrypted in [false, true] {
        for (from, to) in FRAMINGS
            .iter()
            .flat_map(|from| FRAMINGS.map(|to| (*from, to)))
        {
            let source = volume(&data, from, is_encrypted);
            for (record, chunk) in [(1024, 1 << 20), (4096, 2000), (16 << 10, 1)] {
                let what = format!("{from:?} to {to:?}, {record}, encrypted: {is_encrypted}");
                let options = |options: CopyOptions| {
                    let options = options.framing(to).record_len(record).label("a copy");
                    options.chunk_len(chunk)
                };
                let copy = copy(&source, options).unwrap();
                assert!(copy.is_clean(), "{what}: {copy:?}");
                assert!(stored(&copy.bytes) == stored(&source), "{what}");
                let restored = salvage(tape(&copy.bytes), is_encrypted);
                assert!(restored.is_clean(), "{what}: {restored:?}");
                assert!(restored.bytes == data, "{what}");
            }
        }
    }
}

#[test]
fn footer_of_a_copy_names_the_session_of_its_source() {
    let first = volume(&noise(3000, 2), Framing::HeaderFooter, true);
    let source_of = |bytes: &[u8]| {
        let session = StoredArchive::open(tape(bytes)).unwrap().session().clone();
        CopySource {
            session: session.id,
            created: session.created,
        }
    };
    let listed = |bytes: &[u8]| {
        let sessions = Sessions::read(tape(bytes)).unwrap();
        let sessions = sessions.with_sources(tape(bytes)).unwrap();
        sessions.archives().next().unwrap().copy_of()
    };
    let second = copy(&first, |options| options).unwrap().bytes;
    let third = copy(&second, |options| options).unwrap().bytes;
    assert_eq!(listed(&first), None);
    assert_eq!(listed(&second), Some(source_of(&first)));
    assert_eq!(listed(&third), Some(source_of(&second)));
    let reader = ArchiveReader::open(tape(&third), secret(true).as_ref()).unwrap();
    assert_eq!(reader.index().unwrap().copy_of(), Some(source_of(&second)));
    assert_ne!(source_of(&first).created, Time::default());
    assert!(salvage(tape(&third), true).is_clean());
}

/// Asserts that a copy of a damaged source has what the source has, and no more.
fn check_copy_of_damaged(bad: &[u8], data: &[u8], is_encrypted: bool, what: &str) {
    let of_source = salvage(tape(bad), is_encrypted);
    let copied = match copy(bad, |options| options) {
        Ok(copied) => copied,
        Err(error) => {
            assert_eq!(of_source.error, Some(error), "{what}");
            return;
        }
    };
    assert!(!copied.is_clean(), "{what}: not noticed");
    if copied.bytes.is_empty() {
        assert!(
            copied.error.is_some() && of_source.bytes.is_empty(),
            "{what}: {copied:?}"
        );
        return;
    }
    let of_copy = salvage(tape(&copied.bytes), is_encrypted);
    assert_eq!(of_copy.error, None, "{what}");
    assert!(
        of_copy.bytes == of_source.bytes,
        "{what}: {copied:#?} {of_copy:#?}"
    );
    let is_whole = of_copy.bytes == data && copied.written.complete;
    assert_eq!(
        of_copy.outcome.complete, copied.written.complete,
        "{what}: {of_copy:?}"
    );
    // What was damaged besides the blocks is not in the copy.
    assert!(is_whole || !of_copy.is_clean(), "{what}: {copied:?}");
}

#[test]
fn flipped_byte_of_the_source_costs_the_copy_what_it_costs_the_source() {
    let step = setting("DATAPIPE_COPY_STEP", 61) as usize;
    for is_encrypted in [false, true] {
        let data = blocks(9 * BLOCK as usize, BLOCK as usize, 3);
        let good = volume(&data, Framing::HeaderFooter, is_encrypted);
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            let what = format!("byte {at}, encrypted {is_encrypted}");
            check_copy_of_damaged(&bad, &data, is_encrypted, &what);
        }
    }
}

#[test]
fn copy_of_a_cut_archive_has_its_blocks_and_is_incomplete() {
    for is_encrypted in [false, true] {
        let data = blocks(9 * BLOCK as usize, BLOCK as usize, 4);
        let good = volume(&data, Framing::HeaderFooter, is_encrypted);
        for len in (0..good.len() - 8).step_by(331) {
            let what = format!("{len} bytes, encrypted {is_encrypted}");
            check_copy_of_damaged(&good[..len], &data, is_encrypted, &what);
        }
        let cut = copy(&good[..good.len() / 2], |options| options).unwrap();
        let sessions = Sessions::read(tape(&cut.bytes)).unwrap();
        let session = &sessions.sessions()[0];
        assert!(session.is_finished() && !session.archives()[0].is_finished());
        assert!(!cut.written.complete && cut.written.blocks > 0);
    }
}

/// The numbers after a gap were not believed: the copy has no bytes in the place of the blocks that
/// its source had lost.
#[test]
fn copy_with_a_long_gap_is_read_up_to_its_end() {
    let small = BLOCK as usize;
    let data = noise(400 * small, 5);
    for (framing, is_encrypted) in FRAMINGS
        .iter()
        .flat_map(|one| [(*one, false), (*one, true)])
    {
        let options = options("small", 1024, 30_000, BLOCK).framing(framing);
        let options = encrypted(options, secret(is_encrypted).as_ref());
        let good = frames(&crate::fixture::volume(options, &data, BLOCK));
        let mut bad = good.clone();
        bad.drain(good.len() / 4..good.len() / 2);
        bad.drain(good.len() / 2 + 2..good.len() / 2 + 4);
        let bad = bad.concat();
        let of_source = salvage(tape(&bad), is_encrypted);
        let copied = copy(&bad, |options| options.record_len(16 << 10)).unwrap();
        assert!(copied.read.missing > 90, "{copied:?}");
        let of_copy = salvage(tape(&copied.bytes), is_encrypted);
        assert!(
            of_copy.bytes == of_source.bytes,
            "{framing:?}: {of_copy:#?}"
        );
        assert_eq!(of_copy.outcome.missing, of_source.outcome.missing);
        assert_eq!(of_copy.outcome.blocks, of_source.outcome.blocks);
        assert!(of_copy.mentions("missing, and all up to"), "{of_copy:?}");
        // The index leads to every block that is there, and a copy of the copy has them, too.
        let log = DamageLog::new();
        let reader = ArchiveReader::open(tape(&copied.bytes), secret(is_encrypted).as_ref());
        let reader = reader.unwrap().salvage(&log);
        let index = reader.index().unwrap();
        let last = index.blocks() - 2;
        let mut wanted = BlockSet::new();
        wanted.insert(last - 5..=last);
        let (bytes, _) = restored(reader.read_blocks(&index, &wanted).unwrap());
        assert!(data.ends_with(&bytes[bytes.len() - 5 * small..]));
        assert_eq!(log.snapshot().count, 0, "{:?}", log.snapshot());
        let again = copy(&copied.bytes, |options| options).unwrap();
        assert!(salvage(tape(&again.bytes), is_encrypted).bytes == of_source.bytes);
    }
}

#[test]
fn forged_announcement_of_lost_blocks_costs_no_block() {
    let data = noise(40 * BLOCK as usize, 6);
    let options = options("small", 1024, 1 << 20, BLOCK);
    let good = frames(&crate::fixture::volume(options, &data, BLOCK));
    let mut bad = good.clone();
    bad.remove(2);
    let copied = copy(&bad.concat(), |options| options).unwrap();
    let before = salvage(tape(&copied.bytes), false);
    // Every count that the unit may have, with checksums that are right.
    for count in [0, 1, u64::MAX] {
        let forged = forge_lost(&copied.bytes, count);
        let after = salvage(tape(&forged), false);
        assert_eq!(after.error, None);
        assert!(
            after.bytes == before.bytes || count == 0,
            "{count}: {after:?}"
        );
    }
}

/// Returns the volume with another count in its unit of lost blocks.
fn forge_lost(volume: &[u8], count: u64) -> Vec<u8> {
    let mut bytes = volume.to_vec();
    let is_lost = |at: &usize| {
        let header = bytes.get(*at..).map(UnitHeader::parse);
        matches!(header, Some(Ok(header)) if header.kind == UnitKind::LostBlocks)
    };
    let at = (0..bytes.len()).find(is_lost).unwrap();
    let body = count.to_le_bytes();
    let header = UnitHeader {
        body_crc: crc32fast::hash(&body),
        ..UnitHeader::parse(&bytes[at..]).unwrap()
    };
    bytes[at..at + UNIT_HEADER_LEN].copy_from_slice(&header.to_bytes());
    bytes[at + UNIT_HEADER_LEN..][..8].copy_from_slice(&body);
    bytes
}

#[test]
fn copy_of_random_damage_never_has_other_data_than_its_source() {
    let rounds = setting("DATAPIPE_ROUNDS", 40);
    let seed = setting("DATAPIPE_SEED", 11);
    println!("DATAPIPE_SEED={seed} DATAPIPE_ROUNDS={rounds}");
    let mut random = Random::new(seed);
    for round in 0..rounds {
        let is_encrypted = round % 2 == 0;
        let data = blocks(30 * BLOCK as usize, BLOCK as usize, round);
        let framing = FRAMINGS[random.below(3) as usize];
        let mut bad = volume(&data, framing, is_encrypted);
        for _ in 0..1 + random.below(6) {
            let at = random.below(bad.len() as u64) as usize;
            let len = (random.below(700) as usize).min(bad.len() - at);
            match random.below(4) {
                0 => bad[at..at + len].fill(0),
                1 => drop(bad.drain(at..at + len)),
                2 => bad[at] ^= 0x41,
                _ => {
                    let piece = bad[at..at + len].to_vec();
                    bad.splice(at..at, piece);
                }
            }
        }
        check_copy_of_damaged(&bad, &data, is_encrypted, &format!("round {round}"));
    }
}

#[test]
fn archives_of_several_sessions_are_copied_into_one_and_open_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("source.tap"), dir.path().join("copy/"));
    let mut sent = Vec::new();
    for number in 0..3u8 {
        let options = VolumeOptions::default();
        let tape = VirtualTape::append(&path, options).unwrap();
        let session = Session::new(tape, SessionOptions::new("s").record_len(2048)).unwrap();
        for name in ["a", "b"] {
            let plan = ArchiveOptions::stream(format!("{name}{number}")).block_len(BLOCK);
            let plan = encrypted(plan, Some(key(number)).filter(|_| number > 0).as_ref());
            let data = noise(5000, number.into());
            let pipe = Pipe::builder()
                .buffer_size(BLOCK)
                .head(StreamHead::new(&data[..]));
            pipe.archive_in(plan.plan().unwrap(), &session)
                .run()
                .unwrap();
            sent.push((number, data));
        }
        session.finish().unwrap();
    }
    let volumes = create_volumes(&to, Some(64 << 10), false);
    let session = Session::new(volumes, SessionOptions::new("all").record_len(1024)).unwrap();
    let sessions = Sessions::read(open(&path)).unwrap();
    for archive in sessions.archives() {
        let source = StoredArchive::open_listed(open(&path), archive).unwrap();
        let reading = source.read();
        let plan = source.copy().plan().unwrap();
        reading.pipe.archive_in(plan, &session).run().unwrap();
        assert!(reading.report.snapshot().complete);
    }
    session.finish().unwrap();
    let copies = Sessions::read(open(&to)).unwrap();
    let copies = copies.with_sources(open(&to)).unwrap();
    assert_eq!(copies.sessions().len(), 1);
    let pairs = sessions.archives().zip(copies.archives());
    for ((source, copy), (number, data)) in pairs.zip(&sent) {
        assert_eq!(copy.header_hash(), source.header_hash());
        let from = copy.copy_of().map(|source| source.session);
        assert_eq!(from.as_ref(), Some(source.session_id()));
        let secret = (*number > 0).then(|| key(*number));
        let reader = ArchiveReader::open_listed(open(&to), copy, secret.as_ref()).unwrap();
        let (bytes, is_complete) = restored(reader.read());
        assert!(&bytes == data && is_complete);
    }
    assert_eq!(copies.archives().count(), sent.len());
    // Without a key the last archive is the one that was begun last.
    let last = StoredArchive::open_last(open(&to), copies.archives()).unwrap();
    let newest = copies.archives().last().unwrap();
    assert_eq!(Some(&last.header_hash()), newest.header_hash());
}

/// Rejects the third block of data.
struct Censor(u32);

impl Inspect for Censor {
    fn inspect(&mut self, _: &[u8], _: &BlockInfo) -> Result<Finding, StageError> {
        self.0 += 1;
        match self.0 {
            3 => Ok(Finding::Reject),
            _ => Ok(Finding::Pass),
        }
    }
}

#[test]
fn special_headers_and_rejected_blocks_are_copied() {
    let storage = FaultyStorage::new(1);
    let special = Special::new(Special::OWN | Special::REQUIRED | 5, b"for me".to_vec()).unwrap();
    let plan = options("a", 1024, 3000, BLOCK)
        .encrypt(key(9))
        .plan()
        .unwrap();
    let plan = plan.special(special.clone()).unwrap();
    let data = noise(3000, 7);
    Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(&data[..]))
        .stage(Stage::inspect("censor", &InspectionLog::new(), |_| {
            Censor(0)
        }))
        .archive(plan, create_tape(&storage))
        .run()
        .unwrap();
    let bytes = storage.bytes(TAPE).unwrap();
    let copied = copy(&bytes, |options| options).unwrap();
    assert_eq!((copied.read.rejected, copied.error), (1, None));
    assert!(copied.written.complete && stored(&copied.bytes) == stored(&bytes));
    let secret = key(9);
    let reader = ArchiveReader::open(tape(&copied.bytes), Some(&secret)).unwrap();
    let reader = reader.on_special(move |found| *found == special);
    let reading = reader.read();
    let report = reading.report.clone();
    let (found, _) = restored(reading);
    let (first, last) = (2 * BLOCK as usize, 3 * BLOCK as usize);
    let mut expected = data;
    expected[first..last].fill(0);
    assert!(found == expected && report.snapshot().rejected == 1);
    let header = ArchiveHeader::parse(&stored(&bytes).0).unwrap();
    assert_eq!(&header, reader.header());
    let plan = StoredArchive::open(tape(&bytes))
        .unwrap()
        .copy()
        .plan()
        .unwrap();
    let other = Special::new(Special::OWN, b"".to_vec()).unwrap();
    let error = plan.special(other).unwrap_err().to_string();
    assert!(error.contains("a copy has those of its source"), "{error}");
}

#[test]
fn copy_takes_blocks_of_its_source_only() {
    let bytes = volume(&noise(3000, 8), Framing::Once, false);
    let source = StoredArchive::open(tape(&bytes)).unwrap();
    let plan = source.copy().plan().unwrap();
    let storage = FaultyStorage::new(1);
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(&b"other"[..]));
    let error = pipe.archive(plan, create_tape(&storage)).run().unwrap_err();
    assert!(error.to_string().contains("has no number there"), "{error}");
    assert!(matches!(
        open_tape(&FaultyStorage::new(1)),
        Err(MediumError::Io { .. })
    ));
}

#[test]
fn copy_onto_a_medium_that_is_full_is_never_complete_and_is_made_again() {
    for is_encrypted in [false, true] {
        let data = blocks(20 * BLOCK as usize, BLOCK as usize, 9);
        let source = volume(&data, Framing::HeaderFooter, is_encrypted);
        let whole = copy(&source, |options| options).unwrap().bytes.len() as u64;
        for capacity in (0..whole + 500).step_by(379) {
            let what = format!("{capacity} of {whole} bytes, encrypted {is_encrypted}");
            let storage = FaultyStorage::new(1);
            let to = create_tape(&storage);
            storage.set_capacity(capacity);
            let copied = copy_to(tape(&source), to, |options| options).unwrap();
            let is_complete = copied.written.complete;
            assert_eq!(is_complete, capacity >= whole, "{what}: {copied:?}");
            assert_eq!(is_complete, copied.error.is_none(), "{what}: {copied:?}");
            let bytes = storage.bytes(TAPE).unwrap();
            let salvaged = salvage(tape(&bytes), is_encrypted);
            assert!(data.starts_with(&salvaged.bytes), "{what}: {salvaged:?}");
            assert!(is_complete || !salvaged.is_clean(), "{what}: {salvaged:?}");
            // With room again, the next attempt replaces what the first one has left.
            storage.set_capacity(u64::MAX);
            let options = VolumeOptions::default().overwrite(true);
            let to = VirtualTape::create_on(storage.clone(), TAPE, options).unwrap();
            let again = copy_to(tape(&source), to, |options| options).unwrap();
            assert!(again.is_clean(), "{what}: {again:?}");
            let salvaged = salvage(tape(&storage.bytes(TAPE).unwrap()), is_encrypted);
            assert!(salvaged.is_clean() && salvaged.bytes == data, "{what}");
        }
    }
}

#[test]
fn copy_onto_volumes_that_are_smaller_than_a_record_has_shorter_records() {
    let dir = tempfile::tempdir().unwrap();
    let data = noise(300 * BLOCK as usize, 10);
    let source = crate::fixture::volume(options("a", 1 << 20, 1 << 30, BLOCK), &data, BLOCK);
    let path = dir.path().join("copy/");
    let volumes = create_volumes(&path, Some(64 << 10), false);
    let copied = copy_to(tape(&source), volumes, |options| options).unwrap();
    assert!(copied.is_clean(), "{copied:?}");
    assert!(copied.written.volumes > 2, "{copied:?}");
    let salvaged = salvage(open(&path), false);
    assert!(
        salvaged.is_clean() && salvaged.bytes == data,
        "{salvaged:?}"
    );
}

/// A tape in memory whose bytes are others after some reads.
struct Changing {
    tape: TapeReader<FaultyStorage>,
    storage: FaultyStorage,
    reads: u32,
    later: Vec<u8>,
}

impl MediumReader for Changing {
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        if self.reads == 0 {
            self.storage.set_bytes(TAPE, &self.later);
        }
        self.reads = self.reads.wrapping_sub(1);
        self.tape.read(record)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.tape.read_back(record)
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        self.tape.next_volume()
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        self.tape.seek(to)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        self.tape.seek_end(volume)
    }

    fn volume_id(&mut self, volume: u32) -> Result<VolumeId, MediumError> {
        self.tape.volume_id(volume)
    }
}

#[test]
fn copy_of_a_source_that_changes_meanwhile_has_no_other_blocks_and_says_so() {
    for is_encrypted in [false, true] {
        let data = blocks(20 * BLOCK as usize, BLOCK as usize, 11);
        let before = volume(&data, Framing::HeaderFooter, is_encrypted);
        let mut zeros = before.clone();
        zeros[before.len() / 2..].fill(0);
        let other = volume(&noise(data.len(), 12), Framing::HeaderFooter, is_encrypted);
        let laters = [
            ("cut", before[..before.len() / 2].to_vec()),
            ("zeros", zeros),
            ("another archive", other.clone()),
            ("appended to", [&before[..], &other[..]].concat()),
        ];
        let (sent, of_other) = (stored(&before).1, stored(&other).1);
        for (how, later) in laters {
            for reads in 1..20 {
                let what = format!("{how} after {reads} reads, encrypted {is_encrypted}");
                let storage = FaultyStorage::new(1);
                storage.set_bytes(TAPE, &before);
                let source = Changing {
                    tape: open_tape(&storage).unwrap(),
                    storage,
                    reads,
                    later: later.clone(),
                };
                let to = FaultyStorage::new(1);
                // The header may not be there any more.
                let Ok(copied) = copy_to(source, create_tape(&to), |options| options) else {
                    continue;
                };
                let bytes = to.bytes(TAPE).unwrap_or_default();
                // The other archive may have been there when the headers were read.
                let (_, blocks) = stored(&bytes);
                let is_of = |all: &[_]| blocks.iter().all(|block| all.contains(block));
                assert!(is_of(&sent) || is_of(&of_other), "{what}");
                let is_whole = blocks == sent || blocks == of_other;
                assert_eq!(copied.written.complete, is_whole, "{what}: {copied:?}");
                if how == "appended to" {
                    assert!(copied.is_clean(), "{what}: {copied:?}");
                }
            }
        }
    }
}

#[test]
fn archive_can_be_copied_to_the_end_of_its_own_medium() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let data = noise(5000, 13);
    let options = options("a", 1024, 3000, BLOCK);
    let tape = VirtualTape::create(&path, VolumeOptions::default()).unwrap();
    let pipe = Pipe::builder().buffer_size(BLOCK);
    let head = StreamHead::new(&data[..]);
    let archive = options.plan().unwrap();
    pipe.head(head).archive(archive, tape).run().unwrap();
    let to = VirtualTape::append(&path, VolumeOptions::default()).unwrap();
    let copied = copy_to(open(&path), to, |options| options).unwrap();
    assert!(
        copied.error.is_none() && copied.written.complete,
        "{copied:?}"
    );
    let sessions = Sessions::read(open(&path)).unwrap();
    let hashes: Vec<_> = sessions.archives().map(|one| one.header_hash()).collect();
    assert!(hashes.len() == 2 && hashes[0] == hashes[1], "{hashes:?}");
    for archive in sessions.archives() {
        let reader = ArchiveReader::open_listed(open(&path), archive, None).unwrap();
        assert_eq!(restored(reader.read()), (data.clone(), true));
    }
}
