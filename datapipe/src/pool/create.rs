//! A segment whose buffers are all free.

use crate::memory::{Backing, HugePages, PipeName, Segment, SegmentError, Shape};

use super::participant::fill_reserve;

impl Segment {
    /// Makes a segment for a pipe of the given shape: reserved, sealed, with every buffer free.
    ///
    /// `stage_names` label the stages, in order, for processes that attach; missing ones stay
    /// empty.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Memory`] if the machine has less than the pool asks for,
    /// [`SegmentError::System`] with the call that failed otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// use datapipe::memory::{Backing, HugePages, PipeName, Segment, Shape, StageId, StageShape};
    /// use datapipe::pool::Seat;
    ///
    /// // A head that may have all 8 buffers of 4 KiB, and a tail.
    /// let stages = [StageShape::new(1).share(8), StageShape::new(1)];
    /// let shape = Shape::builder(8, 4096).stages(stages).build()?;
    /// let (head, tail) = (StageId::HEAD.instance(0), shape.tail().instance(0));
    /// let (name, no) = (PipeName::new(), HugePages::No);
    /// let segment = Segment::create(&name, shape, &["head", "tail"], Backing::Anonymous, no)?;
    ///
    /// let head = Seat::new(&segment, head).head()?;
    /// let tail = Seat::new(&segment, tail).tail()?;
    /// let mut block = head.alloc()?;
    /// block.put(b"hello")?;
    /// head.send(block)?;
    /// head.finish()?;
    /// assert_eq!(tail.receive()?.unwrap().bytes(), b"hello");
    /// assert!(tail.receive()?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(
        name: &PipeName,
        shape: Shape,
        stage_names: &[&str],
        backing: Backing,
        huge: HugePages,
    ) -> Result<Self, SegmentError> {
        Self::make(name, shape, stage_names, backing, huge, fill_reserve)
    }
}
