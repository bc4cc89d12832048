//! The objects in a directory. Symbolic links are not followed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Properties of the object at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Kind, as `ls` prints it: - d l p c b s
    pub(crate) kind: char,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) modified: (i64, i64),
    pub(crate) size: u64,
    /// Allocated size in sectors of 512 bytes.
    pub(crate) blocks: u64,
    pub(crate) inode: u64,
    pub(crate) names: u64,
    pub(crate) target: String,
    pub(crate) attributes: BTreeMap<String, Vec<u8>>,
    /// Content of a file of up to 1 MiB.
    pub(crate) data: Vec<u8>,
}

/// Returns the properties of everything below `root`, by path.
pub(crate) fn walk(root: &Path) -> BTreeMap<String, Seen> {
    let (mut seen, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let one = inspect(&path);
            if one.kind == 'd' {
                folders.push(path);
            }
            seen.insert(name, one);
        }
    }
    seen
}

/// Returns the properties of the object at `path`.
pub(crate) fn inspect(path: &Path) -> Seen {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = match meta.mode() & 0o170_000 {
        0o100_000 => '-',
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o010_000 => 'p',
        0o020_000 => 'c',
        0o060_000 => 'b',
        _ => 's',
    };
    let target = if kind == 'l' {
        fs::read_link(path).unwrap().to_str().unwrap().to_owned()
    } else {
        String::new()
    };
    let data = if kind == '-' && meta.len() <= 1 << 20 {
        fs::read(path).unwrap()
    } else {
        Vec::new()
    };
    Seen {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        modified: (meta.mtime(), meta.mtime_nsec()),
        size: meta.len(),
        blocks: meta.blocks(),
        inode: meta.ino(),
        names: meta.nlink(),
        target,
        attributes: attributes(path),
        data,
    }
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let Ok(len) = rustix::fs::llistxattr(path, &mut names[..]) else {
        return BTreeMap::new();
    };
    let names = names[..len]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let len = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            (
                String::from_utf8(name.to_vec()).unwrap(),
                value[..len].to_vec(),
            )
        })
        .collect()
}
