//! Patterns of the names and paths that are left out of an archive.
//!
//! ```text
//!   pattern         normal form      compared with
//!   *.o             *.o              the last name of each path, and the path in the archive
//!   ./data//tmp     data/tmp         the same
//!   cache/          cache            the same, of directories only
//!   /srv/data/tmp   /srv/data/tmp    absolute paths of the objects in the sources
//! ```

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::interrupt::retry;

use super::options::TreeError;

/// The compiled patterns of [`TreeOptions::exclude`](field@super::TreeOptions::exclude), for a
/// program that examines a tree before it is read.
#[derive(Clone, Debug)]
pub struct Excluded {
    patterns: Arc<[Pattern]>,
    relative: Globs,
    absolute: Globs,
    /// Absolute paths of the source with this name, without a slash at the end.
    roots: HashMap<Vec<u8>, Vec<Vec<u8>>>,
}

/// A pattern as it was given.
#[derive(Debug)]
struct Pattern {
    text: String,
    only_directories: bool,
    /// The pattern has left out an object.
    used: OnceLock<()>,
}

/// Compiled patterns, each with its position among all patterns.
#[derive(Clone, Debug)]
struct Globs {
    set: GlobSet,
    patterns: Vec<usize>,
}

/// A pattern in its normal form.
#[derive(Debug, PartialEq, Eq)]
struct Normal {
    glob: String,
    only_directories: bool,
}

impl Excluded {
    /// Compiles patterns for sources, each of which is a name in the archive and a path. An empty
    /// list excludes nothing.
    ///
    /// # Errors
    ///
    /// [`TreeError::Pattern`].
    pub fn new(
        patterns: &[String],
        sources: impl IntoIterator<Item = (OsString, PathBuf)>,
    ) -> Result<Self, TreeError> {
        let (mut relative, mut absolute) = (Vec::new(), Vec::new());
        let mut all = Vec::with_capacity(patterns.len());
        for (i, text) in patterns.iter().enumerate() {
            let normal = normalize(text).map_err(|reason| TreeError::Pattern {
                pattern: text.clone(),
                reason: reason.to_owned(),
            })?;
            let globs = match normal.glob.starts_with('/') {
                true => &mut absolute,
                false => &mut relative,
            };
            globs.push((i, normal.glob));
            all.push(Pattern {
                text: text.clone(),
                only_directories: normal.only_directories,
                used: OnceLock::new(),
            });
        }
        let roots = match absolute.is_empty() {
            true => HashMap::new(),
            false => sources
                .into_iter()
                .map(|(name, path)| (name.into_vec(), absolute_paths(&path)))
                .collect(),
        };
        Ok(Self {
            relative: Globs::new(&relative, patterns)?,
            absolute: Globs::new(&absolute, patterns)?,
            patterns: all.into(),
            roots,
        })
    }

    /// Returns true if the object at `path`, its path in the archive, is left out. Some patterns
    /// match directories only.
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let slash = path.iter().rposition(|&byte| byte == b'/');
        let name = slash.map_or(path, |slash| &path[slash + 1..]);
        let relative = self.use_matching(&self.relative, name, is_directory)
            | (slash.is_some() && self.use_matching(&self.relative, path, is_directory));
        relative | (!self.absolute.set.is_empty() && self.matches_absolute(path, is_directory))
    }

    fn matches_absolute(&self, path: &[u8], is_directory: bool) -> bool {
        let first = path.iter().position(|&byte| byte == b'/');
        let (source, below) = path.split_at(first.unwrap_or(path.len()));
        let roots = self.roots.get(source).into_iter().flatten();
        roots.fold(false, |found, root| {
            let path = [root.as_slice(), below].concat();
            found | self.use_matching(&self.absolute, &path, is_directory)
        })
    }

    /// Returns true if a pattern matches, and records each that does as used.
    fn use_matching(&self, globs: &Globs, path: &[u8], is_directory: bool) -> bool {
        let candidate = Candidate::from_bytes(path);
        if globs.set.is_empty() || !globs.set.is_match_candidate(&candidate) {
            return false;
        }
        let matching = globs.set.matches_candidate(&candidate);
        let patterns = matching.iter().map(|&i| &self.patterns[globs.patterns[i]]);
        let effective = patterns.filter(|pattern| is_directory || !pattern.only_directories);
        effective.fold(false, |_, pattern| {
            let _ = pattern.used.set(());
            true
        })
    }

    /// Returns the patterns that have not left out anything, as they were given.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        let unused = self
            .patterns
            .iter()
            .filter(|pattern| pattern.used.get().is_none());
        unused.map(|pattern| pattern.text.as_str())
    }
}

impl Globs {
    /// Compiles patterns, each with its position in `texts`.
    fn new(globs: &[(usize, String)], texts: &[String]) -> Result<Self, TreeError> {
        let pattern_error = |pattern: &str, error: &globset::Error| TreeError::Pattern {
            pattern: pattern.to_owned(),
            reason: error.kind().to_string(),
        };
        let mut set = GlobSetBuilder::new();
        for (i, glob) in globs {
            let glob = GlobBuilder::new(glob).literal_separator(true).build();
            set.add(glob.map_err(|error| pattern_error(&texts[*i], &error))?);
        }
        let set = set.build();
        Ok(Self {
            set: set.map_err(|error| pattern_error(&texts.join(" "), &error))?,
            patterns: globs.iter().map(|(i, _)| *i).collect(),
        })
    }
}

/// Returns the pattern without empty components and `.`, which no path in an archive has.
///
/// # Errors
///
/// The reason why the pattern can match nothing.
fn normalize(pattern: &str) -> Result<Normal, &'static str> {
    if pattern.is_empty() {
        return Err("it is empty");
    }
    let components = || pattern.split('/');
    if components().any(|component| component == "..") {
        return Err("no path in an archive has a component \"..\"");
    }
    let kept: Vec<_> = components()
        .filter(|component| !matches!(*component, "" | "."))
        .collect();
    if kept.is_empty() {
        return Err("it has no name; to leave out a source, do not give it");
    }
    let root = if pattern.starts_with('/') { "/" } else { "" };
    Ok(Normal {
        glob: format!("{root}{}", kept.join("/")),
        only_directories: matches!(components().next_back(), Some("" | ".")),
    })
}

/// Returns the absolute paths of a source: the one that was given, and the one without symbolic
/// links. Each ends without a slash.
fn absolute_paths(path: &Path) -> Vec<Vec<u8>> {
    let is_link = retry(|| fs::symlink_metadata(path)).is_ok_and(|found| found.is_symlink());
    let resolved = match is_link {
        // The link is in the archive, and not what it refers to.
        true => None,
        false => retry(|| fs::canonicalize(path)).ok(),
    };
    let given = std::path::absolute(path).ok();
    let mut paths: Vec<_> = given
        .into_iter()
        .chain(resolved)
        .map(|path| {
            let bytes = path.as_os_str().as_bytes();
            let end = bytes.iter().rposition(|&byte| byte != b'/');
            bytes[..end.map_or(0, |end| end + 1)].to_vec()
        })
        .collect();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn excluded(patterns: &[&str]) -> Result<Excluded, TreeError> {
        let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        let sources = [("data", "/srv/no/such/data"), ("root", "/")];
        Excluded::new(
            &patterns,
            sources.map(|(name, path)| (name.into(), path.into())),
        )
    }

    #[test]
    fn patterns_match_names_and_paths() {
        let excluded = excluded(&["*.o", "home/*/.cache", "**/target", "b[xy]?"]).unwrap();
        for path in [
            "x/y/a.o",
            "home/ann/.cache",
            "w/v/target",
            "target",
            "q/bxz",
        ] {
            assert!(excluded.matches(path.as_bytes(), false), "{path}");
        }
        for path in ["x/a.oo", "home/ann/x/.cache", "w/targets", "bzz"] {
            assert!(!excluded.matches(path.as_bytes(), true), "{path}");
        }
        assert!(excluded.matches(b"\xff/\xfe.o", false));
    }

    #[test]
    fn patterns_are_normalized() {
        for (pattern, path) in [
            ("./data/tmp", "data/tmp"),
            ("data//tmp", "data/tmp"),
            ("data/./tmp", "data/tmp"),
            (".//tmp", "data/x/tmp"),
            ("/srv/no/such/data/tmp", "data/tmp"),
            ("/srv//no/./such/*/tmp", "data/tmp"),
            ("/srv/no/such/data", "data"),
            ("/**/tmp", "data/x/tmp"),
            ("/etc/tmp", "root/etc/tmp"),
        ] {
            let excluded = excluded(&[pattern]).unwrap();
            assert_eq!(excluded.unused().collect::<Vec<_>>(), [pattern]);
            assert!(!excluded.matches(b"data/other", true), "{pattern}");
            assert!(excluded.matches(path.as_bytes(), false), "{pattern}");
            assert_eq!(excluded.unused().count(), 0, "{pattern}");
        }
    }

    #[test]
    fn pattern_with_slash_at_its_end_matches_directories_only() {
        for pattern in [
            "tmp/",
            "tmp/.",
            "./tmp//",
            "/srv/no/such/data/tmp/",
            "*/tmp/",
        ] {
            let excluded = excluded(&[pattern]).unwrap();
            assert!(!excluded.matches(b"data/tmp", false), "{pattern}");
            assert_eq!(excluded.unused().count(), 1, "{pattern}");
            assert!(excluded.matches(b"data/tmp", true), "{pattern}");
        }
    }

    #[test]
    fn each_pattern_that_matches_counts_as_used() {
        let excluded = excluded(&["a", "data/a", "/srv/no/such/data/a", "b"]).unwrap();
        assert!(excluded.matches(b"data/a", false));
        assert_eq!(excluded.unused().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn pattern_that_cannot_match_is_refused() {
        for (pattern, reason) in [
            ("", "it is empty"),
            ("/", "it has no name"),
            ("./", "it has no name"),
            ("../x", "component \"..\""),
            ("x/../y", "component \"..\""),
            ("a[", "unclosed"),
        ] {
            let error = excluded(&[pattern]).unwrap_err().to_string();
            let start = format!("invalid pattern \"{pattern}\": ");
            assert!(
                error.starts_with(&start) && error.contains(reason),
                "{error}"
            );
        }
    }
}
