//! The number of instances that read at once, which follows the source.
//!
//! Instances that find their objects in memory compete with the other stages for the processors,
//! and their entries are copied more often. Instances that wait for a disk or a network do not. So
//! one for each processor reads, and more of them as long as reading has to wait.
//!
//! An instance passes the gate before it takes a batch, once all that it took before is committed.
//! So the instances that wait at the gate have nothing that another one waits for.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use parking_lot::{Condvar, Mutex};

/// Number of batches in a row without a wait after which one instance fewer reads.
const CALM_BATCHES: u32 = 8;
/// Objects for each wait, after the first, of reads that make more instances read: fewer waits are
/// accidental.
const OBJECTS_PER_WAIT: u64 = 8;

/// The gate through which instances pass to read.
#[derive(Debug)]
pub(super) struct ReaderGate {
    state: Mutex<GateState>,
    /// Notified when another instance may enter.
    changed: Condvar,
}

#[derive(Debug)]
struct GateState {
    /// Number of instances inside, and limit of it.
    inside: u32,
    allowed: u32,
    least: u32,
    /// Batches in a row without a wait.
    calm: u32,
    /// No batch follows: all instances may pass.
    open: bool,
}

/// Waits of an instance in its reads, and the objects that it has read.
#[derive(Debug, Default)]
pub(super) struct ReadWaits {
    pub(super) waits: u64,
    pub(super) objects: u64,
}

impl ReaderGate {
    /// Creates a gate that lets in one instance for each processor of this process at first.
    pub(super) fn new() -> Self {
        let processors = thread::available_parallelism().map_or(1, |n| n.get() as u32);
        Self::with_least(processors)
    }

    fn with_least(least: u32) -> Self {
        let state = GateState {
            inside: 0,
            allowed: least,
            least,
            calm: 0,
            open: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Waits until the calling instance may read, and returns the time that it has waited. An
    /// instance that is inside passes what it has read since it entered, and leaves first: then the
    /// limit is adapted. `most` is the number of instances.
    pub(super) fn pass(&self, read: Option<&ReadWaits>, most: u32) -> Duration {
        let mut state = self.state.lock();
        if let Some(read) = read {
            state.inside -= 1;
            if state.adapt(read, most) {
                self.changed.notify_all();
            }
        }
        let mut waited = Duration::ZERO;
        if state.is_full() {
            let since = Instant::now();
            while state.is_full() {
                self.changed.wait(&mut state);
            }
            waited = since.elapsed();
        }
        state.inside += 1;
        waited
    }

    /// Lets all instances pass from now on.
    pub(super) fn open(&self) {
        self.state.lock().open = true;
        self.changed.notify_all();
    }
}

impl GateState {
    fn is_full(&self) -> bool {
        !self.open && self.inside >= self.allowed
    }

    /// Adapts the limit to what an instance has read. Returns true if more may enter.
    fn adapt(&mut self, read: &ReadWaits, most: u32) -> bool {
        if read.waits.saturating_sub(1) * OBJECTS_PER_WAIT > read.objects {
            self.calm = 0;
            self.allowed = (self.allowed * 2).min(most).max(self.allowed);
            return true;
        }
        self.calm += 1;
        if self.calm == CALM_BATCHES {
            self.calm = 0;
            self.allowed = (self.allowed - 1).max(self.least);
        }
        false
    }
}

/// Returns the number of times that the calling thread has given up its processor to wait.
pub(super) fn thread_waits() -> u64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| {
        u64::try_from(usage.voluntary_context_switches()).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_MEMORY: ReadWaits = ReadWaits {
        waits: 1,
        objects: 100,
    };
    const ON_DISK: ReadWaits = ReadWaits {
        waits: 90,
        objects: 100,
    };

    fn allowed(gate: &ReaderGate) -> u32 {
        gate.state.lock().allowed
    }

    #[test]
    fn limit_follows_the_waits() {
        let gate = ReaderGate::with_least(2);
        gate.pass(None, 7);
        let read = |read: &ReadWaits, times| {
            for _ in 0..times {
                assert_eq!(gate.pass(Some(read), 7), Duration::ZERO);
            }
            allowed(&gate)
        };
        assert_eq!(read(&IN_MEMORY, 20), 2, "the least");
        assert_eq!(read(&ON_DISK, 1), 4);
        assert_eq!(read(&ON_DISK, 9), 7, "all instances");
        assert_eq!(read(&IN_MEMORY, CALM_BATCHES - 1), 7);
        assert_eq!(read(&IN_MEMORY, 1), 6);
        assert_eq!(read(&IN_MEMORY, 9 * CALM_BATCHES), 2);
        let large_file = |waits| ReadWaits { waits, objects: 1 };
        assert_eq!(read(&large_file(1), 1), 2);
        assert_eq!(read(&large_file(2), 1), 4);
    }

    #[test]
    fn waits_let_more_instances_enter() {
        let gate = ReaderGate::with_least(1);
        gate.pass(None, 4);
        thread::scope(|scope| {
            let others: Vec<_> = (0..3).map(|_| scope.spawn(|| gate.pass(None, 4))).collect();
            gate.pass(Some(&ON_DISK), 4);
            gate.pass(Some(&ON_DISK), 4);
            for other in others {
                other.join().unwrap();
            }
        });
        assert_eq!(gate.state.lock().inside, 4);
    }

    #[test]
    fn instance_stays_outside_if_the_limit_has_fallen() {
        let gate = ReaderGate::with_least(1);
        gate.pass(None, 2);
        gate.pass(Some(&ON_DISK), 2);
        gate.pass(None, 2);
        for _ in 1..CALM_BATCHES {
            gate.pass(Some(&IN_MEMORY), 2);
        }
        thread::scope(|scope| {
            let leaves = scope.spawn(|| gate.pass(Some(&IN_MEMORY), 2));
            while gate.state.lock().inside == 2 {
                thread::yield_now();
            }
            assert_eq!(allowed(&gate), 1);
            gate.open();
            leaves.join().unwrap();
        });
    }

    #[test]
    fn open_gate_lets_all_instances_pass() {
        let gate = ReaderGate::with_least(1);
        gate.pass(None, 4);
        thread::scope(|scope| {
            let others: Vec<_> = (0..3).map(|_| scope.spawn(|| gate.pass(None, 4))).collect();
            gate.open();
            for other in others {
                other.join().unwrap();
            }
        });
    }

    #[test]
    fn wait_of_a_thread_is_counted() {
        let before = thread_waits();
        thread::sleep(Duration::from_millis(1));
        assert!(thread_waits() > before);
    }
}
