//! The pool and the queues under the model checker: every order of a few threads, and what a weak
//! memory may do.
//!
//! ```text
//!   release code          step explorer                 here
//!   mapped, many threads  heap, one thread, coroutines  heap, loom's threads
//!   what really happens   killed at every step          stale loads, missing edges,
//!                                                       lost wake-ups, deadlock
//! ```
//!
//! A buffer's payload is a cell that loom watches. An access that is not ordered after the one
//! before it fails the model, so a model that passes has shown that holding is exclusive both ways:
//! from writer to reader, and from the participant that freed a buffer to the next one that gets
//! it. A thread that sleeps for ever is a deadlock, which loom reports.
//!
//! Each model bounds its preemptions, so that it ends; `LOOM_MAX_PREEMPTIONS` sets another bound
//! for all. Run them with `scripts/model-check`.
//!
//! The models do not run ports and blocks, which need a clock and a segment. A
//! [`Seat`](pipe::Seat) waits in the same loop as a port does. The models kill at a few chosen
//! points only; the step explorer kills at all of them.

mod hand_over; // buffers change hands
mod lending; // buffers that another thread of a participant has
mod pipe; // a pipe on the heap, and the exploration of it
mod reclaim; // buffers of the dead, and of a participant that unwinds
mod waiting; // sleeps and wake-ups
