//! One shared-memory segment per pipe and machine: made, reserved, sealed, mapped, attached.
//!
//! Two ways to make one, with one type:
//!
//! - [`Backing::Anonymous`], the default: a memfd. It has no name, so nothing is left however
//!   its users die. It reaches other processes by inheritance or over a unix socket, and is sealed
//!   against resizing, so no process can turn another's access into a fault.
//! - [`Backing::Named`]: found by name, for participants that share no socket with the creator. The
//!   name is removed when the creator drops the segment; what a creator that is killed leaves
//!   is [swept](super::sweep()).
//!
//! All pages are reserved when the segment is made, so that too little memory is an error there and
//! then, and not a SIGBUS in the middle of a job.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::SealFlags;

use super::atomic::Ordering;
use super::available::check_memory;
use super::backing::{Backing, HugePages};
use super::ids::StageId;
use super::layout::{Layout, MAGIC, VERSION};
use super::map::Map;
use super::name::PipeName;
use super::segment_error::{SegmentError, system};
use super::shape::{Direction, Shape};
use super::sweep;
use super::tables::{CANCELLED, STOPPED, Tables};

/// A mapped segment. Cheap to clone; unmapped when the last clone, port and block is gone.
// The methods that know buffers are in further `impl Segment` blocks of the layer above:
// `pool/create.rs` (`create`), `pool/audit.rs` (`audit`, `free_buffers`) and `pool/reclaim.rs`
// (`reclaim`).
#[derive(Clone)]
pub struct Segment {
    tables: Arc<Tables>,
    name: String,
    backing: Backing,
    descriptor: Option<Arc<OwnedFd>>,
}

impl Segment {
    /// Makes, reserves, seals and fills in a segment, and marks it ready once `prepare` has done
    /// its part.
    pub(crate) fn make(
        name: &PipeName,
        shape: Shape,
        stage_names: &[&str],
        backing: Backing,
        huge: HugePages,
        prepare: impl FnOnce(&Tables),
    ) -> Result<Self, SegmentError> {
        let page = rustix::param::page_size();
        let layout = Layout::of(&shape, page).ok_or(SegmentError::TooLarge)?;
        if backing == Backing::Named {
            // First, for it gives memory back. A sweep that fails must not keep a pipe from
            // starting.
            let _ = sweep();
        }
        match huge {
            HugePages::Require | HugePages::Try if backing == Backing::Named => {
                return Err(SegmentError::NamedHugePages);
            }
            HugePages::Require => {} // the huge page pool is not part of what is available
            // Reserving more than there is would put every other process out of memory first.
            HugePages::No | HugePages::Try => check_memory(layout.total as u64)?,
        }
        let map = match backing {
            Backing::Anonymous => Map::anonymous(name, layout.total, huge)?,
            #[cfg(feature = "named-segments")]
            Backing::Named => Map::named(name, layout.total)?,
            #[cfg(not(feature = "named-segments"))]
            Backing::Named => return Err(SegmentError::NamedOmitted),
        };
        let descriptor = map.descriptor.clone();
        let tables = Arc::new(map.into_tables(shape, layout));
        let segment = Self {
            tables,
            name: name.to_string(),
            backing,
            descriptor,
        };
        segment.fill_in(layout, page, stage_names);
        prepare(&segment.tables);
        // SYNC(segment-ready): everything above is there for a reader of 1.
        segment.tables.header().ready.store(1, Ordering::Release);
        Ok(segment)
    }

    /// Maps a segment that another process made, given its descriptor.
    ///
    /// # Errors
    ///
    /// Everything in the header is checked before anything else is looked at: [`SegmentError`] says
    /// what is wrong with it, [`SegmentError::Unsealed`] if its maker could still shrink it under
    /// us.
    pub fn attach(descriptor: OwnedFd) -> Result<Self, SegmentError> {
        let seals =
            rustix::fs::fcntl_get_seals(&descriptor).map_err(system("fcntl(F_GET_SEALS)"))?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(SegmentError::Unsealed);
        }
        Self::attach_map(Map::of_descriptor(descriptor)?, Backing::Anonymous)
    }

    /// Maps a named segment that another process made, given its pipe's name.
    ///
    /// # Errors
    ///
    /// As [`Segment::attach`], and if there is no such segment or it belongs to another user.
    pub fn attach_named(name: &PipeName) -> Result<Self, SegmentError> {
        Self::attach_map(Map::open_named(name)?, Backing::Named)
    }

    /// Source of its memory, and so how other processes get it: an anonymous one by its
    /// [descriptor](Segment::descriptor), a named one by its pipe's [name](Segment::attach_named).
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// The descriptor of an anonymous segment, to be handed to other processes. `None` for a named
    /// one.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_deref().map(AsFd::as_fd)
    }

    /// Name of the pipe that the segment belongs to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shape of the pipe that the segment belongs to.
    pub fn shape(&self) -> &Shape {
        &self.tables.shape
    }

    /// Name of a stage, as the creator wrote it; empty if there is no such stage.
    pub fn stage_name(&self, stage: StageId) -> String {
        if self.shape().has_stage(stage) {
            self.tables.stages[stage].name.load()
        } else {
            String::new()
        }
    }

    /// Lets the head's last instance to end send a last block. Called before any instance runs.
    pub(crate) fn want_last_block(&self) {
        let head = &self.tables.stages[StageId::HEAD];
        let instances = head.instances.load(Ordering::Relaxed);
        head.unended.store(instances.into(), Ordering::Relaxed);
    }

    /// Lets the head number its blocks from `first` on. Called before any instance runs.
    pub(crate) fn begin_at(&self, first: u64) {
        let head = &self.tables.stages[StageId::HEAD];
        head.first_block.store(first, Ordering::Relaxed);
    }

    /// Lets the head make a checkpoint after each `bytes` of data. Called before any instance runs.
    pub(crate) fn checkpoint_every(&self, bytes: u64) {
        let head = &self.tables.stages[StageId::HEAD];
        head.checkpoint.store(bytes, Ordering::Relaxed);
    }

    /// Lets the head record checksums of its blocks. Called before any instance runs.
    pub(crate) fn want_checksums(&self) {
        let head = &self.tables.stages[StageId::HEAD];
        head.checksums.store(1, Ordering::Relaxed);
    }

    /// Ends every wait of every participant, now and from now on. There is no way back.
    pub fn stop(&self) {
        self.stop_because(STOPPED);
    }

    /// Stops the segment as [`stop`](Self::stop) does, because the job was interrupted and not
    /// because it failed.
    pub(crate) fn cancel(&self) {
        self.stop_because(CANCELLED);
    }

    /// The first reason stays: what follows is a consequence.
    fn stop_because(&self, reason: u32) {
        let word = &self.tables.header().stop.word;
        let _ = word.compare_exchange(0, reason, Ordering::SeqCst, Ordering::SeqCst);
        self.tables.wake_all();
    }

    /// True if the segment was stopped.
    pub fn is_stopped(&self) -> bool {
        self.tables.header().stop.word.load(Ordering::SeqCst) != 0
    }

    pub(crate) fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    fn attach_map(map: Map, backing: Backing) -> Result<Self, SegmentError> {
        let (shape, layout, name) = map.check()?;
        let descriptor = map.descriptor.clone();
        Ok(Self {
            tables: Arc::new(map.into_tables(shape, layout)),
            name,
            backing,
            descriptor,
        })
    }

    /// Fills the header and the stage table in.
    fn fill_in(&self, layout: Layout, page: usize, stage_names: &[&str]) {
        let tables = &*self.tables;
        let shape = &tables.shape;
        let header = &tables.header();
        header.magic.store(MAGIC, Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        header.page.store(page as u32, Ordering::Relaxed);
        header.layout_hash.store(layout.hash(), Ordering::Relaxed);
        header.total.store(layout.total as u64, Ordering::Relaxed);
        header.buffers.store(shape.buffers(), Ordering::Relaxed);
        header
            .buffer_size
            .store(shape.buffer_size(), Ordering::Relaxed);
        header.headroom.store(shape.headroom(), Ordering::Relaxed);
        header.tailroom.store(shape.tailroom(), Ordering::Relaxed);
        header.stages.store(shape.stage_count(), Ordering::Relaxed);
        header.direction.store(
            u64::from(shape.direction() == Direction::Restore),
            Ordering::Relaxed,
        );
        header.name.store(&self.name);
        let mut names = stage_names.iter();
        for (entry, shape) in tables.stages.as_slice().iter().zip(shape.stages()) {
            entry.instances.store(shape.instances, Ordering::Relaxed);
            entry.share.store(shape.share, Ordering::Relaxed);
            entry
                .numbered
                .store(shape.numbered_word(), Ordering::Relaxed);
            entry.name.store(names.next().copied().unwrap_or_default());
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("name", &self.name)
            .field("shape", self.shape())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::StageShape;

    /// Bytes of the mapping of the segment `name`, from the lines of its /proc/self/smaps entry
    /// that begin with `field`.
    fn mapped(name: &PipeName, field: &str) -> u64 {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
        let ours = smaps
            .lines()
            .skip_while(|line| !line.contains(name.as_str()));
        let line = ours
            .take(30)
            .find(|line| line.starts_with(field))
            .expect("the field");
        let kib = line
            .trim_start_matches(field)
            .trim()
            .trim_end_matches(" kB");
        kib.parse::<u64>().expect("a number") * 1024
    }

    fn make(huge: HugePages) -> (PipeName, Result<Segment, SegmentError>) {
        let shape = Shape::builder(4, 4 << 20)
            .stages([StageShape::new(1).share(4), StageShape::new(1)])
            .build()
            .expect("legal");
        let name = PipeName::new();
        let segment = Segment::make(&name, shape, &[], Backing::Anonymous, huge, |_| {});
        (name, segment)
    }

    #[test]
    fn huge_pages_are_had_where_there_are_any() {
        let (name, segment) = make(HugePages::No);
        assert_eq!(mapped(&name, "ShmemPmdMapped:"), 0);
        drop(segment.expect("made"));
        let (name, segment) = make(HugePages::Try);
        let segment = segment.expect("made, with huge pages or without");
        println!("{} bytes in huge pages", mapped(&name, "ShmemPmdMapped:"));
        let again = Segment::attach(
            segment
                .descriptor()
                .expect("anonymous")
                .try_clone_to_owned()
                .expect("cloned"),
        );
        assert_eq!(again.expect("attached").shape(), segment.shape());
        // From a pool that the machine's owner set aside, or not at all.
        match make(HugePages::Require).1 {
            Ok(segment) => assert_eq!(segment.shape().buffers(), 4),
            Err(error) => assert!(matches!(
                error,
                SegmentError::Memory { .. } | SegmentError::System { .. }
            )),
        }
    }
}
