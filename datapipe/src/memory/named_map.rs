//! The mapping of a named segment by its creator, which removes the name with it.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use rustix::shm;
use shared_memory::{Shmem, ShmemConf};

use super::map::Map;
use super::name::PipeName;
use super::segment_error::SegmentError;
use super::sweep;

/// The shared_memory crate's mapping, which holds raw pointers and so is not `Send` by itself.
#[allow(dead_code, reason = "held for their drops")]
struct NamedMap {
    /// Unmaps the object, and removes its name.
    shmem: Shmem,
    /// Proof for all processes that the creator lives. Declared after the mapping, because it is
    /// dropped after it: as long as there is a name, there is a lock.
    lock: OwnedFd,
}

#[allow(
    clippy::non_send_fields_in_send_ty,
    reason = "that is what the proof below is about"
)]
// SAFETY: a mapping belongs to the process and not to a thread; nothing is called on it but its
// drop.
unsafe impl Send for NamedMap {}
// SAFETY: as above: no method is called through a shared reference.
unsafe impl Sync for NamedMap {}

impl Map {
    pub(super) fn named(name: &PipeName, len: usize) -> Result<Self, SegmentError> {
        let lock = sweep::create(name, len)?;
        let id = sweep::object_name(name);
        let mut shmem = ShmemConf::new().os_id(&id).open().map_err(|error| {
            let _ = shm::unlink(&id);
            SegmentError::Named {
                call: "open",
                source: error.into(),
            }
        })?;
        shmem.set_owner(true);
        let base = NonNull::new(shmem.as_ptr()).ok_or(SegmentError::NotASegment)?;
        let map = Self {
            base,
            len: shmem.len(),
            descriptor: None,
            owner: Box::new(NamedMap { shmem, lock }),
        };
        let _ = map.advise(libc::MADV_DONTFORK);
        let _ = map.advise(libc::MADV_DONTDUMP);
        Ok(map)
    }
}
