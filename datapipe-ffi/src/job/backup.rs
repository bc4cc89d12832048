//! A backup of file trees or a stream.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datapipe::archive::{Archive, SharedKey, WriteReport};
use datapipe::interrupt::retry;
use datapipe::limits::{DEFAULT_RECORD, MAX_TEXT};
use datapipe::prelude::*;
use datapipe::tree::{ProblemKind, TreeReport};
use datapipe::wire::Framing;

use crate::failure::Failure;
use crate::log_sink::log;
use crate::problem_kind;
use crate::status::*;

use super::hooks::{Hooks, Problem, Progress};
use super::medium::{Medium, OpenMedium};
use super::run::run;
use super::secret::{SecretSource, file_identity, read_recipients};

/// Source of a backup.
pub(crate) enum Source {
    /// Files and directories.
    Trees(Vec<PathBuf>),
    /// An open file, pipe or socket.
    Descriptor(OwnedFd),
    /// A function of the caller.
    Reader(Box<dyn Read + Send>),
}

/// Use of a medium that has content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// The medium must be empty or new.
    New,
    /// The content is replaced when the new archive is complete.
    Overwrite,
    /// A session is added.
    Append,
}

/// Compression method with its level.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Compression {
    None,
    Zstd(i32),
    Deflate(u32),
}

/// A backup that was checked as far as its options go.
pub(crate) struct Backup {
    pub(crate) source: Source,
    pub(crate) medium: Medium,
    pub(crate) mode: WriteMode,
    pub(crate) volumes: VolumeOptions,
    pub(crate) name: Option<String>,
    pub(crate) program: Option<String>,
    pub(crate) compression: Compression,
    pub(crate) framing: Framing,
    pub(crate) instances: u32,
    pub(crate) readers: Option<u32>,
    pub(crate) buffers: Option<u32>,
    pub(crate) buffer_size: u32,
    pub(crate) secret: Option<SecretSource>,
    pub(crate) recipient_files: Vec<PathBuf>,
    pub(crate) other_key: bool,
    pub(crate) tree: TreeOptions,
}

/// Result of a backup.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackupDone {
    pub(crate) files: u64,
    pub(crate) directories: u64,
    pub(crate) others: u64,
    pub(crate) excluded: u64,
    pub(crate) left_out: u64,
    pub(crate) problems: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) blocks: u64,
    pub(crate) volumes: u32,
    pub(crate) elapsed: Duration,
    pub(crate) header_hash: [u8; 32],
}

impl Backup {
    /// Runs the backup.
    pub(crate) fn run(self, hooks: &mut Hooks) -> Result<BackupDone, Failure> {
        hooks.check()?;
        let secret = self.check_and_read_secret()?;
        hooks.check()?;
        let key = self.check_medium(secret.as_ref(), hooks)?;
        hooks.check()?;
        let archive = self.plan(secret, key)?;
        let header_hash = archive.header_hash();
        self.check_pipe(&archive)?;
        hooks.check()?;
        let (medium, skip) = self.open_medium()?;
        let archive = match self.mode {
            WriteMode::Append => archive.after(self.medium.sessions_before()?),
            _ => archive,
        };
        let (instances, written) = (self.instances, archive.report());
        let (name, keeps_old) = (self.medium.to_string(), self.mode != WriteMode::New);
        let settings = self.pipe_settings();
        let (head, tree) = self.into_head(skip, !medium.accepts_empty())?;
        report_problems(tree.as_ref(), hooks);
        let archive = archive.map_seal(move |seal| seal.instances(instances));
        let pipe = settings.pipe(head).archive(archive, medium);
        let files = |progress| Progress {
            files: tree.as_ref().map_or(0, |tree| tree.counts().files),
            ..progress
        };
        let report = run(pipe, hooks, files)
            .map_err(|failure| describe_unfinished(failure, &name, &written, keeps_old))?;
        Ok(done(&report, tree.as_ref(), &written, header_hash))
    }

    /// Checks that the archive replaces neither a source nor a key, and reads the secret.
    fn check_and_read_secret(&self) -> Result<Option<Secret>, Failure> {
        if let Source::Trees(sources) = &self.source {
            let replaces = self.mode == WriteMode::Overwrite;
            self.medium.check_is_not_in(sources, replaces)?;
        }
        let secret_file = self.secret.as_ref().and_then(SecretSource::path);
        let files = secret_file.into_iter();
        for file in files.chain(self.recipient_files.iter().map(PathBuf::as_path)) {
            let is_of_medium = |file| self.medium.files().contains(&file);
            if file_identity(file).is_some_and(is_of_medium) {
                let reason = format_args!(
                    "would replace {}, the file of a key; name another medium",
                    file.display()
                );
                return Err(self.medium.failure(DP_ERR_ARGUMENT, reason));
            }
        }
        match &self.secret {
            Some(secret) if secret.is_identity() => Err(Failure::new(
                DP_ERR_ARGUMENT,
                "an identity opens archives, and does not encrypt them: give its recipient",
            )),
            Some(secret) => secret.read().map(Some),
            None => Ok(None),
        }
    }

    /// Checks that the medium can take the archive. Returns the data key of the archive after which
    /// it is appended, if the secret opens that.
    fn check_medium(
        &self,
        secret: Option<&Secret>,
        hooks: &Hooks,
    ) -> Result<Option<SharedKey>, Failure> {
        match self.mode {
            WriteMode::New => self.medium.check_empty().map(|()| None),
            WriteMode::Overwrite => Ok(None),
            WriteMode::Append => {
                let recipients_only = secret.is_none() && !self.recipient_files.is_empty();
                let any_key = self.other_key || recipients_only;
                self.medium.check_append(secret, any_key, hooks)
            }
        }
    }

    /// Plans the archive.
    fn plan(&self, secret: Option<Secret>, key: Option<SharedKey>) -> Result<Archive, Failure> {
        let (options_of, default): (fn(String) -> ArchiveOptions, _) = match &self.source {
            Source::Trees(sources) => (ArchiveOptions::tree, name_of_first(sources)?),
            _ => (ArchiveOptions::stream, "stream".to_owned()),
        };
        let name = self.name.clone().unwrap_or(default);
        let mut options = options_of(name[..name.floor_char_boundary(MAX_TEXT)].to_owned())
            .framing(self.framing)
            .block_len(self.buffer_size);
        if let Some(program) = &self.program {
            options = options.program(program.clone());
        }
        if let Some(size) = self.volumes.volume_size {
            // A small volume needs small records; otherwise most of it would stay empty.
            let record = usize::try_from(size / 8).unwrap_or(usize::MAX);
            options = options.record_len(record.min(DEFAULT_RECORD));
        }
        options = match (key, secret) {
            (Some(key), _) => options.share_key(key),
            (None, Some(secret)) => options.encrypt(secret),
            (None, None) => options,
        };
        for recipient in read_recipients(&self.recipient_files)? {
            options = options.recipient(recipient);
        }
        Ok(options.plan()?)
    }

    /// Checks the sources and the pipe, before the medium is created.
    fn check_pipe(&self, archive: &Archive) -> Result<(), Failure> {
        let head = match &self.source {
            Source::Trees(sources) => {
                TreeHead::new(sources, self.tree.clone())?.instances(self.readers())
            }
            _ => StreamHead::new(io::empty()).into(),
        };
        let pipe = self.pipe_settings().pipe(head);
        let stages = pipe.stages(archive.planned_stages(self.instances));
        stages.tail(StreamTail::new(io::sink())).plan()?;
        Ok(())
    }

    fn open_medium(&self) -> Result<OpenMedium, Failure> {
        match self.mode {
            WriteMode::Append => self.medium.append(self.volumes.clone()),
            _ => self.medium.create(self.volumes.clone()),
        }
    }

    /// Number of threads that read: as given, or as many as the buffers suffice for.
    fn readers(&self) -> u32 {
        let most = self
            .buffers
            .map_or(u32::MAX, |buffers| (buffers / 4).max(1));
        self.readers
            .unwrap_or_else(|| TreeHead::default_instances().min(most))
    }

    fn pipe_settings(&self) -> PipeSettings {
        PipeSettings {
            compression: self.compression,
            instances: self.instances,
            buffers: self.buffers,
            buffer_size: self.buffer_size,
        }
    }

    /// The stage that reads the source, and the report of a tree.
    fn into_head(
        self,
        skip: Vec<(u64, u64)>,
        refuse_empty: bool,
    ) -> Result<(HeadStage<'static>, Option<TreeReport>), Failure> {
        let readers = self.readers();
        Ok(match self.source {
            Source::Trees(sources) => {
                let options = self.tree.skip(skip).refuse_empty(refuse_empty);
                let head = TreeHead::new(&sources, options)?;
                let report = head.report();
                (head.instances(readers), Some(report))
            }
            Source::Descriptor(descriptor) => (StreamHead::file(descriptor).into(), None),
            Source::Reader(reader) => (StreamHead::new(reader).into(), None),
        })
    }
}

/// Settings of the pipe, which outlive the source.
#[derive(Clone, Copy)]
struct PipeSettings {
    compression: Compression,
    instances: u32,
    buffers: Option<u32>,
    buffer_size: u32,
}

impl PipeSettings {
    /// The pipe up to the archive.
    fn pipe(self, head: HeadStage<'static>) -> PipeBuilder<'static> {
        let pipe = Pipe::builder()
            .label("backup")
            .buffer_size(self.buffer_size);
        let pipe = match self.buffers {
            Some(buffers) => pipe.buffers(buffers),
            None => pipe,
        };
        let pipe = pipe.head(head).stage(analyze());
        match self.compression {
            Compression::None => pipe,
            Compression::Zstd(level) => pipe.stage(zstd(level).instances(self.instances)),
            Compression::Deflate(level) => pipe.stage(deflate(level).instances(self.instances)),
        }
    }
}

/// Sends the problems of a tree to the caller.
fn report_problems(tree: Option<&TreeReport>, hooks: &Hooks) {
    let Some(tree) = tree else {
        return;
    };
    let report = hooks.reporter();
    tree.on_problem(move |problem| {
        report(Problem {
            kind: kind_of(&problem.kind),
            path: &problem.path,
            text: &problem.kind.to_string(),
        });
    });
}

fn kind_of(kind: &ProblemKind) -> i32 {
    match kind {
        ProblemKind::Unreadable(_) => problem_kind::DP_PROBLEM_UNREADABLE,
        ProblemKind::Attribute(..) | ProblemKind::InodeFlags(_) => {
            problem_kind::DP_PROBLEM_ATTRIBUTE
        }
        ProblemKind::Vanished => problem_kind::DP_PROBLEM_VANISHED,
        ProblemKind::Changed => problem_kind::DP_PROBLEM_CHANGED,
        ProblemKind::TooLong(_) => problem_kind::DP_PROBLEM_TOO_LONG,
        ProblemKind::Socket => problem_kind::DP_PROBLEM_LEFT_OUT_SOCKET,
        ProblemKind::MountPoint => problem_kind::DP_PROBLEM_LEFT_OUT_MOUNT,
        ProblemKind::Medium => problem_kind::DP_PROBLEM_LEFT_OUT_MEDIUM,
        _ => problem_kind::DP_PROBLEM_OTHER,
    }
}

/// Adds the state of the archive to the failure of its job.
fn describe_unfinished(
    failure: Failure,
    medium: &str,
    written: &WriteReport,
    keeps_old: bool,
) -> Failure {
    let written = written.snapshot();
    let archive = match keeps_old {
        true => "the new archive on",
        false => "the archive on",
    };
    match (written.blocks, written.safe_blocks) {
        (0, _) => failure,
        (_, 0) => failure.with_detail(&format!(
            "{archive} {medium} is incomplete, and has no checkpoint yet"
        )),
        _ => failure.with_detail(&format!(
            "{archive} {medium} is incomplete: it is valid up to its last checkpoint, at {} bytes",
            written.safe_plain
        )),
    }
}

fn done(
    report: &Report,
    tree: Option<&TreeReport>,
    written: &WriteReport,
    header_hash: [u8; 32],
) -> BackupDone {
    let written = written.snapshot();
    let read = tree.map(TreeReport::snapshot).unwrap_or_default();
    for note in &read.notes {
        log(DP_LOG_WARNING, &note.to_string());
    }
    BackupDone {
        files: read.files,
        directories: read.directories,
        others: read.others,
        excluded: read.excluded,
        left_out: read.left_out,
        problems: report.problems,
        bytes_in: report.bytes_in(),
        bytes_out: report.bytes_out(),
        blocks: written.blocks,
        volumes: written.volumes,
        elapsed: report.status.elapsed,
        header_hash,
    }
}

/// Name of an archive: that of its first source.
fn name_of_first(sources: &[PathBuf]) -> Result<String, Failure> {
    let source = sources
        .first()
        .map_or_else(|| Path::new("/"), PathBuf::as_path);
    let name = match source.file_name() {
        Some(name) => name.to_owned(),
        None => retry(|| fs::canonicalize(source))?
            .file_name()
            .map_or_else(|| "root".into(), ToOwned::to_owned),
    };
    Ok(name.to_string_lossy().into_owned())
}
