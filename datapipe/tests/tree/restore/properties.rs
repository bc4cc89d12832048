//! Owners by name, inode flags, and entries that are longer than a block.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use datapipe::limits::MAX_OBJECT_ATTRIBUTES;
use datapipe::prelude::*;
use datapipe::tree::{
    RestoreOptions, RestoreOutcome, TreeHead, TreeList, TreeOptions, TreeRestore, digest_of,
};
use datapipe::wire::{
    EntryBody, InodeFacts, ObjectKind, ObjectMeta, ObjectState, OwnerKind, OwnerName,
};
use rustix::fs::{IFlags, XattrFlags, ioctl_getflags, ioctl_setflags, setxattr};

use super::pack::{Pack, file, object};
use super::site::{Site, is_root, problems};
use crate::data::noise;
use crate::placement::Placement;

in_both_placements! {
    objects_belong_to_the_owners_with_their_names
    owners_whose_names_were_lost_are_reported
    names_of_owners_survive_lost_blocks
    entries_in_pieces_are_restored
    piece_without_its_others_damages_its_object
    repeated_object_number_is_refused
    inode_flags_are_restored_last
    attributes_up_to_the_limit_are_accepted_beside_an_inode
}

/// Restores what a head reads, in blocks of `size` bytes.
fn restored(source: &Path, dest: &Path, size: u32, placement: Placement) -> RestoreOutcome {
    let head = TreeHead::new(&[source], TreeOptions::default()).unwrap();
    let read = head.report();
    let tail = TreeRestore::new(dest, RestoreOptions::default().sync(false)).unwrap();
    let report = tail.report();
    let pipe = Pipe::builder().buffer_size(size).head(head);
    pipe.tail(placement.place(tail)).run().unwrap();
    assert_eq!(read.snapshot().problems, []);
    report.snapshot()
}

/// Makes a file, and a directory, of user 70001 and group 70002, whose names are these.
fn owned_by(user: &[u8], group: &[u8]) -> Pack {
    let mut pack = Pack::default();
    let names = [
        (OwnerKind::User, 70_001, user),
        (OwnerKind::Group, 70_002, group),
    ];
    for (kind, id, name) in names {
        pack.entry(0, EntryBody::OwnerName(OwnerName { kind, id, name }));
    }
    let owned = |object| ObjectMeta {
        uid: 70_001,
        gid: 70_002,
        ..object
    };
    pack.whole(&owned(object(ObjectKind::Directory, "dir")), &[], 0, &[]);
    pack.whole(&owned(file("dir/file")), &[], 1, &[(0, b"x")]);
    pack
}

/// Returns the numbers of the user and the group "daemon", if this process restores owners.
fn daemon() -> Option<(u32, u32)> {
    let number_of = |list: &str| {
        let list = fs::read_to_string(list).unwrap_or_default();
        let line = list.lines().find(|line| line.starts_with("daemon:"));
        line.and_then(|line| line.split(':').nth(2)?.parse::<u32>().ok())
    };
    let found = number_of("/etc/passwd").zip(number_of("/etc/group"));
    if found.is_none() || !is_root() {
        println!("skipped: only root restores owners, and needs a user and a group \"daemon\"");
    }
    found.filter(|_| is_root())
}

fn objects_belong_to_the_owners_with_their_names(placement: Placement) {
    let Some((user, group)) = daemon() else {
        return;
    };
    let numbers = (70_001, 70_002);
    for (name, numeric, owner) in [
        ("daemon", false, (user, group)),
        ("daemon", true, numbers),
        ("a name that no user has", false, numbers),
        ("\u{e9}\u{fffd}", false, numbers),
    ] {
        let site = Site::new(placement);
        let options = RestoreOptions::default().numeric_owner(numeric);
        let report = site.restore(owned_by(name.as_bytes(), name.as_bytes()), options);
        assert!(report.is_whole(), "{}", problems(&report));
        for path in ["dir", "dir/file"] {
            let found = fs::symlink_metadata(site.dest().join(path)).unwrap();
            assert_eq!((found.uid(), found.gid()), owner, "{name} {numeric} {path}");
        }
    }
    // Two names of one user: the first is used.
    let mut pack = owned_by(b"daemon", b"daemon");
    let (kind, id, name) = (OwnerKind::User, 70_001, &b"root"[..]);
    pack.entry(0, EntryBody::OwnerName(OwnerName { kind, id, name }));
    let site = Site::new(placement);
    let report = site.plain(pack);
    assert_eq!(fs::metadata(site.dest().join("dir")).unwrap().uid(), user);
    let notes = report.notes.join("\n");
    assert!(notes.contains("two names"), "{notes}");
}

/// The only copy of a name before the objects was in a block that was lost, and they belonged to
/// the user of this machine who has the number, without a word.
fn owners_whose_names_were_lost_are_reported(placement: Placement) {
    let Some((user, _)) = daemon() else {
        return;
    };
    let owned = |path| ObjectMeta {
        uid: 70_001,
        ..file(path)
    };
    let name_owner = |pack: &mut Pack, id, name: &[u8]| {
        let kind = OwnerKind::User;
        pack.entry(0, EntryBody::OwnerName(OwnerName { kind, id, name }));
    };
    // `name` is in block 0, with a file, and in the closing run, blocks 3 and 4.
    let pack = |id, name: &[u8]| {
        let mut pack = Pack::default();
        name_owner(&mut pack, id, name);
        pack.whole(&owned("lost"), &[], 1, &[(0, b"x")]);
        pack.cut();
        pack.whole(&owned("one"), &[], 1, &[(0, b"x")]);
        pack.whole(&owned("two"), &[], 1, &[(0, b"x")]);
        pack.cut();
        name_owner(&mut pack, 0, b"root");
        pack.file("root", b"x");
        pack.cut();
        pack.list_all(2, |_| {});
        name_owner(&mut pack, id, name);
        pack.cut_as(2);
        pack
    };
    let restore = |pack: Pack, numeric| {
        let site = Site::new(placement);
        let report = site.restore(pack, RestoreOptions::default().numeric_owner(numeric));
        (site, problems(&report))
    };
    let mut lost = pack(70_001, b"daemon");
    lost.lose(0);
    let (site, text) = restore(lost.clone(), false);
    let expected = format!("2 objects have user 70001 instead of {user}, which is \"daemon\" here");
    assert!(text.contains(&expected), "{text}");
    assert_eq!(fs::metadata(site.dest().join("one")).unwrap().uid(), 70_001);
    let (_, text) = restore(lost.clone(), true);
    assert!(!text.contains("user"), "{text}");
    // Without the closing run they may be wrong.
    lost.lose(3);
    lost.lose(4);
    let (_, text) = restore(lost, false);
    let may_be = "the names of user 70001 and of 1 other owner may be lost";
    assert!(text.contains(may_be), "{text}");
    // With all blocks, or a name that no user has here, they are not.
    let (_, text) = restore(pack(70_001, b"daemon"), false);
    assert_eq!(text, "");
    let mut other = pack(70_001, b"a name that no user has");
    other.lose(0);
    let (_, text) = restore(other, false);
    assert!(!text.contains("user"), "{text}");
}

/// Names came once, in the first block.
fn names_of_owners_survive_lost_blocks(placement: Placement) {
    let Some((user, group)) = daemon() else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("data");
    fs::create_dir(&source).unwrap();
    for at in 0..200 {
        let path = source.join(format!("{at:0100}"));
        fs::write(&path, noise(at * 10, at as u64)).unwrap();
        std::os::unix::fs::chown(&path, Some(user), Some(group)).unwrap();
    }
    for instances in [1, 3] {
        let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
        let blocks = crate::entries::blocks_of(placement.place(head.instances(instances)), 4096);
        let (mut named, mut unnamed) = (0, 0);
        for (kind, _, data) in blocks.iter().filter(|(kind, ..)| *kind == 0) {
            let (mut rest, mut names) = (&data[..], Vec::new());
            while let Ok((entry, after)) = datapipe::wire::Entry::parse(rest) {
                match entry.body {
                    EntryBody::OwnerName(name) => names.push((name.kind, name.id)),
                    EntryBody::Object(object) => {
                        let user = names.contains(&(OwnerKind::User, object.uid));
                        let group = names.contains(&(OwnerKind::Group, object.gid));
                        let count = if user && group {
                            &mut named
                        } else {
                            &mut unnamed
                        };
                        *count += 1;
                    }
                    _ => {}
                }
                rest = after;
            }
            assert_eq!(*kind, 0);
        }
        assert_eq!(named + unnamed, 201);
        // Several instances fill blocks with what they have read for others.
        let most = if instances == 1 { 0 } else { 100 };
        assert!(
            unnamed <= most,
            "{unnamed} objects have no names in their blocks"
        );
    }
}

fn entries_in_pieces_are_restored(placement: Placement) {
    let temp = tempfile::tempdir().unwrap();
    let (source, dest) = (temp.path().join("data"), temp.path().join("dest"));
    fs::create_dir(&dest).unwrap();
    let deep = ["d".repeat(200), "e".repeat(200), "f".repeat(200)].join("/");
    fs::create_dir_all(source.join(&deep)).unwrap();
    let path = source.join(&deep).join("file");
    fs::write(&path, noise(300_000, 1)).unwrap();
    let value = noise(3000, 2);
    let has_attributes = setxattr(&path, "user.long", &value, XattrFlags::empty()).is_ok();
    std::os::unix::fs::symlink("t".repeat(4000), source.join("link")).unwrap();
    for size in [512, 700, 4096] {
        let dest = dest.join(size.to_string());
        fs::create_dir(&dest).unwrap();
        let report = restored(&source, &dest, size, placement);
        assert!(report.is_whole(), "{}", problems(&report));
        let restored = dest.join("data").join(&deep).join("file");
        assert_eq!(
            digest_of(File::open(&restored).unwrap()).unwrap(),
            digest_of(File::open(&path).unwrap()).unwrap()
        );
        if has_attributes {
            let mut found = vec![0; 4000];
            let len = rustix::fs::getxattr(&restored, "user.long", &mut found[..]).unwrap();
            assert_eq!(found[..len], value);
        }
        assert_eq!(
            fs::read_link(dest.join("data/link")).unwrap(),
            Path::new(&"t".repeat(4000))
        );
    }
}

/// Without one of its pieces, an object is not restored under its name, and others are.
fn piece_without_its_others_damages_its_object(placement: Placement) {
    for lost in [false, true] {
        let mut pack = Pack::default();
        let number = pack.begin(&file("long"));
        let piece = |continues, goes_on, body| {
            EntryBody::Piece(datapipe::wire::EntryPiece {
                kind: 2,
                continues,
                goes_on,
                body,
            })
        };
        pack.entry(
            number,
            piece(false, true, &[6, 0, 0, 0, 4, 0, 0, 0, b'u', b's']),
        );
        pack.cut();
        if !lost {
            pack.entry(number, piece(true, true, b"er.a"));
            pack.cut();
            pack.entry(number, piece(true, false, b"abcd"));
        }
        pack.extent(number, 0, b"x");
        pack.end(number, 1, super::pack::digest(&[(0, b"x")]));
        pack.file("other", b"x");
        let site = Site::new(placement);
        let report = site.plain(pack);
        let text = problems(&report);
        assert_eq!(report.damaged_count, u64::from(lost), "{text}");
        assert_eq!(
            text.contains("a part of one of its entries is missing"),
            lost,
            "{text}"
        );
        let first = if lost { "long.damaged" } else { "long" };
        assert_eq!(site.names(), [first, "other"]);
    }
}

fn repeated_object_number_is_refused(placement: Placement) {
    let mut pack = Pack::default();
    let first = pack.file("first", b"x");
    pack.entry(first, EntryBody::Object(file("again")));
    pack.extent(first, 0, b"y");
    pack.end(first, 1, super::pack::digest(&[(0, b"y")]));
    pack.file("last", b"x");
    let site = Site::new(placement);
    let report = site.plain(pack);
    assert_eq!(site.names(), ["first", "last"]);
    assert_eq!(
        problems(&report),
        "\"again\": has the number 1, which is not above that of an object before it, 1\n"
    );
}

/// A list took two objects with one number for two whole ones, and could give one the end of the
/// other.
#[test]
fn list_refuses_a_repeated_object_number() {
    let pack = |is_open: bool| {
        let mut pack = Pack::default();
        let first = pack.begin(&file("first"));
        if !is_open {
            pack.end(first, 0, super::pack::digest(&[]));
        }
        pack.entry(first, EntryBody::Object(file("again")));
        pack.end(first, 0, super::pack::digest(&[]));
        pack.file("last", b"x");
        pack
    };
    for is_open in [false, true] {
        let listed = Arc::new(Mutex::new(Vec::new()));
        let list = || {
            let listed = Arc::clone(&listed);
            TreeList::new(move |object| {
                let path = String::from_utf8(object.path.to_vec()).unwrap();
                listed.lock().unwrap().push((path, object.state));
                Ok(())
            })
        };
        let error = pack(is_open).run(list()).unwrap_err().to_string();
        assert!(error.contains("block 0, byte "), "{error}");
        assert!(
            error.contains("the number 1, which is not above"),
            "{error}"
        );
        listed.lock().unwrap().clear();
        let log = DamageLog::new();
        pack(is_open).run(list().salvage(&log)).unwrap();
        assert_eq!(log.count(), 1, "{:?}", log.snapshot().entries);
        let first = if is_open {
            ObjectState::Unread
        } else {
            ObjectState::Whole
        };
        let expected = [("first", first), ("last", ObjectState::Whole)];
        let expected = expected.map(|(path, state)| (path.to_owned(), state));
        assert_eq!(*listed.lock().unwrap(), expected);
    }
}

/// The entry of the inode counted as an attribute.
fn attributes_up_to_the_limit_are_accepted_beside_an_inode(placement: Placement) {
    // Each entry has 24 bytes, name and value.
    let pack = |bytes: usize| {
        let mut pack = Pack::default();
        let number = pack.begin(&file("file"));
        let born = Some(super::pack::WHEN);
        pack.entry(number, EntryBody::Inode(InodeFacts { flags: 0, born }));
        let mut left = bytes;
        for at in 0..16 {
            let name = format!("user.{at:02}");
            let value = vec![1; (left - 24 - name.len()).min(65_536)];
            left -= 24 + name.len() + value.len();
            let name = name.as_bytes();
            pack.entry(number, EntryBody::Attribute(name, &value));
        }
        assert_eq!(left, 0);
        pack.end(number, 0, super::pack::digest(&[]));
        pack
    };
    let report = pack(MAX_OBJECT_ATTRIBUTES).verify(placement);
    assert!(report.is_whole(), "{}", problems(&report));
    let report = pack(MAX_OBJECT_ATTRIBUTES + 1).verify(placement);
    assert!(problems(&report).contains("cannot set attribute user.15"));
    // The inode comes once.
    let mut twice = Pack::default();
    let number = twice.begin(&file("file"));
    for flags in [1, 0x40] {
        let body = EntryBody::Inode(InodeFacts { flags, born: None });
        twice.entry(number, body);
    }
    twice.end(number, 0, super::pack::digest(&[]));
    let text = problems(&twice.verify(placement));
    assert!(text.contains("its inode"), "{text}");
}

/// Flags that forbid changes, or are harmless.
const FLAGS: IFlags = IFlags::IMMUTABLE.union(IFlags::NODUMP);

fn set_flags(path: &Path, on: bool) -> std::io::Result<()> {
    let file = File::open(path)?;
    let before = ioctl_getflags(file.as_fd())?;
    let after = if on { before | FLAGS } else { before & !FLAGS };
    Ok(ioctl_setflags(file.as_fd(), after)?)
}

/// Objects whose flags are cleared at the end of a test, so that they can be removed.
struct Frozen(Vec<std::path::PathBuf>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = set_flags(path, false);
        }
    }
}

fn inode_flags_are_restored_last(placement: Placement) {
    let temp = tempfile::tempdir().unwrap();
    let (source, dest) = (temp.path().join("data"), temp.path().join("dest"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&dest).unwrap();
    fs::write(source.join("file"), b"content").unwrap();
    fs::hard_link(source.join("file"), source.join("second")).unwrap();
    fs::write(source.join("plain"), b"content").unwrap();
    let copies = [dest.join("data"), dest.join("data/file")];
    let all = [source.clone(), source.join("file")]
        .into_iter()
        .chain(copies.clone());
    let _frozen = Frozen(all.collect());
    if !is_root() || set_flags(&source.join("file"), true).is_err() {
        println!("skipped: only root sets these flags, and only some file systems have them");
        return;
    }
    set_flags(&source, true).unwrap();
    let report = restored(&source, &dest, 64 << 10, placement);
    let get = |path: &Path| ioctl_getflags(File::open(path).unwrap()).unwrap() & FLAGS;
    assert!(report.is_whole(), "{}", problems(&report));
    assert_eq!(copies.map(|path| get(&path)), [FLAGS; 2]);
    assert_eq!(get(&dest.join("data/plain")), IFlags::empty());
    assert_eq!(fs::metadata(dest.join("data/file")).unwrap().nlink(), 2);
}

/// A file system in a file, mounted until this is dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn btrfs() -> Option<Self> {
        let temp = tempfile::tempdir().unwrap();
        let (image, root) = (temp.path().join("image"), temp.path().join("root"));
        let run = |program: &str, arguments: &[&Path]| {
            let output = Command::new(program).args(arguments).output();
            output.is_ok_and(|output| output.status.success())
        };
        File::create(&image).unwrap().set_len(256 << 20).unwrap();
        fs::create_dir(&root).unwrap();
        let is_mounted = is_root()
            && run("mkfs.btrfs", &["-q".as_ref(), &image])
            && run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &root]);
        is_mounted.then(|| Self(temp))
    }

    fn root(&self) -> std::path::PathBuf {
        self.0.path().join("root")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let output = Command::new("umount").arg(self.root()).output();
        assert!(output.unwrap().status.success() || std::thread::panicking());
    }
}

/// The flag has no effect on a file that has data: the file system refused it, or ignored it.
#[test]
fn file_without_copy_on_write_comes_back_as_one() {
    let Some(mounted) = Mounted::btrfs() else {
        println!("skipped: this process cannot make and mount a file system of type btrfs");
        return;
    };
    let (source, dest) = (mounted.root().join("data"), mounted.root().join("dest"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&dest).unwrap();
    let file = File::create(source.join("file")).unwrap();
    let before = ioctl_getflags(&file).unwrap();
    ioctl_setflags(&file, before | IFlags::NOCOW).unwrap();
    drop(file);
    fs::write(source.join("file"), noise(200_000, 1)).unwrap();
    let report = restored(&source, &dest, 64 << 10, Placement::Threads);
    assert!(report.is_whole(), "{}", problems(&report));
    let file = File::open(dest.join("data/file")).unwrap();
    assert!(ioctl_getflags(&file).unwrap().contains(IFlags::NOCOW));
}

#[test]
fn time_of_birth_is_stored_on_request() {
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("data");
    fs::create_dir(&source).unwrap();
    for wanted in [false, true] {
        let options = TreeOptions::default().birth_time(wanted);
        let head = TreeHead::new(&[&source], options).unwrap();
        let blocks = crate::entries::blocks_of(head, 4096);
        let (mut rest, mut found) = (&blocks[0].2[..], None);
        while let Ok((entry, after)) = datapipe::wire::Entry::parse(rest) {
            if let EntryBody::Inode(InodeFacts { born, .. }) = entry.body {
                found = born;
            }
            rest = after;
        }
        let has_time = fs::metadata(&source).unwrap().created().is_ok();
        assert_eq!(found.is_some(), wanted && has_time);
    }
}
