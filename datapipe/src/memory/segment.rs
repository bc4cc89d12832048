//! One shared-memory segment per pipe and machine: made, reserved, sealed, mapped, attached.
//!
//! Two ways to make one, behind one type:
//!
//! - [`Backing::Anonymous`], the default: a memfd. It has no name, so nothing is left behind
//!   however its users die. It reaches other processes by inheritance or over a unix socket, and is
//!   sealed against resizing, so nobody can turn another's access into a fault.
//! - [`Backing::Named`]: found by name, for participants that share no socket with the creator. The
//!   name is removed when the creator drops the segment; what a creator that is killed leaves
//!   behind is [swept](super::sweep()).
//!
//! All pages are reserved when the segment is made, so that too little memory is an error there and
//! then, and not a SIGBUS in the middle of a job.

use std::ffi::c_int;
use std::fmt;
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, SealFlags};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rustix::shm;
use shared_memory::{Shmem, ShmemConf};

use super::atomic::Ordering;
use super::layout::{Layout, MAGIC, VERSION};
use super::name::PipeName;
use super::segment_error::{SegmentError, system};
use super::shape::{Direction, Shape, ShapeError, StageShape};
use super::sweep;
use super::tables::{Array, Header, StageEntry, Tables};
use crate::limits::MAX_STAGES;

/// A mapped segment. Cheap to clone; unmapped when the last clone, port and lease is gone.
#[derive(Clone)]
pub struct Segment {
    tables: Arc<Tables>,
    name: String,
    backing: Backing,
    descriptor: Option<Arc<OwnedFd>>,
}

/// Where a segment's memory comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// A memfd without a name, with the machine's ordinary pages.
    #[default]
    Anonymous,
    /// POSIX shared memory named after the pipe: `datapipe-NAME`, which only this user may open.
    /// Making one removes those that killed programs of this user have left behind, as
    /// [`sweep`](super::sweep()) does.
    Named,
}

/// Whether a segment's pages should be huge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HugePages {
    /// Ordinary pages.
    #[default]
    No,
    /// Ask for huge pages once the memory is reserved, and go on without if there are none to be
    /// had. Costs about as much as copying the pool once, so it is for pipes that run for long.
    /// Only [`Backing::Anonymous`].
    Try,
    /// Pages from the machine's huge page pool (`vm.nr_hugepages`), or an error. Only
    /// [`Backing::Anonymous`].
    Require,
}

/// Size of the pages that [`HugePages::Require`] asks for.
const HUGE_PAGE: usize = 2 << 20;

impl Segment {
    /// Makes, reserves, seals and fills in a segment, and says that it is ready once `prepare` has
    /// done its part.
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
            // First, for it gives memory back. That it cannot be done is no reason to do without a
            // pipe.
            let _ = sweep();
        }
        match huge {
            HugePages::Require | HugePages::Try if backing == Backing::Named => {
                return Err(SegmentError::NamedHugePages);
            }
            HugePages::Require => {} // the huge page pool is not part of what is available
            HugePages::No | HugePages::Try => check_memory(layout.total as u64)?,
        }
        let map = match backing {
            Backing::Anonymous => Map::anonymous(name, layout.total, huge)?,
            Backing::Named => Map::named(name, layout.total)?,
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
        // SYNC(segment-ready): everything above is there for whoever reads 1.
        segment.tables.header[0].ready.store(1, Ordering::Release);
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
    /// As [`Segment::attach`], and if there is no such segment or it belongs to somebody else.
    pub fn attach_named(name: &PipeName) -> Result<Self, SegmentError> {
        Self::attach_map(Map::open_named(name)?, Backing::Named)
    }

    /// Where its memory comes from, and so how other processes get it: an anonymous one by its
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
    pub fn stage_name(&self, stage: u32) -> String {
        if stage < self.shape().stage_count() {
            self.tables.stages[stage].name.load()
        } else {
            String::new()
        }
    }

    /// Ends every wait of every participant, now and from now on. There is no way back.
    pub fn stop(&self) {
        self.tables.header[0].stop.word.store(1, Ordering::SeqCst);
        self.tables.wake_all();
    }

    /// Whether anybody has.
    pub fn is_stopped(&self) -> bool {
        self.tables.header[0].stop.word.load(Ordering::SeqCst) != 0
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
        let header = &tables.header[0];
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
        for (stage, shape) in (0..).zip(shape.stages()) {
            let entry = &tables.stages[stage];
            entry.instances.store(shape.instances, Ordering::Relaxed);
            entry.share.store(shape.share, Ordering::Relaxed);
            entry
                .numbered
                .store(shape.numbered.into(), Ordering::Relaxed);
            entry
                .name
                .store(stage_names.get(stage as usize).copied().unwrap_or_default());
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

/// Memory that is mapped, and what unmaps it.
struct Map {
    base: NonNull<u8>,
    len: usize,
    descriptor: Option<Arc<OwnedFd>>,
    owner: Box<dyn Send + Sync>,
}

/// A mapping that starts on a multiple of [`HUGE_PAGE`], which memmap2 cannot be asked for. Without
/// that the kernel cannot put huge pages under it.
struct AlignedMap {
    base: NonNull<u8>,
    len: usize,
}

impl AlignedMap {
    fn new(descriptor: &OwnedFd, len: usize) -> rustix::io::Result<Self> {
        let reserved = len.checked_add(HUGE_PAGE).ok_or(rustix::io::Errno::NOMEM)?;
        // SAFETY: an anonymous mapping at an address that the kernel chooses: it replaces nothing.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                reserved,
                ProtFlags::empty(),
                MapFlags::PRIVATE,
            )?
        };
        let skip = start.align_offset(HUGE_PAGE);
        // SAFETY: `skip` is below HUGE_PAGE, so the address lies inside the reservation.
        let base = unsafe { start.add(skip) };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: `skip + len` is within the reservation, which is ours and which nothing refers
        // to.
        let mapped = unsafe {
            mmap(
                base,
                len,
                protection,
                MapFlags::SHARED | MapFlags::FIXED,
                descriptor,
                0,
            )
        };
        // SAFETY: the end of the mapping lies inside the reservation.
        let behind = unsafe { base.add(len) };
        for (slack, slack_len) in [(start, skip), (behind, reserved - skip - len)] {
            if slack_len > 0 {
                // SAFETY: what is left of the reservation before and behind the mapping:
                // page-aligned, for its ends and the length are, and nothing refers to it. A
                // failure leaves unused addresses behind.
                let _ = unsafe { munmap(slack, slack_len) };
            }
        }
        if let Err(errno) = mapped {
            // SAFETY: the middle of the reservation, which nothing refers to.
            let _ = unsafe { munmap(base, len) };
            return Err(errno);
        }
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?,
            len,
        })
    }
}

impl Drop for AlignedMap {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made. Whoever uses it holds the owner, which is
        // what is dropped.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

// SAFETY: a mapping belongs to the process and not to a thread, and nothing is called on it but its
// drop.
unsafe impl Send for AlignedMap {}
// SAFETY: as above: no method takes a shared reference.
unsafe impl Sync for AlignedMap {}

/// The shared_memory crate's mapping, which holds raw pointers and so is not `Send` by itself.
#[allow(dead_code, reason = "held for their drops")]
struct NamedMap {
    /// Unmaps the object, and removes its name.
    shmem: Shmem,
    /// By this everybody can tell that the creator lives. Behind the mapping, for it is dropped
    /// after it: as long as there is a name, there is a lock.
    lock: OwnedFd,
}

// SAFETY: a mapping belongs to the process and not to a thread; nothing is called on it but its
// drop.
#[allow(
    clippy::non_send_fields_in_send_ty,
    reason = "that is what the proof above is about"
)]
unsafe impl Send for NamedMap {}
// SAFETY: as above: no method is called through a shared reference.
unsafe impl Sync for NamedMap {}

impl Map {
    fn anonymous(name: &PipeName, len: usize, huge: HugePages) -> Result<Self, SegmentError> {
        let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file_len = len;
        if huge == HugePages::Require {
            flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
            file_len = len.next_multiple_of(HUGE_PAGE);
        }
        let descriptor = rustix::fs::memfd_create(format!("datapipe:{name}"), flags)
            .map_err(system("memfd_create"))?;
        rustix::fs::ftruncate(&descriptor, file_len as u64).map_err(system("ftruncate"))?;
        rustix::fs::fallocate(&descriptor, FallocateFlags::empty(), 0, file_len as u64).map_err(
            |e| SegmentError::Memory {
                bytes: file_len as u64,
                source: e.into(),
            },
        )?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&descriptor, seals).map_err(system("fcntl(F_ADD_SEALS)"))?;
        if huge == HugePages::Try {
            Self::aligned(descriptor, file_len)
        } else {
            Self::of_descriptor(descriptor)
        }
    }

    /// Maps so that huge pages fit, and asks for them: a wish, so that there are none changes
    /// nothing.
    fn aligned(descriptor: OwnedFd, len: usize) -> Result<Self, SegmentError> {
        const MADV_COLLAPSE: c_int = 25; // linux/mman.h, since 6.1; not in the libc crate for every target
        let map = AlignedMap::new(&descriptor, len).map_err(system("mmap"))?;
        let map = Self {
            base: map.base,
            len,
            descriptor: Some(Arc::new(descriptor)),
            owner: Box::new(map),
        };
        for advice in [
            libc::MADV_DONTFORK,
            libc::MADV_DONTDUMP,
            libc::MADV_HUGEPAGE,
            MADV_COLLAPSE,
        ] {
            let _ = map.advise(advice);
        }
        Ok(map)
    }

    fn of_descriptor(descriptor: OwnedFd) -> Result<Self, SegmentError> {
        let file = File::from(descriptor);
        let len = file
            .metadata()
            .map_err(|source| SegmentError::System {
                call: "fstat",
                source,
            })?
            .len();
        let len = usize::try_from(len).map_err(|_| SegmentError::TooLarge)?;
        if len < size_of::<Header>() {
            return Err(SegmentError::Truncated {
                have: len as u64,
                need: size_of::<Header>() as u64,
            });
        }
        let map: MmapRaw = MmapOptions::new()
            .len(len)
            .map_raw(&file)
            .map_err(|source| SegmentError::System {
                call: "mmap",
                source,
            })?;
        // A child gets the segment by its descriptor or not at all; a core dump need not hold
        // anybody's data. Both are precautions: on a kernel that knows neither, everything else
        // still works.
        let _ = map.advise(Advice::DontFork);
        let _ = map.advise(Advice::DontDump);
        let base = NonNull::new(map.as_mut_ptr()).ok_or(SegmentError::NotASegment)?;
        Ok(Self {
            base,
            len,
            descriptor: Some(Arc::new(OwnedFd::from(file))),
            owner: Box::new(map),
        })
    }

    fn named(name: &PipeName, len: usize) -> Result<Self, SegmentError> {
        let lock = sweep::create(name, len)?;
        let id = sweep::object_name(name);
        let mut shmem = ShmemConf::new().os_id(&id).open().map_err(|error| {
            let _ = shm::unlink(&id);
            SegmentError::Named {
                call: "open",
                reason: error.to_string(),
            }
        })?;
        shmem.set_owner(true);
        let base = NonNull::new(shmem.as_ptr()).ok_or(SegmentError::NotASegment)?;
        let map = Self {
            base,
            len: shmem.len(),
            descriptor: None,
            owner: Box::new(NamedMap { shmem, lock }),
        };
        let _ = map.advise(libc::MADV_DONTFORK);
        let _ = map.advise(libc::MADV_DONTDUMP);
        Ok(map)
    }

    fn open_named(name: &PipeName) -> Result<Self, SegmentError> {
        // Anybody may make a file of this name. Only our own user's is opened, which nobody else
        // can change or shrink.
        let descriptor = shm::open(sweep::object_name(name), shm::OFlags::RDWR, Mode::empty())
            .map_err(system("shm_open"))?;
        let stat = rustix::fs::fstat(&descriptor).map_err(system("fstat"))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(SegmentError::Foreign {
                owner: stat.st_uid,
                mode: stat.st_mode & 0o777,
            });
        }
        Ok(Self {
            descriptor: None,
            ..Self::of_descriptor(descriptor)?
        })
    }

    fn advise(&self, advice: c_int) -> io::Result<()> {
        // SAFETY: the range is exactly one mapping of ours, which the owner keeps mapped; none of
        // the advices used here drops or replaces a page's content.
        let result = unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, advice) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Copies the header and the stage table out, and checks them.
    fn check(&self) -> Result<(Shape, Layout, String), SegmentError> {
        // SAFETY: the mapping is page-aligned, at least a header long, and every bit pattern is a
        // valid header.
        let header = unsafe { self.base.cast::<Header>().as_ref() };
        if header.magic.load(Ordering::Relaxed) != MAGIC {
            return Err(SegmentError::NotASegment);
        }
        // SYNC(segment-ready): what the creator wrote before it is there.
        if header.ready.load(Ordering::Acquire) != 1 {
            return Err(SegmentError::NotReady);
        }
        let theirs = header.version.load(Ordering::Relaxed);
        if theirs != VERSION {
            return Err(SegmentError::Version {
                theirs,
                ours: VERSION,
            });
        }
        let page = header.page.load(Ordering::Relaxed) as usize;
        if page != rustix::param::page_size() {
            return Err(SegmentError::Layout);
        }
        let stage_count = header.stages.load(Ordering::Relaxed);
        // Checked by hand because the table must be read before the shape can check itself.
        if stage_count > MAX_STAGES {
            let (value, max) = (stage_count.into(), MAX_STAGES.into());
            return Err(SegmentError::Shape(ShapeError {
                what: "number of stages",
                value,
                min: 2,
                max,
            }));
        }
        let table_end = size_of::<Header>().next_multiple_of(align_of::<StageEntry>())
            + stage_count as usize * size_of::<StageEntry>();
        if self.len < table_end {
            return Err(SegmentError::Truncated {
                have: self.len as u64,
                need: table_end as u64,
            });
        }
        let first = size_of::<Header>().next_multiple_of(align_of::<StageEntry>());
        // SAFETY: the table lies inside the mapping, as just checked.
        let first = unsafe { self.base.add(first) }.cast::<StageEntry>();
        // SAFETY: `stage_count` aligned entries lie inside the mapping, and every bit pattern is a
        // valid entry.
        let table = unsafe { std::slice::from_raw_parts(first.as_ptr(), stage_count as usize) };
        let stages: Vec<StageShape> = table
            .iter()
            .map(|entry| StageShape {
                instances: entry.instances.load(Ordering::Relaxed),
                share: entry.share.load(Ordering::Relaxed),
                numbered: entry.numbered.load(Ordering::Relaxed) == 1,
            })
            .collect();
        let shape = Shape::new(
            header.buffers.load(Ordering::Relaxed),
            header.buffer_size.load(Ordering::Relaxed),
            header.headroom.load(Ordering::Relaxed),
            header.tailroom.load(Ordering::Relaxed),
            &stages,
        )
        .map_err(SegmentError::Shape)?;
        let shape = match header.direction.load(Ordering::Relaxed) {
            0 => shape.flowing(Direction::Archive),
            1 => shape.flowing(Direction::Restore),
            value => {
                let what = "direction of flow";
                return Err(SegmentError::Shape(ShapeError {
                    what,
                    value,
                    min: 0,
                    max: 1,
                }));
            }
        };
        let layout = Layout::of(&shape, page).ok_or(SegmentError::TooLarge)?;
        let same = header.layout_hash.load(Ordering::Relaxed) == layout.hash();
        if !same || header.total.load(Ordering::Relaxed) != layout.total as u64 {
            return Err(SegmentError::Layout);
        }
        if self.len < layout.total {
            return Err(SegmentError::Truncated {
                have: self.len as u64,
                need: layout.total as u64,
            });
        }
        Ok((shape, layout, header.name.load()))
    }

    /// The typed tables of a mapping that is at least `layout.total` bytes long.
    fn into_tables(self, shape: Shape, layout: Layout) -> Tables {
        assert!(layout.total <= self.len, "the mapping holds the layout");
        let (stages, participants) = (shape.stage_count() as usize, shape.participants() as usize);
        let rings = shape.ring_count() as usize;
        Tables {
            header: self.array(offset_of!(Header, magic), 1),
            stages: self.array(layout.stages, stages),
            queues: self.array(layout.queues, rings),
            slots: self.array(layout.slots, rings * shape.ring_slots() as usize),
            participants: self.array(layout.participants, participants),
            buffers: self.array(layout.buffers, shape.buffers() as usize),
            // SAFETY: the payload starts inside the mapping: its offset is below `layout.total`.
            payload: unsafe { self.base.add(layout.payload) },
            stride: layout.stride,
            shape,
            owner: self.owner,
        }
    }

    fn array<T>(&self, offset: usize, len: usize) -> Array<T> {
        let end = len
            .checked_mul(size_of::<T>())
            .and_then(|bytes| bytes.checked_add(offset));
        assert!(
            end.is_some_and(|end| end <= self.len),
            "the table lies inside the mapping"
        );
        // SAFETY: the offset lies inside the mapping, as just asserted.
        let first = unsafe { self.base.add(offset) };
        assert!(
            first.cast::<T>().is_aligned(),
            "the layout aligns every table"
        );
        // SAFETY: `len` aligned entries lie inside the mapping; they consist of atomic integers,
        // for which every bit pattern is valid; the owner that keeps them mapped moves into the
        // same `Tables`.
        unsafe { Array::new(first.cast(), len) }
    }
}

/// Refuses a pool that the machine has no memory for: reserving it would put every other process
/// out of memory before it failed.
fn check_memory(bytes: u64) -> Result<(), SegmentError> {
    let available = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("MemAvailable:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        });
    match available {
        Some(kib) if bytes > kib.saturating_mul(1024) => Err(SegmentError::NotAvailable {
            bytes,
            available: kib.saturating_mul(1024),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the mapping of the segment `name` that stand in lines of its /proc/self/smaps entry
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
        let shape = Shape::new(
            4,
            4 << 20,
            0,
            0,
            &[StageShape::new(1, 4), StageShape::new(1, 0)],
        )
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
