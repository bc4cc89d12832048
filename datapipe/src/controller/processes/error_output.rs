//! Standard error of a process of another user: a pipe of which the controller reads lines.
//!
//! The process can write any bytes, without end, and can pass its end of the pipe on. So lines are
//! cut, of many in a short time the others are counted, and the controller reads in pieces. It
//! always reads, so that a process does not wait for the controller.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

use crate::limits::{MAX_ERROR_LINE, MAX_ERROR_LINES};

/// Bytes that are read before the other processes have their turn: as much as a pipe has.
const AT_ONCE: usize = 64 << 10;
/// Time for which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// The controller's end of the pipe.
#[derive(Debug)]
pub(super) struct ErrorOutput {
    pipe: File,
    /// The line that has begun, as far as it is kept.
    line: Vec<u8>,
    /// Time awake at which the present window began.
    since: Duration,
    /// Lines of the present window that were reported, and that were not.
    lines: [u64; 2],
    /// Bytes that were read in it.
    bytes: usize,
}

impl ErrorOutput {
    /// Makes the pipe. Returns it with the end for the process.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // The flag belongs to this end only: a program that cannot write might end.
        rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
        let this = Self {
            pipe: File::from(ours),
            line: Vec::new(),
            since: Duration::ZERO,
            lines: [0; 2],
            bytes: 0,
        };
        Ok((this, theirs))
    }

    /// The descriptor to wait for; `None` while there is too much: then it waits for the next
    /// round.
    pub(super) fn polled(&self) -> Option<BorrowedFd<'_>> {
        (self.lines[1] == 0 && self.bytes < AT_ONCE).then(|| self.pipe.as_fd())
    }

    /// Reads what there is, up to a limit, and passes the lines to `report`. Returns false at the
    /// end: every copy of the other end is closed. `now` is the time awake.
    pub(super) fn read(&mut self, now: Duration, report: &mut impl FnMut(String)) -> bool {
        self.begin_window(now, report);
        let mut bytes = [0; 4096];
        for _ in 0..AT_ONCE / bytes.len() {
            match self.pipe.read(&mut bytes) {
                Ok(0) => {
                    self.end_line(report);
                    return false;
                }
                Ok(len) => {
                    self.bytes = self.bytes.saturating_add(len);
                    self.add(bytes.get(..len).unwrap_or_default(), report);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        true
    }

    /// As [`read`](Self::read), for a process that has died: its last line need not have an end,
    /// and is reported.
    pub(super) fn read_last(mut self, now: Duration, report: &mut impl FnMut(String)) {
        self.read(now, report);
        self.end_line(report);
        self.report_left_out(report);
    }

    fn add(&mut self, bytes: &[u8], report: &mut impl FnMut(String)) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(report),
                _ if self.line.len() < MAX_ERROR_LINE => self.line.push(byte),
                _ => {}
            }
        }
    }

    /// Reports the line, unless it is empty or there were too many.
    fn end_line(&mut self, report: &mut impl FnMut(String)) {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let [reported, left_out] = &mut self.lines;
        if line.is_empty() {
            return;
        }
        if *reported < MAX_ERROR_LINES {
            *reported += 1;
            report(String::from_utf8_lossy(line).into_owned());
        } else {
            *left_out += 1;
        }
    }

    fn begin_window(&mut self, now: Duration, report: &mut impl FnMut(String)) {
        if now.saturating_sub(self.since) >= WINDOW {
            self.report_left_out(report);
            (self.since, self.lines, self.bytes) = (now, [0; 2], 0);
        }
    }

    fn report_left_out(&mut self, report: &mut impl FnMut(String)) {
        if self.lines[1] > 0 {
            report(format!("({} further lines are left out)", self.lines[1]));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::io::Write as _;

    use super::*;

    fn read(output: &mut ErrorOutput, seconds: u64) -> (Vec<String>, bool) {
        let mut lines = Vec::new();
        let goes_on = output.read(Duration::from_secs(seconds), &mut |line| lines.push(line));
        (lines, goes_on)
    }

    #[test]
    fn lines_are_cut_and_the_end_is_seen() {
        let (mut output, theirs) = ErrorOutput::new().unwrap();
        let mut theirs = File::from(theirs);
        assert_eq!(read(&mut output, 5), (vec![], true));
        theirs.write_all(b"one\r\n\n\xff\x1b[2Jtwo\nthr").unwrap();
        let expected = ["one", "\u{fffd}\u{1b}[2Jtwo"];
        assert_eq!(
            read(&mut output, 5),
            (expected.map(String::from).to_vec(), true)
        );
        theirs.write_all(b"ee\n").unwrap();
        theirs.write_all(&vec![b'x'; 5000]).unwrap();
        assert_eq!(read(&mut output, 5).0, ["three"]);
        drop(theirs);
        assert_eq!(
            read(&mut output, 5),
            (vec!["x".repeat(MAX_ERROR_LINE)], false)
        );
    }

    #[test]
    fn flood_is_counted_and_does_not_stop_the_writer() {
        let (mut output, theirs) = ErrorOutput::new().unwrap();
        let writer = std::thread::spawn(move || {
            let mut theirs = File::from(theirs);
            (0..50_000).for_each(|n| writeln!(theirs, "line {n}").unwrap());
        });
        let (mut lines, mut goes_on) = (Vec::new(), true);
        while goes_on {
            let (more, on) = read(&mut output, 7);
            lines.extend(more);
            goes_on = on;
        }
        writer.join().unwrap();
        assert_eq!(lines.len() as u64, MAX_ERROR_LINES);
        assert!(output.polled().is_none());
        let left_out = 50_000 - MAX_ERROR_LINES;
        let text = format!("({left_out} further lines are left out)");
        assert_eq!(read(&mut output, 8).0, [text]);
        assert!(output.polled().is_some());
    }

    /// A writer without lines kept the controller busy, one round after the other.
    #[test]
    fn bytes_without_lines_wait_for_the_next_round() {
        for byte in [b'x', b'\n'] {
            let (mut output, theirs) = ErrorOutput::new().unwrap();
            let mut theirs = File::from(theirs);
            theirs.write_all(&vec![byte; AT_ONCE]).unwrap();
            assert!(output.polled().is_some());
            assert_eq!(read(&mut output, 7), (vec![], true));
            assert!(output.polled().is_none());
            assert_eq!(read(&mut output, 8), (vec![], true));
            assert!(output.polled().is_some());
        }
    }
}
