//! Numbers of entries as differences from the entry before, which compress to almost nothing.
//!
//! ```text
//!   absolute   | object 7 | extent 7 | end 7 | object 8 | extent 8 | end 8 |
//!   relative   | object 7 | extent 0 | end 0 | object 1 | extent 0 | end 0 |
//! ```
//!
//! A head makes the entries of a block relative when the block is complete; [`EntryCopy`] makes its
//! copy absolute. Every block begins anew, so each can be read by itself.
//!
//! [`EntryCopy`]: super::block_entries::EntryCopy

use super::entry::{ATTRIBUTE, CATALOGUE, END, ENTRY_HEADER_LEN, EXTENT, INODE, OBJECT};

/// Bit of an entry header's second byte: the numbers are relative.
pub(super) const RELATIVE: u8 = 4;

/// Offset of the object's number in an entry.
const OBJECT_AT: usize = 8;
/// Offsets of first block, last block and inode in an entry of the catalogue, all of 64 bits, and
/// of the offset in the first block, of 32 bits.
const LISTED_AT: [usize; 3] = [
    ENTRY_HEADER_LEN + 32,
    ENTRY_HEADER_LEN + 40,
    ENTRY_HEADER_LEN + 72,
];
const OFFSET_AT: usize = ENTRY_HEADER_LEN + 48;

/// Numbers of the last entries of a block: of those with an object, and of the catalogue's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NumbersBefore {
    object: u64,
    listed: [u64; 3],
    offset: u64,
}

/// Form of the numbers of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Relative,
    Absolute,
}

/// Makes the numbers of all entries of a block relative, as blocks of a tree archive have them:
/// those that are absolute, in place. What follows the last whole entry stays as it is, and so do
/// pieces of entries.
pub fn make_relative(entries: &mut [u8]) {
    convert(entries, To::Relative);
}

/// Makes the numbers of all entries of a block absolute, in place, so that
/// [`Entry::parse`](super::Entry::parse) reads them. What follows the last whole entry stays as it
/// is.
///
/// # Examples
///
/// ```
/// use datapipe::wire::{Entry, EntryBody, make_absolute, make_relative};
///
/// let mut block = Vec::new();
/// for data in [b"first ", b"second"] {
///     let body = EntryBody::Extent(0, data);
///     Entry { object: 7, body }.append_to(&mut block)?;
/// }
/// make_relative(&mut block);
/// assert!(Entry::parse(&block).is_err());
/// make_absolute(&mut block);
/// let (_, rest) = Entry::parse(&block)?;
/// assert_eq!(Entry::parse(rest)?.0.object, 7);
/// # Ok::<(), datapipe::wire::DecodeError>(())
/// ```
pub fn make_absolute(entries: &mut [u8]) {
    convert(entries, To::Absolute);
}

fn convert(mut entries: &mut [u8], to: To) {
    let mut before = NumbersBefore::default();
    while let Some(&[_, _, _, _, a, b, c, d]) = entries.first_chunk() {
        let body = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let len = ENTRY_HEADER_LEN.saturating_add(body);
        let Some((entry, rest)) = entries.split_at_mut_checked(len) else {
            return;
        };
        before.convert(entry, to);
        entries = rest;
    }
}

impl NumbersBefore {
    /// Makes the numbers of the next entry absolute, and takes note of them. Of an extent, the
    /// header suffices.
    pub(super) fn make_absolute(&mut self, entry: &mut [u8]) {
        self.convert(entry, To::Absolute);
    }

    fn convert(&mut self, entry: &mut [u8], to: To) {
        let Some([kind, flags]) = entry.first_chunk_mut() else {
            return;
        };
        // Pieces are absolute, and no entry is relative to one.
        if !can_be_relative(*kind) || *flags & !RELATIVE != 0 {
            return;
        }
        let (kind, from) = (*kind, To::of(*flags));
        *flags = to.flags();
        if kind == CATALOGUE {
            for (at, before) in LISTED_AT.into_iter().zip(&mut self.listed) {
                convert_number::<8>(entry, at, before, from, to);
            }
            convert_number::<4>(entry, OFFSET_AT, &mut self.offset, from, to);
        } else {
            convert_number::<8>(entry, OBJECT_AT, &mut self.object, from, to);
        }
    }
}

impl To {
    fn of(flags: u8) -> Self {
        match flags {
            0 => Self::Absolute,
            _ => Self::Relative,
        }
    }

    fn flags(self) -> u8 {
        match self {
            Self::Absolute => 0,
            Self::Relative => RELATIVE,
        }
    }
}

/// Returns true for the kinds of entries that have numbers which can be relative.
pub(super) fn can_be_relative(kind: u8) -> bool {
    matches!(kind, OBJECT | ATTRIBUTE | EXTENT | END | INODE | CATALOGUE)
}

/// Converts the number of `N` bytes at `at`. Its absolute value replaces `before`, of which only as
/// many bytes count.
fn convert_number<const N: usize>(entry: &mut [u8], at: usize, before: &mut u64, from: To, to: To) {
    let field = entry.get_mut(at..);
    let Some(field) = field.and_then(<[u8]>::first_chunk_mut::<N>) else {
        return;
    };
    let mut number = [0; 8];
    for (to, from) in number.iter_mut().zip(&*field) {
        *to = *from;
    }
    let number = u64::from_le_bytes(number);
    let absolute = match from {
        To::Relative => before.wrapping_add(number),
        To::Absolute => number,
    };
    let stored = match to {
        To::Relative => absolute.wrapping_sub(*before),
        To::Absolute => absolute,
    };
    for (to, from) in field.iter_mut().zip(stored.to_le_bytes()) {
        *to = from;
    }
    *before = absolute;
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test may panic"
    )]
    use super::*;
    use crate::shared_bytes::SharedBytes;
    use crate::testkit::Random;
    use crate::wire::block_entries::EntryCopy;
    use crate::wire::{
        CatalogueEntry, Entry, EntryBody, InodeFacts, ObjectKind, ObjectState, OwnerKind,
        OwnerName, Time, next_piece,
    };

    fn random(seed: u64) -> Random {
        println!("seed {seed}");
        Random::new(seed)
    }

    /// Any number, small or large, so that differences are negative and wrap around.
    fn number(random: &mut Random) -> u64 {
        match random.below(4) {
            0 => 0,
            1 => random.below(1 << 20),
            2 => u64::MAX - random.below(3),
            _ => random.below(u64::MAX),
        }
    }

    fn data_entry(random: &mut Random) -> Vec<u8> {
        let object = number(random);
        let (object, body) = match random.below(4) {
            0 => (object, EntryBody::Attribute(b"user.a", b"value")),
            1 => (object, EntryBody::Extent(1, b"data")),
            2 => (object, EntryBody::Inode(InodeFacts::default())),
            _ => {
                let (kind, id, name) = (OwnerKind::Group, 7, &b"staff"[..]);
                (0, EntryBody::OwnerName(OwnerName { kind, id, name }))
            }
        };
        encoded(&Entry { object, body })
    }

    fn listed_entry(random: &mut Random) -> Vec<u8> {
        let first = number(random);
        let entry = CatalogueEntry {
            kind: ObjectKind::File,
            state: ObjectState::Whole,
            mode: 0o644,
            size: number(random),
            link: 0,
            modified: Time::default(),
            blocks: (first, first.max(number(random))),
            offset: number(random) as u32,
            changed: Time::default(),
            inode: number(random),
            path: b"path",
            target: b"",
        };
        let (object, body) = (number(random), EntryBody::Catalogue(entry));
        encoded(&Entry { object, body })
    }

    fn encoded(entry: &Entry<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        entry.append_to(&mut bytes).unwrap();
        bytes
    }

    /// The entries of a block as readers get them.
    fn fetched(block: &[u8], kind: u8) -> Vec<u8> {
        let mut copy = EntryCopy::default();
        let entries = copy.fetch(SharedBytes::from(block), 0, kind);
        let mut bytes = Vec::new();
        for entry in entries.iter().map(Result::unwrap) {
            entry.entry.append_to(&mut bytes).unwrap();
        }
        bytes
    }

    #[test]
    fn entries_made_relative_are_read_as_they_were() {
        let mut random = random(31);
        for round in 0..200 {
            let (kind, make): (u8, fn(&mut Random) -> Vec<u8>) = match round % 2 {
                0 => (0, data_entry),
                _ => (1, listed_entry),
            };
            let plain: Vec<u8> = (0..random.below(20))
                .flat_map(|_| make(&mut random))
                .collect();
            let mut block = plain.clone();
            make_relative(&mut block);
            assert_eq!(fetched(&block, kind), plain);
            let relative = block.clone();
            make_relative(&mut block);
            assert_eq!(block, relative, "a second time changes nothing");
            make_absolute(&mut block);
            assert_eq!(block, plain);
        }
    }

    /// Writers may make some entries relative and others not.
    #[test]
    fn relative_and_absolute_entries_may_be_mixed() {
        let mut random = random(32);
        for _ in 0..100 {
            let entries: Vec<Vec<u8>> = (0..8).map(|_| data_entry(&mut random)).collect();
            let plain = entries.concat();
            let mut relative = plain.clone();
            make_relative(&mut relative);
            let (mut mixed, mut at) = (Vec::new(), 0);
            for entry in &entries {
                let from = if random.below(2) == 0 {
                    &plain
                } else {
                    &relative
                };
                mixed.extend_from_slice(&from[at..][..entry.len()]);
                at += entry.len();
            }
            assert_eq!(fetched(&mixed, 0), plain);
        }
    }

    #[test]
    fn first_entry_is_relative_to_zero_and_pieces_are_passed_over() {
        let entry = |object, body| encoded(&Entry { object, body });
        let long = entry(9, EntryBody::Attribute(b"user.a", &[7; 100]));
        let (header, body) = next_piece(&long, 0, 64).unwrap();
        let piece = [&header[..], &long[body]].concat();
        let first = entry(8, EntryBody::Extent(0, b"a"));
        let second = entry(9, EntryBody::Extent(0, b"b"));
        let mut block = [&first[..], &second, &piece].concat();
        make_relative(&mut block);
        let objects = [8, first.len() + 8].map(|at| block[at]);
        assert_eq!(objects, [8, 1]);
        assert_eq!(block[first.len() + second.len()..], piece);
    }

    #[test]
    fn any_bytes_are_converted_without_a_panic_and_keep_their_lengths() {
        let mut random = random(33);
        for _ in 0..2000 {
            let mut bytes = vec![0; random.below(200) as usize];
            random.fill(&mut bytes);
            for at in (0..bytes.len()).step_by(24) {
                bytes[at] = [1, 3, 16, 17][random.below(4) as usize];
                for (at, value) in (at + 1..bytes.len()).zip([4, 0, 0, 8, 0, 0, 0]) {
                    bytes[at] = value;
                }
            }
            let mut other = bytes.clone();
            make_absolute(&mut other);
            make_relative(&mut bytes);
            assert_eq!(bytes.len(), other.len());
        }
    }

    #[test]
    fn relative_entry_that_cannot_be_one_is_refused() {
        let start = Entry {
            object: 0,
            body: EntryBody::CatalogueStart(crate::wire::CatalogueStart::default()),
        };
        for (bytes, kind, flags) in [
            (encoded(&start), 2, RELATIVE),
            (data_entry(&mut Random::new(1)), 0, RELATIVE | 1),
        ] {
            let mut bytes = bytes;
            bytes[1] = flags;
            let mut copy = EntryCopy::default();
            let entries = copy.fetch(SharedBytes::from(&bytes[..]), 0, kind);
            assert!(entries.get(0).unwrap().is_err());
        }
        let mut alone = encoded(&Entry {
            object: 1,
            body: EntryBody::Extent(0, b"a"),
        });
        make_relative(&mut alone);
        let error = Entry::parse(&alone).unwrap_err().to_string();
        assert!(error.contains("make_absolute"), "{error}");
    }
}
