//! A clock that pauses while this process is stopped.

use std::time::{Duration, Instant};

/// Time for which this process has run, as far as regular looks at the clock show it: a gap between
/// two looks counts as [`LONGEST_GAP`] at most.
///
/// A user stops a job with Ctrl-Z and continues it an hour later. No limit may count that hour.
#[derive(Clone, Copy, Debug)]
pub(super) struct AwakeClock {
    looked_at: Instant,
    awake: Duration,
}

/// Longest time between two looks that counts. The looks are at most 250 ms apart, and the system
/// may be slow.
const LONGEST_GAP: Duration = Duration::from_secs(1);

impl AwakeClock {
    pub(super) fn new() -> Self {
        Self {
            looked_at: Instant::now(),
            awake: Duration::ZERO,
        }
    }

    /// Looks at the clock. Returns the time awake since it was made.
    pub(super) fn look(&mut self) -> Duration {
        self.awake = self.now();
        self.looked_at = Instant::now();
        self.awake
    }

    /// Returns the time awake since it was made.
    pub(super) fn now(&self) -> Duration {
        self.awake + self.looked_at.elapsed().min(LONGEST_GAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_without_a_look_does_not_count() {
        let mut clock = AwakeClock::new();
        let Some(earlier) = clock.looked_at.checked_sub(Duration::from_secs(3600)) else {
            return; // the machine has started within the hour
        };
        clock.looked_at = earlier;
        assert_eq!(clock.now(), LONGEST_GAP);
        assert_eq!(clock.look(), LONGEST_GAP);
        assert!(clock.look() >= LONGEST_GAP);
    }
}
