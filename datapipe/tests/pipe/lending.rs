//! Loops that lend their blocks to other threads, wait for a bell, and carry blocks with numbers
//! from one pipe to another.

#![allow(
    clippy::disallowed_types,
    reason = "counts of the test, not shared words"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use datapipe::memory::{
    Backing, HugePages, InstanceId, PipeName, Segment, Shape, StageId, StageShape,
};
use datapipe::pool::{Activity, Bell, Blocked, Lent, Marks, PortError, Seat, TryError};
use datapipe::prelude::*;
use datapipe::testkit::{Collected, collect, numbers};

use crate::fixture::{all, small};

const HEAD: InstanceId = StageId::HEAD.instance(0);
const TAIL: InstanceId = StageId::new(1).instance(0);

/// Returns a segment of a head and a tail with `buffers` buffers.
fn segment(buffers: u32) -> Segment {
    let stages = [StageShape::new(1).share(buffers), StageShape::new(1)];
    let shape = Shape::builder(buffers, 512).headroom(64).tailroom(64);
    let shape = shape.stages(stages).build().unwrap();
    let (name, backing) = (PipeName::new(), Backing::Anonymous);
    Segment::create(&name, shape, &["head", "tail"], backing, HugePages::No).unwrap()
}

#[test]
fn lent_block_comes_back_with_what_another_thread_made_of_it() {
    let segment = segment(4);
    let head = Seat::new(&segment, HEAD).head().unwrap();
    let tail = Seat::new(&segment, TAIL).tail().unwrap();
    let mut lent = head.alloc().unwrap().lend();
    let lent = thread::scope(|scope| {
        let fill = move || {
            lent.put(b"data").unwrap();
            lent.grow_front(3).unwrap().copy_from_slice(b"of ");
            lent.grow(1).unwrap().copy_from_slice(b"!");
            let too_much = lent.spare().len() + 65;
            assert!(
                lent.grow(too_much).is_err(),
                "the room ends with the tailroom"
            );
            let mut info = lent.info();
            info.user[0] = 77;
            lent.set_info(info);
            lent
        };
        scope.spawn(fill).join().unwrap()
    });
    let block = head.take_back(lent).unwrap();
    assert_eq!(
        (block.bytes(), block.info().user[0]),
        (&b"of data!"[..], 77)
    );
    head.send(block).unwrap();
    // Several threads read one loan, and the last one returns it.
    let shared = Arc::new(tail.receive().unwrap().unwrap().lend());
    thread::scope(|scope| {
        for _ in 0..3 {
            let shared = Arc::clone(&shared);
            scope.spawn(move || assert_eq!(shared.bytes(), b"of data!"));
        }
    });
    assert_eq!((shared.number().get(), segment.free_buffers()), (0, 3));
    drop(Arc::try_unwrap(shared).map(|lent| tail.take_back(lent).unwrap()));
    assert_eq!(segment.free_buffers(), 4);
    head.finish().unwrap();
    assert!(tail.receive().unwrap().is_none());
    tail.finish().unwrap();
    segment.audit().unwrap();
}

#[test]
fn lent_block_that_another_port_takes_back_is_returned_to_its_own() {
    let segment = segment(2);
    let head = Seat::new(&segment, HEAD).head().unwrap();
    let tail = Seat::new(&segment, TAIL).tail().unwrap();
    let lent = head.alloc().unwrap().lend();
    let error = tail.take_back(lent).unwrap_err();
    assert!(
        error.to_string().contains("goes back to the port"),
        "{error}"
    );
    assert_eq!(segment.free_buffers(), 1, "the port has not looked");
    assert!(head.try_alloc().is_ok());
    assert_eq!(segment.free_buffers(), 2);
}

/// A wait for a buffer that only another thread can give back would be one for ever, if that thread
/// did not wake it.
#[test]
fn dropped_loan_ends_the_wait_for_a_buffer() {
    let segment = segment(1);
    let head = Seat::new(&segment, HEAD).head().unwrap();
    for _ in 0..50 {
        let lent = head.alloc().unwrap().lend();
        assert_eq!(
            head.try_alloc().unwrap_err(),
            TryError::Blocked(Blocked::AtLimit)
        );
        let (go, gone) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                let _ = gone.recv();
                drop(lent);
            });
            drop(go);
            drop(head.alloc().unwrap());
        });
    }
    assert_eq!(segment.free_buffers(), 1);
}

/// An attempt that lent a block after the wait had marked its events slept on when that came back.
#[test]
fn dropped_loan_ends_the_wait_whose_attempt_has_lent_it() {
    // The last is the first attempt after the marks: a later one would not be made.
    for attempts in 1..=11 {
        let segment = segment(1);
        let head = Seat::new(&segment, HEAD).head().unwrap();
        let (give, given) = mpsc::channel::<Lent>();
        let waited = thread::scope(|scope| {
            let (done, is_done) = mpsc::channel::<()>();
            let stopped = &segment;
            scope.spawn(move || {
                drop(given.recv());
                // Ends the wait that nothing else would end.
                if is_done.recv_timeout(Duration::from_secs(30)) == Err(RecvTimeoutError::Timeout) {
                    stopped.stop();
                }
            });
            let (mut left, bell, _done) = (attempts, Bell::new(), done);
            head.wait(&bell, None, || {
                left -= 1;
                let block = head.try_alloc()?;
                if left < 0 {
                    return Ok(block);
                }
                if left == 0 {
                    give.send(block.lend()).unwrap();
                }
                Err(TryError::Blocked(Blocked::AtLimit))
            })
        });
        assert!(waited.is_ok(), "{attempts} attempts");
    }
}

#[test]
fn finish_waits_for_all_loans_or_for_the_stop() {
    let segment = segment(2);
    let head = Seat::new(&segment, HEAD).head().unwrap();
    let lent = head.alloc().unwrap().lend();
    let dropped = Arc::new(AtomicU64::new(0));
    let noted = Arc::clone(&dropped);
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(20));
            noted.store(1, Ordering::SeqCst);
            drop(lent);
        });
        head.finish().unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    });
    assert_eq!(segment.free_buffers(), 2);

    let head = Seat::new(&segment, HEAD).head().unwrap();
    let lent = head.alloc().unwrap().lend();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            segment.stop();
        });
        assert_eq!(head.finish().unwrap_err(), PortError::Stopped);
    });
    drop(lent);
    assert_eq!(segment.free_buffers(), 2);
}

/// The threads of a stage that has failed notice it by the stop of the pipe, which follows the end
/// of the stage: neither may wait for the other.
#[test]
fn seat_of_a_port_that_has_gone_is_kept_until_the_last_loan_is_dropped() {
    let segment = segment(3);
    let head = Seat::new(&segment, HEAD).head().unwrap();
    let lent: Vec<Lent> = (0..3).map(|_| head.alloc().unwrap().lend()).collect();
    drop(head);
    for (position, lent) in lent.into_iter().enumerate() {
        let taken = Seat::new(&segment, HEAD).head();
        assert!(
            matches!(taken, Err(PortError::SeatTaken { .. })),
            "{position}"
        );
        thread::spawn(move || drop(lent)).join().unwrap();
    }
    assert_eq!(segment.free_buffers(), 3);
    segment.audit().unwrap();
    Seat::new(&segment, HEAD).head().unwrap();
}

#[test]
fn wait_ends_by_a_bell_a_block_a_deadline_and_a_stop() {
    let segment = segment(2);
    let tail = Seat::new(&segment, TAIL).tail().unwrap();
    let bell = Bell::new();
    let rung = AtomicU64::new(0);
    let wait_outside = |deadline: Option<Instant>| {
        tail.wait(&bell, deadline, || match rung.load(Ordering::Relaxed) {
            0 => Err(Blocked::Outside.into()),
            count => Ok(count),
        })
    };
    let soon = Instant::now() + Duration::from_millis(5);
    let over = wait_outside(Some(soon)).unwrap_err();
    assert_eq!(over, TryError::Blocked(Blocked::Outside));
    let status = || Status::of(&segment).stages[1].instances[0].clone();
    thread::scope(|scope| {
        scope.spawn(|| {
            while status().activity != Activity::WaitingOutside {
                thread::yield_now();
            }
            rung.store(5, Ordering::Relaxed);
            bell.clone().ring();
        });
        assert_eq!(wait_outside(None), Ok(5));
    });
    assert_eq!(
        status().waited_for_input,
        Duration::ZERO,
        "it counts as work"
    );
    thread::scope(|scope| {
        let (segment, seen) = (&segment, &status);
        scope.spawn(move || {
            while seen().activity != Activity::WaitingForInput {
                thread::yield_now();
            }
            let head = Seat::new(segment, HEAD).head().unwrap();
            let block = head.alloc().unwrap();
            head.send_vacant(block).unwrap();
            assert_eq!(head.sent().unwrap().get(), 1);
            while seen().activity != Activity::WaitingOutside {
                thread::yield_now();
            }
            segment.stop();
        });
        let got = tail
            .wait(&bell, None, || tail.try_receive())
            .unwrap()
            .unwrap();
        assert!(got.is_vacant() && tail.received().unwrap().get() == 1);
        rung.store(0, Ordering::Relaxed);
        assert_eq!(wait_outside(None), Err(PortError::Stopped.into()));
    });
}

/// The threads work while everyone else sleeps, and longer than the controller looks on.
#[test]
fn instance_that_waits_for_its_threads_is_not_a_standstill() {
    let head = Stage::head_port("slow", |port| {
        let lent = port.alloc()?.lend();
        let (_, port_is_patient) = (port.alloc()?, Bell::new());
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(1800));
                drop(lent);
            });
            let wait = port.wait(&port_is_patient, None, || {
                let first = port.try_alloc()?;
                Ok((first, port.try_alloc()?))
            });
            let (block, _) = wait?;
            Ok(port.send(block)?)
        })
    });
    let tail = Stage::tail_port("tail", |port| {
        assert!(port.receive()?.is_some());
        assert!(port.receive()?.is_none());
        Ok(())
    });
    let pipe = small().buffers(2).head(head.holds_out(2)).tail(tail);
    assert_eq!(
        pipe.run().unwrap().status.stages[0].instances[0].blocks_out,
        1
    );
}

/// A loop that carries blocks sees each number once, if it asks for that.
#[test]
fn loops_see_vacant_and_control_blocks_that_they_ask_for() {
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let (noted, dir) = (Arc::clone(&seen), tempfile::tempdir().unwrap());
    let archive = ArchiveOptions::stream("all").plan().unwrap();
    let tape = VirtualTape::create(dir.path().join("tape"), VolumeOptions::default()).unwrap();
    let carry = Stage::port("carry", move |port| {
        port.take_vacant_blocks();
        port.take_control_blocks();
        while let Some(block) = port.receive()? {
            let is_last = block.info().marks.contains(Marks::LAST);
            noted
                .lock()
                .push((block.number().get(), block.is_vacant(), is_last));
            port.forward(block)?;
        }
        Ok(())
    });
    let pipe = small()
        .head(numbers(5))
        .stage(datapipe::testkit::drop_every(2));
    pipe.stage(carry).archive(archive, tape).run().unwrap();
    let expected: Vec<_> = (0..6).map(|n| (n, n < 5 && n % 2 == 0, n == 5)).collect();
    assert_eq!(*seen.lock(), expected);
}

#[test]
fn vacant_block_of_a_head_that_is_not_replaceable_is_refused_by_an_archive() {
    let write = |is_replaceable: bool| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tape");
        let head = Stage::head_port("relay", move |port| {
            for number in 0..4_u64 {
                let mut block = port.alloc()?;
                block.put(&[number as u8; 100])?;
                if number == 2 {
                    port.send_vacant(block)?;
                } else {
                    port.send(block)?;
                }
            }
            // A replaceable head passes on the last block that it has received.
            if is_replaceable {
                let mut block = port.alloc()?;
                let mut info = block.info();
                info.marks = Marks::LAST;
                block.set_info(info);
                port.send(block)?;
            }
            Ok(())
        });
        let head = if is_replaceable {
            head.replaceable()
        } else {
            head
        };
        let archive = ArchiveOptions::stream("relayed").plan().unwrap();
        let tape = VirtualTape::create(&path, VolumeOptions::default()).unwrap();
        small().head(head).archive(archive, tape).run()?;
        let reader = ArchiveReader::open(VirtualTape::open(&path).unwrap(), None).unwrap();
        let mut restored = Vec::new();
        reader
            .read()
            .pipe
            .tail(StreamRestore::new(&mut restored))
            .run()
            .unwrap();
        Ok::<_, Error>(restored)
    };
    let error = write(false).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("only if it is declared replaceable"),
        "{error}"
    );
    let restored = write(true).unwrap();
    assert_eq!(restored, [[0; 100], [1; 100], [3; 100]].concat());
}

/// One loop of each role lends to two threads, in a pipe of the smallest pool.
#[test]
fn pipe_of_lending_loops_delivers_each_block_once() {
    let got = Collected::default();
    let carry = Stage::port("carry", |port| {
        while let Some(block) = port.receive()? {
            let lent = block.lend();
            let other = thread::spawn(move || {
                assert!(!lent.is_empty());
                lent
            });
            let lent = other.join().map_err(|_| StageError::new("panicked"))?;
            port.forward(port.take_back(lent)?)?;
        }
        Ok(())
    });
    let pipe = small().head(numbers(200)).stage(carry.holds_out(0));
    pipe.tail(collect(&got)).run().unwrap();
    assert_eq!(got.numbers(), all(200));
}
