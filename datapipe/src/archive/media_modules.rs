//! Media of a host's own, as modules: the host opens them for the stages of archives.
//!
//! ```text
//!   MediumWriter::handle, MediumReader::handle -> MediumHandle::of_module(NAME, arguments)
//!        |  the tail or head of an archive, in a process
//!        +--> modules "datapipe.archive-tail:NAME", "datapipe.archive-head:NAME"
//!                   --MediumArgs--> the host's functions -> the medium, open there
//! ```

use std::fmt;
use std::os::fd::OwnedFd;

use crate::error::StageError;
use crate::host::{Modules, StageArgs};
use crate::media::{MediumReader, MediumWriter};
use crate::stage::Fields;
use crate::words::len_of;

use super::arguments::{HEAD_MODULE, TAIL_MODULE, module_with_medium};
use super::modules::{from_head_on, from_tail_on};

/// Opens a medium from its arguments, to write.
pub(super) type WriterMaker = dyn Fn(&MediumArgs<'_>) -> Result<Box<dyn MediumWriter>, StageError>;

/// Opens a medium from its arguments, to read.
pub(super) type ReaderMaker = dyn Fn(&MediumArgs<'_>) -> Result<Box<dyn MediumReader>, StageError>;

/// Arguments and descriptors from which a host opens a medium of its own.
///
/// They are those of the [`MediumHandle`](crate::media::MediumHandle) that the medium returned in
/// the other process.
pub struct MediumArgs<'c> {
    call: &'c StageArgs<'c>,
    arguments: &'c [u8],
    /// Number of the medium's descriptors, the first ones of the call.
    descriptors: usize,
}

impl<'c> MediumArgs<'c> {
    pub(super) fn new(call: &'c StageArgs<'c>, arguments: &'c [u8], descriptors: usize) -> Self {
        Self {
            call,
            arguments,
            descriptors,
        }
    }

    /// The arguments that were passed to
    /// [`MediumHandle::of_module`](crate::media::MediumHandle::of_module).
    pub fn arguments(&self) -> &[u8] {
        self.arguments
    }

    /// The arguments, decoded as the fields that [`Arguments`](crate::stage::Arguments) encodes.
    ///
    /// # Errors
    ///
    /// If the arguments are not a sequence of whole fields.
    pub fn fields(&self) -> Result<Fields<'_>, StageError> {
        Fields::read(self.arguments)
    }

    /// The arguments as text.
    ///
    /// # Errors
    ///
    /// If they are not UTF-8.
    pub fn text(&self) -> Result<&str, StageError> {
        Ok(str::from_utf8(self.arguments)?)
    }

    /// A duplicate of descriptor `n` of the handle, counted from 0.
    ///
    /// # Errors
    ///
    /// If the handle has only `n` descriptors or fewer, or the system cannot duplicate it.
    pub fn descriptor(&self, n: usize) -> Result<OwnedFd, StageError> {
        if n >= self.descriptors {
            return Err(StageError::new(format!(
                "missing descriptor {n}: the medium's handle has {}",
                len_of(self.descriptors, "descriptor")
            )));
        }
        self.call.descriptor(n)
    }
}

impl fmt::Debug for MediumArgs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The arguments may contain credentials.
        f.debug_struct("MediumArgs")
            .field("arguments", &self.arguments.len())
            .field("descriptors", &self.descriptors)
            .finish()
    }
}

impl Modules {
    /// Adds a medium of the host's own, or replaces the one of the same name: tails and heads of
    /// archives on a medium whose [`MediumWriter::handle`] or [`MediumReader::handle`] names it
    /// ([`MediumHandle::of_module`](crate::media::MediumHandle::of_module)) can then run in
    /// processes of this host.
    ///
    /// `create` is called once in each process that writes such a medium, and must return an empty
    /// one; `open` in each that reads one, and must return it at its start. [The
    /// recipe](crate::recipes::own_medium) has a whole program.
    ///
    /// ```no_run
    /// # use datapipe::prelude::*;
    /// # use datapipe::media::{TapeReader, TapeWriter};
    /// # fn create_object(_: &str) -> Result<TapeWriter, StageError> { unimplemented!() }
    /// # fn open_object(_: &str) -> Result<TapeReader, StageError> { unimplemented!() }
    /// use datapipe::host;
    ///
    /// let modules = datapipe::modules().with_medium(
    ///     "object",
    ///     |args| create_object(args.text()?),
    ///     |args| open_object(args.text()?),
    /// );
    /// host::serve(modules);
    /// ```
    #[must_use]
    pub fn with_medium<W: MediumWriter + 'static, R: MediumReader + 'static>(
        self,
        name: &str,
        create: impl Fn(&MediumArgs<'_>) -> Result<W, StageError> + 'static,
        open: impl Fn(&MediumArgs<'_>) -> Result<R, StageError> + 'static,
    ) -> Self {
        let create =
            move |args: &MediumArgs<'_>| Ok(Box::new(create(args)?) as Box<dyn MediumWriter>);
        let open = move |args: &MediumArgs<'_>| Ok(Box::new(open(args)?) as Box<dyn MediumReader>);
        self.with(module_with_medium(TAIL_MODULE, name), move |call| {
            from_tail_on(call, &create)
        })
        .with(module_with_medium(HEAD_MODULE, name), move |call| {
            from_head_on(call, &open)
        })
    }
}
