//! The return of a segment's memory while other processes still map it.

use std::io;

use rustix::fs::{FallocateFlags, fallocate};

use super::layout::Layout;
use super::segment::Segment;
use super::shape::Shape;

impl Segment {
    /// Length in bytes of a segment of this shape: its tables, and its buffers in whole pages.
    pub(crate) fn bytes_of(shape: &Shape) -> u64 {
        let layout = Layout::of(shape, rustix::param::page_size());
        layout.map_or(u64::MAX, |layout| layout.total as u64)
    }

    /// Returns the memory of all buffers to the machine, for a pipe that has ended.
    ///
    /// Processes that map the segment keep the mapping. They read zeros from the buffers, and what
    /// they write takes memory again, until the next call. The tables stay as they are, so that
    /// they find the pipe ended. A named segment is left alone: its creator removes its name.
    ///
    /// # Errors
    ///
    /// If the kernel refuses. Then the memory returns when the last process has unmapped it.
    pub fn discard_buffers(&self) -> io::Result<()> {
        let layout = Layout::of(self.shape(), rustix::param::page_size());
        let (Some(descriptor), Some(layout)) = (self.descriptor(), layout) else {
            return Ok(());
        };
        let (start, end) = (layout.payload as u64, layout.total as u64);
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(descriptor, punch, start, end.saturating_sub(start))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use crate::memory::{Backing, HugePages, PipeName, StageShape};

    use super::*;

    #[test]
    fn buffers_that_are_discarded_take_no_memory_and_leave_the_tables() {
        let shape = Shape::builder(64, 65536)
            .stages([StageShape::new(1).share(2), StageShape::new(1)])
            .build()
            .unwrap();
        let bytes = Segment::bytes_of(&shape);
        let (name, huge) = (PipeName::new(), HugePages::No);
        let segment = Segment::create(&name, shape, &[], Backing::Anonymous, huge).unwrap();
        let other = segment.descriptor().unwrap().try_clone_to_owned().unwrap();
        let other = Segment::attach(other).unwrap();
        let taken = || {
            rustix::fs::fstat(segment.descriptor().unwrap())
                .unwrap()
                .st_blocks
                * 512
        };
        assert_eq!(taken() as u64, bytes);
        segment.stop();
        segment.discard_buffers().unwrap();
        assert!((taken() as u64) < bytes - 64 * 65536 + 65536, "{}", taken());
        assert!(other.is_stopped(), "the tables are as they were");
        assert_eq!(other.free_buffers(), 64);
    }
}
