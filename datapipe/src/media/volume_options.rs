//! Options with which volumes are written.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::limits::{MAX_VOLUME_TEXT, MIN_VOLUME_SIZE};
use crate::wire::{Time, VolumeRecord};

use super::MediumError;

/// Options with which volumes are written.
///
/// ```
/// use datapipe::media::VolumeOptions;
///
/// let options = VolumeOptions::default()
///     .volume_size(64 << 20)
///     .overwrite(true);
/// assert_eq!(options.volume_size, Some(64 << 20));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeOptions {
    /// Most bytes of one volume, at least [`MIN_VOLUME_SIZE`].
    /// `None`, the default, means that a volume ends when the file system is full.
    pub volume_size: Option<u64>,
    /// True if old content is replaced. By default it is an error.
    ///
    /// The new content is written beside the old one and takes its place in
    /// [`MediumWriter::finish`](super::MediumWriter::finish). Until then, and if it is not called,
    /// the old content stays.
    pub overwrite: bool,
    /// True if old content that may be replaced is removed by the first write, for a file system
    /// that has no room for both. Without effect unless `overwrite` is true. A tape whose file has
    /// another name, a hard link, is refused: its content would be lost under that name, too.
    pub in_place: bool,
    /// True if an archive without any data may replace old content. By default that is an error,
    /// because the cause is nearly always a source that failed.
    pub allow_empty: bool,
    /// Label of each volume, for people: at most [`MAX_VOLUME_TEXT`] bytes. Empty by default.
    pub label: String,
    /// Pool that each volume belongs to: at most [`MAX_VOLUME_TEXT`] bytes. Empty by default.
    pub pool: String,
    /// True if what was written to a volume must stay: [`append`](super::VirtualTape::append) then
    /// does not remove a torn frame from its end. False by default.
    pub write_once: bool,
}

impl VolumeOptions {
    /// Sets the most bytes of one volume, or `None` for no limit but the file system's.
    #[must_use]
    pub fn volume_size(self, bytes: impl Into<Option<u64>>) -> Self {
        Self {
            volume_size: bytes.into(),
            ..self
        }
    }

    /// Sets [`overwrite`](field@Self::overwrite).
    #[must_use]
    pub fn overwrite(self, overwrite: bool) -> Self {
        Self { overwrite, ..self }
    }

    /// Sets [`in_place`](field@Self::in_place).
    #[must_use]
    pub fn in_place(self, in_place: bool) -> Self {
        Self { in_place, ..self }
    }

    /// Sets [`allow_empty`](field@Self::allow_empty).
    #[must_use]
    pub fn allow_empty(self, allow_empty: bool) -> Self {
        Self {
            allow_empty,
            ..self
        }
    }

    /// Sets [`label`](field@Self::label).
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            ..self
        }
    }

    /// Sets [`pool`](field@Self::pool).
    #[must_use]
    pub fn pool(self, pool: impl Into<String>) -> Self {
        Self {
            pool: pool.into(),
            ..self
        }
    }

    /// Sets [`write_once`](field@Self::write_once).
    #[must_use]
    pub fn write_once(self, write_once: bool) -> Self {
        Self { write_once, ..self }
    }

    /// Checks the volume size and the lengths of the texts.
    pub(super) fn check(&self) -> Result<(), MediumError> {
        if let Some(size) = self.volume_size.filter(|size| *size < MIN_VOLUME_SIZE) {
            let min = MIN_VOLUME_SIZE;
            return Err(MediumError::VolumeTooSmall { size, min });
        }
        for (text, what) in [(&self.label, "label"), (&self.pool, "pool")] {
            let (len, max) = (text.len(), MAX_VOLUME_TEXT);
            if len > max {
                return Err(MediumError::TextTooLong { what, len, max });
            }
        }
        Ok(())
    }

    /// Makes the record of a new volume, of the medium `medium`.
    pub(super) fn new_record(
        &self,
        medium: [u8; 16],
        ordinal: u32,
    ) -> Result<VolumeRecord, MediumError> {
        let mut record = VolumeRecord::new(new_id()?, medium, ordinal, now());
        record.write_once = self.write_once;
        record.pool.clone_from(&self.pool);
        record.label.clone_from(&self.label);
        Ok(record)
    }

    /// Takes over from a volume what the volumes after it have from it: what is not set here, and
    /// that they are written once.
    pub(super) fn of_medium(mut self, record: &VolumeRecord) -> Self {
        for (own, theirs) in [
            (&mut self.label, &record.label),
            (&mut self.pool, &record.pool),
        ] {
            if own.is_empty() {
                own.clone_from(theirs);
            }
        }
        self.write_once |= record.write_once;
        self
    }
}

/// Returns a random id.
pub(super) fn new_id() -> Result<[u8; 16], MediumError> {
    let (mut id, mut filled) = ([0; 16], 0);
    while filled < id.len() {
        let got = retry_on_intr(|| getrandom(&mut id[filled..], GetRandomFlags::empty()));
        let source = Path::new("/dev/urandom");
        filled += got
            .map_err(|error| MediumError::io("draw a random id, as from", source)(error.into()))?;
    }
    Ok(id)
}

/// Returns the present time, or 1970 if the clock is set before that: a wrong clock must not
/// prevent a backup.
pub(crate) fn now() -> Time {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Time {
            seconds: since.as_secs() as i64,
            nanoseconds: since.subsec_nanos(),
        },
        Err(_) => Time::default(),
    }
}
