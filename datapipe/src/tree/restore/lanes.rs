//! Files that stand wholly in one block: several threads make them at once.
//!
//! ```text
//!   block   dir  file file file  link  large..        in order: directories, links, whatever spans blocks
//!                 |    |    |                          then:     each lane a run of the files
//!                lane 0  lane 1
//! ```

use std::mem;
use std::ops::Range;
use std::panic;
use std::thread;

use crate::error::StageError;
use crate::wire::{Entry, EntryBody, ObjectKind, ObjectMeta};

use super::follow::{Follower, Sink};

/// Fewest files for which another thread is worth its start.
const FEWEST: usize = 16;

/// What a file costs besides its bytes, in bytes that are written in the same time.
const COST: usize = 20 << 10;

impl<S: Sink + Send> Follower<S>
where
    S::Made: Send,
{
    /// Bytes of all entries of an object that has just begun, if it is a file that a lane can make:
    /// no other object has to do with it, and `entries`, which begin with it, have its end.
    pub(super) fn whole_file(
        &self,
        number: u64,
        object: &ObjectMeta<'_>,
        entries: &[u8],
    ) -> Option<usize> {
        if object.kind != ObjectKind::File || object.linked || !self.is_free(number, object.path) {
            return None;
        }
        let mut rest = Entry::parse(entries).ok()?.1;
        loop {
            let (entry, behind) = Entry::parse(rest).ok()?;
            rest = behind;
            match entry.body {
                _ if entry.object != number => return None,
                EntryBody::Attribute(..) | EntryBody::Extent(..) => {}
                EntryBody::End(_) => return Some(entries.len() - rest.len()),
                _ => return None,
            }
        }
    }

    /// Makes the files whose entries stand in these parts of a block.
    pub(super) fn make_files(
        &mut self,
        block: &[u8],
        files: &[Range<usize>],
    ) -> Result<(), StageError> {
        if files.len() < FEWEST {
            return self.make_in_order(block, files);
        }
        let mut lanes = mem::take(&mut self.lanes);
        let share = files.iter().map(cost_of).sum::<usize>() / (lanes.len() + 1);
        let mut rest = files;
        let made = thread::scope(|scope| {
            let mut others = Vec::new();
            for lane in &mut lanes {
                let (mine, behind) = rest.split_at(first_of(rest, share));
                let make = move || lane.make_in_order(block, mine);
                // If the system has no more threads, what is left is ours.
                let Ok(other) = thread::Builder::new().spawn_scoped(scope, make) else {
                    break;
                };
                rest = behind;
                others.push(other);
            }
            let own = self.make_in_order(block, rest);
            let others = others.into_iter().map(|other| {
                other
                    .join()
                    .unwrap_or_else(|panic| panic::resume_unwind(panic))
            });
            others.fold(own, Result::and)
        });
        self.lanes = lanes;
        made
    }

    fn make_in_order(&mut self, block: &[u8], files: &[Range<usize>]) -> Result<(), StageError> {
        for file in files {
            let mut rest = &block[file.clone()];
            while !rest.is_empty() {
                let (entry, behind) = Entry::parse(rest)?;
                let bytes = &rest[..rest.len() - behind.len()];
                self.entry(entry.object, entry.body, bytes)?;
                rest = behind;
            }
        }
        Ok(())
    }
}

fn cost_of(file: &Range<usize>) -> usize {
    file.len() + COST
}

/// How many of the files, from the first on, cost `share` together.
fn first_of(files: &[Range<usize>], share: usize) -> usize {
    let mut sum = 0;
    files
        .iter()
        .take_while(|file| {
            sum += cost_of(file);
            sum <= share
        })
        .count()
}
