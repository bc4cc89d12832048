//! Trees with objects of all kinds, and a walker that shares no code with the library.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Metadata, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, SeekFrom, XattrFlags};

use crate::fixture::noise;

/// Makes a tree with all objects that must be restored. Objects that only root can make are made
/// only if the test runs as root.
pub(crate) fn make_tree(root: &Path) {
    make_files(root);
    make_names(root);
    make_others(root);
    set_modes_and_times(root);
}

fn make_files(root: &Path) {
    let write = |name: &str, data: &[u8]| fs::write(root.join(name), data).unwrap();
    write("text", "all work and no play\n".repeat(10_000).as_bytes());
    write("noise", &noise(3 << 20));
    write("empty", b"");
    write("zeros", &vec![0; 1 << 20]);
    write("one byte", b"x");
    let mut large = File::create(root.join("large")).unwrap();
    for part in 0..6u8 {
        large.write_all(&[part; 1 << 19]).unwrap();
        large.write_all(&noise(1 << 19)).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(16 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 5 << 20).unwrap();
    sparse.write_all_at(b"at the end", (16 << 20) - 10).unwrap();
}

fn make_names(root: &Path) {
    fs::write(root.join("new\nline"), b"a name of two lines").unwrap();
    fs::create_dir_all(root.join("empty dir/in empty dir")).unwrap();
    let mut deep = root.join("deep");
    for level in 0..60 {
        deep.push(format!("level {level} of many"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), b"here").unwrap();
    symlink(&deep, root.join("long link")).unwrap();
    let wild = OsStr::from_bytes(b"\xff\xfe not utf-8 \x01");
    fs::create_dir(root.join(wild)).unwrap();
    fs::write(root.join(wild).join(wild), b"inside").unwrap();
    fs::write(
        root.join(wild).join(OsStr::from_bytes(&[0xe9; 255])),
        b"the longest name",
    )
    .unwrap();
}

fn make_others(root: &Path) {
    symlink("text", root.join("link")).unwrap();
    symlink("./a//b/../c/.", root.join("odd link")).unwrap();
    symlink("/nowhere/at all", root.join("broken link")).unwrap();
    symlink("x".repeat(4000), root.join("endless link")).unwrap();
    fs::hard_link(root.join("noise"), root.join("deep/noise again")).unwrap();
    fs::hard_link(root.join("noise"), root.join("another noise")).unwrap();
    fs::hard_link(root.join("odd link"), root.join("deep/odd link again")).unwrap();
    rustix::fs::mknodat(
        CWD,
        root.join("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    for (name, attribute, value) in [
        ("text", "user.origin", &b"a film\0\xff"[..]),
        ("deep", "user.empty", b""),
    ] {
        match rustix::fs::lsetxattr(root.join(name), attribute, value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(error) => eprintln!("no attributes in this test: {error}"),
        }
    }
    if is_root() {
        lchown(root.join("text"), Some(1234), Some(4321)).unwrap();
        lchown(root.join("broken link"), Some(1234), Some(4321)).unwrap();
        let null = rustix::fs::makedev(1, 3);
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(
            CWD,
            root.join("null"),
            FileType::CharacterDevice,
            mode,
            null,
        )
        .unwrap();
    }
}

fn set_modes_and_times(root: &Path) {
    let mode = |name: &str, mode| {
        fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap()
    };
    mode("text", 0o444);
    mode("one byte", if is_root() { 0o6755 } else { 0o755 });
    fs::create_dir(root.join("read-only dir")).unwrap();
    fs::write(root.join("read-only dir/file"), b"kept").unwrap();
    let time = |name: &str, after| {
        let times = FileTimes::new().set_modified(UNIX_EPOCH + after);
        File::open(root.join(name))
            .unwrap()
            .set_times(times)
            .unwrap();
    };
    time("one byte", Duration::new(1, 5));
    time("noise", Duration::ZERO);
    time("zeros", Duration::from_secs(9_000_000_000));
    time(
        "empty dir/in empty dir",
        Duration::new(1_000_000_000, 999_999_999),
    );
    time("empty dir", Duration::new(1_100_000_000, 1));
    time("read-only dir", Duration::new(1_200_000_000, 123));
    mode("empty dir", 0o1777);
    mode("read-only dir", 0o555);
    let old = FileTimes::new().set_modified(UNIX_EPOCH - Duration::from_millis(2500));
    File::open(root.join("large"))
        .unwrap()
        .set_times(old)
        .unwrap();
    time(".", Duration::new(1_300_000_000, 42));
    mode(".", 0o750);
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Properties of one object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ObjectSnapshot {
    /// Kind and mode.
    mode: u32,
    owner: (u32, u32),
    size: u64,
    modified: (i64, i64),
    device: u64,
    /// Checksum of the content, or of a link's target.
    sum: u32,
    /// The first of its names, if it has several.
    linked: Option<PathBuf>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    allocated: Allocated,
}

/// Bytes that a file takes on its disk. Two values are equal if they differ by 1 MiB at most,
/// because file systems allocate differently.
#[derive(Debug)]
struct Allocated(u64);

impl PartialEq for Allocated {
    fn eq(&self, other: &Self) -> bool {
        self.0.abs_diff(other.0) <= 1 << 20
    }
}

impl Eq for Allocated {}

/// Returns all objects at and below `root`, by path.
pub(crate) fn walk(root: &Path) -> BTreeMap<PathBuf, ObjectSnapshot> {
    let mut found = BTreeMap::new();
    visit(root, PathBuf::new(), &mut found);
    let mut names: BTreeMap<InodeId, PathBuf> = BTreeMap::new();
    // The map is sorted by name, so the first of several names is inserted.
    for (name, (inode, seen)) in &mut found {
        if seen.linked.is_some() {
            seen.linked = Some(names.entry(*inode).or_insert_with(|| name.clone()).clone());
        }
    }
    found
        .into_iter()
        .map(|(name, (_, seen))| (name, seen))
        .collect()
}

/// Device and inode.
type InodeId = (u64, u64);

/// Visits `path`, which is `name` in the tree, and everything below it. Entries of a directory are
/// opened through its descriptor, because paths may be longer than a system call accepts.
fn visit(path: &Path, name: PathBuf, found: &mut BTreeMap<PathBuf, (InodeId, ObjectSnapshot)>) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{name:?}: {error}"));
    let seen = ObjectSnapshot {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        size: if meta.is_dir() { 0 } else { meta.len() },
        modified: (meta.mtime(), meta.mtime_nsec()),
        device: meta.rdev(),
        sum: sum(path, &meta),
        linked: (!meta.is_dir() && meta.nlink() > 1).then(PathBuf::new),
        attributes: attributes(path),
        allocated: Allocated(if meta.is_file() {
            meta.blocks() * 512
        } else {
            0
        }),
    };
    if meta.is_dir() {
        let dir = File::open(path).unwrap();
        let here = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        for entry in fs::read_dir(&here).unwrap() {
            let below = entry.unwrap().file_name();
            visit(&here.join(&below), name.join(&below), found);
        }
    }
    found.insert(name, ((meta.dev(), meta.ino()), seen));
}

const PAGE: usize = 4096;

/// Checksum of a file or of a link's target. Only pages that are not zero and their offsets are
/// added, because a file may consist mostly of holes.
fn sum(path: &Path, meta: &Metadata) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    if meta.is_symlink() {
        sum.update(fs::read_link(path).unwrap().as_os_str().as_bytes());
    } else if meta.is_file() && meta.len() > 0 {
        let (file, mut bytes, mut at) = (File::open(path).unwrap(), vec![0; 1 << 20], 0);
        while let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
            let end = rustix::fs::seek(&file, SeekFrom::Hole(data)).unwrap();
            at = data;
            while at < end {
                // Pages are aligned, regardless of where the file system reports the start of data.
                let len = (bytes.len() as u64 - at % PAGE as u64).min(end - at) as usize;
                file.read_exact_at(&mut bytes[..len], at).unwrap();
                add_pages(&mut sum, at, &bytes[..len]);
                at += len as u64;
            }
        }
    }
    sum.finalize()
}

fn add_pages(sum: &mut crc32fast::Hasher, mut at: u64, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let page;
        (page, bytes) = bytes.split_at(bytes.len().min(PAGE - at as usize % PAGE));
        if *page != [0; PAGE][..page.len()] {
            sum.update(&at.to_le_bytes());
            sum.update(page);
        }
        at += page.len() as u64;
    }
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let len = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let names = names[..len]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 16];
        let len = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value[..len].to_vec()
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

pub(crate) fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (walk(a), walk(b));
    assert!(
        a.keys().eq(b.keys()),
        "{:?}",
        a.keys().chain(b.keys()).collect::<Vec<_>>()
    );
    for (name, before) in &a {
        assert_eq!(before, &b[name], "{name:?}");
    }
}
