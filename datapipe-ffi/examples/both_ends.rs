//! A pipe with both ends in Rust, the twin of `benches/both_ends.c`: `both_ends SIZE BLOCKS FILL`.
//! `scripts/ffi-bench` compares the two.

use std::env;
use std::error::Error;

use datapipe::prelude::*;

struct Ends {
    left: u64,
    fills: bool,
}

impl Head for Ends {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.left == 0 {
            return Ok(Fill::End);
        }
        self.left -= 1;
        let len = block.spare().len();
        if self.fills {
            block.spare().fill(self.left as u8);
        }
        block.grow(len)?;
        Ok(Fill::Block)
    }
}

struct Sum<'a> {
    sum: &'a mut u64,
    reads: bool,
}

impl Tail for Sum<'_> {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        if self.reads {
            let bytes = block.bytes().iter().step_by(64);
            *self.sum += bytes.map(|byte| u64::from(*byte)).sum::<u64>();
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [size, blocks, fill] = &arguments[..] else {
        return Err("usage: both_ends SIZE BLOCKS FILL".into());
    };
    let (left, fills) = (blocks.parse()?, fill == "1");
    let mut sum = 0;
    let report = Pipe::builder()
        .buffers(16)
        .buffer_size(size.parse()?)
        .head(Ends { left, fills })
        .tail(Sum {
            sum: &mut sum,
            reads: fills,
        })
        .run()?;
    println!("{} {sum}", report.bytes_out());
    Ok(())
}
