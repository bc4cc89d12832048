//! A directory as a stream, and back: tar, with modification times to the nanosecond.
//!
//! Kept: names, contents, modes, owners (if restored as root), modification times, symlinks, empty directories.
//! Not kept: extended attributes, ACLs, holes, which come back as zeros, and that two names were one file. Sockets,
//! pipes and devices are left out, with a mention.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;
use tar::{Archive, Builder, Entry, EntryType, Header};

/// A directory to be packed.
#[derive(Debug)]
pub struct Source {
    root: PathBuf,
    name: OsString,
}

impl Source {
    /// The directory at `path`, and what it is called: by its own name if it has one on the way there.
    ///
    /// # Errors
    ///
    /// If it is no directory, or cannot be found.
    pub fn open(path: &Path) -> io::Result<Self> {
        let about = |error| with_path("cannot read", path, error);
        if !fs::metadata(path).map_err(about)?.is_dir() {
            return Err(about(io::ErrorKind::NotADirectory.into()));
        }
        let name = match path.file_name() {
            Some(name) => name.to_owned(),
            None => path
                .canonicalize()
                .map_err(about)?
                .file_name()
                .unwrap_or_else(|| OsStr::new("root"))
                .to_owned(),
        };
        Ok(Self { root: path.to_owned(), name })
    }

    /// What the directory is called.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Writes the directory and all it holds to `out`, each directory before its content.
    ///
    /// Files that are `own` are left out: those that are being written, which may lie in the tree. What else is left
    /// out is told to `mention`.
    ///
    /// # Errors
    ///
    /// If something cannot be read, or changes its size while it is: a backup has everything or is none. If `out`
    /// cannot be written.
    pub fn pack(
        &self,
        out: impl Write,
        own: &dyn Fn(&Path, &Metadata) -> bool,
        mention: &dyn Fn(&str),
    ) -> io::Result<()> {
        let mut tar = Builder::new(out);
        let mut ahead = vec![PathBuf::new()];
        while let Some(below) = ahead.pop() {
            let path = self.root.join(&below);
            match self.append(&mut tar, &path, &below, own, mention) {
                Ok(names) => ahead.extend(names.iter().rev().map(|name| below.join(name))),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !below.as_os_str().is_empty() => {
                    mention(&format!("{path:?} has vanished and is left out"));
                }
                Err(error) => return Err(error),
            }
        }
        tar.into_inner()?.flush()
    }

    /// Writes one member. Returns the names in it, if it is a directory.
    fn append(
        &self,
        tar: &mut Builder<impl Write>,
        path: &Path,
        below: &Path,
        own: &dyn Fn(&Path, &Metadata) -> bool,
        mention: &dyn Fn(&str),
    ) -> io::Result<Vec<OsString>> {
        let about = |error| with_path("cannot read", path, error);
        let is_root = below.as_os_str().is_empty();
        // The root itself may be given as a symlink; nothing else is followed.
        let found = if is_root { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let found = found.map_err(about)?;
        let name = if is_root { PathBuf::from(&self.name) } else { Path::new(&self.name).join(below) };
        let kind = found.file_type();
        if kind.is_dir() {
            let mut names = Vec::new();
            for entry in fs::read_dir(path).map_err(about)? {
                names.push(entry.map_err(about)?.file_name());
            }
            names.sort_unstable();
            append_member(tar, &name, &found, &[], io::empty())?;
            return Ok(names);
        }
        if kind.is_symlink() {
            let target = fs::read_link(path).map_err(about)?;
            append_member(tar, &name, &found, target.as_os_str().as_bytes(), io::empty())?;
        } else if kind.is_file() {
            // It may have become another file since: that is not followed either, nor waited for.
            let careful = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
            let file = OpenOptions::new().read(true).custom_flags(careful).open(path).map_err(about)?;
            let opened = file.metadata().map_err(about)?;
            if own(path, &opened) {
                return Ok(Vec::new());
            }
            if !opened.is_file() {
                return Err(about(io::Error::other("it was replaced while it was read")));
            }
            append_member(tar, &name, &opened, &[], Content { file, left: opened.len(), path })?;
        } else {
            let kind = if kind.is_socket() {
                "socket"
            } else if kind.is_fifo() {
                "pipe"
            } else {
                "device"
            };
            mention(&format!("{path:?} is a {kind} and is left out"));
        }
        Ok(Vec::new())
    }
}

/// As many bytes of a file as it had when it was opened: what is appended later is not in the backup.
struct Content<'p> {
    file: File,
    left: u64,
    path: &'p Path,
}

impl Read for Content<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let wanted = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = match self.file.read(&mut bytes[..wanted]) {
            Ok(0) if wanted > 0 => Err(io::Error::other("it became shorter while it was read")),
            got => got,
        };
        let got = got.map_err(|error| with_path("cannot read", self.path, error))?;
        self.left -= got as u64;
        Ok(got)
    }
}

/// Longer names stand in a member of their own before the one they belong to.
const SHORT_NAME: usize = 99;

/// Names are written as they are: what the tar crate offers for it changes `a//b` and `./a`, and stumbles over long
/// names that are not UTF-8.
fn append_member(
    tar: &mut Builder<impl Write>,
    name: &Path,
    metadata: &Metadata,
    link: &[u8],
    content: impl Read,
) -> io::Result<()> {
    let name = name.as_os_str().as_bytes();
    let mtime = Mtime { seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() };
    tar.append_pax_extensions([("mtime", mtime.to_string().as_bytes())])?;
    for (kind, text) in [(EntryType::GNULongName, name), (EntryType::GNULongLink, link)] {
        if text.len() > SHORT_NAME {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(text.len() as u64 + 1);
            header.set_cksum();
            tar.append(&header, text.chain(&[0][..]))?;
        }
    }
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    header.set_mtime(u64::try_from(mtime.seconds).unwrap_or(0));
    let fields = header.as_old_mut();
    for (field, text) in [(&mut fields.name, name), (&mut fields.linkname, link)] {
        let text = &text[..text.len().min(SHORT_NAME)];
        field[..text.len()].copy_from_slice(text);
    }
    header.set_cksum();
    tar.append(&header, content)
}

/// Where a tree is restored to.
#[derive(Debug)]
pub struct Destination {
    dir: PathBuf,
    overwrite: bool,
}

/// A tree that is restored, and still stands under a name that nobody takes for the real one.
#[derive(Debug)]
pub struct Restored {
    place: PathBuf,
    name: PathBuf,
    /// What the tree's top will be like when it is in its place; until then nobody else can look in.
    top: Stamp,
}

impl Destination {
    /// Below `dir`, which is made if only it is missing. If `overwrite`, what stands there under the tree's name will be replaced.
    ///
    /// # Errors
    ///
    /// If it is no directory.
    pub fn open(dir: &Path, overwrite: bool) -> io::Result<Self> {
        let about = |error| with_path("cannot restore to", dir, error);
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(about(error)),
            _ => {}
        }
        if !fs::metadata(dir).map_err(about)?.is_dir() {
            return Err(about(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { dir: dir.to_owned(), overwrite })
    }

    /// Reads a packed tree from `stream` to its very end, and restores it under a name of its own.
    ///
    /// Every member must lie in a directory that came before, and there must be nothing in its place yet. So nothing
    /// can get out of the tree: the way to each member leads through directories that were made here, never through
    /// a symlink.
    ///
    /// # Errors
    ///
    /// If the stream is no tree, ends early, or has something behind its end; if the tree cannot be written, or its
    /// name is taken. What was restored until then is kept, and `began` was told where.
    pub fn unpack(&self, stream: impl Read, began: &dyn Fn(&Path)) -> io::Result<Restored> {
        let (ended, lost) = (Cell::new(false), Cell::new(0));
        let mut tar = Archive::new(Watched { stream, ended: &ended });
        let mut tree = Tree::default();
        self.unpack_members(&mut tar, &mut tree, (&ended, &lost), began, &|_| ())?;
        let mut rest = tar.into_inner();
        // The last block of a stream holds the mark of its end. So a stream that has lost its last blocks has none.
        if ended.get() {
            return Err(incomplete());
        }
        let mut behind = Vec::new();
        Read::by_ref(&mut rest).take(1024).read_to_end(&mut behind)?;
        if !ended.get() || behind.iter().any(|&byte| byte != 0) {
            return Err(io::Error::other("there is something behind the end of the tree"));
        }
        tree.finish()
    }

    /// Reads what is left of a packed tree, as far as its members can be told apart. Zeros stand in the stream for what
    /// is gone, and `lost` is how many were read so far. What was not restored is told to `mention`.
    ///
    /// # Errors
    ///
    /// If there is not even the tree's top, or something goes wrong that is not for want of data.
    pub fn salvage(
        &self,
        stream: impl Read,
        lost: &Cell<u64>,
        began: &dyn Fn(&Path),
        mention: &dyn Fn(&str),
    ) -> io::Result<Restored> {
        let ended = Cell::new(false);
        let mut tar = Archive::new(Watched { stream, ended: &ended });
        let mut tree = Tree::default();
        match self.unpack_members(&mut tar, &mut tree, (&ended, lost), began, mention) {
            Err(error) if lost.get() == 0 && !ended.get() => return Err(error),
            Err(error) => mention(&format!("nothing is restored from here on: {error}")),
            Ok(()) if ended.get() => mention(&format!("nothing is restored from here on: {}", incomplete())),
            Ok(()) if lost.get() > tree.lost => {
                mention(
                    "data is missing where the next member should begin: nothing is restored from here on",
                );
            }
            Ok(()) => {}
        }
        tree.finish()
    }

    /// Restores members up to the stream's mark of its end, or to its end.
    fn unpack_members<R: Read>(
        &self,
        tar: &mut Archive<Watched<'_, R>>,
        tree: &mut Tree,
        (ended, lost): (&Cell<bool>, &Cell<u64>),
        began: &dyn Fn(&Path),
        mention: &dyn Fn(&str),
    ) -> io::Result<()> {
        let root = rustix::process::geteuid().is_root();
        tar.set_preserve_ownerships(root);
        tar.set_preserve_permissions(true);
        // Set-user-ID means another thing where the owner is not the one that it was.
        let mask = if root { 0 } else { 0o6000 };
        tar.set_mask(mask);
        tar.set_preserve_mtime(false); // it would keep whole seconds only, and nothing for directories
        tar.set_overwrite(false);
        for entry in tar.entries()? {
            let mut entry = entry.map_err(|error| if ended.get() { incomplete() } else { error })?;
            let name = checked_name(&entry, &tree.directories)?;
            let place = match &tree.place {
                Some(place) => place,
                None => tree.place.insert(self.make_place(&name, began)?),
            };
            let path = place.join(&name);
            let stamp = Stamp::of(&mut entry, root, mask)?;
            tree.lost = lost.get();
            match entry.header().entry_type() {
                EntryType::Directory => {
                    let made = DirBuilder::new().mode(0o700).create(&path);
                    made.map_err(|error| with_path("cannot make", &path, error))?;
                    tree.directories.insert(name, stamp);
                }
                EntryType::Regular | EntryType::Symlink if !tree.directories.is_empty() => {
                    entry.unpack(&path).map_err(|error| match ended.get() {
                        true => strange(&name, &incomplete().to_string()),
                        false => strange(&name, &reason(&error)),
                    })?;
                    stamp.mtime.set(&path)?;
                    if let zeros @ 1.. = lost.get() - tree.lost {
                        mention(&format!("{name:?} has {zeros} bytes of zeros in the place of what is lost"));
                    }
                    tree.lost = lost.get();
                }
                kind => return Err(strange(&name, &format!("it is a member of kind {kind:?} there"))),
            }
        }
        Ok(())
    }

    /// Gives the tree its name. What it replaces is removed, if it may be.
    ///
    /// # Errors
    ///
    /// If the name is taken, or the file system refuses.
    pub fn put_in_place(&self, restored: Restored, mention: &dyn Fn(&str)) -> io::Result<()> {
        let Restored { place, name, top } = restored;
        let (made, target) = (place.join(&name), self.dir.join(&name));
        let replaces = self.overwrite && fs::symlink_metadata(&target).is_ok();
        let flags = if replaces { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        let moved = match rustix::fs::renameat_with(CWD, &made, CWD, &target, flags) {
            // Some file systems have the plain call only. For a directory it replaces nothing but an empty one.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if !replaces => fs::rename(&made, &target),
            moved => moved.map_err(io::Error::from),
        };
        moved.map_err(|error| {
            with_path(
                &format!("the tree is restored and stands in {place:?}, but cannot be called"),
                &target,
                error,
            )
        })?;
        top.set(&target)?;
        if let Err(error) = fs::remove_dir_all(&place) {
            mention(&format!("what {target:?} has replaced is left in {place:?}: {error}"));
        }
        Ok(())
    }

    fn make_place(&self, name: &Path, began: &dyn Fn(&Path)) -> io::Result<PathBuf> {
        let target = self.dir.join(name);
        if !self.overwrite && fs::symlink_metadata(&target).is_ok() {
            let what = format!("{target:?} exists already; give --overwrite to replace it");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".partial-");
        // Nobody else may look in: modes and owners are set at the end.
        let mut place = tempfile::Builder::new();
        place.prefix(&prefix).permissions(Permissions::from_mode(0o700)).disable_cleanup(true);
        let place =
            place.tempdir_in(&self.dir).map_err(|error| with_path("cannot restore to", &self.dir, error))?;
        began(place.path());
        Ok(place.keep())
    }
}

/// What was restored of a tree so far.
#[derive(Default)]
struct Tree {
    /// Where it stands, once it has begun.
    place: Option<PathBuf>,
    directories: BTreeMap<PathBuf, Stamp>,
    /// How much was lost up to the last member.
    lost: u64,
}

impl Tree {
    fn finish(mut self) -> io::Result<Restored> {
        let (Some(place), Some((name, top))) = (self.place, self.directories.pop_first()) else {
            return Err(io::Error::other("the stream holds no tree"));
        };
        // From the back, so that no directory is closed before those in it.
        for (name, stamp) in self.directories.iter().rev() {
            stamp.set(&place.join(name))?;
        }
        Ok(Restored { place, name, top })
    }
}

fn incomplete() -> io::Error {
    io::Error::other("the stream ends before the tree does: the archive is incomplete")
}

/// A reader that knows whether it was read to its end.
struct Watched<'e, R> {
    stream: R,
    ended: &'e Cell<bool>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let got = self.stream.read(bytes)?;
        if got == 0 && !bytes.is_empty() {
            self.ended.set(true);
        }
        Ok(got)
    }
}

/// What a directory is given when everything is in it.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    mode: u32,
    owner: Option<(u32, u32)>,
    mtime: Mtime,
}

impl Stamp {
    fn of(entry: &mut Entry<'_, impl Read>, keep_owner: bool, mask: u32) -> io::Result<Self> {
        let header = entry.header();
        let mode = header.mode()? & 0o7777 & !mask;
        let id = |id| u32::try_from(id).map_err(io::Error::other);
        let owner = if keep_owner { Some((id(header.uid()?)?, id(header.gid()?)?)) } else { None };
        Ok(Self { mode, owner, mtime: Mtime::of(entry)? })
    }

    fn set(&self, directory: &Path) -> io::Result<()> {
        let about = |error| with_path("cannot set owner and mode of", directory, error);
        if let Some((user, group)) = self.owner {
            chown(directory, Some(user), Some(group)).map_err(about)?;
        }
        fs::set_permissions(directory, Permissions::from_mode(self.mode)).map_err(about)?;
        self.mtime.set(directory)
    }
}

/// When something was modified. The nanoseconds count forwards, also before 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mtime {
    seconds: i64,
    nanoseconds: i64,
}

const NANOSECONDS: i128 = 1_000_000_000;

impl Mtime {
    fn of(entry: &mut Entry<'_, impl Read>) -> io::Result<Self> {
        for field in entry.pax_extensions()?.into_iter().flatten() {
            let field = field?;
            if field.key_bytes() == b"mtime" {
                let time = field.value().ok().and_then(Self::parse);
                return time.ok_or_else(|| io::Error::other("a modification time cannot be read"));
            }
        }
        Err(io::Error::other("a member of the tree has no modification time"))
    }

    /// Decimal seconds, as `to_string` writes them.
    fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (seconds, fraction) = digits.split_once('.')?;
        if fraction.len() != 9 {
            return None;
        }
        let (seconds, fraction) = (seconds.parse::<u64>().ok()?, fraction.parse::<u32>().ok()?);
        let all = sign * (i128::from(seconds) * NANOSECONDS + i128::from(fraction));
        let seconds = i64::try_from(all.div_euclid(NANOSECONDS)).ok()?;
        Some(Self { seconds, nanoseconds: all.rem_euclid(NANOSECONDS) as i64 })
    }

    fn set(self, path: &Path) -> io::Result<()> {
        let time = Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        let set = rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
        set.map_err(|error| with_path("cannot set the time of", path, error.into()))
    }
}

impl fmt::Display for Mtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = i128::from(self.seconds) * NANOSECONDS + i128::from(self.nanoseconds);
        let sign = if all < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:09}", all.abs() / NANOSECONDS, all.abs() % NANOSECONDS)
    }
}

/// The name of a member, if it may be restored: it lies in a directory that was, or is the first of all.
fn checked_name(entry: &Entry<'_, impl Read>, directories: &BTreeMap<PathBuf, Stamp>) -> io::Result<PathBuf> {
    let name = entry.path()?.into_owned();
    if !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(strange(&name, "it would leave the destination"));
    }
    let top = Path::new("");
    match name.parent() {
        Some(parent) if parent == top && directories.is_empty() => Ok(name),
        Some(parent) if parent != top && directories.contains_key(parent) => Ok(name),
        _ => Err(strange(&name, "its directory did not come before it")),
    }
}

fn strange(name: &Path, what: &str) -> io::Error {
    io::Error::other(format!("{name:?} cannot be restored: {what}"))
}

fn with_path(what: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {path:?}: {error}"))
}

/// What is at the bottom of an error: the tar crate wraps it in words of its own.
fn reason(error: &io::Error) -> String {
    let mut error: &dyn Error = error;
    while let Some(below) = error.source() {
        error = below;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_to_the_nanosecond() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0.000000000"),
            (1_700_000_000, 5, "1700000000.000000005"),
            (-1, 500_000_000, "-0.500000000"),
            (-2, 0, "-2.000000000"),
        ] {
            let time = Mtime { seconds, nanoseconds };
            assert_eq!(time.to_string(), text);
            assert_eq!(Mtime::parse(text), Some(time));
        }
        for bad in ["", "1", "1.5", "x.000000000", "1.-00000001", "99999999999999999999.000000000"] {
            assert_eq!(Mtime::parse(bad), None, "{bad}");
        }
    }

    /// A tar stream of members (kind, name, link), as somebody would make it who means harm.
    fn stream(members: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for &(kind, name, link) in members {
            tar.append_pax_extensions([("mtime", &b"1.000000000"[..])]).unwrap();
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(0);
            header.set_uid(0);
            header.set_gid(0);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            tar.append(&header, io::empty()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn unpack(stream: &[u8]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let destination = Destination::open(dir.path(), false).unwrap();
        let restored = destination.unpack(stream, &|_| ()).map_err(|error| error.to_string())?;
        let names = fs::read_dir(restored.place.join(restored.name)).unwrap();
        Ok(names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect())
    }

    #[test]
    fn nothing_leaves_the_destination() {
        use EntryType::{Char, Directory, Link, Regular, Symlink};
        let top = (Directory, "t", "");
        assert_eq!(unpack(&stream(&[top, (Regular, "t/a", "")])), Ok(vec!["a".to_owned()]));
        let hostile: &[(&str, &[_])] = &[
            ("would leave", &[top, (Regular, "t/../../a", "")]),
            ("would leave", &[top, (Regular, "/tmp/a", "")]),
            ("did not come before", &[top, (Regular, "u/a", "")]),
            ("did not come before", &[top, (Regular, "a", "")]),
            ("did not come before", &[top, (Directory, "u", "")]),
            ("did not come before", &[top, (Symlink, "t/a", "/tmp"), (Regular, "t/a/b", "")]),
            ("exists", &[top, (Symlink, "t/a", "/tmp"), (Directory, "t/a", "")]),
            ("exists", &[top, (Symlink, "t/a", "/tmp/b"), (Regular, "t/a", "")]),
            ("kind Link", &[top, (Link, "t/a", "/etc/passwd")]),
            ("kind Char", &[top, (Char, "t/a", "")]),
            ("kind Symlink", &[(Symlink, "t", "/tmp")]),
            ("kind Regular", &[(Regular, "t", "")]),
            ("would leave", &[(Directory, "..", "")]),
        ];
        for (reason, members) in hostile {
            let error = unpack(&stream(members)).unwrap_err();
            assert!(error.contains(reason), "{members:?}: {error}");
        }
    }

    #[test]
    fn the_stream_has_to_end_where_the_tree_does() {
        let whole = stream(&[(EntryType::Directory, "t", ""), (EntryType::Regular, "t/a", "")]);
        assert!(unpack(&whole).is_ok());
        for len in (0..=whole.len() - 1024).step_by(128) {
            let error = unpack(&whole[..len]).unwrap_err();
            assert!(!error.is_empty(), "{len} bytes");
        }
        let mut more = whole.clone();
        more.extend(&whole);
        assert!(unpack(&more).unwrap_err().contains("behind the end"));
        assert!(unpack(&[0; 1024]).unwrap_err().contains("no tree"));
    }
}
