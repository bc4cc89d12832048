//! Rates of the last minute, and their picture.

use std::collections::VecDeque;
use std::time::Duration;

/// Period that the history covers.
const PERIOD: Duration = Duration::from_secs(60);
/// Most samples that are kept: ten a second, the shortest interval of a command.
const MAX_SAMPLES: usize = 700;
/// Heights of a column of the picture.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Bytes that a pipe had moved at several moments of its last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct RateHistory {
    /// Time since the beginning of the pipe, and bytes until then; the oldest first.
    samples: VecDeque<(Duration, u64)>,
}

impl RateHistory {
    /// Adds the number of bytes at a time. A time that is not later than the last one is ignored.
    pub(super) fn add(&mut self, elapsed: Duration, bytes: u64) {
        if self
            .samples
            .back()
            .is_some_and(|&(last, _)| elapsed <= last)
        {
            return;
        }
        self.samples.push_back((elapsed, bytes));
        // The oldest sample that stays is the last one before the period.
        let begin = elapsed.saturating_sub(PERIOD);
        while self.samples.get(1).is_some_and(|&(time, _)| time <= begin)
            || self.samples.len() > MAX_SAMPLES
        {
            self.samples.pop_front();
        }
    }

    /// Average rate over the last minute, or over the time of the samples if that is shorter, in
    /// bytes per second. `None` with fewer than two samples.
    pub(super) fn average(&self) -> Option<f64> {
        let &(end, _) = self.samples.back()?;
        let &(first, _) = self.samples.front()?;
        let begin = end.saturating_sub(PERIOD).max(first);
        let seconds = end.saturating_sub(begin).as_secs_f64();
        (seconds > 0.0).then(|| (self.bytes_at(end) - self.bytes_at(begin)).max(0.0) / seconds)
    }

    /// Picture of the last minute in `columns` columns, the present on the right. A column without
    /// samples is a space; the highest column is the highest rate of the period.
    pub(super) fn picture(&self, columns: usize) -> String {
        let (Some(&(end, _)), Some(&(first, _))) = (self.samples.back(), self.samples.front())
        else {
            return " ".repeat(columns);
        };
        let step = PERIOD / u32::try_from(columns.max(1)).unwrap_or(u32::MAX);
        let rates: Vec<_> = (0..columns)
            .rev()
            .map(|back| {
                let before = step * u32::try_from(back).unwrap_or(u32::MAX);
                let to = end.checked_sub(before)?;
                let from = to.saturating_sub(step).max(first);
                let seconds = to.checked_sub(from)?.as_secs_f64();
                (seconds > 0.0).then(|| (self.bytes_at(to) - self.bytes_at(from)) / seconds)
            })
            .collect();
        let highest = rates.iter().flatten().copied().fold(0.0, f64::max);
        let shown = |rate: &Option<f64>| match rate {
            None => ' ',
            Some(rate) if highest > 0.0 => {
                let height = (rate / highest * 7.0).round().clamp(0.0, 7.0) as usize;
                HEIGHTS.get(height).copied().unwrap_or('█')
            }
            Some(_) => '▁',
        };
        rates.iter().map(shown).collect()
    }

    /// Bytes at a time, on the line between the two samples around it.
    fn bytes_at(&self, time: Duration) -> f64 {
        let mut earlier: Option<(Duration, u64)> = None;
        for &(at, bytes) in &self.samples {
            if at >= time {
                let Some((before, least)) = earlier else {
                    return bytes as f64;
                };
                let share = (time - before).as_secs_f64() / (at - before).as_secs_f64();
                return least as f64 + bytes.saturating_sub(least) as f64 * share;
            }
            earlier = Some((at, bytes));
        }
        earlier.map_or(0.0, |(_, bytes)| bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(seconds: std::ops::RangeInclusive<u64>, bytes: fn(u64) -> u64) -> RateHistory {
        let mut history = RateHistory::default();
        for second in seconds {
            history.add(Duration::from_secs(second), bytes(second));
        }
        history
    }

    #[test]
    fn average_covers_the_last_minute() {
        // 1 byte a second for 100 seconds, then 9.
        let two = |second: u64| second + 8 * second.saturating_sub(100);
        assert_eq!(history(1..=130, two).average(), Some(5.0));
        assert_eq!(history(1..=31, |second| 7 * second).average(), Some(7.0));
        assert_eq!(history(5..=5, |second| second).average(), None);
        assert!(history(0..=100_000, |second| second).samples.len() <= 62);
    }

    #[test]
    fn picture_has_the_present_on_the_right() {
        let rises = history(0..=120, |second| second * second);
        let picture = rises.picture(12);
        assert_eq!(picture, "▅▅▅▆▆▆▇▇▇▇██".chars().collect::<String>());
        let young = history(100..=115, |second| second);
        assert_eq!(young.picture(12), "         ███");
        assert_eq!(history(0..=60, |_| 0).picture(4), "▁▁▁▁");
        assert_eq!(RateHistory::default().picture(3), "   ");
        assert_eq!(rises.picture(0), "");
    }

    #[test]
    fn counters_that_fall_or_do_not_move_are_harmless() {
        let mut odd = RateHistory::default();
        for (at, bytes) in [(1, u64::MAX), (1, 3), (2, 0), (3, u64::MAX), (3, 9)] {
            odd.add(Duration::from_secs(at), bytes);
        }
        assert!(odd.average().is_some_and(f64::is_finite));
        assert_eq!(odd.picture(10).chars().count(), 10);
    }
}
