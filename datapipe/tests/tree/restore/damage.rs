//! Missing, damaged and wrong blocks: the report names the affected objects, and they are not under
//! their names.

use std::fs;

use datapipe::prelude::*;
use datapipe::tree::{RestoreOptions, TreeRestore};
use datapipe::wire::{
    CatalogueEntry, CatalogueStart, ENTRY_HEADER_LEN, Entry, EntryBody, EntryPiece, ObjectEnd,
    ObjectKind, ObjectMeta, ObjectState,
};

use super::pack::{Pack, WHEN, digest, file, object};
use super::site::{Site, damaged, problems};
use super::walk::inspect;
use crate::placement::Placement;

in_both_placements! {
    undamaged_blocks_restore_everything
    missing_or_damaged_block_costs_only_its_objects
    lost_catalogue_is_reported_with_lost_blocks
    gap_between_extents_is_excused_by_the_digest
    wrong_digest_state_or_size_marks_the_object_damaged
    malformed_block_is_lost_from_the_bad_entry_on
    repeated_block_is_ignored
    hard_links_of_a_damaged_object_are_damaged
    verify_and_restore_check_the_catalogue
    catalogue_that_differs_from_the_objects_is_reported
    damaged_files_with_the_longest_names_are_set_aside
    object_is_named_if_a_piece_of_its_object_entry_is_lost
}

/// Makes an archive of four blocks of data. A file of three extents crosses blocks 0, 1 and 2;
/// `inside` is in block 1 only, `late` begins in 1 and ends in 2, `blank` has no data yet at the
/// end of 0. Block 3 has a file of its own. The catalogue follows.
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
    pack.file("dir/inside", b"inside");
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
    pack.list_all(1, |_| {});
    pack.list_all(2, |_| {});
    pack
}

fn undamaged_blocks_restore_everything(placement: Placement) {
    let site = Site::new(placement);
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
    assert!(five_blocks().verify(placement).is_whole());
}

/// Loses a block, or its content.
fn remove(mut pack: Pack, number: u64, is_missing: bool) -> Pack {
    if is_missing {
        pack.lose(number);
    } else {
        pack.damage(number);
    }
    pack
}

fn missing_or_damaged_block_costs_only_its_objects(placement: Placement) {
    for is_missing in [true, false] {
        let pack = |number| remove(five_blocks(), number, is_missing);
        let site = Site::new(placement);
        let report = site.plain(pack(1));
        let lost = ["blank", "long", "dir/inside", "late"];
        assert_eq!(damaged(&report), lost, "{}", problems(&report));
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
                .problems
                .iter()
                .any(|one| one.path.is_empty() && one.what.contains("block"))
        );
        assert_eq!(damaged(&pack(1).verify(placement)), lost);

        let site = Site::new(placement);
        let report = site.plain(pack(2));
        let mut names = damaged(&report);
        names.sort();
        assert_eq!(names, ["late", "long"], "{}", problems(&report));
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

        let site = Site::new(placement);
        assert_eq!(damaged(&site.plain(pack(3))), ["after"]);
        assert_eq!(damaged(&pack(3).verify(placement)), ["after"]);
    }
}

/// A file that was in a lost block was missing, and its name was not reported: the catalogue was
/// lost as well, which was a line among others.
fn lost_catalogue_is_reported_with_lost_blocks(placement: Placement) {
    let texts = |lost: &[u64]| {
        let mut pack = five_blocks();
        lost.iter().for_each(|number| pack.damage(*number));
        let site = Site::new(placement);
        let report = site.plain(pack.clone());
        let same = pack.verify(placement);
        assert_eq!(
            problems(&same).lines().count(),
            problems(&report).lines().count()
        );
        problems(&report)
    };
    let unknown = "from block 3 on, the names of some are not known";
    // Block 4 is a piece of the catalogue, 5 the closing catalogue.
    for lost in [&[3, 4, 5][..], &[3, 5]] {
        let text = texts(lost);
        assert!(text.contains(unknown), "{lost:?}: {text}");
    }
    for lost in [&[3][..], &[3, 4], &[4]] {
        let text = texts(lost);
        assert!(!text.contains("not known"), "{lost:?}: {text}");
        assert_eq!(
            text.contains("after"),
            lost.contains(&3),
            "{lost:?}: {text}"
        );
    }
}

fn gap_between_extents_is_excused_by_the_digest(placement: Placement) {
    let site = Site::new(placement);
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

/// Appends a file with the data `data` and this end.
fn file_with_end(pack: &mut Pack, path: &str, end: ObjectEnd) {
    let number = pack.begin(&file(path));
    pack.extent(number, 0, b"data");
    pack.entry(number, EntryBody::End(end));
}

/// Makes one correct file, four with a wrong end, one that changed while it was read, and a
/// symbolic link without an end.
fn wrong_ends() -> Pack {
    let mut pack = Pack::default();
    let right = ObjectEnd {
        state: ObjectState::Whole,
        size: 4,
        digest: digest(&[(0, b"data")]),
    };
    let with_digest = |offset, data| ObjectEnd {
        digest: digest(&[(offset, data)]),
        ..right
    };
    let unread = ObjectEnd {
        state: ObjectState::Unread,
        ..right
    };
    let changed = ObjectEnd {
        state: ObjectState::Changed,
        ..right
    };
    for (path, end) in [
        ("right", right),
        ("digest", with_digest(0, b"date")),
        ("elsewhere", with_digest(1, b"data")),
        ("short", ObjectEnd { size: 3, ..right }),
        ("unread", unread),
        ("changed", changed),
    ] {
        file_with_end(&mut pack, path, end);
    }
    let open = pack.begin(&object(ObjectKind::Symlink, "link"));
    pack.entry(open, EntryBody::Attribute(b"user.x", b"y"));
    pack
}

fn wrong_digest_state_or_size_marks_the_object_damaged(placement: Placement) {
    let site = Site::new(placement);
    fs::write(site.dest().join("digest.damaged"), "taken").unwrap();
    let report = site.plain(wrong_ends());
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
        inspect(&site.dest().join("digest.damaged.1")).mode,
        0o600,
        "for its owner only"
    );
    assert!(problems(&report).contains("\"changed\": changed while it was archived"));
    assert_eq!(report.files, 2);
}

fn malformed_block_is_lost_from_the_bad_entry_on(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    pack.file("good", b"good");
    let bad = pack.len() as u32;
    pack.file("badd/path", b"bad");
    pack.forge("badd/path", "ba../path");
    pack.forge("ba../path", "../../pat");
    pack.file("later", b"later");
    pack.cut();
    pack.file("next", b"next");
    pack.cut();
    pack.catalogue("good", (0, 0), 0);
    pack.catalogue("bad", (0, 0), bad);
    pack.catalogue("later", (0, 0), bad + 200);
    pack.cut_as(2);
    let report = site.plain(pack);
    assert_eq!(damaged(&report), ["bad", "later"]);
    assert_eq!(site.names(), ["good", "next"]);
    assert!(
        problems(&report).contains("unsafe"),
        "{}",
        problems(&report)
    );
}

fn repeated_block_is_ignored(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    pack.file("one", b"1");
    pack.cut();
    pack.file("two", b"2");
    pack.cut();
    pack.blocks.push(pack.blocks[0].clone());
    let report = site.overwriting(pack);
    assert_eq!(
        (report.problem_count, report.files, site.names().len()),
        (1, 2, 2)
    );
}

fn hard_links_of_a_damaged_object_are_damaged(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    let first = pack.begin(&ObjectMeta {
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

fn verify_and_restore_check_the_catalogue(placement: Placement) {
    let mut pack = five_blocks();
    pack.blocks[5].bytes.truncate(30);
    let report = pack.clone().verify(placement);
    assert_eq!(report.problem_count, 1, "{}", problems(&report));
    let site = Site::new(placement);
    let restored = site.restore(pack, RestoreOptions::default());
    assert_eq!(problems(&restored), problems(&report));
    assert_eq!(restored.files, report.files, "a restore does not need it");
}

/// A change of an entry of the catalogue.
type Change = fn(&mut CatalogueEntry<'_>);

/// A list, and a restore of some paths, believe the catalogue.
fn catalogue_that_differs_from_the_objects_is_reported(placement: Placement) {
    let changes: [(&str, Change); 9] = [
        ("size", |entry| entry.size += 1),
        ("state", |entry| entry.state = ObjectState::Unread),
        ("mode", |entry| entry.mode ^= 0o111),
        ("time", |entry| entry.modified.seconds += 1),
        ("kind", |entry| entry.kind = ObjectKind::Fifo),
        ("name", |entry| entry.path = b"dir/other"),
        ("first block", |entry| entry.blocks.0 = 0),
        ("last block", |entry| entry.blocks.1 += 1),
        ("offset", |entry| entry.offset += 8),
    ];
    for (what, change) in changes {
        for lying in [1, 2] {
            let mut pack = five_blocks();
            pack.forget_lists();
            for kind in [1, 2] {
                pack.list_all(kind, |entry| {
                    if kind == lying && entry.path == b"dir/inside" {
                        change(entry);
                    }
                });
            }
            let report = pack.clone().verify(placement);
            assert_eq!(report.problem_count, 1, "{what}: {}", problems(&report));
            let path = match what {
                "name" => &b"dir/other"[..],
                _ => b"dir/inside",
            };
            assert_eq!(report.problems[0].path, path, "{what}");
            let site = Site::new(placement);
            let restored = site.restore(pack, RestoreOptions::default());
            assert_eq!(problems(&restored), problems(&report), "{what}");
            assert_eq!(restored.files, report.files, "{what}");
        }
    }
    // An entry that is missing, and one that is there twice.
    for twice in [false, true] {
        let mut pack = five_blocks();
        pack.forget_lists();
        pack.list_all(2, |_| {});
        if twice {
            pack.list_all(2, |_| {});
        } else {
            pack.file("unlisted", b"data");
            pack.cut();
        }
        let report = pack.clone().verify(placement);
        let text = problems(&report);
        let why = match twice {
            true => "the catalogue does not begin with its only start",
            false => "does not agree with the objects",
        };
        assert!(text.contains(why), "{text}");
        let site = Site::new(placement);
        let restored = site.restore(pack, RestoreOptions::default());
        assert_eq!(problems(&restored), text);
    }
}

fn damaged_files_with_the_longest_names_are_set_aside(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    let name = "n".repeat(255);
    for _ in 0..3 {
        let number = pack.begin(&file(&name));
        pack.extent(number, 0, b"x");
        pack.end(number, 1, Some([1; 16]));
    }
    let report = site.plain(pack);
    assert_eq!(report.damaged_count, 3);
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

/// A tail that restores, and fails at an empty block.
struct Failing(TreeRestore);

impl Tail for Failing {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.0.write(block)?;
        if block.is_empty() {
            Err(StageError::new("failed as requested"))
        } else {
            Ok(())
        }
    }
}

#[test]
fn failed_pipe_leaves_no_partial_file_under_its_name() {
    let site = Site::new(Placement::Threads);
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
            .contains("as requested")
    );
    assert_eq!(site.names(), ["half.damaged", "whole"]);
    assert_eq!(damaged(&report.snapshot()), ["half"]);
}

/// Makes an archive with the object entry of "long" in three pieces, in blocks 1, 2 and 3, and a
/// file before and after it. `change` may change the pieces.
fn object_in_pieces(change: impl Fn(&mut Vec<Vec<u8>>)) -> Pack {
    let path = format!("{}long", "dir/".repeat(1000));
    let mut entry = Vec::new();
    let body = EntryBody::Object(file(&path));
    Entry { object: 2, body }.append_to(&mut entry).unwrap();
    let third = (entry.len() - ENTRY_HEADER_LEN) / 3;
    let parts = [0, third, 2 * third, entry.len() - ENTRY_HEADER_LEN];
    let pieces = parts.windows(2).enumerate().map(|(at, ends)| {
        let mut bytes = Vec::new();
        let piece = EntryPiece {
            kind: 1,
            continues: at > 0,
            goes_on: at < 2,
            body: &entry[ENTRY_HEADER_LEN..][ends[0]..ends[1]],
        };
        let body = EntryBody::Piece(piece);
        Entry { object: 2, body }.append_to(&mut bytes).unwrap();
        bytes
    });
    let mut pieces: Vec<_> = pieces.collect();
    change(&mut pieces);
    let mut pack = Pack::default();
    pack.file("before", b"whole");
    let mut start = (0, 0);
    for (at, piece) in pieces.iter().enumerate() {
        pack.cut();
        start = if at == 0 { (1, pack.len()) } else { start };
        pack.append(piece);
    }
    pack.extent(2, 0, b"data");
    pack.end(2, 4, digest(&[(0, b"data")]));
    pack.cut();
    pack.skip_number();
    pack.file("after", b"whole");
    let last = pack.cut();
    let [before, after] = [("before", (0, 0)), ("after", (last, last))];
    let objects = [before, (&path[..], (1, 3)), after];
    let start = CatalogueStart {
        objects: 3,
        bytes: 14,
    };
    pack.entry(0, EntryBody::CatalogueStart(start));
    for (path, blocks) in objects {
        let body = CatalogueEntry {
            mode: 0o640,
            size: if path.ends_with("long") { 4 } else { 5 },
            ..listed_file(path, blocks)
        };
        pack.entry(0, EntryBody::Catalogue(body));
    }
    pack.cut_as(2);
    pack
}

fn listed_file(path: &str, blocks: (u64, u64)) -> CatalogueEntry<'_> {
    CatalogueEntry {
        kind: ObjectKind::File,
        state: ObjectState::Whole,
        mode: 0,
        size: 0,
        link: 0,
        modified: WHEN,
        blocks,
        offset: 0,
        changed: WHEN,
        inode: 0,
        path: path.as_bytes(),
        target: b"",
    }
}

/// An object with a path longer than a block was missing, and not in the report: its object entry
/// began in a block that came.
fn object_is_named_if_a_piece_of_its_object_entry_is_lost(placement: Placement) {
    let long = format!("{}long", "dir/".repeat(1000));
    let check = |what: &str, pack: Pack| {
        let site = Site::new(placement);
        for report in [pack.clone().verify(placement), site.plain(pack)] {
            assert_eq!(
                damaged(&report),
                [&long[..]],
                "{what}: {}",
                problems(&report)
            );
            let text = problems(&report);
            assert!(!text.contains("catalogue"), "{what}: {text}");
        }
        assert_eq!(site.names(), ["after", "before"], "{what}");
    };
    let site = Site::new(placement);
    let report = site.plain(object_in_pieces(|_| {}));
    assert!(report.is_whole(), "{}", problems(&report));
    for number in 1..4 {
        check("missing", remove(object_in_pieces(|_| {}), number, true));
        check("damaged", remove(object_in_pieces(|_| {}), number, false));
    }
    // The entry is malformed: in a piece, as a whole, or in the order of its pieces.
    check("reserved", object_in_pieces(|pieces| pieces[1][2] = 1));
    check(
        "whole",
        object_in_pieces(|pieces| pieces[1][ENTRY_HEADER_LEN + 9] = 0),
    );
    check("other kind", object_in_pieces(|pieces| pieces[1][0] = 2));
    check("ends", object_in_pieces(|pieces| pieces[1][1] = 2));
    check(
        "first",
        object_in_pieces(|pieces| pieces[0].extend([128, 0, 0, 0, 0, 0, 0, 0].repeat(2))),
    );
}
