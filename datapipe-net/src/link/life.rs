//! The life of a connection: silence, pings, and the time until it is dialled again.

use std::time::Duration;

use crate::limits::{
    LINK_DRAIN, LINK_HOLD_UP, LINK_HOLD_UP_FACTOR, LINK_PING, LINK_REDIAL, LINK_REDIAL_MOST,
    LINK_SILENCE, LINK_WAIT,
};

/// Timers of a link, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkTimers {
    /// Time without a sent frame after which a connection sends a ping.
    pub ping: u64,
    /// Time without a received byte after which a connection is given up.
    pub silence: u64,
    /// Time before the first redial of a connection. It doubles with each loss.
    pub redial: u64,
    /// Time without any connection after which a half fails.
    pub wait: u64,
    /// Shortest time that a connection may hold up the others.
    pub hold_up: u64,
    /// Time for which a half that has sent its last frame reads on.
    pub drain: u64,
}

impl Default for LinkTimers {
    fn default() -> Self {
        Self {
            ping: nanos(LINK_PING),
            silence: nanos(LINK_SILENCE),
            redial: nanos(LINK_REDIAL),
            wait: nanos(LINK_WAIT),
            hold_up: nanos(LINK_HOLD_UP),
            drain: nanos(LINK_DRAIN),
        }
    }
}

impl LinkTimers {
    /// Time for which a connection may hold up an idle one whose last block took `block`.
    pub(super) fn patience(&self, block: u64) -> u64 {
        self.hold_up.max(block.saturating_mul(LINK_HOLD_UP_FACTOR))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("timers are short")
}

/// Times of a connection: what was received and sent, and pings under way.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    received: u64,
    sent: u64,
    /// The last ping's clock, until its answer.
    asked: Option<u64>,
    /// Clock of the other half's last ping that has no answer yet.
    answer: Option<u64>,
    /// True from the time of a ping until the writer has sent it.
    ping_due: bool,
}

impl Pulse {
    pub(super) fn new(now: u64) -> Self {
        Self {
            received: now,
            sent: now,
            asked: None,
            answer: None,
            ping_due: false,
        }
    }

    /// Records that bytes were received.
    pub(super) fn received(&mut self, now: u64) {
        self.received = self.received.max(now);
    }

    /// Records that a frame was handed to the writer, or that the writer has come back.
    pub(super) fn sent(&mut self, now: u64) {
        self.sent = self.sent.max(now);
        self.ping_due = false;
    }

    /// Records a ping of the other half. Only the last one is answered, so a flood costs nothing.
    pub(super) fn pinged(&mut self, clock: u64) {
        self.answer = Some(clock);
    }

    /// Records an answer, and returns the time since the ping if it is the answer to the last one.
    pub(super) fn answered(&mut self, now: u64, clock: u64) -> Option<u64> {
        (self.asked == Some(clock)).then(|| {
            self.asked = None;
            now.saturating_sub(clock)
        })
    }

    /// Takes the clock of the ping that is to be answered.
    pub(super) fn take_answer(&mut self) -> Option<u64> {
        self.answer.take()
    }

    /// Takes the ping that is due: its clock.
    pub(super) fn take_ping(&mut self, now: u64) -> Option<u64> {
        self.ping_due.then(|| {
            self.asked = Some(now);
            now
        })
    }

    /// Marks the ping of an idle connection as due if it is. True if the writer is to be woken.
    pub(super) fn mark_ping(&mut self, now: u64, timers: &LinkTimers) -> bool {
        let due = !self.ping_due && now >= self.sent.saturating_add(timers.ping);
        self.ping_due |= due;
        due
    }

    /// Time of the next ping of an idle connection.
    pub(super) fn ping_at(&self, timers: &LinkTimers) -> Option<u64> {
        (!self.ping_due).then(|| self.sent.saturating_add(timers.ping))
    }

    /// Time at which the connection is to be given up if nothing is received until then.
    pub(super) fn silent_at(&self, timers: &LinkTimers) -> u64 {
        self.received.saturating_add(timers.silence)
    }
}

/// Time until a connection is dialled again: doubled with each loss, and spread by a seed, so that
/// many connections that are lost together are not dialled together.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    delay: u64,
    state: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64, timers: &LinkTimers) -> Self {
        Self {
            delay: timers.redial,
            state: seed,
        }
    }

    /// Begins anew after a connection that has lasted.
    pub(super) fn reset(&mut self, timers: &LinkTimers) {
        self.delay = timers.redial;
    }

    /// Time to wait from now on, in nanoseconds.
    pub(super) fn next(&mut self) -> u64 {
        let delay = self.delay;
        self.delay = delay
            .saturating_mul(2)
            .min(nanos(LINK_REDIAL_MOST))
            .max(delay);
        let quarter = delay / 4;
        delay - quarter + next_word(&mut self.state) % (2 * quarter + 1)
    }
}

/// Returns the next number of a series by seed: SplitMix64, by Steele, Lea and Flood, "Fast
/// splittable pseudorandom number generators".
pub(super) fn next_word(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn backoff_doubles_up_to_its_bound_and_is_spread_by_a_quarter() {
        let timers = LinkTimers::default();
        let mut seen = Vec::new();
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed, &timers);
            for middle in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
                let delay = backoff.next();
                let (least, most) = (middle * MS * 3 / 4, middle * MS * 5 / 4);
                assert!(
                    (least..=most).contains(&delay),
                    "{delay} is not near {middle} ms"
                );
                seen.push(delay);
            }
            backoff.reset(&timers);
            assert!(backoff.next() <= 125 * MS);
        }
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 1500, "the delays are spread");
    }

    #[test]
    fn pulse_answers_the_last_ping_and_measures_the_round_trip_of_its_own() {
        let timers = LinkTimers::default();
        let mut pulse = Pulse::new(5);
        pulse.pinged(1);
        pulse.pinged(2);
        assert_eq!((pulse.take_answer(), pulse.take_answer()), (Some(2), None));
        assert_eq!(pulse.take_ping(6), None);
        assert!(!pulse.mark_ping(4 + timers.ping, &timers));
        assert!(pulse.mark_ping(5 + timers.ping, &timers));
        assert!(
            !pulse.mark_ping(6 + timers.ping, &timers),
            "the writer is woken once"
        );
        assert_eq!(pulse.take_ping(7 + timers.ping), Some(7 + timers.ping));
        assert_eq!(pulse.answered(9 + timers.ping, 3), None);
        assert_eq!(pulse.answered(9 + timers.ping, 7 + timers.ping), Some(2));
        assert_eq!(pulse.answered(9 + timers.ping, 7 + timers.ping), None);
    }
}
