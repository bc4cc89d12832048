//! Arbitrary bytes as frames of a link, in pieces: the same frames come out of any pieces, and each
//! encodes to bytes that decode to it.
#![no_main]

use datapipe_net::link::{Frame, FrameDecoder, Violation};
use libfuzzer_sys::fuzz_target;

/// The frames in `bytes`, given to the decoder in pieces of `piece` bytes.
fn decode(bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<Violation>) {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    for mut bytes in bytes.chunks(piece) {
        loop {
            match decoder.take(&mut bytes) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(violation) => return (frames, Some(violation)),
            }
        }
    }
    (frames, None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let (frames, violation) = decode(bytes, bytes.len().max(1));
    assert_eq!(
        decode(bytes, usize::from(piece).max(1)),
        (frames.clone(), violation.clone())
    );
    if let Some(violation) = violation {
        assert!(!violation.to_string().is_empty());
    }
    let mut again = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut again));
    assert_eq!(decode(&again, again.len().max(1)), (frames, None));
});
