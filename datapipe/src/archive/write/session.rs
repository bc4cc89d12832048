//! Sessions of several archives: a medium that pipe after pipe writes an archive to.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::controller::PipeBuilder;
use crate::crypto::fill_random;
use crate::error::StageError;
use crate::limits::{DEFAULT_RECORD, MAX_RECORD, MAX_TEXT, MIN_RECORD};
use crate::media::{MediumWriter, now};
use crate::wire::{Framing, SessionHeader, SessionsBefore};

use super::options::Archive;
use super::plan_error::PlanError;
use super::session_writer::SessionWriter;
use super::tail::ArchiveTail;

/// Options of a session with several archives.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    label: String,
    framing: Framing,
    record_len: usize,
    before: SessionsBefore,
}

impl SessionOptions {
    /// Options of a session with a label for people, which is never encrypted. It may be empty.
    pub fn new(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            framing: Framing::default(),
            record_len: DEFAULT_RECORD,
            before: SessionsBefore::default(),
        }
    }

    /// Sets the label.
    pub(super) fn label(self, label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            ..self
        }
    }

    /// Sets which chunks have headers and footers; by default every chunk has both.
    #[must_use]
    pub fn framing(self, framing: Framing) -> Self {
        Self { framing, ..self }
    }

    /// Sets the length of records, as
    /// [`ArchiveOptions::record_len`](super::ArchiveOptions::record_len).
    #[must_use]
    pub fn record_len(self, bytes: usize) -> Self {
        let record_len = bytes.clamp(MIN_RECORD, MAX_RECORD) / 8 * 8;
        Self { record_len, ..self }
    }

    /// Records the sessions that the medium has already, so that a reader finds them in steps from
    /// the end of the medium. [`Sessions::before_next`](super::super::Sessions::before_next)
    /// returns them.
    #[must_use]
    pub fn after(self, before: SessionsBefore) -> Self {
        Self { before, ..self }
    }

    /// Checks that a header can store the label.
    pub(super) fn check_lengths(&self) -> Result<(), PlanError> {
        if self.label.len() <= MAX_TEXT {
            return Ok(());
        }
        let (what, text) = ("label", self.label.clone());
        Err(PlanError::TextTooLong { what, text })
    }

    /// Makes the header of the session, with a new id.
    pub(super) fn header(self) -> Result<SessionHeader, PlanError> {
        self.check_lengths()?;
        let mut id = [0; 16];
        fill_random(&mut id)?;
        Ok(SessionHeader {
            id,
            created: now(),
            record_len: self.record_len as u32,
            framing: self.framing,
            host: String::new(),
            program: String::new(),
            label: self.label,
            before: self.before,
            extensions: Vec::new(),
        })
    }
}

/// A session on a medium, to which one pipe after the other writes an archive.
///
/// [`PipeBuilder::archive_in`] adds an archive, and [`finish`](Self::finish) ends the session. If a
/// pipe fails or is cancelled, its archive stays incomplete, and the session goes on with the next
/// one, unless the medium has failed. A session that is dropped is unfinished: its archives can be
/// read, and an incomplete one up to the end of its last chunk.
///
/// Several archives of a session may have one key: [`Archive::shared_key`].
///
/// ```
/// use datapipe::archive::{Session, SessionOptions};
/// use datapipe::prelude::*;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("nightly.tap");
///
/// let tape = VirtualTape::create(&path, VolumeOptions::default())?;
/// let session = Session::new(tape, SessionOptions::new("nightly"))?;
/// for (name, data) in [("accounts", &b"the only copy"[..]), ("letters", b"another one")] {
///     let archive = ArchiveOptions::stream(name).plan()?;
///     Pipe::builder()
///         .head(StreamHead::new(data))
///         .stage(zstd(3))
///         .archive_in(archive, &session)
///         .run()?;
/// }
/// session.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Session<M> {
    place: SessionPlace<M>,
    header: SessionHeader,
}

impl<M: MediumWriter> Session<M> {
    /// Makes a session. Nothing is written before the first archive.
    ///
    /// # Errors
    ///
    /// [`PlanError`] if the label is longer than 255 bytes, or the system has no random numbers.
    pub fn new(medium: M, options: SessionOptions) -> Result<Self, PlanError> {
        let header = options.header()?;
        let writer = SessionWriter::new(medium, header.clone());
        Ok(Self {
            place: SessionPlace(Arc::new(Mutex::new(Some(writer)))),
            header,
        })
    }

    /// The header of the session.
    pub fn header(&self) -> &SessionHeader {
        &self.header
    }

    /// Ends the session. Everything is on stable storage when this returns. A session without an
    /// archive leaves the medium as it was.
    ///
    /// # Errors
    ///
    /// If a pipe still writes to the session, if the medium fails or has failed, or if it would
    /// replace old content and no archive is complete.
    pub fn finish(self) -> Result<(), StageError> {
        self.place.take()?.finish()
    }
}

impl<M> fmt::Debug for Session<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("label", &self.header.label)
            .finish_non_exhaustive()
    }
}

/// The place where a session is while no pipe writes to it.
pub(in crate::archive) struct SessionPlace<M>(Arc<Mutex<Option<SessionWriter<M>>>>);

impl<M> SessionPlace<M> {
    /// Takes the session.
    ///
    /// # Errors
    ///
    /// If another pipe has it.
    pub(super) fn take(&self) -> Result<SessionWriter<M>, StageError> {
        self.0.lock().take().ok_or_else(|| {
            StageError::new(
                "another pipe writes to the session: run one pipe after the other, and finish the \
                 session after the last",
            )
        })
    }

    /// True if the session may get an archive without any data, as far as is known while no pipe
    /// writes to it.
    fn accepts_empty(&self) -> bool
    where
        M: MediumWriter,
    {
        self.0
            .lock()
            .as_ref()
            .is_none_or(SessionWriter::accepts_empty)
    }

    pub(super) fn put_back(&self, session: SessionWriter<M>) {
        *self.0.lock() = Some(session);
    }
}

impl<M> Clone for SessionPlace<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<'a> PipeBuilder<'a> {
    /// Ends the pipe with an archive in `session`, as [`archive`](Self::archive) does on a medium.
    /// The session's options take the place of the archive's framing, length of records and label.
    ///
    /// One pipe at a time writes to the session: another one that gets a block meanwhile ends with
    /// an error. The archive's tail runs on a thread of this program.
    pub fn archive_in<'b, 'c, M: MediumWriter + 'b>(
        self,
        archive: Archive,
        session: &Session<M>,
    ) -> PipeBuilder<'c>
    where
        'a: 'c,
        'b: 'c,
    {
        let (archive, place) = (archive.of_session(&session.header), session.place.clone());
        let accepts_empty = place.accepts_empty();
        self.archive_by(archive, accepts_empty, move |plan, report| {
            ArchiveTail::in_session(plan, place, report)
        })
    }
}
