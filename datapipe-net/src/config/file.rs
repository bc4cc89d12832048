//! Keys of the configuration file, and their types. An unknown key is a mistake.
//!
//! `default.toml` describes the keys. [`Spanned`] keeps the position of a value, so that a mistake
//! gets its line.

use std::path::PathBuf;

use datapipe::Role;
use serde::Deserialize;
use toml::Spanned;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) socket: Spanned<PathBuf>,
    pub(super) socket_mode: Option<Spanned<String>>,
    pub(super) socket_group: Option<Spanned<String>>,
    pub(super) state_dir: Option<Spanned<PathBuf>>,
    pub(super) metrics_file: Option<Spanned<PathBuf>>,
    pub(super) metrics_interval_s: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) metrics_users: Vec<Spanned<String>>,
    pub(super) temporary_directory: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) access: AccessTable,
    #[serde(default)]
    pub(super) limits: LimitsTable,
    #[serde(default)]
    pub(super) module: Vec<Spanned<ModuleTable>>,
}

/// The table `[access]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessTable {
    #[serde(default)]
    pub(super) users: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) groups: Vec<Spanned<String>>,
}

/// The table `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsTable {
    pub(super) pipes: Option<Spanned<u64>>,
    pub(super) pipes_per_user: Option<Spanned<u64>>,
    pub(super) connections: Option<Spanned<u64>>,
    pub(super) connections_per_user: Option<Spanned<u64>>,
    pub(super) processes: Option<Spanned<u64>>,
    pub(super) processes_per_user: Option<Spanned<u64>>,
    pub(super) descriptors: Option<Spanned<u64>>,
    pub(super) descriptors_per_user: Option<Spanned<u64>>,
    pub(super) memory_per_pipe_mib: Option<Spanned<u64>>,
    pub(super) memory_per_user_mib: Option<Spanned<u64>>,
    pub(super) memory_mib: Option<Spanned<u64>>,
    pub(super) memory_per_process_mib: Option<Spanned<u64>>,
    pub(super) unbound_patience_s: Option<Spanned<u64>>,
    pub(super) stopped_limit_s: Option<Spanned<u64>>,
    pub(super) client_patience_s: Option<Spanned<u64>>,
}

/// A table `[[module]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModuleTable {
    pub(super) name: Spanned<String>,
    pub(super) module: Option<Spanned<String>>,
    pub(super) program: Spanned<PathBuf>,
    pub(super) work: Spanned<WorkKey>,
    pub(super) role: RoleKey,
    pub(super) max_instances: Option<Spanned<u64>>,
    pub(super) confined: Option<bool>,
    pub(super) run_as: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) temporary: bool,
    #[serde(default)]
    pub(super) always: PathsTable,
    #[serde(default)]
    pub(super) paths: PathsTable,
    pub(super) users: Option<Vec<Spanned<String>>>,
}

/// Words for the kind of a module's work.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WorkKey {
    Fill,
    Transform,
    InPlace,
    Analyze,
    Write,
    Loop,
}

/// Words for [`Role`], which has no serde implementation of its own.
#[derive(Deserialize)]
#[serde(remote = "Role", rename_all = "kebab-case")]
enum RoleWord {
    Head,
    Middle,
    Tail,
}

/// A [`Role`] that is read by its word.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct RoleKey(#[serde(with = "RoleWord")] pub(super) Role);

/// The value of the keys `always` and `paths` of a module.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathsTable {
    #[serde(default)]
    pub(super) read: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) write: Vec<Spanned<PathBuf>>,
}
