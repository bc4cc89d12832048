//! Every bound of the system, in one place, with the compile-time checks that tie them together.
//!
//! A limit is refused where it is first exceeded, with both numbers in the message. Nothing is
//! sized from a number that was not compared with one of these.

#[cfg(any(feature = "deflate", feature = "zstd"))]
use std::ops::RangeInclusive;
use std::time::Duration;

/// Stages in one pipe on one machine, head and tail included.
pub const MAX_STAGES: u32 = 32;

/// Instances of one stage. One bit each in the stage's end-of-stream word.
pub const MAX_INSTANCES: u32 = 64;

/// Instances of all stages of one pipe on one machine.
pub const MAX_PARTICIPANTS: u32 = 1024;

/// Blocks that a stage between head and tail may make from one: [`Stage::flat_map`]. Each ring of
/// the pipe has that many slots for each buffer.
///
/// [`Stage::flat_map`]: crate::stage::Stage::flat_map
pub const MAX_FLAT_MAP_OUTPUTS: u32 = 64;

/// Buffers in one pool.
pub const MAX_BUFFERS: u32 = 4096;

/// Smallest payload of a buffer, in bytes.
pub const MIN_BUFFER_SIZE: u32 = 512;

/// Largest payload of a buffer, in bytes.
pub const MAX_BUFFER_SIZE: u32 = 64 << 20;

/// Largest headroom or tailroom of a buffer, in bytes.
pub const MAX_ROOM: u32 = 1 << 20;

/// Headroom that a pipe gives its buffers if the caller asks for no other, in bytes: one page, so
/// that the payload starts on a page.
pub const DEFAULT_HEADROOM: u32 = 4096;

/// Tailroom that a pipe gives its buffers if the caller asks for no other, in bytes.
pub const DEFAULT_TAILROOM: u32 = 4096;

/// Payload of a buffer if the caller asks for no other, in bytes: large blocks compress faster and
/// smaller.
pub const DEFAULT_BUFFER_SIZE: u32 = 4 << 20;

/// Bytes of a stage's name that are kept in the segment, and longest name of a stage or a pipe.
pub const MAX_NAME: usize = 64;

/// Longest name of a module, in bytes, and longest arguments of one.
pub const MAX_MODULE_NAME: usize = 255;
/// See [`MAX_MODULE_NAME`].
pub const MAX_MODULE_ARGUMENTS: usize = 64 << 10;

/// Descriptors that a module can be given beside its arguments.
pub const MAX_MODULE_DESCRIPTORS: usize = 8;

/// Longest message of a module's process to its controller, in bytes: its text and its data
/// together.
pub const MAX_STAGE_MESSAGE: usize = 16 << 10;

/// Bytes of what an instance in a process says of its failure that are kept.
pub const MAX_FAILURE_TEXT: usize = 4096;

/// Causes of a failure that an instance in a process sends, outermost first.
pub const MAX_CAUSES: usize = 32;

/// Bytes of all causes of such a failure together.
pub const MAX_CAUSES_LEN: usize = 12_000;

// A failure fits into the longest packet, which is that of a stage message.
const _: () = assert!(MAX_FAILURE_TEXT + MAX_CAUSES_LEN + 3 <= MAX_STAGE_MESSAGE);

/// Consecutive deaths of processes of one instance, none of which has taken up a block, after which
/// the pipe stops.
pub const MAX_FRUITLESS_DEATHS: u32 = 3;

/// Consecutive deaths of processes of a replaceable head or tail, without its first block sent, or
/// freed, in between, after which the pipe stops. Many, because such a stage may wait long for
/// another machine, and its processes may be killed meanwhile.
pub const MAX_FUTILE_DEATHS: u32 = 64;

/// Bytes of a line of a process's standard error that are reported.
pub const MAX_ERROR_LINE: usize = 512;

/// Lines of one process's standard error that are reported in a second; the others are counted.
pub const MAX_ERROR_LINES: u64 = 20;

/// Time for which a process of a stage may be stopped if the caller sets no other.
pub const DEFAULT_STOPPED_LIMIT: Duration = Duration::from_secs(5);

/// Time on one block after which a stall of an instance is reported, unless the pipe says
/// otherwise.
pub const DEFAULT_STALL: Duration = Duration::from_secs(10);

/// Longest time between two looks for a stop of the pipe, in a wait of a stage for something
/// outside of the pipe.
pub const STOP_CHECKS: Duration = Duration::from_millis(50);

/// Rounds a lock-free loop may take before it says that the segment is corrupt.
///
/// Each round but the last is lost to the progress of another participant. There are at most
/// [`MAX_PARTICIPANTS`] of them, so a loop that needs more is reading words that do not change as
/// they should.
pub const MAX_ROUNDS: u32 = 1 << 20;

/// Longest record on a medium, header included, in bytes. A length that a volume claims is not
/// believed beyond it.
pub const MAX_RECORD: usize = 16 << 20;

/// Shortest record that a writer makes, in bytes: a header and some content.
pub const MIN_RECORD: usize = 1024;

/// Length of a record if the caller asks for no other, in bytes: what every tape drive takes.
pub const DEFAULT_RECORD: usize = 1 << 20;

/// Longest body of a unit that is not a block, in bytes.
pub const MAX_HEADER_BODY: u32 = 16 << 20;

/// Longest text in a header: names of host, program, session and archive, in bytes.
pub const MAX_TEXT: usize = 255;

/// Longest path in an archive, in bytes.
pub const MAX_PATH: usize = 1 << 20;

/// Longest target of a symbolic link, in bytes.
pub const MAX_TARGET: usize = 65_536;

/// Longest name and longest value of an extended attribute, in bytes.
pub const MAX_ATTRIBUTE_NAME: usize = 255;
/// See [`MAX_ATTRIBUTE_NAME`].
pub const MAX_ATTRIBUTE: usize = 65_536;

/// Maximum length of the name of a user or a group in bytes.
pub const MAX_OWNER_NAME: usize = 255;

/// Maximum number of users and groups whose names are kept; objects of others have numbers only.
pub const MAX_OWNERS: usize = 65_536;

/// Directories that the walk through a tree keeps open, the source's own among them.
pub const MAX_OPEN_DIRECTORIES: usize = 64;

/// Objects of a tree that one instance of its head is given at once.
pub const MAX_BATCH_OBJECTS: usize = 4096;

/// Bytes of their paths; the last one may exceed it.
pub const MAX_BATCH_PATHS: usize = 1 << 20;

/// Descriptors, mostly of directories, that all instances of a head together keep open for what
/// they were given. Each may have one at least, and no more than the walk.
pub const MAX_BATCH_DESCRIPTORS: usize = 256;

/// Names of a directory that are in memory at a time: one that has more is read in pieces, each of
/// which is sorted. The last call to the kernel may give some more.
pub const MAX_SORTED_NAMES: usize = 100_000;

/// Smallest piece of a file's data in a block, in bytes, unless that is all of it or of
/// the block.
pub const MIN_EXTENT: usize = 4096;

/// Bytes of a catalogue after which a piece of it is sent; a block may be smaller, and is sent when
/// it is full.
pub const CATALOGUE_PIECE: usize = 256 << 10;

/// A piece of the catalogue is sent between the blocks only if all blocks before it have at least
/// this many times the bytes of the whole catalogue so far. Of very small files the catalogue has
/// as many bytes as their data, and is stored once then and not twice.
pub const DATA_PER_CATALOGUE: u64 = 8;

/// Files of several names that are in memory until all of their names were seen: about 43 MiB,
/// since a hash table is full at seven eighths. Those beyond go to a temporary file.
pub const MAX_LINKS_IN_MEMORY: usize = 7 << 17;

/// Bytes of paths and texts that a report on a tree keeps.
pub const MAX_PROBLEM_BYTES: usize = 16 << 20;

/// Blocks that a chunk footer lists.
pub const MAX_CHUNK_BLOCKS: usize = 65_536;

/// Chunks that a locator lists before the end of its archive.
pub const MAX_RECENT_CHUNKS: usize = 1024;

/// Chunks that the last locator of an archive lists.
pub const MAX_LOCATOR_CHUNKS: usize = 262_144;

/// Runs in a set of blocks that are to be read.
pub const MAX_BLOCK_RUNS: usize = 65_536;

/// Archives of one session.
pub const MAX_ARCHIVES: usize = 1024;

/// Most volumes in the list of a session's volumes: the last ones.
pub const MAX_LISTED_VOLUMES: usize = 65_536;

/// Most volumes in the list on a volume's label: those before it.
pub const MAX_LABEL_VOLUMES: usize = 16;

/// Most sessions and archives of a medium that a list of them has.
pub const MAX_LISTED_ARCHIVES: usize = 65_536;

/// Key slots of one archive. A reader tries a passphrase as many times at most.
pub const MAX_KEY_SLOTS: usize = 8;

/// Other archives to which one may refer.
pub const MAX_BASES: usize = 255;

/// Bytes of the extensions of a session or archive header, padding included.
pub const MAX_EXTENSIONS: usize = 16 << 10;

/// Longest body of a session header in bytes: fixed fields, three texts, extensions.
pub(crate) const MAX_SESSION_HEADER: usize = 96 + MAX_TEXTS + MAX_EXTENSIONS;

/// Longest body of an archive header in bytes: fixed fields, bases, extensions, and the slots after
/// their number.
pub(crate) const MAX_ARCHIVE_HEADER: usize =
    152 + 48 * MAX_BASES + MAX_EXTENSIONS + 8 + 128 * MAX_KEY_SLOTS;

/// Bytes of the three texts of a header, padding included.
const MAX_TEXTS: usize = (3 * MAX_TEXT).next_multiple_of(8);

/// Longest passphrase, and longest file that has one, in bytes.
pub const MAX_PASSPHRASE: usize = 4096;

/// Memory that a key slot may make its reader take to try a passphrase, in KiB: 1 GiB. One slot
/// after the other takes it.
pub const MAX_ARGON2_MEMORY_KIB: u32 = 1 << 20;

/// Passes over that memory that a key slot may ask for.
pub const MAX_ARGON2_PASSES: u32 = 16;

/// Lanes of that memory that a key slot may ask for.
pub const MAX_ARGON2_LANES: u32 = 16;

/// Entries that a log of damage or of inspection keeps. All are counted.
pub const MAX_LOG_ENTRIES: usize = 10_000;

/// Bytes of problems beyond the limits of a report that wait in a process to be sent to its
/// controller. A stage that finds more waits until they are sent.
pub const MAX_UNSENT_PROBLEMS: usize = 256 << 10;

/// Lost objects of an archive that are remembered, so that each is named once although the
/// catalogue has it twice. Those beyond may be named twice. As many runs of lost blocks are
/// remembered.
pub const MAX_LOST_OBJECTS: usize = 1 << 20;

/// Objects of an archive that are compared with its catalogue one by one, about 32 bytes each. Of
/// more, only the sums are compared.
pub const MAX_COMPARED_OBJECTS: usize = 1 << 19;

/// Bytes of what an entry of a log of damage says.
pub const MAX_DAMAGE_TEXT: usize = 512;

/// Blocks whose positions a log of damage remembers: those in flight between a reader and the
/// stages after it, which are fewer than there are buffers on its machine and the next ones.
pub const MAX_POSITIONS: usize = 16_384;

/// Objects of a file tree whose entries may mix: so many are open at once while they are restored.
pub const MAX_OPEN_OBJECTS: usize = 64;

/// Threads on which a restore makes files.
pub const MAX_RESTORE_THREADS: usize = 8;

/// Objects with several names of which some are restored by their paths: so many are remembered on
/// the way.
pub const MAX_WANTED_LINKS: usize = 1 << 20;

/// Extended attributes of one object that are kept until its end, names and values together, in
/// bytes.
pub const MAX_OBJECT_ATTRIBUTES: usize = 1 << 20;

/// Memory that a restore takes for directories, whose times are set at the end, in bytes. What is
/// more goes to a temporary file without a name.
pub const MAX_RESTORE_MEMORY: usize = 32 << 20;

/// Objects with several names that a restore remembers, with 16 bytes of memory each.
pub const MAX_LINKED_OBJECTS: usize = 4 << 20;

/// Bytes of the digest of a file.
pub(crate) const DIGEST_LEN: usize = 16;

/// Smallest size that may be asked for a volume, in bytes.
pub const MIN_VOLUME_SIZE: u64 = 64 << 10;

/// Bytes that records leave free at the end of a volume of limited size, for what is written after
/// the first that did not fit: 4 KiB of records with their lengths, and a mark.
pub const VOLUME_RESERVE: u64 = 4096 + 4;

/// Bytes of a volume after which a writer lets the storage begin to write them, without waiting.
pub const SYNC_AHEAD: u64 = 8 << 20;

/// Longest label or pool of a volume, in bytes.
pub const MAX_VOLUME_TEXT: usize = 64;

/// Volumes in one directory: their names have six digits.
pub const MAX_VOLUMES: u32 = 999_999;

/// Bits of a buffer's generation: at a million hand-overs a second of one buffer it wraps after
/// twelve days, and only a participant that slept through exactly a multiple of that could mistake
/// one generation for another.
pub(crate) const GENERATION_BITS: u32 = 40;

/// Levels of zstd: fast to small.
#[cfg(feature = "zstd")]
pub(crate) const ZSTD_LEVELS: RangeInclusive<i32> = 1..=22;

/// Levels of deflate: fast to small.
#[cfg(feature = "deflate")]
pub(crate) const DEFLATE_LEVELS: RangeInclusive<u32> = 1..=9;

const _: () = {
    assert!(
        MAX_INSTANCES <= u64::BITS,
        "one end-of-stream bit per instance"
    );
    assert!(
        MAX_PARTICIPANTS + 2 <= 1 << 11,
        "a participant, or the controller, or none, fits 11 bits"
    );
    assert!(
        MAX_BUFFERS <= 1 << 13,
        "a buffer's index fits its field of a ring slot"
    );
    assert!(
        MAX_RECORD < 1 << 28,
        "a record's length fits its field of a volume's length word"
    );
    assert!(
        (MAX_BUFFERS + 1) * MAX_FLAT_MAP_OUTPUTS <= MAX_ROUNDS / 2,
        "a taker can pass over all positions of a ring that have no buffer"
    );
    assert!(
        MAX_STAGES <= 1 << 8,
        "a queue's index fits its field of a take intent"
    );
    assert!(
        DEFAULT_BUFFER_SIZE >= MIN_BUFFER_SIZE && DEFAULT_BUFFER_SIZE <= MAX_BUFFER_SIZE,
        "default is legal"
    );
    assert!(
        MAX_POSITIONS >= 2 * MAX_BUFFERS as usize,
        "a block in flight has its place remembered"
    );
    let headers = MAX_SESSION_HEADER + MAX_ARCHIVE_HEADER;
    assert!(
        headers + (8 << 10) <= MAX_MODULE_ARGUMENTS,
        "both headers fit the arguments of a module, beside a medium"
    );
    assert!(
        headers + 3 * 64 + 8 <= MIN_VOLUME_SIZE as usize - VOLUME_RESERVE as usize
            && headers + 3 * 64 <= MAX_RECORD,
        "a label with both headers fits every volume, and is a record"
    );
    assert!(
        headers + 32 * (MAX_CHUNK_BLOCKS + 1) <= MAX_HEADER_BODY as usize,
        "a chunk footer has room for copies of both headers"
    );
    assert!(
        headers + 64 + 56 * MAX_LOCATOR_CHUNKS <= MAX_HEADER_BODY as usize,
        "a locator has room for copies of both headers"
    );
    assert!(
        DEFAULT_HEADROOM <= MAX_ROOM && DEFAULT_TAILROOM <= MAX_ROOM,
        "defaults are legal"
    );
};

/// Longest special header of an archive, in bytes.
pub const MAX_SPECIAL: usize = 65_536;

/// Number of the first block that an archive gets from its pipe: block 0 is its origin.
pub(crate) const FIRST_BLOCK: u64 = 1;

/// Most special headers that an archive has besides its origin.
pub const MAX_SPECIALS: usize = 16;

/// Most bytes that a head of an application's own records in a checkpoint.
pub const MAX_CHECKPOINT_STATE: usize = 4096;

/// Bytes of data after which the heads of the library make a checkpoint of their archive, by
/// default.
pub const DEFAULT_CHECKPOINT: u64 = 1 << 30;

/// Time after which they make one in any case, if there are new data.
pub const CHECKPOINT_TIME: Duration = Duration::from_secs(30);

/// Number of files with further names after which the head of a tree makes a checkpoint: each takes
/// memory until then.
pub const MAX_CHECKPOINT_LINKS: usize = 1 << 16;
