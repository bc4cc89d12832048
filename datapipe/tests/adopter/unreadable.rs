//! Blocks from which an archive would be made that no reader takes: they are refused by name.

use datapipe::Error;
use datapipe::prelude::*;

use crate::archive_stages::restored;

/// Sends one block with the information that `change` makes of the default.
fn one_block(change: impl FnOnce(&mut BlockInfo) + Send + 'static) -> HeadStage<'static> {
    let mut change = Some(change);
    Stage::head_port("own", move |port: &HeadPort| {
        let mut block = port.alloc()?;
        block.put(b"some bytes of data")?;
        let mut info = BlockInfo::default();
        if let Some(change) = change.take() {
            change(&mut info);
        }
        block.set_info(info);
        Ok(port.send(block)?)
    })
}

fn archive_of(head: HeadStage<'static>) -> Result<Report, Error> {
    let dir = tempfile::tempdir().unwrap();
    let tape = VirtualTape::create(dir.path().join("a.tap"), VolumeOptions::default()).unwrap();
    let archive = ArchiveOptions::stream("own").plan().unwrap();
    Pipe::builder().head(head).archive(archive, tape).run()
}

// Each of these was written, reported as complete, and could not be read.
#[test]
fn block_that_no_reader_takes_is_not_archived() {
    let heads = [
        (one_block(|info| info.kind = 1), "BlockInfo::kind"),
        (one_block(|info| info.codec = Codec::ZSTD), "plain_len"),
        (one_block(|info| info.codec = Codec(77)), "no reader knows"),
    ];
    for (head, part) in heads {
        let error = archive_of(head).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    archive_of(one_block(|info| info.user = [7; 4])).unwrap();
}

/// Makes two blocks of each.
struct Halves;

impl FlatMap for Halves {
    fn flat_map(&mut self, input: &Block, outputs: &mut Outputs<'_>) -> Result<(), StageError> {
        let (first, second) = input.bytes().split_at(input.len() / 2);
        outputs.next_block()?.put(first)?;
        Ok(outputs.next_block()?.put(second)?)
    }
}

#[test]
fn flat_map_of_compressed_blocks_is_refused() {
    let data = vec![1; 100_000];
    let error = Pipe::builder()
        .head(StreamHead::new(&data[..]))
        .stage(zstd(3))
        .stage(Stage::flat_map("halves", 2, |_| Halves))
        .tail(StreamTail::new(std::io::sink()))
        .run()
        .unwrap_err()
        .to_string();
    assert!(error.contains("before the one that compresses"), "{error}");
}

#[test]
fn flat_map_of_a_tree_is_refused_by_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("data");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), vec![5; 200_000]).unwrap();
    let tape = VirtualTape::create(dir.path().join("a.tap"), VolumeOptions::default()).unwrap();
    let archive = ArchiveOptions::tree("data").plan().unwrap();
    let error = Pipe::builder()
        .head(TreeHead::new(&[source], TreeOptions::default()).unwrap())
        .stage(Stage::flat_map("halves", 2, |_| Halves))
        .archive(archive, tape)
        .run()
        .unwrap_err()
        .to_string();
    assert!(error.contains("split or merge"), "{error}");
}

#[test]
fn rejected_block_passes_a_flat_map() {
    struct Reject;
    impl Inspect for Reject {
        fn inspect(&mut self, data: &[u8], _: &BlockInfo) -> Result<Finding, StageError> {
            let rejects = data[0] == 2;
            Ok(if rejects {
                Finding::Reject
            } else {
                Finding::Pass
            })
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let data: Vec<u8> = (0..5u8).flat_map(|n| vec![n; 4096]).collect();
    let archive = ArchiveOptions::stream("data")
        .block_len(4096)
        .plan()
        .unwrap();
    let report = archive.report();
    let tape = VirtualTape::create(&path, VolumeOptions::default()).unwrap();
    Pipe::builder()
        .buffer_size(4096)
        .head(StreamHead::new(&data[..]))
        .stage(Stage::inspect("scan", &InspectionLog::new(), |_| Reject))
        .stage(Stage::flat_map("halves", 2, |_| Halves).instances(2))
        .archive(archive, tape)
        .run()
        .unwrap();
    assert_eq!(report.snapshot().rejected, 1);
    let mut wanted = data;
    wanted[2 * 4096..3 * 4096].fill(0);
    assert!(restored(&path, false) == wanted);
}
