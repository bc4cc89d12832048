//! Whole jobs: back up, restore, verify, list, copy.
//!
//! ```text
//!   options --checked--> medium --> pipe --run: progress, cancel--> report --> result
//! ```
//!
//! They follow `disk_to_tape`, `tape_to_disk` and `archive_copy`, which also read an archive that
//! was cut by its checkpoints, and collect notes.
//!
//! Nothing here is unsafe, and nothing knows how C passes its arguments.

mod archive; // the archive that a job reads, and the part of it
mod backup; // trees or a stream to a medium
mod copy; // an archive to another medium
mod hooks; // progress, problems and cancellation
mod medium; // media by their paths
mod read; // restore, verify, list
mod run; // a pipe from its start to its end
mod secret; // secrets and recipients
mod sessions; // sessions and archives of a medium
mod stream; // streams of descriptors and callbacks

pub(crate) use archive::Selection;
pub(crate) use backup::{Backup, BackupDone, Compression, Source, WriteMode};
pub(crate) use copy::{Copy, CopyDone};
pub(crate) use hooks::{Hooks, Problem, Progress};
pub(crate) use medium::{Medium, MediumKind, MediumSource};
pub(crate) use read::{EntrySink, List, ReadDone, Restore, RestoreTarget, Verify};
pub(crate) use secret::SecretSource;
pub(crate) use sessions::list_sessions;
pub(crate) use stream::{CallbackReader, CallbackWriter};
