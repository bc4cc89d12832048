//! The labels of the volumes in a directory: volumes that are missing, and those whose files do not
//! have the names of their labels, because a copy or a person has exchanged them.

use std::io;
use std::path::{Path, PathBuf};

use crate::interrupt::retry;
use crate::limits::MAX_VOLUMES;
use crate::wire::{RECORD_HEADER_LEN, RecordHeader, RecordKind, VolumeRecord};

use super::layout::WORD;
use super::volume_files::{Volumes, file_of};
use super::volume_start::VolumeStart;
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
    let is_in_place = |volume| labels.all.contains(&(volume, true, volume));
    let misnamed = labels.all.iter().filter_map(|&(number, is_own, volume)| {
        let relation = match is_own {
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
    let own = labels.all.iter().filter(|label| label.1);
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

/// The volumes in a directory, by their labels.
#[derive(Debug, Default)]
struct Labels {
    /// For each volume the number in its name, true if it is of the medium of the first one, and
    /// the number on its label, in ascending order.
    all: Vec<(u32, bool, u32)>,
    /// Numbers in the names of files whose label cannot be read.
    unknown: Vec<u32>,
}

impl Labels {
    fn read(path: &Path) -> io::Result<Self> {
        let volumes = list(path)?;
        let mut labels = Self::default();
        if volumes.switch.is_some() {
            return Ok(labels);
        }
        let mut first = None;
        for number in volumes.current {
            let file = FileSystem.open(&file_of(path, number, false)).ok();
            let own = file.map(|file| VolumeLabels::of(&file)).unwrap_or_default();
            let Some(volume) = own.number() else {
                labels.unknown.push(number);
                continue;
            };
            let first: &VolumeLabels = first.get_or_insert_with(|| own.clone());
            match first.is_same_medium(&own) {
                // Its number in a session that perhaps did not begin on the first volume.
                None if own.is_lost => labels.unknown.push(number),
                is_own => labels.all.push((number, is_own.unwrap_or(true), volume)),
            }
        }
        Ok(labels)
    }
}

/// Lists the volumes of a directory.
fn list(path: &Path) -> io::Result<Volumes> {
    Volumes::list(&FileSystem, path).map_err(|error| match error {
        MediumError::Io { source, .. } => source,
        error => io::Error::other(error),
    })
}

/// A volume's record, and the label of the session that follows it: each has the number of the
/// volume, and an id that the other volumes share. The record decides where both volumes have one,
/// because a volume may have several sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct VolumeLabels {
    record: Option<VolumeRecord>,
    /// The volume had a record, which is damaged.
    is_lost: bool,
    /// Session, and number of the volume in it.
    label: Option<([u8; 16], u32)>,
}

impl VolumeLabels {
    pub(super) fn of(file: &impl StorageFile) -> Self {
        let Ok(start) = VolumeStart::read(file) else {
            return Self::default();
        };
        let label = label_at(file, start.len());
        Self {
            record: start.record().cloned(),
            is_lost: start == VolumeStart::Lost,
            label: label.map(|label| (label.session, label.volume)),
        }
    }

    /// Id of the medium and number in it, if the record has both.
    fn of_medium(&self) -> Option<([u8; 16], u32)> {
        let record = self.record.as_ref()?;
        (record.medium != [0; 16] && record.ordinal > 0).then_some((record.medium, record.ordinal))
    }

    pub(super) fn has_record(&self) -> bool {
        self.of_medium().is_some()
    }

    /// Number of the volume.
    pub(super) fn number(&self) -> Option<u32> {
        self.of_medium().or(self.label).map(|(_, number)| number)
    }

    /// True if both volumes are of one medium. `None` if nothing that both have tells: the first
    /// sessions of two volumes may differ on one medium, so they tell nothing if a record was lost.
    pub(super) fn is_same_medium(&self, other: &Self) -> Option<bool> {
        if let Some((own, others)) = self.of_medium().zip(other.of_medium()) {
            return Some(own.0 == others.0);
        }
        let (own, others) = self.label.zip(other.label)?;
        let is_same = own.0 == others.0;
        (is_same || !(self.is_lost || other.is_lost)).then_some(is_same)
    }

    /// Describes this volume, if its record says that it is of another medium than `other`.
    pub(super) fn foreign_to(&self, other: &Self) -> Option<String> {
        let record = self.record.as_ref()?;
        let (own, other) = (self.of_medium()?, other.of_medium()?);
        (own.0 != other.0).then(|| {
            let label = match record.label.is_empty() {
                true => String::new(),
                false => format!(" with the label {:?}", record.label),
            };
            format!("volume {} of another medium{label}", own.1)
        })
    }
}

/// Returns the file of the volume that `number` is the number of, among those of the medium `of`.
pub(super) fn find_by_label<S: Storage>(
    storage: &S,
    path: &Path,
    number: u32,
    of: &VolumeLabels,
) -> Option<(PathBuf, S::File)> {
    let volumes = Volumes::list(storage, path).ok()?.current;
    volumes.into_iter().find_map(|name| {
        let file = file_of(path, name, false);
        let opened = storage.open(&file).ok()?;
        let found = VolumeLabels::of(&opened);
        let is_it = found.number() == Some(number) && of.is_same_medium(&found) == Some(true);
        is_it.then_some((file, opened))
    })
}

/// The header of the label at `start` in a volume.
fn label_at(file: &impl StorageFile, start: u64) -> Option<RecordHeader> {
    const LEN: usize = WORD as usize + RECORD_HEADER_LEN;
    let (mut bytes, mut len) = ([0; LEN], 0);
    while len < LEN {
        match retry(|| file.read_at(&mut bytes[len..], start + len as u64)) {
            Ok(read @ 1..) => len += read,
            _ => return None,
        }
    }
    let header = RecordHeader::parse_header(&bytes[WORD as usize..]).ok()?;
    (header.kind == RecordKind::Label).then_some(header)
}

/// A file with a volume, as its start describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeFile {
    /// The file.
    pub path: PathBuf,
    /// The volume's record, if it can be read.
    pub record: Option<VolumeRecord>,
    /// True if the volume had a record that is damaged. It is read all the same.
    pub is_record_lost: bool,
    /// Number of the volume on the label of its first session, if it has one.
    pub label: Option<u32>,
}

/// Returns the volumes of a medium, a virtual tape or a directory, in the order of their names.
///
/// # Errors
///
/// Those of opening the tape, or of listing the directory. A volume that cannot be opened is left
/// out.
///
/// # Examples
///
/// ```
/// use datapipe::media::{MediumWriter, VirtualTape, VolumeOptions, volume_files};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("nightly.tap");
/// let mut tape = VirtualTape::create(&path, VolumeOptions::default().label("A00001"))?;
/// tape.write(b"a record")?;
/// tape.finish()?;
/// let record = volume_files(&path)?[0].record.clone().expect("it has one");
/// assert_eq!(record.label, "A00001");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn volume_files(path: impl AsRef<Path>) -> io::Result<Vec<VolumeFile>> {
    let path = path.as_ref();
    if !path.is_dir() {
        return Ok(vec![volume_file(path)?]);
    }
    let files = list(path)?.current.into_iter();
    let files = files.map(|number| volume_file(&file_of(path, number, false)));
    Ok(files.flatten().collect())
}

fn volume_file(path: &Path) -> io::Result<VolumeFile> {
    let file = FileSystem.open(path)?;
    let start = VolumeStart::read(&file)?;
    Ok(VolumeFile {
        path: path.to_owned(),
        record: start.record().cloned(),
        is_record_lost: start == VolumeStart::Lost,
        label: label_at(&file, start.len()).map(|label| label.volume),
    })
}
