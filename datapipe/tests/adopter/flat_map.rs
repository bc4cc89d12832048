//! Stages that give more or larger blocks than they got.

use std::time::Duration;

use datapipe::archive::{ArchiveOptions, ArchiveReader, StreamRestore};
use datapipe::limits::MAX_FLAT_MAP_OUTPUTS;
use datapipe::media::VirtualTape;
use datapipe::pool::Refusal;
use datapipe::prelude::*;
use datapipe::testkit::drop_every;

/// Sends blocks that have their numbers, eight bytes each.
struct Numbers {
    next: u64,
    end: u64,
}

impl Head for Numbers {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.next == self.end {
            return Ok(Fill::End);
        }
        block.put(&self.next.to_le_bytes())?;
        self.next += 1;
        Ok(Fill::Block)
    }
}

fn numbers(end: u64) -> Numbers {
    Numbers { next: 0, end }
}

fn number_in(block: &Block) -> u64 {
    u64::from_le_bytes(block.bytes().try_into().unwrap())
}

/// Sends each number as often as a function of it says.
struct Times<F>(F);

impl<F: Fn(u64) -> u64 + Send> FlatMap for Times<F> {
    fn flat_map(&mut self, input: &Block, outputs: &mut Outputs<'_>) -> Result<(), StageError> {
        for _ in 0..(self.0)(number_in(input)) {
            outputs.next_block()?.put(input.bytes())?;
        }
        Ok(())
    }
}

fn times<'a>(most: u32, count: impl Fn(u64) -> u64 + Send + Copy + 'a) -> MiddleStage<'a> {
    Stage::flat_map("times", most, move |_| Times(count))
}

/// Collects the numbers in blocks, and checks that the blocks are numbered without gaps.
struct Collect<'a>(&'a mut Vec<u64>);

impl Tail for Collect<'_> {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        assert_eq!(block.number().get(), self.0.len() as u64);
        self.0.push(number_in(block));
        Ok(())
    }
}

fn repeated(end: u64, count: impl Fn(u64) -> u64) -> Vec<u64> {
    let times = |n| std::iter::repeat_n(n, count(n) as usize);
    (0..end).flat_map(times).collect()
}

/// Returns the smallest pool with which a pipe is admitted.
fn smallest_pool(pipe: PipeBuilder<'_>) -> u32 {
    match pipe.buffers(1).plan() {
        Err(Error::Refused {
            reason: Refusal::TooFewBuffers { enough, .. },
            ..
        }) => enough,
        other => panic!("{other:?}"),
    }
}

#[test]
fn outputs_arrive_in_order_with_dense_numbers() {
    let count = |n| n * 7 % 5;
    for instances in [1, 2, 5] {
        let pipe = || {
            Pipe::builder()
                .buffer_size(512)
                .head(numbers(300))
                .stage(times(4, count).instances(instances))
        };
        let enough = smallest_pool(pipe().tail(StreamTail::new(std::io::sink())));
        for buffers in [enough, 4 * enough] {
            let mut got = Vec::new();
            let pipe = pipe().tail(Collect(&mut got)).buffers(buffers);
            let report = pipe.run().unwrap();
            assert_eq!(got, repeated(300, count), "x{instances}, {buffers} buffers");
            let sent = report.status.stages[1].instances.iter();
            let sent: u64 = sent.map(|instance| instance.blocks_out).sum();
            assert_eq!(sent, got.len() as u64, "vacant blocks do not count");
        }
    }
}

#[test]
fn flat_maps_follow_each_other_and_stages_that_drop() {
    let (twice, some) = (|_| 2, |n| n % 4);
    let mut got = Vec::new();
    let pipe = Pipe::builder()
        .buffer_size(512)
        .head(numbers(100))
        .stage(drop_every(3).instances(2))
        .stage(times(2, twice).instances(3))
        .stage(drop_every(5).instances(2))
        .stage(times(3, some).instances(2));
    pipe.tail(Collect(&mut got)).run().unwrap();
    let kept = |n: &u64| !n.is_multiple_of(3) && !n.is_multiple_of(5);
    let expected = repeated(100, |n| 2 * (n % 4));
    assert_eq!(got, expected.into_iter().filter(kept).collect::<Vec<_>>());
}

/// Inputs without outputs keep a buffer in the queue until the slowest instance is done: otherwise
/// the others would run beyond the ring.
#[test]
fn inputs_without_outputs_wait_for_a_slow_one() {
    let count = |n| {
        if n % 500 == 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        u64::from(n % 500 == 499)
    };
    let mut got = Vec::new();
    let pipe = Pipe::builder()
        .buffer_size(512)
        .buffers(16)
        .head(numbers(3000))
        .stage(times(MAX_FLAT_MAP_OUTPUTS, count).instances(4));
    pipe.tail(Collect(&mut got)).run().unwrap();
    assert_eq!(got, [499, 999, 1499, 1999, 2499, 2999]);
}

fn failure(stage: MiddleStage<'_>) -> String {
    let pipe = Pipe::builder().buffer_size(512).head(numbers(20));
    let result = pipe
        .stage(stage)
        .tail(StreamTail::new(std::io::sink()))
        .run();
    result.unwrap_err().to_string()
}

#[test]
fn block_with_too_many_outputs_is_named() {
    let text = failure(times(3, |n| if n == 17 { 4 } else { 1 }).instances(2));
    let expected = "block 17 gave more than 3 outputs, the limit of this stage; describe it with a \
                    higher one";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("times"), "{text}");
}

/// A stage that ignored the error would lose data in silence.
#[test]
fn ignored_error_of_an_output_fails_the_stage() {
    struct Ignores;
    impl FlatMap for Ignores {
        fn flat_map(&mut self, input: &Block, outputs: &mut Outputs<'_>) -> Result<(), StageError> {
            for _ in 0..3 {
                let _ = outputs.put(&[7; 400]);
            }
            assert_eq!((outputs.count(), outputs.limit()), (2, 2));
            let _ = input;
            Ok(())
        }
    }
    let text = failure(Stage::flat_map("ignores", 2, |_| Ignores));
    assert!(text.contains("block 0 gave more than 2 outputs"), "{text}");
}

#[test]
fn record_longer_than_a_block_is_an_error() {
    struct Long;
    impl FlatMap for Long {
        fn flat_map(&mut self, _: &Block, outputs: &mut Outputs<'_>) -> Result<(), StageError> {
            outputs.put(&[7; 513])
        }
    }
    let text = failure(Stage::flat_map("long", 2, |_| Long));
    let expected =
        "block 0 gave a record of 513 bytes, but a block has 512; set a larger buffer_size";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn plan_shows_the_squeeze_and_refuses_what_cannot_work() {
    let plan = |stage: MiddleStage<'static>| {
        let pipe = Pipe::builder().head(numbers(1)).stage(stage);
        pipe.tail(StreamTail::new(std::io::sink())).plan()
    };
    assert_eq!(
        plan(times(4, |_| 1).instances(3)).unwrap().to_string(),
        "pipe  head > times x3 > times squeeze > stream-tail"
    );
    assert_eq!(
        plan(times(1, |_| 1)).unwrap().to_string(),
        "pipe  head > times > times squeeze > stream-tail"
    );
    for most in [0, MAX_FLAT_MAP_OUTPUTS + 1] {
        let text = plan(times(most, |_| 1)).unwrap_err().to_string();
        let expected = format!(
            "the number of outputs of stage \"times\" for each input is {most}, but must be \
             between 1 and {MAX_FLAT_MAP_OUTPUTS}"
        );
        assert!(text.contains(&expected), "{text}");
    }
    let text = plan(times(2, |_| 1).inline()).unwrap_err().to_string();
    assert!(text.contains("cannot run inline"), "{text}");
}

#[test]
fn archive_of_a_flat_map_has_dense_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("numbers.tap");
    let count = |n| n % 4;
    let archive = ArchiveOptions::stream("numbers").block_len(512);
    let tape = VirtualTape::create(&path, Default::default()).unwrap();
    let pipe = Pipe::builder()
        .buffer_size(512)
        .head(numbers(200))
        .stage(times(3, count).instances(3));
    pipe.archive(archive.plan().unwrap(), tape).run().unwrap();
    let tape = VirtualTape::open(&path).unwrap();
    let reading = ArchiveReader::open(tape, None).unwrap().read();
    let mut restored = Vec::new();
    let tail = StreamRestore::new(&mut restored);
    reading.pipe.tail(tail).run().unwrap();
    let outcome = reading.report.snapshot();
    assert!(outcome.complete, "{outcome:?}");
    let expected = repeated(200, count);
    let expected: Vec<u8> = expected.into_iter().flat_map(u64::to_le_bytes).collect();
    assert_eq!(restored, expected);
}
