//! Modules that a pipe may have.

use datapipe::Role;
use datapipe::stage::StageKind;

use super::paths::PathRules;
use super::program::Program;

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
    /// Paths that its processes may open in every pipe.
    pub always: PathRules,
    /// Paths that a request may name.
    pub paths: PathRules,
    /// Ids of the users who may use the module; `None` for all users who may connect.
    pub users: Option<Vec<u32>>,
}
