//! The backup of trees or a stream.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use datapipe::limits::DEFAULT_BUFFER_SIZE;
use datapipe::media::VolumeOptions;
use datapipe::tree::TreeOptions;
use datapipe::wire::Framing;

use crate::boundary::{In, Out, Text, TextList, User, call, duplicate, fill, versioned};
use crate::failure::Failure;
use crate::job::{Backup, BackupDone, CallbackReader, Compression, Source, WriteMode};
use crate::status::{DP_ERR_ARGUMENT, DP_INCOMPLETE, DP_OK, dp_status};

use super::hooks::{dp_hooks, hooks_of, nanoseconds};
use super::medium::{check_volume_size, dp_medium};
use super::secret::{dp_secret, secret_of, unknown};
use super::selection::medium_of;

/// Source of a backup: the files and directories in `sources`.
pub const DP_SOURCE_TREES: i32 = 0;
/// Source of a backup: the stream that `source_descriptor` has from its present position on.
pub const DP_SOURCE_DESCRIPTOR: i32 = 1;
/// Source of a backup: the stream that `source_read` yields.
pub const DP_SOURCE_FUNCTION: i32 = 2;

/// Mode of writing: the medium must be new or empty.
pub const DP_WRITE_NEW: i32 = 0;
/// Mode of writing: the content of the medium is replaced. It stays until the new archive is
/// complete, which needs room for both.
pub const DP_WRITE_OVERWRITE: i32 = 1;
/// Mode of writing: a session is added to the medium, and nothing is changed that is there. A
/// medium that does not exist is created.
pub const DP_WRITE_APPEND: i32 = 2;

/// Compression: zstd at level 3, in this version.
pub const DP_COMPRESS_DEFAULT: i32 = 0;
/// Compression: none.
pub const DP_COMPRESS_NONE: i32 = 1;
/// Compression: zstd, level 1 to 22, or 0 for 3.
pub const DP_COMPRESS_ZSTD: i32 = 2;
/// Compression: deflate, level 1 to 9, or 0 for 6.
pub const DP_COMPRESS_DEFLATE: i32 = 3;

/// Framing: a header and a footer for each chunk, in this version. A copy keeps that of its source.
pub const DP_FRAMING_DEFAULT: i32 = 0;
/// Framing: a header before each chunk.
pub const DP_FRAMING_HEADER: i32 = 1;
/// Framing: one header before all chunks, and one footer after them.
pub const DP_FRAMING_ONCE: i32 = 2;
/// Framing: a header and a footer for each chunk.
pub const DP_FRAMING_HEADER_FOOTER: i32 = 3;

/// Flag of a backup: leave out other file systems that are mounted inside a source.
pub const DP_BACKUP_ONE_FILE_SYSTEM: u32 = 1;
/// Flag of a backup: store the numbers of users and groups only, and look up no names.
pub const DP_BACKUP_NUMERIC_OWNER: u32 = 2;
/// Flag of a backup: store the time at which each object was made.
pub const DP_BACKUP_BIRTH_TIME: u32 = 4;
/// Flag of a backup, with `DP_WRITE_OVERWRITE`: remove the old content when the first block of the
/// new archive has arrived. If the job fails, neither is there.
pub const DP_BACKUP_IN_PLACE: u32 = 8;
/// Flag of a backup, with `DP_WRITE_OVERWRITE`: replace the old content even if there is nothing to
/// back up.
pub const DP_BACKUP_ALLOW_EMPTY: u32 = 16;
/// Flag of a backup, with `DP_WRITE_APPEND`: the secret need not open the last archive of the
/// medium.
pub const DP_BACKUP_OTHER_KEY: u32 = 32;

/// All flags.
const FLAGS: u32 = DP_BACKUP_ONE_FILE_SYSTEM
    | DP_BACKUP_NUMERIC_OWNER
    | DP_BACKUP_BIRTH_TIME
    | DP_BACKUP_IN_PLACE
    | DP_BACKUP_ALLOW_EMPTY
    | DP_BACKUP_OTHER_KEY;

/// Reads a part of a stream into `bytes`, at most `len` bytes. Returns how many it has put there, 0
/// at the end of the stream, or a negative error number, `-EIO`, which fails the job.
///
/// Threads: one thread of the library, not that of the job. A job that is cancelled ends when the
/// function returns.
pub type dp_read_function =
    Option<unsafe extern "C" fn(user: User, bytes: *mut u8, len: usize) -> i64>;

/// Options of a backup. Fields that are 0 have their default.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_backup_options {
    /// `sizeof(dp_backup_options)`.
    pub size: usize,
    /// Paths of the files and directories, for `DP_SOURCE_TREES`. The last name of each is its name
    /// in the archive. Of a symbolic link the archive has the link; with a slash at its end, the
    /// directory that it refers to.
    pub sources: TextList,
    /// Number of the paths.
    pub source_count: usize,
    /// Yields the stream, for `DP_SOURCE_FUNCTION`.
    pub source_read: dp_read_function,
    /// Pointer that is passed to `source_read`.
    pub source_user: User,
    /// Path of the medium.
    pub medium: Text,
    /// Secret that encrypts the archive, or NULL. Not an identity.
    pub secret: In<dp_secret>,
    /// Paths of files with recipients, the public keys of identities: each can open the archive, as
    /// can the secret.
    pub recipient_files: TextList,
    /// Number of the recipients, at most 8 together with the secret.
    pub recipient_count: usize,
    /// Patterns of objects that are left out with everything below them, in UTF-8. A pattern
    /// matches a name, a path in the archive, or, if it begins with a slash, an absolute path; `**`
    /// matches any number of directories.
    pub exclude: TextList,
    /// Number of the patterns.
    pub exclude_count: usize,
    /// Name of the archive in UTF-8, at most 255 bytes; NULL for the name of the first source, or
    /// "stream".
    pub name: Text,
    /// Name and version of the program, for the archive; NULL for those of the library.
    pub program: Text,
    /// Label of the volumes, for people, in UTF-8, at most 64 bytes; NULL for none.
    pub label: Text,
    /// Progress, problems and cancellation, or NULL.
    pub hooks: In<dp_hooks>,
    /// Largest size of a volume in bytes; 0 for the free space of the file system. In a directory,
    /// more volumes follow.
    pub volume_size: u64,
    /// `DP_SOURCE_...`.
    pub source_kind: i32,
    /// The stream, for `DP_SOURCE_DESCRIPTOR`. It stays open, and is not used after the job.
    pub source_descriptor: i32,
    /// `DP_MEDIUM_...`.
    pub medium_kind: i32,
    /// `DP_WRITE_...`.
    pub mode: i32,
    /// `DP_COMPRESS_...`.
    pub compression: i32,
    /// Level of the compression.
    pub level: i32,
    /// `DP_FRAMING_...`.
    pub framing: i32,
    /// `DP_BACKUP_...` flags, added.
    pub flags: u32,
    /// Threads that compress, and that encrypt, 1 to 64; 0 for one per processor.
    pub instances: u32,
    /// Most threads that read files at once, 1 to 64; 0 for a number that suits the machine.
    pub readers: u32,
    /// Buffers in the pool; 0 for enough to keep every thread busy.
    pub buffers: u32,
    /// Size of a buffer, and so of a block before compression, in bytes, 512 to 64 MiB; 0 for 4
    /// MiB.
    pub buffer_size: u32,
    /// For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium, or NULL.
    pub medium_functions: In<dp_medium>,
}

versioned!(dp_backup_options, first: 184, {
    size, sources, source_count, source_read, source_user, medium, secret, recipient_files,
    recipient_count, exclude, exclude_count, name, program, label, hooks, volume_size, source_kind,
    source_descriptor, medium_kind, mode, compression, level, framing, flags, instances, readers,
    buffers, buffer_size,
    medium_functions
});

/// Result of a backup.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_backup_result {
    /// `sizeof(dp_backup_result)`: set it before the call.
    pub size: usize,
    /// Files in the archive, each counted once even if it has several names.
    pub files: u64,
    /// Directories in the archive.
    pub directories: u64,
    /// Everything else in the archive: links, further names of files, fifos, devices.
    pub others: u64,
    /// Names that a pattern has left out. Objects below them are not counted.
    pub excluded: u64,
    /// Objects that do not belong in the archive: sockets, mount points, the medium.
    pub left_out: u64,
    /// Problems. The status is `DP_INCOMPLETE` if there are any.
    pub problems: u64,
    /// Bytes that were read.
    pub bytes_in: u64,
    /// Bytes that were written to the medium, without headers.
    pub bytes_out: u64,
    /// Blocks of the archive.
    pub blocks: u64,
    /// Time of the pipe in nanoseconds.
    pub elapsed_ns: u64,
    /// Volumes that have the archive.
    pub volumes: u32,
    /// 0.
    pub reserved: u32,
    /// Hash of the archive's header, which no other archive has: for `dp_selection`.
    pub header_hash: [u8; 32],
}

versioned!(dp_backup_result, first: 128, {
    size, files, directories, others, excluded, left_out, problems, bytes_in, bytes_out, blocks,
    elapsed_ns, volumes, reserved, header_hash
});

/// Backs up files and directories, or a stream, to a medium. Returns when the archive is complete
/// and on stable storage, or has failed.
///
/// `options` and what it refers to are copied: they can be freed when the call returns. `result`
/// may be NULL; it is written if the status is `DP_OK` or `DP_INCOMPLETE`.
///
/// Threads: any; several jobs may run at once. Not in a signal handler. Errors: `DP_INCOMPLETE` is
/// not an error. Any code from 100 on; most often `DP_ERR_MEDIUM_NOT_EMPTY`,
/// `DP_ERR_MEDIUM_IN_USE`, `DP_ERR_NOT_FOUND`, `DP_ERR_STORAGE_FULL`, `DP_ERR_CANCELLED`. After an
/// error the message describes the state of the medium. Old content is kept, except with
/// `DP_BACKUP_IN_PLACE`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_backup(
    options: In<dp_backup_options>,
    result: Out<dp_backup_result>,
) -> dp_status {
    call(|| {
        let result = result.check()?;
        let options = options.read_needed()?;
        let mut hooks = hooks_of(options.hooks)?;
        let done = backup_of(&options)?.run(&mut hooks)?;
        if let Some(result) = result {
            result.write(&result_of(&done));
        }
        Ok(status_of(done.problems))
    })
}

/// The status of a job that is done, with this number of problems.
pub(super) fn status_of(problems: u64) -> dp_status {
    match problems {
        0 => DP_OK,
        _ => DP_INCOMPLETE,
    }
}

/// Checks the flags, also against the mode.
fn check_backup_flags(flags: u32, mode: WriteMode) -> Result<(), Failure> {
    check_flags("flags", flags, FLAGS)?;
    let needs = [
        (
            DP_BACKUP_IN_PLACE,
            WriteMode::Overwrite,
            "IN_PLACE needs DP_WRITE_OVERWRITE",
        ),
        (
            DP_BACKUP_ALLOW_EMPTY,
            WriteMode::Overwrite,
            "ALLOW_EMPTY needs DP_WRITE_OVERWRITE",
        ),
        (
            DP_BACKUP_OTHER_KEY,
            WriteMode::Append,
            "OTHER_KEY needs DP_WRITE_APPEND",
        ),
    ];
    match needs
        .iter()
        .find(|(flag, needed, _)| flags & flag != 0 && mode != *needed)
    {
        None => Ok(()),
        Some((_, _, what)) => Err(Failure::new(DP_ERR_ARGUMENT, format!("DP_BACKUP_{what}"))),
    }
}

/// Copies the patterns of what is left out.
fn patterns_of(options: &dp_backup_options) -> Result<Vec<String>, Failure> {
    let patterns = options.exclude.read(options.exclude_count, "exclude")?;
    let patterns = patterns.into_iter().map(String::from_utf8);
    patterns.collect::<Result<_, _>>().map_err(|error| {
        let text = format!("a pattern of exclude is not UTF-8: {error}");
        Failure::new(DP_ERR_ARGUMENT, text)
    })
}

fn backup_of(options: &dp_backup_options) -> Result<Backup, Failure> {
    let has = |flag| options.flags & flag != 0;
    let mode = mode_of(options.mode)?;
    check_backup_flags(options.flags, mode)?;
    let patterns = patterns_of(options)?;
    let files = options
        .recipient_files
        .read(options.recipient_count, "recipient_files")?;
    let medium = medium_of(
        options.medium,
        options.medium_kind,
        options.medium_functions,
        "medium",
    )?;
    check_volume_size(&medium, options.volume_size)?;
    Ok(Backup {
        source: source_of(options)?,
        medium,
        mode,
        volumes: VolumeOptions::default()
            .volume_size(Some(options.volume_size).filter(|size| *size > 0))
            .label(options.label.utf8("label")?.unwrap_or_default())
            .overwrite(mode == WriteMode::Overwrite)
            .in_place(has(DP_BACKUP_IN_PLACE))
            .allow_empty(has(DP_BACKUP_ALLOW_EMPTY)),
        name: options.name.utf8("name")?,
        program: options.program.utf8("program")?,
        compression: compression_of(options.compression, options.level)?,
        framing: framing_of(options.framing)?.unwrap_or_default(),
        instances: instances_of(options.instances),
        readers: Some(options.readers).filter(|readers| *readers > 0),
        buffers: Some(options.buffers).filter(|buffers| *buffers > 0),
        buffer_size: match options.buffer_size {
            0 => DEFAULT_BUFFER_SIZE,
            size => size,
        },
        secret: secret_of(options.secret)?,
        recipient_files: files.iter().map(|file| path_of(file)).collect(),
        other_key: has(DP_BACKUP_OTHER_KEY),
        tree: TreeOptions::default()
            .one_file_system(has(DP_BACKUP_ONE_FILE_SYSTEM))
            .numeric_owner(has(DP_BACKUP_NUMERIC_OWNER))
            .birth_time(has(DP_BACKUP_BIRTH_TIME))
            .exclude(&patterns),
    })
}

fn source_of(options: &dp_backup_options) -> Result<Source, Failure> {
    let stream_has = |what: &str| {
        let text = format!("{what} is for trees, and source_kind is a stream");
        Err(Failure::new(DP_ERR_ARGUMENT, text))
    };
    let of_trees = DP_BACKUP_ONE_FILE_SYSTEM | DP_BACKUP_NUMERIC_OWNER | DP_BACKUP_BIRTH_TIME;
    match options.source_kind {
        DP_SOURCE_TREES => {
            let sources = options.sources.read(options.source_count, "sources")?;
            match sources.is_empty() || sources.iter().any(Vec::is_empty) {
                true => Err(Failure::new(
                    DP_ERR_ARGUMENT,
                    "sources has no path, or an empty one: name a file or a directory",
                )),
                false => Ok(Source::Trees(
                    sources.iter().map(|path| path_of(path)).collect(),
                )),
            }
        }
        DP_SOURCE_DESCRIPTOR | DP_SOURCE_FUNCTION if options.source_count > 0 => {
            stream_has("sources")
        }
        DP_SOURCE_DESCRIPTOR | DP_SOURCE_FUNCTION if options.exclude_count > 0 => {
            stream_has("exclude")
        }
        DP_SOURCE_DESCRIPTOR | DP_SOURCE_FUNCTION if options.flags & of_trees != 0 => {
            stream_has("a flag")
        }
        DP_SOURCE_DESCRIPTOR => duplicate(options.source_descriptor)
            .map(Source::Descriptor)
            .map_err(|error| Failure::at("source_descriptor", error)),
        DP_SOURCE_FUNCTION => {
            let (function, user) = (options.source_read, options.source_user);
            let function = function.ok_or_else(|| {
                Failure::new(
                    DP_ERR_ARGUMENT,
                    "source_read is NULL, but yields the stream",
                )
            })?;
            let read = move |bytes: &mut [u8]| fill(function, user, bytes);
            Ok(Source::Reader(Box::new(CallbackReader(read))))
        }
        kind => Err(unknown("source_kind", kind, "DP_SOURCE_")),
    }
}

/// A path from its bytes.
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

/// Refuses flags that this version does not know.
pub(super) fn check_flags(what: &str, flags: u32, known: u32) -> Result<(), Failure> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(Failure::new(
            DP_ERR_ARGUMENT,
            format!("{what} has {unknown:#x}, which this version of the library does not know"),
        )),
    }
}

/// The mode of writing.
pub(super) fn mode_of(mode: i32) -> Result<WriteMode, Failure> {
    match mode {
        DP_WRITE_NEW => Ok(WriteMode::New),
        DP_WRITE_OVERWRITE => Ok(WriteMode::Overwrite),
        DP_WRITE_APPEND => Ok(WriteMode::Append),
        mode => Err(unknown("mode", mode, "DP_WRITE_")),
    }
}

/// The framing; `None` for the default.
pub(super) fn framing_of(framing: i32) -> Result<Option<Framing>, Failure> {
    Ok(Some(match framing {
        DP_FRAMING_DEFAULT => return Ok(None),
        DP_FRAMING_HEADER => Framing::Header,
        DP_FRAMING_ONCE => Framing::Once,
        DP_FRAMING_HEADER_FOOTER => Framing::HeaderFooter,
        framing => return Err(unknown("framing", framing, "DP_FRAMING_")),
    }))
}

/// Number of instances of a stage: as given, or one per processor.
pub(super) fn instances_of(instances: u32) -> u32 {
    let processors = || std::thread::available_parallelism().map_or(1, |n| n.get());
    match instances {
        0 => processors().min(64) as u32,
        instances => instances,
    }
}

/// The level of a compression with levels from 1 to `most`: as given, or the default for 0.
pub(super) fn level_of(what: &str, level: i32, most: i32, default: i32) -> Result<i32, Failure> {
    match level {
        0 => Ok(default),
        level if (1..=most).contains(&level) => Ok(level),
        level => Err(Failure::new(
            DP_ERR_ARGUMENT,
            format!("{what} is {level}, but this compression has levels from 1 to {most}"),
        )),
    }
}

fn compression_of(compression: i32, level: i32) -> Result<Compression, Failure> {
    let level_of = |most, default| level_of("level", level, most, default);
    match compression {
        DP_COMPRESS_DEFAULT | DP_COMPRESS_ZSTD => Ok(Compression::Zstd(level_of(22, 3)?)),
        DP_COMPRESS_DEFLATE => Ok(Compression::Deflate(level_of(9, 6)?.unsigned_abs())),
        DP_COMPRESS_NONE if level == 0 => Ok(Compression::None),
        DP_COMPRESS_NONE => Err(Failure::new(DP_ERR_ARGUMENT, "level is for a compression")),
        compression => Err(unknown("compression", compression, "DP_COMPRESS_")),
    }
}

fn result_of(done: &BackupDone) -> dp_backup_result {
    dp_backup_result {
        size: size_of::<dp_backup_result>(),
        files: done.files,
        directories: done.directories,
        others: done.others,
        excluded: done.excluded,
        left_out: done.left_out,
        problems: done.problems,
        bytes_in: done.bytes_in,
        bytes_out: done.bytes_out,
        blocks: done.blocks,
        elapsed_ns: nanoseconds(done.elapsed),
        volumes: done.volumes,
        reserved: 0,
        header_hash: done.header_hash,
    }
}
