//! The semaphore of the pipe: an event that waiters sleep on until something may have changed.
//!
//! ```text
//!   waiter                                     waker
//!   try: nothing                               publish (a read-modify-write)
//!   mark a sleeper          -- Dekker --       fence
//!   try again: nothing                         any sleeper?
//!   sleep while the word is as marked          move the word, wake all
//! ```
//!
//! The count of the semaphore is not stored here: a queue's count is tail minus head, an
//! allocator's is its quota minus its loans. The word carries no information, so a participant that
//! dies while it owes a wake-up, or asleep, leaves nothing to repair but a wake-up, and wakers
//! wake all sleepers.
//!
//! This module does not check for stop or time: the waiter's loop does, and the one that stops the
//! pipe calls [`EventCount::wake_all`].

#[cfg(not(loom))]
use std::time::Instant;

#[cfg(not(loom))]
use rustix::io::Errno;
#[cfg(not(loom))]
use rustix::thread::futex;

#[cfg(not(loom))]
use super::atomic::core_word;
use super::atomic::{AtomicU32, Ordering, fence_after_rmw};
use super::points::point;

/// An eventcount. Bit 0: a waiter may be asleep. The other bits count wake-ups, wrapping.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct EventCount {
    word: AtomicU32,
    #[cfg(loom)]
    futex: FutexModel,
}

/// Value of the word when a waiter marked itself asleep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitKey(u32);

const SLEEPER: u32 = 1;

/// Futexes that one futex_waitv takes: FUTEX_WAITV_MAX of linux/futex.h.
#[cfg(not(loom))]
const MAX_WAITV: usize = 128;

impl EventCount {
    /// Marks a sleeper. The caller must look once more for what it waits for before it sleeps on
    /// the key.
    pub(crate) fn prepare_wait(&self) -> WaitKey {
        // SYNC(sleeper-marked): the read-modify-write and the fence come before the second look.
        let before = self.word.fetch_or(SLEEPER, Ordering::AcqRel);
        fence_after_rmw();
        point!("wait.marked");
        WaitKey(before | SLEEPER)
    }

    /// Wakes all sleepers, if there are any. What they wait for must have been published by a
    /// read-modify-write, or before one. What is stored plainly after it may be seen later than the
    /// look for sleepers: it is only a hint.
    #[inline]
    pub(crate) fn notify(&self) {
        fence_after_rmw();
        // SYNC(sleeper-marked): a waiter whose mark is not seen here will see in its second look
        // what was published.
        let word = self.word.load(Ordering::Acquire);
        if word & SLEEPER != 0 {
            self.wake_from(word);
        }
    }

    /// Wakes all sleepers, seen or not: after a stop, and after the death of a participant that may
    /// have owed a wake-up.
    pub(crate) fn wake_all(&self) {
        self.word.fetch_add(2, Ordering::AcqRel);
        self.futex_wake();
    }

    #[cold]
    fn wake_from(&self, word: u32) {
        // If this fails, another participant moved the word after what we published was in place,
        // and wakes for us; or a waiter marked itself after that, and finds it in its second look.
        if self
            .word
            .compare_exchange(
                word,
                word.wrapping_add(1),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
        {
            point!("wake.moved");
            self.futex_wake();
        }
    }
}

#[cfg(not(loom))]
impl EventCount {
    /// Sleeps until the word moves on from the key, or `deadline`. May return early.
    pub(crate) fn sleep(&self, key: WaitKey, deadline: Option<Instant>) {
        Self::sleep_any(&[(self, key)], deadline);
    }

    /// Sleeps until one of the words moves on from its key, or `deadline`. May return early.
    ///
    /// With more than 128 different events it returns after a millisecond at the latest.
    pub(crate) fn sleep_any(events: &[(&Self, WaitKey)], deadline: Option<Instant>) {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.map(|d| rustix::fs::Timespec {
            tv_sec: d.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: d.subsec_nanos().into(),
        });
        if let [(event, key)] = events {
            let word = core_word(&event.word);
            // A wake-up, a moved word, a signal and the time's end are all the same to the caller:
            // look again.
            let _ = futex::wait(word, futex::Flags::empty(), key.0, timeout.as_ref());
            return;
        }
        // Many may wait for one event. All marks come before the second look, so one key of
        // each is enough.
        let mut events: Vec<_> = events.iter().collect();
        events.sort_by_key(|(event, _)| std::ptr::from_ref(*event));
        events.dedup_by_key(|(event, _)| std::ptr::from_ref(*event));
        // What does not fit, or a kernel before 5.16 does not know, is looked at again shortly.
        let nap = std::time::Duration::from_millis(1);
        let left = if events.len() > MAX_WAITV {
            Some(left.map_or(nap, |d| d.min(nap)))
        } else {
            left
        };
        let waiters: Vec<_> = events
            .iter()
            .take(MAX_WAITV)
            .map(|(event, key)| event.waiter(*key))
            .collect();
        let absolute = left.map(|d| {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let nanos = now.tv_nsec + i64::from(d.subsec_nanos());
            rustix::fs::Timespec {
                tv_sec: now.tv_sec
                    + i64::try_from(d.as_secs()).unwrap_or(i64::MAX / 2)
                    + nanos / 1_000_000_000,
                tv_nsec: nanos % 1_000_000_000,
            }
        });
        let flags = futex::WaitvFlags::empty();
        let clock = futex::ClockId::Monotonic;
        if futex::waitv(&waiters, flags, absolute.as_ref(), clock)
            .is_err_and(|e| !matches!(e, Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT))
        {
            std::thread::sleep(left.map_or(nap, |d| d.min(nap)));
        }
    }

    fn futex_wake(&self) {
        // Waking can only fail if the address is not mapped, and it is: we hold a reference.
        let all = i32::MAX.unsigned_abs();
        let _ = futex::wake(core_word(&self.word), futex::Flags::empty(), all);
    }

    fn waiter(&self, key: WaitKey) -> futex::Wait {
        let mut wait = futex::Wait::new();
        wait.val = key.0.into();
        wait.uaddr = futex::WaitPtr::new(core_word(&self.word).as_ptr().cast());
        wait.flags = futex::WaitFlags::SIZE_U32;
        wait
    }
}

#[cfg(loom)]
mod model {
    //! The futex, modelled: a lock that makes "is the word still as marked" and "lie down" one
    //! step.

    use loom::sync::{Condvar, Mutex};

    use super::{EventCount, Ordering, WaitKey};

    #[derive(Debug)]
    pub(super) struct FutexModel {
        lock: Mutex<()>,
        condition: Condvar,
    }

    impl Default for FutexModel {
        fn default() -> Self {
            Self {
                lock: Mutex::new(()),
                condition: Condvar::new(),
            }
        }
    }

    impl EventCount {
        pub(crate) fn sleep(&self, key: WaitKey) {
            let guard = self.futex.lock.lock().unwrap();
            if self.word.load(Ordering::Acquire) == key.0 {
                drop(self.futex.condition.wait(guard).unwrap());
            }
        }

        pub(super) fn futex_wake(&self) {
            drop(self.futex.lock.lock().unwrap());
            self.futex.condition.notify_all();
        }
    }
}
#[cfg(loom)]
use model::FutexModel;
