//! Typed views of the shared tables.
//!
//! One set of `repr(C)` structs of atomic words, and one [`Tables`] that finds them, wherever they
//! live: in a mapped segment, or on the heap, where the model checker and the step explorer run the
//! very same algorithms. No struct has padding that is read, and every bit pattern of every
//! word is valid, so a peer that scribbles on the segment can make a value wrong but never invalid.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Index;
use std::ptr::NonNull;

use super::atomic::{AtomicU32, AtomicU64};
use super::event_count::EventCount;
use super::ids::{BufferId, ParticipantId, QueueId, StageId, TableIndex};
use super::shape::Shape;

/// The first bytes of a segment. All but `stop` is written once, by the creator, before `ready`.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Header {
    /// [`MAGIC`](super::layout::MAGIC).
    pub(crate) magic: AtomicU64,
    /// [`VERSION`](super::layout::VERSION).
    pub(crate) version: AtomicU32,
    /// Page size that the layout was computed with, in bytes.
    pub(crate) page: AtomicU32,
    /// Digest of every offset: [`Layout::hash`](super::layout::Layout::hash).
    pub(crate) layout_hash: AtomicU64,
    /// Length of the segment in bytes.
    pub(crate) total: AtomicU64,
    pub(crate) buffers: AtomicU32,
    pub(crate) buffer_size: AtomicU32,
    pub(crate) headroom: AtomicU32,
    pub(crate) tailroom: AtomicU32,
    pub(crate) stages: AtomicU32,
    /// 1 once everything above, the stage table and the free list are in place. Stored last, with
    /// release.
    pub(crate) ready: AtomicU32,
    /// [`Direction`](super::Direction): 0 archive, 1 restore.
    pub(crate) direction: AtomicU64,
    /// The pipe's name, UTF-8, padded with zeros.
    pub(crate) name: Text<16>,
    /// Checked again by every wait.
    pub(crate) stop: StopWord,
}

/// The stop word, on a cache line of its own: read by all participants before every operation,
/// written once.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct StopWord {
    /// 0 while the pipe runs; anything else ends every wait. Written by the controller, and by a
    /// process whose controller has died.
    pub(crate) word: AtomicU32,
}

/// The stop word of a pipe that failed.
pub(crate) const STOPPED: u32 = 1;
/// The stop word of a pipe whose job was interrupted.
pub(crate) const CANCELLED: u32 = 2;

/// One stage.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct StageEntry {
    /// Instances of the stage. Written by the creator.
    pub(crate) instances: AtomicU32,
    /// Buffers that its instances together may have outstanding. Written by the creator.
    pub(crate) share: AtomicU32,
    /// Bit i: instance i has sent everything it ever will. Set by the instance, or by the
    /// controller for it.
    pub(crate) done: AtomicU64,
    /// 0 if the stage is not numbered; otherwise the positions that each number has in the next
    /// queue, which is 1 if the stage answers every number exactly once. Written by the creator.
    pub(crate) numbered: AtomicU64,
    /// Number of the head's instances that have not ended yet, if the tail wants to be sent a last
    /// block. Written by the creator, and by each instance at its end. Otherwise 0.
    pub(crate) unended: AtomicU64,
    /// Number of the head's first block in the archive that it is for. Written by the creator.
    pub(crate) first_block: AtomicU64,
    /// Bytes of data after which the head makes a checkpoint; `u64::MAX`: only when it decides to;
    /// 0: never. Written by the creator.
    pub(crate) checkpoint: AtomicU64,
    /// 1 if the head records checksums of its blocks, because the tail takes them from there;
    /// otherwise 0. Written by the creator.
    pub(crate) checksums: AtomicU64,
    _rest: [AtomicU64; 1],
    /// The stage's name, UTF-8, padded with zeros. Written by the creator.
    pub(crate) name: Text<8>,
}

/// The ends of one ring. Each word on a line of its own, for producers move one and consumers the
/// other.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct QueueEntry {
    pub(crate) head: Line,
    pub(crate) tail: Line,
    pub(crate) event: EventLine,
}

/// A word on a cache line of its own.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Line {
    pub(crate) word: AtomicU64,
}

/// An event on a cache line of its own.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct EventLine {
    pub(crate) event: EventCount,
}

/// One slot of a ring: see [`queue::slot`](crate::queue) for what the word says. Eight share a
/// cache line: with some slack between producer and consumer, one transfer moves several.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct SlotEntry {
    pub(crate) word: AtomicU64,
}

/// One instance of one stage.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct ParticipantEntry {
    /// Queue and position of the take in progress, or of the last one. Written by the participant
    /// before the buffer changes hands, read by the controller after the participant's death.
    pub(crate) intent: AtomicU64,
    /// [`Activity`](crate::pool::Activity) of the participant, for status. Written by itself.
    pub(crate) activity: AtomicU32,
    /// Process whose port has taken the seat, 0 if none has. Set by the port that finds 0, cleared
    /// when it is dropped, or by the controller after its process' death.
    pub(crate) owner: AtomicU32,
    /// Monotonic clock when `activity` last became a waiting one, when the participant started, and
    /// when it ended, in nanoseconds; 0 for not yet. Written by itself.
    pub(crate) since: AtomicU64,
    pub(crate) started: AtomicU64,
    pub(crate) ended: AtomicU64,
    /// Number of processes that the instance has had. Written by the controller.
    pub(crate) processes: AtomicU64,
    _rest: [AtomicU64; 2],
    /// Moves when a buffer that this participant allocated comes home.
    pub(crate) credit: EventLine,
    /// Counters, each written by the participant alone with plain stores: status costs no shared
    /// write.
    pub(crate) counters: Counters,
}

/// Work that one participant did so far.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Counters {
    pub(crate) blocks_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) blocks_out: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    /// Nanoseconds spent waiting for a buffer, not counting a wait that is still going on.
    pub(crate) alloc_wait: AtomicU64,
    /// Nanoseconds spent waiting for input, not counting a wait that is still going on.
    pub(crate) receive_wait: AtomicU64,
    _rest: [AtomicU64; 2],
}

/// One buffer: its ledger word, which is the truth, and its descriptor, which only its holder
/// writes.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct BufferEntry {
    /// State, who, allocator, generation: see [`pool::word`](crate::pool).
    pub(crate) word: AtomicU64,
    /// The number of the block in the buffer: the position in its queue that it was taken from or
    /// goes to.
    pub(crate) number: AtomicU64,
    /// Generation for which `number` was written; it says nothing about any other.
    pub(crate) number_generation: AtomicU64,
    /// Queue that the buffer was last sent to. Written before the ledger word says sent.
    pub(crate) destination: AtomicU32,
    /// Start of the data, in bytes from the start of the buffer's headroom.
    pub(crate) start: AtomicU32,
    /// Length of the data in bytes.
    pub(crate) len: AtomicU32,
    /// Bit 0: the block was dropped on its way and only its number travels on. Bit 1: `info` was
    /// written. Bit 2: it is a control block. Bit 3: `checksum` is that of the data.
    pub(crate) flags: AtomicU32,
    /// CRC-32 of the data.
    pub(crate) checksum: AtomicU32,
    _pad: AtomicU32,
    _rest: [AtomicU64; 2],
    /// Facts about the block for later stages: see [`BlockInfo`](crate::pool::BlockInfo).
    pub(crate) info: [AtomicU64; INFO_WORDS],
}

/// 64-bit words of block information that travel with a buffer.
pub(crate) const INFO_WORDS: usize = 8;

/// A short text in `8 * WORDS` bytes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Text<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Default for Text<WORDS> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

#[cfg(not(loom))]
impl<const WORDS: usize> Text<WORDS> {
    /// Stores as much of `text` as fits, cut at a character.
    pub(crate) fn store(&self, text: &str) {
        let text = &text[..text.floor_char_boundary(8 * WORDS)];
        let mut bytes = text.bytes();
        for word in &self.0 {
            let chunk = std::array::from_fn(|_| bytes.next().unwrap_or(0));
            word.store(u64::from_le_bytes(chunk), super::atomic::Ordering::Relaxed);
        }
    }

    /// Copies the text out; what is not UTF-8 in it is replaced.
    pub(crate) fn load(&self) -> String {
        let words = self
            .0
            .iter()
            .map(|word| word.load(super::atomic::Ordering::Relaxed).to_le_bytes());
        let bytes: Vec<u8> = words.flatten().take_while(|&byte| byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Header>() == 256);
    assert!(size_of::<StageEntry>() == 128);
    assert!(size_of::<QueueEntry>() == 192);
    assert!(size_of::<SlotEntry>() == 8);
    assert!(size_of::<ParticipantEntry>() == 192);
    assert!(size_of::<BufferEntry>() == 128);
    // The offsets that docs/shared-memory.md gives.
    use std::mem::offset_of;
    assert!(offset_of!(Header, layout_hash) == 16 && offset_of!(Header, buffers) == 32);
    assert!(offset_of!(Header, stages) == 48 && offset_of!(Header, ready) == 52);
    assert!(offset_of!(Header, direction) == 56 && offset_of!(Header, name) == 64);
    assert!(offset_of!(Header, stop) == 192);
    assert!(offset_of!(StageEntry, done) == 8 && offset_of!(StageEntry, numbered) == 16);
    assert!(offset_of!(StageEntry, unended) == 24 && offset_of!(StageEntry, first_block) == 32);
    assert!(offset_of!(StageEntry, checkpoint) == 40 && offset_of!(StageEntry, checksums) == 48);
    assert!(offset_of!(StageEntry, name) == 64);
    assert!(offset_of!(QueueEntry, tail) == 64 && offset_of!(QueueEntry, event) == 128);
    assert!(
        offset_of!(ParticipantEntry, activity) == 8 && offset_of!(ParticipantEntry, owner) == 12
    );
    assert!(offset_of!(ParticipantEntry, since) == 16 && offset_of!(ParticipantEntry, ended) == 32);
    assert!(offset_of!(ParticipantEntry, processes) == 40);
    assert!(
        offset_of!(ParticipantEntry, credit) == 64 && offset_of!(ParticipantEntry, counters) == 128
    );
    assert!(
        offset_of!(BufferEntry, number) == 8 && offset_of!(BufferEntry, number_generation) == 16
    );
    assert!(offset_of!(BufferEntry, destination) == 24 && offset_of!(BufferEntry, start) == 28);
    assert!(offset_of!(BufferEntry, len) == 32 && offset_of!(BufferEntry, flags) == 36);
    assert!(offset_of!(BufferEntry, checksum) == 40 && offset_of!(BufferEntry, info) == 64);
};

/// A table of `len` entries that another owner keeps in place. Its entries are found by ids of type
/// `I`.
pub(crate) struct Array<T, I = ()> {
    first: NonNull<T>,
    len: usize,
    ids: PhantomData<fn(I)>,
}

impl<T, I> Array<T, I> {
    /// # Safety
    ///
    /// `first` must point to `len` initialised entries that stay where they are, and are never
    /// accessed but through shared references, for as long as the array is used.
    pub(crate) unsafe fn new(first: NonNull<T>, len: usize) -> Self {
        Self {
            first,
            len,
            ids: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: `new` was promised `len` initialised entries that outlive the array and are only
        // ever shared.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T, I: TableIndex> Index<I> for Array<T, I> {
    type Output = T;

    /// # Panics
    ///
    /// If there is no entry with this id. Ids read from shared memory are checked before they get
    /// here.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "indexing is documented to panic")]
    fn index(&self, id: I) -> &T {
        &self.as_slice()[id.as_index()]
    }
}

/// Every shared table of one pipe, and the owner that keeps them in memory.
pub(crate) struct Tables {
    pub(crate) shape: Shape,
    /// One entry.
    pub(crate) header: Array<Header>,
    pub(crate) stages: Array<StageEntry, StageId>,
    pub(crate) queues: Array<QueueEntry, QueueId>,
    /// `ring_slots` for queue 0, then for queue 1, and so on.
    pub(crate) slots: Array<SlotEntry>,
    pub(crate) participants: Array<ParticipantEntry, ParticipantId>,
    pub(crate) buffers: Array<BufferEntry, BufferId>,
    /// First byte of the first buffer, and the distance to the next one.
    pub(crate) payload: NonNull<u8>,
    pub(crate) stride: usize,
    /// Dropped last: unmaps or frees all of the above.
    #[allow(dead_code, reason = "held for its drop")]
    pub(crate) owner: Box<dyn Send + Sync>,
}

// SAFETY: the tables consist of atomics, which any thread may use; `payload` is only turned into
// references by blocks, which the ledger makes exclusive; the owner is Send.
unsafe impl Send for Tables {}
// SAFETY: as above; the owner is Sync, and nothing here has interior mutability but the atomics.
unsafe impl Sync for Tables {}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl Tables {
    /// The header.
    #[inline]
    #[allow(
        clippy::indexing_slicing,
        reason = "the table of headers has one entry"
    )]
    pub(crate) fn header(&self) -> &Header {
        &self.header.as_slice()[0]
    }

    /// Wakes all who wait anywhere, to look again.
    pub(crate) fn wake_all(&self) {
        for queue in self.queues.as_slice() {
            queue.event.event.wake_all();
        }
        for participant in self.participants.as_slice() {
            participant.credit.event.wake_all();
        }
    }

    /// The slots of one ring.
    #[inline]
    #[allow(
        clippy::indexing_slicing,
        reason = "the segment has the slots of every ring of its shape"
    )]
    pub(crate) fn ring(&self, queue: QueueId) -> &[SlotEntry] {
        let slots = self.shape.ring_slots() as usize;
        &self.slots.as_slice()[queue.as_index() * slots..][..slots]
    }

    /// Bytes of one buffer: headroom, payload and tailroom.
    #[cfg(not(loom))]
    pub(crate) fn buffer_len(&self) -> usize {
        (self.shape.headroom() + self.shape.buffer_size() + self.shape.tailroom()) as usize
    }

    /// Tables on the heap, for the model checker and the step explorer.
    #[cfg(test)]
    pub(crate) fn on_heap(shape: Shape) -> Self {
        struct Heap {
            header: Box<[Header]>,
            stages: Box<[StageEntry]>,
            queues: Box<[QueueEntry]>,
            slots: Box<[SlotEntry]>,
            participants: Box<[ParticipantEntry]>,
            buffers: Box<[BufferEntry]>,
            payload: Box<[u8]>,
        }
        fn make<T: Default>(n: usize) -> Box<[T]> {
            (0..n).map(|_| T::default()).collect()
        }
        fn array<T, I>(entries: &[T]) -> Array<T, I> {
            // SAFETY: the boxed slice moves into the owner, whose heap allocation stays where it
            // is.
            unsafe { Array::new(NonNull::from(entries).cast(), entries.len()) }
        }
        let (stages, people) = (shape.stage_count() as usize, shape.participants() as usize);
        let rings = shape.ring_count() as usize;
        let stride = (shape.headroom() + shape.buffer_size() + shape.tailroom()) as usize;
        let mut heap = Box::new(Heap {
            header: make(1),
            stages: make(stages),
            queues: make(rings),
            slots: make(rings * shape.ring_slots() as usize),
            participants: make(people),
            buffers: make(shape.buffers() as usize),
            payload: make(stride * shape.buffers() as usize),
        });
        Self {
            header: array(&heap.header),
            stages: array(&heap.stages),
            queues: array(&heap.queues),
            slots: array(&heap.slots),
            participants: array(&heap.participants),
            buffers: array(&heap.buffers),
            payload: NonNull::from(&mut heap.payload[..]).cast(),
            stride,
            shape,
            owner: heap,
        }
    }
}
