//! Stages in processes give the same bytes as threads.

use std::io::Cursor;
use std::sync::Arc;

use datapipe::prelude::*;
use datapipe::stage::{resequence, sequence};
use datapipe::testkit::check_stage;
use parking_lot::Mutex;

use crate::data::blocks;

fn data() -> Vec<u8> {
    blocks(400_000, 1024, 7)
}

/// Returns what a pipe makes of the data: the length of each block, and the block.
fn made_by(stages: impl IntoIterator<Item = MiddleStage<'static>>) -> Vec<u8> {
    let out = Arc::new(Mutex::new(Vec::new()));
    let mut pipe = Pipe::builder()
        .buffer_size(16 << 10)
        .head(StreamHead::new(Cursor::new(data())));
    for stage in stages {
        pipe = pipe.stage(stage);
    }
    let kept = Arc::clone(&out);
    let keep = move |port: &TailPort| {
        while let Some(block) = port.receive()? {
            let mut kept = kept.lock();
            kept.extend_from_slice(block.len().to_string().as_bytes());
            kept.extend_from_slice(block.bytes());
        }
        Ok(())
    };
    pipe.tail(Stage::tail_port("keep", keep)).run().unwrap();
    std::mem::take(&mut out.lock())
}

pub(crate) fn codecs_in_processes_give_the_same_bytes() {
    for stage in [|| zstd(3), || deflate(6)] {
        let threads = made_by([stage().instances(2)]);
        assert_eq!(made_by([stage().instances(2).in_processes()]), threads);
        assert!(threads.len() < data().len());
    }
    let whole = made_by([]);
    let back = [analyze(), zstd(3), decompress()].map(|stage| stage.instances(2).in_processes());
    assert_eq!(made_by(back), whole);
    let ordered = [
        sequence(7),
        zstd(1).instances(2),
        decompress().instances(2),
        resequence(7, 2),
    ];
    assert_eq!(made_by(ordered.map(MiddleStage::in_processes)), whole);
}

pub(crate) fn stage_suite_runs_in_processes() {
    let blocks: Vec<_> = data().chunks(10_000).map(<[u8]>::to_vec).collect();
    let compressed = check_stage(&blocks, || zstd(1));
    assert_eq!(
        check_stage(&compressed[..8], || crate::stages::in_place(
            crate::stages::Deed::Pass,
            0
        )),
        compressed[..8]
    );
}

pub(crate) fn separate_host_program_gives_the_same_bytes() {
    let host = env!("CARGO_BIN_EXE_datapipe-host");
    let stage = || zstd(5).instances(2);
    assert_eq!(made_by([stage().in_processes_of(host)]), made_by([stage()]));
}

pub(crate) fn threads_inline_and_processes_can_be_mixed() {
    let stages = || [zstd(1), decompress(), deflate(1)];
    let [first, second, third] = stages();
    assert_eq!(
        made_by([first.inline(), second.in_processes(), third.instances(2)]),
        made_by(stages())
    );
}
