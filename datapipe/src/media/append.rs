//! Goes on after the content of a volume: finds the end of what is whole, and adds the marks that
//! an unfinished writer has left out.

use std::path::Path;

use crate::limits::VOLUME_RESERVE;

use super::reader::VolumeReader;
use super::volume_start::VolumeStart;
use super::writer::{Prefix, VolumeWriter};
use super::{MediumError, Probe, Storage, StorageFile, VolumeId, VolumeOptions};

/// Marks that precede what is appended.
const MARKS: u64 = 2;

/// A volume that is written after its content.
#[derive(Debug)]
pub(super) struct Continued<F> {
    pub(super) writer: VolumeWriter<F>,
    /// The caller's options, with what the volume's record says.
    pub(super) options: VolumeOptions,
}

/// Makes the writer of a volume that may have content. `file` is open to write, and locked. `of` is
/// the id of the medium and the number of the volume in it, for a volume that gets its record now.
pub(super) fn go_on<S: Storage>(
    storage: &S,
    path: &Path,
    file: S::File,
    of: ([u8; 16], u32),
    options: VolumeOptions,
    probe: Probe,
) -> Result<Continued<S::File>, MediumError> {
    let (medium, number) = of;
    let opened = storage.open(path).map_err(MediumError::io("open", path))?;
    let same = (|| Ok(opened.identity()? == file.identity()?))();
    if !same.map_err(MediumError::io("look at", path))? {
        let path = path.to_owned();
        return Err(MediumError::Displaced { path });
    }
    let len = file.len().map_err(MediumError::io("look at", path))?;
    let mut reader = VolumeReader::new(opened, path.to_owned(), number, probe)?;
    let start = reader.start()?.clone();
    let Some((mut whole, mut marks)) = reader.whole_part()? else {
        let what = "its content ends with a word for the end of the medium, which another program \
                    has written, and no reader would find what follows it";
        return Err(cannot_append(path, what));
    };
    let options = match start.record() {
        Some(record) => options.of_medium(record),
        None => options,
    };
    let new = options.new_record(medium, number)?;
    if options.write_once && whole.is_torn && whole.len > 0 {
        // What is torn stays, and is damage.
        (whole.len, whole.items, whole.is_torn) = (len, whole.items + 1, false);
        marks = 0;
    }
    let prefix = if whole.len == 0 {
        Prefix::record(&new)
    } else {
        let has_items = whole.len > start.len();
        Prefix::marks(MARKS.saturating_sub(marks) * u64::from(has_items))
    };
    let base = VolumeWriter::new(file, path.to_owned(), number, &options, &new);
    let base = match (whole.len, start.record()) {
        (0, _) => base,
        (_, Some(record)) => base.known_as(VolumeId::new(record.id, record.ordinal)),
        (_, None) => base.known_as(VolumeId::default()),
    };
    Ok(Continued {
        writer: base.after(whole, prefix),
        options,
    })
}

impl<F: StorageFile> Continued<F> {
    /// True if the volume has room for a label, and what is reserved after it.
    pub(super) fn has_room(&self) -> bool {
        let room = self.writer.room();
        room.is_none_or(|room| room >= 2 * VOLUME_RESERVE)
    }
}

/// Checks that a volume is the one of its name: appending to another would mix two media.
pub(super) fn check_is_in_place(
    path: &Path,
    number: u32,
    start: &VolumeStart,
    first: &VolumeStart,
) -> Result<(), MediumError> {
    let Some(record) = start.record() else {
        return Ok(());
    };
    if record.ordinal != 0 && record.ordinal != number {
        let what = format!(
            "its record says that it is volume {} of its medium; rename the volumes to the \
             numbers in their records",
            record.ordinal
        );
        return Err(cannot_append(path, what));
    }
    let is_other = first
        .record()
        .is_some_and(|first| first.medium != [0; 16] && first.medium != record.medium);
    if is_other {
        let what = "its record says that it belongs to another medium than the first volume; put \
                    it into a directory of its own";
        return Err(cannot_append(path, what));
    }
    Ok(())
}

fn cannot_append(path: &Path, what: impl Into<String>) -> MediumError {
    MediumError::CannotAppend {
        path: path.to_owned(),
        what: what.into(),
    }
}
