//! The name of a pipe: unique everywhere, and all that belongs to the pipe is found from it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::memory::atomic::{AtomicU64, Ordering};

/// Host name, process id and time stamp of the initiator, as `host.pid.nanoseconds`.
///
/// Two names made by one process always differ, for the time stamps of one process are made to grow; two processes
/// alive at once on one host differ in their id, and two hosts in their name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PipeName(String);

/// Longest host name that is taken over, in bytes: the rest of the name then fits a segment's header.
const MAX_HOST: usize = 64;

impl PipeName {
    /// A new name, different from every other.
    pub fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let mut stamp = now;
        let mut last = LAST.load(Ordering::Relaxed);
        // Ends as soon as no other thread of this process draws a name in between.
        loop {
            stamp = stamp.max(last + 1);
            match LAST.compare_exchange(last, stamp, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(newer) => last = newer,
            }
        }
        let system = rustix::system::uname();
        let host: String = system.nodename().to_string_lossy().chars().map(portable).take(MAX_HOST).collect();
        let pid = rustix::process::getpid().as_raw_nonzero();
        Self(format!("{host}.{pid}.{stamp}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a name that another process made.
    ///
    /// Returns `None` unless it consists of a host, a process id and a time stamp in the characters that such names
    /// have, which also keeps it from naming a path.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, '.');
        let (stamp, pid, host) = (parts.next()?, parts.next()?, parts.next()?);
        let number = |s: &str| !s.is_empty() && s.len() <= 20 && s.bytes().all(|b| b.is_ascii_digit());
        let known = number(stamp) && number(pid) && !host.is_empty() && host.len() <= MAX_HOST;
        (known && host.chars().all(|c| c == portable(c))).then(|| Self(text.to_owned()))
    }
}

impl Default for PipeName {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for PipeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keeps what may stand in the name of a file or a segment anywhere.
fn portable(c: char) -> char {
    if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '-' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_parse() {
        let names: Vec<_> = (0..1000).map(|_| PipeName::new()).collect();
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert_eq!(PipeName::parse(names[0].as_str()).as_ref(), Some(&names[0]));
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for bad in ["", "host", "host.1", "host.x.2", "host.1.", "a/b.1.2", "../x.1.2", ".1.2", "h.1.2\0"] {
            assert_eq!(PipeName::parse(bad), None, "{bad:?}");
        }
        assert_eq!(PipeName::parse("db1.example.org.17.42").unwrap().as_str(), "db1.example.org.17.42");
    }
}
