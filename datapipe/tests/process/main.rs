//! Stages in processes: they give the same bytes as threads, a process that dies is replaced or
//! named, and nothing is left.
//!
//! The test binary is the host of its own stages, so its `main` is its own.

#![allow(
    clippy::disallowed_types,
    reason = "flags and counts of the test, not shared words"
)]

mod archive; // archives and their media
mod archive_stages; // stages of an adopter around an archive and its last block
mod attached; // processes that attach to the pipe of another one
mod attached_over; // the same, over a connected socket
mod causes; // causes of errors in processes
mod deaths; // killed, crashed or failed processes
mod ends; // heads and tails
mod keys; // keys in the memory of processes
mod link_stages; // the ends of a link between two pipes
mod links; // killed ends of a link
mod logs; // logs of the caller, written in processes
mod own_medium; // media of an adopter
mod refusals; // stages and hosts that cannot run in processes
mod same; // results equal to those of threads
mod scribbles; // a process that overwrites the words of its pipe
mod stages; // the modules of this host
mod stopped; // processes that are stopped and continued
mod suites; // the suites of the testkit
mod tree; // trees and streams
mod unruly; // processes and callers that break the rules

#[path = "../harness/data.rs"]
mod data; // keys, test data, settings
#[path = "../harness/entries.rs"]
mod entries; // the objects in the blocks of a tree
#[path = "../harness/mod.rs"]
mod harness; // arguments and output of a test binary
#[path = "../harness/key_derivation.rs"]
mod key_derivation; // the keys of an archive
#[path = "../harness/key_search.rs"]
mod key_search; // keys in the memory of processes
#[path = "../harness/medium.rs"]
mod medium; // tapes and directories on the file system
#[path = "../harness/suite.rs"]
mod suite; // runs one test after the other
#[path = "../harness/watch.rs"]
mod watch; // children, descriptors, deaths

use std::process::ExitCode;
use std::time::Duration;

use suite::Test;

/// Time limit of all tests together.
const HANGS: Duration = Duration::from_secs(300);

const TESTS: &[Test] = suite::tests![
    same::codecs_in_processes_give_the_same_bytes,
    same::stage_suite_runs_in_processes,
    same::separate_host_program_gives_the_same_bytes,
    same::threads_inline_and_processes_can_be_mixed,
    deaths::processes_killed_at_random_are_replaced,
    deaths::process_killed_at_a_block_is_replaced,
    deaths::process_killed_between_its_outputs_is_replaced,
    deaths::process_killed_at_its_end_is_replaced,
    deaths::slow_replacement_is_not_a_deadlock,
    deaths::process_between_inline_stages_works,
    deaths::deadly_block_is_named,
    deaths::process_over_its_work_limit_is_replaced,
    deaths::block_over_the_work_limit_is_named,
    deaths::processes_on_silent_and_full_pipes_end_when_the_pipe_is_cancelled,
    deaths::stateful_stage_is_not_replaced,
    deaths::process_dying_before_its_first_block_ends_the_pipe,
    deaths::stage_errors_and_panics_are_reported,
    deaths::exit_without_a_message_is_reported,
    deaths::hanging_process_is_killed_with_its_pipe,
    deaths::cancelled_pipe_leaves_no_process,
    deaths::processes_die_with_their_controller,
    causes::causes_cross_with_their_texts_and_codes,
    causes::full_destination_in_a_process_keeps_its_system_error,
    links::killed_ends_of_a_link_are_replaced,
    links::tail_that_dies_without_end_is_given_up,
    links::replaceable_stages_of_other_kinds_are_refused,
    logs::inspection_in_processes_fills_the_callers_log,
    logs::findings_of_a_killed_process_are_kept,
    logs::handler_of_the_caller_and_reports_both_receive,
    logs::log_of_a_wrapped_stage_is_filled,
    scribbles::garbage_from_a_process_harms_no_other_pipe,
    ends::every_stage_can_be_a_process,
    ends::instances_sharing_a_process_die_together,
    ends::heads_and_tails_are_not_replaced,
    ends::stopped_process_is_killed_and_replaced,
    ends::confined_process_reads_only_its_paths,
    ends::confined_process_opens_only_the_file_that_was_checked,
    keys::keys_are_only_in_processes_that_use_them,
    keys::keys_are_erased_at_the_end_of_a_pipe_on_threads,
    keys::core_dump_has_no_key,
    stopped::end_of_a_stopped_process_is_not_a_standstill,
    stopped::stopped_instance_among_several_is_not_a_standstill,
    attached::head_and_tail_processes_attach,
    attached::attached_head_ends_an_archive,
    attached::attachment_is_refused_or_times_out,
    attached::failure_of_an_attached_process_is_reported,
    attached::death_of_an_attached_process_ends_the_pipe,
    attached_over::processes_attach_over_a_listening_socket,
    attached_over::process_attaches_over_an_inherited_socket,
    attached_over::thread_attaches_and_keeps_its_socket,
    attached_over::refused_processes_receive_an_answer,
    attached_over::sockets_that_break_the_exchange_are_errors,
    attached_over::other_users_are_refused,
    refusals::unusable_stage_descriptions_are_rejected,
    refusals::unusable_hosts_are_reported,
    refusals::host_rejects_launches_by_other_processes,
    tree::tree_read_in_a_process_matches_a_thread,
    tree::tree_problems_are_reported_as_found,
    tree::problems_make_a_pipe_incomplete_in_every_place,
    tree::tree_restored_in_a_process_matches_a_thread,
    tree::selected_paths_restored_in_a_process_match_a_thread,
    tree::tree_verified_in_a_process_matches_a_thread,
    tree::file_streams_run_in_processes,
    tree::stages_bound_to_this_process_are_rejected,
    tree::invalid_module_arguments_are_rejected,
    archive::archive_of_an_own_head_runs_in_processes,
    archive::archive_written_in_processes_matches_threads,
    archive::damage_is_reported_with_its_position,
    archive::selected_blocks_are_read_in_processes,
    archive::media_that_cannot_cross_are_rejected,
    archive::media_are_opened_by_path_in_modules,
    archive::invalid_archive_module_arguments_are_rejected,
    archive::killed_archive_writer_leaves_a_salvageable_archive,
    archive::killed_archive_reader_fails_or_is_replaced,
    archive::killed_sealing_process_is_replaced,
    archive::medium_opened_to_append_is_written_by_a_process_after_its_content,
    archive::tail_of_a_session_of_this_program_does_not_run_in_a_process,
    archive_stages::stream_whose_blocks_change_length_in_processes_is_archived,
    archive_stages::tree_whose_blocks_change_length_in_processes_is_restored,
    archive_stages::process_killed_at_the_last_block_is_replaced,
    archive_stages::archive_whose_last_block_was_lost_is_incomplete,
    archive_stages::reading_of_some_blocks_by_modules_is_refused_by_name,
    own_medium::archive_on_an_own_medium_is_written_and_read_in_processes,
    own_medium::unknown_and_failing_own_media_are_reported,
    own_medium::medium_suite_runs_in_processes,
    suites::suites_of_good_stages_pass_in_processes,
    suites::suites_of_bad_stages_fail_in_processes,
    suites::suites_demand_a_module,
    unruly::panic_in_a_message_handler_fails_the_stage,
    unruly::panic_in_an_event_listener_reaches_the_caller,
    unruly::panic_in_a_message_source_fails_the_stage,
    unruly::message_flood_does_not_hide_a_death,
    unruly::process_lingering_after_its_end_is_killed,
    unruly::lingering_process_dies_with_its_controller,
    unruly::false_end_messages_are_corruption,
    unruly::confinement_of_a_threaded_process_is_rejected,
    unruly::hang_up_after_a_stop_is_not_a_failure,
    unruly::plan_keeps_no_descriptors,
];

fn main() -> ExitCode {
    refusals::before_serving();
    unruly::before_serving();
    datapipe::host::serve(stages::modules());
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [deaths::CONTROLLER] => deaths::be_a_controller(),
        [attached::ATTACH, deed] => attached::attach(deed),
        [attached_over::ATTACH] => attached_over::attach(None),
        [attached_over::ATTACH, "--stay"] => attached_over::stay(),
        [attached_over::ATTACH, path] => attached_over::attach(Some(path)),
        [unruly::CONTROLLER] => unruly::be_a_controller(),
        [keys::ABORT, dir] => keys::abort(dir),
        [keys::SEARCH, dir, ref processes @ ..] => keys::search(dir, processes),
        [unruly::FLOOD] => unruly::flood(),
        _ => {}
    }
    suite::run(TESTS, HANGS)
}
