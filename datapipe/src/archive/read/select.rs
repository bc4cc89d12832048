//! Opens an archive of a list.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::vec;

use crate::crypto::{SLOT_LEN, Secret, SecretKind};
use crate::media::MediumReader;
use crate::wire::{ArchiveHeader, CipherKind};

use super::super::key::{ArchiveKey, header_hash};
use super::super::open_error::OpenError;
use super::super::shared_key::SharedKey;
use super::front::{first_block_opens, read_origin};
use super::reader::{ArchiveReader, Headers, find_headers_in, unlock};
use super::session_list::{ListedArchive, Sessions, is_failure};
use super::shared_medium::SharedMedium;
use super::unit_reader::UnitReader;

/// Most archives without a header at its place that are read to find one, and most of the others
/// that may be read in vain: those are too many on a medium whose maker forges it.
const MAX_SEARCHES: u32 = 8;

/// Most data keys that are unlocked to find an archive: a passphrase is stretched for each.
const MAX_KEYS: usize = 8;

impl<M: MediumReader + 'static> ArchiveReader<M> {
    /// Opens an archive of a list that was read from this medium. Other archives of the medium are
    /// not looked at.
    ///
    /// # Errors
    ///
    /// [`OpenError`], as [`open`](Self::open).
    pub fn open_listed(
        medium: M,
        archive: &ListedArchive,
        secret: Option<&Secret>,
    ) -> Result<Self, OpenError> {
        let medium = SharedMedium::new(medium);
        let headers = find_listed(&medium, archive)?;
        let key = unlock(&headers.archive, secret)?;
        Self::new(medium, headers, archive.place(), key, secret).with_origin()
    }

    /// Opens the last whole archive of those that are given, in the order of a list of this medium:
    /// among those with a footer the one that was begun last. With a secret, only archives that it
    /// opens count, and of each the first block proves that the time is what the writer wrote; an
    /// archive that is not encrypted does not count. Without a secret, the last archive must not be
    /// encrypted. If no archive has a footer, it is the last one of the others.
    ///
    /// Slots of at most eight archives are tried, from the last archive on, those that have a data
    /// key which is known by then not counted. Of archives whose header is damaged, at most eight
    /// are read to find a copy of it. After eight others whose first block does not open, or whose
    /// headers cannot be read after all, no more are looked at.
    ///
    /// # Errors
    ///
    /// [`OpenError`], as [`open`](Self::open).
    pub fn open_last<'l>(
        medium: M,
        archives: impl IntoIterator<Item = &'l ListedArchive>,
        secret: Option<&Secret>,
    ) -> Result<Self, OpenError> {
        let medium = SharedMedium::new(medium);
        let mut candidates = newest_first(archives);
        let mut tried = TriedKeys::default();
        let mut first_error = None;
        while let Some(archive) = candidates.next() {
            match Self::open_candidate(&medium, archive, secret, &mut tried) {
                Ok(reader) => return Ok(reader),
                Err(error) if is_failure(&error) => return Err(error),
                Err(error) => {
                    candidates.failed(archive, &error);
                    first_error.get_or_insert(error);
                }
            }
            if secret.is_none() {
                break;
            }
        }
        let none = || OpenError::NoArchive("the medium has no archive".to_owned());
        Err(first_error.unwrap_or_else(none))
    }

    /// Opens an archive if it is encrypted as the secret demands, and its first block proves its
    /// header.
    fn open_candidate(
        medium: &SharedMedium<M>,
        archive: &ListedArchive,
        secret: Option<&Secret>,
        tried: &mut TriedKeys,
    ) -> Result<Self, OpenError> {
        let headers = find_listed(medium, archive)?;
        let is_encrypted = headers.archive.cipher != CipherKind::None;
        let key = match is_encrypted && secret.is_some() {
            true => tried.unlock(&headers.archive, secret)?,
            false => unlock(&headers.archive, secret)?,
        };
        let reader = Self::new(medium.clone(), headers, archive.place(), key, secret);
        match reader.proves_header()? {
            true => reader.with_origin(),
            false => Err(OpenError::NoArchive(format!(
                "archive {} of session {} has no first block that opens: its header may be changed",
                archive.number(),
                archive.session_number()
            ))),
        }
    }

    /// True if the archive is not encrypted, or its first block opens: the key depends on all of
    /// the header.
    fn proves_header(&self) -> Result<bool, OpenError> {
        let Some(key) = self.key() else {
            return Ok(true);
        };
        let (session, place) = (self.session().id, self.place());
        Ok(first_block_opens(
            self.shared_medium(),
            session,
            place,
            key,
        )?)
    }

    /// SHA-256 of the identity of the archive's header. A backup can record it, and a restore
    /// compare it: no other archive has it, and no other content of an encrypted one.
    pub fn header_hash(&self) -> [u8; 32] {
        header_hash(self.header())
    }

    /// True if the secret that has opened the archive proves who has written it.
    pub fn has_proven_writer(&self) -> bool {
        let kind = self.opened_by();
        kind.is_some_and(|kind| kind != SecretKind::Identity)
    }
}

/// Data keys of the archives of a medium, of which a passphrase is stretched once for each.
#[derive(Default)]
struct TriedKeys {
    /// Data keys by their ids.
    opened: Vec<([u8; 16], SharedKey)>,
    /// Slots that the secret does not open. The id of the data key beside them may be forged.
    locked: Vec<Vec<[u8; SLOT_LEN]>>,
}

impl TriedKeys {
    fn unlock(
        &mut self,
        header: &ArchiveHeader,
        secret: Option<&Secret>,
    ) -> Result<Option<SharedKey>, OpenError> {
        let mut opened = self.opened.iter();
        if let Some((_, key)) = opened.find(|(id, _)| *id == header.key_id) {
            return Ok(Some(key.clone()));
        }
        let tried = self.opened.len() + self.locked.len();
        if tried >= MAX_KEYS || self.locked.contains(&header.slots) {
            return Err(OpenError::KeyNeeded);
        }
        match unlock(header, secret) {
            Ok(key) => {
                let opened = key.iter().map(|key| (header.key_id, key.clone()));
                self.opened.extend(opened);
                Ok(key)
            }
            Err(error) => {
                self.locked.push(header.slots.clone());
                Err(error)
            }
        }
    }
}

impl Sessions {
    /// Reads the names of the encrypted archives that `secret` opens, a record for each. `medium`
    /// is the one that was listed. Unlike the rest of the list, these names are authenticated.
    ///
    /// Slots of at most eight archives are tried, at most eight archives with a damaged header are
    /// read, and at most eight others in vain, as [`ArchiveReader::open_last`] does. Archives that
    /// the secret does not open stay without a name, or with the one that an earlier call has read.
    ///
    /// ```
    /// use datapipe::archive::Sessions;
    /// use datapipe::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("nightly.tap");
    ///
    /// let key = Secret::Key(Key::from_bytes([7; 32]));
    /// let archive = ArchiveOptions::stream("nightly").encrypt(key.clone()).plan()?;
    /// let tape = VirtualTape::create(&path, VolumeOptions::default())?;
    /// Pipe::builder().head(StreamHead::new(&b"data"[..])).archive(archive, tape).run()?;
    ///
    /// let sessions = Sessions::read(VirtualTape::open(&path)?)?;
    /// assert_eq!(sessions.archives().next().and_then(|archive| archive.name()), None);
    /// let sessions = sessions.with_names(VirtualTape::open(&path)?, &key)?;
    /// assert_eq!(sessions.archives().next().and_then(|archive| archive.name()), Some("nightly"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OpenError::Medium`] if the medium fails. Damage is not an error.
    pub fn with_names<M: MediumReader>(
        mut self,
        medium: M,
        secret: &Secret,
    ) -> Result<Self, OpenError> {
        let medium = SharedMedium::new(medium);
        let _claim = medium.claim()?;
        let mut tried = TriedKeys::default();
        let is_wanted = |archive: &&mut ListedArchive| {
            archive.is_encrypted() == Some(true) && archive.name().is_none()
        };
        let mut candidates = newest_first(self.archives_mut().filter(is_wanted));
        while let Some(archive) = candidates.next() {
            match sealed_name(&medium, archive, secret, &mut tried) {
                Ok(name) => archive.set_name(name),
                Err(error) if is_failure(&error) => return Err(error),
                Err(error) => candidates.failed(archive, &error),
            }
        }
        Ok(self)
    }
}

/// Reads the name of an encrypted archive.
///
/// # Errors
///
/// [`OpenError::NoArchive`], too, if the archive opens, and its name cannot be read.
fn sealed_name<M: MediumReader>(
    medium: &SharedMedium<M>,
    archive: &ListedArchive,
    secret: &Secret,
    tried: &mut TriedKeys,
) -> Result<String, OpenError> {
    let headers = find_listed(medium, archive)?;
    let Some(shared) = tried.unlock(&headers.archive, Some(secret))? else {
        return Err(OpenError::KeyNeeded);
    };
    let key = ArchiveKey::derive(&shared.data_key, &headers.archive);
    let origin = read_origin(medium, headers.session.id, &archive.place(), Some(&key))?;
    let origin = origin.ok_or_else(|| OpenError::NoArchive("it has no origin".to_owned()))?;
    Ok(origin.name)
}

impl SharedKey {
    /// Unlocks the data key of a listed archive for other archives, with the slot that the secret
    /// opens. `medium` is the one that was listed.
    ///
    /// Returns `None` if the secret is an identity: another party may have chosen the data key.
    ///
    /// # Errors
    ///
    /// [`OpenError`], as [`ArchiveReader::open_listed`].
    pub fn of_listed<M: MediumReader>(
        medium: M,
        archive: &ListedArchive,
        secret: &Secret,
    ) -> Result<Option<Self>, OpenError> {
        let headers = find_listed(&SharedMedium::new(medium), archive)?;
        let key = unlock(&headers.archive, Some(secret))?;
        Ok(key.filter(|_| secret.kind() != SecretKind::Identity))
    }
}

/// Returns archives, given in the order of a list, from the last one on: those with a footer before
/// the others, and of these the one that was begun last.
pub(super) fn newest_first<A: Borrow<ListedArchive>>(
    archives: impl IntoIterator<Item = A>,
) -> Candidates<A> {
    let mut archives: Vec<_> = archives.into_iter().collect();
    // The later on the medium of two that were begun at the same time.
    archives.reverse();
    archives.sort_by_key(|archive| {
        let archive = archive.borrow();
        Reverse((archive.is_finished(), archive.created()))
    });
    Candidates {
        archives: archives.into_iter(),
        searches: MAX_SEARCHES,
        failures: MAX_SEARCHES,
    }
}

/// Archives that are tried one after the other. Each may cost a reading of all of it, and a medium
/// may have many that do.
pub(super) struct Candidates<A> {
    archives: vec::IntoIter<A>,
    /// Number of archives without a header at its place that may still be read.
    searches: u32,
    /// Number of the others that may still be read in vain.
    failures: u32,
}

impl<A: Borrow<ListedArchive>> Candidates<A> {
    /// Returns the next archive.
    pub(super) fn next(&mut self) -> Option<A> {
        if self.failures == 0 {
            return None;
        }
        loop {
            let archive = self.archives.next()?;
            if archive.borrow().has_header {
                return Some(archive);
            }
            // Its header is looked for in all of it.
            if let Some(left) = self.searches.checked_sub(1) {
                self.searches = left;
                return Some(archive);
            }
        }
    }

    /// Notes that an archive was not opened. That is cheap to find out if the secret is not the
    /// one, unless the header of the session was looked for.
    pub(super) fn failed(&mut self, archive: &ListedArchive, error: &OpenError) {
        let is_other = matches!(
            error,
            OpenError::KeyNeeded | OpenError::NotEncrypted | OpenError::Locked(_)
        );
        let is_cheap = is_other && archive.session.header.is_some();
        if archive.has_header && !is_cheap {
            self.failures = self.failures.saturating_sub(1);
        }
    }
}

/// Finds the headers of a listed archive: in their own units, or as copies.
pub(super) fn find_listed<M: MediumReader>(
    medium: &SharedMedium<M>,
    archive: &ListedArchive,
) -> Result<Headers, OpenError> {
    let mut units = UnitReader::of_archive(medium, archive.session.id, archive.place())?;
    let known = archive.session.header.clone();
    find_headers_in(&mut units, Some((archive.number, known)))
}
