//! The medium that a job reads, and one archive of it.

use crate::boundary::{Bytes, In, Text, versioned};
use crate::failure::Failure;
use crate::job::{Medium, MediumKind, Selection};
use crate::status::DP_ERR_ARGUMENT;

use super::medium::{dp_medium, functions_of};
use super::secret::unknown;

/// Kind of a medium: a directory of volumes if the path is a directory or ends with a slash, and
/// otherwise a file that is a virtual tape.
pub const DP_MEDIUM_BY_PATH: i32 = 0;
/// Kind of a medium: a file that is a virtual tape.
pub const DP_MEDIUM_VIRTUAL_TAPE: i32 = 1;
/// Kind of a medium: a directory of volumes.
pub const DP_MEDIUM_VOLUME_DIRECTORY: i32 = 2;

/// Kind of a medium: one of the program, whose functions are in `medium_functions`, or
/// `target_functions` for that of a copy. The path of the medium is its name in messages.
pub const DP_MEDIUM_OF_PROGRAM: i32 = 3;

/// Selection of an archive on a medium with several. Without a selection a job reads the last whole
/// archive that opens with the secret. All fields but the size may be 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_selection {
    /// `sizeof(dp_selection)`.
    pub size: usize,
    /// Name of the archive in UTF-8; of several, the one that was begun last. NULL for any.
    pub name: Text,
    /// The 32 bytes of `header_hash` that the backup has returned, or NULL. An archive with another
    /// hash is not read: `DP_ERR_OTHER_ARCHIVE`.
    pub header_hash: Bytes,
    /// Number of the session on the medium, from 1; 0 for any.
    pub session: u32,
    /// Number of the archive in the session, or else on the medium, from 1; 0 for any.
    pub archive: u32,
    /// The 16 bytes of the session's id, as `dp_sessions` shows it, or NULL for any.
    pub session_id: Bytes,
}

versioned!(dp_selection, first: 40, {
    size, name, header_hash, session, archive, session_id
});

/// Copies a selection. A null pointer selects nothing.
pub(super) fn selection_of(selection: In<dp_selection>) -> Result<Selection, Failure> {
    let Some(selection) = selection.read()? else {
        return Ok(Selection::default());
    };
    Ok(Selection {
        session: Some(selection.session).filter(|number| *number > 0),
        archive: Some(selection.archive).filter(|number| *number > 0),
        session_id: selection.session_id.array(),
        name: selection.name.utf8("selection.name")?,
        hash: selection.header_hash.array(),
    })
}

/// The medium at a path, or of functions.
pub(super) fn medium_of(
    path: Text,
    kind: i32,
    functions: In<dp_medium>,
    what: &str,
) -> Result<Medium, Failure> {
    let kind = match kind {
        DP_MEDIUM_OF_PROGRAM => return functions_of(functions, path, what),
        _ if !functions.is_null() => {
            return Err(Failure::new(
                DP_ERR_ARGUMENT,
                format!("{what}_functions are given, but {what}_kind is not DP_MEDIUM_OF_PROGRAM"),
            ));
        }
        DP_MEDIUM_BY_PATH => MediumKind::ByPath,
        DP_MEDIUM_VIRTUAL_TAPE => MediumKind::VirtualTape,
        DP_MEDIUM_VOLUME_DIRECTORY => MediumKind::VolumeDirectory,
        kind => return Err(unknown(&format!("{what}_kind"), kind, "DP_MEDIUM_")),
    };
    Ok(Medium::new(path.needed_path(what)?, kind))
}
