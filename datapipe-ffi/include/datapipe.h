/*
 * DataPipe: moves data through a chain of stages that share one pool of buffers.
 * Whole jobs in one call: backup, restore, verification, list, copy; pipes of stages in C.
 *
 *     #include <datapipe.h>
 *     cc program.c $(pkg-config --cflags --libs datapipe)
 *
 *     const char *sources[] = {"/srv/data"};
 *     dp_backup_options options = {.size = sizeof options, .medium = "nightly.tap",
 *                                  .sources = sources, .source_count = 1};
 *     if (dp_backup(&options, NULL) > DP_INCOMPLETE)
 *         fprintf(stderr, "%s\n", dp_error_message(0));
 *
 * Rules for all functions; docs/c-abi.md has them at length:
 *
 * - A function returns a dp_status: 0, DP_INCOMPLETE, or an error from 100 on, whose message
 *   dp_error_message returns on the same thread.
 * - A struct begins with its size: set .size = sizeof it, and all fields that are not used to 0.
 *   It may grow at its end in later versions; a program need not be compiled again.
 * - A pointer is NULL or valid. A text ends with a zero byte. What a call gets is copied, and may
 *   be freed when the call returns. What a function of the program gets is valid until it returns.
 * - A result is written if the call succeeds, and only then.
 * - A handle (dp_cancel *, dp_pipe *, ...) is a number and not an address. NULL, a handle that was
 *   freed, one of another kind and one of another process are refused.
 * - Functions of the program are called on the threads that are named at their types. They return:
 *   no exception and no longjmp leaves them.
 * - After a fork, the child can only exec, unless the fork came before the first call.
 *
 * Generated from the sources of datapipe-ffi: change those, and not this file.
 */

#ifndef DATAPIPE_H
#define DATAPIPE_H

#include <stddef.h>
#include <stdint.h>

/** Major version of this header. */
#define DP_VERSION_MAJOR 0
/** Minor version of this header. Before 1.0 a new minor version may change the interface. */
#define DP_VERSION_MINOR 1
/** Patch version of this header. */
#define DP_VERSION_PATCH 0

/** The version of this header as one number: `0xMMmmpp`. */
#define DP_VERSION (((DP_VERSION_MAJOR << 16) | (DP_VERSION_MINOR << 8)) | DP_VERSION_PATCH)

/** Kind of a secret: the key in a file, which has exactly 32 bytes. */
#define DP_SECRET_KEY_FILE 1
/** Kind of a secret: the passphrase in a file; a line end after it is ignored. */
#define DP_SECRET_PASSPHRASE_FILE 2
/**
 * Kind of a secret: the identity in a file, a secret key that `datapipe-key` has made. It opens
 * archives for its recipient, and cannot encrypt any.
 */
#define DP_SECRET_IDENTITY_FILE 3
/** Kind of a secret: a key of 32 bytes in memory. */
#define DP_SECRET_KEY 4
/** Kind of a secret: a passphrase in memory, of any bytes. */
#define DP_SECRET_PASSPHRASE 5
/** Kind of a secret: an identity of 32 bytes in memory. */
#define DP_SECRET_IDENTITY 6

/**
 * Kind of a medium: a directory of volumes if the path is a directory or ends with a slash, and
 * otherwise a file that is a virtual tape.
 */
#define DP_MEDIUM_BY_PATH 0
/** Kind of a medium: a file that is a virtual tape. */
#define DP_MEDIUM_VIRTUAL_TAPE 1
/** Kind of a medium: a directory of volumes. */
#define DP_MEDIUM_VOLUME_DIRECTORY 2
/**
 * Kind of a medium: one of the program, whose functions are in `medium_functions`, or
 * `target_functions` for that of a copy. The path of the medium is its name in messages.
 */
#define DP_MEDIUM_OF_PROGRAM 3

/** Content of an archive: not known, because its header cannot be read. */
#define DP_CONTENT_UNKNOWN 0
/** Content of an archive: a stream. */
#define DP_CONTENT_STREAM 1
/** Content of an archive: a tree. */
#define DP_CONTENT_TREE 2

/** Flag of a listed archive: its writer came to the end of the session. */
#define DP_LISTED_SESSION_FINISHED 1
/** Flag of a listed archive: its writer came to the end of the archive. */
#define DP_LISTED_FINISHED 2
/**
 * Flag of a listed archive: its header can be read. Without it, the name, the hash, the content
 * and the time are not known.
 */
#define DP_LISTED_HEADER 4
/** Flag of a listed archive: it is encrypted. */
#define DP_LISTED_ENCRYPTED 8
/** Flag of a listed archive: it is a copy of an archive of the session `source_session_id`. */
#define DP_LISTED_COPY 16

/** Role of a process in a pipe: the head, which fills buffers and sends them. */
#define DP_ROLE_HEAD 1
/** Role of a process in a pipe: the tail, which receives blocks and frees them. */
#define DP_ROLE_TAIL 2

/** Event: an instance was started on a thread. */
#define DP_EVENT_THREAD_STARTED 1
/**
 * Event: an instance was not started, because the system gave it no thread. Others do its work.
 */
#define DP_EVENT_NOT_STARTED 2
/** Event: an instance ended well. */
#define DP_EVENT_ENDED 3
/** Event: an instance failed, and the pipe stops. */
#define DP_EVENT_FAILED 4
/** Event: an instance ended because the pipe was stopped. */
#define DP_EVENT_STOPPED 5
/** Event: a stage that writes or reads an archive has begun the volume `number`. */
#define DP_EVENT_VOLUME 6
/** Event: the first `number` blocks with `bytes` bytes are on stable storage. */
#define DP_EVENT_CHECKPOINT 7
/** Event: an instance has worked on block `number` for a long time, and goes on. */
#define DP_EVENT_STALLED 8
/** Event: the pipe was stopped some time ago, and an instance has not ended. */
#define DP_EVENT_STILL_WAITING 9
/** Event: a process has worked on block `number` for longer than its limit, and is killed. */
#define DP_EVENT_OVER_LIMIT 10
/** Event: a process of a stage was started. */
#define DP_EVENT_PROCESS_STARTED 11
/** Event: a process attached to an unbound stage. */
#define DP_EVENT_ATTACHED 12
/** Event: a process died. */
#define DP_EVENT_DIED 13
/** Event: a process reported a problem, and goes on. */
#define DP_EVENT_PROBLEM 14
/** Event that has no number of its own: its text describes it. */
#define DP_EVENT_OTHER 99

/** Time of a wait without an end. */
#define DP_FOREVER UINT64_MAX

/** Kind of a stage, a head: `fill` fills blocks. */
#define DP_STAGE_HEAD 1
/** Kind of a stage, a head: reads the stream that `descriptor` has. */
#define DP_STAGE_READ_DESCRIPTOR 2
/**
 * Kind of a stage, a head: another process attaches to the pipe, and fills its buffers. See
 * `dp_pipe_admit`.
 */
#define DP_STAGE_UNBOUND_HEAD 3
/** Kind of a stage: `transform` makes a block from each. */
#define DP_STAGE_TRANSFORM 10
/** Kind of a stage: `change` changes each block in place. */
#define DP_STAGE_IN_PLACE 11
/** Kind of a stage: `inspect` judges each block. The blocks must not be compressed. */
#define DP_STAGE_INSPECT 12
/** Kind of a stage: `flat_map` makes up to `most_outputs` blocks from each, or none. */
#define DP_STAGE_FLAT_MAP 13
/**
 * Kind of a stage: `analyze` reads each block, and records what it is. The blocks must not be
 * compressed.
 */
#define DP_STAGE_ANALYZE 14
/** Kind of a stage: compresses by zstd, at `level` 1 to 22, or 0 for 3. */
#define DP_STAGE_ZSTD 20
/** Kind of a stage: compresses by deflate, at `level` 1 to 9, or 0 for 6. */
#define DP_STAGE_DEFLATE 21
/** Kind of a stage: decompresses what the two before have compressed, in the same pipe. */
#define DP_STAGE_DECOMPRESS 22
/** Kind of a stage, a tail: `write` takes blocks. */
#define DP_STAGE_TAIL 30
/** Kind of a stage, a tail: writes to `descriptor`. */
#define DP_STAGE_WRITE_DESCRIPTOR 31
/**
 * Kind of a stage, a tail: another process attaches to the pipe, and receives its blocks. See
 * `dp_pipe_admit`.
 */
#define DP_STAGE_UNBOUND_TAIL 32

/**
 * Run of a stage: each instance in its own process, which is replaced if a signal kills it, unless
 * the stage is a head or a tail. The program calls `dp_serve` first.
 */
#define DP_RUN_IN_PROCESSES 1
/**
 * Run of a stage: the work on a block depends on those before, so that a process that is killed is
 * not replaced, and the pipe stops. Heads and tails need it not.
 */
#define DP_RUN_STATEFUL 2
/** Run of a stage: all instances are threads of one process, which is not replaced. */
#define DP_RUN_TOGETHER 4

/** Content of a block: not analyzed. */
#define DP_CLASS_UNKNOWN 0
/** Content of a block: text in any encoding. */
#define DP_CLASS_TEXT 1
/** Content of a block: machine code. */
#define DP_CLASS_EXECUTABLE 2
/** Content of a block: a picture. */
#define DP_CLASS_IMAGE 3
/** Content of a block: sound. */
#define DP_CLASS_AUDIO 4
/** Content of a block: moving pictures. */
#define DP_CLASS_VIDEO 5
/** Content of a block: compressed data, which no algorithm makes smaller. */
#define DP_CLASS_COMPRESSED 6
/** Content of a block: encrypted data. */
#define DP_CLASS_ENCRYPTED 7
/** Content of a block: nothing but zero bytes. */
#define DP_CLASS_ZEROS 8
/** Content of a block: none of the others. */
#define DP_CLASS_OTHER 9

/** Mark of a block: `inspect` has marked it. */
#define DP_MARK_MARKED 1
/** Mark of a block: `inspect` has rejected it, and it has no content. */
#define DP_MARK_REJECTED 2
/** Mark of a block: it could not be read back whole, and has no content. */
#define DP_MARK_DAMAGED 4

/** Source of a backup: the files and directories in `sources`. */
#define DP_SOURCE_TREES 0
/** Source of a backup: the stream that `source_descriptor` has from its present position on. */
#define DP_SOURCE_DESCRIPTOR 1
/** Source of a backup: the stream that `source_read` yields. */
#define DP_SOURCE_FUNCTION 2

/** Mode of writing: the medium must be new or empty. */
#define DP_WRITE_NEW 0
/**
 * Mode of writing: the content of the medium is replaced. It stays until the new archive is
 * complete, which needs room for both.
 */
#define DP_WRITE_OVERWRITE 1
/**
 * Mode of writing: a session is added to the medium, and nothing is changed that is there. A
 * medium that does not exist is created.
 */
#define DP_WRITE_APPEND 2

/** Compression: zstd at level 3, in this version. */
#define DP_COMPRESS_DEFAULT 0
/** Compression: none. */
#define DP_COMPRESS_NONE 1
/** Compression: zstd, level 1 to 22, or 0 for 3. */
#define DP_COMPRESS_ZSTD 2
/** Compression: deflate, level 1 to 9, or 0 for 6. */
#define DP_COMPRESS_DEFLATE 3

/**
 * Framing: a header and a footer for each chunk, in this version. A copy keeps that of its source.
 */
#define DP_FRAMING_DEFAULT 0
/** Framing: a header before each chunk. */
#define DP_FRAMING_HEADER 1
/** Framing: one header before all chunks, and one footer after them. */
#define DP_FRAMING_ONCE 2
/** Framing: a header and a footer for each chunk. */
#define DP_FRAMING_HEADER_FOOTER 3

/** Flag of a backup: leave out other file systems that are mounted inside a source. */
#define DP_BACKUP_ONE_FILE_SYSTEM 1
/** Flag of a backup: store the numbers of users and groups only, and look up no names. */
#define DP_BACKUP_NUMERIC_OWNER 2
/** Flag of a backup: store the time at which each object was made. */
#define DP_BACKUP_BIRTH_TIME 4
/**
 * Flag of a backup, with `DP_WRITE_OVERWRITE`: remove the old content when the first block of the
 * new archive has arrived. If the job fails, neither is there.
 */
#define DP_BACKUP_IN_PLACE 8
/**
 * Flag of a backup, with `DP_WRITE_OVERWRITE`: replace the old content even if there is nothing to
 * back up.
 */
#define DP_BACKUP_ALLOW_EMPTY 16
/**
 * Flag of a backup, with `DP_WRITE_APPEND`: the secret need not open the last archive of the
 * medium.
 */
#define DP_BACKUP_OTHER_KEY 32

/** Kind of an object: a file, or a stream. */
#define DP_OBJECT_FILE 1
/** Kind of an object: a directory. */
#define DP_OBJECT_DIRECTORY 2
/** Kind of an object: a symbolic link. */
#define DP_OBJECT_SYMLINK 3
/** Kind of an object: a further name of a file. */
#define DP_OBJECT_HARD_LINK 4
/** Kind of an object: a fifo. */
#define DP_OBJECT_FIFO 5
/** Kind of an object: a character device. */
#define DP_OBJECT_CHARACTER_DEVICE 6
/** Kind of an object: a block device. */
#define DP_OBJECT_BLOCK_DEVICE 7

/** State of an object: whole. */
#define DP_STATE_WHOLE 0
/** State of an object: it changed while it was read. */
#define DP_STATE_CHANGED 1
/** State of an object: not all of it is in the archive. */
#define DP_STATE_CUT 2

/**
 * Answer of `write` and `write_mark`: it does not fit in this volume any more, and nothing of it
 * was written. Records and marks of 4 KiB together still have to fit after the first such answer.
 */
#define DP_ANSWER_END_OF_VOLUME 6

/** Kind of an item: a record, with its bytes. */
#define DP_ITEM_RECORD 1
/** Kind of an item: a mark. */
#define DP_ITEM_MARK 2
/** Kind of an item: `skipped` bytes that cannot be read. The next read continues after them. */
#define DP_ITEM_DAMAGED 3
/** Kind of an item: the end of the volume; in `read_back` its start. */
#define DP_ITEM_END 4

/** Destination of a restore: the directory `destination`, for a tree. */
#define DP_TARGET_DIRECTORY 0
/** Destination of a restore: `target_descriptor`, for a stream. */
#define DP_TARGET_DESCRIPTOR 1
/** Destination of a restore: `target_write`, for a stream. */
#define DP_TARGET_FUNCTION 2

/**
 * Flag of a restore: replace existing files, and set mode, owner and times of existing
 * directories.
 */
#define DP_RESTORE_OVERWRITE 1
/**
 * Flag of a restore: give objects the numbers of their users and groups that the archive has.
 * Otherwise root gives them to the users and groups of this machine with the same names.
 */
#define DP_RESTORE_NUMERIC_OWNER 2

/** Kind of a problem: the object could not be opened, listed or read to its end. */
#define DP_PROBLEM_UNREADABLE 1
/**
 * Kind of a problem: an attribute or the flags of the object are not in the archive; all else is.
 */
#define DP_PROBLEM_ATTRIBUTE 2
/** Kind of a problem: the object was removed or replaced before it could be read. */
#define DP_PROBLEM_VANISHED 3
/** Kind of a problem: the object changed while it was read. */
#define DP_PROBLEM_CHANGED 4
/** Kind of a problem: the path is longer than an archive allows. */
#define DP_PROBLEM_TOO_LONG 5
/** Kind of a problem: the object is damaged in the archive, or lost. */
#define DP_PROBLEM_DAMAGED 10
/** Kind of a problem: the object was not restored as it is in the archive. */
#define DP_PROBLEM_NOT_RESTORED 11
/**
 * Kind of a problem: a part of the archive cannot be read. It has no path; the objects that lack
 * it are problems of their own.
 */
#define DP_PROBLEM_MEDIUM 12
/** Kind of a problem: a path that was asked for is not in the archive. */
#define DP_PROBLEM_NOT_FOUND 13
/** Not a problem, and not counted as one: the object is a socket, which no archive has. */
#define DP_PROBLEM_LEFT_OUT_SOCKET 20
/** Not a problem, and not counted as one: another file system is mounted at this object. */
#define DP_PROBLEM_LEFT_OUT_MOUNT 21
/** Not a problem, and not counted as one: the object is the archive's own medium. */
#define DP_PROBLEM_LEFT_OUT_MEDIUM 22
/** Kind of a problem that has no number of its own: its text describes it. */
#define DP_PROBLEM_OTHER 99

/** Answer of a function of a stage: done. A block is sent; an inspected block passes. */
#define DP_ANSWER_OK 0
/** Answer of `fill`: the stream has ended, and the block is not sent. */
#define DP_ANSWER_END 1
/**
 * Answer of `transform`: the input is sent in the place of the output. For `change` the same as
 * `DP_ANSWER_OK`.
 */
#define DP_ANSWER_SEND_INPUT 2
/** Answer of `transform` and `change`: nothing is sent, the block ends here. */
#define DP_ANSWER_DROP 3
/** Answer of `inspect`: the block travels on, and is recorded as marked. */
#define DP_ANSWER_MARK 4
/** Answer of `inspect`: the block travels on without its content, and is recorded as rejected. */
#define DP_ANSWER_REJECT 5

/** Level of a message: a fault. */
#define DP_LOG_ERROR 1
/** Level of a message: a result that may not be what the caller expects. */
#define DP_LOG_WARNING 2
/** Level of a message: progress, and events of a pipe. */
#define DP_LOG_INFO 3

/**
 * A seat of this process in a pipe of another one, as its head or its tail. A handle, and not an
 * address. It belongs to the thread that has made it: other threads get `DP_ERR_THREAD`.
 */
typedef struct dp_attachment dp_attachment;

/**
 * A buffer of a pipe to which this process has attached, until it is sent or freed. A handle, and
 * not an address.
 */
typedef struct dp_buffer dp_buffer;

/**
 * A cancel token: it stops each job whose hooks have it, from any thread and from a signal
 * handler. A handle, and not an address: a token that was freed is refused.
 */
typedef struct dp_cancel dp_cancel;

/**
 * The outputs of one call of `flat_map`. A handle that the function borrows: it is valid until the
 * function returns, on the function's thread, and is never freed.
 */
typedef struct dp_outputs dp_outputs;

/** A pipe: described, running or ended. A handle, and not an address. */
typedef struct dp_pipe dp_pipe;

/**
 * Result of a call: 0, a positive number up to 99 for a result with a remark, or an error.
 *
 * ```text
 *      0       success
 *   1.. 99     done, with a remark
 * 100..199     the caller: an argument, a handle, an option
 * 200..299     a stage or a callback
 * 300..399     the machine: the system, memory, storage
 * 400..499     the medium or the archive on it, and its key
 * 500..599     another participant that wrote to shared memory where it should not
 * 600..699     the job was stopped, which is not a fault
 * 900..999     the library itself
 * ```
 *
 * Later versions return more codes. A program treats a code that it does not know by its hundred.
 */
typedef int32_t dp_status;

/**
 * Receives a message: its level, `DP_LOG_ERROR` to `DP_LOG_INFO` or a level of a later version,
 * and its text, which is valid until the function returns: one line of UTF-8, in which control
 * characters are escaped.
 *
 * Threads: any thread of the library or of the program, several at once. The function must not
 * wait for a job.
 */
typedef void (*dp_log_function)(void *user, int32_t level, const char *message);

/**
 * A secret that encrypts an archive, or opens one.
 *
 * The library erases its copies when the job has ended. The program erases its own, and decides
 * whether it leaves core dumps (`setrlimit`).
 */
typedef struct {
  /**
   * `sizeof(dp_secret)`.
   */
  size_t size;
  /**
   * For the kinds with a file: its path. Else NULL.
   */
  const char *path;
  /**
   * For the other kinds: the bytes. Else NULL.
   */
  const uint8_t *bytes;
  /**
   * Number of the bytes.
   */
  size_t bytes_len;
  /**
   * `DP_SECRET_...`.
   */
  int32_t kind;
  /**
   * Set to 0.
   */
  uint32_t reserved;
} dp_secret;

/** Progress of a job. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * Time since the job's pipe has started, in nanoseconds.
   */
  uint64_t elapsed_ns;
  /**
   * Bytes that the first stage has sent: read from the source, or from the medium.
   */
  uint64_t bytes_in;
  /**
   * Bytes that the last stage has received: for the medium, or for the destination.
   */
  uint64_t bytes_out;
  /**
   * Files that are done; 0 for a job without files.
   */
  uint64_t files;
  /**
   * Bytes of the medium that were read; 0 for a backup.
   */
  uint64_t medium_read;
  /**
   * Bytes of the medium that are to be read; 0 if the number is not known.
   */
  uint64_t medium_total;
} dp_progress;

/**
 * Receives the progress of a job. Returns 0 to go on; another number cancels the job.
 *
 * Threads: the one that has called the job. Pointers are valid until the function returns.
 */
typedef int32_t (*dp_progress_function)(void *user, const dp_progress *progress);

/** An object that is not in the archive, or was not restored, as it is. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * Path of the object in the archive: bytes, not necessarily UTF-8, and a zero byte. Empty if
   * it is not known.
   */
  const char *path;
  /**
   * Length of the path in bytes, without the zero byte.
   */
  size_t path_len;
  /**
   * Description, without the path, in one line of UTF-8. Control characters are escaped.
   */
  const char *text;
  /**
   * Kind of the problem: `DP_PROBLEM_...`. Later versions have more kinds.
   */
  int32_t kind;
  /**
   * 0.
   */
  uint32_t reserved;
} dp_problem;

/**
 * Receives a problem. The job goes on. The number that is returned is ignored: return 0.
 *
 * Threads: any thread of the library or that of the call, one call at a time for each job; all
 * have been made when the job returns. The stage that has found the problem waits for the
 * function. Pointers are valid until the function returns.
 */
typedef int32_t (*dp_problem_function)(void *user, const dp_problem *problem);

/** The interest of a program in a job. All fields but the size may be 0. */
typedef struct {
  /**
   * `sizeof(dp_hooks)`.
   */
  size_t size;
  /**
   * Token that cancels the job, or NULL.
   */
  dp_cancel *cancel;
  /**
   * Pointer that is passed to the functions.
   */
  void *user;
  /**
   * Receives the progress, and once more at the end of each pipe of the job; or NULL.
   */
  dp_progress_function progress;
  /**
   * Receives each problem, or NULL.
   */
  dp_problem_function problem;
  /**
   * Time between two calls of `progress` in milliseconds; 0 for 500.
   */
  uint32_t progress_interval_ms;
  /**
   * Set to 0.
   */
  uint32_t reserved;
} dp_hooks;

/** An archive of a medium, or a session without archives, in which `archive` is 0. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * Name in UTF-8; NULL if it is not known. That of an encrypted archive needs the secret.
   */
  const char *name;
  /**
   * Label of the session in UTF-8; NULL if it is not known.
   */
  const char *label;
  /**
   * Blocks of all kinds, if the archive is finished.
   */
  uint64_t blocks;
  /**
   * Time at which the archive was begun, in seconds since 1970 UTC; without an archive, that of
   * the session.
   */
  int64_t created_seconds;
  /**
   * Nanoseconds of that time.
   */
  uint32_t created_nanoseconds;
  /**
   * Number of the session on the medium, from 1.
   */
  uint32_t session;
  /**
   * Number of the archive in its session, from 1.
   */
  uint32_t archive;
  /**
   * Number of the archive on the medium, from 1; 0 without an archive.
   */
  uint32_t number;
  /**
   * `DP_CONTENT_...`. Later versions may have more.
   */
  int32_t content;
  /**
   * `DP_LISTED_...` flags, added. Later versions have more.
   */
  uint32_t flags;
  /**
   * Id of the session.
   */
  uint8_t session_id[16];
  /**
   * Id of the archive.
   */
  uint8_t archive_id[16];
  /**
   * Id of the session from which a copy was made.
   */
  uint8_t source_session_id[16];
  /**
   * Hash of the header, as the backup has returned it.
   */
  uint8_t header_hash[32];
} dp_listed_archive;

/**
 * Receives an archive of a medium. Returns 0 to go on; another number ends the list, which then
 * returns `DP_ERR_CALLBACK`.
 *
 * Threads: that of `dp_sessions`. Pointers are valid until the function returns.
 */
typedef int32_t (*dp_archive_function)(void *user, const dp_listed_archive *archive);

/**
 * Returns the bytes of content that a medium has, 0 for an empty one, or a negative error number.
 *
 * Threads: any thread of the library or that of the call.
 */
typedef int64_t (*dp_medium_size_function)(void *user);

/** The medium as it is opened to write. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * Label of the volumes for people, in UTF-8. Empty for none.
   */
  const char *label;
  /**
   * 1 to write after the content, 0 to write from the start: old content is lost.
   */
  uint32_t appends;
  /**
   * 0.
   */
  uint32_t reserved;
} dp_medium_writing;

/**
 * Opens a medium to write, and sets `writer`. Returns `DP_ANSWER_OK` or a negative error number.
 *
 * Threads: that of the call.
 */
typedef int32_t (*dp_medium_create_function)(void *user,
                                             const dp_medium_writing *writing,
                                             void **writer);

/** A record that is written. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * The bytes.
   */
  const uint8_t *bytes;
  /**
   * Number of bytes, 1 to 16 MiB.
   */
  size_t len;
} dp_record;

/** A position on a medium. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * Number of records, marks and damaged places before it in the volume; 2^64 - 1 if that is not
   * known, because the reader has gone to the end.
   */
  uint64_t record;
  /**
   * A number by which the medium finds the position again, such as the bytes before it: larger
   * for later ones, and 0 at the start of a volume.
   */
  uint64_t byte;
  /**
   * Number of the volume, from 1.
   */
  uint32_t volume;
  /**
   * 0.
   */
  uint32_t reserved;
} dp_position;

/**
 * Writes a record, all of it or nothing, and sets `at` to where it begins. Returns `DP_ANSWER_OK`,
 * `DP_ANSWER_END_OF_VOLUME` or a negative error number.
 *
 * Threads: one call at a time for each writer, on any thread of the library.
 */
typedef int32_t (*dp_medium_write_function)(void *writer, const dp_record *record, dp_position *at);

/**
 * Ends an instance. `finish` returns `DP_ANSWER_OK` or a negative error number; the answer of
 * `drop` is ignored.
 *
 * Threads: as for `dp_fill_function`.
 */
typedef int32_t (*dp_end_function)(void *state);

/**
 * Opens a medium to read, from the start of its first volume, and sets `reader`. Several readers
 * may be open at once. Returns `DP_ANSWER_OK` or a negative error number.
 *
 * Threads: that of the call.
 */
typedef int32_t (*dp_medium_open_function)(void *user, void **reader);

/** An item that is read. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * Bytes of a record, which stay valid until the next call for this reader. They are copied.
   */
  const uint8_t *bytes;
  /**
   * Number of these bytes, at most 16 MiB.
   */
  size_t len;
  /**
   * Bytes of a damaged place, at least 1.
   */
  uint64_t skipped;
  /**
   * As in `dp_position`: where the item begins.
   */
  uint64_t record;
  /**
   * As in `dp_position`.
   */
  uint64_t byte;
  /**
   * As in `dp_position`.
   */
  uint32_t volume;
  /**
   * `DP_ITEM_...`.
   */
  int32_t kind;
} dp_item;

/**
 * Reads the next item, or the one before. Returns `DP_ANSWER_OK` or a negative error number.
 *
 * Threads: one call at a time for each reader, on any thread of the library or that of the call.
 */
typedef int32_t (*dp_medium_read_function)(void *reader, dp_item *item);

/**
 * Goes to a position. Returns `DP_ANSWER_OK`, `DP_ANSWER_END` if there is none such, and the
 * position is as before, or a negative error number.
 *
 * Threads: as for `dp_medium_read_function`.
 */
typedef int32_t (*dp_medium_seek_function)(void *reader, const dp_position *to);

/**
 * A medium of the program, with volumes of records and marks, as a tape has them. All functions
 * are needed. Two structs with the same `user`, `create` and `open` are one medium: `dp_copy`
 * refuses to write the one that it reads.
 */
typedef struct {
  /**
   * `sizeof(dp_medium)`.
   */
  size_t size;
  /**
   * Pointer that is passed to `content`, `create` and `open`.
   */
  void *user;
  /**
   * Returns the bytes of content.
   */
  dp_medium_size_function content;
  /**
   * Opens the medium to write.
   */
  dp_medium_create_function create;
  /**
   * Writes a record.
   */
  dp_medium_write_function write;
  /**
   * Writes a mark. Returns as `write`.
   */
  dp_end_function write_mark;
  /**
   * Returns `DP_ANSWER_OK` when all that was written is on stable storage, or a negative error
   * number. After an error the archive ends.
   */
  dp_end_function sync;
  /**
   * Syncs this volume and begins the next one. Returns `DP_ANSWER_OK` or a negative error
   * number: `-ENOSPC` if there is no other volume.
   */
  dp_end_function extend;
  /**
   * Syncs and completes what was written. Nothing is written after that. Returns `DP_ANSWER_OK`
   * or a negative error number.
   */
  dp_end_function finish;
  /**
   * Frees the writer, also one that was not finished. The answer is ignored.
   */
  dp_end_function close_writer;
  /**
   * Opens the medium to read.
   */
  dp_medium_open_function open;
  /**
   * Reads the next item. At the end of a volume it returns `DP_ITEM_END` again and again.
   */
  dp_medium_read_function read;
  /**
   * Reads the item before the position, and leaves the position before it.
   */
  dp_medium_read_function read_back;
  /**
   * Goes to the start of the next volume. Returns `DP_ANSWER_OK`, `DP_ANSWER_END` if there is
   * none, or a negative error number.
   */
  dp_end_function next_volume;
  /**
   * Goes to a position that `write` or `read` has set, or to the start of a volume.
   */
  dp_medium_seek_function seek;
  /**
   * Goes to the end of the volume that the position has, or of the last one for volume 0.
   */
  dp_medium_seek_function seek_end;
  /**
   * Frees the reader. The answer is ignored.
   */
  dp_end_function close_reader;
  /**
   * Most bytes of a record that an empty volume takes, 1024 to 16 MiB; 0 for 16 MiB. An archive
   * has shorter records if its own do not fit.
   */
  uint32_t longest_record;
  /**
   * Set to 0.
   */
  uint32_t reserved;
} dp_medium;

/** Options of the list of a medium. Fields that are 0 have their default. */
typedef struct {
  /**
   * `sizeof(dp_sessions_options)`.
   */
  size_t size;
  /**
   * Path of the medium.
   */
  const char *medium;
  /**
   * Secret that opens the names of encrypted archives, or NULL.
   */
  const dp_secret *secret;
  /**
   * Cancellation and problems, or NULL. There is no progress.
   */
  const dp_hooks *hooks;
  /**
   * Receives each archive, in the order of the medium.
   */
  dp_archive_function archive;
  /**
   * Pointer that is passed to `archive`.
   */
  void *archive_user;
  /**
   * `DP_MEDIUM_...`.
   */
  int32_t medium_kind;
  /**
   * Set to 0.
   */
  uint32_t reserved;
  /**
   * For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium, or NULL.
   */
  const dp_medium *medium_functions;
} dp_sessions_options;

/** Result of the list of a medium. */
typedef struct {
  /**
   * `sizeof(dp_sessions_result)`: set it before the call.
   */
  size_t size;
  /**
   * Sessions in the list.
   */
  uint64_t sessions;
  /**
   * Archives in the list.
   */
  uint64_t archives;
  /**
   * 1 if the medium has more than can be listed: the list has the last ones. Otherwise 0.
   */
  uint32_t is_cut;
  /**
   * Places with damage that the list has met. The status is `DP_INCOMPLETE` if there are any.
   * The medium may have more damage, which reading an archive finds.
   */
  uint32_t damage;
} dp_sessions_result;

/** A seat in a pipe that the daemon `datapiped` runs. */
typedef struct {
  /**
   * `sizeof(dp_daemon_seat)`.
   */
  size_t size;
  /**
   * Path of the daemon's socket.
   */
  const char *socket;
  /**
   * Name of the pipe in UTF-8, as the daemon has given it.
   */
  const char *pipe;
  /**
   * Token that ends the call, or NULL.
   */
  dp_cancel *cancel;
  /**
   * `DP_ROLE_...`.
   */
  int32_t role;
  /**
   * Longest time in milliseconds to wait for the daemon; 0 for 30000.
   */
  uint32_t timeout_ms;
} dp_daemon_seat;

/** A block that a stage fills or changes. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * The block: `capacity` bytes that may be written.
   */
  uint8_t *bytes;
  /**
   * Bytes that the block can have.
   */
  size_t capacity;
  /**
   * Bytes of data from `bytes` on: 0 in `fill` and `transform`, in `change` those of the block.
   * The function sets it.
   */
  size_t len;
  /**
   * Numbers of the program, which travel with the block. The function may set them.
   */
  uint64_t user[4];
} dp_output;

/** A block that a stage reads. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * The data.
   */
  const uint8_t *bytes;
  /**
   * Length of the data in bytes.
   */
  size_t len;
  /**
   * Number of the block, from 0. 2^64 - 1 in `inspect`, which does not have it.
   */
  uint64_t number;
  /**
   * Offset of the data in the stream that the head read, in bytes, if the head counts it.
   */
  uint64_t offset;
  /**
   * Numbers of the program, which travel with the block.
   */
  uint64_t user[4];
  /**
   * Length of the data before compression; 0 if it is not compressed.
   */
  uint32_t plain_len;
  /**
   * Compression: 0 for none, 1 for zstd, 2 for deflate.
   */
  uint32_t codec;
  /**
   * `DP_CLASS_...`, as an `analyze` before this stage has found. Later versions have more.
   */
  uint32_t content_class;
  /**
   * `DP_MARK_...`, added. Later versions have more.
   */
  uint32_t marks;
} dp_block;

/** An event in the life of a pipe. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * The event as a sentence, in one line of UTF-8. Control characters are escaped.
   */
  const char *text;
  /**
   * Name of the stage, in UTF-8, as the program has given it. Empty for `DP_EVENT_OTHER`.
   */
  const char *stage;
  /**
   * Number of a block from 0, of blocks, or of a volume from 1; 2^64 - 1 if the event has none,
   * or it is not known.
   */
  uint64_t number;
  /**
   * Bytes of a checkpoint before compression; otherwise 0.
   */
  uint64_t bytes;
  /**
   * Time that the event names, in nanoseconds; 0 if it names none.
   */
  uint64_t time_ns;
  /**
   * `DP_EVENT_...`. Later versions have more.
   */
  int32_t kind;
  /**
   * The instance of the stage, from 0.
   */
  uint32_t instance;
  /**
   * Id of the process, or 0.
   */
  uint32_t process;
  /**
   * 0.
   */
  uint32_t reserved;
} dp_event;

/**
 * Receives an event. The number that is returned is ignored: return 0.
 *
 * Threads: any thread of the library, or that of `dp_pipe_start`; several at once. The pipe waits
 * for the function, which may cancel the pipe, and cannot wait for it or free it
 * (`DP_ERR_REENTRANT`). Pointers are valid until the function returns.
 */
typedef int32_t (*dp_event_function)(void *user, const dp_event *event);

/** Options of a pipe. Fields that are 0 have their default. */
typedef struct {
  /**
   * `sizeof(dp_pipe_options)`.
   */
  size_t size;
  /**
   * Name of the pipe in messages, in UTF-8, at most 64 bytes. NULL for none.
   */
  const char *label;
  /**
   * Token that cancels the pipe while a thread waits for it, or NULL.
   */
  dp_cancel *cancel;
  /**
   * Buffers in the pool; 0 for enough to keep every instance busy.
   */
  uint32_t buffers;
  /**
   * Size of a buffer in bytes, 512 to 64 MiB; 0 for 4 MiB.
   */
  uint32_t buffer_size;
  /**
   * Set to 0.
   */
  uint32_t reserved;
  /**
   * Set to 0.
   */
  uint32_t reserved_2;
  /**
   * Receives the events of the pipe, or NULL.
   */
  dp_event_function event;
  /**
   * Pointer that is passed to `event`.
   */
  void *event_user;
} dp_pipe_options;

/**
 * Makes the state of instance `instance` of a stage, from 0. Returns `DP_ANSWER_OK` and sets
 * `state`, or returns a negative error number: the pipe then fails.
 *
 * Threads: any thread of the library or that of `dp_pipe_start`, one call at a time for each
 * stage.
 */
typedef int32_t (*dp_make_function)(void *user, uint32_t instance, void **state);

/**
 * Fills a block. Returns `DP_ANSWER_OK`, `DP_ANSWER_END` or a negative error number, `-EIO`.
 *
 * Threads: one call at a time for each instance, of which each may be on another thread.
 */
typedef int32_t (*dp_fill_function)(void *state, dp_output *out);

/**
 * Makes a block from another one. Returns `DP_ANSWER_OK`, `DP_ANSWER_SEND_INPUT`, `DP_ANSWER_DROP`
 * or a negative error number.
 *
 * Threads: as for `dp_fill_function`.
 */
typedef int32_t (*dp_transform_function)(void *state, const dp_block *block, dp_output *out);

/**
 * Changes a block in place. Returns `DP_ANSWER_OK`, `DP_ANSWER_DROP` or a negative error number.
 *
 * Threads: as for `dp_fill_function`.
 */
typedef int32_t (*dp_change_function)(void *state, dp_output *block);

/**
 * Judges a block, or writes it. `inspect` returns `DP_ANSWER_OK`, `DP_ANSWER_MARK`,
 * `DP_ANSWER_REJECT` or a negative error number, and `write` returns `DP_ANSWER_OK` or a negative
 * error number.
 *
 * Threads: as for `dp_fill_function`.
 */
typedef int32_t (*dp_block_function)(void *state, const dp_block *block);

/**
 * Makes several blocks from one, or none, with `dp_outputs_begin` and `dp_outputs_send`. Returns
 * `DP_ANSWER_OK` or a negative error number.
 *
 * Threads: as for `dp_fill_function`.
 */
typedef int32_t (*dp_flat_map_function)(void *state, const dp_block *block, dp_outputs *outputs);

/** Findings of `analyze` about a block. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * Numbers of the program, which travel with the block. The function may set them.
   */
  uint64_t user[4];
  /**
   * `DP_CLASS_...`, at first that of an earlier analysis. The function may set it: a compressor
   * leaves blocks as they are that cannot become smaller.
   */
  uint32_t content_class;
  /**
   * 0.
   */
  uint32_t reserved;
} dp_analysis;

/**
 * Analyzes a block. Returns `DP_ANSWER_OK` or a negative error number.
 *
 * Threads: as for `dp_fill_function`.
 */
typedef int32_t (*dp_analyze_function)(void *state, const dp_block *block, dp_analysis *analysis);

/** A stage that is added to a pipe. Functions that its kind does not use are NULL. */
typedef struct {
  /**
   * `sizeof(dp_stage)`.
   */
  size_t size;
  /**
   * Name in messages and in the status, in UTF-8, at most 64 bytes. NULL for one of the library.
   */
  const char *name;
  /**
   * Pointer that is passed to `make`. Without `make`, it is the state of each instance.
   */
  void *user;
  /**
   * Makes the state of an instance, or NULL.
   */
  dp_make_function make;
  /**
   * For `DP_STAGE_HEAD`.
   */
  dp_fill_function fill;
  /**
   * For `DP_STAGE_TRANSFORM`.
   */
  dp_transform_function transform;
  /**
   * For `DP_STAGE_IN_PLACE`.
   */
  dp_change_function change;
  /**
   * For `DP_STAGE_INSPECT`.
   */
  dp_block_function inspect;
  /**
   * For `DP_STAGE_TAIL`.
   */
  dp_block_function write;
  /**
   * Called after the last block, if the stream has ended well up to here, or NULL. A tail
   * flushes here: what only this call writes marks a complete stream. Not for heads,
   * `inspect`, `analyze` and `flat_map`.
   */
  dp_end_function finish;
  /**
   * Frees the state of an instance that `make` has made, however the pipe ends, or NULL.
   */
  dp_end_function drop;
  /**
   * `DP_STAGE_...`.
   */
  int32_t kind;
  /**
   * Level of a compression.
   */
  int32_t level;
  /**
   * Descriptor of a stream. It stays open, and is not used after the pipe.
   */
  int32_t descriptor;
  /**
   * Instances that run at once, 1 to 64; 0 for 1. Stages with several keep the order of blocks.
   */
  uint32_t instances;
  /**
   * For `DP_STAGE_FLAT_MAP`.
   */
  dp_flat_map_function flat_map;
  /**
   * For `DP_STAGE_ANALYZE`.
   */
  dp_analyze_function analyze;
  /**
   * For `DP_STAGE_FLAT_MAP`: most blocks from one, 1 to 64. The pipe's memory grows with it.
   */
  uint32_t most_outputs;
  /**
   * For the unbound stages: time in milliseconds in which a process must attach, or the pipe
   * stops; 0 for 60000.
   */
  uint32_t patience_ms;
  /**
   * For a stage of the program that runs in processes: name of the module that makes it there,
   * in UTF-8. Its functions above are then not used, and may be NULL.
   */
  const char *module;
  /**
   * Bytes that the module gets, or NULL.
   */
  const uint8_t *module_arguments;
  /**
   * Number of these bytes, at most 64 KiB.
   */
  size_t module_arguments_len;
  /**
   * Path of the program that the processes run, which calls `dp_serve`; NULL for this program.
   */
  const char *program;
  /**
   * `DP_RUN_...`, added; 0 for threads.
   */
  uint32_t run;
  /**
   * In processes: longest time in milliseconds for one block, after which the process is killed;
   * 0 for no limit.
   */
  uint32_t work_limit_ms;
} dp_stage;

/** Result of a pipe that has ended well. */
typedef struct {
  /**
   * `sizeof(dp_pipe_result)`: set it before the call.
   */
  size_t size;
  /**
   * Bytes that the head has sent.
   */
  uint64_t bytes_in;
  /**
   * Bytes that the tail has received.
   */
  uint64_t bytes_out;
  /**
   * Problems that the stages have counted, rejected blocks among them. The status is
   * `DP_INCOMPLETE` if there are any.
   */
  uint64_t problems;
  /**
   * Blocks that `inspect` has marked.
   */
  uint64_t marked;
  /**
   * Blocks that `inspect` has rejected.
   */
  uint64_t rejected;
  /**
   * Time of the pipe in nanoseconds.
   */
  uint64_t elapsed_ns;
} dp_pipe_result;

/** State of a pipe at one moment. */
typedef struct {
  /**
   * `sizeof(dp_pipe_status)`: set it before the call.
   */
  size_t size;
  /**
   * Bytes that the head has sent.
   */
  uint64_t bytes_in;
  /**
   * Bytes that the tail has received.
   */
  uint64_t bytes_out;
  /**
   * Time since the pipe has started, until it has ended, in nanoseconds.
   */
  uint64_t elapsed_ns;
  /**
   * 1 while the pipe runs, 0 when it has ended.
   */
  uint32_t running;
  /**
   * Stages, with those that the library has added.
   */
  uint32_t stages;
  /**
   * Buffers in the pool.
   */
  uint32_t buffers;
  /**
   * Buffers that are free.
   */
  uint32_t free_buffers;
} dp_pipe_status;

/** Arguments of a module, as the stage was added with them. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * The bytes of `module_arguments`.
   */
  const uint8_t *bytes;
  /**
   * Number of these bytes.
   */
  size_t len;
} dp_module_arguments;

/**
 * Makes the stage of a module in a process that runs it: sets the kind and the functions in
 * `stage`, which is empty, as they would be for `dp_pipe_add` in threads. Texts that it sets stay
 * valid until the process ends. Returns `DP_ANSWER_OK` or a negative error number: the pipe then
 * fails.
 *
 * Threads: the one that has called `dp_serve`, before the functions of the stage.
 */
typedef int32_t (*dp_module_function)(void *user,
                                      const dp_module_arguments *arguments,
                                      dp_stage *stage);

/** A stage of the program that can run in processes, by its name. */
typedef struct {
  /**
   * `sizeof(dp_module)`.
   */
  size_t size;
  /**
   * Name in UTF-8, at most 255 bytes, which does not begin with `datapipe.`.
   */
  const char *name;
  /**
   * Makes the stage.
   */
  dp_module_function make;
  /**
   * Pointer that is passed to `make`.
   */
  void *user;
} dp_module;

/** A description of a pipe in JSON, with what JSON cannot have. */
typedef struct {
  /**
   * `sizeof(dp_pipe_json)`.
   */
  size_t size;
  /**
   * The text in UTF-8.
   */
  const uint8_t *text;
  /**
   * Length of the text in bytes, at most 16 MiB.
   */
  size_t text_len;
  /**
   * Modules of the stages with functions of the program that run in threads, or NULL. Those of
   * stages in processes come from `dp_serve`.
   */
  const dp_module *modules;
  /**
   * Number of modules.
   */
  size_t module_count;
  /**
   * Token that cancels the pipe while a thread waits for it, or NULL.
   */
  dp_cancel *cancel;
  /**
   * Receives the events of the pipe, or NULL.
   */
  dp_event_function event;
  /**
   * Pointer that is passed to `event`.
   */
  void *event_user;
} dp_pipe_json;

/** State of a stage at one moment. Numbers and times are sums over its instances. */
typedef struct {
  /**
   * `sizeof(dp_stage_status)`: set it in the first one of an array before the call.
   */
  size_t size;
  /**
   * Name of the stage, in UTF-8, and a zero byte.
   */
  char name[72];
  /**
   * Blocks that the stage has received.
   */
  uint64_t blocks_in;
  /**
   * Bytes that it has received.
   */
  uint64_t bytes_in;
  /**
   * Blocks that it has sent.
   */
  uint64_t blocks_out;
  /**
   * Bytes that it has sent.
   */
  uint64_t bytes_out;
  /**
   * Time that it worked, in nanoseconds.
   */
  uint64_t working_ns;
  /**
   * Time that it waited for a buffer, in nanoseconds.
   */
  uint64_t waited_for_buffer_ns;
  /**
   * Time that it waited for input, in nanoseconds.
   */
  uint64_t waited_for_input_ns;
  /**
   * Blocks that wait in its input queue; for the head, free buffers.
   */
  uint32_t queued;
  /**
   * Buffers that it holds.
   */
  uint32_t held;
  /**
   * Instances.
   */
  uint32_t instances;
  /**
   * Instances that work.
   */
  uint32_t working;
  /**
   * Instances that wait for a buffer.
   */
  uint32_t waiting_for_buffer;
  /**
   * Instances that wait for input.
   */
  uint32_t waiting_for_input;
  /**
   * Instances that have ended, well or not.
   */
  uint32_t ended;
  /**
   * Instances that wait for a process to attach.
   */
  uint32_t unattached;
} dp_stage_status;

/**
 * Reads a part of a stream into `bytes`, at most `len` bytes. Returns how many it has put there, 0
 * at the end of the stream, or a negative error number, `-EIO`, which fails the job.
 *
 * Threads: one thread of the library, not that of the job. A job that is cancelled ends when the
 * function returns.
 */
typedef int64_t (*dp_read_function)(void *user, uint8_t *bytes, size_t len);

/** Options of a backup. Fields that are 0 have their default. */
typedef struct {
  /**
   * `sizeof(dp_backup_options)`.
   */
  size_t size;
  /**
   * Paths of the files and directories, for `DP_SOURCE_TREES`. The last name of each is its name
   * in the archive. Of a symbolic link the archive has the link; with a slash at its end, the
   * directory that it refers to.
   */
  const char *const *sources;
  /**
   * Number of the paths.
   */
  size_t source_count;
  /**
   * Yields the stream, for `DP_SOURCE_FUNCTION`.
   */
  dp_read_function source_read;
  /**
   * Pointer that is passed to `source_read`.
   */
  void *source_user;
  /**
   * Path of the medium.
   */
  const char *medium;
  /**
   * Secret that encrypts the archive, or NULL. Not an identity.
   */
  const dp_secret *secret;
  /**
   * Paths of files with recipients, the public keys of identities: each can open the archive, as
   * can the secret.
   */
  const char *const *recipient_files;
  /**
   * Number of the recipients, at most 8 together with the secret.
   */
  size_t recipient_count;
  /**
   * Patterns of objects that are left out with everything below them, in UTF-8. A pattern
   * matches a name, a path in the archive, or, if it begins with a slash, an absolute path; `**`
   * matches any number of directories.
   */
  const char *const *exclude;
  /**
   * Number of the patterns.
   */
  size_t exclude_count;
  /**
   * Name of the archive in UTF-8, at most 255 bytes; NULL for the name of the first source, or
   * "stream".
   */
  const char *name;
  /**
   * Name and version of the program, for the archive; NULL for those of the library.
   */
  const char *program;
  /**
   * Label of the volumes, for people, in UTF-8, at most 64 bytes; NULL for none.
   */
  const char *label;
  /**
   * Progress, problems and cancellation, or NULL.
   */
  const dp_hooks *hooks;
  /**
   * Largest size of a volume in bytes; 0 for the free space of the file system. In a directory,
   * more volumes follow.
   */
  uint64_t volume_size;
  /**
   * `DP_SOURCE_...`.
   */
  int32_t source_kind;
  /**
   * The stream, for `DP_SOURCE_DESCRIPTOR`. It stays open, and is not used after the job.
   */
  int32_t source_descriptor;
  /**
   * `DP_MEDIUM_...`.
   */
  int32_t medium_kind;
  /**
   * `DP_WRITE_...`.
   */
  int32_t mode;
  /**
   * `DP_COMPRESS_...`.
   */
  int32_t compression;
  /**
   * Level of the compression.
   */
  int32_t level;
  /**
   * `DP_FRAMING_...`.
   */
  int32_t framing;
  /**
   * `DP_BACKUP_...` flags, added.
   */
  uint32_t flags;
  /**
   * Threads that compress, and that encrypt, 1 to 64; 0 for one per processor.
   */
  uint32_t instances;
  /**
   * Most threads that read files at once, 1 to 64; 0 for a number that suits the machine.
   */
  uint32_t readers;
  /**
   * Buffers in the pool; 0 for enough to keep every thread busy.
   */
  uint32_t buffers;
  /**
   * Size of a buffer, and so of a block before compression, in bytes, 512 to 64 MiB; 0 for 4
   * MiB.
   */
  uint32_t buffer_size;
  /**
   * For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium, or NULL.
   */
  const dp_medium *medium_functions;
} dp_backup_options;

/** Result of a backup. */
typedef struct {
  /**
   * `sizeof(dp_backup_result)`: set it before the call.
   */
  size_t size;
  /**
   * Files in the archive, each counted once even if it has several names.
   */
  uint64_t files;
  /**
   * Directories in the archive.
   */
  uint64_t directories;
  /**
   * Everything else in the archive: links, further names of files, fifos, devices.
   */
  uint64_t others;
  /**
   * Names that a pattern has left out. Objects below them are not counted.
   */
  uint64_t excluded;
  /**
   * Objects that do not belong in the archive: sockets, mount points, the medium.
   */
  uint64_t left_out;
  /**
   * Problems. The status is `DP_INCOMPLETE` if there are any.
   */
  uint64_t problems;
  /**
   * Bytes that were read.
   */
  uint64_t bytes_in;
  /**
   * Bytes that were written to the medium, without headers.
   */
  uint64_t bytes_out;
  /**
   * Blocks of the archive.
   */
  uint64_t blocks;
  /**
   * Time of the pipe in nanoseconds.
   */
  uint64_t elapsed_ns;
  /**
   * Volumes that have the archive.
   */
  uint32_t volumes;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Hash of the archive's header, which no other archive has: for `dp_selection`.
   */
  uint8_t header_hash[32];
} dp_backup_result;

/**
 * Selection of an archive on a medium with several. Without a selection a job reads the last whole
 * archive that opens with the secret. All fields but the size may be 0.
 */
typedef struct {
  /**
   * `sizeof(dp_selection)`.
   */
  size_t size;
  /**
   * Name of the archive in UTF-8; of several, the one that was begun last. NULL for any.
   */
  const char *name;
  /**
   * The 32 bytes of `header_hash` that the backup has returned, or NULL. An archive with another
   * hash is not read: `DP_ERR_OTHER_ARCHIVE`.
   */
  const uint8_t *header_hash;
  /**
   * Number of the session on the medium, from 1; 0 for any.
   */
  uint32_t session;
  /**
   * Number of the archive in the session, or else on the medium, from 1; 0 for any.
   */
  uint32_t archive;
  /**
   * The 16 bytes of the session's id, as `dp_sessions` shows it, or NULL for any.
   */
  const uint8_t *session_id;
} dp_selection;

/** Options of a copy. Fields that are 0 have their default. */
typedef struct {
  /**
   * `sizeof(dp_copy_options)`.
   */
  size_t size;
  /**
   * Path of the medium with the archive.
   */
  const char *medium;
  /**
   * Archive on a medium with several, or NULL.
   */
  const dp_selection *selection;
  /**
   * Path of the medium of the copy.
   */
  const char *target;
  /**
   * Label of the copy's volumes, for people, in UTF-8, at most 64 bytes; NULL for none.
   */
  const char *label;
  /**
   * Progress, problems and cancellation, or NULL.
   */
  const dp_hooks *hooks;
  /**
   * Largest size of a volume of the copy in bytes; 0 for the free space of the file system.
   */
  uint64_t volume_size;
  /**
   * Length of a record in bytes, 1 KiB to 16 MiB; 0 for that of the source.
   */
  uint64_t record_len;
  /**
   * `DP_MEDIUM_...`, of the source.
   */
  int32_t medium_kind;
  /**
   * `DP_MEDIUM_...`, of the copy.
   */
  int32_t target_kind;
  /**
   * `DP_WRITE_...`.
   */
  int32_t mode;
  /**
   * `DP_FRAMING_...`.
   */
  int32_t framing;
  /**
   * For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium with the archive, or NULL.
   */
  const dp_medium *medium_functions;
  /**
   * For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium of the copy, or NULL.
   */
  const dp_medium *target_functions;
  /**
   * Secret that opens the names of encrypted archives, for a selection by name, or NULL. The
   * copy is encrypted as the archive is.
   */
  const dp_secret *secret;
} dp_copy_options;

/** Result of a copy. */
typedef struct {
  /**
   * `sizeof(dp_copy_result)`: set it before the call.
   */
  size_t size;
  /**
   * Problems: the archive could not be read completely, and its copy is not complete. The status
   * is `DP_INCOMPLETE` if there are any.
   */
  uint64_t problems;
  /**
   * Bytes that were written to the medium, without headers.
   */
  uint64_t bytes_out;
  /**
   * Blocks of the copy.
   */
  uint64_t blocks;
  /**
   * Time of the pipe in nanoseconds.
   */
  uint64_t elapsed_ns;
  /**
   * Volumes that have the copy.
   */
  uint32_t volumes;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Hash of the archive's header, which the copy has, too.
   */
  uint8_t header_hash[32];
} dp_copy_result;

/** An entry of a list. */
typedef struct {
  /**
   * Size of this struct in the library that runs. Fields after it do not exist.
   */
  size_t size;
  /**
   * Path in the archive: bytes, not necessarily UTF-8, and a zero byte.
   */
  const char *path;
  /**
   * Length of the path in bytes, without the zero byte.
   */
  size_t path_len;
  /**
   * Target of a symbolic link, and a zero byte; otherwise empty.
   */
  const char *target;
  /**
   * Length of the target in bytes, without the zero byte.
   */
  size_t target_len;
  /**
   * Bytes of a file; otherwise 0.
   */
  uint64_t object_size;
  /**
   * Number of the inode; 0 if it is not known.
   */
  uint64_t inode;
  /**
   * Time of the last modification, in seconds since 1970 UTC.
   */
  int64_t modified_seconds;
  /**
   * Nanoseconds of that time.
   */
  uint32_t modified_nanoseconds;
  /**
   * Permission bits, setuid, setgid and sticky.
   */
  uint32_t mode;
  /**
   * `DP_OBJECT_...`. Later versions have more.
   */
  int32_t kind;
  /**
   * `DP_STATE_...`. Later versions have more.
   */
  int32_t state;
} dp_entry;

/**
 * Receives an entry of a list. Returns 0 to go on; another number ends the list, which then
 * returns `DP_ERR_CALLBACK`.
 *
 * Threads: any thread of the library or that of the job, one call at a time. Pointers are valid
 * until the function returns.
 */
typedef int32_t (*dp_entry_function)(void *user, const dp_entry *entry);

/** Options of a list. Fields that are 0 have their default. */
typedef struct {
  /**
   * `sizeof(dp_list_options)`.
   */
  size_t size;
  /**
   * Path of the medium.
   */
  const char *medium;
  /**
   * Archive on a medium with several, or NULL.
   */
  const dp_selection *selection;
  /**
   * Secret that opens the archive, or NULL.
   */
  const dp_secret *secret;
  /**
   * Receives each entry.
   */
  dp_entry_function entry;
  /**
   * Pointer that is passed to `entry`.
   */
  void *entry_user;
  /**
   * Paths in the archive: they and everything below them are listed. None for everything.
   */
  const char *const *paths;
  /**
   * Number of the paths.
   */
  size_t path_count;
  /**
   * Progress, problems and cancellation, or NULL.
   */
  const dp_hooks *hooks;
  /**
   * `DP_MEDIUM_...`.
   */
  int32_t medium_kind;
  /**
   * Threads that decompress, and that decrypt, 1 to 64; 0 for one per processor.
   */
  uint32_t instances;
  /**
   * For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium, or NULL.
   */
  const dp_medium *medium_functions;
} dp_list_options;

/** Result of a restore, a verification or a list. */
typedef struct {
  /**
   * `sizeof(dp_read_result)`: set it before the call.
   */
  size_t size;
  /**
   * Files that were restored whole, verified, or listed. 0 for the restore or the verification
   * of a stream.
   */
  uint64_t files;
  /**
   * Directories.
   */
  uint64_t directories;
  /**
   * Everything else: links, further names of files, fifos, devices.
   */
  uint64_t others;
  /**
   * Problems. The status is `DP_INCOMPLETE` if there are any.
   */
  uint64_t problems;
  /**
   * Objects of a tree, or parts of a stream, that are known to be damaged or lost.
   */
  uint64_t damaged;
  /**
   * Bytes of blocks that were read from the medium.
   */
  uint64_t bytes_in;
  /**
   * Bytes that the last stage has received.
   */
  uint64_t bytes_out;
  /**
   * Blocks that were read.
   */
  uint64_t blocks;
  /**
   * Time of the pipe in nanoseconds.
   */
  uint64_t elapsed_ns;
  /**
   * Volumes that were read.
   */
  uint32_t volumes;
  /**
   * 1 if the archive was read to its end and is complete, else 0. A job that reads a part of the
   * archive does not see its end.
   */
  uint32_t complete;
  /**
   * 1 if the secret has opened the archive, so that its content is authentic; 0 without a
   * secret. An identity does not prove the writer of the archive.
   */
  uint32_t authenticated;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Hash of the archive's header, which no other archive has.
   */
  uint8_t header_hash[32];
} dp_read_result;

/**
 * Takes a part of a stream. Returns how many of the `len` bytes it has taken, at least 1, or a
 * negative error number, `-ENOSPC`, which fails the job.
 *
 * Threads: one thread of the library, not that of the job. A job that is cancelled ends when the
 * function returns.
 */
typedef int64_t (*dp_write_function)(void *user, const uint8_t *bytes, size_t len);

/** Options of a restore. Fields that are 0 have their default. */
typedef struct {
  /**
   * `sizeof(dp_restore_options)`.
   */
  size_t size;
  /**
   * Path of the medium.
   */
  const char *medium;
  /**
   * Archive on a medium with several, or NULL.
   */
  const dp_selection *selection;
  /**
   * Secret that opens the archive, or NULL.
   */
  const dp_secret *secret;
  /**
   * Directory for a tree. It is created if its parent exists.
   */
  const char *destination;
  /**
   * Takes a stream, for `DP_TARGET_FUNCTION`.
   */
  dp_write_function target_write;
  /**
   * Pointer that is passed to `target_write`.
   */
  void *target_user;
  /**
   * Paths in the archive: they and everything below them are restored. None for everything.
   */
  const char *const *paths;
  /**
   * Number of the paths.
   */
  size_t path_count;
  /**
   * Progress, problems and cancellation, or NULL.
   */
  const dp_hooks *hooks;
  /**
   * `DP_MEDIUM_...`.
   */
  int32_t medium_kind;
  /**
   * `DP_TARGET_...`.
   */
  int32_t target_kind;
  /**
   * Takes a stream, for `DP_TARGET_DESCRIPTOR`. It stays open, and is not used after the job.
   */
  int32_t target_descriptor;
  /**
   * `DP_RESTORE_...` flags, added.
   */
  uint32_t flags;
  /**
   * Threads that decompress, and that decrypt, 1 to 64; 0 for one per processor.
   */
  uint32_t instances;
  /**
   * Set to 0.
   */
  uint32_t reserved;
  /**
   * For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium, or NULL.
   */
  const dp_medium *medium_functions;
} dp_restore_options;

/** Options of a verification. Fields that are 0 have their default. */
typedef struct {
  /**
   * `sizeof(dp_verify_options)`.
   */
  size_t size;
  /**
   * Path of the medium.
   */
  const char *medium;
  /**
   * Archive on a medium with several, or NULL.
   */
  const dp_selection *selection;
  /**
   * Secret that opens the archive, or NULL. Without the key of an encrypted archive, checksums,
   * headers and numbers are checked, and nothing is authenticated.
   */
  const dp_secret *secret;
  /**
   * Progress, problems and cancellation, or NULL.
   */
  const dp_hooks *hooks;
  /**
   * `DP_MEDIUM_...`.
   */
  int32_t medium_kind;
  /**
   * Threads that decompress, and that decrypt, 1 to 64; 0 for one per processor.
   */
  uint32_t instances;
  /**
   * For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium, or NULL.
   */
  const dp_medium *medium_functions;
} dp_verify_options;

/** Success. */
#define DP_OK 0

/**
 * The job is done, but some objects have problems: they could not be read, changed while they were
 * read, are damaged, or were not restored. The result counts them, and the problem function has
 * had each of them. Results are written.
 */
#define DP_INCOMPLETE 1

/** The time of a wait is over, and the pipe runs. */
#define DP_TIMED_OUT 2

/** The stream has ended: there are no more blocks to receive. */
#define DP_END 3

/** An argument or option has a value that is not allowed. */
#define DP_ERR_ARGUMENT 100
/** A pointer is NULL that must not be. */
#define DP_ERR_NULL 101
/** The size at the start of a struct is not one that this struct has had in any version. */
#define DP_ERR_STRUCT_SIZE 102
/** A struct has a value in a field that only later versions of the library know. */
#define DP_ERR_UNSUPPORTED 103
/** A number that is a handle of no object of this process. */
#define DP_ERR_BAD_HANDLE 110
/** A handle of another kind. */
#define DP_ERR_HANDLE_KIND 111
/** A handle whose object was freed. */
#define DP_ERR_STALE_HANDLE 112
/** More objects than the library takes. */
#define DP_ERR_LIMIT 120
/** The object is not in a state for this call: a pipe that was started already, for example. */
#define DP_ERR_STATE 121
/** The function was called from a callback that it would have to wait for. */
#define DP_ERR_REENTRANT 130
/** The process was forked from one that used the library. */
#define DP_ERR_FORKED 131
/** The object belongs to another thread: the one that has made it. */
#define DP_ERR_THREAD 132
/**
 * The pipe as it was described cannot work: its buffers do not suffice, for example. Or its
 * program does not admit this process.
 */
#define DP_ERR_REFUSED 140
/** A stage failed for a reason that is not one of the codes below. */
#define DP_ERR_STAGE 200
/** A function of the caller returned an error. */
#define DP_ERR_CALLBACK 201
/** Every stage waited for another. */
#define DP_ERR_DEADLOCK 210
/** The operating system refused something: `dp_error_errno` has its number. */
#define DP_ERR_SYSTEM 300
/** There is not enough memory. */
#define DP_ERR_MEMORY 301
/** The storage is full. */
#define DP_ERR_STORAGE_FULL 302
/** A file or directory does not exist. */
#define DP_ERR_NOT_FOUND 303
/** The permissions do not suffice. */
#define DP_ERR_PERMISSION 304
/** The medium failed, lacks a volume, or cannot be continued. */
#define DP_ERR_MEDIUM 400
/** The medium has content that the options do not allow to replace. */
#define DP_ERR_MEDIUM_NOT_EMPTY 401
/** Another job writes the medium. */
#define DP_ERR_MEDIUM_IN_USE 402
/** The medium has no archive, or not the one that was selected. */
#define DP_ERR_NO_ARCHIVE 403
/** The archive is not the one that was expected: its header has another hash. */
#define DP_ERR_OTHER_ARCHIVE 404
/**
 * The archive has other content than the call needs: a stream, and not a tree, or the reverse.
 */
#define DP_ERR_CONTENT 405
/** The archive is damaged so far that nothing of it can be read. */
#define DP_ERR_DAMAGED 406
/** The archive is encrypted, and no key was given. */
#define DP_ERR_KEY_NEEDED 410
/** The key does not open the archive. */
#define DP_ERR_WRONG_KEY 411
/** The archive is not encrypted, although a key was given. */
#define DP_ERR_NOT_ENCRYPTED 412
/** A file does not have a key, a passphrase, an identity or a recipient. */
#define DP_ERR_KEY_FILE 413
/** A participant wrote to shared memory where it should not have. */
#define DP_ERR_CORRUPT 500
/** The job was cancelled, by its token or by a callback. */
#define DP_ERR_CANCELLED 600
/**
 * A fault of the library: please report it. It was stopped at the boundary, and the process goes
 * on.
 */
#define DP_ERR_PANIC 900

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns the version of the library that runs, as `DP_VERSION` has that of the header.
 *
 * Threads: any, also in a signal handler. Errors: none.
 */
uint32_t dp_version(void);

/**
 * Returns the version of the library that runs as a text, "0.1.0". The text is never freed.
 *
 * Threads: any, also in a signal handler. Errors: none.
 */
const char *dp_version_text(void);

/**
 * Checks that the library that runs has all that a program uses which was compiled with the header
 * of version `header`: pass `DP_VERSION`.
 *
 * Threads: any, also in a signal handler. Errors: `DP_ERR_ARGUMENT` if the library is older, or
 * has another major version, or, before 1.0, another minor version. The last error does not
 * change.
 */
dp_status dp_version_check(uint32_t header);

/**
 * Returns the name of a status, "DP_ERR_KEY_NEEDED", or "unknown status" for a number that this
 * version of the library does not return. The text is never freed.
 *
 * Threads: any, also in a signal handler. Errors: none.
 */
const char *dp_status_name(dp_status status);

/**
 * Returns the status of the last call on this thread that failed; `DP_OK` if none has failed. A
 * call that succeeds does not change the last error.
 *
 * Threads: any; each has its own last error. Errors: none.
 */
dp_status dp_error_status(void);

/**
 * Returns the error number of the system (`errno`) that caused the last error of this thread; 0 if
 * it had another cause.
 *
 * Threads: any; each has its own last error. Errors: none.
 */
int32_t dp_error_errno(void);

/**
 * Returns the number of messages of the last error of this thread: 0 if no call has failed, else 1
 * for the whole error and 1 for each of its causes.
 *
 * Threads: any; each has its own last error. Errors: none.
 */
size_t dp_error_count(void);

/**
 * Returns a message of the last error of this thread. Message 0 is complete: what, where, what to
 * do, with the texts of the causes. Messages from 1 on are the causes, outermost first. NULL if
 * there are not as many.
 *
 * Ownership: the text belongs to the library, and is valid until the next call on this thread that
 * fails, or the end of the thread. It is one line of UTF-8: control characters
 * in it, of names for example, are escaped as `\n` or `\u{1b}`.
 *
 * Threads: any; each has its own last error. Errors: none.
 */
const char *dp_error_message(size_t index);

/**
 * Sets the function that receives messages of the library, or none with NULL. Without a function
 * messages are dropped: the library writes nothing to standard output or standard error.
 *
 * `most` is the highest level that is received, `DP_LOG_ERROR` to `DP_LOG_INFO`. `user` is passed
 * to the function. When the call returns, the former function does not run any more, and its user
 * data can be freed.
 *
 * Threads: any, but not the log function. Errors: `DP_ERR_ARGUMENT`, `DP_ERR_REENTRANT` in the log
 * function.
 */
dp_status dp_log_set(dp_log_function function, void *user, int32_t most);

/**
 * Makes a cancel token. One token may be used for several jobs, one after the other or at once. A
 * process can have 1024 of them.
 *
 * Ownership: free the token with `dp_cancel_free`.
 *
 * Threads: any. Errors: `DP_ERR_NULL`, `DP_ERR_LIMIT`.
 */
dp_status dp_cancel_new(dp_cancel **token);

/**
 * Cancels the jobs that use a token, and those that will: they end with `DP_ERR_CANCELLED` within
 * about 50 ms, or when a system call of theirs returns. A token stays cancelled; more calls change
 * nothing.
 *
 * Threads: any, and in a signal handler: the function is async-signal-safe and does not change
 * `errno`. Errors: `DP_ERR_NULL`, `DP_ERR_BAD_HANDLE`, `DP_ERR_HANDLE_KIND`,
 * `DP_ERR_STALE_HANDLE`. The last error of the thread does not change.
 */
dp_status dp_cancel_trigger(dp_cancel *token);

/**
 * Frees a token. A job that uses it goes on, and cannot be cancelled by it any more.
 *
 * Threads: any. Errors: `DP_ERR_NULL`, `DP_ERR_BAD_HANDLE`, `DP_ERR_HANDLE_KIND`, and
 * `DP_ERR_STALE_HANDLE` if it was freed before.
 */
dp_status dp_cancel_free(dp_cancel *token);

/**
 * Lists the sessions and archives of a medium, from its own records. The list is not
 * authenticated: it has what the medium records of itself. A damaged medium is listed as far as
 * it can be read; the problem function receives each place with damage before the archives, as
 * `DP_PROBLEM_MEDIUM`.
 *
 * `options` and what it refers to are copied. `result` may be NULL; it is written if the status is
 * `DP_OK` or `DP_INCOMPLETE`.
 *
 * Threads: any. Not in a signal handler. Errors: `DP_ERR_NULL`, `DP_ERR_ARGUMENT`,
 * `DP_ERR_NOT_FOUND`, `DP_ERR_MEDIUM`, `DP_ERR_NO_ARCHIVE` for a medium with data but without a
 * session, `DP_ERR_CALLBACK` if `archive` has ended the list, `DP_ERR_CANCELLED`, and those of
 * a secret.
 */
dp_status dp_sessions(const dp_sessions_options *options, dp_sessions_result *result);

/**
 * Gives the seat of an unbound head or tail to the process that asks for it at the other end of
 * `socket`, by `dp_attach`. Waits for it at most `timeout_ms` milliseconds, or `DP_FOREVER`, and
 * until it closes the socket or the pipe ends.
 *
 * `socket` is a connected Unix domain socket. It stays open, and is the caller's again after the
 * call. The process gets access to the shared memory of the pipe; it must belong to the user of
 * this one.
 *
 * Threads: any; not in a function of a stage, which returns `DP_ERR_REENTRANT`. Errors:
 * `DP_TIMED_OUT` is not an error. Those of a handle, `DP_ERR_ARGUMENT`, `DP_ERR_STATE` if there is
 * no such seat, if it is taken, or the pipe has ended, `DP_ERR_PERMISSION` for another user,
 * `DP_ERR_SYSTEM`.
 */
dp_status dp_pipe_admit(dp_pipe *pipe, int32_t role, int32_t socket, uint64_t timeout_ms);

/**
 * Takes a seat in the pipe of the program at the other end of `socket`, which calls
 * `dp_pipe_admit`. Waits for it at most `timeout_ms` milliseconds, or `DP_FOREVER`, and until it
 * closes the socket.
 *
 * `socket` is a connected Unix domain socket. It stays open, and is the caller's again after the
 * call. When the other program dies, the pipe stops, and every wait ends.
 *
 * Ownership: free the attachment with `dp_attachment_free`. It belongs to this thread.
 *
 * Threads: any. Errors: `DP_TIMED_OUT` is not an error. `DP_ERR_NULL`, `DP_ERR_ARGUMENT`,
 * `DP_ERR_REFUSED` if the program does not admit this process, `DP_ERR_CANCELLED` if the pipe has
 * ended, `DP_ERR_SYSTEM`, `DP_ERR_LIMIT`.
 */
dp_status dp_attach(int32_t socket, uint64_t timeout_ms, dp_attachment **attachment);

/**
 * Takes a seat in a pipe that a daemon runs, as its unbound head or tail. The attachment is like
 * one of `dp_attach`. When the daemon dies, the pipe stops, and every wait ends.
 *
 * `seat` is copied. Ownership: free the attachment with `dp_attachment_free`. It belongs to this
 * thread.
 *
 * Threads: any. Errors: `DP_TIMED_OUT` is not an error. `DP_ERR_NULL`, `DP_ERR_ARGUMENT`,
 * `DP_ERR_NOT_FOUND` if there is no such socket or no such pipe, `DP_ERR_PERMISSION` if the daemon
 * does not let this user, `DP_ERR_STATE` if the seat is not unbound, if it is taken, or the pipe
 * has ended, `DP_ERR_REFUSED`, `DP_ERR_CANCELLED`, `DP_ERR_SYSTEM`, `DP_ERR_LIMIT`.
 */
dp_status dp_attach_by_daemon(const dp_daemon_seat *seat, dp_attachment **attachment);

/**
 * Allocates an empty buffer of the pipe, as its head: `output->bytes` is its place. Waits for one
 * at most `timeout_ms` milliseconds, or `DP_FOREVER`, and until the pipe stops.
 *
 * The program fills it, sets `output->len` and sends it with `dp_attachment_send`, or frees it
 * with `dp_attachment_drop`. It may have several.
 *
 * Threads: that of the attachment. Errors: `DP_TIMED_OUT` is not an error. Those of a handle,
 * `DP_ERR_THREAD`, `DP_ERR_NULL`, `DP_ERR_STRUCT_SIZE`, `DP_ERR_STATE` for a tail or after the
 * end, `DP_ERR_CANCELLED` if the pipe stops, `DP_ERR_CORRUPT`.
 */
dp_status dp_attachment_alloc(dp_attachment *attachment,
                              uint64_t timeout_ms,
                              dp_buffer **buffer,
                              dp_output *output);

/**
 * Sends a buffer, with the length and the numbers of the program in `output`. The buffer is then
 * not the program's any more, also if the call fails because the pipe stops.
 *
 * Threads: that of the attachment. Errors: those of a handle, `DP_ERR_THREAD`, `DP_ERR_NULL`,
 * `DP_ERR_STRUCT_SIZE`, `DP_ERR_ARGUMENT` for the place of another buffer or a length beyond its
 * capacity, `DP_ERR_STATE` for a tail or after the end, `DP_ERR_CANCELLED`, `DP_ERR_CORRUPT`.
 */
dp_status dp_attachment_send(dp_attachment *attachment,
                             dp_buffer *buffer,
                             const dp_output *output);

/**
 * Receives a block of the pipe, as its tail. Waits for one at most `timeout_ms` milliseconds, or
 * `DP_FOREVER`, and until the pipe stops. The pointers in `block` are valid until the buffer is
 * freed with `dp_attachment_drop`.
 *
 * Threads: that of the attachment. Errors: `DP_TIMED_OUT`, and `DP_END` when all blocks were
 * received, are not errors. Those of a handle, `DP_ERR_THREAD`, `DP_ERR_NULL`,
 * `DP_ERR_STRUCT_SIZE`, `DP_ERR_STATE` for a head or after the end, `DP_ERR_CANCELLED` if the pipe
 * stops, `DP_ERR_CORRUPT`.
 */
dp_status dp_attachment_receive(dp_attachment *attachment,
                                uint64_t timeout_ms,
                                dp_buffer **buffer,
                                dp_block *block);

/**
 * Frees a buffer that was received, or one that was allocated and is not sent.
 *
 * Threads: that of the attachment. Errors: those of a handle, `DP_ERR_THREAD`.
 */
dp_status dp_attachment_drop(dp_attachment *attachment, dp_buffer *buffer);

/**
 * Ends the work of this process well: a head has sent everything, a tail has received everything
 * and stored it. All buffers were sent or freed.
 *
 * Threads: that of the attachment. Errors: those of a handle, `DP_ERR_THREAD`, `DP_ERR_STATE` if
 * there are buffers, if a tail has not received the end, or after the end; `DP_ERR_CANCELLED`,
 * `DP_ERR_CORRUPT`. After an error the pipe fails, except if there are buffers.
 */
dp_status dp_attachment_finish(dp_attachment *attachment);

/**
 * Ends the work of this process with an error, and stops the pipe, whose program gets `text`. All
 * buffers are freed.
 *
 * Threads: that of the attachment. Errors: those of a handle, `DP_ERR_THREAD`, `DP_ERR_NULL`,
 * `DP_ERR_ARGUMENT` for a text that is not UTF-8, `DP_ERR_STATE` after the end.
 */
dp_status dp_attachment_fail(dp_attachment *attachment, const char *text);

/**
 * Frees an attachment, and its buffers. One that was not ended counts as failed, and the pipe
 * stops; so does one whose thread ends.
 *
 * Threads: that of the attachment. Errors: those of a handle, `DP_ERR_THREAD`.
 */
dp_status dp_attachment_free(dp_attachment *attachment);

/**
 * Begins a block in `flat_map`, and writes its place to `output`: an empty block, with the numbers
 * of the program that the input has. Waits until there is a buffer.
 *
 * The function then fills `output->bytes`, sets `output->len`, and calls `dp_outputs_send`. A
 * block that was begun and not sent when the function returns, or when another one is begun, is an
 * error.
 *
 * Threads: that of the function. Errors: those of a handle, `DP_ERR_NULL`, `DP_ERR_STRUCT_SIZE`,
 * `DP_ERR_STATE` if a block was begun and not sent, `DP_ERR_STAGE` if the input has had as many as
 * `most_outputs`, or the pipe stops. The function then returns a negative error number.
 */
dp_status dp_outputs_begin(dp_outputs *outputs, dp_output *output);

/**
 * Sends the block that was begun last in `flat_map`, with the length and the numbers of the
 * program in `output`.
 *
 * Threads: that of the function. Errors: those of a handle, `DP_ERR_NULL`, `DP_ERR_STRUCT_SIZE`,
 * `DP_ERR_STATE` if no block was begun, `DP_ERR_ARGUMENT` for the place of another block, or a
 * length beyond the capacity.
 */
dp_status dp_outputs_send(dp_outputs *outputs, const dp_output *output);

/**
 * Makes a pipe without stages.
 *
 * `options` may be NULL. What it refers to is copied. Ownership: free the pipe with
 * `dp_pipe_free`.
 *
 * Threads: any. Errors: `DP_ERR_NULL`, `DP_ERR_ARGUMENT`, `DP_ERR_LIMIT`, and those of a token.
 */
dp_status dp_pipe_new(const dp_pipe_options *options, dp_pipe **pipe);

/**
 * Adds a stage to a pipe that was not started: the head first, the tail last.
 *
 * `stage` is copied. Its functions and its user pointer are used until the pipe is freed.
 *
 * Threads: any, one call at a time takes effect. Errors: those of a handle, `DP_ERR_ARGUMENT`,
 * `DP_ERR_NULL` if a function is missing, `DP_ERR_STATE` if the stage cannot come here.
 */
dp_status dp_pipe_add(dp_pipe *pipe, const dp_stage *stage);

/**
 * Starts a pipe, and returns while it runs. Wait for it with `dp_pipe_wait`.
 *
 * Threads: any. Errors: those of a handle, `DP_ERR_STATE` without a tail or for a pipe that was
 * started before, `DP_ERR_REFUSED` if it cannot work, `DP_ERR_MEMORY`, `DP_ERR_SYSTEM`. After one
 * of the latter three, the pipe can only be freed.
 */
dp_status dp_pipe_start(dp_pipe *pipe);

/**
 * Waits for the end of a pipe, for at most `timeout_ms` milliseconds, or `DP_FOREVER`. When it has
 * ended, each call returns its outcome.
 *
 * `result` may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
 *
 * Threads: any, several at once; not in a function of a stage, which returns `DP_ERR_REENTRANT`.
 * Errors: `DP_TIMED_OUT` is not an error. Those of a handle, `DP_ERR_STATE`, `DP_ERR_CANCELLED`,
 * `DP_ERR_STAGE` or the status of its cause.
 */
dp_status dp_pipe_wait(dp_pipe *pipe, uint64_t timeout_ms, dp_pipe_result *result);

/**
 * Stops a pipe that runs: a wait then returns `DP_ERR_CANCELLED`, unless it had ended before. A
 * function of a stage that does not return keeps the pipe from ending.
 *
 * Threads: any, also in functions of stages; not in a signal handler, for which there are tokens.
 * Errors: those of a handle, `DP_ERR_STATE` if the pipe was not started.
 */
dp_status dp_pipe_cancel(dp_pipe *pipe);

/**
 * Reads the state of a pipe that was started.
 *
 * Threads: any. Errors: those of a handle, `DP_ERR_NULL`, `DP_ERR_STATE`, and the error with which
 * the pipe could not be started.
 */
dp_status dp_pipe_get_status(dp_pipe *pipe, dp_pipe_status *status);

/**
 * Frees a pipe. One that runs, or that another thread is starting, is stopped first, and the call
 * waits for its end; a thread that waits for the pipe gets its outcome. Afterwards no function of
 * its stages runs.
 *
 * Threads: any; not in a function of a stage, which returns `DP_ERR_REENTRANT`. Errors: those of a
 * handle.
 */
dp_status dp_pipe_free(dp_pipe *pipe);

/**
 * Makes a pipe with all of its stages from a description in JSON, as `dp_pipe_new` and
 * `dp_pipe_add` do. The pipe is then started. docs/c-abi.md has the members of the description.
 *
 * The functions of modules are called before the function returns. `description` is copied, but
 * the functions of the stages that the modules have made are used until the pipe is freed.
 * Ownership: free the pipe with `dp_pipe_free`.
 *
 * Threads: any. Errors: `DP_ERR_NULL`, `DP_ERR_ARGUMENT`, `DP_ERR_STATE` for stages that cannot
 * come in this order, `DP_ERR_LIMIT`, and those of a token. The message begins with the member:
 * `$.stages[2].level`.
 */
dp_status dp_pipe_from_json(const dp_pipe_json *description, dp_pipe **pipe);

/**
 * Runs a stage of a pipe and ends the process, if this process was started for that; `exit` runs
 * as at the end of `main`. Otherwise it returns at once, and pipes of this program can have stages
 * in processes (`DP_RUN_IN_PROCESSES`), which start the program again.
 *
 * Call it first in `main`, before threads are started, arguments are read and output is written. A
 * program for which it fails ends. `modules` is an array of `count` structs, and is copied; it is
 * NULL for stages of the library only. A program that calls nothing else before it forks may use
 * the library in both processes.
 *
 * Threads: the first one, while it is the only one. Errors: `DP_ERR_NULL`, `DP_ERR_ARGUMENT` for a
 * name that is empty, taken or not UTF-8, `DP_ERR_UNSUPPORTED` on a system whose C library does
 * not pass the program's arguments on.
 */
dp_status dp_serve(const dp_module *modules, size_t count);

/**
 * Reads the state of each stage of a pipe that was started, head first, at one moment. The stages
 * that the library has added are among them.
 *
 * `stages` is an array of `capacity` structs, the first of which has its size; as many are written
 * as there are stages and room, each with its size. `count` receives the number of stages of the
 * pipe. With a `capacity` of 0, `stages` may be NULL.
 *
 * Threads: any. Errors: those of a handle, `DP_ERR_NULL`, `DP_ERR_STRUCT_SIZE`, `DP_ERR_STATE`,
 * and the error with which the pipe could not be started.
 */
dp_status dp_pipe_get_stages(dp_pipe *pipe,
                             dp_stage_status *stages,
                             size_t capacity,
                             size_t *count);

/**
 * Backs up files and directories, or a stream, to a medium. Returns when the archive is complete
 * and on stable storage, or has failed.
 *
 * `options` and what it refers to are copied: they can be freed when the call returns. `result`
 * may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
 *
 * Threads: any; several jobs may run at once. Not in a signal handler. Errors: `DP_INCOMPLETE` is
 * not an error. Any code from 100 on; most often `DP_ERR_MEDIUM_NOT_EMPTY`,
 * `DP_ERR_MEDIUM_IN_USE`, `DP_ERR_NOT_FOUND`, `DP_ERR_STORAGE_FULL`, `DP_ERR_CANCELLED`. After an
 * error the message describes the state of the medium. Old content is kept, except with
 * `DP_BACKUP_IN_PLACE`.
 */
dp_status dp_backup(const dp_backup_options *options, dp_backup_result *result);

/**
 * Copies an archive to another medium, as it is stored: a secret is not needed, and the same
 * secret opens the copy.
 *
 * `options` and what it refers to are copied: they can be freed when the call returns. `result`
 * may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
 *
 * Threads: any; several jobs may run at once. Not in a signal handler. Errors: as `dp_backup` and
 * `dp_verify`.
 */
dp_status dp_copy(const dp_copy_options *options, dp_copy_result *result);

/**
 * Lists an archive: reads its catalogue, or all of it if the catalogue is damaged or missing, and
 * shows each object. A stream is one file with the name of the archive.
 *
 * `options` and what it refers to are copied: they can be freed when the call returns. `result`
 * may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
 *
 * Threads: any; several jobs may run at once. Not in a signal handler. Errors: as `dp_restore`,
 * and `DP_ERR_CALLBACK` if `entry` has ended the list.
 */
dp_status dp_list(const dp_list_options *options, dp_read_result *result);

/**
 * Restores an archive, or some paths of it. Reading continues after damage; damaged files are
 * problems, and never keep their name: their recovered part is named `NAME.damaged`. In a stream,
 * zeros take the place of lost data.
 *
 * `options` and what it refers to are copied: they can be freed when the call returns. `result`
 * may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
 *
 * Threads: any; several jobs may run at once. Not in a signal handler. Errors: `DP_INCOMPLETE` is
 * not an error. Any code from 100 on; most often `DP_ERR_NO_ARCHIVE`, `DP_ERR_KEY_NEEDED`,
 * `DP_ERR_WRONG_KEY`, `DP_ERR_CONTENT`, `DP_ERR_CANCELLED`. What was restored before the error
 * stays.
 */
dp_status dp_restore(const dp_restore_options *options, dp_read_result *result);

/**
 * Reads and checks all of an archive, and writes nothing. Of a medium with several archives,
 * damage outside of them that was found on the way is a problem, too: `DP_PROBLEM_MEDIUM`.
 *
 * `options` and what it refers to are copied: they can be freed when the call returns. `result`
 * may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
 *
 * Threads: any; several jobs may run at once. Not in a signal handler. Errors: as `dp_restore`.
 */
dp_status dp_verify(const dp_verify_options *options, dp_read_result *result);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DATAPIPE_H */
