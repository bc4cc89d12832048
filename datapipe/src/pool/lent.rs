//! Blocks that are lent to other threads of the same process.

use std::fmt;
use std::sync::Arc;

use crate::block_info::BlockInfo;
use crate::memory::tables::Tables;
use crate::memory::{Number, ParticipantId};

use super::block::{Holder, Lease, NoRoom, VACANT, data_methods};
use super::participant::{Held, Participant};
use super::port_core::leave_seat;
use super::returns::{LeaseKind, Returns};

/// A block that is lent to another thread: its data to read, or its room to fill.
///
/// A port and its blocks belong to one thread. A loop that works with several threads, for example
/// one for each connection, lends them the content of blocks ([`Block::lend`](super::Block::lend)):
/// a `Lent` can be sent to and shared with other threads. It has the methods of a block on data and
/// info, and those that hand the block on are left to the port, which gets the block back in one
/// of two ways:
///
/// - by `take_back` of the port, when the other thread has sent the `Lent` back to the port's;
/// - by dropping it, on any thread: the port's thread then frees the buffer, as part of its next
///   call or wait.
///
/// The buffer stays with the instance meanwhile, and counts against its quota, and as one of the
/// inputs or outputs that it holds. While anything is lent, a wait of the port also ends for what
/// is dropped, and it does not count as one for other stages, so the standstill detection leaves
/// the instance alone. The port's `finish` waits until everything is back. If a port is dropped
/// before, which fails the pipe, the threads that have something keep its seat until they drop the
/// last of it.
///
/// ```
/// use std::sync::mpsc;
/// use std::thread;
///
/// use datapipe::prelude::*;
/// use datapipe::pool::Lent;
///
/// // A head whose blocks are filled by another thread.
/// let head = Stage::head_port("squares", |port| {
///     let (to_filler, rooms) = mpsc::channel::<Lent>();
///     let (to_port, filled) = mpsc::channel();
///     thread::scope(|scope| {
///         scope.spawn(move || {
///             for (n, mut room) in (0_u64..).zip(rooms) {
///                 let fits = room.put(&(n * n).to_le_bytes());
///                 if fits.is_err() || to_port.send(room).is_err() {
///                     return; // the port's thread has ended, and what is dropped here is freed
///                 }
///             }
///         });
///         for _ in 0..10 {
///             to_filler.send(port.alloc()?.lend())?;
///             port.send(port.take_back(filled.recv()?)?)?;
///         }
///         drop(to_filler);
///         Ok(())
///     })
/// });
/// let mut got = Vec::new();
/// Pipe::builder().head(head).tail(StreamTail::new(&mut got)).run()?;
/// assert_eq!(got.len(), 80);
/// assert_eq!(got[72..], 81_u64.to_le_bytes());
/// # Ok::<(), datapipe::Error>(())
/// ```
pub struct Lent {
    lease: Lease<Borrower>,
}

impl Lent {
    pub(super) fn new(lease: Lease<Borrower>) -> Self {
        Self { lease }
    }

    data_methods!();

    /// True if the block is of the port that has this lender.
    pub(super) fn is_of(&self, lender: &Arc<Lender>) -> bool {
        Arc::ptr_eq(&self.lease.holder.lender, lender)
    }

    /// The lease, which is no longer lent.
    pub(super) fn into_lease(mut self) -> (Lease<Borrower>, LeaseKind) {
        let kind = self.lease.holder.settle();
        (self.lease, kind)
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lease.debug("Lent", f)
    }
}

/// Holder of a lease that is lent: another thread. Dropping it returns the buffer to the port.
pub(super) struct Borrower {
    lender: Arc<Lender>,
    held: Held,
    kind: LeaseKind,
    is_owed: bool,
}

impl Borrower {
    pub(super) fn new(lender: &Arc<Lender>, held: Held, kind: LeaseKind) -> Self {
        lender.returns.lend();
        Self {
            lender: Arc::clone(lender),
            held,
            kind,
            is_owed: true,
        }
    }

    /// The buffer.
    #[cfg(test)]
    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// Ends the lending without returning the buffer, for which the caller is responsible then.
    pub(super) fn settle(&mut self) -> LeaseKind {
        if std::mem::take(&mut self.is_owed) {
            self.lender.returns.take_back();
        }
        self.kind
    }
}

impl Holder for Borrower {
    type Kind = ();

    #[inline]
    fn tables(&self) -> &Tables {
        &self.lender.tables
    }
}

impl Drop for Borrower {
    fn drop(&mut self) {
        if self.is_owed {
            self.lender.give(self.held, self.kind);
        }
    }
}

/// The side of a port that the threads with its lent blocks share.
#[derive(Debug)]
pub(super) struct Lender {
    tables: Arc<Tables>,
    id: ParticipantId,
    returns: Returns,
}

impl Lender {
    pub(super) fn new(tables: Arc<Tables>, id: ParticipantId) -> Self {
        let returns = Returns::new();
        Self {
            tables,
            id,
            returns,
        }
    }

    pub(super) fn returns(&self) -> &Returns {
        &self.returns
    }

    /// Returns a buffer to the port. If the port has gone, and the buffer is the last one, all are
    /// freed and the seat is left here: no other thread acts for the participant any more.
    fn give(&self, held: Held, kind: LeaseKind) {
        let Some(all) = self.returns.give((held, kind)) else {
            return;
        };
        let participant = Participant {
            tables: &self.tables,
            id: self.id,
        };
        for (held, _) in all {
            // An error here means that the shared words are corrupt. A drop cannot report it: the
            // pipe has failed anyway, for the port did not finish.
            let _ = participant.free(held);
        }
        leave_seat(&self.tables, self.id);
    }
}
