//! Amounts that each user takes of the daemon: connections, pipes, processes, descriptors, memory.
//! Every kind has a limit for all users together and one for each user.
//!
//! Root and the daemon's own user have the limits of all users only. They get some connections and
//! descriptors more than all others together, so that they can always connect, list and stop.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::process::{Resource, getrlimit};

use crate::config::{Limits, User};
use crate::limits::{
    CONNECTION_DESCRIPTORS, PIPE_DESCRIPTORS, PROCESS_DESCRIPTORS, RESERVED_CONNECTIONS,
    RESERVED_DESCRIPTORS,
};

/// Accounts of all users.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    totals: Mutex<Totals>,
    /// Notified when something is given back.
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Totals {
    all: Usage,
    /// Users that have taken something.
    users: HashMap<User, Usage>,
    /// Users of [`Charge::run_as`], once for each stage.
    runners: Vec<User>,
}

/// Amounts of each kind, in the order of [`KINDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage([u64; KINDS.len()]);

/// Amounts that a user has taken. Dropping it gives them back.
#[derive(Debug)]
pub(super) struct Charge {
    accounts: Arc<Accounts>,
    user: User,
    usage: Usage,
    /// Users that processes of a pipe run as by its modules, once for each stage.
    runners: Vec<User>,
}

/// Kind of what is limited.
struct Kind {
    /// Key of the configuration; the one for each user has `_per_user` before its unit.
    keys: [&'static str; 2],
    /// Name of the amounts, after a number.
    noun: &'static str,
    /// Shift from the amounts to those of the noun.
    shift: u32,
    /// Limit for all users, and for each.
    limits: fn(&Limits) -> [u64; 2],
    /// Amount beyond the limit that is for root and the daemon's own user.
    reserve: u64,
    remedy: &'static str,
}

const CONNECTIONS: usize = 0;
const PIPES: usize = 1;
const PROCESSES: usize = 2;
const DESCRIPTORS: usize = 3;
const MEMORY: usize = 4;

const KINDS: [Kind; 5] = [
    Kind {
        keys: ["connections", "connections_per_user"],
        noun: "connections",
        shift: 0,
        limits: |limits| {
            [
                limits.connections.into(),
                limits.connections_per_user.into(),
            ]
        },
        reserve: RESERVED_CONNECTIONS as u64,
        remedy: "close a connection",
    },
    Kind {
        keys: ["pipes", "pipes_per_user"],
        noun: "pipes",
        shift: 0,
        limits: |limits| [limits.pipes.into(), limits.pipes_per_user.into()],
        reserve: 0,
        remedy: "wait for a pipe to end",
    },
    Kind {
        keys: ["processes", "processes_per_user"],
        noun: "processes",
        shift: 0,
        limits: |limits| [limits.processes.into(), limits.processes_per_user.into()],
        reserve: 0,
        remedy: "wait for a pipe to end, or use fewer instances; a process that is kept \
                 from ending by one that traces it counts",
    },
    Kind {
        keys: ["descriptors", "descriptors_per_user"],
        noun: "descriptors",
        shift: 0,
        limits: descriptor_limits,
        reserve: RESERVED_DESCRIPTORS,
        remedy: "wait for a pipe to end, or raise the daemon's limit of open files",
    },
    Kind {
        keys: ["memory_mib", "memory_per_user_mib"],
        noun: "MiB of shared memory",
        shift: 20,
        limits: |limits| [limits.memory, limits.memory_per_user],
        reserve: 0,
        remedy: "wait for a pipe to end, or use fewer or smaller buffers; the memory of a pipe \
                 counts until no process maps it any more",
    },
];

/// Descriptors that all users together, and each, may cause: those that this process may open, but
/// for the reserve.
fn descriptor_limits(limits: &Limits) -> [u64; 2] {
    let own = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let own = own.saturating_sub(2 * RESERVED_DESCRIPTORS);
    let all = limits.descriptors.map_or(own, |all| own.min(all));
    [
        all,
        limits
            .descriptors_per_user
            .unwrap_or_else(|| all.div_ceil(2)),
    ]
}

impl Usage {
    /// Usage of a connection.
    pub(super) fn connection() -> Self {
        let mut usage = Self::default();
        usage.0[CONNECTIONS] = 1;
        usage.0[DESCRIPTORS] = CONNECTION_DESCRIPTORS;
        usage
    }

    /// Usage of a pipe with `processes` processes and `memory` bytes of shared memory.
    pub(super) fn pipe(processes: u64, memory: u64) -> Self {
        let mut usage = Self::default();
        usage.0[PIPES] = 1;
        usage.0[PROCESSES] = processes;
        usage.0[DESCRIPTORS] =
            PIPE_DESCRIPTORS.saturating_add(processes.saturating_mul(PROCESS_DESCRIPTORS));
        usage.0[MEMORY] = memory;
        usage
    }

    /// Usage of processes of a pipe that has ended.
    pub(super) fn processes(count: u64) -> Self {
        let mut usage = Self::default();
        usage.0[PROCESSES] = count;
        usage
    }

    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own = own.saturating_add(other);
        }
    }

    fn subtract(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own = own.saturating_sub(other);
        }
    }
}

impl Accounts {
    /// Charges `usage` to a user. The error is the limit that it would exceed, and what to do.
    pub(super) fn charge(
        self: &Arc<Self>,
        user: User,
        usage: Usage,
        limits: &Limits,
    ) -> Result<Charge, String> {
        self.charge_besides(user, usage, Usage::default(), limits)
    }

    /// As [`charge`](Self::charge), for a user who has `left` besides what was charged.
    pub(super) fn charge_besides(
        self: &Arc<Self>,
        user: User,
        usage: Usage,
        left: Usage,
        limits: &Limits,
    ) -> Result<Charge, String> {
        let mut totals = self.totals.lock();
        let mut own = totals.users.get(&user).copied().unwrap_or_default();
        own.add(&left);
        for (kind, (requested, (all, own))) in KINDS
            .iter()
            .zip(usage.0.into_iter().zip(totals.all.0.into_iter().zip(own.0)))
        {
            if requested > 0 {
                kind.check(user, requested, all, own, limits)?;
            }
        }
        totals.all.add(&usage);
        totals.users.entry(user).or_default().add(&usage);
        Ok(Charge {
            accounts: Arc::clone(self),
            user,
            usage,
            runners: Vec::new(),
        })
    }

    /// Shared memory that is charged to all users, in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.totals.lock().all.0[MEMORY]
    }

    /// True if a pipe has processes that run as `user`, or is being started. Processes of a pipe of
    /// `user` count, too.
    pub(super) fn has_processes(&self, user: User) -> bool {
        let totals = self.totals.lock();
        let own = totals.users.get(&user);
        own.is_some_and(|own| own.0[PROCESSES] > 0) || totals.runners.contains(&user)
    }

    /// Waits until no connection is open.
    pub(super) fn wait_until_no_connection(&self) {
        let mut totals = self.totals.lock();
        self.returned
            .wait_while(&mut totals, |totals| totals.all.0[CONNECTIONS] > 0);
    }

    fn give_back(&self, user: User, usage: &Usage) {
        let mut totals = self.totals.lock();
        totals.all.subtract(usage);
        if let Some(own) = totals.users.get_mut(&user) {
            own.subtract(usage);
            if own.is_nothing() {
                totals.users.remove(&user);
            }
        }
        self.returned.notify_all();
    }
}

impl Charge {
    /// User who is charged.
    pub(super) fn user(&self) -> User {
        self.user
    }

    /// Records that processes of the pipe run as `runners`, one for each stage.
    pub(super) fn run_as(mut self, runners: Vec<User>) -> Self {
        self.accounts.totals.lock().runners.extend(&runners);
        self.runners.extend(runners);
        self
    }

    /// Removes the record of [`run_as`](Self::run_as).
    fn end_runners(&mut self) {
        let recorded = &mut self.accounts.totals.lock().runners;
        for runner in self.runners.drain(..) {
            if let Some(at) = recorded.iter().position(|other| *other == runner) {
                recorded.swap_remove(at);
            }
        }
    }

    /// Gives back what a pipe that has ended does not need any more. Its place, its memory and a
    /// few descriptors remain.
    pub(super) fn keep_memory(&mut self) {
        self.end_runners();
        let kept = Usage::pipe(0, self.usage.0[MEMORY]);
        let mut rest = self.usage;
        rest.subtract(&kept);
        self.usage = kept;
        self.accounts.give_back(self.user, &rest);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.end_runners();
        self.accounts.give_back(self.user, &self.usage);
    }
}

impl Kind {
    /// Checks the limits for `requested` more, where all users have `all` and the user has `own`.
    fn check(
        &self,
        user: User,
        requested: u64,
        all: u64,
        own: u64,
        limits: &Limits,
    ) -> Result<(), String> {
        let [whole, per_user] = (self.limits)(limits);
        let [whole_key, per_user_key] = self.keys;
        let reserve = match user {
            // The daemon's own user may run clients, too, and leaves some for root.
            User(0) => self.reserve,
            user if user.is_privileged() => self.reserve / 2,
            _ => 0,
        };
        let whole = whole.saturating_add(reserve);
        if requested > whole.saturating_sub(all) {
            return Err(self.text(requested, all, whole, "all users together", whole_key));
        }
        if !user.is_privileged() && requested > per_user.saturating_sub(own) {
            return Err(self.text(requested, own, per_user, "a user", per_user_key));
        }
        Ok(())
    }

    fn text(&self, requested: u64, taken: u64, limit: u64, whose: &str, key: &str) -> String {
        let Self {
            noun,
            shift,
            remedy,
            ..
        } = self;
        let left = limit.saturating_sub(taken) >> shift;
        let requested = requested.div_ceil(1 << shift);
        let limit = limit >> shift;
        format!(
            "{noun}: {requested} requested, and {left} of the {limit} that {whose} may have are \
             left ({key} in the configuration): {remedy}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: User = User(4_000_000_001);
    const OTHER: User = User(4_000_000_002);

    fn limits() -> Limits {
        Limits {
            pipes: 3,
            pipes_per_user: 2,
            connections: 3,
            connections_per_user: 2,
            processes: 100,
            processes_per_user: 50,
            memory: 96 << 20,
            memory_per_user: 64 << 20,
            ..Limits::default()
        }
    }

    #[test]
    fn limits_are_of_each_user_and_of_all() {
        let (accounts, limits) = (Arc::new(Accounts::default()), limits());
        let charge = |user, mib: u64| accounts.charge(user, Usage::pipe(10, mib << 20), &limits);
        let first = charge(USER, 40).unwrap();
        let text = charge(USER, 25).unwrap_err();
        assert!(
            text.contains("25 requested, and 24 of the 64 that a user may have are left"),
            "{text}"
        );
        let second = charge(USER, 1).unwrap();
        assert!(charge(USER, 1).unwrap_err().contains("pipes_per_user"));
        assert!(charge(OTHER, 56).unwrap_err().contains("memory_mib"));
        let third = charge(OTHER, 10).unwrap();
        assert!(charge(OTHER, 1).unwrap_err().contains("pipes"));
        assert_eq!(accounts.memory(), 51 << 20);
        drop((first, second, third));
        assert!(accounts.totals.lock().users.is_empty());
        assert_eq!(accounts.totals.lock().all, Usage::default());
    }

    #[test]
    fn privileged_users_have_a_reserve_and_no_limit_of_their_own() {
        let (accounts, limits) = (Arc::new(Accounts::default()), limits());
        let connect = |user| accounts.charge(user, Usage::connection(), &limits);
        let _users: Vec<_> = [USER, USER, OTHER].into_iter().map(connect).collect();
        assert!(connect(OTHER).is_err());
        let reserve: Vec<_> = (0..u64::from(RESERVED_CONNECTIONS))
            .map(|_| connect(User(0)).unwrap())
            .collect();
        assert!(connect(User(0)).is_err());
        drop(reserve);
        assert!(connect(User(0)).is_ok());
    }

    #[test]
    fn memory_of_an_ended_pipe_stays_charged() {
        let (accounts, limits) = (Arc::new(Accounts::default()), limits());
        let usage = Usage::pipe(10, 40 << 20);
        let mut charge = accounts.charge(USER, usage, &limits).unwrap();
        charge.keep_memory();
        assert_eq!(accounts.totals.lock().all, Usage::pipe(0, 40 << 20));
        drop(charge);
        assert_eq!(accounts.totals.lock().all, Usage::default());
    }

    #[test]
    fn pipe_has_processes_of_the_user_that_they_run_as() {
        let (accounts, limits) = (Arc::new(Accounts::default()), limits());
        let charge = || {
            let charge = accounts.charge(USER, Usage::pipe(1, 0), &limits).unwrap();
            charge.run_as(vec![OTHER])
        };
        let (mut ended, live) = (charge(), charge());
        ended.keep_memory();
        assert!(accounts.has_processes(USER) && accounts.has_processes(OTHER));
        drop(live);
        assert!(!accounts.has_processes(USER) && !accounts.has_processes(OTHER));
        drop(ended);
        assert!(accounts.totals.lock().runners.is_empty());
    }
}
