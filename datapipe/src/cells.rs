//! The digest of a file's content, as `docs/wire-format.md` defines it for entries of kind 4.
//!
//! ```text
//!   file     [cell 0     ][cell 1     ][cell 2     ][cell 3 ]     262,144 bytes; the last: fewer
//!   content    data         zeros        data, hole   data
//!   chain    h0 = zeros -> h1 ----------> h2 -------> h3 --> with the size: the digest
//! ```
//!
//! It does not depend on extents and blocks. Data come in any pieces: a whole cell is hashed in one
//! go, and of a cell that comes in pieces a hasher is kept. Zeros at the start of a cell are
//! counted and hashed only when other bytes follow, so that holes and cells of zeros cost nothing.

#[cfg(feature = "tree")]
use std::io::{self, Read};

use blake3::Hasher;

use crate::interrupt::retry;
use crate::limits::DIGEST_LEN;

/// Bytes of a cell.
pub(crate) const CELL: u64 = 262_144;

/// Bytes that are compared with zeros, and hashed as zeros, at once.
const ZEROS: [u8; 4096] = [0; 4096];

/// Chain of the hashes of cells.
pub(crate) type Chain = [u8; blake3::OUT_LEN];

/// State of a digest.
#[derive(Clone, Debug)]
pub(crate) struct Digest {
    /// Chain of the cells that have ended.
    chain: Chain,
    /// Offset in the file up to which data, or zeros, are part of the digest.
    at: u64,
    /// Hasher of the cell that has begun, and the bytes that it has; the rest of the cell up to
    /// `at` are zeros.
    cell: Option<(Box<Hasher>, u64)>,
}

impl Digest {
    pub(crate) fn new() -> Self {
        Self {
            chain: [0; blake3::OUT_LEN],
            at: 0,
            cell: None,
        }
    }

    /// Adds data at `offset`, which is at least the end of what was added before. Between the two
    /// the file has zeros.
    pub(crate) fn add(&mut self, offset: u64, mut data: &[u8]) {
        self.skip_to(offset);
        while !data.is_empty() {
            let left = usize::try_from(CELL - self.at % CELL).unwrap_or(usize::MAX);
            let (now, rest) = data.split_at(left.min(data.len()));
            self.add_to_cell(now);
            data = rest;
        }
    }

    /// Returns the digest of a file of `size` bytes, whose bytes after those that were added are
    /// zeros.
    pub(crate) fn finish(&self, size: u64) -> [u8; DIGEST_LEN] {
        let mut chain = self.chain;
        if let Some((hasher, hashed)) = &self.cell {
            let number = self.at / CELL;
            let end = size.saturating_sub(number * CELL).min(CELL);
            chain = match end.saturating_sub(*hashed) {
                0 => chained(chain, number, hasher.finalize()),
                zeros => {
                    let mut hasher = hasher.clone();
                    add_zeros(&mut hasher, zeros);
                    chained(chain, number, hasher.finalize())
                }
            };
        }
        let mut last = [0; blake3::OUT_LEN + 8];
        last[..blake3::OUT_LEN].copy_from_slice(&chain);
        last[blake3::OUT_LEN..].copy_from_slice(&size.to_le_bytes());
        let whole = blake3::hash(&last);
        std::array::from_fn(|at| whole.as_bytes()[at])
    }

    /// Returns the chain of the cells that end at or before `offset`, which is at least the end of
    /// what was added. Between the two the file has zeros.
    pub(crate) fn chain_at(&self, offset: u64) -> Chain {
        let mut digest = self.clone();
        digest.skip_to(offset);
        digest.chain
    }

    /// Returns BLAKE3 of the bytes of the cell that has begun; zeros if none has.
    pub(crate) fn begun(&self) -> Chain {
        let start = self.at % CELL;
        if start == 0 {
            return [0; blake3::OUT_LEN];
        }
        let (mut hasher, hashed) = match &self.cell {
            Some((hasher, hashed)) => ((**hasher).clone(), *hashed),
            None => (Hasher::new(), 0),
        };
        add_zeros(&mut hasher, start - hashed);
        hasher.finalize().into()
    }

    /// Adds zeros up to `offset`.
    fn skip_to(&mut self, offset: u64) {
        if offset / CELL != self.at / CELL {
            // The hole reaches the end of this cell, and may cover others.
            if self.cell.is_some() {
                self.at = (self.at / CELL).saturating_add(1).saturating_mul(CELL);
                self.end_cell();
            }
        }
        self.at = self.at.max(offset);
    }

    /// Adds data that end in the cell in which they begin.
    fn add_to_cell(&mut self, data: &[u8]) {
        let (start, len) = (self.at % CELL, data.len() as u64);
        let is_whole = len == CELL;
        match &mut self.cell {
            None if is_zeros(data) => {}
            None if is_whole => {
                self.chain = chained(self.chain, self.at / CELL, blake3::hash(data));
            }
            cell => {
                let (hasher, hashed) = cell.get_or_insert_with(|| (Box::default(), 0));
                add_zeros(hasher, start - *hashed);
                hasher.update(data);
                *hashed = start + len;
            }
        }
        self.at += len;
        if self.at.is_multiple_of(CELL) {
            self.end_cell();
        }
    }

    /// Ends the cell that was begun, which has all bytes up to `at`.
    fn end_cell(&mut self) {
        if let Some((mut hasher, hashed)) = self.cell.take() {
            let number = (self.at - 1) / CELL;
            add_zeros(&mut hasher, self.at - number * CELL - hashed);
            self.chain = chained(self.chain, number, hasher.finalize());
        }
    }
}

/// Returns the chain after the next cell that has other bytes than zeros, with its hash.
fn chained(chain: Chain, number: u64, hash: blake3::Hash) -> Chain {
    let mut input = [0; 2 * blake3::OUT_LEN + 8];
    let (before, rest) = input.split_at_mut(blake3::OUT_LEN);
    let (place, cell) = rest.split_at_mut(8);
    before.copy_from_slice(&chain);
    place.copy_from_slice(&number.to_le_bytes());
    cell.copy_from_slice(hash.as_bytes());
    blake3::hash(&input).into()
}

/// Returns the digest of a file's content, to compare it with the one that an archive has of the
/// file: [`ArchivedFile::digest`](crate::tree::ArchivedFile::digest), or
/// [`ObjectEnd::digest`](crate::wire::ObjectEnd::digest). `content` is read to its end. The result
/// does not depend on the archive, its blocks or its compression, so that it also tells if two
/// archives have the same file.
///
/// # Errors
///
/// The reader's error.
///
/// # Examples
///
/// ```
/// use datapipe::prelude::*;
/// use datapipe::tree::digest_of;
///
/// # let dir = tempfile::tempdir()?;
/// # let (source, path) = (dir.path().join("data"), dir.path().join("nightly.tap"));
/// # std::fs::create_dir(&source)?;
/// # std::fs::write(source.join("a"), vec![7; 10_000])?;
/// # let archive = ArchiveOptions::tree("nightly").plan()?;
/// # let tape = VirtualTape::create(&path, Default::default())?;
/// # let head = TreeHead::new(&[&source], TreeOptions::default())?;
/// # Pipe::builder().head(head).archive(archive, tape).run()?;
/// let reader = ArchiveReader::open(VirtualTape::open(path)?, None)?;
/// let file = reader.tree()?.read_file("data/a", std::io::sink())?;
/// let content = std::fs::File::open(source.join("a"))?;
/// assert_eq!(file.digest, Some(digest_of(content)?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "tree")]
pub fn digest_of(mut content: impl Read) -> io::Result<[u8; DIGEST_LEN]> {
    let mut digest = Digest::new();
    let mut buffer = vec![0; CELL as usize];
    loop {
        match retry(|| content.read(&mut buffer))? {
            0 => return Ok(digest.finish(digest.at)),
            len => digest.add(digest.at, &buffer[..len]),
        }
    }
}

/// True if all bytes are zeros. Data mostly begin with other bytes, which ends the comparison.
fn is_zeros(data: &[u8]) -> bool {
    data.chunks(ZEROS.len())
        .all(|part| *part == ZEROS[..part.len()])
}

fn add_zeros(hasher: &mut Hasher, mut count: u64) {
    while count > 0 {
        let now = count.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..now as usize]);
        count -= now;
    }
}

#[cfg(all(test, feature = "tree"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, over the whole content of a file: the slow twin.
    fn defined(content: &[u8]) -> [u8; DIGEST_LEN] {
        let mut h = vec![0; 32];
        for (number, cell) in content.chunks(262_144).enumerate() {
            if cell.iter().any(|&byte| byte != 0) {
                let number = (number as u64).to_le_bytes();
                let input = [&h, &number[..], blake3::hash(cell).as_bytes()].concat();
                h = blake3::hash(&input).as_bytes().to_vec();
            }
        }
        let size = (content.len() as u64).to_le_bytes();
        let whole = blake3::hash(&[&h, &size[..]].concat());
        std::array::from_fn(|at| whole.as_bytes()[at])
    }

    /// Content of stretches, each of a length and a byte; every other stretch of zeros is a hole.
    fn content(stretches: &[(u32, u8)]) -> Vec<u8> {
        let part = |&(len, byte): &(u32, u8)| vec![byte; len as usize];
        stretches.iter().flat_map(part).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

        #[test]
        fn digest_does_not_depend_on_extents_and_holes(
            stretches in prop::collection::vec((0_u32..400_000, 0_u8..3), 0..6),
            pieces in prop::collection::vec(1_usize..600_000, 1..8),
            with_holes: bool,
        ) {
            let content = content(&stretches);
            let (mut digest, mut at) = (Digest::new(), 0);
            for len in pieces.iter().cycle() {
                let end = (at + len).min(content.len());
                let data = &content[at..end];
                // A piece of zeros is left out, as a hole is, or is data.
                if !with_holes || data.iter().any(|&byte| byte != 0) {
                    digest.add(at as u64, data);
                }
                at = end;
                if at == content.len() {
                    break;
                }
            }
            let expected = defined(&content);
            prop_assert_eq!(digest.finish(content.len() as u64), expected);
            prop_assert_eq!(digest_of(&content[..]).unwrap(), expected);
        }
    }

    #[test]
    fn digest_covers_size_place_and_every_byte() {
        let mut all = Vec::new();
        let mut add = |content: &[u8]| {
            let digest = digest_of(content).unwrap();
            assert_eq!(digest, defined(content));
            assert!(!all.contains(&digest));
            all.push(digest);
        };
        // Sizes of zeros only, around the ends of cells.
        for size in [0, 1, 1023, 262_143, 262_144, 262_145, 524_288, 600_000] {
            add(&vec![0; size]);
        }
        for at in [0, 1, 4095, 4096, 262_143, 262_144, 599_999] {
            let mut content = vec![0; 600_000];
            content[at] = 1;
            add(&content);
        }
    }

    /// The examples of the format's page.
    #[test]
    fn digests_of_the_specification_match() {
        let hex = |content: &[u8]| {
            let digest = digest_of(content).unwrap();
            digest.map(|byte| format!("{byte:02x}")).concat()
        };
        assert_eq!(hex(b""), "352bd266dae53c6e6a29244011cfa029");
        let mut content = vec![0; 300_000];
        content[299_999] = 1;
        assert_eq!(hex(&content), "e81f4daeeb07130f4783a7ee888570e4");
    }

    #[test]
    fn hole_of_many_cells_costs_nothing() {
        let mut digest = Digest::new();
        digest.add(0, b"x");
        digest.add(i64::MAX as u64 - 1, b"y");
        let size = i64::MAX as u64;
        // By the definition, of the two cells that have other bytes than zeros.
        let end = [&[0; CELL as usize - 2][..], b"y"].concat();
        let first = [&b"x"[..], &[0; CELL as usize - 1]].concat();
        let h = [(0, first), (size / CELL, end)]
            .iter()
            .fold(vec![0; 32], |h, (number, cell)| {
                let number = u64::to_le_bytes(*number);
                let input = [&h, &number[..], blake3::hash(cell).as_bytes()].concat();
                blake3::hash(&input).as_bytes().to_vec()
            });
        let whole = |h: &[u8], size: u64| {
            let whole = blake3::hash(&[h, &size.to_le_bytes()].concat());
            <[u8; DIGEST_LEN]>::try_from(&whole.as_bytes()[..DIGEST_LEN]).unwrap()
        };
        assert_eq!(digest.finish(size), whole(&h, size));
        assert_eq!(Digest::new().finish(u64::MAX), whole(&[0; 32], u64::MAX));
    }
}
