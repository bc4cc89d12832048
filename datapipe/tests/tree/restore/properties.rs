//! Owners by name, inode flags, and entries that are longer than a block.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use datapipe::prelude::*;
use datapipe::tree::{
    RestoreOptions, RestoreOutcome, TreeHead, TreeOptions, TreeRestore, digest_of,
};
use datapipe::wire::{EntryBody, InodeFacts, ObjectKind, ObjectMeta, OwnerKind, OwnerName};
use rustix::fs::{IFlags, XattrFlags, ioctl_getflags, ioctl_setflags, setxattr};

use super::pack::{Pack, file, object};
use super::site::{Site, is_root, problems};
use crate::data::noise;
use crate::placement::Placement;

in_both_placements! {
    objects_belong_to_the_owners_with_their_names
    entries_in_pieces_are_restored
    piece_without_its_others_damages_its_object
    repeated_object_number_is_refused
    inode_flags_are_restored_last
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

fn objects_belong_to_the_owners_with_their_names(placement: Placement) {
    if !is_root() {
        println!("skipped: only root restores owners");
        return;
    }
    // A user and a group of this machine other than root.
    let number_of = |list: &str, name: &str| {
        let list = fs::read_to_string(list).unwrap_or_default();
        let line = list
            .lines()
            .find(|line| line.starts_with(&format!("{name}:")));
        line.and_then(|line| line.split(':').nth(2)?.parse::<u32>().ok())
    };
    let (Some(user), Some(group)) = (
        number_of("/etc/passwd", "daemon"),
        number_of("/etc/group", "daemon"),
    ) else {
        println!("skipped: this machine has no user and group \"daemon\"");
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
