//! An archive as it is stored: read without its key, to copy it or to check it.

use std::fmt;

use crate::controller::Pipe;
use crate::limits::MIN_BUFFER_SIZE;
use crate::media::MediumReader;
use crate::memory::Direction;
use crate::stage::DamageLog;
use crate::wire::{ArchiveHeader, CipherKind, SessionHeader};

use super::super::key::header_hash;
use super::super::open_error::OpenError;
use super::super::origin::ArchiveOrigin;
use super::super::place::Place;
use super::super::write::CopyOptions;
use super::head::ArchiveHead;
use super::reader::{ArchiveReader, Headers, Reading, find_headers};
use super::select::{find_listed, newest_first};
use super::session_list::{ListedArchive, is_failure};
use super::shared_medium::SharedMedium;

/// An archive whose blocks are read as they are stored: neither decrypted nor decompressed. It
/// needs no key.
///
/// A pipe that reads it can end with a [copy](Self::copy) on another medium. With any other tail it
/// checks what can be checked without the key: the checksums, the headers, the numbers of the
/// blocks, and the mark of the last one. All of these can be forged, so that a complete reading of
/// an encrypted archive proves nothing about its writer or its content.
///
/// ```
/// use datapipe::archive::StoredArchive;
/// use datapipe::prelude::*;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("nightly.tap");
/// # let key = Secret::Key(Key::from_bytes([7; 32]));
/// # let archive = ArchiveOptions::stream("nightly").encrypt(key).plan()?;
/// # let tape = VirtualTape::create(&path, VolumeOptions::default())?;
/// # Pipe::builder().head(StreamHead::new(&b"data"[..])).archive(archive, tape).run()?;
///
/// let log = DamageLog::new();
/// let stored = StoredArchive::open(VirtualTape::open(&path)?)?.salvage(&log);
/// let reading = stored.read();
/// reading.pipe.tail(StreamTail::new(std::io::sink())).run()?;
/// assert!(stored.is_encrypted() && reading.report.snapshot().complete);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StoredArchive<M>(ArchiveReader<M>);

impl<M: MediumReader + 'static> StoredArchive<M> {
    /// Reads the headers of the first archive on a medium. If they are damaged, their copies are
    /// searched for.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(medium: M) -> Result<Self, OpenError> {
        let medium = SharedMedium::new(medium);
        let headers = find_headers(&medium)?;
        Self::new(medium, headers, Place::ONLY)
    }

    /// Opens an archive of a list that was read from this medium. Other archives of the medium are
    /// not looked at.
    ///
    /// # Errors
    ///
    /// [`OpenError`], as [`open`](Self::open).
    pub fn open_listed(medium: M, archive: &ListedArchive) -> Result<Self, OpenError> {
        let medium = SharedMedium::new(medium);
        let headers = find_listed(&medium, archive)?;
        Self::new(medium, headers, archive.place())
    }

    /// Opens the last archive of those that are given, in the order of a list of this medium: among
    /// those with a footer, the one that was begun last. If no archive has a footer, it is the last
    /// one of the others. Archives whose header cannot be read do not count; at most eight with a
    /// damaged header are read to find a copy of it. After eight others whose headers cannot be
    /// read after all, no more are looked at. Nothing proves the times.
    ///
    /// # Errors
    ///
    /// [`OpenError`], as [`open`](Self::open).
    pub fn open_last<'l>(
        medium: M,
        archives: impl IntoIterator<Item = &'l ListedArchive>,
    ) -> Result<Self, OpenError> {
        let medium = SharedMedium::new(medium);
        let mut first_error = None;
        let mut candidates = newest_first(archives);
        while let Some(archive) = candidates.next() {
            match find_listed(&medium, archive) {
                Ok(headers) => return Self::new(medium, headers, archive.place()),
                Err(error) if is_failure(&error) => return Err(error),
                Err(error) => {
                    candidates.failed(archive, &error);
                    first_error.get_or_insert(error);
                }
            }
        }
        let none = || OpenError::NoArchive("the medium has no archive".to_owned());
        Err(first_error.unwrap_or_else(none))
    }

    fn new(medium: SharedMedium<M>, headers: Headers, place: Place) -> Result<Self, OpenError> {
        let reader = ArchiveReader::new(medium, headers, place, None, None);
        reader.with_origin().map(Self)
    }

    /// Records damage in `log` and reads on after it, instead of failing at the first.
    #[must_use]
    pub fn salvage(self, log: &DamageLog) -> Self {
        Self(self.0.salvage(log))
    }

    /// The header of the session.
    pub fn session(&self) -> &SessionHeader {
        self.0.session()
    }

    /// The header of the archive.
    pub fn header(&self) -> &ArchiveHeader {
        self.0.header()
    }

    /// Name of the archive, and of the host and the program that wrote it. `None` if the archive is
    /// encrypted, and they are too, or block 0 of the archive, which has them, is damaged.
    pub fn origin(&self) -> Option<&ArchiveOrigin> {
        self.0.origin()
    }

    /// SHA-256 of the identity of the archive's header, as
    /// [`ArchiveReader::header_hash`](super::ArchiveReader::header_hash). A copy has the same one.
    pub fn header_hash(&self) -> [u8; 32] {
        header_hash(self.header())
    }

    /// True if the archive's blocks are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.header().cipher != CipherKind::None
    }

    /// Returns the reader of this archive, which decodes its blocks.
    ///
    /// # Errors
    ///
    /// The archive itself, if it is encrypted: its reader needs a key.
    ///
    /// ```
    /// use datapipe::archive::StoredArchive;
    /// use datapipe::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("nightly.tap");
    /// # let archive = ArchiveOptions::stream("nightly").plan()?;
    /// # let tape = VirtualTape::create(&path, VolumeOptions::default())?;
    /// # Pipe::builder().head(StreamHead::new(&b"data"[..])).archive(archive, tape).run()?;
    ///
    /// match StoredArchive::open(VirtualTape::open(&path)?)?.into_reader() {
    ///     Ok(reader) => reader.read().pipe.tail(StreamTail::new(std::io::sink())).run()?,
    ///     Err(stored) => stored.read().pipe.tail(StreamTail::new(std::io::sink())).run()?,
    /// };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_reader(self) -> Result<ArchiveReader<M>, Box<Self>> {
        match self.is_encrypted() {
            false => Ok(self.0),
            true => Err(Box::new(self)),
        }
    }

    /// Returns the options of a copy of this archive.
    pub fn copy(&self) -> CopyOptions {
        CopyOptions::new(self.session(), self.header())
    }

    /// Returns a pipe that reads all blocks from the start, in order, as they are stored, and its
    /// report. End it with [`PipeBuilder::archive`](crate::PipeBuilder::archive) and the plan of a
    /// [copy](Self::copy), or with any tail, which then sees the blocks of data and catalogue.
    pub fn read(&self) -> Reading {
        let head = self.head();
        let (report, check) = (head.report(), head.check());
        let pipe = Pipe::builder()
            .label("copy")
            .direction(Direction::Restore)
            .buffer_size(self.header().block_len.max(MIN_BUFFER_SIZE))
            .head(head)
            .stage(check);
        Reading { pipe, report }
    }

    /// Returns the head that reads all blocks as they are stored. Its
    /// [`check`](ArchiveHead::check) comes right after it. The pipe's buffers must be as large as
    /// the archive's blocks: [`ArchiveHeader::block_len`].
    pub fn head(&self) -> ArchiveHead<M> {
        self.0.head().encrypted(self.is_encrypted()).stored()
    }
}

/// Clones share the medium: one pipe at a time reads it.
impl<M> Clone for StoredArchive<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> fmt::Debug for StoredArchive<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoredArchive").field(&self.0).finish()
    }
}
