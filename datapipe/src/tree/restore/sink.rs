//! Interface between the assembler and the two things that can become of an object: the
//! [`Writer`](super::writer::Writer) creates it, the verifier of `verify.rs` only checks it.
//!
//! ```text
//!   begin --> write_extent .. --> complete        the object is complete
//!         \-> write_extent .. --> set_aside       it is damaged, or the pipe failed
//!         \-> write_extent .. --> discard         the job was stopped, or its destination is full
//!   begin --> link                                a hard link to an object that is complete
//!   finish                                        all objects are done
//! ```
//!
//! The assembler calls exactly one of `complete`, `set_aside` and `discard` for each object that
//! `begin` has accepted. It calls `link` for a hard link whose target was restored; `begin` does
//! not see those. The sink never sees an object that is not wanted. The sinks of workers see only
//! complete files, and `finish` is not called on them.

use crate::error::StageError;
use crate::wire::{InodeFacts, ObjectMeta, OwnerName};

use super::link_targets::{LinkTarget, ObjectOutcome};
use super::object_in_progress::ObjectDescription;

/// Receiver of assembled objects.
pub(super) trait Sink: Send + Sized {
    /// State that the sink keeps of an open object.
    type Partial: Send;

    /// Returns a sink to the same destination, for a worker thread.
    fn for_worker(&self) -> Self;

    /// Prepares for the objects of a block. Not called on the sinks of workers, which may have
    /// files of the block before.
    fn begin_block(&mut self) -> Result<(), StageError>;

    /// True if the next [`begin_block`](Self::begin_block) can do more while no worker has a file.
    fn needs_idle_workers(&self) -> bool;

    /// Takes the name of a user or a group, for objects that are completed after it. Not called on
    /// the sinks of workers, which share the names.
    fn name_owner(&mut self, name: &OwnerName<'_>);

    /// Begins an object. `is_on_the_way` is true for a directory that is not selected, but may have
    /// objects below it that are.
    fn begin(
        &mut self,
        object: &ObjectMeta<'_>,
        is_on_the_way: bool,
    ) -> Result<Self::Partial, Failure>;

    /// Takes the facts about the inode of an object, which has no attributes and no data yet.
    fn begin_inode(&mut self, partial: &mut Self::Partial, inode: InodeFacts);

    /// Writes data of a file. Extents come in ascending order and do not overlap.
    fn write_extent(
        &mut self,
        partial: &mut Self::Partial,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Failure>;

    /// Completes an object, all of whose entries have come. A file has `size` bytes.
    fn complete(
        &mut self,
        partial: Self::Partial,
        description: &ObjectDescription,
        size: u64,
    ) -> Result<ObjectOutcome, Failure>;

    /// Creates `object`, a hard link to `target`, which is complete.
    fn link(&mut self, object: &ObjectMeta<'_>, target: &LinkTarget) -> Result<(), Failure>;

    /// Sets a damaged object aside. Returns the end of the sentence that reports it, for example
    /// "; its recovered part is named x.damaged", or an empty string.
    fn set_aside(&mut self, partial: Self::Partial, object: &ObjectMeta<'_>) -> String;

    /// Removes what was created of an object that is not damaged: the restore was interrupted, and
    /// another run will restore it whole.
    fn discard(&mut self, partial: Self::Partial, object: &ObjectMeta<'_>);

    /// Finishes the restore when all objects are done.
    fn finish(&mut self) -> Result<(), StageError>;

    /// Returns the problem that objects may have wrong owners, if names of owners may be lost.
    /// Called after [`finish`](Self::finish).
    fn unnamed_owners(&self) -> Option<String>;
}

/// Reason for which the sink did not do what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// This object cannot be created here; it may be complete in the archive.
    Refused(String),
    /// This object is damaged, in the archive or here. After `complete` and `link` the sink has set
    /// aside what it created of it; after `write_extent` the assembler does that.
    Damaged(String),
    /// Nothing more can be created: the pipe stops.
    Stop(StageError),
}
