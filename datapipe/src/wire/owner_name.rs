//! Names of the owners of objects: of users and groups, whose objects state numbers.

use super::codec::{Bytes, DecodeError, Put, len_u16};
use crate::limits::MAX_OWNER_NAME;

/// Name of a user or a group, for the numbers in the objects that follow it.
///
/// Exhaustive: these are all fields of a name of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerName<'a> {
    /// User or group.
    pub kind: OwnerKind,
    /// Number of the user or group.
    pub id: u32,
    /// Its name: 1 to [`MAX_OWNER_NAME`] bytes, no control characters, and no colon.
    pub name: &'a [u8],
}

/// Owner of an object: its user, or its group.
///
/// Exhaustive: an object has these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnerKind {
    /// A user.
    User,
    /// A group.
    Group,
}

impl OwnerKind {
    /// "user" or "group".
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

impl<'a> OwnerName<'a> {
    pub(super) fn put(&self, bytes: &mut Vec<u8>) -> Result<(), DecodeError> {
        check_owner_name(self.kind, self.id, self.name)?;
        bytes.put_u32(self.id);
        bytes.put_u16(match self.kind {
            OwnerKind::User => 0,
            OwnerKind::Group => 1,
        });
        bytes.put_u16(len_u16(self.name.len()));
        bytes.put(self.name);
        Ok(())
    }

    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("owner name", bytes);
        let id = bytes.u32()?;
        let kind = match bytes.u16()? {
            0 => OwnerKind::User,
            1 => OwnerKind::Group,
            other => return Err(bytes.error(format!("an owner of unknown kind {other}"))),
        };
        let len = usize::from(bytes.u16()?);
        let name = bytes.take(len)?;
        check_owner_name(kind, id, name)?;
        bytes.end()?;
        Ok(Self { kind, id, name })
    }
}

/// Refuses a name that no file of users or groups can have, and one that is too long.
pub(crate) fn check_owner_name(kind: OwnerKind, id: u32, name: &[u8]) -> Result<(), DecodeError> {
    let is_wrong = |byte: &u8| byte.is_ascii_control() || *byte == b':';
    if name.is_empty() || name.len() > MAX_OWNER_NAME || name.iter().any(is_wrong) {
        let shown = name.split_at(name.len().min(64)).0.escape_ascii();
        let why = format!(
            "the name of {} {id}, \"{shown}\", has {} bytes, but 1 to {MAX_OWNER_NAME} without \
             control characters and colons are allowed",
            kind.noun(),
            name.len()
        );
        return Err(DecodeError::new("owner name", why));
    }
    Ok(())
}
