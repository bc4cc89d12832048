//! The error for a segment that cannot be made, or is not one that can be used.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::shape::ShapeError;

/// A segment could not be made, or is not one that can be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum SegmentError {
    /// The pool is larger than the address space.
    TooLarge,
    /// The machine does not have the memory that the pool asks for.
    Memory {
        /// Bytes asked for.
        bytes: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The pool asks for more memory than the machine has available.
    NotAvailable {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes that the machine has available.
        available: u64,
    },
    /// The pool asks for more memory than a control group of this process has left of its limit.
    ControlGroup {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes that are left of the limit, with the contents of files that the kernel would drop.
        available: u64,
        /// Limit of the group in bytes.
        limit: u64,
        /// File that has the limit.
        setting: PathBuf,
        /// Bytes that the machine has available, if that is known.
        machine: Option<u64>,
    },
    /// A system call failed.
    System {
        /// The call.
        call: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A named segment could not be mapped by its name.
    Named {
        /// The call: `open`.
        call: &'static str,
        /// Error of the library that makes the call.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The memory does not start like a segment.
    NotASegment,
    /// Its creator has not finished it, or died while doing so.
    NotReady,
    /// Its creator speaks another version.
    Version {
        /// The version in the segment.
        theirs: u32,
        /// The version of this library.
        ours: u32,
    },
    /// Its creator lays the tables out differently: another build, another page size.
    Layout,
    /// It is shorter than its header says.
    Truncated {
        /// Bytes there are.
        have: u64,
        /// Bytes there should be.
        need: u64,
    },
    /// Its creator did not seal it, and could shrink it while it is mapped.
    Unsealed,
    /// It is another user's, or others may write to it.
    Foreign {
        /// The user that owns it.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// This build of the library does not make named segments: it omits the feature
    /// `named-segments`.
    NamedOmitted,
    /// A named segment cannot have huge pages.
    NamedHugePages,
    /// Its header describes an impossible shape.
    Shape(ShapeError),
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(
                f,
                "the buffer pool is larger than this machine's address space"
            ),
            Self::Memory { bytes, source } => write!(
                f,
                "cannot reserve {} MiB of shared memory for the buffer pool: {source}; use fewer \
                 or smaller buffers, or fewer instances",
                bytes.div_ceil(1 << 20)
            ),
            Self::NotAvailable { bytes, available } => write!(
                f,
                "the buffer pool takes {} MiB of memory, but only {} MiB are available; use fewer \
                 or smaller buffers, or fewer instances",
                bytes.div_ceil(1 << 20),
                available >> 20
            ),
            Self::ControlGroup { .. } => self.write_control_group(f),
            Self::System { call, source } => {
                write!(
                    f,
                    "{call} failed for the shared-memory segment: {source}{}",
                    advice(source)
                )
            }
            Self::Named { call, source } => {
                write!(f, "cannot {call} the named shared-memory segment: {source}")
            }
            Self::NotASegment => write!(f, "this memory is not a DataPipe segment"),
            Self::NotReady => write!(f, "the segment's creator has not finished it"),
            Self::Version { theirs, ours } => {
                write!(
                    f,
                    "the segment has version {theirs}, this library speaks version {ours}"
                )
            }
            Self::Layout => {
                f.write_str("the segment is laid out differently: its creator is another build")
            }
            Self::Truncated { have, need } => {
                write!(
                    f,
                    "the segment has {have} bytes, but its header needs {need}"
                )
            }
            Self::Unsealed => {
                write!(
                    f,
                    "the segment is not sealed: its creator could shrink it while it is in use"
                )
            }
            Self::Foreign { owner, mode } => {
                write!(
                    f,
                    "the named segment belongs to user {owner} with mode {mode:o}; it must be ours \
                     alone"
                )
            }
            Self::NamedOmitted => f.write_str(
                "this program was built without named segments; enable the feature \
                 \"named-segments\" of the package datapipe-sdk, or use an anonymous segment",
            ),
            Self::NamedHugePages => {
                f.write_str("a named segment cannot have huge pages; use an anonymous one")
            }
            Self::Shape(error) => write!(f, "the segment's header is impossible: {error}"),
        }
    }
}

impl SegmentError {
    fn write_control_group(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::ControlGroup {
            bytes,
            available,
            limit,
            setting,
            machine,
        } = self
        else {
            return Ok(());
        };
        write!(
            f,
            "the buffer pool takes {} MiB of memory, but only {} MiB are left of {} MiB, the limit \
             of the control group in {}",
            bytes.div_ceil(1 << 20),
            available >> 20,
            limit >> 20,
            setting.display()
        )?;
        if let Some(machine) = machine {
            write!(f, " (the machine has {} MiB available)", machine >> 20)?;
        }
        f.write_str("; use fewer or smaller buffers, or fewer instances, or raise the limit")
    }
}

/// Returns what to do about an error of the system, if a limit of the process caused it.
fn advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOMEM) => {
            "; use fewer or smaller buffers, or raise the limit of this process (ulimit -v)"
        }
        Some(libc::EFBIG) => {
            "; raise the limit of this process for files (ulimit -f), which holds for memory too, \
             or use fewer or smaller buffers"
        }
        Some(libc::EMFILE) => "; raise the limit of open files (ulimit -n)",
        _ => "",
    }
}

impl Error for SegmentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Memory { source, .. } | Self::System { source, .. } => Some(source),
            Self::Named { source, .. } => Some(source.as_ref()),
            Self::Shape(error) => Some(error),
            Self::TooLarge
            | Self::NotAvailable { .. }
            | Self::ControlGroup { .. }
            | Self::NotASegment
            | Self::NotReady
            | Self::Version { .. }
            | Self::Layout
            | Self::Truncated { .. }
            | Self::Unsealed
            | Self::Foreign { .. }
            | Self::NamedOmitted
            | Self::NamedHugePages => None,
        }
    }
}

/// Makes the error of a failed system call.
pub(super) fn system(call: &'static str) -> impl FnOnce(rustix::io::Errno) -> SegmentError {
    move |errno| SegmentError::System {
        call,
        source: errno.into(),
    }
}
