//! Instances sleep and are woken: by a buffer, by a credit, by a stop, by the end of the stream.

use super::pipe::{Pipe, end, explore, one_buffer};

#[test]
fn sleep_and_wake() {
    explore(8, || {
        let pipe = one_buffer();
        let head = pipe.spawn(0, |head| head.send_new(10));
        assert_eq!(pipe.seat(1).consume(), Some((0, 10)));
        head.join().unwrap();
        pipe.assert_home();
    });
}

#[test]
fn sleep_and_wake_at_the_quota() {
    explore(4, || {
        let pipe = one_buffer();
        pipe.seat(0).send_new(10);
        let tail = pipe.spawn(1, |tail| tail.consume());
        let head = pipe.seat(0);
        let held = head.fill(11);
        head.free(held).unwrap();
        assert_eq!(tail.join().unwrap(), Some((0, 10)));
        pipe.assert_home();
    });
}

#[test]
fn a_credit_comes_home_before_its_buffer() {
    explore(6, || {
        let pipe = Pipe::new(2, &[end(1, 2), end(1, 0)]);
        let head = pipe.seat(0);
        head.send_new(10);
        let tail = pipe.spawn(1, |tail| tail.consume());
        let other = head.fill(20);
        head.free(other).unwrap();
        // This may be the buffer that the tail is freeing. Then its loan is a new one, and stays.
        let held = head.fill(21);
        assert_eq!(tail.join().unwrap(), Some((0, 10)));
        assert_eq!(head.loans(), 1);
        head.free(held).unwrap();
        pipe.assert_home();
    });
}

#[test]
fn stop() {
    explore(3, || {
        let pipe = one_buffer();
        // The only buffer never comes home, and never arrives.
        let _lost = pipe.seat(0).fill(10);
        let head = pipe.spawn(0, |head| {
            head.wait(|| head.unless_stopped(|| head.try_alloc()))
        });
        let tail = pipe.spawn(1, |tail| {
            tail.wait(|| tail.unless_stopped(|| tail.try_receive()))
        });
        pipe.stop();
        assert_eq!(head.join().unwrap(), None);
        assert_eq!(tail.join().unwrap(), None);
    });
}

#[test]
fn stop_beside_a_sender() {
    explore(3, || {
        let pipe = one_buffer();
        let tail = pipe.spawn(1, |tail| {
            let next = || tail.wait(|| tail.unless_stopped(|| tail.try_receive()));
            let mut received = 0;
            while let Some(Some((held, number))) = next() {
                assert_eq!((number.get(), tail.read(held)), (0, 10));
                tail.free(held).unwrap();
                received += 1;
            }
            received
        });
        let head = pipe.spawn(0, |head| head.send_new(10));
        pipe.stop();
        head.join().unwrap();
        // What was not received is in the queue: a stop loses no buffer.
        if tail.join().unwrap() == 0 {
            assert_eq!(pipe.seat(1).consume(), Some((0, 10)));
        }
        pipe.assert_home();
    });
}

#[test]
fn end_of_stream() {
    explore(6, || {
        let pipe = one_buffer();
        let head = pipe.spawn(0, |head| {
            head.send_new(10);
            head.done();
        });
        assert_eq!(pipe.seat(1).drain(), [(0, 10)]);
        head.join().unwrap();
        pipe.assert_home();
    });
}
