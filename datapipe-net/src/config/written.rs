//! What stands in the file: keys and their types. What is unknown is a mistake.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) socket: Spanned<PathBuf>,
    pub(super) socket_mode: Option<Spanned<String>>,
    pub(super) socket_group: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) access: Access,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) module: Vec<Spanned<Module>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Access {
    #[serde(default)]
    pub(super) users: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) groups: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) pipes: Option<Spanned<u64>>,
    pub(super) connections: Option<Spanned<u64>>,
    pub(super) memory_per_pipe_mib: Option<Spanned<u64>>,
    pub(super) memory_mib: Option<Spanned<u64>>,
    pub(super) unbound_patience_s: Option<Spanned<u64>>,
    pub(super) stopped_limit_s: Option<Spanned<u64>>,
    pub(super) client_patience_s: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Module {
    pub(super) name: Spanned<String>,
    pub(super) module: Option<Spanned<String>>,
    pub(super) program: Spanned<PathBuf>,
    pub(super) work: Spanned<StageKind>,
    pub(super) role: Spanned<Role>,
    pub(super) max_instances: Option<Spanned<u64>>,
    pub(super) confined: Option<bool>,
    #[serde(default)]
    pub(super) always: Paths,
    #[serde(default)]
    pub(super) paths: Paths,
    pub(super) users: Option<Vec<Spanned<String>>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StageKind {
    Fill,
    Transform,
    InPlace,
    Analyze,
    Write,
    Loop,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    Head,
    Middle,
    Tail,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paths {
    #[serde(default)]
    pub(super) read: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) write: Vec<Spanned<PathBuf>>,
}
