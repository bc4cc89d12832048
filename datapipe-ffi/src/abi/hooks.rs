//! Progress, problems and cancellation of a job.

use std::ffi::c_char;
use std::time::Duration;

use crate::boundary::{Handle, In, User, check_reserved, show, versioned};
use crate::failure::Failure;
use crate::job::{Hooks, Problem, Progress};
use crate::last_error::{line_of, text_of};

use super::cancel::{dp_cancel, token_of};

/// Progress of a job.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_progress {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// Time since the job's pipe has started, in nanoseconds.
    pub elapsed_ns: u64,
    /// Bytes that the first stage has sent: read from the source, or from the medium.
    pub bytes_in: u64,
    /// Bytes that the last stage has received: for the medium, or for the destination.
    pub bytes_out: u64,
    /// Files that are done; 0 for a job without files.
    pub files: u64,
    /// Bytes of the medium that were read; 0 for a backup.
    pub medium_read: u64,
    /// Bytes of the medium that are to be read; 0 if the number is not known.
    pub medium_total: u64,
}

versioned!(dp_progress, first: 56, {
    size, elapsed_ns, bytes_in, bytes_out, files, medium_read, medium_total
});

/// An object that is not in the archive, or was not restored, as it is.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_problem {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// Path of the object in the archive: bytes, not necessarily UTF-8, and a zero byte. Empty if
    /// it is not known.
    pub path: *const c_char,
    /// Length of the path in bytes, without the zero byte.
    pub path_len: usize,
    /// Description, without the path, in one line of UTF-8. Control characters are escaped.
    pub text: *const c_char,
    /// Kind of the problem: `DP_PROBLEM_...`. Later versions have more kinds.
    pub kind: i32,
    /// 0.
    pub reserved: u32,
}

versioned!(dp_problem, first: 40, { size, path, path_len, text, kind, reserved });

/// Receives the progress of a job. Returns 0 to go on; another number cancels the job.
///
/// Threads: the one that has called the job. Pointers are valid until the function returns.
pub type dp_progress_function =
    Option<unsafe extern "C" fn(user: User, progress: *const dp_progress) -> i32>;

/// Receives a problem. The job goes on. The number that is returned is ignored: return 0.
///
/// Threads: any thread of the library or that of the call, one call at a time for each job; all
/// have been made when the job returns. The stage that has found the problem waits for the
/// function. Pointers are valid until the function returns.
pub type dp_problem_function =
    Option<unsafe extern "C" fn(user: User, problem: *const dp_problem) -> i32>;

/// The interest of a program in a job. All fields but the size may be 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_hooks {
    /// `sizeof(dp_hooks)`.
    pub size: usize,
    /// Token that cancels the job, or NULL.
    pub cancel: Handle<dp_cancel>,
    /// Pointer that is passed to the functions.
    pub user: User,
    /// Receives the progress, and once more at the end of each pipe of the job; or NULL.
    pub progress: dp_progress_function,
    /// Receives each problem, or NULL.
    pub problem: dp_problem_function,
    /// Time between two calls of `progress` in milliseconds; 0 for 500.
    pub progress_interval_ms: u32,
    /// Set to 0.
    pub reserved: u32,
}

versioned!(dp_hooks, first: 48, {
    size, cancel, user, progress, problem, progress_interval_ms, reserved
});

/// Interval of the progress function if the caller sets no other.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(500);

/// Makes the hooks of a job.
pub(super) fn hooks_of(hooks: In<dp_hooks>) -> Result<Hooks, Failure> {
    let Some(hooks) = hooks.read()? else {
        return Ok(Hooks::new(None, DEFAULT_INTERVAL, None, None));
    };
    check_reserved("dp_hooks", hooks.reserved)?;
    let (token, user) = (token_of(hooks.cancel)?, hooks.user);
    let interval = match hooks.progress_interval_ms {
        0 => DEFAULT_INTERVAL,
        interval => Duration::from_millis(interval.into()),
    };
    let progress = hooks.progress.map(|function| {
        let show_progress = move |now: Progress| {
            let now = dp_progress {
                size: size_of::<dp_progress>(),
                elapsed_ns: nanoseconds(now.elapsed),
                bytes_in: now.bytes_in,
                bytes_out: now.bytes_out,
                files: now.files,
                medium_read: now.read,
                medium_total: now.total,
            };
            show(function, user, &now) == 0
        };
        Box::new(show_progress) as _
    });
    let problem = hooks.problem.map(|function| {
        let show_problem = move |problem: Problem<'_>| {
            // Neither Linux nor an archive has a path with a zero byte.
            let path = text_of(problem.path);
            let text = line_of(problem.text);
            let problem = dp_problem {
                size: size_of::<dp_problem>(),
                path: path.as_ptr(),
                path_len: path.as_bytes().len(),
                text: text.as_ptr(),
                kind: problem.kind,
                reserved: 0,
            };
            show(function, user, &problem);
        };
        Box::new(show_problem) as _
    });
    Ok(Hooks::new(token, interval, progress, problem))
}

/// A duration in nanoseconds, as far as 64 bits have them: 584 years.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
