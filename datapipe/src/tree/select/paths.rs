//! Selection of objects by their paths.

use std::collections::BTreeMap;

use crate::wire::ObjectKind;

/// Set of paths, each of which selects the object at the path and everything below it.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Maps each path to true if an object was found at it. Empty if everything is selected.
    paths: BTreeMap<Vec<u8>, bool>,
}

impl Selection {
    /// Creates a selection. `paths` may begin with "/" or "./", and end with "/". An empty path, or
    /// ".", selects everything, and so does an empty list.
    pub fn new(paths: &[Vec<u8>]) -> Self {
        let normalize = |path: &Vec<u8>| {
            let parts = path
                .split(|&byte| byte == b'/')
                .filter(|part| !part.is_empty() && *part != b".");
            parts.collect::<Vec<_>>().join(&b'/')
        };
        let mut paths: BTreeMap<_, _> = paths.iter().map(|path| (normalize(path), false)).collect();
        if paths.contains_key(&Vec::new()) {
            paths.clear();
        }
        Self { paths }
    }

    /// Returns the same paths, none of them found.
    pub(super) fn as_not_found(&self) -> Self {
        Self {
            paths: self
                .paths
                .keys()
                .map(|path| (path.clone(), false))
                .collect(),
        }
    }

    /// Returns true if the object of this kind at `path` is selected: it is at one of the paths or
    /// below one, or is a directory on the way to one. In the first two cases, that path counts as
    /// found.
    pub fn wants(&mut self, path: &[u8], kind: ObjectKind) -> bool {
        if self.paths.is_empty() {
            return true;
        }
        let ends = path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(end, _)| end);
        // One path may be below another; then both are found.
        let mut wanted = false;
        for end in ends.chain([path.len()]) {
            if let Some(found) = self.paths.get_mut(&path[..end]) {
                *found = true;
                wanted = true;
            }
        }
        wanted
            || kind == ObjectKind::Directory && {
                let below = [path, b"/"].concat();
                self.paths
                    .range(below.clone()..)
                    .next()
                    .is_some_and(|(first, _)| first.starts_with(&below))
            }
    }

    /// Returns true if no path selects the object at `path`, but some object below it may be
    /// selected.
    pub(in crate::tree) fn is_only_on_the_way(&self, path: &[u8]) -> bool {
        let is_end = |end: &usize| *end == path.len() || path[*end] == b'/';
        let mut ends = (1..=path.len()).filter(is_end);
        !self.paths.is_empty() && !ends.any(|end| self.paths.contains_key(&path[..end]))
    }

    /// Returns the paths; none if everything is selected.
    pub(in crate::tree) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.paths.keys().map(Vec::as_slice)
    }

    /// Returns the paths at which no object was found.
    pub fn not_found(&self) -> impl Iterator<Item = &[u8]> {
        self.paths
            .iter()
            .filter(|(_, found)| !**found)
            .map(|(path, _)| path.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_below_and_directories_above_are_selected() {
        let mut selection = Selection::new(&[b"/a/b/".to_vec(), b"./x".to_vec()]);
        assert!(
            selection.wants(b"a", ObjectKind::Directory)
                && !selection.wants(b"a", ObjectKind::File)
        );
        assert!(
            !selection.wants(b"a/bc", ObjectKind::Directory)
                && !selection.wants(b"ab", ObjectKind::Directory)
                && !selection.wants(b"xy", ObjectKind::File)
        );
        assert!(selection.not_found().eq([&b"a/b"[..], b"x"]));
        assert!(
            selection.wants(b"a/b", ObjectKind::Directory)
                && selection.wants(b"a/b/c/d", ObjectKind::File)
        );
        assert!(selection.not_found().eq([&b"x"[..]]));
        let mut nested = Selection::new(&[b"a".to_vec(), b"a/b".to_vec(), b"a/c".to_vec()]);
        assert!(
            nested.wants(b"a", ObjectKind::Directory) && nested.wants(b"a/b", ObjectKind::File)
        );
        assert!(nested.not_found().eq([&b"a/c"[..]]));
        assert!(Selection::new(&[b".".to_vec(), b"a".to_vec()]).wants(b"z", ObjectKind::File));
        assert!(Selection::new(&[]).wants(b"z", ObjectKind::File));
    }
}
