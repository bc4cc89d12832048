//! The offset of each table in the segment: pure arithmetic from a [`Shape`].
//!
//! Every offset is computed with checked arithmetic and every table starts on a multiple of its
//! alignment. The normative table is in `docs/shared-memory.md`, "Layout".
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use super::shape::Shape;
use super::tables::{BufferEntry, Header, ParticipantEntry, QueueEntry, SlotEntry, StageEntry};

/// Version of the layout and of the protocol on it. Two participants must have the same.
pub(crate) const VERSION: u32 = 1;

/// First word of a segment: `DataPipe` in ASCII, read as a little-endian integer.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"DataPipe");

/// Offsets of the tables from the start of the segment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) stages: usize,
    pub(crate) queues: usize,
    pub(crate) slots: usize,
    pub(crate) participants: usize,
    pub(crate) buffers: usize,
    pub(crate) payload: usize,
    /// Distance between two buffers' first bytes.
    pub(crate) stride: usize,
    /// Length of the segment.
    pub(crate) total: usize,
}

impl Layout {
    /// The layout of `shape` with pages of `page` bytes; `None` if it would not fit an address
    /// space.
    pub(crate) fn of(shape: &Shape, page: usize) -> Option<Self> {
        let mut end = size_of::<Header>();
        let mut table = |count: usize, size: usize, align: usize| {
            let start = end.checked_next_multiple_of(align)?;
            end = start.checked_add(count.checked_mul(size)?)?;
            Some(start)
        };
        let stage_count = usize::try_from(shape.stage_count()).ok()?;
        let ring_count = usize::try_from(shape.ring_count()).ok()?;
        let ring_slots = usize::try_from(shape.ring_slots()).ok()?;
        let participant_count = usize::try_from(shape.participants()).ok()?;
        let buffer_count = usize::try_from(shape.buffers()).ok()?;

        let stages = table(
            stage_count,
            size_of::<StageEntry>(),
            align_of::<StageEntry>(),
        )?;
        let queues = table(
            ring_count,
            size_of::<QueueEntry>(),
            align_of::<QueueEntry>(),
        )?;
        let slots = table(
            ring_count.checked_mul(ring_slots)?,
            size_of::<SlotEntry>(),
            CACHE_LINE,
        )?;
        let participants = table(
            participant_count,
            size_of::<ParticipantEntry>(),
            align_of::<ParticipantEntry>(),
        )?;
        let buffers = table(
            buffer_count,
            size_of::<BufferEntry>(),
            align_of::<BufferEntry>(),
        )?;

        let room = u64::from(shape.headroom())
            .checked_add(u64::from(shape.buffer_size()))?
            .checked_add(u64::from(shape.tailroom()))?;
        let stride = usize::try_from(room).ok()?.checked_next_multiple_of(page)?;
        let payload = table(buffer_count, stride, page)?;
        let total = end.checked_next_multiple_of(page)?;
        Some(Self {
            stages,
            queues,
            slots,
            participants,
            buffers,
            payload,
            stride,
            total,
        })
    }

    /// A digest of every offset and entry size: what two participants compare before they trust
    /// each other's.
    pub(crate) fn hash(&self) -> u64 {
        let words = [
            self.stages,
            self.queues,
            self.slots,
            self.participants,
            self.buffers,
            self.payload,
            self.stride,
            self.total,
            size_of::<Header>(),
            size_of::<StageEntry>(),
            size_of::<QueueEntry>(),
            size_of::<SlotEntry>(),
            size_of::<ParticipantEntry>(),
            size_of::<BufferEntry>(),
        ];
        // FNV-1a, 64 bit (Fowler, Noll, Vo): it tells two layouts apart, and protects against
        // nothing.
        words
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &word| {
                let word = u64::try_from(word).unwrap_or(u64::MAX);
                word.to_le_bytes().iter().fold(hash, |h, &byte| {
                    (h ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
                })
            })
    }
}

/// Bytes that one cache line has on the machines this is tuned for; correctness does not depend on
/// it.
pub(crate) const CACHE_LINE: usize = 64;

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test may panic"
    )]
    use super::super::shape::StageShape;
    use super::*;

    #[test]
    fn tables_do_not_overlap_and_are_aligned() {
        for buffers in [1, 2, 63, 64, 65, 4096] {
            let shape = Shape::builder(buffers, 512)
                .headroom(64)
                .tailroom(16)
                .stages([StageShape::new(1).share(1), StageShape::new(3)])
                .build()
                .unwrap();
            let l = Layout::of(&shape, 4096).unwrap();
            let n = buffers as usize;
            let ends = [
                (l.stages, 2 * size_of::<StageEntry>()),
                (l.queues, 3 * size_of::<QueueEntry>()),
                (
                    l.slots,
                    3 * shape.ring_slots() as usize * size_of::<SlotEntry>(),
                ),
                (l.participants, 4 * size_of::<ParticipantEntry>()),
                (l.buffers, n * size_of::<BufferEntry>()),
                (l.payload, n * l.stride),
                (l.total, 0),
            ];
            assert!(l.stages >= size_of::<Header>());
            for pair in ends.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{l:?}");
            }
            assert!(ends.iter().all(|(start, _)| start % CACHE_LINE == 0));
            assert_eq!(
                (l.payload % 4096, l.stride % 4096, l.total % 4096),
                (0, 0, 0)
            );
        }
    }

    #[test]
    fn the_hash_tells_shapes_apart() {
        let hash = |buffers, size| {
            let shape = Shape::builder(buffers, size)
                .stages([StageShape::new(1).share(1), StageShape::new(1)])
                .build()
                .unwrap();
            Layout::of(&shape, 4096).unwrap().hash()
        };
        assert_ne!(hash(8, 4096), hash(9, 4096));
        assert_ne!(hash(8, 4096), hash(8, 4097));
    }
}
