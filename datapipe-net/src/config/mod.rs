//! Configuration: the users who may connect, the modules, the paths that they may touch, and the
//! limits. It is a TOML file, validated as a whole before the daemon uses any of it.
//!
//! ```text
//!   file.rs (keys, types, lines) -> validate.rs (meaning, and state of this machine) -> Config
//!                                      |
//!                                    all mistakes, each with its line
//! ```
//!
//! `permissions.rs` decides who may connect, use a module, and see or stop a pipe; `paths.rs`
//! decides which paths a module may open.
//!
//! This module receives nothing from clients, and starts nothing.

mod acl; // access control lists of files
mod configuration; // the validated configuration
mod describe; // a configuration in words
mod error; // mistakes, with their lines
mod file; // keys of the file
mod limits; // limits of the daemon, with their defaults
mod module; // modules that a pipe may have
mod paths; // paths that a module may open
mod permissions; // rights of users
mod program; // programs that may run, and their identity
mod records; // history and metrics
mod users; // names of users and groups
mod validate; // from the file to the configuration

pub(crate) use acl::check_acl;
pub use configuration::{Config, DEFAULT};
pub use error::{ConfigError, Mistake};
pub use limits::Limits;
pub use module::{Module, RunAs};
pub use paths::{AllowedPath, PathError, PathRules, resolve};
pub use permissions::Access;
pub(crate) use program::{
    DirectoryError, MAX_LINKS, check_directories, check_links, check_ownership,
};
pub use program::{OwnershipError, Program, ProgramError};
pub use records::Metrics;
pub(crate) use records::is_written_by_others;
pub use users::User;
