//! Archives whose footer, which is in clear, says that the catalogue is elsewhere.

use std::fs;
use std::path::Path;

use datapipe::media::TapeReader;
use datapipe::prelude::*;
use datapipe::tree::{CatalogueQuery, TreeList};
use datapipe::wire::{ArchiveFooter, BlockKind, UNIT_HEADER_LEN, UnitHeader, UnitKind};

use crate::archive_stages::{BLOCK, contents, key, tree};

/// Replaces the archive footer of a tape by what `forge` makes of it.
fn forge(bytes: &[u8], forge: impl Fn(&mut ArchiveFooter)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let header = |at: usize| {
        let header = UnitHeader::parse(&bytes[at..]).ok();
        header.filter(|header| header.kind == UnitKind::ArchiveFooter)
    };
    let all = 0..bytes.len() - UNIT_HEADER_LEN;
    let (at, header) = all.filter_map(|at| Some((at, header(at)?))).next().unwrap();
    let start = at + UNIT_HEADER_LEN;
    let len = header.stored as usize;
    let mut footer = ArchiveFooter::parse(&bytes[start..start + len]).unwrap();
    forge(&mut footer);
    let body = footer.to_bytes();
    assert_eq!(body.len(), len);
    let header = UnitHeader {
        number: footer.blocks,
        body_crc: crc32fast::hash(&body),
        ..header
    };
    bytes[at..start].copy_from_slice(&header.to_bytes());
    bytes[start..start + len].copy_from_slice(&body);
    bytes
}

/// Checks that the stages of a list and of a search fail, or find all.
fn check_parts(reader: &ArchiveReader<TapeReader>, first: u64, all: &[Vec<u8>]) {
    let index = reader.index().unwrap();
    let catalogue = index.catalogue();
    if catalogue.is_empty() {
        return;
    }
    let (sender, found) = std::sync::mpsc::channel();
    let list = TreeList::new(move |object| {
        let _ = sender.send(object.path.to_vec());
        Ok(())
    });
    let reading = reader.read_blocks(&index, &catalogue).unwrap();
    let listed = reading.pipe.tail(list).run();
    let found: Vec<_> = found.iter().collect();
    let is_reported = listed.is_err() || listed.is_ok_and(|report| !report.is_complete());
    assert!(is_reported || found == all, "{first}: {found:?}");
    let query = CatalogueQuery::new(&[all[1].clone()]);
    let reading = reader.read_blocks(&index, &catalogue).unwrap();
    let searched = reading.pipe.tail(query.search().unwrap()).run();
    assert!(searched.is_err() || query.not_found().is_empty(), "{first}");
}

/// A list had the objects of one block if the footer named it as the start of the catalogue, and no
/// object at all if the footer named the last block.
#[test]
fn forged_footer_leaves_nothing_out_of_a_list() {
    let (_dir, source, path) = tree();
    for secret in [None, Some(key())] {
        let options = ArchiveOptions::tree("t").block_len(BLOCK);
        let options = match &secret {
            Some(key) => options.encrypt(key.clone()),
            None => options,
        };
        let tape = VolumeOptions::default().overwrite(true);
        let tape = VirtualTape::create(&path, tape).unwrap();
        let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
        let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
        pipe.archive(options.plan().unwrap(), tape).run().unwrap();
        let good = fs::read(&path).unwrap();
        let open = || {
            let tape = VirtualTape::open(&path).unwrap();
            ArchiveReader::open(tape, secret.as_ref()).unwrap()
        };
        let list = || {
            let (reader, mut paths) = (open(), Vec::new());
            let tree = reader.tree().unwrap();
            let listed = tree.list([""; 0], |object| {
                paths.push(object.path.to_vec());
                Ok(())
            });
            listed.map(|()| (tree.has_catalogue(), paths))
        };
        let (has_catalogue, all) = list().unwrap();
        assert!(has_catalogue && all.len() > 3);
        let index = open().index().unwrap();
        let run = index.catalogue().runs().next().unwrap();
        let (start, end) = (*run.start(), index.blocks());
        for first in [0, start / 2, start - 1, start + 1, end - 1, end] {
            if first == start {
                continue;
            }
            fs::write(&path, forge(&good, |footer| footer.catalogue = first)).unwrap();
            if first == end - 1 {
                // No footer is like that, so the index is not used, and the end of all is damaged.
                let error = list().unwrap_err().to_string();
                assert!(error.contains("the last block"), "{error}");
                assert!(open().index().is_err());
                continue;
            }
            let (has_catalogue, paths) = list().unwrap();
            assert!(!has_catalogue, "catalogue at {first}");
            assert!(paths == all, "catalogue at {first}: {}", paths.len());

            check_parts(&open(), first, &all);
        }
        // Blocks that end too early.
        for blocks in [1, start, start + 1, end - 1] {
            let forged = forge(&good, |footer| {
                footer.blocks = blocks;
                footer.catalogue = footer.catalogue.min(blocks);
            });
            fs::write(&path, forged).unwrap();
            if let Ok((_, paths)) = list() {
                assert!(paths == all, "{blocks} blocks: {}", paths.len());
            }
        }
    }
}

/// Changes the number of objects that the start of the closing run announces.
struct Announce {
    add: i64,
    is_done: bool,
}

impl InPlace for Announce {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        if block.info().kind == BlockKind::ClosingCatalogue.code() && !self.is_done {
            self.is_done = true;
            // The body of the first entry, after its header of 16 bytes.
            let count = block.bytes_mut()[16..24].first_chunk_mut::<8>().unwrap();
            *count = u64::from_le_bytes(*count)
                .wrapping_add_signed(self.add)
                .to_le_bytes();
        }
        Ok(Verdict::Send)
    }
}

/// A party that has the key, or knows the recipient, makes an archive whose catalogue announces
/// another number of objects than it lists. It is not used, and a restore says so.
#[test]
fn catalogue_that_announces_another_count_is_not_used() {
    let (dir, source, path) = tree();
    let plan = || {
        ArchiveOptions::tree("t")
            .block_len(BLOCK)
            .encrypt(key())
            .plan()
            .unwrap()
    };
    let create = |path: &Path| VirtualTape::create(path, VolumeOptions::default()).unwrap();
    let open =
        |path: &Path| ArchiveReader::open(VirtualTape::open(path).unwrap(), Some(&key())).unwrap();
    let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    pipe.archive(plan(), create(&path)).run().unwrap();
    let list = |path: &Path| {
        let (reader, mut paths) = (open(path), Vec::new());
        let tree = reader.tree().unwrap();
        let listed = tree.list([""; 0], |object| {
            paths.push(object.path.to_vec());
            Ok(())
        });
        (tree.has_catalogue(), listed.is_ok(), paths)
    };
    let (has_catalogue, is_ok, all) = list(&path);
    assert!(has_catalogue && is_ok && all.len() > 3);
    for (n, add) in [0, 1, -1, 1 << 40, i64::MIN].into_iter().enumerate() {
        let forged = dir.path().join(format!("forged {n}"));
        let is_done = false;
        let announce = Stage::in_place("announce", move |_| Announce { add, is_done });
        let pipe = open(&path).read().pipe.stage(announce);
        pipe.archive(plan(), create(&forged)).run().unwrap();

        let (has_catalogue, _, paths) = list(&forged);
        assert_eq!(has_catalogue, add == 0, "{add}");
        assert!(paths == all, "{add}: {}", paths.len());
        let reader = open(&forged);
        check_parts(&reader, n as u64, &all);
        let dest = dir.path().join(format!("restored {n}"));
        fs::create_dir(&dest).unwrap();
        let restore = TreeRestore::new(&dest, RestoreOptions::default()).unwrap();
        let report = restore.report();
        let ended = reader.read().pipe.tail(restore).run().unwrap();
        assert!(contents(&dest.join("data")) == contents(&source), "{add}");
        assert_eq!(ended.is_complete(), add == 0, "{add}");
        let problems = report.snapshot().problems;
        let is_named = |text: String| text.contains("catalogue");
        let is_named = problems
            .iter()
            .any(|problem| is_named(format!("{problem:?}")));
        assert_eq!(is_named, add != 0, "{add}: {problems:?}");
    }
}
