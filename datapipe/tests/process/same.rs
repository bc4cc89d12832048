//! What comes out of processes is what threads make.

use datapipe::prelude::*;
use datapipe::testkit::Random;

fn data() -> Vec<u8> {
    let mut random = Random::new(7);
    (0..400_000).map(|at| if at % 3 == 0 { random.below(256) as u8 } else { (at >> 10) as u8 }).collect()
}

/// What a pipe makes of the data, each block behind its length.
fn made_by<'a>(stages: impl IntoIterator<Item = MiddleStage<'a>>) -> Vec<u8> {
    let data = data();
    let mut out = Vec::new();
    let mut pipe = Pipe::builder().buffer_size(16 << 10).head(StreamHead::new(&data[..]));
    for stage in stages {
        pipe = pipe.stage(stage);
    }
    let write = |port: &TailPort| {
        while let Some(block) = port.receive()? {
            out.extend_from_slice(&block.len().to_string().into_bytes());
            out.extend_from_slice(block.bytes());
        }
        Ok(())
    };
    pipe.tail(Stage::tail_port("keep", write)).run().unwrap();
    out
}

pub(crate) fn codecs_give_the_same_bytes() {
    for stage in [|| Zstd::level(3), || Deflate::level(6)] {
        let threads = made_by([stage().instances(2)]);
        assert_eq!(made_by([stage().instances(2).in_processes()]), threads);
        assert!(threads.len() < data().len());
    }
    let whole = made_by([]);
    let back = [analyze(), Zstd::level(3), decompress()].map(|stage| stage.instances(2).in_processes());
    assert_eq!(made_by(back), whole);
}

pub(crate) fn a_host_program_of_its_own() {
    let host = env!("CARGO_BIN_EXE_datapipe-host");
    let stage = || Zstd::level(5).instances(2);
    assert_eq!(made_by([stage().in_processes_of(host)]), made_by([stage()]));
}

pub(crate) fn only_one_stage_of_many_is_processes() {
    let stages = || [Zstd::level(1), decompress(), Deflate::level(1)];
    let [first, second, third] = stages();
    assert_eq!(made_by([first.inline(), second.in_processes(), third.instances(2)]), made_by(stages()));
}
