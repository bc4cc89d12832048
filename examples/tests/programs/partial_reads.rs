//! Lists and paths, which need only a part of an archive: the other parts may be lost.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use datapipe::prelude::*;
use datapipe::tree::CutTree;
use datapipe::wire::{
    BlockKind, RECORD_HEADER_LEN, RecordHeader, UNIT_HEADER_LEN, UnitHeader, UnitKind,
};

use crate::fixture::{Fixture, failed, noise, ok};
use crate::walk::assert_same;

/// Options of every backup.
const OPTIONS: [&str; 5] = ["--quiet", "--buffer-size", "16K", "--readers", "1"];

/// Content of `data/m/needle` only.
const NEEDLE: &[u8] = b"the one that is looked for";

/// A fixture with 20 files before and 20 files after the one in `data/m` that a test looks for.
fn with_haystack() -> Fixture {
    let fixture = Fixture::new();
    let data = fixture.path("src/data");
    for dir in ["a", "m", "z"] {
        fs::create_dir(data.join(dir)).unwrap();
    }
    for n in 0..20 {
        let hay = noise(10_000 + n * 100);
        fs::write(data.join(format!("a/{n}")), &hay[n..]).unwrap();
        fs::write(data.join(format!("z/{n}")), &hay[2 * n..]).unwrap();
    }
    fs::write(data.join("m/needle"), NEEDLE).unwrap();
    fs::hard_link(data.join("m/needle"), data.join("z/further name")).unwrap();
    fixture
}

/// The units on a tape, each with the positions of its bytes. The records around them are left out.
struct TapeUnits {
    tape: Vec<u8>,
    units: Vec<(UnitHeader, Vec<usize>)>,
}

impl TapeUnits {
    fn new(tape: Vec<u8>) -> Self {
        let (mut positions, mut at) = (Vec::new(), 0);
        while let Some(word) = tape.get(at..at + 4) {
            let len = u32::from_le_bytes(word.try_into().unwrap()) as usize;
            at += 4;
            if len == 0 || len > tape.len() - at {
                continue;
            }
            let (_, content) = RecordHeader::parse(&tape[at..at + len]).unwrap();
            let start = at + RECORD_HEADER_LEN;
            positions.extend(start..start + content.len());
            at += len.next_multiple_of(2) + 4;
        }
        let content: Vec<u8> = positions.iter().map(|&position| tape[position]).collect();
        let header = |at: usize| {
            UnitHeader::parse(&content[at..])
                .ok()
                .map(|header| (at, header))
        };
        let starts: Vec<_> = (0..content.len() - UNIT_HEADER_LEN)
            .filter_map(header)
            .collect();
        let ends = starts
            .iter()
            .skip(1)
            .map(|(at, _)| *at)
            .chain([content.len()]);
        let units = starts
            .iter()
            .zip(ends)
            .map(|((at, header), end)| (*header, positions[*at..end].to_vec()));
        Self {
            units: units.collect(),
            tape,
        }
    }

    /// Returns the numbers of the data blocks that contain `bytes`, in an archive without
    /// compression.
    fn with_bytes(&self, bytes: &[u8]) -> BTreeSet<u64> {
        let has = |positions: &[usize]| {
            let unit: Vec<u8> = positions
                .iter()
                .map(|&position| self.tape[position])
                .collect();
            unit.windows(bytes.len()).any(|part| part == bytes)
        };
        let blocks = self
            .units
            .iter()
            .filter(|(header, positions)| is_data(header) && has(positions));
        blocks.map(|(header, _)| header.number).collect()
    }

    /// Returns the tape with noise in place of the selected units, and their number.
    fn without(&self, is_lost: impl Fn(&UnitHeader) -> bool) -> (Vec<u8>, usize) {
        let (mut tape, mut lost) = (self.tape.clone(), 0);
        for (_, positions) in self.units.iter().filter(|(header, _)| is_lost(header)) {
            positions
                .iter()
                .zip(noise(positions.len()))
                .for_each(|(&position, byte)| tape[position] = byte);
            lost += 1;
        }
        (tape, lost)
    }
}

fn is_data(header: &UnitHeader) -> bool {
    // The last block has no data.
    let has_data = header.block_kind == BlockKind::Data && header.plain > 0;
    header.kind == UnitKind::Block && has_data
}

/// Returns the numbers of the blocks that hold the needle, its names, and the directories above
/// them.
fn needed(fixture: &Fixture) -> BTreeSet<u64> {
    ok(&fixture.back_up(&[&OPTIONS[..], &["--compress", "none", "src/data", "plain"]].concat()));
    let units = TapeUnits::new(fs::read(fixture.path("plain")).unwrap());
    assert_eq!(units.with_bytes(NEEDLE).len(), 1);
    // An object begins in the first block that contains its path.
    let begins = |path: &[u8]| *units.with_bytes(path).first().unwrap();
    let paths: [&[u8]; 4] = [b"data", b"data/m", b"data/z", b"data/z/further name"];
    let blocks = paths
        .map(begins)
        .into_iter()
        .chain(units.with_bytes(NEEDLE));
    blocks.collect()
}

#[test]
fn restore_of_one_path_reads_only_its_blocks() {
    let fixture = with_haystack();
    let needed = needed(&fixture);
    for (framing, compress, key) in [
        ("header", "none", &[][..]),
        ("once", "zstd", &[]),
        ("header-footer", "deflate", &["--key-file", "key"]),
        ("once", "none", &["--key-file", "key"]),
    ] {
        let how = [
            "--framing",
            framing,
            "--compress",
            compress,
            "--overwrite",
            "src/data",
            "tape",
        ];
        ok(&fixture.back_up(&[&OPTIONS[..], key, &how].concat()));
        let units = TapeUnits::new(fs::read(fixture.path("tape")).unwrap());
        let is_lost = |header: &UnitHeader| {
            let is_other = is_data(header) && !needed.contains(&header.number);
            is_other || header.kind == UnitKind::Block && header.block_kind == BlockKind::Catalogue
        };
        let (tape, lost) = units.without(is_lost);
        assert!(lost >= 20, "{lost} blocks are lost");
        fs::write(fixture.path("tape"), tape).unwrap();
        for (path, restored) in [
            ("data/m/needle", "m/needle"),
            ("data/z/further name", "z/further name"),
        ] {
            let output =
                fixture.restore(&[key, &["--quiet", "--path", path, "tape", "out"]].concat());
            ok(&output);
            assert!(
                output.stderr.is_empty(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert_eq!(
                fs::read(fixture.path("out/data").join(restored)).unwrap(),
                NEEDLE
            );
            fixture.clear("out");
        }
        ok(&fixture.restore(&[key, &["--quiet", "--path", "data/m", "tape", "out"]].concat()));
        let (is, was) = (fixture.path("out/data/m"), fixture.path("src/data/m"));
        assert_eq!(
            fs::metadata(&is).unwrap().mtime_nsec(),
            fs::metadata(&was).unwrap().mtime_nsec()
        );
        fixture.clear("out");
        let text = failed(
            &fixture.restore(&[key, &["--quiet", "--verify", "tape"]].concat()),
            3,
        );
        assert!(
            text.contains("data/a/7: ") && !text.contains("data/m/needle"),
            "{text}"
        );
    }
}

#[test]
fn list_reads_no_data_blocks() {
    let fixture = with_haystack();
    for (framing, key) in [
        ("header", &[][..]),
        ("once", &["--key-file", "key"]),
        ("header-footer", &["--key-file", "key"]),
    ] {
        ok(&fixture.back_up(
            &[
                &OPTIONS[..],
                key,
                &["--framing", framing, "--overwrite", "src/data", "tape"],
            ]
            .concat(),
        ));
        let list = [key, &["--quiet", "--list", "tape"]].concat();
        let before = ok(&fixture.restore(&list));
        assert_eq!(before.lines().count(), 46);
        let units = TapeUnits::new(fs::read(fixture.path("tape")).unwrap());
        let (tape, lost) = units.without(|header| {
            // The last block has no data, and belongs to the closing run.
            let is_of_run = header.block_kind == BlockKind::ClosingCatalogue || header.plain == 0;
            // The one after the origin could be a special header that a reader must know.
            header.kind == UnitKind::Block && !is_of_run && header.number > 1
        });
        assert!(lost > 20, "{lost} blocks are lost");
        fs::write(fixture.path("tape"), tape).unwrap();
        let output = fixture.restore(&list);
        assert_eq!(ok(&output), before);
        assert!(
            output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = failed(
            &fixture.restore(&[key, &["--quiet", "tape", "out"]].concat()),
            3,
        );
        assert!(text.contains("data/a/7: is lost"), "{text}");
        fixture.clear("out");
        if !key.is_empty() {
            let text = failed(
                &fixture.restore(&["--key-file", "other-key", "--list", "tape"]),
                1,
            );
            assert!(text.contains("not the right one"), "{text}");
            failed(&fixture.restore(&["--list", "tape"]), 1);
        }
    }
}

#[test]
fn archive_without_a_catalogue_is_read_entirely() {
    let fixture = with_haystack();
    ok(&fixture.back_up(&[&OPTIONS[..], &["src/data", "tape"]].concat()));
    let before = ok(&fixture.restore(&["--quiet", "--list", "tape"]));
    let units = TapeUnits::new(fs::read(fixture.path("tape")).unwrap());
    let (tape, lost) = units.without(|header| header.block_kind == BlockKind::ClosingCatalogue);
    assert!(lost > 0);
    fs::write(fixture.path("bad"), tape).unwrap();
    let output = fixture.restore(&["--quiet", "--list", "bad"]);
    let text = failed(&output, 3);
    assert!(text.contains("block "), "{text}");
    let mut list: Vec<_> = std::str::from_utf8(&output.stdout)
        .unwrap()
        .lines()
        .collect();
    list.sort_unstable();
    let mut before: Vec<_> = before.lines().collect();
    before.sort_unstable();
    assert_eq!(list, before);
    let text = failed(
        &fixture.restore(&["--quiet", "--path", "data/m", "bad", "out"]),
        3,
    );
    assert!(text.contains("block "), "{text}");
    assert_eq!(fs::read(fixture.path("out/data/m/needle")).unwrap(), NEEDLE);
}

#[test]
fn cut_archive_lists_the_objects_before_the_cut() {
    let fixture = with_haystack();
    for key in [&[][..], &["--key-file", "key"]] {
        ok(&fixture.back_up(&[&OPTIONS[..], key, &["--overwrite", "src/data", "tape"]].concat()));
        let tape = fs::read(fixture.path("tape")).unwrap();
        fs::write(fixture.path("cut"), &tape[..tape.len() / 4 * 3]).unwrap();
        let output = fixture.restore(&[key, &["--quiet", "--list", "cut"]].concat());
        let text = failed(&output, 3);
        assert!(text.contains("incomplete"), "{text}");
        let list = String::from_utf8(output.stdout).unwrap();
        assert!(
            list.contains(" data/a/7\n") && list.contains(" data/m/needle\n"),
            "{list}"
        );
        assert!(!list.contains("data/z/9"), "{list}");
        let text = failed(
            &fixture.restore(&[key, &["--quiet", "--path", "data/a", "cut", "out"]].concat()),
            3,
        );
        assert!(text.contains("incomplete"), "{text}");
        for name in fixture.names("src/data/a") {
            let read = |at: &str| fs::read(fixture.path(at).join(&name)).unwrap();
            assert!(read("src/data/a") == read("out/data/a"), "{name:?}");
        }
        assert_eq!(fixture.names("out/data"), ["a"]);
        fixture.clear("out");
    }
}

/// All of an archive that was cut off was read for a list of it, and twice for a path.
#[test]
fn cut_archive_with_checkpoints_is_listed_without_its_data() {
    let fixture = with_haystack();
    let (source, path) = (fixture.path("src/data"), fixture.path("whole"));
    fs::write(source.join("a/large"), noise(3_000_000)).unwrap();
    // A run of blocks is read from the start of a record on.
    let options = ArchiveOptions::tree("t").block_len(64 << 10);
    let archive = options.record_len(16 << 10).plan().unwrap();
    let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
    let head = HeadStage::from(head).checkpoint_every(400_000);
    let pipe = Pipe::builder().buffer_size(64 << 10).head(head);
    let tape = VirtualTape::create(&path, VolumeOptions::default()).unwrap();
    pipe.archive(archive, tape).run().unwrap();
    let tape = fs::read(&path).unwrap();
    fs::write(fixture.path("cut"), &tape[..tape.len() - 100_000]).unwrap();

    let reader =
        ArchiveReader::open(VirtualTape::open(fixture.path("cut")).unwrap(), None).unwrap();
    let cut = CutTree::read(&reader).unwrap();
    let reading = cut.reading(&reader.salvage(&DamageLog::new())).unwrap();
    let pipe = reading.pipe.tail(StreamTail::new(std::io::sink()));
    pipe.run().unwrap();
    let read = reading.report.snapshot().read;
    assert!(
        read * 3 < tape.len() as u64,
        "{read} of {} bytes",
        tape.len()
    );

    let output = fixture.restore(&["--quiet", "--list", "cut"]);
    let text = failed(&output, 3);
    assert!(text.contains("the archive is incomplete"), "{text}");
    let list = String::from_utf8(output.stdout).unwrap();
    assert!(
        list.contains(" data/a/7\n") && list.contains("data/a/large\n"),
        "{list}"
    );
    let text = failed(
        &fixture.restore(&["--quiet", "--path", "data/a", "cut", "out"]),
        3,
    );
    assert!(text.contains("the archive is incomplete"), "{text}");
    for name in fixture.names("src/data/a") {
        let read = |at: &str| fs::read(fixture.path(at).join(&name)).unwrap();
        assert!(read("src/data/a") == read("out/data/a"), "{name:?}");
    }
    assert_eq!(fixture.names("out/data"), ["a"]);
}

#[test]
fn several_paths_of_all_kinds_are_restored() {
    let fixture = with_haystack();
    ok(&fixture.back_up(&[&OPTIONS[..], &["src/data", "tape"]].concat()));
    let paths = [
        "--path",
        "data/z/further name",
        "--path",
        "data/a/",
        "--path",
        "data/z/3",
        "--path",
        "data/a/7",
    ];
    ok(&fixture.restore(&[&paths[..], &["tape", "out"]].concat()));
    assert_same(&fixture.path("src/data/a"), &fixture.path("out/data/a"));
    assert_same(&fixture.path("src/data/z/3"), &fixture.path("out/data/z/3"));
    assert_eq!(
        fs::read(fixture.path("out/data/z/further name")).unwrap(),
        NEEDLE
    );
    assert_eq!(fixture.names("out/data"), ["a", "z"]);
    assert_eq!(fixture.names("out/data/z"), ["3", "further name"]);
    fixture.clear("out");
    // Two names of one file are restored as one file.
    ok(&fixture.restore(&[
        "--path",
        "data/m",
        "--path",
        "data/z/further name",
        "tape",
        "out",
    ]));
    let inode = |path: &str| fs::metadata(fixture.path(path)).unwrap().ino();
    assert_eq!(inode("out/data/m/needle"), inode("out/data/z/further name"));
    fixture.clear("out");
    // A path that only shares its beginning with a name is not found.
    for path in [
        "data/m/needl",
        "data/m/needle/x",
        "data/m/needle2",
        "dat",
        "m",
        "../data/m",
    ] {
        let text = failed(
            &fixture.restore(&["--path", path, "--path", "data/a/7", "tape", "out"]),
            3,
        );
        assert!(
            text.contains(&format!("{path}: not found in the archive")),
            "{text}"
        );
        assert_eq!(fixture.names("out/data/a"), ["7"]);
        assert!(
            !fixture.path("out/data/m/needle").exists(),
            "only the directories above are made"
        );
        fixture.clear("out");
    }
}

#[test]
fn restore_of_one_path_reads_only_its_volumes() {
    let fixture = with_haystack();
    let how = [
        "--volume-size",
        "64KiB",
        "--compress",
        "none",
        "src/data",
        "volumes/",
    ];
    ok(&fixture.back_up(&[&OPTIONS[..], &how].concat()));
    let volumes = fixture.names("volumes");
    assert!(volumes.len() > 7, "{volumes:?}");
    let has_needle = |name: &std::ffi::OsString| {
        let volume = fs::read(fixture.path("volumes").join(name)).unwrap();
        volume.windows(NEEDLE.len()).any(|part| part == NEEDLE)
    };
    let with_needle = volumes.iter().position(has_needle).unwrap();
    assert!(
        (2..volumes.len() - 2).contains(&with_needle),
        "in the middle: {with_needle} of {}",
        volumes.len()
    );
    // Blocks may continue on the next volume. The first volume has the directory, the last two have
    // the catalogue and the end.
    let is_kept = |n: usize| n == 0 || n.abs_diff(with_needle) <= 1 || n + 2 >= volumes.len();
    for (n, name) in volumes.iter().enumerate().filter(|(n, _)| !is_kept(*n)) {
        let path = fixture.path("volumes").join(name);
        let mut volume = fs::read(&path).unwrap();
        // Only their labels are kept.
        let label_len = volume.len().min(8 << 10);
        let rest = noise(volume.len() - label_len);
        volume[label_len..].copy_from_slice(&rest);
        fs::write(&path, volume).unwrap();
        println!("volume {n} is lost");
    }
    ok(&fixture.restore(&["--quiet", "--path", "data/m", "volumes", "out"]));
    assert_eq!(fs::read(fixture.path("out/data/m/needle")).unwrap(), NEEDLE);
    assert_eq!(
        ok(&fixture.restore(&["--quiet", "--list", "volumes"]))
            .lines()
            .count(),
        46
    );
    failed(&fixture.restore(&["--quiet", "--verify", "volumes"]), 3);
}
