//! The errors of the library, by the party that is at fault.
//!
//! The caller asked for the impossible ([`Error::Refused`], [`Error::Key`], [`Error::Archive`]); a
//! stage failed ([`Error::Stage`]), or keeps more than it says ([`Error::Deadlock`]); the machine
//! refused what is needed ([`Error::Segment`], [`Error::System`]); a participant broke the shared
//! words ([`Error::Corrupt`]); the user cancelled ([`Error::Cancelled`]).
//!
//! Each error is defined in the layer that it belongs to. This module only names them in one place.

#[cfg(not(loom))]
pub use crate::controller::{Deadlock, Error, StageFailure, WaitingStage};
#[cfg(not(loom))]
pub use crate::crypto::KeyError;
pub use crate::memory::Corruption;
#[cfg(not(loom))]
pub(crate) use crate::stage::WaitingInstance;
#[cfg(not(loom))]
pub use crate::stage::{Death, NotReplaced, StageError, WaitsFor};
