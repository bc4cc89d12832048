//! A block: a buffer that an instance holds.
//!
//! ```text
//!   |<-- headroom -->|<------------- capacity ------------->|<-- tailroom -->|
//!   |        |<---------- data: bytes() ---------->|<------ spare() -------->|
//!            start                             start + len
//! ```
//!
//! A block is exclusive: the ledger word names its holder, and no other participant looks at the
//! bytes until the holder lets go. It gives the buffer back when it is dropped, also while a panic
//! unwinds.
//!
//! This module does not defend the bytes against a process that maps the segment and writes to a
//! buffer that it does not hold: such a process was trusted with what passes through the pipe. Its
//! writes cannot make the bytes anything but bytes; lengths and offsets are checked. A stage that
//! has more rights than other processes of the pipe copies what it checks: `Block::shared`.
//!
//! A block and one that is lent to another thread ([`Lent`]) are the same [`Lease`]
//! with different holders.

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::slice;
use std::time::Duration;

#[cfg(not(loom))]
use crate::memory::StageId;
use crate::memory::atomic::Ordering;
use crate::memory::tables::{BufferEntry, Tables};
use crate::memory::{Corruption, Number, Shape, TableIndex};

use super::lent::{Borrower, Lent};
use super::participant::Held;
use super::port_core::PortCore;
use super::returns::LeaseKind;
use super::stop::Stop;
use crate::block_info::BlockInfo;
use crate::shared_bytes::SharedBytes;

/// A block of data in a buffer of the pool, exclusively ours until it is sent or dropped.
pub struct Block {
    pub(super) lease: Lease<Rc<PortCore>>,
}

/// A buffer that is held exclusively, and the place of the data in it. Dropping a lease does
/// nothing: its owner returns the buffer.
pub(super) struct Lease<H: Holder> {
    pub(super) holder: H,
    pub(super) held: Held,
    pub(super) number: Number,
    /// Start of the data, counted from the first byte of the headroom; `start + len` is within
    /// the buffer.
    start: u32,
    len: u32,
    flags: u32,
    /// In the lease, where it takes no more than the padding.
    pub(super) kind: H::Kind,
}

/// Holder of a lease: a port, or a thread that it has lent the buffer to.
pub(super) trait Holder {
    /// Store of the kind of the lease.
    type Kind;

    /// The tables that have the buffer.
    fn tables(&self) -> &Tables;
}

impl Holder for Rc<PortCore> {
    type Kind = Cell<LeaseKind>;

    #[inline]
    fn tables(&self) -> &Tables {
        &self.tables
    }
}

/// A block has less room than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoRoom {
    /// Bytes asked for.
    pub wanted: usize,
    /// Bytes there are.
    pub available: usize,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, available } = self;
        write!(
            f,
            "a block has room for {available} more bytes, but {wanted} were asked for"
        )
    }
}

impl std::error::Error for NoRoom {}

/// Flags of a descriptor: `docs/shared-memory.md`, "Ledger entry".
pub(super) const VACANT: u32 = 1;
const HAS_INFO: u32 = 2;
/// The info says that the block is a control block. A flag, because stages that let these blocks
/// pass look at each block.
pub(super) const CONTROL: u32 = 4;
/// The descriptor has the checksum of the data. Every change of the data removes it.
const CHECKSUM: u32 = 8;

/// The public methods on the data of a block: the same for a [`Block`] and for a
/// [`Lent`], each of which has a `lease`.
macro_rules! data_methods {
    () => {
        /// The data.
        ///
        /// A process that maps the pipe's memory can change them at any time. A stage with more
        /// rights than another process of the pipe copies what it checks, for example a path,
        /// before it checks it, and then uses only the copy.
        pub fn bytes(&self) -> &[u8] {
            self.lease.bytes()
        }

        /// The data, to be changed in place.
        pub fn bytes_mut(&mut self) -> &mut [u8] {
            self.lease.bytes_mut()
        }

        /// Length of the data in bytes.
        pub fn len(&self) -> usize {
            self.lease.len()
        }

        /// True if there is no data.
        pub fn is_empty(&self) -> bool {
            self.lease.len() == 0
        }

        /// Bytes that fit between headroom and tailroom: the same for every block of a pipe.
        pub fn capacity(&self) -> usize {
            self.lease.shape().buffer_size() as usize
        }

        /// Number of the block: its position in the input of the stage that received it, counted
        /// from 0 without gaps.
        pub fn number(&self) -> Number {
            self.lease.number
        }

        /// Removes the data and puts the start back to the end of the headroom.
        pub fn clear(&mut self) {
            self.lease.clear();
        }

        /// The room after the data, up to the tailroom, to be filled and then claimed with
        /// [`grow`](Self::grow).
        pub fn spare(&mut self) -> &mut [u8] {
            self.lease.spare()
        }

        /// Takes `n` bytes of the room after the data, tailroom included, into the data, and
        /// returns them.
        ///
        /// # Errors
        ///
        /// [`NoRoom`] if the buffer ends before that; nothing has changed then.
        pub fn grow(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
            self.lease.grow(n)
        }

        /// Takes `n` bytes of the room before the data, headroom included, into the data, and
        /// returns them.
        ///
        /// # Errors
        ///
        /// [`NoRoom`] if the buffer begins after that; nothing has changed then.
        pub fn grow_front(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
            self.lease.grow_front(n)
        }

        /// Shortens the data to its first `len` bytes; does nothing if it has no more.
        pub fn truncate(&mut self, len: usize) {
            self.lease.truncate(len);
        }

        /// Drops the first `n` bytes of the data; all of it if it has no more.
        pub fn trim_front(&mut self, n: usize) {
            self.lease.trim_front(n);
        }

        /// Appends `bytes`, all of them, without using the tailroom.
        ///
        /// # Errors
        ///
        /// [`NoRoom`] if they do not fit; nothing has changed then.
        pub fn put(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
            self.lease.put(bytes)
        }

        /// The facts that earlier stages recorded about the block.
        pub fn info(&self) -> BlockInfo {
            self.lease.info()
        }

        /// Records facts about the block for later stages.
        pub fn set_info(&mut self, info: BlockInfo) {
            self.lease.set_info(info);
        }

        /// True if the block is vacant: a stage dropped it on its way, and only its number and its
        /// info are left. A loop over a port sees such a block only if it asks for them, with the
        /// port's `take_vacant_blocks`. A caller that takes a seat itself sees them: forward one
        /// if the stage is numbered, drop it otherwise.
        pub fn is_vacant(&self) -> bool {
            self.lease.has_flags(VACANT)
        }
    };
}
pub(super) use data_methods;

impl Block {
    #[inline]
    pub(super) fn loan(core: &Rc<PortCore>, held: Held) -> Self {
        let start = core.tables.shape.headroom();
        let lease = Lease {
            holder: Rc::clone(core),
            held,
            number: Number::FIRST,
            start,
            len: 0,
            flags: 0,
            kind: Cell::new(LeaseKind::Loan),
        };
        Self { lease }
    }

    /// Copies the descriptor out, checks it, and only then trusts it.
    #[inline]
    pub(super) fn input(
        core: &Rc<PortCore>,
        held: Held,
        number: Number,
    ) -> Result<Self, Corruption> {
        let entry = &core.tables.buffers[held.buffer];
        let start = entry.start.load(Ordering::Relaxed);
        let len = entry.len.load(Ordering::Relaxed);
        let flags = entry.flags.load(Ordering::Relaxed);
        if u64::from(start) + u64::from(len) > core.tables.buffer_len() as u64
            || flags > VACANT | HAS_INFO | CONTROL | CHECKSUM
        {
            return Err(
                Corruption::new("a block's data is outside of its buffer").at_buffer(held.buffer)
            );
        }
        let lease = Lease {
            holder: Rc::clone(core),
            held,
            number,
            start,
            len,
            flags,
            kind: Cell::new(LeaseKind::Input),
        };
        Ok(Self { lease })
    }

    data_methods!();

    /// Counts time for which the holder of this block waited for another instance, while that one
    /// waited for buffers.
    pub(crate) fn count_wait(&self, time: Duration) {
        self.lease.holder.count_wait(time);
    }

    /// The data, of which a stage copies what it checks: see [`SharedBytes`].
    pub(crate) fn shared(&self) -> SharedBytes<'_> {
        let Lease { start, len, .. } = self.lease;
        let first = self.lease.first_byte(start as usize, len as usize);
        // SAFETY: the range is inside our buffer, initialised, and mapped as long as `self` is
        // borrowed, which keeps this process from writing to it.
        unsafe { SharedBytes::new(first, len as usize) }
    }

    /// Number of the block in its archive, by which people know it: the number that a sequencer or
    /// a reader gave it, or else its position in the stage's input.
    #[cfg(not(loom))]
    pub(crate) fn archive_number(&self) -> u64 {
        let number = self.number();
        self.info().sequence.unwrap_or_else(|| number.get())
    }

    /// Number, in the archive that the pipe writes, of the first block that the head sends: blocks
    /// of the archive's own come before it.
    #[cfg(not(loom))]
    pub(crate) fn first_of_head(&self) -> u64 {
        let head = &self.lease.holder.tables.stages[StageId::HEAD];
        head.first_block.load(Ordering::Relaxed)
    }

    /// Bytes of data after which the pipe's head makes a checkpoint; `u64::MAX`: only when it
    /// decides to; 0: never.
    #[cfg(all(not(loom), feature = "archive"))]
    pub(crate) fn checkpoint_every(&self) -> u64 {
        self.lease.holder.checkpoint_every()
    }

    /// Records the CRC-32 of the data, for the tail of an archive, which would have to read them
    /// for it. It is valid until the data are changed.
    #[cfg(feature = "archive")]
    pub(crate) fn set_checksum(&mut self, checksum: u32) {
        let entry = self.lease.entry();
        entry.checksum.store(checksum, Ordering::Relaxed);
        self.lease.flags |= CHECKSUM;
    }

    /// The CRC-32 of the data, if a stage has recorded it.
    #[cfg(feature = "archive")]
    pub(crate) fn checksum(&self) -> Option<u32> {
        let is_recorded = self.has_flags(CHECKSUM);
        is_recorded.then(|| self.lease.entry().checksum.load(Ordering::Relaxed))
    }

    /// True if the head is to [record](Self::set_checksum) checksums.
    #[cfg(all(not(loom), feature = "archive"))]
    pub(crate) fn wants_checksum(&self) -> bool {
        let head = &self.lease.holder.tables.stages[StageId::HEAD];
        head.checksums.load(Ordering::Relaxed) != 0
    }

    /// Becomes the same as `other`: its number, its data at the same offset of the buffer, and its
    /// block info.
    pub(crate) fn copy_of(&mut self, other: &Self) {
        let (ours, theirs) = (&mut self.lease, &other.lease);
        (ours.number, ours.start, ours.len) = (theirs.number, theirs.start, theirs.len);
        self.bytes_mut().copy_from_slice(other.bytes());
        self.set_info(other.info());
    }

    /// True if the block passes a stage without being shown to it: it is vacant, or a control block
    /// that the stage did not ask for.
    pub(crate) fn passes(&self, takes_control: bool) -> bool {
        let passing = if takes_control {
            VACANT
        } else {
            VACANT | CONTROL
        };
        self.has_flags(passing)
    }

    /// True if any of these flags is set.
    #[inline]
    pub(super) fn has_flags(&self, flags: u32) -> bool {
        self.lease.has_flags(flags)
    }

    /// Removes the data: only the number travels on.
    pub(crate) fn make_vacant(&mut self) {
        self.lease.flags |= VACANT;
        self.clear();
    }

    /// Lends the buffer to another thread of this process, which reads the data or fills the room.
    /// The port goes on meanwhile, and gets the block back by its `take_back`; what is dropped is
    /// freed by the port. [`Lent`] describes how.
    pub fn lend(self) -> Lent {
        let lease = self.into_lease();
        let borrower = Borrower::new(lease.holder.lender(), lease.held, lease.kind.get());
        let (lease, core) = lease.held_by(borrower, ());
        core.note_lent();
        Lent::new(lease)
    }

    /// The block that was lent, held by its port again.
    pub(super) fn taken_back(lent: Lent, core: &Rc<PortCore>) -> Self {
        let (lease, kind) = lent.into_lease();
        let (lease, _settled) = lease.held_by(Rc::clone(core), Cell::new(kind));
        Self { lease }
    }

    /// True if the block came from this port.
    #[inline]
    pub(super) fn is_of(&self, core: &PortCore) -> bool {
        std::ptr::eq(Rc::as_ptr(&self.lease.holder), core)
    }

    pub(super) fn lease_kind(&self) -> LeaseKind {
        self.lease.kind.get()
    }

    pub(super) fn set_answered(&self) {
        self.lease.kind.set(LeaseKind::Answered);
    }

    /// Returns a handle for waits outside of the pipe that end when the pipe stops. Making one
    /// takes a few nanoseconds.
    pub fn stop(&self) -> Stop {
        self.lease.holder.stop()
    }

    /// Writes the descriptor and lets go, to send, or to be made a block again with
    /// [`input`](Self::input).
    #[inline]
    pub(super) fn release(self) -> Held {
        let lease = self.into_lease();
        let entry = lease.entry();
        entry.start.store(lease.start, Ordering::Relaxed);
        entry.len.store(lease.len, Ordering::Relaxed);
        entry.flags.store(lease.flags, Ordering::Relaxed);
        lease.held
    }

    /// The lease, for which the caller is responsible from now on.
    #[inline]
    fn into_lease(self) -> Lease<Rc<PortCore>> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped nor used again, so the lease has one owner.
        unsafe { std::ptr::read(&raw const this.lease) }
    }
}

impl<H: Holder> Lease<H> {
    /// The same lease with another holder, and the holder that it had.
    fn held_by<G: Holder>(self, holder: G, kind: G::Kind) -> (Lease<G>, H) {
        let lease = Lease {
            holder,
            kind,
            held: self.held,
            number: self.number,
            start: self.start,
            len: self.len,
            flags: self.flags,
        };
        (lease, self.holder)
    }

    /// Writes what a block prints for debugging.
    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("buffer", &self.held.buffer)
            .field("number", &self.number)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.area(self.start as usize, self.len as usize)
    }

    #[inline]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.flags &= !CHECKSUM;
        self.area_mut(self.start as usize, self.len as usize)
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(super) fn shape(&self) -> &Shape {
        &self.holder.tables().shape
    }

    pub(super) fn clear(&mut self) {
        self.flags &= !CHECKSUM;
        self.start = self.shape().headroom();
        self.len = 0;
    }

    #[inline]
    pub(super) fn spare(&mut self) -> &mut [u8] {
        let end = (self.start + self.len) as usize;
        let limit = (self.shape().headroom() + self.shape().buffer_size()) as usize;
        self.area_mut(end, limit.saturating_sub(end))
    }

    #[inline]
    pub(super) fn grow(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        let end = (self.start + self.len) as usize;
        let available = self.holder.tables().buffer_len() - end;
        if n > available {
            return Err(NoRoom {
                wanted: n,
                available,
            });
        }
        self.flags &= !CHECKSUM;
        self.len += n as u32;
        Ok(self.area_mut(end, n))
    }

    pub(super) fn grow_front(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        let available = self.start as usize;
        if n > available {
            return Err(NoRoom {
                wanted: n,
                available,
            });
        }
        self.flags &= !CHECKSUM;
        self.start -= n as u32;
        self.len += n as u32;
        Ok(self.area_mut(available - n, n))
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.flags &= !CHECKSUM;
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }

    pub(super) fn trim_front(&mut self, n: usize) {
        self.flags &= !CHECKSUM;
        let n = self.len.min(u32::try_from(n).unwrap_or(u32::MAX));
        self.start += n;
        self.len -= n;
    }

    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let (wanted, available) = (bytes.len(), self.spare().len());
        let Some(room) = self.spare().get_mut(..wanted) else {
            return Err(NoRoom { wanted, available });
        };
        room.copy_from_slice(bytes);
        self.flags &= !CHECKSUM;
        self.len += wanted as u32;
        Ok(())
    }

    pub(super) fn info(&self) -> BlockInfo {
        if !self.has_flags(HAS_INFO) {
            return BlockInfo::default();
        }
        let words = &self.entry().info;
        BlockInfo::from_words(std::array::from_fn(|i| words[i].load(Ordering::Relaxed)))
    }

    pub(super) fn set_info(&mut self, info: BlockInfo) {
        let control = if info.is_control() { CONTROL } else { 0 };
        self.flags = self.flags & !CONTROL | HAS_INFO | control;
        for (word, value) in self.entry().info.iter().zip(info.to_words()) {
            word.store(value, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn has_flags(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    #[inline]
    fn entry(&self) -> &BufferEntry {
        &self.holder.tables().buffers[self.held.buffer]
    }

    #[inline]
    fn area(&self, offset: usize, len: usize) -> &[u8] {
        let first = self.first_byte(offset, len);
        // SAFETY: the range is inside our buffer; the bytes are initialised (a segment starts as
        // zeros); the ledger says that we hold the buffer, and it has one lease, so no other block
        // refers to it, and `self` is borrowed.
        unsafe { slice::from_raw_parts(first, len) }
    }

    #[inline]
    fn area_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        let first = self.first_byte(offset, len);
        // SAFETY: as in `area`, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(first, len) }
    }

    /// The byte at `offset` of our buffer, with `len` bytes of the buffer from there on.
    #[inline]
    fn first_byte(&self, offset: usize, len: usize) -> *mut u8 {
        let tables = self.holder.tables();
        assert!(
            offset
                .checked_add(len)
                .is_some_and(|end| end <= tables.buffer_len()),
            "inside the buffer"
        );
        let index = self.held.buffer.as_index() * tables.stride + offset;
        // SAFETY: the buffer's index is below the number of buffers, as every take checks, the
        // range is inside the buffer, and the payload has `stride` bytes for each buffer.
        unsafe { tables.payload.as_ptr().add(index) }
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        self.lease
            .holder
            .on_drop(self.lease.held, self.lease.kind.get());
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lease.debug("Block", f)
    }
}

#[cfg(all(test, not(loom), feature = "archive"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::controller::Pipe;
    use crate::error::StageError;
    use crate::stage::{Fill, Head, StreamTail};

    /// Something that a stage does to a block, and whether the data are the same afterwards.
    type Change = (&'static str, bool, fn(&mut Block));

    const CHANGES: &[Change] = &[
        ("nothing", true, |_| {}),
        ("info", true, |block| block.set_info(BlockInfo::last())),
        ("room", true, |block| block.spare()[0] = 1),
        ("bytes", false, |block| block.bytes_mut()[0] = 1),
        ("append", false, |block| block.put(b"9").unwrap()),
        ("grow", false, |block| block.grow(1).unwrap()[0] = 1),
        ("front", false, |block| block.grow_front(1).unwrap()[0] = 1),
        ("truncate", false, |block| block.truncate(3)),
        ("trim", false, |block| block.trim_front(3)),
        ("clear", false, Block::clear),
    ];

    /// Makes one change to each block that has a checksum.
    struct Changing(slice::Iter<'static, Change>);

    impl Head for Changing {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            let Some((what, is_same, change)) = self.0.next() else {
                return Ok(Fill::End);
            };
            assert!(
                !block.wants_checksum(),
                "the tail is not that of an archive"
            );
            assert_eq!(block.checksum(), None, "{what}: of the block before");
            block.put(b"12345678")?;
            block.set_checksum(0x9ae0_daaf);
            change(block);
            assert_eq!(block.checksum(), is_same.then_some(0x9ae0_daaf), "{what}");
            block.set_info(BlockInfo::default());
            Ok(Fill::Block)
        }
    }

    /// A wrong checksum would make a whole block one that readers call damaged.
    #[test]
    fn checksum_does_not_survive_a_change_of_the_data() {
        let pipe = Pipe::builder().headroom(8).buffers(2).buffer_size(4096);
        let pipe = pipe.head(Changing(CHANGES.iter()));
        pipe.tail(StreamTail::new(std::io::sink())).run().unwrap();
    }
}
