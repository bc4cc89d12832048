//! The time for which a certificate is valid.

use std::time::{SystemTime, UNIX_EPOCH};

use super::error::AuthorityError;
use crate::limits::{CERTIFICATE_BACKDATING, MAX_CERTIFICATE_DAYS};

/// Seconds of a day.
pub(super) const DAY: u64 = 86_400;

/// Clocks outside of this range are wrong: seconds since 1970, of the years 2025 and 2200.
const CLOCKS: std::ops::Range<u64> = 1_735_689_600..7_258_118_400;

/// Time for which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub(super) from: u64,
    pub(super) days: u32,
}

impl Validity {
    /// Returns a validity of `days` days, 1 to [`MAX_CERTIFICATE_DAYS`], from now on. It begins a
    /// day ago, so that a machine whose clock is slow accepts the certificate, too.
    ///
    /// # Errors
    ///
    /// If `days` is out of range, or the clock of this machine cannot be right: it is before 2025
    /// or after 2199.
    pub fn days(days: u32) -> Result<Self, AuthorityError> {
        let from = now()? - CERTIFICATE_BACKDATING.as_secs();
        Self::starting(from, days)
    }

    /// Returns a validity of `days` days, 1 to [`MAX_CERTIFICATE_DAYS`], that begins at `from`, in
    /// seconds since 1970.
    ///
    /// # Errors
    ///
    /// If `days` is out of range, or `from` is after 2199.
    pub fn starting(from: u64, days: u32) -> Result<Self, AuthorityError> {
        if !(1..=MAX_CERTIFICATE_DAYS).contains(&days) {
            return Err(AuthorityError::Days { days });
        }
        if from >= CLOCKS.end {
            return Err(AuthorityError::Clock { now: from });
        }
        Ok(Self { from, days })
    }

    /// End of the validity, in seconds since 1970.
    pub(super) fn end(self) -> u64 {
        self.from + u64::from(self.days) * DAY
    }
}

/// The clock of this machine, in seconds since 1970.
pub(super) fn now() -> Result<u64, AuthorityError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    match CLOCKS.contains(&now) {
        true => Ok(now),
        false => Err(AuthorityError::Clock { now }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_begins_a_day_ago_and_has_its_days() {
        let before = now().unwrap();
        let validity = Validity::days(10).unwrap();
        assert!((before - DAY..=now().unwrap() - DAY).contains(&validity.from));
        assert_eq!(validity.end() - validity.from, 10 * DAY);
    }

    #[test]
    fn validity_out_of_range_is_refused() {
        for days in [0, MAX_CERTIFICATE_DAYS + 1, u32::MAX] {
            let error = Validity::days(days).unwrap_err();
            assert!(error.to_string().contains(&days.to_string()), "{error}");
        }
        let error = Validity::starting(u64::MAX, 1).unwrap_err();
        assert!(matches!(error, AuthorityError::Clock { .. }), "{error}");
    }
}
