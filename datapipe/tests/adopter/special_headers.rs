//! Special headers of an adopter.

use std::path::Path;
use std::sync::mpsc;

use datapipe::archive::{BlockSet, Special};
use datapipe::prelude::*;
use datapipe::testkit::archive_stages;
use datapipe::wire::{UNIT_HEADER_LEN, UnitHeader, UnitKind};

use crate::archive_stages::{BLOCK, contents, key, tree};

/// Special headers come before the data, in archives of streams and of trees, and a reader that
/// does not know a required one refuses the archive.
#[test]
fn special_headers_come_back_and_required_ones_must_be_known() {
    const OPTIONAL: u32 = Special::OWN | 5;
    const REQUIRED: u32 = Special::OWN | Special::REQUIRED | 6;
    let special = |id, text: &str| Special::new(id, text).unwrap();
    let (dir, source, path) = tree();
    let dest = dir.path().join("dest");
    for is_tree in [false, true] {
        let options = match is_tree {
            true => ArchiveOptions::tree("t"),
            false => ArchiveOptions::stream("s"),
        };
        let archive = options.block_len(BLOCK).encrypt(key()).plan().unwrap();
        let archive = archive.special(special(OPTIONAL, "one")).unwrap();
        let archive = archive.special(special(REQUIRED, "two")).unwrap();
        let tape = VolumeOptions::default().overwrite(true);
        let tape = VirtualTape::create(&path, tape).unwrap();
        let pipe = Pipe::builder().buffer_size(BLOCK);
        let pipe = match is_tree {
            true => pipe.head(TreeHead::new(&[&source], TreeOptions::default()).unwrap()),
            false => pipe.head(StreamHead::new(&b"data"[..])),
        };
        pipe.archive(archive, tape).run().unwrap();
        let reader = |known: &'static [u32]| {
            let (sender, specials) = mpsc::channel();
            let tape = VirtualTape::open(&path).unwrap();
            let reader = ArchiveReader::open(tape, Some(&key())).unwrap();
            let reader = reader.on_special(move |special| {
                let _ = sender.send(special.clone());
                known.contains(&special.id())
            });
            (reader.read(), specials)
        };
        let (reading, specials) = reader(&[REQUIRED]);
        let pipe = match is_tree {
            true => {
                std::fs::create_dir(&dest).unwrap();
                let options = RestoreOptions::default();
                reading.pipe.tail(TreeRestore::new(&dest, options).unwrap())
            }
            false => reading.pipe.tail(StreamRestore::new(std::io::sink())),
        };
        assert!(pipe.run().unwrap().is_complete());
        assert!(reading.report.snapshot().complete);
        let found: Vec<_> = specials.iter().collect();
        assert_eq!(found, [special(OPTIONAL, "one"), special(REQUIRED, "two")]);

        let (reading, _specials) = reader(&[OPTIONAL]);
        let pipe = reading.pipe.tail(StreamRestore::new(std::io::sink()));
        let error = pipe.run().unwrap_err().to_string();
        assert!(error.contains("special header c0000006"), "{error}");
        assert!(!reading.report.snapshot().complete);
    }
    assert!(contents(&dest.join("data")) == contents(&source));
}

/// A list, a single file or some blocks of an archive were read without its special headers, so one
/// that must be known did not stop them.
#[test]
fn special_headers_concern_readings_of_some_blocks() {
    const REQUIRED: u32 = Special::OWN | Special::REQUIRED | 6;
    let (_dir, source, path) = tree();
    let two = || Special::new(REQUIRED, "two").unwrap();
    for secret in [None, Some(key())] {
        let options = ArchiveOptions::tree("t").block_len(BLOCK);
        let options = match &secret {
            Some(key) => options.encrypt(key.clone()),
            None => options,
        };
        let archive = options.plan().unwrap().special(two()).unwrap();
        let tape = VolumeOptions::default().overwrite(true);
        let tape = VirtualTape::create(&path, tape).unwrap();
        let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
        let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
        pipe.archive(archive, tape).run().unwrap();
        let open = || {
            let tape = VirtualTape::open(&path).unwrap();
            ArchiveReader::open(tape, secret.as_ref()).unwrap()
        };

        // Without a function no required header is known, and nothing can be read.
        let error = open().index().unwrap_err().to_string();
        assert!(error.contains("special header c0000006"), "{error}");
        let reader = open();
        let error = reader.tree().unwrap().list([""; 0], |_| Ok(()));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("special header c0000006"), "{error}");

        for is_known in [false, true] {
            let (sender, specials) = mpsc::channel();
            let reader = open().on_special(move |special| {
                let _ = sender.send(special.clone());
                is_known
            });
            let index = reader.index().unwrap();
            let (mut last, mut all) = (BlockSet::new(), BlockSet::new());
            last.insert(index.blocks() - 1..=index.blocks() - 1);
            all.insert(0..=index.blocks() - 1);
            for blocks in [last, index.catalogue(), all] {
                let reading = reader.read_blocks(&index, &blocks).unwrap();
                let ended = reading.pipe.tail(StreamTail::new(std::io::sink())).run();
                assert_eq!(specials.try_iter().collect::<Vec<_>>(), [two()]);
                match ended {
                    Ok(report) => assert!(is_known && report.is_complete()),
                    Err(error) => assert!(!is_known && error.to_string().contains("c0000006")),
                }
            }
            let mut listed = 0;
            let list = reader.tree().unwrap().list([""; 0], |_| {
                listed += 1;
                Ok(())
            });
            assert_eq!(list.is_ok(), is_known);
            assert_eq!(listed > 0, is_known);
        }
    }
}

/// Damage to a header that must be known made a reader of some blocks pass it.
#[test]
fn damaged_special_header_is_reported_by_readings_of_some_blocks() {
    let (_dir, source, path) = tree();
    let archive = ArchiveOptions::tree("t").block_len(BLOCK).encrypt(key());
    let special = Special::new(Special::OWN | Special::REQUIRED, "know me").unwrap();
    let archive = archive.plan().unwrap().special(special).unwrap();
    let tape = VirtualTape::create(&path, VolumeOptions::default()).unwrap();
    let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    pipe.archive(archive, tape).run().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let starts = 0..bytes.len() - UNIT_HEADER_LEN;
    let is_it = |at: &usize| {
        UnitHeader::parse(&bytes[*at..])
            .is_ok_and(|header| header.kind == UnitKind::Block && header.number == 1)
    };
    let at = starts.clone().find(is_it).unwrap();
    bytes[at + UNIT_HEADER_LEN] ^= 1;
    std::fs::write(&path, &bytes).unwrap();

    let log = DamageLog::new();
    let tape = VirtualTape::open(&path).unwrap();
    let reader = ArchiveReader::open(tape, Some(&key())).unwrap();
    let index = reader.index().unwrap();
    let read = |reader: &ArchiveReader<_>| {
        let reading = reader.read_blocks(&index, &index.catalogue()).unwrap();
        reading.pipe.tail(StreamTail::new(std::io::sink())).run()
    };
    let error = read(&reader).unwrap_err().to_string();
    assert!(
        error.contains("block 1") && error.contains("special header"),
        "{error}"
    );
    assert!(!read(&reader.salvage(&log)).unwrap().is_complete());
    let entries = log.snapshot().entries;
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0].block, Some(1));
}

/// Without encryption, two lost blocks before data were taken for data, although the first had been
/// a header that must be known.
#[test]
fn special_header_that_is_lost_with_the_block_after_it_is_reported() {
    let (_dir, source, path) = tree();
    let special = Special::new(Special::OWN | Special::REQUIRED, "know me").unwrap();
    let archive = ArchiveOptions::tree("t").block_len(BLOCK).plan().unwrap();
    let tape = VirtualTape::create(&path, VolumeOptions::default()).unwrap();
    let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    pipe.archive(archive.special(special).unwrap(), tape)
        .run()
        .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    for at in 0..bytes.len() - UNIT_HEADER_LEN {
        let is_it =
            |header: UnitHeader| header.kind == UnitKind::Block && (1..=2).contains(&header.number);
        if UnitHeader::parse(&bytes[at..]).is_ok_and(is_it) {
            bytes[at] ^= 1;
        }
    }
    std::fs::write(&path, &bytes).unwrap();

    let tape = VirtualTape::open(&path).unwrap();
    let reader = ArchiveReader::open(tape, None).unwrap();
    let index = reader.index().unwrap();
    let reading = reader.read_blocks(&index, &index.catalogue()).unwrap();
    let read = reading.pipe.tail(StreamTail::new(std::io::sink())).run();
    let error = read.unwrap_err().to_string();
    assert!(
        error.contains("block 1") && error.contains("special header"),
        "{error}"
    );
}

/// An archive with a special header and no data replaced the content of its medium.
#[test]
fn special_header_alone_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let write = |data: &'static [u8], options: VolumeOptions| {
        let archive = ArchiveOptions::stream("s").plan().unwrap();
        let special = Special::new(Special::OWN, "a ticket").unwrap();
        let tape = VirtualTape::create(&path, options).unwrap();
        let pipe = Pipe::builder().head(StreamHead::new(data));
        pipe.archive(archive.special(special).unwrap(), tape).run()
    };
    write(b"precious", VolumeOptions::default()).unwrap();
    let before = std::fs::read(&path).unwrap();
    for in_place in [false, true] {
        let options = VolumeOptions::default().overwrite(true).in_place(in_place);
        let error = write(b"", options.clone()).unwrap_err().to_string();
        assert!(error.contains("there is no data to archive"), "{error}");
        assert!(std::fs::read(&path).unwrap() == before, "{in_place}");
    }
    let options = VolumeOptions::default().overwrite(true).allow_empty(true);
    write(b"", options).unwrap();
    let (sender, specials) = mpsc::channel();
    let reader = ArchiveReader::open(VirtualTape::open(&path).unwrap(), None).unwrap();
    let reading = reader.on_special(move |special| sender.send(special.clone()).is_ok());
    let reading = reading.read();
    reading
        .pipe
        .tail(StreamRestore::new(std::io::sink()))
        .run()
        .unwrap();
    assert_eq!(specials.try_iter().count(), 1);
}

/// A special header that went through a compression was taken for damage by all later readers.
#[test]
fn special_header_stays_readable_in_a_compressed_copy() {
    let (dir, source, path) = tree();
    let copy = dir.path().join("copy.tap");
    let special = || Special::new(Special::OWN | Special::REQUIRED, vec![7; 300]).unwrap();
    let plan = || ArchiveOptions::tree("t").block_len(BLOCK).plan().unwrap();
    let create = |path| VirtualTape::create(path, VolumeOptions::default()).unwrap();
    let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    let archive = plan().special(special()).unwrap();
    pipe.archive(archive, create(&path)).run().unwrap();
    let open = |path| {
        let (sender, specials) = mpsc::channel();
        let reader = ArchiveReader::open(VirtualTape::open(path).unwrap(), None).unwrap();
        let reader = reader.on_special(move |special| sender.send(special.clone()).is_ok());
        (reader, specials)
    };
    let (reader, specials) = open(&path);
    let pipe = reader.read().pipe.stage(zstd(3));
    pipe.archive(plan(), create(&copy)).run().unwrap();
    assert_eq!(specials.try_iter().collect::<Vec<_>>(), [special()]);
    let (reader, specials) = open(&copy);
    let ended = reader
        .read()
        .pipe
        .tail(StreamTail::new(std::io::sink()))
        .run();
    assert!(ended.unwrap().is_complete());
    assert_eq!(specials.try_iter().collect::<Vec<_>>(), [special()]);
}

/// An archive of `specials` on a tape at `path`, of a stream or of a tree.
fn write_with(path: &Path, source: Option<&Path>, specials: &[Special]) {
    let options = match source {
        Some(_) => ArchiveOptions::tree("t"),
        None => ArchiveOptions::stream("s"),
    };
    let mut archive = options.block_len(BLOCK).encrypt(key()).plan().unwrap();
    for special in specials {
        archive = archive.special(special.clone()).unwrap();
    }
    let pipe = Pipe::builder().buffer_size(BLOCK);
    let pipe = match source {
        Some(source) => pipe.head(TreeHead::new(&[source], TreeOptions::default()).unwrap()),
        None => pipe.head(StreamHead::new(&b"data"[..])),
    };
    let tape = VirtualTape::create(path, VolumeOptions::default()).unwrap();
    pipe.archive(archive, tape).run().unwrap();
}

/// Copies the data of an archive into a new one, which gets `more` special headers.
fn copy_with(from: &Path, to: &Path, is_tree: bool, more: &[Special]) -> Result<Report, Error> {
    let options = match is_tree {
        true => ArchiveOptions::tree("t"),
        false => ArchiveOptions::stream("s"),
    };
    let mut archive = options.block_len(BLOCK).plan().unwrap();
    for special in more {
        archive = archive.special(special.clone()).unwrap();
    }
    let tape = VirtualTape::open(from).unwrap();
    let reader = ArchiveReader::open(tape, Some(&key())).unwrap();
    let reading = reader.on_special(|_| true).read();
    let tape = VirtualTape::create(to, VolumeOptions::default()).unwrap();
    reading.pipe.archive(archive, tape).run()
}

/// Returns the special headers of an archive that is not encrypted, and true if it is complete.
fn specials_of(path: &Path) -> (Vec<Special>, bool) {
    let (sender, specials) = mpsc::channel();
    let reader = ArchiveReader::open(VirtualTape::open(path).unwrap(), None).unwrap();
    let reader = reader.on_special(move |special| sender.send(special.clone()).is_ok());
    let reading = reader.read();
    let ended = reading.pipe.tail(StreamTail::new(std::io::sink())).run();
    drop(reader);
    let complete = ended.unwrap().is_complete() && reading.report.snapshot().complete;
    (specials.iter().collect(), complete)
}

/// A stream that was read from one archive into another lost its special headers without a word,
/// those that a reader must know too.
#[test]
fn special_headers_stay_in_a_copy() {
    let (dir, source, path) = tree();
    let special = |id: u32| Special::new(Special::OWN | Special::REQUIRED | id, vec![7; 30]);
    let old = [special(1).unwrap(), special(2).unwrap()];
    for (n, source) in [None, Some(&*source)].into_iter().enumerate() {
        let copy = dir.path().join(format!("copy {n}"));
        std::fs::remove_file(&path).ok();
        write_with(&path, source, &old);
        copy_with(&path, &copy, source.is_some(), &[]).unwrap();
        assert_eq!(specials_of(&copy), (old.to_vec(), true));
    }
    // Those of the copy come after them. In a tree they would move the blocks of the catalogue.
    std::fs::remove_file(&path).unwrap();
    write_with(&path, None, &old);
    let copy = dir.path().join("more");
    copy_with(&path, &copy, false, &[special(3).unwrap()]).unwrap();
    let all = [&old[..], &[special(3).unwrap()]].concat();
    assert_eq!(specials_of(&copy), (all, true));
}

/// An archive has at most 16, and the 17th of a copy was written.
#[test]
fn special_header_beyond_the_limit_is_refused_in_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("a.tap"), dir.path().join("copy"));
    let special = |id: u32| Special::new(Special::OWN | id, "text").unwrap();
    let old: Vec<_> = (1..=16).map(special).collect();
    write_with(&path, None, &old);
    let error = copy_with(&path, &copy, false, &[special(17)]).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("block 17 is a special header"), "{error}");
    assert!(error.contains("the archive has 16"), "{error}");
    std::fs::remove_file(&copy).unwrap();
    copy_with(&path, &copy, false, &[]).unwrap();
    assert_eq!(specials_of(&copy), (old, true));
}

/// The two stages of a test would have left the special headers out.
#[test]
#[should_panic(expected = "special headers, which only PipeBuilder::archive sends")]
fn separate_stages_of_an_archive_with_special_headers_are_refused() {
    let archive = ArchiveOptions::stream("s").plan().unwrap();
    let archive = archive
        .special(Special::new(Special::OWN, "").unwrap())
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tape = VirtualTape::create(dir.path().join("a"), VolumeOptions::default()).unwrap();
    drop(archive_stages(archive, tape));
}
