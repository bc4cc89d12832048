//! Undamaged archives are restored as they were.

use std::collections::BTreeMap;
use std::fs;

use datapipe::tree::{RestoreOptions, RestoreOutcome};
use datapipe::wire::{ObjectKind, ObjectMeta, Time};

use super::pack::{Pack, WHEN, file, object};
use super::site::{Site, is_root, problems};
use super::walk::{Seen, inspect, walk};
use crate::placement::Placement;

in_both_placements! {
    every_object_kind_is_restored
    holes_are_restored_as_holes
    privileged_attributes_are_restored_for_root_only
    hard_link_to_device_that_is_not_restored_is_not_damaged
    extended_attributes_and_acls_are_restored
    paths_longer_than_path_max_are_restored
    existing_object_is_kept_or_replaced_whole
    repeated_hard_link_is_restored_once
    path_that_comes_twice_is_restored_once
    only_selected_paths_are_restored
    unprivileged_user_restores_what_it_may
}

const OLD: Time = Time {
    seconds: -86_400,
    nanoseconds: 999_999_999,
};

const LONG_TARGET: &[u8] = &[b'x'; 4000];

/// Makes one object of each kind, with unusual modes and times.
fn every_kind() -> Pack {
    let mut pack = Pack::default();
    let mut whole = |object: ObjectMeta<'_>, data: &[u8]| {
        let extents: &[(u64, &[u8])] = if data.is_empty() { &[] } else { &[(0, data)] };
        pack.whole(&object, &[], data.len() as u64, extents)
    };
    let directory = |path, mode| ObjectMeta {
        mode,
        ..object(ObjectKind::Directory, path)
    };
    let sticky = ObjectMeta {
        modified: OLD,
        ..directory("dir", 0o1775)
    };
    whole(sticky, b"");
    whole(directory("dir/shut", 0o500), b"");
    let linked = ObjectMeta {
        linked: true,
        ..file("dir/shut/first")
    };
    let first = whole(linked, b"abc");
    let empty = ObjectMeta {
        modified: OLD,
        mode: 0o777,
        ..file("empty")
    };
    whole(empty, b"");
    let long = ObjectMeta {
        linked: true,
        target: LONG_TARGET,
        ..object(ObjectKind::Symlink, "long")
    };
    let symlink = whole(long, b"");
    pack.cut();
    pack.symlink("dangling", "/nowhere/at/all");
    pack.link("second", first);
    pack.link("long2", symlink);
    let fifo = ObjectMeta {
        mode: 0o622,
        modified: OLD,
        ..object(ObjectKind::Fifo, "fifo")
    };
    pack.whole(&fifo, &[], 0, &[]);
    pack
}

/// Asserts that the destination has what [`every_kind`] describes.
fn check_every_kind(seen: &BTreeMap<String, Seen>) {
    let kinds: String = seen.values().map(|one| one.kind).collect();
    assert_eq!(
        seen.keys().map(String::as_str).collect::<Vec<_>>(),
        [
            "dangling",
            "dir",
            "dir/shut",
            "dir/shut/first",
            "empty",
            "fifo",
            "long",
            "long2",
            "second"
        ]
    );
    assert_eq!(kinds, "ldd--pll-");
    let old = (-86_400, 999_999_999);
    let when = (WHEN.seconds, 123_456_789);
    let mode_and_time = |path: &str| (seen[path].mode, seen[path].modified);
    assert_eq!(mode_and_time("dir"), (0o1775, old));
    assert_eq!(mode_and_time("dir/shut"), (0o500, when));
    assert_eq!(mode_and_time("empty"), (0o777, old));
    assert_eq!(seen["empty"].size, 0);
    assert_eq!(mode_and_time("fifo"), (0o622, old));
    let dangling = &seen["dangling"];
    assert_eq!(dangling.target, "/nowhere/at/all");
    assert_eq!(dangling.modified.0, WHEN.seconds);
    let long = &seen["long"];
    assert_eq!((long.target.as_bytes(), long.names), (LONG_TARGET, 2));
    assert_eq!(*long, seen["long2"]);
    let second = &seen["second"];
    assert_eq!(*second, seen["dir/shut/first"]);
    assert_eq!((second.names, second.mode), (2, 0o640));
    assert_eq!(second.data, b"abc");
}

fn every_object_kind_is_restored(placement: Placement) {
    let site = Site::new(placement);
    let report = site.plain(every_kind());
    assert!(report.is_whole(), "{}", problems(&report));
    // Once more, over all of it, into a directory without write permission.
    let again = site.overwriting(every_kind());
    assert!(again.is_whole(), "{}", problems(&again));
    let counts = |of: &RestoreOutcome| (of.files, of.directories, of.others, of.bytes);
    assert_eq!(counts(&report), (2, 2, 5, 3));
    check_every_kind(&walk(&site.dest()));
    let verified = every_kind().verify(placement);
    assert!(verified.is_whole(), "{}", problems(&verified));
    assert_eq!(counts(&verified), (2, 2, 5, 3));
}

fn holes_are_restored_as_holes(placement: Placement) {
    let site = Site::new(placement);
    let page = [7; 4096];
    let mut pack = Pack::default();
    pack.whole(
        &file("sparse"),
        &[],
        1 << 40,
        &[(1 << 30, &page), (1 << 39, &page)],
    );
    pack.whole(&file("tail"), &[], 10_000_000, &[]);
    let report = site.plain(pack);
    if problems(&report).contains("too large") {
        return; // A file system whose files do not become that long.
    }
    assert!(report.is_whole(), "{}", problems(&report));
    let seen = inspect(&site.dest().join("sparse"));
    assert_eq!((seen.size, seen.modified.0), (1 << 40, WHEN.seconds));
    assert!(seen.blocks * 512 <= 1 << 20, "{} blocks", seen.blocks);
    let seen = inspect(&site.dest().join("tail"));
    assert_eq!((seen.size, seen.blocks), (10_000_000, 0));
    assert_eq!(report.bytes, 8192);
}

fn privileged_attributes_are_restored_for_root_only(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    let owned = ObjectMeta {
        uid: 12_345,
        gid: 54_321,
        mode: 0o6755,
        ..file("setuid")
    };
    // A capability: version 2, effective, net_bind_service.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    pack.whole(
        &owned,
        &[("security.capability", &capability)],
        1,
        &[(0, b"x")],
    );
    pack.whole(
        &ObjectMeta {
            uid: 12_345,
            ..object(ObjectKind::Symlink, "link")
        },
        &[],
        0,
        &[],
    );
    let device = object(ObjectKind::CharacterDevice, "null");
    pack.whole(
        &ObjectMeta {
            device: (1, 3),
            mode: 0o666,
            ..device
        },
        &[],
        0,
        &[],
    );
    let report = site.plain(pack);
    let seen = walk(&site.dest());
    if is_root() {
        if problems(&report).contains("not supported")
            || problems(&report).contains("not permitted")
        {
            return; // A file system or a sandbox that has no capabilities or devices.
        }
        assert!(report.is_whole(), "{}", problems(&report));
        assert_eq!(
            (seen["setuid"].owner, seen["setuid"].mode),
            ((12_345, 54_321), 0o6755)
        );
        assert_eq!(seen["setuid"].attributes["security.capability"], capability);
        assert_eq!(seen["link"].owner.0, 12_345);
        assert_eq!(
            (seen["null"].kind, seen["null"].mode, report.notes.len()),
            ('c', 0o666, 0)
        );
    } else {
        assert_eq!(
            problems(&report),
            "\"null\": is a device, which only root may create\n"
        );
        assert_eq!((seen["setuid"].mode, seen.len()), (0o755, 2));
        assert_eq!(report.notes.len(), 3, "{:?}", report.notes);
    }
}

/// A plain user restores no devices. The further name of a device was reported as damaged, as if
/// its target had been lost, because the device counted as created.
fn hard_link_to_device_that_is_not_restored_is_not_damaged(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    let null = ObjectMeta {
        device: (1, 3),
        linked: true,
        ..object(ObjectKind::CharacterDevice, "null")
    };
    let link = pack.whole(&null, &[], 0, &[]);
    let again = ObjectMeta {
        link,
        ..object(ObjectKind::HardLink, "again")
    };
    pack.whole(&again, &[], 0, &[]);
    let report = site.plain(pack);
    assert_eq!(report.damaged_count, 0, "{}", problems(&report));
    if !is_root() {
        assert_eq!(
            problems(&report),
            "\"null\": is a device, which only root may create\n\
             \"again\": is a hard link to \"null\", which was not restored\n"
        );
        assert!(site.names().is_empty());
    }
}

/// Returns an access control list: user::rw- user:7:r-- group::r-- mask::rw- other::---
fn access_control_list() -> Vec<u8> {
    let entries = [
        (1, 6, u32::MAX),
        (2, 4, 7),
        (4, 4, u32::MAX),
        (16, 6, u32::MAX),
        (32, 0, u32::MAX),
    ];
    let mut list = vec![2, 0, 0, 0];
    for (tag, permissions, id) in entries {
        list.extend([tag, 0, permissions, 0]);
        list.extend(u32::to_le_bytes(id));
    }
    list
}

fn extended_attributes_and_acls_are_restored(placement: Placement) {
    let site = Site::new(placement);
    let list = access_control_list();
    let mut pack = Pack::default();
    let big = vec![b'v'; 2000];
    let attributes = [
        ("user.one", &b"1"[..]),
        ("user.big", &big),
        ("user.empty", b""),
    ];
    let acl = [("system.posix_acl_access", &list[..])];
    let with_mode = |mode, object| ObjectMeta { mode, ..object };
    let directory = with_mode(0o500, object(ObjectKind::Directory, "dir"));
    pack.whole(&directory, &attributes, 0, &[]);
    let read_only = with_mode(0o400, file("readonly"));
    pack.whole(&read_only, &attributes, 0, &[]);
    let written = with_mode(0o660, file("file"));
    pack.whole(&written, &attributes, 1, &[(0, b"x")]);
    pack.whole(&with_mode(0o660, file("list")), &acl, 0, &[]);
    let fifo = with_mode(0o660, object(ObjectKind::Fifo, "fifo"));
    pack.whole(&fifo, &acl, 0, &[]);
    let report = site.plain(pack);
    if problems(&report).contains("not supported") {
        return; // A file system without them.
    }
    assert!(report.is_whole(), "{}", problems(&report));
    let seen = walk(&site.dest());
    for name in ["dir", "file", "readonly"] {
        assert_eq!(seen[name].attributes.len(), 3);
        assert_eq!(
            (&seen[name].attributes["user.big"], seen[name].modified.0),
            (&big, WHEN.seconds)
        );
    }
    for name in ["list", "fifo"] {
        assert_eq!(
            (
                &seen[name].attributes["system.posix_acl_access"],
                seen[name].mode
            ),
            (&list, 0o660)
        );
    }
}

fn paths_longer_than_path_max_are_restored(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    let mut path = String::new();
    for depth in 0..60 {
        path += &format!("{}{depth:0100}", if depth == 0 { "" } else { "/" });
        pack.directory(&path);
    }
    assert!(path.len() > 4096);
    pack.file(&format!("{path}/file"), b"deep");
    pack.file("missing/parents/file", b"found");
    let report = site.plain(pack);
    assert!(report.is_whole(), "{}", problems(&report));
    assert_eq!(
        (report.files, report.directories, report.notes.len()),
        (2, 60, 1)
    );
    assert_eq!(inspect(&site.dest().join("missing/parents")).mode, 0o700);
    assert_eq!(
        fs::read(site.dest().join("missing/parents/file")).unwrap(),
        b"found"
    );
    let mut here = site.dest();
    for depth in 0..30 {
        here.push(format!("{depth:0100}"));
    }
    let seen = inspect(&here);
    assert_eq!(
        (seen.mode, seen.modified),
        (0o755, (WHEN.seconds, 123_456_789))
    );
}

/// Creates objects at the paths of [`new_objects`].
fn put_old_objects(site: &Site) {
    let dest = site.dest();
    fs::create_dir_all(dest.join("kept/inside")).unwrap();
    fs::create_dir_all(dest.join("dir")).unwrap();
    let _ = fs::remove_file(dest.join("link"));
    for path in ["file", "second", "flat", "link", "broken"] {
        fs::write(dest.join(path), "old").unwrap();
    }
}

/// Makes an archive with objects of other kinds and content at the same paths.
fn new_objects() -> Pack {
    let mut pack = Pack::default();
    pack.directory("dir");
    let linked = ObjectMeta {
        linked: true,
        ..file("file")
    };
    let first = pack.whole(&linked, &[], 3, &[(0, b"new")]);
    pack.symlink("link", "new");
    pack.link("second", first);
    pack.file("kept", b"new");
    pack.directory("flat");
    let broken = pack.begin(&file("broken"));
    pack.extent(broken, 0, b"new");
    pack.end(broken, 3, Some([1; 16]));
    pack
}

/// Asserts that all objects were replaced, except for a directory that is not empty and a file that
/// is damaged in the archive.
fn check_replaced(site: &Site) {
    let seen = walk(&site.dest());
    assert_eq!(
        seen.keys().map(String::as_str).collect::<Vec<_>>(),
        [
            "broken",
            "broken.damaged",
            "dir",
            "file",
            "flat",
            "kept",
            "kept/inside",
            "link",
            "second"
        ]
    );
    assert_eq!(seen["broken"].data, b"old");
    assert_eq!(seen["broken.damaged"].data, b"new");
    assert_eq!(seen["file"].data, b"new");
    assert_eq!(seen["file"].inode, seen["second"].inode);
    assert_eq!(seen["link"].target, "new");
    assert_eq!(seen["dir"].modified.0, WHEN.seconds);
}

fn existing_object_is_kept_or_replaced_whole(placement: Placement) {
    let site = Site::new(placement);
    put_old_objects(&site);
    let old = inspect(&site.dest().join("dir"));
    let report = site.plain(new_objects());
    let counts = |of: &RestoreOutcome| (of.problem_count, of.damaged_count);
    assert_eq!(counts(&report), (7, 0), "{}", problems(&report));
    assert_eq!(inspect(&site.dest().join("dir")).modified, old.modified);
    for path in ["file", "second", "flat", "link", "broken"] {
        assert_eq!(fs::read(site.dest().join(path)).unwrap(), b"old", "{path}");
    }
    put_old_objects(&site);
    let report = site.overwriting(new_objects());
    assert_eq!(counts(&report), (3, 1), "{}", problems(&report));
    check_replaced(&site);
    // Once more, over the restored objects: two of them are names of one file.
    fs::remove_file(site.dest().join("broken.damaged")).unwrap();
    site.overwriting(new_objects());
    check_replaced(&site);
}

fn repeated_hard_link_is_restored_once(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    let first = pack.whole(
        &ObjectMeta {
            linked: true,
            ..file("first")
        },
        &[],
        1,
        &[(0, b"x")],
    );
    pack.link("second", first);
    pack.link("second", first);
    let report = site.overwriting(pack);
    assert!(report.is_whole(), "{}", problems(&report));
    assert_eq!(site.names(), ["first", "second"]);
}

/// A directory listed a name twice when it was archived, or the destination takes two names for
/// one. With overwriting, the second object replaced the first.
fn path_that_comes_twice_is_restored_once(placement: Placement) {
    for overwrite in [false, true] {
        for sync in [false, true] {
            let site = Site::new(placement);
            let mut pack = Pack::default();
            pack.directory("dir");
            pack.directory("dir");
            pack.file("dir/file", b"first");
            pack.file("dir/file", b"second");
            pack.symlink("link", "first");
            pack.symlink("link", "second");
            pack.cut();
            pack.file("dir/file", b"third");
            pack.file("link", b"third");
            let options = RestoreOptions::default().overwrite(overwrite).sync(sync);
            let report = site.restore(pack, options);
            let text = problems(&report);
            assert_eq!(
                (report.problem_count, report.damaged_count),
                (5, 0),
                "{text}"
            );
            assert_eq!(
                text.matches("this restore has already made").count(),
                5,
                "{text}"
            );
            assert_eq!((report.files, report.directories, report.others), (1, 1, 1));
            let seen = walk(&site.dest());
            assert_eq!(seen.len(), 3, "{:?}", site.names());
            assert_eq!(seen["dir/file"].data, b"first");
            assert_eq!(seen["link"].target, "first");
        }
    }
}

fn only_selected_paths_are_restored(placement: Placement) {
    let site = Site::new(placement);
    let mut pack = Pack::default();
    for dir in ["a", "a/b", "a/bc", "d"] {
        pack.directory(dir);
        pack.file(&format!("{dir}/file"), b"x");
    }
    let first = pack.whole(
        &ObjectMeta {
            linked: true,
            ..file("first")
        },
        &[],
        0,
        &[],
    );
    pack.link("second", first);
    let paths = ["/a/b/", "d/file", "gone", "second"].map(|path| path.as_bytes().to_vec());
    let report = site.restore_paths(pack, RestoreOptions::default(), &paths);
    assert_eq!(site.names(), ["a", "a/b", "a/b/file", "d", "d/file"]);
    assert_eq!(inspect(&site.dest().join("a")).modified.0, WHEN.seconds);
    let text = problems(&report);
    assert_eq!(
        text.replace(
            "\"second\": is a hard link to \"first\", which was not restored\n",
            ""
        ),
        "\"gone\": not found in the archive\n"
    );
}

fn unprivileged_user_restores_what_it_may(placement: Placement) {
    // Root meets no obstacles. So this program runs itself as another user, if the system lets it.
    let (Ok(program), true) = (std::env::current_exe(), is_root()) else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let copy = temp.path().join("test");
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(
        temp.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let mut run = std::process::Command::new(&copy);
    let suite = |name: &str| format!("restore::{name}::{}", placement.module());
    run.args([suite("whole"), suite("damage")])
        .arg("--test-threads=1")
        .current_dir("/");
    std::os::unix::process::CommandExt::uid(&mut run, 65_534);
    std::os::unix::process::CommandExt::gid(&mut run, 65_534);
    let Ok(output) = run.output() else { return };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
