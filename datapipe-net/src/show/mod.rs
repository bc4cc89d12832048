//! Lists and statuses, as tables for a terminal and as JSON for programs. Text of a client is
//! escaped: no terminal takes it as a command.
//!
//! This module does not talk to the daemon, and does not decide when to redraw.

mod json; // JSON for programs
mod records; // problems, and pipes of the history
mod table; // tables for people
mod text; // escaped names, and times

pub use json::{entry_json, status_json};
pub use records::{history_table, past_pipe_json, problems_json, problems_text};
pub use table::{list_table, status_table};
pub use text::{clock, escaped, escaped_line};
