//! Arbitrary bytes as a compressed block: they decompress to the declared length, or not at all.
#![no_main]

use datapipe::prelude::*;
use libfuzzer_sys::fuzz_target;

const BUFFER_SIZE: u32 = 4096;

/// Head that fills one block.
struct OneBlock<'a>(Option<&'a [u8]>, BlockInfo);

impl Head for OneBlock<'_> {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let Some(bytes) = self.0.take() else {
            return Ok(Fill::End);
        };
        block.put(bytes)?;
        block.set_info(self.1);
        Ok(Fill::Block)
    }
}

fuzz_target!(|input: (bool, u16, &[u8])| {
    let (zstd, plain_len, bytes) = input;
    let bytes = &bytes[..bytes.len().min(BUFFER_SIZE as usize)];
    let mut info = BlockInfo::default();
    info.codec = if zstd { Codec::ZSTD } else { Codec::DEFLATE };
    info.plain_len = u32::from(plain_len) % (BUFFER_SIZE + 100);
    let (log, mut out) = (DamageLog::new(), Vec::new());
    let head = HeadStage::from(OneBlock(Some(bytes), info)).inline();
    let pipe = Pipe::builder()
        .buffer_size(BUFFER_SIZE)
        .head(head)
        .stage(decompress_salvaging(&log).inline());
    pipe.tail(TailStage::from(StreamTail::new(&mut out)).inline())
        .run()
        .unwrap();
    let expected = if log.count() == 0 {
        info.plain_len as usize
    } else {
        0
    };
    assert_eq!(out.len(), expected);
});
