//! Trees read into blocks, and compared with another walk of the file system.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use datapipe::prelude::*;
use datapipe::tree::{ProblemKind, TreeError, TreeHead, TreeOptions, TreeReport};
use datapipe::wire::{BlockKind, ObjectKind, ObjectState};
use rustix::fs::{CWD, Mode, XattrFlags};

use crate::data::noise;
use crate::entries::{Collect, Seen, assert_same_objects, blocks_of, parse};
use crate::fixture::{archive_options, head, names, nest_directories, set_time, source};
use crate::medium::{create_tape, open};
use crate::placement::Placement;

in_both_placements! {
    tree_is_read_completely
    entry_longer_than_a_block_comes_in_pieces
    holes_are_not_read
    further_names_are_hard_links
    extended_attributes_are_read
    tree_deeper_than_the_longest_path_is_read
    unreadable_object_costs_only_itself
}

/// Returns the content of a file that fits into memory.
fn content(seen: &Seen) -> Vec<u8> {
    let mut content = vec![0; seen.end.unwrap().1 as usize];
    for (offset, data) in &seen.extents {
        content[*offset as usize..][..data.len()].copy_from_slice(data);
    }
    content
}

/// Reads a tree with one instance, and the same tree with three. Both find the same.
fn read(source: &Path, size: u32, placement: Placement) -> (BTreeMap<Vec<u8>, Seen>, TreeReport) {
    let (one, three) = (head(source), head(source));
    let (report, others) = (one.report(), three.report());
    let seen = parse(&blocks_of(one, size));
    let three = placement.place(three.instances(3));
    assert_same_objects(&seen, &parse(&blocks_of(three, size)));
    assert_eq!(report.counts(), others.counts());
    let problems = |report: &TreeReport| {
        report
            .snapshot()
            .problems
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(problems(&report), problems(&others));
    (seen, report)
}

/// Compares the objects that were read with what `std` finds below `path`. Counts them in `names`.
fn compare(path: &Path, name: &[u8], seen: &BTreeMap<Vec<u8>, Seen>, names: &mut usize) {
    let meta = fs::symlink_metadata(path).unwrap();
    let object = seen
        .get(name)
        .unwrap_or_else(|| panic!("{} is missing", name.escape_ascii()));
    *names += 1;
    assert_eq!(object.mode, meta.mode() & 0o7777);
    assert_eq!(object.owner, (meta.uid(), meta.gid()));
    assert_eq!(object.modified, (meta.mtime(), meta.mtime_nsec() as u32));
    if object.link != 0 {
        assert!(meta.nlink() > 1 && object.kind == ObjectKind::HardLink);
        return;
    }
    assert_eq!(object.end.unwrap().0, ObjectState::Whole);
    let kind = meta.file_type();
    if kind.is_dir() {
        assert_eq!(object.kind, ObjectKind::Directory);
        for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
            let below = [name, b"/", entry.file_name().as_bytes()].concat();
            compare(&entry.path(), &below, seen, names);
        }
    } else if kind.is_symlink() {
        assert_eq!(
            object.target,
            fs::read_link(path).unwrap().as_os_str().as_bytes()
        );
    } else if kind.is_file() {
        assert_eq!((object.kind, object.size), (ObjectKind::File, meta.len()));
        assert!(
            content(object) == fs::read(path).unwrap(),
            "{}",
            path.display()
        );
    }
}

/// Reads a tree, and compares it with the file system.
fn check(source: &Path, size: u32, placement: Placement) -> (BTreeMap<Vec<u8>, Seen>, TreeReport) {
    let (seen, report) = read(source, size, placement);
    let mut names = 0;
    compare(
        source,
        source.file_name().unwrap().as_bytes(),
        &seen,
        &mut names,
    );
    assert_eq!(names, seen.len());
    let outcome = report.snapshot();
    assert_eq!(
        outcome.files + outcome.directories + outcome.others,
        names as u64
    );
    (seen, report)
}

/// Creates one object of every kind, with unusual names, lengths, modes and times.
fn plant(path: &Path) {
    let sub = path.join("sub");
    fs::create_dir_all(sub.join("empty")).unwrap();
    for (i, len) in [0, 1, 100, 4095, 4096, 4097, 70_000, 1_000_000]
        .into_iter()
        .enumerate()
    {
        fs::write(path.join(format!("file{i}")), noise(len, i as u64)).unwrap();
    }
    for name in [
        &b"\x01\x02 \n\t"[..],
        b"\xff\xfe\x80",
        b"a'b\"c\\d*?[",
        b"-rf",
        &[b'n'; 255],
    ] {
        fs::write(sub.join(OsStr::from_bytes(name)), name).unwrap();
    }
    symlink("nowhere/at/all", sub.join("dangling")).unwrap();
    symlink(OsStr::from_bytes(&b"\xfd/".repeat(2000)), sub.join("long")).unwrap();
    symlink(".", sub.join("loop")).unwrap();
    rustix::fs::mkfifoat(CWD, sub.join("fifo"), Mode::from_raw_mode(0o640)).unwrap();
    fs::set_permissions(path.join("file1"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(sub.join("empty"), fs::Permissions::from_mode(0o1700)).unwrap();
    set_time(&path.join("file2"), -86_400 * 3000, 999_999_999);
    set_time(&sub.join("dangling"), 1, 1);
    set_time(&sub.join("empty"), 5_000_000_000, 123_456_789);
}

fn tree_is_read_completely(placement: Placement) {
    let (_dir, path) = source();
    plant(&path);
    for size in [4 << 20, 65_536, 8192, 4800] {
        let (seen, report) = check(&path, size, placement);
        assert_eq!(report.snapshot().problems, []);
        let outcome = report.snapshot();
        assert_eq!(
            (outcome.files, outcome.directories, outcome.others),
            (13, 3, 4),
            "{size}"
        );
        assert_eq!(outcome.bytes, 1_082_389 + 5 + 3 + 10 + 3 + 255);
        assert_eq!(seen[&b"data/sub/fifo"[..]].kind, ObjectKind::Fifo);
        assert_eq!(seen[&b"data/file1"[..]].mode, 0o6751);
        assert_eq!(
            seen[&b"data/file2"[..]].modified,
            (-86_400 * 3000, 999_999_999)
        );
        let order: Vec<_> = seen.values().map(|object| object.number).collect();
        assert!(order.is_sorted(), "names come sorted");
    }
}

fn entry_longer_than_a_block_comes_in_pieces(placement: Placement) {
    let (_dir, path) = source();
    plant(&path);
    let deep = path.join("x".repeat(250)).join("y".repeat(250));
    fs::create_dir_all(deep.join("below")).unwrap();
    fs::write(deep.join("file"), b"x").unwrap();
    fs::write(path.join("z"), b"z").unwrap();
    let has_attributes = rustix::fs::setxattr(
        deep.join("file"),
        "user.long",
        &noise(3000, 1),
        XattrFlags::empty(),
    );
    if let Err(error) = &has_attributes {
        println!("without attributes, which the file system does not have: {error}");
    }
    for size in [512, 513, 600, 1000, 65_536] {
        let (seen, report) = read(&path, size, placement);
        assert_eq!(report.snapshot().problems, []);
        assert_eq!(content(&seen[&b"data/file7"[..]]), noise(1_000_000, 7));
        assert_eq!(seen[&b"data/sub/long"[..]].target.len(), 4000);
        assert_eq!(seen.len(), 20 + 5);
        let path = format!("data/{}/{}/file", "x".repeat(250), "y".repeat(250));
        let file = &seen[path.as_bytes()];
        assert_eq!(content(file), b"x");
        let attribute = file.attributes.get(&b"user.long"[..]);
        let wanted = has_attributes.is_ok().then(|| noise(3000, 1));
        assert_eq!(attribute, wanted.as_ref());
    }
}

fn holes_are_not_read(placement: Placement) {
    let (_dir, path) = source();
    let sparse = File::create(path.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(&[7; 4096], 1 << 30).unwrap();
    sparse.write_all_at(&[8; 4096], (1 << 40) - 8192).unwrap();
    let hole = File::create(path.join("hole")).unwrap();
    hole.set_len(123_456_789).unwrap();
    if sparse.metadata().unwrap().blocks() > 1 << 20 {
        println!("skipped: the file system of the temporary directory has no holes");
        return;
    }
    for size in [4 << 20, 512] {
        let (seen, report) = read(&path, size, placement);
        assert!(
            report.snapshot().bytes < 1 << 20,
            "{} bytes",
            report.snapshot().bytes
        );
        let found = &seen[&b"data/sparse"[..]];
        assert_eq!(found.end.unwrap().1, 1 << 40);
        for (offset, value) in [(1 << 30, 7), ((1 << 40) - 8192, 8)] {
            let stored: Vec<u8> = found
                .extents
                .iter()
                .filter(|(at, _)| (offset..offset + 4096).contains(at))
                .flat_map(|(_, data)| data.clone())
                .collect();
            assert_eq!(stored[..4096], [value; 4096]);
        }
        let found = &seen[&b"data/hole"[..]];
        assert_eq!(
            (found.extents.len(), found.end.unwrap().1),
            (0, 123_456_789)
        );
    }
}

fn further_names_are_hard_links(placement: Placement) {
    let (_dir, path) = source();
    fs::write(path.join("a"), b"content").unwrap();
    symlink("target", path.join("b")).unwrap();
    rustix::fs::mkfifoat(CWD, path.join("c"), Mode::from_raw_mode(0o600)).unwrap();
    fs::create_dir(path.join("sub")).unwrap();
    for name in ["a", "b", "c"] {
        for other in ["x", "y"] {
            fs::hard_link(
                path.join(name),
                path.join("sub").join(format!("{name}{other}")),
            )
            .unwrap();
        }
    }
    let (seen, _) = check(&path, 4096, placement);
    for name in ["a", "b", "c"] {
        let first = &seen[format!("data/{name}").as_bytes()];
        assert_ne!(first.kind, ObjectKind::HardLink);
        for other in ["x", "y"] {
            let link = &seen[format!("data/sub/{name}{other}").as_bytes()];
            assert_eq!((link.kind, link.link), (ObjectKind::HardLink, first.number));
            assert!(link.extents.is_empty() && link.target.is_empty() && link.size == 0);
        }
    }
}

fn extended_attributes_are_read(placement: Placement) {
    let (_dir, path) = source();
    let (file, link) = (path.join("file"), path.join("link"));
    fs::write(&file, b"x").unwrap();
    symlink("file", &link).unwrap();
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
    };
    if let Err(error) = set(&file, "user.one", b"1") {
        println!("skipped: the temporary directory takes no attributes: {error}");
        return;
    }
    set(&file, "user.empty", b"").unwrap();
    set(&file, "user.large", &[7; 2000]).unwrap();
    set(&path, "user.dir", b"\0\xff").unwrap();
    let on_link = set(&link, "trusted.link", b"of the link").is_ok();
    if !on_link {
        println!("no attributes of symbolic links here: only root may set them");
    }
    let (seen, report) = check(&path, 65_536, placement);
    assert_eq!(report.snapshot().problems, []);
    let attributes = |seen: &BTreeMap<Vec<u8>, Seen>, path: &[u8]| seen[path].attributes.clone();
    let found = attributes(&seen, b"data/file");
    assert_eq!(found[&b"user.one"[..]], b"1");
    assert_eq!(found[&b"user.empty"[..]], b"");
    assert_eq!(found[&b"user.large"[..]], [7; 2000]);
    assert_eq!(attributes(&seen, b"data")[&b"user.dir"[..]], b"\0\xff");
    let wanted = on_link.then(|| b"of the link".to_vec());
    assert_eq!(
        attributes(&seen, b"data/link").remove(&b"trusted.link"[..]),
        wanted
    );
    // One that does not fit into a block comes in pieces.
    let (seen, report) = read(&path, 1024, placement);
    assert_eq!(attributes(&seen, b"data/file"), found);
    assert_eq!(report.snapshot().problems, []);
}

fn tree_deeper_than_the_longest_path_is_read(placement: Placement) {
    let (_dir, path) = source();
    // 300 levels, more than stay open; and 6,000 bytes, more than a path may have.
    nest_directories(&path, "d", 300);
    nest_directories(&path, &"n".repeat(200), 30);
    let (seen, report) = read(&path, 65_536, placement);
    assert_eq!(report.snapshot().problems, []);
    let outcome = report.snapshot();
    // The first level has the files of both.
    assert_eq!((outcome.directories, outcome.files), (331, 2 * 330 - 2));
    assert!(seen.keys().map(Vec::len).max() > Some(6000));
}

#[test]
fn large_directories_are_read_sorted() {
    let (_dir, path) = source();
    for i in 0..5000 {
        // The catalogue comes in pieces only if it is small beside the data.
        fs::write(path.join(format!("{i}")), [b'x'; 900]).unwrap();
    }
    for size in [4096, 4 << 20] {
        let blocks = blocks_of(head(&path), size);
        let seen = parse(&blocks);
        assert_eq!(seen.len(), 5001);
        assert!(
            seen.values()
                .is_sorted_by_key(|object| (object.place.0, object.place.1))
        );
        let pieces = blocks
            .iter()
            .filter(|(kind, ..)| *kind == BlockKind::Catalogue.code())
            .count();
        assert_eq!(
            pieces > 50,
            size == 4096,
            "{pieces} pieces of the catalogue"
        );
    }
}

#[test]
fn excluded_and_skipped_objects_are_left_out() {
    let (_dir, path) = source();
    plant(&path);
    let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    let medium = fs::metadata(path.join("file0")).unwrap();
    let options = TreeOptions::default()
        .exclude(["data/file[1-3]", "sub"])
        .skip([(medium.dev(), medium.ino())]);
    let head = TreeHead::new(&[&path], options).unwrap();
    let report = head.report();
    let seen = parse(&blocks_of(head, 4096));
    assert_eq!(
        names(&seen),
        [
            "data",
            "data/file4",
            "data/file5",
            "data/file6",
            "data/file7"
        ]
    );
    assert_eq!(report.snapshot().excluded, 4);
    let problems: Vec<String> = report
        .snapshot()
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    let wanted = [
        "data/file0: is the archive's own medium: left out",
        "data/socket: is a socket: left out",
    ];
    assert_eq!(problems, wanted);
}

#[test]
fn source_names_are_unique_and_kept() {
    let (dir, path) = source();
    let other = dir.path().join("other").join("data");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("x"), b"x").unwrap();
    let refused = TreeHead::new(&[&path, &other], TreeOptions::default()).unwrap_err();
    let TreeError::SameName { first, second, .. } = &refused else {
        panic!("{refused}")
    };
    assert_eq!((first, second), (&path, &other));
    let named = [
        ("one".into(), path.clone()),
        ("two".into(), other.clone()),
        ("x".into(), other.join("x")),
    ];
    let head = TreeHead::named(named, TreeOptions::default()).unwrap();
    let seen = parse(&blocks_of(head, 4096));
    assert_eq!(names(&seen), ["one", "two", "two/x", "x"]);
    let missing = TreeHead::new(&[dir.path().join("missing")], TreeOptions::default()).unwrap_err();
    assert!(matches!(missing, TreeError::Source { .. }));
    // Without a source there are no blocks, also if the source is gone before it is read.
    let none: [&Path; 0] = [];
    assert_eq!(
        blocks_of(TreeHead::new(&none, TreeOptions::default()).unwrap(), 4096),
        []
    );
    let head = TreeHead::new(&[&other], TreeOptions::default()).unwrap();
    let report = head.report();
    fs::remove_dir_all(&other).unwrap();
    assert_eq!(blocks_of(head, 4096), []);
    assert_eq!(
        report.snapshot().problems[0].to_string(),
        "data: vanished before it was read"
    );
}

/// A tail that calls a function when the first block arrives.
struct Meddle<F>(Collect, Option<F>);

impl<F: FnOnce() + Send> Tail for Meddle<F> {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        if let Some(meddle) = self.1.take() {
            meddle();
        }
        self.0.write(block)
    }
}

/// Reads a file of 8 MB that `meddle` changes after a few kilobytes were read.
fn changing(meddle: impl FnOnce(&File) + Send + 'static) -> (Seen, TreeReport) {
    let (_dir, path) = source();
    let name = path.join("file");
    fs::write(&name, vec![5; 8_000_000]).unwrap();
    let file = File::options().write(true).open(&name).unwrap();
    let head = head(&path);
    let (report, collect) = (head.report(), Collect::default());
    let meddle = Meddle(collect.clone(), Some(move || meddle(&file)));
    Pipe::builder()
        .buffer_size(4096)
        .buffers(8)
        .head(head)
        .tail(meddle)
        .run()
        .unwrap();
    let blocks = collect.0.lock().unwrap().clone();
    (parse(&blocks).remove(&b"data/file"[..]).unwrap(), report)
}

#[test]
fn changed_file_is_marked() {
    let (grown, report) = changing(|file| file.write_all_at(&[6; 3000], 8_000_000).unwrap());
    assert_eq!(
        (grown.size, grown.end.unwrap().0, grown.end.unwrap().1),
        (8_000_000, ObjectState::Changed, 8_003_000)
    );
    assert_eq!(content(&grown)[8_000_000..], [6; 3000]);
    assert_eq!(
        report.snapshot().problems[0].to_string(),
        "data/file: changed while it was read"
    );
    let (cut, report) = changing(|file| file.set_len(5_000_000).unwrap());
    assert_eq!(
        (cut.size, cut.end.unwrap().0, cut.end.unwrap().1),
        (8_000_000, ObjectState::Changed, 5_000_000)
    );
    assert_eq!(
        (content(&cut).len(), report.snapshot().problem_count),
        (5_000_000, 1)
    );
    let (written, _) = changing(|file| file.write_all_at(&[6], 0).unwrap());
    assert_eq!(
        (written.end.unwrap().0, written.end.unwrap().1),
        (ObjectState::Changed, 8_000_000)
    );
}

fn unreadable_object_costs_only_itself(placement: Placement) {
    unreadable_file_costs_only_itself();
    unreadable_directories_cost_only_themselves(placement);
}

fn unreadable_file_costs_only_itself() {
    // The speed of the loopback device is a file of 4,096 bytes. Reading it fails.
    let speed = Path::new("/sys/class/net/lo/speed");
    let (_dir, path) = source();
    fs::write(path.join("other"), b"x").unwrap();
    if fs::read(speed).is_err() && fs::metadata(speed).is_ok_and(|meta| meta.len() > 0) {
        let sources = [("a".into(), speed.to_owned()), ("b".into(), path.clone())];
        let head = TreeHead::named(sources, TreeOptions::default()).unwrap();
        let report = head.report();
        let seen = parse(&blocks_of(head, 4096));
        assert_eq!(
            seen[&b"a"[..]].end.map(|end| (end.0, end.1)),
            Some((ObjectState::Unread, 0))
        );
        assert_eq!(content(&seen[&b"b/other"[..]]), b"x");
        let [problem] = &report.snapshot().problems[..] else {
            panic!("{:?}", report.snapshot().problems)
        };
        assert!(matches!(problem.kind, ProblemKind::Unreadable(_)));
    } else {
        println!("skipped: there is no file here that fails");
    }
}

fn unreadable_directories_cost_only_themselves(placement: Placement) {
    let (_dir, path) = source();
    fs::write(path.join("other"), b"x").unwrap();
    for name in ["closed", "closed directory/below"] {
        fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
        fs::write(path.join(name), b"x").unwrap();
    }
    for name in ["closed", "closed directory"] {
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    if fs::read(path.join("closed")).is_ok() {
        println!("skipped: root may read everything");
        return;
    }
    let (seen, report) = read(&path, 4096, placement);
    fs::set_permissions(
        path.join("closed directory"),
        fs::Permissions::from_mode(0o700),
    )
    .unwrap();
    assert_eq!(
        names(&seen),
        ["data", "data/other", "data/closed directory"]
    );
    assert_eq!(
        seen[&b"data/closed directory"[..]].end.unwrap().0,
        ObjectState::Unread
    );
    assert_eq!(report.snapshot().problem_count, 2);
}

#[test]
fn devices_are_read_and_other_file_systems_are_not() {
    let device = |path: &str| fs::metadata(path).map(|meta| meta.dev()).ok();
    if device("/dev/shm").is_none() || device("/dev/shm") == device("/dev") {
        println!("skipped: nothing is mounted in /dev");
        return;
    }
    let Ok(_beyond) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: nothing can be put into what is mounted there");
        return;
    };
    let options = TreeOptions::default().one_file_system(true);
    let head = TreeHead::new(&["/dev"], options).unwrap();
    let report = head.report();
    let seen = parse(&blocks_of(head, 4096));
    let null = &seen[&b"dev/null"[..]];
    assert_eq!(
        (null.kind, null.device),
        (ObjectKind::CharacterDevice, (1, 3))
    );
    assert_eq!(seen[&b"dev/shm"[..]].kind, ObjectKind::Directory);
    assert!(!seen.keys().any(|path| path.starts_with(b"dev/shm/")));
    assert!(
        !report
            .snapshot()
            .problems
            .iter()
            .any(|problem| problem.path.starts_with(b"dev/shm/"))
    );
    let mounts = report
        .snapshot()
        .problems
        .into_iter()
        .filter(|problem| problem.kind == ProblemKind::MountPoint);
    assert!(
        mounts
            .map(|problem| problem.path)
            .any(|path| path == b"dev/shm")
    );
}

#[test]
fn archived_blocks_are_read_back_identically() {
    let (dir, path) = source();
    plant(&path);
    let direct = blocks_of(head(&path), 8192);
    let tape = dir.path().join("tree.tap");
    let archive = archive_options(8192, 100_000).plan().unwrap();
    let zstd = zstd(3).instances(2);
    Pipe::builder()
        .buffer_size(8192)
        .head(head(&path))
        .stage(zstd)
        .archive(archive, create_tape(&tape))
        .run()
        .unwrap();
    let reader = ArchiveReader::open(open(&tape), None).unwrap();
    let collect = Collect::default();
    let pipe = Pipe::builder().buffer_size(8192).head(reader.head());
    pipe.stage(decompress())
        .tail(collect.clone())
        .run()
        .unwrap();
    let archived = collect.0.lock().unwrap();
    assert_eq!(archived.len(), direct.len());
    for (one, other) in archived.iter().zip(&direct) {
        assert_eq!(
            (one.0, one.1, one.2.len()),
            (other.0, other.1, other.2.len())
        );
        // The catalogue has the numbers of blocks, which begin after the origin.
        assert!(one.0 != BlockKind::Data.code() || one.2 == other.2);
    }
}
