//! Users and groups of this machine: by name in the configuration, by number from the kernel.

use std::ffi::CString;
use std::fmt;
use std::io;

use datapipe::stage::ProcessUser;
use nix::unistd::{Gid, Group, Uid, getgrouplist};

/// User of this machine, by user id. The rights of a user are in `permissions.rs`
/// ([`is_privileged`](Self::is_privileged), [`may_manage`](Self::may_manage)).
///
/// Exhaustive: it is the kernel's number, and every number is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User(pub u32);

impl User {
    /// User that this process runs as.
    pub fn own() -> Self {
        Self(rustix::process::geteuid().as_raw())
    }

    /// Returns the user with this name, or else with this number.
    pub(super) fn find(name: &str) -> Result<Self, String> {
        match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => Ok(Self(user.uid.as_raw())),
            Ok(None) => name
                .parse()
                .map(Self)
                .map_err(|_| format!("there is no user \"{}\"", name.escape_debug())),
            Err(error) => Err(format!(
                "cannot look up the user \"{}\": {error}",
                name.escape_debug()
            )),
        }
    }
}

impl User {
    /// Returns the ids with which a process of the user runs, with the groups of the machine's
    /// database. A user who is not in it gets `group`, and no other groups.
    ///
    /// # Errors
    ///
    /// If the user cannot be looked up.
    pub fn process_user(self, group: u32) -> io::Result<ProcessUser> {
        let entry = nix::unistd::User::from_uid(Uid::from_raw(self.0))?;
        let Some(entry) = entry else {
            return Ok(ProcessUser::new(self.0, group));
        };
        let groups = getgrouplist(&CString::new(entry.name)?, entry.gid)?;
        let groups = groups.into_iter().map(Gid::as_raw);
        Ok(ProcessUser::new(self.0, entry.gid.as_raw()).groups(groups))
    }
}

/// Prints the name of the user, or the number if it has no name.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::unistd::User::from_uid(Uid::from_raw(self.0)) {
            Ok(Some(user)) => f.pad(&user.name),
            _ => f.pad(&self.0.to_string()),
        }
    }
}

/// Returns the id of the group with this name, or else with this number.
pub(super) fn find_group(name: &str) -> Result<u32, String> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => name
            .parse()
            .map_err(|_| format!("there is no group \"{}\"", name.escape_debug())),
        Err(error) => Err(format!(
            "cannot look up the group \"{}\": {error}",
            name.escape_debug()
        )),
    }
}

/// Name of a group, or its number if it has none.
pub(super) fn name_of_group(group: u32) -> String {
    match Group::from_gid(Gid::from_raw(group)) {
        Ok(Some(group)) => group.name,
        _ => group.to_string(),
    }
}

/// Returns the groups of a user according to the machine's database; none if the user is not in it.
///
/// # Errors
///
/// If the database cannot be read.
pub(super) fn groups_of(user: User) -> io::Result<Vec<u32>> {
    let Some(entry) = nix::unistd::User::from_uid(Uid::from_raw(user.0))? else {
        return Ok(Vec::new());
    };
    let name = CString::new(entry.name)?;
    let groups = getgrouplist(&name, entry.gid)?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_or_number() {
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
    fn processes_of_a_user_have_the_groups_of_the_database() {
        let root = User(0).process_user(7).unwrap();
        assert_eq!((root.user(), root.group()), (0, 0));
        assert!(root.supplementary().contains(&0));
        let stranger = User(4_000_000_001).process_user(7).unwrap();
        assert_eq!((stranger.user(), stranger.group()), (4_000_000_001, 7));
        assert_eq!(stranger.supplementary(), [0; 0]);
    }

    #[test]
    fn groups_of_a_user_are_those_of_the_database() {
        assert!(groups_of(User(0)).unwrap().contains(&0));
        assert_eq!(groups_of(User(4_000_000_001)).unwrap(), [0; 0]);
    }
}
