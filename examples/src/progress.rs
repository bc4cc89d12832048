//! The line that is redrawn while a pipe runs.

use std::io::{Write, stderr};
use std::time::Duration;

use datapipe::controller::ByteCount;
use datapipe::prelude::*;
use rustix::termios::tcgetwinsize;

use crate::names::harmless;

/// How often the line is drawn.
pub(crate) const REDRAW: Duration = Duration::from_millis(500);

/// Back to the line's start, and remove what stands there.
pub(crate) const CLEAR: &str = "\r\x1b[K";

/// What the line shows and the pipe does not know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Files that are done.
    pub files: Option<u64>,
    /// How much is done and how much there is, in one unit. Nothing while that is not known.
    pub part: Option<(u64, u64)>,
}

/// Draws the line, as long as the terminal is wide.
pub(crate) fn draw(now: &Status, lately: &Status, done: Done) {
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
    // Not the last column: what stands there makes some terminals go to the next line.
    let columns = if columns == 0 { 79 } else { columns - 1 };
    let line: String = line.text().chars().take(columns).collect();
    let _ = write!(stderr(), "{CLEAR}{line}");
}

struct Line {
    bytes: u64,
    rate: u64,
    done: Done,
    elapsed: Duration,
    limit: Option<String>,
}

impl Line {
    fn text(&self) -> String {
        let mut text = ByteCount(self.bytes).to_string();
        let part = self.done.part.filter(|&(_, all)| all > 0);
        // What grows while it is read can be more than there was.
        let part = part.map(|(done, all)| done.min(all) as f64 / all as f64);
        if let Some(part) = part {
            text += &format!("  ~{:.0} %", part * 100.0);
        }
        if let Some(files) = self.done.files {
            text += &format!("  {files} files");
        }
        text += &format!("  {}/s", ByteCount(self.rate));
        if let Some(part) = part.filter(|&part| part > 0.0) {
            let left = self.elapsed.as_secs_f64() * (1.0 - part) / part;
            text += &format!("  eta {}", clock(left as u64));
        }
        if let Some(limit) = &self.limit {
            text += &format!("  limited by {limit}");
        }
        harmless(&text)
    }
}

/// Seconds as `0:31` or `2:05:00`.
fn clock(seconds: u64) -> String {
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
    fn the_line() {
        let mut line = Line {
            bytes: 3 << 30,
            rate: 100 << 20,
            done: Done {
                files: Some(1200),
                part: Some((1 << 30, 4 << 30)),
            },
            elapsed: Duration::from_secs(31),
            limit: Some("zstd (97 % busy)".to_owned()),
        };
        let expected =
            "3.0 GiB  ~25 %  1200 files  100.0 MiB/s  eta 1:33  limited by zstd (97 % busy)";
        assert_eq!(line.text(), expected);
        line.done.part = Some((5, 4));
        assert!(line.text().contains("~100 %") && line.text().contains("eta 0:00"));
        line.done.part = Some((0, 4));
        assert!(line.text().contains("~0 %") && !line.text().contains("eta"));
        for part in [None, Some((0, 0))] {
            (line.done, line.limit) = (Done { files: None, part }, None);
            assert_eq!(line.text(), "3.0 GiB  100.0 MiB/s");
        }
        assert_eq!(clock(7500), "2:05:00");
    }
}
