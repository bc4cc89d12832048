//! A storage in memory that fails on schedule, and forgets in a crash what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Error, ErrorKind, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::media::{Storage, StorageFile};

use super::Random;

/// A call at which a [`FaultyStorage`] can be asked to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StorageCall {
    /// Making a file or a directory.
    Create,
    /// Opening a file that exists.
    Open,
    /// Taking a file out of its directory.
    Remove,
    /// Giving a file another name.
    Rename,
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Cutting a file.
    Truncate,
    /// Syncing a file.
    Sync,
    /// Syncing a directory.
    SyncDirectory,
}

/// A storage in memory, with one directory, `/`, at the start. A clone is another handle of the
/// same storage.
///
/// It fails where it is asked to, and otherwise does what a file system does: it keeps a file
/// that was taken out of its directory as long as it is open, and has no more room than its
/// capacity.
///
/// # Examples
///
/// ```
/// use datapipe::media::{MediumError, MediumWriter, VirtualTape, VolumeOptions};
/// use datapipe::testkit::{FaultyStorage, StorageCall};
///
/// let storage = FaultyStorage::new(1);
/// let mut tape = VirtualTape::create_on(storage.clone(), "/tape", VolumeOptions::default())?;
/// tape.write(b"first")?;
/// storage.fail(StorageCall::Write, 1);
/// assert!(matches!(tape.write(b"second"), Err(MediumError::Io { .. })));
/// # Ok::<(), datapipe::media::MediumError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FaultyStorage(Arc<Mutex<State>>);

/// An open file of a [`FaultyStorage`].
#[derive(Debug)]
pub struct FaultyFile {
    storage: FaultyStorage,
    inode: u64,
    /// The crash before which it was opened, counted from 0.
    life: u64,
    writable: bool,
}

#[derive(Debug)]
struct State {
    random: Random,
    names: BTreeMap<PathBuf, u64>,
    synced_names: BTreeMap<PathBuf, u64>,
    directories: BTreeSet<PathBuf>,
    synced_directories: BTreeSet<PathBuf>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Crashes so far. A file that was opened before the last one is dead.
    life: u64,
    capacity: u64,
    short: bool,
    /// Names that a file had, and those it got, since the last sync of a directory.
    renames: Vec<(PathBuf, PathBuf)>,
    /// Calls still to come until one of its kind fails.
    faults: BTreeMap<StorageCall, u64>,
}

#[derive(Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Bytes that cannot be read.
    unreadable: Range<u64>,
    open: u32,
    /// A sync failed: what was appended before it counts as clean, and no later sync writes it.
    lost: bool,
}

impl FaultyStorage {
    /// An empty storage without faults, whose choices follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let directories = BTreeSet::from([PathBuf::from("/")]);
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            synced_directories: directories.clone(),
            directories,
            inodes: BTreeMap::new(),
            next_inode: 1,
            life: 0,
            capacity: u64::MAX,
            short: false,
            renames: Vec::new(),
            faults: BTreeMap::new(),
        })))
    }

    /// Makes reads and writes do only a part of what they are asked, or report that they were
    /// interrupted; or not, if `short` is false.
    pub fn set_short(&self, short: bool) {
        self.0.lock().short = short;
    }

    /// The most bytes that all files together may have. What does not fit is written in part, and
    /// then refused with [`ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity = bytes;
    }

    /// Makes the `nth` call of its kind from now on fail with `EIO`, and only that one; 1 is the
    /// next one. A sync that fails syncs nothing, and a later one says that all is well, as kernels
    /// do.
    pub fn fail(&self, call: StorageCall, nth: u64) {
        self.0.lock().faults.insert(call, nth);
    }

    /// Stops the machine and starts it again.
    ///
    /// A file that was made or removed since its directory was synced is there or not, each as a
    /// coin decides, and so is a change of a name; a directory that was made since then is gone,
    /// with all that is in it. Of the bytes that were appended since a file's last sync, any first
    /// part may be left, with a hole of zeros in it or without; a change of other bytes happened or
    /// did not. Files that were open answer `EIO` from now on.
    pub fn crash(&self) {
        let mut state = self.0.lock();
        let state = &mut *state;
        state.life += 1;
        let current = std::mem::replace(&mut state.names, state.synced_names.clone());
        // A change of a name is one step: it happened, or it did not.
        let mut renamed = BTreeSet::new();
        for (from, to) in std::mem::take(&mut state.renames) {
            if state.random.below(2) == 0 {
                state.names.remove(&from);
                if let Some(inode) = current.get(&to) {
                    state.names.insert(to.clone(), *inode);
                }
            }
            renamed.extend([from, to]);
        }
        for path in current.keys().chain(state.synced_names.keys()) {
            if renamed.contains(path) {
                continue;
            }
            // Each name by itself: a file system may have written any of them.
            if state.random.below(2) == 0 {
                match current.get(path) {
                    Some(inode) => drop(state.names.insert(path.clone(), *inode)),
                    None => drop(state.names.remove(path)),
                }
            }
        }
        state.directories.clone_from(&state.synced_directories);
        // A file that was synced in a directory that was not has no name.
        state
            .names
            .retain(|path, _| state.directories.contains(parent(path)));
        state.synced_names.clone_from(&state.names);
        let named: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|inode, _| named.contains(inode));
        for inode in state.inodes.values_mut() {
            (inode.open, inode.lost) = (0, false);
            inode.crash(&mut state.random);
        }
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// The bytes of a file, or none if there is no such file.
    pub fn bytes(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.0.lock();
        let inode = state.names.get(path.as_ref())?;
        Some(state.inodes[inode].bytes.clone())
    }

    /// Puts `bytes` in the place of a file's content, synced, and makes the file if there is none.
    pub fn set_bytes(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let mut state = self.0.lock();
        let inode = match state.names.get(path.as_ref()) {
            Some(inode) => *inode,
            None => state.add_file(path.as_ref()),
        };
        state.synced_names.insert(path.as_ref().to_owned(), inode);
        let inode = state.inode(inode);
        inode.bytes = bytes.to_vec();
        inode.synced = bytes.to_vec();
    }

    /// Makes a part of a file unreadable, as a disk that has lost some sectors.
    pub fn set_unreadable(&self, path: impl AsRef<Path>, bytes: Range<u64>) {
        let mut state = self.0.lock();
        if let Some(&inode) = state.names.get(path.as_ref()) {
            state.inode(inode).unreadable = bytes;
        }
    }

    fn open_file(&self, path: &Path, writable: bool) -> io::Result<FaultyFile> {
        let mut state = self.0.lock();
        state.call(StorageCall::Open)?;
        let inode = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        state.inode(inode).open += 1;
        let life = state.life;
        drop(state);
        Ok(FaultyFile {
            storage: self.clone(),
            inode,
            life,
            writable,
        })
    }
}

impl Inode {
    fn crash(&mut self, random: &mut Random) {
        if self.bytes.starts_with(&self.synced) {
            let appended = self.bytes.len() - self.synced.len();
            self.bytes
                .truncate(self.synced.len() + random.below(appended as u64 + 1) as usize);
            let kept = &mut self.bytes[self.synced.len()..];
            if random.below(2) == 0 && !kept.is_empty() {
                let start = random.below(kept.len() as u64) as usize;
                let end = start + random.below((kept.len() - start) as u64 + 1) as usize;
                kept[start..end].fill(0);
            }
        } else if random.below(2) == 0 {
            self.bytes.clone_from(&self.synced);
        }
        self.synced.clone_from(&self.bytes);
    }
}

impl State {
    /// Counts a call, and fails it if it is the one.
    fn call(&mut self, call: StorageCall) -> io::Result<()> {
        match self.faults.get_mut(&call) {
            Some(1) => {
                self.faults.remove(&call);
                Err(eio())
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Number of the `len` bytes that a call does.
    fn portion(&mut self, len: usize) -> io::Result<usize> {
        if !self.short || len == 0 {
            return Ok(len);
        }
        match self.random.below(8) {
            0 => Err(ErrorKind::Interrupted.into()),
            1 => Ok(len),
            _ => Ok(1 + self.random.below(len as u64) as usize),
        }
    }

    fn add_file(&mut self, path: &Path) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.names.insert(path.to_owned(), inode);
        inode
    }

    /// Checks that something can be made at `path`.
    fn check_new(&self, path: &Path) -> io::Result<()> {
        if !self.directories.contains(parent(path)) {
            return Err(ErrorKind::NotFound.into());
        }
        if self.names.contains_key(path) || self.directories.contains(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        Ok(())
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes
            .get_mut(&inode)
            .expect("a file that is named or open is kept")
    }

    fn used(&self) -> u64 {
        self.inodes
            .values()
            .map(|inode| inode.bytes.len() as u64)
            .sum()
    }

    /// Forgets files that are neither named nor open, now or after a crash.
    fn sweep(&mut self) {
        let named: BTreeSet<u64> = self
            .names
            .values()
            .chain(self.synced_names.values())
            .copied()
            .collect();
        self.inodes
            .retain(|number, inode| inode.open > 0 || named.contains(number));
    }
}

impl Storage for FaultyStorage {
    type File = FaultyFile;

    fn create_new(&self, path: &Path) -> io::Result<FaultyFile> {
        let mut state = self.0.lock();
        state.call(StorageCall::Create)?;
        state.check_new(path)?;
        let inode = state.add_file(path);
        state.inode(inode).open = 1;
        let life = state.life;
        drop(state);
        Ok(FaultyFile {
            storage: self.clone(),
            inode,
            life,
            writable: true,
        })
    }

    fn open_to_write(&self, path: &Path) -> io::Result<FaultyFile> {
        self.open_file(path, true)
    }

    fn open(&self, path: &Path) -> io::Result<FaultyFile> {
        self.open_file(path, false)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(StorageCall::Remove)?;
        state.names.remove(path).ok_or(ErrorKind::NotFound)?;
        state.sweep();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(StorageCall::Rename)?;
        let inode = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        state.renames.push((from.to_owned(), to.to_owned()));
        state.sweep();
        Ok(())
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(StorageCall::Create)?;
        state.check_new(path)?;
        state.directories.insert(path.to_owned());
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let state = self.0.lock();
        if !state.directories.contains(directory) {
            return Err(ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().filter(|path| parent(path) == directory);
        Ok(inside
            .filter_map(|path| path.file_name())
            .map(ToOwned::to_owned)
            .collect())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let state = &mut *state;
        state.call(StorageCall::SyncDirectory)?;
        if !state.directories.contains(directory) {
            return Err(ErrorKind::NotFound.into());
        }
        state.renames.retain(|(_, to)| parent(to) != directory);
        state
            .synced_names
            .retain(|path, _| parent(path) != directory);
        let inside = state
            .names
            .iter()
            .filter(|(path, _)| parent(path) == directory);
        state
            .synced_names
            .extend(inside.map(|(path, inode)| (path.clone(), *inode)));
        let inside = state
            .directories
            .iter()
            .filter(|path| parent(path) == directory);
        state.synced_directories.extend(inside.cloned());
        state.sweep();
        Ok(())
    }
}

impl FaultyFile {
    /// Runs `work` on the state, if the machine has not stopped since the file was opened.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.storage.0.lock();
        if state.life == self.life {
            work(&mut state)
        } else {
            Err(eio())
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(ErrorKind::PermissionDenied.into())
        }
    }
}

impl StorageFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.inode(self.inode).bytes.len() as u64))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state| {
            state.call(StorageCall::Read)?;
            let most = state.portion(bytes.len())?;
            let Inode {
                bytes: content,
                unreadable,
                ..
            } = state.inode(self.inode);
            if unreadable.contains(&offset) {
                return Err(eio());
            }
            let before = unreadable
                .start
                .checked_sub(offset)
                .filter(|_| !unreadable.is_empty());
            let most = most.min(usize::try_from(before.unwrap_or(u64::MAX)).unwrap_or(usize::MAX));
            let rest = content.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(most);
            bytes[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.check_writable()?;
        let bytes = parts
            .iter()
            .map(|part| &**part)
            .collect::<Vec<_>>()
            .concat();
        self.with(|state| {
            state.call(StorageCall::Write)?;
            let most = state.portion(bytes.len())?;
            let free = state.capacity.saturating_sub(state.used());
            let content = &mut state.inode(self.inode).bytes;
            let offset = offset as usize;
            let room = (content.len() as u64 + free).saturating_sub(offset as u64);
            let count = most.min(usize::try_from(room).unwrap_or(usize::MAX));
            if count == 0 && !bytes.is_empty() {
                return Err(ErrorKind::StorageFull.into());
            }
            if content.len() < offset + count {
                content.resize(offset + count, 0);
            }
            content[offset..offset + count].copy_from_slice(&bytes[..count]);
            Ok(count)
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.with(|state| {
            state.call(StorageCall::Truncate)?;
            state.inode(self.inode).bytes.resize(len as usize, 0);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state| {
            let called = state.call(StorageCall::Sync);
            let inode = state.inode(self.inode);
            inode.lost |= called.is_err();
            called?;
            if inode.lost {
                return Ok(());
            }
            inode.synced.clone_from(&inode.bytes);
            Ok(())
        })
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        let mut state = self.storage.0.lock();
        if state.life == self.life {
            state.inode(self.inode).open -= 1;
            state.sweep();
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn eio() -> Error {
    Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}
