//! `datapiped`: the daemon, and the commands that talk to it.

mod arguments; // the command line
mod certificates; // certificates of machines
mod failure; // failures, with their exit code
mod find; // the pipe that a command names
mod history; // the history and the metrics
mod output; // standard output and standard error
mod problems; // the problems of a pipe
mod run; // the daemon
mod service_manager; // messages to systemd
mod signals; // signals that end a command
mod status; // lists and statuses
mod stop; // the end of a pipe
mod terminal; // the terminal as a screen

use std::process::ExitCode;

use clap::Parser;
use datapipe_net::Config;

use self::arguments::{Args, Command};
use self::failure::Failure;

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Run {
            print_default_config: true,
            ..
        } => output::print(datapipe_net::config::DEFAULT),
        Command::Run { config, .. } => run::run(&config.config),
        Command::Check { config } => Config::load(&config.config)
            .map_err(Failure::from)
            .and_then(|config| output::print(&config.describe())),
        Command::Status(arguments) => status::status(&arguments),
        Command::List { daemon, json } => status::list(&daemon.socket, json),
        Command::Problems { daemon, pipe, json } => problems::problems(&daemon.socket, &pipe, json),
        Command::History {
            daemon,
            json,
            limit,
        } => history::history(&daemon.socket, limit, json),
        Command::Metrics { daemon } => history::metrics(&daemon.socket),
        Command::Stop {
            daemon,
            pipe,
            no_wait,
        } => stop::stop(&daemon.socket, &pipe, no_wait),
        Command::Init(arguments) => certificates::init(&arguments),
        Command::Issue(arguments) => certificates::issue(&arguments),
        Command::Revoke(arguments) => certificates::revoke(arguments),
        Command::Issued { authority, json } => certificates::issued(&authority.authority, json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, exit }) => {
            output::log(&message);
            ExitCode::from(exit)
        }
    }
}
