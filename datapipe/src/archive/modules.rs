//! The stages of archives in processes of their own: what makes them there, and what they tell of
//! their work.
//!
//! ```text
//!   Archive, ArchiveReader --describe_*--> fields, descriptors ==> from_*  --> the same stage
//!   WriteReport, ReadReport, DamageLog <--notes-------------------- its reports
//! ```
//!
//! `docs/host-protocol.md` lists the fields.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::crypto::SubKey;
use crate::error::StageError;
use crate::host::{Modules, StageArgs, StageMessage};
use crate::limits::MAX_BLOCK_RUNS;
use crate::media::{
    Form, Medium, MediumHandle, Position, VirtualTape, VolumeDirectory, VolumeOptions,
    reopen_to_read, reopen_to_write,
};
use crate::stage::{Arguments, Fields, HeadStage, MiddleStage, OpenFile, SALVAGE, TailStage};
use crate::wire::codec::{Bytes, DecodeError, Put};
use crate::wire::{ArchiveHeader, Content, SessionHeader};

use super::head::ArchiveHead;
use super::index::{Run, Start};
use super::plan::{Archive, ArchiveOptions};
use super::reader::ArchiveReader;
use super::report::{ReadOutcome, ReadReport, Reporter, WriteOutcome, WriteReport};
use super::restore::StreamRestore;
use super::seal::{self, ArchiveKey};
use super::shared::Shared;
use super::tail::ArchiveTail;
use super::units::Units;

/// Names of the modules.
pub(super) const SEAL_MODULE: &str = "datapipe.seal";
pub(super) const OPEN_MODULE: &str = "datapipe.open";
const TAIL_MODULE: &str = "datapipe.archive-tail";
const HEAD_MODULE: &str = "datapipe.archive-head";
const RESTORE_MODULE: &str = "datapipe.stream-restore";

/// Fields.
const KEY: &str = "key";
const SESSION: &str = "session";
const ARCHIVE: &str = "archive";
const NAME: &str = "name";
const CONTENT: &str = "content";
const CHUNK_LEN: &str = "chunk-len";
const BLOCK_LEN: &str = "block-len";
const RECORD_LEN: &str = "record-len";
const RUNS: &str = "runs";
const MEDIUM: &str = "medium";
const PATH: &str = "path";
const VOLUME_SIZE: &str = "volume-size";
const OVERWRITE: &str = "overwrite";
/// The medium's descriptors come with the arguments.
const OPENED: &str = "opened";

const TAPE: &str = "tape";
const DIRECTORY: &str = "directory";

/// First byte of a note that has a [`ReadOutcome`]: those of a log of damage have others.
const READ: u8 = 16;
/// Bytes of a run of blocks.
const RUN_LEN: usize = 52;

/// Adds the stages of archives to the modules of a host.
#[must_use]
pub fn modules(modules: Modules) -> Modules {
    modules
        .with(SEAL_MODULE, from_seal)
        .with(OPEN_MODULE, from_open)
        .with(TAIL_MODULE, from_tail)
        .with(HEAD_MODULE, from_head)
        .with(RESTORE_MODULE, |call| {
            call.fields()?.end()?;
            Ok(TailStage::from(StreamRestore::file(call.descriptor(0)?)))
        })
}

/// The fields of an archive's key.
pub(super) fn key_arguments(key: &ArchiveKey) -> Arguments {
    Arguments::new().with(KEY, key.key().bytes())
}

fn key_of(fields: &mut Fields<'_>) -> Result<Option<ArchiveKey>, StageError> {
    let Some(bytes) = fields.optional(KEY)? else {
        return Ok(None);
    };
    let wrong = |_| StageError::new(format!("the module got a key of {} bytes", bytes.len()));
    Ok(Some(ArchiveKey::new(
        SubKey::from_slice(bytes).map_err(wrong)?,
    )))
}

fn needed_key(fields: &mut Fields<'_>) -> Result<ArchiveKey, StageError> {
    key_of(fields)?.ok_or_else(|| StageError::new("the module got no key"))
}

fn from_seal(call: &StageArgs<'_>) -> Result<MiddleStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let key = needed_key(&mut fields)?;
    fields.end()?;
    Ok(seal::sealing(key))
}

fn from_open(call: &StageArgs<'_>) -> Result<MiddleStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let (key, salvages) = (needed_key(&mut fields)?, fields.flag(SALVAGE)?);
    fields.end()?;
    Ok(seal::opening(key, salvages.then(|| call.damage())))
}

/// Gives a stage that writes an archive its module.
pub(super) fn describe_tail<'a>(
    stage: TailStage<'a>,
    archive: &Archive,
    passage: MediumHandle,
    report: &WriteReport,
) -> TailStage<'a> {
    let mut arguments = archive
        .key
        .as_ref()
        .map_or_else(Arguments::new, key_arguments);
    arguments = arguments
        .with(SESSION, archive.session.to_bytes())
        .with(ARCHIVE, archive.header.to_bytes())
        .with(CHUNK_LEN, archive.chunk_len.to_string());
    let stage = stage.module(TAIL_MODULE, with_medium(arguments, &passage));
    let report = report.clone();
    passage
        .descriptors
        .into_iter()
        .fold(stage, TailStage::descriptor)
        .notes(move |told| {
            // What makes no sense changes nothing: then the archive does not count as complete.
            if let Ok(outcome) = WriteOutcome::decode(told) {
                report.update(|report| *report = outcome);
            }
        })
}

fn from_tail(call: &StageArgs<'_>) -> Result<TailStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let archive = planned(&mut fields)?;
    let target = Target::of(&mut fields)?;
    let volume_size = fields.optional(VOLUME_SIZE)?.map(number).transpose()?;
    let overwrite = fields.flag(OVERWRITE)?;
    fields.end()?;
    let Target {
        form,
        path,
        is_opened,
    } = target;
    let medium: Box<dyn Medium> = match form {
        _ if is_opened => reopen_to_write(
            form,
            path,
            volume_size,
            [call.descriptor(0)?, call.descriptor(1)?],
        )?,
        Form::Tape => Box::new(VirtualTape::create(
            path,
            VolumeOptions {
                volume_size,
                overwrite,
            },
        )?),
        Form::Directory => Box::new(VolumeDirectory::create(
            path,
            VolumeOptions {
                volume_size,
                overwrite,
            },
        )?),
    };
    let tail = ArchiveTail::new(archive, medium);
    let (report, mut told) = (tail.report(), WriteOutcome::default());
    call.notes(move || {
        let outcome = report.outcome();
        let is_new = std::mem::replace(&mut told, outcome) != outcome;
        let note = is_new.then(|| StageMessage::new("", outcome.encode()).ok());
        note.flatten().into_iter().collect()
    });
    Ok(tail.into())
}

/// The archive as it was planned elsewhere, or one that has no more than a name, and no key.
fn planned(fields: &mut Fields<'_>) -> Result<Archive, StageError> {
    let key = key_of(fields)?;
    let Some(session) = fields.optional(SESSION)? else {
        if key.is_some() {
            return Err(StageError::new(
                "the module got a key without the headers of its archive",
            ));
        }
        let content = match fields.optional(CONTENT)? {
            None | Some(b"stream") => Content::Stream,
            Some(b"tree") => Content::Tree,
            Some(other) => {
                let other = other.escape_ascii();
                return Err(StageError::new(format!(
                    "the module got the content \"{other}\""
                )));
            }
        };
        let mut options = ArchiveOptions::new(fields.text(NAME)?).content(content);
        if let Some(len) = fields.optional(BLOCK_LEN)? {
            options = options.block_len(number(len)?);
        }
        if let Some(len) = fields.optional(RECORD_LEN)? {
            options = options.record_len(number(len)?);
        }
        if let Some(len) = fields.optional(CHUNK_LEN)? {
            options = options.chunk_len(number(len)?);
        }
        return Ok(options.plan()?);
    };
    let session = SessionHeader::parse(session)?;
    let header = ArchiveHeader::parse(fields.one(ARCHIVE)?)?;
    Ok(Archive {
        session,
        header,
        key,
        chunk_len: fields.number(CHUNK_LEN)?,
    })
}

/// What a head reads, and how.
#[derive(Clone, Copy)]
pub(super) struct Reads<'r> {
    pub(super) session: [u8; 16],
    pub(super) block_len: u32,
    pub(super) key: Option<&'r ArchiveKey>,
    /// Not everything.
    pub(super) runs: Option<&'r VecDeque<Run>>,
    pub(super) reporter: &'r Reporter,
    pub(super) report: &'r ReadReport,
}

/// Gives a stage that reads an archive its module.
pub(super) fn describe_head<'a>(
    stage: HeadStage<'a>,
    reads: &Reads<'_>,
    mut passage: MediumHandle,
) -> HeadStage<'a> {
    match reads.runs.map(written_down).transpose() {
        Ok(runs) => passage.descriptors.extend(runs),
        Err(error) => {
            return stage.local(format!(
                "the list of its blocks cannot be handed over: {error}"
            ));
        }
    }
    let arguments = reads.key.map_or_else(Arguments::new, key_arguments);
    let arguments = arguments
        .with(SESSION, reads.session)
        .with(BLOCK_LEN, reads.block_len.to_string())
        .with_flag(RUNS, reads.runs.is_some())
        .with_flag(SALVAGE, reads.reporter.log.is_some());
    let stage = stage.module(HEAD_MODULE, with_medium(arguments, &passage));
    let (report, log) = (reads.report.clone(), reads.reporter.log.clone());
    passage
        .descriptors
        .into_iter()
        .fold(stage, HeadStage::descriptor)
        .notes(move |told| match told {
            [READ, outcome @ ..] => {
                // As for a tail.
                if let Ok(outcome) = ReadOutcome::decode(outcome) {
                    report.update(|report| *report = outcome);
                }
            }
            damage => log.iter().for_each(|log| log.hear(damage)),
        })
}

fn from_head(call: &StageArgs<'_>) -> Result<HeadStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let (key, session) = (key_of(&mut fields)?, fields.optional(SESSION)?);
    let block_len = fields.optional(BLOCK_LEN)?.map(number).transpose()?;
    let (salvages, has_runs) = (fields.flag(SALVAGE)?, fields.flag(RUNS)?);
    let Target {
        form,
        path,
        is_opened,
    } = Target::of(&mut fields)?;
    fields.end()?;
    let medium: Box<dyn Medium> = match form {
        _ if is_opened => reopen_to_read(form, path, call.descriptor(0)?)?,
        Form::Tape => Box::new(VirtualTape::open(path)?),
        Form::Directory => Box::new(VolumeDirectory::open(path)?),
    };
    let log = salvages.then(|| call.damage());
    let head = match (session, block_len) {
        (Some(session), Some(block_len)) => {
            let medium = Shared::new(medium);
            let units = Units::new(medium.clone(), Some(session.try_into()?));
            ArchiveHead::new(medium, units, block_len, key, Reporter { log })
        }
        (None, None) if key.is_none() => {
            let reader = ArchiveReader::open(medium, None)?;
            log.iter().fold(reader, ArchiveReader::salvage).head()
        }
        _ => {
            return Err(StageError::new(
                "the module got not all of key, session and block-len",
            ));
        }
    };
    let head = if has_runs {
        let runs = call.descriptor(usize::from(is_opened))?;
        head.only(read_again(&runs.into())?)
    } else {
        head
    };
    let (report, mut told) = (head.report(), ReadOutcome::default());
    call.notes(move || {
        let outcome = report.outcome();
        let is_new = std::mem::replace(&mut told, outcome) != outcome;
        let note =
            is_new.then(|| StageMessage::new("", [&[READ], &outcome.encode()[..]].concat()).ok());
        note.flatten().into_iter().collect()
    });
    Ok(head.into())
}

/// Gives a stage that writes a stream its module, if it writes to an open file.
pub(super) fn describe_restore<'a>(stage: TailStage<'a>, file: Option<&OpenFile>) -> TailStage<'a> {
    match file {
        Some(file) => stage.module(RESTORE_MODULE, Arguments::new()).shared_descriptor(Arc::clone(&file.0)),
        None => stage.local(
            "it writes to something that only this program has: give StreamRestore::file an open file",
        ),
    }
}

/// Which medium a module is to use.
struct Target {
    form: Form,
    path: PathBuf,
    is_opened: bool,
}

impl Target {
    fn of(fields: &mut Fields<'_>) -> Result<Self, StageError> {
        let form = match fields.text(MEDIUM)? {
            TAPE => Form::Tape,
            DIRECTORY => Form::Directory,
            other => {
                return Err(StageError::new(format!(
                    "the module got the medium \"{}\", but knows {TAPE} and {DIRECTORY} only",
                    other.escape_debug()
                )));
            }
        };
        let path = fields
            .path(PATH)?
            .ok_or_else(|| StageError::new("the module got no path"))?;
        Ok(Self {
            form,
            path,
            is_opened: fields.flag(OPENED)?,
        })
    }
}

fn with_medium(arguments: Arguments, passage: &MediumHandle) -> Arguments {
    let form = match passage.form {
        Form::Tape => TAPE,
        Form::Directory => DIRECTORY,
    };
    let size = passage.volume_size.map(|size| size.to_string());
    arguments
        .with(MEDIUM, form)
        .with(PATH, passage.path.as_os_str().as_bytes())
        .with_all(VOLUME_SIZE, size)
        .with_flag(OPENED, true)
}

fn number<N: std::str::FromStr>(text: &[u8]) -> Result<N, StageError> {
    let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        StageError::new(format!(
            "the module got the number \"{}\", which does not do",
            text.escape_ascii()
        ))
    })
}

/// A file without a name that lists runs of blocks: they may be more than fits arguments.
fn written_down(runs: &VecDeque<Run>) -> std::io::Result<OwnedFd> {
    let mut bytes = Vec::with_capacity(runs.len() * RUN_LEN);
    for Run {
        first,
        last,
        start: Start {
            block,
            place,
            position,
        },
    } in runs
    {
        bytes.put_u64(*first);
        bytes.put_u64(*last);
        bytes.put_u64(*block);
        bytes.put_u64(*position);
        bytes.put_u32(place.volume);
        bytes.put_u64(place.record);
        bytes.put_u64(place.byte);
    }
    let mut file = File::from(memfd_create("datapipe-runs", MemfdFlags::CLOEXEC)?);
    file.write_all(&bytes)?;
    Ok(file.into())
}

/// What [`written_down`] wrote.
fn read_again(file: &File) -> Result<Vec<Run>, StageError> {
    let len = usize::try_from(file.metadata()?.len())?;
    if len > MAX_BLOCK_RUNS * RUN_LEN {
        return Err(StageError::new(format!(
            "the module got a list of blocks of {len} bytes"
        )));
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(runs_of(&bytes)?)
}

fn runs_of(bytes: &[u8]) -> Result<Vec<Run>, DecodeError> {
    let mut bytes = Bytes::new("a module's list of blocks", bytes);
    let mut runs: Vec<Run> = Vec::new();
    while !bytes.rest().is_empty() {
        let (first, last) = (bytes.u64()?, bytes.u64()?);
        let (block, position) = (bytes.u64()?, bytes.u64()?);
        let place = Position {
            volume: bytes.u32()?,
            record: bytes.u64()?,
            byte: bytes.u64()?,
        };
        if first > last || runs.last().is_some_and(|before| first <= before.last) {
            return Err(bytes.error(format!("blocks {first} to {last} do not ascend")));
        }
        runs.push(Run {
            first,
            last,
            start: Start {
                block,
                place,
                position,
            },
        });
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn run(first: u64, last: u64) -> Run {
        let place = Position {
            volume: 3,
            record: 1 << 40,
            byte: u64::MAX,
        };
        Run {
            first,
            last,
            start: Start {
                block: first,
                place,
                position: 77,
            },
        }
    }

    #[test]
    fn runs_of_blocks_arrive_as_they_were() {
        let runs: VecDeque<_> = [run(0, 0), run(2, 9), run(u64::MAX, u64::MAX)].into();
        let file = File::from(written_down(&runs).unwrap());
        let again = read_again(&file).unwrap();
        assert_eq!(format!("{again:?}"), format!("{runs:?}"));
        file.set_len(3 * RUN_LEN as u64 - 1).unwrap();
        assert!(
            read_again(&file)
                .unwrap_err()
                .to_string()
                .contains("ends 1 bytes too early")
        );
        file.set_len(1 << 40).unwrap();
        assert!(
            read_again(&file)
                .unwrap_err()
                .to_string()
                .contains("a list of blocks of 1099511627776")
        );
    }

    #[test]
    fn runs_that_do_not_ascend_are_refused() {
        for wrong in [[run(1, 0), run(5, 5)], [run(0, 3), run(3, 4)]] {
            let file = File::from(written_down(&wrong.into()).unwrap());
            assert!(
                read_again(&file)
                    .unwrap_err()
                    .to_string()
                    .contains("do not ascend")
            );
        }
    }
}
