//! How both programs talk: messages, signals, and what is said and returned at the end.

use std::error::Error;
use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::mem;
use std::process::{self, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use datapipe::Event;
use datapipe::archive::PlanError;
use datapipe::media::MediumError;
use datapipe::prelude::*;
use datapipe::tree::TreeError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::arguments::OutputArgs;
use crate::listing::Listing;
use crate::names::harmless;
use crate::progress::{CLEAR, Done, REDRAW, draw};
use crate::summary::{Summary, Trouble};

/// What is said one by one of each kind; behind that, only how much more there is.
const SAID: usize = 20;

/// Where one program's messages go.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    program: &'static str,
    json: bool,
    /// Where that goes which is neither warning nor error.
    says: Says,
    /// Whether there is a line on the screen that is rewritten in place.
    live: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    OnStandardOutput,
    OnStandardError,
}

/// What signals do: they belong to the process, and so does this.
static STOP: Mutex<Stop> = Mutex::new(Stop {
    asked: false,
    pipe: None,
});

struct Stop {
    /// A signal has come.
    asked: bool,
    /// What it stops.
    pipe: Option<Canceller>,
}

impl Console {
    /// A console for `program`.
    pub fn new(program: &'static str, output: OutputArgs) -> Self {
        let talks = !output.quiet && !output.json;
        let says = if talks {
            Says::OnStandardOutput
        } else {
            Says::Nothing
        };
        Self {
            program,
            json: output.json,
            says,
            live: talks && stderr().is_terminal(),
        }
    }

    /// For a job whose standard output is for data: what is said goes to standard error.
    #[must_use]
    pub fn beside_data(self) -> Self {
        let says = if self.says == Says::Nothing {
            Says::Nothing
        } else {
            Says::OnStandardError
        };
        Self { says, ..self }
    }

    /// For a job that prints a list: nothing is said beside it but warnings and errors.
    #[must_use]
    pub fn beside_list(self) -> Self {
        Self {
            says: Says::Nothing,
            live: false,
            ..self
        }
    }

    /// Whether progress is shown.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Says what the user should know even if all goes well, above the progress line.
    pub fn warn(&self, text: &str) {
        let clear = if self.live { CLEAR } else { "" };
        // Nobody is left to be told if standard error is closed.
        let _ = writeln!(stderr(), "{clear}{}: {}", self.program, harmless(text));
    }

    /// Says what happens.
    pub fn say(&self, text: &str) {
        let text = harmless(text);
        let _ = match self.says {
            Says::Nothing => Ok(()),
            Says::OnStandardOutput => writeln!(stdout(), "{text}"),
            Says::OnStandardError => writeln!(stderr(), "{text}"),
        };
    }

    /// Runs a pipe to its end. Shows the chain, and the progress, for which `done` is asked; a
    /// signal stops the pipe. How far it came is added to the summary, however it ends.
    ///
    /// # Errors
    ///
    /// As [`PipeBuilder::start`] and [`Pipe::wait`](datapipe::Pipe::wait).
    pub fn run(
        &self,
        builder: PipeBuilder<'static>,
        done: &dyn Fn() -> Done,
        summary: &mut Summary,
    ) -> Result<Report, datapipe::Error> {
        Self::stop_on_signals(builder.canceller());
        let replaced = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&replaced);
        // The job is none the worse for it, but somebody should look why.
        let builder = builder.on_event(move |event| {
            if matches!(event, Event::Died { replaced: true, .. }) {
                heard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(event.to_string());
            }
        });
        let pipe = builder.start()?;
        self.say(&pipe.plan().to_string());
        if let Some(warning) = pipe.plan().budget().warning() {
            self.warn(&warning);
        }
        let mut before = pipe.status();
        while let Some(now) = pipe.status_every(REDRAW) {
            if self.live {
                draw(&now, &now.since(&before), done());
            }
            before = now;
        }
        if self.live {
            let _ = write!(stderr(), "{CLEAR}");
        }
        summary.add_status(&pipe.status());
        let outcome = pipe.wait();
        summary
            .notes
            .append(&mut replaced.lock().unwrap_or_else(PoisonError::into_inner));
        outcome
    }

    /// Says how it ended, and what the program returns. A job that is done, but not whole, returns
    /// 3.
    pub fn end(
        &self,
        mut summary: Summary,
        outcome: Result<(), Failure>,
        listing: Option<&Listing>,
    ) -> ExitCode {
        let whole = summary.errors_total == 0;
        let (exit, message) = match outcome {
            Ok(()) => (if whole { 0 } else { NOT_WHOLE }, None),
            Err(failure) => (failure.exit, Some(failure.message)),
        };
        summary.end(exit, message);
        if self.says != Says::Nothing {
            self.list(&summary.left_out, summary.left_out_total);
        }
        summary.notes.iter().for_each(|note| self.warn(note));
        self.list(&summary.errors, summary.errors_total);
        match &summary.message {
            Some(message) => self.warn(message),
            None if !whole => self.warn("done, but for what is named above"),
            None => {}
        }
        match self.print(&summary, listing) {
            Ok(()) => ExitCode::from(exit),
            // It has been said if that is why the job failed.
            Err(_) if exit == FAILED => ExitCode::from(FAILED),
            Err(error) => {
                self.warn(&format!("cannot write to standard output: {error}"));
                ExitCode::from(FAILED)
            }
        }
    }

    /// Writes the JSON object, or what is left of a list.
    fn print(&self, summary: &Summary, listing: Option<&Listing>) -> io::Result<()> {
        match listing {
            Some(listing) => listing.end(summary),
            None if self.json => {
                let mut out = stdout().lock();
                serde_json::to_writer(&mut out, summary)?;
                writeln!(out)
            }
            None => Ok(()),
        }
    }

    fn list(&self, troubles: &[Trouble], total: u64) {
        for trouble in troubles.iter().take(SAID) {
            self.warn(&trouble.to_string());
        }
        if let more @ 1.. = total.saturating_sub(troubles.len().min(SAID) as u64) {
            self.warn(&format!("and {more} more"));
        }
    }

    /// From now on a signal stops this pipe, and if one has come already, it stops before it
    /// starts.
    fn stop_on_signals(canceller: Canceller) {
        let mut stop = STOP.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.asked {
            canceller.cancel();
        }
        stop.pipe = Some(canceller);
    }

    /// The first signal stops the pipe in good order, the one that runs or the next; the second
    /// does not wait for that.
    ///
    /// # Errors
    ///
    /// If the system does not let us listen.
    pub fn listen_to_signals(self) -> io::Result<()> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for _ in signals.forever() {
                    let mut stop = STOP.lock().unwrap_or_else(PoisonError::into_inner);
                    if mem::replace(&mut stop.asked, true) {
                        process::exit(FAILED.into());
                    }
                    if let Some(pipe) = &stop.pipe {
                        pipe.cancel();
                    }
                    self.warn("stopping; a second signal does not wait for that");
                }
            })?;
        Ok(())
    }
}

/// Why a program ends without having done what it should.
#[derive(Debug)]
pub struct Failure {
    message: String,
    exit: u8,
}

/// The job failed.
const FAILED: u8 = 1;
/// What was asked for cannot be done at all.
const USAGE: u8 = 2;
/// It was done, but not everything is whole.
const NOT_WHOLE: u8 = 3;

/// What `--help` says about that.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  all of it is done, and on stable storage
  1  the job failed: a wrong key, too, or a signal
  2  it was asked for in a wrong way
  3  it is done, and what is named is not whole: it could not be read, changed while it was read, is damaged in the
     archive, or something else is in its place; everything else is whole";

impl Failure {
    /// The job failed.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit: FAILED,
        }
    }

    /// What was asked for cannot be done at all.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit: USAGE,
        }
    }

    /// Says more about it.
    #[must_use]
    pub fn and(self, more: &str) -> Self {
        Self {
            message: format!("{}; {more}", self.message),
            ..self
        }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any: &(dyn Error + 'static) = &error;
        let pipe = matches!(any.downcast_ref(), Some(datapipe::Error::Refused { .. }));
        let archive = matches!(
            any.downcast_ref(),
            Some(PlanError::TextTooLong { .. } | PlanError::BlockLength { .. })
        );
        let medium = matches!(any.downcast_ref(), Some(MediumError::VolumeTooSmall { .. }));
        let tree = any
            .downcast_ref()
            .is_some_and(|error| !matches!(error, TreeError::Source { .. }));
        Self {
            message: text_with_causes(any),
            exit: if pipe || archive || medium || tree {
                USAGE
            } else {
                FAILED
            },
        }
    }
}

/// Text of an error, followed by the text of each of its causes that is not part of it yet. An
/// error of the library has the text of its cause in its own; an error of another library that a
/// stage returned may leave it to `source()`.
fn text_with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// An error of another library: its text does not have the text of its cause.
    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("no answer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn message_of_a_failure_has_each_cause_once() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let failure = Failure::from(Outer(refused));
        assert_eq!(failure.message, "no answer: connection refused");
        let source = io::Error::from(io::ErrorKind::NotFound);
        let path = "/nowhere".into();
        let failure = Failure::from(TreeError::Source { path, source });
        assert_eq!(failure.message, "cannot read /nowhere: entity not found");
    }
}
