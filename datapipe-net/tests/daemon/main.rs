//! The daemon as its users meet it: started as a process, with a configuration and a socket of its
//! own.
//!
//! The test binary is the program that has the modules, so its main is its own.

mod attach; // heads and tails from outside
mod commands; // what people type
mod deaths; // of the daemon, of modules, of clients
mod hostile; // clients that do not keep to the protocol
mod modules; // what the pipes are made of
mod readme; // what an operator reads first
mod refusals; // what is not done, and why
mod run; // pipes from their beginning to their end
mod site; // a daemon with a directory of its own

#[path = "../../../datapipe/tests/harness/mod.rs"]
mod harness; // what whoever calls a test binary expects of it
#[path = "../../../datapipe/tests/harness/suite.rs"]
mod suite; // runs the tests, and looks what each has left behind
#[path = "../../../datapipe/tests/harness/watch.rs"]
mod watch; // children, descriptors, deaths

use std::process::ExitCode;
use std::time::Duration;

/// How long all tests together may take before one of them counts as hanging.
const HANGS: Duration = Duration::from_secs(600);

const TESTS: &[suite::Test] = &[
    (
        "a_pipe_from_its_beginning_to_its_end",
        run::a_pipe_from_its_beginning_to_its_end,
    ),
    ("a_pipe_that_is_stopped", run::a_pipe_that_is_stopped),
    ("a_pipe_that_fails", run::a_pipe_that_fails),
    ("modules_of_the_library", run::modules_of_the_library),
    ("a_module_is_confined", run::a_module_is_confined),
    (
        "a_subscriber_that_does_not_read",
        run::a_subscriber_that_does_not_read,
    ),
    ("a_head_and_a_tail_attach", attach::a_head_and_a_tail_attach),
    (
        "the_initiator_is_the_head",
        attach::the_initiator_is_the_head,
    ),
    ("seats_that_are_refused", attach::seats_that_are_refused),
    ("a_seat_that_nobody_takes", attach::a_seat_that_nobody_takes),
    ("pipes_that_are_refused", refusals::pipes_that_are_refused),
    ("paths_that_are_refused", refusals::paths_that_are_refused),
    (
        "a_program_that_has_changed",
        refusals::a_program_that_has_changed,
    ),
    ("limits_are_kept", refusals::limits_are_kept),
    ("other_users", refusals::other_users),
    ("garbage", hostile::garbage),
    (
        "half_a_message_and_silence",
        hostile::half_a_message_and_silence,
    ),
    (
        "more_connections_than_there_may_be",
        hostile::more_connections_than_there_may_be,
    ),
    ("a_daemon_that_is_killed", deaths::a_daemon_that_is_killed),
    ("a_daemon_that_is_stopped", deaths::a_daemon_that_is_stopped),
    ("a_module_that_is_killed", deaths::a_module_that_is_killed),
    ("an_initiator_that_goes", deaths::an_initiator_that_goes),
    ("one_daemon_for_a_socket", deaths::one_daemon_for_a_socket),
    ("another_configuration", deaths::another_configuration),
    ("commands", commands::commands),
    (
        "configurations_that_are_wrong",
        commands::configurations_that_are_wrong,
    ),
    (
        "a_client_from_the_page_alone",
        commands::a_client_from_the_page_alone,
    ),
    ("what_the_readme_says", readme::what_the_readme_says),
];

fn main() -> ExitCode {
    datapipe::host::serve(modules::modules());
    suite::run(TESTS, HANGS)
}
