//! Stages of a pipe.

use datapipe::pool::{Block, BlockInfo, NoRoom};

use crate::boundary::{Bytes, Handle, Text, User, versioned};
use crate::failure::Failure;
use crate::status::DP_ERR_ARGUMENT;

use super::outputs::dp_outputs;

/// Kind of a stage, a head: `fill` fills blocks.
pub const DP_STAGE_HEAD: i32 = 1;
/// Kind of a stage, a head: reads the stream that `descriptor` has.
pub const DP_STAGE_READ_DESCRIPTOR: i32 = 2;
/// Kind of a stage, a head: another process attaches to the pipe, and fills its buffers. See
/// `dp_pipe_admit`.
pub const DP_STAGE_UNBOUND_HEAD: i32 = 3;
/// Kind of a stage: `transform` makes a block from each.
pub const DP_STAGE_TRANSFORM: i32 = 10;
/// Kind of a stage: `change` changes each block in place.
pub const DP_STAGE_IN_PLACE: i32 = 11;
/// Kind of a stage: `inspect` judges each block. The blocks must not be compressed.
pub const DP_STAGE_INSPECT: i32 = 12;
/// Kind of a stage: `flat_map` makes up to `most_outputs` blocks from each, or none.
pub const DP_STAGE_FLAT_MAP: i32 = 13;
/// Kind of a stage: `analyze` reads each block, and records what it is. The blocks must not be
/// compressed.
pub const DP_STAGE_ANALYZE: i32 = 14;
/// Kind of a stage: compresses by zstd, at `level` 1 to 22, or 0 for 3.
pub const DP_STAGE_ZSTD: i32 = 20;
/// Kind of a stage: compresses by deflate, at `level` 1 to 9, or 0 for 6.
pub const DP_STAGE_DEFLATE: i32 = 21;
/// Kind of a stage: decompresses what the two before have compressed, in the same pipe.
pub const DP_STAGE_DECOMPRESS: i32 = 22;
/// Kind of a stage, a tail: `write` takes blocks.
pub const DP_STAGE_TAIL: i32 = 30;
/// Kind of a stage, a tail: writes to `descriptor`.
pub const DP_STAGE_WRITE_DESCRIPTOR: i32 = 31;
/// Kind of a stage, a tail: another process attaches to the pipe, and receives its blocks. See
/// `dp_pipe_admit`.
pub const DP_STAGE_UNBOUND_TAIL: i32 = 32;

/// Run of a stage: each instance in its own process, which is replaced if a signal kills it, unless
/// the stage is a head or a tail. The program calls `dp_serve` first.
pub const DP_RUN_IN_PROCESSES: u32 = 1;
/// Run of a stage: the work on a block depends on those before, so that a process that is killed is
/// not replaced, and the pipe stops. Heads and tails need it not.
pub const DP_RUN_STATEFUL: u32 = 2;
/// Run of a stage: all instances are threads of one process, which is not replaced.
pub const DP_RUN_TOGETHER: u32 = 4;

/// Content of a block: not analyzed.
pub const DP_CLASS_UNKNOWN: u32 = 0;
/// Content of a block: text in any encoding.
pub const DP_CLASS_TEXT: u32 = 1;
/// Content of a block: machine code.
pub const DP_CLASS_EXECUTABLE: u32 = 2;
/// Content of a block: a picture.
pub const DP_CLASS_IMAGE: u32 = 3;
/// Content of a block: sound.
pub const DP_CLASS_AUDIO: u32 = 4;
/// Content of a block: moving pictures.
pub const DP_CLASS_VIDEO: u32 = 5;
/// Content of a block: compressed data, which no algorithm makes smaller.
pub const DP_CLASS_COMPRESSED: u32 = 6;
/// Content of a block: encrypted data.
pub const DP_CLASS_ENCRYPTED: u32 = 7;
/// Content of a block: nothing but zero bytes.
pub const DP_CLASS_ZEROS: u32 = 8;
/// Content of a block: none of the others.
pub const DP_CLASS_OTHER: u32 = 9;

/// Mark of a block: `inspect` has marked it.
pub const DP_MARK_MARKED: u32 = 1;
/// Mark of a block: `inspect` has rejected it, and it has no content.
pub const DP_MARK_REJECTED: u32 = 2;
/// Mark of a block: it could not be read back whole, and has no content.
pub const DP_MARK_DAMAGED: u32 = 4;

/// A block that a stage reads.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_block {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// The data.
    pub bytes: *const u8,
    /// Length of the data in bytes.
    pub len: usize,
    /// Number of the block, from 0. 2^64 - 1 in `inspect`, which does not have it.
    pub number: u64,
    /// Offset of the data in the stream that the head read, in bytes, if the head counts it.
    pub offset: u64,
    /// Numbers of the program, which travel with the block.
    pub user: [u64; 4],
    /// Length of the data before compression; 0 if it is not compressed.
    pub plain_len: u32,
    /// Compression: 0 for none, 1 for zstd, 2 for deflate.
    pub codec: u32,
    /// `DP_CLASS_...`, as an `analyze` before this stage has found. Later versions have more.
    pub content_class: u32,
    /// `DP_MARK_...`, added. Later versions have more.
    pub marks: u32,
}

versioned!(dp_block, first: 80, {
    size, bytes, len, number, offset, user, plain_len, codec, content_class, marks
});

/// A block that a stage fills or changes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_output {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// The block: `capacity` bytes that may be written.
    pub bytes: *mut u8,
    /// Bytes that the block can have.
    pub capacity: usize,
    /// Bytes of data from `bytes` on: 0 in `fill` and `transform`, in `change` those of the block.
    /// The function sets it.
    pub len: usize,
    /// Numbers of the program, which travel with the block. The function may set them.
    pub user: [u64; 4],
}

versioned!(dp_output, first: 64, { size, bytes, capacity, len, user });

/// Findings of `analyze` about a block.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_analysis {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// Numbers of the program, which travel with the block. The function may set them.
    pub user: [u64; 4],
    /// `DP_CLASS_...`, at first that of an earlier analysis. The function may set it: a compressor
    /// leaves blocks as they are that cannot become smaller.
    pub content_class: u32,
    /// 0.
    pub reserved: u32,
}

versioned!(dp_analysis, first: 48, { size, user, content_class, reserved });

impl dp_block {
    /// The view of a block.
    pub(crate) fn of(block: &Block) -> Self {
        Self {
            number: block.number().get(),
            ..Self::with(block.bytes(), &block.info())
        }
    }

    /// The view of data with its information, without a number.
    pub(crate) fn with(data: &[u8], info: &BlockInfo) -> Self {
        Self {
            size: size_of::<Self>(),
            bytes: data.as_ptr(),
            len: data.len(),
            number: u64::MAX,
            offset: info.offset,
            user: info.user,
            plain_len: info.plain_len,
            codec: info.codec.0.into(),
            content_class: info.class.0.into(),
            marks: info.marks.0.into(),
        }
    }
}

impl dp_analysis {
    /// The findings that a block has already.
    pub(crate) fn of(info: &BlockInfo) -> Self {
        Self {
            size: size_of::<Self>(),
            user: info.user,
            content_class: info.class.0.into(),
            reserved: 0,
        }
    }
}

impl dp_output {
    /// The view of a block without data.
    pub(crate) fn empty(block: &mut Block) -> Self {
        let user = block.info().user;
        let spare = block.spare();
        Self {
            size: size_of::<Self>(),
            bytes: spare.as_mut_ptr(),
            capacity: spare.len(),
            len: 0,
            user,
        }
    }

    /// Gives a block the length and the numbers of the program, if this is the view of its `place`
    /// with a length that fits.
    pub(crate) fn put_on(&self, block: &mut Block, place: &Self) -> Result<(), Failure> {
        if self.bytes != place.bytes {
            let text = "output.bytes is not the place of this block";
            return Err(Failure::new(DP_ERR_ARGUMENT, text));
        }
        if self.len > place.capacity {
            let (len, capacity) = (self.len, place.capacity);
            let text = format!("output.len is {len} bytes, but the block has {capacity}");
            return Err(Failure::new(DP_ERR_ARGUMENT, text));
        }
        Ok(self.set_on(block)?)
    }

    /// Gives a block the length and the numbers of the program. The length is at most the capacity.
    pub(crate) fn set_on(&self, block: &mut Block) -> Result<(), NoRoom> {
        match self.len.checked_sub(block.len()) {
            Some(more) => drop(block.grow(more)?),
            None => block.truncate(self.len),
        }
        let mut info = block.info();
        info.user = self.user;
        block.set_info(info);
        Ok(())
    }

    /// The view of a block with its data, and the free space after it.
    pub(crate) fn full(block: &mut Block) -> Self {
        let (user, spare) = (block.info().user, block.spare().len());
        let data = block.bytes_mut();
        Self {
            size: size_of::<Self>(),
            bytes: data.as_mut_ptr(),
            capacity: data.len() + spare,
            len: data.len(),
            user,
        }
    }
}

/// Makes the state of instance `instance` of a stage, from 0. Returns `DP_ANSWER_OK` and sets
/// `state`, or returns a negative error number: the pipe then fails.
///
/// Threads: any thread of the library or that of `dp_pipe_start`, one call at a time for each
/// stage.
pub type dp_make_function =
    Option<unsafe extern "C" fn(user: User, instance: u32, state: *mut User) -> i32>;
/// Fills a block. Returns `DP_ANSWER_OK`, `DP_ANSWER_END` or a negative error number, `-EIO`.
///
/// Threads: one call at a time for each instance, of which each may be on another thread.
pub type dp_fill_function = Option<unsafe extern "C" fn(state: User, out: *mut dp_output) -> i32>;
/// Makes a block from another one. Returns `DP_ANSWER_OK`, `DP_ANSWER_SEND_INPUT`, `DP_ANSWER_DROP`
/// or a negative error number.
///
/// Threads: as for `dp_fill_function`.
pub type dp_transform_function =
    Option<unsafe extern "C" fn(state: User, block: *const dp_block, out: *mut dp_output) -> i32>;
/// Makes several blocks from one, or none, with `dp_outputs_begin` and `dp_outputs_send`. Returns
/// `DP_ANSWER_OK` or a negative error number.
///
/// Threads: as for `dp_fill_function`.
pub type dp_flat_map_function = Option<
    unsafe extern "C" fn(state: User, block: *const dp_block, outputs: Handle<dp_outputs>) -> i32,
>;
/// Analyzes a block. Returns `DP_ANSWER_OK` or a negative error number.
///
/// Threads: as for `dp_fill_function`.
pub type dp_analyze_function = Option<
    unsafe extern "C" fn(state: User, block: *const dp_block, analysis: *mut dp_analysis) -> i32,
>;
/// Changes a block in place. Returns `DP_ANSWER_OK`, `DP_ANSWER_DROP` or a negative error number.
///
/// Threads: as for `dp_fill_function`.
pub type dp_change_function =
    Option<unsafe extern "C" fn(state: User, block: *mut dp_output) -> i32>;
/// Judges a block, or writes it. `inspect` returns `DP_ANSWER_OK`, `DP_ANSWER_MARK`,
/// `DP_ANSWER_REJECT` or a negative error number, and `write` returns `DP_ANSWER_OK` or a negative
/// error number.
///
/// Threads: as for `dp_fill_function`.
pub type dp_block_function =
    Option<unsafe extern "C" fn(state: User, block: *const dp_block) -> i32>;
/// Ends an instance. `finish` returns `DP_ANSWER_OK` or a negative error number; the answer of
/// `drop` is ignored.
///
/// Threads: as for `dp_fill_function`.
pub type dp_end_function = Option<unsafe extern "C" fn(state: User) -> i32>;

/// A stage that is added to a pipe. Functions that its kind does not use are NULL.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_stage {
    /// `sizeof(dp_stage)`.
    pub size: usize,
    /// Name in messages and in the status, in UTF-8, at most 64 bytes. NULL for one of the library.
    pub name: Text,
    /// Pointer that is passed to `make`. Without `make`, it is the state of each instance.
    pub user: User,
    /// Makes the state of an instance, or NULL.
    pub make: dp_make_function,
    /// For `DP_STAGE_HEAD`.
    pub fill: dp_fill_function,
    /// For `DP_STAGE_TRANSFORM`.
    pub transform: dp_transform_function,
    /// For `DP_STAGE_IN_PLACE`.
    pub change: dp_change_function,
    /// For `DP_STAGE_INSPECT`.
    pub inspect: dp_block_function,
    /// For `DP_STAGE_TAIL`.
    pub write: dp_block_function,
    /// Called after the last block, if the stream has ended well up to here, or NULL. A tail
    /// flushes here: what only this call writes marks a complete stream. Not for heads,
    /// `inspect`, `analyze` and `flat_map`.
    pub finish: dp_end_function,
    /// Frees the state of an instance that `make` has made, however the pipe ends, or NULL.
    pub drop: dp_end_function,
    /// `DP_STAGE_...`.
    pub kind: i32,
    /// Level of a compression.
    pub level: i32,
    /// Descriptor of a stream. It stays open, and is not used after the pipe.
    pub descriptor: i32,
    /// Instances that run at once, 1 to 64; 0 for 1. Stages with several keep the order of blocks.
    pub instances: u32,
    /// For `DP_STAGE_FLAT_MAP`.
    pub flat_map: dp_flat_map_function,
    /// For `DP_STAGE_ANALYZE`.
    pub analyze: dp_analyze_function,
    /// For `DP_STAGE_FLAT_MAP`: most blocks from one, 1 to 64. The pipe's memory grows with it.
    pub most_outputs: u32,
    /// For the unbound stages: time in milliseconds in which a process must attach, or the pipe
    /// stops; 0 for 60000.
    pub patience_ms: u32,
    /// For a stage of the program that runs in processes: name of the module that makes it there,
    /// in UTF-8. Its functions above are then not used, and may be NULL.
    pub module: Text,
    /// Bytes that the module gets, or NULL.
    pub module_arguments: Bytes,
    /// Number of these bytes, at most 64 KiB.
    pub module_arguments_len: usize,
    /// Path of the program that the processes run, which calls `dp_serve`; NULL for this program.
    pub program: Text,
    /// `DP_RUN_...`, added; 0 for threads.
    pub run: u32,
    /// In processes: longest time in milliseconds for one block, after which the process is killed;
    /// 0 for no limit.
    pub work_limit_ms: u32,
}

versioned!(dp_stage, first: 168, {
    size, name, user, make, fill, transform, change, inspect, write, finish, drop, kind, level,
    descriptor, instances, flat_map, analyze, most_outputs, patience_ms,
    module, module_arguments, module_arguments_len, program, run, work_limit_ms
});
