//! The commands `history` and `metrics`.

use std::path::Path;

use datapipe_net::Client;
use datapipe_net::show;

use crate::failure::Failure;
use crate::output::{columns, print};

/// Prints the last pipes that have ended, the newest first.
pub(crate) fn history(socket: &Path, limit: Option<u32>, json: bool) -> Result<(), Failure> {
    let pipes = Client::connect(socket)?.history(limit)?;
    if json {
        let pipes: Vec<_> = pipes.iter().map(show::past_pipe_json).collect();
        return print(&format!("{}\n", serde_json::json!({ "pipes": pipes })));
    }
    print(&show::history_table(&pipes, columns()))
}

/// Prints the metrics of the daemon.
pub(crate) fn metrics(socket: &Path) -> Result<(), Failure> {
    print(&Client::connect(socket)?.metrics()?)
}
