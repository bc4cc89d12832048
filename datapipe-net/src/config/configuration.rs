//! The configuration that the daemon obeys.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Mistake};
use super::limits::Limits;
use super::module::Module;
use super::permissions::Access;
use super::program::{check_directories, check_ownership};
use super::records::Metrics;
use super::validate::validate;
use crate::limits::MAX_CONFIG;

/// Configuration file that describes all keys, and allows nothing.
pub const DEFAULT: &str = include_str!("default.toml");

/// Validated configuration of a daemon.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Path of the socket.
    pub socket: PathBuf,
    /// Permissions of the socket.
    pub socket_mode: u32,
    /// Group of the socket; `None` for the daemon's.
    pub socket_group: Option<u32>,
    /// Directory in which pipes get private directories for temporary files.
    pub temporary_directory: PathBuf,
    /// Users and groups that may connect.
    pub access: Access,
    /// Limits of the daemon.
    pub limits: Limits,
    /// Directory of the history of pipes; `None` if it is kept in memory only. It takes effect when
    /// the daemon starts.
    pub state_dir: Option<PathBuf>,
    /// Metrics of the daemon.
    pub metrics: Metrics,
    /// Modules that a pipe may have.
    pub modules: Vec<Module>,
}

impl Config {
    /// Reads and validates the file at `path`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, a user other than root and the daemon's own may write or replace
    /// it, or its content is invalid.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let invalid = |mistakes| ConfigError::Invalid {
            path: path.to_owned(),
            mistakes,
        };
        let file = File::open(path).map_err(unreadable)?;
        check_ownership(&file.metadata().map_err(unreadable)?).map_err(|error| {
            let what = format!("the file {error}: its writers decide what the daemon runs");
            invalid(vec![Mistake { line: 0, what }])
        })?;
        let resolved = fs::canonicalize(path).map_err(unreadable)?;
        check_directories(&resolved).map_err(|error| {
            let what = format!(
                "the file could be replaced: {error}: its writers decide what the daemon runs"
            );
            invalid(vec![Mistake { line: 0, what }])
        })?;
        let mut text = String::new();
        file.take(MAX_CONFIG + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_CONFIG {
            let why = format!("the file has more than {MAX_CONFIG} bytes");
            return Err(unreadable(io::Error::other(why)));
        }
        Self::parse(&text).map_err(invalid)
    }

    /// Validates the text of a configuration file.
    ///
    /// # Errors
    ///
    /// All mistakes of the text.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        validate(text)
    }

    /// Returns the module named `name`.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|module| module.name == name)
    }
}
