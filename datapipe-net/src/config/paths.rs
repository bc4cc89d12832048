//! What lies beneath what. A path counts as where it leads: symbolic links are followed before it is compared.

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
    /// Where `path` leads, if that may be accessed so.
    ///
    /// # Errors
    ///
    /// Why not, with the path and the rule.
    pub fn allow(&self, access: PathAccess, path: &Path) -> Result<PathBuf, String> {
        let shown = path.display();
        let resolved = resolve(path).map_err(|error| format!("{shown}: {error}"))?;
        let (verb, roots): (_, Vec<_>) = match access {
            PathAccess::Read => ("read", self.read.iter().chain(&self.write).collect()),
            PathAccess::Write => ("write", self.write.iter().collect()),
        };
        // By components: /srv/data2 is not beneath /srv/data.
        if roots.iter().any(|root| resolved.starts_with(root)) {
            return Ok(resolved);
        }
        let leads = match resolved == path {
            true => String::new(),
            false => format!(" (which leads to {})", resolved.display()),
        };
        let allowed: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
        let allowed = match allowed.is_empty() {
            true => "nothing".to_owned(),
            false => format!("only what is in {}", allowed.join(", ")),
        };
        Err(format!("may not {verb} {shown}{leads}: its configuration allows {allowed}"))
    }
}

/// Where an absolute path leads, all symbolic links resolved. What is last in it need not exist: it may be what is to
/// be written.
///
/// # Errors
///
/// If it is not absolute, what is before its last name does not exist, or its last name is a link that leads nowhere.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    if !path.is_absolute() {
        return Err(io::Error::other("the path is not absolute"));
    }
    let missing = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => error,
        other => return other,
    };
    // A link that leads nowhere would be made where it leads.
    let (Some(folder), Some(Component::Normal(name))) = (path.parent(), path.components().next_back()) else {
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
        let rules = PathRules { read: vec![root.join("data")], write: vec![root.join("out")] };
        let allow = |access, path: &str| rules.allow(access, &root.join(path));
        for (access, path, leads) in [
            (PathAccess::Read, "data", "data"),
            (PathAccess::Read, "data/file", "data/file"),
            (PathAccess::Read, "data2/../data/inner", "data/inner"),
            (PathAccess::Read, "leads-in", "data/inner"),
            (PathAccess::Write, "out/new", "out/new"),
            (PathAccess::Read, "out", "out"),
        ] {
            assert_eq!(allow(access, path).as_deref(), Ok(&*root.join(leads)), "{path}");
        }
        for (access, path, why) in [
            (PathAccess::Write, "data/file", "may not write"),
            (PathAccess::Read, "data2", "may not read"),
            (PathAccess::Read, "data/leads-out", "which leads to"),
            (PathAccess::Read, "data/leads-out/new", "which leads to"),
            (PathAccess::Read, "data/../data2", "may not read"),
            (PathAccess::Write, "out/../data2/new", "may not write"),
            (PathAccess::Write, "out/dangling", "leads nowhere"),
            (PathAccess::Write, "out/none/new", "No such file"),
            (PathAccess::Write, "out/none/..", "No such file"),
        ] {
            let error = allow(access, path).unwrap_err();
            assert!(error.contains(why), "{path}: {error}");
        }
        let none = PathRules::default().allow(PathAccess::Read, &root).unwrap_err();
        assert!(none.ends_with("allows nothing"), "{none}");
        assert!(resolve(Path::new("data")).is_err());
    }
}
