//! Parallel creation of the files that are complete within one block.
//!
//! ```text
//!   block n    dir  file file file  link  large..   first, in order: directories, links and
//!                    |    |    |                     objects that span blocks
//!                   worker 0  worker 1               then: each worker a run of the files
//!   block n+1  dir  file ..                          meanwhile: what is in order of the next block
//! ```
//!
//! Threads live only while the tail has the block, whose data they read in place, and the copy of
//! its entries. The files of a block are divided into consecutive runs of about equal cost, one for
//! each worker. The last worker is the tail's own thread, after it has begun the next block, if
//! that has come. Files of one directory are mostly in one run, because threads that create files
//! in the same directory wait for each other.

use std::mem;
use std::ops::Range;
use std::panic;
use std::thread;

use parking_lot::Mutex;

use crate::error::StageError;
use crate::limits::MAX_RESTORE_THREADS;
use crate::pool::Block;
use crate::stage::Following;
use crate::tree::inode_flags;
use crate::tree::select::Selection;
use crate::wire::{BlockEntries, EntryBody, ObjectEnd, ObjectKind, ObjectMeta};

use super::assembler::ObjectAssembler;
use super::scope::RestoreScope;
use super::sink::Sink;

/// Least number of files for which the start of another thread pays.
const MIN_PARALLEL_FILES: usize = 16;

/// A block whose files are still to be restored, and the entries of each of them.
pub(super) type BegunBlock = (Block, Vec<Range<usize>>);

/// Fixed cost of creating a file, as the number of bytes that are written in the same time.
const FILE_COST: usize = 20 << 10;

impl<S: Sink> ObjectAssembler<S> {
    /// Uses `threads` threads, its own included, to create files. 0 is one for each processor, up
    /// to [`MAX_RESTORE_THREADS`]. One thread has no workers.
    pub(super) fn with_threads(mut self, threads: usize) -> Self {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { processors() } else { threads }.min(MAX_RESTORE_THREADS);
        // A worker gets only files that are wanted.
        let worker = |_| {
            let scope = RestoreScope::of_all_blocks(Selection::new(&[]));
            Self::new(self.sink().for_worker(), scope, self.report().clone())
        };
        self.workers = (0..threads).filter(|_| threads > 1).map(worker).collect();
        self
    }

    /// Entries of a file, and its end, if the file is complete within `entries` and can be written
    /// by a worker: not a hard link or the target of one, no conflict with an open object. `first`
    /// is its object entry.
    pub(super) fn complete_file(
        &self,
        number: u64,
        object: &ObjectMeta<'_>,
        entries: &BlockEntries<'_>,
        first: usize,
    ) -> Option<(Range<usize>, ObjectEnd)> {
        if object.kind != ObjectKind::File
            || object.linked
            || !self.is_independent(number, object.path)
        {
            return None;
        }
        let mut next = first + 1;
        loop {
            let entry = entries.get(next)?.ok()?.entry;
            next += 1;
            match entry.body {
                _ if entry.object != number => return None,
                EntryBody::Attribute(..) | EntryBody::Extent(..) => {}
                // Flags are set when all files have their names, by the assembler's own sink.
                EntryBody::Inode(inode) if inode_flags::settable(inode.flags) == 0 => {}
                EntryBody::End(end) => return Some((first..next, end)),
                _ => return None,
            }
        }
    }

    /// Restores the files of a block, whose entries are in these ranges, and begins the next block
    /// if that comes meanwhile. Returns that block, with its files.
    ///
    /// Waits for all threads. Returns this thread's error, or else the first of the others'. If a
    /// thread panics, this function panics.
    pub(super) fn restore_files(
        &mut self,
        block: &Block,
        files: &[Range<usize>],
        following: &Following<'_>,
    ) -> Result<Option<BegunBlock>, StageError> {
        let mut copy = mem::take(&mut self.entries);
        let entries = copy.of(block.shared());
        if self.workers.is_empty() || files.len() < MIN_PARALLEL_FILES {
            let restored = self.restore_in_order(&entries, files);
            self.entries = copy;
            return restored.map(|()| None);
        }
        self.entries = mem::take(&mut self.next_entries);
        copy.continue_in(&mut self.entries);
        let entries = copy.of(block.shared());
        let mut workers = mem::take(&mut self.workers);
        let cost = |file: &Range<usize>| entries.len_of(file.clone()) + FILE_COST;
        let runs = Runs::divide(files, workers.len(), cost);
        let (restored, next) = thread::scope(|scope| {
            let mut threads = Vec::new();
            let mut workers = workers.iter_mut().enumerate();
            let own = workers.next_back();
            for (run, worker) in workers {
                let (entries, runs) = (&entries, &runs);
                let restore = move || worker.restore_run(entries, files, runs, run);
                // If the system has no more threads, this one restores what remains.
                let Ok(thread) = thread::Builder::new().spawn_scoped(scope, restore) else {
                    break;
                };
                threads.push(thread);
            }
            let next = self.begin_following(following);
            let own = own.map(|(run, worker)| worker.restore_run(&entries, files, &runs, run));
            let others = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| panic::resume_unwind(panic))
            });
            (others.fold(own.unwrap_or(Ok(())), Result::and), next)
        });
        (self.workers, self.next_entries) = (workers, copy);
        restored.and(next)
    }

    /// Begins the next block, if it has come.
    fn begin_following(
        &mut self,
        following: &Following<'_>,
    ) -> Result<Option<BegunBlock>, StageError> {
        if self.sink().needs_idle_workers() {
            return Ok(None);
        }
        let next = following.next()?;
        next.map(|block| self.begin_block(&block).map(|files| (block, files)))
            .transpose()
    }

    /// Restores the files of a run, then those that other threads have not begun.
    fn restore_run(
        &mut self,
        entries: &BlockEntries<'_>,
        files: &[Range<usize>],
        runs: &Runs,
        run: usize,
    ) -> Result<(), StageError> {
        while let Some(file) = runs.next(run) {
            self.restore_in_order(entries, &files[file..=file])?;
        }
        Ok(())
    }

    fn restore_in_order(
        &mut self,
        entries: &BlockEntries<'_>,
        files: &[Range<usize>],
    ) -> Result<(), StageError> {
        for index in files.iter().cloned().flatten() {
            let Some(fetched) = entries.get(index) else {
                break; // it was there when the file was found to be complete
            };
            let fetched = fetched.map_err(|damaged| damaged.error)?;
            let entry = fetched.entry;
            self.process_entry(entry.object, &entry.body, fetched.bytes)?;
        }
        Ok(())
    }
}

/// Consecutive runs of files, one for each thread. A thread that has finished its own takes files
/// from others: the processors have other work, too, and the block is held until the last file of
/// it is done.
#[derive(Debug)]
struct Runs(Vec<Mutex<Range<usize>>>);

impl Runs {
    /// Divides `files` into `count` runs of about equal cost.
    fn divide(files: &[Range<usize>], count: usize, cost: impl Fn(&Range<usize>) -> usize) -> Self {
        let share = files.iter().map(&cost).sum::<usize>() / count;
        let mut start = 0;
        let runs = (1..=count).map(|run| {
            let end = match run == count {
                true => files.len(),
                false => start + count_within(&files[start..], share, &cost),
            };
            Mutex::new(mem::replace(&mut start, end)..end)
        });
        Self(runs.collect())
    }

    /// Takes the next file of a run, or that of another if the run has ended. So files, and their
    /// problems, come about in the order of the archive.
    fn next(&self, run: usize) -> Option<usize> {
        let own = self.0[run].lock().next();
        let (before, after) = self.0.split_at(run);
        own.or_else(|| {
            let others = after.iter().skip(1).chain(before);
            others.into_iter().find_map(|other| other.lock().next())
        })
    }
}

/// Number of files at the beginning of `files` that together cost no more than `share`.
fn count_within(
    files: &[Range<usize>],
    share: usize,
    cost: impl Fn(&Range<usize>) -> usize,
) -> usize {
    let mut sum = 0;
    files
        .iter()
        .take_while(|file| {
            sum += cost(file);
            sum <= share
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_taken_once_by_any_thread() {
        let files: Vec<_> = (0..100).map(|n| n..n + 1).collect();
        for count in [1, 2, 3, 7, 100, 130] {
            let runs = Runs::divide(&files, count, |file| file.start % 9);
            // One thread does nothing, and one does little.
            let mut taken: Vec<_> = (0..3).filter_map(|_| runs.next(0)).collect();
            let busy = count - 1;
            taken.extend(std::iter::from_fn(|| runs.next(busy)));
            assert_eq!(runs.next(0), None);
            taken.sort_unstable();
            assert_eq!(taken, (0..100).collect::<Vec<_>>(), "{count} threads");
        }
    }
}
