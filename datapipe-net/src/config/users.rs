//! Users and groups: by name in the configuration, by number from the kernel.

use std::ffi::CString;
use std::fmt;

use nix::unistd::{Gid, Group, Uid, getgrouplist};

/// A user of this machine, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User(pub u32);

impl User {
    /// The one that this process runs as.
    pub fn own() -> Self {
        Self(rustix::process::geteuid().as_raw())
    }

    /// Whether it may do what everybody together may: root, and the one that the daemon runs as.
    pub fn is_privileged(self) -> bool {
        self.0 == 0 || self == Self::own()
    }

    /// By name or number.
    pub(super) fn find(name: &str) -> Result<Self, String> {
        match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => Ok(Self(user.uid.as_raw())),
            Ok(None) => name
                .parse()
                .map(Self)
                .map_err(|_| format!("there is no user \"{}\"", name.escape_debug())),
            Err(error) => Err(format!(
                "the user \"{}\" cannot be looked up: {error}",
                name.escape_debug()
            )),
        }
    }
}

/// Prints the name, or the number if there is none.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::unistd::User::from_uid(Uid::from_raw(self.0)) {
            Ok(Some(user)) => f.pad(&user.name),
            _ => f.pad(&self.0.to_string()),
        }
    }
}

/// A group, by name or number.
pub(super) fn find_group(name: &str) -> Result<u32, String> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => name
            .parse()
            .map_err(|_| format!("there is no group \"{}\"", name.escape_debug())),
        Err(error) => Err(format!(
            "the group \"{}\" cannot be looked up: {error}",
            name.escape_debug()
        )),
    }
}

/// Who may connect: root, the daemon's own user, and whom the configuration names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// Users.
    pub users: Vec<u32>,
    /// Groups: those whose first group it is, and their members.
    pub groups: Vec<u32>,
}

impl Access {
    /// Whether `user`, whose process has the group `group`, may connect.
    pub fn allows(&self, user: User, group: u32) -> bool {
        user.is_privileged()
            || self.users.contains(&user.0)
            || self.groups.contains(&group)
            || (!self.groups.is_empty()
                && groups_of(user)
                    .iter()
                    .any(|group| self.groups.contains(group)))
    }
}

/// The groups that a user is in, as the machine's lists say; none if it is not in them.
fn groups_of(user: User) -> Vec<u32> {
    let Ok(Some(entry)) = nix::unistd::User::from_uid(Uid::from_raw(user.0)) else {
        return Vec::new();
    };
    let Ok(name) = CString::new(entry.name) else {
        return Vec::new();
    };
    getgrouplist(&name, entry.gid)
        .unwrap_or_default()
        .into_iter()
        .map(Gid::as_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_names_or_numbers() {
        assert_eq!(User::find("root"), Ok(User(0)));
        assert_eq!(User::find("4000000001"), Ok(User(4_000_000_001)));
        assert_eq!(User(0).to_string(), "root");
        assert_eq!(User(4_000_000_001).to_string(), "4000000001");
        assert_eq!(find_group("root"), Ok(0));
        for error in [
            User::find("no such one").unwrap_err(),
            find_group("no such one").unwrap_err(),
        ] {
            assert!(error.contains("\"no such one\""), "{error}");
        }
    }

    #[test]
    fn access_is_by_user_or_group() {
        let stranger = User(4_000_000_001);
        let access = Access::default();
        assert!(access.allows(User(0), 0) && access.allows(User::own(), 7));
        assert!(!access.allows(stranger, 0));
        assert!(
            Access {
                users: vec![stranger.0],
                groups: vec![]
            }
            .allows(stranger, 7)
        );
        let grouped = Access {
            users: vec![],
            groups: vec![7],
        };
        assert!(grouped.allows(stranger, 7) && !grouped.allows(stranger, 8));
        // By the machine's lists, whatever group its process has.
        assert!(groups_of(User(0)).contains(&0));
    }
}
