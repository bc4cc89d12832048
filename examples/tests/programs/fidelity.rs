//! Everything that a tree can hold is restored: each kind of object by itself, at its limits.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, noise, ok};
use crate::walk::{is_root, walk};

impl Fixture {
    /// Backs up `src/data` and restores it unchanged, without a message.
    fn round_trip(&self, how: &[&str]) {
        let backup = self.back_up(&[how, &["--quiet", "--overwrite", "src/data", "tape"]].concat());
        ok(&backup);
        let restore = self.restore(&["--quiet", "tape", "out"]);
        ok(&restore);
        for errors in [backup.stderr, restore.stderr] {
            assert!(
                errors.is_empty() || !is_root(),
                "{}",
                String::from_utf8_lossy(&errors)
            );
        }
        self.assert_same();
        ok(&self.restore(&["--quiet", "--verify", "tape"]));
    }
}

fn special(path: &Path, kind: FileType, device: u64) {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device).unwrap();
}

#[test]
fn names_of_any_bytes_are_restored() {
    let fixture = Fixture::new();
    let data = fixture.path("src/data");
    let bytes = (1..=255u8).filter(|&byte| byte != b'/');
    let mut names: Vec<Vec<u8>> = bytes
        .clone()
        .filter(|&byte| byte != b'.')
        .map(|byte| vec![byte])
        .collect();
    names.extend(bytes.clone().map(|byte| vec![byte, byte, b'x', byte]));
    names.extend(bytes.clone().map(|byte| vec![byte; 255]));
    names.push(bytes.collect());
    names.extend(
        [
            &b"..."[..],
            b". ",
            b"-rf",
            b"x.damaged",
            b"\\x41",
            b"\xed\xa0\x80",
        ]
        .map(<[u8]>::to_vec),
    );
    for (n, name) in names.iter().enumerate() {
        let path = data.join(OsStr::from_bytes(name));
        match n % 4 {
            0 => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join(OsStr::from_bytes(name)), name).unwrap();
            }
            1 => symlink(OsStr::from_bytes(name), &path).unwrap(),
            _ => fs::write(&path, name).unwrap(),
        }
    }
    fixture.round_trip(&["--buffer-size", "8192"]);
    // Each of them can be restored by its path.
    for name in names.iter().step_by(17) {
        let path = OsString::from_vec([b"data/", &name[..]].concat());
        let mut one = fixture.command(TAPE_TO_DISK, &["--quiet", "--overwrite"]);
        ok(&one
            .arg("--path")
            .arg(&path)
            .args(["tape", "one"])
            .output()
            .unwrap());
        let restored: Vec<_> = fs::read_dir(fixture.path("one/data")).unwrap().collect();
        assert_eq!(restored.len(), 1);
        assert_eq!(
            restored[0].as_ref().unwrap().file_name().as_bytes(),
            &name[..]
        );
        fs::remove_dir_all(fixture.path("one")).unwrap();
    }
}

#[test]
fn times_of_any_age_are_restored() {
    let fixture = Fixture::new();
    let times = [
        (-2_147_483_648, 0),
        (-2_000_000_000, 999_999_999),
        (-1, 1),
        (-1, 999_999_999),
        (0, 0),
        (0, 1),
        (951_782_399, 500_000_000),
        (2_147_483_648, 7),
        (4_294_967_296, 123_456_789),
        (15_000_000_000, 999_999_999),
    ];
    for (n, (seconds, nanoseconds)) in times.into_iter().enumerate() {
        for kind in ["file", "dir", "link", "fifo"] {
            let path = fixture.path(&format!("src/data/{kind}{n}"));
            match kind {
                "file" => fs::write(&path, kind).unwrap(),
                "dir" => {
                    fs::create_dir(&path).unwrap();
                    fs::write(path.join("below"), kind).unwrap();
                }
                "link" => symlink(kind, &path).unwrap(),
                _ => special(&path, FileType::Fifo, 0),
            }
            let time = Timespec {
                tv_sec: seconds,
                tv_nsec: nanoseconds,
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
    }
    fixture.round_trip(&[]);
}

#[test]
fn modes_and_owners_are_restored() {
    let fixture = Fixture::new();
    for mode in (0..0o10_000).step_by(37) {
        // An unprivileged user must be able to read the objects. Only root can change their owners.
        let mode = if is_root() {
            mode
        } else {
            mode & 0o777 | 0o700
        };
        let file = fixture.path(&format!("src/data/file{mode:04o}"));
        fs::write(&file, b"#!").unwrap();
        let dir = fixture.path(&format!("src/data/dir{mode:04o}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("below"), b"kept").unwrap();
        for path in [file, dir] {
            if is_root() {
                lchown(&path, Some(mode + 1), Some(u32::MAX - 1 - mode)).unwrap();
            }
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
    }
    fixture.round_trip(&[]);
}

/// Sets an attribute. Reports an attribute that the file system does not support.
fn set_attribute(path: &Path, name: &str, value: &[u8]) -> bool {
    let set = rustix::fs::lsetxattr(path, name, value, XattrFlags::empty());
    if let Err(error) = set {
        eprintln!("skipped: {name}: {error}");
    }
    set.is_ok()
}

/// Encodes an access control list for the system. An entry has a tag, permissions and a user or
/// group.
fn access_list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

#[test]
fn attributes_of_all_kinds_are_restored() {
    const UNDEFINED_ID: u32 = u32::MAX;
    let fixture = Fixture::new();
    let at = |name: &str| fixture.path("src/data").join(name);
    for dir in ["dir", "shared"] {
        fs::create_dir(at(dir)).unwrap();
    }
    for file in ["file", "dir/tool", "shared/file", "empty", "locked"] {
        fs::write(at(file), file).unwrap();
    }
    symlink("nowhere", at("link")).unwrap();
    symlink("x".repeat(4000), at("long link")).unwrap();
    special(&at("fifo"), FileType::Fifo, 0);
    let mut set = 0;
    let mut give = |path: &str, name: &str, value: &[u8]| {
        set += u32::from(set_attribute(&at(path), name, value));
    };
    for path in ["file", "dir", "empty", "locked", "."] {
        give(path, "user.empty", b"");
        give(path, "user.bytes", b"\0\xff=\n\0");
        give(path, "user.large", &noise(1500));
    }
    give(
        "dir/tool",
        &format!("user.{}", "n".repeat(250)),
        b"the longest name",
    );
    for number in 0..30 {
        give("shared", &format!("user.number {number}"), &[number; 20]);
    }
    // Permissions 7 for the owner and the user 1000, 6 for the group 1001, with a mask of 5.
    let list = access_list(&[
        (1, 7, UNDEFINED_ID),
        (2, 7, 1000),
        (4, 4, UNDEFINED_ID),
        (8, 6, 1001),
        (16, 5, UNDEFINED_ID),
        (32, 0, UNDEFINED_ID),
    ]);
    give("shared", "system.posix_acl_access", &list);
    give("shared", "system.posix_acl_default", &list);
    give("shared/file", "system.posix_acl_access", &list);
    give("fifo", "system.posix_acl_access", &list);
    if is_root() {
        for path in ["dir", "file", "link", "long link", "fifo", "."] {
            give(path, "trusted.overlay", b"y\0");
        }
        // A change of the owner removes capabilities, so a restore must set them after the owner.
        lchown(at("dir/tool"), Some(1234), Some(4321)).unwrap();
        fs::set_permissions(at("dir/tool"), Permissions::from_mode(0o4755)).unwrap();
        let capability = [
            &0x0200_0001u32.to_le_bytes()[..],
            &0x2400u32.to_le_bytes(),
            &[0; 12],
        ]
        .concat();
        give("dir/tool", "security.capability", &capability);
        give(
            "empty",
            "security.datapipe",
            b"of a module that is not there",
        );
    }
    println!("{set} attributes are set");
    fs::set_permissions(at("locked"), Permissions::from_mode(0o444)).unwrap();
    fixture.round_trip(&[]);
}

#[test]
fn links_are_restored_as_links() {
    let fixture = Fixture::new();
    let data = fixture.path("src/data");
    for dir in ["a", "m", "z"] {
        fs::create_dir(data.join(dir)).unwrap();
    }
    let link = |from: &Path, to: &str| {
        rustix::fs::linkat(CWD, from, CWD, data.join(to), AtFlags::empty()).unwrap();
    };
    for n in 0..100 {
        let first = data.join(format!("{}/file{n}", ["a", "m", "z"][n % 3]));
        fs::write(&first, noise(n * 10)).unwrap();
        link(&first, &format!("m/other{n}"));
        link(&first, &format!("other{n}"));
    }
    let often = data.join("m/often");
    fs::write(&often, b"one content").unwrap();
    (0..300).for_each(|n| link(&often, &format!("{}/often{n}", ["a", "m", "z"][n % 3])));
    symlink("nowhere", data.join("m/link")).unwrap();
    special(&data.join("m/fifo"), FileType::Fifo, 0);
    let mut kinds = vec!["link", "fifo"];
    if is_root() {
        set_attribute(&data.join("m/link"), "trusted.x", b"y");
        for (name, kind, device) in [
            ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
            (
                "large",
                FileType::CharacterDevice,
                rustix::fs::makedev(4095, 1_048_575),
            ),
            (
                "block",
                FileType::BlockDevice,
                rustix::fs::makedev(259, 300),
            ),
        ] {
            special(&data.join("m").join(name), kind, device);
            kinds.push(name);
        }
    }
    for kind in kinds {
        link(&data.join("m").join(kind), &format!("a/{kind}"));
        link(&data.join("m").join(kind), &format!("z/{kind}"));
    }
    fixture.round_trip(&["--buffer-size", "8192"]);
    let (one, other) = (
        fixture.path("out/data/a/link"),
        fixture.path("out/data/z/link"),
    );
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    assert_eq!(inode(&one), inode(&other));
}

/// Makes a file of `size` bytes with data at the given offsets only.
fn sparse(path: &Path, size: u64, extents: &[(u64, usize)]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for &(at, len) in extents {
        file.write_all_at(&noise(len), at).unwrap();
    }
    file.sync_all().unwrap();
}

#[test]
fn holes_take_no_space() {
    const TIB: u64 = 1 << 40;
    const GIB: u64 = 1 << 30;
    let fixture = Fixture::new();
    let data = fixture.path("src/data");
    sparse(
        &data.join("two pages"),
        TIB,
        &[(123 << 12, 4096), (TIB - 8192, 4096)],
    );
    sparse(&data.join("only a hole"), TIB - 1, &[]);
    sparse(&data.join("begins late"), 1_000_000, &[(999_999, 1)]);
    sparse(&data.join("ends early"), 5 * GIB, &[(0, 5000)]);
    // Data across the limit of 32 bits, and at the end of the file.
    let far = [(0, 10), (4 * GIB - 5000, 10_000), (5 * GIB - 7, 7)];
    sparse(&data.join("five"), 5 * GIB, &far);
    fixture.round_trip(&["--compress", "none", "--buffer-size", "64K"]);
    let tape = fs::metadata(fixture.path("tape")).unwrap().len();
    assert!(tape < 128 << 10, "{tape} bytes of archive");
    for name in fixture.names("out/data") {
        let blocks = fs::metadata(fixture.path("out/data").join(&name))
            .unwrap()
            .blocks();
        assert!(blocks * 512 <= 64 << 10, "{name:?} takes {blocks} blocks");
    }
    let list = ok(&fixture.restore(&["--list", "tape"]));
    assert!(
        list.contains(" 1099511627776 ") && list.contains(" 5368709120 "),
        "{list}"
    );
}

/// Data without a hole, with a length beyond 32 bits.
#[test]
#[ignore = "takes 15 GiB of disk and minutes"]
fn file_of_five_gibibytes_is_restored() {
    let fixture = Fixture::new();
    let file = File::create(fixture.path("src/data/five")).unwrap();
    let piece = noise(1 << 20);
    for n in 0..5u64 << 10 {
        let mut piece = piece.clone();
        piece[..8].copy_from_slice(&n.to_le_bytes());
        file.write_all_at(&piece, n << 20).unwrap();
    }
    fixture.round_trip(&[]);
}

fn many_entries(count: u32) {
    let fixture = Fixture::new();
    for n in 0..count {
        let path = fixture.path(&format!("src/data/entry {n}"));
        match n % 10 {
            0 => symlink("nowhere", path).unwrap(),
            1 => fs::create_dir(path).unwrap(),
            2..5 => fs::write(path, n.to_string()).unwrap(),
            _ => drop(File::create(path).unwrap()),
        }
    }
    fixture.round_trip(&[]);
    let list = ok(&fixture.restore(&[
        "--list",
        "--path",
        "data/entry 4321",
        "--path",
        "data/entry 0",
        "tape",
    ]));
    assert_eq!(list.lines().count(), 2);
}

#[test]
fn directory_of_many_entries_is_restored() {
    many_entries(5_000);
}

#[test]
#[ignore = "takes a minute"]
fn directory_of_a_hundred_thousand_entries_is_restored() {
    many_entries(100_000);
}

/// A path of 30 names of 200 bytes, longer than a system call accepts.
#[test]
fn paths_longer_than_the_system_limit_are_restored() {
    let fixture = Fixture::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (mut path, mut dirs) = (String::from("data"), Vec::<OwnedFd>::new());
    dirs.push(rustix::fs::open(fixture.path("src/data"), flags, Mode::empty()).unwrap());
    for level in 0..30 {
        let name = format!("{level:0200}");
        let above = dirs.last().unwrap();
        rustix::fs::mkdirat(above, &name, Mode::from_raw_mode(0o755)).unwrap();
        let below = rustix::fs::openat(above, &name, flags, Mode::empty()).unwrap();
        dirs.push(below);
        path = format!("{path}/{name}");
    }
    let (top, middle, bottom) = (&dirs[0], &dirs[15], &dirs[30]);
    let create = OFlags::WRONLY | OFlags::CREATE;
    let file = rustix::fs::openat(bottom, "file", create, Mode::from_raw_mode(0o600)).unwrap();
    rustix::io::write(&file, b"down here").unwrap();
    let long = "n".repeat(255);
    rustix::fs::symlinkat("x".repeat(4000), bottom, &long).unwrap();
    for dir in [top, middle] {
        rustix::fs::linkat(bottom, "file", dir, "file of the bottom", AtFlags::empty()).unwrap();
        rustix::fs::linkat(bottom, &long, dir, &long, AtFlags::empty()).unwrap();
    }
    rustix::fs::mknodat(
        bottom,
        "fifo",
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    fixture.round_trip(&[]);
    assert!(
        walk(&fixture.path("out/data"))
            .keys()
            .any(|path| path.as_os_str().len() > 6000)
    );

    let target = format!("{path}/file");
    let list = ok(&fixture.restore(&["--list", "--path", &target, "tape"]));
    assert!(
        list.lines().count() == 1 && list.ends_with(&format!(" {target}\n")),
        "{list}"
    );
    ok(&fixture.restore(&["--quiet", "--path", &target, "tape", "one"]));
    let deepest = walk(&fixture.path("one/data"))
        .into_keys()
        .max_by_key(|path| path.as_os_str().len())
        .unwrap();
    assert_eq!(format!("data/{}", deepest.display()), target);
}

/// Without `--one-file-system`, a file system that is mounted in a tree belongs to the tree.
#[test]
fn mounted_file_system_is_restored() {
    let fixture = Fixture::with_blocks();
    fs::create_dir(fixture.path("src/data/mounted")).unwrap();
    // The mount is visible in its own namespace only.
    let script = format!(
        "mount -t tmpfs -o mode=1750 none src/data/mounted && \
         echo inside >src/data/mounted/file && \
         ln src/data/mounted/file src/data/mounted/again && \
         exec '{DISK_TO_TAPE}' --quiet src/data tape"
    );
    let namespaces = if is_root() {
        "--mount"
    } else {
        "--mount --map-root-user"
    };
    let arguments: Vec<_> = namespaces.split(' ').chain(["sh", "-c", &script]).collect();
    let output = Command::new("unshare")
        .args(arguments)
        .current_dir(fixture.dir.path())
        .output();
    let may_mount = |text: &[u8]| !String::from_utf8_lossy(text).contains("mount:");
    let Some(output) = output.ok().filter(|output| may_mount(&output.stderr)) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    ok(&output);
    ok(&fixture.restore(&["--quiet", "tape", "out"]));
    let mounted = fixture.path("out/data/mounted");
    assert_eq!(fs::metadata(&mounted).unwrap().mode() & 0o7777, 0o1750);
    assert_eq!(fs::read(mounted.join("again")).unwrap(), b"inside\n");
    let found = walk(&mounted);
    assert_eq!(found[Path::new("file")], found[Path::new("again")]);
}
