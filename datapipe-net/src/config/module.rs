//! Modules that a pipe may have.

use datapipe::Role;
use datapipe::stage::StageKind;

use super::paths::PathRules;
use super::program::Program;
use super::users::User;

/// Module that a client may have in its pipe. Which users may is decided in `permissions.rs`
/// ([`allows`](Self::allows)).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Module {
    /// Name that clients use.
    pub name: String,
    /// Name of the module in its program.
    pub module: String,
    /// Program that has the module.
    pub program: Program,
    /// Kind of the module's work.
    pub work: StageKind,
    /// Role of the module in a pipe.
    pub role: Role,
    /// Number of instances that one pipe may have.
    pub max_instances: u32,
    /// True if the kernel prevents its processes from opening anything but allowed paths.
    pub confined: bool,
    /// User that its processes run as.
    pub run_as: RunAs,
    /// True if its processes get a private directory for temporary files.
    pub temporary: bool,
    /// Paths that its processes may open in every pipe.
    pub always: PathRules,
    /// Paths that a request may name.
    pub paths: PathRules,
    /// Ids of the users who may use the module; `None` for all users who may connect.
    pub users: Option<Vec<u32>>,
}

/// User that the processes of a module run as, if the daemon runs as root. Any other daemon runs
/// them as its own user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunAs {
    /// The user who requests the pipe.
    Requester,
    /// This user, for all who may use the module.
    User(User),
}
