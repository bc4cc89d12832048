//! Media of a host's own, as modules: the host opens them for the stages of archives.
//!
//! ```text
//!   Medium::handle -> MediumHandle::of_module(NAME, arguments)
//!        |  the tail or head of an archive, in a process
//!        +--> modules "datapipe.archive-tail:NAME", "datapipe.archive-head:NAME"
//!                   --MediumArgs--> the host's function -> the medium, open there
//! ```

use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::error::StageError;
use crate::host::{Modules, StageArgs};
use crate::media::Medium;
use crate::stage::Fields;
use crate::words::len_of;

use super::arguments::{HEAD_MODULE, TAIL_MODULE, module_with_medium};
use super::modules::{from_head_on, from_tail_on};

/// Opens a medium from its arguments.
pub(super) type MediumMaker = dyn Fn(&MediumArgs<'_>) -> Result<Box<dyn Medium>, StageError>;

/// Direction in which a medium is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Arguments and descriptors from which a host opens a medium of its own.
///
/// They are those of the [`MediumHandle`](crate::media::MediumHandle) that the medium returned in
/// the other process.
pub struct MediumArgs<'c> {
    call: &'c StageArgs<'c>,
    arguments: &'c [u8],
    /// Number of the medium's descriptors, the first ones of the call.
    descriptors: usize,
    access: Access,
}

impl<'c> MediumArgs<'c> {
    pub(super) fn new(
        call: &'c StageArgs<'c>,
        arguments: &'c [u8],
        descriptors: usize,
        access: Access,
    ) -> Self {
        Self {
            call,
            arguments,
            descriptors,
            access,
        }
    }

    /// True if the tail of an archive will write to the medium, false if a head will read from it.
    pub fn is_to_write(&self) -> bool {
        self.access == Access::Write
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
            .field("access", &self.access)
            .finish()
    }
}

impl Modules {
    /// Adds a medium of the host's own, or replaces the one of the same name: tails and heads of
    /// archives on a medium whose [`Medium::handle`] names it
    /// ([`MediumHandle::of_module`](crate::media::MediumHandle::of_module)) can then run in
    /// processes of this host.
    ///
    /// `open` is called once in each process that writes or reads such a medium. To write, it must
    /// return an empty medium; to read, the medium at its start. [The
    /// recipe](crate::recipes::own_medium) has a whole program.
    ///
    /// ```no_run
    /// # use datapipe::prelude::*;
    /// # fn open_object(_: &str, _: bool) -> Result<VirtualTape, StageError> { unimplemented!() }
    /// use datapipe::host;
    ///
    /// let modules = datapipe::modules()
    ///     .with_medium("object", |args| open_object(args.text()?, args.is_to_write()));
    /// host::serve(modules);
    /// ```
    #[must_use]
    pub fn with_medium<M: Medium + 'static>(
        self,
        name: &str,
        open: impl Fn(&MediumArgs<'_>) -> Result<M, StageError> + 'static,
    ) -> Self {
        let open: Rc<MediumMaker> = Rc::new(move |args| {
            let medium = open(args)?;
            Ok(Box::new(medium) as Box<dyn Medium>)
        });
        let to_read = Rc::clone(&open);
        self.with(module_with_medium(TAIL_MODULE, name), move |call| {
            from_tail_on(call, &*open)
        })
        .with(module_with_medium(HEAD_MODULE, name), move |call| {
            from_head_on(call, &*to_read)
        })
    }
}
