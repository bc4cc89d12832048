//! A seat of a pipe, before a port has taken it.

use std::rc::Rc;

use crate::memory::{InstanceId, Segment, StageId};

use super::port::{HeadPort, MiddlePort, TailPort};
use super::port_core::PortCore;
use super::port_error::PortError;

/// A place in a pipe for one instance of one stage, not yet taken. Unlike the port it turns into,
/// it may move to the thread that will use it.
#[derive(Clone, Debug)]
pub struct Seat {
    segment: Segment,
    instance: InstanceId,
    at_limit: AtLimit,
}

/// Policy for an instance that asks for a buffer when its quota is used up.
///
/// Exhaustive: the instance goes on when a buffer has come back, or it does not go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum AtLimit {
    /// The instance waits until one of its buffers has come back: the pipe runs at the speed of its
    /// slowest stage.
    #[default]
    Wait,
    /// The instance ends with an error, and the pipe with it: for sources that must not be kept
    /// waiting.
    Terminate,
}

impl Seat {
    /// The seat of an instance.
    ///
    /// # Panics
    ///
    /// If there is no such instance.
    pub fn new(segment: &Segment, instance: InstanceId) -> Self {
        assert!(
            segment.shape().has_instance(instance),
            "the pipe has no {instance}"
        );
        Self {
            segment: segment.clone(),
            instance,
            at_limit: AtLimit::default(),
        }
    }

    /// The same seat with another policy for an instance that would wait for its own buffers to
    /// come back: with [`AtLimit::Terminate`] it ends with [`PortError::AtLimit`].
    #[must_use]
    pub fn at_limit(self, at_limit: AtLimit) -> Self {
        Self { at_limit, ..self }
    }

    /// Takes the seat as head.
    ///
    /// # Errors
    ///
    /// [`PortError::SeatTaken`]: each has one port at a time, in all processes.
    ///
    /// # Panics
    ///
    /// If the stage is not the first.
    pub fn head(&self) -> Result<HeadPort, PortError> {
        assert!(self.is_head(), "the head is the first stage");
        Ok(HeadPort { core: self.take()? })
    }

    /// Takes the seat between head and tail.
    ///
    /// # Errors
    ///
    /// [`PortError::SeatTaken`]: each has one port at a time, in all processes.
    ///
    /// # Panics
    ///
    /// If the stage is the first or the last.
    pub fn middle(&self) -> Result<MiddlePort, PortError> {
        assert!(
            !self.is_head() && !self.is_tail(),
            "a middle stage is neither first nor last"
        );
        Ok(MiddlePort { core: self.take()? })
    }

    /// Takes the seat as tail.
    ///
    /// # Errors
    ///
    /// [`PortError::SeatTaken`]: each has one port at a time, in all processes.
    ///
    /// # Panics
    ///
    /// If the stage is not the last.
    pub fn tail(&self) -> Result<TailPort, PortError> {
        assert!(self.is_tail(), "the tail is the last stage");
        Ok(TailPort { core: self.take()? })
    }

    /// True if the seat is a head's.
    pub(crate) fn is_head(&self) -> bool {
        self.instance.stage() == StageId::HEAD
    }

    fn take(&self) -> Result<Rc<PortCore>, PortError> {
        PortCore::take_seat(&self.segment, self.instance, self.at_limit)
    }

    fn is_tail(&self) -> bool {
        self.instance.stage() == self.segment.shape().tail()
    }
}
