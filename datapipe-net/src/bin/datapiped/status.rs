//! The commands `list` and `status`.

use std::path::Path;
use std::time::{Duration, Instant};

use datapipe_net::client::{Client, ClientError};
use datapipe_net::protocol::{PipeStatus, RefusalCode};
use datapipe_net::show::{self, Purpose, Watch};
use datapipe_net::socket::{ChannelError, Deadline, Stop};
use rustix::event::Timespec;

use crate::arguments::StatusArgs;
use crate::failure::Failure;
use crate::find::find;
use crate::output::{columns, print};
use crate::signals::stop_on_signals;
use crate::terminal::{Terminal, Wait};

/// Prints the list of pipes.
pub(crate) fn list(socket: &Path, json: bool) -> Result<(), Failure> {
    let entries = Client::connect(socket)?.list()?;
    if json {
        let pipes: Vec<_> = entries.iter().map(show::entry_json).collect();
        return print(&format!("{}\n", serde_json::json!({ "pipes": pipes })));
    }
    print(&show::list_table(&entries, columns()))
}

/// Prints the status of the pipes once or at intervals, or shows them on a screen, until they have
/// ended.
pub(crate) fn status(arguments: &StatusArgs) -> Result<(), Failure> {
    let stop = Stop::new()?;
    let outcome = if Terminal::is_usable() && !arguments.json && !arguments.once {
        show_screen(arguments, stop)
    } else {
        if arguments.interval.is_some() {
            stop_on_signals(stop.clone())?;
        }
        watch(arguments, stop)
    };
    match outcome {
        // A signal is the regular way to leave.
        Err(WatchEnd::Stopped) => Ok(()),
        Err(WatchEnd::Failed(failure)) => Err(failure),
        Ok(()) => Ok(()),
    }
}

/// End of a watch before the pipes have ended.
enum WatchEnd {
    Stopped,
    Failed(Failure),
}

impl From<ClientError> for WatchEnd {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Channel(ChannelError::Stopped) => Self::Stopped,
            other => Self::Failed(other.into()),
        }
    }
}

impl From<Failure> for WatchEnd {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Interval at which a screen is drawn, unless the user gives another.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// Name of the only pipe to show, if the user named one.
fn only_pipe(client: &mut Client, arguments: &StatusArgs) -> Result<Option<String>, WatchEnd> {
    let Some(pipe) = &arguments.pipe else {
        return Ok(None);
    };
    let entries = client.list()?;
    Ok(Some(find(&entries, pipe, Purpose::Show)?.name.clone()))
}

/// Prints statuses at each interval, or once without one. Rates cover the time since the previous
/// status.
fn watch(arguments: &StatusArgs, stop: Stop) -> Result<(), WatchEnd> {
    let mut client = Client::connect_until(&arguments.daemon.socket, stop)?;
    let name = only_pipe(&mut client, arguments)?;
    let mut before: Vec<PipeStatus> = Vec::new();
    loop {
        let now = statuses(&mut client, name.as_deref())?;
        print(&if arguments.json {
            json_line(&now, &before)
        } else {
            tables(&now, &before)
        })?;
        let ended = now.iter().all(|status| status.entry.state.is_final());
        let Some(interval) = arguments.interval.filter(|_| !ended) else {
            return Ok(());
        };
        before = now;
        match client.wait(Deadline::after(interval)) {
            Err(ClientError::Channel(ChannelError::TooSlow)) => {}
            other => other?,
        }
    }
}

/// Shows the pipes on the screen of a terminal until they have ended or the user leaves. The last
/// statuses of pipes that have ended are printed after that.
fn show_screen(arguments: &StatusArgs, stop: Stop) -> Result<(), WatchEnd> {
    let mut client = Client::connect_until(&arguments.daemon.socket, stop.clone())?;
    let name = only_pipe(&mut client, arguments)?;
    let mut watch = Watch::default();
    watch.update(statuses(&mut client, name.as_deref())?);
    if !watch.live().is_empty() {
        let interval = arguments.interval.unwrap_or(DEFAULT_INTERVAL);
        let mut terminal = Terminal::enter(stop).map_err(Failure::from)?;
        while !watch.live().is_empty() {
            if !show(&mut terminal, &watch, interval)? {
                return Ok(());
            }
            let mut now = statuses(&mut client, name.as_deref())?;
            if name.is_none() {
                add_ended(&mut client, &watch, &mut now)?;
            }
            watch.update(now);
        }
    }
    print(&watch.tables(columns()))?;
    Ok(())
}

/// Shows the pipes for the time of an interval. Returns false if the user leaves.
fn show(terminal: &mut Terminal, watch: &Watch, interval: Duration) -> Result<bool, WatchEnd> {
    let end = Instant::now() + interval;
    loop {
        let (columns, rows) = Terminal::size();
        let lines = watch.screen(columns, rows);
        terminal
            .draw(lines, (columns, rows))
            .map_err(Failure::from)?;
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match terminal.wait(left).map_err(Failure::from)? {
            Wait::Over => return Ok(true),
            Wait::Redraw => {}
            Wait::Leave => return Ok(false),
        }
    }
}

/// Adds the statuses of pipes that have ended since the last ones.
fn add_ended(
    client: &mut Client,
    watch: &Watch,
    now: &mut Vec<PipeStatus>,
) -> Result<(), ClientError> {
    for name in watch.live() {
        if !now.iter().any(|status| status.entry.name == name) {
            now.extend(status_of(client, &name)?);
        }
    }
    Ok(())
}

/// Statuses of the live pipes, or of the one named `name`, which may have ended.
fn statuses(client: &mut Client, name: Option<&str>) -> Result<Vec<PipeStatus>, ClientError> {
    if let Some(name) = name {
        return Ok(vec![client.status(name)?]);
    }
    let mut statuses = Vec::new();
    let entries = client.list()?;
    for entry in entries.iter().filter(|entry| !entry.state.is_final()) {
        statuses.extend(status_of(client, &entry.name)?);
    }
    Ok(statuses)
}

/// Status of a pipe. `None` if it ended after the list was made, and so many others did that the
/// daemon has forgotten it.
fn status_of(client: &mut Client, name: &str) -> Result<Option<PipeStatus>, ClientError> {
    match client.status(name) {
        Ok(status) => Ok(Some(status)),
        Err(ClientError::Refused(refusal)) if refusal.code == RefusalCode::NO_SUCH_PIPE => Ok(None),
        Err(error) => Err(error),
    }
}

/// Earlier status of the same pipe.
fn earlier<'s>(before: &'s [PipeStatus], now: &PipeStatus) -> Option<&'s PipeStatus> {
    before
        .iter()
        .find(|status| status.entry.name == now.entry.name)
}

fn json_line(now: &[PipeStatus], before: &[PipeStatus]) -> String {
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
        .map(|status| show::status_table(status, earlier(before, status), columns));
    tables.collect::<Vec<_>>().join("\n")
}
