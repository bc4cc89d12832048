//! Confinement of a process to the files that it needs, by the kernel's Landlock.

use std::io;
use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

use crate::error::StageError;
use crate::stage::{AllowedPath, Confinement};

/// The oldest kernel interface that controls every access needed here: Linux 6.2, which added
/// truncation.
const NEEDED: ABI = ABI::V3;

/// Confines this thread, and those it starts, to opening files at or beneath the allowed paths.
/// Open descriptors stay usable. Other threads would remain unconfined, so there must be none.
pub(super) fn confine(allowed: &Confinement) -> Result<(), StageError> {
    let failed = |error| StageError::with_source("cannot confine the process", error);
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(StageError::new(format!(
            "cannot confine the process: it has {threads} threads; \
             call datapipe::host::serve before any is started"
        )));
    }
    let all = AccessFs::from_all(NEEDED);
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let ruleset = ruleset.handle_access(all).map_err(failed)?;
    let mut ruleset = ruleset.create().map_err(failed)?;
    let read = AccessFs::from_read(NEEDED) & !AccessFs::Execute;
    let write = all & !AccessFs::Execute;
    let lists = [(&allowed.read, read), (&allowed.write, write)];
    for (path, access) in lists
        .into_iter()
        .flat_map(|(paths, access)| paths.iter().map(move |path| (path, access)))
    {
        let (fd, is_directory) = open_path(path).map_err(|error| {
            let what = format!("cannot confine the process: {}", path.path.display());
            StageError::with_source(what, error)
        })?;
        // A rule for a file must not have the rights that only apply to directories.
        let access = if is_directory {
            access
        } else {
            access & AccessFs::from_file(NEEDED)
        };
        ruleset = ruleset
            .add_rule(PathBeneath::new(fd, access))
            .map_err(failed)?;
    }
    ruleset.restrict_self().map_err(failed)?;
    Ok(())
}

/// Opens a path, and returns true with it if it is a directory. Does not follow links in any
/// component, and opens no other file than one that was checked: otherwise a process that can swap
/// a directory for a link, or for another directory, after the path was allowed would choose the
/// files that the confined process may open.
fn open_path(allowed: &AllowedPath) -> io::Result<(OwnedFd, bool)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = rustix::io::retry_on_intr(|| {
        let (path, straight) = (&*allowed.path, ResolveFlags::NO_SYMLINKS);
        rustix::fs::openat2(CWD, path, flags, Mode::empty(), straight)
    })?;
    let found = rustix::io::retry_on_intr(|| rustix::fs::fstat(&fd))?;
    let identity = (found.st_dev, found.st_ino);
    if allowed.file.is_some_and(|checked| checked != identity) {
        return Err(io::Error::other(
            "it is another file than when the path was checked: it was renamed or replaced since",
        ));
    }
    Ok((fd, FileType::from_raw_mode(found.st_mode).is_dir()))
}
