//! The user that the processes of a requested stage run as, and what that user may see.

use std::io;
use std::thread::{self, Builder};

use datapipe::stage::ProcessUser;
use nix::unistd::{setfsgid, setfsuid};
use rustix::process::Gid;

use crate::config::{Module, RunAs, User};
use crate::socket::Peer;

/// Group of a user of the configuration who is not in the machine's database: `nogroup`.
const NO_GROUP: u32 = 65_534;

/// User that the processes of a stage run as.
#[derive(Clone, Debug)]
pub(super) struct ModuleUser {
    /// Ids of the processes; `None` for the daemon's own.
    pub(super) process: Option<ProcessUser>,
    /// True if they run as another user than the client, who is not root: what they restore must
    /// not give the client that user's rights.
    pub(super) serves_other: bool,
}

impl ModuleUser {
    /// Determines the user of `module` in a pipe of `peer`. Only a daemon that runs as root can
    /// start processes of others.
    ///
    /// # Errors
    ///
    /// If the user cannot be looked up.
    pub(super) fn of(module: &Module, peer: Peer) -> io::Result<Self> {
        let own = User::own();
        let (user, group) = match module.run_as {
            _ if own.0 != 0 => (own, 0),
            RunAs::User(user) => (user, NO_GROUP),
            _ => (peer.user, peer.group),
        };
        let process = (user != own)
            .then(|| user.process_user(group))
            .transpose()?;
        Ok(Self {
            process,
            serves_other: user != peer.user && peer.user.0 != 0,
        })
    }

    /// Calls `work` on a thread that sees files as the user does: paths that the user may not
    /// search do not exist for it. Signals and limits treat the thread as the daemon's all the
    /// same: the user cannot send one to it.
    pub(super) fn see<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let Some(user) = &self.process else {
            return Ok(work());
        };
        thread::scope(|scope| {
            let thread = Builder::new()
                .name("see".to_owned())
                .spawn_scoped(scope, || {
                    become_on_this_thread(user)?;
                    Ok(work())
                })?;
            let panicked = |_| io::Error::other("a thread that resolves paths panicked");
            thread.join().map_err(panicked)?
        })
    }
}

/// Changes the ids of this thread that decide about files, for good. The kernel takes away the
/// capabilities for files with them.
fn become_on_this_thread(user: &ProcessUser) -> io::Result<()> {
    let groups: Vec<_> = user
        .supplementary()
        .iter()
        .copied()
        .map(Gid::from_raw)
        .collect();
    rustix::thread::set_thread_groups(&groups)?;
    setfsgid(user.group().into());
    setfsuid(user.user().into());
    // Both return the previous id and no error; an invalid id changes nothing.
    let user_now = setfsuid(u32::MAX.into()).as_raw();
    let group_now = setfsgid(u32::MAX.into()).as_raw();
    if (user_now, group_now) != (user.user(), user.group()) {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    Ok(())
}
