//! Stages of an adopter between the head and an archive.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use datapipe::InstanceId;
use datapipe::media::MediumError;
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, Random, Sink};
use tempfile::TempDir;

pub(crate) const BLOCK: u32 = 4096;

/// The numbers from 0 to `end`, eight bytes each: the example of the `Head` docs.
struct Count {
    next: u64,
    end: u64,
}

impl Head for Count {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        while self.next < self.end && block.spare().len() >= 8 {
            block.put(&self.next.to_le_bytes())?;
            self.next += 1;
        }
        Ok(if block.is_empty() {
            Fill::End
        } else {
            Fill::Block
        })
    }
}

/// Numbers of a stream of about 80 blocks, whose last one is not full.
const NUMBERS: u64 = 40_003;

fn count() -> Count {
    Count {
        next: 0,
        end: NUMBERS,
    }
}

/// The data of [`count`], in blocks.
fn counted() -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = (0..NUMBERS).flat_map(u64::to_le_bytes).collect();
    bytes.chunks(BLOCK as usize).map(<[u8]>::to_vec).collect()
}

pub(crate) fn key() -> Secret {
    Secret::Key(Key::from_bytes([9; 32]))
}

/// Archives the stream of `pipe`, not encrypted, encrypted, and compressed and encrypted, and
/// returns the stream of each archive. Every archive is complete.
fn archived<'a>(pipe: impl Fn() -> PipeBuilder<'a>) -> Vec<Vec<u8>> {
    let kinds = [(false, false), (true, false), (true, true)];
    kinds.map(|kind| archived_as(pipe(), kind)).into()
}

fn archived_as(pipe: PipeBuilder<'_>, (encrypted, compressed): (bool, bool)) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let options = ArchiveOptions::stream("count").block_len(BLOCK);
    let options = if encrypted {
        options.encrypt(key())
    } else {
        options
    };
    let archive = options.plan().unwrap();
    let written = archive.report();
    let zstd = compressed.then(|| zstd(1).instances(2));
    pipe.buffer_size(BLOCK)
        .stages(zstd)
        .archive(archive.map_seal(|seal| seal.instances(3)), create(&path))
        .run()
        .unwrap();
    assert!(written.snapshot().complete);
    restored(&path, encrypted)
}

fn create(path: &Path) -> datapipe::media::TapeWriter {
    VirtualTape::create(path, VolumeOptions::default()).unwrap()
}

/// Returns the stream of an archive, which must be whole, but for rejected blocks.
pub(crate) fn restored(path: &Path, encrypted: bool) -> Vec<u8> {
    let secret = encrypted.then(key);
    let reader = ArchiveReader::open(VirtualTape::open(path).unwrap(), secret.as_ref()).unwrap();
    let out = path.with_extension("out");
    let file = std::fs::File::create(&out).unwrap();
    let reading = reader.read().instances(2);
    let report = reading.report.clone();
    reading.pipe.tail(StreamRestore::file(file)).run().unwrap();
    let outcome = report.snapshot();
    assert_eq!(outcome.complete, outcome.rejected == 0, "{outcome:?}");
    assert_eq!(outcome.missing, 0, "{outcome:?}");
    std::fs::read(out).unwrap()
}

/// Fails with the position of the first difference, and not with a megabyte.
#[track_caller]
fn assert_same(got: &[u8], wanted: &[u8]) {
    let same = got.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    assert!(
        same == got.len() && same == wanted.len(),
        "{} bytes instead of {}; the first difference is at {same}",
        got.len(),
        wanted.len()
    );
}

#[track_caller]
fn assert_all(got: Vec<Vec<u8>>, wanted: &[u8]) {
    assert_eq!(got.len(), 3);
    got.iter().for_each(|got| assert_same(got, wanted));
}

/// This failed at the second block: "let the head set BlockInfo::offset". A test with one block
/// passed.
#[test]
fn head_without_offsets_is_archived() {
    let all = archived(|| Pipe::builder().head(count()));
    assert_all(all, &counted().concat());
}

/// Blocks reach the archive in the order in which the instances sent them: any.
#[test]
fn head_of_several_instances_is_archived() {
    let each = |id: InstanceId| Count {
        next: 50_000 * u64::from(id.index()),
        end: 50_000 * u64::from(id.index() + 1),
    };
    for stream in archived(|| Pipe::builder().head(Stage::head("count", each).instances(2))) {
        let mut numbers: Vec<_> = stream
            .chunks_exact(8)
            .map(|number| u64::from_le_bytes(number.try_into().unwrap()))
            .collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..100_000));
    }
}

#[test]
fn head_that_drives_its_port_is_archived() {
    let blocks = counted();
    let all = archived(|| {
        Pipe::builder().head(Stage::head_port("count", |port: &HeadPort| {
            for data in &blocks {
                let mut block = port.alloc()?;
                block.put(data)?;
                port.send(block)?;
            }
            Ok(())
        }))
    });
    assert_all(all, &blocks.concat());
}

/// Removes every third byte, and drops every seventh block.
struct Thin;

/// Result of [`Thin`] for block `number`.
fn thinned(number: usize, data: &[u8]) -> Vec<u8> {
    if number % 7 == 3 {
        return Vec::new();
    }
    let kept = (0..).zip(data).filter(|(at, _)| at % 3 != 1);
    kept.map(|(_, byte)| *byte).collect()
}

fn all_thinned() -> Vec<u8> {
    let blocks = counted().into_iter().enumerate();
    blocks.flat_map(|(n, data)| thinned(n, &data)).collect()
}

impl Transform for Thin {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        let data = thinned(input.number().get() as usize, input.bytes());
        output.put(&data)?;
        Ok(if data.is_empty() {
            Verdict::Drop
        } else {
            Verdict::Send
        })
    }
}

#[test]
fn transform_that_shrinks_and_drops_blocks_is_archived() {
    for instances in [1, 4] {
        let thin = || Stage::transform("thin", |_| Thin).instances(instances);
        let own = archived(|| Pipe::builder().head(count()).stage(thin()));
        assert_all(own, &all_thinned());
        // A head that sets offsets, which the transform makes wrong.
        let bytes = counted().concat();
        let ours = archived(|| {
            let head = StreamHead::new(std::io::Cursor::new(bytes.clone()));
            Pipe::builder().head(head).stage(thin())
        });
        assert_all(ours, &all_thinned());
    }
}

/// Adds a header to a block, which grows beyond the buffer's size into the room before it, or
/// takes the last bytes from it; drops every fifth block.
struct Frame;

fn framed(number: usize, data: &[u8]) -> Vec<u8> {
    match number % 5 {
        0 => data[..data.len() / 2].to_vec(),
        1 => Vec::new(),
        _ => [&(number as u16).to_le_bytes()[..], &data[8..]].concat(),
    }
}

impl InPlace for Frame {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let number = block.number().get() as usize;
        match number % 5 {
            0 => block.truncate(block.len() / 2),
            1 => return Ok(Verdict::Drop),
            _ => {
                block.trim_front(8);
                let front = block.grow_front(2)?;
                front.copy_from_slice(&(number as u16).to_le_bytes());
            }
        }
        Ok(Verdict::Send)
    }
}

#[test]
fn in_place_stage_that_changes_lengths_and_drops_blocks_is_archived() {
    let blocks = counted().into_iter().enumerate();
    let wanted: Vec<u8> = blocks.flat_map(|(n, data)| framed(n, &data)).collect();
    for instances in [1, 3] {
        let all = archived(|| {
            let frame = Stage::in_place("frame", |_| Frame).instances(instances);
            Pipe::builder().head(count()).stage(frame)
        });
        assert_all(all, &wanted);
    }
}

/// Sends, forwards, emits and drops.
fn rearrange(port: &MiddlePort) -> Result<(), StageError> {
    let mut number = 0;
    while let Some(input) = port.receive()? {
        match number % 4 {
            0 => {
                let mut half = port.alloc()?;
                half.put(&input.bytes()[..input.len() / 2])?;
                port.send(half, &input)?;
            }
            1 => port.forward(input)?,
            2 => {
                for part in input.bytes().chunks(1000) {
                    let mut block = port.alloc()?;
                    block.set_info(input.info());
                    block.put(part)?;
                    port.emit(block)?;
                }
            }
            _ => port.drop_input(input)?,
        }
        number += 1;
    }
    let mut last = port.alloc()?;
    last.put(b"the end")?;
    Ok(port.emit(last)?)
}

#[test]
fn loop_that_sends_forwards_emits_and_drops_is_archived() {
    let mut wanted: Vec<u8> = counted()
        .into_iter()
        .enumerate()
        .flat_map(|(n, data)| match n % 4 {
            0 => data[..data.len() / 2].to_vec(),
            3 => Vec::new(),
            _ => data,
        })
        .collect();
    wanted.extend(b"the end");
    let all = archived(|| {
        let rearrange = Stage::port("rearrange", rearrange);
        Pipe::builder().head(count()).stage(rearrange)
    });
    assert_all(all, &wanted);
    // The same after a head that sets offsets and a stage that drops.
    let bytes = counted().concat();
    let all = archived(|| {
        Pipe::builder()
            .head(StreamHead::new(std::io::Cursor::new(bytes.clone())))
            .stage(Stage::port("rearrange", rearrange))
    });
    assert_all(all, &wanted);
}

#[test]
fn stage_after_a_codec_does_not_change_offsets() {
    /// Removes nothing: only looks.
    struct Look;
    impl InPlace for Look {
        fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
            assert!(block.info().codec != Codec::NONE);
            Ok(Verdict::Send)
        }
    }
    let all = archived(|| {
        Pipe::builder()
            .head(count())
            .stage(zstd(1).instances(2))
            .stage(Stage::in_place("look", |_| Look).instances(2))
    });
    assert_all(all, &counted().concat());
}

/// Rejects every fourth block.
struct Censor(u64);

impl Inspect for Censor {
    fn inspect(&mut self, data: &[u8], _: &BlockInfo) -> Result<Finding, StageError> {
        self.0 += 1;
        Ok(if data[0] == 3 {
            Finding::Reject
        } else {
            Finding::Pass
        })
    }
}

/// A rejected block keeps its place, with any head, also if other stages follow.
#[test]
fn rejected_block_is_zeros_of_its_length_after_own_stages() {
    let mut random = Random::new(77);
    let data: Vec<u8> = (0..300_001).map(|_| random.below(5) as u8).collect();
    let wanted: Vec<u8> = data
        .chunks(BLOCK as usize)
        .flat_map(|block| {
            if block[0] == 3 {
                vec![0; block.len()]
            } else {
                block.to_vec()
            }
        })
        .collect();
    assert!(wanted != data);
    struct Same;
    impl Transform for Same {
        fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
            output.put(input.bytes())?;
            Ok(Verdict::Send)
        }
    }
    let log = InspectionLog::new();
    let own = archived(|| {
        Pipe::builder()
            .head(Stage::head_port("own", |port: &HeadPort| {
                for data in data.chunks(BLOCK as usize) {
                    let mut block = port.alloc()?;
                    block.put(data)?;
                    port.send(block)?;
                }
                Ok(())
            }))
            .stage(Stage::inspect("censor", &log, |_| Censor(0)))
    });
    let all = archived(|| {
        Pipe::builder()
            .head(StreamHead::new(std::io::Cursor::new(data.clone())))
            .stage(Stage::inspect("censor", &log, |_| Censor(0)))
            .stage(Stage::transform("same", |_| Same).instances(2))
    });
    for got in own.into_iter().chain(all) {
        // If the last block is rejected, no later one says how long it was.
        assert_same(&got, &wanted[..got.len()]);
        assert!(wanted.len() - got.len() <= BLOCK as usize);
    }
}

#[test]
fn archive_call_may_come_before_the_stages() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let options = ArchiveOptions::stream("early").block_len(BLOCK);
    let archive = options.encrypt(key()).plan().unwrap();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .archive(archive.map_tail(|tail| tail.named("tape")), create(&path))
        .head(count())
        .stage(Stage::transform("thin", |_| Thin));
    assert_eq!(
        pipe.plan().unwrap().to_string(),
        "pipe  head > thin > squeeze > aes-256-gcm > tape"
    );
    pipe.run().unwrap();
    assert_same(&restored(&path, true), &all_thinned());
}

#[test]
fn squeeze_is_left_out_if_all_stages_keep_their_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let archive = || ArchiveOptions::stream("s").encrypt(key()).plan().unwrap();
    let head = StreamHead::new(&b"data"[..]);
    let log = InspectionLog::new();
    let pipe = Pipe::builder()
        .head(head)
        .stage(analyze())
        .stage(Stage::inspect("censor", &log, |_| Censor(0)))
        .stage(deflate(1))
        .archive(archive(), create(&dir.path().join("a.tap")));
    assert_eq!(
        pipe.plan().unwrap().to_string(),
        "pipe  stream-head > analyze > censor > deflate > aes-256-gcm > archive-tail"
    );
}

/// A directory with files, and a tape beside it.
pub(crate) fn tree() -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("data");
    std::fs::create_dir(&source).unwrap();
    let mut random = Random::new(3);
    for n in 0..60 {
        let mut content = vec![0; 100 * n];
        random.fill(&mut content);
        std::fs::write(source.join(format!("file {n}")), content).unwrap();
    }
    let tape = dir.path().join("tape");
    (dir, source, tape)
}

pub(crate) fn contents(dir: &Path) -> BTreeMap<std::ffi::OsString, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

fn tree_archive() -> Archive {
    let options = ArchiveOptions::tree("t").block_len(BLOCK).encrypt(key());
    options.plan().unwrap()
}

/// Such a backup was reported as done, and could never be read.
#[test]
fn tree_in_an_archive_of_a_stream_and_the_reverse_fail_at_the_first_block() {
    let (dir, source, tape) = tree();
    for encrypted in [false, true] {
        let plan = |options: ArchiveOptions| {
            let options = options.block_len(BLOCK);
            let options = if encrypted {
                options.encrypt(key())
            } else {
                options
            };
            options.plan().unwrap()
        };
        let refused = |pipe: PipeBuilder<'_>, archive: Archive, why: &str| {
            let (report, path) = (archive.report(), dir.path().join("bad.tap"));
            let options = VolumeOptions::default().overwrite(true);
            let medium = VirtualTape::create(path, options).unwrap();
            let pipe = pipe.buffer_size(BLOCK).archive(archive, medium);
            let error = pipe.run().unwrap_err().to_string();
            assert!(error.contains("block 1 ") && error.contains(why), "{error}");
            let written = report.snapshot();
            assert!(!written.complete && written.blocks == 0);
        };
        let head = || TreeHead::new(&[&source], TreeOptions::default()).unwrap();
        let stream = || plan(ArchiveOptions::stream("s"));
        let tree = || plan(ArchiveOptions::tree("t"));
        let look = || Stage::analyze("look", |_| Nothing);
        let why = "has entries of a file tree, but the archive was planned for a stream";
        refused(Pipe::builder().head(head()), stream(), why);
        refused(Pipe::builder().head(head().instances(3)), stream(), why);
        let pipe = Pipe::builder().head(head()).stage(zstd(1)).stage(look());
        refused(pipe, stream(), why);
        let why = "has no entries of a file tree";
        let data = || StreamHead::new(&b"data"[..]);
        refused(Pipe::builder().head(data()), tree(), why);
        refused(Pipe::builder().head(count()), tree(), why);
        refused(Pipe::builder().head(data()).stage(zstd(1)), tree(), why);
    }
    assert!(!tape.exists());
}

struct Nothing;

impl Analyze for Nothing {
    fn analyze(&mut self, _: &[u8], _: &mut BlockInfo) -> Result<(), StageError> {
        Ok(())
    }
}

/// Adds a byte at the end of each block, or removes it.
struct Tag(bool);

impl InPlace for Tag {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        if self.0 {
            block.grow(1)?.fill(b'!');
        } else {
            assert_eq!(block.bytes().last(), Some(&b'!'));
            block.truncate(block.len() - 1);
        }
        Ok(Verdict::Send)
    }
}

#[test]
fn tree_whose_blocks_change_length_is_restored() {
    let (dir, source, tape) = tree();
    let options = ArchiveOptions::tree("t").block_len(2 * BLOCK);
    Pipe::builder()
        .buffer_size(BLOCK)
        .head(TreeHead::new(&[&source], TreeOptions::default()).unwrap())
        .stage(Stage::in_place("tag", |_| Tag(true)).instances(2))
        .archive(options.encrypt(key()).plan().unwrap(), create(&tape))
        .run()
        .unwrap();
    let dest = dir.path().join("restored");
    std::fs::create_dir(&dest).unwrap();
    let reader = ArchiveReader::open(VirtualTape::open(&tape).unwrap(), Some(&key())).unwrap();
    let restore = TreeRestore::new(&dest, RestoreOptions::default()).unwrap();
    let found = restore.report();
    let pipe = reader.read().pipe;
    pipe.stage(Stage::in_place("untag", |_| Tag(false)).instances(2))
        .tail(restore)
        .run()
        .unwrap();
    assert_eq!(found.snapshot().problems, []);
    assert_eq!(contents(&dest.join("data")), contents(&source));
}

/// Drops block `0`.
struct DropOne(u64);

impl InPlace for DropOne {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        Ok(if block.number().get() == self.0 {
            Verdict::Drop
        } else {
            Verdict::Send
        })
    }
}

/// The catalogue of a tree refers to blocks by their numbers.
#[test]
fn tree_with_dropped_or_added_blocks_is_refused() {
    let (dir, source, _) = tree();
    let run = |stage: MiddleStage<'_>, name: &str| {
        let archive = tree_archive();
        let report = archive.report();
        let pipe = Pipe::builder()
            .buffer_size(BLOCK)
            .head(TreeHead::new(&[&source], TreeOptions::default()).unwrap())
            .stage(stage)
            .archive(archive, create(&dir.path().join(name)));
        let result = pipe.run().map_err(|error| error.to_string());
        assert_eq!(report.snapshot().complete, result.is_ok());
        result.map(|report| report.bytes_in())
    };
    let whole = run(Stage::in_place("none", |_| DropOne(u64::MAX)), "whole");
    let blocks = whole.unwrap().div_ceil(BLOCK.into());
    for (n, drop) in [0, 5, blocks - 1].into_iter().enumerate() {
        let error = run(Stage::in_place("drop", |_| DropOne(drop)), &n.to_string());
        let error = error.unwrap_err();
        assert!(
            error.contains(&format!("block {} of a tree was dropped", drop + 1)),
            "{error}"
        );
    }
    let skip = Stage::port("skip", |port: &MiddlePort| {
        drop(port.receive()?);
        while let Some(block) = port.receive()? {
            port.forward(block)?;
        }
        Ok(())
    });
    let error = run(skip, "skip").unwrap_err();
    assert!(
        error.contains("block 1 of the archive was block 2 of the tree"),
        "{error}"
    );
    let split = Stage::port("split", |port: &MiddlePort| {
        while let Some(mut block) = port.receive()? {
            let mut rest = port.alloc()?;
            let half = block.len() / 2;
            rest.put(&block.bytes()[half..])?;
            rest.set_info(block.info());
            block.truncate(half);
            port.forward(block)?;
            port.emit(rest)?;
        }
        Ok(())
    });
    let error = run(split, "split").unwrap_err();
    assert!(
        error.contains("block 2 of the archive was block 1 of the tree"),
        "{error}"
    );
}

#[test]
fn copy_of_a_tree_archive_is_restored() {
    let (dir, source, tape) = tree();
    let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head.instances(2));
    let pipe = pipe.archive(tree_archive(), create(&tape));
    pipe.run().unwrap();
    let copy = dir.path().join("copy");
    let open =
        |path: &Path| ArchiveReader::open(VirtualTape::open(path).unwrap(), Some(&key())).unwrap();
    let look = Stage::in_place("look", |_| DropOne(u64::MAX)).instances(2);
    let pipe = open(&tape).read().instances(2).pipe.stage(look);
    let pipe = pipe.archive(tree_archive(), create(&copy));
    pipe.run().unwrap();
    let dest = dir.path().join("restored");
    std::fs::create_dir(&dest).unwrap();
    let restore = TreeRestore::new(&dest, RestoreOptions::default()).unwrap();
    let found = restore.report();
    open(&copy).read().pipe.tail(restore).run().unwrap();
    assert_eq!(found.snapshot().problems, []);
    assert_eq!(contents(&dest.join("data")), contents(&source));
}

/// A copy of a damaged archive is not made to look whole: blocks that are missing end it.
#[test]
fn copy_of_an_archive_with_lost_blocks_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("a.tap"), dir.path().join("b.tap"));
    let plan = || {
        let options = ArchiveOptions::stream("a").block_len(BLOCK);
        options.record_len(BLOCK as usize).plan().unwrap()
    };
    let pipe = Pipe::builder().buffer_size(BLOCK).head(count());
    pipe.archive(plan(), create(&path)).run().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 3 * BLOCK as usize].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    for own in [false, true] {
        let log = DamageLog::new();
        let reader = ArchiveReader::open(VirtualTape::open(&path).unwrap(), None).unwrap();
        let look = own.then(|| Stage::in_place("look", |_| DropOne(u64::MAX)));
        let archive = plan();
        let report = archive.report();
        let options = VolumeOptions::default().overwrite(true);
        let error = reader
            .salvage(&log)
            .read()
            .pipe
            .stages(look)
            .archive(archive, VirtualTape::create(&copy, options).unwrap())
            .run()
            .unwrap_err();
        assert!(!report.snapshot().complete && log.count() > 0, "{error}");
    }
}

/// The first pipe of two on one reader failed: "the archive is incomplete".
#[test]
fn second_pipe_on_one_reader_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let archive = ArchiveOptions::stream("a").block_len(BLOCK).plan().unwrap();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(count());
    pipe.archive(archive, create(&path)).run().unwrap();
    let reader = ArchiveReader::open(VirtualTape::open(&path).unwrap(), None).unwrap();
    let index = reader.index().unwrap();
    let mut some = datapipe::archive::BlockSet::new();
    some.insert(5..=9);

    let (first, second) = (reader.read(), reader.read());
    let report = first.report.clone();
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let tail = Stage::tail_port("wait", move |port: &TailPort| {
        let mut bytes = Vec::new();
        let mut reader = BlockReader::new(port);
        reader.by_ref().take(8).read_to_end(&mut bytes)?;
        begun.send(())?;
        may_go_on.recv()?;
        std::io::copy(&mut reader, &mut std::io::sink())?;
        Ok(())
    });
    let first = first.pipe.buffers(4).tail(tail).start().unwrap();
    has_begun.recv().unwrap();
    let error = second.pipe.tail(StreamRestore::new(std::io::sink())).run();
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("another pipe reads this archive with the same reader"),
        "{error}"
    );
    assert!(matches!(
        reader.read_blocks(&index, &some),
        Err(MediumError::BeingRead)
    ));
    assert!(
        reader
            .index()
            .unwrap_err()
            .to_string()
            .contains("another pipe reads")
    );
    go_on.send(()).unwrap();
    first.wait().unwrap();
    assert!(report.snapshot().complete);
    // Afterwards the reader is free again.
    reader.index().unwrap();
    let again = reader.read_blocks(&index, &some).unwrap();
    again
        .pipe
        .tail(StreamRestore::new(std::io::sink()))
        .run()
        .unwrap();
    assert_eq!(again.report.snapshot().blocks, 5);
}

/// The pair of stages of two archives could be mixed up: such a backup was never readable.
#[test]
fn seal_of_another_archive_is_refused() {
    use datapipe::testkit::archive_stages;
    let plan = || {
        let options = ArchiveOptions::stream("a").block_len(BLOCK).encrypt(key());
        options.plan().unwrap()
    };
    let medium =
        || VirtualTape::create_on(FaultyStorage::new(1), "/t", VolumeOptions::default()).unwrap();
    let data = counted().concat();
    for other in [false, true] {
        let archive = plan();
        let report = archive.report();
        let (seal, tail) = archive_stages(archive, medium());
        let seal = if other {
            archive_stages(plan(), medium()).0
        } else {
            seal
        };
        let pipe = Pipe::builder().buffer_size(BLOCK);
        let pipe = pipe.head(StreamHead::new(&data[..])).stages(seal);
        let result = pipe.tail(tail).run();
        assert_eq!(result.is_err(), other);
        assert_eq!(report.snapshot().complete, !other);
        if let Err(error) = result {
            let error = error.to_string();
            assert!(error.contains("belong to different archives"), "{error}");
        }
    }
}

/// Shortens each block, to a length of its own.
struct Stretch;

impl Transform for Stretch {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        let len = input.len() / 2 + input.number().get() as usize % 7;
        output.put(&input.bytes()[..len.min(input.len())])?;
        Ok(Verdict::Send)
    }
}

/// Several instances of a stage that changes lengths know nothing of each other's blocks, and the
/// offsets were sealed.
#[test]
fn stage_of_several_instances_that_changes_lengths_is_archived_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let data = counted().concat();
    let options = ArchiveOptions::stream("s").block_len(BLOCK).encrypt(key());
    let archive = options.plan().unwrap();
    let report = archive.report();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(&data[..]))
        .stage(Stage::transform("stretch", |_| Stretch).instances(3))
        .archive(archive.map_seal(|seal| seal.instances(3)), create(&path));
    pipe.run().unwrap();
    assert!(report.snapshot().complete);
    let wanted: Vec<u8> = data
        .chunks(BLOCK as usize)
        .enumerate()
        .flat_map(|(number, block)| &block[..(block.len() / 2 + number % 7).min(block.len())])
        .copied()
        .collect();
    let reader = ArchiveReader::open(VirtualTape::open(&path).unwrap(), Some(&key())).unwrap();
    let (reading, sink) = (reader.read().instances(2), Sink::default());
    let pipe = reading.pipe.tail(StreamRestore::new(sink.clone()));
    assert!(pipe.run().unwrap().is_complete());
    assert!(reading.report.snapshot().complete);
    assert_same(&sink.bytes(), &wanted);
}
