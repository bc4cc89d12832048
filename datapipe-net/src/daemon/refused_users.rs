//! Users whose connections were refused lately. A flood of their connections costs neither a thread
//! nor a look into the databases of users and groups.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;

use crate::config::User;
use crate::limits::{MAX_REFUSED_USERS, REFUSED_TIME};

/// Users whose connections were refused lately, each with its primary group and the time of that.
#[derive(Debug, Default)]
pub(super) struct RefusedUsers(Mutex<VecDeque<(User, u32, Instant)>>);

impl RefusedUsers {
    /// Records that a process of `user` with the group `group` may not connect.
    pub(super) fn add(&self, user: User, group: u32, now: Instant) {
        let mut users = self.0.lock();
        if users.len() >= MAX_REFUSED_USERS {
            users.pop_front();
        }
        users.push_back((user, group, now));
    }

    /// True if the user was refused within [`REFUSED_TIME`] before `now`.
    pub(super) fn contains(&self, user: User, group: u32, now: Instant) -> bool {
        let mut users = self.0.lock();
        let is_over = |since: Instant| now.saturating_duration_since(since) >= REFUSED_TIME;
        while users.front().is_some_and(|(_, _, since)| is_over(*since)) {
            users.pop_front();
        }
        users
            .iter()
            .any(|(other, its_group, _)| (*other, *its_group) == (user, group))
    }

    /// Forgets all users, because the configuration has changed.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_users_are_remembered_for_a_while() {
        let (refused, now) = (RefusedUsers::default(), Instant::now());
        refused.add(User(7), 8, now);
        assert!(refused.contains(User(7), 8, now));
        assert!(!refused.contains(User(7), 9, now) && !refused.contains(User(6), 8, now));
        assert!(!refused.contains(User(7), 8, now + REFUSED_TIME));
        (0..10_000).for_each(|user| refused.add(User(user), 8, now));
        assert_eq!(refused.0.lock().len(), MAX_REFUSED_USERS);
        assert!(refused.contains(User(9999), 8, now));
        refused.clear();
        assert!(!refused.contains(User(9999), 8, now));
    }
}
