//! The pipe that a command names.

use datapipe_net::protocol::PipeEntry;

use crate::failure::{Failure, USAGE};

/// Returns the name of the pipe that `wanted` names: its name, or else its label or the beginning
/// of its name, if only one pipe matches. If several match and some live, the ended ones do not
/// count.
pub(crate) fn find(entries: &[PipeEntry], wanted: &str) -> Result<String, Failure> {
    if let Some(entry) = entries.iter().find(|entry| entry.name == wanted) {
        return Ok(entry.name.clone());
    }
    let matches = |entry: &&PipeEntry| entry.label == wanted || entry.name.starts_with(wanted);
    let mut found: Vec<_> = entries.iter().filter(matches).collect();
    if found.len() > 1 && found.iter().any(|entry| !entry.state.is_final()) {
        found.retain(|entry| !entry.state.is_final());
    }
    let usage = |message| {
        Err(Failure {
            message,
            exit: USAGE,
        })
    };
    match &found[..] {
        [entry] => Ok(entry.name.clone()),
        [] => usage(format!("there is no pipe \"{wanted}\"")),
        several => {
            let names: Vec<_> = several
                .iter()
                .map(|entry| format!("\n  {}", entry.name))
                .collect();
            let names = names.concat();
            usage(format!(
                "several pipes match \"{wanted}\", name one:{names}"
            ))
        }
    }
}
