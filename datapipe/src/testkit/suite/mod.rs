//! Suites through which stages and media of a caller's own are run. Each names the part of the
//! contract that is broken, and shows the place.
//!
//! ```text
//!   Suite --head, stage, port, tail, medium--> pipes on threads, inline, in processes
//!                                                  |  what arrives, and how the pipe ends
//!                                      Contract <--+--> Difference: block, offset, 16 bytes
//! ```

mod contract; // the parts of the contracts, and the failure that names one
mod difference; // the first difference between two streams
mod ends; // the suites of heads and tails
mod medium; // the suite of media
mod medium_items; // records and marks that the suite writes and reads
mod middle; // the suites of stages between two queues
mod run; // pipes that a suite runs, and waits for

pub use middle::check_stage;
pub use run::Suite;
