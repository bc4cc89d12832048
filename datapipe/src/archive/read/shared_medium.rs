//! A medium that an archive's reader and its heads use in turn.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::media::{HandleError, Item, Medium, MediumError, MediumHandle, Position};

/// A medium with several users. Each of them seeks before it reads, because another one may have
/// moved the medium.
#[derive(Debug)]
pub(in crate::archive) struct SharedMedium<M>(Arc<Mutex<M>>);

impl<M> SharedMedium<M> {
    pub(in crate::archive) fn new(medium: M) -> Self {
        Self(Arc::new(Mutex::new(medium)))
    }
}

impl<M> Clone for SharedMedium<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Medium> SharedMedium<M> {
    /// Goes to the first volume that exists.
    pub(in crate::archive) fn rewind(&mut self) -> Result<(), MediumError> {
        let mut volume = 1;
        loop {
            match self.seek(Position::start_of(volume)) {
                Err(MediumError::MissingVolume { last, .. }) if volume < last => volume += 1,
                other => return other,
            }
        }
    }
}

impl<M: Medium> Medium for SharedMedium<M> {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        self.0.lock().write(record)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.0.lock().write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        self.0.lock().sync()
    }

    fn finish(&mut self) -> Result<(), MediumError> {
        self.0.lock().finish()
    }

    fn accepts_empty(&self) -> bool {
        self.0.lock().accepts_empty()
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        self.0.lock().next_volume()
    }

    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.0.lock().read(record)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.0.lock().read_back(record)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        self.0.lock().seek_end(volume)
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        self.0.lock().seek(to)
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        self.0.lock().handle()
    }
}
