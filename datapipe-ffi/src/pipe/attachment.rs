//! Seats in pipes of other processes, and the buffers that they lend.
//!
//! A port belongs to one thread, so an attachment belongs to the thread that has made it. What it
//! has is on that thread; the table of all threads has only their ids, to refuse calls of others.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem;
use std::os::unix::net::UnixStream;
use std::thread::{self, ThreadId};
use std::time::Duration;

use datapipe::controller::Role;
use datapipe::host::Attachment;
use datapipe::pool::{HeadPort, PortError, TailPort, TryError};
use datapipe::prelude::*;

use crate::abi::dp_output;
use crate::failure::Failure;
use crate::handle_bits::{HandleBits, HandleKind};
use crate::handle_table::HandleTable;
use crate::status::{DP_ERR_STALE_HANDLE, DP_ERR_STATE, DP_ERR_THREAD};

/// The threads of all attachments.
static THREADS: HandleTable<ThreadId> = HandleTable::new(HandleKind::Attachment, "the attachment");

thread_local! {
    /// The attachments of this thread. When it ends, they count as failed.
    static ATTACHED: RefCell<Vec<AttachedSeat>> = const { RefCell::new(Vec::new()) };
}

/// A seat in a pipe of another process.
pub(crate) struct AttachedSeat {
    handle: HandleBits,
    /// Buffers that the program has, by their handles. They go before the port.
    buffers: BTreeMap<u64, Block>,
    port: SeatPort,
    /// The seat, until its result is reported.
    attachment: Option<Attachment>,
}

enum SeatPort {
    Head(HeadPort),
    Tail(TailPort),
    /// The result was reported.
    Done,
}

/// A buffer that the program has: its handle, and its data.
pub(crate) struct AttachedBuffer<'a> {
    pub(crate) handle: HandleBits,
    pub(crate) block: &'a mut Block,
}

impl Drop for AttachedSeat {
    fn drop(&mut self) {
        // The thread ends, or the program has freed the handle, and removed it.
        let _ = THREADS.remove(self.handle);
    }
}

/// Takes a seat over a socket, as long as its read timeout. The seat belongs to this thread.
pub(crate) fn attach(socket: &UnixStream) -> Result<HandleBits, Failure> {
    keep_seat(Attachment::receive(socket)?)
}

/// Keeps a seat for this thread.
pub(super) fn keep_seat(attachment: Attachment) -> Result<HandleBits, Failure> {
    let port = match attachment.role() {
        Role::Head => SeatPort::Head(attachment.head()?),
        _ => SeatPort::Tail(attachment.tail()?),
    };
    let seat = AttachedSeat {
        handle: THREADS.insert(thread::current().id())?,
        buffers: BTreeMap::new(),
        port,
        attachment: Some(attachment),
    };
    let handle = seat.handle;
    // A thread that is ending drops the seat, which then counts as failed.
    ATTACHED
        .try_with(|attached| attached.borrow_mut().push(seat))
        .map_err(|_| Failure::new(DP_ERR_STATE, "this thread is ending"))?;
    Ok(handle)
}

/// Uses an attachment of this thread.
pub(crate) fn with_attachment<R>(
    handle: HandleBits,
    work: impl FnOnce(&mut AttachedSeat) -> Result<R, Failure>,
) -> Result<R, Failure> {
    check_thread(handle)?;
    let used = ATTACHED.try_with(|attached| {
        let mut attached = attached.borrow_mut();
        let found = attached.iter_mut().find(|seat| seat.handle == handle);
        work(found.ok_or_else(stale)?)
    });
    used.unwrap_or_else(|_| Err(stale()))
}

/// Frees an attachment of this thread. Without a result it counts as failed.
pub(crate) fn free_attachment(handle: HandleBits) -> Result<(), Failure> {
    check_thread(handle)?;
    let taken = ATTACHED.try_with(|attached| {
        let mut attached = attached.borrow_mut();
        let index = attached.iter().position(|seat| seat.handle == handle);
        index.map(|index| attached.swap_remove(index))
    });
    // It is dropped without the borrow.
    taken.ok().flatten().map(drop).ok_or_else(stale)
}

fn check_thread(handle: HandleBits) -> Result<(), Failure> {
    match *THREADS.find(handle)? == thread::current().id() {
        true => Ok(()),
        false => Err(Failure::new(
            DP_ERR_THREAD,
            "the attachment belongs to the thread that has made it",
        )),
    }
}

fn stale() -> Failure {
    Failure::new(DP_ERR_STALE_HANDLE, "the attachment was freed")
}

impl AttachedSeat {
    /// Allocates an empty buffer. Returns nothing if the time is over before there is one.
    pub(crate) fn alloc(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<AttachedBuffer<'_>>, Failure> {
        let SeatPort::Head(port) = &self.port else {
            return Err(self.no_such_port("a head allocates buffers"));
        };
        let block = match timeout {
            None => Ok(port.alloc()?),
            Some(timeout) => port.alloc_timeout(timeout),
        };
        Ok(in_time(block)?.map(|block| self.keep(block)))
    }

    /// Receives a block. `None` if the time is over before there is one; `Some(None)` if the stream
    /// has ended.
    pub(crate) fn receive(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<Option<AttachedBuffer<'_>>>, Failure> {
        let SeatPort::Tail(port) = &self.port else {
            return Err(self.no_such_port("a tail receives blocks"));
        };
        let block = match timeout {
            None => Ok(port.receive()?),
            Some(timeout) => port.receive_timeout(timeout),
        };
        Ok(in_time(block)?.map(|block| block.map(|block| self.keep(block))))
    }

    fn keep(&mut self, block: Block) -> AttachedBuffer<'_> {
        let handle = HandleBits::unique(HandleKind::Buffer);
        AttachedBuffer {
            handle,
            block: self.buffers.entry(handle.get()).or_insert(block),
        }
    }

    /// Sends a buffer with its length and numbers, which is then not the program's any more. A
    /// buffer that cannot be sent is not changed.
    pub(crate) fn send(&mut self, handle: HandleBits, output: &dp_output) -> Result<(), Failure> {
        check_buffer(handle)?;
        let SeatPort::Head(port) = &self.port else {
            return Err(self.no_such_port("a head sends buffers"));
        };
        let Entry::Occupied(mut buffer) = self.buffers.entry(handle.get()) else {
            return Err(stale_buffer());
        };
        let place = dp_output::empty(buffer.get_mut());
        output.put_on(buffer.get_mut(), &place)?;
        Ok(port.send(buffer.remove())?)
    }

    /// Frees a buffer.
    pub(crate) fn free(&mut self, handle: HandleBits) -> Result<(), Failure> {
        check_buffer(handle)?;
        let freed = self.buffers.remove(&handle.get());
        freed.map(drop).ok_or_else(stale_buffer)
    }

    /// Ends the seat well: a head has sent everything, a tail has received and freed it.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        if !self.buffers.is_empty() {
            let count = self.buffers.len();
            let text = format!("{count} buffers were neither sent nor freed");
            return Err(Failure::new(DP_ERR_STATE, text));
        }
        let finished = match mem::replace(&mut self.port, SeatPort::Done) {
            SeatPort::Head(port) => port.finish(),
            SeatPort::Tail(port) => port.finish(),
            SeatPort::Done => return Err(reported()),
        };
        if let Some(attachment) = self.attachment.take() {
            attachment.end(finished.clone().map_err(StageError::from));
        }
        Ok(finished?)
    }

    /// Ends the seat with an error, which stops the pipe.
    pub(crate) fn fail(&mut self, text: String) -> Result<(), Failure> {
        let attachment = self.attachment.take().ok_or_else(reported)?;
        self.buffers.clear();
        self.port = SeatPort::Done;
        attachment.end(Err(StageError::new(text)));
        Ok(())
    }

    fn no_such_port(&self, rule: &str) -> Failure {
        match self.port {
            SeatPort::Done => reported(),
            SeatPort::Head(_) => Failure::new(DP_ERR_STATE, format!("{rule}; this is a head")),
            SeatPort::Tail(_) => Failure::new(DP_ERR_STATE, format!("{rule}; this is a tail")),
        }
    }
}

/// Divides the outcomes of a wait: in time, not in time, failed.
fn in_time<T>(result: Result<T, TryError>) -> Result<Option<T>, PortError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(TryError::Blocked(_)) => Ok(None),
        Err(TryError::Port(error)) => Err(error),
    }
}

fn check_buffer(handle: HandleBits) -> Result<(), Failure> {
    handle.check_named(HandleKind::Buffer, "the buffer")
}

fn stale_buffer() -> Failure {
    let text = "the buffer was sent or freed, or is not one of this attachment";
    Failure::new(DP_ERR_STALE_HANDLE, text)
}

fn reported() -> Failure {
    Failure::new(DP_ERR_STATE, "the attachment has ended")
}
