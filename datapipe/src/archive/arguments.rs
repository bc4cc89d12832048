//! The arguments of the modules that make an archive's stages in other processes, and what their
//! reports are applied to.
//!
//! ```text
//!   Archive, ArchiveReader --describe_*--> fields, descriptors ==> modules.rs --> the same stage
//!   WriteReport, ReadReport, DamageLog <--messages------------------ its reports
//! ```
//!
//! `docs/host-protocol.md` lists the fields.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::error::StageError;
use crate::limits::MAX_BLOCK_RUNS;
use crate::media::{Form, MediumHandle, Origin, Position, Replacing, VolumeEnd};
use crate::stage::{
    ARCHIVE_HEAD_MODULE, ARCHIVE_TAIL_MODULE, Arguments, HeadStage, OpenFile, SALVAGE, TailStage,
};
use crate::wire::CopySource;
use crate::wire::codec::{Bytes, DecodeError, Put};

use super::key::ArchiveKey;
use super::place::Place;
use super::plan_data::PlanData;
use super::report::{DamageReporter, ReadReport, WriteReport};
use super::run::{ReadStart, Run};

// Names of the modules.
pub(super) const SEAL_MODULE: &str = "datapipe.seal";
pub(super) const OPEN_MODULE: &str = "datapipe.open";
pub(super) const TAIL_MODULE: &str = ARCHIVE_TAIL_MODULE;
pub(super) const HEAD_MODULE: &str = ARCHIVE_HEAD_MODULE;
pub(super) const RESTORE_MODULE: &str = "datapipe.stream-restore";

// Names of their fields.
pub(super) const KEY: &str = "key";
pub(super) const SESSION: &str = "session";
pub(super) const ARCHIVE: &str = "archive";
/// Block 0 of a new archive, as it is stored.
pub(super) const ORIGIN: &str = "origin";
/// Place of the archive on the medium.
pub(super) const PLACE: &str = "place";
/// Source of a copy: the session's id and time.
pub(super) const COPY_OF: &str = "copy-of";
pub(super) const NAME: &str = "name";
pub(super) const CONTENT: &str = "content";
pub(super) const CHUNK_LEN: &str = "chunk-len";
pub(super) const BLOCK_LEN: &str = "block-len";
pub(super) const RECORD_LEN: &str = "record-len";
pub(super) const RUNS: &str = "runs";
/// Flag: the last of the runs goes on to the end of the archive.
pub(super) const TO_END: &str = "to-end";
pub(super) const TREE: &str = "tree";
/// Flag: the archive's blocks are encrypted.
pub(super) const ENCRYPTED: &str = "encrypted";
pub(super) const MEDIUM: &str = "medium";
pub(super) const PATH: &str = "path";
pub(super) const VOLUME_SIZE: &str = "volume-size";
pub(super) const VOLUME_LABEL: &str = "volume-label";
pub(super) const POOL: &str = "pool";
pub(super) const WRITE_ONCE: &str = "write-once";
pub(super) const OVERWRITE: &str = "overwrite";
/// Arguments of the module that opens a medium of the caller's own.
pub(super) const MEDIUM_ARGUMENTS: &str = "medium-arguments";
pub(super) const IN_PLACE: &str = "in-place";
pub(super) const ALLOW_EMPTY: &str = "allow-empty";
/// Flag: the medium has old content, and is written beside it.
pub(super) const BESIDE: &str = "beside";
/// Flag: write after the content of the medium.
pub(super) const APPEND: &str = "append";
/// The end of the content of the medium, after which is written.
pub(super) const CONTINUED: &str = "continued";
/// Flag: the medium's descriptors are passed with the arguments.
pub(super) const OPENED: &str = "opened";

// Values of `MEDIUM`.
pub(super) const TAPE: &str = "tape";
pub(super) const DIRECTORY: &str = "directory";

/// Bytes of an encoded [`Run`].
const RUN_LEN: usize = 52;

/// Returns the fields of an archive's key.
pub(super) fn key_arguments(key: &ArchiveKey) -> Arguments {
    Arguments::new().with(KEY, key.key().bytes())
}

/// Adds the fields of a medium whose descriptors are passed with the arguments. Returns them with
/// the name of the module, which is `module` for a medium in files.
fn with_medium(arguments: Arguments, module: &str, medium: &MediumHandle) -> (String, Arguments) {
    match &medium.origin {
        Origin::Files {
            form,
            path,
            options,
            replacing,
            continued,
        } => {
            let form = match form {
                Form::Tape => TAPE,
                Form::Directory => DIRECTORY,
            };
            let arguments = arguments
                .with(MEDIUM, form)
                .with(PATH, path.as_os_str().as_bytes())
                .with_all(
                    VOLUME_SIZE,
                    options.volume_size.map(|size| size.to_string()),
                )
                .with_all(VOLUME_LABEL, given(&options.label))
                .with_all(POOL, given(&options.pool))
                .with_flag(WRITE_ONCE, options.write_once)
                .with_flag(BESIDE, *replacing == Some(Replacing::Beside))
                .with_flag(IN_PLACE, *replacing == Some(Replacing::InPlace))
                .with_all(CONTINUED, continued.as_ref().map(VolumeEnd::to_bytes))
                .with_flag(OPENED, true);
            (module.to_owned(), arguments)
        }
        Origin::Module {
            name,
            arguments: of_medium,
        } => (
            module_with_medium(module, name),
            arguments.with(MEDIUM_ARGUMENTS, of_medium),
        ),
    }
}

/// The text, unless it is empty.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Returns the name of the module that does what `module` does, on a medium that the module
/// `medium` opens.
pub(super) fn module_with_medium(module: &str, medium: &str) -> String {
    format!("{module}:{medium}")
}

/// Gives a stage that writes an archive its module.
pub(super) fn describe_tail<'a>(
    stage: TailStage<'a>,
    plan: &PlanData,
    medium: MediumHandle,
    report: &WriteReport,
) -> TailStage<'a> {
    let allow_empty =
        matches!(&medium.origin, Origin::Files { options, .. } if options.allow_empty);
    let arguments = Arguments::new()
        .with_flag(ALLOW_EMPTY, allow_empty)
        .with(SESSION, plan.session.to_bytes())
        .with(ARCHIVE, plan.header.to_bytes())
        .with_all(ORIGIN, plan.copy_of.is_none().then_some(&*plan.origin))
        .with(CHUNK_LEN, plan.chunk_len.to_string())
        .with_all(COPY_OF, plan.copy_of.as_ref().map(CopySource::to_bytes));
    let (module, arguments) = with_medium(arguments, TAIL_MODULE, &medium);
    stage
        .module_with_shared_descriptors(module, arguments, medium.descriptors)
        .mirrored(report)
}

/// The settings of a head that its module needs.
#[derive(Clone, Copy)]
pub(super) struct HeadSettings<'r> {
    pub(super) session: [u8; 16],
    pub(super) place: Place,
    pub(super) block_len: u32,
    pub(super) is_tree: bool,
    pub(super) is_encrypted: bool,
    /// The blocks to be read, if not all.
    pub(super) runs: Option<&'r VecDeque<Run>>,
    /// The last of them goes on to the end of the archive.
    pub(super) is_to_end: bool,
    pub(super) reporter: &'r DamageReporter,
    pub(super) report: &'r ReadReport,
}

/// Gives a stage that reads an archive its module.
pub(super) fn describe_head<'a>(
    stage: HeadStage<'a>,
    settings: &HeadSettings<'_>,
    mut medium: MediumHandle,
) -> HeadStage<'a> {
    match settings.runs.map(write_runs).transpose() {
        Ok(runs) => medium.descriptors.extend(runs.map(Arc::new)),
        Err(error) => {
            return stage.local(format!(
                "the list of its blocks cannot be passed to another process: {error}"
            ));
        }
    }
    let arguments = Arguments::new()
        .with(SESSION, settings.session)
        .with(PLACE, settings.place.to_bytes())
        .with(BLOCK_LEN, settings.block_len.to_string())
        .with_flag(TREE, settings.is_tree)
        .with_flag(ENCRYPTED, settings.is_encrypted)
        .with_flag(RUNS, settings.runs.is_some())
        .with_flag(TO_END, settings.is_to_end)
        .with_flag(SALVAGE, settings.reporter.log.is_some());
    let (module, arguments) = with_medium(arguments, HEAD_MODULE, &medium);
    let stage = stage
        .module_with_shared_descriptors(module, arguments, medium.descriptors)
        .mirrored(settings.report);
    settings
        .reporter
        .log
        .iter()
        .fold(stage, HeadStage::mirrored)
}

/// Gives a stage that writes a stream its module, if it writes to an open file.
pub(super) fn describe_restore<'a>(stage: TailStage<'a>, file: Option<&OpenFile>) -> TailStage<'a> {
    match file {
        Some(file) => {
            stage.module_with_shared_descriptors(RESTORE_MODULE, Arguments::new(), [file.shared()])
        }
        None => stage.local(
            "it writes to an object of this program, which another process cannot use: give \
             StreamRestore::file an open file",
        ),
    }
}

/// Writes runs of blocks to a file without a name: they may be longer than arguments can be.
fn write_runs(runs: &VecDeque<Run>) -> std::io::Result<OwnedFd> {
    let mut bytes = Vec::with_capacity(runs.len() * RUN_LEN);
    for Run { first, last, start } in runs {
        bytes.put_u64(*first);
        bytes.put_u64(*last);
        bytes.put_u64(start.block);
        bytes.put_u64(start.position);
        bytes.put_u32(start.record.volume);
        bytes.put_u64(start.record.record);
        bytes.put_u64(start.record.byte);
    }
    let mut file = File::from(memfd_create("datapipe-runs", MemfdFlags::CLOEXEC)?);
    file.write_all(&bytes)?;
    Ok(file.into())
}

/// Reads the file that [`write_runs`] wrote.
pub(super) fn read_runs(file: &File) -> Result<Vec<Run>, StageError> {
    let len = usize::try_from(file.metadata()?.len())?;
    if len > MAX_BLOCK_RUNS * RUN_LEN {
        return Err(StageError::new(format!(
            "the module got a list of blocks of {len} bytes, but at most {} are valid",
            MAX_BLOCK_RUNS * RUN_LEN
        )));
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(decode_runs(&bytes)?)
}

fn decode_runs(bytes: &[u8]) -> Result<Vec<Run>, DecodeError> {
    let mut bytes = Bytes::new("a module's list of blocks", bytes);
    let mut runs: Vec<Run> = Vec::new();
    while !bytes.rest().is_empty() {
        let (first, last) = (bytes.u64()?, bytes.u64()?);
        let (block, position) = (bytes.u64()?, bytes.u64()?);
        let record = Position {
            volume: bytes.u32()?,
            record: bytes.u64()?,
            byte: bytes.u64()?,
        };
        if first > last || runs.last().is_some_and(|before| first <= before.last) {
            return Err(bytes.error(format!("blocks {first} to {last} do not ascend")));
        }
        let start = ReadStart {
            block,
            record,
            position,
        };
        runs.push(Run { first, last, start });
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn run(first: u64, last: u64) -> Run {
        let record = Position {
            volume: 3,
            record: 1 << 40,
            byte: u64::MAX,
        };
        let start = ReadStart {
            block: first,
            record,
            position: 77,
        };
        Run { first, last, start }
    }

    #[test]
    fn runs_survive_encoding_and_bad_lengths_are_rejected() {
        let runs: VecDeque<_> = [run(0, 0), run(2, 9), run(u64::MAX, u64::MAX)].into();
        let file = File::from(write_runs(&runs).unwrap());
        let again = read_runs(&file).unwrap();
        assert_eq!(format!("{again:?}"), format!("{runs:?}"));
        file.set_len(3 * RUN_LEN as u64 - 1).unwrap();
        let error = read_runs(&file).unwrap_err().to_string();
        assert!(error.contains("ends 1 byte too early"), "{error}");
        file.set_len(1 << 40).unwrap();
        let error = read_runs(&file).unwrap_err().to_string();
        assert!(
            error.contains("a list of blocks of 1099511627776"),
            "{error}"
        );
    }

    #[test]
    fn runs_that_do_not_ascend_are_rejected() {
        for runs in [[run(1, 0), run(5, 5)], [run(0, 3), run(3, 4)]] {
            let file = File::from(write_runs(&runs.into()).unwrap());
            let error = read_runs(&file).unwrap_err().to_string();
            assert!(error.contains("do not ascend"), "{error}");
        }
    }
}
