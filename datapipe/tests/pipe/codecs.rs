//! Compression: blocks round-trip, other programs can decompress them, and hostile blocks do no
//! harm.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use datapipe::media::Position;
use datapipe::prelude::*;
use datapipe::testkit::{Random, Suite};
use proptest::prelude::*;

/// The bytes of a block and its description.
type Parcel = (Vec<u8>, BlockInfo);

/// Sends `parcels` through `stages`, in buffers of `size` bytes, and returns what comes out.
fn through(
    parcels: &[Parcel],
    size: u32,
    stages: impl IntoIterator<Item = MiddleStage<'static>>,
) -> Result<Vec<Parcel>, Error> {
    struct Source<I>(I);
    impl<I: Iterator<Item = Parcel> + Send> Head for Source<I> {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            let Some((bytes, info)) = self.0.next() else {
                return Ok(Fill::End);
            };
            block.put(&bytes)?;
            block.set_info(info);
            Ok(Fill::Block)
        }
    }
    struct Sink(Arc<Mutex<Vec<Parcel>>>);
    impl Tail for Sink {
        fn write(&mut self, block: &Block) -> Result<(), StageError> {
            self.0
                .lock()
                .unwrap()
                .push((block.bytes().to_vec(), block.info()));
            Ok(())
        }
    }
    let got = Arc::new(Mutex::new(Vec::new()));
    let owned: Vec<Parcel> = parcels.to_vec();
    let mut pipe = Pipe::builder()
        .buffer_size(size)
        .head(Source(owned.into_iter()));
    for stage in stages {
        pipe = pipe.stage(stage);
    }
    pipe.tail(Sink(Arc::clone(&got))).run()?;
    Ok(std::mem::take(&mut *got.lock().unwrap()))
}

/// Returns blocks with the default description.
fn plain(blocks: &[Vec<u8>]) -> Vec<Parcel> {
    blocks
        .iter()
        .map(|bytes| (bytes.clone(), BlockInfo::default()))
        .collect()
}

fn bytes(parcels: Vec<Parcel>) -> Vec<Vec<u8>> {
    parcels.into_iter().map(|(bytes, _)| bytes).collect()
}

/// Returns the description of a compressed block.
fn info(codec: Codec, plain_len: usize) -> BlockInfo {
    let mut info = BlockInfo::default();
    (info.codec, info.plain_len) = (codec, plain_len as u32);
    info
}

/// Returns the compressing stages, with their codecs.
fn both() -> [(Codec, MiddleStage<'static>); 2] {
    [(Codec::ZSTD, zstd(3)), (Codec::DEFLATE, deflate(6))]
}

/// Returns `data` as one block, compressed by each algorithm.
fn compressed(data: &[u8]) -> Vec<Parcel> {
    let one = |(codec, stage)| {
        let parcel = through(&plain(&[data.to_vec()]), 1 << 20, [stage])
            .unwrap()
            .remove(0);
        assert_eq!(
            (parcel.1.codec, parcel.1.plain_len as usize),
            (codec, data.len())
        );
        parcel
    };
    both().into_iter().map(one).collect()
}

/// Returns blocks of every kind: short and long, dense and not, with and without repetition.
fn random_blocks(random: &mut Random) -> Vec<Vec<u8>> {
    let block = |random: &mut Random| {
        let longest = [3, 300, 64 << 10, 200 << 10][random.below(4) as usize];
        let mut block = vec![0; 1 + random.below(longest) as usize];
        match random.below(4) {
            0 => random.fill(&mut block),
            1 => block
                .iter_mut()
                .for_each(|byte| *byte = b"etaoin shrdlu"[random.below(13) as usize]),
            2 => block.fill(random.bits() as u8),
            _ => {
                let half = block.len() / 2;
                random.fill(&mut block[half..]);
            }
        }
        block
    };
    (0..12).map(|_| block(random)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_data_at_any_level_round_trips(
        seed: u64,
        level in 0..25_i32,
        deflated: bool,
        analyzed: bool,
        several in 1..4_u32,
        undo in 1..4_u32,
    ) {
        let blocks = random_blocks(&mut Random::new(seed));
        let compress =
            if deflated { deflate(level as u32) } else { zstd(level) };
        let mut stages = vec![compress.instances(several), decompress().instances(undo)];
        if analyzed {
            stages.insert(0, analyze());
        }
        let back = through(&plain(&blocks), 200 << 10, stages).unwrap();
        prop_assert!(back.iter().all(|(_, info)| info.codec == Codec::NONE));
        prop_assert!(bytes(back) == blocks);
    }
}

#[test]
fn codecs_pass_the_stage_suite() {
    let mut blocks = random_blocks(&mut Random::new(4));
    blocks.iter_mut().for_each(|block| block.truncate(64 << 10));
    Suite::on_threads().stage(&blocks, || deflate(1));
    Suite::on_threads().stage(&blocks, || zstd(9));
    assert_eq!(Suite::on_threads().stage(&blocks, decompress), blocks);
    let log = DamageLog::new();
    assert_eq!(
        Suite::on_threads().stage(&blocks, || decompress_salvaging(&log)),
        blocks
    );
    assert!(log.count() == 0);
}

#[test]
fn incompressible_block_is_sent_unchanged() {
    let mut noise = vec![0; 100 << 10];
    Random::new(1).fill(&mut noise);
    let text = b"many words ".repeat(9000);
    let with = |class, bytes: &[u8]| {
        let mut info = BlockInfo::default();
        info.class = class;
        (bytes.to_vec(), info)
    };
    use ContentClass as Is;
    let cases = [
        (with(Is::UNKNOWN, &noise), false),
        (with(Is::TEXT, &noise), false),
        (with(Is::IMAGE, &noise), false),
        (with(Is::UNKNOWN, &noise[..1000]), false),
        (with(Is::OTHER, b""), false),
        (with(Is::OTHER, b"x"), false),
        (with(Is::COMPRESSED, &text), false),
        (with(Is::ENCRYPTED, &text), false),
        (with(Is::IMAGE, &text), true),
        (with(Is::EXECUTABLE, &text), true),
        (with(Is::TEXT, &text), true),
        (with(Is::UNKNOWN, &text), true),
    ];
    for (codec, stage) in both() {
        let parcels: Vec<Parcel> = cases.iter().map(|(parcel, _)| parcel.clone()).collect();
        let got = through(&parcels, 128 << 10, [stage]).unwrap();
        for (n, ((was, shrinks), is)) in cases.iter().zip(&got).enumerate() {
            assert_eq!(is.1.codec == codec, *shrinks, "{codec:?}, case {n}");
            assert!(
                if *shrinks {
                    is.0.len() < was.0.len() / 10
                } else {
                    is == was
                },
                "{codec:?}, case {n}"
            );
        }
        // Compressed blocks stay as they are.
        let again = both().map(|(_, stage)| stage);
        assert_eq!(through(&got, 128 << 10, again).unwrap()[8..], got[8..]);
    }
}

/// Decompresses a hostile block, strictly and by salvage. Asserts that both agree, that the result
/// has the declared length, and that neither panics.
fn read_back(parcel: &Parcel, size: u32) -> Result<Vec<u8>, String> {
    let log = DamageLog::new();
    let strict = through(std::slice::from_ref(parcel), size, [decompress().inline()]);
    let (data, info) = through(
        std::slice::from_ref(parcel),
        size,
        [decompress_salvaging(&log).inline()],
    )
    .unwrap()
    .remove(0);
    assert_eq!(
        (info.codec, info.plain_len),
        (Codec::NONE, parcel.1.plain_len)
    );
    match strict {
        Ok(strict) => {
            assert_eq!(strict, [(data.clone(), info)]);
            assert!(log.count() == 0 && info.marks == Marks::default());
            assert_eq!(
                data.len(),
                parcel.1.plain_len as usize,
                "perhaps wrong, but of the declared length"
            );
            Ok(data)
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.starts_with("stage \"decompress\": block 0 does not decompress: "),
                "{text}"
            );
            assert_eq!(
                (log.count(), info.marks, data.len()),
                (1, Marks::DAMAGED, 0)
            );
            assert_eq!(
                format!(
                    "stage \"decompress\": {}",
                    log.snapshot().entries[0].to_string().replacen(": ", " ", 1)
                ),
                text
            );
            Err(text)
        }
    }
}

#[test]
fn damaged_block_is_rejected_or_keeps_its_declared_length() {
    let plain =
        b"the only copy of one person's data, and the only copy of one person's letters".repeat(2);
    let mut refused = 0;
    for (data, info) in compressed(&plain) {
        assert_eq!(read_back(&(data.clone(), info), 4096).unwrap(), plain);
        for at in 0..data.len() {
            read_back(&(data[..at].to_vec(), info), 4096).expect_err("its end is missing");
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut data = data.clone();
                data[at] ^= flip;
                refused += u32::from(read_back(&(data, info), 4096).is_err());
            }
        }
        let longer = [&data[..], b"\0"].concat();
        read_back(&(longer, info), 4096).expect_err("a byte after the end");
        read_back(&(data.repeat(2), info), 4096).expect_err("two streams");
        for plain_len in [
            0,
            1,
            plain.len() - 1,
            plain.len() + 1,
            4096,
            4097,
            u32::MAX as usize,
        ] {
            let mut info = info;
            info.plain_len = plain_len as u32;
            read_back(&(data.clone(), info), 4096).expect_err("another length");
        }
    }
    assert!(refused > 50, "{refused}");
    // Frames that the zstd library would skip or join are not part of one frame.
    let skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd";
    read_back(&(skipped.to_vec(), info(Codec::ZSTD, 4)), 4096).expect_err("a frame of nothing");
    let (frame, mut whole) = compressed(&plain).remove(0);
    read_back(&([&frame[..], skipped].concat(), whole), 4096)
        .expect_err("a second frame, of nothing");
    whole.plain_len *= 2;
    read_back(&(frame.repeat(2), whole), 4096)
        .expect_err("two frames, as long as it says together");
}

#[test]
fn noise_is_decoded_safely() {
    let mut random = Random::new(12);
    for _ in 0..400 {
        let mut data = vec![0; random.below(200) as usize];
        random.fill(&mut data);
        let zstd = [b"\x28\xb5\x2f\xfd", &data[..]].concat();
        let plain_len = random.below(4200) as usize;
        let _ = read_back(&(zstd, info(Codec::ZSTD, plain_len)), 4096);
        let _ = read_back(&(data, info(Codec::DEFLATE, plain_len)), 4096);
    }
}

#[test]
fn decompression_bomb_is_limited_to_the_buffer() {
    let zeros = vec![0; 64 << 20];
    for (stage, codec) in [(zstd(19), Codec::ZSTD), (deflate(9), Codec::DEFLATE)] {
        let bomb = through(
            &plain(std::slice::from_ref(&zeros)),
            64 << 20,
            [stage.inline()],
        )
        .unwrap()
        .remove(0)
        .0;
        assert!(bomb.len() < 70_000, "{}", bomb.len());
        for plain_len in [
            0,
            1,
            4096,
            1 << 17,
            (1 << 17) + 1,
            64 << 20,
            u32::MAX as usize,
        ] {
            let text = read_back(&(bomb.clone(), info(codec, plain_len)), 1 << 17).unwrap_err();
            assert!(
                plain_len <= 1 << 17 || text.contains("the pipe's buffers hold 131072"),
                "{text}"
            );
        }
    }
}

#[test]
fn unknown_codecs_and_sealed_blocks_are_rejected() {
    let text = read_back(&(vec![1, 2, 3], info(Codec(77), 100)), 4096).unwrap_err();
    assert!(text.contains("algorithm 77"), "{text}");
    let mut sealed = info(Codec::ZSTD, 100);
    sealed.sealed = true;
    for stage in [decompress(), decompress_salvaging(&DamageLog::new())] {
        let error = through(&[(vec![1], sealed)], 4096, [stage])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "stage \"decompress\": block 0 is still encrypted; decrypt before you decompress"
        );
    }
}

#[test]
fn salvaging_decompressor_continues_and_reports_positions() {
    let good = compressed(&b"worth keeping ".repeat(50));
    let log = DamageLog::new();
    let mut parcels: Vec<Parcel> = (0..40).map(|n| good[n % 2].clone()).collect();
    for (n, (data, info)) in parcels.iter_mut().enumerate() {
        info.sequence = Some(1000 + n as u64);
        log.record_position(
            1000 + n as u64,
            Position {
                volume: 1,
                record: n as u64,
                byte: 64 * n as u64,
            },
        );
        match n % 10 {
            3 => data.truncate(20),
            5 => info.marks = Marks::DAMAGED,
            7 => info.marks = Marks::REJECTED,
            _ => {}
        }
    }
    let got = through(&parcels, 4096, [decompress_salvaging(&log).instances(3)]).unwrap();
    for (n, (was, is)) in parcels.iter().zip(&got).enumerate() {
        match n % 10 {
            3 => assert!(
                is.0.is_empty() && is.1.marks == Marks::DAMAGED && is.1.plain_len == 700,
                "{is:?}"
            ),
            5 | 7 => assert_eq!(was, is, "marked blocks pass unchanged"),
            _ => assert_eq!(is.0, b"worth keeping ".repeat(50)),
        }
    }
    let mut entries: Vec<String> = log
        .snapshot()
        .entries
        .iter()
        .map(ToString::to_string)
        .collect();
    entries.sort();
    assert_eq!(entries.len(), 4);
    let expected = "block 1003 at volume 1, record 3 (byte 192): does not decompress: its ";
    assert!(entries[0].starts_with(expected), "{entries:?}");
}

#[test]
fn inspection_marks_and_rejects() {
    struct Inspector;
    impl Inspect for Inspector {
        fn inspect(&mut self, data: &[u8], _: &BlockInfo) -> Result<Finding, StageError> {
            Ok(match data {
                [b'm', ..] => Finding::Mark,
                [b'r', ..] => Finding::Reject,
                [b'e', ..] => return Err(StageError::new("the scanner does not answer")),
                _ => Finding::Pass,
            })
        }
    }
    let run = |parcels: &[Parcel]| {
        let log = InspectionLog::new();
        let stage = Stage::inspect("judge", &log, |_| Inspector).instances(3);
        through(parcels, 4096, [stage, zstd(1).instances(2), decompress()]).map(|got| (got, log))
    };
    let blocks: Vec<Vec<u8>> = (0..30).map(|n| vec![b"pmr"[n % 3]; 100 + n]).collect();
    let (got, log) = run(&plain(&blocks)).unwrap();
    for (n, (data, info)) in got.iter().enumerate() {
        let marks = [Marks::default(), Marks::MARKED, Marks::REJECTED][n % 3];
        assert_eq!(info.marks, marks);
        assert_eq!(
            *data,
            if n % 3 == 2 {
                vec![]
            } else {
                blocks[n].clone()
            }
        );
    }
    assert_eq!(
        log.snapshot().marked,
        (1..30).step_by(3).collect::<Vec<u64>>()
    );
    assert_eq!(
        log.snapshot().rejected,
        (2..30).step_by(3).collect::<Vec<u64>>()
    );
    assert_eq!(
        (log.snapshot().marked_count, log.snapshot().rejected_count),
        (10, 10)
    );
    // Blocks without content are not inspected again.
    let (again, log) = run(&got).unwrap();
    assert_eq!(
        (
            again,
            log.snapshot().rejected_count,
            log.snapshot().marked_count
        ),
        (got, 0, 10)
    );

    let failed = run(&plain(&[b"e".to_vec()])).unwrap_err().to_string();
    assert!(failed.contains("the scanner does not answer"), "{failed}");
    let mut sealed = info(Codec::NONE, 0);
    sealed.sealed = true;
    for (info, how) in [(info(Codec::ZSTD, 9), "compressed"), (sealed, "encrypted")] {
        let error = run(&[(b"x".to_vec(), info)]).unwrap_err().to_string();
        let expected = format!("block 0: it is already {how}");
        assert!(
            error.contains(&expected) && error.contains("put inspection before"),
            "{error}"
        );
    }
}

/// Returns the output of `program` for `input`, or nothing, with a message, if it is not installed.
fn other_program(program: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    let started = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        println!("skipped: {program} cannot be started here");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} does not read it");
    Some(output.stdout)
}

#[test]
fn compressed_blocks_are_readable_by_other_programs() {
    const INFLATE: &str = "import sys, zlib\n\
        sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read(), -15))";
    let text: Vec<u8> = (0..30_000u32)
        .flat_map(|n| format!("line {n}\n").into_bytes())
        .collect();
    for plain in [&text[..], &b"ab".repeat(20), &[0; 100_000]] {
        for (data, info) in compressed(plain) {
            let read = match info.codec {
                Codec::ZSTD => other_program("zstd", &["-d", "-c"], &data),
                _ => other_program("python3", &["-c", INFLATE], &data),
            };
            assert!(read.is_none_or(|read| read == plain), "{:?}", info.codec);
        }
    }
}
