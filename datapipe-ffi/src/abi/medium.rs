//! Media of the program: tables of functions that write and read them.

use std::ffi::c_char;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use datapipe::limits::{MAX_RECORD, MIN_RECORD};
use datapipe::media::{Abilities, Item, MediumError, Position};
use datapipe::prelude::*;

use crate::boundary::{
    Bytes, In, Text, User, change, check_reserved, convert, empty, measure, notify, show, versioned,
};
use crate::failure::Failure;
use crate::job::{Medium, MediumSource};
use crate::last_error::text_of;
use crate::status::{DP_ANSWER_END, DP_ANSWER_OK, DP_ERR_ARGUMENT, DP_ERR_NULL};

use super::stage::dp_end_function;

/// Answer of `write` and `write_mark`: it does not fit in this volume any more, and nothing of it
/// was written. Records and marks of 4 KiB together still have to fit after the first such answer.
pub const DP_ANSWER_END_OF_VOLUME: i32 = 6;

/// Kind of an item: a record, with its bytes.
pub const DP_ITEM_RECORD: i32 = 1;
/// Kind of an item: a mark.
pub const DP_ITEM_MARK: i32 = 2;
/// Kind of an item: `skipped` bytes that cannot be read. The next read continues after them.
pub const DP_ITEM_DAMAGED: i32 = 3;
/// Kind of an item: the end of the volume; in `read_back` its start.
pub const DP_ITEM_END: i32 = 4;

/// The medium as it is opened to write.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_medium_writing {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// Label of the volumes for people, in UTF-8. Empty for none.
    pub label: *const c_char,
    /// 1 to write after the content, 0 to write from the start: old content is lost.
    pub appends: u32,
    /// 0.
    pub reserved: u32,
}

versioned!(dp_medium_writing, first: 24, { size, label, appends, reserved });

/// A record that is written.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_record {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// The bytes.
    pub bytes: *const u8,
    /// Number of bytes, 1 to 16 MiB.
    pub len: usize,
}

versioned!(dp_record, first: 24, { size, bytes, len });

/// A position on a medium.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_position {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// Number of records, marks and damaged places before it in the volume; 2^64 - 1 if that is not
    /// known, because the reader has gone to the end.
    pub record: u64,
    /// A number by which the medium finds the position again, such as the bytes before it: larger
    /// for later ones, and 0 at the start of a volume.
    pub byte: u64,
    /// Number of the volume, from 1.
    pub volume: u32,
    /// 0.
    pub reserved: u32,
}

versioned!(dp_position, first: 32, { size, record, byte, volume, reserved });

/// An item that is read.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_item {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// Bytes of a record, which stay valid until the next call for this reader. They are copied.
    pub bytes: Bytes,
    /// Number of these bytes, at most 16 MiB.
    pub len: usize,
    /// Bytes of a damaged place, at least 1.
    pub skipped: u64,
    /// As in `dp_position`: where the item begins.
    pub record: u64,
    /// As in `dp_position`.
    pub byte: u64,
    /// As in `dp_position`.
    pub volume: u32,
    /// `DP_ITEM_...`.
    pub kind: i32,
}

versioned!(dp_item, first: 56, { size, bytes, len, skipped, record, byte, volume, kind });

/// Returns the bytes of content that a medium has, 0 for an empty one, or a negative error number.
///
/// Threads: any thread of the library or that of the call.
pub type dp_medium_size_function = Option<unsafe extern "C" fn(user: User) -> i64>;
/// Opens a medium to write, and sets `writer`. Returns `DP_ANSWER_OK` or a negative error number.
///
/// Threads: that of the call.
pub type dp_medium_create_function = Option<
    unsafe extern "C" fn(user: User, writing: *const dp_medium_writing, writer: *mut User) -> i32,
>;
/// Opens a medium to read, from the start of its first volume, and sets `reader`. Several readers
/// may be open at once. Returns `DP_ANSWER_OK` or a negative error number.
///
/// Threads: that of the call.
pub type dp_medium_open_function =
    Option<unsafe extern "C" fn(user: User, reader: *mut User) -> i32>;
/// Writes a record, all of it or nothing, and sets `at` to where it begins. Returns `DP_ANSWER_OK`,
/// `DP_ANSWER_END_OF_VOLUME` or a negative error number.
///
/// Threads: one call at a time for each writer, on any thread of the library.
pub type dp_medium_write_function = Option<
    unsafe extern "C" fn(writer: User, record: *const dp_record, at: *mut dp_position) -> i32,
>;
/// Reads the next item, or the one before. Returns `DP_ANSWER_OK` or a negative error number.
///
/// Threads: one call at a time for each reader, on any thread of the library or that of the call.
pub type dp_medium_read_function =
    Option<unsafe extern "C" fn(reader: User, item: *mut dp_item) -> i32>;
/// Goes to a position. Returns `DP_ANSWER_OK`, `DP_ANSWER_END` if there is none such, and the
/// position is as before, or a negative error number.
///
/// Threads: as for `dp_medium_read_function`.
pub type dp_medium_seek_function =
    Option<unsafe extern "C" fn(reader: User, to: *const dp_position) -> i32>;

/// A medium of the program, with volumes of records and marks, as a tape has them. All functions
/// are needed. Two structs with the same `user`, `create` and `open` are one medium: `dp_copy`
/// refuses to write the one that it reads.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_medium {
    /// `sizeof(dp_medium)`.
    pub size: usize,
    /// Pointer that is passed to `content`, `create` and `open`.
    pub user: User,
    /// Returns the bytes of content.
    pub content: dp_medium_size_function,
    /// Opens the medium to write.
    pub create: dp_medium_create_function,
    /// Writes a record.
    pub write: dp_medium_write_function,
    /// Writes a mark. Returns as `write`.
    pub write_mark: dp_end_function,
    /// Returns `DP_ANSWER_OK` when all that was written is on stable storage, or a negative error
    /// number. After an error the archive ends.
    pub sync: dp_end_function,
    /// Syncs this volume and begins the next one. Returns `DP_ANSWER_OK` or a negative error
    /// number: `-ENOSPC` if there is no other volume.
    pub extend: dp_end_function,
    /// Syncs and completes what was written. Nothing is written after that. Returns `DP_ANSWER_OK`
    /// or a negative error number.
    pub finish: dp_end_function,
    /// Frees the writer, also one that was not finished. The answer is ignored.
    pub close_writer: dp_end_function,
    /// Opens the medium to read.
    pub open: dp_medium_open_function,
    /// Reads the next item. At the end of a volume it returns `DP_ITEM_END` again and again.
    pub read: dp_medium_read_function,
    /// Reads the item before the position, and leaves the position before it.
    pub read_back: dp_medium_read_function,
    /// Goes to the start of the next volume. Returns `DP_ANSWER_OK`, `DP_ANSWER_END` if there is
    /// none, or a negative error number.
    pub next_volume: dp_end_function,
    /// Goes to a position that `write` or `read` has set, or to the start of a volume.
    pub seek: dp_medium_seek_function,
    /// Goes to the end of the volume that the position has, or of the last one for volume 0.
    pub seek_end: dp_medium_seek_function,
    /// Frees the reader. The answer is ignored.
    pub close_reader: dp_end_function,
    /// Most bytes of a record that an empty volume takes, 1024 to 16 MiB; 0 for 16 MiB. An archive
    /// has shorter records if its own do not fit.
    pub longest_record: u32,
    /// Set to 0.
    pub reserved: u32,
}

versioned!(dp_medium, first: 144, {
    size, user, content, create, write, write_mark, sync, extend, finish, close_writer, open, read,
    read_back, next_volume, seek, seek_end, close_reader,
    longest_record, reserved
});

/// The medium that functions make, with the name that messages have for it.
pub(super) fn functions_of(
    medium: In<dp_medium>,
    name: Text,
    what: &str,
) -> Result<Medium, Failure> {
    let functions = medium.read_needed()?;
    let name = name.needed_path(what)?;
    let source = ForeignMedium::of(&functions, name.clone())?;
    Ok(Medium::of_program(name, Arc::new(source)))
}

/// The functions, all of which are there.
#[derive(Clone)]
struct ForeignMedium {
    name: PathBuf,
    user: User,
    content: unsafe extern "C" fn(User) -> i64,
    create: unsafe extern "C" fn(User, *const dp_medium_writing, *mut User) -> i32,
    write: unsafe extern "C" fn(User, *const dp_record, *mut dp_position) -> i32,
    write_mark: unsafe extern "C" fn(User) -> i32,
    sync: unsafe extern "C" fn(User) -> i32,
    extend: unsafe extern "C" fn(User) -> i32,
    finish: unsafe extern "C" fn(User) -> i32,
    close_writer: unsafe extern "C" fn(User) -> i32,
    open: unsafe extern "C" fn(User, *mut User) -> i32,
    read: unsafe extern "C" fn(User, *mut dp_item) -> i32,
    read_back: unsafe extern "C" fn(User, *mut dp_item) -> i32,
    next_volume: unsafe extern "C" fn(User) -> i32,
    seek: unsafe extern "C" fn(User, *const dp_position) -> i32,
    seek_end: unsafe extern "C" fn(User, *const dp_position) -> i32,
    close_reader: unsafe extern "C" fn(User) -> i32,
    longest_record: usize,
}

impl fmt::Debug for ForeignMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

fn needed<F>(function: Option<F>, name: &str) -> Result<F, Failure> {
    let null = || Failure::new(DP_ERR_NULL, format!("dp_medium.{name} is NULL"));
    function.ok_or_else(null)
}

impl ForeignMedium {
    fn of(medium: &dp_medium, name: PathBuf) -> Result<Self, Failure> {
        check_reserved("dp_medium", medium.reserved)?;
        let longest_record = match medium.longest_record as usize {
            0 => MAX_RECORD,
            len if (MIN_RECORD..=MAX_RECORD).contains(&len) => len,
            len => {
                let text = format!(
                    "dp_medium.longest_record is {len}, but has to be {MIN_RECORD} to {MAX_RECORD}"
                );
                return Err(Failure::new(DP_ERR_ARGUMENT, text));
            }
        };
        Ok(Self {
            name,
            longest_record,
            user: medium.user,
            content: needed(medium.content, "content")?,
            create: needed(medium.create, "create")?,
            write: needed(medium.write, "write")?,
            write_mark: needed(medium.write_mark, "write_mark")?,
            sync: needed(medium.sync, "sync")?,
            extend: needed(medium.extend, "extend")?,
            finish: needed(medium.finish, "finish")?,
            close_writer: needed(medium.close_writer, "close_writer")?,
            open: needed(medium.open, "open")?,
            read: needed(medium.read, "read")?,
            read_back: needed(medium.read_back, "read_back")?,
            next_volume: needed(medium.next_volume, "next_volume")?,
            seek: needed(medium.seek, "seek")?,
            seek_end: needed(medium.seek_end, "seek_end")?,
            close_reader: needed(medium.close_reader, "close_reader")?,
        })
    }

    /// The error of a function that has answered neither of its answers.
    fn error(&self, doing: &'static str, answer: i64) -> MediumError {
        let number = i32::try_from(answer)
            .ok()
            .filter(|answer| (-4095..0).contains(answer));
        let source = match number {
            Some(answer) => io::Error::from_raw_os_error(-answer),
            None => io::Error::other(format!(
                "the function of the medium has returned {answer}, which is neither one of its \
                 answers nor a negative error number"
            )),
        };
        if number == Some(-libc::ENOSPC) {
            return MediumError::Full {
                path: self.name.clone(),
                what: "the medium has no room, and no other volume".to_owned(),
            };
        }
        MediumError::Io {
            doing,
            path: self.name.clone(),
            source,
        }
    }

    fn check(&self, doing: &'static str, answer: i32) -> Result<(), MediumError> {
        match answer {
            DP_ANSWER_OK => Ok(()),
            answer => Err(self.error(doing, answer.into())),
        }
    }
}

impl MediumSource for ForeignMedium {
    fn identity(&self) -> [usize; 3] {
        [
            self.user.address(),
            self.create as usize,
            self.open as usize,
        ]
    }

    fn content(&self) -> Result<u64, MediumError> {
        let answer = measure(self.content, self.user);
        u64::try_from(answer).map_err(|_| self.error("inspect", answer))
    }

    fn writer(&self, label: &str, appends: bool) -> Result<Box<dyn MediumWriter>, MediumError> {
        let label = text_of(label);
        let writing = dp_medium_writing {
            size: size_of::<dp_medium_writing>(),
            label: label.as_ptr(),
            appends: appends.into(),
            reserved: 0,
        };
        let mut state = User::NULL;
        self.check(
            "create",
            convert(self.create, self.user, &writing, &mut state),
        )?;
        Ok(Box::new(ForeignWriter {
            medium: self.clone(),
            state,
            volume: 0,
        }))
    }

    fn reader(&self) -> Result<Box<dyn MediumReader>, MediumError> {
        let mut state = User::NULL;
        self.check("open", change(self.open, self.user, &mut state))?;
        Ok(Box::new(ForeignReader {
            medium: self.clone(),
            state,
        }))
    }
}

struct ForeignWriter {
    medium: ForeignMedium,
    state: User,
    /// The volume of the last record; 0 before the first one.
    volume: u32,
}

impl Drop for ForeignWriter {
    fn drop(&mut self) {
        notify(self.medium.close_writer, self.state);
    }
}

impl ForeignWriter {
    fn check_written(&self, answer: i32) -> Result<(), MediumError> {
        match answer {
            DP_ANSWER_END_OF_VOLUME => Err(MediumError::EndOfVolume {
                volume: self.volume,
            }),
            answer => self.medium.check("write", answer),
        }
    }
}

impl MediumWriter for ForeignWriter {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        let record = dp_record {
            size: size_of::<dp_record>(),
            bytes: record.as_ptr(),
            len: record.len(),
        };
        let mut at = position_of(Position::start_of(0));
        let answer = convert(self.medium.write, self.state, &record, &mut at);
        self.check_written(answer)?;
        self.volume = at.volume;
        Ok(Position {
            volume: at.volume,
            record: at.record,
            byte: at.byte,
        })
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.check_written(notify(self.medium.write_mark, self.state))
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        self.medium
            .check("sync", notify(self.medium.sync, self.state))
    }

    fn abilities(&self) -> Abilities {
        Abilities::default().longest_record(self.medium.longest_record)
    }

    fn next_volume(&mut self) -> Result<(), MediumError> {
        let answer = notify(self.medium.extend, self.state);
        self.medium.check("extend", answer)
    }

    fn finish(&mut self) -> Result<(), MediumError> {
        let answer = notify(self.medium.finish, self.state);
        self.medium.check("finish", answer)
    }
}

struct ForeignReader {
    medium: ForeignMedium,
    state: User,
}

impl Drop for ForeignReader {
    fn drop(&mut self) {
        notify(self.medium.close_reader, self.state);
    }
}

impl ForeignReader {
    fn item(
        &self,
        function: unsafe extern "C" fn(User, *mut dp_item) -> i32,
        record: &mut Vec<u8>,
    ) -> Result<Item, MediumError> {
        record.clear();
        let mut item: dp_item = empty();
        let answer = change(function, self.state, &mut item);
        self.medium.check("read", answer)?;
        let at = Position {
            volume: item.volume,
            record: item.record,
            byte: item.byte,
        };
        Ok(match item.kind {
            DP_ITEM_RECORD => {
                let read = item.bytes.read(item.len, "item.bytes");
                *record = read.map_err(|failure| self.wrong(failure.text()))?;
                Item::Record(at)
            }
            DP_ITEM_MARK => Item::Mark(at),
            DP_ITEM_DAMAGED if item.skipped > 0 => Item::Damaged {
                at,
                skipped: item.skipped,
            },
            DP_ITEM_DAMAGED => return Err(self.wrong("a damaged place has 0 bytes")),
            DP_ITEM_END => Item::End,
            kind => return Err(self.wrong(&format!("there is no kind {kind} of an item"))),
        })
    }

    fn wrong(&self, what: &str) -> MediumError {
        MediumError::Io {
            doing: "read",
            path: self.medium.name.clone(),
            source: io::Error::other(format!("the function of the medium is wrong: {what}")),
        }
    }

    fn go(&self, answer: i32, to: Position) -> Result<(), MediumError> {
        match answer {
            DP_ANSWER_END => Err(MediumError::NoSuchPosition {
                path: self.medium.name.clone(),
                to,
                what: "its function has not found it".to_owned(),
            }),
            answer => self.medium.check("seek", answer),
        }
    }
}

impl MediumReader for ForeignReader {
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.item(self.medium.read, record)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.item(self.medium.read_back, record)
    }

    fn next_volume(&mut self) -> Result<bool, MediumError> {
        match notify(self.medium.next_volume, self.state) {
            DP_ANSWER_END => Ok(false),
            answer => self.medium.check("read", answer).map(|()| true),
        }
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        let answer = show(self.medium.seek, self.state, &position_of(to));
        self.go(answer, to)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        let to = Position::start_of(volume.unwrap_or_default());
        let answer = show(self.medium.seek_end, self.state, &position_of(to));
        self.go(answer, to)
    }
}

fn position_of(position: Position) -> dp_position {
    dp_position {
        size: size_of::<dp_position>(),
        record: position.record,
        byte: position.byte,
        volume: position.volume,
        reserved: 0,
    }
}

/// Refuses a setting of media in files for a medium of the program.
pub(super) fn check_volume_size(medium: &Medium, volume_size: u64) -> Result<(), Failure> {
    match medium.is_of_program() && volume_size > 0 {
        true => Err(Failure::new(
            DP_ERR_ARGUMENT,
            "volume_size is for media in files: the functions of the medium end its volumes",
        )),
        false => Ok(()),
    }
}
