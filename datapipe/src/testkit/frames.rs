//! A volume's file, taken apart without the code that reads it.

/// The frames of a volume: records with their length words, and marks, in their order.
///
/// # Panics
///
/// If the volume is not whole: for those that a test has just written.
pub fn frames(volume: &[u8]) -> Vec<Vec<u8>> {
    let (mut frames, mut rest) = (Vec::new(), volume);
    while let Some(length) = rest.first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let len = if length == 0 {
            4
        } else {
            length.next_multiple_of(2) + 8
        };
        let (frame, after) = rest.split_at(len);
        frames.push(frame.to_vec());
        rest = after;
    }
    assert!(rest.is_empty(), "a volume ends with a whole frame");
    frames
}
