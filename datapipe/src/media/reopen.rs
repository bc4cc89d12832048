//! Reopens a medium from the descriptors that another process has sent.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::dir_storage::DirStorage;
use super::medium_handle::Form;
use super::writer::check_size;
use super::{Medium, MediumError, VirtualTape, VolumeDirectory};
use crate::wire::looks_like_record;

/// Reopens a medium that another process has created and not written to.
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
        Form::Tape => Box::new(VirtualTape::from_descriptors_to_write(
            storage,
            path,
            file,
            volume_size,
        )),
        Form::Directory => Box::new(VolumeDirectory::from_descriptors_to_write(
            storage,
            path,
            file,
            volume_size,
        )),
    })
}

/// Reopens a medium that another process has open to read.
///
/// # Errors
///
/// As [`VolumeDirectory::open`].
pub(crate) fn reopen_to_read(
    form: Form,
    path: PathBuf,
    descriptor: OwnedFd,
) -> Result<Box<dyn Medium>, MediumError> {
    Ok(match form {
        Form::Tape => Box::new(VirtualTape::from_descriptors_to_read(
            path,
            descriptor.into(),
            looks_like_record,
        )?),
        Form::Directory => Box::new(VolumeDirectory::open_on(
            DirStorage::new(descriptor),
            path,
            looks_like_record,
        )?),
    })
}
