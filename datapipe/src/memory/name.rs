//! The name of a pipe: unique everywhere, and all that belongs to the pipe is found from it.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::memory::atomic::{AtomicU64, Ordering};

/// Host name, process id and time stamp of the initiator, as `host.pid.nanoseconds`.
///
/// Two names made by one process always differ, for the time stamps of one process are made to
/// grow; two processes alive at once on one host differ in their id, and two hosts in their name.
///
/// A name that another process made is read from text: what comes out consists of the characters
/// that names have, and of at most 96 bytes, so that it neither names a path nor outgrows a field.
///
/// ```
/// use datapipe::memory::PipeName;
///
/// let name = PipeName::new();
/// let sent = name.to_string();
/// assert_eq!(sent.parse::<PipeName>()?, name);
/// assert!("../etc/passwd".parse::<PipeName>().is_err());
/// # Ok::<(), datapipe::memory::PipeNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PipeName(String);

/// Longest host name that is taken over, in bytes: the rest of the name then fits a segment's
/// header.
const MAX_HOST: usize = 64;

impl PipeName {
    /// A new name, different from every other.
    pub fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as u64);
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
        let host: String = system
            .nodename()
            .to_string_lossy()
            .chars()
            .map(portable)
            .take(MAX_HOST)
            .collect();
        // A machine need not have a name.
        let host = if host.is_empty() { "localhost" } else { &host };
        let pid = rustix::process::getpid().as_raw_nonzero();
        Self(format!("{host}.{pid}.{stamp}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PipeName {
    type Err = PipeNameError;

    /// Takes a name that another process made.
    ///
    /// # Errors
    ///
    /// [`PipeNameError`] unless it is a host, a process id and a time stamp as [`PipeName::new`]
    /// writes them.
    fn from_str(text: &str) -> Result<Self, PipeNameError> {
        let wrong = |what| PipeNameError {
            text: text.chars().take(SHOWN).collect(),
            what,
        };
        let mut parts = text.rsplitn(3, '.');
        let (Some(stamp), Some(pid), Some(host)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong("it has fewer than three parts"));
        };
        if host.is_empty() || host.len() > MAX_HOST || host.chars().any(|c| c != portable(c)) {
            return Err(wrong("its host is not 1 to 64 of A-Z a-z 0-9 - ."));
        }
        if !is_written::<u32>(pid) {
            return Err(wrong("its process id is not a number of 32 bits"));
        }
        if !is_written::<u64>(stamp) {
            return Err(wrong("its time stamp is not a number of 64 bits"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// True if `text` is the one way to write a number of type `N`, so that there is one text for each
/// name.
fn is_written<N: FromStr + fmt::Display>(text: &str) -> bool {
    text.parse::<N>()
        .is_ok_and(|number| number.to_string() == text)
}

/// A text is not the name of a pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipeNameError {
    text: String,
    what: &'static str,
}

/// Characters of a text that an error repeats: a text that is not a name may have any length.
const SHOWN: usize = 128;

impl fmt::Display for PipeNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, what } = self;
        write!(
            f,
            "\"{}\" is not a pipe's name, HOST.PID.NANOSECONDS: {what}",
            text.escape_debug()
        )
    }
}

impl std::error::Error for PipeNameError {}

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

/// Keeps a character that may be in the name of a file or a segment anywhere.
fn portable(c: char) -> char {
    if c.is_ascii_alphanumeric() || c == '-' || c == '.' {
        c
    } else {
        '-'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_parse() {
        let names: Vec<_> = (0..1000).map(|_| PipeName::new()).collect();
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        for name in &names {
            assert_eq!(name.as_str().parse().as_ref(), Ok(name));
        }
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        let bad = |text: &str| text.parse::<PipeName>().unwrap_err().to_string();
        for (text, why) in [
            ("", "three parts"),
            ("host", "three parts"),
            ("host.1", "three parts"),
            (".1.2", "host"),
            ("a/b.1.2", "host"),
            ("../x.1.2", "host"),
            ("h\u{e9}.1.2", "host"),
            (&format!("{}.1.2", "h".repeat(65)), "host"),
            ("host.x.2", "process id"),
            ("host..2", "process id"),
            ("host.+1.2", "process id"),
            ("host.01.2", "process id"),
            ("host.4294967296.2", "process id"),
            ("host.1.", "time stamp"),
            ("h.1.2\0", "time stamp"),
            ("h.1.18446744073709551616", "time stamp"),
        ] {
            assert!(bad(text).contains(why), "{text:?}: {}", bad(text));
        }
        assert_eq!(
            bad("x\n"),
            "\"x\\n\" is not a pipe's name, HOST.PID.NANOSECONDS: it has fewer than three parts"
        );
        assert!(
            bad(&"x".repeat(1 << 20)).len() < 300,
            "an error repeats no more than it must"
        );
        let long = format!("{}.{}.{}", "h".repeat(64), u32::MAX, u64::MAX);
        for good in ["db1.example.org.17.42", "...1.2", long.as_str()] {
            assert_eq!(good.parse::<PipeName>().unwrap().as_str(), good);
        }
        assert_eq!(long.len(), 96);
    }
}
