//! The command `problems`.

use std::path::Path;

use datapipe_net::Client;
use datapipe_net::protocol::PipeState;
use datapipe_net::show::{self, Purpose};

use crate::failure::{FAILED, Failure, INCOMPLETE};
use crate::find::find;
use crate::output::print;

/// Prints the last problems of a pipe. A pipe that is incomplete has the exit code 3, and one that
/// failed or was stopped has 1: that it counted no problem does not mean that all is well.
pub(crate) fn problems(socket: &Path, pipe: &str, json: bool) -> Result<(), Failure> {
    let mut client = Client::connect(socket)?;
    let entries = client.list()?;
    let name = &find(&entries, pipe, Purpose::Last)?.name;
    let problems = client.problems(name)?;
    print(&match json {
        true => format!("{}\n", show::problems_json(name, &problems)),
        false => show::problems_text(&problems),
    })?;
    let entry = client.status(name)?.entry;
    match entry.state {
        PipeState::INCOMPLETE => Err(Failure {
            message: format!("{name} is incomplete"),
            exit: INCOMPLETE,
        }),
        PipeState::FAILED | PipeState::STOPPED => {
            let colon = if entry.state == PipeState::FAILED {
                ":"
            } else {
                ""
            };
            Err(Failure {
                message: format!("{name} {}{colon} {}", entry.state, entry.explanation),
                exit: FAILED,
            })
        }
        _ => Ok(()),
    }
}
