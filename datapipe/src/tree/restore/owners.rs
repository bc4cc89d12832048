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

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::MAX_OWNERS;
use crate::tree::owner_database;
use crate::wire::{OwnerKind, OwnerName};

use super::report::RestoreReport;

/// The owners that the archive has names of. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Owners(Arc<Mutex<HashMap<(OwnerKind, u32), KnownOwner>>>);

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

    /// Keeps a name. The first of each user and group is used; another one is remarked on.
    pub(super) fn add(&self, name: &OwnerName<'_>, report: &RestoreReport) {
        let OwnerName { kind, id, name } = *name;
        let mut owners = self.0.lock();
        let noun = kind.noun();
        match owners.get(&(kind, id)) {
            Some(KnownOwner::Name(first) | KnownOwner::Id(_, first)) if first != name => report
                .record_note(&format!(
                    "{noun} {id} has two names in the archive, \"{}\" and \"{}\": the first \
                     is used",
                    first.escape_ascii(),
                    name.escape_ascii()
                )),
            Some(_) => {}
            None if owners.len() >= MAX_OWNERS => report.record_note(&format!(
                "the archive has names of more than {MAX_OWNERS} users and groups: objects of the \
                 others get their numbers"
            )),
            None => {
                owners.insert((kind, id), KnownOwner::Name(name.to_vec()));
            }
        }
    }

    /// Returns the number that the owner with this number in the archive has here.
    pub(super) fn id_here(&self, kind: OwnerKind, id: u32, report: &RestoreReport) -> u32 {
        let mut owners = self.0.lock();
        let Some(owner) = owners.get_mut(&(kind, id)) else {
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
