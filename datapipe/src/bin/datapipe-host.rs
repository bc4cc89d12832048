//! Runs the library's own stages in processes, for programs that host none themselves.

use std::process::ExitCode;

use datapipe::host;

fn main() -> ExitCode {
    host::serve(datapipe::modules());
    eprintln!("datapipe-host runs stages of a pipe, and is started by the pipe's controller");
    ExitCode::from(2)
}
