//! Kinds of units, of their encryption, and of the data of blocks.

/// The kind of a unit.
///
/// Exhaustive: these are all kinds of version 1, and [`Later`](Self::Later) has all that a later
/// version may add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the format's page names them")]
pub enum UnitKind {
    SessionHeader,
    ArchiveHeader,
    ChunkHeader,
    Block,
    ChunkFooter,
    ArchiveFooter,
    SessionFooter,
    Locator,
    Volumes,
    LostBlocks,
    /// A kind that a later version added, and that this one skips: 128 to 255.
    Later(u8),
}

impl UnitKind {
    const CODES: [(Self, u8); 10] = [
        (Self::SessionHeader, 1),
        (Self::ArchiveHeader, 2),
        (Self::ChunkHeader, 3),
        (Self::Block, 4),
        (Self::ChunkFooter, 6),
        (Self::ArchiveFooter, 7),
        (Self::SessionFooter, 8),
        (Self::Locator, 9),
        (Self::Volumes, 10),
        (Self::LostBlocks, 11),
    ];

    pub(super) fn code(self) -> u8 {
        match self {
            Self::Later(code) => code,
            _ => Self::CODES
                .iter()
                .find(|(kind, _)| *kind == self)
                .map_or(0, |&(_, code)| code),
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        let known = Self::CODES
            .iter()
            .find(|&&(_, known)| known == code)
            .map(|&(kind, _)| kind);
        known.or_else(|| (code >= 128).then_some(Self::Later(code)))
    }

    /// Name of the kind in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::SessionHeader => "session header",
            Self::ArchiveHeader => "archive header",
            Self::ChunkHeader => "chunk header",
            Self::Block => "block",
            Self::ChunkFooter => "chunk footer",
            Self::ArchiveFooter => "archive footer",
            Self::SessionFooter => "session footer",
            Self::Locator => "locator",
            Self::Volumes => "list of volumes",
            Self::LostBlocks => "unit of lost blocks",
            Self::Later(_) => "unit of a later version",
        }
    }
}

/// Encryption of a body.
///
/// Exhaustive: version 1 will not get another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CipherKind {
    /// Not encrypted.
    #[default]
    None,
    /// AES-256-GCM.
    Aes256Gcm,
}

impl CipherKind {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Aes256Gcm => 1,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }
}

/// Role of a block in its archive: data, a piece of the catalogue, or a control block.
///
/// Exhaustive: these are all of version 1, and [`Later`](Self::Later) has all that a later version
/// may add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockKind {
    /// Archived data.
    #[default]
    Data,
    /// A piece of the catalogue: of the objects that ended before it.
    Catalogue,
    /// A piece of the catalogue's closing run: of all objects.
    ClosingCatalogue,
    /// A special header.
    Special,
    /// A checkpoint.
    Checkpoint,
    /// A kind that a later version added, and that this one passes over: 128 to 255.
    Later(u8),
}

impl BlockKind {
    /// Its code, also in [`BlockInfo::kind`](crate::pool::BlockInfo::kind).
    pub fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Catalogue => 1,
            Self::ClosingCatalogue => 2,
            Self::Special => 3,
            Self::Checkpoint => 4,
            Self::Later(code) => code,
        }
    }

    /// True if the block's bytes count in the offsets of the blocks after it: it is not a control
    /// block.
    pub fn counts_in_offsets(self) -> bool {
        matches!(self, Self::Data | Self::Catalogue | Self::ClosingCatalogue)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Data),
            1 => Some(Self::Catalogue),
            2 => Some(Self::ClosingCatalogue),
            3 => Some(Self::Special),
            4 => Some(Self::Checkpoint),
            128.. => Some(Self::Later(code)),
            _ => None,
        }
    }
}
