//! The files of a directory of volumes: their names, the lock, and the switch from old volumes to
//! new ones.
//!
//! ```text
//!   000001.tap  000002.tap  000003.tap             old volumes
//!   000001.tap.new  000002.tap.new                 new ones, complete and synced
//!   000002.tap.last                                the switch: from here on it only goes forwards
//!   000001.tap  000002.tap                         renamed; old ones beyond the last removed
//! ```
//!
//! The file of the switch has the number of the last new volume. While it exists, a reader takes a
//! `.new` volume before the old one, and the next writer completes the switch first. So a writer
//! that is stopped at any step leaves either all old volumes or all new ones.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::planted::check_name_not_planted;

use super::lock::{LOCK_NAME, find_writer};
use super::writer::{check_gives_way, directory_of, is_full, lock_file, no_space};
use super::{MediumError, NameKind, Storage, StorageFile};

/// The path of a volume's file; of one that is to replace another if `is_new`.
pub(super) fn file_of(path: &Path, volume: u32, is_new: bool) -> PathBuf {
    path.join(format!("{volume:06}.tap{}", if is_new { NEW } else { "" }))
}

/// End of the name of a volume that is to replace another.
const NEW: &str = ".new";
/// End of the name of the switch.
const LAST: &str = ".last";

/// The volumes in a directory, in ascending order.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    pub(super) current: Vec<u32>,
    /// Those that are to replace them.
    pub(super) new: Vec<u32>,
    /// The last new one, if the switch has begun.
    pub(super) switch: Option<u32>,
}

impl Volumes {
    pub(super) fn list(storage: &impl Storage, path: &Path) -> Result<Self, MediumError> {
        let names = storage.list(path).map_err(MediumError::io("list", path))?;
        let mut found = Self::default();
        for name in &names {
            let Some((number, end)) = parse_name(name) else {
                continue;
            };
            match end {
                "" => found.current.push(number),
                NEW => found.new.push(number),
                LAST => found.switch = found.switch.max(Some(number)),
                _ => {}
            }
        }
        found.current.sort_unstable();
        found.new.sort_unstable();
        Ok(found)
    }

    /// Number of the last volume for a reader.
    pub(super) fn last(&self) -> Option<u32> {
        self.switch.or_else(|| self.current.last().copied())
    }
}

/// Splits the name of a file into the number of a volume and the end of the name.
fn parse_name(name: &OsStr) -> Option<(u32, &str)> {
    let (digits, end) = name.to_str()?.split_once(".tap")?;
    let all = digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| all && *number > 0)?;
    Some((number, end))
}

/// Checks that a file is not a volume of a directory that is being written.
pub(super) fn check_not_a_volume<S: Storage>(storage: &S, path: &Path) -> Result<(), MediumError> {
    let resolved = storage.resolve(path);
    let file = resolved.as_deref().unwrap_or(path);
    if !S::LOCKS || file.file_name().and_then(parse_name).is_none() {
        return Ok(());
    }
    match find_writer(directory_of(file)) {
        Ok(Some(writer)) => Err(MediumError::InUse {
            path: path.to_owned(),
            writer,
        }),
        // A directory whose lock cannot be read is not known to be one of volumes.
        _ => Ok(()),
    }
}

/// Locks a directory against other writers, if the storage has locks. Returns the locked file.
pub(super) fn lock_directory<S: Storage>(
    storage: &S,
    path: &Path,
) -> Result<Option<S::File>, MediumError> {
    if !S::LOCKS {
        return Ok(None);
    }
    let name = path.join(LOCK_NAME);
    loop {
        let file = match storage.create_new(&name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                check_lock_file(storage, &name)?;
                match storage.open_to_write(&name) {
                    // Its owner has just removed it.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    opened => opened.map_err(MediumError::io("open", &name))?,
                }
            }
            Err(error) if is_full(&error) => return Err(no_space(&name, &error)),
            created => created.map_err(MediumError::io("create", &name))?,
        };
        if lock_file(storage, &name, &file, path)? {
            return Ok(Some(file));
        }
    }
}

/// Checks that the name of a lock has a file, if it exists. A link could lead two writers to two
/// files, and one that dangles can neither be opened nor created.
fn check_lock_file(storage: &impl Storage, name: &Path) -> Result<(), MediumError> {
    let what = match storage.kind(name) {
        Ok(NameKind::SymbolicLink) => {
            "it is a symbolic link, and not the file of a lock; remove it"
        }
        Ok(NameKind::Other) => "it is not a regular file, as that of a lock is; remove it",
        // What follows opens it, and reports an error.
        Ok(NameKind::File) | Err(_) => return Ok(()),
    };
    Err(MediumError::io("lock", name)(io::Error::other(what)))
}

/// Removes the file of a lock that this process has. The lock itself ends with its descriptors. One
/// with content was not made by a writer, and stays.
pub(super) fn remove_lock<S: Storage>(storage: &S, path: &Path, lock: &S::File) {
    let name = path.join(LOCK_NAME);
    if let (Ok(own), Ok(found)) = (lock.identity(), storage.identity(&name))
        && own == found
        && matches!(lock.is_empty(), Ok(true))
    {
        // If it stays, the next writer takes the lock on it.
        let _ = storage.remove(&name);
    }
}

/// Brings the directory of a dead writer into a state with one kind of volumes: completes its
/// switch, or removes what it wrote before.
pub(super) fn settle<S: Storage>(storage: &S, path: &Path) -> Result<Volumes, MediumError> {
    let found = Volumes::list(storage, path)?;
    check_are_files(storage, path, &found)?;
    check_switch::<S>(path, &found)?;
    if let Some(last) = found.switch {
        complete_switch(storage, path, last)?;
        return Volumes::list(storage, path);
    }
    for volume in &found.new {
        remove(storage, &file_of(path, *volume, true))?;
    }
    Ok(found)
}

/// Checks that no other user has begun a switch, or given it volumes, where several users may
/// create files: it removes the volumes that are there, and a reader prefers those of the switch.
pub(super) fn check_switch<S: Storage>(path: &Path, found: &Volumes) -> Result<(), MediumError> {
    let Some(last) = found.switch.filter(|_| S::LOCKS) else {
        return Ok(());
    };
    let new = found.new.iter().filter(|volume| **volume <= last);
    let new = new.map(|volume| file_of(path, *volume, true));
    for name in new.chain([switch_file(path, last)]) {
        check_name_not_planted(&name).map_err(MediumError::io("use", &name))?;
    }
    Ok(())
}

/// Checks that what has the name of a volume, or of the switch, is not a directory or a device. The
/// new volumes could not replace it, which would show only after they are written.
fn check_are_files<S: Storage>(
    storage: &S,
    path: &Path,
    found: &Volumes,
) -> Result<(), MediumError> {
    let names = (found
        .current
        .iter()
        .map(|volume| file_of(path, *volume, false)))
    .chain(found.new.iter().map(|volume| file_of(path, *volume, true)))
    .chain(found.switch.map(|last| switch_file(path, last)));
    for name in names {
        // One that cannot be opened for another reason can be replaced all the same.
        if let Err(error) = storage.open(&name)
            && matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::IsADirectory
            )
        {
            let what = "it has the name of a volume and is not a regular file; remove it, or write \
                        to another directory";
            return Err(MediumError::io("overwrite", &name)(io::Error::other(what)));
        }
    }
    for volume in &found.current {
        check_gives_way::<S>(&file_of(path, *volume, false), "write to another directory")?;
    }
    Ok(())
}

/// Removes volumes, from the last one down, so that those that remain have no gap.
pub(super) fn remove_volumes(
    storage: &impl Storage,
    path: &Path,
    volumes: &[u32],
) -> Result<(), MediumError> {
    volumes
        .iter()
        .rev()
        .try_for_each(|volume| remove(storage, &file_of(path, *volume, false)))
}

/// Replaces all volumes by the new ones, 1 to `last`, which are on stable storage.
pub(super) fn switch(storage: &impl Storage, path: &Path, last: u32) -> Result<(), MediumError> {
    let name = switch_file(path, last);
    match storage.create_new(&name) {
        Err(error) if is_full(&error) => return Err(no_space(&name, &error)),
        created => drop(created.map_err(MediumError::io("create", &name))?),
    }
    sync(storage, path)?;
    complete_switch(storage, path, last)
}

/// Completes a switch that has begun. Steps that were taken already are skipped.
fn complete_switch(storage: &impl Storage, path: &Path, last: u32) -> Result<(), MediumError> {
    let found = Volumes::list(storage, path)?;
    for volume in found.new.iter().filter(|volume| **volume <= last) {
        let (from, to) = (file_of(path, *volume, true), file_of(path, *volume, false));
        storage
            .rename(&from, &to)
            .map_err(MediumError::io("rename", &from))?;
    }
    for volume in found.current.iter().rev().filter(|volume| **volume > last) {
        remove(storage, &file_of(path, *volume, false))?;
    }
    sync(storage, path)?;
    remove(storage, &switch_file(path, last))?;
    sync(storage, path)
}

fn switch_file(path: &Path, last: u32) -> PathBuf {
    path.join(format!("{last:06}.tap{LAST}"))
}

/// Removes the old volumes of a directory, gives the first new one its name, and syncs the
/// directory.
pub(super) fn begin_in_place(storage: &impl Storage, path: &Path) -> Result<(), MediumError> {
    remove_volumes(storage, path, &Volumes::list(storage, path)?.current)?;
    // Without this sync, a crash could leave old volumes after the new ones.
    sync(storage, path)?;
    let (from, to) = (file_of(path, 1, true), file_of(path, 1, false));
    storage
        .rename(&from, &to)
        .map_err(MediumError::io("rename", &from))?;
    sync(storage, path)
}

fn remove(storage: &impl Storage, file: &Path) -> Result<(), MediumError> {
    storage
        .remove(file)
        .map_err(MediumError::io("remove", file))
}

fn sync(storage: &impl Storage, directory: &Path) -> Result<(), MediumError> {
    storage
        .sync_directory(directory)
        .map_err(MediumError::io("sync the directory", directory))
}

/// Creates the directory, and syncs its name, if it does not exist.
pub(super) fn create_directory(storage: &impl Storage, path: &Path) -> Result<(), MediumError> {
    match storage.create_directory(path) {
        Ok(()) => sync(storage, directory_of(path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if is_full(&error) => Err(no_space(path, &error)),
        Err(error) => Err(MediumError::io("make the directory", path)(error)),
    }
}
