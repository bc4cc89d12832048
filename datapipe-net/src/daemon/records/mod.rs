//! Records of the daemon's work: the history of pipes, their problems, and the metrics.
//!
//! ```text
//!   a pipe ends -> history -> history_file      a queue, a thread of its own, a file
//!   a problem   -> problem_list                 the last ones of each pipe
//!   any event   -> counters -> metrics -> metrics_text -> a client, or metrics_file
//! ```
//!
//! Nothing here makes a pipe or a client wait for a disk.

mod counters; // counts for the metrics
mod history; // the last pipes that have ended
mod history_file; // the file of the history
mod metrics; // the metrics of this moment
mod metrics_file; // the file for a collector
mod metrics_text; // text of metrics
mod problem_list; // the last problems of a pipe

pub(super) use counters::Counters;
pub(super) use history::History;
pub(super) use history_file::attach as attach_history;
pub(super) use metrics::metrics;
pub(super) use metrics_file::MetricsFile;
pub(super) use metrics_text::Form;
pub(super) use problem_list::ProblemList;
