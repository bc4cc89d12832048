//! What is whole comes back as it was.

use std::fs;

use datapipe::tree::RestoreOptions;
use datapipe::wire::{Object, ObjectKind, Time};

use super::pack::{Pack, WHEN, file, object};
use super::walk::{look, walk};
use super::{Site, is_root, problems};

const OLD: Time = Time {
    seconds: -86_400,
    nanoseconds: 999_999_999,
};

#[test]
fn every_object_kind_is_restored() {
    let site = Site::new();
    let mut pack = Pack::default();
    pack.whole(
        &Object {
            mode: 0o1775,
            modified: OLD,
            ..object(ObjectKind::Directory, "dir")
        },
        &[],
        0,
        &[],
    );
    pack.whole(
        &Object {
            mode: 0o500,
            ..object(ObjectKind::Directory, "dir/shut")
        },
        &[],
        0,
        &[],
    );
    let first = pack.whole(
        &Object {
            linked: true,
            ..file("dir/shut/first")
        },
        &[],
        3,
        &[(0, b"abc")],
    );
    pack.whole(
        &Object {
            modified: OLD,
            mode: 0o777,
            ..file("empty")
        },
        &[],
        0,
        &[],
    );
    let long = "x/".repeat(2000);
    let linked = Object {
        linked: true,
        target: long.as_bytes(),
        ..object(ObjectKind::Symlink, "long")
    };
    let symlink = pack.whole(&linked, &[], 0, &[]);
    pack.cut();
    pack.symlink("dangling", "/nowhere/at/all");
    pack.link("second", first);
    pack.link("long2", symlink);
    pack.whole(
        &Object {
            mode: 0o622,
            modified: OLD,
            ..object(ObjectKind::Fifo, "fifo")
        },
        &[],
        0,
        &[],
    );
    let report = site.plain(pack.clone());
    assert!(report.is_whole(), "{}", problems(&report));
    // Once more, over all of it: into a directory that nobody may write to.
    let again = site.overwriting(pack.clone());
    assert!(again.is_whole(), "{}", problems(&again));
    assert_eq!(
        (
            report.files(),
            report.directories(),
            report.others(),
            report.bytes()
        ),
        (2, 2, 5, 3)
    );
    let seen = walk(&site.dest());
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
    assert_eq!((seen["dir"].mode, seen["dir"].modified), (0o1775, old));
    assert_eq!(
        (seen["dir/shut"].mode, seen["dir/shut"].modified),
        (0o500, (WHEN.seconds, 123_456_789))
    );
    assert_eq!(
        (
            seen["empty"].mode,
            seen["empty"].modified,
            seen["empty"].size
        ),
        (0o777, old, 0)
    );
    assert_eq!((seen["fifo"].mode, seen["fifo"].modified), (0o622, old));
    assert_eq!(
        (
            seen["dangling"].target.as_str(),
            seen["dangling"].modified.0
        ),
        ("/nowhere/at/all", WHEN.seconds)
    );
    assert_eq!(
        (seen["long"].target.as_str(), seen["long"].names),
        (long.as_str(), 2)
    );
    assert_eq!(seen["long"], seen["long2"]);
    assert_eq!(seen["second"], seen["dir/shut/first"]);
    assert_eq!(
        (
            seen["second"].names,
            &seen["second"].data[..],
            seen["second"].mode
        ),
        (2, &b"abc"[..], 0o640)
    );
    let verified = pack.verify();
    assert!(verified.is_whole(), "{}", problems(&verified));
    assert_eq!(
        (
            verified.files(),
            verified.directories(),
            verified.others(),
            verified.bytes()
        ),
        (2, 2, 5, 3)
    );
}

#[test]
fn holes_are_restored_as_holes() {
    let site = Site::new();
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
    let seen = look(&site.dest().join("sparse"));
    assert_eq!((seen.size, seen.modified.0), (1 << 40, WHEN.seconds));
    assert!(seen.blocks * 512 <= 1 << 20, "{} blocks", seen.blocks);
    let seen = look(&site.dest().join("tail"));
    assert_eq!((seen.size, seen.blocks), (10_000_000, 0));
    assert_eq!(report.bytes(), 8192);
}

#[test]
fn privileged_attributes_are_restored_for_root_only() {
    let site = Site::new();
    let mut pack = Pack::default();
    let owned = Object {
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
        &Object {
            uid: 12_345,
            ..object(ObjectKind::Symlink, "link")
        },
        &[],
        0,
        &[],
    );
    let device = object(ObjectKind::CharacterDevice, "null");
    pack.whole(
        &Object {
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
            (seen["null"].kind, seen["null"].mode, report.notes().len()),
            ('c', 0o666, 0)
        );
    } else {
        assert!(report.is_whole(), "{}", problems(&report));
        assert_eq!((seen["setuid"].mode, seen.len()), (0o755, 2));
        assert_eq!(report.notes().len(), 4, "{:?}", report.notes());
    }
}

#[test]
fn extended_attributes_and_acls_are_restored() {
    let site = Site::new();
    // user::rw- user:7:r-- group::r-- mask::rw- other::---
    let list: Vec<u8> = [2, 0, 0, 0]
        .into_iter()
        .chain(
            [
                (1, 6, u32::MAX),
                (2, 4, 7),
                (4, 4, u32::MAX),
                (16, 6, u32::MAX),
                (32, 0, u32::MAX),
            ]
            .into_iter()
            .flat_map(|(tag, perm, id): (u8, u8, u32)| {
                [&[tag, 0, perm, 0][..], &id.to_le_bytes()].concat()
            }),
        )
        .collect();
    let mut pack = Pack::default();
    let big = vec![b'v'; 2000];
    let attributes = [
        ("user.one", &b"1"[..]),
        ("user.big", &big),
        ("user.empty", b""),
    ];
    pack.whole(
        &Object {
            mode: 0o500,
            ..object(ObjectKind::Directory, "dir")
        },
        &attributes,
        0,
        &[],
    );
    pack.whole(
        &Object {
            mode: 0o400,
            ..file("readonly")
        },
        &attributes,
        0,
        &[],
    );
    pack.whole(
        &Object {
            mode: 0o660,
            ..file("file")
        },
        &attributes,
        1,
        &[(0, b"x")],
    );
    pack.whole(
        &Object {
            mode: 0o660,
            ..file("list")
        },
        &[("system.posix_acl_access", &list)],
        0,
        &[],
    );
    pack.whole(
        &Object {
            mode: 0o660,
            ..object(ObjectKind::Fifo, "fifo")
        },
        &[("system.posix_acl_access", &list)],
        0,
        &[],
    );
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

#[test]
fn paths_longer_than_path_max_are_restored() {
    let site = Site::new();
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
        (report.files(), report.directories(), report.notes().len()),
        (2, 60, 1)
    );
    assert_eq!(look(&site.dest().join("missing/parents")).mode, 0o700);
    assert_eq!(
        fs::read(site.dest().join("missing/parents/file")).unwrap(),
        b"found"
    );
    let mut here = site.dest();
    for depth in 0..30 {
        here.push(format!("{depth:0100}"));
    }
    let seen = look(&here);
    assert_eq!(
        (seen.mode, seen.modified),
        (0o755, (WHEN.seconds, 123_456_789))
    );
}

#[test]
fn existing_object_is_kept_or_replaced_whole() {
    let site = Site::new();
    let put = || {
        fs::create_dir_all(site.dest().join("kept/inside")).unwrap();
        fs::create_dir_all(site.dest().join("dir")).unwrap();
        let _ = fs::remove_file(site.dest().join("link"));
        for (path, data) in [
            ("file", "old"),
            ("second", "old"),
            ("flat", "old"),
            ("link", "old"),
            ("broken", "old"),
        ] {
            fs::write(site.dest().join(path), data).unwrap();
        }
    };
    let mut pack = Pack::default();
    pack.directory("dir");
    let first = pack.whole(
        &Object {
            linked: true,
            ..file("file")
        },
        &[],
        3,
        &[(0, b"new")],
    );
    pack.symlink("link", "new");
    pack.link("second", first);
    pack.file("kept", b"new");
    pack.directory("flat");
    let broken = pack.begin(&file("broken"));
    pack.extent(broken, 0, b"new");
    pack.end(broken, 3, Some([1; 16]));
    put();
    let old = look(&site.dest().join("dir"));
    let report = site.plain(pack.clone());
    assert_eq!(
        (report.problem_count(), report.damaged_count()),
        (6, 0),
        "{}",
        problems(&report)
    );
    assert_eq!(look(&site.dest().join("dir")).modified, old.modified);
    for path in ["file", "second", "flat", "link", "broken"] {
        assert_eq!(fs::read(site.dest().join(path)).unwrap(), b"old", "{path}");
    }
    put();
    let report = site.overwriting(pack.clone());
    assert_eq!(
        (report.problem_count(), report.damaged_count()),
        (3, 1),
        "{}",
        problems(&report)
    );
    let check = || {
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
        assert_eq!(
            (&seen["broken"].data[..], &seen["broken.damaged"].data[..]),
            (&b"old"[..], &b"new"[..])
        );
        assert_eq!(
            (&seen["file"].data[..], seen["file"].inode),
            (&b"new"[..], seen["second"].inode)
        );
        assert_eq!(
            (seen["link"].target.as_str(), seen["dir"].modified.0),
            ("new", WHEN.seconds)
        );
    };
    check();
    // Once more, over what is there: two names of one object among it.
    fs::remove_file(site.dest().join("broken.damaged")).unwrap();
    site.overwriting(pack);
    check();
}

#[test]
fn repeated_hard_link_is_restored_once() {
    let site = Site::new();
    let mut pack = Pack::default();
    let first = pack.whole(
        &Object {
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

#[test]
fn only_selected_paths_are_restored() {
    let site = Site::new();
    let mut pack = Pack::default();
    for dir in ["a", "a/b", "a/bc", "d"] {
        pack.directory(dir);
        pack.file(&format!("{dir}/file"), b"x");
    }
    let first = pack.whole(
        &Object {
            linked: true,
            ..file("first")
        },
        &[],
        0,
        &[],
    );
    pack.link("second", first);
    let paths = ["/a/b/", "d/file", "gone", "second"]
        .map(|path| path.as_bytes().to_vec())
        .to_vec();
    let report = site.restore(
        pack,
        RestoreOptions {
            paths,
            ..RestoreOptions::default()
        },
    );
    assert_eq!(site.names(), ["a", "a/b", "a/b/file", "d", "d/file"]);
    assert_eq!(look(&site.dest().join("a")).modified.0, WHEN.seconds);
    let text = problems(&report);
    assert_eq!(
        text.replace(
            "\"second\": is another name of \"first\", which was not restored\n",
            ""
        ),
        "\"gone\": nothing of this path is in the archive\n"
    );
}

#[test]
fn unprivileged_user_restores_what_it_may() {
    // Root has no obstacles, so these are met by another user, if there is a program that makes us
    // one.
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
    run.args(["whole::", "damage::", "--test-threads=1"])
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
