//! Whether a block is worth the attempt: first by what content analysis said, then by a fast
//! compressor's attempt.
//!
//! Pieces of a block are no good sample of it: with 4 pieces of 4 KiB, or a sixteenth or a quarter
//! of all bytes, blocks of many files were stored raw that half of would have gone, up to 30 % of a
//! tree. zstd at level 3 sees all of a block, and passes over noise at gigabytes a second. So it
//! decides for slower methods, and needs nobody itself.

use crate::error::StageError;
use crate::pool::ContentClass;

use super::encode::{Encoder, Method};

/// What decides. Its own level, and those that skip noise as fast, need no decision.
const PROBE: Method = Method::Zstd(3);
/// Blocks below this are simply tried.
const SMALLEST: usize = 64 << 10;
/// Bytes of each thousand that the probe must save before a slower method is tried.
const WORTH_IT: usize = 3;

/// What is known of a block without a look at its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It is never tried.
    Hopeless,
    /// It is tried.
    Good,
    /// The probe decides.
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

/// Tries blocks for a slower method.
#[derive(Default)]
pub(super) struct Probe {
    encoder: Option<Box<dyn Encoder>>,
}

impl Probe {
    /// Whether `data` becomes smaller at all. Writes to `scratch`.
    pub(super) fn shrinks(&mut self, data: &[u8], scratch: &mut [u8]) -> Result<bool, StageError> {
        let room = data.len() * (1000 - WORTH_IT) / 1000;
        let Some(scratch) = scratch.get_mut(..room) else {
            return Ok(true);
        };
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => self.encoder.insert(PROBE.encoder()?),
        };
        Ok(encoder.encode(data, scratch)?.is_some())
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
        let mut probe = Probe::default();
        assert!(!probe.shrinks(&data, &mut scratch).unwrap());
        assert!(
            probe.shrinks(&data, &mut []).unwrap(),
            "without scratch it is tried"
        );
        data[700_000..708_000].fill(b'x');
        assert!(
            probe.shrinks(&data, &mut scratch).unwrap(),
            "wherever the text is"
        );
    }

    #[test]
    fn the_class_comes_first() {
        let large = 4 << 20;
        assert_eq!(outlook(ContentClass::COMPRESSED, large), Outlook::Hopeless);
        assert_eq!(outlook(ContentClass::ENCRYPTED, 10), Outlook::Hopeless);
        assert_eq!(outlook(ContentClass::TEXT, large), Outlook::Good);
        assert_eq!(outlook(ContentClass::IMAGE, large), Outlook::Unknown);
        assert_eq!(outlook(ContentClass::UNKNOWN, SMALLEST), Outlook::Unknown);
        assert_eq!(
            outlook(ContentClass::EXECUTABLE, SMALLEST - 1),
            Outlook::Good
        );
    }

    fn gather(folder: &Path, into: &mut Vec<u8>, most: usize) {
        let mut entries: Vec<_> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
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

    /// Time and size of `data` in blocks, probed or not, and how many blocks were left raw by the
    /// probe.
    fn measure(
        method: Method,
        data: &[u8],
        block: usize,
        probed: bool,
    ) -> (Duration, usize, usize) {
        let (mut encoder, mut probe) = (method.encoder().unwrap(), Probe::default());
        let (mut out, mut size, mut raw) = (vec![0; block], 0, 0);
        let started = Instant::now();
        for data in data.chunks(block) {
            let tried = !probed || data.len() < SMALLEST || probe.shrinks(data, &mut out).unwrap();
            raw += usize::from(!tried);
            let len = if tried {
                encoder.encode(data, &mut out[..data.len() - 1]).unwrap()
            } else {
                None
            };
            size += len.unwrap_or(data.len());
        }
        (started.elapsed(), size, raw)
    }

    /// The figures behind `WORTH_IT`: run with `--ignored --nocapture`; `DATAPIPE_CORPUS` names
    /// folders, by colons.
    #[test]
    #[ignore = "measures for minutes"]
    fn what_the_probe_saves_and_loses() {
        let mut random = vec![0; 24 << 20];
        Random::new(3).fill(&mut random);
        let mut corpora = vec![("random".to_owned(), random.clone())];
        let folders = std::env::var("DATAPIPE_CORPUS").unwrap_or_else(|_| "/usr/share".to_owned());
        for folder in folders.split(':') {
            let mut data = Vec::new();
            gather(Path::new(folder), &mut data, 24 << 20);
            let pieces = data.chunks(1 << 20).zip(random.chunks(1 << 20));
            let mix = pieces
                .flat_map(|(data, random)| [data, random].concat())
                .collect();
            corpora.extend([
                (folder.to_owned(), data),
                (format!("{folder} and random"), mix),
            ]);
        }
        for (name, data) in &corpora {
            for block in [256 << 10, 4 << 20] {
                for method in [
                    Method::Zstd(3),
                    Method::Zstd(9),
                    Method::Zstd(13),
                    Method::Deflate(6),
                ] {
                    let (whole_time, whole, _) = measure(method, data, block, false);
                    let (time, size, raw) = measure(method, data, block, true);
                    let lost = (size as f64 / whole as f64 - 1.0) * 100.0;
                    println!(
                        "{name}, {} KiB, {method:?}: {} bytes to {whole} in {whole_time:.2?}; \
                         probed {time:.2?}, lost {lost:.3} %, {raw} raw",
                        block >> 10,
                        data.len()
                    );
                }
            }
        }
    }
}
