//! A false head: what it drops, repeats, swaps, cuts off or invents never ends in a complete
//! archive with other data.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use datapipe::archive::{ArchiveHead, Session, SessionOptions, Sessions, Special};
use datapipe::crypto::Argon2Cost;
use datapipe::media::TapeReader;
use datapipe::pool::BlockInfo;
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, Sink};

use crate::data::key;
use crate::fixture::{TAPE, create_tape, encrypted, tape, volume};

const BLOCK: u32 = 512;
/// Blocks of data; the last block of the archive comes after them.
const COUNT: usize = 12;

/// A block as a head sends it.
type Sent = (BlockInfo, Vec<u8>);

/// Collects what a head sends.
#[derive(Clone, Default)]
struct Collect(Arc<Mutex<Vec<Sent>>>);

impl Tail for Collect {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let sent = (block.info(), block.bytes().to_vec());
        self.0.lock().unwrap().push(sent);
        Ok(())
    }

    fn takes_control_blocks(&self) -> bool {
        true
    }
}

/// Sends these blocks.
struct FalseHead(std::vec::IntoIter<Sent>);

impl Head for FalseHead {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let Some((info, bytes)) = self.0.next() else {
            return Ok(Fill::End);
        };
        block.grow(bytes.len())?.copy_from_slice(&bytes);
        block.set_info(info);
        Ok(Fill::Block)
    }
}

/// An archive, and the blocks of it that are read.
struct Case {
    bytes: Vec<u8>,
    secret: Option<Secret>,
    block: u32,
    /// Only the blocks of the catalogue are read.
    only_catalogue: bool,
    /// Number of the archive, if the medium has others.
    archive: Option<u32>,
}

impl Case {
    /// An archive of a stream.
    fn stream(data: &[u8], secret: Option<Secret>) -> Self {
        let options = ArchiveOptions::stream("s").block_len(BLOCK);
        let bytes = volume(encrypted(options, secret.as_ref()), data, BLOCK);
        Self {
            bytes,
            secret,
            block: BLOCK,
            only_catalogue: false,
            archive: None,
        }
    }

    /// An archive of a tree, whose catalogue has several blocks.
    fn tree(secret: Option<Secret>, only_catalogue: bool) -> Self {
        let (dir, block) = (tempfile::tempdir().unwrap(), 1 << 12);
        for n in 0..40_u8 {
            let name = format!("{n} {}", "a long name ".repeat(15));
            std::fs::write(dir.path().join(name), vec![n; 300]).unwrap();
        }
        let storage = FaultyStorage::new(1);
        let options = ArchiveOptions::tree("t").block_len(block);
        let archive = encrypted(options, secret.as_ref()).plan().unwrap();
        let head = TreeHead::new(&[dir.path()], TreeOptions::default()).unwrap();
        let pipe = Pipe::builder().buffer_size(block).head(head);
        pipe.archive(archive, create_tape(&storage)).run().unwrap();
        Self {
            bytes: storage.bytes(TAPE).unwrap(),
            secret,
            block,
            only_catalogue,
            archive: None,
        }
    }

    fn open(&self) -> ArchiveReader<TapeReader<FaultyStorage>> {
        let (medium, secret) = (tape(&self.bytes), self.secret.as_ref());
        let Some(number) = self.archive else {
            return ArchiveReader::open(medium, secret).unwrap();
        };
        let list = Sessions::read(tape(&self.bytes)).unwrap();
        let listed = list.archives().find(|listed| listed.number() == number);
        ArchiveReader::open_listed(medium, listed.unwrap(), secret).unwrap()
    }

    fn head(
        &self,
        reader: &ArchiveReader<TapeReader<FaultyStorage>>,
    ) -> ArchiveHead<TapeReader<FaultyStorage>> {
        if !self.only_catalogue {
            return reader.head();
        }
        let index = reader.index().unwrap();
        reader.head_of(&index, &index.catalogue()).unwrap()
    }

    /// Returns the blocks that an honest head reads.
    fn honest(&self) -> Vec<Sent> {
        let (reader, sent) = (self.open(), Collect::default());
        let pipe = Pipe::builder().buffer_size(self.block);
        let pipe = pipe.head(self.head(&reader));
        pipe.tail(sent.clone()).run().unwrap();
        std::mem::take(&mut *sent.0.lock().unwrap())
    }

    /// Returns what a reader makes of these blocks: the data, its outcome, and true if the pipe
    /// failed or counts a problem.
    fn read_from(&self, sent: Vec<Sent>, salvages: bool) -> (Vec<u8>, bool, bool) {
        let (log, sink) = (DamageLog::new(), Sink::default());
        let mut reader = self.open();
        if salvages {
            reader = reader.salvage(&log);
        }
        let head = self.head(&reader);
        let (check, report) = (head.check(), head.report());
        let unpack = match salvages {
            true => decompress_salvaging(&log),
            false => decompress(),
        };
        let ended = Pipe::builder()
            .buffer_size(self.block)
            .head(FalseHead(sent.into_iter()))
            .stages(reader.open_blocks())
            .stage(check)
            .stage(unpack)
            .tail(StreamTail::new(sink.clone()))
            .run();
        let is_told = ended.map_or(true, |report| !report.is_complete());
        (sink.bytes(), report.snapshot().complete, is_told)
    }
}

/// Without the check the outcome was that of the head alone, and the pipe was complete.
#[test]
fn pipe_without_the_check_is_not_complete() {
    let data = vec![7; 3 * BLOCK as usize];
    let bytes = volume(encrypted(ArchiveOptions::stream("s"), None), &data, BLOCK);
    let reader = ArchiveReader::open(tape(&bytes), None).unwrap();
    let head = reader.head();
    let (report, sink) = (head.report(), Sink::default());
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    let pipe = pipe.stage(decompress());
    let ended = pipe.tail(StreamRestore::new(sink.clone())).run().unwrap();
    assert_eq!(sink.bytes(), data);
    assert!(!report.snapshot().complete);
    assert_eq!((ended.problems, ended.is_complete()), (1, false));

    let head = reader.head();
    let check = head.check();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head).stage(check);
    let pipe = pipe.stage(decompress());
    let ended = pipe.tail(StreamRestore::new(Sink::default())).run();
    assert!(ended.unwrap().is_complete());
}

/// A small generator of random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// Changes the blocks as a head could that has no key. Without encryption the content of a block
/// can be anything, so only the order and the marks change.
fn forge(random: &mut Random, sent: &mut Vec<Sent>, is_encrypted: bool) -> &'static str {
    let (one, other) = (random.below(sent.len()), random.below(sent.len()));
    match random.below(if is_encrypted { 12 } else { 8 }) {
        0 => {
            sent.remove(one);
            "drops"
        }
        1 => {
            let again = sent[one].clone();
            sent.insert(other, again);
            "repeats"
        }
        2 if one != other => {
            sent.swap(one, other);
            "swaps"
        }
        3 => {
            sent.truncate(one);
            "cuts"
        }
        4 => {
            sent[one].1.clear();
            sent[one].0.marks |= Marks::DAMAGED;
            "invents damage"
        }
        5 => {
            let mut invented = sent[one].clone();
            let last = sent.last().and_then(|last| last.0.sequence);
            invented.0.sequence = Some(last.unwrap_or_default() + 1 + other as u64);
            sent.push(invented);
            "invents a block after the last one"
        }
        6 => {
            let offset = &mut sent[one].0.offset;
            *offset = offset.wrapping_add(1 + other as u64);
            "moves"
        }
        7 => {
            sent[one].0.sequence = None;
            "hides a number"
        }
        8 => {
            sent[one].0.sequence = Some(other as u64);
            "renumbers"
        }
        9 => {
            sent[one].0.marks = Marks(sent[one].0.marks.0 ^ Marks::LAST.0);
            "marks the last block"
        }
        10 => {
            sent[one].0.kind ^= 3;
            "changes the kind"
        }
        _ => {
            let bytes = sent[other].1.clone();
            sent[one].1 = bytes;
            "exchanges content"
        }
    }
}

/// Reads what a false head sends that is not what an honest one does.
fn check_false(case: &Case, sent: &[Sent], data: &[u8], what: &str) {
    for salvages in [true, false] {
        let (read, complete, is_told) = case.read_from(sent.to_vec(), salvages);
        assert!(!complete, "{what}, salvages {salvages}");
        // The offsets of a few blocks are not known, and nothing depends on them.
        let is_same = case.only_catalogue && read == data;
        assert!(is_told || is_same, "{what}, salvages {salvages}");
    }
}

/// Reads what 200 false heads send. Without an error or a problem the data are those of the
/// archive, and a false head never makes it complete.
fn check_false_heads(case: &Case, what: &str) {
    let seed = 20_261_129;
    println!("{what}, seed {seed}");
    let good = case.honest();
    let (data, complete, is_told) = case.read_from(good.clone(), true);
    assert!(!data.is_empty() && !is_told, "{what}");
    assert_eq!(complete, !case.only_catalogue, "{what}");
    let (mut random, mut tried) = (Random(seed), BTreeSet::new());
    for round in 0..200 {
        let mut sent = good.clone();
        let mut forgeries = Vec::new();
        for _ in 0..=random.below(3) {
            if !sent.is_empty() {
                forgeries.push(forge(&mut random, &mut sent, case.secret.is_some()));
            }
        }
        if sent == good {
            continue;
        }
        tried.extend(forgeries.iter().copied());
        let what = format!("{what}, round {round}, {forgeries:?}");
        check_false(case, &sent, &data, &what);
    }
    let kinds = if case.secret.is_some() { 12 } else { 8 };
    assert!(tried.len() >= kinds, "{tried:?}");
}

#[test]
fn false_head_never_makes_a_complete_archive() {
    let data: Vec<u8> = (0..COUNT * BLOCK as usize)
        .map(|at| (at / 100 * 7) as u8)
        .collect();
    for secret in [None, Some(key(1))] {
        let case = Case::stream(&data, secret);
        assert_eq!(case.honest().len(), COUNT + 2);
        check_false_heads(&case, "a stream");
    }
}

/// All blocks of a tree, and those of its catalogue only, from which a list is made.
#[test]
fn false_head_leaves_nothing_out_of_a_tree_or_its_catalogue() {
    for secret in [None, Some(key(1))] {
        for only_catalogue in [false, true] {
            let case = Case::tree(secret.clone(), only_catalogue);
            assert!(case.honest().len() > 3);
            check_false_heads(
                &case,
                &format!("a tree, only its catalogue {only_catalogue}"),
            );
        }
    }
}

/// An archive of a stream with special headers and checkpoints, and one of the same session with
/// the same key and other data.
fn two_archives(is_encrypted: bool) -> [Case; 2] {
    let storage = FaultyStorage::new(1);
    let session = Session::new(create_tape(&storage), SessionOptions::new("two")).unwrap();
    let (secret, mut shared) = (is_encrypted.then(|| key(3)), None);
    let cost = {
        let mut cost = Argon2Cost::default();
        (cost.memory_kib, cost.passes, cost.lanes) = (64, 1, 1);
        cost
    };
    for number in [1, 2] {
        let options = ArchiveOptions::stream("s").block_len(BLOCK);
        let options = match (&secret, shared.take()) {
            (None, _) => options,
            (Some(_), Some(shared)) => options.share_key(shared),
            (Some(secret), None) => options.encrypt_at(secret.clone(), cost),
        };
        let mut archive = options.plan().unwrap();
        shared = archive.shared_key();
        for id in [1, 2] {
            let special = Special::new(Special::OWN | id, vec![number; 10]).unwrap();
            archive = archive.special(special).unwrap();
        }
        let data = vec![number; COUNT * BLOCK as usize];
        let head = HeadStage::from(StreamHead::new(&data[..]));
        let head = head.checkpoint_every(3 * u64::from(BLOCK));
        let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
        pipe.archive_in(archive, &session).run().unwrap();
    }
    session.finish().unwrap();
    let bytes = storage.bytes(TAPE).unwrap();
    [1, 2].map(|archive| Case {
        bytes: bytes.clone(),
        secret: secret.clone(),
        block: BLOCK,
        only_catalogue: false,
        archive: Some(archive),
    })
}

/// Each block of an archive in the place of each of another one with the same key, or before it;
/// each block dropped or repeated, with its number or the next one; a cut after each; the last
/// block at each place. Special headers and checkpoints are among the blocks.
#[test]
fn false_head_with_blocks_of_two_archives_completes_none() {
    for is_encrypted in [false, true] {
        let [case, other] = two_archives(is_encrypted);
        let (good, strange) = (case.honest(), other.honest());
        let (data, complete, is_told) = case.read_from(good.clone(), true);
        assert!(complete && !is_told && data == vec![1; COUNT * BLOCK as usize]);
        let kinds: BTreeSet<u8> = good.iter().map(|(info, _)| info.kind).collect();
        assert_eq!(kinds.len(), 3, "data, special headers, checkpoints");
        for at in 0..good.len() {
            let what = format!("encrypted {is_encrypted}, block {at} of {}", good.len());
            let check = |sent: &[Sent], how: &str| {
                if sent != good {
                    check_false(&case, sent, &data, &format!("{what} {how}"));
                }
            };
            check(&good[..at], "and all after it cut");
            let mut sent = good.clone();
            sent.remove(at);
            check(&sent, "dropped");
            // The ones after it take its place: their numbers are dense.
            for later in &mut sent[at..] {
                later.0.sequence = later.0.sequence.map(|number| number - 1);
            }
            if is_encrypted {
                check(&sent, "dropped, and the others renumbered");
            }
            let mut sent = good.clone();
            sent.insert(at, good[at].clone());
            check(&sent, "repeated");
            let mut sent = good.clone();
            sent.insert(at, good[good.len() - 1].clone());
            check(&sent, "after the last one");
            sent.truncate(at + 1);
            check(&sent, "replaced by the last one, and all after it cut");
            // Without encryption any block can be anything.
            for strange in strange.iter().filter(|_| is_encrypted) {
                let mut sent = good.clone();
                sent[at].1.clone_from(&strange.1);
                check(&sent, "with the content of another archive");
                sent[at] = strange.clone();
                check(&sent, "replaced by one of another archive");
                let mut sent = good.clone();
                sent.insert(at, strange.clone());
                check(&sent, "after one of another archive");
            }
        }
    }
}

/// The 17th special header was shown to the caller, and the archive complete.
#[test]
fn special_header_beyond_the_limit_is_damage() {
    for count in [16, 17] {
        let mut archive = ArchiveOptions::stream("s").block_len(BLOCK).plan().unwrap();
        let special = Special::new(Special::OWN, "text").unwrap();
        archive = archive.special(special).unwrap();
        let storage = FaultyStorage::new(1);
        let pipe = Pipe::builder().buffer_size(BLOCK);
        let pipe = pipe.head(StreamHead::new(&b"data"[..]));
        pipe.archive(archive, create_tape(&storage)).run().unwrap();
        let case = Case {
            bytes: storage.bytes(TAPE).unwrap(),
            secret: None,
            block: BLOCK,
            only_catalogue: false,
            archive: None,
        };
        let mut sent = case.honest();
        (1..count).for_each(|_| sent.insert(1, sent[1].clone()));
        for (number, block) in (0..).zip(&mut sent) {
            block.0.sequence = Some(number);
        }
        let (data, complete, is_told) = case.read_from(sent, true);
        assert_eq!(data, b"data");
        assert_eq!((complete, is_told), (count == 16, count == 17), "{count}");
    }
}
