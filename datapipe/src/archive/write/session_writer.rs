//! Writes a session: its header, one archive after the other, and its footer.
//!
//! ```text
//!   label | session header, archive header | ... | archive footer | mark
//!         |                 archive header | ... | archive footer | mark
//!         | volumes | session footer | mark | mark
//! ```

use crate::error::StageError;
use crate::limits::MAX_ARCHIVES;
use crate::media::{MediumWriter, Position};
use crate::wire::{
    ArchiveEntry, ArchiveHeader, SessionFooter, SessionHeader, UnitHeader, UnitKind,
};

use super::positions::BlockIndexBuilder;
use super::unit_writer::UnitWriter;

/// A session that is being written, between its archives or in one of them.
pub(super) struct SessionWriter<M> {
    pub(super) header: SessionHeader,
    pub(super) units: UnitWriter<M>,
    archives: Vec<ArchiveEntry>,
    /// The last archive was begun, and not ended.
    is_open: bool,
}

/// The end of an archive, for the session's footer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArchiveEnd {
    pub(super) blocks: u64,
    /// Position on the medium of the record in which the footer begins.
    pub(super) place: Position,
    /// Offset of the footer in the stream.
    pub(super) position: u64,
    /// Offset of the locator in the stream.
    pub(super) locator: u64,
}

impl<M: MediumWriter> SessionWriter<M> {
    pub(super) fn new(medium: M, header: SessionHeader) -> Self {
        Self {
            units: UnitWriter::new(medium, &header),
            header,
            archives: Vec::new(),
            is_open: false,
        }
    }

    /// True if the session may get an archive without any data, and may end: the medium keeps no
    /// content in its place, or the session has a complete archive.
    pub(super) fn accepts_empty(&self) -> bool {
        self.units.accepts_empty() || self.archives.iter().any(ArchiveEntry::has_footer)
    }

    /// Begins an archive, the first one together with the session. Returns its number. An archive
    /// that was begun before and not ended stays incomplete.
    pub(super) fn begin_archive(&mut self, archive: &ArchiveHeader) -> Result<u32, StageError> {
        self.check_can_write()?;
        self.leave_open_archive()?;
        if !self.units.is_begun() {
            let session = self.header.to_bytes();
            let header = UnitHeader::new(UnitKind::SessionHeader);
            self.units.add_to_label(header, &session)?;
            self.units.begin_volume()?;
            self.units.write_unit(header, &session)?;
        }
        let number = self.archives.len() as u32 + 1;
        let header = UnitHeader {
            archive: number,
            ..UnitHeader::new(UnitKind::ArchiveHeader)
        };
        self.units.index = BlockIndexBuilder::default();
        self.units.index.begin_header(self.units.end());
        self.archives.push(ArchiveEntry {
            id: archive.id,
            blocks: 0,
            place: Position::start_of(0),
            position: 0,
            locator: 0,
            header: Position::start_of(0),
        });
        self.is_open = true;
        let body = archive.to_bytes();
        self.units.add_to_label(header, &body)?;
        self.units.write_unit(header, &body)?;
        Ok(number)
    }

    fn check_can_write(&self) -> Result<(), StageError> {
        if self.units.has_failed() {
            return Err(StageError::new(
                "the medium has failed, or its pipe, while the session was written: it gets no \
                 other archive; open the medium to append, which begins a new session",
            ));
        }
        if self.archives.len() >= MAX_ARCHIVES {
            return Err(StageError::new(format!(
                "the session has {MAX_ARCHIVES} archives, which is the most: finish it, and begin \
                 another one"
            )));
        }
        Ok(())
    }

    /// Ends the open archive with a mark. The caller syncs it, or ends the session.
    pub(super) fn end_archive(&mut self, end: ArchiveEnd) -> Result<(), StageError> {
        self.units.write_marks(1)?;
        self.close_archive(Some(end));
        Ok(())
    }

    fn close_archive(&mut self, end: Option<ArchiveEnd>) {
        self.units.end_archive();
        self.is_open = false;
        if let Some(entry) = self.archives.last_mut() {
            entry.header = self.units.index.header();
            if let Some(end) = end {
                (entry.blocks, entry.place) = (end.blocks, end.place);
                (entry.position, entry.locator) = (end.position, end.locator);
            }
        }
    }

    /// Leaves the open archive, if there is one, as it is: incomplete. What it has is on stable
    /// storage when this returns.
    fn leave_open_archive(&mut self) -> Result<(), StageError> {
        if !self.is_open {
            return Ok(());
        }
        self.units.flush()?;
        // Two marks in a row are an end.
        if self.units.has_unmarked() {
            self.units.write_marks(1)?;
        }
        self.units.sync()?;
        self.close_archive(None);
        Ok(())
    }

    /// Writes the end of the session, and completes the medium. A session without an archive leaves
    /// the medium as it is.
    pub(super) fn finish(&mut self) -> Result<(), StageError> {
        if self.units.has_failed() {
            return Err(StageError::new(
                "the medium has failed, or its pipe, while the session was written: the session \
                 stays unfinished, and what its archives have can be read",
            ));
        }
        if !self.units.is_begun() {
            return Ok(());
        }
        if !self.accepts_empty() {
            return Err(StageError::new(
                "no archive of the session is complete, and the medium has content, which is kept: \
                 write an archive, or set VolumeOptions::allow_empty to replace the content all \
                 the same",
            ));
        }
        self.leave_open_archive()?;
        let volumes = self.units.volumes().to_bytes();
        let header = UnitHeader::new(UnitKind::Volumes);
        self.units.write_unit(header, &volumes)?;
        self.units.flush()?;
        let footer = SessionFooter {
            label: self.units.first_label(),
            archives: self.archives.clone(),
            extensions: Vec::new(),
        };
        let header = UnitHeader::new(UnitKind::SessionFooter);
        self.units.write_unit(header, &footer.to_bytes())?;
        self.units.flush()?;
        self.units.write_marks(2)?;
        self.units.sync()?;
        self.units.finish()
    }
}
