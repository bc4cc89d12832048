//! Refusals: the daemon's negative answers.

use std::fmt;

use super::fields::DecodeError;
use super::numbers::RefusalCode;

/// Negative answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Reason, for programs.
    pub code: RefusalCode,
    /// Reason, for people: what is refused, and what to do.
    pub text: String,
}

impl Refusal {
    /// A refusal with the reason `code`, which `text` explains.
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        let code = if error.unknown {
            RefusalCode::UNSUPPORTED
        } else {
            RefusalCode::MALFORMED
        };
        Self::new(code, error.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            write!(f, "refused: {}", self.code)
        } else {
            f.write_str(&self.text)
        }
    }
}

impl std::error::Error for Refusal {}
