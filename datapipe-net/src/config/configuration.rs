//! The configuration that the daemon obeys.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::acl::check_acl;
use super::error::{ConfigError, Mistake};
use super::limits::Limits;
use super::module::Module;
use super::permissions::Access;
use super::program::{MAX_LINKS, check_directories, check_links, check_ownership};
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
        let resolved = fs::canonicalize(path).map_err(unreadable)?;
        let by_list = check_acl(&resolved).map_err(unreadable)?;
        let by_owner = check_ownership(&file.metadata().map_err(unreadable)?);
        by_owner.and(by_list).map_err(|error| {
            let what = format!("the file {error}: its writers decide what the daemon runs");
            invalid(vec![Mistake { line: 0, what }])
        })?;
        let named = std::path::absolute(path).map_err(unreadable)?;
        let straight = check_directories(&resolved).and_then(|()| check_links(&named, MAX_LINKS));
        straight.map_err(|error| {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::config::acl::let_user_write;

    const VALID: &str = "socket = \"/run/x/socket\"\n";

    fn refusal(path: &Path) -> String {
        Config::load(path).unwrap_err().to_string()
    }

    /// Its mode names the group of root, and the list another user.
    #[test]
    fn configuration_that_a_list_lets_others_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("datapiped.toml");
        fs::write(&path, VALID).unwrap();
        Config::load(&path).unwrap();
        if !let_user_write(&path, 4_000_000_001) {
            return;
        }
        let why = refusal(&path);
        assert!(why.contains("can be written by user 4000000001"), "{why}");
    }

    #[test]
    fn configuration_behind_a_link_that_others_could_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, open) = (dir.path().join("datapiped.toml"), dir.path().join("open"));
        fs::write(&path, VALID).unwrap();
        fs::create_dir(&open).unwrap();
        let link = open.join("link");
        symlink(&path, &link).unwrap();
        Config::load(&link).unwrap();
        fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        let why = refusal(&link);
        assert!(why.contains("could be replaced"), "{why}");
        Config::load(&path).unwrap();
    }

    #[test]
    fn directories_that_a_list_lets_others_write_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        fs::create_dir(&shared).unwrap();
        let named = shared.display();
        let settings = [
            format!("state_dir = \"{named}\""),
            format!("metrics_file = \"{named}/datapiped.prom\""),
            format!("temporary_directory = \"{named}\""),
        ];
        let parse = |setting: &String| Config::parse(&format!("{setting}\n{VALID}"));
        for setting in &settings {
            parse(setting).unwrap();
        }
        if !let_user_write(&shared, 4_000_000_001) {
            return;
        }
        for setting in &settings {
            let mistakes = parse(setting).unwrap_err();
            let what = &mistakes[0].what;
            assert!(what.contains("can be written by user 4000000001"), "{what}");
        }
    }
}
