//! The list of an archive.

use std::ffi::c_char;

use datapipe::wire::{CatalogueEntry, ObjectKind, ObjectState};

use crate::boundary::{In, Out, Text, TextList, User, call, show, versioned};
use crate::failure::Failure;
use crate::job::{EntrySink, List};
use crate::last_error::text_of;
use crate::status::{DP_ERR_NULL, dp_status};

use super::backup::instances_of;
use super::hooks::{dp_hooks, hooks_of};
use super::medium::dp_medium;
use super::read_result::{dp_read_result, write_result};
use super::restore::paths_of;
use super::secret::{dp_secret, secret_of};
use super::selection::{dp_selection, medium_of, selection_of};

/// Kind of an object: a file, or a stream.
pub const DP_OBJECT_FILE: i32 = 1;
/// Kind of an object: a directory.
pub const DP_OBJECT_DIRECTORY: i32 = 2;
/// Kind of an object: a symbolic link.
pub const DP_OBJECT_SYMLINK: i32 = 3;
/// Kind of an object: a further name of a file.
pub const DP_OBJECT_HARD_LINK: i32 = 4;
/// Kind of an object: a fifo.
pub const DP_OBJECT_FIFO: i32 = 5;
/// Kind of an object: a character device.
pub const DP_OBJECT_CHARACTER_DEVICE: i32 = 6;
/// Kind of an object: a block device.
pub const DP_OBJECT_BLOCK_DEVICE: i32 = 7;

/// State of an object: whole.
pub const DP_STATE_WHOLE: i32 = 0;
/// State of an object: it changed while it was read.
pub const DP_STATE_CHANGED: i32 = 1;
/// State of an object: not all of it is in the archive.
pub const DP_STATE_CUT: i32 = 2;

/// An entry of a list.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_entry {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// Path in the archive: bytes, not necessarily UTF-8, and a zero byte.
    pub path: *const c_char,
    /// Length of the path in bytes, without the zero byte.
    pub path_len: usize,
    /// Target of a symbolic link, and a zero byte; otherwise empty.
    pub target: *const c_char,
    /// Length of the target in bytes, without the zero byte.
    pub target_len: usize,
    /// Bytes of a file; otherwise 0.
    pub object_size: u64,
    /// Number of the inode; 0 if it is not known.
    pub inode: u64,
    /// Time of the last modification, in seconds since 1970 UTC.
    pub modified_seconds: i64,
    /// Nanoseconds of that time.
    pub modified_nanoseconds: u32,
    /// Permission bits, setuid, setgid and sticky.
    pub mode: u32,
    /// `DP_OBJECT_...`. Later versions have more.
    pub kind: i32,
    /// `DP_STATE_...`. Later versions have more.
    pub state: i32,
}

versioned!(dp_entry, first: 80, {
    size, path, path_len, target, target_len, object_size, inode, modified_seconds,
    modified_nanoseconds, mode, kind, state
});

/// Receives an entry of a list. Returns 0 to go on; another number ends the list, which then
/// returns `DP_ERR_CALLBACK`.
///
/// Threads: any thread of the library or that of the job, one call at a time. Pointers are valid
/// until the function returns.
pub type dp_entry_function =
    Option<unsafe extern "C" fn(user: User, entry: *const dp_entry) -> i32>;

/// Options of a list. Fields that are 0 have their default.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_list_options {
    /// `sizeof(dp_list_options)`.
    pub size: usize,
    /// Path of the medium.
    pub medium: Text,
    /// Archive on a medium with several, or NULL.
    pub selection: In<dp_selection>,
    /// Secret that opens the archive, or NULL.
    pub secret: In<dp_secret>,
    /// Receives each entry.
    pub entry: dp_entry_function,
    /// Pointer that is passed to `entry`.
    pub entry_user: User,
    /// Paths in the archive: they and everything below them are listed. None for everything.
    pub paths: TextList,
    /// Number of the paths.
    pub path_count: usize,
    /// Progress, problems and cancellation, or NULL.
    pub hooks: In<dp_hooks>,
    /// `DP_MEDIUM_...`.
    pub medium_kind: i32,
    /// Threads that decompress, and that decrypt, 1 to 64; 0 for one per processor.
    pub instances: u32,
    /// For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium, or NULL.
    pub medium_functions: In<dp_medium>,
}

versioned!(dp_list_options, first: 88, {
    size, medium, selection, secret, entry, entry_user, paths, path_count, hooks, medium_kind,
    instances,
    medium_functions
});

/// Lists an archive: reads its catalogue, or all of it if the catalogue is damaged or missing, and
/// shows each object. A stream is one file with the name of the archive.
///
/// `options` and what it refers to are copied: they can be freed when the call returns. `result`
/// may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
///
/// Threads: any; several jobs may run at once. Not in a signal handler. Errors: as `dp_restore`,
/// and `DP_ERR_CALLBACK` if `entry` has ended the list.
#[unsafe(no_mangle)]
pub extern "C" fn dp_list(options: In<dp_list_options>, result: Out<dp_read_result>) -> dp_status {
    call(|| {
        let result = result.check()?;
        let options = options.read_needed()?;
        let mut hooks = hooks_of(options.hooks)?;
        let list = List {
            medium: medium_of(
                options.medium,
                options.medium_kind,
                options.medium_functions,
                "medium",
            )?,
            selection: selection_of(options.selection)?,
            secret: secret_of(options.secret)?,
            paths: paths_of(options.paths, options.path_count)?,
            entries: entries_of(&options)?,
            instances: instances_of(options.instances),
        };
        let done = list.run(&mut hooks)?;
        Ok(write_result(&done, result))
    })
}

fn entries_of(options: &dp_list_options) -> Result<EntrySink, Failure> {
    let (function, user) = (options.entry, options.entry_user);
    let Some(function) = function else {
        return Err(Failure::new(
            DP_ERR_NULL,
            "entry is NULL, but receives the list",
        ));
    };
    Ok(Box::new(move |entry: &CatalogueEntry<'_>| {
        let (path, target) = (text_of(entry.path), text_of(entry.target));
        let entry = dp_entry {
            size: size_of::<dp_entry>(),
            path: path.as_ptr(),
            path_len: path.as_bytes().len(),
            target: target.as_ptr(),
            target_len: target.as_bytes().len(),
            object_size: entry.size,
            inode: entry.inode,
            modified_seconds: entry.modified.seconds,
            modified_nanoseconds: entry.modified.nanoseconds,
            mode: entry.mode,
            kind: match entry.kind {
                ObjectKind::File => DP_OBJECT_FILE,
                ObjectKind::Directory => DP_OBJECT_DIRECTORY,
                ObjectKind::Symlink => DP_OBJECT_SYMLINK,
                ObjectKind::HardLink => DP_OBJECT_HARD_LINK,
                ObjectKind::Fifo => DP_OBJECT_FIFO,
                ObjectKind::CharacterDevice => DP_OBJECT_CHARACTER_DEVICE,
                ObjectKind::BlockDevice => DP_OBJECT_BLOCK_DEVICE,
            },
            state: match entry.state {
                ObjectState::Whole => DP_STATE_WHOLE,
                ObjectState::Changed => DP_STATE_CHANGED,
                _ => DP_STATE_CUT,
            },
        };
        show(function, user, &entry)
    }))
}
