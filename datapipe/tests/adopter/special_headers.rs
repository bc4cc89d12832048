//! Special headers of an adopter.

use std::sync::mpsc;

use datapipe::archive::Special;
use datapipe::prelude::*;

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
