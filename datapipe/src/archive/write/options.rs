//! The options of an archive, and the plan that is made from them: ids, keys, framing.

use std::fmt;

use crate::crypto::{Argon2Cost, DataKey, KeySlot, Recipient, Secret, fill_random};
use crate::limits::{DEFAULT_BUFFER_SIZE, MAX_BUFFER_SIZE, MAX_KEY_SLOTS, MAX_TEXT};
use crate::stage::{MiddleStage, TailStage};
use crate::wire::{self, ArchiveHeader, Content, Framing, SLOT_LEN, SessionHeader, SessionsBefore};

use super::super::key::{ArchiveKey, header_hash};
use super::super::origin::ArchiveOrigin;
use super::super::plan_data::PlanData;
use super::super::report::WriteReport;
use super::super::seal;
use super::super::shared_key::SharedKey;
use super::super::special::Special;
use super::plan_error::PlanError;
use super::session::SessionOptions;
use super::squeeze::squeeze_stage;

/// Options of an archive that is to be written.
///
/// ```
/// use datapipe::archive::ArchiveOptions;
/// use datapipe::crypto::{Key, Secret};
/// use datapipe::media::VirtualTape;
/// use datapipe::prelude::*;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("nightly.tap");
///
/// let data = b"the only copy of the accounts".repeat(1000);
/// let key = Secret::Key(Key::from_bytes([7; 32]));
/// let archive = ArchiveOptions::stream("nightly").encrypt(key).plan()?;
/// let tape = VirtualTape::create(&path, Default::default())?;
/// Pipe::builder()
///     .head(StreamHead::new(&data[..]))
///     .stage(zstd(3))
///     .archive(archive, tape)
///     .run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ArchiveOptions {
    name: String,
    program: String,
    content: Content,
    /// The session that the archive gets for itself.
    session: SessionOptions,
    chunk_len: u64,
    block_len: u32,
    shared_key: Option<SharedKey>,
    openers: Vec<Opener>,
}

/// A party that can open an archive. Each gets a key slot.
#[derive(Debug)]
enum Opener {
    Secret(Secret, Argon2Cost),
    Recipient(Recipient),
}

/// Default length of a chunk in bytes.
pub(super) const DEFAULT_CHUNK: u64 = 1 << 30;

impl ArchiveOptions {
    /// Options of an archive of one stream of bytes, called `name`, in a session of its own, not
    /// encrypted.
    pub fn stream(name: impl Into<String>) -> Self {
        Self::new(name.into(), Content::Stream)
    }

    /// Options of an archive of a file tree, called `name`, in a session of its own, not encrypted.
    pub fn tree(name: impl Into<String>) -> Self {
        Self::new(name.into(), Content::Tree)
    }

    fn new(name: String, content: Content) -> Self {
        Self {
            session: SessionOptions::new(String::new()),
            name,
            program: concat!("datapipe ", env!("CARGO_PKG_VERSION")).to_owned(),
            content,
            chunk_len: DEFAULT_CHUNK,
            block_len: DEFAULT_BUFFER_SIZE,
            shared_key: None,
            openers: Vec::new(),
        }
    }

    /// Encrypts the archive, so that `secret` opens it. If this is called several times, each of up
    /// to eight secrets does. A passphrase is stretched when the archive is planned, which takes a
    /// moment and 64 MiB.
    #[must_use]
    pub fn encrypt(self, secret: Secret) -> Self {
        self.encrypt_at(secret, Argon2Cost::default())
    }

    /// Encrypts as [`encrypt`](Self::encrypt) does, with another cost of stretching a passphrase.
    #[must_use]
    pub fn encrypt_at(mut self, secret: Secret, cost: Argon2Cost) -> Self {
        self.openers.push(Opener::Secret(secret, cost));
        self
    }

    /// Encrypts the archive, so that the [`Identity`](crate::crypto::Identity) of `recipient` opens
    /// it. It can be called several times, and together with [`encrypt`](Self::encrypt), up to
    /// eight times in all.
    ///
    /// A machine that has recipients only cannot read what it has written. The identity does not
    /// prove the writer, as a key file or a passphrase does: every party that knows the recipient
    /// can make an archive for it.
    ///
    /// ```
    /// use datapipe::crypto::Identity;
    /// use datapipe::prelude::*;
    ///
    /// let identity = Identity::random()?;
    /// let archive = ArchiveOptions::stream("nightly")
    ///     .recipient(identity.recipient())
    ///     .plan()?;
    /// # let _ = archive;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn recipient(mut self, recipient: Recipient) -> Self {
        self.openers.push(Opener::Recipient(recipient));
        self
    }

    /// Encrypts the archive with the data key of another one, so that the secrets that open that
    /// one open this one, too. Others can be added with [`encrypt`](Self::encrypt) and
    /// [`recipient`](Self::recipient), up to eight in all.
    ///
    /// ```
    /// use datapipe::prelude::*;
    ///
    /// let secret = Secret::from(Passphrase::from_bytes("what the operators know")?);
    /// let first = ArchiveOptions::stream("accounts").encrypt(secret).plan()?;
    /// let key = first.shared_key().expect("it is encrypted");
    /// let second = ArchiveOptions::stream("letters").share_key(key).plan()?;
    /// assert_eq!(first.header().key_id, second.header().key_id);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn share_key(self, key: SharedKey) -> Self {
        Self {
            shared_key: Some(key),
            ..self
        }
    }

    /// Sets which chunks have headers and footers; by default every chunk has both.
    #[must_use]
    pub fn framing(self, framing: Framing) -> Self {
        let session = self.session.framing(framing);
        Self { session, ..self }
    }

    /// Sets the length of records; 1 MiB by default. `bytes` is rounded down to a multiple of 8 and
    /// limited to 1 KiB to 16 MiB. The label of a volume is a record of its own length.
    #[must_use]
    pub fn record_len(self, bytes: usize) -> Self {
        let session = self.session.record_len(bytes);
        Self { session, ..self }
    }

    /// Ends a chunk after `bytes` on the medium, and at least one block: it is on stable storage
    /// then. Chunks are at most twice as long if the head ends them with its checkpoints. 1 GiB by
    /// default.
    #[must_use]
    pub fn chunk_len(self, bytes: u64) -> Self {
        Self {
            chunk_len: bytes,
            ..self
        }
    }

    /// Sets the largest length of a block before compression: the pipe's buffer size. A reader
    /// needs buffers of the same size.
    #[must_use]
    pub fn block_len(self, bytes: u32) -> Self {
        Self {
            block_len: bytes,
            ..self
        }
    }

    /// Sets a label for people of the session that the archive gets for itself; none by default.
    /// It is never encrypted, unlike the archive's name.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        let session = self.session.label(label);
        Self { session, ..self }
    }

    /// Sets the name of the program that writes, for the origin.
    #[must_use]
    pub fn program(self, program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            ..self
        }
    }

    /// Makes the plan: draws ids, keys and salts, and stretches passphrases.
    ///
    /// # Errors
    ///
    /// [`PlanError`] if a name or label is longer than 255 bytes, a block is empty or longer than
    /// 64 MiB, the names do not fit into one, there are more than eight secrets and recipients, a
    /// key cannot be wrapped, or the system has no random numbers.
    pub fn plan(self) -> Result<Archive, PlanError> {
        let origin = ArchiveOrigin {
            name: self.name.clone(),
            host: host_name(),
            program: self.program.clone(),
        };
        self.validate(&origin)?;
        let (mut archive_id, mut salt) = ([0; 16], [0; 32]);
        fill_random(&mut archive_id)?;
        fill_random(&mut salt)?;
        let shared = self.key()?;
        let data_key = shared.as_ref().map(|shared| &*shared.data_key);
        let session = self.session.header()?;
        let created = session.created;
        let header = ArchiveHeader {
            id: archive_id,
            salt,
            created,
            block_len: self.block_len,
            content: self.content,
            cipher: match &data_key {
                Some(_) => wire::CipherKind::Aes256Gcm,
                None => wire::CipherKind::None,
            },
            part: 0,
            set: archive_id,
            first: 0,
            previous: [0; 32],
            key_id: data_key.map(DataKey::id).unwrap_or_default(),
            bases: Vec::new(),
            extensions: Vec::new(),
            slots: shared.iter().flat_map(|key| key.slots.clone()).collect(),
        };
        let key = data_key.map(|key| ArchiveKey::derive(key, &header));
        let data = PlanData {
            session,
            origin: origin_block(&origin, key.as_ref()),
            header,
            key,
            chunk_len: self.chunk_len,
            copy_of: None,
        };
        Ok(Archive::new(data, Some(origin), shared))
    }

    /// Returns the data key with all slots, if the archive is to be encrypted.
    fn key(&self) -> Result<Option<SharedKey>, PlanError> {
        let Some(SharedKey { data_key, slots }) = self.shared_key.clone() else {
            if self.openers.is_empty() {
                return Ok(None);
            }
            let key = DataKey::random()?;
            let slots = self.wrap(&key)?;
            return Ok(Some(SharedKey::new(key, slots)));
        };
        let slots = [slots, self.wrap(&data_key)?].concat();
        Ok(Some(SharedKey { data_key, slots }))
    }

    /// Checks all that needs no key: stretching a passphrase takes long.
    fn validate(&self, origin: &ArchiveOrigin) -> Result<(), PlanError> {
        let texts = [("name", &self.name), ("program", &self.program)];
        if let Some((what, text)) = texts.into_iter().find(|(_, text)| text.len() > MAX_TEXT) {
            let text = text.clone();
            return Err(PlanError::TextTooLong { what, text });
        }
        self.session.check_lengths()?;
        let len = self.block_len;
        if !(1..=MAX_BUFFER_SIZE).contains(&len) {
            return Err(PlanError::BlockLength { len });
        }
        let shared = self.shared_key.as_ref();
        let count = self.openers.len() + shared.map_or(0, |key| key.slots.len());
        if count > MAX_KEY_SLOTS {
            return Err(PlanError::TooManySecrets { count });
        }
        let (len, block_len) = (origin.to_special().block_len(), self.block_len);
        if len > block_len as usize {
            return Err(PlanError::OriginTooLong { len, block_len });
        }
        Ok(())
    }

    /// Wraps the data key for each opener.
    fn wrap(&self, data_key: &DataKey) -> Result<Vec<[u8; SLOT_LEN]>, PlanError> {
        let mut slots = Vec::with_capacity(self.openers.len());
        for opener in &self.openers {
            let slot = match opener {
                Opener::Secret(secret, cost) => KeySlot::wrap(data_key, secret, *cost)?,
                Opener::Recipient(recipient) => KeySlot::wrap_for(data_key, recipient)?,
            };
            slots.push(slot.to_bytes());
        }
        Ok(slots)
    }
}

/// An archive that is about to be written: the plan that its stages share. It is written once,
/// because a second stream under its key would expose both.
/// [`PipeBuilder::archive`](crate::PipeBuilder::archive) adds it to a pipe.
pub struct Archive {
    pub(in crate::archive) data: PlanData,
    pub(super) report: WriteReport,
    pub(super) specials: Vec<Special>,
    origin: Option<ArchiveOrigin>,
    /// Settings for its seal and its tail, in the order of the calls.
    pub(super) seal_settings: Vec<MapSeal>,
    pub(super) tail_settings: Vec<MapTail>,
    shared_key: Option<SharedKey>,
}

/// Changes the settings of a stage.
pub(super) type MapSeal = Box<dyn for<'a> FnOnce(MiddleStage<'a>) -> MiddleStage<'a> + Send>;
pub(super) type MapTail = Box<dyn for<'a> FnOnce(TailStage<'a>) -> TailStage<'a> + Send>;

impl Archive {
    pub(super) fn new(
        data: PlanData,
        origin: Option<ArchiveOrigin>,
        shared_key: Option<SharedKey>,
    ) -> Self {
        Self {
            data,
            origin,
            report: WriteReport::default(),
            specials: Vec::new(),
            seal_settings: Vec::new(),
            tail_settings: Vec::new(),
            shared_key,
        }
    }

    /// Makes it an archive of another session than its own.
    pub(super) fn of_session(mut self, session: &SessionHeader) -> Self {
        self.data.session = session.clone();
        self
    }

    /// Records the sessions that the medium has already, as
    /// [`SessionOptions::after`], for an archive in a session of its own on a medium that is opened
    /// to append.
    #[must_use]
    pub fn after(mut self, before: SessionsBefore) -> Self {
        self.data.session.before = before;
        self
    }

    /// Returns the data key and the slots of this archive, for others that the same secrets open.
    /// `None` if the archive is not to be encrypted.
    pub fn shared_key(&self) -> Option<SharedKey> {
        self.shared_key.clone()
    }

    /// Name of the archive, and of the host and the program that write it. `None` if it is a copy,
    /// which has the origin of its source.
    pub fn origin(&self) -> Option<&ArchiveOrigin> {
        self.origin.as_ref()
    }

    /// Changes the settings of the stage that encrypts: its instances, its placement, its name.
    /// Without a key there is no such stage, and nothing happens.
    ///
    /// ```
    /// use datapipe::prelude::*;
    ///
    /// let key = Secret::Key(Key::from_bytes([7; 32]));
    /// let archive = ArchiveOptions::stream("nightly")
    ///     .encrypt(key)
    ///     .plan()?
    ///     .map_seal(|seal| seal.instances(4))
    ///     .map_tail(|tail| tail.in_processes());
    /// # let _ = archive;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn map_seal(
        mut self,
        settings: impl for<'a> FnOnce(MiddleStage<'a>) -> MiddleStage<'a> + Send + 'static,
    ) -> Self {
        self.seal_settings.push(Box::new(settings));
        self
    }

    /// Changes the settings of the stage that writes to the medium: its placement, the files that
    /// its process may open, its name.
    #[must_use]
    pub fn map_tail(
        mut self,
        settings: impl for<'a> FnOnce(TailStage<'a>) -> TailStage<'a> + Send + 'static,
    ) -> Self {
        self.tail_settings.push(Box::new(settings));
        self
    }

    /// Returns the report of the writing. It is final when the pipe has ended.
    pub fn report(&self) -> WriteReport {
        self.report.clone()
    }

    /// Returns stages that need the same buffers as those that the archive adds before its tail,
    /// for the [plan](crate::PipeBuilder::plan) of a pipe whose medium does not exist yet.
    /// `instances` is the number of instances that encrypt.
    ///
    /// ```
    /// use datapipe::prelude::*;
    ///
    /// let key = Secret::Key(Key::from_bytes([7; 32]));
    /// let archive = ArchiveOptions::stream("nightly").encrypt(key).plan()?;
    /// Pipe::builder()
    ///     .head(StreamHead::new(&b"the only copy"[..]))
    ///     .stages(archive.planned_stages(2))
    ///     .tail(StreamTail::new(std::io::sink()))
    ///     .plan()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn planned_stages<'a>(&self, instances: u32) -> impl Iterator<Item = MiddleStage<'a>> {
        let squeeze = squeeze_stage(self.data.header.content, self.specials.clone(), true);
        let open = self.open_blocks().map(|open| open.instances(instances));
        [squeeze].into_iter().chain(open)
    }

    /// Returns the stage that decrypts the blocks of this archive, for programs that verify what
    /// they write. `None` if the archive is not to be encrypted.
    pub fn open_blocks<'a>(&self) -> Option<MiddleStage<'a>> {
        self.data.key.clone().map(|key| seal::open_stage(key, None))
    }

    /// The header of the session that the archive gets for itself.
    pub fn session(&self) -> &SessionHeader {
        &self.data.session
    }

    /// SHA-256 of the identity of the archive's header: of all that its key depends on. A program
    /// that records it finds this archive again, and no other one.
    pub fn header_hash(&self) -> [u8; 32] {
        header_hash(&self.data.header)
    }

    /// The header of the archive.
    pub fn header(&self) -> &ArchiveHeader {
        &self.data.header
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("name", &self.origin.as_ref().map(|origin| &origin.name))
            .finish_non_exhaustive()
    }
}

/// Returns the block of the origin, as it is stored.
fn origin_block(origin: &ArchiveOrigin, key: Option<&ArchiveKey>) -> Vec<u8> {
    let block = seal::origin_block(origin, key);
    block.expect("the origin is shorter than the longest block")
}

/// Returns the name of this machine.
fn host_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}
