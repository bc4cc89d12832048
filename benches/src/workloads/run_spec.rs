//! One run of a command, and the results that prove that the command did its work.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use super::file_totals::FileTotals;

/// A command with its expected results.
pub(crate) struct RunSpec {
    pub(crate) name: &'static str,
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) output: ExpectedOutput,
    pub(crate) files: ExpectedFiles,
}

/// Standard output of a successful run.
pub(crate) enum ExpectedOutput {
    /// Any output, or none.
    Anything,
    /// Exactly this text and a line end.
    Exactly(String),
}

/// Files that a successful run leaves. They are removed before each run, so that each run makes
/// them anew.
pub(crate) enum ExpectedFiles {
    Nothing,
    /// A file or a directory whose size is one of the figures.
    Any(PathBuf),
    /// A directory with exactly these totals.
    Exactly(PathBuf, FileTotals),
}

impl RunSpec {
    /// A run of one of this executable's own programs, in a child process.
    pub(crate) fn own_program(
        name: &'static str,
        program: &str,
        arguments: Vec<OsString>,
        output: ExpectedOutput,
    ) -> io::Result<Self> {
        let mut all = vec![crate::RUN_PROGRAM.into(), program.into()];
        all.extend(arguments);
        Ok(Self {
            name,
            program: env::current_exe()?.into(),
            arguments: all,
            output,
            files: ExpectedFiles::Nothing,
        })
    }

    /// A run of another program, given by its name or path.
    pub(crate) fn command(
        name: &'static str,
        program: impl Into<OsString>,
        arguments: Vec<OsString>,
    ) -> Self {
        let program = program.into();
        Self {
            name,
            program,
            arguments,
            output: ExpectedOutput::Anything,
            files: ExpectedFiles::Nothing,
        }
    }

    /// Sets the expected output.
    pub(crate) fn expect_output(self, output: ExpectedOutput) -> Self {
        Self { output, ..self }
    }

    /// Sets the expected files.
    pub(crate) fn expect_files(self, files: ExpectedFiles) -> Self {
        Self { files, ..self }
    }
}
