//! How much there is to be read: counted ahead by a thread of its own, which looks at no content.

use std::fs::{self, Metadata, ReadDir};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

/// Directories that are open at once. What lies deeper is not counted: nobody needs it to the byte.
const DEPTH: usize = 64;

/// The bytes of all files below some paths. Dropping it ends the counting.
#[derive(Debug)]
pub struct Estimate(Arc<OnceLock<u64>>);

impl Estimate {
    /// Begins to count. What cannot be looked at counts nothing.
    pub fn start(sources: Vec<PathBuf>, one_file_system: bool) -> Self {
        let total = Arc::new(OnceLock::new());
        let result = Arc::downgrade(&total);
        // Without it there is no estimate, and nothing else is missing.
        let _ = thread::Builder::new().name("estimate".to_owned()).spawn(move || {
            let bytes = sources.into_iter().try_fold(0u64, |sum, source| {
                Some(sum.saturating_add(bytes_below(source, one_file_system, &result)?))
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
fn bytes_below(source: PathBuf, one_file_system: bool, wanted: &Weak<OnceLock<u64>>) -> Option<u64> {
    let Ok(root) = fs::symlink_metadata(&source) else { return Some(0) };
    let stays = |meta: &Metadata| !one_file_system || meta.dev() == root.dev();
    let mut bytes = bytes_of(&root);
    let mut open: Vec<ReadDir> = Vec::new();
    if root.is_dir() {
        open.extend(fs::read_dir(source));
    }
    while let Some(directory) = open.last_mut() {
        if wanted.strong_count() == 0 {
            return None;
        }
        let Some(entry) = directory.next() else {
            open.pop();
            continue;
        };
        let Ok((path, meta)) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) else {
            continue;
        };
        bytes = bytes.saturating_add(bytes_of(&meta));
        if meta.is_dir() && stays(&meta) && open.len() < DEPTH {
            open.extend(fs::read_dir(path));
        }
    }
    Some(bytes)
}

/// What is read of a file: not its holes.
fn bytes_of(meta: &Metadata) -> u64 {
    if meta.is_file() { meta.len().min(meta.blocks().saturating_mul(512)) } else { 0 }
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
        File::create(dir.path().join("holes")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        let total = Arc::new(OnceLock::new());
        let count = |wanted: Weak<_>| bytes_below(dir.path().to_owned(), true, &wanted);
        assert_eq!(count(Arc::downgrade(&total)), Some(15_000));
        assert_eq!(count(Weak::new()), None);
    }
}
