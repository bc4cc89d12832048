//! Number of bytes to read. A separate thread counts them in advance, without reading any content.

use std::ffi::OsString;
use std::fs::{self, Metadata, ReadDir};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

use datapipe::tree::Excluded;

use crate::descriptors;

/// Number of directories that are open at once, if that is not more than an eighth of what this
/// program may open: the job needs the rest. Deeper directories are not counted: an estimate need
/// not be exact.
const MAX_DEPTH: usize = 64;

/// Estimated number of bytes of all files below some paths. Dropping it stops the counting.
#[derive(Debug)]
pub struct Estimate(Arc<OnceLock<u64>>);

/// Objects that are not counted.
#[derive(Clone, Debug)]
pub struct Exclusions {
    /// Leave out other file systems that are mounted below the paths.
    pub other_file_systems: bool,
    /// Leave out the objects that these patterns match.
    pub patterns: Excluded,
}

impl Estimate {
    /// Starts to count the bytes below some paths, each with its name in the archive. Objects that
    /// cannot be inspected are not counted.
    pub fn start(sources: Vec<(OsString, PathBuf)>, exclusions: Exclusions) -> Self {
        let total = Arc::new(OnceLock::new());
        let result = Arc::downgrade(&total);
        // If the thread cannot start, there is no estimate; everything else works.
        let _ = thread::Builder::new()
            .name("estimate".to_owned())
            .spawn(move || {
                let bytes = sources.into_iter().try_fold(0u64, |sum, (name, source)| {
                    Some(sum.saturating_add(count_bytes_below(name, source, &exclusions, &result)?))
                });
                if let (Some(bytes), Some(result)) = (bytes, result.upgrade()) {
                    let _ = result.set(bytes);
                }
            });
        Self(total)
    }

    /// Returns the total number of bytes, or `None` while the counting goes on.
    pub fn total(&self) -> Option<u64> {
        self.0.get().copied()
    }
}

/// Counts the bytes of the files at and below `source`, which is `name` in the archive. Returns
/// `None` if the [`Estimate`] was dropped, which is when `wanted` has no owner left.
///
/// Walks depth first. `open` has the directories from the root to the present one, each with the
/// length of its path in the archive, to which `path` is cut before the next name is appended.
fn count_bytes_below(
    name: OsString,
    source: PathBuf,
    exclusions: &Exclusions,
    wanted: &Weak<OnceLock<u64>>,
) -> Option<u64> {
    let mut path = name.into_vec();
    let Ok(root) = fs::symlink_metadata(&source) else {
        return Some(0);
    };
    if exclusions.patterns.matches(&path, root.is_dir()) {
        return Some(0);
    }
    let is_same_file_system =
        |meta: &Metadata| !exclusions.other_file_systems || meta.dev() == root.dev();
    let mut bytes = bytes_of(&root);
    let mut open: Vec<(ReadDir, usize)> = Vec::new();
    let max_depth = MAX_DEPTH.min(descriptors::limit() / 8);
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
        if exclusions.patterns.matches(&path, meta.is_dir()) {
            continue;
        }
        bytes = bytes.saturating_add(bytes_of(&meta));
        if meta.is_dir() && is_same_file_system(&meta) && open.len() < max_depth {
            enter(&mut open, entry.path(), path.len());
        }
    }
    Some(bytes)
}

/// Returns the number of bytes that are read of a file: its length without holes.
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
    fn bytes_are_counted_until_the_estimate_is_dropped() {
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
            let exclusions = Exclusions {
                other_file_systems: true,
                patterns: Excluded::new(&patterns, []).unwrap(),
            };
            count_bytes_below("data".into(), dir.path().to_owned(), &exclusions, &wanted)
        };
        assert_eq!(count(&[], Arc::downgrade(&total)), Some(15_000));
        assert_eq!(count(&["data/below/*"], Arc::downgrade(&total)), Some(5000));
        assert_eq!(count(&["b"], Arc::downgrade(&total)), Some(10_000));
        assert_eq!(count(&["data"], Arc::downgrade(&total)), Some(0));
        assert_eq!(count(&[], Weak::new()), None);
    }
}
