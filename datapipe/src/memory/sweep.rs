//! Named segments whose creators were killed: the proof of it, and their removal.
//!
//! ```text
//!   creator   object without a name > lock > pages, mark > name   ...   remove the name > unlock
//!   sweeper   name of a pipe, ours alone, marked > lock
//!                   refused: it lives
//!                   granted: it is dead > still of that name? remove that
//! ```
//!
//! The lock is the kernel's (`flock`). It belongs to the file as the creator opened it, and ends
//! with the last descriptor of that: when the creator lets go of the segment, or however it dies.
//! So nothing depends on process ids, which are given out again and mean nothing in another
//! namespace, nor on clocks.
//!
//! **An object is locked before it has a name.** Were it named first, a sweeper could come in
//! between, and take one that is just being made for one whose creator is dead. As it is, a sweeper
//! that is granted the lock has the proof; and a creator that is killed before it gives the name
//! leaves nothing at all.
//!
//! The sweep does not ask which processes map an object: those that do keep their memory, and it
//! goes with the last of them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::{ffi::CStr, io};

use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags, Stat, fallocate,
    flock, fstat, ftruncate, linkat, open, openat, statat, unlinkat,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use super::layout::MAGIC;
use super::name::PipeName;
use super::segment_error::{SegmentError, system};

/// Folder in which the kernel keeps POSIX shared memory.
const FOLDER: &str = "/dev/shm";
/// Start of the names of named segments. The rest is the pipe's name.
const PREFIX: &str = "datapipe-";
/// First bytes of a segment, as they are in memory.
#[allow(
    clippy::host_endian_bytes,
    reason = "a segment never leaves its machine"
)]
const MARK: [u8; 8] = MAGIC.to_ne_bytes();
/// Permission bits of a named segment.
const OURS_ALONE: u32 = 0o600;

/// Name of the object that is the segment of the pipe `name`.
pub(super) fn object_name(name: &PipeName) -> String {
    format!("{PREFIX}{name}")
}

/// Makes the object of a named segment, `len` bytes, all reserved. It is removed by the process
/// that maps it; until the descriptor that is returned is dropped, no sweeper does.
pub(super) fn create(name: &PipeName, len: usize) -> Result<OwnedFd, SegmentError> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let object =
        open(FOLDER, flags, Mode::from_raw_mode(OURS_ALONE)).map_err(system("open(O_TMPFILE)"))?;
    // No other process can have it open yet, so it is granted.
    flock(&object, FlockOperation::NonBlockingLockExclusive).map_err(system("flock"))?;
    ftruncate(&object, len as u64).map_err(system("ftruncate"))?;
    fallocate(&object, FallocateFlags::empty(), 0, len as u64).map_err(|errno| {
        SegmentError::Memory {
            bytes: len as u64,
            source: errno.into(),
        }
    })?;
    // By this a sweeper knows that it is a segment.
    pwrite(&object, &MARK, 0).map_err(system("pwrite"))?;
    let unnamed = format!("/proc/self/fd/{}", object.as_raw_fd());
    let path = format!("{FOLDER}/{}", object_name(name));
    linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)
        .map_err(system("linkat(/proc/self/fd)"))?;
    Ok(object)
}

/// Removes the named segments of this user whose creators were killed, and returns the names of
/// their pipes.
///
/// Nothing else is touched: neither the segment of a pipe that lives, nor another user's, nor any
/// object that is not named, marked and protected as this library's segments are. One whose creator
/// is dead is removed even if others still map it; they keep their memory. Making a named
/// segment sweeps first, so only a program that makes none, and wants the memory back at once, has
/// to call this. May be called at any time, by any number of processes.
///
/// A segment's creator counts as alive as long as a child lives that it forked without executing
/// another program.
///
/// # Errors
///
/// If the folder of POSIX shared memory, `/dev/shm`, cannot be read. If there is none, nothing is
/// removed, and that is not an error.
///
/// # Examples
///
/// ```
/// for pipe in datapipe::memory::sweep()? {
///     eprintln!("removed the shared memory of pipe {pipe}, whose program was killed");
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn sweep() -> io::Result<Vec<String>> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = match retry_on_intr(|| open(FOLDER, flags, Mode::empty())) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut removed = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let Some(name) = pipe_of(entry.file_name()) else {
            continue;
        };
        // One that cannot be looked at is not ours, or gone meanwhile.
        if remove_if_dead(folder.as_fd(), entry.file_name()).unwrap_or(false) {
            removed.push(name.to_string());
        }
    }
    Ok(removed)
}

/// The pipe whose segment an object of this name is.
fn pipe_of(object: &CStr) -> Option<PipeName> {
    object.to_str().ok()?.strip_prefix(PREFIX)?.parse().ok()
}

/// Removes an object if it is a segment of ours whose creator is dead. Returns whether it did.
fn remove_if_dead(folder: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<bool> {
    // Before it is opened: opening anything but a plain file may have any effect.
    let look = || retry_on_intr(|| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW));
    if !is_ours(&look()?) {
        return Ok(false);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let object = retry_on_intr(|| openat(folder, name, flags, Mode::empty()))?;
    let opened = retry_on_intr(|| fstat(&object))?;
    if !is_ours(&opened) || !is_marked(&object)? {
        return Ok(false);
    }
    match flock(&object, FlockOperation::NonBlockingLockExclusive) {
        // Its creator lives, or another process is just removing it.
        Err(Errno::WOULDBLOCK) => return Ok(false),
        granted => granted?,
    }
    // An earlier sweeper may have removed it after we had opened it. From here on none does: only
    // its creator and the holder of the lock may, and the creator is dead and the holder is us.
    let named = look()?;
    if (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino) {
        return Ok(false);
    }
    unlinkat(folder, name, AtFlags::empty())?;
    Ok(true)
}

/// True if it is a plain file of this user, with one name, that no other user may open.
fn is_ours(stat: &Stat) -> bool {
    let plain =
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1;
    let owner = stat.st_uid == rustix::process::geteuid().as_raw();
    plain && owner && stat.st_mode & 0o7777 == OURS_ALONE
}

/// True if it begins as every segment does.
fn is_marked(object: &OwnedFd) -> rustix::io::Result<bool> {
    let mut start = [0; MARK.len()];
    let len = pread(object, &mut start, 0)?;
    Ok(len == start.len() && start == MARK)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_a_creator_left_that_got_no_further_is_swept() {
        let name = PipeName::new();
        let swept = || sweep().unwrap().contains(&name.to_string());
        let lock = create(&name, 4096).unwrap();
        assert!(!swept(), "its creator lives");
        let again = create(&name, 4096);
        assert!(
            matches!(
                again,
                Err(SegmentError::System {
                    call: "linkat(/proc/self/fd)",
                    ..
                })
            ),
            "{again:?}"
        );
        assert!(!swept(), "the second attempt has not changed the first");
        drop(lock);
        assert!(swept());
        assert!(!swept(), "it is gone");
    }
}
