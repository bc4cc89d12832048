//! Checks of paths, targets and modes, the same for a writer and a reader.

use super::codec::{Bytes, DecodeError};
use super::object_kind::ObjectKind;
use crate::limits::{MAX_PATH, MAX_TARGET};

/// The bits of a mode that are stored.
pub(super) const MODE: u32 = 0o7777;

/// Reads a mode, and refuses other bits than those of [`MODE`].
pub(super) fn parse_mode(bytes: &mut Bytes<'_>) -> Result<u32, DecodeError> {
    let mode = bytes.u32()?;
    if mode & !MODE != 0 {
        return Err(bytes.error(format!(
            "a mode of {mode:o}, but at most {MODE:o} is allowed"
        )));
    }
    Ok(mode)
}

/// Takes `len` bytes of a path or a target, which may have at most `max`.
pub(super) fn take_limited<'a>(
    bytes: &mut Bytes<'a>,
    len: u32,
    max: usize,
) -> Result<&'a [u8], DecodeError> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > max {
        return Err(bytes.error(format!(
            "a path or target of {len} bytes, but at most {max} are allowed"
        )));
    }
    bytes.take(len)
}

/// Refuses a path that could lead out of the root, or that has two spellings: one with a
/// component that is empty, `.` or `..`, or with a zero byte. Also refuses one that is too long.
pub(crate) fn check_path(path: &[u8]) -> Result<(), DecodeError> {
    let unsafe_component = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
    if path.len() > MAX_PATH
        || path.contains(&0)
        || path.split(|&byte| byte == b'/').any(unsafe_component)
    {
        let shown = path.split_at(path.len().min(200)).0.escape_ascii();
        return Err(DecodeError::new("path", format!("unsafe: \"{shown}\"")));
    }
    Ok(())
}

/// Refuses a symbolic link without a target, and a target of anything else.
pub(super) fn check_target(kind: ObjectKind, target: &[u8]) -> Result<(), DecodeError> {
    let wanted = kind == ObjectKind::Symlink;
    if target.len() > MAX_TARGET || target.contains(&0) || target.is_empty() == wanted {
        let why = format!(
            "a target of {} bytes, but a symbolic link has 1 to {MAX_TARGET} without a zero, and \
             other objects have none",
            target.len()
        );
        return Err(DecodeError::new("object", why));
    }
    Ok(())
}

/// Refuses the flag for other names on a directory, which has one name, and on a hard link, whose
/// object has the flag.
pub(super) fn check_linked(kind: ObjectKind, linked: bool) -> Result<(), DecodeError> {
    if linked && matches!(kind, ObjectKind::Directory | ObjectKind::HardLink) {
        return Err(DecodeError::new(
            "object",
            "a directory or a hard link with the flag for other names",
        ));
    }
    Ok(())
}
