//! The four primitives with waiting, as one instance of one stage may use them.
//!
//! Three port types, one for each role, so that the compiler refuses what the role may not do: a
//! head allocates and sends, a tail receives and frees, everything between may do all four. Freeing
//! is dropping a [`Block`].
//!
//! A port belongs to one thread. Its waits end when the pipe stops, and never outlast their
//! timeout.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::memory::{Number, QueueId, StageId};

use super::bell::Bell;
use super::block::Block;
use super::lent::Lent;
use super::port_core::PortCore;
use super::port_error::{PortError, TryError};
use super::stop::Stop;
use super::wait::Blocked;

/// The primitives of the first stage.
#[derive(Debug)]
pub struct HeadPort {
    pub(super) core: Rc<PortCore>,
}

/// The primitives of a stage between two queues.
#[derive(Debug)]
pub struct MiddlePort {
    pub(super) core: Rc<PortCore>,
}

/// The primitives of the last stage.
#[derive(Debug)]
pub struct TailPort {
    pub(super) core: Rc<PortCore>,
}

macro_rules! allocating {
    () => {
        /// An empty buffer. Waits until this instance may have one.
        ///
        /// # Errors
        ///
        /// [`PortError::Stopped`] when the pipe stops; [`PortError::AtLimit`] if that is the pipe's
        /// policy.
        #[inline(always)]
        pub fn alloc(&self) -> Result<Block, PortError> {
            let held = self
                .core
                .wait(None, || self.core.try_loan())
                .map(no_deadline)?;
            Ok(Block::loan(&self.core, held))
        }

        /// As [`alloc`](Self::alloc), but waits for `timeout` at most.
        ///
        /// # Errors
        ///
        /// [`TryError::Blocked`] after `timeout`, with the reason; [`TryError::Port`] for an error
        /// of [`alloc`](Self::alloc).
        pub fn alloc_timeout(&self, timeout: Duration) -> Result<Block, TryError> {
            let deadline = Instant::now().checked_add(timeout);
            let held = self.core.wait(deadline, || self.core.try_loan())??;
            Ok(Block::loan(&self.core, held))
        }

        /// An empty buffer, if this instance may have one at once.
        ///
        /// # Errors
        ///
        /// [`TryError::Blocked`] if it may not, with the reason; [`TryError::Port`] for an error of
        /// [`alloc`](Self::alloc).
        #[inline(always)]
        pub fn try_alloc(&self) -> Result<Block, TryError> {
            let held = self.core.try_loan()??;
            Ok(Block::loan(&self.core, held))
        }
    };
}

macro_rules! receiving {
    () => {
        /// The next block, in order; `None` at the end of the stream. Waits until there is one.
        /// Control blocks ([`BlockInfo::is_control`](super::BlockInfo::is_control)) pass the stage
        /// and are not returned.
        ///
        /// # Errors
        ///
        /// [`PortError::Stopped`] when the pipe stops.
        #[inline(always)]
        pub fn receive(&self) -> Result<Option<Block>, PortError> {
            let next = || self.core.wait(None, || self.core.try_input());
            self.core.receive_by(|| next().map(no_deadline))
        }

        /// As [`receive`](Self::receive), but waits for `timeout` at most.
        ///
        /// # Errors
        ///
        /// [`TryError::Blocked`] with [`Blocked::NoInput`] after `timeout`; [`TryError::Port`] for
        /// an error of [`receive`](Self::receive).
        pub fn receive_timeout(&self, timeout: Duration) -> Result<Option<Block>, TryError> {
            let deadline = Instant::now().checked_add(timeout);
            self.core
                .receive_by(|| Ok(self.core.wait(deadline, || self.core.try_input())??))
        }

        /// Returns vacant blocks to the loop from now on, too, and in their places: blocks that an
        /// earlier stage has dropped, of which only the number and the info are left
        /// ([`Block::is_vacant`]). A loop over its port does not see them unless it asks for them
        /// here: they are freed. A loop that carries blocks to another pipe needs them, because the
        /// numbers of its blocks then have no gaps.
        pub fn take_vacant_blocks(&self) {
            self.core.skip_vacant(false);
        }

        /// Returns control blocks to the loop from now on, too, and in their places:
        /// [`BlockInfo::is_control`](super::BlockInfo::is_control). The loop is responsible for
        /// them: one between two queues sends each on, and the last block after everything else.
        pub fn take_control_blocks(&self) {
            self.core.take_control_blocks();
        }

        /// The next block, if there is one at once; `None` at the end of the stream.
        ///
        /// # Errors
        ///
        /// [`TryError::Blocked`] with [`Blocked::NoInput`] if there is no block yet;
        /// [`TryError::Port`] for an error of [`receive`](Self::receive).
        #[inline(always)]
        pub fn try_receive(&self) -> Result<Option<Block>, TryError> {
            self.core.receive_by(|| Ok(self.core.try_input()??))
        }
    };
}

macro_rules! every_port {
    () => {
        /// Records that this instance has sent, or received, everything it ever will, and ends it
        /// well.
        ///
        /// In a pipe that ends with an archive, the head's last instance to end sends the
        /// archive's last block here, which has no data, and waits for a buffer if necessary. A
        /// stage between two queues sends it on here, after all that it has sent itself.
        ///
        /// Waits until other threads have dropped all blocks that the port has lent and not taken
        /// back.
        ///
        /// A port that is dropped without this leaves the stream open: later stages wait until
        /// the pipe stops.
        ///
        /// # Errors
        ///
        /// [`PortError::Misuse`] if a numbered stage leaves an input without an answer, if the
        /// input has not been received to its end, or if a
        /// [`BlockWriter`](crate::stage::BlockWriter) was dropped with data in it.
        /// [`PortError::Stopped`] if it has to wait and the pipe stops.
        pub fn finish(self) -> Result<(), PortError> {
            self.core.await_returns()?;
            self.core.check_finished()?;
            self.core.end_stream(None)?;
            self.core.participant().finish(self.core.id);
            Ok(())
        }

        /// Repeats `attempt` until it gets something, sleeping in between until that may be so, and
        /// returns what it got. So a loop can wait for its port and for other threads of its
        /// process at once: `bell` ends each sleep, and so do blocks that other threads drop.
        ///
        /// `attempt` does not wait. It returns [`TryError::Blocked`], which says what the instance
        /// waits for, and therefore what ends the sleep besides the bell: the reason that
        /// [`try_receive`](TailPort::try_receive) or [`try_alloc`](HeadPort::try_alloc) has
        /// returned, or [`Blocked::Outside`] if it waits for the bell alone. Waiting outside counts
        /// as work in the [status](crate::controller::Status): if the pipe is slow because of it,
        /// this stage is the one that limits the pipe. The standstill detection does not count an
        /// instance that waits here as one that waits for others.
        ///
        /// # Errors
        ///
        /// [`TryError::Blocked`] after `deadline`, with the reason of the last attempt. Without a
        /// deadline the wait has no end but the stop of the pipe. [`TryError::Port`] with
        /// [`PortError::Stopped`] when the pipe stops, and with an error of `attempt`.
        ///
        /// # Examples
        ///
        /// [`Bell`] has one.
        pub fn wait<T>(
            &self,
            bell: &Bell,
            deadline: Option<Instant>,
            attempt: impl FnMut() -> Result<T, TryError>,
        ) -> Result<T, TryError> {
            self.core.wait_for_bell(bell, deadline, attempt)
        }

        /// Takes back a block that was [lent](Block::lend), with what the other thread has made of
        /// it.
        ///
        /// # Errors
        ///
        /// [`PortError::Misuse`] if another port has lent it, which gets it back.
        pub fn take_back(&self, lent: Lent) -> Result<Block, PortError> {
            self.core.take_back(lent)
        }

        /// Returns a handle for waits outside of the pipe that end when the pipe stops.
        pub fn stop(&self) -> Stop {
            self.core.stop()
        }

        pub(crate) fn core(&self) -> &Rc<PortCore> {
            &self.core
        }
    };
}

impl HeadPort {
    allocating!();
    every_port!();

    /// Hands a block on to the next stage.
    ///
    /// # Errors
    ///
    /// [`PortError::Stopped`] when the pipe stops; the block is freed.
    #[inline]
    pub fn send(&self, block: Block) -> Result<(), PortError> {
        self.core.send(block, Number::FIRST)
    }

    /// Hands on a block without its data: only its number and its info travel on, and later stages
    /// skip it, as if a stage had dropped it. For a head that gets its blocks from another pipe,
    /// and keeps their numbers.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`PortError::Misuse`] if the pipe ends with an archive and the
    /// head is not declared [replaceable](crate::stage::Stage::replaceable): the archive would
    /// count the block as lost.
    pub fn send_vacant(&self, mut block: Block) -> Result<(), PortError> {
        if self.core.ends_archive() {
            return Err(PortError::Misuse(
                "a head sends vacant blocks to an archive only if it is declared replaceable",
            ));
        }
        block.make_vacant();
        self.send(block)
    }

    /// Number of blocks that the stage has sent since the pipe began, vacant ones and those of all
    /// instances and dead processes included: the number that the next block gets. Exact if this is
    /// the only instance.
    ///
    /// A process that replaces another one at this place continues from here.
    ///
    /// # Errors
    ///
    /// [`PortError::Corrupt`] if the shared words contradict each other.
    pub fn sent(&self) -> Result<Number, PortError> {
        let queue = QueueId::output_of(StageId::HEAD);
        Ok(self.core.participant().count_put(queue)?)
    }

    /// Ends the stream of this instance, which goes on without it: for a head that has something to
    /// do after its last block, such as to report it elsewhere. The later stages come to the end of
    /// the stream meanwhile. The head sends nothing more, and [`finish`](Self::finish) follows.
    ///
    /// Waits as `finish` does.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish), and [`PortError::Misuse`] if the library is to send the last
    /// block of an archive after those of this head, which `finish` does.
    pub fn end(&self) -> Result<(), PortError> {
        if self.core.ends_archive() {
            return Err(PortError::Misuse(
                "a head whose archive the library ends cannot end its stream before itself",
            ));
        }
        self.core.await_returns()?;
        self.core.check_finished()?;
        self.core.participant().finish(self.core.id);
        Ok(())
    }

    /// Ends as [`finish`](Self::finish) does, with an empty block in hand that may become the last
    /// one of the stream.
    pub(crate) fn finish_with(self, spare: Block) -> Result<(), PortError> {
        self.core.check_finished()?;
        self.core.end_stream(Some(spare))?;
        self.core.participant().finish(self.core.id);
        Ok(())
    }
}

impl MiddlePort {
    allocating!();
    receiving!();
    every_port!();

    /// Hands `output` on to the next stage as the answer to `input`, whose number it gets. The
    /// input is freed when it is dropped.
    ///
    /// # Errors
    ///
    /// [`PortError::Stopped`] when the pipe stops; [`PortError::Misuse`] if the stage is numbered
    /// and has answered this input before. The output is freed.
    pub fn send(&self, output: Block, input: &Block) -> Result<(), PortError> {
        self.core.answer(input)?;
        self.core.send(output, input.number())
    }

    /// Hands an input on to the next stage as it is, or as it was changed in place.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn forward(&self, input: Block) -> Result<(), PortError> {
        self.core.answer(&input)?;
        let number = input.number();
        self.core.send(input, number)
    }

    /// Drops an input from the stream. Where numbers have to stay dense, it travels on as a vacant
    /// block, without its content, and later stages skip it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn drop_input(&self, mut input: Block) -> Result<(), PortError> {
        if !self.core.numbered {
            return Ok(());
        }
        input.make_vacant();
        self.forward(input)
    }

    /// Hands on a block that answers no input: a stage that is not numbered may send what it likes.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`PortError::Misuse`] if the stage is numbered.
    pub fn emit(&self, output: Block) -> Result<(), PortError> {
        if self.core.numbered {
            return Err(PortError::Misuse(
                "a numbered stage sends only answers to its inputs",
            ));
        }
        self.core.send(output, Number::FIRST)
    }
}

impl TailPort {
    receiving!();
    every_port!();

    /// Number of blocks that the stage has received since the pipe began, vacant ones and those of
    /// all instances and dead processes included: the number of the next block that it has not
    /// received yet. Exact if this is the only instance.
    ///
    /// The inputs that a process inherits from a dead one are among them, although
    /// [`receive`](Self::receive) returns them again.
    ///
    /// # Errors
    ///
    /// [`PortError::Corrupt`] if the shared words contradict each other.
    pub fn received(&self) -> Result<Number, PortError> {
        let queue = QueueId::input_of(self.core.stage());
        Ok(self.core.participant().count_taken(queue)?)
    }

    /// Records that this instance has received everything it ever will, and goes on.
    pub(crate) fn close(&self) -> Result<(), PortError> {
        self.core.await_returns()?;
        self.core.check_finished()?;
        self.core.participant().finish(self.core.id);
        Ok(())
    }

    /// Succeeds if every instance of the stage has closed.
    pub(crate) fn try_all_closed(&self) -> Result<(), TryError> {
        self.core.check()?;
        if self.core.participant().is_done(self.core.stage()) {
            Ok(())
        } else {
            Err(Blocked::NoInput.into())
        }
    }
}

/// The result of a wait that had no deadline.
#[inline]
fn no_deadline<T>(got: Result<T, Blocked>) -> T {
    got.expect("a wait without a deadline ends with something, or with an error")
}
