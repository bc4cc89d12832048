//! The command `stop`.

use std::path::Path;
use std::time::Duration;

use datapipe_net::client::{Client, ClientError};
use datapipe_net::protocol::{EventKind, PipeEntry, PipeEvent, PipeState, RefusalCode};
use datapipe_net::show::{self, Purpose};

use crate::failure::{FAILED, Failure, INCOMPLETE};
use crate::find::find;
use crate::output::print;

/// Stops a pipe and, unless `no_wait`, waits until it has ended.
pub(crate) fn stop(socket: &Path, pipe: &str, no_wait: bool) -> Result<(), Failure> {
    let mut client = Client::connect(socket)?;
    let entry = find(&client.list()?, pipe, Purpose::Stop)?.clone();
    let name = entry.name.clone();
    // The subscription precedes the stop, so that it includes the event of the end.
    let subscribed = if no_wait {
        Ok(())
    } else {
        client.subscribe(Some(&name))
    };
    match subscribed.and_then(|()| client.stop(&name)) {
        Ok(()) if no_wait => Ok(()),
        Ok(()) => wait_for_end(&mut client, entry),
        // The pipe has ended already, as the user wants.
        Err(ClientError::Refused(refusal)) if refusal.code == RefusalCode::OVER => {
            let entry = client.status(&name)?.entry;
            outcome(&entry, "had ended before, and was not stopped now: ")
        }
        Err(error) => Err(error.into()),
    }
}

fn wait_for_end(client: &mut Client, mut entry: PipeEntry) -> Result<(), Failure> {
    loop {
        match client.next_event(Duration::from_secs(3600))? {
            Some(PipeEvent {
                kind: EventKind::OVER,
                state: Some(state),
                text,
                ..
            }) => {
                (entry.state, entry.explanation) = (state, text.unwrap_or_default());
                return outcome(&entry, "");
            }
            // The event of the end may be among the lost ones.
            Some(PipeEvent {
                kind: EventKind::LOST,
                ..
            }) => {
                let entry = client.status(&entry.name)?.entry;
                if entry.state.is_final() {
                    return outcome(&entry, "");
                }
            }
            _ => {}
        }
    }
}

/// Prints the outcome of a pipe that has ended; `before` precedes its state. Only a failed pipe is
/// a failure.
fn outcome(entry: &PipeEntry, before: &str) -> Result<(), Failure> {
    let (name, label) = (&entry.name, &entry.label);
    let (state, why) = (entry.state, &entry.explanation);
    let colon = match (state, &**why) {
        (_, "") => "",
        (PipeState::STOPPED, _) => " ",
        _ => ": ",
    };
    let message = format!("{name} \"{label}\": {before}{state}{colon}{why}");
    match state {
        PipeState::FAILED => Err(Failure {
            message,
            exit: FAILED,
        }),
        PipeState::INCOMPLETE => Err(Failure {
            message,
            exit: INCOMPLETE,
        }),
        _ => print(&format!("{}\n", show::escaped_line(&message))),
    }
}
