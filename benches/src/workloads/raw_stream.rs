//! `README.md`, "raw-stream".

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;

use datapipe::prelude::*;

use super::memory_file::MemoryFile;
use super::{Bound, Comparison, ExpectedOutput, Measure, PAIRS, RunSpec, Task, Workload};

const STREAM_LEN: u64 = 3 << 30;
const BUFFERS: u32 = 16;
const BUFFER_SIZE: u32 = 1 << 20;

pub(super) const WORKLOAD: Workload = Workload {
    name: "raw-stream",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: &[
            Bound {
                measure: Measure::Cpu,
                at_most: 1.1,
            },
            Bound {
                measure: Measure::Wall,
                at_most: 1.1,
            },
        ],
        prepare,
    },
};

fn prepare() -> Result<Comparison, Box<dyn Error>> {
    let stream = MemoryFile::random(STREAM_LEN)?;
    let (path, crc) = (
        stream.path(),
        ExpectedOutput::Exactly(format!("{:08x}", stream.crc)),
    );
    let total = u64::from(BUFFERS) * u64::from(BUFFER_SIZE);
    let mbuffer: Vec<OsString> = vec![
        "-q".into(),
        "-i".into(),
        path.clone(),
        "-o".into(),
        "/dev/null".into(),
        "-s".into(),
        BUFFER_SIZE.to_string().into(),
        "-m".into(),
        total.to_string().into(),
    ];
    Ok(Comparison {
        ours: RunSpec::own_program("datapipe", "raw-stream-datapipe", vec![path], crc)?,
        peer: RunSpec::command("mbuffer", "mbuffer", mbuffer),
        _resources: Some(Box::new(stream)),
    })
}

/// Tail that adds every block to a checksum and discards the block.
struct Checksum(crc32fast::Hasher);

impl Tail for Checksum {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.0.update(block.bytes());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StageError> {
        println!("{:08x}", self.0.clone().finalize());
        Ok(())
    }
}

pub(super) fn datapipe(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let [path] = arguments else {
        return Err("an argument is missing: the file to read".into());
    };
    let head = HeadStage::from(StreamHead::new(File::open(path)?));
    let tail = TailStage::from(Checksum(crc32fast::Hasher::new()));
    Pipe::builder()
        .head(head.inline())
        .tail(tail.inline())
        .buffers(BUFFERS)
        .buffer_size(BUFFER_SIZE)
        .headroom(0) // no rooms, so that the pool has exactly as many bytes as that of mbuffer
        .tailroom(0)
        .run()?;
    Ok(())
}
