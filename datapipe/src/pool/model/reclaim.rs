//! Buffers of the dead come back, and those of a participant that unwinds.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::pipe::{Pipe, Seat, end, explore, one_buffer};
use crate::memory::atomic::Ordering;
use crate::memory::{Corruption, Number, ParticipantId, QueueId, QueueKind, RingPosition};
use crate::pool::participant::Held;
use crate::pool::reclaim::{Inputs, Reclaimed, reclaim};
use crate::pool::word::{State, Word};
use crate::queue::{Claim, Put, Slot};

/// The step up to which a participant got with the send or free that it died in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// It held the buffer.
    Held,
    /// The ledger says sent.
    Begun,
    /// The slot is filled, but the tail hint has not moved.
    Filled,
    /// All but the wake-up.
    Unwoken,
}

impl Seat<'_> {
    /// Takes the steps of a send up to `cut`; of a free, if `queue` is the free list.
    ///
    /// The thread that dies goes on as the controller: the operating system's word on a death
    /// orders what the dead one did before what the controller does, as the program does here.
    fn die_sending(&self, held: Held, queue: QueueId, number: Number, cut: Cut) {
        if cut == Cut::Held {
            return;
        }
        if queue != QueueId::FREE_LIST {
            self.note_number(held, number);
        }
        let entry = &self.tables.buffers[held.buffer];
        entry.destination.store(queue.get(), Ordering::Release);
        let word = self.word(held.buffer).unwrap();
        let sent = Word {
            state: State::Sent,
            ..word
        }
        .encode();
        let left =
            entry
                .word
                .compare_exchange(word.encode(), sent, Ordering::AcqRel, Ordering::Relaxed);
        assert!(left.is_ok(), "only its holder moves a held buffer");
        if cut == Cut::Begun {
            return;
        }
        let tail = &self.tables.queues[queue].tail.word;
        let position = match self.tables.shape.queue_kind(queue) {
            QueueKind::Plain => RingPosition::new(tail.load(Ordering::Acquire)),
            QueueKind::Ordered => number.position(),
        };
        let slots = self.tables.ring(queue);
        let empty = Slot::Empty {
            lap: self.ring(queue).lap(position),
        }
        .encode();
        let full = Slot::Full {
            buffer: held.buffer,
            generation: held.generation,
        }
        .encode();
        let slot = &slots[position.get() as usize % slots.len()].word;
        let filled = slot.compare_exchange(empty, full, Ordering::AcqRel, Ordering::Relaxed);
        assert!(filled.is_ok(), "no other participant has anything to put");
        if cut == Cut::Unwoken {
            let (old, new) = (position.get(), position.next().get());
            let _ = tail.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

/// A buffer that is freed when it is dropped, as a block is.
struct Lease<'a>(Seat<'a>, Held);

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.0.free(self.1).unwrap();
    }
}

impl Seat<'_> {
    /// Unwinds while it holds a buffer.
    fn panic_with(&self, held: Held) {
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _lease = Lease(*self, held);
            resume_unwind(Box::new(())); // a panic without its message
        }));
        assert!(unwound.is_err());
    }
}

#[test]
fn reclaim_a_loan() {
    explore(3, || {
        let pipe = Pipe::new(2, &[end(2, 2), end(1, 0)]);
        pipe.seat(0).fill(10);
        let live = pipe.spawn(1, |head| {
            for data in 20..23 {
                let held = head.fill(data);
                head.free(held).unwrap();
            }
        });
        let report = reclaim(&pipe.tables, ParticipantId::new(0), Inputs::Release).unwrap();
        assert_eq!(
            report,
            Reclaimed {
                loans: 1,
                ..Reclaimed::default()
            }
        );
        live.join().unwrap();
        pipe.assert_home();
    });
}

#[test]
fn reclaim_a_send() {
    for (cut, finished) in [(Cut::Begun, 1), (Cut::Filled, 0), (Cut::Unwoken, 0)] {
        explore(3, move || {
            let pipe = one_buffer();
            let dead = pipe.seat(0);
            let held = dead.fill(10);
            let tail = pipe.spawn(1, |tail| tail.drain());
            dead.die_sending(held, QueueId::new(1), Number::FIRST, cut);
            let report = reclaim(&pipe.tables, ParticipantId::new(0), Inputs::Release).unwrap();
            assert_eq!(
                report,
                Reclaimed {
                    finished,
                    ..Reclaimed::default()
                }
            );
            dead.done();
            assert_eq!(tail.join().unwrap(), [(0, 10)]);
            pipe.assert_home();
        });
    }
}

#[test]
fn reclaim_a_free() {
    let held = Reclaimed {
        released: 1,
        ..Reclaimed::default()
    };
    let begun = Reclaimed {
        finished: 1,
        ..Reclaimed::default()
    };
    let cuts = [
        (Cut::Held, held),
        (Cut::Begun, begun),
        (Cut::Filled, Reclaimed::default()),
        (Cut::Unwoken, Reclaimed::default()),
    ];
    for (cut, expected) in cuts {
        explore(5, move || {
            let pipe = one_buffer();
            pipe.seat(0).send_new(10);
            let dead = pipe.seat(1);
            let (held, _) = dead.next().unwrap();
            let head = pipe.spawn(0, |head| head.send_new(20));
            dead.die_sending(held, QueueId::FREE_LIST, Number::FIRST, cut);
            assert_eq!(
                reclaim(&pipe.tables, ParticipantId::new(1), Inputs::Release).unwrap(),
                expected
            );
            head.join().unwrap();
            assert_eq!(dead.consume(), Some((1, 20)), "what the replacement gets");
            pipe.assert_home();
        });
    }
}

#[test]
fn reclaim_a_take() {
    explore(4, || {
        let pipe = Pipe::new(2, &[end(1, 2), end(2, 0)]);
        let head = pipe.seat(0);
        head.send_new(10);
        head.send_new(11);
        head.done();
        let dead = pipe.seat(1);
        let live = pipe.spawn(2, |tail| tail.drain());
        // Dies when the buffer has changed hands, before the slot is emptied and the head moves.
        let taken = dead
            .ring(QueueId::new(1))
            .take::<()>(|buffer, generation, _| {
                let word = dead.word(buffer).unwrap();
                if word.state != State::Sent || word.generation != generation {
                    return Ok(Claim::Lost);
                }
                let mine = word.taken_by(dead.id, word.allocator);
                let entry = &dead.tables.buffers[buffer].word;
                let won = entry.compare_exchange(
                    word.encode(),
                    mine.encode(),
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                if won.is_ok() {
                    Err(Corruption::new("dies here"))
                } else {
                    Ok(Claim::Lost)
                }
            });
        let report = reclaim(&pipe.tables, ParticipantId::new(1), Inputs::Release).unwrap();
        assert_eq!(report.released, u32::from(taken.is_err()));
        let got = live.join().unwrap();
        assert_eq!(got.len() as u32 + report.released, 2, "each block once");
        assert!(got.iter().all(|&(number, data)| data == 10 + number));
        pipe.assert_home();
    });
}

#[test]
fn reclaim_an_answer() {
    let unsent = Reclaimed {
        loans: 1,
        inherited: 1,
        ..Reclaimed::default()
    };
    let begun = Reclaimed {
        finished: 1,
        released: 1,
        ..Reclaimed::default()
    };
    let sent = Reclaimed {
        released: 1,
        ..Reclaimed::default()
    };
    for (cut, expected) in [
        (Cut::Held, unsent),
        (Cut::Begun, begun),
        (Cut::Filled, sent),
        (Cut::Unwoken, sent),
    ] {
        explore(3, move || {
            let pipe = Pipe::new(2, &[end(1, 1), end(1, 1).numbered(), end(1, 0)]);
            pipe.seat(0).send_new(10);
            let middle = pipe.seat(1);
            let (input, number) = middle.next().unwrap();
            let output = middle.fill(20);
            let last_queue = QueueId::new(2);
            let tail = pipe.spawn(2, |tail| tail.drain());
            middle.die_sending(output, last_queue, number, cut);
            assert_eq!(
                reclaim(&pipe.tables, ParticipantId::new(1), Inputs::Inherit).unwrap(),
                expected
            );
            if expected.inherited > 0 {
                // The replacement finds the input in the ledger, and answers it.
                assert_eq!(middle.number_of(input, middle.id), Number::FIRST);
                assert_eq!(middle.read(input), 10);
                let output = middle.fill(20);
                assert_eq!(middle.send(output, last_queue, number).unwrap(), Put::Done);
                middle.free(input).unwrap();
            }
            middle.done();
            assert_eq!(tail.join().unwrap(), [(0, 20)], "one answer");
            pipe.assert_home();
        });
    }
}

#[test]
fn drop_a_loan() {
    explore(3, || {
        let pipe = Pipe::new(2, &[end(2, 2), end(1, 0)]);
        let panics = pipe.spawn(0, |head| {
            let held = head.fill(10);
            head.panic_with(held);
        });
        let head = pipe.seat(1);
        for data in 20..22 {
            let held = head.fill(data);
            head.free(held).unwrap();
        }
        panics.join().unwrap();
        pipe.assert_home();
    });
}

#[test]
fn drop_an_input() {
    explore(4, || {
        let pipe = one_buffer();
        pipe.seat(0).send_new(10);
        let panics = pipe.spawn(1, |tail| {
            let (held, _) = tail.next().unwrap();
            assert_eq!(tail.read(held), 10);
            tail.panic_with(held);
        });
        let head = pipe.seat(0);
        let held = head.fill(11);
        head.free(held).unwrap();
        panics.join().unwrap();
        pipe.assert_home();
    });
}
