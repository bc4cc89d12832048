//! Messages of the programs, their reaction to signals, and their exit codes.

use std::error::Error;
use std::io::{self, IsTerminal, Write as _, stderr};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use datapipe::Event;
use datapipe::archive::PlanError;
use datapipe::media::MediumError;
use datapipe::pool::Refusal;
use datapipe::prelude::*;
use datapipe::standard_streams::StandardStream;
use datapipe::tree::TreeError;

use crate::arguments::OutputArgs;
use crate::errors_file::ErrorsFile;
use crate::format::escape_controls;
use crate::listing::Listing;
use crate::progress::{CLEAR, JobProgress, REDRAW, draw};
use crate::signals;
use crate::stoppable_output::StoppableOutput;
use crate::summary::{ProblemEntry, Summary};

/// Number of problems of each kind that are listed one by one. The rest is only counted.
const MAX_LISTED: usize = 20;

/// Destination of one program's messages.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    program: &'static str,
    json: bool,
    /// Destination of messages that are neither warnings nor errors.
    info_target: InfoTarget,
    /// True if a progress line is shown and redrawn in place.
    live: bool,
}

/// Destination of informational messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InfoTarget {
    Nowhere,
    Stdout,
    Stderr,
}

impl Console {
    /// Makes a console for `program`.
    pub fn new(program: &'static str, output: OutputArgs) -> Self {
        let is_verbose = !output.quiet && !output.json;
        let info_target = if is_verbose {
            InfoTarget::Stdout
        } else {
            InfoTarget::Nowhere
        };
        Self {
            program,
            json: output.json,
            info_target,
            live: is_verbose && stderr().is_terminal(),
        }
    }

    /// Configures the console of a job that writes data to standard output: informational messages
    /// go to standard error.
    #[must_use]
    pub fn with_data_on_stdout(self) -> Self {
        let info_target = if self.info_target == InfoTarget::Nowhere {
            InfoTarget::Nowhere
        } else {
            InfoTarget::Stderr
        };
        Self {
            info_target,
            ..self
        }
    }

    /// Configures the console of a job that prints a list: it shows warnings and errors only.
    #[must_use]
    pub fn with_list_on_stdout(self) -> Self {
        Self {
            info_target: InfoTarget::Nowhere,
            live: false,
            ..self
        }
    }

    /// Returns true if a progress line is shown.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Prints a warning or an error to standard error, above the progress line.
    pub fn warn(&self, text: &str) {
        let clear = if self.live { CLEAR } else { "" };
        // If standard error is closed, the message has no other destination.
        let line = format!("{clear}{}: {}\n", self.program, escape_controls(text));
        let _ = StoppableOutput::stderr().write(line.as_bytes());
    }

    /// Prints an informational message.
    pub fn info(&self, text: &str) {
        let mut output = match self.info_target {
            InfoTarget::Nowhere => return,
            InfoTarget::Stdout => StoppableOutput::stdout(),
            InfoTarget::Stderr => StoppableOutput::stderr(),
        };
        let _ = output.write(format!("{}\n", escape_controls(text)).as_bytes());
    }

    /// Runs a pipe to its end. Shows the chain, and the progress, for which `done` returns the
    /// counts. A signal stops the pipe. The pipe's final status is added to the summary, however
    /// the pipe ends.
    ///
    /// # Errors
    ///
    /// As [`PipeBuilder::start`] and [`Pipe::wait`](datapipe::Pipe::wait).
    pub fn run(
        &self,
        builder: PipeBuilder<'static>,
        done: &dyn Fn() -> JobProgress,
        summary: &mut Summary,
    ) -> Result<Report, datapipe::Error> {
        signals::cancel_on_signals(builder.canceller());
        let replaced = Arc::new(Mutex::new(Vec::new()));
        let deaths = Arc::clone(&replaced);
        // A replaced process and a missing thread do no harm to the job, but the user should know.
        let builder = builder.on_event(move |event| {
            if matches!(
                event,
                Event::Died { replaced: true, .. } | Event::NotStarted { .. }
            ) {
                deaths
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(event.to_string());
            }
        });
        let pipe = builder.start()?;
        self.info(&pipe.plan().to_string());
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
            let _ = StoppableOutput::stderr().write(CLEAR.as_bytes());
        }
        summary.add_status(&pipe.status());
        let outcome = pipe.wait();
        if let Ok(report) = &outcome {
            summary.is_complete &= report.is_complete();
        }
        summary
            .notes
            .append(&mut replaced.lock().unwrap_or_else(PoisonError::into_inner));
        outcome
    }

    /// Reports the outcome of a job, and returns the exit code of the program. A job that is done
    /// but has errors returns 3.
    pub fn finish(
        &self,
        mut summary: Summary,
        outcome: Result<(), Failure>,
        listing: Option<&Listing>,
    ) -> ExitCode {
        let is_complete = summary.is_complete && summary.errors_total == 0;
        let outcome = summary.finish_errors(outcome);
        let (exit, message) = match outcome {
            Ok(()) => (if is_complete { 0 } else { INCOMPLETE }, None),
            Err(failure) => (failure.exit, Some(failure.message)),
        };
        summary.finish(exit, message);
        summary.notes.extend(self.closed_stream());
        if self.info_target != InfoTarget::Nowhere {
            self.warn_each(
                &summary.left_out,
                summary.left_out_total,
                &summary.errors_to,
            );
        }
        summary.notes.iter().for_each(|note| self.warn(note));
        self.warn_each(&summary.errors, summary.errors_total, &summary.errors_to);
        match &summary.message {
            Some(message) => self.warn(message),
            None if !is_complete => self.warn("done, except for the errors above"),
            None => {}
        }
        match self.print(&summary, listing) {
            Ok(()) => ExitCode::from(exit),
            // If the job failed because of this, the error has been reported already.
            Err(_) if exit == FAILED => ExitCode::from(FAILED),
            Err(error) => {
                self.warn(&format!("cannot write to standard output: {error}"));
                ExitCode::from(FAILED)
            }
        }
    }

    /// Checks that standard output, on which a job is to write `what`, is open.
    ///
    /// # Errors
    ///
    /// Returns a failure of the job if it is closed.
    pub fn check_output(self, what: &str) -> Result<(), Failure> {
        StandardStream::Output
            .check_open()
            .map_err(|error| Failure::new(format!("{error}, and is to have {what}")))
    }

    /// Returns a note if messages have no destination.
    fn closed_stream(&self) -> Option<String> {
        let stream = if StandardStream::Error.is_closed() {
            // Only the JSON object or standard output has the note.
            self.info("standard error is closed: warnings and errors are not shown");
            StandardStream::Error
        } else if self.info_target == InfoTarget::Stdout {
            StandardStream::Output
        } else {
            return None;
        };
        let error = stream.check_open().err()?;
        Some(format!("{error}: its messages are lost"))
    }

    /// Writes the JSON object, or the rest of a list.
    fn print(&self, summary: &Summary, listing: Option<&Listing>) -> io::Result<()> {
        match listing {
            Some(listing) => listing.finish(summary),
            None if self.json => {
                let mut object = serde_json::to_vec(summary)?;
                object.push(b'\n');
                StoppableOutput::stdout().write_all(&object)
            }
            None => Ok(()),
        }
    }

    /// Prints the first problems, and the number of the others.
    fn warn_each(&self, problems: &[ProblemEntry], total: u64, all: &ErrorsFile) {
        for problem in problems.iter().take(MAX_LISTED) {
            self.warn(&problem.to_string());
        }
        if let more @ 1.. = total.saturating_sub(problems.len().min(MAX_LISTED) as u64) {
            self.warn(&format!("and {more} more: {}", all.describe_rest()));
        }
    }

    /// Starts to handle signals. The first signal stops the pipe of `job` in an orderly way, or
    /// ends the program if it has not begun; the second one ends the program immediately.
    ///
    /// # Errors
    ///
    /// Returns an error if the system refuses the signal handlers or the thread.
    pub fn handle_signals(self, job: &'static str) -> io::Result<()> {
        signals::handle(move |signal, is_running| {
            if is_running {
                self.warn(&format!(
                    "stopping because of {signal}; a second signal ends the program immediately"
                ));
                return None;
            }
            // Nothing has been changed yet. What the program waits for, such as a key from a pipe,
            // may never come.
            let mut summary = Summary::new(job);
            let stopped = format!("stopped by {signal} before the job began");
            self.warn(&stopped);
            summary.finish(FAILED, Some(stopped));
            let _ = self.print(&summary, None);
            Some(FAILED)
        })
    }
}

/// Reason why a program ends without having done its job, with the exit code.
#[derive(Debug)]
pub struct Failure {
    message: String,
    exit: u8,
}

/// Exit code: the job failed.
const FAILED: u8 = 1;
/// Exit code: usage error.
const USAGE: u8 = 2;
/// Exit code: the job is done, but some objects have errors.
const INCOMPLETE: u8 = 3;

/// Description of the exit codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  success; all data is on stable storage. tape_to_disk --verify without the key of an encrypted
     archive: checksums, headers and numbers are right, and nothing was authenticated
  1  the job failed, for example because of a wrong key or a signal
  2  usage error
  3  the job is done, except for the reported objects: they could not be read, changed while they
     were read, are damaged in the archive, lack attributes, or would replace something else; all
     others are intact. Too few descriptors, threads or memory are a failure of the job, code 1";

impl Failure {
    /// A failure of the job.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit: FAILED,
        }
    }

    /// A usage error.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit: USAGE,
        }
    }

    /// Appends a detail to the message.
    #[must_use]
    pub fn with_detail(self, detail: &str) -> Self {
        Self {
            message: format!("{}; {detail}", self.message),
            ..self
        }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any: &(dyn Error + 'static) = &error;
        let pipe = any.downcast_ref().is_some_and(|error| {
            matches!(error, datapipe::Error::Refused { reason, .. }
                if !matches!(reason, Refusal::ProcessLimit(_)))
        });
        let archive = matches!(
            any.downcast_ref(),
            Some(
                PlanError::TextTooLong { .. }
                    | PlanError::BlockLength { .. }
                    | PlanError::TooManySecrets { .. }
            )
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
