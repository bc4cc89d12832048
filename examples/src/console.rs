//! How both programs talk: arguments, messages, progress, exit codes.

use std::error::Error;
use std::io::{self, Write};
use std::io::{IsTerminal, stderr, stdout};
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use datapipe::controller::ByteCount;
use datapipe::media::MediumError;
use datapipe::prelude::*;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Damage that is listed one by one.
const LISTED: usize = 20;

/// How often the progress line is drawn.
const REDRAW: Duration = Duration::from_millis(500);

/// Where one program's messages go.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    program: &'static str,
    quiet: bool,
    /// Whether there is a line on the screen that is rewritten in place.
    live: bool,
}

impl Console {
    /// A console for `program`. If `quiet`, only warnings and errors are shown.
    pub fn new(program: &'static str, quiet: bool) -> Self {
        Self { program, quiet, live: !quiet && stderr().is_terminal() }
    }

    /// Says what the user should know even if all goes well, above the progress line.
    pub fn warn(&self, text: &str) {
        let clear = if self.live { CLEAR } else { "" };
        // Nobody is left to be told if standard error is closed.
        let _ = writeln!(stderr(), "{clear}{}: {text}", self.program);
    }

    /// Says what happens, on standard output.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(stdout(), "{text}");
        }
    }

    /// Runs a pipe to its end. Shows the chain, the progress and the result; a signal stops the pipe.
    ///
    /// # Errors
    ///
    /// As [`PipeBuilder::start`] and [`Pipe::wait`](datapipe::Pipe::wait).
    pub fn run(&self, builder: PipeBuilder<'static>) -> Result<Report, datapipe::Error> {
        self.cancel_on_signals(builder.canceller())
            .map_err(|source| datapipe::Error::System { what: "cannot listen to signals", source })?;
        let pipe = builder.start()?;
        self.say(&pipe.plan().to_string());
        if let Some(warning) = pipe.plan().budget().warning() {
            self.warn(&warning);
        }
        if self.live {
            let mut before = pipe.status();
            while let Some(now) = pipe.status_every(REDRAW) {
                self.draw(&now, &now.since(&before));
                before = now;
            }
            let _ = write!(stderr(), "{CLEAR}");
        }
        pipe.wait()
    }

    /// Tells how it ended, and what the program returns.
    pub fn end(&self, outcome: Result<(), Failure>) -> ExitCode {
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure { message, code }) => {
                self.warn(&message);
                ExitCode::from(code)
            }
        }
    }

    /// Lists what was found damaged: the first of it, and how much more there is.
    pub fn list(&self, log: &DamageLog) {
        let clear = if self.live { CLEAR } else { "" };
        for damage in log.entries().iter().take(LISTED) {
            let _ = writeln!(stderr(), "{clear}damaged: {damage}");
        }
        if let more @ 1.. = log.count().saturating_sub(LISTED as u64) {
            let _ = writeln!(stderr(), "damaged: and {more} more");
        }
    }

    fn draw(&self, now: &Status, lately: &Status) {
        let bytes = match now.direction {
            Direction::Archive => now.bytes_in(),
            Direction::Restore => now.bytes_out(),
        };
        let (bytes, rate) = (ByteCount(bytes), ByteCount(lately.throughput() as u64));
        let limit = lately.limit().map(|limit| format!("limited by {limit}"));
        let _ = write!(stderr(), "{CLEAR}{bytes}  {rate}/s  {}", limit.unwrap_or_default());
    }

    /// The first signal stops the pipe in good order; the second does not wait for that.
    fn cancel_on_signals(&self, canceller: Canceller) -> io::Result<()> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let console = *self;
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for _ in signals.forever() {
                if canceller.is_cancelled() {
                    process::exit(1);
                }
                console.warn("stopping");
                canceller.cancel();
            }
        })?;
        Ok(())
    }
}

/// Back to the line's start, and remove what stands there.
const CLEAR: &str = "\r\x1b[K";

/// Why a program ends without having done what it should.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
}

/// The job failed.
const FAILED: u8 = 1;
/// What was asked for cannot be done at all.
const USAGE: u8 = 2;
/// It was done, but not everything was whole.
const DAMAGED: u8 = 3;

impl Failure {
    /// The job failed.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: FAILED }
    }

    /// The job is done, but not everything was whole.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: DAMAGED }
    }

    /// Says more about it.
    #[must_use]
    pub fn and(self, more: &str) -> Self {
        Self { message: format!("{}; {more}", self.message), ..self }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any: &(dyn Error + 'static) = &error;
        let usage =
            matches!(any.downcast_ref(), Some(datapipe::Error::Refused { .. } | datapipe::Error::Archive(_)))
                || matches!(any.downcast_ref(), Some(MediumError::VolumeTooSmall { .. }));
        Self { message: error.to_string(), code: if usage { USAGE } else { FAILED } }
    }
}

/// Reads a size: bytes, or a number with K, M, G or T behind it, or KiB and so on. All are powers of 1024.
///
/// # Errors
///
/// If it is none, or does not fit.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "m" | "M" | "MiB" => 1 << 20,
        "g" | "G" | "GiB" => 1 << 30,
        "t" | "T" | "TiB" => 1 << 40,
        _ => return Err("a size is a number, with KiB, MiB, GiB or TiB behind it if you like".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "a size is a number, with a unit behind it if you like")?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

/// Reads the size of a buffer.
///
/// # Errors
///
/// As [`parse_size`], and if no buffer could be so large.
pub fn parse_buffer_size(text: &str) -> Result<u32, String> {
    u32::try_from(parse_size(text)?).map_err(|_| "too large".to_owned())
}

/// As many instances as there are processors, within reason.
pub fn default_instances() -> u32 {
    thread::available_parallelism().map_or(1, |n| n.get().min(16) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4M"), Ok(4 << 20));
        assert_eq!(parse_size("64KiB"), Ok(64 << 10));
        assert_eq!(parse_size("512k"), Ok(512 << 10));
        assert_eq!(parse_size("1000"), Ok(1000));
        assert_eq!(parse_size("2TiB"), Ok(2 << 40));
        let bad =
            ["", "M", "4MM", "4MB", "-1", "4.5M", "99999999999999999999", "16777216T", "4 M", "é", "4é"];
        for bad in bad {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert!(parse_buffer_size("4G").is_err());
    }
}
