//! The modules that make an archive's stages in other processes, from the arguments that
//! `arguments.rs` gives them.

use std::path::PathBuf;
use std::str::FromStr;

use crate::crypto::{SubKey, prevent_core_dumps};
use crate::error::StageError;
use crate::host::{Modules, StageArgs};
use crate::limits::{MAX_RECORD, MIN_RECORD};
use crate::media::{
    Form, MediumReader, MediumWriter, Replacing, VirtualTape, VolumeDirectory, VolumeEnd,
    VolumeOptions, reopen_to_append, reopen_to_read, reopen_to_write,
};
use crate::stage::{Fields, HeadStage, MiddleStage, SALVAGE, TailStage};
use crate::wire::{ArchiveHeader, Content, CopySource, SessionHeader, SessionsBefore};

use super::arguments::{
    ALLOW_EMPTY, APPEND, ARCHIVE, BESIDE, BLOCK_LEN, CHUNK_LEN, CONTENT, CONTINUED, COPY_OF,
    DIRECTORY, ENCRYPTED, HEAD_MODULE, IN_PLACE, KEY, MEDIUM, MEDIUM_ARGUMENTS, NAME, OPEN_MODULE,
    OPENED, ORIGIN, OVERWRITE, PATH, PLACE, POOL, RECORD_LEN, RESTORE_MODULE, RUNS, SEAL_MODULE,
    SESSION, TAIL_MODULE, TAPE, TO_END, TREE, VOLUME_LABEL, VOLUME_SIZE, WRITE_ONCE, read_runs,
};
use super::key::ArchiveKey;
use super::media_modules::{MediumArgs, ReaderMaker, WriterMaker};
use super::place::Place;
use super::plan_data::PlanData;
use super::read::{ArchiveHead, ArchiveReader, Sessions, SharedMedium, StreamRestore, UnitReader};
use super::report::{DamageReporter, WriteReport};
use super::seal;
use super::write::{Archive, ArchiveOptions, ArchiveTail};

/// Adds the stages of archives to the modules of a host.
#[must_use]
pub fn modules(modules: Modules) -> Modules {
    modules
        .with(SEAL_MODULE, from_seal)
        .with(OPEN_MODULE, from_open)
        .with(TAIL_MODULE, from_tail)
        .with(HEAD_MODULE, from_head)
        .with(RESTORE_MODULE, from_restore)
}

fn from_seal(call: &StageArgs<'_>) -> Result<MiddleStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let key = take_key(&mut fields)?;
    fields.end()?;
    Ok(seal::seal_stage(key))
}

fn from_open(call: &StageArgs<'_>) -> Result<MiddleStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let (key, salvages) = (take_key(&mut fields)?, fields.flag(SALVAGE)?);
    fields.end()?;
    Ok(seal::open_stage(key, salvages.then(|| call.damage_log())))
}

fn from_restore(call: &StageArgs<'_>) -> Result<TailStage<'static>, StageError> {
    call.fields()?.end()?;
    Ok(StreamRestore::file(call.descriptor(0)?).into())
}

fn from_tail(call: &StageArgs<'_>) -> Result<TailStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let mut plan = plan_from(&mut fields)?;
    let target = Target::from_fields(&mut fields)?;
    let options = VolumeOptions {
        volume_size: optional_number(&mut fields, VOLUME_SIZE)?,
        overwrite: fields.flag(OVERWRITE)?,
        in_place: fields.flag(IN_PLACE)?,
        allow_empty: fields.flag(ALLOW_EMPTY)?,
        label: optional_text(&mut fields, VOLUME_LABEL)?,
        pool: optional_text(&mut fields, POOL)?,
        write_once: fields.flag(WRITE_ONCE)?,
    };
    let replacing = match (fields.flag(BESIDE)?, options.in_place) {
        (true, _) => Some(Replacing::Beside),
        (false, true) => Some(Replacing::InPlace),
        (false, false) => None,
    };
    let (appends, end) = (fields.flag(APPEND)?, fields.optional(CONTINUED)?);
    fields.end()?;
    let medium = match (appends, end) {
        (_, Some(_)) if !target.is_opened => {
            return Err(StageError::new(
                "the module got the field `continued` without `opened`: only a medium that is \
                 open has such an end",
            ));
        }
        (true, _) if replacing.is_some() || options.overwrite || target.is_opened => {
            return Err(StageError::new(
                "the module got the field `append` together with `overwrite`, `in-place`, `beside` \
                 or `opened`, which exclude it",
            ));
        }
        (true, _) => {
            let (medium, before) = target.append(call, options)?;
            plan.session.before = before;
            medium
        }
        (false, Some(end)) => target.open_to_append(call, options, VolumeEnd::parse(end)?)?,
        (false, None) => target.open_to_write(call, options, replacing)?,
    };
    Ok(tail_of(call, plan, medium))
}

/// Makes the tail of an archive on a medium that `make` opens.
pub(super) fn from_tail_on(
    call: &StageArgs<'_>,
    make: &WriterMaker,
) -> Result<TailStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let plan = plan_from(&mut fields)?;
    let arguments = fields.one(MEDIUM_ARGUMENTS)?;
    fields.end()?;
    let args = MediumArgs::new(call, arguments, call.descriptors());
    Ok(tail_of(call, plan, make(&args)?))
}

fn tail_of(
    call: &StageArgs<'_>,
    plan: PlanData,
    medium: Box<dyn MediumWriter>,
) -> TailStage<'static> {
    let report = WriteReport::default();
    call.mirror(&report);
    ArchiveTail::new(plan, medium, report).into()
}

fn from_head(call: &StageArgs<'_>) -> Result<HeadStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let settings = HeadFields::from_fields(&mut fields)?;
    let target = Target::from_fields(&mut fields)?;
    fields.end()?;
    settings.head(call, target.open_to_read(call)?)
}

/// Makes the head of an archive on a medium that `make` opens.
pub(super) fn from_head_on(
    call: &StageArgs<'_>,
    make: &ReaderMaker,
) -> Result<HeadStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let settings = HeadFields::from_fields(&mut fields)?;
    let arguments = fields.one(MEDIUM_ARGUMENTS)?;
    fields.end()?;
    // The last descriptor is the list of blocks, if there is one.
    let descriptors = call
        .descriptors()
        .saturating_sub(usize::from(settings.has_runs));
    let args = MediumArgs::new(call, arguments, descriptors);
    settings.head(call, make(&args)?)
}

/// The fields of a head's module, except those of the medium.
struct HeadFields<'b> {
    is_encrypted: bool,
    session: Option<&'b [u8]>,
    place: Option<&'b [u8]>,
    block_len: Option<u32>,
    salvages: bool,
    has_runs: bool,
    is_to_end: bool,
    is_tree: bool,
}

impl<'b> HeadFields<'b> {
    fn from_fields(fields: &mut Fields<'b>) -> Result<Self, StageError> {
        Ok(Self {
            is_encrypted: fields.flag(ENCRYPTED)?,
            session: fields.optional(SESSION)?,
            place: fields.optional(PLACE)?,
            block_len: optional_number(fields, BLOCK_LEN)?,
            salvages: fields.flag(SALVAGE)?,
            has_runs: fields.flag(RUNS)?,
            is_to_end: fields.flag(TO_END)?,
            is_tree: fields.flag(TREE)?,
        })
    }

    /// Refuses fields that have no effect without another one.
    fn check(&self) -> Result<(), StageError> {
        let why = if self.session.is_none() && self.place.is_some() {
            "the module got the field `place` without `session`, of which it is a place"
        } else if self.session.is_none() && self.is_tree {
            "the module got the field `tree` without `session`: leave it out, the header of the \
             archive that is opened says what the archive is of"
        } else if self.is_to_end && !self.has_runs {
            "the module got the field `to-end` without `runs`, of which it is a property"
        } else {
            return Ok(());
        };
        Err(StageError::new(why))
    }

    fn head(
        self,
        call: &StageArgs<'_>,
        medium: Box<dyn MediumReader>,
    ) -> Result<HeadStage<'static>, StageError> {
        self.check()?;
        let Self {
            is_encrypted,
            session,
            place,
            block_len,
            salvages,
            has_runs,
            is_to_end,
            is_tree,
        } = self;

        let log = salvages.then(|| call.damage_log());
        let head = match (session, block_len) {
            (Some(session), Some(block_len)) => {
                let session = session.try_into().map_err(|_| {
                    StageError::new(format!(
                        "the module got a session of {} bytes, but its id has 16",
                        session.len()
                    ))
                })?;
                let place = place.map(Place::parse).transpose()?;
                let medium = SharedMedium::new(medium);
                let units = UnitReader::new(medium.clone(), Some(session));
                ArchiveHead::new(medium, units, block_len, DamageReporter { log })
                    .at(place.unwrap_or(Place::ONLY))
                    .of_tree(is_tree)
                    .encrypted(is_encrypted)
            }
            (None, None) if !is_encrypted => {
                let reader = ArchiveReader::open(medium, None)?;
                match log {
                    Some(log) => reader.salvage(&log).head(),
                    None => reader.head(),
                }
            }
            _ => {
                return Err(StageError::new(
                    "the module got some, but not all of session, block-len and encrypted",
                ));
            }
        };
        let head = if has_runs {
            let runs = call.descriptor(call.descriptors().saturating_sub(1))?;
            let head = head.only(read_runs(&runs.into())?);
            match is_to_end {
                true => head.until_end(),
                false => head,
            }
        } else {
            head
        };
        call.mirror(&head.report());
        Ok(head.into())
    }
}

/// Takes the key of an archive. Modules run in processes of pipes, so one that gets a key leaves no
/// core dump from then on.
fn take_key(fields: &mut Fields<'_>) -> Result<ArchiveKey, StageError> {
    let Some(bytes) = fields.optional(KEY)? else {
        return Err(StageError::new("the module got no key"));
    };
    prevent_core_dumps()?;
    SubKey::from_slice(bytes).map(ArchiveKey::new).map_err(|_| {
        StageError::new(format!(
            "the module got a key of {} bytes, but it has 32",
            bytes.len()
        ))
    })
}

fn optional_text(fields: &mut Fields<'_>, name: &str) -> Result<String, StageError> {
    let text = fields.optional(name)?.map(str::from_utf8).transpose()?;
    Ok(text.unwrap_or_default().to_owned())
}

fn optional_number<N: FromStr>(
    fields: &mut Fields<'_>,
    name: &str,
) -> Result<Option<N>, StageError> {
    let Some(text) = fields.optional(name)? else {
        return Ok(None);
    };
    match str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(StageError::new(format!(
            "invalid value \"{}\" for field `{name}`: not a number in decimal digits, or too large",
            text.escape_ascii()
        ))),
    }
}

/// Reads the plan of an archive: as the caller made it, with both headers; or a new one, made here
/// from a name and sizes, and then without a key.
fn plan_from(fields: &mut Fields<'_>) -> Result<PlanData, StageError> {
    let Some(session) = fields.optional(SESSION)? else {
        return Ok(new_plan(fields)?.data);
    };
    let copy_of = fields.optional(COPY_OF)?.map(CopySource::from_bytes);
    let copy_of = copy_of.transpose()?;
    Ok(PlanData {
        session: SessionHeader::parse(session)?,
        header: ArchiveHeader::parse(fields.one(ARCHIVE)?)?,
        // The seal has it.
        key: None,
        origin: match copy_of {
            None => fields.one(ORIGIN)?.to_vec(),
            Some(_) => Vec::new(),
        },
        chunk_len: fields.number(CHUNK_LEN)?,
        copy_of,
    })
}

fn new_plan(fields: &mut Fields<'_>) -> Result<Archive, StageError> {
    let options_of = match content(fields)? {
        Content::Stream => ArchiveOptions::stream,
        Content::Tree => ArchiveOptions::tree,
    };
    let mut options = options_of(fields.text(NAME)?);
    if let Some(len) = optional_number(fields, BLOCK_LEN)? {
        options = options.block_len(len);
    }
    // The options of an archive would limit the caller's numbers in silence.
    if let Some(len) = optional_number(fields, RECORD_LEN)? {
        options = options.record_len(Fields::check_range(
            RECORD_LEN,
            len,
            MIN_RECORD..=MAX_RECORD,
        )?);
    }
    if let Some(len) = optional_number(fields, CHUNK_LEN)? {
        options = options.chunk_len(Fields::check_range(CHUNK_LEN, len, 1..=u64::MAX)?);
    }
    Ok(options.plan()?)
}

/// Reads the content of an archive: a stream, unless the field names another.
fn content(fields: &mut Fields<'_>) -> Result<Content, StageError> {
    match fields.optional(CONTENT)? {
        None | Some(b"stream") => Ok(Content::Stream),
        Some(b"tree") => Ok(Content::Tree),
        Some(other) => Err(StageError::new(format!(
            "the module got the content \"{}\", but knows stream and tree only",
            other.escape_ascii()
        ))),
    }
}

/// The medium that a module is to use.
struct Target {
    form: Form,
    path: PathBuf,
    /// The medium is open, and its descriptors come with the arguments.
    is_opened: bool,
}

impl Target {
    fn from_fields(fields: &mut Fields<'_>) -> Result<Self, StageError> {
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

    fn open_to_write(
        &self,
        call: &StageArgs<'_>,
        options: VolumeOptions,
        replacing: Option<Replacing>,
    ) -> Result<Box<dyn MediumWriter>, StageError> {
        if self.is_opened {
            let path = self.path.clone();
            let descriptors = [
                call.descriptor(0)?,
                call.descriptor(1)?,
                call.descriptor(2)?,
            ];
            return Ok(reopen_to_write(
                self.form,
                path,
                options,
                replacing,
                descriptors,
            )?);
        }
        let path = call.allow_write(&self.path)?;
        Ok(match self.form {
            Form::Tape => Box::new(VirtualTape::create(path, options)?),
            Form::Directory => Box::new(VolumeDirectory::create(path, options)?),
        })
    }

    /// Opens the medium to write after its content, which another process has found.
    fn open_to_append(
        &self,
        call: &StageArgs<'_>,
        options: VolumeOptions,
        end: VolumeEnd,
    ) -> Result<Box<dyn MediumWriter>, StageError> {
        let descriptors = [
            call.descriptor(0)?,
            call.descriptor(1)?,
            call.descriptor(2)?,
        ];
        let path = self.path.clone();
        Ok(reopen_to_append(
            self.form,
            path,
            options,
            end,
            descriptors,
        )?)
    }

    /// Opens the medium to write after its content. Returns the sessions that it has, too.
    fn append(
        &self,
        call: &StageArgs<'_>,
        options: VolumeOptions,
    ) -> Result<(Box<dyn MediumWriter>, SessionsBefore), StageError> {
        let path = call.allow_write(&self.path)?;
        Ok(match self.form {
            Form::Tape => {
                let medium = VirtualTape::append(&path, options)?;
                let before = Sessions::before_next(VirtualTape::open(path)?)?;
                (Box::new(medium), before)
            }
            Form::Directory => {
                let medium = VolumeDirectory::append(&path, options)?;
                let before = Sessions::before_next(VolumeDirectory::open(path)?)?;
                (Box::new(medium), before)
            }
        })
    }

    fn open_to_read(&self, call: &StageArgs<'_>) -> Result<Box<dyn MediumReader>, StageError> {
        if self.is_opened {
            let path = self.path.clone();
            let descriptor = call.descriptor(0)?;
            return Ok(reopen_to_read(self.form, path, descriptor)?);
        }
        let path = call.allow_read(&self.path)?;
        Ok(match self.form {
            Form::Tape => Box::new(VirtualTape::open(path)?),
            Form::Directory => Box::new(VolumeDirectory::open(path)?),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::stage::Arguments;

    /// Error of a plan whose field `name` has the value `value`.
    fn error_of(name: &str, value: &str) -> Option<String> {
        let arguments: Vec<u8> = Arguments::new().with(NAME, "a").with(name, value).into();
        let plan = new_plan(&mut Fields::read(&arguments).unwrap());
        plan.err().map(|error| error.to_string())
    }

    #[test]
    fn lengths_outside_of_their_range_are_refused_with_the_range() {
        for (name, value, range) in [
            (CHUNK_LEN, "0", "use 1 to 18446744073709551615"),
            (RECORD_LEN, "1023", "use 1024 to 16777216"),
            (RECORD_LEN, "16777217", "use 1024 to 16777216"),
            (BLOCK_LEN, "0", "use 1 to 67108864"),
            (BLOCK_LEN, "67108865", "use 1 to 67108864"),
        ] {
            let error = error_of(name, value).unwrap();
            assert!(error.contains(range) && error.contains(value), "{error}");
        }
        for (name, value) in [(CHUNK_LEN, "1"), (RECORD_LEN, "1024"), (BLOCK_LEN, "512")] {
            assert_eq!(error_of(name, value), None);
        }
        let error = error_of(BLOCK_LEN, "1").unwrap();
        assert!(error.contains("need a block of"), "{error}");
    }
}
