//! The rate of a link: a token bucket from which the connections take pieces of their blocks.

use std::error::Error;
use std::fmt;

use crate::limits::{MAX_LINK_PIECE, MAX_LINK_RATE, MIN_LINK_PIECE, MIN_LINK_RATE};

const SECOND: u64 = 1_000_000_000;

/// Token bucket of a link. It allows bursts of one piece.
///
/// ```
/// use datapipe_net::link::{Allowance, Pace};
///
/// let mut pace = Pace::new(2, 1 << 20)?;              // 1 MiB a second over two connections
/// assert_eq!(pace.take(0, 1 << 30), Allowance::Now(256 << 10));
/// assert_eq!(pace.take(0, 1 << 30), Allowance::At(250_000_000));
/// # Ok::<(), datapipe_net::link::RateError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pace {
    connections: u16,
    /// Bytes a second; 0 if there is no limit.
    rate: u64,
    /// Time at which the bytes that were taken so far are paid for.
    paid_at: u64,
}

/// Answer of [`Pace::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Number of bytes that may be sent now.
    Now(u64),
    /// Time at which to ask again, in nanoseconds.
    At(u64),
}

/// Rate outside of the range of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateError {
    /// The rate, in bytes a second.
    pub rate: u64,
    /// Lowest rate for the number of connections, in bytes a second.
    pub least: u64,
    /// Highest rate, in bytes a second.
    pub most: u64,
}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, least, most } = self;
        write!(
            f,
            "a rate of {rate} bytes a second is outside of {least} to {most}: a healthy connection \
             would seem silent; use fewer connections or another rate, 0 for none"
        )
    }
}

impl Error for RateError {}

impl Pace {
    /// Makes the bucket of a link of `connections` connections. A `rate` of 0 sets no limit.
    ///
    /// # Errors
    ///
    /// If the rate is outside of its range, which depends on the number of connections.
    pub fn new(connections: u16, rate: u64) -> Result<Self, RateError> {
        let connections = connections.max(1);
        let mut pace = Self {
            connections,
            rate: 0,
            paid_at: 0,
        };
        pace.set_rate(rate)?;
        Ok(pace)
    }

    /// Sets the rate in bytes a second, from the next piece on. 0 sets no limit.
    ///
    /// # Errors
    ///
    /// As [`Pace::new`]; the rate is then as it was.
    pub fn set_rate(&mut self, rate: u64) -> Result<(), RateError> {
        let (least, most) = (u64::from(self.connections) * MIN_LINK_RATE, MAX_LINK_RATE);
        if rate != 0 && !(least..=most).contains(&rate) {
            return Err(RateError { rate, least, most });
        }
        self.rate = rate;
        Ok(())
    }

    /// Rate in bytes a second; 0 if there is no limit.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Number of bytes that a writer takes at a time: those of one second of a connection's part of
    /// the rate, within [`MIN_LINK_PIECE`] and [`MAX_LINK_PIECE`].
    pub fn piece(&self) -> u64 {
        (self.rate / u64::from(self.connections)).clamp(MIN_LINK_PIECE, MAX_LINK_PIECE)
    }

    /// Asks for up to `wanted` bytes, at the time `now`.
    pub fn take(&mut self, now: u64, wanted: u64) -> Allowance {
        if self.rate == 0 {
            return Allowance::Now(wanted);
        }
        if now < self.paid_at {
            return Allowance::At(self.paid_at);
        }
        let taken = wanted.min(self.piece());
        // A piece is at most 256 KiB, so the product is below 2^48.
        self.paid_at = now + (taken * SECOND).div_ceil(self.rate);
        Allowance::Now(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_outside_of_the_range_are_refused_with_the_range() {
        let error = Pace::new(4, 65_535).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("65535 bytes a second is outside of 65536"),
            "{error}"
        );
        assert!(Pace::new(4, 65_536).is_ok());
        assert!(Pace::new(4, MAX_LINK_RATE + 1).is_err());
        let mut pace = Pace::new(4, 0).unwrap();
        assert_eq!(pace.take(0, 1 << 40), Allowance::Now(1 << 40));
        assert!(pace.set_rate(1).is_err());
        assert_eq!(pace.rate(), 0);
    }

    proptest! {
        /// At the lowest rate, too, each of the connections gets a piece long before it is silent.
        #[test]
        fn long_run_is_at_the_rate_and_pieces_come_often(
            connections in 1..=16_u16,
            factor in 1..200_000_u64,
            pieces in 20..200_u64,
        ) {
            let rate = u64::from(connections) * MIN_LINK_RATE + factor * factor;
            let mut pace = Pace::new(connections, rate).unwrap();
            let (mut now, mut sent, mut last) = (5, 0, 0);
            for _ in 0..pieces {
                match pace.take(now, u64::MAX) {
                    Allowance::Now(bytes) => { sent += bytes; last = bytes; }
                    Allowance::At(at) => {
                        // All connections in turn, within the time between two pings.
                        prop_assert!((at - now) * u64::from(connections) <= 2 * SECOND);
                        now = at;
                    }
                }
            }
            let allowed = u128::from(now - 5) * u128::from(rate) / u128::from(SECOND);
            prop_assert!(u128::from(sent) <= allowed + u128::from(last));
            // The last piece is not paid for yet, and each waits for up to a nanosecond too long.
            let rounding = u128::from(pieces) * u128::from(rate / SECOND + 1);
            prop_assert!(u128::from(sent) + rounding >= allowed);
        }
    }
}
