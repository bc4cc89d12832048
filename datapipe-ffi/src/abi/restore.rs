//! The restore of an archive.

use crate::boundary::{
    In, Out, Text, TextList, User, call, check_reserved, duplicate, take, versioned,
};
use crate::failure::Failure;
use crate::job::{CallbackWriter, Restore, RestoreTarget};
use crate::status::{DP_ERR_ARGUMENT, dp_status};

use super::backup::{check_flags, instances_of};
use super::hooks::{dp_hooks, hooks_of};
use super::medium::dp_medium;
use super::read_result::{dp_read_result, write_result};
use super::secret::{dp_secret, secret_of, unknown};
use super::selection::{dp_selection, medium_of, selection_of};

/// Destination of a restore: the directory `destination`, for a tree.
pub const DP_TARGET_DIRECTORY: i32 = 0;
/// Destination of a restore: `target_descriptor`, for a stream.
pub const DP_TARGET_DESCRIPTOR: i32 = 1;
/// Destination of a restore: `target_write`, for a stream.
pub const DP_TARGET_FUNCTION: i32 = 2;

/// Flag of a restore: replace existing files, and set mode, owner and times of existing
/// directories.
pub const DP_RESTORE_OVERWRITE: u32 = 1;
/// Flag of a restore: give objects the numbers of their users and groups that the archive has.
/// Otherwise root gives them to the users and groups of this machine with the same names.
pub const DP_RESTORE_NUMERIC_OWNER: u32 = 2;

/// All flags.
const FLAGS: u32 = DP_RESTORE_OVERWRITE | DP_RESTORE_NUMERIC_OWNER;

/// Takes a part of a stream. Returns how many of the `len` bytes it has taken, at least 1, or a
/// negative error number, `-ENOSPC`, which fails the job.
///
/// Threads: one thread of the library, not that of the job. A job that is cancelled ends when the
/// function returns.
pub type dp_write_function =
    Option<unsafe extern "C" fn(user: User, bytes: *const u8, len: usize) -> i64>;

/// Options of a restore. Fields that are 0 have their default.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_restore_options {
    /// `sizeof(dp_restore_options)`.
    pub size: usize,
    /// Path of the medium.
    pub medium: Text,
    /// Archive on a medium with several, or NULL.
    pub selection: In<dp_selection>,
    /// Secret that opens the archive, or NULL.
    pub secret: In<dp_secret>,
    /// Directory for a tree. It is created if its parent exists.
    pub destination: Text,
    /// Takes a stream, for `DP_TARGET_FUNCTION`.
    pub target_write: dp_write_function,
    /// Pointer that is passed to `target_write`.
    pub target_user: User,
    /// Paths in the archive: they and everything below them are restored. None for everything.
    pub paths: TextList,
    /// Number of the paths.
    pub path_count: usize,
    /// Progress, problems and cancellation, or NULL.
    pub hooks: In<dp_hooks>,
    /// `DP_MEDIUM_...`.
    pub medium_kind: i32,
    /// `DP_TARGET_...`.
    pub target_kind: i32,
    /// Takes a stream, for `DP_TARGET_DESCRIPTOR`. It stays open, and is not used after the job.
    pub target_descriptor: i32,
    /// `DP_RESTORE_...` flags, added.
    pub flags: u32,
    /// Threads that decompress, and that decrypt, 1 to 64; 0 for one per processor.
    pub instances: u32,
    /// Set to 0.
    pub reserved: u32,
    /// For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium, or NULL.
    pub medium_functions: In<dp_medium>,
}

versioned!(dp_restore_options, first: 112, {
    size, medium, selection, secret, destination, target_write, target_user, paths, path_count,
    hooks, medium_kind, target_kind, target_descriptor, flags, instances, reserved,
    medium_functions
});

/// Restores an archive, or some paths of it. Reading continues after damage; damaged files are
/// problems, and never keep their name: their recovered part is named `NAME.damaged`. In a stream,
/// zeros take the place of lost data.
///
/// `options` and what it refers to are copied: they can be freed when the call returns. `result`
/// may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
///
/// Threads: any; several jobs may run at once. Not in a signal handler. Errors: `DP_INCOMPLETE` is
/// not an error. Any code from 100 on; most often `DP_ERR_NO_ARCHIVE`, `DP_ERR_KEY_NEEDED`,
/// `DP_ERR_WRONG_KEY`, `DP_ERR_CONTENT`, `DP_ERR_CANCELLED`. What was restored before the error
/// stays.
#[unsafe(no_mangle)]
pub extern "C" fn dp_restore(
    options: In<dp_restore_options>,
    result: Out<dp_read_result>,
) -> dp_status {
    call(|| {
        let result = result.check()?;
        let options = options.read_needed()?;
        let mut hooks = hooks_of(options.hooks)?;
        let done = restore_of(&options)?.run(&mut hooks)?;
        Ok(write_result(&done, result))
    })
}

fn restore_of(options: &dp_restore_options) -> Result<Restore, Failure> {
    check_reserved("dp_restore_options", options.reserved)?;
    check_flags("flags", options.flags, FLAGS)?;
    Ok(Restore {
        medium: medium_of(
            options.medium,
            options.medium_kind,
            options.medium_functions,
            "medium",
        )?,
        selection: selection_of(options.selection)?,
        secret: secret_of(options.secret)?,
        target: target_of(options)?,
        paths: paths_of(options.paths, options.path_count)?,
        overwrite: options.flags & DP_RESTORE_OVERWRITE != 0,
        numeric_owner: options.flags & DP_RESTORE_NUMERIC_OWNER != 0,
        instances: instances_of(options.instances),
    })
}

fn target_of(options: &dp_restore_options) -> Result<RestoreTarget, Failure> {
    match options.target_kind {
        DP_TARGET_DIRECTORY => options
            .destination
            .needed_path("destination")
            .map(RestoreTarget::Directory),
        DP_TARGET_DESCRIPTOR => duplicate(options.target_descriptor)
            .map(RestoreTarget::Descriptor)
            .map_err(|error| Failure::at("target_descriptor", error)),
        DP_TARGET_FUNCTION => {
            let (function, user) = (options.target_write, options.target_user);
            let function = function.ok_or_else(|| {
                Failure::new(
                    DP_ERR_ARGUMENT,
                    "target_write is NULL, but takes the stream",
                )
            })?;
            let write = move |bytes: &[u8]| take(function, user, bytes);
            Ok(RestoreTarget::Writer(Box::new(CallbackWriter(write))))
        }
        kind => Err(unknown("target_kind", kind, "DP_TARGET_")),
    }
}

/// Copies paths of an archive. An empty one would select everything.
pub(super) fn paths_of(paths: TextList, count: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let paths = paths.read(count, "paths")?;
    match paths.iter().any(Vec::is_empty) {
        true => Err(Failure::new(
            DP_ERR_ARGUMENT,
            "paths has an empty path, which would select everything; use \".\" for that",
        )),
        false => Ok(paths),
    }
}
