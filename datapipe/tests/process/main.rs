//! Stages in processes: the same bytes as in threads; whoever dies is replaced or named; nothing is
//! left.
//!
//! The test binary is the host of its own stages, so its main is its own.

#![allow(
    clippy::disallowed_types,
    reason = "flags and counts of the test, not shared words"
)]

mod archive; // archives, and their media
mod attached; // processes that take part in somebody else's pipe
mod deaths; // killed, crashed, failed: replaced or named
mod ends; // heads and tails
mod refusals; // what cannot run in processes, and says so
mod same; // what comes out is what threads make
mod scribbles; // one that writes over the words of its pipe
mod stages; // the modules of this host
mod tree; // trees and streams
mod unruly; // who does not keep to the rules

#[path = "../entries/mod.rs"]
mod entries; // what the blocks of a tree say
#[path = "../harness/mod.rs"]
mod harness; // what whoever calls a test binary expects of it
#[path = "../harness/suite.rs"]
mod suite; // one test after the other
#[path = "../harness/watch.rs"]
mod watch; // children, descriptors, deaths

use std::process::ExitCode;
use std::time::Duration;

use suite::Test;

/// How long all tests together may take before one of them counts as hanging.
const HANGS: Duration = Duration::from_secs(300);

const TESTS: &[Test] = &[
    (
        "codecs_give_the_same_bytes",
        same::codecs_give_the_same_bytes,
    ),
    (
        "the_suite_runs_stages_in_processes",
        same::the_suite_runs_stages_in_processes,
    ),
    ("a_host_program_of_its_own", same::a_host_program_of_its_own),
    (
        "only_one_stage_of_many_is_processes",
        same::only_one_stage_of_many_is_processes,
    ),
    ("killed_at_random", deaths::killed_at_random),
    ("killed_once_at_a_block", deaths::killed_once_at_a_block),
    (
        "killed_when_it_had_done_everything",
        deaths::killed_when_it_had_done_everything,
    ),
    (
        "a_replacement_that_is_long_in_coming",
        deaths::a_replacement_that_is_long_in_coming,
    ),
    ("everything_else_inline", deaths::everything_else_inline),
    (
        "a_block_that_kills_twice_is_named",
        deaths::a_block_that_kills_twice_is_named,
    ),
    (
        "killed_and_not_to_be_replaced",
        deaths::killed_and_not_to_be_replaced,
    ),
    (
        "dead_before_the_first_block",
        deaths::dead_before_the_first_block,
    ),
    (
        "errors_and_panics_come_back",
        deaths::errors_and_panics_come_back,
    ),
    ("an_exit_without_a_word", deaths::an_exit_without_a_word),
    (
        "a_hanging_stage_does_not_outlive_its_pipe",
        deaths::a_hanging_stage_does_not_outlive_its_pipe,
    ),
    ("a_cancelled_pipe", deaths::a_cancelled_pipe),
    (
        "children_die_with_the_controller",
        deaths::children_die_with_the_controller,
    ),
    (
        "garbage_from_a_process_harms_no_other_pipe",
        scribbles::garbage_from_a_process_harms_no_other_pipe,
    ),
    ("every_stage_a_process", ends::every_stage_a_process),
    (
        "instances_that_share_a_process",
        ends::instances_that_share_a_process,
    ),
    (
        "heads_and_tails_are_not_replaced",
        ends::heads_and_tails_are_not_replaced,
    ),
    (
        "a_stopped_process_is_killed_and_replaced",
        ends::a_stopped_process_is_killed_and_replaced,
    ),
    ("confined_processes", ends::confined_processes),
    (
        "a_head_and_a_tail_that_attach",
        attached::a_head_and_a_tail_that_attach,
    ),
    ("refused_and_given_up", attached::refused_and_given_up),
    ("attached_and_failed", attached::attached_and_failed),
    ("attached_and_gone", attached::attached_and_gone),
    (
        "descriptions_that_cannot_work",
        refusals::descriptions_that_cannot_work,
    ),
    ("hosts_that_cannot_work", refusals::hosts_that_cannot_work),
    (
        "nobody_else_gives_orders",
        refusals::nobody_else_gives_orders,
    ),
    (
        "a_tree_is_read_as_on_a_thread",
        tree::a_tree_is_read_as_on_a_thread,
    ),
    (
        "problems_are_said_as_they_are_found",
        tree::problems_are_said_as_they_are_found,
    ),
    (
        "a_tree_is_restored_as_on_a_thread",
        tree::a_tree_is_restored_as_on_a_thread,
    ),
    (
        "a_tree_is_verified_as_on_a_thread",
        tree::a_tree_is_verified_as_on_a_thread,
    ),
    ("streams_between_files", tree::streams_between_files),
    ("stages_that_stay_here", tree::stages_that_stay_here),
    ("fields_that_make_no_sense", tree::fields_that_make_no_sense),
    ("archives_are_the_same", archive::archives_are_the_same),
    (
        "damage_is_told_with_its_place",
        archive::damage_is_told_with_its_place,
    ),
    ("some_blocks_are_read", archive::some_blocks_are_read),
    (
        "what_cannot_cross_is_refused",
        archive::what_cannot_cross_is_refused,
    ),
    (
        "media_are_found_by_their_paths",
        archive::media_are_found_by_their_paths,
    ),
    ("a_writer_that_is_killed", archive::a_writer_that_is_killed),
    ("a_reader_that_is_killed", archive::a_reader_that_is_killed),
    (
        "a_sealing_process_that_is_killed",
        archive::a_sealing_process_that_is_killed,
    ),
    ("a_handler_that_panics", unruly::a_handler_that_panics),
    ("a_listener_that_panics", unruly::a_listener_that_panics),
    ("notes_that_panic", unruly::notes_that_panic),
    (
        "a_flood_that_outlives_its_process",
        unruly::a_flood_that_outlives_its_process,
    ),
    (
        "ended_well_and_still_there",
        unruly::ended_well_and_still_there,
    ),
    ("ended_and_left_alone", unruly::ended_and_left_alone),
    ("lies_about_the_end", unruly::lies_about_the_end),
    ("confined_with_threads", unruly::confined_with_threads),
    ("gone_after_the_pipe", unruly::gone_after_the_pipe),
    (
        "plans_keep_no_descriptors",
        unruly::plans_keep_no_descriptors,
    ),
];

fn main() -> ExitCode {
    refusals::before_serving();
    unruly::before_serving();
    datapipe::host::serve(stages::modules());
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [deaths::CONTROLLER] => deaths::be_a_controller(),
        [attached::ATTACH, deed] => attached::attach(deed),
        [unruly::CONTROLLER] => unruly::be_a_controller(),
        [unruly::FLOOD] => unruly::flood(),
        _ => {}
    }
    suite::run(TESTS, HANGS)
}
