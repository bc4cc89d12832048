//! The status codes of the interface, numbered by the party at fault.
//!
//! A number is never used again: a code that is not returned any more keeps its name and its
//! number, with a remark.

/// Result of a call: 0, a positive number up to 99 for a result with a remark, or an error.
///
/// ```text
///      0       success
///   1.. 99     done, with a remark
/// 100..199     the caller: an argument, a handle, an option
/// 200..299     a stage or a callback
/// 300..399     the machine: the system, memory, storage
/// 400..499     the medium or the archive on it, and its key
/// 500..599     another participant that wrote to shared memory where it should not
/// 600..699     the job was stopped, which is not a fault
/// 900..999     the library itself
/// ```
///
/// Later versions return more codes. A program treats a code that it does not know by its hundred.
#[allow(non_camel_case_types, reason = "a name of the C interface")]
pub type dp_status = i32;

/// Success.
pub const DP_OK: dp_status = 0;
/// The job is done, but some objects have problems: they could not be read, changed while they were
/// read, are damaged, or were not restored. The result counts them, and the problem function has
/// had each of them. Results are written.
pub const DP_INCOMPLETE: dp_status = 1;

/// The time of a wait is over, and the pipe runs.
pub const DP_TIMED_OUT: dp_status = 2;

/// The stream has ended: there are no more blocks to receive.
pub const DP_END: dp_status = 3;

/// An argument or option has a value that is not allowed.
pub const DP_ERR_ARGUMENT: dp_status = 100;
/// A pointer is NULL that must not be.
pub const DP_ERR_NULL: dp_status = 101;
/// The size at the start of a struct is not one that this struct has had in any version.
pub const DP_ERR_STRUCT_SIZE: dp_status = 102;
/// A struct has a value in a field that only later versions of the library know.
pub const DP_ERR_UNSUPPORTED: dp_status = 103;
/// A number that is a handle of no object of this process.
pub const DP_ERR_BAD_HANDLE: dp_status = 110;
/// A handle of another kind.
pub const DP_ERR_HANDLE_KIND: dp_status = 111;
/// A handle whose object was freed.
pub const DP_ERR_STALE_HANDLE: dp_status = 112;
/// More objects than the library takes.
pub const DP_ERR_LIMIT: dp_status = 120;
/// The object is not in a state for this call: a pipe that was started already, for example.
pub const DP_ERR_STATE: dp_status = 121;
/// The function was called from a callback that it would have to wait for.
pub const DP_ERR_REENTRANT: dp_status = 130;
/// The process was forked from one that used the library.
pub const DP_ERR_FORKED: dp_status = 131;
/// The object belongs to another thread: the one that has made it.
pub const DP_ERR_THREAD: dp_status = 132;
/// The pipe as it was described cannot work: its buffers do not suffice, for example. Or its
/// program does not admit this process.
pub const DP_ERR_REFUSED: dp_status = 140;

/// A stage failed for a reason that is not one of the codes below.
pub const DP_ERR_STAGE: dp_status = 200;
/// A function of the caller returned an error.
pub const DP_ERR_CALLBACK: dp_status = 201;
/// Every stage waited for another.
pub const DP_ERR_DEADLOCK: dp_status = 210;

/// The operating system refused something: `dp_error_errno` has its number.
pub const DP_ERR_SYSTEM: dp_status = 300;
/// There is not enough memory.
pub const DP_ERR_MEMORY: dp_status = 301;
/// The storage is full.
pub const DP_ERR_STORAGE_FULL: dp_status = 302;
/// A file or directory does not exist.
pub const DP_ERR_NOT_FOUND: dp_status = 303;
/// The permissions do not suffice.
pub const DP_ERR_PERMISSION: dp_status = 304;

/// The medium failed, lacks a volume, or cannot be continued.
pub const DP_ERR_MEDIUM: dp_status = 400;
/// The medium has content that the options do not allow to replace.
pub const DP_ERR_MEDIUM_NOT_EMPTY: dp_status = 401;
/// Another job writes the medium.
pub const DP_ERR_MEDIUM_IN_USE: dp_status = 402;
/// The medium has no archive, or not the one that was selected.
pub const DP_ERR_NO_ARCHIVE: dp_status = 403;
/// The archive is not the one that was expected: its header has another hash.
pub const DP_ERR_OTHER_ARCHIVE: dp_status = 404;
/// The archive has other content than the call needs: a stream, and not a tree, or the reverse.
pub const DP_ERR_CONTENT: dp_status = 405;
/// The archive is damaged so far that nothing of it can be read.
pub const DP_ERR_DAMAGED: dp_status = 406;
/// The archive is encrypted, and no key was given.
pub const DP_ERR_KEY_NEEDED: dp_status = 410;
/// The key does not open the archive.
pub const DP_ERR_WRONG_KEY: dp_status = 411;
/// The archive is not encrypted, although a key was given.
pub const DP_ERR_NOT_ENCRYPTED: dp_status = 412;
/// A file does not have a key, a passphrase, an identity or a recipient.
pub const DP_ERR_KEY_FILE: dp_status = 413;

/// A participant wrote to shared memory where it should not have.
pub const DP_ERR_CORRUPT: dp_status = 500;

/// The job was cancelled, by its token or by a callback.
pub const DP_ERR_CANCELLED: dp_status = 600;

/// A fault of the library: please report it. It was stopped at the boundary, and the process goes
/// on.
pub const DP_ERR_PANIC: dp_status = 900;

/// Answer of a function of a stage: done. A block is sent; an inspected block passes.
pub const DP_ANSWER_OK: i32 = 0;
/// Answer of `fill`: the stream has ended, and the block is not sent.
pub const DP_ANSWER_END: i32 = 1;
/// Answer of `transform`: the input is sent in the place of the output. For `change` the same as
/// `DP_ANSWER_OK`.
pub const DP_ANSWER_SEND_INPUT: i32 = 2;
/// Answer of `transform` and `change`: nothing is sent, the block ends here.
pub const DP_ANSWER_DROP: i32 = 3;
/// Answer of `inspect`: the block travels on, and is recorded as marked.
pub const DP_ANSWER_MARK: i32 = 4;
/// Answer of `inspect`: the block travels on without its content, and is recorded as rejected.
pub const DP_ANSWER_REJECT: i32 = 5;

/// Level of a message: a fault.
pub const DP_LOG_ERROR: i32 = 1;
/// Level of a message: a result that may not be what the caller expects.
pub const DP_LOG_WARNING: i32 = 2;
/// Level of a message: progress, and events of a pipe.
pub const DP_LOG_INFO: i32 = 3;

/// The name of a code, in bytes that end with a zero byte.
pub(crate) fn name_of(status: dp_status) -> &'static std::ffi::CStr {
    NAMES
        .iter()
        .find(|(code, _)| *code == status)
        .map_or(c"unknown status", |(_, name)| name)
}

/// Each code with its name.
const NAMES: &[(dp_status, &std::ffi::CStr)] = &[
    (DP_OK, c"DP_OK"),
    (DP_INCOMPLETE, c"DP_INCOMPLETE"),
    (DP_TIMED_OUT, c"DP_TIMED_OUT"),
    (DP_END, c"DP_END"),
    (DP_ERR_ARGUMENT, c"DP_ERR_ARGUMENT"),
    (DP_ERR_NULL, c"DP_ERR_NULL"),
    (DP_ERR_STRUCT_SIZE, c"DP_ERR_STRUCT_SIZE"),
    (DP_ERR_UNSUPPORTED, c"DP_ERR_UNSUPPORTED"),
    (DP_ERR_BAD_HANDLE, c"DP_ERR_BAD_HANDLE"),
    (DP_ERR_HANDLE_KIND, c"DP_ERR_HANDLE_KIND"),
    (DP_ERR_STALE_HANDLE, c"DP_ERR_STALE_HANDLE"),
    (DP_ERR_LIMIT, c"DP_ERR_LIMIT"),
    (DP_ERR_STATE, c"DP_ERR_STATE"),
    (DP_ERR_REENTRANT, c"DP_ERR_REENTRANT"),
    (DP_ERR_FORKED, c"DP_ERR_FORKED"),
    (DP_ERR_THREAD, c"DP_ERR_THREAD"),
    (DP_ERR_REFUSED, c"DP_ERR_REFUSED"),
    (DP_ERR_STAGE, c"DP_ERR_STAGE"),
    (DP_ERR_CALLBACK, c"DP_ERR_CALLBACK"),
    (DP_ERR_DEADLOCK, c"DP_ERR_DEADLOCK"),
    (DP_ERR_SYSTEM, c"DP_ERR_SYSTEM"),
    (DP_ERR_MEMORY, c"DP_ERR_MEMORY"),
    (DP_ERR_STORAGE_FULL, c"DP_ERR_STORAGE_FULL"),
    (DP_ERR_NOT_FOUND, c"DP_ERR_NOT_FOUND"),
    (DP_ERR_PERMISSION, c"DP_ERR_PERMISSION"),
    (DP_ERR_MEDIUM, c"DP_ERR_MEDIUM"),
    (DP_ERR_MEDIUM_NOT_EMPTY, c"DP_ERR_MEDIUM_NOT_EMPTY"),
    (DP_ERR_MEDIUM_IN_USE, c"DP_ERR_MEDIUM_IN_USE"),
    (DP_ERR_NO_ARCHIVE, c"DP_ERR_NO_ARCHIVE"),
    (DP_ERR_OTHER_ARCHIVE, c"DP_ERR_OTHER_ARCHIVE"),
    (DP_ERR_CONTENT, c"DP_ERR_CONTENT"),
    (DP_ERR_DAMAGED, c"DP_ERR_DAMAGED"),
    (DP_ERR_KEY_NEEDED, c"DP_ERR_KEY_NEEDED"),
    (DP_ERR_WRONG_KEY, c"DP_ERR_WRONG_KEY"),
    (DP_ERR_NOT_ENCRYPTED, c"DP_ERR_NOT_ENCRYPTED"),
    (DP_ERR_KEY_FILE, c"DP_ERR_KEY_FILE"),
    (DP_ERR_CORRUPT, c"DP_ERR_CORRUPT"),
    (DP_ERR_CANCELLED, c"DP_ERR_CANCELLED"),
    (DP_ERR_PANIC, c"DP_ERR_PANIC"),
];
