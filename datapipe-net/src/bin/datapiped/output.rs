//! Output of the commands.

use std::io::{Write, stderr, stdout};

use datapipe::standard_streams::StandardStream;
use datapipe_net::show;
use rustix::termios::tcgetwinsize;

use crate::failure::{FAILED, Failure};

/// Columns of an output that is not a terminal, or does not report its size.
const DEFAULT_COLUMNS: usize = 200;

/// Prints the output that the user requested.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let failed = |message| Failure {
        message,
        exit: FAILED,
    };
    (StandardStream::Output.check_open()).map_err(|error| failed(error.to_string()))?;
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| failed(format!("cannot write to standard output: {error}")))
}

/// Prints a message to standard error.
pub(crate) fn log(text: &str) {
    // If standard error is closed, there is no other place for the message.
    let _ = writeln!(stderr(), "datapiped: {}", show::escaped(text));
}

/// Number of columns of standard output.
pub(crate) fn columns() -> usize {
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => DEFAULT_COLUMNS,
    }
}
