//! Blocks that are missing, damaged or wrong: the right objects are named, and are not under their
//! names.

use std::fs;

use datapipe::prelude::*;
use datapipe::tree::{RestoreOptions, TreeRestore};
use datapipe::wire::{End, EntryBody, Object, ObjectKind, State};

use super::pack::{Pack, digest, file, object};
use super::walk::look;
use super::{Site, damaged, problems};

/// Five blocks. A file of three extents goes through 0, 1 and 2; `inside` is in 1 only, `late`
/// begins in 1 and ends in 2, `blank` has no data yet when 0 ends. 3 has a file of its own, 4 is
/// the catalogue.
fn five_blocks() -> Pack {
    let mut pack = Pack::default();
    pack.directory("dir");
    pack.file("before", b"whole");
    let long = pack.begin(&file("long"));
    pack.extent(long, 0, b"one");
    let blank = pack.begin(&file("blank"));
    pack.cut();
    pack.extent(blank, 0, b"blank");
    pack.end(blank, 5, digest(&[(0, b"blank")]));
    pack.extent(long, 3, b"two");
    let inside = pack.len() as u32;
    pack.file("dir/inside", b"inside");
    let late_at = pack.len() as u32;
    let late = pack.begin(&file("late"));
    pack.extent(late, 0, b"la");
    pack.cut();
    pack.extent(late, 2, b"te");
    pack.end(late, 4, digest(&[(0, b"la"), (2, b"te")]));
    pack.extent(long, 6, b"three");
    pack.end(long, 11, digest(&[(0, b"one"), (3, b"two"), (6, b"three")]));
    pack.cut();
    pack.file("after", b"whole");
    pack.cut();
    pack.catalogue("dir/inside", (1, 1), inside);
    pack.catalogue("late", (1, 2), late_at);
    pack.catalogue("long", (0, 2), 0);
    pack.cut_as(1);
    pack.catalogue("dir/inside", (1, 1), inside);
    pack.catalogue("late", (1, 2), late_at);
    pack.catalogue("after", (3, 3), 0);
    pack.cut_as(2);
    pack
}

#[test]
fn undamaged_blocks_restore_everything() {
    let site = Site::new();
    let report = site.plain(five_blocks());
    assert!(report.is_whole(), "{}", problems(&report));
    assert_eq!(
        site.names(),
        [
            "after",
            "before",
            "blank",
            "dir",
            "dir/inside",
            "late",
            "long"
        ]
    );
    assert!(five_blocks().verify().is_whole());
}

#[test]
fn missing_or_damaged_block_costs_only_its_objects() {
    for kind in ["missing", "damaged"] {
        let pack = |number| {
            let mut pack = five_blocks();
            if kind == "missing" {
                pack.lose(number)
            } else {
                pack.damage(number)
            }
            pack
        };
        let site = Site::new();
        let report = site.plain(pack(1));
        assert_eq!(
            damaged(&report),
            ["blank", "long", "dir/inside", "late"],
            "{kind} {}",
            problems(&report)
        );
        assert_eq!(
            site.names(),
            ["after", "before", "blank.damaged", "dir", "long.damaged"]
        );
        assert_eq!(
            fs::read(site.dest().join("long.damaged")).unwrap(),
            b"one\0\0\0three"
        );
        assert!(
            report
                .problems()
                .iter()
                .any(|one| one.path.is_empty() && one.what.contains("block"))
        );
        assert_eq!(
            damaged(&pack(1).verify()),
            ["blank", "long", "dir/inside", "late"]
        );

        let site = Site::new();
        let report = site.plain(pack(2));
        let mut names = damaged(&report);
        names.sort();
        assert_eq!(names, ["late", "long"], "{kind} {}", problems(&report));
        assert_eq!(
            site.names(),
            [
                "after",
                "before",
                "blank",
                "dir",
                "dir/inside",
                "late.damaged",
                "long.damaged"
            ]
        );

        let site = Site::new();
        assert_eq!(damaged(&site.plain(pack(3))), ["after"]);
        assert_eq!(damaged(&pack(3).verify()), ["after"]);
    }
}

#[test]
fn gap_between_extents_is_excused_by_the_digest() {
    let site = Site::new();
    let mut pack = Pack::default();
    let (checked, unchecked) = (pack.begin(&file("checked")), pack.begin(&file("unchecked")));
    pack.extent(checked, 0, b"a");
    pack.extent(unchecked, 0, b"a");
    pack.cut();
    pack.file("gone", b"gone");
    let gone = pack.cut();
    pack.extent(checked, 1, b"b");
    pack.extent(unchecked, 1, b"b");
    pack.end(checked, 2, digest(&[(0, b"a"), (1, b"b")]));
    pack.end(unchecked, 2, None);
    pack.cut();
    pack.lose(gone);
    let report = site.plain(pack);
    assert_eq!(damaged(&report), ["unchecked"]);
    assert_eq!(site.names(), ["checked", "unchecked.damaged"]);
}

#[test]
fn wrong_digest_state_or_size_marks_the_object_damaged() {
    let site = Site::new();
    let mut pack = Pack::default();
    let end = |pack: &mut Pack, path: &str, end: End| {
        let number = pack.begin(&file(path));
        pack.extent(number, 0, b"data");
        pack.entry(number, EntryBody::End(end));
    };
    let right = End {
        state: State::Whole,
        size: 4,
        digest: digest(&[(0, b"data")]),
    };
    end(&mut pack, "right", right);
    end(
        &mut pack,
        "digest",
        End {
            digest: digest(&[(0, b"date")]),
            ..right
        },
    );
    end(
        &mut pack,
        "elsewhere",
        End {
            digest: digest(&[(1, b"data")]),
            ..right
        },
    );
    end(&mut pack, "short", End { size: 3, ..right });
    end(
        &mut pack,
        "unread",
        End {
            state: State::Unread,
            ..right
        },
    );
    end(
        &mut pack,
        "changed",
        End {
            state: State::Changed,
            ..right
        },
    );
    let open = pack.begin(&object(ObjectKind::Symlink, "link"));
    pack.entry(open, EntryBody::Attribute(b"user.x", b"y"));
    fs::write(site.dest().join("digest.damaged"), "taken").unwrap();
    let report = site.plain(pack);
    assert_eq!(
        damaged(&report),
        ["digest", "elsewhere", "short", "unread", "link"]
    );
    let names = [
        "changed",
        "digest.damaged",
        "digest.damaged.1",
        "elsewhere.damaged",
        "right",
        "short.damaged",
    ];
    assert_eq!(site.names(), [&names[..], &["unread.damaged"]].concat());
    assert_eq!(
        fs::read(site.dest().join("digest.damaged")).unwrap(),
        b"taken"
    );
    assert_eq!(
        look(&site.dest().join("digest.damaged.1")).mode,
        0o600,
        "for its owner only"
    );
    assert!(problems(&report).contains("\"changed\": changed while it was archived"));
    assert_eq!(report.files(), 2);
}

#[test]
fn malformed_block_is_lost_from_the_bad_entry_on() {
    let site = Site::new();
    let mut pack = Pack::default();
    pack.file("good", b"good");
    let bad = pack.len() as u32;
    pack.file("badd/path", b"bad");
    pack.forge("badd/path", "ba../path");
    pack.forge("ba../path", "../../pat");
    pack.file("behind", b"behind");
    pack.cut();
    pack.file("next", b"next");
    pack.cut();
    pack.catalogue("good", (0, 0), 0);
    pack.catalogue("bad", (0, 0), bad);
    pack.catalogue("behind", (0, 0), bad + 200);
    pack.cut_as(2);
    let report = site.plain(pack);
    assert_eq!(damaged(&report), ["bad", "behind"]);
    assert_eq!(site.names(), ["good", "next"]);
    assert!(
        problems(&report).contains("unsafe"),
        "{}",
        problems(&report)
    );
}

#[test]
fn repeated_block_is_ignored() {
    let site = Site::new();
    let mut pack = Pack::default();
    pack.file("one", b"1");
    pack.cut();
    pack.file("two", b"2");
    pack.cut();
    pack.blocks.push(pack.blocks[0].clone());
    let report = site.overwriting(pack);
    assert_eq!(
        (report.problem_count(), report.files(), site.names().len()),
        (1, 2, 2)
    );
}

#[test]
fn hard_links_of_a_damaged_object_are_damaged() {
    let site = Site::new();
    let mut pack = Pack::default();
    let first = pack.begin(&Object {
        linked: true,
        ..file("first")
    });
    pack.link("too-early", first);
    pack.extent(first, 0, b"x");
    pack.end(first, 1, Some([0; 16]));
    pack.link("second", first);
    let alone = pack.file("alone", b"x");
    pack.link("undeclared", alone);
    pack.link("nothing", 77);
    let report = site.plain(pack);
    assert_eq!(
        damaged(&report),
        ["too-early", "first", "second", "undeclared", "nothing"]
    );
    assert_eq!(site.names(), ["alone", "first.damaged"]);
}

#[test]
fn verify_checks_the_catalogue_and_restore_does_not() {
    let mut pack = five_blocks();
    pack.blocks[5].bytes.truncate(30);
    let report = pack.clone().verify();
    assert_eq!(report.problem_count(), 1, "{}", problems(&report));
    let site = Site::new();
    assert!(
        site.restore(pack, RestoreOptions::default()).is_whole(),
        "a restore does not need it"
    );
}

#[test]
fn damaged_files_with_the_longest_names_are_set_aside() {
    let site = Site::new();
    let mut pack = Pack::default();
    let name = "n".repeat(255);
    for _ in 0..3 {
        let number = pack.begin(&file(&name));
        pack.extent(number, 0, b"x");
        pack.end(number, 1, Some([1; 16]));
    }
    let report = site.plain(pack);
    assert_eq!(report.damaged_count(), 3);
    let start = |kept| name[..kept].to_owned();
    let names = [
        start(245) + ".damaged.1",
        start(245) + ".damaged.2",
        start(247) + ".damaged",
    ];
    let mut found = site.names();
    found.sort_by_key(|name| name[245..].to_owned());
    assert_eq!(found, names);
}

/// Restores, and fails at a block that is empty.
struct Failing(TreeRestore);

impl Tail for Failing {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.0.write(block)?;
        if block.is_empty() {
            Err(StageError::new("failed, as it was told"))
        } else {
            Ok(())
        }
    }
}

#[test]
fn failed_pipe_leaves_no_partial_file_under_its_name() {
    let site = Site::new();
    let mut pack = Pack::default();
    pack.file("whole", b"whole");
    let half = pack.begin(&file("half"));
    pack.extent(half, 0, b"ha");
    pack.cut();
    pack.cut();
    let tail = TreeRestore::new(site.dest(), RestoreOptions::default()).unwrap();
    let report = tail.report();
    assert!(
        pack.run(Failing(tail))
            .unwrap_err()
            .to_string()
            .contains("as it was told")
    );
    assert_eq!(site.names(), ["half.damaged", "whole"]);
    assert_eq!(damaged(&report), ["half"]);
}
