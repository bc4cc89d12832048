//! Content analysis: what the data of a block is, from its first bytes and a sample of the rest.

use crate::error::StageError;
use crate::pool::{BlockInfo, ContentClass};

use super::{Analyze, MiddleStage, Stage};

/// A stage that notes the [`ContentClass`] of each block.
pub fn analyze<'a>() -> MiddleStage<'a> {
    Stage::analyze("analyze", |_| Classifier)
}

/// Says what the data is.
///
/// Known formats are told by their first bytes, all else by a sample of at most 16 KiB spread over the data: text
/// by what its bytes are, compressed or encrypted data by their entropy. Data is called compressed only if the
/// sample says so, whatever it begins like.
pub fn classify(data: &[u8]) -> ContentClass {
    if data.iter().all(|&byte| byte == 0) {
        return if data.is_empty() { ContentClass::OTHER } else { ContentClass::ZEROS };
    }
    if let Some(class) = by_signature(data) {
        return class;
    }
    let counts = sample(data);
    if is_text(&counts) {
        ContentClass::TEXT
    } else if is_dense(&counts) {
        ContentClass::COMPRESSED
    } else {
        ContentClass::OTHER
    }
}

struct Classifier;

impl Analyze for Classifier {
    fn analyze(&mut self, data: &[u8], info: &mut BlockInfo) -> Result<(), StageError> {
        info.class = classify(data);
        Ok(())
    }
}

/// First bytes of formats, where they stand, and what they are. From the formats' own specifications.
const SIGNATURES: &[(usize, &[u8], ContentClass)] = &[
    (0, b"\x7fELF", ContentClass::EXECUTABLE),
    (0, b"MZ\x90\0", ContentClass::EXECUTABLE),
    (0, b"\xcf\xfa\xed\xfe", ContentClass::EXECUTABLE),
    (0, b"\x89PNG\r\n\x1a\n", ContentClass::IMAGE),
    (0, b"\xff\xd8\xff", ContentClass::IMAGE),
    (0, b"GIF8", ContentClass::IMAGE),
    (0, b"II*\0", ContentClass::IMAGE),
    (0, b"MM\0*", ContentClass::IMAGE),
    (8, b"WEBP", ContentClass::IMAGE),
    (8, b"WAVE", ContentClass::AUDIO),
    (0, b"ID3", ContentClass::AUDIO),
    (0, b"OggS", ContentClass::AUDIO),
    (0, b"fLaC", ContentClass::AUDIO),
    (8, b"AVI ", ContentClass::VIDEO),
    (4, b"ftyp", ContentClass::VIDEO),
    (0, b"\x1a\x45\xdf\xa3", ContentClass::VIDEO),
];

fn by_signature(data: &[u8]) -> Option<ContentClass> {
    let known =
        SIGNATURES.iter().find(|(at, bytes, _)| data.get(*at..).is_some_and(|rest| rest.starts_with(bytes)));
    known.map(|&(_, _, class)| class)
}

/// Pieces of a sample, and bytes of each.
const PIECES: usize = 16;
const PIECE: usize = 1024;

/// How often each byte occurs in a sample that is spread evenly over the data.
fn sample(data: &[u8]) -> [u32; 256] {
    let mut counts = [0; 256];
    let mut count = |bytes: &[u8]| bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    if data.len() <= PIECES * PIECE {
        count(data);
    } else {
        let stride = (data.len() - PIECE) / (PIECES - 1);
        (0..PIECES).for_each(|piece| count(&data[piece * stride..][..PIECE]));
    }
    counts
}

/// Text has no zero bytes, and hardly any control characters but white space.
fn is_text(counts: &[u32; 256]) -> bool {
    let total: u32 = counts.iter().sum();
    let control: u32 = counts[..32].iter().sum::<u32>() - counts[9] - counts[10] - counts[12] - counts[13];
    let high: u32 = counts[128..].iter().sum();
    counts[0] == 0 && control * 50 <= total && high * 3 <= total
}

/// Whether the bytes are so evenly distributed that no algorithm finds anything.
fn is_dense(counts: &[u32; 256]) -> bool {
    let total = f64::from(counts.iter().sum::<u32>());
    if total < 4096.0 {
        return false; // too few bytes to tell
    }
    let entropy: f64 = counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let p = f64::from(count) / total;
            -p * p.log2()
        })
        .sum();
    // Random bytes have 8 bits each, and a sample of n of them is expected to show 255 / (2 n ln 2) bits less.
    entropy > 8.0 - 2.0 * 255.0 / (2.0 * total * std::f64::consts::LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_plain_cases() {
        assert_eq!(classify(b""), ContentClass::OTHER);
        assert_eq!(classify(&[0; 5000]), ContentClass::ZEROS);
        assert_eq!(classify(b"fn main() {}\n"), ContentClass::TEXT);
        assert_eq!(classify("Grüße aus Köln, naïve café".repeat(100).as_bytes()), ContentClass::TEXT);
        assert_eq!(classify(b"\x7fELF\x02\x01\x01 and so on"), ContentClass::EXECUTABLE);
        assert_eq!(classify(b"\x89PNG\r\n\x1a\n...."), ContentClass::IMAGE);
        assert_eq!(classify(b"RIFF\x10\0\0\0WAVEfmt "), ContentClass::AUDIO);
        assert_eq!(classify(b"RIFF\x10\0\0\0AVI LIST"), ContentClass::VIDEO);
    }

    #[test]
    fn random_bytes_are_dense_and_machine_words_are_not() {
        let mut state = 88_172_645_463_325_252u64;
        let random: Vec<u8> = (0..1 << 16)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        assert_eq!(classify(&random), ContentClass::COMPRESSED);
        assert_eq!(classify(&random[..6000]), ContentClass::COMPRESSED);
        let words: Vec<u8> = (0..1u32 << 14).flat_map(|i| (i * 3).to_le_bytes()).collect();
        assert_eq!(classify(&words), ContentClass::OTHER);
        // Half text, half noise is worth compressing.
        let mut mixed = random[..1 << 15].to_vec();
        mixed.extend(b"text ".iter().cycle().take(1 << 15));
        assert_eq!(classify(&mixed), ContentClass::OTHER);
    }
}
