//! Options with which volumes are written.

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeOptions {
    /// Most bytes of one volume, at least [`MIN_VOLUME_SIZE`](crate::limits::MIN_VOLUME_SIZE).
    /// `None`, the default, means that a volume ends when the file system is full.
    pub volume_size: Option<u64>,
    /// True if old content is replaced. By default it is an error.
    ///
    /// The new content is written beside the old one and takes its place in
    /// [`Medium::finish`](super::Medium::finish). Until then, and if it is not called, the old
    /// content stays.
    pub overwrite: bool,
    /// True if old content that may be replaced is removed by the first write, for a file system
    /// that has no room for both. Without effect unless `overwrite` is true. A tape whose file has
    /// another name, a hard link, is refused: its content would be lost under that name, too.
    pub in_place: bool,
    /// True if an archive without any data may replace old content. By default that is an error,
    /// because the cause is nearly always a source that failed.
    pub allow_empty: bool,
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
}
