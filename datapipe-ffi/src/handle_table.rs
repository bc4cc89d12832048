//! Objects of one kind, by their handles.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::failure::Failure;
use crate::handle_bits::{HandleBits, HandleKind, first_generation};
use crate::status::{DP_ERR_BAD_HANDLE, DP_ERR_LIMIT, DP_ERR_STALE_HANDLE};

/// Objects of one kind that a process has at once.
const MAX_OBJECTS: usize = 1 << 16;

/// A table of objects. A thread that uses an object keeps it alive, also if another one frees it.
pub(crate) struct HandleTable<T> {
    kind: HandleKind,
    /// Name of an object in messages, "the pipe".
    name: &'static str,
    slots: RwLock<Slots<T>>,
}

struct Slots<T> {
    all: Vec<Slot<T>>,
    /// Indices of slots without an object.
    free: Vec<usize>,
}

struct Slot<T> {
    generation: u32,
    object: Option<Arc<T>>,
}

impl<T> HandleTable<T> {
    pub(crate) const fn new(kind: HandleKind, name: &'static str) -> Self {
        Self {
            kind,
            name,
            slots: RwLock::new(Slots {
                all: Vec::new(),
                free: Vec::new(),
            }),
        }
    }

    /// Takes an object into the table.
    pub(crate) fn insert(&self, object: T) -> Result<HandleBits, Failure> {
        let mut slots = self.slots.write();
        let index = match slots.free.pop() {
            Some(index) => index,
            None if slots.all.len() == MAX_OBJECTS => {
                let text = format!("{}: there are {MAX_OBJECTS} already; free some", self.name);
                return Err(Failure::new(DP_ERR_LIMIT, text));
            }
            None => {
                slots.all.push(Slot {
                    generation: first_generation(),
                    object: None,
                });
                slots.all.len() - 1
            }
        };
        let slot = &mut slots.all[index];
        slot.generation = slot.generation.wrapping_add(1);
        slot.object = Some(Arc::new(object));
        Ok(HandleBits::new(self.kind, index, slot.generation))
    }

    /// Finds the object of a handle.
    pub(crate) fn find(&self, handle: HandleBits) -> Result<Arc<T>, Failure> {
        handle.check_named(self.kind, self.name)?;
        let slots = self.slots.read();
        let slot = slots
            .all
            .get(handle.index())
            .ok_or_else(|| self.unknown())?;
        let object = slot
            .object
            .as_ref()
            .filter(|_| slot.generation == handle.generation());
        object.cloned().ok_or_else(|| self.stale())
    }

    /// Removes the object of a handle, and returns it.
    pub(crate) fn remove(&self, handle: HandleBits) -> Result<Arc<T>, Failure> {
        handle.check_named(self.kind, self.name)?;
        let mut slots = self.slots.write();
        let slot = slots
            .all
            .get_mut(handle.index())
            .ok_or_else(|| self.unknown())?;
        if slot.generation != handle.generation() {
            return Err(self.stale());
        }
        let object = slot.object.take().ok_or_else(|| self.stale())?;
        slots.free.push(handle.index());
        Ok(object)
    }

    fn unknown(&self) -> Failure {
        let text = format!("this process has not made {}", self.name);
        Failure::new(DP_ERR_BAD_HANDLE, text)
    }

    fn stale(&self) -> Failure {
        Failure::new(DP_ERR_STALE_HANDLE, format!("{} was freed", self.name))
    }
}
