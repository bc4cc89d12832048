//! The blocks after the one that a tail has.

use crate::error::StageError;
use crate::pool::{Block, TailPort, TryError};

/// The blocks after the one that a tail has, as far as they have come.
///
/// A tail that takes one holds two blocks. It gives the first one back without a wait for anything
/// else, so that it never needs more than one buffer to make progress.
#[derive(Debug)]
pub struct Following<'a>(Option<&'a TailPort>);

impl<'a> Following<'a> {
    pub(crate) fn of(port: &'a TailPort) -> Self {
        Self(Some(port))
    }

    /// No blocks.
    #[cfg(feature = "tree")]
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Takes the next block, if it has come.
    ///
    /// # Errors
    ///
    /// The pipe stops.
    #[cfg(feature = "tree")]
    pub(crate) fn next(&self) -> Result<Option<Block>, StageError> {
        match self.0.map(TailPort::try_receive) {
            None | Some(Err(TryError::Blocked(_))) => Ok(None),
            Some(received) => Ok(received?),
        }
    }
}
