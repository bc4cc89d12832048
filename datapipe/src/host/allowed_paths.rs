//! Paths that a module's arguments may name. The kernel confines what a process opens, but not what
//! it inspects: without this, the attributes and links of any file could be asked for, and if it
//! exists.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::StageError;
use crate::stage::Confinement;

/// Use of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathUse {
    Read,
    /// The file need not exist.
    Write,
}

/// Treatment of a symbolic link that is the last component of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastLink {
    Followed,
    Kept,
}

/// Resolves `path`, if it is beneath one that the process may open for this use.
pub(super) fn judge(
    allowed: Option<&Confinement>,
    path: &Path,
    path_use: PathUse,
    last: LastLink,
) -> Result<PathBuf, StageError> {
    let Some(Confinement { read, write }) = allowed else {
        return Ok(path.to_owned());
    };
    let (verb, read) = match path_use {
        PathUse::Read => ("read", &read[..]),
        PathUse::Write => ("write", &[][..]),
    };
    let is_inside = |path: &Path| {
        let mut roots = read.iter().chain(write);
        roots.any(|root| path.starts_with(&root.path))
    };
    match resolve(path, path_use, last) {
        Ok(resolved) if is_inside(&resolved) => Ok(resolved),
        // The error of any other path would reveal what exists outside.
        Err(error) if is_inside(path) && is_straight(path) => Err(StageError::with_source(
            format!("cannot {verb} {}", path.display()),
            error,
        )),
        _ => Err(StageError::new(format!(
            "the arguments name {}, which is not beneath the paths that the stage may {verb}, \
             after symbolic links: name it in the request, if the configuration allows it",
            path.display()
        ))),
    }
}

fn resolve(path: &Path, path_use: PathUse, last: LastLink) -> io::Result<PathBuf> {
    if !path.is_absolute() {
        return Err(io::Error::other("the path is not absolute"));
    }
    let Some(Component::Normal(name)) = path.components().next_back() else {
        return fs::canonicalize(path);
    };
    let in_folder = || Ok(fs::canonicalize(path.parent().unwrap_or(path))?.join(name));
    let is_new = || {
        let found = fs::symlink_metadata(path);
        path_use == PathUse::Write
            && found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    if last == LastLink::Kept && !has_final_slash(path) || is_new() {
        return in_folder();
    }
    fs::canonicalize(path)
}

/// True if a path refers to a directory by a slash or dot at its end, which follows a link.
fn has_final_slash(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.")
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_of_arguments_are_judged_by_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for folder in ["in/deep", "out", "else"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("else/secret"), "").unwrap();
        symlink(root.join("else"), root.join("in/leads-out")).unwrap();
        symlink(root.join("none"), root.join("in/dangles")).unwrap();
        symlink(root.join("in/deep"), root.join("leads-in")).unwrap();
        let allowed = Confinement::new()
            .read([root.join("in")])
            .write([root.join("out")]);
        let judged = |path: &str, path_use, last| {
            judge(Some(&allowed), &root.join(path), path_use, last)
                .map(|path| path.strip_prefix(&root).unwrap().to_owned())
                .map_err(|error| error.to_string().replace(path, "PATH"))
        };
        let read = |path: &str| judged(path, PathUse::Read, LastLink::Followed);
        let write = |path: &str| judged(path, PathUse::Write, LastLink::Followed);
        let object = |path: &str| judged(path, PathUse::Read, LastLink::Kept);
        assert_eq!(read("in/deep").unwrap(), Path::new("in/deep"));
        assert_eq!(read("leads-in").unwrap(), Path::new("in/deep"));
        assert_eq!(read("else/../in").unwrap(), Path::new("in"));
        assert_eq!(read("out").unwrap(), Path::new("out"));
        assert_eq!(write("out/new").unwrap(), Path::new("out/new"));
        assert_eq!(object("in/leads-out").unwrap(), Path::new("in/leads-out"));
        assert!(read("in/none").unwrap_err().contains("No such file"));
        // One text for all others, whether or not there is such a file.
        let texts = [
            "else/secret",
            "else/none",
            "none/x",
            "in/leads-out/secret",
            "in/dangles",
        ]
        .map(|path| read(path).unwrap_err());
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
        assert!(texts[0].contains("not beneath the paths"), "{texts:?}");
        assert!(object("in/leads-out/").is_err() && object("leads-in").is_err());
        assert!(write("in/new").is_err() && write("else/secret").is_err());
        assert!(
            judge(
                Some(&allowed),
                Path::new("in"),
                PathUse::Read,
                LastLink::Kept
            )
            .is_err()
        );
        let free = judge(None, Path::new("in"), PathUse::Read, LastLink::Kept);
        assert_eq!(free.unwrap(), Path::new("in"));
    }
}
