//! Reopens a medium from the descriptors that another process has sent.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::dir_storage::DirStorage;
use super::medium_handle::{Form, Replacing, VolumeEnd};
use super::{MediumError, MediumReader, MediumWriter, VirtualTape, VolumeDirectory, VolumeOptions};
use crate::wire::looks_like_record;

/// Reopens a medium that another process has created and not written to. The last descriptor has
/// the lock.
///
/// # Errors
///
/// [`MediumError::VolumeTooSmall`], [`MediumError::TextTooLong`] and [`MediumError::Io`].
pub(crate) fn reopen_to_write(
    form: Form,
    path: PathBuf,
    options: VolumeOptions,
    replacing: Option<Replacing>,
    [file, directory, lock]: [OwnedFd; 3],
) -> Result<Box<dyn MediumWriter>, MediumError> {
    options.check()?;
    let (files, storage) = (
        [File::from(file), File::from(lock)],
        DirStorage::new(directory),
    );
    Ok(match form {
        Form::Tape => Box::new(VirtualTape::from_descriptors_to_write(
            storage, path, files, options, replacing,
        )?),
        Form::Directory => Box::new(VolumeDirectory::from_descriptors_to_write(
            storage, path, files, options, replacing,
        )?),
    })
}

/// Reopens a medium that another process has opened to append, and not written to. The last
/// descriptor has the lock.
///
/// # Errors
///
/// As [`reopen_to_write`], and [`MediumError::CannotAppend`] if the content has changed since.
pub(crate) fn reopen_to_append(
    form: Form,
    path: PathBuf,
    options: VolumeOptions,
    end: VolumeEnd,
    [file, directory, lock]: [OwnedFd; 3],
) -> Result<Box<dyn MediumWriter>, MediumError> {
    options.check()?;
    let (file, storage) = (File::from(file), DirStorage::new(directory));
    Ok(match form {
        Form::Tape => Box::new(VirtualTape::from_descriptor_to_append(
            storage, path, file, options, end,
        )?),
        Form::Directory => Box::new(VolumeDirectory::from_descriptors_to_append(
            storage,
            path,
            [file, lock.into()],
            options,
            end,
        )?),
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
) -> Result<Box<dyn MediumReader>, MediumError> {
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
