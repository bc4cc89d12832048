//! Lists and statuses, as tables for a terminal and as JSON for programs. Text of a client is
//! escaped: no terminal takes it as a command.
//!
//! This module does not talk to the daemon, and does not decide when to redraw.

mod json; // JSON for programs
mod table; // tables for people
mod text; // escaped names, and times

pub use json::{entry_json, status_json};
pub use table::{list_table, status_table};
pub use text::{clock, escaped, escaped_line};
