//! Arbitrary bytes as a compressed block: they decompress to what the block says, or not at all.
#![no_main]

use datapipe::prelude::*;
use libfuzzer_sys::fuzz_target;

const ROOM: u32 = 4096;

/// Gives one block.
struct One<'a>(Option<&'a [u8]>, BlockInfo);

impl Head for One<'_> {
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
    let bytes = &bytes[..bytes.len().min(ROOM as usize)];
    let mut info = BlockInfo::default();
    info.codec = if zstd { Codec::ZSTD } else { Codec::DEFLATE };
    info.plain_len = u32::from(plain_len) % (ROOM + 100);
    let (log, mut out) = (DamageLog::new(), Vec::new());
    let head = HeadStage::from(One(Some(bytes), info)).inline();
    let pipe = Pipe::builder()
        .buffer_size(ROOM)
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
