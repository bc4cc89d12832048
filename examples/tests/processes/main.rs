//! Both programs with every stage in its own process: most of their tests again, and tests that
//! kill one of the processes.

#![allow(
    clippy::duplicate_mod,
    reason = "the target `programs` has the same tests"
)]

mod killed; // each kind of process, in the middle of its work

#[path = "../programs/copies.rs"]
mod copies;
#[path = "../programs/damage.rs"]
mod damage;
#[path = "../programs/fixture.rs"]
mod fixture;
#[path = "../programs/left_out.rs"]
mod left_out;
#[path = "../programs/partial_reads.rs"]
mod partial_reads;
#[path = "../programs/round_trip.rs"]
mod round_trip;
#[path = "../programs/signals.rs"]
mod signals;
#[path = "../programs/stream.rs"]
mod stream;
#[path = "../programs/walk.rs"]
mod walk;
