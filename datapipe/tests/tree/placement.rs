//! Where the stages run that a suite is about: on threads, and in the target `tree_processes` in
//! processes of the library's host.

use datapipe::stage::Stage;

/// The stage where it is to run.
pub(crate) fn placed<W>(stage: impl Into<Stage<W>>) -> Stage<W> {
    let stage = stage.into();
    match env!("CARGO_CRATE_NAME") {
        "tree_processes" => stage.in_processes_of(env!("CARGO_BIN_EXE_datapipe-host")),
        _ => stage,
    }
}
