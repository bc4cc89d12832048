//! The archive that a job reads, and the part of it.

use datapipe::archive::{
    ArchiveReader, BlockSet, Index, ListedArchive, OpenError, Reading, Sessions, StoredArchive,
};
use datapipe::prelude::*;
use datapipe::stage::{DamageEntry, IntoTail};
use datapipe::tree::{CatalogueCheck, CatalogueQuery};

use crate::failure::Failure;
use crate::log_sink::log;
use crate::status::*;

use super::hooks::Hooks;
use super::medium::Medium;
use super::run::run;

pub(super) type Reader = ArchiveReader<Box<dyn MediumReader>>;
pub(super) type Stored = StoredArchive<Box<dyn MediumReader>>;

/// An archive that is open, with the damage that the list of its medium has met.
pub(super) struct Opened<T> {
    pub(super) archive: T,
    pub(super) damage: Vec<DamageEntry>,
}

/// The archives of which one is to be read.
#[derive(Default)]
struct Candidates {
    /// `None`: the medium has one archive, or could not be listed, and its first archive is read.
    found: Option<Vec<ListedArchive>>,
    /// Damage that the list has met, if there is one.
    damage: Vec<DamageEntry>,
}

/// Selection of an archive on a medium with several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Number of its session on the medium, from 1.
    pub(crate) session: Option<u32>,
    /// Id of its session.
    pub(crate) session_id: Option<[u8; 16]>,
    /// Its number in that session, or else on the medium, from 1.
    pub(crate) archive: Option<u32>,
    /// Its name; of several, the one that was begun last.
    pub(crate) name: Option<String>,
    /// Hash that its header must have.
    pub(crate) hash: Option<[u8; 32]>,
}

impl Selection {
    fn is_any(&self) -> bool {
        let is_session = self.session.is_some() || self.session_id.is_some();
        !is_session && self.archive.is_none() && self.name.is_none()
    }

    /// Opens the archive.
    pub(super) fn open(
        &self,
        medium: &Medium,
        secret: Option<&Secret>,
        hooks: &Hooks,
    ) -> Result<Opened<Reader>, Failure> {
        let Candidates { found, damage } = self.candidates(medium, secret, hooks)?;
        let opened = match found {
            None => ArchiveReader::open(medium.open()?, secret),
            Some(found) if found.len() == 1 && !self.is_any() => {
                ArchiveReader::open_listed(medium.open()?, &found[0], secret)
            }
            Some(found) => ArchiveReader::open_last(medium.open()?, &found, secret),
        };
        let archive = opened.map_err(|error| medium.open_failure(error))?;
        self.check_hash(medium, &archive.header_hash())?;
        hooks.check()?;
        Ok(Opened { archive, damage })
    }

    /// Opens the archive to read it without its key. `names` opens the names of encrypted archives.
    pub(super) fn open_stored(
        &self,
        medium: &Medium,
        names: Option<&Secret>,
        hooks: &Hooks,
    ) -> Result<Opened<Stored>, Failure> {
        let Candidates { found, damage } = self.candidates(medium, names, hooks)?;
        let opened = match found {
            None => StoredArchive::open(medium.open()?),
            Some(found) if found.len() == 1 && !self.is_any() => {
                StoredArchive::open_listed(medium.open()?, &found[0])
            }
            Some(found) => StoredArchive::open_last(medium.open()?, &found),
        };
        let archive = opened.map_err(|error: OpenError| medium.open_failure(error))?;
        self.check_hash(medium, &archive.header_hash())?;
        hooks.check()?;
        Ok(Opened { archive, damage })
    }

    fn check_hash(&self, medium: &Medium, found: &[u8; 32]) -> Result<(), Failure> {
        match &self.hash {
            Some(expected) if expected != found => Err(medium.failure(
                DP_ERR_OTHER_ARCHIVE,
                format_args!(
                    "the header of the archive has the hash {}, not {}: it is another archive than \
                     the one that is expected, and nothing was read",
                    hex(found),
                    hex(expected)
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The archives of which the last one that opens is read, with the damage that their list has
    /// met.
    fn candidates(
        &self,
        medium: &Medium,
        secret: Option<&Secret>,
        hooks: &Hooks,
    ) -> Result<Candidates, Failure> {
        let sessions = match Sessions::read(medium.open()?) {
            Ok(sessions) => sessions,
            Err(error) if !self.is_any() => return Err(medium.open_failure(error)),
            // The archive may be readable up to the place at which the medium fails.
            Err(_) => return Ok(Candidates::default()),
        };
        hooks.check()?;
        let sessions = self.with_names(sessions, medium, secret)?;
        hooks.check()?;
        let damage = sessions.damage().to_vec();
        if sessions.is_cut() && self.archive.is_none() && self.name.is_none() {
            return Err(medium.failure(
                DP_ERR_LIMIT,
                "has more archives than can be listed, so the last one is not known; select one by \
                 its session and number",
            ));
        }
        if self.is_any() && sessions.archives().count() <= 1 && sessions.sessions().len() <= 1 {
            // The job that reads the archive finds the damage again.
            return Ok(Candidates::default());
        }
        let in_session = |archive: &&ListedArchive| {
            let has_number = |number| archive.session_number() == number;
            let has_id = |id| *archive.session_id() == id;
            self.session.is_none_or(has_number) && self.session_id.is_none_or(has_id)
        };
        let mut found: Vec<_> = sessions.archives().filter(in_session).cloned().collect();
        if let Some(number) = self.archive {
            let index = (number as usize).checked_sub(1);
            let numbered = index.and_then(|index| found.get(index).cloned());
            found = numbered.into_iter().collect();
        }
        let sealed = found.iter().filter(|archive| is_sealed(archive)).count();
        if let Some(name) = &self.name {
            found.retain(|archive| archive.name() == Some(name));
        }
        if found.is_empty() {
            log_damage(medium, &damage);
        }
        match (found.is_empty(), sealed) {
            (false, _) => Ok(Candidates {
                found: Some(found),
                damage,
            }),
            (true, 1..) if self.name.is_some() => Err(medium.failure(
                DP_ERR_NO_ARCHIVE,
                format_args!(
                    "has no archive that is selected by this session, number and name; {sealed} of \
                     its names are encrypted, which only the key opens: select such an archive by \
                     its number"
                ),
            )),
            (true, _) => Err(medium.failure(
                DP_ERR_NO_ARCHIVE,
                "has no archive that is selected by this session, number and name",
            )),
        }
    }

    /// Reads the names of encrypted archives, too, if one is selected by its name.
    fn with_names(
        &self,
        sessions: Sessions,
        medium: &Medium,
        secret: Option<&Secret>,
    ) -> Result<Sessions, Failure> {
        match secret.filter(|_| self.name.is_some()) {
            None => Ok(sessions),
            Some(secret) => sessions
                .with_names(medium.open()?, secret)
                .map_err(|error| medium.open_failure(error)),
        }
    }
}

/// Part of an archive that a job reads.
pub(super) enum ReadScope {
    /// The entire archive.
    Everything,
    /// The catalogue, for a list.
    Catalogue(Index, BlockSet),
    /// The blocks that have some paths.
    Paths(Index, BlockSet, CatalogueQuery),
    /// The entire archive, of which some paths are restored.
    AllForPaths(CatalogueQuery),
}

impl ReadScope {
    /// The part that a list of a tree needs: the catalogue, if it is intact.
    pub(super) fn for_list(reader: &Reader, hooks: &mut Hooks) -> Result<Self, Failure> {
        let Some(index) = read_index(reader) else {
            return Ok(Self::Everything);
        };
        let catalogue = index.catalogue();
        // Entries that were shown cannot be taken back, so the catalogue is read in advance.
        let intact = is_intact(reader, hooks, &index, &catalogue, CatalogueCheck::new())?;
        Ok(match intact {
            true => Self::Catalogue(index, catalogue),
            false => Self::Everything,
        })
    }

    /// The part that has these paths of a tree. If the catalogue cannot be used, the objects are
    /// searched, so the archive is read twice.
    pub(super) fn for_paths(
        reader: &Reader,
        paths: &[Vec<u8>],
        hooks: &mut Hooks,
    ) -> Result<Self, Failure> {
        let query = CatalogueQuery::new(paths);
        let Some(index) = read_index(reader) else {
            return Self::searched(reader, query, hooks);
        };
        let catalogue = index.catalogue();
        while let Some(search) = query.search() {
            if !is_intact(reader, hooks, &index, &catalogue, search)? {
                return Self::searched(reader, query, hooks);
            }
        }
        let blocks = query.blocks(&index);
        Ok(Self::Paths(index, blocks, query))
    }

    fn searched(
        reader: &Reader,
        query: CatalogueQuery,
        hooks: &mut Hooks,
    ) -> Result<Self, Failure> {
        // The restore reads what is damaged again, and reports it.
        let reader = reader.clone().salvage(&DamageLog::new());
        let pipe = reader.read().pipe.tail(query.search_objects());
        ended_or_failed_stage(run(pipe, hooks, |progress| progress))?;
        Ok(Self::AllForPaths(query))
    }

    /// The pipe that reads this part, without a tail.
    pub(super) fn read(&self, reader: &Reader, instances: u32) -> Result<Reading, Failure> {
        Ok(match self {
            Self::Everything | Self::AllForPaths(_) => reader.read().instances(instances),
            Self::Catalogue(index, blocks) | Self::Paths(index, blocks, _) => {
                reader.read_blocks(index, blocks)?.instances(instances)
            }
        })
    }

    /// True if the entire archive is read.
    pub(super) fn is_everything(&self) -> bool {
        matches!(self, Self::Everything | Self::AllForPaths(_))
    }

    /// The query of a restore of some paths.
    pub(super) fn query(&self) -> Option<&CatalogueQuery> {
        match self {
            Self::Paths(_, _, query) | Self::AllForPaths(query) => Some(query),
            _ => None,
        }
    }
}

/// Reads the index at the end of the archive. `None` if it cannot be read or lists no catalogue;
/// the archive can then still be read from its start.
fn read_index(reader: &Reader) -> Option<Index> {
    reader
        .index()
        .ok()
        .filter(|index| !index.catalogue().is_empty())
}

/// Reads the catalogue. Returns true if the tail takes it and it reaches the archive's last block:
/// the positions of its blocks are not authenticated.
fn is_intact(
    reader: &Reader,
    hooks: &mut Hooks,
    index: &Index,
    blocks: &BlockSet,
    tail: impl IntoTail<'static>,
) -> Result<bool, Failure> {
    let Reading { pipe, report } = reader.read_blocks(index, blocks)?;
    let ended = ended_or_failed_stage(run(pipe.tail(tail), hooks, |progress| progress))?;
    Ok(ended && report.snapshot().reached_end())
}

/// True if a pipe has ended well, false if one of its stages has failed.
fn ended_or_failed_stage(result: Result<Report, Failure>) -> Result<bool, Failure> {
    match result {
        Ok(_) => Ok(true),
        Err(failure) if failure.is_of_stage() => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Logs damage that the list of a medium has met.
pub(super) fn log_damage(medium: &Medium, damage: &[DamageEntry]) {
    for entry in damage {
        log(DP_LOG_WARNING, &format!("{medium}: {entry}"));
    }
}

/// True if the name of an archive is encrypted, and was not read.
fn is_sealed(archive: &ListedArchive) -> bool {
    archive.is_encrypted() == Some(true) && archive.name().is_none()
}

/// Formats bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
