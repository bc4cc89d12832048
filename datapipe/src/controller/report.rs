//! Result of a pipe that ended well.

use std::fmt;

use crate::words::count_of;

use super::byte_count::ByteCount;
use super::status::Status;

/// Result of a pipe that ended well. Prints as one line: bytes, time, throughput, limiting stage,
/// and the number of problems if there are any.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The pipe's label.
    pub label: String,
    /// The chain, as the plan prints it.
    pub chain: String,
    /// The last status.
    pub status: Status,
    /// Number of problems that the stages have counted while they went on: objects that were not
    /// read as they were, damaged or missing blocks, names that were not restored. The reports of
    /// the stages have them one by one.
    ///
    /// These count: `problem_count` of a [`TreeOutcome`](crate::tree::TreeOutcome) and of a
    /// [`RestoreOutcome`](crate::tree::RestoreOutcome), `count` of a
    /// [`DamageOutcome`](crate::stage::DamageOutcome), blocks that an inspection rejected, now or
    /// when the archive was written, and each
    /// [`StageMessage::problem`](crate::host::StageMessage::problem). A log that several stages
    /// share counts once. What is left out on purpose does not count. A pipe that reads an archive
    /// without its [check](crate::archive::ArchiveHead::check) has one: nothing but the head says
    /// that all of it came.
    pub problems: u64,
}

impl Report {
    pub(super) fn new(label: String, chain: String, status: Status, problems: u64) -> Self {
        Self {
            label,
            chain,
            status,
            problems,
        }
    }

    /// True if the pipe has done all of its work: no stage has counted a problem. The programs of
    /// this project end with the exit code 3 if this is false.
    ///
    /// ```
    /// use datapipe::prelude::*;
    ///
    /// let report = Pipe::builder()
    ///     .head(StreamHead::new(&b"some data"[..]))
    ///     .tail(StreamTail::new(std::io::sink()))
    ///     .run()?;
    /// assert!(report.is_complete() && report.problems == 0);
    /// # Ok::<(), datapipe::Error>(())
    /// ```
    pub fn is_complete(&self) -> bool {
        self.problems == 0
    }

    /// Bytes that the head sent.
    pub fn bytes_in(&self) -> u64 {
        self.status.bytes_in()
    }

    /// Bytes that the tail received.
    pub fn bytes_out(&self) -> u64 {
        self.status.bytes_out()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.status.elapsed.as_secs_f64();
        let (bytes_in, bytes_out) = (ByteCount(self.bytes_in()), ByteCount(self.bytes_out()));
        write!(
            f,
            "{}: {bytes_in} in, {bytes_out} out, {seconds:.1} s, {}/s",
            self.label,
            ByteCount(self.status.throughput() as u64)
        )?;
        if let Some(limit) = self.status.limit() {
            write!(f, ", limited by {limit}")?;
        }
        match self.problems {
            0 => Ok(()),
            problems => write!(f, ", {}", count_of(problems, "problem")),
        }
    }
}
