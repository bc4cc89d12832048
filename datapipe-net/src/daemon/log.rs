//! The daemon's log: a bounded queue of lines, and a thread that writes them.
//!
//! No thread of the daemon waits for the log: if it cannot be written, for example because standard
//! error is a pipe without a reader, the queue fills up, further lines are lost, and their number
//! is written as soon as that is possible. Lines that clients can cause at will are limited: of
//! each kind and user some are written, and the others are counted.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::config::User;
use crate::limits::{
    LOG_BYTES, LOG_FLOOD_LINES, LOG_FLOOD_WINDOW, LOG_LINES, LOG_PIPE_LINES, MAX_LOG_FLOODS,
};
use crate::show;

/// Kind of lines that users can cause at will. Its text precedes the count of those that were not
/// written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    AttachedProcesses,
    ConnectionsOverLimit,
    ConnectionsWithoutThread,
    Deaths,
    EndedPipes,
    LingeringMemory,
    RefusedConnections,
    RefusedPipes,
    StandardError,
    StartedPipes,
    StopRequests,
    UsersNotLookedUp,
    Warnings,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::AttachedProcesses => "attached processes",
            Self::ConnectionsOverLimit => "connections over a limit",
            Self::ConnectionsWithoutThread => "connections without a thread",
            Self::Deaths => "deaths and replacements of processes",
            Self::EndedPipes => "ends of pipes",
            Self::LingeringMemory => "memory of ended pipes",
            Self::RefusedConnections => "refused connections",
            Self::RefusedPipes => "refused pipes",
            Self::StandardError => "lines of standard error",
            Self::StartedPipes => "starts of pipes",
            Self::StopRequests => "requests to stop",
            Self::UsersNotLookedUp => "users not looked up",
            Self::Warnings => "warnings of pipes",
        }
    }

    /// Number of lines that are written for a user within [`LOG_FLOOD_WINDOW`].
    fn most(self) -> u32 {
        match self {
            Self::EndedPipes | Self::StartedPipes => LOG_PIPE_LINES,
            _ => LOG_FLOOD_LINES,
        }
    }
}

/// Log of a daemon. Dropping it ends its thread, once that has written the lines that wait.
pub(super) struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Notified when a line is added or written, and when the log is dropped.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<String>,
    /// Sum of the lengths of the lines.
    bytes: usize,
    /// Number of lines that were lost since the last one that was written.
    lost: u64,
    floods: Vec<Flood>,
    /// True while the thread writes a line.
    writing: bool,
    closed: bool,
}

/// Lines of one kind that one user caused.
struct Flood {
    kind: Kind,
    /// `None` for all users that have no entry of their own.
    user: Option<User>,
    since: Instant,
    passed: u32,
    /// Number of lines that were not written.
    more: u64,
}

impl Log {
    /// Starts the thread that passes the lines to `write`.
    pub(super) fn start(write: impl Fn(&str) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let log = Self(Arc::clone(&shared));
        Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_all(write))?;
        Ok(log)
    }

    /// Adds a line. Names and texts of clients in it are escaped.
    pub(super) fn line(&self, line: &str) {
        let line = show::escaped_line(line);
        self.0.queue.lock().push(line);
        self.0.changed.notify_all();
    }

    /// Adds a line that `user` can cause at will, unless there were many of the `kind` lately. Then
    /// the line is not even made, and counted.
    pub(super) fn limited(&self, kind: Kind, user: User, line: impl FnOnce() -> String) {
        if self.0.queue.lock().admits(kind, user, Instant::now()) {
            self.line(&line());
        }
    }

    /// Waits until all lines are written, for `patience` at most. Returns true if they are.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let mut queue = self.0.queue.lock();
        queue.report_floods(None);
        self.0.changed.notify_all();
        let waits = |queue: &mut Queue| queue.writing || queue.has_work();
        !self
            .0
            .changed
            .wait_while_for(&mut queue, waits, patience)
            .timed_out()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.queue.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn write_all(&self, write: impl Fn(&str)) {
        let mut queue = self.queue.lock();
        loop {
            queue.report_floods(Some(Instant::now()));
            if let Some(line) = queue.pop() {
                queue.writing = true;
                drop(queue);
                write(&line);
                queue = self.queue.lock();
                queue.writing = false;
                self.changed.notify_all();
            } else if queue.closed {
                return;
            } else if queue.floods.is_empty() {
                self.changed.wait(&mut queue);
            } else {
                self.changed.wait_for(&mut queue, LOG_FLOOD_WINDOW / 4);
            }
        }
    }
}

impl Queue {
    fn has_work(&self) -> bool {
        self.lost > 0 || !self.lines.is_empty()
    }

    fn push(&mut self, line: String) {
        let bytes = self.bytes.saturating_add(line.len());
        // After the first loss all lines are lost until the others are written: the count of lost
        // lines is then at the place where they are missing.
        if self.lost > 0 || self.lines.len() >= LOG_LINES || bytes > LOG_BYTES {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        self.bytes = bytes;
        self.lines.push_back(line);
    }

    /// Takes the oldest line, or the number of lost lines after the last one.
    fn pop(&mut self) -> Option<String> {
        if let Some(line) = self.lines.pop_front() {
            self.bytes = self.bytes.saturating_sub(line.len());
            return Some(line);
        }
        let lost = std::mem::take(&mut self.lost);
        (lost > 0).then(|| {
            let lost = grouped(lost);
            format!("lines of the log that were lost, because they could not be written: {lost}")
        })
    }

    /// True if one more line of `kind` is to be written for `user`.
    fn admits(&mut self, kind: Kind, user: User, now: Instant) -> bool {
        self.report_floods(Some(now));
        let of = |flood: &Flood, user| flood.kind == kind && flood.user == user;
        let known = self.floods.iter().position(|flood| of(flood, Some(user)));
        // Other users cannot hide the lines of root and of the daemon's own user.
        let has_own = user == User(0) || user == User::own();
        let has_own = has_own || known.is_some() || self.floods.len() < MAX_LOG_FLOODS;
        let user = has_own.then_some(user);
        let known = known.or_else(|| self.floods.iter().position(|flood| of(flood, user)));
        let Some(flood) = known.and_then(|known| self.floods.get_mut(known)) else {
            self.floods.push(Flood {
                kind,
                user,
                since: now,
                passed: 1,
                more: 0,
            });
            return true;
        };
        if flood.passed < kind.most() {
            flood.passed += 1;
            return true;
        }
        flood.more = flood.more.saturating_add(1);
        false
    }

    /// Adds a line with the count of each flood whose time is over at `now`, or of all of them, and
    /// forgets the flood.
    fn report_floods(&mut self, now: Option<Instant>) {
        let is_over = |flood: &mut Flood| {
            now.is_none_or(|now| now.saturating_duration_since(flood.since) >= LOG_FLOOD_WINDOW)
        };
        let over: Vec<_> = self.floods.extract_if(.., is_over).collect();
        for flood in over.iter().filter(|flood| flood.more > 0) {
            let (kind, more) = (flood.kind.text(), grouped(flood.more));
            let seconds = flood.since.elapsed().as_secs().max(1);
            let user = match flood.user {
                Some(user) => format!("user id {}", user.0),
                None => "other users".to_owned(),
            };
            self.push(format!(
                "{kind}: {more} more like this of {user} in {seconds} s"
            ));
        }
    }
}

/// Decimal digits of a number in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let texts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (go, gate) = mpsc::channel::<()>();
        let (sender, written) = mpsc::channel();
        let log = Log::start(move |line| {
            let _ = gate.recv();
            let _ = sender.send(line.to_owned());
        })
        .unwrap();
        let all = LOG_LINES + 1000;
        (0..all).for_each(|number| log.line(&format!("line {number}")));
        assert!(!log.flush(Duration::from_millis(1)));
        drop(go);
        assert!(log.flush(Duration::from_secs(60)));
        let lines: Vec<_> = written.try_iter().collect();
        let (last, first) = lines.split_last().unwrap();
        assert!(first.len() >= LOG_LINES && first.len() <= LOG_LINES + 1);
        let lost = grouped((all - first.len()) as u64);
        assert!(last.ends_with(&format!("written: {lost}")), "{last}");
        drop(log);
        assert!(written.recv().is_err(), "its thread has ended");
    }

    #[test]
    fn floods_are_counted_for_each_kind_and_user() {
        let (sender, written) = mpsc::channel();
        let log = Log::start(move |line| drop(sender.send(line.to_owned()))).unwrap();
        for _ in 0..1234 {
            log.limited(Kind::RefusedPipes, User(7), || "refused 7".to_owned());
            log.limited(Kind::StartedPipes, User(7), || "started 7".to_owned());
        }
        log.limited(Kind::RefusedPipes, User(8), || "refused 8".to_owned());
        log.limited(Kind::StopRequests, User(7), || "stopped 7".to_owned());
        assert!(log.flush(Duration::from_secs(60)));
        let lines: Vec<_> = written.try_iter().collect();
        let count = |line: &str| lines.iter().filter(|other| *other == line).count();
        assert_eq!(count("refused 7"), LOG_FLOOD_LINES as usize);
        assert_eq!(count("started 7"), LOG_PIPE_LINES as usize);
        assert_eq!([count("refused 8"), count("stopped 7")], [1, 1]);
        let more = 1234 - LOG_FLOOD_LINES;
        let more = format!(
            "refused pipes: {} more like this of user id 7",
            grouped(more.into())
        );
        assert!(
            lines.iter().any(|line| line.starts_with(&more)),
            "{lines:?}"
        );
    }

    #[test]
    fn floods_of_many_users_take_bounded_memory() {
        let mut queue = Queue::default();
        let now = Instant::now();
        let passed = (0..100_000).filter(|user| queue.admits(Kind::RefusedPipes, User(*user), now));
        assert_eq!(passed.count(), MAX_LOG_FLOODS + LOG_FLOOD_LINES as usize);
        assert_eq!(queue.floods.len(), MAX_LOG_FLOODS + 1);
    }
}
