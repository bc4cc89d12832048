//! Look-ups in the system's databases of users and groups.
//!
//! The C library asks the name services that this machine is configured for: files, but also
//! directories of an organisation. A look-up takes as long as they do, and nothing can interrupt
//! it: a caller therefore asks for each name once, and lets users turn look-ups off. A program that
//! is linked statically has the name services that its C library has built in.

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};

use crate::wire::OwnerKind;

/// Error of a look-up.
pub(super) type LookupError = std::io::Error;

/// Returns the name of a user or a group, if it has one.
pub(super) fn name_of(kind: OwnerKind, id: u32) -> Result<Option<Vec<u8>>, LookupError> {
    found(|| match kind {
        OwnerKind::User => Ok(User::from_uid(Uid::from_raw(id))?.map(|user| user.name)),
        OwnerKind::Group => Ok(Group::from_gid(Gid::from_raw(id))?.map(|group| group.name)),
    })
    .map(|name| name.map(String::into_bytes))
}

/// Returns the number of the user or group with this name, if there is one. The database has no
/// names that are not UTF-8.
pub(super) fn id_of(kind: OwnerKind, name: &[u8]) -> Result<Option<u32>, LookupError> {
    let Ok(name) = std::str::from_utf8(name) else {
        return Ok(None);
    };
    found(|| match kind {
        OwnerKind::User => Ok(User::from_name(name)?.map(|user| user.uid.as_raw())),
        OwnerKind::Group => Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())),
    })
}

/// Repeats a look-up that a signal interrupts.
///
/// Name services have several errors for what they do not have (getpwnam_r(3)). Most of them may
/// also say that a database is missing or may not be read, and then an owner that has a name would
/// seem to have none. So they are errors, but for the one that means nothing else.
fn found<T>(mut look_up: impl FnMut() -> nix::Result<Option<T>>) -> Result<Option<T>, LookupError> {
    loop {
        match look_up() {
            Err(Errno::EINTR) => {}
            Err(Errno::ESRCH) => return Ok(None),
            other => return other.map_err(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// A database that could not be read was one without names.
    #[test]
    fn database_that_cannot_be_read_is_an_error() {
        for errno in [
            Errno::ENOENT,
            Errno::EPERM,
            Errno::EBADF,
            Errno::EACCES,
            Errno::EIO,
        ] {
            let error = found(|| Err::<Option<()>, _>(errno)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno as i32));
        }
        assert_eq!(found(|| Err::<Option<()>, _>(Errno::ESRCH)).unwrap(), None);
        let mut calls = 0;
        let interrupted = found(|| {
            calls += 1;
            if calls == 1 {
                Err(Errno::EINTR)
            } else {
                Ok(Some(7))
            }
        });
        assert_eq!(interrupted.unwrap(), Some(7));
        assert_eq!(name_of(OwnerKind::User, 0).unwrap().unwrap(), b"root");
    }
}
