//! Options with which volumes are written.

/// How volumes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeOptions {
    /// Most bytes of one volume, at least [`MIN_VOLUME_SIZE`](crate::limits::MIN_VOLUME_SIZE); none
    /// means that a volume ends when the file system is full.
    pub volume_size: Option<u64>,
    /// Whether volumes that are there are removed first.
    pub overwrite: bool,
}
