//! Jobs that read an archive: restore, verify, list.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datapipe::archive::{ReadReport, Reading};
use datapipe::prelude::*;
use datapipe::stage::DamageEntry;
use datapipe::tree::{RestoreReport, Selection as PathSelection, TreeList};
use datapipe::wire::{CatalogueEntry, ObjectKind, ObjectState};
use parking_lot::Mutex;

use crate::failure::Failure;
use crate::log_sink::log;
use crate::problem_kind::*;
use crate::status::*;

use super::archive::{ReadScope, Reader, Selection, Stored, log_damage};
use super::hooks::{Hooks, Problem, Progress};
use super::medium::Medium;
use super::run::run;
use super::secret::SecretSource;

/// Destination of a restore.
pub(crate) enum RestoreTarget {
    /// A directory, for a tree. It is created if its parent exists.
    Directory(PathBuf),
    /// An open file, pipe or socket, for a stream.
    Descriptor(OwnedFd),
    /// A function of the caller, for a stream.
    Writer(Box<dyn Write + Send>),
}

/// A restore of an archive, or of some paths of a tree.
pub(crate) struct Restore {
    pub(crate) medium: Medium,
    pub(crate) selection: Selection,
    pub(crate) secret: Option<SecretSource>,
    pub(crate) target: RestoreTarget,
    pub(crate) paths: Vec<Vec<u8>>,
    pub(crate) overwrite: bool,
    pub(crate) numeric_owner: bool,
    pub(crate) instances: u32,
}

/// A verification of an archive.
pub(crate) struct Verify {
    pub(crate) medium: Medium,
    pub(crate) selection: Selection,
    pub(crate) secret: Option<SecretSource>,
    pub(crate) instances: u32,
}

/// Receives the entries of a list. A number other than 0 ends the list.
pub(crate) type EntrySink = Box<dyn FnMut(&CatalogueEntry<'_>) -> i32 + Send>;

/// A list of an archive, or of some paths of a tree.
pub(crate) struct List {
    pub(crate) medium: Medium,
    pub(crate) selection: Selection,
    pub(crate) secret: Option<SecretSource>,
    pub(crate) paths: Vec<Vec<u8>>,
    pub(crate) entries: EntrySink,
    pub(crate) instances: u32,
}

/// Result of a job that read an archive.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadDone {
    pub(crate) files: u64,
    pub(crate) directories: u64,
    pub(crate) others: u64,
    pub(crate) problems: u64,
    pub(crate) damaged: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) blocks: u64,
    pub(crate) volumes: u32,
    pub(crate) is_complete: bool,
    pub(crate) is_authenticated: bool,
    pub(crate) elapsed: Duration,
    pub(crate) header_hash: [u8; 32],
}

/// An archive that is open, with the log of its damage.
struct OpenArchive {
    medium: Medium,
    reader: Reader,
    log: DamageLog,
    /// Damage that the list of the medium has met.
    listed_damage: Vec<DamageEntry>,
    instances: u32,
}

impl OpenArchive {
    /// Opens an archive, and logs damage that the list of its medium has met.
    fn open_and_log(
        medium: Medium,
        selection: &Selection,
        secret: Option<&SecretSource>,
        instances: u32,
        hooks: &Hooks,
    ) -> Result<Self, Failure> {
        let archive = Self::open(medium, selection, secret, instances, hooks)?;
        log_damage(&archive.medium, &archive.listed_damage);
        Ok(archive)
    }

    fn open(
        medium: Medium,
        selection: &Selection,
        secret: Option<&SecretSource>,
        instances: u32,
        hooks: &Hooks,
    ) -> Result<Self, Failure> {
        hooks.check()?;
        medium.warn_if_written();
        let secret = secret.map(SecretSource::read).transpose()?;
        hooks.check()?;
        let opened = selection.open(&medium, secret.as_ref(), hooks)?;
        let log = damage_log(hooks);
        Ok(Self {
            medium,
            reader: opened.archive.salvage(&log),
            log,
            listed_damage: opened.damage,
            instances,
        })
    }

    fn is_tree(&self) -> bool {
        self.reader.header().content == Content::Tree
    }

    /// Runs the pipe that reads `scope`, up to `tail`.
    fn run(
        &self,
        scope: &ReadScope,
        tail: TailStage<'static>,
        tree: Option<&RestoreReport>,
        hooks: &mut Hooks,
    ) -> Result<ReadDone, Failure> {
        let Reading { pipe, report } = scope.read(&self.reader, self.instances)?;
        let total = match scope.is_everything() {
            true => self.medium.bytes(),
            false => 0,
        };
        if let Some(tree) = tree {
            report_problems(tree, hooks);
        }
        let mut done = run_read(pipe.tail(tail), &report, tree, total, hooks)?;
        if scope.is_everything() && !done.is_complete && done.blocks == 0 {
            return Err(self
                .medium
                .failure(DP_ERR_DAMAGED, "no part of the archive could be read"));
        }
        done.is_authenticated = self.reader.opened_by().is_some();
        done.header_hash = self.reader.header_hash();
        if let Some(tree) = tree {
            let found = tree.snapshot();
            (done.files, done.directories) = (found.files, found.directories);
            (done.others, done.damaged) = (found.others, found.damaged_count);
            found
                .notes
                .iter()
                .for_each(|note| log(DP_LOG_WARNING, note));
        } else {
            done.damaged = self.log.count();
        }
        Ok(done)
    }
}

/// Runs a pipe that reads an archive.
fn run_read(
    pipe: PipeBuilder<'static>,
    report: &ReadReport,
    tree: Option<&RestoreReport>,
    total: u64,
    hooks: &mut Hooks,
) -> Result<ReadDone, Failure> {
    let ended = run(pipe, hooks, |progress| Progress {
        files: tree.map_or(0, |tree| tree.counts().files),
        read: report.snapshot().read,
        total,
        ..progress
    })?;
    let read = report.snapshot();
    Ok(ReadDone {
        problems: ended.problems,
        bytes_in: ended.bytes_in(),
        bytes_out: ended.bytes_out(),
        blocks: read.blocks,
        volumes: read.volumes,
        is_complete: read.complete,
        elapsed: ended.status.elapsed,
        ..ReadDone::default()
    })
}

impl Restore {
    /// Runs the restore.
    pub(crate) fn run(self, hooks: &mut Hooks) -> Result<ReadDone, Failure> {
        let Self {
            medium,
            selection,
            secret,
            instances,
            ..
        } = self;
        let key_file = secret.as_ref().and_then(SecretSource::file_identity);
        let archive =
            OpenArchive::open_and_log(medium, &selection, secret.as_ref(), instances, hooks)?;
        let tail: TailStage<'static> = match (self.target, archive.is_tree()) {
            (RestoreTarget::Directory(path), true) => {
                create_directory(&path)?;
                let options = RestoreOptions::default()
                    .overwrite(self.overwrite)
                    .numeric_owner(self.numeric_owner)
                    .keep(archive.medium.files())
                    .keep(key_file);
                return restore_tree(&archive, &path, options, &self.paths, hooks);
            }
            (RestoreTarget::Descriptor(to), false) => StreamRestore::file(to).into(),
            (RestoreTarget::Writer(to), false) => StreamRestore::new(to).into(),
            (RestoreTarget::Directory(_), false) => {
                return Err(archive.medium.failure(
                    DP_ERR_CONTENT,
                    "the archive has a stream and not a tree: restore it to a descriptor or to a \
                     function",
                ));
            }
            (_, true) => {
                return Err(archive.medium.failure(
                    DP_ERR_CONTENT,
                    "the archive has a tree and not a stream: restore it to a directory",
                ));
            }
        };
        if !self.paths.is_empty() {
            return Err(archive.medium.failure(
                DP_ERR_CONTENT,
                "the archive has a stream, and paths select objects of a tree",
            ));
        }
        archive.run(&ReadScope::Everything, tail, None, hooks)
    }
}

fn restore_tree(
    archive: &OpenArchive,
    to: &Path,
    options: RestoreOptions,
    paths: &[Vec<u8>],
    hooks: &mut Hooks,
) -> Result<ReadDone, Failure> {
    let scope = match paths {
        [] => ReadScope::Everything,
        _ => ReadScope::for_paths(&archive.reader, paths, hooks)?,
    };
    let tail = match scope.query() {
        Some(query) => TreeRestore::part(to, options, query),
        None => TreeRestore::new(to, options),
    };
    let tail = tail.map_err(|error| Failure::at(&format!("restore to {}", to.display()), error))?;
    let report = tail.report();
    archive.run(&scope, tail.into(), Some(&report), hooks)
}

impl Verify {
    /// Reads and checks all of the archive, and writes nothing. Without the key of an encrypted
    /// archive, nothing is authenticated.
    pub(crate) fn run(self, hooks: &mut Hooks) -> Result<ReadDone, Failure> {
        hooks.check()?;
        if self.secret.is_none() {
            let opened = self.selection.open_stored(&self.medium, None, hooks)?;
            if opened.archive.is_encrypted() {
                let listed = report_damage(&opened.damage, hooks);
                let mut done = verify_stored(&self.medium, opened.archive, hooks)?;
                done.problems += listed;
                return Ok(done);
            }
        }
        let (secret, instances) = (self.secret.as_ref(), self.instances);
        let archive = OpenArchive::open(self.medium, &self.selection, secret, instances, hooks)?;
        let listed = report_damage(&archive.listed_damage, hooks);
        let scope = ReadScope::Everything;
        let mut done = match archive.is_tree() {
            true => {
                let tail = TreeVerify::new();
                let report = tail.report();
                archive.run(&scope, tail.into(), Some(&report), hooks)
            }
            false => archive.run(&scope, StreamRestore::new(io::sink()).into(), None, hooks),
        }?;
        done.problems += listed;
        Ok(done)
    }
}

/// Checks an encrypted archive without its key.
fn verify_stored(medium: &Medium, stored: Stored, hooks: &mut Hooks) -> Result<ReadDone, Failure> {
    let log = damage_log(hooks);
    let header_hash = stored.header_hash();
    let Reading { pipe, report } = stored.salvage(&log).read();
    let pipe = pipe.tail(StreamTail::new(io::sink()));
    let done = run_read(pipe, &report, None, medium.bytes(), hooks)?;
    Ok(ReadDone {
        damaged: log.count(),
        header_hash,
        ..done
    })
}

impl List {
    /// Shows the entries of the archive.
    pub(crate) fn run(self, hooks: &mut Hooks) -> Result<ReadDone, Failure> {
        let (secret, instances) = (self.secret.as_ref(), self.instances);
        let archive =
            OpenArchive::open_and_log(self.medium, &self.selection, secret, instances, hooks)?;
        let mut shown = Shown {
            entries: self.entries,
            selection: PathSelection::new(&self.paths),
            counts: (0, 0, 0),
            answer: 0,
        };
        if !archive.is_tree() {
            return list_stream(&archive, shown, hooks);
        }
        let scope = ReadScope::for_list(&archive.reader, hooks)?;
        let shared = Arc::new(Mutex::new(shown));
        let sink = Arc::clone(&shared);
        let tail = TreeList::new(move |entry: &CatalogueEntry<'_>| sink.lock().show(entry));
        let tail = tail.salvage(&archive.log).into();
        let result = archive.run(&scope, tail, None, hooks);
        shown = match Arc::try_unwrap(shared) {
            Ok(shown) => shown.into_inner(),
            // The pipe has ended, and with it its tail.
            Err(_) => return Err(Failure::new(DP_ERR_PANIC, "the list's tail did not end")),
        };
        let mut done = result.map_err(|failure| shown.failure().unwrap_or(failure))?;
        done.problems += report_not_found(&shown.selection, hooks);
        (done.files, done.directories, done.others) = shown.counts;
        Ok(done)
    }
}

/// Entries as they are shown.
struct Shown {
    entries: EntrySink,
    selection: PathSelection,
    /// Files, directories and others.
    counts: (u64, u64, u64),
    /// Answer of the caller's function that ended the list.
    answer: i32,
}

impl Shown {
    fn show(&mut self, entry: &CatalogueEntry<'_>) -> Result<(), StageError> {
        if !self.selection.wants(entry.path, ObjectKind::File) {
            return Ok(());
        }
        match entry.kind {
            ObjectKind::File => self.counts.0 += 1,
            ObjectKind::Directory => self.counts.1 += 1,
            _ => self.counts.2 += 1,
        }
        self.answer = (self.entries)(entry);
        match self.answer {
            0 => Ok(()),
            _ => Err(StageError::new("the entry function has ended the list")),
        }
    }

    /// The failure of a list that the caller's function has ended.
    fn failure(&self) -> Option<Failure> {
        let text = format!(
            "the entry function has returned {}, which ends the list",
            self.answer
        );
        (self.answer != 0).then(|| Failure::new(DP_ERR_CALLBACK, text))
    }
}

/// Shows a stream as one file with the archive's name. Its length is recorded at the end of the
/// archive; if that cannot be read, the blocks are counted.
fn list_stream(
    archive: &OpenArchive,
    mut shown: Shown,
    hooks: &mut Hooks,
) -> Result<ReadDone, Failure> {
    let mut done = ReadDone {
        is_complete: true,
        is_authenticated: archive.reader.opened_by().is_some(),
        header_hash: archive.reader.header_hash(),
        ..ReadDone::default()
    };
    let size = match archive.reader.index() {
        Ok(index) => index.plain(),
        Err(_) => {
            let tail = StreamRestore::new(io::sink()).into();
            done = archive.run(&ReadScope::Everything, tail, None, hooks)?;
            done.bytes_out
        }
    };
    let (origin, modified) = (archive.reader.origin(), archive.reader.header().created);
    let entry = CatalogueEntry {
        kind: ObjectKind::File,
        state: ObjectState::Whole,
        mode: 0,
        size,
        link: 0,
        modified,
        blocks: (0, 0),
        offset: 0,
        changed: modified,
        inode: 0,
        // Without the name, which block 0 has, the stream is still listed.
        path: origin.map_or(b"stream", |origin| origin.name.as_bytes()),
        target: b"",
    };
    if shown.show(&entry).is_err() {
        return Err(shown
            .failure()
            .unwrap_or_else(|| Failure::new(DP_ERR_CALLBACK, "")));
    }
    done.problems += report_not_found(&shown.selection, hooks);
    done.files = shown.counts.0;
    Ok(done)
}

/// Reports the paths that were asked for and are not in the archive. Returns their number.
fn report_not_found(selection: &PathSelection, hooks: &Hooks) -> u64 {
    let report = hooks.reporter();
    let mut count = 0;
    for path in selection.not_found() {
        count += 1;
        report(Problem {
            kind: DP_PROBLEM_NOT_FOUND,
            path,
            text: "not found in the archive",
        });
    }
    count
}

/// Sends damage that the list of a medium has met to the caller. Returns its number.
pub(super) fn report_damage(damage: &[DamageEntry], hooks: &Hooks) -> u64 {
    let report = hooks.reporter();
    for entry in damage {
        report(damage_problem(&entry.to_string()));
    }
    damage.len() as u64
}

/// A part of the medium that cannot be read, as a problem.
fn damage_problem(text: &str) -> Problem<'_> {
    Problem {
        kind: DP_PROBLEM_MEDIUM,
        path: b"",
        text,
    }
}

/// A log of damage that sends its entries to the caller.
pub(super) fn damage_log(hooks: &Hooks) -> DamageLog {
    let (log, report) = (DamageLog::new(), hooks.reporter());
    log.on_damage(move |entry| {
        report(damage_problem(&entry.to_string()));
    });
    log
}

/// Sends the problems of a restore or a verification to the caller.
fn report_problems(tree: &RestoreReport, hooks: &Hooks) {
    let report = hooks.reporter();
    tree.on_problem(move |problem| {
        let kind = match problem.damaged {
            true => DP_PROBLEM_DAMAGED,
            false => DP_PROBLEM_NOT_RESTORED,
        };
        report(Problem {
            kind,
            path: &problem.path,
            text: &problem.what,
        });
    });
}

/// Creates the destination if its parent exists, and brings its name to stable storage.
fn create_directory(path: &Path) -> Result<(), Failure> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(Failure::at(&format!("create {}", path.display()), error)),
        Ok(()) => {}
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match File::open(parent).and_then(|parent| parent.sync_all()) {
        // A directory that this user may only search, or a file system that cannot sync any.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::InvalidInput
            ) =>
        {
            Ok(())
        }
        other => other.map_err(|error| Failure::at(&format!("sync {}", parent.display()), error)),
    }
}
