//! Arbitrary bytes as the blocks of a checkpoint, the first byte of which gives the length of each:
//! what parses survives being encoded in blocks of other lengths.
#![no_main]

use datapipe::wire::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((len, bytes)) = bytes.split_first() else {
        return;
    };
    let blocks = bytes.chunks(usize::from(*len).max(1) * 16);
    if let Ok(checkpoint) = Checkpoint::parse(blocks) {
        for capacity in [512, 4096, 1 << 20] {
            let blocks = checkpoint.to_blocks(capacity).unwrap();
            assert!(blocks.iter().all(|block| block.len() <= capacity));
            let blocks = blocks.iter().map(Vec::as_slice);
            assert_eq!(Checkpoint::parse(blocks).unwrap(), checkpoint);
        }
    }
});
