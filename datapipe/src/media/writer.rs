//! Writes one volume. A record is written as a whole or not at all.

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use crate::limits::{MAX_RECORD, MIN_VOLUME_SIZE, VOLUME_RESERVE};

use super::layout::{Length, MARK, SHORTEST_FRAME, WORD};
use super::{MediumError, Position, Storage, StorageFile};

/// The writer of one volume, which appends to its file.
#[derive(Debug)]
pub(super) struct VolumeWriter<F> {
    file: F,
    path: PathBuf,
    volume: u32,
    limit: Option<u64>,
    /// Offset at which the next frame begins: everything before it is whole.
    used: u64,
    /// Records and marks before that offset.
    items: u64,
    /// A record did not fit. From then on records may use the reserve.
    ended: bool,
    /// The file's name may not be on stable storage.
    new: bool,
    /// The end of the file, or the part of it that is on stable storage, is not known any more.
    broken: bool,
}

impl<F: StorageFile> VolumeWriter<F> {
    /// A writer to `file`, which is empty and whose name was not synced.
    pub(super) fn new(file: F, path: PathBuf, volume: u32, limit: Option<u64>) -> Self {
        Self {
            file,
            path,
            volume,
            limit,
            used: 0,
            items: 0,
            ended: false,
            new: true,
            broken: false,
        }
    }

    pub(super) fn volume(&self) -> u32 {
        self.volume
    }

    pub(super) fn file(&self) -> &F {
        &self.file
    }

    /// Most bytes of the volume.
    pub(super) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// True if this is the first volume, and nothing was written to it.
    pub(super) fn is_untouched(&self) -> bool {
        self.volume == 1 && self.used == 0 && !self.ended && !self.broken
    }

    pub(super) fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        self.check_intact()?;
        if record.is_empty() {
            return Err(MediumError::Empty);
        }
        let max = self.longest_record();
        if record.len() > max {
            return Err(MediumError::TooLong {
                len: record.len(),
                max,
            });
        }
        let length = Length {
            bytes: record.len() as u32,
            bad: false,
        };
        self.check_room(
            length.frame_len(),
            if self.ended { WORD } else { VOLUME_RESERVE },
        )?;
        let word = length.bytes.to_le_bytes();
        let padding = &[0][..record.len() % 2];
        self.put(&mut [&word, record, padding, &word].map(IoSlice::new))
    }

    pub(super) fn write_mark(&mut self) -> Result<(), MediumError> {
        self.check_intact()?;
        self.check_room(WORD, 0)?;
        self.put(&mut [IoSlice::new(&MARK.to_le_bytes())])?;
        Ok(())
    }

    /// Syncs the file, and its directory if the file's name may not be on stable storage.
    pub(super) fn sync(&mut self, storage: &impl Storage) -> Result<(), MediumError> {
        self.check_intact()?;
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
        (self.new, self.broken) = (false, false);
        Ok(())
    }

    /// The longest record that fits in an empty volume.
    fn longest_record(&self) -> usize {
        let room = self
            .limit
            .map_or(u64::MAX, |limit| (limit - VOLUME_RESERVE - 2 * WORD) & !1);
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
            .is_some_and(|limit| self.used + frame + reserve > limit)
        {
            self.ended = true;
            return Err(MediumError::EndOfVolume {
                volume: self.volume,
            });
        }
        Ok(())
    }

    /// Appends all of `parts`, or leaves the file as it was.
    fn put(&mut self, mut parts: &mut [IoSlice<'_>]) -> Result<Position, MediumError> {
        let position = Position {
            volume: self.volume,
            record: self.items,
            byte: self.used,
        };
        let mut end = self.used;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.file.write_at(parts, end) {
                Ok(0) => return Err(self.roll_back(ErrorKind::WriteZero.into())),
                Ok(bytes) => {
                    end += bytes as u64;
                    IoSlice::advance_slices(&mut parts, bytes);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.roll_back(error)),
            }
        }
        (self.used, self.items) = (end, self.items + 1);
        Ok(position)
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
        if self.used == 0 {
            // Another volume would end in the same way, and so would the one after it.
            return no_space(&self.path, &error);
        }
        self.ended = true;
        MediumError::EndOfVolume {
            volume: self.volume,
        }
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
    let what = format!(
        "not even one record fits ({error}); make room, or continue on another file system"
    );
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

/// Checks the volume size of the options.
pub(super) fn check_size(size: Option<u64>) -> Result<(), MediumError> {
    match size {
        Some(size) if size < MIN_VOLUME_SIZE => Err(MediumError::VolumeTooSmall {
            size,
            min: MIN_VOLUME_SIZE,
        }),
        _ => Ok(()),
    }
}

const _: () = assert!(
    MIN_VOLUME_SIZE > VOLUME_RESERVE + SHORTEST_FRAME,
    "a volume has room for records"
);
