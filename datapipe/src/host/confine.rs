//! Leaves a process no more than it needs, by the kernel's Landlock.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

use crate::error::StageError;
use crate::stage::Confinement;

/// The oldest kernel interface that can tell all of what is meant apart: Linux 6.2, with
/// truncation.
const NEEDED: ABI = ABI::V3;

/// From now on this thread, and those it starts, open nothing but what lies at or beneath the
/// allowed paths. What is open stays usable. Threads that run already would stay free, so there
/// must be none.
pub(super) fn confine(allowed: &Confinement) -> Result<(), StageError> {
    let wrong = |what: &dyn std::fmt::Display| {
        StageError::new(format!("cannot confine the process: {what}"))
    };
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(wrong(&format_args!(
            "it has {threads} threads; call datapipe::host::serve before any is started"
        )));
    }
    let all = AccessFs::from_all(NEEDED);
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let ruleset = ruleset.handle_access(all).map_err(|error| wrong(&error))?;
    let mut ruleset = ruleset.create().map_err(|error| wrong(&error))?;
    let read = AccessFs::from_read(NEEDED) & !AccessFs::Execute;
    let write = all & !AccessFs::Execute;
    let lists = [(&allowed.read, read), (&allowed.write, write)];
    for (path, access) in lists
        .into_iter()
        .flat_map(|(paths, access)| paths.iter().map(move |path| (path, access)))
    {
        let (fd, is_directory) =
            place(path).map_err(|error| wrong(&format!("{}: {error}", path.display())))?;
        // What only directories can be asked for is not asked of a file.
        let access = if is_directory {
            access
        } else {
            access & AccessFs::from_file(NEEDED)
        };
        ruleset = ruleset
            .add_rule(PathBeneath::new(fd, access))
            .map_err(|error| wrong(&error))?;
    }
    ruleset.restrict_self().map_err(|error| wrong(&error))?;
    Ok(())
}

/// What stands at a path, and whether it is a directory. No link is followed on the way: whoever
/// could exchange a directory for one after the path was allowed would choose what the process may
/// open.
fn place(path: &Path) -> io::Result<(OwnedFd, bool)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    let is_directory = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode).is_dir();
    Ok((fd, is_directory))
}
