//! The list of a medium: its sessions and archives.

use std::ffi::{CString, c_char};
use std::ptr;

use datapipe::archive::{ListedArchive, ListedSession};
use datapipe::wire::Content;

use crate::boundary::{In, Out, Text, User, call, check_reserved, show, versioned};
use crate::failure::Failure;
use crate::job::list_sessions;
use crate::last_error::text_of;
use crate::status::{DP_ERR_CALLBACK, DP_ERR_NULL, dp_status};

use super::backup::status_of;
use super::hooks::{dp_hooks, hooks_of};
use super::medium::dp_medium;
use super::secret::{dp_secret, secret_of};
use super::selection::medium_of;

/// Content of an archive: not known, because its header cannot be read.
pub const DP_CONTENT_UNKNOWN: i32 = 0;
/// Content of an archive: a stream.
pub const DP_CONTENT_STREAM: i32 = 1;
/// Content of an archive: a tree.
pub const DP_CONTENT_TREE: i32 = 2;

/// Flag of a listed archive: its writer came to the end of the session.
pub const DP_LISTED_SESSION_FINISHED: u32 = 1;
/// Flag of a listed archive: its writer came to the end of the archive.
pub const DP_LISTED_FINISHED: u32 = 2;
/// Flag of a listed archive: its header can be read. Without it, the name, the hash, the content
/// and the time are not known.
pub const DP_LISTED_HEADER: u32 = 4;
/// Flag of a listed archive: it is encrypted.
pub const DP_LISTED_ENCRYPTED: u32 = 8;
/// Flag of a listed archive: it is a copy of an archive of the session `source_session_id`.
pub const DP_LISTED_COPY: u32 = 16;

/// An archive of a medium, or a session without archives, in which `archive` is 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_listed_archive {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// Name in UTF-8; NULL if it is not known. That of an encrypted archive needs the secret.
    pub name: *const c_char,
    /// Label of the session in UTF-8; NULL if it is not known.
    pub label: *const c_char,
    /// Blocks of all kinds, if the archive is finished.
    pub blocks: u64,
    /// Time at which the archive was begun, in seconds since 1970 UTC; without an archive, that of
    /// the session.
    pub created_seconds: i64,
    /// Nanoseconds of that time.
    pub created_nanoseconds: u32,
    /// Number of the session on the medium, from 1.
    pub session: u32,
    /// Number of the archive in its session, from 1.
    pub archive: u32,
    /// Number of the archive on the medium, from 1; 0 without an archive.
    pub number: u32,
    /// `DP_CONTENT_...`. Later versions may have more.
    pub content: i32,
    /// `DP_LISTED_...` flags, added. Later versions have more.
    pub flags: u32,
    /// Id of the session.
    pub session_id: [u8; 16],
    /// Id of the archive.
    pub archive_id: [u8; 16],
    /// Id of the session from which a copy was made.
    pub source_session_id: [u8; 16],
    /// Hash of the header, as the backup has returned it.
    pub header_hash: [u8; 32],
}

versioned!(dp_listed_archive, first: 144, {
    size, name, label, blocks, created_seconds, created_nanoseconds, session, archive, number,
    content, flags, session_id, archive_id, source_session_id, header_hash
});

/// Receives an archive of a medium. Returns 0 to go on; another number ends the list, which then
/// returns `DP_ERR_CALLBACK`.
///
/// Threads: that of `dp_sessions`. Pointers are valid until the function returns.
pub type dp_archive_function =
    Option<unsafe extern "C" fn(user: User, archive: *const dp_listed_archive) -> i32>;

/// Options of the list of a medium. Fields that are 0 have their default.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_sessions_options {
    /// `sizeof(dp_sessions_options)`.
    pub size: usize,
    /// Path of the medium.
    pub medium: Text,
    /// Secret that opens the names of encrypted archives, or NULL.
    pub secret: In<dp_secret>,
    /// Cancellation and problems, or NULL. There is no progress.
    pub hooks: In<dp_hooks>,
    /// Receives each archive, in the order of the medium.
    pub archive: dp_archive_function,
    /// Pointer that is passed to `archive`.
    pub archive_user: User,
    /// `DP_MEDIUM_...`.
    pub medium_kind: i32,
    /// Set to 0.
    pub reserved: u32,
    /// For `DP_MEDIUM_OF_PROGRAM`: the functions of the medium, or NULL.
    pub medium_functions: In<dp_medium>,
}

versioned!(dp_sessions_options, first: 64, {
    size, medium, secret, hooks, archive, archive_user, medium_kind, reserved,
    medium_functions
});

/// Result of the list of a medium.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_sessions_result {
    /// `sizeof(dp_sessions_result)`: set it before the call.
    pub size: usize,
    /// Sessions in the list.
    pub sessions: u64,
    /// Archives in the list.
    pub archives: u64,
    /// 1 if the medium has more than can be listed: the list has the last ones. Otherwise 0.
    pub is_cut: u32,
    /// Places with damage that the list has met. The status is `DP_INCOMPLETE` if there are any.
    /// The medium may have more damage, which reading an archive finds.
    pub damage: u32,
}

versioned!(dp_sessions_result, first: 32, { size, sessions, archives, is_cut, damage });

/// Lists the sessions and archives of a medium, from its own records. The list is not
/// authenticated: it has what the medium records of itself. A damaged medium is listed as far as
/// it can be read; the problem function receives each place with damage before the archives, as
/// `DP_PROBLEM_MEDIUM`.
///
/// `options` and what it refers to are copied. `result` may be NULL; it is written if the status is
/// `DP_OK` or `DP_INCOMPLETE`.
///
/// Threads: any. Not in a signal handler. Errors: `DP_ERR_NULL`, `DP_ERR_ARGUMENT`,
/// `DP_ERR_NOT_FOUND`, `DP_ERR_MEDIUM`, `DP_ERR_NO_ARCHIVE` for a medium with data but without a
/// session, `DP_ERR_CALLBACK` if `archive` has ended the list, `DP_ERR_CANCELLED`, and those of
/// a secret.
#[unsafe(no_mangle)]
pub extern "C" fn dp_sessions(
    options: In<dp_sessions_options>,
    result: Out<dp_sessions_result>,
) -> dp_status {
    call(|| {
        let result = result.check()?;
        let options = options.read_needed()?;
        check_reserved("dp_sessions_options", options.reserved)?;
        let function = options.archive;
        let function = function
            .ok_or_else(|| Failure::new(DP_ERR_NULL, "archive is NULL, but receives the list"))?;
        let medium = medium_of(
            options.medium,
            options.medium_kind,
            options.medium_functions,
            "medium",
        )?;
        let secret = secret_of(options.secret)?;
        let hooks = hooks_of(options.hooks)?;
        let listed = list_sessions(&medium, secret.as_ref(), &hooks)?;
        let mut number = 0;
        for session in listed.sessions() {
            let mut show_one = |archive: Option<&ListedArchive>| {
                number += u32::from(archive.is_some());
                let number = archive.map_or(0, |_| number);
                hooks.check()?;
                show_archive(session, archive, number, |shown| {
                    show(function, options.archive_user, shown)
                })
            };
            match session.archives() {
                [] => show_one(None)?,
                all => all.iter().try_for_each(|archive| show_one(Some(archive)))?,
            }
        }
        let damage = listed.damage().len();
        if let Some(result) = result {
            result.write(&dp_sessions_result {
                size: size_of::<dp_sessions_result>(),
                sessions: listed.sessions().len() as u64,
                archives: number.into(),
                is_cut: listed.is_cut().into(),
                damage: u32::try_from(damage).unwrap_or(u32::MAX),
            });
        }
        Ok(status_of(damage as u64))
    })
}

/// Shows an archive of a session, or the session alone.
fn show_archive(
    session: &ListedSession,
    archive: Option<&ListedArchive>,
    number: u32,
    show: impl FnOnce(&dp_listed_archive) -> i32,
) -> Result<(), Failure> {
    let header = session.header();
    let label = header.map(|header| text_of(header.label.as_str()));
    let name = archive.and_then(ListedArchive::name).map(text_of);
    let session_created = header.map(|header| header.created);
    let created = match archive {
        Some(archive) => archive.created(),
        None => session_created,
    };
    let created = created.unwrap_or_default();
    let source = archive.and_then(ListedArchive::copy_of);
    let text = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    let shown = dp_listed_archive {
        size: size_of::<dp_listed_archive>(),
        name: text(&name),
        label: text(&label),
        blocks: archive.and_then(ListedArchive::blocks).unwrap_or_default(),
        created_seconds: created.seconds,
        created_nanoseconds: created.nanoseconds,
        session: session.number(),
        archive: archive.map_or(0, ListedArchive::number),
        number,
        content: match archive.and_then(ListedArchive::content) {
            Some(Content::Stream) => DP_CONTENT_STREAM,
            Some(Content::Tree) => DP_CONTENT_TREE,
            _ => DP_CONTENT_UNKNOWN,
        },
        flags: flags_of(session, archive),
        session_id: *session.id(),
        archive_id: archive
            .and_then(ListedArchive::id)
            .copied()
            .unwrap_or_default(),
        source_session_id: source.map(|source| source.session).unwrap_or_default(),
        header_hash: archive
            .and_then(ListedArchive::header_hash)
            .copied()
            .unwrap_or_default(),
    };
    match show(&shown) {
        0 => Ok(()),
        answer => Err(Failure::new(
            DP_ERR_CALLBACK,
            format!("the archive function has returned {answer}, which ends the list"),
        )),
    }
}

fn flags_of(session: &ListedSession, archive: Option<&ListedArchive>) -> u32 {
    let is = |of: fn(&ListedArchive) -> bool| archive.is_some_and(of);
    let flags = [
        (DP_LISTED_SESSION_FINISHED, session.is_finished()),
        (DP_LISTED_FINISHED, is(ListedArchive::is_finished)),
        (
            DP_LISTED_HEADER,
            is(|archive| archive.header_hash().is_some()),
        ),
        (
            DP_LISTED_ENCRYPTED,
            is(|archive| archive.is_encrypted() == Some(true)),
        ),
        (DP_LISTED_COPY, is(|archive| archive.copy_of().is_some())),
    ];
    flags
        .iter()
        .filter(|(_, is_set)| *is_set)
        .map(|(flag, _)| flag)
        .sum()
}
