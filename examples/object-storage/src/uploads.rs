//! Parts on their way to the storage.

use std::collections::VecDeque;

use datapipe::media::MediumError;
use object_store::ObjectStoreExt as _;
use tokio::task::JoinHandle;

use crate::site::Site;

/// Uploads of parts, in the order in which they began.
#[derive(Debug)]
pub(crate) struct Uploads {
    running: VecDeque<JoinHandle<object_store::Result<()>>>,
    most: usize,
    /// An upload failed: what was written since the last sync may be incomplete.
    broken: bool,
}

impl Uploads {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            running: VecDeque::new(),
            most: most.max(1),
            broken: false,
        }
    }

    /// Begins to upload a part. Waits for an earlier one if too many are running.
    pub(crate) fn begin(
        &mut self,
        site: &Site,
        volume: u32,
        from: u64,
        part: Vec<u8>,
    ) -> Result<(), MediumError> {
        self.check(site)?;
        while self.running.len() >= self.most || self.running.front().is_some_and(is_done) {
            self.wait_for_first(site)?;
        }
        let (store, path) = (site.store(), site.part_path(volume, from));
        let upload = async move { store.put(&path, part.into()).await.map(drop) };
        self.running.push_back(site.runtime().spawn(upload));
        Ok(())
    }

    /// Waits for all uploads.
    pub(crate) fn finish(&mut self, site: &Site) -> Result<(), MediumError> {
        self.check(site)?;
        while !self.running.is_empty() {
            self.wait_for_first(site)?;
        }
        Ok(())
    }

    /// Refuses everything after a failure: no later upload can repair it.
    pub(crate) fn check(&self, site: &Site) -> Result<(), MediumError> {
        if self.broken {
            return Err(MediumError::Broken { path: site.path() });
        }
        Ok(())
    }

    fn wait_for_first(&mut self, site: &Site) -> Result<(), MediumError> {
        let Some(upload) = self.running.pop_front() else {
            return Ok(());
        };
        let uploaded = site.runtime().block_on(upload);
        let uploaded = uploaded.unwrap_or_else(|error| {
            Err(object_store::Error::Generic {
                store: "upload",
                source: Box::new(error),
            })
        });
        self.broken = uploaded.is_err();
        uploaded.map_err(site.failed("write"))
    }
}

fn is_done(upload: &JoinHandle<object_store::Result<()>>) -> bool {
    upload.is_finished()
}

impl Drop for Uploads {
    fn drop(&mut self) {
        // What was not synced may be lost, and must not appear later.
        self.running.iter().for_each(JoinHandle::abort);
    }
}
