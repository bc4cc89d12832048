//! List and single files of an archived tree.

use std::fmt;
use std::io::{self, Write};

use crate::archive::{ArchiveHead, ArchiveReader, BlockSet, Index, OpenError};
use crate::controller::{Error, PipeBuilder};
use crate::error::StageError;
use crate::media::{MediumError, MediumReader};
use crate::tree::read::{Excluded, TreeError};
use crate::tree::select::{CatalogueCheck, CutTree, ObjectScan, TreeList, VisitObject};
use crate::wire::{CatalogueEntry, Content, DIGEST_LEN, ObjectKind, ObjectState, Time};

use super::error::TreeReadError;
use super::extract::{ExtractTail, Extraction};
use super::find::{Finder, FoundObject, Wanted};

/// Reads from an archived tree without a destination: lists objects, and reads single files.
///
/// It reads the catalogue, and of the data only the blocks of the file. If the end of the archive
/// is missing, it reads what the checkpoints say, and all after the last one, each time. If that is
/// not possible, or the catalogue is damaged, it reads the whole archive instead, each time. With a
/// [salvaging](ArchiveReader::salvage) reader damage is recorded in its log, and costs the files
/// that it hits; otherwise the first damage that a call meets is its error.
///
/// Each call runs a pipe on threads and returns when that has ended. As all pipes of one
/// [`ArchiveReader`], they run one at a time.
///
/// # Examples
///
/// ```
/// use datapipe::prelude::*;
///
/// # let dir = tempfile::tempdir()?;
/// # let (source, path) = (dir.path().join("data"), dir.path().join("nightly.tap"));
/// # std::fs::create_dir(&source)?;
/// # std::fs::write(source.join("a.txt"), "hello")?;
/// # let archive = ArchiveOptions::tree("nightly").plan()?;
/// # let tape = VirtualTape::create(&path, Default::default())?;
/// # let head = TreeHead::new(&[source], TreeOptions::default())?;
/// # Pipe::builder().head(head).stage(zstd(3)).archive(archive, tape).run()?;
/// let reader = ArchiveReader::open(VirtualTape::open(path)?, None)?;
/// let tree = reader.tree()?;
/// let mut paths = Vec::new();
/// tree.list(["*.txt"], |object| {
///     paths.push(object.path.to_vec());
///     Ok(())
/// })?;
/// let mut content = Vec::new();
/// let file = tree.read_file(&paths[0], &mut content)?;
/// assert_eq!((file.size, &content[..]), (5, &b"hello"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TreeReader<'r, M> {
    reader: &'r ArchiveReader<M>,
    /// The index and the blocks of the catalogue; `None` if there is none that can be used.
    catalogue: Option<(Index, BlockSet)>,
    /// The checkpoints of an archive without an end; without them, and without a catalogue, the
    /// whole archive is read.
    cut: Option<CutTree>,
    instances: u32,
}

/// A file that was read whole: its digest, or that of its data as they were archived, is right.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchivedFile {
    /// Size of the file in bytes, holes included.
    pub size: u64,
    /// Bytes of data that the archive has of it. Holes do not count.
    pub bytes: u64,
    /// [`ObjectState::Whole`], or [`ObjectState::Changed`] if the file changed while it was
    /// archived.
    pub state: ObjectState,
    /// The digest that the archive has of its content, which is right:
    /// [`digest_of`](crate::tree::digest_of) its content is the same. `None` if the archive has
    /// none.
    pub digest: Option<[u8; DIGEST_LEN]>,
    /// Permission bits, setuid, setgid and sticky.
    pub mode: u32,
    /// Time of its last modification.
    pub modified: Time,
}

/// Access to single objects of a tree.
impl<M: MediumReader + 'static> ArchiveReader<M> {
    /// Returns a reader of the tree that lists objects and reads single files. It reads the index
    /// and, once, the catalogue, to find out if they can be relied on.
    ///
    /// # Errors
    ///
    /// [`TreeReadError::NotATree`]; [`TreeReadError::Medium`]; [`TreeReadError::Pipe`] if the pipe
    /// that reads the catalogue cannot run.
    pub fn tree(&self) -> Result<TreeReader<'_, M>, TreeReadError> {
        if self.header().content != Content::Tree {
            return Err(TreeReadError::NotATree);
        }
        let catalogue = intact_catalogue(self)?;
        let cut = match catalogue {
            None => CutTree::read(self).ok(),
            Some(_) => None,
        };
        Ok(TreeReader {
            reader: self,
            catalogue,
            cut,
            instances: 1,
        })
    }
}

/// Returns the index and the blocks of the catalogue. Returns `None` if one of them is missing or
/// damaged, or was rejected.
fn intact_catalogue<M: MediumReader + 'static>(
    reader: &ArchiveReader<M>,
) -> Result<Option<(Index, BlockSet)>, TreeReadError> {
    let index = match reader.index() {
        Ok(index) => index,
        Err(OpenError::Medium(error @ (MediumError::Io { .. } | MediumError::NoMemory { .. }))) => {
            return Err(error.into());
        }
        Err(_) => return Ok(None),
    };
    let blocks = index.catalogue();
    if blocks.is_empty() {
        return Ok(None);
    }
    // Without a log the first damage ends the pipe.
    let strict = reader.without_log();
    let (pipe, report) = strict.pipe_of(strict.head_of(&index, &blocks)?);
    match pipe.tail(CatalogueCheck::new()).run() {
        // The footer that says where the run is may be forged: the run must reach the last block.
        Ok(_) => {
            let is_whole = report.snapshot().reached_end();
            Ok(Some((index, blocks)).filter(|_| is_whole))
        }
        Err(Error::Stage(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl<M: MediumReader + 'static> TreeReader<'_, M> {
    /// Runs `n` instances of each stage that decrypts or decompresses, instead of one.
    #[must_use]
    pub fn instances(mut self, n: u32) -> Self {
        self.instances = n;
        self
    }

    /// Returns true if the catalogue is intact. If it is not, each call reads the whole archive, or
    /// what the checkpoints of an archive without an end say, and all after them.
    pub fn has_catalogue(&self) -> bool {
        self.catalogue.is_some()
    }

    /// Calls `visit` with each object that one of `patterns` matches, in the order of the archive,
    /// or with all objects if there are no patterns. An error from it ends the list.
    ///
    /// A pattern is compared with the path in the archive and with the last name of the path: `*`,
    /// `?`, `[a-z]`, `{a,b}` as in a shell, `**` for any number of directories. A pattern that ends
    /// with `/` matches directories only, and one that begins with `/` is refused, because no path
    /// in an archive does. Objects below a directory that matches are not part of
    /// the list unless they match, as they do with `dir/**`.
    ///
    /// # Errors
    ///
    /// [`TreeReadError::Pattern`], [`TreeReadError::Medium`], [`TreeReadError::Pipe`].
    pub fn list(
        &self,
        patterns: impl IntoIterator<Item = impl Into<String>>,
        mut visit: impl FnMut(&CatalogueEntry<'_>) -> Result<(), StageError> + Send,
    ) -> Result<(), TreeReadError> {
        let patterns: Vec<String> = patterns.into_iter().map(Into::into).collect();
        if let Some(pattern) = patterns.iter().find(|pattern| pattern.starts_with('/')) {
            return Err(TreeReadError::Pattern(TreeError::Pattern {
                pattern: pattern.clone(),
                reason: "paths in an archive do not begin with a slash, so it matches nothing; \
                         leave the slash out"
                    .to_owned(),
            }));
        }
        let matching = Excluded::new(&patterns, []).map_err(TreeReadError::Pattern)?;
        let mut list = TreeList::new(|object: &CatalogueEntry<'_>| {
            let is_directory = object.kind == ObjectKind::Directory;
            match patterns.is_empty() || matching.matches(object.path, is_directory) {
                true => visit(object),
                false => Ok(()),
            }
        });
        if let Some(log) = self.reader.log() {
            list = list.salvage(log);
        }
        if let Some(cut) = &self.cut {
            list = list.of_cut(cut);
        }
        self.catalogue_pipe()?.tail(list).run()?;
        Ok(())
    }

    /// Writes the content of the file at `path` to `to`, and flushes it. Holes are written as
    /// zeros; [`read_extents`](Self::read_extents) skips them. For another name of a file, that
    /// file is read. Symbolic links are not followed.
    ///
    /// The data of each block have been checked when they are written. The digest of the file is
    /// checked at its end. So what was written is the file only if this function returns `Ok`. No
    /// more is written than the size that [`list`](Self::list) reports.
    ///
    /// # Errors
    ///
    /// [`TreeReadError`]. Nothing has been written if it is `NotFound`, `NotAFile` or `Unread`.
    pub fn read_file(
        &self,
        path: impl AsRef<[u8]>,
        mut to: impl Write + Send,
    ) -> Result<ArchivedFile, TreeReadError> {
        let (mut written, mut failure) = (0, None);
        let file = self.read_extents(path, |offset, data| {
            let wrote = write_zeros(&mut to, offset - written).and_then(|()| to.write_all(data));
            written = offset + data.len() as u64;
            wrote.map_err(|error| {
                let text = error.to_string();
                failure = Some(error);
                StageError::new(text)
            })
        });
        if let Some(failure) = failure {
            return Err(TreeReadError::Write(failure));
        }
        let file = file?;
        write_zeros(&mut to, file.size - written)
            .and_then(|()| to.flush())
            .map_err(TreeReadError::Write)?;
        Ok(file)
    }

    /// Calls `visit` with offset and data of each extent of the file at `path`, in ascending order.
    /// Holes are skipped: bytes between extents, and between the last of them and the size of the
    /// file, are zeros. An error from `visit` ends the call. Otherwise as
    /// [`read_file`](Self::read_file).
    ///
    /// # Errors
    ///
    /// [`TreeReadError`].
    pub fn read_extents(
        &self,
        path: impl AsRef<[u8]>,
        visit: impl FnMut(u64, &[u8]) -> Result<(), StageError> + Send,
    ) -> Result<ArchivedFile, TreeReadError> {
        let path = path.as_ref();
        let object = self.find_file(path)?;
        let mut extraction = Extraction::default();
        let tail = ExtractTail::new(&object, visit, &mut extraction);
        self.blocks_pipe(object.blocks)?.tail(tail).run()?;
        let path = path.to_vec();
        match (extraction.defect, extraction.size) {
            _ if extraction.state == ObjectState::Unread => Err(TreeReadError::Unread { path }),
            (Some(what), _) => Err(TreeReadError::Damaged { path, what }),
            (None, size) => Ok(ArchivedFile {
                size: size.unwrap_or(extraction.end),
                bytes: extraction.bytes,
                state: extraction.state,
                digest: extraction.digest,
                mode: object.mode,
                modified: object.modified,
            }),
        }
    }

    /// Finds the object that has the data of the file at `path`.
    fn find_file(&self, path: &[u8]) -> Result<FoundObject, TreeReadError> {
        let shown = || path.to_vec();
        let mut found = self.find(Wanted::Path(path))?;
        if let Some(link) = found.take_if(|found| found.kind == ObjectKind::HardLink) {
            found = self.find(Wanted::Number(link.link))?;
            if found.is_none() {
                return Err(TreeReadError::Damaged {
                    path: shown(),
                    what: format!(
                        "is a hard link to object {}, which is not in the archive",
                        link.link
                    ),
                });
            }
        }
        match found {
            None => Err(TreeReadError::NotFound { path: shown() }),
            Some(found) if found.kind != ObjectKind::File => Err(TreeReadError::NotAFile {
                path: shown(),
                kind: found.kind,
            }),
            Some(found) if found.state == ObjectState::Unread => {
                Err(TreeReadError::Unread { path: shown() })
            }
            Some(found) => Ok(found),
        }
    }

    fn find(&self, wanted: Wanted<'_>) -> Result<Option<FoundObject>, TreeReadError> {
        let mut found = None;
        self.scan(Finder::new(wanted, &mut found))?;
        Ok(found)
    }

    /// Visits all objects of the tree.
    fn scan(&self, visit: impl VisitObject + Send) -> Result<(), TreeReadError> {
        let mut scan = ObjectScan::new(visit).with_log(self.reader.log().cloned());
        if let Some(cut) = &self.cut {
            scan = scan.of_cut(cut);
        }
        self.catalogue_pipe()?.tail(scan).run()?;
        Ok(())
    }

    /// Returns the pipe, without its tail, that reads the catalogue, or the whole archive.
    fn catalogue_pipe<'a>(&self) -> Result<PipeBuilder<'a>, TreeReadError> {
        if let Some(cut) = &self.cut {
            let head = self.reader.head_of_cut(cut.index(), cut.blocks())?;
            return Ok(self.pipe_of(head));
        }
        self.pipe(
            self.catalogue
                .as_ref()
                .map(|(index, blocks)| (index, blocks)),
        )
    }

    /// Returns the pipe, without its tail, that reads blocks `blocks.0` to `blocks.1`, or the whole
    /// archive.
    fn blocks_pipe<'a>(&self, blocks: (u64, u64)) -> Result<PipeBuilder<'a>, TreeReadError> {
        let mut set = BlockSet::new();
        set.insert(blocks.0..=blocks.1);
        let of_cut = self.cut.as_ref().map(|cut| cut.index().positions());
        let index = self.catalogue.as_ref().map(|(index, _)| index).or(of_cut);
        self.pipe(index.map(|index| (index, &set)))
    }

    fn pipe<'a>(
        &self,
        part: Option<(&Index, &BlockSet)>,
    ) -> Result<PipeBuilder<'a>, TreeReadError> {
        let head = match part {
            Some((index, blocks)) => self.reader.head_of(index, blocks)?,
            None => self.reader.head(),
        };
        Ok(self.pipe_of(head))
    }

    fn pipe_of<'a>(&self, head: ArchiveHead<M>) -> PipeBuilder<'a> {
        let (pipe, _) = self.reader.pipe_of(head);
        pipe.map_middles(|stage| stage.instances(self.instances))
    }
}

impl<M> fmt::Debug for TreeReader<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeReader")
            .field("reader", self.reader)
            .field("has_catalogue", &self.catalogue.is_some())
            .finish_non_exhaustive()
    }
}

/// Writes `len` zeros.
fn write_zeros(to: &mut impl Write, mut len: u64) -> io::Result<()> {
    while len > 0 {
        let zeros = &ZEROS[..len.min(ZEROS.len() as u64) as usize];
        to.write_all(zeros)?;
        len -= zeros.len() as u64;
    }
    Ok(())
}

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
