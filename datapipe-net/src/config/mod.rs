//! What an administrator allows: who may connect, which modules there are, which paths they may
//! touch, how much of everything. A TOML file, checked as a whole before anything is done.
//!
//! ```text
//!   file -> written (keys, types, lines) -> check (what it means, and whether it is so here) -> Config
//!                                             |
//!                                           every mistake, with its line
//! ```
//!
//! Does not ask anything of clients, and starts nothing.

mod check; // from what is written to what it means
mod paths; // what lies beneath what
mod program; // what may be run, and whether it is still the same
mod users; // names of users and groups
mod written; // what stands in the file

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use datapipe::stage::StageKind;

use crate::limits::MAX_CONFIG;

pub use paths::{PathRules, resolve};
pub use program::Program;
pub use users::{Access, User};

/// A configuration that explains itself, and allows nothing.
pub const DEFAULT: &str = include_str!("default.toml");

/// What the daemon allows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where clients connect.
    pub socket: PathBuf,
    /// The permissions of the socket.
    pub socket_mode: u32,
    /// The group of the socket, if not the daemon's.
    pub socket_group: Option<u32>,
    /// Who may connect.
    pub access: Access,
    /// How much of everything.
    pub limits: Limits,
    /// What may be started.
    pub modules: Vec<Module>,
}

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Pipes at once.
    pub pipes: u32,
    /// Connections at once.
    pub connections: u32,
    /// Shared memory of one pipe, in bytes.
    pub memory_per_pipe: u64,
    /// Shared memory of all pipes, in bytes.
    pub memory: u64,
    /// How long a pipe waits for its unbound head or tail.
    pub unbound_patience: Duration,
    /// How long a module's process may be stopped before it is killed.
    pub stopped_limit: Duration,
    /// How long a client may take for its hello, and for a message that it has begun.
    pub client_patience: Duration,
}

/// Something that a client may have in its pipe.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Module {
    /// What clients call it.
    pub name: String,
    /// What it is called in its program.
    pub module: String,
    /// The program that has it.
    pub program: Program,
    /// The kind of its work.
    pub work: StageKind,
    /// Where in a pipe it stands.
    pub place: Place,
    /// Instances in one pipe.
    pub max_instances: u32,
    /// Whether the kernel keeps its processes from opening anything but what they are allowed.
    pub confined: bool,
    /// What its processes may open always.
    pub always: PathRules,
    /// What the paths of a request may be.
    pub paths: PathRules,
    /// Users who may use it; nothing means all who may connect.
    pub users: Option<Vec<u32>>,
}

/// Where in a pipe a module stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// First.
    Head,
    /// Between others.
    Middle,
    /// Last.
    Tail,
}

/// What is wrong with a configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says what cannot be.
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Every mistake.
        mistakes: Vec<Mistake>,
    },
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Its line, counted from 1; 0 if it is about the whole file.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is another user's or writable by others, or says what cannot be.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        if let Err(what) = program::only_ours_to_write(&file.metadata().map_err(unreadable)?) {
            let what = format!("the file {what}: who can write it decides what the daemon runs");
            return Err(ConfigError::Wrong {
                path: path.to_owned(),
                mistakes: vec![Mistake { line: 0, what }],
            });
        }
        let mut text = String::new();
        file.take(MAX_CONFIG + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_CONFIG {
            return Err(unreadable(io::Error::other(format!(
                "it has more than {MAX_CONFIG} bytes"
            ))));
        }
        Self::parse(&text).map_err(|mistakes| ConfigError::Wrong {
            path: path.to_owned(),
            mistakes,
        })
    }

    /// Checks the text of a file.
    ///
    /// # Errors
    ///
    /// Every mistake in it.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        check::check(text)
    }

    /// The module of that name.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|module| module.name == name)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pipes: 16,
            connections: 64,
            memory_per_pipe: 1 << 30,
            memory: 4 << 30,
            unbound_patience: Duration::from_secs(60),
            stopped_limit: Duration::from_secs(60),
            client_patience: Duration::from_secs(10),
        }
    }
}

impl Module {
    /// Whether `user` may have it in a pipe.
    pub fn is_for(&self, user: User) -> bool {
        user.is_privileged()
            || self
                .users
                .as_ref()
                .is_none_or(|users| users.contains(&user.0))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Wrong { path, mistakes } => {
                for (n, Mistake { line, what }) in mistakes.iter().enumerate() {
                    let separator = if n == 0 { "" } else { "\n" };
                    match line {
                        0 => write!(f, "{separator}{}: {what}", path.display())?,
                        _ => write!(f, "{separator}{}:{line}: {what}", path.display())?,
                    }
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::Middle => "middle",
            Self::Tail => "tail",
        })
    }
}
