//! Stages that borrow, beside stages that borrow nothing.

use std::io::Cursor;

use datapipe::archive::{ArchiveOptions, ArchiveReader, StreamRestore};
use datapipe::media::VirtualTape;
use datapipe::prelude::*;

struct Upper;

impl Transform for Upper {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        output.put(&input.bytes().to_ascii_uppercase())?;
        Ok(Verdict::Send)
    }
}

/// Returns a stage as a library of stages would: it borrows nothing, and its type says so.
fn upper() -> MiddleStage<'static> {
    Stage::transform("upper", |_| Upper)
}

/// Returns the first half of a pipe, which borrows nothing.
fn first_half() -> PipeBuilder<'static> {
    Pipe::builder()
        .head(StreamHead::new(Cursor::new(b"from a cursor".to_vec())))
        .stage(upper())
}

#[test]
fn static_stage_goes_between_ends_that_borrow() {
    let data = b"a local array".to_vec();
    let mut copy = Vec::new();
    let stages = [upper(), upper().instances(2)];
    let pipe = Pipe::builder()
        .buffer_size(512)
        .head(StreamHead::new(&data[..]))
        .stage(upper())
        .stages(stages)
        .tail(StreamTail::new(&mut copy));
    let report = pipe.run().unwrap();
    assert_eq!(copy, b"A LOCAL ARRAY");
    assert_eq!(report.bytes_out(), data.len() as u64);
}

#[test]
fn static_pipe_takes_a_tail_that_borrows() {
    let mut copy = Vec::new();
    first_half().tail(StreamTail::new(&mut copy)).run().unwrap();
    assert_eq!(copy, b"FROM A CURSOR");
}

#[test]
fn stage_that_borrows_goes_into_a_static_pipe() {
    struct Replace<'a>(&'a [u8]);
    impl Transform for Replace<'_> {
        fn transform(&mut self, _: &Block, output: &mut Block) -> Result<Verdict, StageError> {
            output.put(self.0)?;
            Ok(Verdict::Send)
        }
    }
    let (text, mut copy) = (b"local".to_vec(), Vec::new());
    let local = Stage::transform("replace", |_| Replace(&text)).instances(2);
    let pipe = first_half().stage(local).stage(upper());
    pipe.tail(StreamTail::new(&mut copy)).run().unwrap();
    assert_eq!(copy, b"LOCAL");
}

#[test]
fn each_end_can_borrow_for_a_time_of_its_own() {
    let mut copy = Vec::new();
    let tail: TailStage<'_> = StreamTail::new(&mut copy).into();
    {
        let data = b"shorter".to_vec();
        let pipe = Pipe::builder().head(StreamHead::new(&data[..])).tail(tail);
        pipe.run().unwrap();
    }
    assert_eq!(copy, b"shorter");
}

#[test]
fn archive_is_read_into_a_borrowed_vec() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.tap");
    let data: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let tape = VirtualTape::create(&path, Default::default()).unwrap();
    let archive = ArchiveOptions::stream("data").plan().unwrap();
    let pipe = Pipe::builder().head(StreamHead::new(&data[..]));
    pipe.archive(archive, tape).run().unwrap();

    let tape = VirtualTape::open(&path).unwrap();
    let reading = ArchiveReader::open(tape, None).unwrap().read().instances(2);
    let mut restored = Vec::new();
    let tail = StreamRestore::new(&mut restored);
    reading.pipe.tail(tail).run().unwrap();
    assert!(reading.report.snapshot().complete);
    assert_eq!(restored, data);
}

#[test]
fn static_pipe_starts_in_the_background() {
    let pipe = first_half().tail(StreamTail::new(std::io::sink()));
    let report = pipe.start().unwrap().wait().unwrap();
    assert_eq!(report.bytes_out(), 13);
}
