//! Files that another user may have put in the way of a program that writes.
//!
//! In a directory in which several users may create files, one of them can make a file or a link
//! of the name that a program of another user is going to write to. The program would write to a
//! file of that user, who then reads what the program could read.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::interrupt::retry;

/// Most symbolic links that are followed for one path, as by the kernel.
const MAX_LINKS: u32 = 40;

/// Checks that no other user has put the file at `path`, which is open as `file`, or a link or
/// directory on the way to it, where several users may create files. What belongs to root, to the
/// user of this process, or to the owner of the directory around it is as good as that directory.
pub(crate) fn check_not_planted(path: &Path, file: &File) -> io::Result<()> {
    let opened = retry(|| file.metadata())?;
    let mut links = MAX_LINKS;
    let checked = check_name_not_planted(path)
        .and_then(|()| retry(|| fs::canonicalize(path)))
        .and_then(|resolved| check_path(&resolved, &mut links));
    let has_name = match checked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        found => found? == Some((opened.dev(), opened.ino())),
    };
    // A file without a name may be a lock, which its owner removes at any time. If it is not
    // another user's, no other user reads what is written to it.
    if has_name || [0, own_user()].contains(&opened.uid()) {
        return Ok(());
    }
    Err(io::Error::other(
        "another file got its name while it was opened: try again",
    ))
}

/// Checks as [`check_not_planted`] what is at `path` before it is used.
pub(crate) fn check_name_not_planted(path: &Path) -> io::Result<()> {
    let mut links = MAX_LINKS;
    check_path(&std::path::absolute(path)?, &mut links).map(drop)
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Checks a path, all directories above, and the paths to which links among them lead, `links` of
/// them at most. Returns device and inode of its last component.
fn check_path(path: &Path, links: &mut u32) -> io::Result<Option<(u64, u64)>> {
    let own = own_user();
    let mut last = None;
    for component in path.ancestors() {
        let Some(directory) = component.parent() else {
            break;
        };
        let found = retry(|| fs::symlink_metadata(component))?;
        let around = retry(|| fs::metadata(directory))?;
        let is_shared = around.mode() & 0o022 != 0;
        if is_shared && ![0, own, around.uid()].contains(&found.uid()) {
            let (component, directory) = (component.display(), directory.display());
            let what = format!(
                "{component} belongs to user id {}, who may have put it there, as several users \
                 may create files in {directory}: remove it, or use another path",
                found.uid()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        if found.is_symlink() {
            let left = links.checked_sub(1);
            *links = left.ok_or_else(|| io::Error::other("too many symbolic links"))?;
            let target = retry(|| fs::read_link(component))?;
            check_path(&directory.join(target), links)?;
        }
        last.get_or_insert_with(|| (found.dev(), found.ino()));
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    use super::*;

    const OTHER: u32 = 4_000_000_001;

    #[test]
    fn files_links_and_directories_of_others_are_refused_in_shared_directories() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give files to other users");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let check = |path: &Path| {
            let file = File::options().write(true).open(path).unwrap();
            check_not_planted(path, &file)
        };
        let set_mode = |mode| fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        let [own, theirs, link, below] =
            ["own", "theirs", "link", "theirs.d/own"].map(|name| dir.join(name));
        fs::create_dir(dir.join("theirs.d")).unwrap();
        for file in [&own, &theirs, &below] {
            fs::write(file, "").unwrap();
        }
        symlink("own", &link).unwrap();
        lchown(&link, Some(OTHER), None).unwrap();
        // A link of root's, in a directory of root's, to the link of the other user.
        let outside = tempfile::tempdir().unwrap();
        let indirect = outside.path().join("indirect");
        symlink(&link, &indirect).unwrap();
        chown(&theirs, Some(OTHER), None).unwrap();
        chown(dir.join("theirs.d"), Some(OTHER), None).unwrap();
        // In a directory of all users the kernel itself may refuse to follow the link.
        for mode in [0o1770, 0o775] {
            set_mode(mode);
            check(&own).unwrap();
            for path in [&theirs, &link, &below, &indirect] {
                let error = check(path).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{path:?}");
                assert!(error.to_string().contains("belongs to user id 4000000001"));
            }
        }
        // Root alone creates files here, and wants this one to be written.
        set_mode(0o755);
        for path in [&own, &theirs, &link, &below, &indirect] {
            check(path).unwrap();
        }
    }

    #[test]
    fn file_of_another_user_that_lost_its_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        check_not_planted(&path, &file).unwrap();
        fs::write(&path, "").unwrap();
        check_not_planted(&path, &file).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::fchown(&file, Some(OTHER), None).unwrap();
            assert!(check_not_planted(&path, &file).is_err());
        }
    }
}
