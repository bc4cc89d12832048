//! The decision to attempt the compression of a block: first by the result of content analysis,
//! then by the attempt of a fast compressor.
//!
//! Pieces of a block are not a good sample of it: with 4 pieces of 4 KiB, or a sixteenth or a
//! quarter of all bytes, blocks of many files were stored raw that would have shrunk by half, up to
//! 30 % of a tree. zstd at level 3 sees all of a block, and skips noise at gigabytes per second. So
//! it decides for slower methods, and needs no probe itself.

use crate::error::StageError;
use crate::pool::ContentClass;

use super::encode::{Encoder, Method};

/// The method that decides. Its own level, and those that skip noise as fast, need no decision.
#[cfg(feature = "zstd")]
const PROBE: Option<Method> = Some(Method::Zstd(3));
#[cfg(not(feature = "zstd"))]
const PROBE: Option<Method> = None;
/// Length in bytes below which a block is always tried.
const SMALLEST: usize = 64 << 10;
/// Bytes in a thousand that the probe must save before a slower method is tried.
const WORTH_IT: usize = 3;

/// Decision about a block without reading its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The block is not compressed.
    Never,
    /// The block is compressed without a probe.
    Always,
    /// The probe decides.
    IfProbeShrinks,
}

/// Decides by a block's class and length.
pub(super) fn attempt(class: ContentClass, len: usize) -> Attempt {
    match class {
        ContentClass::COMPRESSED | ContentClass::ENCRYPTED => Attempt::Never,
        ContentClass::TEXT | ContentClass::ZEROS => Attempt::Always,
        _ if len < SMALLEST => Attempt::Always,
        _ => Attempt::IfProbeShrinks,
    }
}

/// Tries blocks for a slower method.
#[derive(Default)]
pub(super) struct Probe {
    encoder: Option<Box<dyn Encoder>>,
}

impl Probe {
    /// True if `data` becomes smaller by at least [`WORTH_IT`]. Uses `scratch` for the output; if
    /// that is too small, or there is no method to decide with, the answer is true.
    pub(super) fn shrinks(&mut self, data: &[u8], scratch: &mut [u8]) -> Result<bool, StageError> {
        let room = data.len() * (1000 - WORTH_IT) / 1000;
        let (Some(method), Some(scratch)) = (PROBE, scratch.get_mut(..room)) else {
            return Ok(true);
        };
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => self.encoder.insert(method.encoder()?),
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
    fn probe_rejects_noise_and_accepts_noise_with_a_little_text() {
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
            "the text is found at any offset"
        );
    }

    #[test]
    fn content_class_takes_precedence_over_length() {
        let large = 4 << 20;
        assert_eq!(attempt(ContentClass::COMPRESSED, large), Attempt::Never);
        assert_eq!(attempt(ContentClass::ENCRYPTED, 10), Attempt::Never);
        assert_eq!(attempt(ContentClass::TEXT, large), Attempt::Always);
        assert_eq!(attempt(ContentClass::IMAGE, large), Attempt::IfProbeShrinks);
        assert_eq!(
            attempt(ContentClass::UNKNOWN, SMALLEST),
            Attempt::IfProbeShrinks
        );
        assert_eq!(
            attempt(ContentClass::EXECUTABLE, SMALLEST - 1),
            Attempt::Always
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

    /// Time and size of `data` in blocks, with or without the probe, and the number of blocks that
    /// the probe left raw.
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

    /// Measures the figures that `WORTH_IT` is based on: run with `--ignored --nocapture`.
    /// `DATAPIPE_CORPUS` names folders, separated by colons.
    #[test]
    #[ignore = "measures for minutes"]
    fn probe_savings_and_losses() {
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
