//! Inspection of files while they are read: the application's verdict on each of them.
//!
//! ```text
//!   begin(metadata) --> data(offset, bytes) .. --> end      each may reject the file
//! ```
//!
//! A rejected file costs no other file anything: its entries end there, with the state of a file
//! that was not read to its end. This module does not know the meaning of a rejection: the
//! application decides what to scan for.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::StageError;
use crate::wire::ObjectMeta;

/// Inspects the files of a tree while a [`TreeHead`](crate::tree::TreeHead) reads them.
///
/// For each file the head calls [`begin`](Self::begin), then [`data`](Self::data) with each piece
/// of its content in ascending order, then [`end`](Self::end). After a rejection it makes no
/// further call for that file. Every instance of the head has an inspector of its own, which sees
/// one file at a time and all of that file, so state may be kept from one piece to the next.
/// Directories, links, fifos and devices have no data and are not inspected.
///
/// An error of any method stops the pipe. The implementer decides if a scanner that is unavailable
/// is an error or a verdict.
///
/// # Examples
///
/// ```
/// use datapipe::prelude::*;
/// use datapipe::wire::ObjectMeta;
///
/// /// Rejects files that begin with `secret`.
/// struct NoSecrets;
///
/// impl ObjectInspector for NoSecrets {
///     fn data(&mut self, offset: u64, data: &[u8]) -> Result<ObjectVerdict, StageError> {
///         Ok(match offset == 0 && data.starts_with(b"secret") {
///             true => ObjectVerdict::Reject("begins with a secret".to_owned()),
///             false => ObjectVerdict::Pass,
///         })
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # let source = dir.path().join("data");
/// # std::fs::create_dir(&source)?;
/// std::fs::write(source.join("a"), "public")?;
/// std::fs::write(source.join("b"), "secret plans")?;
/// let options = TreeOptions::default().inspect(|_instance| NoSecrets);
/// let head = TreeHead::new(&[&source], options)?;
/// let report = head.report();
/// Pipe::builder().head(head).tail(StreamTail::new(std::io::sink())).run()?;
/// let outcome = report.snapshot();
/// assert_eq!((outcome.rejected, outcome.is_whole()), (1, false));
/// assert_eq!(
///     outcome.problems[0].to_string(),
///     "data/b: rejected by inspection: begins with a secret"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ObjectInspector: Send {
    /// Begins a file: its path in the archive, and its metadata. By default it passes.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn begin(&mut self, file: &ObjectMeta<'_>) -> Result<ObjectVerdict, StageError> {
        let _ = file;
        Ok(ObjectVerdict::Pass)
    }

    /// Inspects a piece of the file: at most a buffer of the pipe, at least one byte. Pieces do not
    /// overlap. A hole of a sparse file is not a piece, so an offset may be past the end of the
    /// piece before it.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn data(&mut self, offset: u64, data: &[u8]) -> Result<ObjectVerdict, StageError>;

    /// Ends the file, all of whose data was passed, or all that could be read. By default it
    /// passes.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn end(&mut self) -> Result<ObjectVerdict, StageError> {
        Ok(ObjectVerdict::Pass)
    }
}

/// Verdict of an [`ObjectInspector`].
///
/// Exhaustive: an inspector that wraps another one can handle every verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum ObjectVerdict {
    /// Nothing was found so far.
    Pass,
    /// The file must not be kept, for this reason. It is reported as
    /// [`ProblemKind::Rejected`](crate::tree::ProblemKind::Rejected), and is in the archive as a
    /// file that was not read to its end, without the data that is in the block being filled. Data
    /// in blocks that were sent before stays in the archive.
    Reject(String),
}

/// Maker of an inspector for each instance of the head. Clones share one factory.
#[derive(Clone)]
pub(in crate::tree) struct InspectorFactory(Arc<Mutex<Factory>>);

type Factory = dyn FnMut(u32) -> Box<dyn ObjectInspector> + Send;

impl InspectorFactory {
    pub(super) fn new<I: ObjectInspector + 'static>(
        mut factory: impl FnMut(u32) -> I + Send + 'static,
    ) -> Self {
        Self(Arc::new(Mutex::new(move |n| {
            Box::new(factory(n)) as Box<dyn ObjectInspector>
        })))
    }

    /// Makes the inspector of instance `n`.
    pub(super) fn make(&self, n: u32) -> Box<dyn ObjectInspector> {
        (self.0.lock())(n)
    }
}

impl fmt::Debug for InspectorFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InspectorFactory")
    }
}
