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
    /// True if old volumes are removed first. By default they are an error.
    pub overwrite: bool,
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

    /// Sets whether old volumes are removed first.
    #[must_use]
    pub fn overwrite(self, overwrite: bool) -> Self {
        Self { overwrite, ..self }
    }
}
