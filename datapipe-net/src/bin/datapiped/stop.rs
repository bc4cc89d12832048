//! The command `stop`.

use std::path::Path;
use std::time::Duration;

use datapipe_net::client::{Client, ClientError};
use datapipe_net::protocol::{EventKind, PipeEvent, PipeState, RefusalCode};

use crate::failure::{FAILED, Failure, INCOMPLETE};
use crate::find::find;

/// Stops a pipe and, unless `no_wait`, waits until it has ended.
pub(crate) fn stop(socket: &Path, pipe: &str, no_wait: bool) -> Result<(), Failure> {
    let mut client = Client::connect(socket)?;
    let name = find(&client.list()?, pipe)?;
    // The subscription precedes the stop, so that it includes the event of the end.
    let subscribed = if no_wait {
        Ok(())
    } else {
        client.subscribe(Some(&name))
    };
    match subscribed.and_then(|()| client.stop(&name)) {
        Ok(()) if no_wait => Ok(()),
        Ok(()) => wait_for_end(&mut client, &name),
        // The pipe has ended already, as the user wants.
        Err(ClientError::Refused(refusal)) if refusal.code == RefusalCode::OVER => {
            let entry = client.status(&name)?.entry;
            outcome(&name, entry.state, &entry.explanation)
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
                return outcome(name, state, &text.unwrap_or_default());
            }
            // The event of the end may be among the lost ones.
            Some(PipeEvent {
                kind: EventKind::LOST,
                ..
            }) => {
                let entry = client.status(name)?.entry;
                if entry.state.is_final() {
                    return outcome(name, entry.state, &entry.explanation);
                }
            }
            _ => {}
        }
    }
}

/// Result of the command for a pipe that has ended. One that was stopped has done what the user
/// wants.
fn outcome(name: &str, state: PipeState, why: &str) -> Result<(), Failure> {
    match state {
        PipeState::FAILED => Err(Failure {
            message: format!("{name} had failed: {why}"),
            exit: FAILED,
        }),
        PipeState::INCOMPLETE => Err(Failure {
            message: format!("{name} had ended, but is incomplete: {why}"),
            exit: INCOMPLETE,
        }),
        _ => Ok(()),
    }
}
