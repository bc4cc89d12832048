//! A seat of a pipe, before a port has taken it.

use std::rc::Rc;

use crate::memory::Segment;

use super::port::{HeadPort, MiddlePort, TailPort};
use super::port_core::PortCore;
use super::port_error::PortError;

/// A place in a pipe for one instance of one stage, not yet taken. Unlike the port it turns into,
/// it may move to the thread that will use it.
#[derive(Clone, Debug)]
pub struct Seat {
    segment: Segment,
    stage: u32,
    instance: u32,
    terminate_at_limit: bool,
}

impl Seat {
    /// The seat of instance `instance` of stage `stage`.
    ///
    /// # Panics
    ///
    /// If there is no such instance.
    pub fn new(segment: &Segment, stage: u32, instance: u32) -> Self {
        let instances = segment.shape().stages()[stage as usize].instances;
        assert!(
            instance < instances,
            "stage {stage} has {instances} instances, no instance {instance}"
        );
        Self {
            segment: segment.clone(),
            stage,
            instance,
            terminate_at_limit: false,
        }
    }

    /// Ends the instance with [`PortError::AtLimit`] where it would otherwise wait for its own
    /// buffers to come back.
    #[must_use]
    pub fn terminate_at_limit(self, yes: bool) -> Self {
        Self {
            terminate_at_limit: yes,
            ..self
        }
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
        assert_eq!(self.stage, 0, "the head is the first stage");
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
            self.stage > 0 && !self.is_last(),
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
        assert!(self.is_last(), "the tail is the last stage");
        Ok(TailPort { core: self.take()? })
    }

    /// True if the seat is a head's.
    pub(crate) fn is_head(&self) -> bool {
        self.stage == 0
    }

    fn take(&self) -> Result<Rc<PortCore>, PortError> {
        let Self {
            segment,
            stage,
            instance,
            terminate_at_limit,
        } = self;
        PortCore::take_seat(segment, *stage, *instance, *terminate_at_limit)
    }

    fn is_last(&self) -> bool {
        self.stage + 1 == self.segment.shape().stage_count()
    }
}
