//! Errors of a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Failure to load a configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The content of the file is invalid.
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// All mistakes of the file.
        mistakes: Vec<Mistake>,
    },
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mistake {
    /// Line of the mistake, from 1; 0 if it concerns the whole file.
    pub line: usize,
    /// Description of the mistake, with its remedy.
    pub what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Invalid { path, mistakes } => {
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

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Invalid { .. } => None,
        }
    }
}
