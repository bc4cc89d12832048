//! Owners of restored objects: the users and groups of this machine that have the archived names.
//!
//! ```text
//!   archive: user 1000 is "ada"  -->  this machine: "ada" is 1007  -->  objects of 1000 get 1007
//!                                     no "ada"                     -->  they keep 1000
//! ```
//!
//! A name is looked up when the first object needs it. Names belong to this machine, and not to a
//! system that is restored below the destination: that one keeps its numbers with
//! [`numeric_owner`](super::RestoreOptions::numeric_owner).
//!
//! A name that was in a lost block may come again, in a later block or with the catalogue. Objects
//! that were restored before it have the number, and are reported.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::MAX_OWNERS;
use crate::tree::owner_database;
use crate::wire::{OwnerKind, OwnerName};
use crate::words::count_of;

use super::report::RestoreReport;

/// A user or a group, with its number in the archive.
type Owner = (OwnerKind, u32);

/// The owners that the archive has names of. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Owners(Arc<Mutex<OwnersInner>>);

#[derive(Debug, Default)]
struct OwnersInner {
    named: HashMap<Owner, KnownOwner>,
    /// Number of the objects that got the number of an owner of which no name had come.
    unnamed: HashMap<Owner, u64>,
}

#[derive(Debug)]
enum KnownOwner {
    /// Its name, which was not looked up yet.
    Name(Vec<u8>),
    /// Its number on this machine, and its name.
    Id(u32, Vec<u8>),
}

impl Owners {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Keeps a name. The first of each user and group is used; another one is remarked on. One that
    /// comes after objects of its owner is a problem, if they should have had another number.
    pub(super) fn add(&self, name: &OwnerName<'_>, report: &RestoreReport) {
        let OwnerName { kind, id, name } = *name;
        let mut owners = self.0.lock();
        let noun = kind.noun();
        let known = match owners.named.get(&(kind, id)) {
            Some(KnownOwner::Name(first) | KnownOwner::Id(_, first)) if first != name => {
                return report.record_note(&format!(
                    "{noun} {id} has two names in the archive, \"{}\" and \"{}\": the first \
                     is used",
                    first.escape_ascii(),
                    name.escape_ascii()
                ));
            }
            Some(_) => return,
            None if owners.named.len() >= MAX_OWNERS => {
                return report.record_note(&format!(
                    "the archive has names of more than {MAX_OWNERS} users and groups: objects of \
                     the others get their numbers"
                ));
            }
            None => match owners.unnamed.remove(&(kind, id)) {
                None => KnownOwner::Name(name.to_vec()),
                Some(objects) => {
                    let here = look_up(kind, id, name, report);
                    if here != id {
                        report.record_problem(b"", wrong_number(kind, (id, here), name, objects));
                    }
                    KnownOwner::Id(here, name.to_vec())
                }
            },
        };
        owners.named.insert((kind, id), known);
    }

    /// Returns the number that the owner with this number in the archive has here.
    pub(super) fn id_here(&self, kind: OwnerKind, id: u32, report: &RestoreReport) -> u32 {
        let mut owners = self.0.lock();
        let OwnersInner { named, unnamed } = &mut *owners;
        let Some(owner) = named.get_mut(&(kind, id)) else {
            if unnamed.len() < MAX_OWNERS || unnamed.contains_key(&(kind, id)) {
                *unnamed.entry((kind, id)).or_default() += 1;
            }
            return id;
        };
        match owner {
            KnownOwner::Id(here, _) => *here,
            KnownOwner::Name(name) => {
                let name = std::mem::take(name);
                let here = look_up(kind, id, &name, report);
                *owner = KnownOwner::Id(here, name);
                here
            }
        }
    }

    /// Returns the problem that the names of some owners may be lost, for a reading that has lost
    /// blocks, and the names at the end of the archive, too. An archive that has names has them in
    /// most blocks, so that one of which no name has come has only numbers.
    pub(super) fn unnamed(&self) -> Option<String> {
        let owners = self.0.lock();
        if owners.named.is_empty() {
            return None;
        }
        let &(kind, id) = owners.unnamed.keys().min()?;
        let others = match owners.unnamed.len() {
            1 => String::new(),
            count => format!(" and of {}", count_of(count as u64 - 1, "other owner")),
        };
        Some(format!(
            "the names of {} {id}{others} may be lost: objects have these numbers, which may \
             belong to other owners here",
            kind.noun()
        ))
    }
}

/// Describes objects that were restored before the name of their owner came.
fn wrong_number(kind: OwnerKind, (id, here): (u32, u32), name: &[u8], objects: u64) -> String {
    let noun = kind.noun();
    format!(
        "{} {noun} {id} instead of {here}, which is \"{}\" here: the name came after them, and was \
         lost before; change their owner",
        match objects {
            1 => "1 object has".to_owned(),
            _ => format!("{objects} objects have"),
        },
        name.escape_ascii()
    )
}

/// Returns the number of an owner by its name, or its number in the archive if there is none.
fn look_up(kind: OwnerKind, id: u32, name: &[u8], report: &RestoreReport) -> u32 {
    match owner_database::id_of(kind, name) {
        Ok(Some(u32::MAX) | None) => id,
        Ok(Some(here)) => here,
        Err(error) => {
            report.record_note(&format!(
                "{} \"{}\" cannot be looked up, and its objects get the number {id}: {error}",
                kind.noun(),
                name.escape_ascii()
            ));
            id
        }
    }
}
