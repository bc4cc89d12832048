//! Results of jobs that read an archive.

use crate::boundary::{OutSlot, versioned};
use crate::job::ReadDone;
use crate::status::dp_status;

use super::backup::status_of;
use super::hooks::nanoseconds;

/// Result of a restore, a verification or a list.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_read_result {
    /// `sizeof(dp_read_result)`: set it before the call.
    pub size: usize,
    /// Files that were restored whole, verified, or listed. 0 for the restore or the verification
    /// of a stream.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else: links, further names of files, fifos, devices.
    pub others: u64,
    /// Problems. The status is `DP_INCOMPLETE` if there are any.
    pub problems: u64,
    /// Objects of a tree, or parts of a stream, that are known to be damaged or lost.
    pub damaged: u64,
    /// Bytes of blocks that were read from the medium.
    pub bytes_in: u64,
    /// Bytes that the last stage has received.
    pub bytes_out: u64,
    /// Blocks that were read.
    pub blocks: u64,
    /// Time of the pipe in nanoseconds.
    pub elapsed_ns: u64,
    /// Volumes that were read.
    pub volumes: u32,
    /// 1 if the archive was read to its end and is complete, else 0. A job that reads a part of the
    /// archive does not see its end.
    pub complete: u32,
    /// 1 if the secret has opened the archive, so that its content is authentic; 0 without a
    /// secret. An identity does not prove the writer of the archive.
    pub authenticated: u32,
    /// 0.
    pub reserved: u32,
    /// Hash of the archive's header, which no other archive has.
    pub header_hash: [u8; 32],
}

versioned!(dp_read_result, first: 128, {
    size, files, directories, others, problems, damaged, bytes_in, bytes_out, blocks, elapsed_ns,
    volumes, complete, authenticated, reserved, header_hash
});

/// Writes the result of a job, and returns its status.
pub(super) fn write_result(done: &ReadDone, result: Option<OutSlot<dp_read_result>>) -> dp_status {
    let value = dp_read_result {
        size: size_of::<dp_read_result>(),
        files: done.files,
        directories: done.directories,
        others: done.others,
        problems: done.problems,
        damaged: done.damaged,
        bytes_in: done.bytes_in,
        bytes_out: done.bytes_out,
        blocks: done.blocks,
        elapsed_ns: nanoseconds(done.elapsed),
        volumes: done.volumes,
        complete: done.is_complete.into(),
        authenticated: done.is_authenticated.into(),
        reserved: 0,
        header_hash: done.header_hash,
    };
    if let Some(result) = result {
        result.write(&value);
    }
    status_of(done.problems)
}
