//! Runs the stages of the library in processes, for programs that are not hosts themselves.

use std::process::ExitCode;

use datapipe::host;

fn main() -> ExitCode {
    host::serve(datapipe::modules());
    eprintln!("datapipe-host runs stages of a pipe; only the controller of a pipe starts it");
    ExitCode::from(2)
}
