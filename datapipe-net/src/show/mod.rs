//! Lists and statuses for a terminal, and for machines. Nothing of a name reaches a terminal as a
//! command.
//!
//! Does not ask the daemon, and does not know when to redraw.

mod json; // for machines
mod table; // for people
mod text; // names and times on one line

pub use json::{entry_json, status_json};
pub use table::{entries, pipe};
pub use text::{clock, harmless, line};
