//! Buffers that another thread of a participant has for a while.

use std::rc::Rc;

use loom::thread;

use crate::pool::participant::Held;
use crate::pool::returns::{Closing, LeaseKind, Returned, Returns};

use super::pipe::{Pipe, end, explore, one_buffer};

/// Waits as a port does: for its list, which the other thread adds to.
fn wait_for(returns: &Returns) -> Vec<Returned> {
    loop {
        let (returned, _) = returns.collect();
        if !returned.is_empty() {
            return returned;
        }
        let key = returns.event().prepare_wait();
        let (returned, _) = returns.collect();
        if !returned.is_empty() {
            return returned;
        }
        returns.event().sleep(key);
    }
}

/// Lends a buffer of participant `id`, to a thread that writes `data` and returns it.
fn lend(
    pipe: &Rc<Pipe>,
    returns: &Rc<Returns>,
    id: u32,
    (held, data): (Held, u64),
) -> thread::JoinHandle<Option<Vec<Returned>>> {
    returns.lend();
    let (pipe, returns) = (Rc::clone(pipe), Rc::clone(returns));
    thread::spawn(move || {
        pipe.seat(id).write(held, data);
        returns.give((held, LeaseKind::Loan))
    })
}

#[test]
fn returned_buffer_wakes_its_port_and_goes_on() {
    explore(4, || {
        let pipe = one_buffer();
        let returns = Rc::new(Returns::new());
        let head = pipe.seat(0);
        let lent = lend(&pipe, &returns, 0, (head.fill(1), 10));
        // The port frees it, and its next holder may write to it.
        for (held, _) in wait_for(&returns) {
            head.free(held).unwrap();
        }
        let tail = pipe.spawn(1, |tail| tail.consume());
        head.send_new(11);
        assert_eq!(tail.join().unwrap(), Some((0, 11)));
        assert_eq!(lent.join().unwrap(), None);
        assert_eq!(returns.close(), Closing::AllBack);
        pipe.assert_home();
    });
}

#[test]
fn last_of_two_threads_frees_for_a_port_that_has_gone() {
    explore(3, || {
        let pipe = Pipe::new(2, &[end(1, 2), end(1, 0)]);
        let returns = Rc::new(Returns::new());
        let head = pipe.seat(0);
        let held = [head.fill(1), head.fill(2)];
        let threads = held.map(|held| lend(&pipe, &returns, 0, (held, 10)));
        let mut freed = 0;
        let mut free = |all: Vec<Returned>| {
            for (held, _) in all {
                // As the next holder: all that the threads wrote comes before.
                head.write(held, 0);
                head.free(held).unwrap();
                freed += 1;
            }
        };
        let orphaned = loop {
            match returns.close() {
                Closing::Free(returned) => free(returned),
                Closing::AllBack => break false,
                Closing::Orphaned => break true,
            }
        };
        let mut last = 0;
        for thread in threads {
            if let Some(all) = thread.join().unwrap() {
                free(all);
                last += 1;
            }
        }
        assert_eq!((last, freed), (u32::from(orphaned), 2));
        pipe.assert_home();
    });
}
