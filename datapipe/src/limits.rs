//! Every bound of the system, in one place, with the compile-time checks that tie them together.
//!
//! A limit is refused where it is first exceeded, with both numbers in the message. Nothing is sized from a number
//! that was not compared with one of these.

/// Stages in one pipe on one machine, head and tail included.
pub const MAX_STAGES: u32 = 32;

/// Instances of one stage. One bit each in the stage's end-of-stream word.
pub const MAX_INSTANCES: u32 = 64;

/// Instances of all stages of one pipe on one machine.
pub const MAX_PARTICIPANTS: u32 = 1024;

/// Buffers in one pool.
pub const MAX_BUFFERS: u32 = 4096;

/// Smallest payload of a buffer, in bytes.
pub const MIN_BUFFER_SIZE: u32 = 512;

/// Largest payload of a buffer, in bytes.
pub const MAX_BUFFER_SIZE: u32 = 64 << 20;

/// Largest headroom or tailroom of a buffer, in bytes.
pub const MAX_ROOM: u32 = 1 << 20;

/// Headroom that a pipe gives its buffers if nobody asks for another, in bytes: one page, so that the payload
/// starts on a page.
pub const DEFAULT_HEADROOM: u32 = 4096;

/// Tailroom that a pipe gives its buffers if nobody asks for another, in bytes.
pub const DEFAULT_TAILROOM: u32 = 4096;

/// Payload of a buffer if nobody asks for another, in bytes: large blocks compress faster and smaller.
pub const DEFAULT_BUFFER_SIZE: u32 = 4 << 20;

/// Bytes of a stage's name that are kept in the segment, and longest name of a stage or a pipe.
pub const MAX_NAME: usize = 64;

/// Rounds a lock-free loop may take before it says that the segment is corrupt.
///
/// Each round but the last is lost to the progress of another participant. There are at most
/// [`MAX_PARTICIPANTS`] of them, so a loop that needs more is reading words that do not change as they should.
pub const MAX_ROUNDS: u32 = 1 << 20;

/// Longest record of a medium, in bytes. A length that a volume claims is not believed beyond it.
pub const MAX_RECORD: usize = 16 << 20;

/// Smallest size that may be asked for a volume, in bytes.
pub const MIN_VOLUME_SIZE: u64 = 64 << 10;

/// Bytes that records leave free at the end of a volume of limited size, for what is written after the first that
/// did not fit: 4 KiB of records with their lengths, and a mark.
pub const VOLUME_RESERVE: u64 = 4096 + 4;

/// Volumes in one directory: their names have six digits.
pub const MAX_VOLUMES: u32 = 999_999;

/// Bits of a buffer's generation: at a million hand-overs a second of one buffer it wraps after twelve days, and
/// only a participant that slept through exactly a multiple of that could mistake one generation for another.
pub(crate) const GENERATION_BITS: u32 = 40;

const _: () = {
    assert!(MAX_INSTANCES <= u64::BITS, "one end-of-stream bit per instance");
    assert!(MAX_PARTICIPANTS + 2 <= 1 << 11, "a participant, or the controller, or nobody, fits 11 bits");
    assert!(MAX_BUFFERS <= 1 << 13, "a buffer's index fits its field of a ring slot");
    assert!(MAX_RECORD < 1 << 28, "a record's length fits its field of a volume's length word");
    assert!(MAX_STAGES <= 1 << 8, "a queue's index fits its field of a take intent");
    assert!(
        DEFAULT_BUFFER_SIZE >= MIN_BUFFER_SIZE && DEFAULT_BUFFER_SIZE <= MAX_BUFFER_SIZE,
        "default is legal"
    );
    assert!(DEFAULT_HEADROOM <= MAX_ROOM && DEFAULT_TAILROOM <= MAX_ROOM, "defaults are legal");
};
