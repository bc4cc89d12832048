//! The labels of the volumes in a directory: volumes that are missing, and those whose files do not
//! have the names of their labels, because a copy or a person has exchanged them.

use std::io;
use std::path::{Path, PathBuf};

use crate::interrupt::retry;
use crate::limits::MAX_VOLUMES;
use crate::wire::{RECORD_HEADER_LEN, RecordHeader, RecordKind};

use super::layout::WORD;
use super::volume_files::{Volumes, file_of};
use super::{FileSystem, MediumError, Storage, StorageFile};

/// A file in a directory of volumes that holds another volume than its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MisnamedVolume {
    /// The file.
    pub path: PathBuf,
    /// The number on its label.
    pub volume: u32,
    /// The relation of its volume to the others.
    pub relation: VolumeRelation,
}

/// Relation of a [`MisnamedVolume`] to the other volumes of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VolumeRelation {
    /// It belongs to the archive, and no other file has the number on its label and that volume: a
    /// [`VolumeDirectory`](super::VolumeDirectory) finds it by its label. Rename it, because other
    /// tools do not.
    Exchanged,
    /// It belongs to the archive, and the file with the number on its label holds that volume, too.
    /// It is not read.
    Copy,
    /// It belongs to another archive than the first volume. It is not read.
    OtherArchive,
}

/// Returns the volumes in a directory whose file has the number of another volume in its name, or
/// that belong to another archive than the first one. There is none in a directory whose volumes
/// are being replaced.
///
/// # Errors
///
/// Those of listing the directory. A volume that cannot be read, or has no label of this library,
/// is left out.
pub fn misnamed_volumes(path: impl AsRef<Path>) -> io::Result<Vec<MisnamedVolume>> {
    let path = path.as_ref();
    let labels = Labels::read(path)?;
    let is_in_place = |volume| {
        let label = (volume, labels.archive, volume);
        labels.all.binary_search(&label).is_ok()
    };
    let misnamed = labels.all.iter().filter_map(|&(number, session, volume)| {
        let relation = match session == labels.archive {
            false => VolumeRelation::OtherArchive,
            true if number == volume => return None,
            true if is_in_place(volume) => VolumeRelation::Copy,
            true => VolumeRelation::Exchanged,
        };
        let path = file_of(path, number, false);
        Some(MisnamedVolume {
            path,
            volume,
            relation,
        })
    });
    Ok(misnamed.collect())
}

/// Returns the numbers of the volumes that are not in a directory although later ones of the same
/// archive are, in ascending order. There is none in a directory whose volumes are being replaced.
///
/// # Errors
///
/// As [`misnamed_volumes`].
pub fn missing_volumes(path: impl AsRef<Path>) -> io::Result<Vec<u32>> {
    let labels = Labels::read(path.as_ref())?;
    let own = labels.all.iter().filter(|label| label.1 == labels.archive);
    let mut found: Vec<u32> = own.map(|&(_, _, volume)| volume).collect();
    // A label may have any number.
    let last = found.iter().copied().max().unwrap_or_default();
    let last = last.min(MAX_VOLUMES);
    // A file without a label that can be read may be the volume.
    found.extend(&labels.unknown);
    found.sort_unstable();
    let is_missing = |volume: &u32| found.binary_search(volume).is_err();
    Ok((1..last).filter(is_missing).collect())
}

/// The labels of the volumes in a directory.
#[derive(Debug, Default)]
struct Labels {
    /// The session of the first volume.
    archive: [u8; 16],
    /// Number in the name, session and number on the label of each volume, in ascending order.
    all: Vec<(u32, [u8; 16], u32)>,
    /// Numbers in the names of files whose label cannot be read.
    unknown: Vec<u32>,
}

impl Labels {
    fn read(path: &Path) -> io::Result<Self> {
        let volumes = Volumes::list(&FileSystem, path).map_err(|error| match error {
            MediumError::Io { source, .. } => source,
            error => io::Error::other(error),
        })?;
        let mut labels = Self::default();
        if volumes.switch.is_some() {
            return Ok(labels);
        }
        for number in volumes.current {
            let file = FileSystem.open(&file_of(path, number, false)).ok();
            match file.and_then(|file| label_of(&file)) {
                Some(label) => labels.all.push((number, label.session, label.volume)),
                None => labels.unknown.push(number),
            }
        }
        labels.archive = labels.all.first().map_or([0; 16], |label| label.1);
        Ok(labels)
    }
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
