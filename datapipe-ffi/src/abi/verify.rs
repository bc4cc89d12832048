//! The verification of an archive.

use crate::boundary::{In, Out, Text, call, versioned};
use crate::job::Verify;
use crate::status::dp_status;

use super::backup::instances_of;
use super::hooks::{dp_hooks, hooks_of};
use super::medium::dp_medium;
use super::read_result::{dp_read_result, write_result};
use super::secret::{dp_secret, secret_of};
use super::selection::{dp_selection, medium_of, selection_of};

/// Options of a verification. Fields that are 0 have their default.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_verify_options {
    /// `sizeof(dp_verify_options)`.
    pub size: usize,
    /// Path of the medium.
    pub medium: Text,
    /// Archive on a medium with several, or NULL.
    pub selection: In<dp_selection>,
    /// Secret that opens the archive, or NULL. Without the key of an encrypted archive, checksums,
    /// headers and numbers are checked, and nothing is authenticated.
    pub secret: In<dp_secret>,
    /// Progress, problems and cancellation, or NULL.
    pub hooks: In<dp_hooks>,
    /// `DP_MEDIUM_...`.
    pub medium_kind: i32,
    /// Threads that decompress, and that decrypt, 1 to 64; 0 for one per processor.
    pub instances: u32,
    /// For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium, or NULL.
    pub medium_functions: In<dp_medium>,
}

versioned!(dp_verify_options, first: 56, {
    size, medium, selection, secret, hooks, medium_kind, instances,
    medium_functions
});

/// Reads and checks all of an archive, and writes nothing. Of a medium with several archives,
/// damage outside of them that was found on the way is a problem, too: `DP_PROBLEM_MEDIUM`.
///
/// `options` and what it refers to are copied: they can be freed when the call returns. `result`
/// may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
///
/// Threads: any; several jobs may run at once. Not in a signal handler. Errors: as `dp_restore`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_verify(
    options: In<dp_verify_options>,
    result: Out<dp_read_result>,
) -> dp_status {
    call(|| {
        let result = result.check()?;
        let options = options.read_needed()?;
        let mut hooks = hooks_of(options.hooks)?;
        let verify = Verify {
            medium: medium_of(
                options.medium,
                options.medium_kind,
                options.medium_functions,
                "medium",
            )?,
            selection: selection_of(options.selection)?,
            secret: secret_of(options.secret)?,
            instances: instances_of(options.instances),
        };
        let done = verify.run(&mut hooks)?;
        Ok(write_result(&done, result))
    })
}
