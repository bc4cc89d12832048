//! Rights of users. Every decision on who may do what is in this file, except for the paths that a
//! module may open, which `paths.rs` decides.
//!
//! ```text
//!   connect                  Access::allows    root, the daemon's user, and [access]
//!   use a module             Module::allows    root, the daemon's user, and the module's users
//!   read the metrics    Metrics::allows    root, the daemon's user, and metrics_users
//!   see and stop a pipe,
//!   attach to it             User::may_manage  root, the daemon's user, and the pipe's owner
//! ```

use std::io;

use super::module::Module;
use super::records::Metrics;
use super::users::{User, groups_of};

/// Users and groups that may connect, besides root and the daemon's own user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// Ids of users.
    pub users: Vec<u32>,
    /// Ids of groups: of users whose primary group it is, and of its members.
    pub groups: Vec<u32>,
}

impl User {
    /// True if the user has the rights of all users together: root, and the user that the daemon
    /// runs as.
    pub fn is_privileged(self) -> bool {
        self.0 == 0 || self == Self::own()
    }

    /// True if the user may see, stop and attach to a pipe of `owner`.
    pub fn may_manage(self, owner: Self) -> bool {
        self == owner || self.is_privileged()
    }
}

impl Access {
    /// True if `user`, whose process has the group `group`, may connect.
    ///
    /// # Errors
    ///
    /// If the groups of the user have to be looked up, and that fails. It may succeed later.
    pub fn allows(&self, user: User, group: u32) -> io::Result<bool> {
        self.decide(user, group, groups_of)
    }

    /// As [`allows`](Self::allows), without looking the groups of the user up; `None` if that is
    /// necessary.
    pub fn allows_without_lookup(&self, user: User, group: u32) -> Option<bool> {
        let allowed =
            user.is_privileged() || self.users.contains(&user.0) || self.groups.contains(&group);
        (allowed || self.groups.is_empty()).then_some(allowed)
    }

    fn decide(
        &self,
        user: User,
        group: u32,
        groups_of: impl FnOnce(User) -> io::Result<Vec<u32>>,
    ) -> io::Result<bool> {
        if let Some(allowed) = self.allows_without_lookup(user, group) {
            return Ok(allowed);
        }
        let groups = groups_of(user)?;
        Ok(groups.iter().any(|group| self.groups.contains(group)))
    }
}

impl Module {
    /// True if `user` may have the module in a pipe.
    pub fn allows(&self, user: User) -> bool {
        user.is_privileged()
            || self
                .users
                .as_ref()
                .is_none_or(|users| users.contains(&user.0))
    }
}

impl Metrics {
    /// True if `user` may ask for the metrics, which cover the pipes of all users.
    pub fn allows(&self, user: User) -> bool {
        user.is_privileged() || self.users.contains(&user.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_by_user_or_group() {
        let stranger = User(4_000_000_001);
        let access = Access::default();
        let allows = |access: &Access, user, group| access.allows(user, group).unwrap();
        assert!(allows(&access, User(0), 0) && allows(&access, User::own(), 7));
        assert!(!allows(&access, stranger, 0));
        let named = Access {
            users: vec![stranger.0],
            groups: vec![],
        };
        assert!(allows(&named, stranger, 7));
        let grouped = Access {
            users: vec![],
            groups: vec![7],
        };
        assert!(allows(&grouped, stranger, 7) && !allows(&grouped, stranger, 8));
    }

    /// A database of users that does not answer does not make a user a stranger.
    #[test]
    fn lookup_that_fails_is_not_a_refusal() {
        let grouped = Access {
            users: vec![],
            groups: vec![7],
        };
        let fails = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
        let stranger = User(4_000_000_001);
        assert!(grouped.decide(stranger, 8, fails).is_err());
        assert!(grouped.decide(stranger, 7, fails).unwrap());
        assert!(grouped.decide(stranger, 8, |_| Ok(vec![9, 7])).unwrap());
        assert!(!grouped.decide(stranger, 8, |_| Ok(vec![9])).unwrap());
        assert_eq!(grouped.allows_without_lookup(stranger, 8), None);
        let nothing = Access::default();
        assert!(!nothing.decide(stranger, 8, fails).unwrap());
    }

    #[test]
    fn metrics_are_for_named_users() {
        let metrics = Metrics {
            users: vec![4_000_000_001],
            ..Metrics::default()
        };
        assert!(metrics.allows(User(4_000_000_001)) && metrics.allows(User(0)));
        assert!(metrics.allows(User::own()) && !metrics.allows(User(4_000_000_002)));
    }

    #[test]
    fn pipes_are_managed_by_their_owner_and_privileged_users() {
        let (owner, other) = (User(4_000_000_001), User(4_000_000_002));
        assert!(owner.may_manage(owner) && !other.may_manage(owner));
        assert!(User(0).may_manage(owner) && User::own().may_manage(owner));
        assert!(!owner.may_manage(User(0)));
    }
}
