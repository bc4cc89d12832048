//! The progress line, which is redrawn while a pipe runs.

use std::io::{Write as _, stderr};
use std::time::Duration;

use datapipe::controller::ByteCount;
use datapipe::prelude::*;
use rustix::termios::tcgetwinsize;

use crate::format::{count_of, escape_controls};
use crate::stoppable_output::StoppableOutput;

/// Interval at which the line is redrawn.
pub(crate) const REDRAW: Duration = Duration::from_millis(500);

/// Control sequence that moves the cursor to the start of the line and clears the line.
pub(crate) const CLEAR: &str = "\r\x1b[K";

/// Counts that the progress line shows in addition to the pipe's status.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobProgress {
    /// Number of files that are done.
    pub files: Option<u64>,
    /// Work that is done, and all work, in the same unit. `None` while the total is unknown.
    pub done_of_total: Option<(u64, u64)>,
}

/// Draws the line, cut to the width of the terminal.
pub(crate) fn draw(now: &Status, lately: &Status, done: JobProgress) {
    let bytes = match now.direction {
        Direction::Archive => now.bytes_in(),
        Direction::Restore => now.bytes_out(),
    };
    let line = Line {
        bytes,
        rate: lately.throughput() as u64,
        done,
        elapsed: now.elapsed,
        limit: lately.limit().map(|limit| limit.to_string()),
    };
    let columns = tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
    // The last column stays empty: some terminals start a new line after a character there.
    let columns = if columns == 0 { 79 } else { columns - 1 };
    let line: String = line.text().chars().take(columns).collect();
    let _ = StoppableOutput::stderr().write(format!("{CLEAR}{line}").as_bytes());
}

/// Content of the progress line.
struct Line {
    bytes: u64,
    rate: u64,
    done: JobProgress,
    elapsed: Duration,
    limit: Option<String>,
}

impl Line {
    fn text(&self) -> String {
        let mut text = ByteCount(self.bytes).to_string();
        let done_of_total = self.done.done_of_total.filter(|&(_, all)| all > 0);
        // Sources may grow while they are read, so more than the estimate may be done.
        let fraction = done_of_total.map(|(done, all)| done.min(all) as f64 / all as f64);
        if let Some(fraction) = fraction {
            text += &format!("  ~{:.0} %", fraction * 100.0);
        }
        if let Some(files) = self.done.files {
            text += &format!("  {}", count_of(files, "file", "files"));
        }
        text += &format!("  {}/s", ByteCount(self.rate));
        if let Some(fraction) = fraction.filter(|&fraction| fraction > 0.0) {
            let left = self.elapsed.as_secs_f64() * (1.0 - fraction) / fraction;
            text += &format!("  eta {}", format_duration(left as u64));
        }
        if let Some(limit) = &self.limit {
            text += &format!("  limited by {limit}");
        }
        escape_controls(&text)
    }
}

/// Formats a number of seconds as `0:31` or `2:05:00`.
fn format_duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_shows_only_known_counts() {
        let mut line = Line {
            bytes: 3 << 30,
            rate: 100 << 20,
            done: JobProgress {
                files: Some(1200),
                done_of_total: Some((1 << 30, 4 << 30)),
            },
            elapsed: Duration::from_secs(31),
            limit: Some("zstd (97 % busy)".to_owned()),
        };
        let expected =
            "3.0 GiB  ~25 %  1200 files  100.0 MiB/s  eta 1:33  limited by zstd (97 % busy)";
        assert_eq!(line.text(), expected);
        line.done.done_of_total = Some((5, 4));
        assert!(line.text().contains("~100 %") && line.text().contains("eta 0:00"));
        line.done.done_of_total = Some((0, 4));
        assert!(line.text().contains("~0 %") && !line.text().contains("eta"));
        for part in [None, Some((0, 0))] {
            (line.done, line.limit) = (
                JobProgress {
                    files: None,
                    done_of_total: part,
                },
                None,
            );
            assert_eq!(line.text(), "3.0 GiB  100.0 MiB/s");
        }
        assert_eq!(format_duration(7500), "2:05:00");
    }
}
