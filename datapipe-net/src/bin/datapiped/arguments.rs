//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

const SOCKET: &str = "/run/datapiped/socket";
const CONFIG: &str = "/etc/datapiped.toml";

const EXIT_CODES: &str = "\
Exit codes:
  0  success; for run: stopped by a signal, and all pipes have ended
  1  failure: no daemon answers, the daemon refuses, the pipe of stop has failed, that of problems
     has failed or was stopped, or a second signal ends run
  2  usage error: invalid arguments or configuration, no such pipe, or several that match
  3  for stop and problems: the pipe is incomplete: it ended well except for its problems";

/// Start, watch and stop pipes for the users of this machine.
#[derive(Debug, Parser)]
#[command(name = "datapiped", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground. SIGTERM or SIGINT stops all pipes, waits for them and
    /// ends; a second signal ends without waiting. SIGHUP reloads the configuration for future
    /// connections and pipes
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print a configuration that describes all keys, and exit
        #[arg(long)]
        print_default_config: bool,
    },
    /// Check a configuration, print in words what it allows, and exit
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show the status of the pipes. On a terminal this is a screen, until all pipes have ended or
    /// you press q or Ctrl-C; NO_COLOR switches its colours off. Elsewhere it is a table
    Status(StatusArgs),
    /// List the live pipes, and the last of those that have ended
    List {
        #[command(flatten)]
        daemon: DaemonArgs,
        /// Print a JSON object; its "pipes" are a list
        #[arg(long)]
        json: bool,
    },
    /// Show the problems of a pipe, live or ended: files that were not read, damaged blocks, names
    /// that were not restored. Their number, and the last of them
    Problems {
        #[command(flatten)]
        daemon: DaemonArgs,
        /// Name of the pipe; or its label, of several the newest; or the beginning of its name, if
        /// only one pipe matches. Own pipes are preferred; USER/LABEL names those of a user
        pipe: String,
        /// Print a JSON object; its "problems" are a list
        #[arg(long)]
        json: bool,
    },
    /// List the last pipes that have ended, the newest first, with their outcome
    History {
        #[command(flatten)]
        daemon: DaemonArgs,
        /// Print a JSON object; its "pipes" are a list
        #[arg(long)]
        json: bool,
        /// List N pipes at most
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// Print the metrics of the daemon as OpenMetrics text
    Metrics {
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Stop a pipe, and wait until it has ended. A pipe that has ended already counts as stopped
    Stop {
        #[command(flatten)]
        daemon: DaemonArgs,
        /// Name of the pipe, or its label or the beginning of its name, if no other live pipe
        /// matches. Own pipes are preferred; USER/LABEL names those of a user
        pipe: String,
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
    /// Name of the only pipe to show, or its label or the beginning of its name. Own pipes are
    /// preferred, and of those one that lives; USER/LABEL names those of a user
    pub(crate) pipe: Option<String>,
    /// Print JSON, an object per line; its "pipes" are a list
    #[arg(long)]
    pub(crate) json: bool,
    /// Show the status once, also on a terminal
    #[arg(long, conflicts_with = "interval")]
    pub(crate) once: bool,
    /// Show the status every SECONDS, also without a terminal [default on a terminal: 1]
    #[arg(long, value_name = "SECONDS", value_parser = parse_interval)]
    pub(crate) interval: Option<Duration>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub(crate) config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DaemonArgs {
    /// Socket of the daemon
    #[arg(long, value_name = "SOCKET", default_value = SOCKET)]
    pub(crate) socket: PathBuf,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let interval = seconds.filter(|interval| {
        (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(interval)
    });
    interval.ok_or_else(|| "an interval is 0.1 to 3600 seconds".to_owned())
}
