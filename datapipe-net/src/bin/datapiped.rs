//! The daemon, and the commands that ask it.

use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand};
use datapipe_net::client::{Client, ClientError};
use datapipe_net::config::{Config, ConfigError};
use datapipe_net::daemon::{Daemon, DaemonError, Handle};
use datapipe_net::protocol::{EventKind, PipeEntry, PipeEvent, PipeState, PipeStatus, RefusalCode};
use datapipe_net::show;
use datapipe_net::socket::{ChannelError, Deadline, Stop};
use rustix::termios::tcgetwinsize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const SOCKET: &str = "/run/datapiped/socket";
const CONFIG: &str = "/etc/datapiped.toml";

/// What a terminal is told before a table is drawn again: back to the top, and remove what stands
/// there.
const REDRAW: &str = "\x1b[H\x1b[2J";

/// Columns of what is no terminal, or does not say.
const COLUMNS: usize = 200;

/// The job failed.
const FAILED: u8 = 1;
/// What was asked for cannot be done at all.
const USAGE: u8 = 2;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for run: stopped by a signal, and everything has ended
  1  it failed: no daemon answers, it has refused, the pipe to be stopped has failed, or a second signal has come
  2  it was asked for in a wrong way: the arguments, the configuration, a pipe that is not there or not the only one";

/// Start, watch and stop pipes for the users of this machine.
#[derive(Debug, Parser)]
#[command(name = "datapiped", version, after_help = EXIT_CODES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, in the foreground. SIGTERM or SIGINT stops all pipes, waits for them and ends; a
    /// second one does not wait. SIGHUP reads the configuration again: it holds for what comes
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print a configuration that explains itself, and do nothing else
        #[arg(long)]
        print_default_config: bool,
    },
    /// Check a configuration, and do nothing else
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show what everybody in the pipes is doing. On a terminal it is drawn again and again, until
    /// all pipes are over or a signal comes
    Status {
        #[command(flatten)]
        daemon: DaemonArgs,
        /// Only this pipe: its name, or its label or the beginning of its name, if no other pipe
        /// has the same
        pipe: Option<String>,
        /// Write JSON, one object in a line for each look: its "pipes" are a list
        #[arg(long)]
        json: bool,
        /// Look once, also on a terminal
        #[arg(long, conflicts_with = "interval")]
        once: bool,
        /// Look every SECONDS, also without a terminal [default on a terminal: 1]
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        interval: Option<Duration>,
    },
    /// List the pipes: those that live, and the last of those that are over
    List {
        #[command(flatten)]
        daemon: DaemonArgs,
        /// Write a JSON object: its "pipes" are a list
        #[arg(long)]
        json: bool,
    },
    /// Stop a pipe, and wait until it is over. One that is over already is as good
    Stop {
        #[command(flatten)]
        daemon: DaemonArgs,
        /// Its name, or its label or the beginning of its name, if no other living pipe has the
        /// same
        pipe: String,
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct DaemonArgs {
    /// The daemon's socket
    #[arg(long, value_name = "SOCKET", default_value = SOCKET)]
    socket: PathBuf,
}

/// Why the program ends without having done what it should.
#[derive(Debug)]
struct Failure {
    message: String,
    exit: u8,
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Run {
            print_default_config: true,
            ..
        } => say(datapipe_net::config::DEFAULT),
        Command::Run { config, .. } => run(&config.config),
        Command::Check { config } => Config::load(&config.config)
            .map(drop)
            .map_err(Failure::from),
        Command::Status {
            daemon,
            pipe,
            json,
            once,
            interval,
        } => {
            let live = stdout().is_terminal() && !json && !once;
            let interval = interval.or_else(|| live.then_some(Duration::from_secs(1)));
            status(&daemon.socket, pipe.as_deref(), json, interval)
        }
        Command::List { daemon, json } => list(&daemon.socket, json),
        Command::Stop {
            daemon,
            pipe,
            no_wait,
        } => stop(&daemon.socket, &pipe, no_wait),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, exit }) => {
            warn(&message);
            ExitCode::from(exit)
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let interval = seconds.filter(|interval| {
        (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(interval)
    });
    interval.ok_or_else(|| "an interval is 0.1 to 3600 seconds".to_owned())
}

fn run(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let socket = config.socket.clone();
    let daemon = Daemon::bind(config, warn)?;
    listen_to_signals(daemon.handle(), path.to_owned())?;
    warn(&format!("listens at {}", socket.display()));
    daemon.run()?;
    warn("has ended");
    Ok(())
}

/// The first signal stops the daemon in good order, the second at once: its processes end by
/// themselves.
fn listen_to_signals(daemon: Handle, path: PathBuf) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut stopping = false;
            for signal in signals.forever() {
                match signal {
                    SIGHUP => match Config::load(&path) {
                        Ok(config) => {
                            daemon.reconfigure(config);
                            warn("has read its configuration again");
                        }
                        Err(error) => warn(&format!(
                            "keeps its configuration, because the new one is wrong: {error}"
                        )),
                    },
                    _ if stopping => process::exit(FAILED.into()),
                    _ => {
                        stopping = true;
                        daemon.stop();
                        warn("is stopping; a second signal does not wait for the pipes");
                    }
                }
            }
        })?;
    Ok(())
}

fn list(socket: &Path, json: bool) -> Result<(), Failure> {
    let entries = Client::connect(socket)?.list()?;
    if json {
        let pipes: Vec<_> = entries.iter().map(show::entry_json).collect();
        return say(&format!("{}\n", serde_json::json!({ "pipes": pipes })));
    }
    say(&show::entries(&entries, columns()))
}

fn status(
    socket: &Path,
    pipe: Option<&str>,
    json: bool,
    interval: Option<Duration>,
) -> Result<(), Failure> {
    let stop = Stop::new()?;
    if interval.is_some() {
        stop_on_signals(stop.clone())?;
    }
    match watch(socket, pipe, json, interval, &stop) {
        // A signal is how one leaves.
        Err(Watched::Left) => Ok(()),
        Err(Watched::Failed(failure)) => Err(failure),
        Ok(()) => Ok(()),
    }
}

enum Watched {
    Left,
    Failed(Failure),
}

impl From<ClientError> for Watched {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Channel(ChannelError::Stopped) => Self::Left,
            other => Self::Failed(other.into()),
        }
    }
}

fn watch(
    socket: &Path,
    pipe: Option<&str>,
    json: bool,
    interval: Option<Duration>,
    stop: &Stop,
) -> Result<(), Watched> {
    let mut client = Client::connect_until(socket, Some(stop.clone()))?;
    let name = match pipe {
        Some(pipe) => Some(find(&client.list()?, pipe).map_err(Watched::Failed)?),
        None => None,
    };
    let mut before: Vec<PipeStatus> = Vec::new();
    loop {
        let now = look(&mut client, name.as_deref())?;
        let text = if json {
            lines_for_machines(&now, &before)
        } else {
            tables(&now, &before)
        };
        let redraw = interval.is_some() && !json && stdout().is_terminal();
        say(&if redraw {
            format!("{REDRAW}{text}")
        } else {
            text
        })
        .map_err(Watched::Failed)?;
        let over = now.iter().all(|status| status.entry.state.is_over());
        let Some(interval) = interval.filter(|_| !over) else {
            return Ok(());
        };
        before = now;
        match client.wait(Deadline::after(interval)) {
            Err(ClientError::Channel(ChannelError::TooSlow)) => {}
            other => other?,
        }
    }
}

/// The statuses of the pipes that live, or of one that may be over.
fn look(client: &mut Client, name: Option<&str>) -> Result<Vec<PipeStatus>, ClientError> {
    if let Some(name) = name {
        return Ok(vec![client.status(name)?]);
    }
    let mut statuses = Vec::new();
    for entry in client.list()?.iter().filter(|entry| !entry.state.is_over()) {
        match client.status(&entry.name) {
            Ok(status) => statuses.push(status),
            // So many have ended since the list was made that it is forgotten.
            Err(ClientError::Refused(refusal)) if refusal.code == RefusalCode::NO_SUCH_PIPE => {}
            Err(error) => return Err(error),
        }
    }
    Ok(statuses)
}

fn earlier<'s>(before: &'s [PipeStatus], now: &PipeStatus) -> Option<&'s PipeStatus> {
    before
        .iter()
        .find(|status| status.entry.name == now.entry.name)
}

fn lines_for_machines(now: &[PipeStatus], before: &[PipeStatus]) -> String {
    let pipes: Vec<_> = now
        .iter()
        .map(|status| show::status_json(status, earlier(before, status)))
        .collect();
    format!("{}\n", serde_json::json!({ "pipes": pipes }))
}

fn tables(now: &[PipeStatus], before: &[PipeStatus]) -> String {
    if now.is_empty() {
        return "no pipes\n".to_owned();
    }
    let columns = columns();
    let tables = now
        .iter()
        .map(|status| show::pipe(status, earlier(before, status), columns));
    tables.collect::<Vec<_>>().join("\n")
}

fn stop(socket: &Path, pipe: &str, no_wait: bool) -> Result<(), Failure> {
    let mut client = Client::connect(socket)?;
    let name = find(&client.list()?, pipe)?;
    // Before it is stopped: so its end is not missed.
    let told = if no_wait {
        Ok(())
    } else {
        client.subscribe(Some(&name))
    };
    match told.and_then(|()| client.stop(&name)) {
        Ok(()) if no_wait => Ok(()),
        Ok(()) => wait_for_end(&mut client, &name),
        // It was over already: what is wanted is so.
        Err(ClientError::Refused(refusal)) if refusal.code == RefusalCode::OVER => {
            let entry = client.status(&name)?.entry;
            ended(&name, entry.state, &entry.explanation)
        }
        Err(error) => Err(error.into()),
    }
}

fn wait_for_end(client: &mut Client, name: &str) -> Result<(), Failure> {
    loop {
        match client.next_event(Duration::from_secs(3600))? {
            Some(PipeEvent {
                kind: EventKind::OVER,
                state: Some(state),
                text,
                ..
            }) => {
                return ended(name, state, &text.unwrap_or_default());
            }
            // The one that tells of the end may be among them.
            Some(PipeEvent {
                kind: EventKind::LOST,
                ..
            }) => {
                let entry = client.status(name)?.entry;
                if entry.state.is_over() {
                    return ended(name, entry.state, &entry.explanation);
                }
            }
            _ => {}
        }
    }
}

/// What becomes of the command that was to stop a pipe that is over.
fn ended(name: &str, state: PipeState, why: &str) -> Result<(), Failure> {
    match state {
        PipeState::FAILED => Err(Failure {
            message: format!("{name} had failed: {why}"),
            exit: FAILED,
        }),
        _ => Ok(()),
    }
}

/// The pipe that is meant: by its name; by its label, or by the beginning of its name, if that is
/// one pipe's only.
fn find(entries: &[PipeEntry], wanted: &str) -> Result<String, Failure> {
    if let Some(entry) = entries.iter().find(|entry| entry.name == wanted) {
        return Ok(entry.name.clone());
    }
    let meant = |entry: &&PipeEntry| entry.label == wanted || entry.name.starts_with(wanted);
    let mut found: Vec<_> = entries.iter().filter(meant).collect();
    // Of those with one label, the one that lives is meant.
    if found.len() > 1 && found.iter().any(|entry| !entry.state.is_over()) {
        found.retain(|entry| !entry.state.is_over());
    }
    match &found[..] {
        [entry] => Ok(entry.name.clone()),
        [] => Err(Failure {
            message: format!("there is no pipe \"{wanted}\""),
            exit: USAGE,
        }),
        several => {
            let names: Vec<_> = several
                .iter()
                .map(|entry| format!("\n  {}", entry.name))
                .collect();
            let message = format!(
                "\"{wanted}\" may be one of several pipes: say which{}",
                names.concat()
            );
            Err(Failure {
                message,
                exit: USAGE,
            })
        }
    }
}

fn stop_on_signals(stop: Stop) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            signals.forever().for_each(|_| stop.stop());
        })?;
    Ok(())
}

fn columns() -> usize {
    let columns = tcgetwinsize(stdout()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { COLUMNS } else { columns }
}

/// Says what was asked for.
fn say(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure {
            message: format!("cannot write to standard output: {error}"),
            exit: FAILED,
        })
}

/// Says what an administrator, or a user, should know.
fn warn(text: &str) {
    // Nobody is left to be told if standard error is closed.
    let _ = writeln!(stderr(), "datapiped: {}", show::harmless(text));
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self {
            message: error.to_string(),
            exit: FAILED,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self {
            message: error.to_string(),
            exit: USAGE,
        }
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        Self {
            message: error.to_string(),
            exit: FAILED,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            message: error.to_string(),
            exit: FAILED,
        }
    }
}
