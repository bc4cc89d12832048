//! Volumes whose files do not have the names of their labels, because a copy or a person has
//! exchanged them.

use std::io;
use std::path::{Path, PathBuf};

use crate::interrupt::retry;
use crate::wire::{RECORD_HEADER_LEN, RecordHeader, RecordKind};

use super::layout::WORD;
use super::volume_files::{Volumes, file_of};
use super::{FileSystem, MediumError, Storage, StorageFile};

/// Returns the volumes in a directory whose file has the number of another volume in its name, each
/// with the number on its label. A [`VolumeDirectory`](super::VolumeDirectory) reads volumes that
/// have exchanged their names by their labels; rename them all the same, because other tools do
/// not.
///
/// # Errors
///
/// Those of listing the directory. A volume that cannot be read, or has no label of this library,
/// is left out.
pub fn misnamed_volumes(path: impl AsRef<Path>) -> io::Result<Vec<(PathBuf, u32)>> {
    let path = path.as_ref();
    let volumes = Volumes::list(&FileSystem, path).map_err(|error| match error {
        MediumError::Io { source, .. } => source,
        error => io::Error::other(error),
    })?;
    let misnamed = volumes.current.into_iter().filter_map(|number| {
        let file = file_of(path, number, false);
        let label = label_of(&FileSystem.open(&file).ok()?)?;
        (label.volume != number).then_some((file, label.volume))
    });
    Ok(misnamed.collect())
}

/// Returns the file of the volume that `volume` is the number of, if `named`, the file with that
/// number in its name, is another volume of the same session.
pub(super) fn find_by_label<S: Storage>(
    storage: &S,
    path: &Path,
    volume: u32,
    named: &S::File,
) -> Option<(PathBuf, S::File)> {
    let session = label_of(named)
        .filter(|label| label.volume != volume)?
        .session;
    let volumes = Volumes::list(storage, path).ok()?.current;
    volumes.into_iter().find_map(|number| {
        let file = file_of(path, number, false);
        let opened = storage.open(&file).ok()?;
        let label = label_of(&opened)?;
        (label.session == session && label.volume == volume).then_some((file, opened))
    })
}

/// The header of the label at the start of a volume.
fn label_of(file: &impl StorageFile) -> Option<RecordHeader> {
    const START: usize = WORD as usize + RECORD_HEADER_LEN;
    let (mut start, mut len) = ([0; START], 0);
    while len < START {
        match retry(|| file.read_at(&mut start[len..], len as u64)) {
            Ok(read @ 1..) => len += read,
            _ => return None,
        }
    }
    let header = RecordHeader::parse_header(&start[WORD as usize..]).ok()?;
    (header.kind == RecordKind::Label).then_some(header)
}
