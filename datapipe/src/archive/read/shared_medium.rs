//! A medium that an archive's reader and its heads use in turn.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::media::{
    HandleError, Item, MediumError, MediumHandle, MediumReader, Position, VolumeId,
};

/// A medium with several users. Each of them seeks before it reads, because another one may have
/// moved the medium.
///
/// One of them at a time: each [claims](SharedMedium::claim) the medium for as long as it relies on
/// the position.
#[derive(Debug)]
pub(in crate::archive) struct SharedMedium<M> {
    medium: Arc<Mutex<M>>,
    is_claimed: Arc<Mutex<bool>>,
}

/// The right to move the medium, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim(Arc<Mutex<bool>>);

impl Drop for Claim {
    fn drop(&mut self) {
        *self.0.lock() = false;
    }
}

impl<M> SharedMedium<M> {
    pub(in crate::archive) fn new(medium: M) -> Self {
        Self {
            medium: Arc::new(Mutex::new(medium)),
            is_claimed: Arc::default(),
        }
    }

    /// Claims the medium for one user.
    ///
    /// # Errors
    ///
    /// [`MediumError::BeingRead`] as long as another one has it.
    pub(super) fn claim(&self) -> Result<Claim, MediumError> {
        if std::mem::replace(&mut *self.is_claimed.lock(), true) {
            return Err(MediumError::BeingRead);
        }
        Ok(Claim(Arc::clone(&self.is_claimed)))
    }
}

impl<M> Clone for SharedMedium<M> {
    fn clone(&self) -> Self {
        Self {
            medium: Arc::clone(&self.medium),
            is_claimed: Arc::clone(&self.is_claimed),
        }
    }
}

impl<M: MediumReader> SharedMedium<M> {
    /// Goes to the first volume that exists.
    pub(in crate::archive) fn rewind(&mut self) -> Result<(), MediumError> {
        let mut volume = 1;
        loop {
            match self.seek(Position::start_of(volume)) {
                Err(
                    MediumError::MissingVolume { last, .. } | MediumError::WrongVolume { last, .. },
                ) if volume < last => volume += 1,
                other => return other,
            }
        }
    }
}

impl<M: MediumReader> MediumReader for SharedMedium<M> {
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.medium.lock().read(record)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.medium.lock().read_back(record)
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        self.medium.lock().next_volume()
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        self.medium.lock().seek(to)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        self.medium.lock().seek_end(volume)
    }

    fn volume_id(&mut self, volume: u32) -> Result<VolumeId, MediumError> {
        self.medium.lock().volume_id(volume)
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        self.medium.lock().handle()
    }
}
