//! Buffers change hands: between one and several senders and takers, in order.

use super::pipe::{Pipe, end, explore, one_buffer};
use crate::memory::QueueId;
use crate::queue::Put;

#[test]
fn hand_over() {
    explore(4, || {
        let pipe = one_buffer();
        let head = pipe.spawn(0, |head| {
            head.send_new(10);
            head.send_new(11);
        });
        let tail = pipe.seat(1);
        assert_eq!(tail.consume(), Some((0, 10)));
        assert_eq!(tail.consume(), Some((1, 11)));
        head.join().unwrap();
        pipe.assert_home();
    });
}

#[test]
fn hand_over_around_the_ring() {
    explore(2, || {
        let pipe = one_buffer();
        let head = pipe.spawn(0, |head| (10..14).for_each(|data| head.send_new(data)));
        let tail = pipe.seat(1);
        for number in 0..4 {
            assert_eq!(tail.consume(), Some((number, 10 + number)));
        }
        head.join().unwrap();
        pipe.assert_home();
    });
}

/// Two tails and a head that has sent `blocks` and finished.
fn two_takers(blocks: u64) {
    let pipe = Pipe::new(2, &[end(1, 2), end(2, 0)]);
    let head = pipe.seat(0);
    (10..10 + blocks).for_each(|data| head.send_new(data));
    head.done();
    let other = pipe.spawn(1, |tail| tail.drain());
    let mut got = pipe.seat(2).drain();
    got.extend(other.join().unwrap());
    got.sort_unstable();
    assert_eq!(
        got,
        (0..blocks)
            .map(|number| (number, 10 + number))
            .collect::<Vec<_>>()
    );
    pipe.assert_home();
}

#[test]
fn one_block_goes_to_one_of_two_takers() {
    explore(8, || two_takers(1));
}

#[test]
fn two_blocks_go_to_two_takers() {
    explore(3, || two_takers(2));
}

#[test]
fn two_takers_asleep() {
    explore(2, || {
        let pipe = Pipe::new(1, &[end(1, 1), end(2, 0)]);
        let one = pipe.spawn(1, |tail| tail.drain());
        let two = pipe.spawn(2, |tail| tail.drain());
        let head = pipe.seat(0);
        head.send_new(10);
        head.done();
        let got = [one.join().unwrap(), two.join().unwrap()].concat();
        assert_eq!(got, [(0, 10)]);
        pipe.assert_home();
    });
}

#[test]
fn a_taker_that_slept_a_lap() {
    explore(2, || {
        // Two slots: the third block is in the slot of the first one.
        let pipe = Pipe::new(1, &[end(1, 1), end(2, 0)]);
        let sleeper = pipe.spawn(1, |tail| tail.drain());
        let (head, tail) = (pipe.seat(0), pipe.seat(2));
        let mut got = Vec::new();
        for data in 10..13 {
            head.send_new(data);
            if let Ok(Some((held, number))) = tail.try_receive() {
                got.push((number.get(), tail.read(held)));
                tail.free(held).unwrap();
            }
        }
        head.done();
        got.extend(sleeper.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [(0, 10), (1, 11), (2, 12)]);
        pipe.assert_home();
    });
}

#[test]
fn two_senders() {
    explore(2, || {
        let pipe = Pipe::new(2, &[end(2, 2), end(1, 0)]);
        let heads = [0, 1].map(|id| {
            pipe.spawn(id, move |head| {
                head.send_new(10 + u64::from(id));
                head.done();
            })
        });
        let got = pipe.seat(2).drain();
        heads.into_iter().for_each(|head| head.join().unwrap());
        assert_eq!(
            got.iter().map(|&(number, _)| number).collect::<Vec<_>>(),
            [0, 1]
        );
        assert_eq!(
            got.iter().map(|&(_, data)| data).sum::<u64>(),
            10 + 11,
            "each block once"
        );
        pipe.assert_home();
    });
}

#[test]
fn ordered() {
    explore(2, || {
        let pipe = Pipe::new(2, &[end(1, 2), end(2, 0).numbered(), end(1, 0)]);
        let head = pipe.seat(0);
        head.send_new(10);
        head.send_new(11);
        head.done();
        let middles = [1, 2].map(|id| {
            pipe.spawn(id, |middle| {
                let last_queue = QueueId::new(2);
                while let Some((input, number)) = middle.next() {
                    middle.write(input, middle.read(input) + 10);
                    assert_eq!(middle.send(input, last_queue, number).unwrap(), Put::Done);
                }
                middle.done();
            })
        });
        assert_eq!(pipe.seat(3).drain(), [(0, 20), (1, 21)]);
        middles
            .into_iter()
            .for_each(|middle| middle.join().unwrap());
        pipe.assert_home();
    });
}
