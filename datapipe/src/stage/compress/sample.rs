//! Whether a block is worth the attempt: first by what content analysis said, then by a sample.
//!
//! ```text
//!   |####........####........####........####|   4 pieces of 4 KiB, the first at the start, the last at the end
//!     \___________ compressed together at the cheapest level: smaller by 3 % or more? ___________/
//! ```

use crate::error::StageError;
use crate::pool::ContentClass;

use super::encode::{Encoder, Method};

/// Pieces of a sample, and bytes of each.
const PIECES: usize = 4;
const PIECE: usize = 4 << 10;
/// Bytes that a sample fits into, whatever an algorithm makes of it.
const ROOM: usize = 2 * PIECES * PIECE;
/// Blocks below this are simply tried: a sample would be a good part of them.
const SMALLEST: usize = 64 << 10;
/// Bytes of each thousand that a sample must lose before its block is tried.
const WORTH_IT: usize = 30;

/// What is known of a block without a look at its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It is never tried.
    Hopeless,
    /// It is tried.
    Good,
    /// A sample decides.
    Unknown,
}

/// What class and length say of a block.
pub(super) fn outlook(class: ContentClass, len: usize) -> Outlook {
    match class {
        ContentClass::COMPRESSED | ContentClass::ENCRYPTED => Outlook::Hopeless,
        ContentClass::TEXT | ContentClass::ZEROS => Outlook::Good,
        _ if len < SMALLEST => Outlook::Good,
        _ => Outlook::Unknown,
    }
}

/// Takes samples of blocks.
pub(super) struct Sampler {
    method: Method,
    encoder: Option<Box<dyn Encoder>>,
    gathered: Vec<u8>,
    worth_it: usize,
}

impl Sampler {
    /// A sampler that compresses with the cheapest level of `method`.
    pub(super) fn new(method: Method) -> Self {
        Self { method: method.cheapest(), encoder: None, gathered: Vec::new(), worth_it: WORTH_IT }
    }

    /// Whether a sample of `data` becomes so much smaller that `data` should be compressed. Writes to `scratch`.
    pub(super) fn shrinks(&mut self, data: &[u8], scratch: &mut [u8]) -> Result<bool, StageError> {
        self.gathered.clear();
        let stride = data.len().saturating_sub(PIECE) / (PIECES - 1);
        for piece in (0..PIECES).filter_map(|n| data.get(n * stride..n * stride + PIECE)) {
            self.gathered.extend_from_slice(piece);
        }
        // Room for any outcome: an attempt that ends well leaves the context fit for the next one.
        let Some(scratch) = scratch.get_mut(..ROOM) else { return Ok(true) };
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => self.encoder.insert(self.method.encoder()?),
        };
        let enough = self.gathered.len() * (1000 - self.worth_it) / 1000;
        Ok(encoder.encode(&self.gathered, scratch)?.is_some_and(|len| len <= enough))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::testkit::Random;

    #[test]
    fn noise_is_not_worth_it_and_a_little_text_in_it_is() {
        let mut data = vec![0; 1 << 20];
        Random::new(1).fill(&mut data);
        let mut scratch = vec![0; 1 << 20];
        for method in [Method::Zstd(3), Method::Deflate(6)] {
            let mut sampler = Sampler::new(method);
            assert!(!sampler.shrinks(&data, &mut scratch).unwrap(), "{method:?}");
            let mut mixed = data.clone();
            mixed[..100_000].fill(b'x');
            assert!(sampler.shrinks(&mixed, &mut scratch).unwrap(), "{method:?}");
            assert!(sampler.shrinks(&mixed, &mut []).unwrap(), "without scratch it is tried");
            assert!(sampler.shrinks(&vec![0; SMALLEST], &mut scratch).unwrap());
        }
    }

    #[test]
    fn the_class_comes_first() {
        let large = 4 << 20;
        assert_eq!(outlook(ContentClass::COMPRESSED, large), Outlook::Hopeless);
        assert_eq!(outlook(ContentClass::ENCRYPTED, 10), Outlook::Hopeless);
        assert_eq!(outlook(ContentClass::TEXT, large), Outlook::Good);
        assert_eq!(outlook(ContentClass::IMAGE, large), Outlook::Unknown);
        assert_eq!(outlook(ContentClass::UNKNOWN, SMALLEST), Outlook::Unknown);
        assert_eq!(outlook(ContentClass::EXECUTABLE, SMALLEST - 1), Outlook::Good);
    }

    fn gather(folder: &Path, into: &mut Vec<u8>, most: usize) {
        let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type().unwrap();
            if into.len() >= most {
                return;
            } else if kind.is_dir() {
                gather(&entry.path(), into, most);
            } else if kind.is_file() {
                into.extend(std::fs::read(entry.path()).unwrap_or_default());
            }
        }
    }

    /// Time and size of `data` in blocks, sampled or not.
    fn measure(
        method: Method,
        data: &[u8],
        block: usize,
        worth_it: Option<usize>,
    ) -> (Duration, usize, usize) {
        let (mut encoder, mut sampler) = (method.encoder().unwrap(), Sampler::new(method));
        sampler.worth_it = worth_it.unwrap_or_default();
        let (mut out, mut size, mut raw) = (vec![0; block], 0, 0);
        let started = Instant::now();
        for data in data.chunks(block) {
            let unknown = outlook(ContentClass::UNKNOWN, data.len()) == Outlook::Unknown;
            let tried = worth_it.is_none() || !unknown || sampler.shrinks(data, &mut out).unwrap();
            raw += usize::from(!tried);
            let len = if tried { encoder.encode(data, &mut out[..data.len() - 1]).unwrap() } else { None };
            size += len.unwrap_or(data.len());
        }
        (started.elapsed(), size, raw)
    }

    /// The figures behind `WORTH_IT`: run with `--ignored --nocapture`; `DATAPIPE_CORPUS` names folders, by colons.
    #[test]
    #[ignore = "measures for minutes"]
    fn what_sampling_saves_and_loses() {
        let mut random = vec![0; 48 << 20];
        Random::new(3).fill(&mut random);
        let mut corpora = vec![("random".to_owned(), random.clone())];
        let folders = std::env::var("DATAPIPE_CORPUS").unwrap_or_else(|_| "/usr/share".to_owned());
        for folder in folders.split(':') {
            let mut data = Vec::new();
            gather(Path::new(folder), &mut data, 48 << 20);
            let pieces = data.chunks(1 << 20).zip(random.chunks(1 << 20));
            let mix = pieces.flat_map(|(data, random)| [data, random].concat()).collect();
            corpora.extend([(folder.to_owned(), data), (format!("{folder} and random"), mix)]);
        }
        for (name, data) in &corpora {
            for block in [256 << 10, 4 << 20] {
                for method in [Method::Zstd(3), Method::Deflate(6)] {
                    let (time, whole, _) = measure(method, data, block, None);
                    let mib = data.len() >> 20;
                    println!("{name}: {mib} MiB, {} KiB blocks, {method:?}", block >> 10);
                    println!("  without: {time:.2?}, {whole} bytes");
                    for worth_it in [10, 20, 30, 50] {
                        let (time, size, raw) = measure(method, data, block, Some(worth_it));
                        let lost = (size as f64 / whole as f64 - 1.0) * 100.0;
                        println!("  {worth_it:2} per mille: {time:.2?}, lost {lost:.3} %, {raw} raw");
                    }
                }
            }
        }
    }
}
