//! Archives that are damaged, cut, forged or never finished.

use std::fs;

use datapipe::pool::ContentClass;
use datapipe::prelude::*;
use datapipe::wire::{BlockKind, UNIT_HEADER_LEN, UnitHeader, UnitKind, VOLUME_RECORD_LEN};

use crate::fixture::{Fixture, failed, noise, ok};

/// A fixture with the options for its key, and the bytes of an archive of five data blocks.
fn with_archive(encrypted: bool) -> (Fixture, &'static [&'static str], Vec<u8>) {
    let fixture = Fixture::with_blocks();
    let key: &[_] = if encrypted {
        &["--key-file", "key"]
    } else {
        &[]
    };
    // One reader, because several readers fill the blocks differently in each run.
    let options = ["--buffer-size", "64K", "--readers", "1", "src/data", "tape"];
    ok(&fixture.back_up(&[key, &options].concat()));
    let tape = fs::read(fixture.path("tape")).unwrap();
    (fixture, key, tape)
}

#[test]
fn cut_archive_is_restored_up_to_the_cut() {
    for encrypted in [false, true] {
        let (fixture, key, tape) = with_archive(encrypted);
        for (len, code, reason) in [
            (0, 1, "there is no archive"),
            (40, 1, "there is no archive"),
            (2000, 1, "no part of the archive could be read"),
            (tape.len() / 2, 3, "is cut off"),
            (in_last_blocks(&tape), 3, "incomplete"),
            // Intact records without an end of the archive.
            (before_last_records(&tape), 3, "the archive is incomplete"),
        ] {
            fs::write(fixture.path("cut"), &tape[..len]).unwrap();
            for doing in [
                &["--verify", "cut"][..],
                &["--list", "cut"],
                &["cut", "out"],
            ] {
                let text = fixture.fail_to_restore(&[key, doing].concat(), code);
                assert!(text.contains(reason), "{len}: {text}");
                assert!(code == 1 || text.contains("incomplete"), "{len}: {text}");
            }
        }
        failed(&fixture.restore(&[key, &["cut", "out"]].concat()), 3);
        fixture.assert_same();
    }
}

/// Places of the records up to the mark after the chunk, and that of the mark.
fn up_to_mark(tape: &[u8]) -> Vec<usize> {
    let mut places = vec![0];
    loop {
        let at = places[places.len() - 1];
        let length = u32::from_le_bytes(tape[at..at + 4].try_into().unwrap()) as usize;
        if length == 0 {
            return places;
        }
        places.push(at + length.next_multiple_of(2) + 8);
    }
}

/// Number of bytes up to the mark after the chunk. They include no footer except that of the chunk.
fn before_last_records(tape: &[u8]) -> usize {
    up_to_mark(tape).last().unwrap() + 4
}

/// Number of bytes up to the middle of the last blocks. The footer of their chunk and a locator
/// follow them.
fn in_last_blocks(tape: &[u8]) -> usize {
    match up_to_mark(tape)[..] {
        [.., blocks, footer, _, _] => usize::midpoint(blocks, footer),
        _ => panic!("too few records"),
    }
}

#[test]
fn changed_byte_is_detected() {
    for encrypted in [false, true] {
        let (fixture, key, tape) = with_archive(encrypted);
        // A damaged volume record is mentioned, and costs nothing.
        let first = VOLUME_RECORD_LEN + 8;
        for at in (first..tape.len())
            .step_by(tape.len() / 40)
            .chain(tape.len() - 200..tape.len() - 190)
        {
            let mut changed = tape.clone();
            changed[at] ^= 0x20;
            fs::write(fixture.path("changed"), &changed).unwrap();
            fixture.fail_to_restore(&[key, &["changed", "out"]].concat(), 3);
        }
        let mut changed = tape.clone();
        changed[tape.len() / 2] ^= 1;
        fs::write(fixture.path("changed"), &changed).unwrap();
        let place = "block 3 at volume 1, record 3 (byte ";
        let text = failed(
            &fixture.restore(&[key, &["--verify", "changed"]].concat()),
            3,
        );
        assert!(
            text.starts_with("tape_to_disk: data/noise: ") && text.contains(place),
            "{text}"
        );

        // Only this file has a hole; the others are intact.
        let text = failed(&fixture.restore(&[key, &["changed", "out"]].concat()), 3);
        assert!(
            text.starts_with("tape_to_disk: data/noise: ") && text.contains(place),
            "{text}"
        );
        assert!(
            text.contains("its recovered part is named noise.damaged"),
            "{text}"
        );
        assert_eq!(
            fixture.names("out/data"),
            ["first", "noise.damaged", "zlast"]
        );
        fixture.assert_no_damage_under_original_names();
        let (before, after) = (
            noise(300 << 10),
            fs::read(fixture.path("out/data/noise.damaged")).unwrap(),
        );
        let same = (0..before.len())
            .filter(|&i| after.get(i) == Some(&before[i]))
            .count();
        assert!(same > 200 << 10, "only {same} bytes of it are there");
    }
}

/// The cipher detects an attacker who changes an encrypted archive and corrects the checksums.
#[test]
fn forged_block_is_rejected() {
    let (fixture, key, tape) = with_archive(true);
    let starts: Vec<_> = (0..tape.len() - UNIT_HEADER_LEN)
        .filter(|&at| block_at(&tape, at).is_some())
        .collect();
    assert_eq!(
        starts.len(),
        8,
        "the origin, five of data, one of the catalogue, the last one"
    );
    let start = starts[3];
    let (body, next) = (start + UNIT_HEADER_LEN, starts[4]);
    type Forge<'f> = &'f dyn Fn(&mut [u8], &mut UnitHeader);
    let forgeries: [(&str, Forge<'_>); 4] = [
        ("payload", &|body, _| body[77] ^= 1),
        ("tag", &|body, header| body[header.stored as usize - 1] ^= 1),
        ("marks", &|_, header| header.marks = Marks::MARKED),
        ("content class", &|_, header| {
            header.class = ContentClass::TEXT
        }),
    ];
    for (what, forge) in forgeries {
        let mut forged = tape.clone();
        let mut header = block_at(&tape, start).unwrap();
        forge(&mut forged[body..next], &mut header);
        header.body_crc = crc32fast::hash(&forged[body..body + header.stored as usize]);
        forged[start..body].copy_from_slice(&header.to_bytes());
        assert!(forged != tape, "{what}");
        fs::write(fixture.path("forged"), forged).unwrap();
        for doing in [&["--verify", "forged"][..], &["forged", "out"]] {
            let text = fixture.fail_to_restore(&[key, doing].concat(), 3);
            assert!(text.contains("data/noise: "), "{what}: {text}");
            assert!(
                text.contains("block 3 at volume 1, record 3 (byte "),
                "{what}: {text}"
            );
            assert!(text.contains("does not authenticate"), "{what}: {text}");
        }
    }
}

fn block_at(tape: &[u8], at: usize) -> Option<UnitHeader> {
    UnitHeader::parse(&tape[at..])
        .ok()
        .filter(|unit| unit.kind == UnitKind::Block)
}

#[test]
fn full_tape_is_reported() {
    let fixture = Fixture::with_blocks();
    let text = failed(
        &fixture.back_up(&[
            "--volume-size",
            "100KiB",
            "--buffer-size",
            "16K",
            "src/data",
            "tape",
        ]),
        1,
    );
    assert!(
        text.contains("tape is full") && text.contains("use a directory of volumes"),
        "{text}"
    );
    assert!(text.contains("tape is incomplete"), "{text}");
    let text = failed(&fixture.restore(&["tape", "out"]), 3);
    assert!(text.contains("the archive is incomplete"), "{text}");
    assert_eq!(
        fs::read(fixture.path("out/data/first")).unwrap(),
        b"the first"
    );
    fixture.assert_no_damage_under_original_names();
}

/// Inspection that rejects the catalogue.
struct Censor;

impl InPlace for Censor {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        if info.kind == BlockKind::ClosingCatalogue.code() {
            info.marks |= Marks::REJECTED;
            info.plain_len = 0;
            block.clear();
            block.set_info(info);
        }
        Ok(Verdict::Send)
    }
}

/// A catalogue whose blocks were rejected when they were written is empty, but the tree is not.
#[test]
fn rejected_catalogue_is_not_taken_for_an_empty_tree() {
    let fixture = Fixture::with_blocks();
    let options = ArchiveOptions::tree("data").block_len(64 << 10);
    let tape = VirtualTape::create(fixture.path("tape"), VolumeOptions::default()).unwrap();
    let head = TreeHead::new(&[fixture.path("src/data")], TreeOptions::default()).unwrap();
    Pipe::builder()
        .buffer_size(64 << 10)
        .head(head)
        .stage(Stage::in_place("censor", |_| Censor))
        .archive(options.plan().unwrap(), tape)
        .run()
        .unwrap();

    let listed = fixture.restore(&["--list", "tape"]);
    assert!(
        failed(&listed, 3).contains("rejected by inspection when the archive was written"),
        "{listed:?}"
    );
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 4);
    failed(
        &fixture.restore(&["--path", "data/noise", "tape", "out"]),
        3,
    );
    assert_eq!(fixture.names("out/data"), ["noise"]);
    fixture.assert_no_damage_under_original_names();
}

/// A failure at the end of a medium does not prevent the restore of paths before it.
#[test]
fn failing_medium_is_restored_up_to_the_failure() {
    let fixture = Fixture::with_blocks();
    let sizes = ["--volume-size", "100KiB", "--buffer-size", "16K"];
    ok(&fixture.back_up(&[&sizes[..], &["src/data", "volumes/"]].concat()));
    let last = fixture
        .path("volumes")
        .join(fixture.names("volumes").pop().unwrap());
    fs::remove_file(&last).unwrap();
    fs::create_dir(&last).unwrap();
    for path in [&["--path", "data/first"][..], &[]] {
        let text = failed(&fixture.restore(&[path, &["volumes", "out"]].concat()), 1);
        assert!(text.contains("cannot open volumes/000004.tap"), "{text}");
        assert_eq!(
            fs::read(fixture.path("out/data/first")).unwrap(),
            b"the first",
            "{path:?}"
        );
        fixture.assert_no_damage_under_original_names();
        fixture.clear("out");
    }
}
