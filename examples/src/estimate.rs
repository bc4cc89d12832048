//! How much there is to be read: counted ahead by a thread of its own, which looks at no content.

use std::ffi::OsString;
use std::fs::{self, Metadata, ReadDir};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

use datapipe::tree::Excluded;

/// Directories that are open at once. What lies deeper is not counted: nobody needs it to the byte.
const DEPTH: usize = 64;

/// The bytes of all files below some paths. Dropping it ends the counting.
#[derive(Debug)]
pub struct Estimate(Arc<OnceLock<u64>>);

/// What is not counted.
#[derive(Clone, Debug)]
pub struct LeftOut {
    /// Other file systems.
    pub mounted: bool,
    /// What these patterns match.
    pub excluded: Excluded,
}

impl Estimate {
    /// Begins to count what is below some paths, each with its name in the archive. What cannot be
    /// looked at counts nothing.
    pub fn start(sources: Vec<(OsString, PathBuf)>, left_out: LeftOut) -> Self {
        let total = Arc::new(OnceLock::new());
        let result = Arc::downgrade(&total);
        // Without it there is no estimate, and nothing else is missing.
        let _ = thread::Builder::new()
            .name("estimate".to_owned())
            .spawn(move || {
                let bytes = sources.into_iter().try_fold(0u64, |sum, (name, source)| {
                    Some(sum.saturating_add(bytes_below(name, source, &left_out, &result)?))
                });
                if let (Some(bytes), Some(result)) = (bytes, result.upgrade()) {
                    let _ = result.set(bytes);
                }
            });
        Self(total)
    }

    /// All bytes, once they have been counted.
    pub fn total(&self) -> Option<u64> {
        self.0.get().copied()
    }
}

/// `None` if nobody wants to know any more.
fn bytes_below(
    name: OsString,
    source: PathBuf,
    left_out: &LeftOut,
    wanted: &Weak<OnceLock<u64>>,
) -> Option<u64> {
    let mut path = name.into_vec();
    let Ok(root) = fs::symlink_metadata(&source) else {
        return Some(0);
    };
    if left_out.excluded.matches(&path, &path) {
        return Some(0);
    }
    let stays = |meta: &Metadata| !left_out.mounted || meta.dev() == root.dev();
    let mut bytes = bytes_of(&root);
    // With the length of the path in the archive.
    let mut open: Vec<(ReadDir, usize)> = Vec::new();
    let enter = |open: &mut Vec<_>, directory: PathBuf, len| {
        open.extend(fs::read_dir(directory).map(|names| (names, len)));
    };
    if root.is_dir() {
        enter(&mut open, source, path.len());
    }
    while let Some((directory, len)) = open.last_mut() {
        if wanted.strong_count() == 0 {
            return None;
        }
        path.truncate(*len);
        let Some(entry) = directory.next() else {
            open.pop();
            continue;
        };
        let Ok((entry, meta)) = entry.and_then(|entry| entry.metadata().map(|meta| (entry, meta)))
        else {
            continue;
        };
        let name = entry.file_name();
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
        if left_out.excluded.matches(&path, name.as_bytes()) {
            continue;
        }
        bytes = bytes.saturating_add(bytes_of(&meta));
        if meta.is_dir() && stays(&meta) && open.len() < DEPTH {
            enter(&mut open, entry.path(), path.len());
        }
    }
    Some(bytes)
}

/// What is read of a file: not its holes.
fn bytes_of(meta: &Metadata) -> u64 {
    if meta.is_file() {
        meta.len().min(meta.blocks().saturating_mul(512))
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs::File;

    use super::*;

    #[test]
    fn counts_what_is_there_and_stops_when_nobody_asks() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("below/a"), vec![1; 10_000]).unwrap();
        fs::write(dir.path().join("b"), vec![1; 5000]).unwrap();
        File::create(dir.path().join("holes"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        let total = Arc::new(OnceLock::new());
        let count = |patterns: &[&str], wanted: Weak<_>| {
            let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
            let left_out = LeftOut {
                mounted: true,
                excluded: Excluded::new(&patterns).unwrap(),
            };
            bytes_below("data".into(), dir.path().to_owned(), &left_out, &wanted)
        };
        assert_eq!(count(&[], Arc::downgrade(&total)), Some(15_000));
        assert_eq!(count(&["data/below/*"], Arc::downgrade(&total)), Some(5000));
        assert_eq!(count(&["b"], Arc::downgrade(&total)), Some(10_000));
        assert_eq!(count(&["data"], Arc::downgrade(&total)), Some(0));
        assert_eq!(count(&[], Weak::new()), None);
    }
}
