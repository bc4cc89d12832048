//! Records that the processes keep outside of the segment, so that they survive the processes.

#![allow(
    unsafe_code,
    reason = "maps a few pages that the forked processes share"
)]
#![allow(
    clippy::disallowed_types,
    reason = "these words belong to the test and are outside of the segment"
)]

use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::Outcome;

/// Records of all processes, outside of the segment.
#[repr(C)]
pub(crate) struct Books {
    /// 1 if the heads shall end.
    end: AtomicU64,
    pub(crate) heads: [Progress; 4],
    pub(crate) tails: [TailBook; 2],
    /// Identity of the block that arrived with each number.
    pub(crate) seen: [AtomicU64; 1 << 18],
}

pub(crate) const UNSEEN: u64 = 0;
pub(crate) const FIRST_ID: u64 = 1;

impl Books {
    /// Makes the heads end.
    pub(crate) fn come_to_an_end(&self) {
        self.end.store(1, Ordering::Release);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.end.load(Ordering::Acquire) != 0
    }

    /// Returns the number of blocks that arrived for the first time.
    pub(crate) fn arrived(&self) -> u64 {
        self.tails
            .iter()
            .map(|tail| tail.arrived.load(Ordering::Acquire))
            .sum()
    }
}

/// Counts of one tail, which only that tail writes.
#[repr(C)]
pub(crate) struct TailBook {
    pub(crate) arrived: AtomicU64,
    pub(crate) again: AtomicU64,
}

/// Twice the number of blocks that a head has sent, plus 1 while it sends another. The head writes
/// it, and after its death the parent.
#[repr(C)]
pub(crate) struct Progress(AtomicU64);

impl Progress {
    pub(crate) fn sent(&self) -> u64 {
        self.0.load(Ordering::Acquire) / 2
    }

    pub(crate) fn begin_send(&self) {
        self.0.store(self.sent() * 2 + 1, Ordering::Release);
    }

    pub(crate) fn end_send(&self) {
        self.0.store(self.sent() * 2 + 2, Ordering::Release);
    }

    /// Corrects the count after the death of the head. If it was sending, its loans show if it had
    /// sent the block: it never has two blocks at once.
    pub(crate) fn settle(&self, loans: u32) -> Outcome {
        if self.0.load(Ordering::Acquire).is_multiple_of(2) {
            return Ok(());
        }
        match loans {
            0 => self.end_send(),
            1 => self.0.store(self.sent() * 2, Ordering::Release),
            _ => return Err(format!("a head held {loans} loans").into()),
        }
        Ok(())
    }
}

/// A `T` of zeros in its own memory, which forked processes share.
pub(crate) struct Shared<T>(NonNull<T>);

impl Shared<Books> {
    pub(crate) fn new() -> io::Result<Self> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the kernel chooses the address, so nothing that is mapped is replaced.
        let address =
            unsafe { mmap_anonymous(ptr::null_mut(), size_of::<Books>(), access, flags) }?;
        NonNull::new(address.cast())
            .map(Self)
            .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping is page-aligned, as long as a `T`, and lives as long as `self`;
        // `Books` are the only `T` there is, made of atomic words for which zeros are valid, and
        // only ever shared.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is owned by `self`, and no borrow of it is left.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}
