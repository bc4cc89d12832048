//! Misuse of seats, ports and blocks is rejected, and never gives two participants the same buffer.

use std::process::Command;
use std::time::Duration;

use datapipe::memory::{
    Backing, HugePages, InstanceId, PipeName, Process, Segment, SegmentError, Shape, StageId,
    StageShape,
};
use datapipe::pool::{
    Block, Blocked, Budget, HeadPort, Inputs, PortError, Refusal, Seat, StageNeeds, TryError,
};
use datapipe::prelude::*;
use datapipe::testkit::{Collected, collect, numbers};

/// The instance of the first stage, and that of the second.
const FIRST: InstanceId = StageId::HEAD.instance(0);
const SECOND: InstanceId = StageId::new(1).instance(0);

fn segment(buffers: u32, stages: &[StageShape]) -> Segment {
    let stages = stages.iter().copied();
    let shape = Shape::builder(buffers, 4096)
        .stages(stages)
        .build()
        .unwrap();
    Segment::create(
        &PipeName::new(),
        shape,
        &[],
        Backing::Anonymous,
        HugePages::No,
    )
    .unwrap()
}

/// Creates a segment with a head and a tail.
fn head_and_tail(buffers: u32) -> Segment {
    segment(
        buffers,
        &[StageShape::new(1).share(buffers), StageShape::new(1)],
    )
}

/// Creates a segment with a head, a numbered stage of one instance, and a tail.
fn with_numbered() -> Segment {
    segment(
        8,
        &[
            StageShape::new(1).share(4),
            StageShape::new(1).share(4).numbered(),
            StageShape::new(1),
        ],
    )
}

/// Sends `n` blocks from the head, and ends it.
fn sent(segment: &Segment, n: u8) {
    let head = Seat::new(segment, FIRST).head().unwrap();
    (0..n).for_each(|i| head.send(filled(&head, &[i])).unwrap());
    head.finish().unwrap();
}

fn filled(head: &HeadPort, bytes: &[u8]) -> Block {
    let mut block = head.alloc().unwrap();
    block.put(bytes).unwrap();
    block
}

/// Returns the rule that a call broke.
fn misuse<T>(result: Result<T, PortError>) -> &'static str {
    match result.map(drop) {
        Err(PortError::Misuse(what)) => what,
        other => panic!("not rejected: {other:?}"),
    }
}

/// A second port received the live inputs of the first, and with them a second mutable slice of the
/// same bytes.
#[test]
fn seat_has_one_port_at_a_time() {
    let segment = head_and_tail(4);
    sent(&segment, 2);
    let seat = Seat::new(&segment, SECOND);
    let tail = seat.tail().unwrap();
    let block = tail.receive().unwrap().unwrap();
    let same_process = seat.tail();
    assert!(
        matches!(same_process, Err(PortError::SeatTaken { .. })),
        "the seat is taken"
    );
    let descriptor = segment.descriptor().unwrap().try_clone_to_owned().unwrap();
    let elsewhere = Segment::attach(descriptor).unwrap();
    let other_mapping = Seat::new(&elsewhere, SECOND).tail();
    assert!(
        matches!(other_mapping, Err(PortError::SeatTaken { .. })),
        "also for another mapping of the segment"
    );
    drop(tail);
    let still = seat.tail();
    assert!(
        matches!(still, Err(PortError::SeatTaken { .. })),
        "a block of the first port is still out"
    );
    drop(block);
    let again = seat.tail().unwrap();
    assert_eq!(again.receive().unwrap().unwrap().bytes(), [1]);
}

/// A block was sent by its index: the receiver in the other pipe got a buffer that its holder still
/// had.
#[test]
fn block_of_another_port_is_rejected() {
    let (a, b) = (head_and_tail(64), head_and_tail(2));
    let (head_a, head_b) = (
        Seat::new(&a, FIRST).head().unwrap(),
        Seat::new(&b, FIRST).head().unwrap(),
    );
    let all: Vec<Block> = (0..64).map(|_| head_a.alloc().unwrap()).collect();
    for foreign in all {
        assert_eq!(
            misuse(head_b.send(foreign)),
            "a block belongs to the port that it came from"
        );
    }
    let segment = with_numbered();
    sent(&segment, 1);
    let middle = Seat::new(&segment, SECOND).middle().unwrap();
    let input = middle.receive().unwrap().unwrap();
    let foreign = head_b.alloc().unwrap();
    assert_eq!(
        misuse(middle.send(foreign, &input)),
        "a block belongs to the port that it came from"
    );
}

#[test]
fn death_of_another_process_does_not_permit_reclaim() {
    let segment = head_and_tail(1);
    let head = Seat::new(&segment, FIRST).head().unwrap();
    let mut mine = filled(&head, b"mine");
    let mut child = Command::new("true").spawn().unwrap();
    let process = Process::watch(child.id()).unwrap();
    let dead = process
        .wait(Duration::MAX)
        .unwrap()
        .expect("it ends by itself");
    child.wait().unwrap();
    assert_eq!(dead.process(), child.id());
    let refused = segment
        .reclaim(FIRST, &dead, Inputs::Release)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("but it was"), "{refused}");
    assert_eq!(
        head.try_alloc().unwrap_err(),
        TryError::Blocked(Blocked::AtLimit),
        "the buffer still belongs to this process"
    );
    assert_eq!(mine.bytes_mut(), b"mine");
}

#[test]
fn numbered_stage_answers_each_input_once_in_order() {
    let segment = with_numbered();
    sent(&segment, 4);
    let middle = Seat::new(&segment, SECOND).middle().unwrap();
    let inputs: Vec<_> = (0..4).map(|_| middle.receive().unwrap().unwrap()).collect();
    let [zero, one, two, three] = inputs.try_into().unwrap();
    let loan = middle.alloc().unwrap();
    assert_eq!(
        misuse(middle.send(one, &zero)),
        "an input that was not answered cannot be another's answer"
    );
    assert_eq!(
        misuse(middle.emit(loan)),
        "a numbered stage sends only answers to its inputs"
    );
    drop((zero, two, three));
    let what = "a numbered stage let go of an input without sending or dropping it";
    assert_eq!(misuse(middle.receive()), what);

    let segment = with_numbered();
    sent(&segment, 3);
    let middle = Seat::new(&segment, SECOND).middle().unwrap();
    let inputs: Vec<_> = (0..3).map(|_| middle.receive().unwrap().unwrap()).collect();
    let [zero, one, two] = inputs.try_into().unwrap();
    middle.forward(one).unwrap();
    assert_eq!(
        misuse(middle.forward(zero)),
        "a numbered stage answers its inputs in their order"
    );
    drop(two);
}

#[test]
fn numbered_stage_cannot_end_holding_an_input() {
    let segment = with_numbered();
    sent(&segment, 2);
    let middle = Seat::new(&segment, SECOND).middle().unwrap();
    middle.forward(middle.receive().unwrap().unwrap()).unwrap();
    let kept = middle.receive().unwrap().unwrap();
    assert!(middle.receive().unwrap().is_none());
    assert_eq!(
        misuse(middle.finish()),
        "a numbered stage ended with an input that it has not answered"
    );
    drop(kept);
}

#[test]
fn allocation_by_a_non_allocating_stage_is_rejected() {
    struct Copy;
    impl Transform for Copy {
        fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
            output.put(input.bytes())?;
            Ok(Verdict::Send)
        }
    }
    let pipe = Pipe::builder()
        .buffer_size(512)
        .head(numbers(10))
        .stage(Stage::transform("copy", |_| Copy).holds_out(0))
        .tail(collect(&Collected::default()));
    let error = pipe.run().unwrap_err().to_string();
    assert!(
        error.contains("a stage that was described as never allocating wants a buffer"),
        "{error}"
    );
}

#[test]
fn infinite_timeout_is_accepted() {
    let segment = head_and_tail(1);
    let head = Seat::new(&segment, FIRST).head().unwrap();
    drop(head.alloc_timeout(Duration::MAX).unwrap());
    drop(head);
    sent(&segment, 1);
    let tail = Seat::new(&segment, SECOND).tail().unwrap();
    assert!(tail.receive_timeout(Duration::MAX).unwrap().is_some());
}

#[test]
fn foreign_named_segment_is_not_attached() {
    let shape = || {
        Shape::builder(2, 4096)
            .stages([StageShape::new(1).share(2), StageShape::new(1)])
            .build()
            .unwrap()
    };
    let name = PipeName::new();
    let segment =
        Segment::create(&name, shape(), &["h", "t"], Backing::Named, HugePages::No).unwrap();
    let attached = Segment::attach_named(&name).unwrap();
    assert_eq!(
        (attached.stage_name(SECOND.stage()), attached.free_buffers()),
        ("t".to_owned(), 2)
    );
    let path = format!("/dev/shm/datapipe-{name}");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o660)).unwrap();
    assert!(matches!(
        Segment::attach_named(&name),
        Err(SegmentError::Foreign { mode: 0o660, .. })
    ));
    drop(segment);
    assert!(matches!(
        Segment::attach_named(&name),
        Err(SegmentError::System {
            call: "shm_open",
            ..
        })
    ));
    let huge = Segment::create(&name, shape(), &[], Backing::Named, HugePages::Require);
    assert!(matches!(huge, Err(SegmentError::NamedHugePages)));
}

#[test]
fn absurd_budget_numbers_are_rejected() {
    let stage = |instances, hold_in| StageNeeds {
        name: "x".into(),
        instances,
        hold_in,
        hold_out: 1,
        passes_on: true,
    };
    let refused = Budget::new(&[stage(u32::MAX, 1), stage(1, 1)], Some(1)).unwrap_err();
    assert!(matches!(refused, Refusal::Range(_)), "{refused}");
    let refused = Budget::new(
        &[stage(64, 1), stage(64, u32::MAX), stage(1, u32::MAX)],
        Some(1),
    )
    .unwrap_err();
    assert!(matches!(refused, Refusal::TooManyHeld { .. }), "{refused}");
}
