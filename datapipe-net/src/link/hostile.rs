//! Tests of the halves by single frames: those that break a promise, each refused with both
//! numbers, arbitrary ones, and connections that are slow in a way that their bytes do not show.

use proptest::prelude::*;

use super::connections::{Action, ConnectError, ConnectionId, LinkSettings, Work};
use super::frame::{DataHead, Frame, Receipt, StopCode, StopReason};
use super::pace::Allowance;
use super::receiver::{Reading, Receiver};
use super::sender::Sender;

const MS: u64 = 1_000_000;

fn receipt(next: u64, limit: u64) -> Receipt {
    Receipt {
        next,
        limit,
        safe: 0,
        ended: false,
    }
}

fn welcome(next: u64, limit: u64) -> Frame {
    Frame::Welcome {
        receipt: receipt(next, limit),
        incarnation: 1,
    }
}

fn data(number: u64, len: u32) -> Frame {
    Frame::Data(DataHead {
        number,
        len,
        ..DataHead::default()
    })
}

fn vacant(number: u64, len: u32) -> Frame {
    Frame::Data(DataHead {
        number,
        len,
        vacant: true,
        info: None,
    })
}

/// A sender of two connections that has had four blocks, with one connection that is not greeted.
fn sender() -> (Sender, ConnectionId) {
    let mut sender = Sender::new(0, LinkSettings::new(2, 5, 7), 0, 4);
    let connection = sender.connected(MS, 0).unwrap();
    (sender, connection)
}

/// A receiver of two connections with four buffers, with one connection that is not greeted.
fn receiver() -> (Receiver, ConnectionId) {
    let mut receiver = Receiver::new(0, LinkSettings::new(2, 1, 8), 0, false, 100);
    let connection = receiver.connected(MS, 0).unwrap();
    (0..4).for_each(|_| receiver.stocked(false));
    (receiver, connection)
}

/// The error with which a half ended.
fn outcome(actions: Vec<Action>) -> String {
    let over = actions.into_iter().find_map(|action| match action {
        Action::Over(outcome) => Some(outcome),
        _ => None,
    });
    over.expect("the half is over")
        .expect_err("the half failed")
        .to_string()
}

/// Frames that a sender refuses, with words of the reason.
fn broken_promises_to_sender() -> [(Vec<Frame>, &'static str); 12] {
    let hello = Frame::Hello {
        lowest: 0,
        incarnation: 1,
    };
    let ended = Receipt {
        ended: true,
        ..receipt(2, 4)
    };
    [
        (
            vec![Frame::Ack(receipt(0, 1))],
            "the first frame has kind 4 and is not a WELCOME",
        ),
        (
            vec![welcome(0, 1), welcome(0, 1)],
            "kind 2: it is not the first one",
        ),
        (
            vec![welcome(3, 2)],
            "3 blocks are acknowledged with a limit of 2",
        ),
        (
            vec![welcome(5, 9)],
            "5 blocks are acknowledged, and there have been 4",
        ),
        (
            vec![welcome(2, 4), Frame::Ack(receipt(1, 4))],
            "acknowledged blocks is 1, and was 2",
        ),
        (
            vec![welcome(2, 4), Frame::Ack(receipt(2, 3))],
            "the limit is 3, and was 4",
        ),
        (
            vec![welcome(0, 4), data(1, 1)],
            "kind 3: only the sending half sends it",
        ),
        (
            vec![welcome(0, 4), hello],
            "kind 1: only the sending half sends it",
        ),
        (
            vec![welcome(0, 4), Frame::End { total: 1 }],
            "kind 5: only the sending half sends it",
        ),
        (
            vec![welcome(0, 4), Frame::Rate { rate: 32_767 }],
            "32767 bytes a second; the range is 32768",
        ),
        (
            vec![welcome(0, 4), Frame::Bye { over: false }, Frame::Ack(ended)],
            "it follows a BYE",
        ),
        (
            vec![welcome(0, 4), Frame::Ack(ended)],
            "complete after 2 blocks, and it has 4",
        ),
    ]
}

#[test]
fn sender_refuses_frames_that_break_promises_with_their_numbers() {
    for (frames, text) in broken_promises_to_sender() {
        let (mut sender, connection) = sender();
        sender.end(MS);
        assert!(matches!(
            sender.work(MS, connection),
            Some(Work::Frame(Frame::Hello { .. }))
        ));
        for frame in frames {
            sender.frame(2 * MS, connection, frame);
        }
        let Some(Work::Frame(Frame::Stop(reason))) = sender.work(2 * MS, connection) else {
            panic!("{text}: no STOP is sent")
        };
        assert!(
            reason.code == StopCode::VIOLATION && reason.text.contains(text),
            "{reason:?}"
        );
        assert_eq!(sender.work(2 * MS, connection), Some(Work::Shut));
        assert_eq!(sender.work(2 * MS, connection), Some(Work::Leave));
        sender.tick(sender.timeout());
        let error = outcome(sender.take_actions());
        assert!(error.contains(text), "{error}");
        assert_eq!(sender.timeout(), u64::MAX);
    }
}

#[test]
fn sender_refuses_an_end_that_is_taken_back_moved_or_not_the_receivers_to_report() {
    let state = |next, ended| {
        let receipt = receipt(next, 4);
        Frame::Ack(Receipt { ended, ..receipt })
    };
    // The first frame is right, and comes on the first connection.
    let cases = [
        (
            state(2, true),
            0,
            state(2, false),
            "complete after 2 blocks, and is reported incomplete",
        ),
        (
            state(2, true),
            0,
            state(3, true),
            "complete after 3 blocks, and was after 2 before",
        ),
        (
            state(2, true),
            1,
            state(3, true),
            "complete after 3 blocks, and was after 2 before",
        ),
        (
            state(2, true),
            0,
            Frame::Bye { over: true },
            "kind 10: only the sending half reports the end of the stream",
        ),
        (
            state(2, false),
            1,
            Frame::Bye { over: true },
            "kind 10: only the sending half reports the end of the stream",
        ),
    ];
    for (first, at, second, text) in cases {
        let (mut sender, connection) = sender();
        let connections = [connection, sender.connected(MS, 1).unwrap()];
        for connection in connections {
            assert!(sender.frame(2 * MS, connection, welcome(0, 4)));
        }
        assert!(sender.frame(2 * MS, connections[0], first.clone()));
        // The same again is allowed, as is an earlier state that has taken longer.
        assert!(sender.frame(2 * MS, connections[0], first));
        assert!(sender.frame(2 * MS, connections[1], state(1, false)));
        sender.frame(2 * MS, connections[at], second);
        while sender.timeout() < u64::MAX {
            sender.tick(sender.timeout());
        }
        let error = outcome(sender.take_actions());
        assert!(error.contains(text), "{error}");
    }
}

/// Frames that a receiver refuses, with words of the reason.
fn broken_promises_to_receiver() -> [(Vec<Frame>, &'static str); 12] {
    let hello = || Frame::Hello {
        lowest: 0,
        incarnation: 1,
    };
    let end = |total| Frame::End { total };
    [
        (
            vec![data(0, 1)],
            "the first frame has kind 3 and is not a HELLO",
        ),
        (vec![hello(), hello()], "kind 1: it is not the first one"),
        (
            vec![hello(), data(4, 1)],
            "block 4 is not below the limit, 4",
        ),
        (
            vec![hello(), end(2), data(2, 1)],
            "block 2 is not below the total, 2",
        ),
        (
            vec![hello(), data(0, 101)],
            "block 0 has 101 bytes, and a buffer has room for 100",
        ),
        (
            vec![hello(), vacant(0, 3)],
            "block 0 is vacant and has 3 bytes",
        ),
        (
            vec![hello(), end(3), end(4)],
            "the total is 4, and was 3 before",
        ),
        (
            vec![hello(), data(2, 0), end(2)],
            "the total is 2, but blocks up to number 2 have arrived",
        ),
        (
            vec![hello(), Frame::Ack(receipt(0, 1))],
            "kind 4: only the receiving half sends it",
        ),
        (
            vec![hello(), Frame::Rate { rate: 0 }],
            "kind 9: only the receiving half sends it",
        ),
        (
            vec![hello(), Frame::Bye { over: true }],
            "an end of the stream that was not acknowledged",
        ),
        (
            vec![hello(), Frame::Bye { over: false }, end(1)],
            "it follows a BYE",
        ),
    ]
}

#[test]
fn receiver_refuses_frames_that_break_promises_with_their_numbers() {
    for (frames, text) in broken_promises_to_receiver() {
        let (mut receiver, connection) = receiver();
        assert!(matches!(
            receiver.work(MS, connection),
            Some(Work::Frame(Frame::Welcome { .. }))
        ));
        for frame in frames {
            if receiver.frame(2 * MS, connection, &frame) == Reading::Take {
                receiver.filled(2 * MS, connection);
            }
        }
        let Some(Work::Frame(Frame::Stop(reason))) = receiver.work(2 * MS, connection) else {
            panic!("{text}: no STOP is sent")
        };
        assert!(
            reason.code == StopCode::VIOLATION && reason.text.contains(text),
            "{reason:?}"
        );
        receiver.tick(receiver.timeout());
        let error = outcome(receiver.take_actions());
        assert!(error.contains(text), "{error}");
        assert_eq!(receiver.timeout(), u64::MAX);
    }
}

#[test]
fn blocks_that_no_half_holds_fail_the_link_and_name_both_numbers() {
    let (mut receiver, connection) = receiver();
    receiver.frame(
        2 * MS,
        connection,
        &Frame::Hello {
            lowest: 3,
            incarnation: 1,
        },
    );
    receiver.gone(3 * MS, connection);
    let error = outcome(receiver.take_actions());
    assert!(
        error.contains("needs block 0") && error.contains("blocks from 3 on"),
        "{error}"
    );

    let (mut sender, connection) = sender();
    sender.frame(2 * MS, connection, welcome(2, 4));
    let second = sender.connected(3 * MS, 1).unwrap();
    sender.frame(
        3 * MS,
        second,
        Frame::Welcome {
            receipt: receipt(1, 4),
            incarnation: 2,
        },
    );
    sender.gone(4 * MS, connection);
    sender.gone(4 * MS, second);
    let error = outcome(sender.take_actions());
    assert!(
        error.contains("needs block 1") && error.contains("blocks from 2 on"),
        "{error}"
    );
}

#[test]
fn receiver_takes_few_connections_and_names_the_limit() {
    let (mut receiver, _) = receiver();
    let error = receiver.connected(MS, 2).unwrap_err();
    assert_eq!(
        error,
        ConnectError::Index {
            index: 2,
            connections: 2
        }
    );
    assert_eq!(
        error.to_string(),
        "connection 2 of a link of 2 (counted from 0)"
    );
    (0..3).for_each(|_| assert!(receiver.connected(MS, 1).is_ok()));
    assert_eq!(
        receiver.connected(MS, 1),
        Err(ConnectError::Busy { present: 4 })
    );
}

#[test]
fn lone_halves_end_after_the_wait_with_the_last_reason() {
    let (mut sender, connection) = sender();
    sender.lost(MS, connection, "connection reset");
    sender.gone(MS, connection);
    while sender.timeout() < u64::MAX {
        sender.tick(sender.timeout());
    }
    let error = outcome(sender.take_actions());
    assert_eq!(
        error,
        "no connection to the other half for 60 s: connection reset"
    );
}

#[test]
fn connection_that_holds_up_an_idle_one_is_closed_after_ten_times_its_block() {
    let (mut receiver, slow) = receiver();
    let quick = receiver.connected(MS, 1).unwrap();
    for connection in [slow, quick] {
        receiver.frame(
            MS,
            connection,
            &Frame::Hello {
                lowest: 0,
                incarnation: 1,
            },
        );
    }
    // The quick one needs 400 ms for a block, and the other has block 0 since 10 ms.
    assert_eq!(receiver.frame(10 * MS, slow, &data(0, 100)), Reading::Take);
    assert_eq!(receiver.frame(10 * MS, quick, &data(1, 60)), Reading::Take);
    receiver.filled(410 * MS, quick);
    for (time, closed) in [(4409, false), (4410, true)] {
        (0..time / 1000).for_each(|second| receiver.received(second * 1000 * MS, slow));
        receiver.tick(time * MS);
        let close = Action::Close {
            connection: slow,
            why: "it held up all other connections".to_owned(),
        };
        assert_eq!(
            receiver.take_actions().contains(&close),
            closed,
            "at {time} ms"
        );
    }
    // Another connection brings the block: its reader waits until the buffer is back.
    assert_eq!(
        receiver.frame(4411 * MS, quick, &data(0, 100)),
        Reading::Wait(slow)
    );
    receiver.gone(4412 * MS, slow);
    assert!(receiver.take_actions().contains(&Action::Resume(quick)));
    assert_eq!(
        receiver.frame(4412 * MS, quick, &data(0, 100)),
        Reading::Take
    );
    receiver.filled(4413 * MS, quick);
    assert!(receiver.ready());
}

#[test]
fn slow_connection_is_kept_while_no_other_has_shown_to_be_quicker() {
    let (mut receiver, slow) = receiver();
    let idle = receiver.connected(MS, 1).unwrap();
    for connection in [slow, idle] {
        receiver.frame(
            MS,
            connection,
            &Frame::Hello {
                lowest: 0,
                incarnation: 1,
            },
        );
    }
    // The idle one has had a block, but a much shorter one.
    assert_eq!(receiver.frame(2 * MS, idle, &data(1, 9)), Reading::Take);
    receiver.filled(3 * MS, idle);
    assert_eq!(receiver.frame(4 * MS, slow, &data(0, 100)), Reading::Take);
    for second in 1..50 {
        [slow, idle]
            .iter()
            .for_each(|one| receiver.received(second * 1000 * MS, *one));
        receiver.tick(second * 1000 * MS);
    }
    assert!(
        !receiver
            .take_actions()
            .iter()
            .any(|action| matches!(action, Action::Close { .. }))
    );
}

#[test]
fn connections_that_greet_or_leave_too_slowly_are_closed_in_spite_of_their_bytes() {
    let closed = |receiver: &mut Receiver| {
        let mut actions = receiver.take_actions().into_iter();
        actions.any(|action| matches!(action, Action::Close { .. }))
    };
    let (mut receiver, connection) = receiver();
    for second in 1..=10 {
        assert!(!closed(&mut receiver), "at {second} s");
        receiver.received(second * 1000 * MS, connection);
        receiver.tick(second * 1000 * MS + MS);
    }
    assert!(closed(&mut receiver), "a connection without greeting");

    let (mut receiver, connection) = self::receiver();
    receiver.frame(
        2 * MS,
        connection,
        &Frame::Hello {
            lowest: 0,
            incarnation: 1,
        },
    );
    receiver.retire(connection);
    while receiver.work(3 * MS, connection) != Some(Work::Leave) {}
    for second in 1..=60 {
        assert!(!closed(&mut receiver), "at {second} s");
        receiver.received(second * 1000 * MS, connection);
        receiver.tick(second * 1000 * MS + 3 * MS);
    }
    assert!(
        closed(&mut receiver),
        "a connection whose BYE is not answered"
    );
}

#[test]
fn rate_is_the_lowest_and_outlives_the_connections_on_which_it_came() {
    let (mut sender, first) = sender();
    let second = sender.connected(MS, 1).unwrap();
    for (connection, rate) in [(first, 1 << 16), (second, 1 << 20)] {
        assert!(sender.frame(2 * MS, connection, welcome(0, 4)));
        assert!(sender.frame(2 * MS, connection, Frame::Rate { rate }));
    }
    // A piece is half of 64 KiB, and half a second pays for it.
    let piece = Allowance::Now(32 << 10);
    let limited = |sender: &mut Sender, now: u64| {
        assert_eq!(sender.allowance(now, 1 << 30), piece);
        let paid = Allowance::At(now + 500 * MS);
        assert_eq!(sender.allowance(now, 1 << 30), paid);
    };
    limited(&mut sender, 1000 * MS);
    for connection in [first, second] {
        sender.lost(1100 * MS, connection, "connection reset");
        sender.gone(1100 * MS, connection);
        assert_eq!(
            sender.allowance(1100 * MS, 1 << 30),
            Allowance::At(1500 * MS)
        );
    }
    // The lowest rate was that of the connection that was lost first.
    let most = Allowance::Now(256 << 10);
    assert_eq!(sender.allowance(2000 * MS, 1 << 30), most);
    assert_eq!(
        sender.allowance(2000 * MS, 1 << 30),
        Allowance::At(2250 * MS)
    );
    // A new connection is greeted before its rate is known.
    let third = sender.connected(3000 * MS, 0).unwrap();
    assert!(sender.frame(3000 * MS, third, welcome(0, 4)));
    assert_eq!(sender.allowance(3000 * MS, 1 << 30), most);
    let rate = |rate| Frame::Rate { rate };
    assert!(sender.frame(4000 * MS, third, rate(1 << 16)));
    limited(&mut sender, 4000 * MS);
    assert!(sender.frame(5000 * MS, third, rate(0)));
    let all = Allowance::Now(1 << 30);
    assert_eq!(sender.allowance(5000 * MS, 1 << 30), all);
}

#[test]
fn receiver_reports_its_rate_on_every_connection_even_if_it_sets_no_limit() {
    for rate in [0, 1 << 16] {
        let (mut receiver, first) = receiver();
        receiver.set_rate(rate).unwrap();
        let second = receiver.connected(MS, 1).unwrap();
        for connection in [first, second] {
            assert!(matches!(
                receiver.work(MS, connection),
                Some(Work::Frame(Frame::Welcome { .. }))
            ));
            let work = Work::Frame(Frame::Rate { rate });
            assert_eq!(receiver.work(MS, connection), Some(work));
            assert_eq!(receiver.work(MS, connection), None, "it is sent once");
        }
    }
}

#[test]
fn sender_reports_safe_blocks_and_the_shortest_round_trip() {
    let (mut sender, first) = sender();
    let second = sender.connected(MS, 1).unwrap();
    assert_eq!((sender.safe(), sender.round_trip()), (0, None));
    // The highest number of safe blocks counts, over any of the connections.
    for (connection, safe) in [(first, 3), (second, 2)] {
        assert!(sender.frame(2 * MS, connection, welcome(0, 4)));
        let state = Receipt {
            safe,
            ..receipt(0, 4)
        };
        assert!(sender.frame(2 * MS, connection, Frame::Ack(state)));
        assert_eq!(sender.safe(), 3);
    }
    // A ping is due 2 s after the last frame; each of these is answered at another time.
    let mut shortest = u64::MAX;
    for (turn, time) in [(0, 40 * MS), (1, 30 * MS), (2, 50 * MS)] {
        let mut now = 10_000 * MS * (turn + 1);
        let clock = loop {
            sender.received(now, first);
            sender.received(now, second);
            sender.tick(now);
            match sender.work(now, first) {
                Some(Work::Frame(Frame::Ping { clock })) => break clock,
                Some(Work::Data { .. } | Work::Frame(_)) => {}
                None => now += 1000 * MS,
                other => panic!("{other:?}"),
            }
        };
        assert!(sender.frame(clock + time, first, Frame::Pong { clock }));
        shortest = time.min(shortest);
        assert_eq!(sender.round_trip(), Some(shortest));
    }
}

/// Arbitrary frames with small numbers, which get further than large ones.
fn frames() -> impl Strategy<Value = Frame> {
    let number = || prop_oneof![9 => 0..8_u64, 1 => any::<u64>()];
    let receipt =
        (number(), number(), number(), any::<bool>()).prop_map(|(next, limit, safe, ended)| {
            Receipt {
                next,
                limit,
                safe,
                ended,
            }
        });
    let welcome = (receipt.clone(), number());
    prop_oneof![
        3 => (number(), number())
            .prop_map(|(lowest, incarnation)| Frame::Hello { lowest, incarnation }),
        3 => welcome.prop_map(|(receipt, incarnation)| Frame::Welcome { receipt, incarnation }),
        8 => (number(), 0..120_u32).prop_map(|(number, len)| data(number, len)),
        2 => number().prop_map(|number| vacant(number, 0)),
        6 => receipt.prop_map(Frame::Ack),
        1 => number().prop_map(|total| Frame::End { total }),
        1 => number().prop_map(|clock| Frame::Ping { clock }),
        1 => number().prop_map(|clock| Frame::Pong { clock }),
        1 => Just(Frame::Stop(StopReason::new(StopCode::FAILED, "x"))),
        1 => number().prop_map(|rate| Frame::Rate { rate }),
        1 => any::<bool>().prop_map(|over| Frame::Bye { over }),
    ]
}

proptest! {
    /// Neither half panics, breaks a promise of its own or stays for ever, at any frames.
    #[test]
    fn arbitrary_frames_end_both_halves_in_order(
        steps in proptest::collection::vec((0..4_u16, frames(), 0..4_u8), 0..60),
    ) {
        let (mut sender, first) = sender();
        let (mut receiver, other) = receiver();
        let (mut now, mut of_sender, mut of_receiver) = (2 * MS, vec![first], vec![other]);
        for (which, frame, what) in steps {
            now += MS << what;
            of_sender.extend(sender.connected(now, which).ok());
            of_receiver.extend(receiver.connected(now, which).ok());
            let at = usize::from(which);
            let one = of_sender[at % of_sender.len()];
            let two = of_receiver[at % of_receiver.len()];
            sender.frame(now, one, frame.clone());
            if receiver.frame(now, two, &frame) == Reading::Take && what > 0 {
                receiver.filled(now, two);
            }
            if receiver.ready() {
                receiver.sent_on();
                receiver.stocked(false);
            }
            if receiver.is_complete() {
                receiver.completed(now);
            }
            sender.work(now, one);
            receiver.work(now, two);
            for action in sender.take_actions().into_iter().chain(receiver.take_actions()) {
                if let Action::Free { below } = action {
                    prop_assert!(below <= 4);
                }
            }
            receiver.check();
            sender.check();
        }
        for half in 0..2 {
            let mut ends = 0;
            for _ in 0..2000 {
                let timeout = if half == 0 { sender.timeout() } else { receiver.timeout() };
                if timeout == u64::MAX {
                    ends = 1;
                    break;
                }
                now = now.max(timeout);
                sender.tick(now);
                receiver.tick(now);
            }
            prop_assert_eq!(ends, 1, "a half without a peer ends");
        }
    }
}
