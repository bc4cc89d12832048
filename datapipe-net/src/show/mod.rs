//! Lists and statuses, as tables and as a screen for a terminal, and as JSON for programs. Text of
//! a client is escaped: no terminal takes it as a command.
//!
//! This module does not talk to the daemon, and does not decide when to redraw.

mod certificates; // certificates of an authority
mod find; // the pipe that a user names
mod json; // JSON for programs
mod line; // lines with emphasis
mod rate_history; // rates of the last minute
mod records; // problems, and pipes of the history
mod screen; // the screen of a watch
mod table; // tables for people
mod text; // escaped names, their width, and times
mod watch; // pipes that a screen shows

pub use certificates::{certificates_table, date};
pub use find::{Purpose, find};
pub use json::{entry_json, status_json};
pub use line::{Line, Tone};
pub use records::{history_table, past_pipe_json, problems_json, problems_text};
pub use table::{list_table, status_table};
pub(crate) use text::utc;
pub use text::{clock, escaped, escaped_line};
pub use watch::Watch;
