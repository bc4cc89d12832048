//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use datapipe_net::authority::CertificateSerial;
use datapipe_net::limits::CERTIFICATE_DAYS;

const SOCKET: &str = "/run/datapiped/socket";
const CONFIG: &str = "/etc/datapiped.toml";
const AUTHORITY: &str = "/etc/datapiped";

const EXIT_CODES: &str = "\
Exit codes:
  0  success; for run: stopped by a signal, and all pipes have ended
  1  failure: no daemon answers, the daemon refuses, the pipe of stop has failed, that of problems
     has failed or was stopped, or a second signal ends run
  2  usage error: invalid arguments or configuration, no such pipe or certificate, or several
     pipes that match
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
    /// Make a private authority in a new directory, with certificates and keys for a server and a
    /// client, and an empty list of revoked certificates. Nothing is replaced, and the directory
    /// has its name only when it is whole
    Init(InitArgs),
    /// Issue a certificate for a machine or a user, in a new directory with all that is needed
    /// there
    Issue(IssueArgs),
    /// Revoke certificates: enter them in the list, which further machines need, too. The list of a
    /// certificate that is revoked already is written if it is missing
    Revoke(RevokeArgs),
    /// List the certificates that an authority has issued, the oldest first
    Issued {
        #[command(flatten)]
        authority: AuthorityArgs,
        /// Print a JSON object; its "certificates" are a list
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Directory to make
    pub(crate) directory: PathBuf,
    /// Name or address under which the server is dialled; may be repeated
    #[arg(long = "name", value_name = "HOST", required = true)]
    pub(crate) names: Vec<String>,
    /// Name of the client [default: client.HOST]
    #[arg(long, value_name = "NAME")]
    pub(crate) client: Option<String>,
    #[command(flatten)]
    pub(crate) validity: ValidityArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct IssueArgs {
    /// Name by which the other machines know this one, such as db1.example or alice.db1.example;
    /// for a server, the names and addresses under which it is dialled
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Issue the certificate of a server, which is dialled, and not of a client, which dials
    #[arg(long)]
    pub(crate) server: bool,
    /// Directory to make [default: NAME in the directory of the authority]
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) validity: ValidityArgs,
    #[command(flatten)]
    pub(crate) authority: AuthorityArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// Name whose certificates are revoked, all of them
    #[arg(value_name = "NAME", required_unless_present = "serial")]
    pub(crate) name: Option<String>,
    /// Serial number of the only certificate to revoke: 32 hexadecimal digits
    #[arg(long, value_name = "NUMBER", conflicts_with = "name", value_parser = parse_serial)]
    pub(crate) serial: Option<CertificateSerial>,
    #[command(flatten)]
    pub(crate) authority: AuthorityArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AuthorityArgs {
    /// Directory of the authority
    #[arg(long, value_name = "DIR", default_value = AUTHORITY)]
    pub(crate) authority: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// Key of the authority [default: ca.key in its directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ValidityArgs {
    /// Days for which a certificate is valid
    #[arg(long, value_name = "N", default_value_t = CERTIFICATE_DAYS)]
    pub(crate) days: u32,
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

fn parse_serial(text: &str) -> Result<CertificateSerial, String> {
    text.to_owned().try_into()
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
