//! Facts about a block that travel with it: offset, codec, content class and marks.
//!
//! Defined below the pool and the format, because both use it: the pool carries it in a buffer's
//! descriptor, the format writes it into a unit's header.

use std::fmt;
use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign};
use std::str::FromStr;

/// Facts about a block, from one stage to the next. Travels with the block in its descriptor, not
/// in the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockInfo {
    /// Offset of the block's data in the stream that the head read, in bytes. A head may leave it
    /// 0: the tail of an archive gives blocks the offsets that they have there.
    pub offset: u64,
    /// Length of the block's data before any transformation, in bytes; 0 as long as nothing was
    /// transformed. Of a rejected block, the length that it had.
    pub plain_len: u32,
    /// Compression of the data.
    pub codec: Codec,
    /// Kind of content, as far as content analysis could determine it.
    pub class: ContentClass,
    /// True if the data is encrypted.
    pub sealed: bool,
    /// Findings of inspection, or of a reader.
    pub marks: Marks,
    /// Role of the block in the archive that it belongs to: 0 data, 1 a piece of the catalogue, 2 a
    /// piece of the catalogue's closing run, 3 a special header, 4 a checkpoint. From 3 on it is a
    /// control block, which [`BlockInfo::is_control`] explains.
    pub kind: u8,
    /// The form in which the block is stored. 0: this version has no other.
    pub form: u8,
    /// The lane on which the block travels. 0: this version has no other.
    pub lane: u8,
    /// True if the data are entries of a file tree, as [`TreeHead`](crate::tree::TreeHead) makes
    /// them. An archive of a tree takes these blocks only, and an archive of a stream takes none.
    pub entries: bool,
    /// The number that a sequencer gave the block, if any did; at most `u64::MAX - 1`.
    pub sequence: Option<u64>,
    /// For the application.
    pub user: [u64; 4],
}

impl BlockInfo {
    /// True for a control block: one that belongs to an archive and not to its data. The last block
    /// ([`Marks::LAST`]), special headers and checkpoints are. Stages do not see control blocks,
    /// which pass them in their place in the order, unless a stage asks for them:
    /// [`Transform::takes_control_blocks`](crate::stage::Transform::takes_control_blocks).
    pub fn is_control(&self) -> bool {
        self.kind >= FIRST_CONTROL_KIND || self.marks.contains(Marks::LAST)
    }

    /// The facts as 64 bytes, for a stage that carries blocks to another machine: the eight words
    /// of a descriptor as `docs/shared-memory.md` lists them, each in little-endian order.
    ///
    /// ```
    /// use datapipe::pool::{BlockInfo, Codec};
    ///
    /// let mut info = BlockInfo::default();
    /// (info.offset, info.codec) = (4096, Codec::ZSTD);
    /// assert_eq!(info.to_bytes()[..8], 4096_u64.to_le_bytes());
    /// assert_eq!(BlockInfo::from_bytes(info.to_bytes()), info);
    /// ```
    pub fn to_bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        for (place, word) in bytes.chunks_exact_mut(8).zip(self.to_words()) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The facts that [`to_bytes`](Self::to_bytes) has written. All bytes are valid, because all
    /// words of a descriptor are: unused ones are ignored, and a truth that is not 0 is true. An
    /// unknown codec, class or mark stays what it is.
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        let mut words = [0; 8];
        for (word, place) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*place);
        }
        Self::from_words(words)
    }

    /// The information of the last block of an archive.
    pub(crate) fn last() -> Self {
        Self {
            marks: Marks::LAST,
            ..Self::default()
        }
    }

    /// True if the block's content was taken away: an inspection rejected it, or it could not be
    /// read back.
    pub(crate) fn has_lost_content(&self) -> bool {
        self.marks.contains(Marks::REJECTED) || self.marks.contains(Marks::DAMAGED)
    }

    /// Reads the words of a descriptor. Every word is valid: another process may have written
    /// anything.
    pub(crate) fn from_words(words: [u64; 8]) -> Self {
        let [offset, packed, sequence, kind, user @ ..] = words;
        let [a, b, c, d, codec, class, sealed, marks] = packed.to_le_bytes();
        let [kind, entries, form, lane, ..] = kind.to_le_bytes();
        Self {
            offset,
            plain_len: u32::from_le_bytes([a, b, c, d]),
            codec: Codec(codec),
            class: ContentClass(class),
            sealed: sealed != 0,
            marks: Marks(marks),
            kind,
            form,
            lane,
            entries: entries != 0,
            sequence: sequence.checked_sub(1),
            user,
        }
    }

    /// The words of a descriptor.
    pub(crate) fn to_words(self) -> [u64; 8] {
        let [a, b, c, d] = self.plain_len.to_le_bytes();
        let packed = [
            a,
            b,
            c,
            d,
            self.codec.0,
            self.class.0,
            self.sealed.into(),
            self.marks.0,
        ];
        let [u0, u1, u2, u3] = self.user;
        [
            self.offset,
            u64::from_le_bytes(packed),
            self.sequence.map_or(0, |n| n.saturating_add(1)),
            u64::from_le_bytes([
                self.kind,
                self.entries.into(),
                self.form,
                self.lane,
                0,
                0,
                0,
                0,
            ]),
            u0,
            u1,
            u2,
            u3,
        ]
    }
}

/// The first of the kinds of blocks that are not data.
const FIRST_CONTROL_KIND: u8 = 3;

/// A compression algorithm, by its code. Prints as its name: `zstd`.
///
/// Exhaustive: a code, which may be one that this version does not know.
///
/// ```
/// use datapipe::pool::Codec;
///
/// assert_eq!("zstd".parse(), Ok(Codec::ZSTD));
/// assert_eq!(Codec::DEFLATE.to_string(), "deflate");
/// assert_eq!(Codec(77).to_string(), "codec 77");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "declared above")]
pub struct Codec(pub u8);

impl Codec {
    /// The data is as it was.
    pub const NONE: Self = Self(0);
    /// One zstd frame.
    pub const ZSTD: Self = Self(1);
    /// One raw deflate stream (RFC 1951).
    pub const DEFLATE: Self = Self(2);

    /// The codecs that have a name.
    const NAMED: [(Self, &str); 3] = [
        (Self::NONE, "none"),
        (Self::ZSTD, "zstd"),
        (Self::DEFLATE, "deflate"),
    ];
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|(codec, _)| codec == self) {
            Some((_, name)) => f.pad(name),
            None => write!(f, "codec {}", self.0),
        }
    }
}

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Self, UnknownCodec> {
        let named = Self::NAMED.iter().find(|(_, known)| *known == name);
        named.map(|(codec, _)| *codec).ok_or_else(|| UnknownCodec {
            name: name.to_owned(),
        })
    }
}

/// Error of a name that no [`Codec`] has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownCodec {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown codec {:?}: use \"none\", \"zstd\" or \"deflate\"",
            self.name
        )
    }
}

impl std::error::Error for UnknownCodec {}

/// Findings about a block on its way: a set of bits.
///
/// Exhaustive: the bits, some of which this version may not know.
///
/// ```
/// use datapipe::pool::Marks;
///
/// let mut marks = Marks::MARKED | Marks::REJECTED;
/// assert!(marks.contains(Marks::REJECTED));
/// assert!(!marks.intersects(Marks::DAMAGED));
/// marks &= Marks::MARKED;
/// assert_eq!(marks, Marks::MARKED);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "declared above")]
pub struct Marks(pub u8);

impl Marks {
    /// Inspection found something worth a note, and let the block pass.
    pub const MARKED: Self = Self(1);
    /// Inspection refused the content: the block travels on without it, and its `plain_len` is the
    /// length that it had.
    pub const REJECTED: Self = Self(2);
    /// The block could not be read back whole: it travels on without its content.
    pub const DAMAGED: Self = Self(4);
    /// The last block of an archive. The library sends it; a stage does not set this mark.
    pub const LAST: Self = Self(8);
    /// A chunk of the archive ends after the block: it is on stable storage before the next one is
    /// written.
    pub const CHUNK: Self = Self(16);

    /// The marks that have a name.
    const NAMED: Self = Self(31);

    /// True if all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if any bit of `other` is set.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits that have no name in this version.
    pub(crate) fn unknown(self) -> Self {
        Self(self.0 & !Self::NAMED.0)
    }

    /// True if no bit is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The union.
impl BitOr for Marks {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Marks {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The intersection.
impl BitAnd for Marks {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitAndAssign for Marks {
    fn bitand_assign(&mut self, other: Self) {
        self.0 &= other.0;
    }
}

/// The kind of a block's content, by its code. Prints as its name: `text`.
///
/// Exhaustive: a code, which may be one that this version does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "declared above")]
pub struct ContentClass(pub u8);

impl ContentClass {
    /// Not analyzed.
    pub const UNKNOWN: Self = Self(0);
    /// Text in any encoding that looks like one.
    pub const TEXT: Self = Self(1);
    /// Machine code in a container of its own.
    pub const EXECUTABLE: Self = Self(2);
    /// A picture.
    pub const IMAGE: Self = Self(3);
    /// Sound.
    pub const AUDIO: Self = Self(4);
    /// Moving pictures.
    pub const VIDEO: Self = Self(5);
    /// Compressed data: no algorithm makes it smaller.
    pub const COMPRESSED: Self = Self(6);
    /// Encrypted data, by its signature.
    pub const ENCRYPTED: Self = Self(7);
    /// Nothing but zero bytes.
    pub const ZEROS: Self = Self(8);
    /// None of the others.
    pub const OTHER: Self = Self(9);

    /// True if the class has a name in this version.
    pub(crate) fn is_known(self) -> bool {
        self.0 <= Self::OTHER.0
    }
}

impl fmt::Display for ContentClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            "unknown",
            "text",
            "executable",
            "image",
            "audio",
            "video",
            "compressed",
            "encrypted",
            "zeros",
            "other",
        ];
        match names.get(usize::from(self.0)) {
            Some(name) => f.pad(name),
            None => write!(f, "class {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The places of `docs/shared-memory.md`, written out by hand.
    #[test]
    fn bytes_of_an_info_are_where_the_page_says() {
        let info = BlockInfo {
            offset: 0x0807_0605_0403_0201,
            plain_len: 0x0c0b_0a09,
            codec: Codec(13),
            class: ContentClass(14),
            sealed: true,
            marks: Marks(16),
            kind: 25,
            entries: true,
            form: 27,
            lane: 28,
            sequence: Some(0x1817_1615_1413_1211 - 1),
            user: [33, 0, 0, u64::MAX],
        };
        let mut expected = [0; 64];
        for place in (0..15).chain(16..25).chain([26, 27]) {
            expected[place] = place as u8 + 1;
        }
        (expected[14], expected[15]) = (1, 16);
        (expected[24], expected[25], expected[26], expected[27]) = (25, 1, 27, 28);
        expected[32] = 33;
        expected[56..].fill(0xff);
        assert_eq!(info.to_bytes(), expected);
        assert_eq!(BlockInfo::from_bytes(expected), info);
    }

    proptest! {
        #[test]
        fn bytes_of_another_machine_are_an_info(bytes in any::<[u8; 32]>(), fill: u8) {
            let mut all = [fill; 64];
            all[..32].copy_from_slice(&bytes);
            let info = BlockInfo::from_bytes(all);
            prop_assert_eq!(BlockInfo::from_bytes(info.to_bytes()), info);
        }
    }
}
