//! Writes one volume. A record is written as a whole or not at all.

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, StatxAttributes, StatxFlags, statx};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::geteuid;

use crate::limits::{MAX_RECORD, MIN_VOLUME_SIZE, SYNC_AHEAD, VOLUME_RESERVE};
use crate::wire::{VOLUME_RECORD_LEN, VolumeRecord};
use crate::words::describe_full;

use super::chain::WriteVolume;
use super::layout::{Length, MARK, SHORTEST_FRAME, WORD};
use super::medium_handle::VolumeEnd;
use super::volume_start::RECORD_FRAME;
use super::{Abilities, MediumError, Position, Storage, StorageFile, VolumeId, VolumeOptions};

/// The writer of one volume, which appends to its file.
#[derive(Debug)]
pub(super) struct VolumeWriter<F> {
    file: F,
    path: PathBuf,
    volume: u32,
    id: VolumeId,
    limit: Option<u64>,
    /// Offset at which the next frame begins: everything before it is whole.
    used: u64,
    /// Records and marks before that offset.
    items: u64,
    /// Offset up to which the storage was asked to begin a sync: the start of a page.
    sync_started: u64,
    /// A record did not fit. From then on records may use the reserve.
    ended: bool,
    /// The file system had no room for a record.
    out_of_room: Option<io::Error>,
    /// True if the volume before it ended because there was no room.
    after_full: bool,
    /// Items that the first write puts before its own: the volume record, or marks.
    prefix: Prefix,
    /// The file has old content, which the first write removes.
    has_old: bool,
    /// The file has bytes after `used`, which the first write removes.
    is_torn: bool,
    /// Bytes may be removed from the end of the file.
    cuts_back: bool,
    /// Something was written since the last sync.
    unsynced: bool,
    /// Something was written.
    has_written: bool,
    /// The file's name may not be on stable storage.
    new: bool,
    /// The end of the file, or the part of it that is on stable storage, is not known any more.
    broken: bool,
}

/// Frames that are written together with the first one of a writer, so that a writer that writes
/// nothing changes nothing.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    bytes: Vec<u8>,
    items: u64,
}

impl Prefix {
    /// The frame of a volume record.
    pub(super) fn record(record: &VolumeRecord) -> Self {
        let (record, len) = (record.to_bytes(), (VOLUME_RECORD_LEN as u32).to_le_bytes());
        Self {
            bytes: [&len[..], &record, &len].concat(),
            items: 1,
        }
    }

    pub(super) fn marks(count: u64) -> Self {
        Self {
            bytes: MARK.to_le_bytes().repeat(count as usize),
            items: count,
        }
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The whole part of a volume's file, after which a writer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WholePart {
    /// Its bytes.
    pub(super) len: u64,
    /// Its records, marks and damaged stretches.
    pub(super) items: u64,
    /// True if a torn frame follows.
    pub(super) is_torn: bool,
}

impl<F: StorageFile> VolumeWriter<F> {
    /// A writer to `file`, which is empty and whose name was not synced. The first write begins
    /// with the volume record.
    pub(super) fn new(
        file: F,
        path: PathBuf,
        volume: u32,
        options: &VolumeOptions,
        record: &VolumeRecord,
    ) -> Self {
        Self {
            file,
            path,
            volume,
            id: VolumeId::new(record.id, record.ordinal),
            limit: options.volume_size,
            used: 0,
            items: 0,
            sync_started: 0,
            ended: false,
            out_of_room: None,
            after_full: false,
            prefix: Prefix::record(record),
            has_old: false,
            is_torn: false,
            cuts_back: !record.write_once,
            unsynced: true,
            has_written: false,
            new: true,
            broken: false,
        }
    }

    /// Lets the first write remove the old content of the file.
    pub(super) fn in_place(self) -> Self {
        Self {
            has_old: true,
            ..self
        }
    }

    /// A writer to `file` that goes on after the content that another process has found.
    pub(super) fn continued(
        file: F,
        path: PathBuf,
        options: &VolumeOptions,
        end: VolumeEnd,
    ) -> Result<Self, MediumError> {
        let len = file.len().map_err(MediumError::io("look at", &path))?;
        if len < end.used || len > end.used && !end.is_torn {
            let what = format!(
                "it has {len} bytes, but had {} when it was opened to append: another program has \
                 changed it; keep others from changing it, and append again",
                end.used
            );
            return Err(MediumError::CannotAppend { path, what });
        }
        let record = options.new_record(end.medium, end.volume)?;
        let (bytes, items) = end.prefix;
        let whole = WholePart {
            len: end.used,
            items: end.items,
            is_torn: end.is_torn,
        };
        let new = Self::new(file, path, end.volume, options, &record).known_as(end.id);
        Ok(new.after(whole, Prefix { bytes, items }))
    }

    /// The end of the content, for another process that goes on after it. `medium` is the id of the
    /// medium.
    pub(super) fn end(&self, medium: [u8; 16]) -> VolumeEnd {
        VolumeEnd {
            volume: self.volume,
            id: self.id,
            medium,
            used: self.used,
            items: self.items,
            is_torn: self.is_torn,
            prefix: (self.prefix.bytes.clone(), self.prefix.items),
        }
    }

    /// Lets the first write go on after `whole`, with `prefix`.
    pub(super) fn after(self, whole: WholePart, prefix: Prefix) -> Self {
        Self {
            used: whole.len,
            items: whole.items,
            sync_started: whole.len / PAGE * PAGE,
            is_torn: whole.is_torn,
            prefix,
            ..self
        }
    }

    /// Sets the identity of a volume that has content.
    pub(super) fn known_as(self, id: VolumeId) -> Self {
        Self { id, ..self }
    }

    /// Path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes note that the file has another name, which was synced.
    pub(super) fn renamed(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// Records that the volume before it ended because there was no room. If there is none for more
    /// than a label in this one either, the medium is full.
    pub(super) fn set_after_full(&mut self, after_full: bool) {
        self.after_full = after_full;
    }

    /// The file system's refusal of the record that ended the volume. `None` if the volume ended at
    /// its size.
    pub(super) fn out_of_room(&self) -> Option<&io::Error> {
        self.out_of_room.as_ref()
    }

    /// Makes the end of the file the end of what is whole, before a write.
    fn prepare_end(&mut self) -> Result<(), MediumError> {
        if self.is_torn {
            let cut = self.file.truncate(self.used);
            cut.map_err(MediumError::io("truncate", &self.path))?;
            self.is_torn = false;
        }
        self.remove_old()
    }

    /// Removes the old content, if there is some.
    fn remove_old(&mut self) -> Result<(), MediumError> {
        if self.has_old {
            // A name may have been added since the medium was created.
            self.check_only_name()?;
            (self.has_old, self.broken) = (false, true);
            // Without this sync, a crash could leave old records after the new ones.
            let emptied = self.file.truncate(0).and_then(|()| self.file.sync());
            emptied.map_err(MediumError::io("empty", &self.path))?;
            self.broken = false;
        }
        Ok(())
    }

    /// Checks that old content in this file is not that of another name, too.
    pub(super) fn check_only_name(&self) -> Result<(), MediumError> {
        let names = self.file.links();
        match names.map_err(MediumError::io("look at", &self.path))? {
            0 | 1 => Ok(()),
            names => Err(MediumError::OtherNames {
                path: self.path.clone(),
                names,
            }),
        }
    }

    pub(super) fn file(&self) -> &F {
        &self.file
    }

    /// Bytes that are left of the volume's size, if it has one.
    pub(super) fn room(&self) -> Option<u64> {
        let used = self.used + self.prefix.len();
        self.limit.map(|limit| limit.saturating_sub(used))
    }

    /// True if the volume has content, even a torn record only.
    pub(super) fn has_content(&self) -> bool {
        self.used > 0 || self.is_torn
    }

    /// True if nothing was written since the volume was opened.
    pub(super) fn is_as_opened(&self) -> bool {
        !self.has_written && !self.ended && !self.broken
    }

    /// Syncs the file, and its directory if the file's name may not be on stable storage.
    pub(super) fn sync(&mut self, storage: &impl Storage<File = F>) -> Result<(), MediumError> {
        self.check_intact()?;
        self.remove_old()?;
        // A kernel that failed to write a page may mark it clean, so a second sync would succeed
        // although the data is lost. Only success clears this flag.
        self.broken = true;
        self.file
            .sync()
            .map_err(MediumError::io("sync", &self.path))?;
        if self.new {
            let directory = directory_of(&self.path);
            storage
                .sync_directory(directory)
                .map_err(MediumError::io("sync the directory", directory))?;
        }
        self.check_name(storage)?;
        (self.new, self.broken, self.unsynced) = (false, false, false);
        Ok(())
    }

    /// As [`sync`](Self::sync), if something was written since the last one. Checks in any case
    /// that the file still has its name.
    pub(super) fn finish(&mut self, storage: &impl Storage<File = F>) -> Result<(), MediumError> {
        self.check_intact()?;
        match self.unsynced {
            true => self.sync(storage)?,
            false => self.check_name(storage)?,
        }
        self.check_len()
            .map_err(MediumError::io("finish", &self.path))
    }

    /// True if the path still names this file.
    pub(super) fn has_name(&self, storage: &impl Storage<File = F>) -> bool {
        self.check_name(storage).is_ok()
    }

    /// Checks that the path still names this file.
    fn check_name(&self, storage: &impl Storage<File = F>) -> Result<(), MediumError> {
        let own = self.file.identity();
        let own = own.map_err(MediumError::io("look at", &self.path))?;
        check_identity(storage, &self.path, own)
    }

    /// Checks that the file still has all that was written.
    fn check_len(&self) -> io::Result<()> {
        let len = self.file.len()?;
        if len >= self.used {
            return Ok(());
        }
        let used = self.used;
        let what = format!(
            "{used} bytes were written, but it has {len}: another program has cut it; keep others \
             from changing it, and write it again"
        );
        Err(io::Error::other(what))
    }

    /// The longest record that fits in an empty volume.
    fn longest_record(&self) -> usize {
        let room = self.limit.map_or(u64::MAX, |limit| {
            (limit - VOLUME_RESERVE - RECORD_FRAME - 2 * WORD) & !1
        });
        room.min(MAX_RECORD as u64) as usize
    }

    /// Refuses any use after a failure that left the end of the file unknown.
    fn check_intact(&self) -> Result<(), MediumError> {
        if self.broken {
            Err(MediumError::Broken {
                path: self.path.clone(),
            })
        } else {
            Ok(())
        }
    }

    /// Refuses a frame of `frame` bytes unless `reserve` bytes remain after it.
    fn check_room(&mut self, frame: u64, reserve: u64) -> Result<(), MediumError> {
        if self
            .limit
            .is_some_and(|limit| self.used + self.prefix.len() + frame + reserve > limit)
        {
            self.ended = true;
            return Err(MediumError::EndOfVolume {
                volume: self.volume,
            });
        }
        Ok(())
    }

    /// Appends an item that consists of `parts`, or leaves the file as it was.
    fn put(&mut self, parts: &mut [IoSlice<'_>]) -> Result<Position, MediumError> {
        let position = Position {
            volume: self.volume,
            record: self.items + self.prefix.items,
            byte: self.used + self.prefix.len(),
        };
        self.put_after_prefix(parts, 1)?;
        Ok(position)
    }

    /// Appends the prefix, and `items` items that consist of `parts`, or leaves the file as it was.
    fn put_after_prefix(
        &mut self,
        parts: &mut [IoSlice<'_>],
        items: u64,
    ) -> Result<(), MediumError> {
        self.prepare_end()?;
        self.unsynced = true;
        let begun = self.put_at(self.used, &mut [IoSlice::new(&self.prefix.bytes)]);
        let end = begun
            .and_then(|end| self.put_at(end, parts))
            .map_err(|error| self.roll_back(error))?;
        (self.used, self.items) = (end, self.items + self.prefix.items + items);
        (self.prefix, self.has_written) = (Prefix::default(), true);
        self.start_sync();
        Ok(())
    }

    /// Asks the storage to begin with the pages that are full, once there are enough of them.
    /// Without this the disk would be idle until a sync, and the writer would be idle then.
    fn start_sync(&mut self) {
        let full = self.used / PAGE * PAGE;
        let len = full.saturating_sub(self.sync_started);
        if len >= SYNC_AHEAD {
            self.file.start_sync(self.sync_started, len);
            self.sync_started = full;
        }
    }

    /// Writes all of `parts` at byte `end`, and returns the byte after them.
    fn put_at(&self, mut end: u64, mut parts: &mut [IoSlice<'_>]) -> io::Result<u64> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.file.write_at(parts, end) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    end += bytes as u64;
                    IoSlice::advance_slices(&mut parts, bytes);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(end)
    }

    /// Removes the written part of a frame, and returns the error that `error` means for the
    /// caller.
    ///
    /// A full file system ends the volume, as the end of a tape does. In an empty volume it is
    /// [`MediumError::Full`] instead: another volume would not have room either.
    fn roll_back(&mut self, error: io::Error) -> MediumError {
        if let Err(error) = self.file.truncate(self.used) {
            self.broken = true;
            return MediumError::io("truncate", &self.path)(error);
        }
        if !is_full(&error) {
            return MediumError::io("write", &self.path)(error);
        }
        if self.used == 0 || (self.after_full && self.items <= RECORD_AND_LABEL) {
            // Another volume would end in the same way, and so would the one after it.
            return no_space(&self.path, &error);
        }
        (self.ended, self.out_of_room) = (true, Some(error));
        MediumError::EndOfVolume {
            volume: self.volume,
        }
    }
}

impl<F: StorageFile> WriteVolume for VolumeWriter<F> {
    fn number(&self) -> u32 {
        self.volume
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<Position, MediumError> {
        self.check_intact()?;
        let len = parts.iter().map(|part| part.len()).sum();
        if len == 0 {
            return Err(MediumError::Empty);
        }
        let max = self.longest_record();
        if len > max {
            return Err(MediumError::TooLong { len, max });
        }
        let length = Length {
            bytes: len as u32,
            bad: false,
        };
        self.check_room(
            length.frame_len(),
            if self.ended { WORD } else { VOLUME_RESERVE },
        )?;
        let word = length.bytes.to_le_bytes();
        let padding = &[0][..len % 2];
        let frame = [&[&word[..]], parts, &[padding, &word[..]]].concat();
        let mut frame: Vec<_> = frame.into_iter().map(IoSlice::new).collect();
        self.put(&mut frame)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.check_intact()?;
        self.check_room(WORD, 0)?;
        self.put(&mut [IoSlice::new(&MARK.to_le_bytes())])?;
        Ok(())
    }

    /// Writes the marks that are missing after the old content, without anything after them. If
    /// there is no room for them, the end of the volume does as well.
    fn complete(&mut self) -> Result<(), MediumError> {
        self.check_intact()?;
        let end = self.used + self.prefix.len();
        let fits = self.limit.is_none_or(|limit| end <= limit);
        let has_old = self.used > 0;
        if !(fits && has_old && (self.prefix.items > 0 || self.is_torn)) {
            return Ok(());
        }
        match self.put_after_prefix(&mut [], 0) {
            Err(MediumError::EndOfVolume { .. }) => Ok(()),
            done => done,
        }
    }

    fn abilities(&self) -> Abilities {
        Abilities::default()
            .longest_record(self.longest_record())
            .cuts_back(self.cuts_back)
    }

    fn id(&self) -> VolumeId {
        self.id
    }
}

/// Checks that `path` names the file with this identity.
pub(super) fn check_identity<S: Storage>(
    storage: &S,
    path: &Path,
    identity: (u64, u64),
) -> Result<(), MediumError> {
    match storage.identity(path) {
        Ok(found) if found == identity => Ok(()),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(MediumError::io("look at", path)(error))
        }
        _ => Err(MediumError::Displaced {
            path: path.to_owned(),
        }),
    }
}

/// Locks a file that is open to write, and returns true if `path` still names it: another writer
/// may have replaced the file before the lock was taken.
pub(super) fn lock_file<S: Storage>(
    storage: &S,
    path: &Path,
    file: &S::File,
    medium: &Path,
) -> Result<bool, MediumError> {
    let locked = file.lock().map_err(explain_no_locks);
    if let Some(writer) = locked.map_err(MediumError::io("lock", path))? {
        return Err(MediumError::InUse {
            path: medium.to_owned(),
            writer,
        });
    }
    let own = file.identity().map_err(MediumError::io("look at", path))?;
    match check_identity(storage, path, own) {
        Err(MediumError::Displaced { .. }) => Ok(false),
        checked => checked.map(|()| true),
    }
}

/// Checks that another file can take the name `path`: otherwise the job would fail at its end, when
/// all is written. `remedy` ends the error.
pub(super) fn check_gives_way<S: Storage>(path: &Path, remedy: &str) -> Result<(), MediumError> {
    // Only these files are the kernel's.
    if !S::LOCKS {
        return Ok(());
    }
    let look = |path: &Path, flags| {
        retry_on_intr(|| statx(CWD, path, flags, StatxFlags::BASIC_STATS))
            .map_err(|error| MediumError::io("look at", path)(error.into()))
    };
    let found = look(path, AtFlags::SYMLINK_NOFOLLOW)?;
    let directory = look(directory_of(path), AtFlags::empty())?;
    let user = geteuid().as_raw();
    let is_sticky = u32::from(directory.stx_mode) & Mode::SVTX.bits() != 0;
    let what = if found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        "it is a mount point, and no other file can take its name"
    } else if is_sticky && ![0, found.stx_uid, directory.stx_uid].contains(&user) {
        "it belongs to another user, and its directory is sticky, so that no other file can take \
         its name"
    } else {
        return Ok(());
    };
    let error = io::Error::other(format!("{what}; {remedy}"));
    Err(MediumError::io("replace", path)(error))
}

/// Adds the remedy to the error of a file system that does not have the locks of a medium.
fn explain_no_locks(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::NOLCK | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
            let what = "its file system cannot lock it against other writers: mount it with locks, \
                        or write to another file system";
            io::Error::new(error.kind(), format!("{error}; {what}"))
        }
        _ => error,
    }
}

/// The error of a directory entry that an open for writing did not find, although it exists.
pub(super) fn cannot_open(path: &Path) -> impl FnOnce(io::Error) -> MediumError {
    move |error| {
        let error = match error.kind() {
            ErrorKind::NotFound => io::Error::new(
                ErrorKind::NotFound,
                "it is a symbolic link to a file that does not exist; remove the link, or make \
                 the directory and the file that it names",
            ),
            // A pipe that no program reads, or a socket.
            _ if Errno::from_io_error(&error) == Some(Errno::NXIO) => {
                io::Error::new(error.kind(), "it is not a regular file")
            }
            _ => error,
        };
        MediumError::io("open", path)(error)
    }
}

/// True if an error means that there is no room, rather than that the storage failed.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

/// The error of a file that has no room for anything.
pub(super) fn no_space(path: &Path, error: &io::Error) -> MediumError {
    let error = describe_full(error);
    let what =
        format!("not even one record fits: {error}; make room, or write to another file system");
    MediumError::Full {
        path: path.to_owned(),
        what,
    }
}

/// The directory that contains `path`.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Bytes that a file system writes at once.
const PAGE: u64 = 4096;

/// Items of a volume that has a record and a label.
const RECORD_AND_LABEL: u64 = 2;

const _: () = assert!(
    MIN_VOLUME_SIZE > VOLUME_RESERVE + RECORD_FRAME + SHORTEST_FRAME,
    "a volume has room for records"
);
