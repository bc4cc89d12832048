//! A false head: what it drops, repeats, swaps, cuts off or invents never ends in a complete
//! archive with other data.

use std::sync::{Arc, Mutex};

use datapipe::pool::BlockInfo;
use datapipe::prelude::*;
use datapipe::testkit::Sink;

use crate::data::key;
use crate::fixture::{encrypted, tape, volume};

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

/// Returns the bytes of a tape, and the blocks that an honest head reads from it.
fn honest(data: &[u8], secret: Option<&Secret>) -> (Vec<u8>, Vec<Sent>) {
    let options = ArchiveOptions::stream("s").block_len(BLOCK);
    let bytes = volume(encrypted(options, secret), data, BLOCK);
    let reader = ArchiveReader::open(tape(&bytes), secret).unwrap();
    let sent = Collect::default();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(reader.head());
    pipe.tail(sent.clone()).run().unwrap();
    let sent = std::mem::take(&mut *sent.0.lock().unwrap());
    (bytes, sent)
}

/// Returns what a reader makes of these blocks: the data, its outcome, and true if the pipe failed
/// or counts a problem.
fn read_from(
    bytes: &[u8],
    secret: Option<&Secret>,
    sent: Vec<Sent>,
    salvages: bool,
) -> (Vec<u8>, bool, bool) {
    let (log, sink) = (DamageLog::new(), Sink::default());
    let mut reader = ArchiveReader::open(tape(bytes), secret).unwrap();
    if salvages {
        reader = reader.salvage(&log);
    }
    let head = reader.head();
    let (check, report) = (head.check(), head.report());
    let unpack = match salvages {
        true => decompress_salvaging(&log),
        false => decompress(),
    };
    let ended = Pipe::builder()
        .buffer_size(BLOCK)
        .head(FalseHead(sent.into_iter()))
        .stages(reader.open_blocks())
        .stage(check)
        .stage(unpack)
        .tail(StreamRestore::new(sink.clone()))
        .run();
    let is_told = ended.map_or(true, |report| !report.is_complete());
    (sink.bytes(), report.snapshot().complete, is_told)
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
            invented.0.sequence = Some((COUNT + 1 + other) as u64);
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

#[test]
fn false_head_never_makes_a_complete_archive() {
    let seed = 20_261_129;
    println!("seed {seed}");
    let data: Vec<u8> = (0..COUNT * BLOCK as usize)
        .map(|at| (at / 100 * 7) as u8)
        .collect();
    for secret in [None, Some(key(1))] {
        let (bytes, good) = honest(&data, secret.as_ref());
        assert_eq!(good.len(), COUNT + 1);
        let (read, complete, is_told) = read_from(&bytes, secret.as_ref(), good.clone(), true);
        assert!(read == data && complete && !is_told);
        let mut random = Random(seed);
        for round in 0..300 {
            let mut sent = good.clone();
            let mut forgeries = Vec::new();
            for _ in 0..=random.below(3) {
                if !sent.is_empty() {
                    forgeries.push(forge(&mut random, &mut sent, secret.is_some()));
                }
            }
            if sent == good {
                continue;
            }
            for salvages in [true, false] {
                let (_, complete, is_told) =
                    read_from(&bytes, secret.as_ref(), sent.clone(), salvages);
                let what = format!("round {round}, {forgeries:?}, salvages {salvages}");
                assert!(!complete && is_told, "{what}: {complete} {is_told}");
            }
        }
    }
}
