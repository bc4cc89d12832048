//! The commands `list` and `status`.

use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::time::Duration;

use datapipe_net::client::{Client, ClientError};
use datapipe_net::protocol::{PipeStatus, RefusalCode};
use datapipe_net::show;
use datapipe_net::socket::{ChannelError, Deadline, Stop};

use crate::arguments::StatusArgs;
use crate::failure::Failure;
use crate::find::find;
use crate::output::{columns, print};
use crate::signals::stop_on_signals;

/// Sequence that clears a terminal before a table is redrawn: cursor to the top left, erase the
/// screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Prints the list of pipes.
pub(crate) fn list(socket: &Path, json: bool) -> Result<(), Failure> {
    let entries = Client::connect(socket)?.list()?;
    if json {
        let pipes: Vec<_> = entries.iter().map(show::entry_json).collect();
        return print(&format!("{}\n", serde_json::json!({ "pipes": pipes })));
    }
    print(&show::list_table(&entries, columns()))
}

/// Prints the status of the pipes, once or until they have ended.
pub(crate) fn status(arguments: &StatusArgs) -> Result<(), Failure> {
    let redraws = stdout().is_terminal() && !arguments.json && !arguments.once;
    let default = redraws.then_some(Duration::from_secs(1));
    let interval = arguments.interval.or(default);
    let stop = Stop::new()?;
    if interval.is_some() {
        stop_on_signals(stop.clone())?;
    }
    match watch(arguments, interval, stop) {
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

/// Prints statuses at each interval, or once without one. Rates cover the time since the previous
/// status.
fn watch(arguments: &StatusArgs, interval: Option<Duration>, stop: Stop) -> Result<(), WatchEnd> {
    let json = arguments.json;
    let mut client = Client::connect_until(&arguments.daemon.socket, stop)?;
    let name = match &arguments.pipe {
        Some(pipe) => Some(find(&client.list()?, pipe).map_err(WatchEnd::Failed)?),
        None => None,
    };
    let clear = interval.is_some() && !json && stdout().is_terminal();
    let mut before: Vec<PipeStatus> = Vec::new();
    loop {
        let now = statuses(&mut client, name.as_deref())?;
        let mut text = String::from(if clear { CLEAR } else { "" });
        text += &if json {
            json_line(&now, &before)
        } else {
            tables(&now, &before)
        };
        print(&text).map_err(WatchEnd::Failed)?;
        let ended = now.iter().all(|status| status.entry.state.is_final());
        let Some(interval) = interval.filter(|_| !ended) else {
            return Ok(());
        };
        before = now;
        match client.wait(Deadline::after(interval)) {
            Err(ClientError::Channel(ChannelError::TooSlow)) => {}
            other => other?,
        }
    }
}

/// Statuses of the live pipes, or of the one named `name`, which may have ended.
fn statuses(client: &mut Client, name: Option<&str>) -> Result<Vec<PipeStatus>, ClientError> {
    if let Some(name) = name {
        return Ok(vec![client.status(name)?]);
    }
    let mut statuses = Vec::new();
    let entries = client.list()?;
    for entry in entries.iter().filter(|entry| !entry.state.is_final()) {
        match client.status(&entry.name) {
            Ok(status) => statuses.push(status),
            // The pipe ended after the list was made, and so many others did that the daemon has
            // forgotten it.
            Err(ClientError::Refused(refusal)) if refusal.code == RefusalCode::NO_SUCH_PIPE => {}
            Err(error) => return Err(error),
        }
    }
    Ok(statuses)
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
