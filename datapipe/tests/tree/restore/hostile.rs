//! Archives that an enemy wrote: nothing outside of the destination changes, nothing panics, and
//! memory stays bounded.

use std::fs;
use std::os::unix::fs::symlink;

use datapipe::limits::MAX_OPEN_OBJECTS;
use datapipe::testkit::Random;
use datapipe::wire::{EntryBody, ObjectKind, ObjectMeta};

use super::pack::{Pack, digest, file, object};
use super::site::{Site, damaged, problems};
use super::walk::walk;
use crate::data::setting;
use crate::placement::Placement;

in_both_placements! {
    unsafe_path_is_rejected
    archived_symlinks_are_not_followed
    existing_symlinks_are_not_followed
    hard_link_does_not_reach_outside
    invalid_extents_mark_the_file_damaged
    misordered_entries_mark_objects_damaged
    unfinished_objects_use_bounded_memory
    random_corruption_stays_inside_the_destination
}

fn unsafe_path_is_rejected(placement: Placement) {
    for forged in [
        "../outside/new",
        "/tmp/outside/x",
        "a/../../outsid",
        "outside/../../",
        "./././././././",
    ] {
        let site = Site::new(placement);
        let mut pack = Pack::default();
        pack.file("a-path-as-long", b"evil");
        pack.forge("a-path-as-long", forged);
        let report = site.plain(pack);
        assert!(
            report.problem_count > 0 && site.names().is_empty(),
            "{forged}: {}",
            problems(&report)
        );
    }
}

fn archived_symlinks_are_not_followed(placement: Placement) {
    for overwrite in [false, true] {
        let site = Site::new(placement);
        let mut pack = Pack::default();
        pack.symlink("folder", "../outside");
        pack.symlink("file", "../outside/canary");
        pack.symlink(
            "absolute",
            site.root.path().join("outside").to_str().unwrap(),
        );
        pack.symlink("new", "../outside/new");
        pack.symlink("here", ".");
        pack.cut();
        for path in [
            "folder/new",
            "folder/canary",
            "folder/folder/new",
            "absolute/new",
            "here/../outside",
        ] {
            if !path.contains("..") {
                pack.file(path, b"evil");
            }
        }
        pack.directory("folder");
        pack.directory("folder/dir");
        pack.directory("folder/folder");
        pack.file("here/inside", b"evil");
        for path in ["file", "new"] {
            pack.whole(
                &ObjectMeta {
                    mode: 0o777,
                    ..file(path)
                },
                &[("user.x", b"evil")],
                4,
                &[(0, b"evil")],
            );
        }
        pack.symlink("absolute/link", "x");
        let fifo = object(ObjectKind::Fifo, "folder/folder/fifo");
        pack.whole(&fifo, &[], 0, &[]);
        let report = if overwrite {
            site.overwriting(pack)
        } else {
            site.plain(pack)
        };
        assert!(report.problem_count >= 10, "{}", problems(&report));
        assert_eq!(site.names(), ["absolute", "file", "folder", "here", "new"]);
        let kinds: String = walk(&site.dest()).values().map(|one| one.kind).collect();
        assert_eq!(kinds, "lllll");
    }
}

fn existing_symlinks_are_not_followed(placement: Placement) {
    let site = Site::new(placement);
    symlink("../outside", site.dest().join("folder")).unwrap();
    symlink("../outside/canary", site.dest().join("file")).unwrap();
    let mut pack = Pack::default();
    pack.directory("folder");
    pack.file("folder/canary", b"evil");
    pack.file("file", b"good");
    let report = site.overwriting(pack);
    assert_eq!(report.problem_count, 2, "{}", problems(&report));
    let seen = walk(&site.dest());
    assert_eq!(
        (
            seen["folder"].kind,
            seen["file"].kind,
            &seen["file"].data[..]
        ),
        ('l', '-', &b"good"[..])
    );
}

fn hard_link_does_not_reach_outside(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    pack.directory("dir");
    let inner = pack.whole(
        &ObjectMeta {
            linked: true,
            ..file("dir/canary")
        },
        &[],
        4,
        &[(0, b"mine")],
    );
    let symlink = ObjectMeta {
        linked: true,
        target: b"../outside/canary",
        ..object(ObjectKind::Symlink, "link")
    };
    let symlink = pack.whole(&symlink, &[], 0, &[]);
    let replaced = pack.whole(
        &ObjectMeta {
            linked: true,
            ..file("replaced")
        },
        &[],
        4,
        &[(0, b"mine")],
    );
    pack.cut();
    // A link to the outside would take the place of the object with this number.
    pack.symlink("replaced", "../outside/canary");
    pack.link("hard", replaced);
    // Another name of the link itself, not of its target. Then a file is written to it.
    pack.link("name", symlink);
    pack.file("name", b"evil");
    pack.link("inner", inner);
    let report = site.overwriting(pack);
    // What this restore has made stays, also where existing objects are replaced.
    assert_eq!(
        (report.problem_count, damaged(&report).len()),
        (2, 0),
        "{}",
        problems(&report)
    );
    let seen = walk(&site.dest());
    assert_eq!(
        (seen["name"].kind, seen["link"].kind, seen["inner"].names),
        ('l', 'l', 2)
    );
    assert_eq!(
        (seen["hard"].inode, seen["hard"].data.as_slice()),
        (seen["replaced"].inode, &b"mine"[..])
    );
}

fn invalid_extents_mark_the_file_damaged(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    let mut put = |path: &str, extents: &[(u64, &[u8])], size: u64| {
        pack.whole(&file(path), &[], size, extents);
    };
    put("overlap", &[(0, b"four"), (3, b"x")], 4);
    put("back", &[(10, b"x"), (0, b"x")], 11);
    put("touching", &[(0, b"four"), (4, b"x")], 5);
    put("far", &[(i64::MAX as u64 - 1, b"x")], i64::MAX as u64);
    put("long", &[(0, b"x")], i64::MAX as u64);
    put("longest", &[(0, b"x")], u64::MAX);
    let report = site.plain(pack);
    let names = damaged(&report);
    assert!(
        ["overlap", "back", "longest"]
            .iter()
            .all(|name| names.contains(&(*name).to_owned())),
        "{names:?}"
    );
    assert!(
        site.names().contains(&"touching".to_owned())
            && !site.names().contains(&"overlap".to_owned())
    );
    assert_eq!(names.len() as u64 + report.files, 6);
}

fn misordered_entries_mark_objects_damaged(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    let twice = pack.begin(&file("twice"));
    pack.entry(twice, EntryBody::Object(file("other")));
    pack.extent(twice, 0, b"x");
    pack.end(twice, 1, digest(&[(0, b"x")]));
    pack.extent(1000, 0, b"x");
    pack.extent(1000, 1, b"x");
    pack.end(1001, 0, None);
    let late = pack.begin(&file("late"));
    pack.extent(late, 0, b"x");
    pack.entry(late, EntryBody::Attribute(b"user.x", b"y"));
    pack.end(late, 1, digest(&[(0, b"x")]));
    let data = pack.begin(&object(ObjectKind::Directory, "data"));
    pack.extent(data, 0, b"x");
    pack.end(data, 0, None);
    let (one, two) = (pack.begin(&file("same")), pack.begin(&file("same")));
    for number in [two, one] {
        pack.extent(number, 0, b"x");
        pack.end(number, 1, digest(&[(0, b"x")]));
    }
    let greedy = pack.begin(&file("greedy"));
    let value = vec![0; 60_000];
    (0..30).for_each(|_| pack.entry(greedy, EntryBody::Attribute(b"user.x", &value)));
    pack.end(greedy, 0, None);
    pack.catalogue("stray", (0, 0), 0);
    let report = site.plain(pack);
    // Whole files are restored last.
    assert_eq!(
        damaged(&report),
        ["twice", "data", "same", "late"], // attributes beyond the limit cost only themselves
        "{}",
        problems(&report)
    );
    // 30 attributes of 60,000 bytes, of which 1 MiB has 17. The file system may refuse more.
    let text = problems(&report);
    let (of_greedy, others): (Vec<_>, Vec<_>) = text
        .lines()
        .partition(|line| line.starts_with("\"greedy\""));
    assert_eq!(others.len(), 4 + 4, "{text}");
    let dropped = of_greedy
        .iter()
        .filter(|line| line.contains("more than 1048576 bytes"));
    assert_eq!(dropped.count(), 13, "{text}");
    assert_eq!(
        site.names(),
        ["data", "greedy", "late.damaged", "same", "twice.damaged"]
    );
}

fn unfinished_objects_use_bounded_memory(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    let path = "p".repeat(200);
    for number in 0..100_000 {
        if number % 10_000 == 9_999 {
            pack.cut();
        }
        pack.begin(&object(ObjectKind::Symlink, &format!("{path}{number}")));
    }
    pack.cut();
    let last = pack.cut();
    pack.file("last", b"x");
    pack.cut();
    pack.lose(last);
    let before = resident();
    let report = site.plain(pack);
    assert_eq!(report.damaged_count, 100_000);
    assert_eq!(report.problems.len(), 10_000);
    // This includes the buffers of the pipe and the archive itself.
    assert!(
        resident() < before + (200 << 20),
        "{} bytes more",
        resident() - before
    );
    assert_eq!(
        site.names(),
        ["last"],
        "after a gap there is room again for {MAX_OPEN_OBJECTS} objects"
    );
}

/// Returns the resident memory of this process in bytes.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn random_corruption_stays_inside_the_destination(placement: Placement) {
    let seed = setting("DATAPIPE_SEED", 20_261);
    let mut random = Random::new(seed);
    for round in 0..400 {
        let site = Site::new(placement);
        let mut pack = Pack::default();
        pack.directory("dir");
        let first = pack.whole(
            &ObjectMeta {
                linked: true,
                ..file("dir/f")
            },
            &[("user.a", b"b")],
            9,
            &[(0, b"x"), (7, b"y")],
        );
        pack.symlink("s", "../outside");
        pack.cut();
        pack.file("s/f", b"evil");
        pack.link("dir/g", first);
        pack.whole(&object(ObjectKind::Fifo, "fifo"), &[], 0, &[]);
        pack.cut();
        for _ in 0..=random.below(4) {
            let block = &mut pack.blocks[random.below(2) as usize].bytes;
            let at = random.below(block.len() as u64) as usize;
            block[at] = random.below(256) as u8;
        }
        println!("seed {seed}, round {round}");
        let report = if round % 2 == 0 {
            site.plain(pack.clone())
        } else {
            site.overwriting(pack.clone())
        };
        let _ = (report, pack.verify(placement));
    }
}
