//! The waits of a port: for its own events, and for those of other threads of its process.

use std::time::Instant;

use crate::memory::atomic::Ordering;
use crate::memory::event_count::{EventCount, WaitKey};
use crate::memory::now;
use crate::memory::points::point;

use super::activity::Activity;
use super::bell::Bell;
use super::port_core::{PortCore, add};
use super::port_error::{PortError, TryError};
use super::wait::{Blocked, Waiter, wait};

impl PortCore {
    /// Repeats `attempt` until it gets something; after `deadline`, returns what blocks it.
    ///
    /// `attempt` must itself notice a stop, as every `try_` primitive does.
    #[inline(always)]
    pub(crate) fn wait<T, E>(
        &self,
        deadline: Option<Instant>,
        attempt: impl FnMut() -> Result<Result<T, Blocked>, E>,
    ) -> Result<Result<T, Blocked>, E> {
        let (core, bell) = (self, None);
        let wait_for = TimedWait {
            core,
            bell,
            deadline,
        };
        wait(&wait_for, attempt)
    }

    /// Marks a sleeper on the event that ends `blocked`. The caller looks once more before it
    /// sleeps.
    pub(crate) fn prepare_wait(&self, blocked: Blocked) -> (&EventCount, WaitKey) {
        let event = self.event(blocked);
        (event, event.prepare_wait())
    }

    fn event(&self, blocked: Blocked) -> &EventCount {
        blocked.event(&self.participant(), self.stage())
    }

    /// Runs `sleep`, and counts its time as time spent waiting. `timed`: it ends by itself.
    pub(crate) fn sleep_with(&self, blocked: Blocked, timed: bool, sleep: impl FnOnce()) {
        let (activity, counter) = match blocked {
            Blocked::AtLimit | Blocked::NoneFree => (
                Activity::WaitingForBuffer,
                Some(&self.entry().counters.alloc_wait),
            ),
            Blocked::NoInput => (
                Activity::WaitingForInput,
                Some(&self.entry().counters.receive_wait),
            ),
            // Counts as work: what is outside may be what limits the pipe.
            Blocked::Outside => (Activity::WaitingOutside, None),
        };
        let start = now();
        self.entry().since.store(start, Ordering::Relaxed);
        activity.record(&self.tables, self.id, timed);
        point!("wait.noted");
        sleep();
        point!("wait.woken");
        if let Some(counter) = counter {
            add(counter, now().saturating_sub(start));
        }
        self.set_activity(Activity::Working);
    }

    /// Repeats `attempt` until it gets something, fails, or `deadline` has passed. A ring of `bell`
    /// ends each sleep, too.
    pub(super) fn wait_for_bell<T>(
        &self,
        bell: &Bell,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Result<T, TryError>,
    ) -> Result<T, TryError> {
        let (core, bell) = (self, Some(bell));
        let wait_for = TimedWait {
            core,
            bell,
            deadline,
        };
        let attempt = || {
            self.check()?;
            match attempt() {
                Ok(done) => Ok(Ok(done)),
                Err(TryError::Blocked(blocked)) => Ok(Err(blocked)),
                Err(TryError::Port(error)) => Err(error),
            }
        };
        Ok(wait(&wait_for, attempt)??)
    }

    /// Waits until other threads have no block of the port any more. Without such a block it does
    /// nothing, also in a pipe that has been stopped.
    #[inline]
    pub(super) fn await_returns(&self) -> Result<(), PortError> {
        if self.is_lent() {
            self.await_returns_now()
        } else {
            Ok(())
        }
    }

    #[cold]
    fn await_returns_now(&self) -> Result<(), PortError> {
        self.collect_returns();
        if !self.is_lent() {
            return Ok(());
        }
        let all_back = || {
            self.check()?;
            Ok(if self.is_lent() {
                Err(Blocked::Outside)
            } else {
                Ok(())
            })
        };
        self.wait(None, all_back)
            .map(|done| done.expect("a wait without a deadline ends with something"))
    }
}

/// A wait of a port, with the events besides the port's own that end it, and its deadline.
struct TimedWait<'a> {
    core: &'a PortCore,
    bell: Option<&'a Bell>,
    deadline: Option<Instant>,
}

impl<'a> TimedWait<'a> {
    /// The events of other threads of this process.
    fn own_events(&self) -> impl Iterator<Item = &'a EventCount> {
        let core = self.core;
        // The caller's attempt comes after the marks, and may lend a block.
        let may_lend = self.bell.is_some() || core.is_lent();
        let returns = may_lend.then(|| core.lender().returns().event());
        self.bell.map(Bell::event).into_iter().chain(returns)
    }
}

/// Eight looks with equal pauses take about 10 us in all; waking a sleeper takes 8 to 50 us.
/// Shorter pauses are worse, for a look takes the words from under those who are to move them.
impl<'a> Waiter for TimedWait<'a> {
    const LOOKS: u32 = 8;
    const PAUSES: u32 = 64;
    /// The port's own, and those of other threads.
    type Keys = (WaitKey, Vec<(&'a EventCount, WaitKey)>);

    fn mark(&self, blocked: Blocked) -> Self::Keys {
        let own = self.own_events();
        let own = own.map(|event| (event, event.prepare_wait())).collect();
        (self.core.event(blocked).prepare_wait(), own)
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|at| Instant::now() >= at)
    }

    fn sleep(&self, blocked: Blocked, (key, mut others): Self::Keys) {
        let event = self.core.event(blocked);
        // Another thread may end a wait with other events, so no stage waits in vain for this one.
        let timed = self.deadline.is_some() || !others.is_empty();
        self.core.sleep_with(blocked, timed, || {
            if others.is_empty() {
                event.sleep(key, self.deadline);
            } else {
                others.push((event, key));
                EventCount::sleep_any(&others, self.deadline);
            }
        });
    }
}
