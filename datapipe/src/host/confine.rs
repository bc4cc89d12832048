//! Leaves a process no more than it needs, by the kernel's Landlock.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr,
};

use crate::error::StageError;
use crate::stage::Confinement;

/// The oldest kernel interface that can tell all of what is meant apart: Linux 6.2, with truncation.
const NEEDED: ABI = ABI::V3;

/// From now on this thread, and those it starts, open nothing but what lies at or beneath the allowed paths. What is
/// open stays usable. Threads that run already would stay free, so there must be none.
pub(super) fn confine(allowed: &Confinement) -> Result<(), StageError> {
    let wrong = |what: &dyn std::fmt::Display| StageError::new(format!("cannot confine the process: {what}"));
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
    for (path, access) in
        lists.into_iter().flat_map(|(paths, access)| paths.iter().map(move |path| (path, access)))
    {
        let fd = PathFd::new(path).map_err(|error| wrong(&error))?;
        // What only directories can be asked for is not asked of a file.
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEEDED) };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access)).map_err(|error| wrong(&error))?;
    }
    ruleset.restrict_self().map_err(|error| wrong(&error))?;
    Ok(())
}
