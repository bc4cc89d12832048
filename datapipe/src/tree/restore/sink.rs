//! The destination of assembled objects.

use crate::error::StageError;
use crate::wire::Object;

use super::link_targets::{Became, First};
use super::open_object::Described;

/// What is done with objects.
pub(super) trait Sink: Send + Sized {
    /// What was made of an object that is open.
    type Made: Send;

    /// Another one, for files that are made at the same time.
    fn another(&self) -> Self;

    /// An object begins.
    fn begin(&mut self, object: &Object<'_>) -> Result<Self::Made, Failure>;

    /// Data of a file.
    fn extent(&mut self, made: &mut Self::Made, offset: u64, data: &[u8]) -> Result<(), Failure>;

    /// An object is whole, and a file has `size` bytes.
    fn end(&mut self, made: Self::Made, what: &Described, size: u64) -> Result<Became, Failure>;

    /// An object is another name of one that is whole.
    fn link(&mut self, object: &Object<'_>, first: &First) -> Result<(), Failure>;

    /// An object is damaged. Says what became of it.
    fn set_aside(&mut self, made: Self::Made, object: &Object<'_>) -> String;

    /// All objects are done.
    fn finish(&mut self) -> Result<(), StageError>;
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// This object cannot be made here; it may be whole in the archive.
    Refused(String),
    /// This object is damaged, in the archive or here, and what was made of it has been set aside.
    Damaged(String),
    /// Nothing can be made any more.
    Stop(StageError),
}
