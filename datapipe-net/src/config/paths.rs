//! What lies beneath what. A path counts as where it leads: symbolic links are followed before it
//! is compared.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::protocol::PathAccess;

/// What the paths of a module may be: where its configuration says, and below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathRules {
    /// What it may read. All links resolved.
    pub read: Vec<PathBuf>,
    /// What it may write, and read. All links resolved.
    pub write: Vec<PathBuf>,
}

impl PathRules {
    /// Where `path` leads, if that may be accessed so. What is to be read has to be there.
    ///
    /// # Errors
    ///
    /// Why not, with the path and the rule. What lies outside, and whether anything does, it does
    /// not say: the daemon sees more than who asks.
    pub fn allow(&self, access: PathAccess, path: &Path) -> Result<PathBuf, String> {
        let (verb, roots): (_, Vec<_>) = match access {
            PathAccess::Read => ("read", self.read.iter().chain(&self.write).collect()),
            PathAccess::Write => ("write", self.write.iter().collect()),
        };
        // By components: /srv/data2 is not beneath /srv/data.
        let inside = |path: &Path| roots.iter().any(|root| path.starts_with(root));
        let must_exist = access == PathAccess::Read;
        let found = resolve(path).and_then(|resolved| {
            if must_exist {
                fs::canonicalize(resolved)
            } else {
                Ok(resolved)
            }
        });
        match found {
            Ok(resolved) if inside(&resolved) => return Ok(resolved),
            Err(error) if inside(path) && is_straight(path) => {
                return Err(format!("may not {verb} {}: {error}", path.display()));
            }
            _ => {}
        }
        let allowed: Vec<_> = roots
            .iter()
            .map(|root| root.display().to_string())
            .collect();
        let allowed = match allowed.is_empty() {
            true => "nothing".to_owned(),
            false => format!(
                "only what is in {}, symbolic links followed",
                allowed.join(", ")
            ),
        };
        Err(format!(
            "may not {verb} {}: its configuration allows {allowed}",
            path.display()
        ))
    }
}

/// Whether a path goes where it says: without symbolic links, as far as it exists, and without
/// `..`.
fn is_straight(path: &Path) -> bool {
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    !path
        .components()
        .any(|component| component == Component::ParentDir)
        && !path.ancestors().any(is_link)
}

/// Where an absolute path leads, all symbolic links resolved. What is last in it need not exist: it
/// may be what is to be written.
///
/// # Errors
///
/// If it is not absolute, what is before its last name does not exist, or its last name is a link
/// that leads nowhere.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    if !path.is_absolute() {
        return Err(io::Error::other("the path is not absolute"));
    }
    let missing = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => error,
        other => return other,
    };
    // A link that leads nowhere would be made where it leads.
    let (Some(folder), Some(Component::Normal(name))) =
        (path.parent(), path.components().next_back())
    else {
        return Err(missing);
    };
    if fs::symlink_metadata(path).is_ok() {
        return Err(io::Error::other("it is a symbolic link that leads nowhere"));
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

    #[test]
    fn paths_are_compared_by_where_they_lead() {
        let (_dir, root) = site();
        symlink(root.join("data2"), root.join("data/leads-out")).unwrap();
        symlink(root.join("data/inner"), root.join("leads-in")).unwrap();
        symlink(root.join("nowhere"), root.join("out/dangling")).unwrap();
        let rules = PathRules {
            read: vec![root.join("data")],
            write: vec![root.join("out")],
        };
        let allow = |access, path: &str| rules.allow(access, &root.join(path));
        for (access, path, leads) in [
            (PathAccess::Read, "data", "data"),
            (PathAccess::Read, "data/file", "data/file"),
            (PathAccess::Read, "data2/../data/inner", "data/inner"),
            (PathAccess::Read, "leads-in", "data/inner"),
            (PathAccess::Write, "out/new", "out/new"),
            (PathAccess::Read, "out", "out"),
        ] {
            assert_eq!(
                allow(access, path).as_deref(),
                Ok(&*root.join(leads)),
                "{path}"
            );
        }
        for (access, path, why) in [
            (PathAccess::Write, "data/file", "may not write"),
            (PathAccess::Read, "data2", "may not read"),
            (PathAccess::Read, "data/none", "No such file"),
            (PathAccess::Read, "out/new", "No such file"),
            (PathAccess::Read, "data/../data2", "may not read"),
            (PathAccess::Write, "out/../data2/new", "may not write"),
            (PathAccess::Write, "out/none/new", "No such file"),
        ] {
            let error = allow(access, path).unwrap_err();
            assert!(error.contains(why), "{path}: {error}");
        }
        // Outside, what is there is refused with the words for what is not.
        symlink(root.join("nowhere/deep"), root.join("data/leads-nowhere")).unwrap();
        for path in [
            "data2",
            "data2/none",
            "none/deep",
            "data/../data2",
            "data/../none",
        ] {
            let (error, shown) = (allow(PathAccess::Read, path).unwrap_err(), root.join(path));
            let (data, out) = (root.join("data"), root.join("out"));
            let (shown, data, out) = (shown.display(), data.display(), out.display());
            let rule = format!("allows only what is in {data}, {out}, symbolic links followed");
            assert_eq!(
                error,
                format!("may not read {shown}: its configuration {rule}")
            );
        }
        for (access, path) in [
            (PathAccess::Read, "data/leads-out"),
            (PathAccess::Read, "data/leads-out/new"),
            (PathAccess::Read, "data/leads-nowhere"),
            (PathAccess::Write, "out/dangling"),
            (PathAccess::Write, "out/none/.."),
        ] {
            let error = allow(access, path).unwrap_err();
            assert!(
                error.ends_with("symbolic links followed"),
                "{path}: {error}"
            );
        }
        let none = PathRules::default()
            .allow(PathAccess::Read, &root)
            .unwrap_err();
        assert!(none.ends_with("allows nothing"), "{none}");
        assert!(resolve(Path::new("data")).is_err());
    }
}
