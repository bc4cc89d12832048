//! Paths that a module may open. Symbolic links are followed before a path is compared with the
//! configuration.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::protocol::PathAccess;

/// Paths that a module may open: those of the configuration, and everything beneath them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathRules {
    /// Paths that the module may read, all symbolic links resolved.
    pub read: Vec<PathBuf>,
    /// Paths that the module may write and read, all symbolic links resolved.
    pub write: Vec<PathBuf>,
}

/// Refusal of a path.
#[derive(Debug)]
#[non_exhaustive]
pub enum PathError {
    /// The path is not beneath an allowed one, or it does not exist and its symbolic links or `..`
    /// may lead outside. The error does not reveal which, because the daemon sees more than its
    /// client.
    Outside {
        /// Requested access.
        access: PathAccess,
        /// Refused path.
        path: PathBuf,
        /// Paths that the configuration allows for this access.
        allowed: Vec<PathBuf>,
    },
    /// The path is beneath an allowed one and cannot be resolved.
    Unresolved {
        /// Requested access.
        access: PathAccess,
        /// Refused path.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

impl PathRules {
    /// Resolves `path`, if the module may have this access to it. A path to be read must exist.
    ///
    /// # Errors
    ///
    /// If the resolved path is not allowed, or the path cannot be resolved.
    pub fn allow(&self, access: PathAccess, path: &Path) -> Result<PathBuf, PathError> {
        let roots = self.roots(access);
        // `starts_with` compares components: /srv/data2 is not beneath /srv/data.
        let is_inside = |path: &Path| roots.iter().any(|root| path.starts_with(root));
        let resolved = match access {
            PathAccess::Read => resolve(path).and_then(fs::canonicalize),
            PathAccess::Write => resolve(path),
        };
        match resolved {
            Ok(resolved) if is_inside(&resolved) => Ok(resolved),
            // Only a path that certainly stays inside gets the system's error: for any other, the
            // error would reveal what exists outside.
            Err(source) if is_inside(path) && is_straight(path) => Err(PathError::Unresolved {
                access,
                path: path.to_owned(),
                source,
            }),
            _ => Err(PathError::Outside {
                access,
                path: path.to_owned(),
                allowed: roots.into_iter().cloned().collect(),
            }),
        }
    }

    /// Paths beneath which the access is allowed. A path that may be written may also be read.
    fn roots(&self, access: PathAccess) -> Vec<&PathBuf> {
        match access {
            PathAccess::Read => self.read.iter().chain(&self.write).collect(),
            PathAccess::Write => self.write.iter().collect(),
        }
    }
}

fn verb(access: PathAccess) -> &'static str {
    match access {
        PathAccess::Read => "read",
        PathAccess::Write => "write",
    }
}

/// The text follows the name of a module.
impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved {
                access,
                path,
                source,
            } => write!(f, "may not {} {}: {source}", verb(*access), path.display()),
            Self::Outside {
                access,
                path,
                allowed,
            } => {
                let (verb, path) = (verb(*access), path.display());
                write!(f, "may not {verb} {path}: its configuration allows ")?;
                if allowed.is_empty() {
                    return f.write_str("nothing");
                }
                let allowed: Vec<_> = allowed
                    .iter()
                    .map(|root| root.display().to_string())
                    .collect();
                let allowed = allowed.join(", ");
                write!(f, "only paths in {allowed}, after symbolic links")
            }
        }
    }
}

impl std::error::Error for PathError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unresolved { source, .. } => Some(source),
            Self::Outside { .. } => None,
        }
    }
}

/// True if a path leads where its text says: it has no `..`, and no component that exists is a
/// symbolic link.
fn is_straight(path: &Path) -> bool {
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    !path
        .components()
        .any(|component| component == Component::ParentDir)
        && !path.ancestors().any(is_link)
}

/// Resolves all symbolic links of an absolute path. Its last component need not exist: it may be a
/// file that is to be written.
///
/// # Errors
///
/// If the path is not absolute, its directory does not exist, or its last component is a symbolic
/// link whose target does not exist.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    if !path.is_absolute() {
        return Err(io::Error::other("the path is not absolute"));
    }
    let missing = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => error,
        other => return other,
    };
    let (Some(folder), Some(Component::Normal(name))) =
        (path.parent(), path.components().next_back())
    else {
        return Err(missing);
    };
    // A file that is created through such a link appears at the link's target.
    if fs::symlink_metadata(path).is_ok() {
        return Err(io::Error::other(
            "the target of the symbolic link does not exist",
        ));
    }
    Ok(fs::canonicalize(folder)?.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn site() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("data/inner")).unwrap();
        fs::create_dir(root.join("data2")).unwrap();
        fs::create_dir(root.join("out")).unwrap();
        fs::write(root.join("data/file"), "x").unwrap();
        (dir, root)
    }

    /// A site with symbolic links in both directions, and rules that allow to read `data` and to
    /// write `out`.
    fn linked_site() -> (tempfile::TempDir, PathBuf, PathRules) {
        let (dir, root) = site();
        symlink(root.join("data2"), root.join("data/leads-out")).unwrap();
        symlink(root.join("data/inner"), root.join("leads-in")).unwrap();
        symlink(root.join("nowhere"), root.join("out/dangling")).unwrap();
        symlink(root.join("nowhere/deep"), root.join("data/leads-nowhere")).unwrap();
        let rules = PathRules {
            read: vec![root.join("data")],
            write: vec![root.join("out")],
        };
        (dir, root, rules)
    }

    #[test]
    fn paths_within_the_rules_are_resolved() {
        let (_dir, root, rules) = linked_site();
        for (access, path, target) in [
            (PathAccess::Read, "data", "data"),
            (PathAccess::Read, "data/file", "data/file"),
            (PathAccess::Read, "data2/../data/inner", "data/inner"),
            (PathAccess::Read, "leads-in", "data/inner"),
            (PathAccess::Write, "out/new", "out/new"),
            (PathAccess::Read, "out", "out"),
        ] {
            let resolved = rules.allow(access, &root.join(path)).unwrap();
            assert_eq!(resolved, root.join(target), "{path}");
        }
    }

    #[test]
    fn paths_outside_or_missing_are_refused_with_the_reason() {
        let (_dir, root, rules) = linked_site();
        for (access, path, why) in [
            (PathAccess::Write, "data/file", "may not write"),
            (PathAccess::Read, "data2", "may not read"),
            (PathAccess::Read, "data/none", "No such file"),
            (PathAccess::Read, "out/new", "No such file"),
            (PathAccess::Read, "data/../data2", "may not read"),
            (PathAccess::Write, "out/../data2/new", "may not write"),
            (PathAccess::Write, "out/none/new", "No such file"),
        ] {
            let error = rules.allow(access, &root.join(path)).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(why), "{path}: {error}");
        }
        let none = PathRules::default().allow(PathAccess::Read, &root);
        let none = none.unwrap_err().to_string();
        assert!(none.ends_with("allows nothing"), "{none}");
        assert!(resolve(Path::new("data")).is_err());
    }

    #[test]
    fn refusals_do_not_reveal_what_exists_outside() {
        let (_dir, root, rules) = linked_site();
        for path in [
            "data2",
            "data2/none",
            "none/deep",
            "data/../data2",
            "data/../none",
        ] {
            let (path, data, out) = (root.join(path), root.join("data"), root.join("out"));
            let error = rules.allow(PathAccess::Read, &path).unwrap_err();
            let (path, data, out) = (path.display(), data.display(), out.display());
            let expected = format!(
                "may not read {path}: its configuration allows only paths in {data}, {out}, after \
                 symbolic links"
            );
            assert_eq!(error.to_string(), expected);
        }
        for (access, path) in [
            (PathAccess::Read, "data/leads-out"),
            (PathAccess::Read, "data/leads-out/new"),
            (PathAccess::Read, "data/leads-nowhere"),
            (PathAccess::Write, "out/dangling"),
            (PathAccess::Write, "out/none/.."),
        ] {
            let error = rules.allow(access, &root.join(path)).unwrap_err();
            let error = error.to_string();
            assert!(error.ends_with("after symbolic links"), "{path}: {error}");
        }
    }
}
