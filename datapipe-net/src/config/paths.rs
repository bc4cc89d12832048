//! Paths that a module may open. Symbolic links are followed before a path is compared with the
//! configuration, and an allowed path is held by a descriptor: one that has vanished, or has been
//! replaced, allows nothing.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use datapipe::interrupt::retry;
use datapipe::stage::CheckedPath;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::protocol::PathAccess;

/// Paths that a module may open: those of the configuration, and everything beneath them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathRules {
    /// Paths that the module may read.
    pub read: Vec<AllowedPath>,
    /// Paths that the module may write and read.
    pub write: Vec<AllowedPath>,
}

/// Path of the configuration that a module may open, with everything beneath it.
#[derive(Clone, Debug)]
pub struct AllowedPath {
    path: PathBuf,
    /// Descriptor of what was at the path when the configuration was validated.
    held: Arc<OwnedFd>,
    identity: (u64, u64),
}

impl AllowedPath {
    /// Opens a path, after all its symbolic links. It must exist.
    ///
    /// # Errors
    ///
    /// If the path is not absolute, or the system cannot open it.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !path.is_absolute() {
            return Err(io::Error::other("the path is not absolute"));
        }
        let path = fs::canonicalize(path)?;
        let held = open_straight(&path)?;
        Ok(Self {
            identity: identity_of(&held)?,
            held: Arc::new(held),
            path,
        })
    }

    /// The path, all symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the path leads to what it led to when it was opened.
    ///
    /// # Errors
    ///
    /// [`PathError::Changed`] if it does not, or the error of the system.
    pub fn verify_unchanged(&self) -> Result<(), PathError> {
        let changed = || PathError::Changed(self.path.clone());
        match open_straight(&self.path).and_then(|found| identity_of(&found)) {
            Ok(identity) if identity == self.identity => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(PathError::Unresolved {
                    access: PathAccess::Read,
                    path: self.path.clone(),
                    source: error,
                })
            }
            _ => Err(changed()),
        }
    }

    /// The path with the file that it led to when it was opened. A process that opens the path
    /// finds that file, or fails.
    ///
    /// # Errors
    ///
    /// As [`verify_unchanged`](Self::verify_unchanged).
    pub fn checked(&self) -> Result<CheckedPath, PathError> {
        self.verify_unchanged()?;
        let checked = CheckedPath::new(&self.path, &self.held);
        checked.map_err(|_| PathError::Changed(self.path.clone()))
    }

    /// Returns `resolved`, which is beneath this path, or the directory in which it is to be made.
    /// Both are found from the descriptor, through no link.
    fn existing(&self, access: PathAccess, resolved: PathBuf) -> io::Result<CheckedPath> {
        match self.find(&resolved) {
            Err(error) if access == PathAccess::Write && error == Errno::NOENT => {
                let directory = resolved.parent().unwrap_or(&resolved);
                CheckedPath::new(directory, self.find(directory)?)
            }
            found => CheckedPath::new(resolved, found?),
        }
    }

    fn find(&self, resolved: &Path) -> Result<Arc<OwnedFd>, Errno> {
        // The directory of an allowed path is not beneath it.
        let beneath = resolved
            .strip_prefix(&self.path)
            .map_err(|_| Errno::NOENT)?;
        if beneath.as_os_str().is_empty() {
            return Ok(Arc::clone(&self.held));
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let held = self.held.as_fd();
        retry_on_intr(|| rustix::fs::openat2(held, beneath, flags, Mode::empty(), resolve))
            .map(Arc::new)
    }
}

impl PartialEq for AllowedPath {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.identity) == (&other.path, other.identity)
    }
}

impl Eq for AllowedPath {}

fn open_straight(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let straight = ResolveFlags::NO_SYMLINKS;
    Ok(retry_on_intr(|| {
        rustix::fs::openat2(CWD, path, flags, Mode::empty(), straight)
    })?)
}

fn identity_of(file: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = retry_on_intr(|| rustix::fs::fstat(file))?;
    Ok((stat.st_dev, stat.st_ino))
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
    /// An allowed path does not exist any more, or leads elsewhere: it was renamed or removed, or a
    /// file system was mounted or unmounted.
    Changed(PathBuf),
}

impl PathRules {
    /// Resolves `path`, if the module may have this access to it. A path to be read must exist. For
    /// one to be written that does not, returns its directory, which is allowed, too. The result
    /// has the file that was found, because the path may lead to another one when it is opened.
    ///
    /// # Errors
    ///
    /// If the resolved path is not allowed, the path cannot be resolved, or the allowed path above
    /// it has changed since the configuration was validated.
    pub fn allow(&self, access: PathAccess, path: &Path) -> Result<CheckedPath, PathError> {
        let roots = self.roots(access);
        // `starts_with` compares components: /srv/data2 is not beneath /srv/data.
        let root_of = |path: &Path| {
            let roots = roots.iter().filter(|root| path.starts_with(&root.path));
            roots
                .max_by_key(|root| root.path.as_os_str().len())
                .copied()
        };
        let unresolved = |source| PathError::Unresolved {
            access,
            path: path.to_owned(),
            source,
        };
        let resolved = match access {
            PathAccess::Read => resolve(path).and_then(fs::canonicalize),
            PathAccess::Write => resolve(path),
        };
        let inside = resolved.map(|resolved| (root_of(&resolved), resolved));
        match inside {
            Ok((Some(root), resolved)) => {
                root.verify_unchanged()?;
                root.existing(access, resolved).map_err(unresolved)
            }
            // Only a path that certainly stays inside gets the system's error: for any other, the
            // error would reveal what exists outside.
            Err(source) if is_straight(path) && root_of(path).is_some() => {
                root_of(path).map_or(Ok(()), AllowedPath::verify_unchanged)?;
                Err(unresolved(source))
            }
            _ => Err(PathError::Outside {
                access,
                path: path.to_owned(),
                allowed: roots.iter().map(|root| root.path.clone()).collect(),
            }),
        }
    }

    /// Paths beneath which the access is allowed. A path that may be written may also be read.
    fn roots(&self, access: PathAccess) -> Vec<&AllowedPath> {
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
            Self::Changed(path) => write!(
                f,
                "may not open {0} now: it does not exist any more, or is another file than when \
                 the configuration was checked; if that is intended, send SIGHUP to the daemon",
                path.display()
            ),
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
            Self::Outside { .. } | Self::Changed(_) => None,
        }
    }
}

/// True if a path leads where its text says: it has no `..`, and no component that exists is a
/// symbolic link.
fn is_straight(path: &Path) -> bool {
    let is_link =
        |path: &Path| retry(|| fs::symlink_metadata(path)).is_ok_and(|found| found.is_symlink());
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
    if retry(|| fs::symlink_metadata(path)).is_ok() {
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
            read: vec![AllowedPath::open(&root.join("data")).unwrap()],
            write: vec![AllowedPath::open(&root.join("out")).unwrap()],
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
            (PathAccess::Write, "out/new", "out"),
            (PathAccess::Read, "out", "out"),
        ] {
            let resolved = rules.allow(access, &root.join(path)).unwrap();
            assert_eq!(resolved.path(), root.join(target), "{path}");
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

    /// A user who could rename the allowed directory, or empty the one above it, got that one.
    #[test]
    fn allowed_path_that_has_vanished_or_was_replaced_allows_nothing() {
        let (_dir, root, rules) = linked_site();
        let refused = |path: &str, access| {
            let error = rules.allow(access, &root.join(path)).unwrap_err();
            assert!(
                error.to_string().contains("may not open"),
                "{path}: {error}"
            );
            assert!(error.to_string().contains("SIGHUP"), "{path}: {error}");
        };
        fs::rename(root.join("out"), root.join("elsewhere")).unwrap();
        refused("out", PathAccess::Write);
        refused("out/new", PathAccess::Write);
        fs::create_dir(root.join("out")).unwrap();
        refused("out", PathAccess::Write);
        refused("out/new", PathAccess::Write);
        refused("out", PathAccess::Read);
        fs::remove_dir(root.join("out")).unwrap();
        symlink(root.join("data"), root.join("out")).unwrap();
        for path in ["out", "out/new"] {
            assert!(rules.allow(PathAccess::Write, &root.join(path)).is_err());
        }
        fs::remove_file(root.join("out")).unwrap();
        fs::rename(root.join("elsewhere"), root.join("out")).unwrap();
        rules
            .allow(PathAccess::Write, &root.join("out/new"))
            .unwrap();
    }
}
