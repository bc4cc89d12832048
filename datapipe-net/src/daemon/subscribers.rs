//! Who is told what happens. A queue for each, which is bounded: a subscriber that does not read
//! loses events and is told how many. Nobody who has something to tell ever waits.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use crate::config::User;
use crate::limits::MAX_WAITING_EVENTS;
use crate::protocol::{EventKind, PipeEvent};

/// Everybody who is told.
#[derive(Debug, Default)]
pub(super) struct Subscribers(Mutex<Vec<Weak<Queue>>>);

/// What waits for one subscriber. Dropping it ends the subscription.
#[derive(Debug)]
pub(super) struct Queue {
    user: User,
    /// Of this pipe only.
    pipe: Option<String>,
    waiting: Mutex<Waiting>,
    /// Readable while something waits.
    ready: OwnedFd,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<PipeEvent>>,
    lost: u64,
}

impl Subscribers {
    /// From now on `user` is told what happens to its pipes: to all of them, or to one.
    pub(super) fn add(&self, user: User, pipe: Option<String>) -> io::Result<Arc<Queue>> {
        let ready = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let queue = Arc::new(Queue {
            user,
            pipe,
            waiting: Mutex::default(),
            ready,
        });
        self.0.lock().push(Arc::downgrade(&queue));
        Ok(queue)
    }

    /// Tells everybody whom it concerns.
    pub(super) fn tell(&self, owner: User, event: PipeEvent) {
        let event = Arc::new(event);
        self.0.lock().retain(|queue| match queue.upgrade() {
            Some(queue) => {
                if queue.concerns(owner, &event) {
                    queue.push(Arc::clone(&event));
                }
                true
            }
            None => false,
        });
    }
}

impl Queue {
    fn concerns(&self, owner: User, event: &PipeEvent) -> bool {
        let may = self.user == owner || self.user.is_privileged();
        may && self.pipe.as_ref().is_none_or(|pipe| *pipe == event.pipe)
    }

    fn push(&self, event: Arc<PipeEvent>) {
        let mut waiting = self.waiting.lock();
        // Once some are lost, all are until the subscriber has read: the count stands behind what
        // it got.
        if waiting.lost > 0 || waiting.events.len() >= MAX_WAITING_EVENTS {
            waiting.lost = waiting.lost.saturating_add(1);
        } else {
            waiting.events.push_back(event);
        }
        // Any number but 0, the same in every byte order. It fails once the sum is full: then it is
        // readable.
        let _ = rustix::io::write(&self.ready, &[1; 8]);
    }

    /// The oldest that waits.
    pub(super) fn pop(&self) -> Option<Arc<PipeEvent>> {
        let mut waiting = self.waiting.lock();
        if let Some(event) = waiting.events.pop_front() {
            return Some(event);
        }
        let lost = std::mem::take(&mut waiting.lost);
        if lost > 0 {
            let event = PipeEvent {
                lost: Some(lost),
                ..PipeEvent::new(EventKind::LOST, "")
            };
            return Some(Arc::new(event));
        }
        // Under the lock: what comes next makes it readable again.
        let _ = rustix::io::read(&self.ready, &mut [0; 8]);
        None
    }
}

impl AsFd for Queue {
    /// Readable while something waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(pipe: &str, instance: u32) -> PipeEvent {
        PipeEvent {
            instance: Some(instance),
            ..PipeEvent::new(EventKind::STARTED, pipe)
        }
    }

    #[test]
    fn a_subscriber_that_does_not_read_is_told_what_it_lost() {
        let subscribers = Subscribers::default();
        let queue = subscribers.add(User(7), None).unwrap();
        let all = MAX_WAITING_EVENTS as u32 + 1000;
        (0..all).for_each(|n| subscribers.tell(User(7), event("a", n)));
        let got: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(got.len(), MAX_WAITING_EVENTS + 1);
        let instances: Vec<_> = got.iter().filter_map(|event| event.instance).collect();
        assert_eq!(
            instances,
            (0..MAX_WAITING_EVENTS as u32).collect::<Vec<_>>()
        );
        assert_eq!(got.last().unwrap().lost, Some(1000));
        subscribers.tell(User(7), event("a", 5));
        assert_eq!(queue.pop().unwrap().instance, Some(5));
        assert!(queue.pop().is_none());
    }

    #[test]
    fn everybody_is_told_of_their_own() {
        let subscribers = Subscribers::default();
        let own = subscribers.add(User(4_000_000_007), None).unwrap();
        let other = subscribers.add(User(4_000_000_008), None).unwrap();
        let one = subscribers
            .add(User(4_000_000_007), Some("b".to_owned()))
            .unwrap();
        let root = subscribers.add(User(0), None).unwrap();
        subscribers.tell(User(4_000_000_007), event("a", 1));
        subscribers.tell(User(4_000_000_007), event("b", 2));
        let count = |queue: &Queue| std::iter::from_fn(|| queue.pop()).count();
        assert_eq!(
            [count(&own), count(&other), count(&one), count(&root)],
            [2, 0, 1, 2]
        );
        drop(own);
        subscribers.tell(User(4_000_000_007), event("a", 1));
        assert_eq!(subscribers.0.lock().len(), 3, "who has gone is forgotten");
    }
}
