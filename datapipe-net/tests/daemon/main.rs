//! The daemon as its users meet it: started as a process, with a configuration and a socket of its own.
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

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harness::{Asked, last_line};

/// How long all tests together may take before one of them counts as hanging.
const HANGS: Duration = Duration::from_secs(600);

const TESTS: &[(&str, fn())] = &[
    ("a_pipe_from_its_beginning_to_its_end", run::a_pipe_from_its_beginning_to_its_end),
    ("a_pipe_that_is_stopped", run::a_pipe_that_is_stopped),
    ("a_pipe_that_fails", run::a_pipe_that_fails),
    ("modules_of_the_library", run::modules_of_the_library),
    ("a_module_is_confined", run::a_module_is_confined),
    ("a_subscriber_that_does_not_read", run::a_subscriber_that_does_not_read),
    ("a_head_and_a_tail_attach", attach::a_head_and_a_tail_attach),
    ("the_initiator_is_the_head", attach::the_initiator_is_the_head),
    ("seats_that_are_refused", attach::seats_that_are_refused),
    ("a_seat_that_nobody_takes", attach::a_seat_that_nobody_takes),
    ("pipes_that_are_refused", refusals::pipes_that_are_refused),
    ("paths_that_are_refused", refusals::paths_that_are_refused),
    ("a_program_that_has_changed", refusals::a_program_that_has_changed),
    ("limits_are_kept", refusals::limits_are_kept),
    ("other_users", refusals::other_users),
    ("garbage", hostile::garbage),
    ("half_a_message_and_silence", hostile::half_a_message_and_silence),
    ("more_connections_than_there_may_be", hostile::more_connections_than_there_may_be),
    ("a_daemon_that_is_killed", deaths::a_daemon_that_is_killed),
    ("a_daemon_that_is_stopped", deaths::a_daemon_that_is_stopped),
    ("a_module_that_is_killed", deaths::a_module_that_is_killed),
    ("an_initiator_that_goes", deaths::an_initiator_that_goes),
    ("one_daemon_for_a_socket", deaths::one_daemon_for_a_socket),
    ("another_configuration", deaths::another_configuration),
    ("commands", commands::commands),
    ("configurations_that_are_wrong", commands::configurations_that_are_wrong),
    ("a_client_from_the_page_alone", commands::a_client_from_the_page_alone),
    ("what_the_readme_says", readme::what_the_readme_says),
];

fn main() -> ExitCode {
    datapipe::host::serve(modules::modules());
    let asked = |name: &str| Asked::of(name, std::env::args().skip(1));
    let list = TESTS.iter().filter(|(name, _)| matches!(asked(name), Asked::List { ours: true }));
    list.for_each(|(name, _)| println!("{name}: test"));
    if matches!(asked(""), Asked::List { .. }) {
        return ExitCode::SUCCESS;
    }
    let (run, filtered): (Vec<_>, Vec<_>) =
        TESTS.iter().partition(|(name, _)| matches!(asked(name), Asked::Run));
    std::thread::spawn(|| {
        std::thread::sleep(HANGS);
        println!("some test hangs");
        std::process::exit(101);
    });
    println!("\nrunning {} tests", run.len());
    let start = Instant::now();
    let mut failed = 0;
    for (name, test) in &run {
        let good = catch_unwind(test);
        failed += u32::from(good.is_err());
        println!("test {name} ... {}", if good.is_ok() { "ok" } else { "FAILED" });
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let counts = [run.len() as u32 - failed, failed, filtered.len() as u32];
    println!("\n{}", last_line(verdict, counts, start.elapsed()));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
