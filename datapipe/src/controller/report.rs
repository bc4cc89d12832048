//! Result of a pipe that ended well.

use std::fmt;

use super::byte_count::ByteCount;
use super::status::Status;

/// Result of a pipe that ended well. Prints as one line: bytes, time, throughput, limiting stage.
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
}

impl Report {
    pub(super) fn new(label: String, chain: String, status: Status) -> Self {
        Self {
            label,
            chain,
            status,
        }
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
        match self.status.limit() {
            Some(limit) => write!(f, ", limited by {limit}"),
            None => Ok(()),
        }
    }
}
