//! Another participant that changes blocks while a stage reads them. Nothing is created outside of
//! the destination, and no stage panics or reads out of range.
//!
//! Two kinds of changes: at random moments, which shows what a stage bears; and of each byte right
//! after it was copied, which must have no effect at all, and fails without luck if a stage checks
//! one value and uses another.
//!
//! `DATAPIPE_FLIPS=n` runs n rounds instead of 12; `DATAPIPE_SEED=n` starts with another seed.

#![allow(unsafe_code, reason = "writes to buffers that it does not hold")]
#![allow(
    clippy::disallowed_types,
    reason = "flags of the test, not shared words"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use datapipe::prelude::*;
use datapipe::stage::{IntoHead as _, IntoTail};
use datapipe::testkit::{Random, Sink, with_copies_changed};
use datapipe::tree::{CatalogueQuery, RestoreOptions, TreeList, TreeRestore, TreeVerify};
use memmap2::{MmapOptions, MmapRaw};

use super::pack::{Blocks, Pack};
use super::site::Site;
use crate::data::{key, noise, setting};
use crate::fixture::{archive_options, head, source};
use crate::medium::{create_tape, open};
use crate::placement::Placement;

/// Start of all names, and what takes its place for moments.
const INSIDE: &[u8; 4] = b"at_x";
const OUTSIDE: &[u8; 4] = b"../x";

/// The buffers of a pipe, mapped a second time.
struct Buffers {
    map: MmapRaw,
    /// Offset of the first buffer, and distance between two.
    first: usize,
    stride: usize,
    count: usize,
    headroom: usize,
}

impl Buffers {
    fn of(pipe: &Pipe) -> Self {
        let descriptor = pipe.segment().descriptor().unwrap();
        let map = MmapOptions::new().map_raw(&descriptor).unwrap();
        let shape = pipe.segment().shape();
        let room = shape.headroom() + shape.buffer_size() + shape.tailroom();
        let stride = room.next_multiple_of(4096) as usize;
        let count = shape.buffers() as usize;
        Self {
            first: map.len() - stride * count,
            map,
            stride,
            count,
            headroom: shape.headroom() as usize,
        }
    }

    /// Writes bytes to a buffer, at an offset of its data: four at once, others one by one.
    fn write(&self, buffer: usize, at: usize, bytes: &[u8]) {
        let offset = self.first + buffer * self.stride + self.headroom + at;
        if let (&[a, b, c, d], true) = (bytes, offset + 4 <= self.map.len()) {
            // SAFETY: the offset is inside the mapping.
            let to = unsafe { self.map.as_mut_ptr().add(offset) }.cast::<[u8; 4]>();
            // SAFETY: the four bytes are mapped and writable, and have no alignment.
            unsafe { to.write_volatile([a, b, c, d]) };
            return;
        }
        for (n, byte) in bytes.iter().enumerate() {
            let offset = self.first + buffer * self.stride + self.headroom + at + n;
            assert!(offset < self.map.len());
            // SAFETY: the offset is inside the mapping.
            let to = unsafe { self.map.as_mut_ptr().add(offset) };
            // SAFETY: the byte is mapped and writable. That others read it meanwhile is the
            // purpose.
            unsafe { to.write_volatile(*byte) };
        }
    }
}

/// Runs a pipe while another thread calls `flip` again and again. The pipe ends with a result or
/// with an error of a stage that is not a panic.
fn run_flipped(
    what: &str,
    pipe: PipeBuilder<'static>,
    mut flip: impl FnMut(&Buffers) + Send,
) -> Result<Report, Error> {
    let pipe = pipe.start().unwrap();
    let (buffers, ended) = (Buffers::of(&pipe), AtomicBool::new(false));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                flip(&buffers);
            }
        });
        let result = pipe.wait();
        ended.store(true, Ordering::Relaxed);
        result
    });
    match &result {
        Err(Error::Stage(failure)) if failure.error.is_panic() => panic!("{what}: {failure}"),
        Ok(_) | Err(Error::Stage(_)) => {}
        Err(other) => panic!("{what}: {other}"),
    }
    result
}

/// Number of directories of a block, of files, and of blocks.
const FILES: usize = 20;
const BLOCKS: usize = 8;
/// Bytes of a file.
const DATA: usize = 40;

/// Blocks of directories and files, all with the same layout.
fn files() -> Pack {
    let mut pack = Pack::default();
    for block in 0..BLOCKS {
        for file in 0..FILES {
            pack.directory(&format!("at_x{block:03}-{file:03}"));
            let path = format!("at_x{block:03}+{file:03}");
            let attributes: &[(&str, &[u8])] = &[("user.origin", b"some value")];
            let data = [file as u8; DATA];
            let meta = super::pack::file(&path);
            pack.whole(&meta, attributes, DATA as u64, &[(0, &data[..])]);
        }
        pack.cut();
    }
    pack
}

/// Flips one name of each block between inside and outside, as fast as it can: a check often sees
/// the good one, and the use after it the other. Some other bytes flip to anything and back.
fn flip_names(block: &[u8], seed: u64) -> impl FnMut(&Buffers) + Send {
    let (block, mut random) = (block.to_vec(), Random::new(seed));
    let names: Vec<_> = block
        .windows(INSIDE.len())
        .enumerate()
        .filter(|(_, bytes)| bytes == INSIDE)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(names.len(), 2 * FILES);
    let name = names[random.below(2 * FILES as u64) as usize];
    let garbles = seed.is_multiple_of(2);
    move |buffers| {
        for buffer in 0..buffers.count {
            buffers.write(buffer, name, OUTSIDE);
            let pause = random.below(30);
            (0..pause).for_each(|_| std::hint::spin_loop());
            buffers.write(buffer, name, INSIDE);
            (0..3 * pause).for_each(|_| std::hint::spin_loop());
            if garbles && random.below(100) == 0 {
                let at = random.below(block.len() as u64) as usize;
                buffers.write(buffer, at, &[random.below(256) as u8]);
                buffers.write(buffer, at, &block[at..=at]);
            }
        }
    }
}

/// Runs hand-made blocks to a tail while their names flip.
fn run_names(what: &str, seed: u64, tail: impl IntoTail<'static>) -> Result<Report, Error> {
    let pack = files();
    let block = pack.blocks[0].bytes.clone();
    let pipe = Pipe::builder()
        .buffers(4)
        .buffer_size(block.len() as u32)
        .head(Blocks::new(pack))
        .tail(tail);
    run_flipped(
        &format!("{what}, seed {seed}"),
        pipe,
        flip_names(&block, seed),
    )
}

/// Seeds of the rounds.
fn seeds() -> std::ops::Range<u64> {
    let (first, rounds) = (setting("DATAPIPE_SEED", 1), setting("DATAPIPE_FLIPS", 12));
    println!("seeds {first} to {}", first + rounds - 1);
    first..first + rounds
}

/// The tail checked a name in shared memory, and then opened what was there: with the directory
/// replaced by `..` in between, a file was made outside of the destination.
#[test]
fn names_that_change_during_a_restore_stay_inside() {
    for seed in seeds() {
        let site = Site::new(Placement::Threads);
        let threads = [1, 3][seed as usize % 2];
        let options = RestoreOptions::default().sync(false).threads(threads);
        let tail = TreeRestore::new(site.dest(), options).unwrap();
        let report = tail.report();
        // Damage is reported. What one thread found to be whole cannot fail on another.
        run_names("restore", seed, tail).unwrap();
        for problem in &report.snapshot().problems {
            // A text that calls a good name unsafe was made of another value than was checked.
            let text = problem.to_string();
            assert!(!text.contains("unsafe: \"at_x"), "seed {seed}: {text}");
        }
        site.assert_untouched();
    }
}

#[test]
fn readers_of_trees_bear_blocks_that_change() {
    for seed in seeds() {
        let _ = run_names("verify", seed, TreeVerify::new());
        let (log, is_safe) = (DamageLog::new(), Arc::new(AtomicBool::new(true)));
        let all_safe = Arc::clone(&is_safe);
        let list = TreeList::new(move |object| {
            // What was checked is what the caller gets.
            let parent = object
                .path
                .split(|&byte| byte == b'/')
                .any(|part| part == b"..");
            all_safe.fetch_and(!parent, Ordering::Relaxed);
            Ok(())
        });
        let _ = run_names("list", seed, list.salvage(&log));
        assert!(
            is_safe.load(Ordering::Relaxed),
            "seed {seed}: a path leads outside"
        );
        let query = CatalogueQuery::new(&[b"at_x000-000".to_vec()]);
        let _ = run_names("search", seed, query.search().unwrap());
        let _ = run_names("stream", seed, StreamTail::new(std::io::sink()));
    }
}

/// Runs blocks to a tail, while each byte changes as soon as the tail has copied it. Returns the
/// number of these bytes.
fn run_changed(what: &str, pack: Pack, tail: impl IntoTail<'static>) -> usize {
    let longest = pack.blocks.iter().map(|block| block.bytes.len()).max();
    let pipe = Pipe::builder()
        .buffers(4)
        .buffer_size(longest.unwrap() as u32)
        .head(HeadStage::from(Blocks::new(pack)).inline())
        .tail(tail.into_tail().inline());
    let (result, changed) = with_copies_changed(|| pipe.run());
    result.unwrap_or_else(|error| panic!("{what}: {error}"));
    changed as usize
}

/// Length of the blocks of a pack.
fn len_of(pack: &Pack) -> usize {
    pack.blocks.iter().map(|block| block.bytes.len()).sum()
}

/// A stage that checked the copy of a name and used the name in the block, or the other way round,
/// would use another name here. One that copied a byte twice would have changed more bytes, and
/// one that did not copy a header, a name or an attribute fewer.
#[test]
fn bytes_that_change_after_their_copy_change_no_result() {
    // Of an extent the header is copied, and not its data.
    let copied = len_of(&files()) - DATA * FILES * BLOCKS;
    let site = Site::new(Placement::Threads);
    let options = RestoreOptions::default().sync(false).threads(1);
    let tail = TreeRestore::new(site.dest(), options).unwrap();
    let report = tail.report();
    assert_eq!(run_changed("restore", files(), tail), copied, "restore");
    assert!(
        report.snapshot().problems.is_empty(),
        "{:?}",
        report.snapshot()
    );
    for (block, file) in (0..BLOCKS).flat_map(|block| (0..FILES).map(move |file| (block, file))) {
        let restored = std::fs::read(site.dest().join(format!("at_x{block:03}+{file:03}")));
        assert_eq!(restored.unwrap(), [file as u8; DATA]);
        assert!(
            site.dest()
                .join(format!("at_x{block:03}-{file:03}"))
                .is_dir()
        );
    }
    site.assert_untouched();

    let tail = TreeVerify::new();
    let report = tail.report();
    assert_eq!(run_changed("verify", files(), tail), copied, "verify");
    assert!(
        report.snapshot().problems.is_empty(),
        "{:?}",
        report.snapshot()
    );

    let names = Arc::new(Mutex::new(Vec::new()));
    let listed = Arc::clone(&names);
    let list = TreeList::new(move |object| {
        listed.lock().unwrap().push(object.path.to_vec());
        Ok(())
    });
    assert_eq!(run_changed("list", files(), list), copied, "list");
    let names = names.lock().unwrap();
    assert!(names.iter().all(|name| name.starts_with(INSIDE)));
    assert_eq!(names.len(), 2 * FILES * BLOCKS);

    let mut listed = files();
    listed.list_all(2, |_| {});
    let (data, all) = (len_of(&files()), len_of(&listed));
    let query = CatalogueQuery::new(&[b"at_x007-019".to_vec()]);
    let changed = run_changed("search", listed, query.search().unwrap());
    assert_eq!(
        changed,
        all - data,
        "search: the catalogue, and no other block"
    );
    assert_eq!(query.not_found(), [b""; 0]);
}

/// The same for the libraries of compression, which do not expect that their input changes.
#[test]
fn codecs_use_only_the_copy_of_a_block() {
    let text = b"some text that becomes shorter ".repeat(1000);
    for (name, codec) in [
        ("zstd", zstd(3)),
        ("zstd 12", zstd(12)),
        ("deflate", deflate(6)),
    ] {
        let sink = Sink::default();
        let pipe = Pipe::builder()
            .buffer_size(4096)
            .head(
                StreamHead::new(std::io::Cursor::new(text.clone()))
                    .into_head()
                    .inline(),
            )
            .stage(codec.inline())
            .stage(decompress().inline())
            .tail(StreamTail::new(sink.clone()).into_tail().inline());
        let (result, changed) = with_copies_changed(|| pipe.run());
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(sink.bytes() == text, "{name}");
        assert!(
            changed as usize > text.len(),
            "{name}: the text and the compressed blocks"
        );
    }
}

/// Overwrites random bytes of all buffers.
fn flip_anything(seed: u64, size: u32) -> impl FnMut(&Buffers) + Send {
    let mut random = Random::new(seed);
    let pause = random.below(2000);
    move |buffers| {
        let buffer = random.below(buffers.count as u64) as usize;
        // Lengths and tags are at the start and at the end.
        let at = match random.below(4) {
            0 => random.below(64),
            1 => u64::from(size) - 1 - random.below(64),
            _ => random.below(u64::from(size)),
        };
        buffers.write(buffer, at as usize, &[random.below(256) as u8]);
        (0..pause).for_each(|_| std::hint::spin_loop());
    }
}

struct Suspicious;

impl Inspect for Suspicious {
    fn inspect(&mut self, data: &[u8], _: &BlockInfo) -> Result<Finding, StageError> {
        Ok(match data.first() {
            Some(0) => Finding::Mark,
            _ => Finding::Pass,
        })
    }
}

#[test]
fn stages_of_archives_bear_blocks_that_change() {
    const SIZE: u32 = 16 << 10;
    let (_kept, tree) = source();
    for n in 0..200 {
        let content = [
            &b"a line of text\n".repeat(n * 3)[..],
            &noise(n * 40, n as u64),
        ]
        .concat();
        std::fs::write(tree.join(format!("file {n}")), content).unwrap();
    }
    for seed in seeds().step_by(8) {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, codec: MiddleStage<'static>| {
            let archive = archive_options(SIZE, 300_000)
                .encrypt(key(5))
                .plan()
                .unwrap();
            let pipe = Pipe::builder().buffer_size(SIZE).head(head(&tree));
            let pipe = pipe.stage(analyze()).stage(codec.instances(2));
            pipe.archive(archive, create_tape(&dir.path().join(name)))
        };
        write("good", zstd(3)).run().unwrap();
        let log = InspectionLog::new();
        let inspect = Stage::inspect("suspicious", &log, |_| Suspicious);
        let stream = noise(1 << 20, seed);
        let pipe = Pipe::builder().buffer_size(SIZE);
        let pipe = pipe.head(StreamHead::new(std::io::Cursor::new(stream)));
        let pipe = pipe.stage(inspect).tail(StreamTail::new(std::io::sink()));
        let _ = run_flipped(
            &format!("inspect, seed {seed}"),
            pipe,
            flip_anything(seed, SIZE),
        );
        for (name, codec) in [
            ("zstd", zstd(3)),
            ("zstd 12", zstd(12)),
            ("deflate", deflate(6)),
        ] {
            let what = format!("write {name}, seed {seed}");
            let _ = run_flipped(&what, write(name, codec), flip_anything(seed, SIZE));
        }
        for threads in [1, 2] {
            let site = Site::new(Placement::Threads);
            let log = DamageLog::new();
            let tape = open(&dir.path().join("good"));
            let reader = ArchiveReader::open(tape, Some(&key(5)))
                .unwrap()
                .salvage(&log);
            let options = RestoreOptions::default().sync(false).threads(threads);
            let tail = TreeRestore::new(site.dest(), options).unwrap();
            let pipe = reader.read().instances(2).pipe.tail(tail);
            let what = format!("read, seed {seed}");
            let _ = run_flipped(&what, pipe, flip_anything(seed, SIZE));
            site.assert_untouched();
        }
    }
}
