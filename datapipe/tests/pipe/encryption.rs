//! Encryption in whole pipes: blocks come back, and misuse is an error.

use std::io::Read as _;

use datapipe::prelude::*;
use datapipe::stage::StageError;
use datapipe::testkit::{
    Collected, FaultyStorage, Random, archive_stages, collect, drop_every, numbers, pass,
};

use crate::data::key;
use crate::fixture::small;

/// Returns stages that encrypt as an archive does, and decrypt the same.
fn seal_and_open<'a>() -> (MiddleStage<'a>, MiddleStage<'a>) {
    let archive = ArchiveOptions::stream("test")
        .encrypt(key(9))
        .plan()
        .unwrap();
    let open = archive.open_blocks().unwrap();
    let tape =
        VirtualTape::create_on(FaultyStorage::new(1), "/t", VolumeOptions::default()).unwrap();
    (archive_stages(archive, tape).0.unwrap(), open)
}

fn seal<'a>() -> MiddleStage<'a> {
    seal_and_open().0
}

#[test]
fn compression_and_encryption_round_trip() {
    let mut source = b"A line of text that repeats itself.\n".repeat(60_000);
    let mut noise = vec![0; 900_000];
    Random::new(5).fill(&mut noise);
    source.extend(noise);
    let mut back = Vec::new();
    let (seal, open) = seal_and_open();
    let report = Pipe::builder()
        .buffer_size(100_000)
        .head(StreamHead::new(&source[..]))
        .stage(analyze().instances(2))
        .stage(zstd(3).instances(3))
        .stage(seal.instances(2))
        .stage(open.instances(2))
        .stage(decompress().instances(2))
        .tail(StreamTail::new(&mut back))
        .run()
        .unwrap();
    assert!(back == source, "not what it was");
    let between = report.status.stages[3]
        .instances
        .iter()
        .map(|i| i.bytes_out)
        .sum::<u64>();
    assert!(
        between < 1_000_000,
        "the text part is compressed: {between}"
    );
}

#[test]
fn tampered_block_does_not_authenticate() {
    struct Flip;
    impl InPlace for Flip {
        fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
            if block.number().get() == 3 {
                block.bytes_mut()[17] ^= 1;
            }
            Ok(Verdict::Send)
        }
    }
    let run = |damage: MiddleStage<'static>, another: bool| {
        let got = Collected::default();
        let (seal, open) = seal_and_open();
        let open = if another { seal_and_open().1 } else { open };
        small()
            .head(numbers(6))
            .stage(seal)
            .stage(damage)
            .stage(open)
            .tail(collect(&got))
            .run()
    };
    run(pass(0), false).unwrap();
    let error = run(Stage::in_place("flip", |_| Flip), false)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("stage \"aes-256-gcm-open\": block 4: does not authenticate"),
        "{error}"
    );
    assert!(
        run(pass(0), true).is_err(),
        "another archive's key does not open"
    );
}

/// Sealing twice under one key and nonce gave the plaintext back, and the run reported success.
#[test]
fn block_is_never_sealed_twice() {
    let got = Collected::default();
    let twice = small()
        .head(numbers(3))
        .stage(seal())
        .stage(seal())
        .tail(collect(&got));
    let error = twice.run().unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot start pipe \"test\": stages \"aes-256-gcm\" and \"aes-256-gcm 2\" belong to \
         different archives: add each archive to a pipe of its own with PipeBuilder::archive"
    );
    let closed = small()
        .head(numbers(3))
        .stage(seal())
        .stage(decompress())
        .tail(collect(&got));
    assert!(
        closed
            .run()
            .unwrap_err()
            .to_string()
            .contains("block 1 is still encrypted")
    );
    let full = StreamHead::new(std::io::repeat(1).take(9000));
    let tight = small()
        .headroom(0)
        .tailroom(15)
        .head(full)
        .stage(seal())
        .tail(collect(&got));
    assert!(
        tight
            .run()
            .unwrap_err()
            .to_string()
            .contains("needs 16 bytes of tailroom")
    );
}

/// A block that was sealed after a gap did not open: its reader counts the blocks that it receives.
#[test]
fn sealing_after_a_dropped_block_is_rejected() {
    let got = Collected::default();
    let gap = small()
        .head(numbers(9))
        .stage(drop_every(4))
        .stage(seal().instances(2));
    let error = gap.tail(collect(&got)).run().unwrap_err().to_string();
    assert!(
        error.contains("was dropped before encryption, which numbers blocks without gaps"),
        "{error}"
    );
    // A loop in between restarts the numbers.
    let again = Stage::port("again", |port| {
        while let Some(block) = port.receive()? {
            port.forward(block)?;
        }
        Ok(())
    });
    let (seal, open) = seal_and_open();
    let dense = small()
        .head(numbers(9))
        .stage(drop_every(4))
        .stage(again.holds_out(0))
        .stage(seal);
    dense.stage(open).tail(collect(&got)).run().unwrap();
    assert_eq!(got.numbers(), [1, 2, 3, 5, 6, 7]);
}
