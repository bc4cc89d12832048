//! The daemon as its users meet it: a process with its own configuration and socket.
//!
//! The test binary is also the program that has the modules, so it has its own `main`.

mod archives; // archives that pipes of modules read
mod attach; // heads and tails from outside
mod commands; // the commands of the program
mod deaths; // deaths of the daemon, of modules and of clients
mod floods; // clients that flood the daemon
mod hostile; // clients that violate the protocol
mod interrupted; // calls that signals interrupt
mod keys; // keys in the memory of the daemon
mod logging; // a log that cannot be written
mod metrics; // the metrics, and a strict reader of their form
mod modules; // modules of the pipes
mod other_users; // rights of other users
mod own_processes; // attacks of users by the processes that run as them
mod races; // names that change after they were checked
mod readme; // the configuration and the example of the README
mod records; // problems and history
mod refusals; // refused requests
mod rights; // attacks on a daemon that runs as root
mod run; // pipes from start to end
mod screen; // the screen of `status`
mod service; // the daemon as a service of systemd
mod shares; // limits of each user
mod site; // a daemon with its own directory
mod vt; // a terminal that interprets what a program writes

#[path = "../../../datapipe/tests/harness/mod.rs"]
mod harness; // command line of a test binary
#[path = "../../../datapipe/tests/harness/key_search.rs"]
mod key_search; // keys in the memory of processes
#[path = "../../../datapipe/tests/harness/suite.rs"]
mod suite; // runner of tests that checks for leftovers
#[path = "../../../datapipe/tests/harness/watch.rs"]
mod watch; // children, descriptors, deaths

use std::process::ExitCode;
use std::time::Duration;

/// Time that all tests together may take; after that, one of them counts as hanging.
const HANGS: Duration = Duration::from_secs(600);

const TESTS: &[suite::Test] = &[
    (
        "collector_can_read_the_metrics_under_the_umask_of_the_unit",
        service::collector_can_read_the_metrics_under_the_umask_of_the_unit,
    ),
    (
        "daemon_reports_start_and_stop_to_its_service_manager",
        service::daemon_reports_start_and_stop_to_its_service_manager,
    ),
    ("unit_fits_the_pages", service::unit_fits_the_pages),
    (
        "labels_cannot_imitate_other_users_in_the_log",
        logging::labels_cannot_imitate_other_users_in_the_log,
    ),
    (
        "pipe_reports_events_and_status_until_its_end",
        run::pipe_reports_events_and_status_until_its_end,
    ),
    (
        "pipe_that_is_stopped_leaves_others_alone",
        run::pipe_that_is_stopped_leaves_others_alone,
    ),
    (
        "pipe_that_fails_reports_the_cause",
        run::pipe_that_fails_reports_the_cause,
    ),
    (
        "library_modules_run_confined",
        run::library_modules_run_confined,
    ),
    (
        "module_opens_only_requested_and_allowed_paths",
        run::module_opens_only_requested_and_allowed_paths,
    ),
    (
        "subscriber_that_does_not_read_loses_events",
        run::subscriber_that_does_not_read_loses_events,
    ),
    (
        "restore_whose_head_leaves_blocks_out_is_not_whole",
        archives::restore_whose_head_leaves_blocks_out_is_not_whole,
    ),
    (
        "head_and_tail_attach_from_outside",
        attach::head_and_tail_attach_from_outside,
    ),
    ("initiator_takes_a_seat", attach::initiator_takes_a_seat),
    (
        "stop_by_an_attached_process_is_named",
        attach::stop_by_an_attached_process_is_named,
    ),
    (
        "seats_that_are_bound_or_taken_are_refused",
        attach::seats_that_are_bound_or_taken_are_refused,
    ),
    (
        "seat_without_a_process_fails_the_pipe",
        attach::seat_without_a_process_fails_the_pipe,
    ),
    (
        "pipes_that_cannot_work_are_refused",
        refusals::pipes_that_cannot_work_are_refused,
    ),
    (
        "requests_for_unknown_pipes_are_refused",
        refusals::requests_for_unknown_pipes_are_refused,
    ),
    (
        "paths_outside_the_configuration_are_refused",
        refusals::paths_outside_the_configuration_are_refused,
    ),
    (
        "program_that_has_changed_is_refused",
        refusals::program_that_has_changed_is_refused,
    ),
    (
        "limits_of_pipes_and_memory_are_enforced",
        refusals::limits_of_pipes_and_memory_are_enforced,
    ),
    (
        "users_cannot_manage_pipes_of_others",
        other_users::users_cannot_manage_pipes_of_others,
    ),
    (
        "labels_of_several_users_are_told_apart",
        other_users::labels_of_several_users_are_told_apart,
    ),
    (
        "modules_have_the_rights_of_the_requesting_user",
        rights::modules_have_the_rights_of_the_requesting_user,
    ),
    (
        "processes_of_modules_have_no_rights_of_root",
        rights::processes_of_modules_have_no_rights_of_root,
    ),
    (
        "restore_for_another_user_gives_no_rights",
        rights::restore_for_another_user_gives_no_rights,
    ),
    (
        "write_root_that_has_vanished_allows_nothing",
        rights::write_root_that_has_vanished_allows_nothing,
    ),
    (
        "arguments_name_only_allowed_paths",
        rights::arguments_name_only_allowed_paths,
    ),
    (
        "refusals_do_not_reveal_what_the_user_may_not_see",
        rights::refusals_do_not_reveal_what_the_user_may_not_see,
    ),
    (
        "temporary_files_are_private_to_a_stage",
        rights::temporary_files_are_private_to_a_stage,
    ),
    (
        "replacement_runs_the_program_that_was_checked",
        rights::replacement_runs_the_program_that_was_checked,
    ),
    (
        "file_that_another_user_has_planted_gets_nothing_of_root",
        rights::file_that_another_user_has_planted_gets_nothing_of_root,
    ),
    (
        "allowed_path_that_is_renamed_later_allows_nothing",
        races::allowed_path_that_is_renamed_later_allows_nothing,
    ),
    (
        "removed_user_loses_open_connections",
        rights::removed_user_loses_open_connections,
    ),
    (
        "processes_of_users_have_nothing_of_the_daemon",
        own_processes::processes_of_users_have_nothing_of_the_daemon,
    ),
    (
        "standard_error_of_users_processes_is_in_the_log",
        own_processes::standard_error_of_users_processes_is_in_the_log,
    ),
    (
        "memory_of_users_processes_is_limited_without_a_capability",
        own_processes::memory_of_users_processes_is_limited_without_a_capability,
    ),
    (
        "traced_processes_hold_neither_pipe_nor_daemon",
        own_processes::traced_processes_hold_neither_pipe_nor_daemon,
    ),
    (
        "dead_processes_that_are_traced_count",
        own_processes::dead_processes_that_are_traced_count,
    ),
    (
        "deep_temporary_directory_does_not_end_the_daemon",
        own_processes::deep_temporary_directory_does_not_end_the_daemon,
    ),
    (
        "memory_that_was_taken_from_a_module_counts",
        own_processes::memory_that_was_taken_from_a_module_counts,
    ),
    (
        "hellos_that_are_invalid_are_refused",
        hostile::hellos_that_are_invalid_are_refused,
    ),
    (
        "heads_that_are_invalid_end_the_connection",
        hostile::heads_that_are_invalid_end_the_connection,
    ),
    (
        "requests_that_are_invalid_are_refused",
        hostile::requests_that_are_invalid_are_refused,
    ),
    (
        "clients_that_stall_are_disconnected",
        hostile::clients_that_stall_are_disconnected,
    ),
    (
        "connections_over_the_limit_are_refused",
        hostile::connections_over_the_limit_are_refused,
    ),
    (
        "refused_subscriptions_leave_no_memory",
        floods::refused_subscriptions_leave_no_memory,
    ),
    (
        "stranger_that_floods_keeps_no_other_user_out",
        floods::stranger_that_floods_keeps_no_other_user_out,
    ),
    (
        "client_that_floods_with_refused_pipes_leaves_few_lines",
        floods::client_that_floods_with_refused_pipes_leaves_few_lines,
    ),
    (
        "user_whose_processes_die_leaves_few_lines",
        floods::user_whose_processes_die_leaves_few_lines,
    ),
    (
        "interrupted_calls_of_the_daemon_are_repeated",
        interrupted::interrupted_calls_of_the_daemon_are_repeated,
    ),
    (
        "interrupted_calls_of_a_client_are_repeated",
        interrupted::interrupted_calls_of_a_client_are_repeated,
    ),
    (
        "socket_that_cannot_be_looked_at_is_not_replaced",
        interrupted::socket_that_cannot_be_looked_at_is_not_replaced,
    ),
    (
        "daemon_whose_log_is_not_read_serves_and_stops",
        logging::daemon_whose_log_is_not_read_serves_and_stops,
    ),
    (
        "key_of_a_pipe_is_only_in_the_process_that_encrypts",
        keys::key_of_a_pipe_is_only_in_the_process_that_encrypts,
    ),
    (
        "key_of_a_pipe_is_not_in_the_clients_that_attach",
        keys::key_of_a_pipe_is_not_in_the_clients_that_attach,
    ),
    (
        "connections_of_a_user_are_limited",
        shares::connections_of_a_user_are_limited,
    ),
    (
        "pipes_of_a_user_are_limited",
        shares::pipes_of_a_user_are_limited,
    ),
    (
        "process_gets_no_more_memory_than_its_limit",
        shares::process_gets_no_more_memory_than_its_limit,
    ),
    (
        "memory_of_a_stopped_pipe_counts_while_a_client_maps_it",
        shares::memory_of_a_stopped_pipe_counts_while_a_client_maps_it,
    ),
    (
        "daemon_that_is_killed_leaves_no_process",
        deaths::daemon_that_is_killed_leaves_no_process,
    ),
    (
        "daemon_that_is_stopped_leaves_no_file",
        deaths::daemon_that_is_stopped_leaves_no_file,
    ),
    (
        "module_that_is_killed_is_replaced_or_fails_the_pipe",
        deaths::module_that_is_killed_is_replaced_or_fails_the_pipe,
    ),
    (
        "pipe_outlives_its_initiator",
        deaths::pipe_outlives_its_initiator,
    ),
    (
        "second_daemon_at_a_socket_is_refused",
        deaths::second_daemon_at_a_socket_is_refused,
    ),
    (
        "configuration_is_reloaded_on_sighup",
        deaths::configuration_is_reloaded_on_sighup,
    ),
    (
        "socket_gets_its_permissions_on_sighup",
        deaths::socket_gets_its_permissions_on_sighup,
    ),
    (
        "commands_print_lists_and_statuses",
        commands::commands_print_lists_and_statuses,
    ),
    (
        "stop_command_ends_a_pipe_or_reports_its_failure",
        commands::stop_command_ends_a_pipe_or_reports_its_failure,
    ),
    (
        "commands_without_a_daemon_fail",
        commands::commands_without_a_daemon_fail,
    ),
    (
        "status_command_repeats_until_a_signal",
        commands::status_command_repeats_until_a_signal,
    ),
    (
        "status_screen_fits_80_columns_and_writes_only_changes",
        screen::status_screen_fits_80_columns_and_writes_only_changes,
    ),
    (
        "status_screen_restores_the_terminal_however_it_ends",
        screen::status_screen_restores_the_terminal_however_it_ends,
    ),
    (
        "status_screen_is_suspended_and_continued",
        screen::status_screen_is_suspended_and_continued,
    ),
    (
        "status_screen_follows_the_size_of_its_terminal",
        screen::status_screen_follows_the_size_of_its_terminal,
    ),
    (
        "status_screen_ends_with_its_last_pipe",
        screen::status_screen_ends_with_its_last_pipe,
    ),
    (
        "death_in_a_pipe_that_is_stopped_is_no_alarm",
        deaths::death_in_a_pipe_that_is_stopped_is_no_alarm,
    ),
    (
        "deaths_and_replacements_are_logged_with_label_and_owner",
        deaths::deaths_and_replacements_are_logged_with_label_and_owner,
    ),
    (
        "client_from_the_page_alone_shows_lists_and_statuses",
        commands::client_from_the_page_alone_shows_lists_and_statuses,
    ),
    (
        "client_from_the_page_alone_shows_problems_and_history",
        commands::client_from_the_page_alone_shows_problems_and_history,
    ),
    (
        "client_from_the_pages_alone_copies_a_file",
        commands::client_from_the_pages_alone_copies_a_file,
    ),
    (
        "configurations_with_mistakes_are_rejected_with_their_line",
        commands::configurations_with_mistakes_are_rejected_with_their_line,
    ),
    (
        "pipe_with_problems_is_incomplete_everywhere",
        records::pipe_with_problems_is_incomplete_everywhere,
    ),
    (
        "problems_of_a_pipe_that_failed_are_a_failure",
        records::problems_of_a_pipe_that_failed_are_a_failure,
    ),
    (
        "problems_of_a_live_pipe_can_be_read",
        records::problems_of_a_live_pipe_can_be_read,
    ),
    (
        "history_survives_the_daemon",
        records::history_survives_the_daemon,
    ),
    (
        "pipes_that_are_lost_with_the_daemon_are_in_the_history",
        records::pipes_that_are_lost_with_the_daemon_are_in_the_history,
    ),
    (
        "history_file_with_garbage_is_read_as_far_as_possible",
        records::history_file_with_garbage_is_read_as_far_as_possible,
    ),
    (
        "history_without_a_usable_directory_is_in_memory",
        records::history_without_a_usable_directory_is_in_memory,
    ),
    (
        "records_of_others_are_hidden",
        records::records_of_others_are_hidden,
    ),
    (
        "metrics_have_the_form_and_the_counts",
        metrics::metrics_have_the_form_and_the_counts,
    ),
    (
        "metrics_file_is_replaced_and_ends_with_the_last_counts",
        metrics::metrics_file_is_replaced_and_ends_with_the_last_counts,
    ),
    (
        "labels_in_metrics_are_bounded",
        metrics::labels_in_metrics_are_bounded,
    ),
    (
        "readme_configuration_backs_up_and_restores",
        readme::readme_configuration_backs_up_and_restores,
    ),
    (
        "example_names_the_path_that_it_cannot_find",
        readme::example_names_the_path_that_it_cannot_find,
    ),
    (
        "readme_has_the_unit_and_systemd_rates_it_as_stated",
        readme::readme_has_the_unit_and_systemd_rates_it_as_stated,
    ),
    (
        "run_without_the_directory_of_its_socket_says_what_to_make",
        commands::run_without_the_directory_of_its_socket_says_what_to_make,
    ),
    (
        "modules_refuse_numbers_outside_of_their_range",
        refusals::modules_refuse_numbers_outside_of_their_range,
    ),
];

fn main() -> ExitCode {
    datapipe::host::serve(modules::modules());
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [keys::HEAD, socket, key] => keys::be_the_head(socket, key),
        [keys::TAIL, socket, pipe] => keys::be_the_tail(socket, pipe),
        _ => {}
    }
    suite::run(TESTS, HANGS)
}
