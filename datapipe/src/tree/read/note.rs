//! Remarks on a tree that was read as requested, where the request may not be what the user meant.

use std::fmt;

use crate::stage::mirror::Update;
use crate::wire::codec::{Bytes, DecodeError, Put};

/// Remark on a tree that was read: nothing failed, but the archive may not have what the user
/// expects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TreeNote {
    /// A source is a symbolic link. The archive has the link, and not what it refers to. A path
    /// that ends with `/` refers to the directory.
    LinkSource {
        /// Path of the source in the archive.
        path: Vec<u8>,
        /// The link refers to nothing that exists.
        dangling: bool,
    },
    /// A pattern left nothing out, as it was given.
    UnusedPattern(String),
    /// The archive has no files, links, fifos or devices.
    NoContent,
    /// The name of a user or a group is not in the archive, which has its number only: the owner,
    /// and the reason.
    OwnerName(String),
}

impl fmt::Display for TreeNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkSource {
                path,
                dangling: true,
            } => write!(
                f,
                "{}: is a symbolic link to something that does not exist, and the archive has the \
                 link only",
                path.escape_ascii()
            ),
            Self::LinkSource { path, .. } => write!(
                f,
                "{}: is a symbolic link, and the archive has the link only; to archive the \
                 directory that it refers to, end the source with \"/\"",
                path.escape_ascii()
            ),
            Self::UnusedPattern(pattern) => {
                write!(f, "the pattern \"{pattern}\" left nothing out")?;
                f.write_str(match pattern.trim_start_matches("./").find('/') {
                    Some(0) => "; it is compared with the absolute paths of what the sources have",
                    Some(at) if at + 1 < pattern.len() => {
                        "; it is compared with paths in the archive, which begin with the name of \
                         a source"
                    }
                    _ => "",
                })
            }
            Self::NoContent => f.write_str(
                "the archive has no files: nothing was found but directories; check the \
                 sources, the patterns, and that the file systems are mounted",
            ),
            Self::OwnerName(why) => f.write_str(why),
        }
    }
}

/// Codes of the kinds of remarks.
const LINK_SOURCE: u8 = 0;
const UNUSED_PATTERN: u8 = 1;
const NO_CONTENT: u8 = 2;
const OWNER_NAME: u8 = 3;

impl TreeNote {
    /// Encodes a message of the report, after `NOTE`.
    pub(super) fn update(&self) -> Update {
        let mut message = vec![super::report::NOTE];
        match self {
            Self::LinkSource { path, dangling } => {
                message.put_u8(LINK_SOURCE);
                message.put_u8((*dangling).into());
                message.put_prefixed(path);
            }
            Self::UnusedPattern(pattern) => {
                message.put_u8(UNUSED_PATTERN);
                message.put_prefixed(pattern.as_bytes());
            }
            Self::NoContent => message.put_u8(NO_CONTENT),
            Self::OwnerName(why) => {
                message.put_u8(OWNER_NAME);
                message.put_prefixed(why.as_bytes());
            }
        }
        Update {
            text: self.to_string(),
            data: message,
            is_problem: false,
        }
    }

    pub(super) fn decode(mut message: Bytes<'_>) -> Result<Self, DecodeError> {
        let note = match message.u8()? {
            LINK_SOURCE => Self::LinkSource {
                dangling: message.u8()? != 0,
                path: message.prefixed()?.to_vec(),
            },
            UNUSED_PATTERN => Self::UnusedPattern(message.prefixed_text()?),
            NO_CONTENT => Self::NoContent,
            OWNER_NAME => Self::OwnerName(message.prefixed_text()?),
            kind => return Err(message.error(format!("unknown kind of remark {kind}"))),
        };
        message.end().map(|()| note)
    }
}
