//! Special headers of an adopter.

use std::sync::mpsc;

use datapipe::archive::{BlockSet, Special};
use datapipe::prelude::*;
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
            .is_ok_and(|header| header.kind == UnitKind::Block && header.number == 0)
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
        error.contains("block 0") && error.contains("special header"),
        "{error}"
    );
    assert!(!read(&reader.salvage(&log)).unwrap().is_complete());
    let entries = log.snapshot().entries;
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0].block, Some(0));
}
