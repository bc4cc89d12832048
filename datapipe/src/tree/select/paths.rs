//! Which objects are wanted.

use std::collections::BTreeMap;

/// Paths, each of which stands for itself and for what is below it.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Whether something of it was there; empty if everything is wanted.
    paths: BTreeMap<Vec<u8>, bool>,
}

impl Selection {
    /// `paths` may begin with "/" or "./", and end with "/". An empty path, or ".", is all there
    /// is, and so are no paths at all.
    pub fn new(paths: &[Vec<u8>]) -> Self {
        let plain = |path: &Vec<u8>| {
            let parts = path
                .split(|&byte| byte == b'/')
                .filter(|part| !part.is_empty() && *part != b".");
            parts.collect::<Vec<_>>().join(&b'/')
        };
        let mut paths: BTreeMap<_, _> = paths.iter().map(|path| (plain(path), false)).collect();
        if paths.contains_key(&Vec::new()) {
            paths.clear();
        }
        Self { paths }
    }

    /// The same paths, of which nothing was there yet.
    pub(super) fn not_yet_found(&self) -> Self {
        Self {
            paths: self
                .paths
                .keys()
                .map(|path| (path.clone(), false))
                .collect(),
        }
    }

    /// Whether `path` is wanted: it is one of the paths or below one, or a directory on the way to
    /// one.
    pub fn wants(&mut self, path: &[u8], is_directory: bool) -> bool {
        if self.paths.is_empty() {
            return true;
        }
        let ends = path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(end, _)| end);
        // One path may be below another, and both are found.
        let mut wanted = false;
        for end in ends.chain([path.len()]) {
            if let Some(found) = self.paths.get_mut(&path[..end]) {
                *found = true;
                wanted = true;
            }
        }
        wanted
            || is_directory && {
                let below = [path, b"/"].concat();
                self.paths
                    .range(below.clone()..)
                    .next()
                    .is_some_and(|(first, _)| first.starts_with(&below))
            }
    }

    /// The paths; none if everything is wanted.
    pub(in crate::tree) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.paths.keys().map(Vec::as_slice)
    }

    /// The paths of which nothing was there.
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
    fn what_is_below_is_wanted_and_what_leads_there() {
        let mut selection = Selection::new(&[b"/a/b/".to_vec(), b"./x".to_vec()]);
        assert!(selection.wants(b"a", true) && !selection.wants(b"a", false));
        assert!(
            !selection.wants(b"a/bc", true)
                && !selection.wants(b"ab", true)
                && !selection.wants(b"xy", false)
        );
        assert!(selection.not_found().eq([&b"a/b"[..], b"x"]));
        assert!(selection.wants(b"a/b", true) && selection.wants(b"a/b/c/d", false));
        assert!(selection.not_found().eq([&b"x"[..]]));
        let mut nested = Selection::new(&[b"a".to_vec(), b"a/b".to_vec(), b"a/c".to_vec()]);
        assert!(nested.wants(b"a", true) && nested.wants(b"a/b", false));
        assert!(nested.not_found().eq([&b"a/c"[..]]));
        assert!(Selection::new(&[b".".to_vec(), b"a".to_vec()]).wants(b"z", false));
        assert!(Selection::new(&[]).wants(b"z", false));
    }
}
