//! Failures of a command, with their exit code.

use std::io;

use datapipe_net::authority::AuthorityError;
use datapipe_net::client::ClientError;
use datapipe_net::config::ConfigError;
use datapipe_net::daemon::DaemonError;

/// Exit code of a command that failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code of a command that was invalid.
pub(crate) const USAGE: u8 = 2;

/// Exit code of a command about a pipe that ended well except for its problems.
pub(crate) const INCOMPLETE: u8 = 3;

/// Failure of a command.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) exit: u8,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self {
            message: error.to_string(),
            exit: FAILED,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self {
            message: error.to_string(),
            exit: USAGE,
        }
    }
}

impl From<AuthorityError> for Failure {
    fn from(error: AuthorityError) -> Self {
        let exit = match error {
            AuthorityError::Name { .. }
            | AuthorityError::NumberOfNames { .. }
            | AuthorityError::Days { .. }
            | AuthorityError::NotIssued { .. } => USAGE,
            _ => FAILED,
        };
        Self {
            message: error.to_string(),
            exit,
        }
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        Self {
            message: error.to_string(),
            exit: FAILED,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            message: error.to_string(),
            exit: FAILED,
        }
    }
}
