//! Parallel creation of the files that are complete within one block.
//!
//! ```text
//!   block   dir  file file file  link  large..      first, in order: directories, links and
//!                 |    |    |                        objects that span blocks
//!                worker 0  worker 1                  then: each worker a run of the files
//! ```
//!
//! Threads live only while the tail has the block, whose bytes they read in place. The files of a
//! block are divided into consecutive runs of about equal cost, one for each worker, and the last
//! for the tail's own thread.

use std::mem;
use std::ops::Range;
use std::panic;
use std::thread;

use crate::error::StageError;
use crate::limits::MAX_RESTORE_THREADS;
use crate::tree::select::Selection;
use crate::wire::{Entry, EntryBody, ObjectKind, ObjectMeta};

use super::assembler::ObjectAssembler;
use super::scope::RestoreScope;
use super::sink::Sink;

/// Least number of files for which the start of another thread pays.
const MIN_PARALLEL_FILES: usize = 16;

/// Fixed cost of creating a file, as the number of bytes that are written in the same time.
const FILE_COST: usize = 20 << 10;

impl<S: Sink> ObjectAssembler<S> {
    /// Uses `threads` threads, its own included, to create files. 0 is one for each processor, up
    /// to [`MAX_RESTORE_THREADS`].
    pub(super) fn with_threads(mut self, threads: usize) -> Self {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { processors() } else { threads }.min(MAX_RESTORE_THREADS);
        // A worker gets only files that are wanted.
        let worker = |_| {
            let scope = RestoreScope::of_all_blocks(Selection::new(&[]));
            Self::new(self.sink().for_worker(), scope, self.report().clone())
        };
        self.workers = (1..threads).map(worker).collect();
        self
    }

    /// Length of a file's entries if the file is complete within `entries` and can be written by a
    /// worker: not a hard link or the target of one, no conflict with an open object. `entries`
    /// begins with its object entry.
    pub(super) fn len_of_complete_file(
        &self,
        number: u64,
        object: &ObjectMeta<'_>,
        entries: &[u8],
    ) -> Option<usize> {
        if object.kind != ObjectKind::File
            || object.linked
            || !self.is_independent(number, object.path)
        {
            return None;
        }
        let mut rest = Entry::parse(entries).ok()?.1;
        loop {
            let (entry, following) = Entry::parse(rest).ok()?;
            rest = following;
            match entry.body {
                _ if entry.object != number => return None,
                EntryBody::Attribute(..) | EntryBody::Extent(..) => {}
                EntryBody::End(_) => return Some(entries.len() - rest.len()),
                _ => return None,
            }
        }
    }

    /// Restores the files whose entries are in these ranges of a block.
    ///
    /// Waits for all threads. Returns this thread's error, or else the first of the others'. If a
    /// thread panics, this function panics.
    pub(super) fn restore_files(
        &mut self,
        block: &[u8],
        files: &[Range<usize>],
    ) -> Result<(), StageError> {
        if files.len() < MIN_PARALLEL_FILES {
            return self.restore_in_order(block, files);
        }
        let mut workers = mem::take(&mut self.workers);
        let share = files.iter().map(cost).sum::<usize>() / (workers.len() + 1);
        let mut rest = files;
        let restored = thread::scope(|scope| {
            let mut threads = Vec::new();
            for worker in &mut workers {
                let (own, following) = rest.split_at(count_within(rest, share));
                let restore = move || worker.restore_in_order(block, own);
                // If the system has no more threads, this one restores what remains.
                let Ok(thread) = thread::Builder::new().spawn_scoped(scope, restore) else {
                    break;
                };
                rest = following;
                threads.push(thread);
            }
            let own = self.restore_in_order(block, rest);
            let others = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| panic::resume_unwind(panic))
            });
            others.fold(own, Result::and)
        });
        self.workers = workers;
        restored
    }

    fn restore_in_order(&mut self, block: &[u8], files: &[Range<usize>]) -> Result<(), StageError> {
        for file in files {
            let mut rest = &block[file.clone()];
            while !rest.is_empty() {
                let (entry, following) = Entry::parse(rest)?;
                let bytes = &rest[..rest.len() - following.len()];
                self.process_entry(entry.object, entry.body, bytes)?;
                rest = following;
            }
        }
        Ok(())
    }
}

fn cost(file: &Range<usize>) -> usize {
    file.len() + FILE_COST
}

/// Number of files at the beginning of `files` that together cost no more than `share`.
fn count_within(files: &[Range<usize>], share: usize) -> usize {
    let mut sum = 0;
    files
        .iter()
        .take_while(|file| {
            sum += cost(file);
            sum <= share
        })
        .count()
}
