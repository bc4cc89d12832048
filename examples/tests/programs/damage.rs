//! Archives that are damaged, cut, forged or never finished.

use std::fs;

use datapipe::pool::{BlockInfo, ContentClass};
use datapipe::prelude::*;
use datapipe::stage::{Finding, Inspect, InspectionLog};
use datapipe::wire::{BlockKind, UNIT_HEADER_LEN, UnitHeader, UnitKind};

use crate::fixture::{Fixture, failed, noise, ok};

/// A fixture, and the bytes of an archive of its five blocks and a little more, encrypted or not.
fn with_archive(encrypted: bool) -> (Fixture, &'static [&'static str], Vec<u8>) {
    let fixture = Fixture::with_blocks();
    let key: &[_] = if encrypted {
        &["--key-file", "key"]
    } else {
        &[]
    };
    // One reader: several fill other blocks each time.
    let how = ["--buffer-size", "64K", "--readers", "1", "src/data", "tape"];
    ok(&fixture.back_up(&[key, &how].concat()));
    let tape = fs::read(fixture.path("tape")).unwrap();
    (fixture, key, tape)
}

#[test]
fn a_cut_archive_gives_what_it_has() {
    for encrypted in [false, true] {
        let (fixture, key, tape) = with_archive(encrypted);
        for (len, code, reason) in [
            (0, 1, "there is no archive"),
            (40, 1, "there is no archive"),
            (2000, 1, "nothing could be read of the archive"),
            (tape.len() / 2, 3, "is cut off"),
            (tape.len() - 1500, 3, "incomplete"),
            // Records that are whole, and no end.
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

/// Bytes of a tape up to the mark behind its chunk, so without any footer but the chunk's.
fn before_last_records(tape: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let length = u32::from_le_bytes(tape[at..at + 4].try_into().unwrap()) as usize;
        if length == 0 {
            return at + 4;
        }
        at += length.next_multiple_of(2) + 8;
    }
}

#[test]
fn a_changed_byte_is_found() {
    for encrypted in [false, true] {
        let (fixture, key, tape) = with_archive(encrypted);
        for at in (0..tape.len())
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
        let place = "block 2 at volume 1, record 1 (byte ";
        let text = failed(
            &fixture.restore(&[key, &["--verify", "changed"]].concat()),
            3,
        );
        assert!(
            text.starts_with("tape_to_disk: data/noise: ") && text.contains(place),
            "{text}"
        );

        // The hole lies in the one file, and the others are whole.
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
        fixture.assert_nothing_looks_whole_that_is_not();
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

/// Somebody who changes an encrypted archive and mends the checksums is found out by the cipher.
#[test]
fn a_forged_block_is_refused() {
    let (fixture, key, tape) = with_archive(true);
    let starts: Vec<_> = (0..tape.len() - UNIT_HEADER_LEN)
        .filter(|&at| block_at(&tape, at).is_some())
        .collect();
    assert_eq!(starts.len(), 6, "five of data, one of the catalogue");
    let start = starts[2];
    let (body, next) = (start + UNIT_HEADER_LEN, starts[3]);
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
                text.contains("block 2 at volume 1, record 1 (byte "),
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
fn a_tape_that_is_full_says_so() {
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
    fixture.assert_nothing_looks_whole_that_is_not();
}

/// Rejects the catalogue.
struct Censor;

impl Inspect for Censor {
    fn inspect(&mut self, _: &[u8], info: &BlockInfo) -> Result<Finding, StageError> {
        let closing = info.kind == BlockKind::ClosingCatalogue.code();
        Ok(if closing {
            Finding::Reject
        } else {
            Finding::Pass
        })
    }
}

/// A catalogue whose blocks were rejected when they were written names nothing, and that is not all
/// there is.
#[test]
fn a_rejected_catalogue_is_not_one_of_an_empty_tree() {
    let fixture = Fixture::with_blocks();
    let options = ArchiveOptions::tree("data").block_len(64 << 10);
    let tape = VirtualTape::create(fixture.path("tape"), VolumeOptions::default()).unwrap();
    let (_, tail) = options.plan().unwrap().stages(tape);
    let head = TreeHead::new(&[fixture.path("src/data")], TreeOptions::default()).unwrap();
    let inspect = Stage::inspect("censor", &InspectionLog::new(), |_| Censor);
    Pipe::builder()
        .buffer_size(64 << 10)
        .head(head)
        .stage(inspect)
        .tail(tail)
        .run()
        .unwrap();

    let listed = fixture.restore(&["--list", "tape"]);
    assert!(
        failed(&listed, 3).contains("1 block was rejected"),
        "{listed:?}"
    );
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 4);
    failed(
        &fixture.restore(&["--path", "data/noise", "tape", "out"]),
        3,
    );
    assert_eq!(fixture.names("out/data"), ["noise"]);
    fixture.assert_nothing_looks_whole_that_is_not();
}

/// A drive that fails at the end of a medium does not keep what stands before that from whoever
/// wants a part of it.
#[test]
fn what_can_be_read_of_a_failing_medium_comes_back_in_parts_too() {
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
        fixture.assert_nothing_looks_whole_that_is_not();
        fixture.clear("out");
    }
}
