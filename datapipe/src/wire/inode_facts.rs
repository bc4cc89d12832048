//! Facts about an inode that few objects have: flags, and the time at which it was made.

use super::codec::{Bytes, DecodeError, Put};
use super::headers::Time;

/// Flags and time of birth of an object.
///
/// Exhaustive: these are all fields of an inode entry of version 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InodeFacts {
    /// Flags as `FS_IOC_GETFLAGS` returns them, all bits.
    pub flags: u32,
    /// Time at which the object was made. No system call sets it, so that it cannot be restored.
    pub born: Option<Time>,
}

/// Nanoseconds of an object without a time of birth.
const NOT_BORN: u32 = u32::MAX;

impl InodeFacts {
    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        bytes.put_u32(self.flags);
        bytes.put_u32(0);
        match self.born {
            Some(born) => born.put(bytes),
            None => {
                bytes.put_i64(0);
                bytes.put_u32(NOT_BORN);
            }
        }
        bytes.put_u32(0);
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("inode", bytes);
        let flags = bytes.u32()?;
        bytes.zeros(4)?;
        let mut time = bytes.clone();
        let born = match (bytes.i64()?, bytes.u32()?) {
            (0, NOT_BORN) => None,
            _ => Some(Time::parse(&mut time)?),
        };
        bytes.zeros(4)?;
        bytes.end()?;
        Ok(Self { flags, born })
    }
}
