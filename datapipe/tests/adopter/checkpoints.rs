//! Checkpoints: blocks between the data that say how far a head has come. They end chunks, and
//! readers and stages pass over them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use datapipe::archive::Special;
use datapipe::prelude::*;
use datapipe::testkit::{Random, frames};
use datapipe::tree::{CatalogueCheck, CatalogueQuery, TreeList, digest_of};
use datapipe::wire::{
    BlockKind, Checkpoint, Framing, Locator, RecordHeader, RecordKind, UnitHeader, UnitKind,
    WalkCheckpoint,
};

use crate::archive_stages::{BLOCK, key};

/// A unit of a tape: its header and its body.
type Unit = (UnitHeader, Vec<u8>);

/// Returns the units of a tape.
fn units(path: &Path) -> Vec<Unit> {
    let mut stream = Vec::new();
    for frame in frames(&fs::read(path).unwrap()) {
        let record = frame.get(4..frame.len().saturating_sub(4));
        if let Some(Ok((header, content))) = record.map(RecordHeader::parse)
            && header.kind == RecordKind::Data
        {
            stream.extend_from_slice(content);
        }
    }
    let (mut units, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        let header = UnitHeader::parse(&stream[at..]).unwrap();
        let body = &stream[at + 64..][..header.stored as usize];
        units.push((header, body.to_vec()));
        at += header.unit_len();
    }
    units
}

fn blocks(units: &[Unit]) -> impl Iterator<Item = &Unit> + Clone {
    units
        .iter()
        .filter(|(header, _)| header.kind == UnitKind::Block)
}

fn is_checkpoint((header, _): &&Unit) -> bool {
    header.kind == UnitKind::Block && header.block_kind == BlockKind::Checkpoint
}

/// Returns the checkpoints with the numbers of their first blocks. Each ends a chunk.
fn checkpoints(units: &[Unit]) -> Vec<(u64, Checkpoint)> {
    let (mut all, mut open) = (Vec::new(), Vec::<&Unit>::new());
    for (unit, next) in units.iter().zip(&units[1..]) {
        if !is_checkpoint(&unit) {
            continue;
        }
        open.push(unit);
        if is_checkpoint(&next) {
            continue;
        }
        assert_eq!(next.0.kind, UnitKind::ChunkFooter);
        let bodies = open.iter().map(|(_, body)| &body[..]);
        all.push((open[0].0.number, Checkpoint::parse(bodies).unwrap()));
        open.clear();
    }
    all
}

/// Checks that offsets count data and catalogue only.
fn check_offsets(units: &[Unit]) {
    let (mut next, mut number) = (0, 0);
    for (header, _) in blocks(units) {
        assert_eq!((header.offset, header.number), (next, number));
        number += 1;
        if header.block_kind.counts_in_offsets() {
            next += u64::from(header.plain);
        }
    }
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Random::new(seed).fill(&mut bytes);
    bytes
}

fn tape(path: &Path) -> impl MediumWriter + use<> {
    VirtualTape::create(path, VolumeOptions::default().overwrite(true)).unwrap()
}

fn open(path: &Path, secret: Option<&Secret>) -> ArchiveReader<impl MediumReader + use<>> {
    ArchiveReader::open(VirtualTape::open(path).unwrap(), secret).unwrap()
}

fn restored(path: &Path, secret: Option<&Secret>) -> Vec<u8> {
    let mut restored = Vec::new();
    let reading = open(path, secret).read();
    let report = reading
        .pipe
        .tail(StreamRestore::new(&mut restored))
        .run()
        .unwrap();
    assert!(report.is_complete() && reading.report.snapshot().complete);
    restored
}

/// Copies each byte twice, so that blocks get longer.
struct Twice;

impl FlatMap for Twice {
    fn flat_map(&mut self, input: &Block, outputs: &mut Outputs<'_>) -> Result<(), StageError> {
        for bytes in input.bytes().chunks(input.capacity() / 2) {
            let twice: Vec<u8> = bytes.iter().flat_map(|&byte| [byte, byte]).collect();
            outputs.next_block()?.put(&twice)?;
        }
        Ok(())
    }
}

/// Changes nothing. It would notice a block that it should not see.
struct Nothing;

impl InPlace for Nothing {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        assert_eq!(block.info().kind, BlockKind::Data.code());
        Ok(Verdict::Send)
    }
}

/// Drops some blocks.
struct DropSome;

fn is_kept(block: &[u8]) -> bool {
    !block[0].is_multiple_of(5)
}

impl InPlace for DropSome {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        Ok(match is_kept(block.bytes()) {
            true => Verdict::Send,
            false => Verdict::Drop,
        })
    }
}

#[test]
fn checkpoints_of_a_stream_say_its_offset_and_end_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let data = noise(40 * BLOCK as usize + 100, 1);
    let archive = ArchiveOptions::stream("s").block_len(BLOCK).plan().unwrap();
    let head = HeadStage::from(StreamHead::new(&data[..])).checkpoint_every(3 * u64::from(BLOCK));
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    pipe.archive(archive, tape(&path)).run().unwrap();
    let units = units(&path);
    check_offsets(&units);
    let all = checkpoints(&units);
    assert_eq!(all.len(), 13);
    for (n, (number, checkpoint)) in all.iter().enumerate() {
        let n = n as u64;
        assert_eq!(*number, 4 * n + 4);
        let Checkpoint::Stream(stream) = checkpoint else {
            panic!("{checkpoint:?}")
        };
        assert_eq!(stream.offset, 3 * (n + 1) * u64::from(BLOCK));
        assert_ne!(stream.begun, [0; 32]);
        assert_eq!(stream.cells, [0; 32], "no cell of 256 KiB has ended");
    }
    assert_eq!(restored(&path, None), data);
}

/// Stages between the head and the archive pass a checkpoint on, in its place.
#[test]
fn stages_pass_checkpoints_on() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("a.tap"), dir.path().join("b.tap"));
    let data = noise(50 * BLOCK as usize + 100, 2);
    let twice: Vec<u8> = data.iter().flat_map(|&byte| [byte, byte]).collect();
    for case in 0..5 {
        let secret = (case > 0).then(key);
        let options = ArchiveOptions::stream("s").block_len(BLOCK);
        let options = secret
            .clone()
            .into_iter()
            .fold(options, ArchiveOptions::encrypt);
        let head = HeadStage::from(StreamHead::new(&data[..]));
        let head = head.checkpoint_every(3 * u64::from(BLOCK));
        let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
        let (pipe, expected) = match case {
            0 => (pipe.stage(zstd(3).instances(3)), data.clone()),
            1 => (
                pipe.stage(Stage::flat_map("twice", 4, |_| Twice).instances(3))
                    .stage(zstd(3).instances(2)),
                twice.clone(),
            ),
            2 => (
                pipe.stage(Stage::in_place("nothing", |_| Nothing).instances(2))
                    .stage(Stage::in_place("some", |_| DropSome).instances(2)),
                data.chunks(BLOCK as usize)
                    .filter(|block| is_kept(block))
                    .flat_map(<[u8]>::to_vec)
                    .collect(),
            ),
            3 => (
                pipe.stage(datapipe::stage::sequence(0))
                    .stage(analyze())
                    .stage(datapipe::stage::resequence(0, 4)),
                data.clone(),
            ),
            _ => (pipe.stage(deflate(1).instances(2)), data.clone()),
        };
        let archive = options.plan().unwrap();
        let archive = archive.map_seal(|seal| seal.instances(2));
        pipe.archive(archive, tape(&path)).run().unwrap();
        let units = units(&path);
        check_offsets(&units);
        let count = blocks(&units).filter(is_checkpoint).count();
        assert!((15..=17).contains(&count), "{case}: {count}");
        let restored_data = restored(&path, secret.as_ref());
        assert!(restored_data == expected, "{case}: {}", restored_data.len());

        // The archive that is made of this one has no checkpoints: another head sends it.
        let reading = open(&path, secret.as_ref()).read();
        let archive = ArchiveOptions::stream("copy").block_len(BLOCK);
        let archive = archive.plan().unwrap();
        reading.pipe.archive(archive, tape(&copy)).run().unwrap();
        assert!(restored(&copy, None) == expected, "{case}");
    }
}

/// A loop over a port may keep what it has received, so a checkpoint could not say what is safe.
#[test]
fn pipes_whose_stages_keep_data_have_no_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let data = noise(20 * BLOCK as usize, 3);
    let keeps = Stage::port("keeps", |port: &MiddlePort| {
        let mut kept = None;
        while let Some(block) = port.receive()? {
            if let Some(before) = kept.replace(block) {
                port.forward(before)?;
            }
        }
        kept.into_iter().try_for_each(|block| port.forward(block))?;
        Ok(())
    });
    let head = HeadStage::from(StreamHead::new(&data[..])).checkpoint_every(1);
    let archive = ArchiveOptions::stream("s").block_len(BLOCK).plan().unwrap();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    let pipe = pipe.stage(keeps.holds_in(2));
    pipe.archive(archive, tape(&path)).run().unwrap();
    assert_eq!(blocks(&units(&path)).filter(is_checkpoint).count(), 0);
    assert_eq!(restored(&path, None), data);
}

#[test]
fn head_of_an_application_makes_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let head = Stage::head_port("database", |port| {
        for n in 0..9_u8 {
            let mut block = port.alloc()?;
            block.put(&[n; 100])?;
            port.send(block)?;
            if n % 3 == 2 {
                assert!(port.checkpoint(&vec![n; 2048 * usize::from(n) / 8])?);
            }
        }
        assert!(port.checkpoint(&[0; 4097]).is_err());
        Ok(())
    });
    let archive = ArchiveOptions::stream("s").block_len(1024).plan().unwrap();
    let pipe = Pipe::builder().buffer_size(1024).head(head);
    pipe.archive(archive, tape(&path)).run().unwrap();
    let all = checkpoints(&units(&path));
    let states: Vec<_> = all
        .into_iter()
        .map(|(_, checkpoint)| match checkpoint {
            Checkpoint::Application(state) => state.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(states, [512, 1280, 2048]);
    assert_eq!(restored(&path, None).len(), 900);

    // Without an archive there are none.
    let head = Stage::head_port("database", |port| {
        assert!(!port.checkpoint(b"state")?);
        Ok(())
    });
    let pipe = Pipe::builder().head(head);
    pipe.tail(StreamTail::new(std::io::sink())).run().unwrap();
}

/// Makes a tree with entries that are longer than a block, hard links and a large file.
fn make_tree(root: &Path) {
    let deep = root.join(["d".repeat(200), "e".repeat(200), "f".repeat(200)].join("/"));
    fs::create_dir_all(&deep).unwrap();
    for n in 0..60 {
        fs::write(root.join(format!("file {n}")), noise(n * 37, n as u64)).unwrap();
        fs::write(deep.join(format!("{n}")), noise(n * 5, 7)).unwrap();
        symlink(n.to_string().repeat(700), deep.join(format!("link {n}"))).unwrap();
        let name = root.join(format!("file {n}"));
        fs::hard_link(name, root.join(format!("name {n}"))).unwrap();
    }
    fs::write(root.join("large"), noise(300_000, 5)).unwrap();
}

/// Returns the paths of all objects, with digests of files, targets of links and numbers of names.
fn describe(root: &Path) -> Vec<(PathBuf, String)> {
    let (mut all, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let what = if meta.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            String::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            let digest = digest_of(fs::File::open(&path).unwrap()).unwrap();
            let names = std::os::unix::fs::MetadataExt::nlink(&meta);
            format!("{names} {digest:?}")
        };
        all.push((path.strip_prefix(root).unwrap().to_owned(), what));
    }
    all.sort();
    all
}

/// Checks what the checkpoints of a tree say against the blocks before them.
fn check_walks(units: &[Unit], block: u32) {
    let all = checkpoints(units);
    assert!(all.len() > 8, "{}", all.len());
    let (mut before, mut links, mut has_large) = (None, 0, false);
    let first = all[0].1.clone();
    for (number, checkpoint) in all {
        let Checkpoint::Walk(walk) = checkpoint else {
            panic!("{checkpoint:?}")
        };
        let Checkpoint::Walk(WalkCheckpoint { sources, .. }) = first else {
            panic!("it is a walk")
        };
        assert_eq!((walk.previous, walk.sources), (before, sources));
        let since = blocks(units).filter(|(header, _)| {
            header.number < number && before.is_none_or(|before| before < header.number)
        });
        let first_piece = since
            .clone()
            .find(|(header, _)| header.block_kind == BlockKind::Catalogue);
        assert_eq!(walk.catalogue, first_piece.map(|(header, _)| header.number));
        if let Some(open) = walk.open {
            assert_eq!(open.object, walk.objects);
            assert!(open.at <= open.size && walk.path.starts_with(b"data/"));
            has_large |= walk.path == b"data/large" && open.at > 0 && open.size == 300_000;
            assert!(open.first.0 < number && open.first.1 < block);
        }
        links += walk.links.len();
        before = Some(number);
    }
    assert!(links > 0 && links <= 60 && has_large, "{links}");
}

#[test]
fn checkpoints_of_a_tree_follow_the_catalogue_and_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (source, path) = (dir.path().join("data"), dir.path().join("a.tap"));
    make_tree(&source);
    let expected = describe(&source);
    for (block, instances, secret) in [
        (512, 1, None),
        (512, 3, None),
        (4096, 1, Some(key())),
        (4096, 4, None),
        (65_536, 2, Some(key())),
    ] {
        let options = ArchiveOptions::tree("t").block_len(block);
        let options = secret
            .clone()
            .into_iter()
            .fold(options, ArchiveOptions::encrypt);
        let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
        let head = head.instances(instances).checkpoint_every(15_000);
        let pipe = Pipe::builder().buffer_size(block).head(head);
        let pipe = pipe.stage(zstd(1).instances(2));
        let special = Special::new(Special::OWN, "a ticket").unwrap();
        let archive = options.plan().unwrap();
        let archive = match instances {
            1 => archive,
            _ => archive.special(special).unwrap(),
        };
        let written = pipe.archive(archive, tape(&path)).run();
        assert!(written.unwrap().is_complete());
        let units = units(&path);
        check_offsets(&units);
        if secret.is_none() {
            check_walks(&units, block);
        }
        let reader = || open(&path, secret.as_ref());

        let dest = dir.path().join(format!("dest {block} {instances}"));
        fs::create_dir(&dest).unwrap();
        let restore = TreeRestore::new(&dest, RestoreOptions::default()).unwrap();
        let report = reader().read().pipe.tail(restore).run().unwrap();
        assert!(report.is_complete());
        assert!(
            describe(&dest.join("data")) == expected,
            "{block} {instances}"
        );

        let verify = TreeVerify::new();
        let verified = verify.report();
        assert!(
            reader()
                .read()
                .pipe
                .tail(verify)
                .run()
                .unwrap()
                .is_complete()
        );
        assert!(verified.snapshot().is_whole());
        read_parts(&reader(), expected.len(), &dest);
    }
}

/// Lists all objects from the objects themselves and from the catalogue, and reads some.
fn read_parts(reader: &ArchiveReader<impl MediumReader + 'static>, count: usize, dest: &Path) {
    let mut listed = 0;
    let list = TreeList::new(|_| {
        listed += 1;
        Ok(())
    });
    reader.read().pipe.tail(list).run().unwrap();
    assert_eq!(listed, count);
    let index = reader.index().unwrap();
    let catalogue = || reader.read_blocks(&index, &index.catalogue()).unwrap();
    catalogue().pipe.tail(CatalogueCheck::new()).run().unwrap();
    let large = reader
        .tree()
        .unwrap()
        .read_file("data/large", std::io::sink());
    assert_eq!(large.unwrap().size, 300_000);

    let paths = [b"data/name 50".to_vec(), b"data/large".to_vec()];
    for of_objects in [false, true] {
        let query = CatalogueQuery::new(&paths);
        let reading = if of_objects {
            reader
                .read()
                .pipe
                .tail(query.search_objects())
                .run()
                .unwrap();
            reader.read()
        } else {
            while let Some(search) = query.search() {
                catalogue().pipe.tail(search).run().unwrap();
            }
            reader.read_blocks(&index, &query.blocks(&index)).unwrap()
        };
        assert!(query.not_found().is_empty() || of_objects);
        let dest = dest.join(format!("part {of_objects}"));
        fs::create_dir(&dest).unwrap();
        let restore = TreeRestore::part(&dest, RestoreOptions::default(), &query).unwrap();
        assert!(reading.pipe.tail(restore).run().unwrap().is_complete());
        assert_eq!(fs::read(dest.join("data/large")).unwrap().len(), 300_000);
        assert_eq!(fs::read(dest.join("data/name 50")).unwrap().len(), 50 * 37);
    }
}

/// With framing 1 the headers were in the first records only, and on labels.
#[test]
fn locators_have_the_headers_that_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let data = noise(30 * BLOCK as usize, 4);
    for framing in [Framing::Header, Framing::Once, Framing::HeaderFooter] {
        let options = ArchiveOptions::stream("s")
            .block_len(BLOCK)
            .record_len(1024);
        let archive = options.framing(framing).encrypt(key()).plan().unwrap();
        let head = HeadStage::from(StreamHead::new(&data[..]));
        let head = head.checkpoint_every(5 * u64::from(BLOCK));
        let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
        pipe.archive(archive, tape(&path)).run().unwrap();
        let units = units(&path);
        let is_locator = |unit: &&Unit| unit.0.kind == UnitKind::Locator;
        let locators: Vec<_> = units
            .iter()
            .filter(is_locator)
            .map(|(_, body)| Locator::parse(body).unwrap())
            .collect();
        let checkpoints: Vec<_> = locators.iter().map(|locator| locator.checkpoint).collect();
        let expected = [6, 12, 18, 24, 30, 36].map(Some);
        assert_eq!(checkpoints[..5], expected[..5], "{framing:?}");
        let counts = locators.iter().map(|locator| locator.chunks.len());
        assert!(counts.eq(1..=locators.len()), "{framing:?}");

        // The label and both headers are damaged, with the first block.
        let mut bytes = fs::read(&path).unwrap();
        let first = frames(&bytes).iter().take(4).map(Vec::len).sum::<usize>();
        bytes[600..first].fill(0x55);
        fs::write(&path, &bytes).unwrap();
        let log = DamageLog::new();
        let mut restored = Vec::new();
        let reading = open(&path, Some(&key())).salvage(&log).read();
        let tail = StreamRestore::new(&mut restored);
        reading.pipe.tail(tail).run().unwrap();
        let lost = restored
            .iter()
            .zip(&data)
            .take_while(|(a, b)| a != b)
            .count();
        assert!(
            restored.ends_with(&data[BLOCK as usize..]),
            "{framing:?} {lost}"
        );
    }
}

/// An archive that was cut off after a chunk has everything before its last checkpoint.
#[test]
fn tree_that_is_cut_after_a_chunk_has_all_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (source, path) = (dir.path().join("data"), dir.path().join("a.tap"));
    make_tree(&source);
    let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
    let head = head.instances(2).checkpoint_every(50_000);
    let archive = ArchiveOptions::tree("t").block_len(BLOCK).plan().unwrap();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    pipe.archive(archive, tape(&path)).run().unwrap();
    let all = checkpoints(&units(&path));
    let Checkpoint::Walk(walk) = &all[3].1 else {
        panic!("it is a walk")
    };
    let frames = frames(&fs::read(&path).unwrap());
    let marks = frames
        .iter()
        .enumerate()
        .filter(|(_, frame)| frame.len() == 4);
    let (mark, _) = marks.clone().nth(3).unwrap();
    fs::write(&path, frames[..=mark].concat()).unwrap();

    let log = DamageLog::new();
    let reader = open(&path, None).salvage(&log);
    let mut listed = 0;
    let list = TreeList::new(|_| {
        listed += 1;
        Ok(())
    });
    reader.read().pipe.tail(list.salvage(&log)).run().unwrap();
    assert_eq!(listed, walk.objects);
    let dest = dir.path().join("dest");
    fs::create_dir(&dest).unwrap();
    let restore = TreeRestore::new(&dest, RestoreOptions::default()).unwrap();
    let report = reader.read().pipe.tail(restore).run().unwrap();
    assert!(!report.is_complete());
    let expected = describe(&source);
    let found = describe(&dest.join("data"));
    assert!(found.len() as u64 >= walk.objects - 1, "{}", found.len());
    let whole = found.iter().filter(|object| expected.contains(object));
    assert!(whole.count() > 10);
}
