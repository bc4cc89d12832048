//! Names of the users and groups that own what is read: each is looked up once, for all instances.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::limits::MAX_OWNERS;
use crate::tree::owner_database;
use crate::wire::{DecodeError, Entry, EntryBody, OwnerKind, OwnerName, check_owner_name};

use super::note::TreeNote;
use super::report::TreeReport;

/// A user or a group, with its number.
pub(super) type Owner = (OwnerKind, u32);

/// The names that were looked up; `None` for an owner without one, or whose name an archive cannot
/// have.
#[derive(Debug, Default)]
pub(super) struct OwnerNames {
    found: Mutex<FoundNames>,
    /// No names are looked up: the archive has numbers only.
    is_numeric: bool,
}

#[derive(Debug, Default)]
struct FoundNames {
    names: BTreeMap<Owner, Option<Vec<u8>>>,
    /// The report has a remark on a name: it gets one, and not one for each of thousands.
    has_remarked: bool,
    /// It has one on the names for which there is no room.
    is_full: bool,
}

impl OwnerNames {
    pub(super) fn new(is_numeric: bool) -> Self {
        Self {
            found: Mutex::default(),
            is_numeric,
        }
    }

    /// Appends the entry with the name of an owner to `bytes`, if it has a name. The first that
    /// cannot be looked up, or stored, is a remark in the report.
    pub(super) fn append_one(
        &self,
        owner: Owner,
        bytes: &mut Vec<u8>,
        report: &TreeReport,
    ) -> Result<(), DecodeError> {
        let mut found = self.found.lock();
        let FoundNames {
            names,
            has_remarked,
            is_full,
        } = &mut *found;
        if self.is_numeric {
            return Ok(());
        }
        if names.len() >= MAX_OWNERS && !names.contains_key(&owner) {
            if !std::mem::replace(is_full, true) {
                report.note(TreeNote::OwnerName(format!(
                    "the objects have more than {MAX_OWNERS} users and groups: the archive has \
                     only the numbers of the others"
                )));
            }
            return Ok(());
        }
        // Others that need a name wait for the database, too.
        let name = names.entry(owner).or_insert_with(|| {
            let found = look_up(owner);
            if let Err(why) = &found
                && !std::mem::replace(has_remarked, true)
            {
                report.note(TreeNote::OwnerName(why.clone()));
            }
            found.unwrap_or_default()
        });
        match name {
            Some(name) => append(owner, name, bytes),
            None => Ok(()),
        }
    }

    /// Appends the entries of all names that were looked up to `bytes`.
    pub(super) fn append_to(&self, bytes: &mut Vec<u8>) -> Result<(), DecodeError> {
        for (owner, name) in &self.found.lock().names {
            if let Some(name) = name {
                append(*owner, name, bytes)?;
            }
        }
        Ok(())
    }
}

/// Returns the name of an owner, or the reason for which the archive does not get it.
fn look_up((kind, id): Owner) -> Result<Option<Vec<u8>>, String> {
    let found = owner_database::name_of(kind, id).map_err(|error| {
        format!(
            "the name of {} {id} cannot be looked up, and the archive has its number only: {error}",
            kind.noun()
        )
    })?;
    let Some(name) = found else {
        return Ok(None);
    };
    // The database's names that are not UTF-8 come with this character.
    if name.windows(3).any(|part| part == "\u{fffd}".as_bytes()) {
        return Err(format!(
            "the name of {} {id} is not UTF-8: the archive has its number only",
            kind.noun()
        ));
    }
    match check_owner_name(kind, id, &name) {
        Ok(()) => Ok(Some(name)),
        Err(error) => Err(format!("{}: the archive has its number only", error.why)),
    }
}

fn append((kind, id): Owner, name: &[u8], bytes: &mut Vec<u8>) -> Result<(), DecodeError> {
    let body = EntryBody::OwnerName(OwnerName { kind, id, name });
    Entry { object: 0, body }.append_to(bytes)
}
