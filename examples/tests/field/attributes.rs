//! Attributes and access lists that cannot be kept, and those that a destination adds.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use crate::fixture::{Fixture, failed, ok};
use crate::shell::in_namespace;

fn set(path: &Path, name: &str, value: &[u8]) -> bool {
    let result = rustix::fs::lsetxattr(path, name, value, XattrFlags::empty());
    if let Err(error) = result {
        eprintln!("not tried: {name} cannot be set here: {error}");
    }
    result.is_ok()
}

fn names(path: &Path) -> Vec<String> {
    let mut buf = [0; 4096];
    let len = rustix::fs::llistxattr(path, &mut buf[..]).unwrap();
    let names = buf[..len].split(|&byte| byte == 0);
    let names = names.map(|name| String::from_utf8_lossy(name).into_owned());
    // A security module gives its own.
    names
        .filter(|name| !name.is_empty() && name != "security.selinux")
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("not tried: only root can do this");
    }
    is_root
}

/// An access control list: for each entry tag, permissions and id.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

const NO_ID: u32 = u32::MAX;

/// A list that gives user 1234 everything, the group `group`, and others nothing.
fn list_for_1234(group: u16) -> Vec<u8> {
    list(&[
        (1, 7, NO_ID),
        (2, 7, 1234),
        (4, group, NO_ID),
        (16, 7, NO_ID),
        (32, 0, NO_ID),
    ])
}

/// A note of 3,000 bytes at a file does not fit into a block of 2 KiB. It was left out, and before
/// that the whole file was.
#[test]
fn attribute_larger_than_a_block_comes_back() {
    let fixture = Fixture::new();
    for name in ["file", "directory/below"] {
        fs::create_dir_all(fixture.path("src/data/directory")).unwrap();
        fs::write(fixture.path("src/data").join(name), "precious").unwrap();
    }
    fs::set_permissions(fixture.path("src/data/file"), Permissions::from_mode(0o640)).unwrap();
    let note: Vec<u8> = (0..3000u32).map(|n| (n / 7 % 251) as u8).collect();
    for name in ["file", "directory"] {
        let path = fixture.path("src/data").join(name);
        if !set(&path, "user.note", &note) || !set(&path, "user.small", b"s") {
            return;
        }
    }
    for size in ["2KiB", "512", "4KiB"] {
        let args = [
            "--quiet",
            "--overwrite",
            "--buffer-size",
            size,
            "src/data",
            "tape",
        ];
        ok(&fixture.back_up(&args));
        ok(&fixture.restore(&["--quiet", "--verify", "tape"]));
        ok(&fixture.restore(&["--quiet", "tape", "out"]));
        let restored = |name: &str| fixture.path("out/data").join(name);
        assert_eq!(fs::read(restored("file")).unwrap(), b"precious");
        assert_eq!(fs::read(restored("directory/below")).unwrap(), b"precious");
        assert_eq!(mode(&restored("file")), 0o640);
        for name in ["file", "directory"] {
            let mut names = names(&restored(name));
            names.sort();
            assert_eq!(names, ["user.note", "user.small"]);
            let mut value = [0; 4096];
            let len = rustix::fs::lgetxattr(restored(name), "user.note", &mut value[..]).unwrap();
            assert_eq!(value[..len], note, "{size}");
        }
        fixture.clear("out");
    }
}

/// The destination has a default access control list. Restored files that were private could be
/// read by its users.
#[test]
fn default_list_of_the_destination_gives_nothing_to_restored_objects() {
    let fixture = Fixture::new();
    let source = fixture.path("src/data");
    fs::create_dir_all(source.join("deep/private")).unwrap();
    for (name, bits) in [("file", 0o600), ("deep/shared", 0o664)] {
        fs::write(source.join(name), "secret").unwrap();
        fs::set_permissions(source.join(name), Permissions::from_mode(bits)).unwrap();
    }
    fs::set_permissions(source.join("deep/private"), Permissions::from_mode(0o750)).unwrap();
    rustix::fs::mkfifoat(CWD, source.join("fifo"), Mode::from_raw_mode(0o660)).unwrap();
    let bits = mode(&source.join("fifo"));
    ok(&fixture.back_up(&["src/data", "tape"]));
    if !set(
        &fixture.path("out"),
        "system.posix_acl_default",
        &list_for_1234(5),
    ) {
        return;
    }
    ok(&fixture.restore(&["tape", "out"]));
    for (name, bits) in [
        ("", mode(&source)),
        ("file", 0o600),
        ("deep", mode(&source.join("deep"))),
        ("deep/shared", 0o664),
        ("deep/private", 0o750),
        ("fifo", bits),
    ] {
        let path = fixture.path("out/data").join(name);
        assert_eq!((names(&path), mode(&path)), (Vec::new(), bits), "{name}");
    }
    // Parents that are made for a file that is restored alone have none either.
    fs::remove_dir_all(fixture.path("out/data")).unwrap();
    ok(&fixture.restore(&["--path", "data/deep/shared", "tape", "out"]));
    for name in ["", "deep", "deep/shared"] {
        let path = fixture.path("out/data").join(name);
        assert!(names(&path).is_empty(), "{name}: {:?}", names(&path));
        assert_eq!(mode(&path), mode(&source.join(name)), "{name}");
    }
}

/// A restore looks only once at what a directory gives to new files. Files of several owners and
/// rights are restored to a directory that gives a group, and one that gives a list.
#[test]
fn each_file_of_a_directory_gets_its_own_owner_and_no_list() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let source = fixture.path("src/data");
    fs::create_dir_all(&source).unwrap();
    let files = (0..60_u32).map(|number| {
        let ids = [(0, 0), (1234, 0), (0, 4242), (1234, 4242)][number as usize % 4];
        let bits = [0o644, 0o4755, 0o2755, 0o600, 0o6711][number as usize % 5];
        (format!("file{number:02}"), ids, bits)
    });
    let files: Vec<_> = files.collect();
    for (name, (uid, gid), bits) in &files {
        fs::write(source.join(name), name).unwrap();
        chown(source.join(name), Some(*uid), Some(*gid)).unwrap();
        fs::set_permissions(source.join(name), Permissions::from_mode(*bits)).unwrap();
    }
    ok(&fixture.back_up(&["src/data", "tape"]));
    for has_list in [false, true] {
        for gives_group in [false, true] {
            let to = format!("to-{has_list}-{gives_group}");
            let (out, bits) = (fixture.path(&to), [0o755, 0o2755][usize::from(gives_group)]);
            fs::create_dir(&out).unwrap();
            chown(&out, None, gives_group.then_some(4242)).unwrap();
            fs::set_permissions(&out, Permissions::from_mode(bits)).unwrap();
            if has_list && !set(&out, "system.posix_acl_default", &list_for_1234(5)) {
                continue;
            }
            ok(&fixture.restore(&["tape", &to]));
            for (name, ids, bits) in &files {
                let path = out.join("data").join(name);
                let found = fs::symlink_metadata(&path).unwrap();
                assert_eq!((found.uid(), found.gid()), *ids, "{to} {name}");
                assert_eq!(
                    (names(&path), mode(&path)),
                    (Vec::new(), *bits),
                    "{to} {name}"
                );
            }
        }
    }
}

/// A user restores over what is there. Lists and attributes of the old objects stayed.
#[test]
fn overwritten_objects_lose_their_old_attributes() {
    let fixture = Fixture::new();
    for root in ["src", "out"] {
        fs::create_dir_all(fixture.path(root).join("data/directory")).unwrap();
        File::create(fixture.path(root).join("data/file")).unwrap();
    }
    if !set(&fixture.path("src/data/directory"), "user.kept", b"new") {
        return;
    }
    for name in ["directory", "file"] {
        let path = fixture.path("out/data").join(name);
        let all = set(&path, "user.kept", b"old")
            && set(&path, "user.old", b"old")
            && set(&path, "system.posix_acl_access", &list_for_1234(5))
            && (name == "file" || set(&path, "system.posix_acl_default", &list_for_1234(5)));
        if !all {
            return;
        }
    }
    ok(&fixture.back_up(&["src/data", "tape"]));
    ok(&fixture.restore(&["--overwrite", "tape", "out"]));
    let directory = fixture.path("out/data/directory");
    assert_eq!(names(&directory), ["user.kept"]);
    let mut value = [0; 16];
    let len = rustix::fs::getxattr(&directory, "user.kept", &mut value[..]).unwrap();
    assert_eq!(&value[..len], b"new");
    assert_eq!(mode(&directory), mode(&fixture.path("src/data/directory")));
    assert!(names(&fixture.path("out/data/file")).is_empty());
}

/// The destination has no attributes: each is named, and everything else comes back. The mode of a
/// file with an access control list says what the list gives to all together, and gave it to the
/// group.
#[test]
fn file_system_without_attributes_costs_only_them() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let file = fixture.path("src/data/file");
    fs::write(&file, "precious").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    symlink("nowhere", fixture.path("src/data/link")).unwrap();
    if !set(&file, "user.note", b"n")
        || !set(&file, "system.posix_acl_access", &list_for_1234(4))
        || !set(&fixture.path("src/data/link"), "trusted.note", b"n")
    {
        return;
    }
    ok(&fixture.back_up(&["src/data", "tape"]));
    let script = "$R --quiet tape out; r=$?; \
                  cat out/data/file; stat -c %a out/data/file; readlink out/data/link; exit $r";
    let Some(output) = in_namespace(&fixture, "mount -t ramfs none out", script) else {
        return;
    };
    let text = failed(&output, 3);
    for wanted in [
        "data/file: cannot set attribute user.note: ",
        "data/file: cannot set attribute system.posix_acl_access: ",
        "data/link: cannot set attribute trusted.note: ",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(shown, "precious740\nnowhere\n");
}

/// In a rescue system or a container /proc is not mounted. Links, fifos and devices were missing.
#[test]
fn tree_is_archived_and_restored_without_proc() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    let source = fixture.path("src/data");
    fs::write(source.join("file"), "x").unwrap();
    symlink("nowhere", source.join("link")).unwrap();
    for (name, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        (
            "device",
            FileType::CharacterDevice,
            rustix::fs::makedev(1, 3),
        ),
    ] {
        let path = source.join(name);
        rustix::fs::mknodat(CWD, &path, kind, Mode::RUSR, device).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
    }
    let with_attributes = set(&source.join("link"), "trusted.note", b"n")
        && set(&source.join("fifo"), "trusted.note", b"n");
    let script = "$D --quiet src/data tape && $R --quiet tape out";
    let Some(output) = in_namespace(&fixture, "mount -t tmpfs none /proc", script) else {
        return;
    };
    let has_calls = !String::from_utf8_lossy(&output.stderr).contains("/proc is not mounted");
    match with_attributes && has_calls {
        true => drop(ok(&output)),
        false => eprintln!("attributes not tried: this kernel needs /proc for them"),
    }
    let restored = fixture.path("out/data");
    assert_eq!(
        fixture.names("out/data"),
        ["device", "fifo", "file", "link"]
    );
    for name in ["device", "fifo"] {
        assert_eq!(mode(&restored.join(name)), 0o604, "{name}");
    }
    let kind = |name| {
        fs::symlink_metadata(restored.join(name))
            .unwrap()
            .file_type()
    };
    assert!(kind("fifo").is_fifo() && kind("device").is_char_device());
    if with_attributes && has_calls {
        for name in ["link", "fifo"] {
            assert_eq!(names(&restored.join(name)), ["trusted.note"], "{name}");
        }
    }
}
