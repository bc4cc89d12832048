//! What is decided before the first block: ids, keys, framing.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::crypto::{Argon2Cost, DataKey, KeyError, KeySlot, Secret, fill_random};
use crate::error::Error;
use crate::limits::{
    DEFAULT_BUFFER_SIZE, DEFAULT_RECORD, MAX_BUFFER_SIZE, MAX_KEY_SLOTS, MAX_RECORD, MAX_TEXT,
};
use crate::media::Medium;
use crate::stage::MiddleStage;
use crate::wire::{self, ArchiveHeader, Content, Framing, SessionHeader, Time};

use super::seal::{self, ArchiveKey};
use super::tail::ArchiveTail;

/// How an archive is to be written.
///
/// ```
/// use datapipe::archive::ArchiveOptions;
/// use datapipe::crypto::{Key, Secret};
/// use datapipe::media::VirtualTape;
/// use datapipe::prelude::*;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("nightly.tap");
///
/// let data = b"the only copy of somebody's data".repeat(1000);
/// let archive = ArchiveOptions::new("nightly").encrypt(Secret::Key(Key::from_bytes([7; 32]))).plan()?;
/// let tape = VirtualTape::create(&path, Default::default())?;
/// let (seal, tail) = archive.stages(tape);
/// Pipe::builder()
///     .head(StreamHead::new(&data[..]))
///     .stage(Zstd::level(3))
///     .stage(seal.expect("there is a key"))
///     .tail(tail)
///     .run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ArchiveOptions {
    name: String,
    label: String,
    program: String,
    framing: Framing,
    content: Content,
    record_len: usize,
    chunk_len: u64,
    block_len: u32,
    secrets: Vec<(Secret, Argon2Cost)>,
}

/// Bytes of a chunk if nobody asks for another: what a crash can cost at most.
const DEFAULT_CHUNK: u64 = 1 << 30;
/// Smallest record: a header and some content.
const MIN_RECORD: usize = 1024;

impl ArchiveOptions {
    /// An archive of one stream, called `name`, in a session of its own, not encrypted.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            label: name.clone(),
            name,
            program: concat!("datapipe ", env!("CARGO_PKG_VERSION")).to_owned(),
            framing: Framing::default(),
            content: Content::default(),
            record_len: DEFAULT_RECORD,
            chunk_len: DEFAULT_CHUNK,
            block_len: DEFAULT_BUFFER_SIZE,
            secrets: Vec::new(),
        }
    }

    /// Encrypts, so that this secret opens the archive. Called again, each of up to eight secrets
    /// does. A passphrase is stretched when the archive is planned, which takes a moment and 64
    /// MiB.
    #[must_use]
    pub fn encrypt(self, secret: Secret) -> Self {
        self.encrypt_at(secret, Argon2Cost::default())
    }

    /// As [`encrypt`](Self::encrypt), with another cost of stretching a passphrase.
    #[must_use]
    pub fn encrypt_at(mut self, secret: Secret, cost: Argon2Cost) -> Self {
        self.secrets.push((secret, cost));
        self
    }

    /// Which chunks have headers and footers: both around every chunk, if nobody says otherwise.
    #[must_use]
    pub fn framing(self, framing: Framing) -> Self {
        Self { framing, ..self }
    }

    /// What the archive holds.
    #[must_use]
    pub fn content(self, content: Content) -> Self {
        Self { content, ..self }
    }

    /// Cuts the stream into records of `bytes`, moved to a multiple of 8 between 1 KiB and 16 MiB;
    /// 1 MiB by default. A volume's label has a record of its own length.
    #[must_use]
    pub fn record_len(self, bytes: usize) -> Self {
        Self {
            record_len: bytes.clamp(MIN_RECORD, MAX_RECORD) / 8 * 8,
            ..self
        }
    }

    /// Makes a checkpoint after every `bytes` on the medium, at least one block; 1 GiB by default.
    #[must_use]
    pub fn chunk_len(self, bytes: u64) -> Self {
        Self {
            chunk_len: bytes,
            ..self
        }
    }

    /// Says how long the pipe's blocks are at most, before compression: its buffer size. A reader's
    /// buffers have to be as large.
    #[must_use]
    pub fn block_len(self, bytes: u32) -> Self {
        Self {
            block_len: bytes,
            ..self
        }
    }

    /// Names the program that writes.
    #[must_use]
    pub fn program(self, program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            ..self
        }
    }

    /// Decides what is left to decide: draws ids, keys and salts, stretches passphrases.
    ///
    /// # Errors
    ///
    /// [`Error::Archive`] if a name is longer than 255 bytes, or blocks than 64 MiB; [`Error::Key`]
    /// if a key cannot be wrapped, or there are more than eight; [`Error::System`] if the system
    /// has no random numbers.
    pub fn plan(self) -> Result<Archive, Error> {
        for text in [&self.name, &self.label, &self.program] {
            if text.len() > MAX_TEXT {
                return Err(Error::Archive(format!(
                    "the name \"{text}\" is longer than {MAX_TEXT} bytes"
                )));
            }
        }
        if !(1..=MAX_BUFFER_SIZE).contains(&self.block_len) {
            let (is, most) = (self.block_len, MAX_BUFFER_SIZE);
            return Err(Error::Archive(format!(
                "blocks of {is} bytes, but they may have 1 to {most}"
            )));
        }
        if self.secrets.len() > MAX_KEY_SLOTS {
            let has = self.secrets.len();
            return Err(KeyError::new(format!(
                "{has} secrets, but a session has slots for {MAX_KEY_SLOTS}: leave some out"
            ))
            .into());
        }
        let (mut session_id, mut archive_id, mut salt) = ([0; 16], [0; 16], [0; 32]);
        fill_random(&mut session_id)?;
        fill_random(&mut archive_id)?;
        fill_random(&mut salt)?;
        let data_key = if self.secrets.is_empty() {
            None
        } else {
            Some(DataKey::random()?)
        };
        let mut slots = Vec::new();
        if let Some(data_key) = &data_key {
            for (secret, cost) in &self.secrets {
                slots.push(KeySlot::wrap(data_key, secret, &session_id, *cost)?.to_bytes());
            }
        }
        let created = now();
        let session = SessionHeader {
            id: session_id,
            created,
            record_len: self.record_len as u32,
            framing: self.framing,
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            program: self.program,
            label: self.label,
            slots,
        };
        let cipher = if data_key.is_some() {
            wire::Cipher::Aes256Gcm
        } else {
            wire::Cipher::None
        };
        let (block_len, content) = (self.block_len, self.content);
        let header = ArchiveHeader {
            id: archive_id,
            salt,
            created,
            block_len,
            content,
            cipher,
            name: self.name,
        };
        let key = data_key.map(|key| key_of(&key, &session, &header));
        let chunk_len = self.chunk_len;
        Ok(Archive {
            session,
            header,
            key,
            chunk_len,
        })
    }
}

/// An archive that is about to be written: what its stages have in common. It is written once,
/// because a second stream under its key would give both away.
pub struct Archive {
    pub(super) session: SessionHeader,
    pub(super) header: ArchiveHeader,
    pub(super) key: Option<ArchiveKey>,
    pub(super) chunk_len: u64,
}

impl Archive {
    /// The stage that encrypts each block, if the archive is to be encrypted, and the tail that
    /// writes the archive to a medium, which is empty. Both belong into one pipe, and between them
    /// no stage may drop or add a block.
    ///
    /// Encryption needs 16 bytes of tailroom. A block that is encrypted already is an error, and so
    /// is one that a stage before has dropped.
    pub fn stages<'a, M: Medium>(self, medium: M) -> (Option<MiddleStage<'a>>, ArchiveTail<M>) {
        let seal = self.key.clone().map(seal::sealing);
        (seal, ArchiveTail::new(self, medium))
    }

    /// The stage that decrypts what [`stages`](Self::stages) encrypts: for those who want to see
    /// that what they write can be read.
    pub fn open_blocks<'a>(&self) -> Option<MiddleStage<'a>> {
        self.key.clone().map(|key| seal::opening(key, None))
    }

    /// What is written at the start of the session.
    pub fn session(&self) -> &SessionHeader {
        &self.session
    }

    /// What is written at the start of the archive.
    pub fn header(&self) -> &ArchiveHeader {
        &self.header
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("name", &self.header.name)
            .finish_non_exhaustive()
    }
}

/// The key of an archive's blocks: it depends on both headers.
pub(super) fn key_of(
    key: &DataKey,
    session: &SessionHeader,
    archive: &ArchiveHeader,
) -> ArchiveKey {
    let mut hash = Sha256::new();
    hash.update(session.identity());
    hash.update(archive.to_bytes());
    ArchiveKey::new(key.sub_key(&archive.salt, &archive.id, &hash.finalize().into()))
}

fn now() -> Time {
    let time = |since: std::time::Duration| (since.as_secs() as i64, since.subsec_nanos());
    let (seconds, nanoseconds) = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => time(since),
        // A clock that stands before 1970 is wrong, but no reason not to back up.
        Err(_) => (0, 0),
    };
    Time {
        seconds,
        nanoseconds,
    }
}
