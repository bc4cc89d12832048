//! Makes a medium from the descriptors that another process has open.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::dir_storage::DirStorage;
use super::medium_handle::Form;
use super::writer::check_size;
use super::{Medium, MediumError, Probe, VirtualTape, VolumeDirectory};

/// A medium that another process has created, and written nothing to.
///
/// # Errors
///
/// [`MediumError::VolumeTooSmall`].
pub(crate) fn reopen_to_write(
    form: Form,
    path: PathBuf,
    volume_size: Option<u64>,
    [file, directory]: [OwnedFd; 2],
) -> Result<Box<dyn Medium>, MediumError> {
    check_size(volume_size)?;
    let (file, storage) = (File::from(file), DirStorage::new(directory));
    Ok(match form {
        Form::Tape => Box::new(VirtualTape::given_to_write(
            storage,
            path,
            file,
            volume_size,
        )),
        Form::Directory => Box::new(VolumeDirectory::given_to_write(
            storage,
            path,
            file,
            volume_size,
        )),
    })
}

/// A medium that another process has open to read.
///
/// # Errors
///
/// As [`VolumeDirectory::open`].
pub(crate) fn reopen_to_read(
    form: Form,
    path: PathBuf,
    descriptor: OwnedFd,
    probe: Probe,
) -> Result<Box<dyn Medium>, MediumError> {
    Ok(match form {
        Form::Tape => Box::new(VirtualTape::given_to_read(path, descriptor.into(), probe)?),
        Form::Directory => Box::new(VolumeDirectory::open_on(
            DirStorage::new(descriptor),
            path,
            probe,
        )?),
    })
}
