//! The first difference between two streams of bytes or blocks: where it is, and 16 bytes of both.

use std::fmt;

/// Bytes of either side that a failure shows.
const SHOWN: usize = 16;

/// The first difference between what was found and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference(String);

impl Difference {
    /// Returns the first difference between two sequences of blocks.
    pub(super) fn of_blocks(found: &[Vec<u8>], expected: &[Vec<u8>]) -> Option<Self> {
        for (number, (found, expected)) in found.iter().zip(expected).enumerate() {
            if let Some(Self(text)) = Self::of_bytes(found, expected) {
                return Some(Self(format!("block {number}, {text}")));
            }
        }
        (found.len() != expected.len()).then(|| {
            let more = if found.len() > expected.len() {
                found
            } else {
                expected
            };
            let number = found.len().min(expected.len());
            Self(format!(
                "{} blocks instead of {}; block {number} of the longer one begins with {}",
                found.len(),
                expected.len(),
                Shown(&more[number], 0)
            ))
        })
    }

    /// Returns the first difference between two sequences of bytes.
    pub(super) fn of_bytes(found: &[u8], expected: &[u8]) -> Option<Self> {
        let same = found
            .iter()
            .zip(expected)
            .take_while(|(one, other)| one == other);
        let offset = same.count();
        (offset < found.len().max(expected.len())).then(|| {
            Self(format!(
                "offset {offset}: {} instead of {} ({} bytes instead of {})",
                Shown(found, offset),
                Shown(expected, offset),
                found.len(),
                expected.len()
            ))
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Up to 16 bytes from an offset on, in hexadecimal.
pub(super) struct Shown<'b>(pub(super) &'b [u8], pub(super) usize);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.0.get(self.1..).unwrap_or_default();
        if rest.is_empty() {
            return f.write_str("the end");
        }
        let shown = rest.iter().take(SHOWN).map(|byte| format!("{byte:02x}"));
        f.write_str(&shown.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn difference_shows_block_offset_and_16_bytes() {
        let (mut one, two) = (vec![7; 1 << 20], vec![7; 1 << 20]);
        assert_eq!(Difference::of_bytes(&one, &two), None);
        one[700_000] = 0xab;
        let expected = [vec![1], two];
        let text = Difference::of_blocks(&[vec![1], one.clone()], &expected);
        let text = text.unwrap().to_string();
        assert!(
            text.starts_with("block 1, offset 700000: ab 07 07"),
            "{text}"
        );
        assert!(text.len() < 200, "{text}");
        let text = Difference::of_blocks(&expected[..1], &expected).unwrap();
        assert_eq!(
            text.to_string(),
            "1 blocks instead of 2; block 1 of the longer one begins with 07 07 07 07 07 07 07 07 \
             07 07 07 07 07 07 07 07"
        );
        let text = Difference::of_bytes(&one[..3], &one[..2]).unwrap();
        assert_eq!(
            text.to_string(),
            "offset 2: 07 instead of the end (3 bytes instead of 2)"
        );
    }
}
