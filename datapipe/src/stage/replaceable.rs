//! The declaration that a loop at either end of a pipe continues where a dead process has stopped.

use super::description::{HeadWork, Stage, TailWork};

impl Stage<HeadWork<'_>> {
    /// Declares that a process of this head that a signal has killed is replaced. Only for a loop
    /// over its port ([`Stage::head_port`]) in processes that the controller starts; any other
    /// head would read its source from the beginning.
    ///
    /// The replacement runs the same loop anew. It continues after the blocks that its predecessors
    /// have sent, whose number [`HeadPort::sent`](crate::pool::HeadPort::sent) returns; what they
    /// had allocated and not sent is free again. So the head must get its blocks from where each
    /// can be had again until it was sent: from another pipe, for example.
    ///
    /// Such a head passes on what another pipe has sent: in a pipe that ends with an archive, it
    /// also sends the last block of the archive ([`Marks::LAST`](crate::pool::Marks::LAST)), which
    /// the library otherwise adds, and may send vacant blocks.
    ///
    /// The pipe stops after [`MAX_FRUITLESS_DEATHS`](crate::limits::MAX_FRUITLESS_DEATHS) deaths in
    /// a row of processes that had not begun, and after
    /// [`MAX_FUTILE_DEATHS`](crate::limits::MAX_FUTILE_DEATHS) deaths in a row without its
    /// first block sent, or freed, in between.
    #[must_use]
    pub fn replaceable(mut self) -> Self {
        self.settings.is_replaceable = true;
        self
    }
}

impl Stage<TailWork<'_>> {
    /// Declares that a process of this tail that a signal has killed is replaced. Only for a loop
    /// over its port ([`Stage::tail_port`]) in processes that the controller starts; of any other
    /// tail it is unknown how much of the last block it has written.
    ///
    /// The replacement runs the same loop anew, and receives the blocks that its predecessor had
    /// received and not freed, in their order, before all others. So the tail must do with a block
    /// only what may be done twice, or know what it has done with it: it may send blocks to another
    /// pipe, for example, which knows their numbers.
    ///
    /// The pipe stops after [`MAX_FRUITLESS_DEATHS`](crate::limits::MAX_FRUITLESS_DEATHS) deaths in
    /// a row of processes that had not begun, and after
    /// [`MAX_FUTILE_DEATHS`](crate::limits::MAX_FUTILE_DEATHS) deaths in a row without any block
    /// freed in between.
    #[must_use]
    pub fn replaceable(mut self) -> Self {
        self.settings.is_replaceable = true;
        self
    }
}
