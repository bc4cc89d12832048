//! Records that the daemon keeps: the directory of its history, and its metrics.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use datapipe::interrupt::retry;

use super::acl::check_acl;
use super::users::User;

/// Metrics of the daemon: the file that has them, and the users who may ask for them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// File that the daemon replaces with the present metrics, for the textfile collector of
    /// node_exporter.
    pub file: Option<PathBuf>,
    /// Time between two replacements of the file.
    pub interval: Duration,
    /// Ids of the users who may ask for the metrics, besides root and the daemon's own user.
    pub users: Vec<u32>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            file: None,
            interval: Duration::from_secs(15),
            users: Vec::new(),
        }
    }
}

/// Checks that `path` is the absolute path of a directory in which only root and the daemon's own
/// user can make files. Another user could otherwise plant a link in the place of a file that the
/// daemon writes.
pub(super) fn check_directory(path: &Path) -> Result<(), String> {
    if !path.is_absolute() {
        return Err("the path of a directory must begin with /".to_owned());
    }
    let found = retry(|| std::fs::metadata(path)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{}: {error}: make it", path.display()),
        _ => format!("{}: {error}", path.display()),
    })?;
    if !found.is_dir() {
        return Err(format!("{} is not a directory", path.display()));
    }
    if is_written_by_others(&found) {
        return Err(format!(
            "{} must belong to root or the daemon's user, and no other user may have write \
             permission: it belongs to user {} with the mode {:o}",
            path.display(),
            found.uid(),
            found.permissions().mode() & 0o7777
        ));
    }
    check_acl(path)
        .map_err(|error| format!("{}: {error}", path.display()))?
        .map_err(|error| format!("{} {error}", path.display()))
}

/// Checks the path of the file for metrics, whose directory must exist.
pub(super) fn check_metrics_file(path: &Path) -> Result<(), String> {
    let directory = path.parent().filter(|_| path.is_absolute());
    match (directory, path.extension()) {
        (Some(directory), Some(end)) if end == "prom" => check_directory(directory),
        _ => Err(format!(
            "metrics_file is {}, and must begin with / and end with .prom, as the collector reads \
             no other files",
            path.display()
        )),
    }
}

/// True if users other than root and the daemon's own may make files in a directory.
pub(crate) fn is_written_by_others(directory: &Metadata) -> bool {
    let own = User::own().0;
    let group = rustix::process::getegid().as_raw();
    let mode = directory.permissions().mode();
    let by_group = mode & 0o020 != 0 && directory.gid() != 0 && directory.gid() != group;
    !(directory.uid() == 0 || directory.uid() == own) || mode & 0o002 != 0 || by_group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_that_others_can_write_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let check = |mode| {
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
            check_directory(dir.path())
        };
        assert_eq!(check(0o755), Ok(()));
        for mode in [0o777, 0o1777, 0o757] {
            assert!(check(mode).unwrap_err().contains("write permission"));
        }
        check(0o700).unwrap();
        let none = check_directory(&dir.path().join("none")).unwrap_err();
        assert!(
            none.contains("No such file") && none.ends_with(": make it"),
            "{none}"
        );
        assert!(check_directory(Path::new("relative")).is_err());
        let file = |name: &str| check_metrics_file(&dir.path().join(name));
        assert_eq!(file("datapiped.prom"), Ok(()));
        assert!(
            file("datapiped.txt")
                .unwrap_err()
                .contains("end with .prom")
        );
        assert!(check_metrics_file(Path::new("datapiped.prom")).is_err());
    }
}
