//! A data key that several archives have.

use std::fmt;
use std::sync::Arc;

use crate::crypto::{DataKey, SLOT_LEN};

/// The data key of an archive, with the key slots that open it, for other archives: the same
/// secrets open them, and a passphrase is stretched once.
///
/// Each archive has a key of its own, derived from this one, so nothing is encrypted twice under
/// one key. [`Archive::shared_key`](super::Archive::shared_key) and
/// [`of_listed`](Self::of_listed) return it, and
/// [`ArchiveOptions::share_key`](super::ArchiveOptions::share_key) takes it. Erased from memory
/// when the last clone is dropped; never printed. Drop it when the last archive is planned: it
/// opens all archives that have it.
#[derive(Clone)]
pub struct SharedKey {
    pub(super) data_key: Arc<DataKey>,
    pub(super) slots: Vec<[u8; SLOT_LEN]>,
}

impl SharedKey {
    pub(super) fn new(data_key: DataKey, slots: Vec<[u8; SLOT_LEN]>) -> Self {
        Self {
            data_key: Arc::new(data_key),
            slots,
        }
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKey")
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}
