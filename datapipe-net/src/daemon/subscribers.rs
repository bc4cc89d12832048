//! Subscribers and their queues of events. A queue is bounded: a subscriber that does not read
//! loses events, and receives their number. The publisher of an event never waits.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use crate::config::User;
use crate::limits::{MAX_WAITING_EVENT_BYTES, MAX_WAITING_EVENTS};
use crate::protocol::{EventKind, PipeEvent};

/// Queues of all subscribers.
#[derive(Debug, Default)]
pub(super) struct Subscribers(Mutex<Vec<Weak<EventQueue>>>);

/// Queue of one subscriber. Dropping it ends the subscription.
#[derive(Debug)]
pub(super) struct EventQueue {
    user: User,
    /// Name of the only pipe of the subscription; `None` for all pipes that the user may manage.
    pipe: Option<String>,
    pending: Mutex<PendingEvents>,
    /// Event descriptor, readable while an event is pending.
    ready: OwnedFd,
}

#[derive(Debug, Default)]
struct PendingEvents {
    events: VecDeque<Arc<PipeEvent>>,
    /// Bytes of the texts and data of these events.
    bytes: usize,
    /// Number of events that were lost after those in `events`.
    lost: u64,
}

impl Subscribers {
    /// Subscribes `user` to the events of one pipe, or of all that it may manage.
    pub(super) fn add(&self, user: User, pipe: Option<String>) -> io::Result<Arc<EventQueue>> {
        let ready = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let queue = Arc::new(EventQueue {
            user,
            pipe,
            pending: Mutex::default(),
            ready,
        });
        let mut queues = self.0.lock();
        // A subscription that ends, or was refused, leaves its memory here until now. The number of
        // live ones is that of the connections at most.
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        Ok(queue)
    }

    /// Puts an event of a pipe of `owner` into the queues of its subscribers, and forgets queues
    /// that no longer exist.
    pub(super) fn publish(&self, owner: User, event: PipeEvent) {
        let event = Arc::new(event);
        self.0.lock().retain(|queue| match queue.upgrade() {
            Some(queue) => {
                if queue.wants(owner, &event) {
                    queue.push(Arc::clone(&event));
                }
                true
            }
            None => false,
        });
    }
}

impl EventQueue {
    /// True if the subscription covers the event and the user may manage the pipe.
    fn wants(&self, owner: User, event: &PipeEvent) -> bool {
        self.user.may_manage(owner) && self.pipe.as_ref().is_none_or(|pipe| *pipe == event.pipe)
    }

    fn push(&self, event: Arc<PipeEvent>) {
        let mut pending = self.pending.lock();
        // After the first loss all events are lost until the subscriber has read the queue. The
        // count therefore follows all events that it receives.
        let bytes = pending.bytes.saturating_add(size_of_texts(&event));
        if pending.lost > 0
            || pending.events.len() >= MAX_WAITING_EVENTS
            || bytes > MAX_WAITING_EVENT_BYTES
        {
            pending.lost = pending.lost.saturating_add(1);
        } else {
            pending.bytes = bytes;
            pending.events.push_back(event);
        }
        // Adds a number that is not 0 in either byte order. The write fails if the sum is full;
        // then the descriptor is readable.
        let _ = rustix::io::write(&self.ready, &[1; 8]);
    }

    /// Takes the oldest event, or the number of lost events after the last one.
    pub(super) fn pop(&self) -> Option<Arc<PipeEvent>> {
        let mut pending = self.pending.lock();
        if let Some(event) = pending.events.pop_front() {
            pending.bytes = pending.bytes.saturating_sub(size_of_texts(&event));
            return Some(event);
        }
        let lost = std::mem::take(&mut pending.lost);
        if lost > 0 {
            let event = PipeEvent {
                lost: Some(lost),
                ..PipeEvent::new(EventKind::LOST, "")
            };
            return Some(Arc::new(event));
        }
        // Reset under the lock, so that the next event makes the descriptor readable again.
        let _ = rustix::io::read(&self.ready, &mut [0; 8]);
        None
    }
}

/// Bytes of the texts and data of an event.
fn size_of_texts(event: &PipeEvent) -> usize {
    let texts = [Some(&event.pipe), event.stage.as_ref(), event.text.as_ref()];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    texts + event.note.as_ref().map_or(0, Vec::len)
}

impl AsFd for EventQueue {
    /// Returns a descriptor that is readable while an event is pending.
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
    fn subscriber_that_does_not_read_gets_the_number_of_lost_events() {
        let subscribers = Subscribers::default();
        let queue = subscribers.add(User(7), None).unwrap();
        let all = MAX_WAITING_EVENTS as u32 + 1000;
        (0..all).for_each(|n| subscribers.publish(User(7), event("a", n)));
        let got: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(got.len(), MAX_WAITING_EVENTS + 1);
        let instances: Vec<_> = got.iter().filter_map(|event| event.instance).collect();
        assert_eq!(
            instances,
            (0..MAX_WAITING_EVENTS as u32).collect::<Vec<_>>()
        );
        assert_eq!(got.last().unwrap().lost, Some(1000));
        subscribers.publish(User(7), event("a", 5));
        assert_eq!(queue.pop().unwrap().instance, Some(5));
        assert!(queue.pop().is_none());
    }

    #[test]
    fn events_that_wait_take_bounded_memory() {
        let subscribers = Subscribers::default();
        let queue = subscribers.add(User(7), None).unwrap();
        let long = PipeEvent {
            note: Some(vec![0; MAX_WAITING_EVENT_BYTES / 4]),
            ..PipeEvent::new(EventKind::NOTE, "a")
        };
        (0..5).for_each(|_| subscribers.publish(User(7), long.clone()));
        let got: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(got.len(), 4);
        assert_eq!(got.last().unwrap().lost, Some(2));
        subscribers.publish(User(7), long);
        assert!(queue.pop().unwrap().note.is_some(), "there is room again");
    }

    #[test]
    fn subscriptions_that_end_leave_no_memory() {
        let subscribers = Subscribers::default();
        for _ in 0..1000 {
            drop(subscribers.add(User(7), None).unwrap());
        }
        assert_eq!(subscribers.0.lock().len(), 1);
    }

    #[test]
    fn subscribers_get_the_events_of_pipes_that_they_may_manage() {
        let subscribers = Subscribers::default();
        let own = subscribers.add(User(4_000_000_007), None).unwrap();
        let other = subscribers.add(User(4_000_000_008), None).unwrap();
        let one = subscribers
            .add(User(4_000_000_007), Some("b".to_owned()))
            .unwrap();
        let root = subscribers.add(User(0), None).unwrap();
        subscribers.publish(User(4_000_000_007), event("a", 1));
        subscribers.publish(User(4_000_000_007), event("b", 2));
        let count = |queue: &EventQueue| std::iter::from_fn(|| queue.pop()).count();
        assert_eq!(
            [count(&own), count(&other), count(&one), count(&root)],
            [2, 0, 1, 2]
        );
        drop(own);
        subscribers.publish(User(4_000_000_007), event("a", 1));
        assert_eq!(
            subscribers.0.lock().len(),
            3,
            "a dropped queue is forgotten"
        );
    }
}
