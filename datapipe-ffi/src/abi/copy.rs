//! The copy of an archive.

use datapipe::limits::{MAX_RECORD, MIN_RECORD};
use datapipe::media::VolumeOptions;

use crate::boundary::{In, Out, Text, call, versioned};
use crate::failure::Failure;
use crate::job::{Copy, CopyDone, WriteMode};
use crate::status::{DP_ERR_ARGUMENT, dp_status};

use super::backup::{framing_of, mode_of, status_of};
use super::hooks::{dp_hooks, hooks_of, nanoseconds};
use super::medium::{check_volume_size, dp_medium};
use super::secret::{dp_secret, secret_of};
use super::selection::{dp_selection, medium_of, selection_of};

/// Options of a copy. Fields that are 0 have their default.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_copy_options {
    /// `sizeof(dp_copy_options)`.
    pub size: usize,
    /// Path of the medium with the archive.
    pub medium: Text,
    /// Archive on a medium with several, or NULL.
    pub selection: In<dp_selection>,
    /// Path of the medium of the copy.
    pub target: Text,
    /// Label of the copy's volumes, for people, in UTF-8, at most 64 bytes; NULL for none.
    pub label: Text,
    /// Progress, problems and cancellation, or NULL.
    pub hooks: In<dp_hooks>,
    /// Largest size of a volume of the copy in bytes; 0 for the free space of the file system.
    pub volume_size: u64,
    /// Length of a record in bytes, 1 KiB to 16 MiB; 0 for that of the source.
    pub record_len: u64,
    /// `DP_MEDIUM_...`, of the source.
    pub medium_kind: i32,
    /// `DP_MEDIUM_...`, of the copy.
    pub target_kind: i32,
    /// `DP_WRITE_...`.
    pub mode: i32,
    /// `DP_FRAMING_...`.
    pub framing: i32,
    /// For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium with the archive, or NULL.
    pub medium_functions: In<dp_medium>,
    /// For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium of the copy, or NULL.
    pub target_functions: In<dp_medium>,
    /// Secret that opens the names of encrypted archives, for a selection by name, or NULL. The
    /// copy is encrypted as the archive is.
    pub secret: In<dp_secret>,
}

versioned!(dp_copy_options, first: 104, {
    size, medium, selection, target, label, hooks, volume_size, record_len, medium_kind,
    target_kind, mode, framing,
    medium_functions, target_functions, secret
});

/// Result of a copy.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_copy_result {
    /// `sizeof(dp_copy_result)`: set it before the call.
    pub size: usize,
    /// Problems: the archive could not be read completely, and its copy is not complete. The status
    /// is `DP_INCOMPLETE` if there are any.
    pub problems: u64,
    /// Bytes that were written to the medium, without headers.
    pub bytes_out: u64,
    /// Blocks of the copy.
    pub blocks: u64,
    /// Time of the pipe in nanoseconds.
    pub elapsed_ns: u64,
    /// Volumes that have the copy.
    pub volumes: u32,
    /// 0.
    pub reserved: u32,
    /// Hash of the archive's header, which the copy has, too.
    pub header_hash: [u8; 32],
}

versioned!(dp_copy_result, first: 80, {
    size, problems, bytes_out, blocks, elapsed_ns, volumes, reserved, header_hash
});

/// Copies an archive to another medium, as it is stored: a secret is not needed, and the same
/// secret opens the copy.
///
/// `options` and what it refers to are copied: they can be freed when the call returns. `result`
/// may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
///
/// Threads: any; several jobs may run at once. Not in a signal handler. Errors: as `dp_backup` and
/// `dp_verify`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_copy(options: In<dp_copy_options>, result: Out<dp_copy_result>) -> dp_status {
    call(|| {
        let result = result.check()?;
        let options = options.read_needed()?;
        let mut hooks = hooks_of(options.hooks)?;
        let done = copy_of(&options)?.run(&mut hooks)?;
        if let Some(result) = result {
            result.write(&result_of(&done));
        }
        Ok(status_of(done.problems))
    })
}

fn copy_of(options: &dp_copy_options) -> Result<Copy, Failure> {
    let mode = mode_of(options.mode)?;
    let record_len = match usize::try_from(options.record_len) {
        Ok(0) => None,
        Ok(len) if (MIN_RECORD..=MAX_RECORD).contains(&len) => Some(len),
        _ => {
            let len = options.record_len;
            let text = format!("record_len is {len}, but has to be {MIN_RECORD} to {MAX_RECORD}");
            return Err(Failure::new(DP_ERR_ARGUMENT, text));
        }
    };
    let to = medium_of(
        options.target,
        options.target_kind,
        options.target_functions,
        "target",
    )?;
    check_volume_size(&to, options.volume_size)?;
    Ok(Copy {
        from: medium_of(
            options.medium,
            options.medium_kind,
            options.medium_functions,
            "medium",
        )?,
        selection: selection_of(options.selection)?,
        secret: secret_of(options.secret)?,
        to,
        mode,
        volumes: VolumeOptions::default()
            .volume_size(Some(options.volume_size).filter(|size| *size > 0))
            .label(options.label.utf8("label")?.unwrap_or_default())
            .overwrite(mode == WriteMode::Overwrite),
        framing: framing_of(options.framing)?,
        record_len,
    })
}

fn result_of(done: &CopyDone) -> dp_copy_result {
    dp_copy_result {
        size: size_of::<dp_copy_result>(),
        problems: done.problems,
        bytes_out: done.bytes,
        blocks: done.blocks,
        elapsed_ns: nanoseconds(done.elapsed),
        volumes: done.volumes,
        reserved: 0,
        header_hash: done.header_hash,
    }
}
