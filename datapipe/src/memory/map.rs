//! The mappings of a segment: a memfd, aligned for huge pages or not, or named shared memory.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, SealFlags};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rustix::shm;

use super::atomic::Ordering;
use super::backing::HugePages;
use super::layout::{Layout, MAGIC, VERSION};
use super::name::PipeName;
use super::segment_error::{SegmentError, system};
use super::shape::{Direction, Shape, ShapeError, StageShape};
use super::sweep;
use super::tables::{Array, Header, StageEntry, Tables};
use crate::interrupt::retry;
use crate::limits::MAX_STAGES;

/// Size in bytes of the pages that [`HugePages::Require`] asks for.
const HUGE_PAGE: usize = 2 << 20;

/// Mapped memory, and its owner, which unmaps it.
pub(super) struct Map {
    pub(super) base: NonNull<u8>,
    pub(super) len: usize,
    pub(super) descriptor: Option<Arc<OwnedFd>>,
    pub(super) owner: Box<dyn Send + Sync>,
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
        // SAFETY: `skip` is below HUGE_PAGE, so the address is inside the reservation.
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
        // SAFETY: the end of the mapping is inside the reservation.
        let after = unsafe { base.add(len) };
        for (slack, slack_len) in [(start, skip), (after, reserved - skip - len)] {
            if slack_len > 0 {
                // SAFETY: what is left of the reservation before and after the mapping:
                // page-aligned, for its ends and the length are, and nothing refers to it. A
                // failure only wastes unused addresses.
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
        // SAFETY: exactly the mapping that `new` made. Every user of it holds the owner, which is
        // what is dropped.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

// SAFETY: a mapping belongs to the process and not to a thread, and nothing is called on it but its
// drop.
unsafe impl Send for AlignedMap {}
// SAFETY: as above: no method takes a shared reference.
unsafe impl Sync for AlignedMap {}

impl Map {
    pub(super) fn anonymous(
        name: &PipeName,
        len: usize,
        huge: HugePages,
    ) -> Result<Self, SegmentError> {
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

    /// Maps so that huge pages fit, and asks for them. It is a wish: if there are none, the mapping
    /// has ordinary pages.
    fn aligned(descriptor: OwnedFd, len: usize) -> Result<Self, SegmentError> {
        // linux/mman.h, since 6.1; not in the libc crate for every target.
        const MADV_COLLAPSE: c_int = 25;
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

    pub(super) fn of_descriptor(descriptor: OwnedFd) -> Result<Self, SegmentError> {
        let file = File::from(descriptor);
        let len = retry(|| file.metadata())
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
        // A child gets the segment by its descriptor or not at all; a core dump need not hold the
        // user's data. Both are precautions: on a kernel that knows neither, everything else still
        // works.
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

    pub(super) fn open_named(name: &PipeName) -> Result<Self, SegmentError> {
        // Any user may make a file of this name. Only our own user's is opened, which no other user
        // can change or shrink.
        let object = sweep::object_name(name);
        let opened =
            rustix::io::retry_on_intr(|| shm::open(&object, shm::OFlags::RDWR, Mode::empty()));
        let descriptor = opened.map_err(system("shm_open"))?;
        let stat = rustix::io::retry_on_intr(|| rustix::fs::fstat(&descriptor))
            .map_err(system("fstat"))?;
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

    pub(super) fn advise(&self, advice: c_int) -> io::Result<()> {
        // SAFETY: the range is exactly one mapping of ours, which the owner keeps mapped; none of
        // the advices used here drops or replaces a page's content.
        let result = unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, advice) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Copies the header and the stage table out of a segment that another process made, and
    /// checks them.
    ///
    /// The header comes first, because it says how long the stage table is; then the shape, which
    /// checks its own numbers; then the layout that follows from the shape, which must be the one
    /// in the header, and must fit the mapping.
    pub(super) fn check(&self) -> Result<(Shape, Layout, String), SegmentError> {
        // SAFETY: the mapping is page-aligned, at least a header long, and every bit pattern is a
        // valid header.
        let header = unsafe { self.base.cast::<Header>().as_ref() };
        let page = check_header(header)?;
        let shape = self.read_shape(header)?;
        let layout = Layout::of(&shape, page).ok_or(SegmentError::TooLarge)?;
        let same = header.layout_hash.load(Ordering::Relaxed) == layout.hash();
        if !same || header.total.load(Ordering::Relaxed) != layout.total as u64 {
            return Err(SegmentError::Layout);
        }
        self.check_len(layout.total)?;
        Ok((shape, layout, header.name.load()))
    }

    /// Fails if the mapping has less than `need` bytes.
    fn check_len(&self, need: usize) -> Result<(), SegmentError> {
        if self.len < need {
            return Err(SegmentError::Truncated {
                have: self.len as u64,
                need: need as u64,
            });
        }
        Ok(())
    }

    /// The shape that the header and the stage table describe.
    fn read_shape(&self, header: &Header) -> Result<Shape, SegmentError> {
        let stages = self.read_stages(header.stages.load(Ordering::Relaxed))?;
        let buffers = header.buffers.load(Ordering::Relaxed);
        let shape = Shape::builder(buffers, header.buffer_size.load(Ordering::Relaxed))
            .headroom(header.headroom.load(Ordering::Relaxed))
            .tailroom(header.tailroom.load(Ordering::Relaxed))
            .stages(stages);
        let direction = match header.direction.load(Ordering::Relaxed) {
            0 => Direction::Archive,
            1 => Direction::Restore,
            value => {
                return Err(SegmentError::Shape(ShapeError {
                    what: "direction of flow",
                    value,
                    min: 0,
                    max: 1,
                }));
            }
        };
        shape
            .direction(direction)
            .build()
            .map_err(SegmentError::Shape)
    }

    /// The first `count` entries of the stage table.
    fn read_stages(&self, count: u32) -> Result<Vec<StageShape>, SegmentError> {
        // Checked by hand because the table must be read before the shape can check itself.
        if count > MAX_STAGES {
            return Err(SegmentError::Shape(ShapeError {
                what: "number of stages",
                value: count.into(),
                min: 2,
                max: MAX_STAGES.into(),
            }));
        }
        let start = size_of::<Header>().next_multiple_of(align_of::<StageEntry>());
        self.check_len(start + count as usize * size_of::<StageEntry>())?;
        // SAFETY: the table is inside the mapping, as just checked.
        let first = unsafe { self.base.add(start) }.cast::<StageEntry>();
        // SAFETY: `count` aligned entries lie inside the mapping, and every bit pattern is a valid
        // entry.
        let table = unsafe { std::slice::from_raw_parts(first.as_ptr(), count as usize) };
        let stage = |entry: &StageEntry| {
            let numbered = entry.numbered.load(Ordering::Relaxed);
            StageShape::new(entry.instances.load(Ordering::Relaxed))
                .share(entry.share.load(Ordering::Relaxed))
                .with_numbered_word(numbered)
        };
        Ok(table.iter().map(stage).collect())
    }

    /// The typed tables of a mapping that is at least `layout.total` bytes long.
    pub(super) fn into_tables(self, shape: Shape, layout: Layout) -> Tables {
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

    fn array<T, I>(&self, offset: usize, len: usize) -> Array<T, I> {
        let end = len
            .checked_mul(size_of::<T>())
            .and_then(|bytes| bytes.checked_add(offset));
        assert!(
            end.is_some_and(|end| end <= self.len),
            "the table is inside the mapping"
        );
        // SAFETY: the offset is inside the mapping, as just asserted.
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

/// Checks that this library can read the segment of a header, and returns its page size.
fn check_header(header: &Header) -> Result<usize, SegmentError> {
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
    Ok(page)
}
