//! Factories that make heads and tails of trees in other processes from arguments and descriptors,
//! and forward their reports.

use std::fs::File;
use std::path::PathBuf;

use crate::error::StageError;
use crate::host::{Modules, StageArgs};
use crate::stage::{HeadStage, TREE_HEAD_MODULE, TailStage};

use super::read::{TreeHead, TreeOptions, source_name};
use super::restore::{
    RestoreOptions, RestoreScope, TREE_RESTORE_MODULE, TREE_VERIFY_MODULE, TreeRestore, TreeVerify,
    open_directory,
};
use super::select::Selection;

/// Adds the stages for trees to the modules of a host.
#[must_use]
pub fn modules(modules: Modules) -> Modules {
    modules
        .with(TREE_HEAD_MODULE, make_head)
        .with(TREE_RESTORE_MODULE, make_restore)
        .with(TREE_VERIFY_MODULE, make_verify)
}

fn make_head(call: &StageArgs<'_>) -> Result<HeadStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let (paths, names) = (fields.paths("source"), fields.paths("name"));
    let one_file_system = fields.flag("one-file-system")?;
    let refuse_empty = fields.flag("refuse-empty")?;
    let numeric_owner = fields.flag("numeric-owner")?;
    let birth_time = fields.flag("birth-time")?;
    let exclude = fields
        .all("exclude")
        .into_iter()
        .map(|pattern| Ok(str::from_utf8(pattern)?.to_owned()));
    let exclude = exclude.collect::<Result<Vec<_>, StageError>>()?;
    let skip = fields
        .all("skip")
        .into_iter()
        .map(|text| object_id(text, "skip"))
        .collect::<Result<Vec<_>, _>>()?;
    fields.end()?;
    let names = match names.len() {
        0 => paths
            .iter()
            .map(|path| source_name(path))
            .collect::<Result<_, _>>()?,
        len if len == paths.len() => names.into_iter().map(PathBuf::into_os_string).collect(),
        len => {
            return Err(StageError::new(format!(
                "the module got {len} names for {} sources",
                paths.len()
            )));
        }
    };
    let names: Vec<_> = names;
    let paths = paths.iter().map(|path| call.allow_read_of_object(path));
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    let head = TreeHead::named(
        names.into_iter().zip(paths),
        TreeOptions::default()
            .one_file_system(one_file_system)
            .exclude(exclude)
            .skip(skip)
            .refuse_empty(refuse_empty)
            .numeric_owner(numeric_owner)
            .birth_time(birth_time)
            .only_straight(call.is_confined()),
    )?;
    call.mirror(&head.report());
    Ok(head.instances(1)) // the pipe adds the others
}

fn object_id(text: &[u8], field: &str) -> Result<(u64, u64), StageError> {
    let numbers = str::from_utf8(text)
        .ok()
        .and_then(|text| text.split_once(':'));
    let numbers =
        numbers.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    numbers.ok_or_else(|| {
        let text = text.escape_ascii();
        StageError::new(format!(
            "invalid value \"{text}\" for field `{field}`: expected device and inode, as in 2:17"
        ))
    })
}

fn make_restore(call: &StageArgs<'_>) -> Result<TailStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let path = fields.path("path")?;
    let keep = fields.all("keep").into_iter();
    let options = RestoreOptions {
        overwrite: fields.flag("overwrite")?,
        sync: !fields.flag("no-sync")?,
        threads: fields.number_or("threads", 0)?,
        plain: fields.flag("plain")? || call.restores_plainly(),
        numeric_owner: fields.flag("numeric-owner")?,
        keep: keep
            .map(|text| object_id(text, "keep"))
            .collect::<Result<_, _>>()?,
    };
    let paths: Vec<_> = fields.all("only").into_iter().map(<[u8]>::to_vec).collect();
    let (selection, is_part) = (Selection::new(&paths), fields.flag("part")?);
    fields.end()?;
    let dest = match &path {
        Some(path) => open_directory(&call.allow_write(path)?).map_err(|error| {
            StageError::with_source(format!("cannot restore to {}", path.display()), error)
        })?,
        None => call.descriptor(0)?,
    };
    let part = match is_part {
        true => RestoreScope::from_file(
            selection,
            &File::from(call.descriptor(usize::from(path.is_none()))?),
        )?,
        false => RestoreScope::of_all_blocks(selection),
    };
    let restore = TreeRestore::to_directory(dest, &options, part)?;
    call.mirror(&restore.report());
    Ok(restore.into())
}

fn make_verify(call: &StageArgs<'_>) -> Result<TailStage<'static>, StageError> {
    call.fields()?.end()?;
    let verify = TreeVerify::new();
    call.mirror(&verify.report());
    Ok(verify.into())
}
