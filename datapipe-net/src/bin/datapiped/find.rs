//! The pipe that a command names.

use datapipe_net::config::User;
use datapipe_net::protocol::PipeEntry;
use datapipe_net::show::{self, Purpose};

use crate::failure::{Failure, USAGE};
use crate::output::columns;

/// Returns the entry of the pipe that the user names.
pub(crate) fn find<'e>(
    entries: &'e [PipeEntry],
    wanted: &str,
    purpose: Purpose,
) -> Result<&'e PipeEntry, Failure> {
    show::find(entries, wanted, User::own(), purpose, columns()).map_err(|message| Failure {
        message,
        exit: USAGE,
    })
}
